//! `timeouts`: each clock, what starts and what stops it.

use std::time::{Duration, Instant};

use crate::support::{BlackHole, Gate, Proxy, Reply, Upstream};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("timeouts.connect", connect),
    ("timeouts.request", request),
    ("timeouts.try", per_try),
    ("timeouts.idle", fault_050_idle),
];

/// How long it took, which is at least so long, and not absurdly longer.
#[track_caller]
fn takes<T>(least_ms: u64, action: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = action();
    let took = began.elapsed();
    let least = Duration::from_millis(least_ms);
    assert!(took >= least, "only {took:?}");
    assert!(took < least + Duration::from_secs(5), "{took:?}");
    result
}

#[test]
fn connect() {
    let hole = BlackHole::new();
    let proxy = Proxy::to(&[hole.address], "timeouts: { connect: 80ms }");
    let answer = takes(80, || proxy.get("/"));
    assert_eq!(answer.reason().as_deref(), Some("connect_timeout"));
    // The request's time cuts it too, and then it is the request that was late.
    let proxy = Proxy::to(
        &[hole.address],
        "timeouts: { connect: none, request: 80ms }",
    );
    let answer = takes(80, || proxy.get("/"));
    assert_eq!(answer.reason().as_deref(), Some("request_timeout"));
}

#[test]
fn request() {
    let upstream = Upstream::always(Reply::stall());
    let policies = "timeouts: { request: 150ms, try: 40ms }\n\
                    retry: { max_attempts: 50, budget: off, backoff: { base: 20ms, jitter: none, kind: fixed } }";
    let proxy = Proxy::before(&upstream, policies);
    // Rule 5: tries and backoffs count; 40+20+40+20 leaves 30, which the third try uses up.
    let answer = takes(100, || proxy.get("/"));
    assert_eq!(answer.status, 504);
    assert!(upstream.count() <= 3, "{}", upstream.count());

    let upstream = Upstream::always(Reply::new(200).after_ms(200));
    let proxy = Proxy::before(&upstream, "timeouts: { request: none }");
    assert_eq!(proxy.get("/").status, 200);
}

/// Rule 3: the body takes its own time.
#[test]
fn the_time_of_a_request_ends_with_the_head_of_its_answer() {
    let act = Reply::new(200).body("0123456789");
    let upstream = Upstream::always(act.dripping_body(Duration::from_millis(60)));
    let proxy = Proxy::before(&upstream, "timeouts: { request: 400ms, try: 300ms }");
    let mut client = proxy.client();
    let answer = takes(500, || client.get("/"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "0123456789"));
    assert!(answer.complete);
}

#[test]
fn rule_001_a_slow_upload_counts() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "timeouts: { request: 100ms }");
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf");
    let answer = takes(90, || client.answer());
    assert_eq!(answer.reason().as_deref(), Some("request_timeout"));
    // Fault 39: the upstream sees an abort.
    assert!(!upstream.last().complete);
}

#[test]
fn per_try() {
    let upstream = Upstream::script([Reply::stall(), Reply::new(200)]);
    let policies = "timeouts: { try: 300ms }\nretry: { backoff: { base: 0s } }";
    let proxy = Proxy::before(&upstream, policies);
    // Rule 4: the first try has it too.
    let answer = takes(300, || proxy.get("/"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-mamparo-attempts").as_deref(), Some("2"));
    let line = proxy.only_line();
    assert_eq!(line["tries"][0]["reason"], "try_timeout");
    assert_eq!(line["tries"][0]["sent"], "sent_unanswered");
}

#[test]
fn fault_050_idle() {
    let act = Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").then_stall();
    let upstream = Upstream::always(act);
    let proxy = Proxy::before(&upstream, "timeouts: { idle: 60ms }\ncircuit_breaker: {}");
    let mut client = proxy.client();
    let answer = takes(60, || client.get("/"));
    assert!(
        !answer.complete,
        "the client sees that something is missing"
    );
    assert_eq!(answer.text(), "half");
    proxy.expect_metric("mamparo_failures_total", &[("reason", "try_timeout")], 1.0);
    // The head was a success; the body one more observation, a failure.
    assert_eq!(proxy.window().failures, 1);
}

#[test]
fn fault_050_a_drip_just_under_idle_goes_on() {
    // As long as it likes (rule 7).
    let act = Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
    let slow = Reply::new(200).chunked(&["slow", "ly"]);
    for act in [
        act.dripping(Duration::from_millis(5)),
        slow.dripping(Duration::from_millis(10)),
    ] {
        let upstream = Upstream::always(act);
        let proxy = Proxy::before(&upstream, "timeouts: { idle: 400ms }");
        assert_eq!(proxy.get("/").status, 200);
    }
}

#[test]
fn fault_040_idle_cuts_a_client_that_reads_nothing() {
    let upstream = Upstream::always(Reply::new(200).body(vec![b'x'; 64 << 20]));
    let proxy = Proxy::before(&upstream, "timeouts: { idle: 150ms }\nbulkhead: {}");
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    // It is cut, and its seat is free again, while the client still holds its end.
    proxy.expect_metric("mamparo_requests_total", &[("outcome", "client_gone")], 1.0);
    proxy.expect_metric("mamparo_bulkhead_in_flight", &[("upstream", "u")], 0.0);
    assert!(!client.answer().complete);
}

#[test]
fn no_timeout_where_none_is_set() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let policies = "timeouts: { connect: none, request: none, try: none, idle: none }";
    let proxy = Proxy::before(&upstream, policies);
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    assert!(client.hears_nothing_for(Duration::from_millis(200)));
    assert!(upstream.last().header("x-mamparo-timeout-ms").is_none());
    gate.open();
    assert_eq!(client.answer().status, 200);
}
