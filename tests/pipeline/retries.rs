//! Tries one after the other: the waits between them on the virtual clock, what may be tried again, and
//! what each try is sent.

use super::bench::{Answer, Bench, ms, request, yaml};
use super::endpoint::{Play, answer};

/// Tries in all, and a backoff block.
fn retry(attempts: u32, rest: &str) -> String {
    format!(
        "timeouts: {{ request: 60s }}\nretry: {{ max_attempts: {attempts}, budget: off, {rest} }}"
    )
}

async fn times(policies: &str) -> Vec<u64> {
    let bench = Bench::new(&yaml(1, policies));
    bench.endpoint(1).always(answer(503));
    assert_eq!(bench.get("GET /").await.status, 503);
    bench.settle(1).await;
    bench.endpoint(1).times()
}

#[tokio::test(start_paused = true)]
async fn rule_23_waits_grow_as_the_kind_says() {
    for (kind, expected) in [
        ("exponential", [0, 100, 300, 600, 900]),
        ("linear", [0, 100, 300, 600, 900]),
        ("fixed", [0, 100, 200, 300, 400]),
    ] {
        let backoff = format!("backoff: {{ kind: {kind}, base: 100ms, max: 300ms, jitter: none }}");
        assert_eq!(times(&retry(5, &backoff)).await, expected, "{kind}");
    }
    let linear = "backoff: { kind: linear, base: 100ms, max: 5s, jitter: none }";
    assert_eq!(times(&retry(4, linear)).await, [0, 100, 300, 600]);
}

#[tokio::test(start_paused = true)]
async fn rule_23_jitter_spreads_within_its_bounds() {
    for (jitter, least) in [("full", 1), ("equal", 200)] {
        let backoff =
            format!("backoff: {{ kind: fixed, base: 400ms, max: 400ms, jitter: {jitter} }}");
        let times = times(&retry(60, &backoff)).await;
        let waits: Vec<u64> = times.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(waits.iter().all(|wait| (least..=400).contains(wait)));
        let (short, long) = (least + 60, 340);
        assert!(waits.iter().any(|wait| *wait < short), "{jitter} {waits:?}");
        assert!(waits.iter().any(|wait| *wait > long), "{jitter} {waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_05_a_wait_that_cannot_pay_is_not_begun() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { request: 1s }
         retry: { backoff: { kind: fixed, base: 600ms, jitter: none } }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503).after(399), answer(503).after(399)]);
    let late = bench.get("GET /").await;
    // 601 ms were left for a wait of 600 and a try of 1; that try used them up.
    assert_eq!(late.short(), (503, "", 1000));
    assert_eq!(late.body, "answer 503", "the last real answer (rule 31)");
    endpoint.forget();
    endpoint.will([answer(503).after(400)]);
    let at_once = bench.get("GET /").await;
    assert_eq!(at_once.short(), (503, "", 1400), "at once");
    assert_eq!(endpoint.count(), 1);
    let denied = bench.metric("mamparo_retries_denied_total", &["why=\"deadline\""]);
    assert_eq!(denied, 2.0);
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn rule_24_retry_after_sets_the_wait_and_spreads_upwards_only() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { request: 60s }
         retry: { budget: off, backoff: { kind: fixed, base: 10ms, jitter: none } }",
    ));
    let endpoint = bench.endpoint(1);
    let mut waits = Vec::new();
    for _ in 0..20 {
        endpoint.forget();
        endpoint.will([answer(503).header("retry-after", "2")]);
        assert_eq!(bench.get("GET /").await.status, 200);
        let times = endpoint.times();
        waits.push(times[1] - times[0]);
    }
    assert!(waits.iter().all(|wait| (2_000..=3_000).contains(wait)));
    assert!(waits.iter().max() > waits.iter().min(), "spread");
    bench.settle(20).await;
}

