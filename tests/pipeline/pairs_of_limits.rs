//! Pairs of policies that limit: seats, connections, tokens, budgets, and the drain.

use super::bench::{Bench, ms, request, yaml};
use super::endpoint::{Play, answer};

/// A fixed wait between tries.
const WAIT: &str = "backoff: { kind: fixed, base: 100ms, jitter: none }";

#[tokio::test(start_paused = true)]
async fn fault_079_queue_timeout_seat_and_leaving_at_the_same_moment() {
    // The seat comes free 100 ms after the waiter has come, when its patience is over too; and the
    // client leaves a little before, at that moment, or a little after.
    for leaves in [98, 99, 100, 101, 102] {
        for patience in [99, 100, 101] {
            let bulkhead = format!(
                "bulkhead: {{ max_in_flight: 1, max_queue: 5, queue_timeout: {patience}ms }}"
            );
            let bench = Bench::new(&yaml(1, &bulkhead));
            bench.endpoint(1).will([answer(200).after(150)]);
            let first = bench.start("GET /first");
            ms(50).await;
            let leaving = bench.start("GET /leaving");
            let staying = bench.start("GET /staying");
            ms(leaves).await;
            leaving.abort();
            assert_eq!(first.await.unwrap().short(), (200, "", 150));
            let staying = staying.await.unwrap();
            assert!(staying.status == 200 || staying.reason() == "queue_timeout");
            ms(10).await;
            assert_eq!(bench.seats(), (0, 0), "{leaves} {patience}");
            assert_eq!(bench.get("GET /after").await.status, 200);
            bench.settle(4).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_57_a_seat_is_held_to_the_last_byte_of_the_answer() {
    let bench = Bench::new(&yaml(1, "bulkhead: { max_in_flight: 1 }"));
    bench.endpoint(1).will([answer(200).pauses(100, 100)]);
    let first = bench.start("GET /");
    ms(150).await;
    assert_eq!(bench.get("GET /").await.reason(), "too_many_in_flight");
    assert_eq!(first.await.unwrap().done, 200);
    assert_eq!(bench.seats(), (0, 0));
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn one_request_holds_one_seat_however_often_it_is_tried() {
    let policies =
        format!("bulkhead: {{ max_in_flight: 1 }}\nretry: {{ max_attempts: 4, {WAIT} }}");
    let bench = Bench::new(&yaml(1, &policies));
    bench.endpoint(1).will(vec![answer(503).after(20); 3]);
    let retried = bench.start("GET /");
    for _ in 0..30 {
        ms(10).await;
        assert_eq!(bench.seats(), (1, 0));
        assert_eq!(bench.get("GET /").await.reason(), "too_many_in_flight");
    }
    assert_eq!(retried.await.unwrap().short(), (200, "", 360));
    bench.settle(31).await;
}

#[tokio::test(start_paused = true)]
async fn retries_take_no_token_of_the_rate_limit() {
    let policies =
        format!("rate_limit: {{ per_second: 1, burst: 1 }}\nretry: {{ max_attempts: 4, {WAIT} }}");
    let bench = Bench::new(&yaml(1, &policies));
    bench.endpoint(1).will(vec![answer(503); 3]);
    assert_eq!(bench.get("GET /").await.short(), (200, "", 300));
    let refused = bench.get("GET /").await;
    assert_eq!((refused.status, refused.reason()), (429, "rate_limited"));
    assert_eq!(refused.head.get("retry-after"), Some("1"));
    bench.until(1_000).await;
    assert_eq!(
        bench.get("GET /").await.status,
        200,
        "one token each second"
    );
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn rule_64_a_refusal_of_the_rate_limit_holds_no_seat() {
    let policies = "rate_limit: { per_second: 1, burst: 1 }
        bulkhead: { max_in_flight: 1, max_queue: 1, queue_timeout: 1s }";
    let bench = Bench::new(&yaml(1, policies));
    bench.endpoint(1).will([answer(200).after(500)]);
    let first = bench.start("GET /");
    ms(1).await;
    let refused = bench.get("GET /").await;
    assert_eq!(refused.short(), (429, "rate_limited", 1));
    assert_eq!(bench.seats(), (1, 0));
    first.await.unwrap();
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn with_one_connection_a_retry_has_the_one_of_the_try_before() {
    let policies = format!(
        "bulkhead: {{ max_in_flight: none, max_connections: 1 }}\nretry: {{ max_attempts: 3, {WAIT} }}"
    );
    let bench = Bench::new(&yaml(1, &policies));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503).into(), Play::Close(0)]);
    assert_eq!(bench.get("GET /").await.short(), (200, "", 200));
    let connections: Vec<_> = endpoint.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 1, 2], "the second try closed it");
    assert_eq!(bench.slots(), (1, 1));
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_gets_no_connection_ends_with_the_last_real_answer() {
    let policies = format!(
        "bulkhead: {{ max_in_flight: none, max_connections: 1 }}\nretry: {{ max_attempts: 3, {WAIT} }}"
    );
    let bench = Bench::new(&yaml(1, &policies));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503).body("the real one"), answer(200).after(300)]);
    let retried = bench.start("GET /retried");
    ms(50).await;
    // While it waits, another takes the only connection.
    let other = bench.start("GET /other");
    let got = retried.await.unwrap();
    assert_eq!(got.short(), (503, "", 100));
    assert_eq!(got.body, "the real one");
    // Without an answer to keep, it is refused; that is nothing to try again.
    let refused = bench.get("GET /refused").await;
    assert_eq!(refused.short(), (503, "too_many_connections", 100));
    assert_eq!(other.await.unwrap().at, 350);
    assert_eq!(endpoint.count(), 2);
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_an_idle_connection_to_another_endpoint_gives_its_place() {
    let bench = Bench::new(&yaml(
        2,
        "bulkhead: { max_in_flight: none, max_connections: 1 }\nbalance: round_robin",
    ));
    for _ in 0..6 {
        assert_eq!(bench.get("GET /").await.status, 200);
        assert_eq!(bench.slots(), (1, 1));
    }
    let counts = [1, 2].map(|number| bench.endpoint(number).count());
    assert_eq!(counts, [3, 3]);
    assert_eq!(bench.endpoint(1).open() + bench.endpoint(2).open(), 1);
    bench.settle(6).await;
}

