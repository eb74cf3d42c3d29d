//! Reloads while requests are under way: wherever a request stands and whatever changes, it ends as it
//! began, nothing is lost, and what comes later runs under the new configuration (rules 81 and 82).

use std::sync::Arc;

use mamparo::live::upstream::Upstream;
use tokio::task::JoinHandle;

use super::bench::{Answer, Bench, ms, yaml};
use super::endpoint::{Play, answer};

const BASE: &str = "timeouts: { connect: 1s, request: 10s, try: 5s, idle: 5s }
    retry: { max_attempts: 3, backoff: { kind: fixed, base: 300ms, jitter: none } }
    circuit_breaker: { consecutive_failures: 3, open_for: 10s, max_open_for: 10s }
    bulkhead: { max_in_flight: 1, max_queue: 5, queue_timeout: 5s }
    rate_limit: { per_second: 100, burst: 20 }";

/// The same with one block written anew.
fn with(line: &str) -> String {
    let block = line.split(':').next().unwrap();
    let lines = BASE
        .lines()
        .filter(|one| !one.trim_start().starts_with(block));
    let mut lines: Vec<&str> = lines.collect();
    lines.push(line);
    yaml(1, &lines.join("\n"))
}

/// Every change of one setting or more, by its name.
fn changes() -> Vec<(&'static str, String)> {
    let lines = [
        "timeouts: { connect: 10ms, request: 20ms, try: 10ms, idle: 10ms }",
        "timeouts: off",
        "retry: off",
        "retry: { max_attempts: 1 }",
        "retry: { on: [500], max_body: 0, methods: [POST] }",
        "retry: { budget: { ratio: 0%, min_per_second: 0 }, backoff: { base: 5s, max: 5s } }",
        "circuit_breaker: off",
        "circuit_breaker: { consecutive_failures: 1, probes: 1, ramp: 10s, max_open: 100% }",
        "circuit_breaker: { consecutive_failures: none, failure_rate: 1%, min_requests: 1, when_all_open: send_anyway }",
        "bulkhead: { max_in_flight: 1, max_queue: 0, queue_timeout: 1ms }",
        "bulkhead: { max_in_flight: 1, max_connections: 1 }",
        "rate_limit: { per_second: 1, burst: 1 }",
        "rate_limit: off",
        "fallback: [ { on: [any], respond: { status: 299 } } ]",
        "balance: round_robin",
        "pool: { idle_timeout: 1ms, max_idle: 1, max_requests_per_connection: 1 }",
    ];
    let mut changes: Vec<_> = lines.into_iter().map(|line| (line, with(line))).collect();
    changes.push(("nothing", yaml(1, BASE)));
    changes.push(("another endpoint", yaml(2, BASE)));
    let moved = yaml(1, BASE).replace("10.0.0.1", "10.0.0.2");
    changes.push(("other endpoints", moved));
    let gone = yaml(1, BASE)
        .replace("upstream: u", "upstream: v")
        .replace("\n  u:", "\n  v:");
    changes.push(("no such upstream", gone));
    let route = "routes: [ { name: only, match: { path: /only }, upstream: u } ]";
    let rerouted = yaml(1, BASE).replace("upstream: u", route);
    changes.push(("no such route", rerouted));
    let own = "routes: [ { name: u, upstream: u, timeouts: { request: 1ms }, retry: off } ]";
    changes.push((
        "a route of its own",
        yaml(1, BASE).replace("upstream: u", own),
    ));
    changes
}

/// Where a request stands when the configuration changes.
#[derive(Debug, Clone, Copy)]
enum Stand {
    Queue,
    Backoff,
    Connecting,
    Head,
    Streaming,
}

impl Stand {
    const ALL: [Self; 5] = [
        Self::Queue,
        Self::Backoff,
        Self::Connecting,
        Self::Head,
        Self::Streaming,
    ];

