//! `fallback`: for what, with what, and that the failure beneath is not forgotten.

use crate::support::{Proxy, Refused, Reply, Upstream};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("fallback.on", on),
    ("fallback.respond", respond),
    ("respond.status", respond),
    ("respond.headers", respond),
    ("respond.body", respond),
    ("respond.body_file", body_file),
    ("respond.grpc_status", grpc_status),
];

fn fallback(on: &str) -> String {
    format!("fallback: [{{ on: {on}, respond: {{ body: instead }} }}]")
}

#[test]
fn on() {
    for (on, act, instead) in [
        ("[5xx]", Reply::new(503), true),
        ("[5xx]", Reply::new(404), false),
        ("[404]", Reply::new(404), true),
        ("[503]", Reply::new(502), false),
        ("[any]", Reply::new(500), true),
        ("[any]", Reply::new(404), false),
        ("[any]", Reply::close(), true),
        ("[reset]", Reply::close(), true),
        ("[5xx]", Reply::close(), false),
        ("[timeout]", Reply::stall(), true),
        ("[try_timeout]", Reply::stall(), true),
        ("[request_timeout]", Reply::stall(), false),
        ("[reset, 503]", Reply::new(503), true),
        ("[any]", Reply::new(200), false),
    ] {
        let seen = format!("{on} {act:?}");
        let upstream = Upstream::always(act);
        let policies = format!("timeouts: {{ try: 200ms }}\n{}", fallback(on));
        let proxy = Proxy::before(&upstream, &policies);
        let answer = proxy.get("/");
        let kind = answer.header("x-mamparo-fallback");
        assert_eq!(kind.as_deref(), instead.then_some("respond"), "{seen}");
        assert_eq!(answer.text() == "instead", instead, "{seen}");
    }
}

/// Whoever answers, the client is told how often it was tried.
#[test]
fn tries_are_told_whoever_answers() {
    let upstream = Upstream::always(Reply::new(503));
    let retry = "retry: { max_attempts: 2, methods: all, backoff: { base: 1ms } }";
    let proxy = Proxy::before(&upstream, &format!("{retry}\n{}", fallback("any")));
    let answer = proxy.get("/");
    assert_eq!(answer.text(), "instead");
    assert_eq!(answer.header("x-mamparo-attempts").as_deref(), Some("2"));
}

/// Rule 73: a call gets an answer in its own words; another request does not.
#[test]
fn grpc_status() {
    let upstream = Upstream::always(Reply::close());
    let policies = "fallback: [{ on: any, respond: { grpc_status: not_found, body: gone } }]";
    let proxy = Proxy::before(&upstream, policies);
    let call = ["content-type: application/grpc", "te: trailers"];
    let answer = proxy.request("POST", "/shop.Shop/Get", &call, b"");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("grpc-status").as_deref(), Some("5"));
    assert_eq!(answer.header("grpc-message").as_deref(), Some("gone"));
    assert_eq!(
        answer.header("x-mamparo-fallback").as_deref(),
        Some("respond")
    );
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (502, Some("reset"))
    );
}

#[test]
fn on_refusals_of_our_own() {
    let upstream = Upstream::always(200);
    let policies = fallback("[breaker_open]") + "\ncircuit_breaker: {}";
    let proxy = Proxy::before(&upstream, &policies);
    proxy.force(upstream.address(), "open");
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "instead"));
    assert_eq!(answer.reason().as_deref(), Some("breaker_open"));

    let policies = fallback("[rate_limited]") + "\nrate_limit: { per_second: 0.01, burst: 1 }";
    let proxy = Proxy::before(&upstream, &policies);
    assert_eq!(proxy.get("/").text(), "200");
    assert_eq!(proxy.get("/").text(), "instead");
}

