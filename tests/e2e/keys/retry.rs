//! `retry`: how often, for what, for whom, after how long, and what it may cost.

use std::time::{Duration, Instant};

use crate::support::{Proxy, Refused, Reply, Upstream};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("retry.max_attempts", max_attempts),
    ("retry.on", on),
    ("retry.methods", methods),
    ("retry.backoff", backoff_kind_and_base),
    ("retry.budget", budget_ratio),
    ("retry.respect_retry_after", respect_retry_after),
    ("retry.max_retry_after", max_retry_after),
    ("retry.max_body", max_body),
    ("retry.by_class", by_class_max_attempts),
    ("backoff.kind", backoff_kind_and_base),
    ("backoff.base", backoff_kind_and_base),
    ("backoff.max", backoff_max),
    ("backoff.jitter", backoff_jitter),
    ("budget.ratio", budget_ratio),
    ("budget.min_per_second", budget_min_per_second),
    ("budget.window", budget_window),
    ("by_class.transient", by_class_max_attempts),
    ("by_class.timeout", by_class_max_attempts),
    ("by_class.rate_limited", by_class_max_attempts),
    ("by_class.unavailable", by_class_unavailable),
    ("class_rule.max_attempts", by_class_max_attempts),
    ("class_rule.backoff", by_class_backoff),
    ("class_backoff.kind", by_class_backoff),
    ("class_backoff.base", by_class_backoff),
    ("class_backoff.max", by_class_backoff),
    ("class_backoff.jitter", by_class_backoff),
];

/// Retries without a pause and without a bound, but for these settings.
fn quick(settings: &str) -> String {
    format!("retry: {{ backoff: {{ base: 0s }}, budget: off, {settings} }}")
}

/// How many requests reach an upstream that always does this, and what the client gets.
#[track_caller]
fn tries(act: impl Into<Reply>, policies: &str, request: (&str, &[&str], &[u8])) -> (usize, u16) {
    let upstream = Upstream::always(act);
    let proxy = Proxy::before(&upstream, policies);
    let (method, headers, body) = request;
    let status = proxy.request(method, "/", headers, body).status;
    (upstream.count(), status)
}

const GET: (&str, &[&str], &[u8]) = ("GET", &[], b"");

#[test]
fn max_attempts() {
    let upstream = Upstream::script([503, 503, 200]);
    let proxy = Proxy::before(&upstream, &quick("max_attempts: 2"));
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (503, "503"));
    assert_eq!(answer.header("x-mamparo-attempts").as_deref(), Some("2"));
    assert_eq!(upstream.count(), 2);
    proxy.expect_metric("mamparo_retries_total", &[("class", "transient")], 1.0);
    proxy.expect_metric("mamparo_retries_denied_total", &[("why", "attempts")], 1.0);
    assert_eq!(proxy.only_line()["retry_denied"], "attempts");

    let upstream = Upstream::script([503, 503, 200]);
    let proxy = Proxy::before(&upstream, &quick("max_attempts: 3"));
    assert_eq!(proxy.get("/").status, 200);
    proxy.expect_metric("mamparo_retries_total", &[("upstream", "u")], 2.0);
    proxy.expect_metric("mamparo_retries_denied_total", &[], 0.0);
    proxy.expect_metric("mamparo_attempts_total", &[("outcome", "failure")], 2.0);
    proxy.expect_metric("mamparo_attempts_total", &[("outcome", "success")], 1.0);
}

#[test]
fn on() {
    for (on, act, made) in [
        ("[503]", Reply::new(503), 2),
        ("[503]", Reply::new(502), 1),
        ("[5xx]", Reply::new(500), 2),
        // Rule 18: asking again does not make it known.
        ("[5xx]", Reply::new(501), 1),
        ("[429]", Reply::new(429), 2),
        ("[409]", Reply::new(409), 2),
        ("[reset]", Reply::close(), 2),
        ("[503]", Reply::close(), 1),
        ("[protocol_error]", Reply::raw("what?\r\n\r\n"), 2),
        ("[reset]", Reply::raw("what?\r\n\r\n"), 1),
        ("[try_timeout]", Reply::stall(), 2),
        ("[timeout]", Reply::stall(), 2),
        ("[connect_timeout]", Reply::stall(), 1),
        ("[retry_after]", Reply::new(500).header("retry-after: 0"), 2),
        ("[retry_after]", Reply::new(500), 1),
        // Rule 14: one condition that does not hold hides no other.
        ("[retry_after, reset, 500]", Reply::new(500), 2),
    ] {
        let seen = format!("{on} {act:?}");
        let policies = quick(&format!("max_attempts: 2, on: {on}"));
        let policies = format!("timeouts: {{ try: 200ms }}\n{policies}");
        assert_eq!(tries(act, &policies, GET).0, made, "{seen}");
    }
    // connect_failure, and the default list, on two endpoints of which one refuses.
    let (refusing, upstream) = (Refused::new(), Upstream::always(200));
    let policies = "balance: round_robin\n".to_owned() + &quick("on: [connect_failure]");
    let proxy = Proxy::to(&[refusing.address, upstream.address()], &policies);
    for _ in 0..4 {
        assert_eq!(
            proxy.get("/").status,
            200,
            "rule 28: another endpoint is preferred"
        );
    }
}