    /// Brings a request there by 50 ms; gives the requests in all.
    fn bring(self, bench: &Bench) -> Vec<JoinHandle<Answer>> {
        let endpoint = bench.endpoint(1);
        match self {
            Self::Queue => {
                endpoint.will([answer(200).after(400)]);
                return vec![bench.start("GET /holder"), bench.start("GET /")];
            }
            Self::Backoff => endpoint.will([answer(503)]),
            Self::Connecting => endpoint.will([Play::ConnectTakes(200)]),
            Self::Head => endpoint.will([answer(200).after(200)]),
            Self::Streaming => endpoint.will([answer(200).pauses(0, 200)]),
        }
        vec![bench.start("GET /")]
    }

    /// When the head of its answer comes, and the end.
    fn times(self) -> (u64, u64) {
        match self {
            Self::Queue => (400, 400),
            Self::Backoff => (300, 300),
            Self::Connecting | Self::Head => (200, 200),
            Self::Streaming => (0, 200),
        }
    }
}

fn is_quiet(upstream: &Upstream) -> bool {
    let seats = upstream.seats();
    let slots = upstream.slots();
    (seats.in_flight(), seats.queued()) == (0, 0) && slots.open() == slots.idle()
}

#[tokio::test(start_paused = true)]
async fn fault_068_rule_82_a_request_ends_under_the_configuration_that_it_began_with() {
    for stand in Stand::ALL {
        for (name, text) in changes() {
            let bench = Bench::new(&yaml(1, BASE));
            let upstream = bench.upstream();
            let mut requests = stand.bring(&bench);
            let count = u32::try_from(requests.len()).unwrap();
            bench.until(50).await;
            bench.reload(&text);
            let got = requests.pop().unwrap().await.unwrap();
            assert_eq!(got.status, 200, "{stand:?}, {name}: {}", got.reason());
            assert!(
                got.complete && got.body == "answer 200",
                "{stand:?}, {name}"
            );
            assert_eq!((got.at, got.done), stand.times(), "{stand:?}, {name}");
            for holder in requests {
                assert_eq!(holder.await.unwrap().status, 200, "{stand:?}, {name}");
            }
            assert!(is_quiet(&upstream), "{stand:?}, {name}");
            bench.settle(count).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_068_a_client_that_leaves_after_a_reload_leaves_nothing_behind() {
    for stand in Stand::ALL {
        for (name, text) in changes() {
            let bench = Bench::new(&yaml(1, BASE));
            let upstream: Arc<Upstream> = bench.upstream();
            let requests = stand.bring(&bench);
            let count = u32::try_from(requests.len()).unwrap();
            bench.until(50).await;
            bench.reload(&text);
            requests.iter().rev().for_each(JoinHandle::abort);
            ms(1).await;
            assert!(is_quiet(&upstream), "{stand:?}, {name}");
            assert_eq!(bench.ended("client_gone"), f64::from(count));
            bench.settle(count).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_a_reload_runs_under_the_new_configuration() {
    let bench = Bench::new(&yaml(1, BASE));
    let endpoint = bench.endpoint(1);
    endpoint.always(Play::Hang);
    bench.reload(&with("timeouts: { request: 20ms }"));
    let late = bench.get("GET /").await;
    assert_eq!(late.short(), (504, "request_timeout", 20));
    endpoint.always(answer(503));
    bench.reload(&with("retry: off"));
    assert_eq!(bench.get("GET /").await.short(), (503, "", 20));
    bench.reload(&with(
        "fallback: [ { on: [5xx], respond: { status: 299 } } ]",
    ));
    endpoint.forget();
    // Two failures were counted before: the third try would be refused by the breaker.
    assert_eq!(bench.get("GET /").await.status, 299);
    assert_eq!(endpoint.count(), 1);
    bench.reload(&yaml(1, BASE).replace(
        "upstream: u",
        "routes: [ { match: { path: /a }, upstream: u } ]",
    ));
    assert_eq!(bench.get("GET /b").await.reason(), "no_route");
    bench.settle(4).await;
}

/// `holders` requests that have a seat for 500 ms, and `waiters` that wait for one.
async fn fill(bench: &Bench, holders: usize, waiters: usize) -> Vec<JoinHandle<Answer>> {
    bench.endpoint(1).always(answer(200).after(500));
    let mut requests = Vec::new();
    for _ in 0..holders + waiters {
        requests.push(bench.start("GET /"));
        ms(1).await;
    }
    assert_eq!(bench.seats(), (holders, waiters));
    requests
}

#[tokio::test(start_paused = true)]
async fn rule_81_a_bulkhead_that_is_raised_moves_the_waiters_up_at_once() {
    for (line, seats) in [
        (
            "bulkhead: { max_in_flight: 2, max_queue: 5, queue_timeout: 5s }",
            (2, 3),
        ),
        (
            "bulkhead: { max_in_flight: 4, max_queue: 0, queue_timeout: 1ms }",
            (4, 1),
        ),
        ("bulkhead: { max_in_flight: 9 }", (5, 0)),
        ("bulkhead: { max_in_flight: none }", (5, 0)),
        ("bulkhead: off", (5, 0)),
    ] {
        let bench = Bench::new(&yaml(1, BASE));
        let requests = fill(&bench, 1, 4).await;
        bench.reload(&with(line));
        assert_eq!(bench.seats(), seats, "{line}");
        for request in requests {
            assert_eq!(request.await.unwrap().status, 200);
        }
        bench.settle(5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rule_81_a_bulkhead_that_is_lowered_throws_nobody_out() {
    let wide = "bulkhead: { max_in_flight: 3, max_queue: 5, queue_timeout: 5s }";
    let bench = Bench::new(&with(wide));
    let requests = fill(&bench, 3, 2).await;
    bench.reload(&with(
        "bulkhead: { max_in_flight: 1, max_queue: 1, queue_timeout: 5s }",
    ));
    assert_eq!(bench.seats(), (3, 2));
    let refused = bench.get("GET /").await;
    assert_eq!(refused.reason(), "too_many_in_flight");
    bench.until(501).await;
    assert_eq!(bench.seats(), (2, 2), "the first is done; nobody moves up");
    bench.until(503).await;
    assert_eq!(bench.seats(), (1, 1), "below the new limit one does");
    for request in requests {
        assert_eq!(request.await.unwrap().status, 200);
    }
    bench.settle(6).await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_does_not_concern_a_routes_own_bulkhead_seats_nobody() {
    let routes = "routes: [ { name: narrow, match: { path: /narrow }, upstream: u, bulkhead: { max_in_flight: 1, max_queue: 5, queue_timeout: 5s } }, { name: rest, upstream: u } ]";
    let text = with("bulkhead: { max_in_flight: 10 }").replace("upstream: u", routes);
    let bench = Bench::new(&text);
    bench.endpoint(1).always(answer(200).after(100));
    let requests: Vec<_> = (0..3).map(|_| bench.start("GET /narrow")).collect();
    ms(1).await;
    assert_eq!(bench.seats(), (1, 2));
    bench.reload(&text.replace("burst: 20", "burst: 30"));
    assert_eq!(bench.seats(), (1, 2), "the upstream's ten are not theirs");
    bench.reload(&text.replace("max_in_flight: 1,", "max_in_flight: 2,"));
    assert_eq!(bench.seats(), (2, 1), "but their own second one is");
    for request in requests {
        assert_eq!(request.await.unwrap().status, 200);
    }
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_that_is_switched_off_and_on_counts_those_who_have_a_seat() {
    let bench = Bench::new(&yaml(1, BASE));
    let mut requests = fill(&bench, 1, 0).await;
    bench.reload(&with("bulkhead: off"));
    requests.push(bench.start("GET /"));
    ms(1).await;
    bench.reload(&with("bulkhead: { max_in_flight: 1 }"));
    // The one that began without a bulkhead has no seat; the one before still holds the only one.
    assert_eq!(bench.get("GET /").await.reason(), "too_many_in_flight");
    for request in requests {
        assert_eq!(request.await.unwrap().status, 200);
    }
    assert_eq!(bench.get("GET /").await.status, 200);
    bench.settle(4).await;
}

#[tokio::test(start_paused = true)]
async fn rule_81_the_budget_keeps_its_memory_when_its_ratio_changes() {
    let budget = |ratio: u32| {
        let line = format!(
            "retry: {{ budget: {{ ratio: {ratio}%, min_per_second: 0, window: 10s }}, backoff: {{ base: 1ms, max: 1ms }} }}"
        );
        yaml(1, &line)
    };
    let bench = Bench::new(&budget(10));
    bench.endpoint(1).always(answer(503));
    for _ in 0..100 {
        bench.get("GET /").await;
    }
    assert_eq!(bench.endpoint(1).count(), 110);
    bench.reload(&budget(30));
    assert_eq!(
        bench.tokens(),
        20.0,
        "of the requests that were made, less what was spent"
    );
    bench.reload(&budget(5));
    assert_eq!(bench.tokens(), 0.0);
    bench.reload(&yaml(1, "retry: off"));
    bench.reload(&budget(10));
    assert_eq!(bench.tokens(), 0.0, "off and on again is no present");
    bench.settle(100).await;
}

#[tokio::test(start_paused = true)]
async fn rule_81_the_rate_limit_keeps_its_tokens_when_its_rate_changes() {
    let rate = |line: &str| yaml(1, &format!("rate_limit: {line}"));
    let bench = Bench::new(&rate("{ per_second: 10, burst: 10 }"));
    let passed = async || {
        let mut passed = 0;
        while bench.get("GET /").await.status == 200 {
            passed += 1;
        }
        passed
    };
    assert_eq!(passed().await, 10);
    bench.reload(&rate("{ per_second: 100, burst: 100 }"));
    assert_eq!(passed().await, 0, "a larger burst is no present");
    ms(100).await;
    assert_eq!(passed().await, 10, "at the new rate");
    ms(500).await;
    bench.reload(&rate("{ per_second: 100, burst: 5 }"));
    assert_eq!(passed().await, 5, "no more than the new burst");
    bench.reload(&rate("off"));
    assert_eq!(bench.get("GET /").await.status, 200);
    bench.reload(&rate("{ per_second: 1, burst: 5 }"));
    assert_eq!(passed().await, 0, "off and on again is no present");
}

#[tokio::test(start_paused = true)]
async fn rule_81_a_routes_own_rate_limit_keeps_its_tokens_too() {
    let own = |line: &str| {
        let routes = format!("routes: [ {{ name: r, upstream: u, rate_limit: {line} }} ]");
        yaml(1, "").replace("upstream: u", &routes)
    };
    let bench = Bench::new(&own("{ per_second: 1, burst: 3 }"));
    for _ in 0..3 {
        assert_eq!(bench.get("GET /").await.status, 200);
    }
    bench.reload(&own("{ per_second: 2, burst: 9 }"));
    assert_eq!(bench.get("GET /").await.status, 429);
    ms(500).await;
    assert_eq!(bench.get("GET /").await.status, 200);
    bench.settle(5).await;
}

#[tokio::test(start_paused = true)]
async fn rule_81_connections_stay_and_new_limits_hold_from_now_on() {
    let limit = |connections: usize| {
        yaml(
            1,
            &format!("bulkhead: {{ max_in_flight: none, max_connections: {connections} }}"),
        )
    };
    let bench = Bench::new(&limit(3));
    let requests = async |count: usize| {
        bench.endpoint(1).always(answer(200).after(10));
        let requests: Vec<_> = (0..count).map(|_| bench.start("GET /")).collect();
        let mut served = 0;
        for request in requests {
            served += usize::from(request.await.unwrap().status == 200);
        }
        served
    };
    assert_eq!(requests(5).await, 3);
    bench.reload(&limit(5));
    assert_eq!(bench.slots(), (3, 3), "no socket is touched");
    assert_eq!(requests(6).await, 5);
    bench.reload(&limit(2));
    assert_eq!(bench.slots(), (5, 5));
    assert_eq!(bench.endpoint(1).dialled().len(), 5);
    // What is open may be used; what is closed is not opened again above the limit.
    bench.endpoint(1).go_stale();
    assert_eq!(requests(6).await, 2);
    assert_eq!(bench.slots(), (2, 2));
    bench.settle(17).await;
}

#[tokio::test(start_paused = true)]
async fn rule_81_a_shorter_idle_time_holds_for_connections_that_are_idle_already() {
    let idle = |time: &str| yaml(1, &format!("pool: {{ idle_timeout: {time} }}"));
    let bench = Bench::new(&idle("60s"));
    let endpoint = bench.endpoint(1);
    assert_eq!(bench.get("GET /").await.status, 200);
    ms(5_000).await;
    bench.reload(&idle("5s"));
    assert_eq!(bench.get("GET /").await.status, 200);
    assert_eq!(endpoint.dialled().len(), 2, "it had been idle for too long");
    ms(4_999).await;
    bench.reload(&idle("60s"));
    ms(10_000).await;
    assert_eq!(bench.get("GET /").await.status, 200);
    assert_eq!(endpoint.dialled().len(), 2, "now it may be idle for longer");
    ms(10_000).await;
    bench.reload(&idle("10s"));
    bench.upstream().sweep(bench.clock());
    ms(1).await;
    assert_eq!((bench.slots(), endpoint.open()), ((0, 0), 0));
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn rule_68_an_endpoint_that_leaves_finishes_what_it_has_and_gets_nothing_new() {
    let bench = Bench::new(&yaml(2, "balance: round_robin"));
    let (first, second) = (bench.endpoint(1), bench.endpoint(2));
    for _ in 0..4 {
        bench.get("GET /").await;
    }
    first.always(answer(200).after(300).pauses(0, 300));
    let requests = [bench.start("GET /"), bench.start("GET /")];
    ms(10).await;
    bench.reload(&yaml(1, "balance: round_robin").replace("10.0.0.1", "10.0.0.2"));
    first.forget();
    for _ in 0..4 {
        assert_eq!(bench.get("GET /").await.status, 200);
    }
    assert_eq!(first.count(), 0);
    assert_eq!(first.open(), 1, "idle ones are closed, the busy one is not");
    for request in requests {
        let got = request.await.unwrap();
        assert!(got.complete && got.status == 200);
    }
    ms(1).await;
    assert_eq!(first.open(), 0, "and it is closed when it is done");
    assert_eq!(second.open(), 1);
    bench.settle(10).await;
}

#[tokio::test(start_paused = true)]
async fn fault_068_an_upstream_that_is_removed_closes_its_connections_when_all_is_done() {
    let bench = Bench::new(&yaml(1, ""));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200), answer(200).after(100).pauses(0, 100)]);
    assert_eq!(bench.get("GET /").await.status, 200);
    let streaming = bench.start("GET /");
    ms(150).await;
    let gone = yaml(1, "")
        .replace("upstream: u", "upstream: v")
        .replace("\n  u:", "\n  v:");
    bench.reload(&gone.replace("10.0.0.1", "10.0.0.3"));
    assert_eq!(bench.get("GET /").await.status, 200);
    assert_eq!(bench.endpoint(3).count(), 1);
    assert!(streaming.await.unwrap().complete);
    ms(1).await;
    assert_eq!(endpoint.open(), 0);
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn fault_068_a_hundred_reloads_in_a_second_lose_nothing() {
    let bench = Bench::new(&yaml(1, BASE));
    bench.endpoint(1).always(answer(200).after(37));
    let texts: Vec<_> = changes()
        .into_iter()
        .filter(|(name, _)| name.starts_with("bulkhead") || *name == "nothing")
        .collect();
    let mut requests = Vec::new();
    for turn in 0..100 {
        requests.push(bench.start("GET /"));
        bench.reload(&texts[turn % texts.len()].1);
        ms(10).await;
    }
    for request in requests {
        let got = request.await.unwrap();
        let refused = [
            "too_many_in_flight",
            "queue_timeout",
            "too_many_connections",
        ];
        assert!(
            got.status == 200 || refused.contains(&got.reason()),
            "{}",
            got.reason()
        );
    }
    bench.settle(100).await;
}