#[tokio::test(start_paused = true)]
async fn rule_24_fault_055_odd_retry_afters() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { request: 60s }
         retry: { budget: off, max_retry_after: 10s, backoff: { kind: fixed, base: 10ms, jitter: none } }",
    ));
    let endpoint = bench.endpoint(1);
    // The date is that of the machine, the wait that of the test's clock.
    for (value, expected) in [
        ("0", Some(10)),
        ("-5", Some(10)),
        ("soon", Some(10)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(10)),
        ("3600", None),
        ("99999999999999999999", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
    ] {
        endpoint.forget();
        endpoint.will([answer(503).header("retry-after", value)]);
        let begun = bench.now();
        let got = bench.get("GET /").await;
        match expected {
            Some(wait) => assert_eq!((got.status, got.at - begun), (200, wait), "{value}"),
            None => {
                assert_eq!((got.status, got.at), (503, begun), "{value}: at once");
                assert_eq!(got.head.get("retry-after"), Some(value), "and passed on");
                assert_eq!(endpoint.count(), 1);
            }
        }
    }
    // Two of them: the first that can be read holds.
    let twice = answer(503)
        .header("retry-after", "x")
        .header("retry-after", "3600");
    endpoint.will([twice]);
    assert_eq!(bench.get("GET /").await.status, 503);
    bench.settle(8).await;
}