/// Rules 15 and 16, fault 46: a request that may have been processed is sent again only where that is
/// safe; one that was not sent is sent again whatever it is.
#[test]
fn methods() {
    let key: &[&str] = &["idempotency-key: 1"];
    for (methods, request, made) in [
        ("idempotent", ("GET", &[][..], &b""[..]), 2),
        ("idempotent", ("PUT", &[], b"x"), 2),
        ("idempotent", ("DELETE", &[], b""), 2),
        ("idempotent", ("POST", &[], b"x"), 1),
        ("idempotent", ("POST", &[], b""), 1),
        ("idempotent", ("PATCH", &[], b"x"), 1),
        ("idempotent", ("POST", key, b"x"), 2),
        ("idempotent", ("PATCH", key, b"x"), 2),
        ("all", ("POST", &[], b"x"), 2),
        ("[POST]", ("POST", &[], b"x"), 2),
        ("[POST]", ("GET", &[], b""), 1),
        ("[GET]", ("POST", key, b"x"), 1),
    ] {
        let policies = quick(&format!("max_attempts: 2, methods: {methods}"));
        for act in [Reply::close(), Reply::new(503)] {
            assert_eq!(
                tries(act, &policies, request).0,
                made,
                "{methods} {request:?}"
            );
        }
    }
    let (refusing, upstream) = (Refused::new(), Upstream::always(200));
    let policies = "balance: round_robin\n".to_owned() + &quick("");
    let proxy = Proxy::to(&[refusing.address, upstream.address()], &policies);
    for sent in 1..=4 {
        assert_eq!(proxy.request("POST", "/", &[], b"once").status, 200);
        assert_eq!(upstream.count(), sent, "each POST is processed once");
    }
    let retried: usize = proxy
        .logged(4)
        .iter()
        .filter(|line| line["tries"].as_array().unwrap().len() == 2)
        .count();
    assert_eq!(retried, 2, "each that met the refusing endpoint first");
}

#[test]
fn a_post_that_is_denied_says_why() {
    let upstream = Upstream::always(Reply::close());
    let proxy = Proxy::before(&upstream, &quick(""));
    let answer = proxy.request("POST", "/", &[], b"money");
    assert_eq!(answer.reason().as_deref(), Some("reset"));
    proxy.expect_metric("mamparo_retries_denied_total", &[("why", "method")], 1.0);
    assert_eq!(proxy.only_line()["retry_denied"], "method");
    assert_eq!(upstream.count(), 1);
}

/// The waits of a request that is tried four times, in milliseconds.
#[track_caller]
fn waits(act: impl Into<Reply>, backoff: &str) -> Vec<f64> {
    let upstream = Upstream::always(act);
    let retry = format!("retry: {{ max_attempts: 4, budget: off, backoff: {backoff} }}");
    let proxy = Proxy::before(&upstream, &retry);
    let began = Instant::now();
    assert_eq!(proxy.get("/").status, 503);
    let took = began.elapsed().as_secs_f64() * 1000.0;
    let line = proxy.only_line();
    let tries = line["tries"].as_array().unwrap();
    assert_eq!(tries.len(), 4);
    assert!(tries[0].get("waited_ms").is_none());
    let waits: Vec<f64> = tries[1..]
        .iter()
        .map(|one| one["waited_ms"].as_f64().unwrap_or_default())
        .collect();
    let sum: f64 = waits.iter().sum();
    assert!(took >= sum, "{took} ms, and the waits were {waits:?}");
    if sum > 0.0 {
        assert!((line["backoff_ms"].as_f64().unwrap() - sum).abs() < 0.01);
    }
    waits
}

#[test]
fn backoff_kind_and_base() {
    for (kind, expected) in [
        ("exponential", [20.0, 40.0, 80.0]),
        ("linear", [20.0, 40.0, 60.0]),
        ("fixed", [20.0, 20.0, 20.0]),
    ] {
        let backoff = format!("{{ kind: {kind}, base: 20ms, jitter: none }}");
        assert_eq!(waits(503, &backoff), expected, "{kind}");
    }
    assert_eq!(waits(503, "{ base: 0s }"), [0.0; 3]);
}

