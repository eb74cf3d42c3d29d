//! What a fault leaves behind: how it is told in metrics and log, and what the breaker learnt.

use crate::support::Proxy;

/// Policies under which everything that could be left behind shows: seats, a breaker that learns, and
/// short times.
pub(crate) const WATCHED: &str = "bulkhead: { max_in_flight: 8 }\ncircuit_breaker: { consecutive_failures: 100, failure_rate: none }\n\
     timeouts: { connect: 500ms, request: 3s, idle: 300ms }";

/// The same with retries that wait for nothing.
pub(crate) fn watched_with_retries() -> String {
    format!("{WATCHED}\nretry: {{ backoff: {{ base: 1ms, max: 1ms }} }}")
}

/// One request was told of, in metrics and log alike: its outcome, and the reason if there is one.
#[track_caller]
pub(crate) fn expect_told(proxy: &Proxy, outcome: &str, reason: Option<&str>) {
    expect_all_told(proxy, 1, outcome, reason);
}

/// The same of so many requests, and of no other.
#[track_caller]
pub(crate) fn expect_all_told(proxy: &Proxy, count: usize, outcome: &str, reason: Option<&str>) {
    for line in proxy.logged(count) {
        assert_eq!(line["outcome"], outcome, "{line:#}");
        assert_eq!(line["reason"].as_str(), reason, "{line:#}");
    }
    let count = count as f64;
    proxy.expect_metric("mamparo_requests_total", &[("outcome", outcome)], count);
    proxy.expect_metric("mamparo_requests_total", &[], count);
    if let Some(reason) = reason {
        proxy.expect_metric("mamparo_failures_total", &[("reason", reason)], count);
    }
    let failures = if reason.is_some() { count } else { 0.0 };
    proxy.expect_metric("mamparo_failures_total", &[], failures);
}

/// What the breaker of the only endpoint has seen: calls, and failures among them.
#[track_caller]
pub(crate) fn expect_learnt(proxy: &Proxy, calls: u64, failures: u64) {
    let window = proxy.endpoint().window.expect("there is a breaker");
    assert_eq!(
        (window.total, window.failures),
        (calls, failures),
        "calls and failures that the breaker has seen"
    );
}