/// Rules 74 and 88: the failure beneath counts, and the request counts once.
#[test]
fn rule_074_the_failure_beneath_counts() {
    let refusing = Refused::new();
    let policies = fallback("[connect_failure]") + "\ncircuit_breaker: {}";
    let proxy = Proxy::to(&[refusing.address], &policies);
    assert_eq!(proxy.get("/").status, 200);
    proxy.expect_metric("mamparo_requests_total", &[("outcome", "fallback")], 1.0);
    proxy.expect_metric("mamparo_requests_total", &[], 1.0);
    proxy.expect_metric(
        "mamparo_failures_total",
        &[("reason", "connect_failure")],
        1.0,
    );
    let labels = [
        ("upstream", "u"),
        ("kind", "respond"),
        ("reason", "connect_failure"),
    ];
    proxy.expect_metric("mamparo_fallbacks_total", &labels, 1.0);
    assert_eq!(proxy.window().failures, 1);
    let line = proxy.only_line();
    assert_eq!(line["outcome"], "fallback");
    assert_eq!(line["fallback"], "respond");
    assert_eq!(line["reason"], "connect_failure");
}

#[test]
fn it_comes_after_the_last_try() {
    let upstream = Upstream::always(503);
    let policies = fallback("[503]") + "\nretry: { backoff: { base: 1ms } }";
    let proxy = Proxy::before(&upstream, &policies);
    assert_eq!(proxy.get("/").text(), "instead");
    assert_eq!(upstream.count(), 3);
    let labels = [("upstream", "u"), ("kind", "respond")];
    proxy.expect_metric("mamparo_fallbacks_total", &labels, 1.0);
}

#[test]
fn the_first_that_holds_answers() {
    let policies = "fallback:\n\
                    - { on: [500], respond: { body: first } }\n\
                    - { on: [5xx], respond: { body: second } }\n\
                    - { on: [any], respond: { body: third } }";
    for (status, text) in [(500, "first"), (503, "second")] {
        let upstream = Upstream::always(status);
        assert_eq!(Proxy::before(&upstream, policies).get("/").text(), text);
    }
    let refusing = Refused::new();
    let proxy = Proxy::to(&[refusing.address], policies);
    assert_eq!(proxy.get("/").text(), "third");
}

#[test]
fn respond() {
    let refusing = Refused::new();
    let policies = "fallback: [{ on: [any], respond: { status: 203, \
                    headers: { content-type: application/json, x-own: yes }, body: '{\"items\": []}' } }]";
    let proxy = Proxy::to(&[refusing.address], policies);
    let answer = proxy.get("/");
    assert_eq!(answer.status, 203);
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/json")
    );
    assert_eq!(answer.header("x-own").as_deref(), Some("yes"));
    assert_eq!(answer.header("content-length").as_deref(), Some("13"));
    assert_eq!(
        answer.header("cache-control").as_deref(),
        Some("no-store"),
        "rule 77"
    );
    assert!(answer.header("x-request-id").is_some());
    assert_eq!(answer.json()["items"], serde_json::json!([]));

    // Rule 72, fault 79: no body where there must be none, and its length for HEAD.
    let mut client = proxy.client();
    let head = client.request("HEAD", "/", &[], b"").answer_to("HEAD");
    assert_eq!(head.status, 203);
    assert_eq!(head.header("content-length").as_deref(), Some("13"));
    assert_eq!(
        client.get("/").status,
        203,
        "nothing of a body lies in between"
    );

    let proxy = Proxy::to(
        &[refusing.address],
        "fallback: [{ on: [any], respond: { status: 204 } }]",
    );
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(answer.header("content-length"), None);
    }
}

/// What the upstream said of its own body is not said of ours.
#[test]
fn nothing_of_the_failed_answer_is_left() {
    let act = Reply::new(503)
        .header("content-encoding: gzip")
        .header("etag: \"1\"")
        .header("set-cookie: a=b");
    let upstream = Upstream::always(act);
    let answer = Proxy::before(&upstream, &fallback("[503]")).get("/");
    for name in ["content-encoding", "etag", "set-cookie", "retry-after"] {
        assert_eq!(answer.header(name), None);
    }
}

#[test]
fn body_file() {
    let refusing = Refused::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body.json");
    std::fs::write(&path, "{\"from\": \"a file\"}").unwrap();
    let respond = format!("{{ body_file: {} }}", path.display());
    let policies = format!("fallback: [{{ on: [any], respond: {respond} }}]");
    let proxy = Proxy::to(&[refusing.address], &policies);
    assert_eq!(proxy.get("/").json()["from"], "a file");
}