#[test]
fn backoff_max() {
    let waited = waits(503, "{ base: 20ms, max: 30ms, jitter: none }");
    assert_eq!(waited, [20.0, 30.0, 30.0]);
}

#[test]
fn backoff_jitter() {
    let most = [40.0, 80.0, 160.0];
    let equal = waits(503, "{ base: 40ms, jitter: equal }");
    for (wait, most) in equal.iter().zip(most) {
        assert!((most / 2.0..=most).contains(wait), "{equal:?}");
    }
    let full = waits(503, "{ base: 40ms, jitter: full }");
    for (wait, most) in full.iter().zip(most) {
        // Rule 23: a wait that there is takes at least a millisecond.
        assert!((1.0..=most).contains(wait), "{full:?}");
    }
    assert!(equal != most && full != most, "chance decides");
}

/// Sends so many requests that fail and gives how many were tried again.
#[track_caller]
fn retried(proxy: &Proxy, upstream: &Upstream, requests: usize) -> usize {
    let before = upstream.count();
    for _ in 0..requests {
        assert_eq!(proxy.get("/").status, 503);
    }
    upstream.count() - before - requests
}

fn with_budget(upstream: &Upstream, budget: &str) -> Proxy {
    let retry = format!("retry: {{ max_attempts: 2, backoff: {{ base: 0s }}, budget: {budget} }}");
    Proxy::before(upstream, &retry)
}

/// Rule 29.
#[test]
fn budget_ratio() {
    let upstream = Upstream::always(503);
    let proxy = with_budget(&upstream, "{ ratio: 20%, min_per_second: 0 }");
    assert_eq!(retried(&proxy, &upstream, 20), 4);
    proxy.expect_metric("mamparo_retries_denied_total", &[("why", "budget")], 16.0);
    proxy.expect_metric("mamparo_retry_budget_tokens", &[("upstream", "u")], 0.0);
    let proxy = with_budget(&upstream, "off");
    assert_eq!(retried(&proxy, &upstream, 20), 20);
}

#[test]
fn budget_min_per_second() {
    let upstream = Upstream::always(503);
    let proxy = with_budget(&upstream, "{ ratio: 0%, min_per_second: 0.3, window: 10s }");
    assert_eq!(retried(&proxy, &upstream, 10), 3);
}

#[test]
fn budget_window() {
    let upstream = Upstream::always(503);
    let proxy = with_budget(
        &upstream,
        "{ ratio: 0%, min_per_second: 10, window: 200ms }",
    );
    let began = Instant::now();
    let first = retried(&proxy, &upstream, 10);
    if began.elapsed() < Duration::from_millis(150) {
        assert_eq!(first, 2);
    }
    std::thread::sleep(Duration::from_millis(250));
    let again = retried(&proxy, &upstream, 1);
    assert_eq!(again, 1, "what was spent counts for 200 ms only");
}

/// Rule 24, fault 55: seconds and a date, never earlier than asked for.
#[test]
fn respect_retry_after() {
    let seconds = Reply::new(503).header("retry-after: 1");
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(2));
    let date = Reply::new(503).header(&format!("retry-after: {date}"));
    let past = Reply::new(503).header("retry-after: Sun, 06 Nov 1994 08:49:37 GMT");
    let garbage = Reply::new(503).header("retry-after: soon");
    let two = Reply::new(503)
        .header("retry-after: x")
        .header("retry-after: 1");
    for (act, settings, least, most) in [
        (seconds.clone(), "", 1000.0, 1500.0),
        (date, "", 1.0, 3000.0),
        (two, "", 1000.0, 1500.0),
        (past, "", 0.0, 25.0),
        (garbage, "", 0.0, 25.0),
        (seconds, "respect_retry_after: false", 0.0, 25.0),
    ] {
        let seen = format!("{act:?}");
        let upstream = Upstream::script([act, Reply::new(200)]);
        let retry = format!("retry: {{ budget: off, {settings} }}");
        let proxy = Proxy::before(&upstream, &retry);
        let began = Instant::now();
        assert_eq!(proxy.get("/").status, 200);
        let waited = proxy.only_line()["tries"][1]["waited_ms"].as_f64();
        let waited = waited.unwrap_or_default();
        assert!((least..=most).contains(&waited), "{waited} for {seen}");
        assert!(began.elapsed().as_secs_f64() * 1000.0 >= waited);
    }
}

#[test]
fn max_retry_after() {
    let act = Reply::new(503)
        .header("retry-after: 3600")
        .body("come back later");
    let upstream = Upstream::always(act);
    let proxy = Proxy::before(&upstream, "retry: { max_retry_after: 3599s }");
    let answer = proxy.get("/");
    assert_eq!((answer.status, upstream.count()), (503, 1));
    assert_eq!(
        answer.header("retry-after").as_deref(),
        Some("3600"),
        "passed on"
    );
    assert_eq!(answer.text(), "come back later");
    proxy.expect_metric("mamparo_retries_denied_total", &[("why", "deadline")], 1.0);
}