#[tokio::test(start_paused = true)]
async fn rule_24_a_retry_after_beyond_the_requests_time_ends_the_tries() {
    let bench = Bench::new(&yaml(1, "timeouts: { request: 1s }\nretry: {}"));
    bench
        .endpoint(1)
        .will([answer(503).header("retry-after", "2")]);
    let got = bench.get("GET /").await;
    assert_eq!(got.short(), (503, "", 0));
    assert_eq!(got.head.get("retry-after"), Some("2"));
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_24_where_it_is_not_respected_the_backoff_holds() {
    let bench = Bench::new(&yaml(
        1,
        "retry: { respect_retry_after: false, backoff: { base: 10ms, jitter: none } }",
    ));
    bench
        .endpoint(1)
        .will([answer(503).header("retry-after", "3600")]);
    assert_eq!(bench.get("GET /").await.short(), (200, "", 10));
    bench.settle(1).await;
}

/// Whether a request with this method, after this first try, was tried again.
async fn again(line: &str, headers: &[(&str, &str)], body: &str, first: Play) -> (Answer, usize) {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { try: 100ms, connect: 50ms, request: 5s, idle: 1s }
         retry: { max_attempts: 2, backoff: { kind: fixed, base: 10ms, jitter: none }, max_body: 1KiB }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([first]);
    let got = bench.start_with(line, headers, body).await.unwrap();
    bench.settle(1).await;
    (got, endpoint.count())
}

#[tokio::test(start_paused = true)]
async fn rule_15_what_was_not_sent_may_be_tried_again_whatever_the_method() {
    for play in [Play::Refuse, Play::ConnectHangs] {
        let (got, _) = again("POST /", &[], "pay", play).await;
        assert_eq!(got.status, 200);
    }
    for (play, reason) in [
        (Play::Hang, "try_timeout"),
        (Play::Close(0), "reset"),
        (Play::Close(30), "reset"),
    ] {
        let (got, count) = again("POST /", &[], "pay", play.clone()).await;
        assert_eq!((got.reason(), count), (reason, 1));
        let keyed = [("idempotency-key", "7")];
        let (got, count) = again("POST /", &keyed, "pay", play.clone()).await;
        assert_eq!((got.status, count), (200, 2));
        let (got, count) = again("PUT /", &[], "set", play).await;
        assert_eq!((got.status, count), (200, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn rule_11_after_the_head_went_to_the_client_nothing_is_tried_again() {
    let bench = Bench::new(&yaml(
        1,
        "retry: {}
         circuit_breaker: { consecutive_failures: 2 }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200).half_then_close(10)]);
    let got = bench.get("GET /").await;
    assert_eq!((got.status, got.complete), (200, false));
    ms(1_000).await;
    assert_eq!(endpoint.count(), 1);
    let counts = bench.breaker(1).counts;
    let seen = (counts.requests, counts.failures);
    assert_eq!(seen, (2, 1), "the head is a success, the body a failure");
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_14_rule_18_every_condition_counts_and_some_are_in_vain() {
    for (on, status, tries) in [
        ("[reset, 500]", 500, 2),
        ("[5xx]", 500, 2),
        ("[5xx]", 501, 1),
        ("[5xx]", 505, 1),
        ("[429]", 429, 2),
        ("[reset]", 503, 1),
        ("[409]", 409, 2),
        ("[502, 503]", 404, 1),
    ] {
        let policies = format!("retry: {{ max_attempts: 2, on: {on}, backoff: {{ base: 1ms }} }}");
        let bench = Bench::new(&yaml(1, &policies));
        bench.endpoint(1).always(answer(status));
        assert_eq!(bench.get("GET /").await.status, status);
        assert_eq!(bench.endpoint(1).count(), tries, "{status} under {on}");
        bench.settle(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_body_is_sent_again_exactly_once_and_whole() {
    let body: String = ('a'..='z').cycle().take(1000).collect();
    for play in [Play::Hang, Play::Close(0), answer(503).into(), Play::Refuse] {
        let bench = Bench::new(&yaml(1, "timeouts: { try: 50ms }\nretry: {}"));
        let endpoint = bench.endpoint(1);
        endpoint.will([play]);
        let got = bench.start_with("PUT /", &[], &body).await.unwrap();
        assert_eq!(got.status, 200);
        let last = endpoint.seen().pop().unwrap();
        assert_eq!(last.body, body.as_bytes());
        assert_eq!(last.head.number("content-length"), Some(1000));
        bench.settle(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rule_19_the_next_try_begins_with_what_has_come_and_goes_on_with_what_comes() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { idle: 10s }
         retry: { backoff: { kind: fixed, base: 100ms, jitter: none } }",
    ));
    let endpoint = bench.endpoint(1);
    let mut client = bench.client();
    let head = request("PUT /", &[("transfer-encoding", "chunked")], "");
    endpoint.will([Play::Slam]);
    client.write(&format!("{head}5\r\nfirst\r\n")).await;
    ms(50).await;
    client.write("6\r\nsecond\r\n").await;
    ms(200).await;
    assert_eq!(endpoint.times(), [100], "streamed, not collected first");
    client.write("5\r\nthird\r\n0\r\n\r\n").await;
    let got = client.answer(false).await;
    assert_eq!(got.short(), (200, "", 250));
    let last = endpoint.seen().pop().unwrap();
    assert_eq!(last.body, b"firstsecondthird");
    drop(client);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_body_over_the_limit_is_streamed_and_not_tried_again() {
    let body = "x".repeat(2000);
    let (got, count) = again("PUT /", &[], &body, answer(503).into()).await;
    assert_eq!((got.status, count), (503, 1));
    // But for what was not sent the limit does not matter.
    let (got, count) = again("PUT /", &[], &body, Play::Refuse).await;
    assert_eq!((got.status, count), (200, 1));
    let (got, _) = again("PUT /", &[], &"x".repeat(1000), answer(503).into()).await;
    assert_eq!(got.status, 200);
}

#[tokio::test(start_paused = true)]
async fn rule_20_fault_048_an_answer_before_the_bodys_end_is_passed_on() {
    let bench = Bench::new(&yaml(1, "timeouts: { idle: 1s }\nretry: {}"));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503).early()]);
    let mut client = bench.client();
    let head = request("PUT /", &[("content-length", "100")], "");
    client.write(&format!("{head}0123456789")).await;
    let got = client.answer(false).await;
    assert_eq!(got.short(), (503, "", 0));
    ms(500).await;
    assert_eq!(endpoint.count(), 1);
    drop(client);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_22_what_stays_and_what_is_new_from_try_to_try() {
    let bench = Bench::new(&yaml(1, "retry: { backoff: { base: 1ms } }"));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503), answer(503)]);
    let mut client = bench.client();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [
        ("traceparent", trace),
        ("idempotency-key", "k"),
        ("x-own", "1"),
    ];
    let got = client.ask("PUT /a", &headers, "body").await;
    assert_eq!(got.status, 200);
    assert_eq!(got.head.get("x-mamparo-attempts"), Some("3"));
    let seen = endpoint.seen();
    let all = |name: &str| -> Vec<Option<String>> {
        let values = seen.iter().map(|one| one.head.get(name));
        values.map(|value| value.map(ToOwned::to_owned)).collect()
    };
    let same = |name: &str| {
        let values = all(name);
        assert!(values[0].is_some() && values.iter().all(|one| *one == values[0]));
    };
    let names = ["x-request-id", "idempotency-key", "x-own", "host"];
    names.into_iter().for_each(same);
    let attempts = [None, Some("2".to_owned()), Some("3".to_owned())];
    assert_eq!(all("x-mamparo-attempt"), attempts);
    let parents: Vec<String> = all("traceparent").into_iter().flatten().collect();
    assert!(parents.iter().all(|one| one[..36] == trace[..36]));
    assert!(parents[0] != parents[1] && parents[1] != parents[2] && parents[0] != trace);
    drop(client);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_28_another_endpoint_is_preferred_and_the_same_one_is_better_than_none() {
    let bench = Bench::new(&yaml(3, "retry: { backoff: { base: 1ms } }"));
    let endpoints = [1, 2, 3].map(|number| bench.endpoint(number));
    endpoints.iter().for_each(|one| one.always(answer(503)));
    for _ in 0..10 {
        assert_eq!(bench.get("GET /").await.status, 503);
    }
    assert!(endpoints.iter().all(|one| one.count() == 10));
    bench.settle(10).await;
    let bench = Bench::new(&yaml(1, "retry: { backoff: { base: 1ms } }"));
    bench.endpoint(1).will([answer(503)]);
    assert_eq!(bench.get("GET /").await.status, 200);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_31_the_last_real_answer_is_kept_with_status_headers_and_body() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { connect: 100ms }
         retry: { backoff: { kind: fixed, base: 10ms, jitter: none } }",
    ));
    let endpoint = bench.endpoint(1);
    let real = answer(502).body("the real one").header("x-own", "1");
    let chunked = real.clone().header("transfer-encoding", "chunked");
    for real in [real.clone(), chunked, real.body("")] {
        endpoint.will([real.into(), Play::Close(0), Play::Refuse]);
        let got = bench.get("GET /").await;
        assert_eq!((got.status, got.reason()), (502, ""));
        assert_eq!(got.head.get("x-own"), Some("1"));
        assert_eq!(got.head.get("x-mamparo-attempts"), Some("3"));
        assert!(got.complete && (got.body == "the real one" || got.body.is_empty()));
    }
    assert_eq!(bench.ended("upstream"), 3.0);
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn rule_31_an_answer_that_cannot_be_kept_does_not_hold_up_the_next_try() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { request: 1s }
         retry: { max_attempts: 2, backoff: { kind: fixed, base: 10ms, jitter: none } }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503).half_then_hang().into(), Play::Hang]);
    let got = bench.get("GET /").await;
    // 100 ms for the rest of it, then the next try without it.
    assert_eq!(endpoint.times(), [0, 100]);
    assert_eq!(got.short(), (504, "request_timeout", 1000));
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_05_keeping_an_answer_does_not_outlast_the_requests_time() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { request: 1s }
         retry: { max_attempts: 2, backoff: { kind: fixed, base: 10ms, jitter: none } }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503).after(960).half_then_hang().into(), Play::Hang]);
    let got = bench.get("GET /").await;
    assert_eq!(got.short(), (504, "request_timeout", 1000));
    bench.settle(1).await;
}
