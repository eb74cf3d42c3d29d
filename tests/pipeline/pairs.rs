//! Pairs of policies with a breaker among them.

use mamparo::policy::breaker::{Forced, State};

use super::bench::{Bench, ms, yaml};
use super::endpoint::{Play, answer};

/// A breaker that opens at the first failure, for exactly ten seconds, and closes after one probe.
const QUICK: &str =
    "circuit_breaker: { consecutive_failures: 1, open_for: 10s, max_open_for: 10s, probes: 1 }";

fn quick(rest: &str) -> String {
    format!("{QUICK}\n{rest}")
}

/// Opens the breaker of endpoint 1 and lets its time pass, all but one millisecond.
async fn open_and_wait(bench: &Bench) {
    bench.endpoint(1).will([answer(500)]);
    assert_eq!(bench.get("GET /").await.status, 500);
    let opened = bench.now();
    assert_eq!(bench.state(1), State::Open);
    bench.until(opened + 9_999).await;
    assert_eq!(bench.state(1), State::Open, "rule 10: to the millisecond");
    let refused = bench.get("GET /").await;
    assert_eq!(refused.reason(), "breaker_open");
    assert_eq!(refused.head.get("retry-after"), Some("1"), "rounded up");
    ms(1).await;
    assert_eq!(bench.state(1), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn rule_38_a_probe_whose_client_leaves_gives_its_place_back() {
    let bench = Bench::new(&yaml(1, QUICK));
    open_and_wait(&bench).await;
    let endpoint = bench.endpoint(1);
    for play in [Play::Hang, Play::ConnectHangs] {
        endpoint.will([Play::Close(0), play]);
        // The pooled connection is used up beside the probe.
        let probe = bench.start("GET /probe");
        ms(50).await;
        probe.abort();
        ms(1).await;
    }
    bench.settle(4).await;
}

#[tokio::test(start_paused = true)]
async fn rule_38_a_place_for_a_probe_comes_back_wherever_the_client_leaves() {
    let text = yaml(1, &quick("timeouts: { connect: 60s }"));
    let bench = Bench::new(&text);
    open_and_wait(&bench).await;
    let endpoint = bench.endpoint(1);
    endpoint.will([Play::Hang]);
    let probe = bench.start("GET /probe");
    ms(50).await;
    let beside = bench.get("GET /beside").await;
    assert_eq!(beside.reason(), "breaker_open", "one probe at a time");
    probe.abort();
    ms(1).await;
    assert_eq!(bench.state(1), State::HalfOpen, "it taught nothing");
    // The next one is a probe too, while its connection is made.
    endpoint.will([Play::ConnectHangs]);
    let probe = bench.start("GET /probe");
    ms(50).await;
    assert_eq!(bench.get("GET /beside").await.reason(), "breaker_open");
    probe.abort();
    ms(1).await;
    assert_eq!(bench.get("GET /probe").await.status, 200);
    assert_eq!(bench.state(1), State::Closed);
    bench.settle(7).await;
}

#[tokio::test(start_paused = true)]
async fn fault_079_seat_full_and_breaker_half_open() {
    let limits = "bulkhead: { max_in_flight: 1, max_queue: 1, queue_timeout: 5s }
        timeouts: { try: 1s }";
    let bench = Bench::new(&yaml(1, &quick(limits)));
    open_and_wait(&bench).await;
    let endpoint = bench.endpoint(1);
    endpoint.forget();
    endpoint.will([Play::Hang]);
    let probe = bench.start("GET /probe");
    ms(1).await;
    let waiting = bench.start("GET /waiting");
    ms(1).await;
    // A refusal of the bulkhead says nothing about the endpoint, and takes no place of a probe.
    let refused = bench.get("GET /refused").await;
    assert_eq!(refused.reason(), "too_many_in_flight");
    assert_eq!(bench.state(1), State::HalfOpen);
    // The probe fails: whoever waited has the seat, and meets the open breaker at once.
    let probe = probe.await.unwrap();
    let waiting = waiting.await.unwrap();
    assert_eq!(probe.reason(), "try_timeout");
    assert_eq!((waiting.reason(), waiting.at), ("breaker_open", probe.at));
    assert_eq!(bench.state(1), State::Open);
    assert_eq!(endpoint.count(), 1);
    bench.settle(5).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_real_answer_is_kept_when_the_breaker_opens_between_two_tries() {
    let bench = Bench::new(&yaml(
        1,
        &quick("retry: { backoff: { kind: fixed, base: 30ms, jitter: none } }"),
    ));
    bench.endpoint(1).will([answer(503).body("the real one")]);
    let got = bench.get("GET /").await;
    assert_eq!(got.short(), (503, "", 30));
    assert_eq!(got.body, "the real one");
    assert_eq!(bench.ended("upstream"), 1.0);
    // Without an answer to keep, the open breaker is what there is to tell.
    ms(20_000).await;
    bench.endpoint(1).will([Play::Refuse]);
    let got = bench.get("GET /").await;
    assert_eq!((got.status, got.reason()), (503, "breaker_open"));
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_another_endpoint_when_the_breaker_of_the_first_opens() {
    let bench = Bench::new(&yaml(
        2,
        &quick("retry: { backoff: { base: 1ms } }\nbalance: round_robin"),
    ));
    bench.endpoint(1).always(answer(503));
    for _ in 0..6 {
        assert_eq!(bench.get("GET /").await.status, 200);
    }
    let counts = [1, 2].map(|number| bench.endpoint(number).count());
    assert_eq!(counts, [1, 6]);
    bench.settle(6).await;
}

#[tokio::test(start_paused = true)]
async fn when_all_are_open_and_sending_goes_on_retries_do_too() {
    let policies = "retry: { backoff: { base: 1ms }, budget: off }
        circuit_breaker: { consecutive_failures: 1, open_for: 10s, max_open_for: 10s, max_open: 100%, when_all_open: send_anyway }";
    let bench = Bench::new(&yaml(2, policies));
    let endpoints = [bench.endpoint(1), bench.endpoint(2)];
    endpoints.iter().for_each(|one| one.always(answer(503)));
    let got = bench.get("GET /").await;
    assert_eq!((got.status, got.reason()), (503, ""));
    assert_eq!([bench.state(1), bench.state(2)], [State::Open, State::Open]);
    assert_eq!(endpoints[0].count() + endpoints[1].count(), 3);
    // What was sent anyway proves nothing: they open and probe by their own time.
    endpoints.iter().for_each(|one| one.always(answer(200)));
    assert_eq!(bench.get("GET /").await.status, 200);
    assert_eq!([bench.state(1), bench.state(2)], [State::Open, State::Open]);
    let retry_in = bench.breaker(1).retry_in.unwrap();
    assert!(retry_in.as_millis() > 9_900, "and not extended either");
    ms(10_000).await;
    for _ in 0..30 {
        assert_eq!(bench.get("GET /").await.status, 200);
    }
    assert_eq!(
        [bench.state(1), bench.state(2)],
        [State::Closed, State::Closed]
    );
    bench.settle(32).await;
}

#[tokio::test(start_paused = true)]
async fn fault_079_ramp_and_last_endpoint() {
    let bench = Bench::new(&yaml(
        1,
        &QUICK.replace("probes: 1", "probes: 1, ramp: 60s"),
    ));
    open_and_wait(&bench).await;
    // A ramp divides traffic among endpoints; alone, there is nobody to divide with.
    for _ in 0..50 {
        assert_eq!(bench.get("GET /").await.status, 200);
    }
    let share = bench.breaker(1).share;
    assert!(share < 0.2, "it warms up: {share}");
    ms(30_000).await;
    let share = bench.breaker(1).share;
    assert!((0.5..0.6).contains(&share), "{share}");
    bench.settle(52).await;
}

#[tokio::test(start_paused = true)]
async fn rule_52_an_endpoint_on_its_ramp_gets_little_and_then_its_share() {
    let policies = format!(
        "{}\nbalance: round_robin",
        QUICK.replace("probes: 1", "probes: 1, ramp: 60s")
    );
    let bench = Bench::new(&yaml(2, &policies));
    let (first, second) = (bench.endpoint(1), bench.endpoint(2));
    first.will([answer(500)]);
    while first.count() == 0 {
        bench.get("GET /").await;
    }
    ms(10_000).await;
    while bench.state(1) != State::Closed {
        bench.get("GET /").await;
    }
    first.forget();
    second.forget();
    let mut asked = 0;
    for _ in 0..100 {
        bench.get("GET /").await;
        asked += 1;
    }
    assert!((5..=20).contains(&first.count()), "{}", first.count());
    // Its sibling goes, by a reload: the ramping one has all of it.
    bench.reload(&yaml(1, &policies));
    for _ in 0..10 {
        assert_eq!(bench.get("GET /").await.status, 200);
        asked += 1;
    }
    let total = first.count() + second.count();
    assert_eq!(total, asked);
}

#[tokio::test(start_paused = true)]
async fn fault_079_forced_open_and_probes() {
    let bench = Bench::new(&yaml(1, QUICK));
    open_and_wait(&bench).await;
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200).after(100)]);
    let probe = bench.start("GET /probe");
    ms(50).await;
    bench.force(1, Some(Forced::Open));
    assert_eq!(bench.get("GET /").await.reason(), "breaker_open");
    assert_eq!(probe.await.unwrap().status, 200, "it is answered");
    assert_eq!(bench.state(1), State::Open, "and changes nothing");
    ms(60_000).await;
    assert_eq!(bench.state(1), State::Open, "no time lifts the hand");
    let refused = bench.get("GET /").await;
    assert_eq!(refused.head.get("retry-after"), None, "no time is known");
    bench.force(1, None);
    assert_eq!(bench.get("GET /").await.status, 200);
    assert_eq!(bench.state(1), State::Closed);
    // Forced closed, failures open nothing; lifted, the count begins anew.
    bench.force(1, Some(Forced::Closed));
    endpoint.will(vec![answer(500); 5]);
    for _ in 0..5 {
        assert_eq!(bench.get("GET /").await.status, 500);
    }
    assert_eq!(bench.state(1), State::Closed);
    bench.force(1, None);
    assert_eq!(bench.get("GET /").await.status, 200);
    endpoint.will([answer(500)]);
    assert_eq!(bench.get("GET /").await.status, 500);
    assert_eq!(bench.state(1), State::Open);
    bench.settle(13).await;
}

#[tokio::test(start_paused = true)]
async fn rule_37_what_comes_after_the_breaker_has_opened_is_not_heard() {
    let bench = Bench::new(&yaml(1, &quick("bulkhead: { max_in_flight: none }")));
    let endpoint = bench.endpoint(1);
    let late = [
        answer(200).after(5_000),
        answer(500).after(6_000),
        answer(500).after(11_000),
        answer(500).after(13_000),
    ];
    endpoint.will(late);
    let mut stragglers = [(); 4].map(|()| bench.start("GET /straggler"));
    ms(1).await;
    endpoint.will([answer(500)]);
    assert_eq!(bench.get("GET /").await.status, 500);
    ms(6_500).await;
    let breaker = bench.breaker(1);
    assert_eq!((breaker.state, breaker.opens_in_a_row), (State::Open, 1));
    assert_eq!(breaker.retry_in.unwrap().as_millis(), 10_000 - 6_500);
    ms(5_000).await;
    assert_eq!(bench.state(1), State::HalfOpen, "nor while half-open");
    assert_eq!(bench.get("GET /").await.status, 200);
    assert_eq!(bench.state(1), State::Closed);
    for one in &mut stragglers {
        one.await.unwrap();
    }
    assert_eq!(bench.now(), 13_000);
    assert_eq!(bench.state(1), State::Closed, "nor when it is closed again");
    bench.settle(6).await;
}

#[tokio::test(start_paused = true)]
async fn rule_40_an_endpoint_that_comes_back_and_is_still_bad_goes_at_the_same_count() {
    let policies =
        "circuit_breaker: { consecutive_failures: 3, open_for: 10s, max_open_for: 10s, probes: 1 }";
    let bench = Bench::new(&yaml(1, policies));
    let endpoint = bench.endpoint(1);
    let mut asked = 0;
    for _ in 0..3 {
        for failures in 1..=3 {
            endpoint.will([answer(500)]);
            assert_eq!(bench.get("GET /").await.status, 500);
            let expected = if failures < 3 {
                State::Closed
            } else {
                State::Open
            };
            assert_eq!(bench.state(1), expected);
        }
        ms(10_000).await;
        assert_eq!(bench.get("GET /").await.status, 200, "the probe");
        assert_eq!(bench.state(1), State::Closed);
        asked += 4;
    }
    bench.settle(asked).await;
}

#[tokio::test(start_paused = true)]
async fn rule_27_rule_50_refusals_of_ours_and_signs_of_load_are_no_failures() {
    let policies = quick(
        "rate_limit: { per_second: 1, burst: 3 }
         bulkhead: { max_in_flight: 1 }
         retry: { on: [429], max_attempts: 2, backoff: { base: 1ms } }",
    );
    let bench = Bench::new(&yaml(1, &policies));
    let endpoint = bench.endpoint(1);
    endpoint.will([
        answer(429),
        answer(429),
        answer(404),
        answer(200).after(100),
    ]);
    assert_eq!(
        bench.get("GET /").await.status,
        429,
        "tried again, still 429"
    );
    assert_eq!(bench.get("GET /").await.status, 404);
    let first = bench.start("GET /");
    ms(1).await;
    assert_eq!(bench.get("GET /").await.reason(), "rate_limited");
    ms(1).await;
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(endpoint.count(), 4, "no refusal of ours was tried again");
    let counts = bench.breaker(1).counts;
    assert_eq!(
        (counts.requests, counts.failures),
        (2, 0),
        "429 says nothing"
    );
    bench.settle(4).await;
}

#[tokio::test(start_paused = true)]
async fn a_hash_moves_on_when_its_endpoint_is_ejected_and_comes_back() {
    let bench = Bench::new(&yaml(3, &quick("balance: { hash: { header: x-user } }")));
    let ask = async |user: &str| -> Option<u8> {
        (1..=3).for_each(|number| bench.endpoint(number).forget());
        let headers = [("x-user", user)];
        let mut client = bench.client();
        client.ask("GET /", &headers, "").await;
        (1..=3).find(|number| bench.endpoint(*number).count() > 0)
    };
    let users: Vec<String> = (0..30).map(|user| format!("user-{user}")).collect();
    let mut homes = Vec::new();
    for user in &users {
        let home = ask(user).await;
        assert_eq!(ask(user).await, home, "always the same");
        homes.push(home);
    }
    assert!(
        [1, 2, 3]
            .iter()
            .all(|number| homes.contains(&Some(*number)))
    );
    bench.endpoint(1).will([answer(500)]);
    let moved = users
        .iter()
        .zip(&homes)
        .find(|(_, home)| **home == Some(1))
        .unwrap();
    ask(moved.0).await;
    assert_eq!(bench.state(1), State::Open);
    for (user, home) in users.iter().zip(&homes) {
        let now = ask(user).await;
        match home {
            Some(1) => assert_ne!(now, Some(1)),
            _ => assert_eq!(now, *home, "only those of the ejected one move"),
        }
    }
    ms(10_000).await;
    for (user, home) in users.iter().zip(&homes) {
        assert_eq!(ask(user).await, *home, "home again");
    }
    bench.settle(60 + 1 + 60).await;
}

#[tokio::test(start_paused = true)]
async fn rule_49_fault_051_an_endpoint_that_fails_fast_does_not_attract_the_load() {
    let bench = Bench::new(&yaml(3, "balance: least_request"));
    bench.endpoint(1).always(answer(503));
    bench.endpoint(2).always(answer(200).after(20));
    bench.endpoint(3).always(answer(200).after(20));
    let mut requests = Vec::new();
    for _ in 0..600 {
        requests.push(bench.start("GET /"));
        ms(2).await;
    }
    for request in requests {
        request.await.unwrap();
    }
    let counts = [1, 2, 3].map(|number| bench.endpoint(number).count());
    assert!(counts[0] < 60, "{counts:?}: a third would be 200");
    bench.settle(600).await;
}

#[tokio::test(start_paused = true)]
async fn fault_053_a_flapping_endpoint_leaves_no_request_stuck() {
    let bench = Bench::new(&yaml(
        2,
        &quick("retry: { backoff: { base: 5ms } }\ntimeouts: { request: 2s }"),
    ));
    let endpoint = bench.endpoint(1);
    let mut requests = Vec::new();
    for second in 0..60 {
        let play = if second % 2 == 0 {
            Play::Refuse
        } else {
            answer(200).into()
        };
        endpoint.always(play);
        for _ in 0..20 {
            requests.push(bench.start("GET /"));
            ms(50).await;
        }
    }
    let total = u32::try_from(requests.len()).unwrap();
    for request in requests {
        assert_eq!(request.await.unwrap().status, 200);
    }
    bench.settle(total).await;
}
