//! What upstreams ask of us with their answers (faults 55 and 56): when to come back, and whom a refusal
//! concerns.

use std::time::{Duration, Instant};

use crate::faults_told::expect_learnt;
use crate::support::{Proxy, Reply, Upstream};

/// The first answer has these lines; gives the number of tries and how long was waited between them.
fn asks(lines: &[&str], policies: &str) -> (usize, Duration) {
    let first = lines
        .iter()
        .fold(Reply::new(503), |reply, line| reply.header(line));
    let upstream = Upstream::script([first, Reply::new(200)]);
    let proxy = Proxy::before(&upstream, policies);
    let began = Instant::now();
    let answer = proxy.get("/");
    let took = began.elapsed();
    let line = proxy.only_line();
    let waited = line["backoff_ms"].as_f64().unwrap_or_default();
    let waited = Duration::from_secs_f64(waited / 1e3);
    assert!(took >= waited, "{took:?}: {line}");
    let again = upstream.count() == 2;
    assert_eq!(answer.status, if again { 200 } else { 503 });
    if !again {
        // The client learns what we did: it can come back then.
        let asked = lines.last().and_then(|line| line.split_once(": ")).unwrap();
        assert!(
            answer
                .header("retry-after")
                .is_some_and(|value| value.contains(asked.1))
        );
        assert_eq!(line["retry_denied"], "deadline");
    }
    (upstream.count(), waited)
}

const RETRY: &str = "retry: { backoff: { base: 1ms, max: 1ms } }\ntimeouts: { request: 5s }";

#[test]
fn fault_055_retry_after_in_all_its_forms() {
    let at_once = Duration::from_millis(25);
    for lines in [
        &["retry-after: 0"][..],
        &["retry-after: -1"],
        &["retry-after: 1.5"],
        &["retry-after: soon"],
        &["retry-after: "],
        &["retry-after: Sun, 06 Nov 1994 08:49:37 GMT"],
        &["retry-after: 1994-11-06"],
        &["retry-after: soon", "retry-after: 0"],
    ] {
        let (tries, waited) = asks(lines, RETRY);
        assert!(
            tries == 2 && waited <= at_once,
            "{lines:?}: {tries} tries after {waited:?}"
        );
    }
    let (tries, waited) = asks(&["retry-after: 1"], RETRY);
    assert!(
        tries == 2 && waited >= Duration::from_secs(1),
        "never earlier than asked: {waited:?}"
    );
    for lines in [
        &["retry-after: 3600"][..],
        &["retry-after: 11"],
        &["retry-after: 99999999999999999999"],
        &["retry-after: Fri, 31 Dec 9999 23:59:59 GMT"],
        &["retry-after: soon", "retry-after: 3600"],
    ] {
        let (tries, waited) = asks(lines, RETRY);
        assert!(
            tries == 1 && waited <= at_once,
            "{lines:?}: {tries} tries after {waited:?}"
        );
    }
}

#[test]
fn fault_055_longer_than_the_time_left_is_too_long() {
    let (tries, waited) = asks(&["retry-after: 2"], &RETRY.replace("5s", "1s"));
    assert!(tries == 1 && waited.is_zero(), "{waited:?}");
}

#[test]
fn fault_056_a_tenant_that_is_limited_does_not_eject_the_endpoint() {
    let upstream = Upstream::with(|_, request| match request.target.as_str() {
        "/limited" => Reply::new(429).header("retry-after: 1"),
        _ => Reply::new(200),
    });
    let policies = "circuit_breaker: { consecutive_failures: 3, min_requests: 5 }\nbulkhead: {}\n\
         retry: { on: [5xx, reset] }";
    let proxy = Proxy::before(&upstream, policies);
    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(client.get("/limited").status, 429);
    }
    assert_eq!(client.get("/other").status, 200);
    drop(client);
    expect_learnt(&proxy, 1, 0);
    assert_eq!(
        upstream.count(),
        51,
        "it is not asked again unless that was configured"
    );
    proxy.expect_metric("mamparo_attempts_total", &[("outcome", "ignored")], 50.0);
    proxy.expect_metric("mamparo_circuit_breaker_transitions_total", &[], 0.0);
}

#[test]
fn rule_51_what_the_client_did_wrong_does_not_eject_the_endpoint() {
    for status in [400, 401, 403, 404, 409, 422, 499, 501, 505] {
        let upstream = Upstream::always(status);
        let proxy = Proxy::before(
            &upstream,
            "circuit_breaker: { consecutive_failures: 2, min_requests: 2 }",
        );
        let mut client = proxy.client();
        for _ in 0..10 {
            assert_eq!(client.get("/").status, status);
        }
        assert_eq!(proxy.endpoint().window.unwrap().failures, 0, "{status}");
    }
}