const NO_BUDGET: &str =
    "retry: { budget: { ratio: 0%, min_per_second: 0 }, backoff: { base: 10ms, jitter: none } }";

#[tokio::test(start_paused = true)]
async fn rule_29_an_empty_budget_denies_and_the_answer_is_passed_on() {
    let bench = Bench::new(&yaml(1, NO_BUDGET));
    bench.endpoint(1).will([answer(503)]);
    assert_eq!(bench.get("GET /").await.short(), (503, "", 0));
    let denied = bench.metric("mamparo_retries_denied_total", &["why=\"budget\""]);
    assert_eq!(denied, 1.0);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_046_fault_079_budget_empty_and_a_stale_connection() {
    let bench = Bench::new(&yaml(1, NO_BUDGET));
    let endpoint = bench.endpoint(1);
    for (line, body) in [("GET /", ""), ("POST /", "pay"), ("PUT /", "set")] {
        // Closed where we can see it; and where only the first byte that we write finds it out.
        for unseen in [false, true] {
            assert_eq!(bench.get("GET /first").await.status, 200);
            endpoint.forget();
            if unseen {
                endpoint.go_stale();
            } else {
                endpoint.will([Play::Close(0)]);
                assert_eq!(bench.get("GET /closes").await.reason(), "reset");
                endpoint.forget();
            }
            let got = bench.start_with(line, &[], body).await.unwrap();
            assert_eq!(got.status, 200, "{line} {unseen}");
            assert_eq!(got.head.get("x-mamparo-attempts"), None, "one try");
            let seen = endpoint.seen();
            assert_eq!(seen.len(), 1, "no byte of it was written before");
            assert_eq!(seen[0].body, body.as_bytes());
        }
    }
    assert_eq!(bench.metric("mamparo_retries_total", &[]), 0.0);
    bench.settle(15).await;
}

#[tokio::test(start_paused = true)]
async fn fault_046_a_body_that_is_not_kept_is_never_sent_from_its_middle() {
    // The try that meets the stale connection takes the first bytes of the body, and none is kept.
    let bench = Bench::new(&yaml(1, "retry: { max_body: 0 }"));
    let endpoint = bench.endpoint(1);
    for line in ["PUT /", "POST /"] {
        assert_eq!(bench.get("GET /first").await.status, 200);
        endpoint.go_stale();
        endpoint.forget();
        let chunked = [("transfer-encoding", "chunked")];
        let mut client = bench.client();
        let head = request(line, &chunked, "");
        client
            .write(&format!("{head}5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"))
            .await;
        let got = client.answer(false).await;
        match got.status {
            200 => assert_eq!(endpoint.seen()[0].body, b"firstsecond"),
            _ => assert_eq!((got.reason(), endpoint.count()), ("reset", 0)),
        }
    }
    bench.settle(4).await;
}

#[tokio::test(start_paused = true)]
async fn fault_052_a_restart_with_many_pooled_connections_is_not_seen_by_clients() {
    let bench = Bench::new(&yaml(
        1,
        "bulkhead: { max_in_flight: none, max_connections: 100 }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.always(answer(200).after(10));
    let first: Vec<_> = (0..100).map(|_| bench.start("GET /")).collect();
    for one in first {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert_eq!(bench.slots(), (100, 100));
    endpoint.go_stale();
    let second: Vec<_> = (0..100).map(|_| bench.start("GET /")).collect();
    for one in second {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert_eq!(bench.slots().0, 100);
    bench.settle(200).await;
}

#[tokio::test(start_paused = true)]
async fn rule_29_the_budget_is_a_share_of_original_requests() {
    let policies = "retry: { budget: { ratio: 20%, min_per_second: 0, window: 10s }, backoff: { base: 10ms, jitter: none } }";
    let bench = Bench::new(&yaml(1, policies));
    bench.endpoint(1).always(answer(503));
    for _ in 0..100 {
        bench.get("GET /").await;
    }
    assert_eq!(bench.endpoint(1).count(), 120);
    assert_eq!(bench.tokens(), 0.0);
    bench.settle(100).await;
}

#[tokio::test(start_paused = true)]
async fn fault_069_fault_079_drain_and_backoff() {
    let bench = Bench::new(&yaml(
        1,
        &format!("retry: {{ {WAIT} }}\nbulkhead: {{ max_in_flight: 5 }}"),
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503)]);
    let waiting = bench.start("GET /");
    let idle = bench.client();
    ms(50).await;
    bench.door.begin_drain();
    bench.proxy.refuse_new_requests();
    ms(1).await;
    assert!(idle.served.is_finished(), "an idle connection ends at once");
    let got = waiting.await.unwrap();
    assert_eq!(got.short(), (200, "", 100), "a request under way goes on");
    assert_eq!(got.head.get("connection"), Some("close"));
    assert_eq!(bench.door.open(), 0);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_069_what_is_cut_at_the_end_of_the_drain_leaves_nothing_behind() {
    let limits = "bulkhead: { max_in_flight: 2, max_queue: 1, queue_timeout: 60s }";
    let bench = Bench::new(&yaml(
        1,
        &format!(
            "retry: {{ backoff: {{ kind: fixed, base: 50s, max: 50s, jitter: none }} }}\n{limits}"
        ),
    ));
    bench.endpoint(1).will([answer(503).into(), Play::Hang]);
    let _backoff = bench.start("GET /");
    ms(1).await;
    let _hanging = bench.start("GET /");
    ms(1).await;
    let _queued = bench.start("GET /");
    ms(1).await;
    assert_eq!(bench.seats(), (2, 1));
    let cut = bench.door.drain(std::time::Duration::from_secs(5)).await;
    assert_eq!((cut, bench.now()), (3, 5_003));
    assert_eq!(bench.seats(), (0, 0));
    assert_eq!(bench.ended("failed"), 3.0);
    bench.settle(3).await;
}