/// Rule 19: the same bytes again, exactly once; over the limit streamed on and not sent again.
#[test]
fn max_body() {
    let kept: Vec<u8> = (0..100_u8).cycle().take(1000).collect();
    let chunked =
        b"POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: 1\r\ntransfer-encoding: chunked\r\n\r\n";
    for (length, made, status) in [(1000, 3, 200), (999, 1, 503)] {
        let policies = quick(&format!("max_body: {length}B"));
        let upstream = Upstream::script([503, 503, 200]);
        let proxy = Proxy::before(&upstream, &policies);
        assert_eq!(proxy.request("PUT", "/", &[], &kept).status, status);
        assert_eq!(upstream.count(), made);
        assert!(
            upstream
                .received()
                .iter()
                .all(|one| one.body == kept && one.complete)
        );
        let denied = f64::from(u8::from(made == 1));
        proxy.expect_metric("mamparo_retries_denied_total", &[("why", "body")], denied);

        // Chunk by chunk, with the first try answered before the rest came is the next test's.
        let upstream = Upstream::script([503, 503, 200]);
        let proxy = Proxy::before(&upstream, &policies);
        let mut client = proxy.client();
        client.send(chunked);
        for part in kept.chunks(300) {
            client.send(format!("{:x}\r\n", part.len()));
            client.send(part).send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.answer().status, status);
        assert_eq!(upstream.count(), made);
        assert!(
            upstream
                .received()
                .iter()
                .all(|one| one.body == kept && one.complete)
        );
        assert_eq!(proxy.only_line()["bytes_in"], 1000);
    }
}

/// The tries of a request that fails in that way while its class has a rule and the others do not.
#[test]
fn by_class_max_attempts() {
    for (class, act, made) in [
        ("transient", Reply::new(503), 4),
        ("transient", Reply::close(), 4),
        ("transient", Reply::stall(), 2),
        ("timeout", Reply::stall(), 4),
        ("timeout", Reply::new(504), 4),
        ("timeout", Reply::new(503), 2),
        ("rate_limited", Reply::new(429), 4),
        ("rate_limited", Reply::new(503), 2),
    ] {
        let seen = format!("{class} {act:?}");
        let on = "on: [reset, timeout, 429, 503, 504]";
        let settings =
            format!("max_attempts: 2, {on}, by_class: {{ {class}: {{ max_attempts: 4 }} }}");
        let policies = format!("timeouts: {{ try: 200ms }}\n{}", quick(&settings));
        assert_eq!(tries(act, &policies, GET).0, made, "{seen}");
    }
}

/// Rule 27: a refusal of ours is not tried again; the rule has nothing to rule over.
#[test]
fn by_class_unavailable() {
    let upstream = Upstream::always(200);
    let settings = quick("by_class: { unavailable: { max_attempts: 7 } }");
    let policies = format!("circuit_breaker: {{}}\n{settings}");
    let proxy = Proxy::before(&upstream, &policies);
    proxy.force(upstream.address(), "open");
    assert_eq!(proxy.get("/").reason().as_deref(), Some("breaker_open"));
    proxy.expect_metric("mamparo_retries_total", &[], 0.0);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn by_class_backoff() {
    let own = "kind: linear, base: 30ms, max: 50ms, jitter: none";
    let upstream = Upstream::always(503);
    let retry = format!(
        "retry: {{ max_attempts: 4, budget: off, backoff: {{ base: 1ms, jitter: none }}, \
         by_class: {{ transient: {{ backoff: {{ {own} }} }} }} }}"
    );
    let proxy = Proxy::before(&upstream, &retry);
    assert_eq!(proxy.get("/").status, 503);
    let line = proxy.only_line();
    let waited: Vec<&serde_json::Value> =
        (1..4).map(|at| &line["tries"][at]["waited_ms"]).collect();
    assert_eq!(waited, [30.0, 50.0, 50.0]);

    // What a class does not set is the block's own.
    let upstream = Upstream::script([429, 503, 200]);
    let retry = "retry: { on: [429, 503], budget: off, backoff: { base: 2ms, jitter: none }, \
                 by_class: { rate_limited: { backoff: { base: 40ms } } } }";
    let proxy = Proxy::before(&upstream, retry);
    assert_eq!(proxy.get("/").status, 200);
    let line = proxy.only_line();
    assert_eq!(line["tries"][1]["waited_ms"], 40.0);
    assert_eq!(line["tries"][2]["waited_ms"], 4.0);
}
