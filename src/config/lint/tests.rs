//! Each lint by a configuration that has it, and by one just beyond the boundary that has not.

use super::*;
use crate::config::{Loaded, parse};

fn loaded(yaml: &str) -> Loaded {
    match parse("a.yaml", yaml, &|_| None) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}\n{yaml}"),
    }
}

/// One upstream `pay` with these policies (one a line), and a listener that leads to it.
fn with(policies: &str) -> Vec<Lint> {
    let policies: String = policies
        .lines()
        .map(|line| format!("    {}\n", line.trim()))
        .collect();
    lint(&loaded(&format!(
        "listeners: {{ out: {{ address: 127.0.0.1:0, upstream: pay }} }}\nupstreams:\n  pay:\n    endpoints: [127.0.0.1:9001]\n{policies}"
    )))
}

/// Routes (one a line) to an upstream `pay` with a request timeout and a try timeout.
fn with_routes(routes: &str) -> Vec<Lint> {
    let routes: String = routes
        .lines()
        .map(|line| format!("      - {}\n", line.trim()))
        .collect();
    lint(&loaded(&format!(
        "listeners:\n  out:\n    address: 127.0.0.1:0\n    routes:\n{routes}upstreams:\n  pay:\n    endpoints: [127.0.0.1:9001]\n    timeouts: {{ request: 10s, try: 2s }}\n    retry: {{}}\n"
    )))
}

fn ids(lints: &[Lint]) -> Vec<&'static str> {
    lints.iter().map(|lint| lint.id).collect()
}

#[track_caller]
fn only<'a>(lints: &'a [Lint], id: &str) -> &'a Lint {
    assert_eq!(ids(lints), [id], "{lints:#?}");
    &lints[0]
}

const NONE: [&str; 0] = [];

#[test]
fn blocks_with_their_defaults_do_not_lint() {
    let lints = with(
        "timeouts: {}\nretry: {}\ncircuit_breaker: {}\nbulkhead: {}\nrate_limit: {}\npool: {}\nfallback: []",
    );
    assert_eq!(lints, []);
    assert_eq!(
        with("timeouts: {}\nretry: { on: [429, 5xx, retry_after] }\nbulkhead: { max_queue: 100 }"),
        []
    );
    assert_eq!(with(""), []);
}

#[test]
fn the_files_of_the_project_do_not_lint() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for name in ["example.yaml", "reference.yaml"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(lint(&loaded(&text)), [], "{name}");
    }
}

#[test]
fn rule_5_tries_that_exceed_the_request_timeout() {
    let lints = with("timeouts: { request: 5s, try: 2s }\nretry: {}");
    let lint = only(&lints, "tries-exceed-request-timeout");
    assert_eq!(
        lint.message,
        "3 tries × 2s + backoffs 25ms + 50ms = 6.075s > request timeout 5s: the third try cannot end"
    );
    assert_eq!(lint.path, "upstreams.pay.retry.max_attempts");
    assert_eq!(
        lint.place.as_ref().map(|place| place.line),
        Some(6),
        "the block `retry`"
    );
    assert_eq!(
        lint.to_string(),
        "a.yaml:6:5: upstreams.pay.retry.max_attempts: 3 tries × 2s + backoffs 25ms + 50ms = 6.075s > request timeout 5s: the third try cannot end [tries-exceed-request-timeout]\n   = help: fewer tries, a shorter `timeouts.try`, or a longer `timeouts.request`"
    );

    assert_eq!(
        ids(&with("timeouts: { request: 6075ms, try: 2s }\nretry: {}")),
        NONE
    );
    assert_eq!(
        ids(&with("timeouts: { request: 6074ms, try: 2s }\nretry: {}")).len(),
        1
    );
    assert_eq!(
        ids(&with(
            "timeouts: { request: 1s, try: 900ms }\nretry: { max_attempts: 1 }"
        )),
        NONE
    );
    let second = with(
        "timeouts: { request: 3s, try: 2s }\nretry: { max_attempts: 2, backoff: { base: 1s } }",
    );
    assert!(
        second[0].message.contains("+ backoff 1s = 5s"),
        "{second:?}"
    );
    assert!(
        second[0].message.ends_with("the second try cannot end"),
        "{second:?}"
    );
    let many = with("timeouts: { request: 30s, try: 2s }\nretry: { max_attempts: 20 }");
    assert!(
        many[0]
            .message
            .contains("20 tries × 2s + 19 backoffs of 14.575s together = 54.575s"),
        "{many:?}"
    );
    assert!(
        many[0].message.ends_with("the 12th try cannot end"),
        "{many:?}"
    );
}

#[test]
fn the_rule_of_a_class_may_exceed_it_alone() {
    let lints = with(
        "timeouts: { request: 5s, try: 2s }\nretry: { max_attempts: 2, by_class: { timeout: { max_attempts: 4 } } }",
    );
    let lint = only(&lints, "tries-exceed-request-timeout");
    assert_eq!(
        lint.path,
        "upstreams.pay.retry.by_class.timeout.max_attempts"
    );
    assert!(lint.message.starts_with("4 tries × 2s"), "{}", lint.message);
}

#[test]
fn rule_2_a_try_timeout_that_never_acts() {
    let equal = with("timeouts: { request: 5s, try: 5s }\nretry: {}");
    let lint = only(&equal, "try-timeout-not-below-request-timeout");
    assert!(
        lint.message
            .starts_with("try timeout 5s = request timeout 5s: "),
        "{}",
        lint.message
    );
    assert_eq!(
        lint.place
            .as_ref()
            .map(|place| (place.line, place.column))
            .map(|(line, _)| line),
        Some(5)
    );
    only(
        &with("timeouts: { request: 5s, try: 6s }"),
        "try-timeout-not-below-request-timeout",
    );
    assert_eq!(ids(&with("timeouts: { request: 5s, try: 4999ms }")), NONE);
    assert_eq!(
        ids(&with("timeouts: { request: none, try: 1h }\nretry: {}")),
        NONE
    );
}

#[test]
fn a_queue_that_takes_all_the_time() {
    let with = |queue: &str| {
        with(&format!(
            "timeouts: {{ request: 2s }}\nbulkhead: {{ {queue} }}"
        ))
    };
    only(
        &with("max_queue: 1, queue_timeout: 2s"),
        "queue-timeout-not-below-request-timeout",
    );
    assert_eq!(ids(&with("max_queue: 1, queue_timeout: 1999ms")), NONE);
    assert_eq!(ids(&with("max_queue: 0, queue_timeout: 2s")), NONE);
    assert_eq!(
        ids(&with(
            "max_queue: 1, queue_timeout: 2s, max_in_flight: none"
        )),
        NONE
    );
}

#[test]
fn rule_29_retries_without_a_budget() {
    let lints = with("retry: { budget: off, max_attempts: 2 }");
    let lint = only(&lints, "retry-without-budget");
    assert_eq!(
        lint.message,
        "2 tries without a budget: when the upstream fails it gets 2 times the traffic"
    );
    assert_eq!(ids(&with("retry: { budget: off, max_attempts: 1 }")), NONE);
    assert_eq!(ids(&with("retry: { budget: {} }")), NONE);
}

#[test]
fn unsafe_methods_that_are_retried_without_a_key() {
    only(&with("retry: { methods: all }"), "unsafe-method-retried");
    let listed = with("retry: { methods: [GET, PATCH] }");
    assert!(
        only(&listed, "unsafe-method-retried")
            .message
            .starts_with("PATCH is tried again")
    );
    assert_eq!(ids(&with("retry: { methods: [GET, PUT, DELETE] }")), NONE);
    assert_eq!(ids(&with("retry: { methods: idempotent }")), NONE);
    assert_eq!(ids(&with("retry: { methods: all, max_attempts: 1 }")), NONE);
    // Rule 15: what was not sent may be sent again, whatever it is.
    assert_eq!(
        ids(&with("retry: { methods: all, on: [connect_failure] }")),
        NONE
    );
}

#[test]
fn a_route_that_asks_for_the_key_or_has_safe_methods_only_may_retry_all() {
    let route = |extra: &str| {
        with_routes(&format!(
            "{{ upstream: pay, retry: {{ methods: all }}{extra} }}"
        ))
    };
    only(&route(""), "unsafe-method-retried");
    only(
        &route(", match: { methods: [GET, POST] }"),
        "unsafe-method-retried",
    );
    assert_eq!(ids(&route(", match: { methods: [GET, HEAD] }")), NONE);
    assert_eq!(
        ids(&route(
            ", match: { headers: { idempotency-key: { present: true } } }"
        )),
        NONE
    );
}

#[test]
fn rule_24_a_429_is_retried_and_its_retry_after_ignored() {
    only(
        &with("retry: { on: [429], respect_retry_after: false }"),
        "retry-after-ignored",
    );
    assert_eq!(
        ids(&with("retry: { on: [429], respect_retry_after: true }")),
        NONE
    );
    assert_eq!(
        ids(&with("retry: { on: [503], respect_retry_after: false }")),
        NONE
    );
}

#[test]
fn a_slow_call_that_is_a_timeout_before() {
    let with = |slow: &str, timeouts: &str| {
        with(&format!(
            "timeouts: {{ {timeouts} }}\ncircuit_breaker: {{ slow_rate: 50%, slow_call: {slow} }}"
        ))
    };
    let lints = with("2s", "try: 2s");
    assert!(
        only(&lints, "slow-call-not-below-try-timeout")
            .message
            .contains("slow_call 2s ≥ try timeout 2s")
    );
    assert_eq!(ids(&with("1999ms", "try: 2s")), NONE);
    let lints = with("15s", "");
    assert!(
        only(&lints, "slow-call-not-below-try-timeout")
            .message
            .contains("≥ request timeout 15s")
    );
    assert_eq!(ids(&with("14s", "")), NONE);
    assert_eq!(ids(&with("1h", "request: none")), NONE);
}

#[test]
fn min_requests_that_cannot_come() {
    let with = |limit: &str, rest: &str| {
        with(&format!(
            "rate_limit: {{ {limit} }}\ncircuit_breaker: {{ window: 10s, min_requests: 20 }}\n{rest}"
        ))
    };
    let lints = with("per_second: 1, burst: 9", "");
    assert_eq!(
        only(&lints, "min-requests-not-reachable").message,
        "rate_limit 1/s × window 10s + burst 9 = 19 requests < min_requests 20: no rate is ever taken"
    );
    assert_eq!(ids(&with("per_second: 1, burst: 10", "")), NONE);
    assert_eq!(
        ids(&with(
            "per_second: 1, burst: 9",
            "retry: { max_attempts: 2 }"
        )),
        NONE,
        "tries count"
    );
    assert_eq!(
        ids(&super::tests::with(
            "circuit_breaker: { min_requests: 1000000 }"
        )),
        NONE
    );
}

#[test]
fn routes_with_buckets_of_their_own_add_up() {
    let config = |second: &str| {
        lint(&loaded(&format!(
            "listeners: {{ out: {{ address: 127.0.0.1:0, routes: [{{ upstream: pay, match: {{ path: /a }} }}, {{ upstream: pay, match: {{ path: /b }} }}, {{ upstream: pay{second} }}] }} }}
upstreams: {{ pay: {{ endpoints: [127.0.0.1:1], rate_limit: {{ per_second: 1, burst: 4 }}, circuit_breaker: {{ window: 10s }} }} }}"
        )))
    };
    only(&config(""), "min-requests-not-reachable");
    assert_eq!(
        ids(&config(", rate_limit: { per_second: 0.1, burst: 5 }")),
        NONE,
        "14 + 6"
    );
    only(
        &config(", rate_limit: { per_second: 0.1, burst: 4 }"),
        "min-requests-not-reachable",
    );
    assert_eq!(ids(&config(", rate_limit: off")), NONE);
}

#[test]
fn rule_43_a_share_of_the_endpoints_that_is_none() {
    let with = |endpoints: &str, share: &str| {
        with_text(&format!(
            "listeners: {{ out: {{ address: 127.0.0.1:0, upstream: pay }} }}
upstreams: {{ pay: {{ endpoints: [{endpoints}], circuit_breaker: {{ max_open: {share} }} }} }}"
        ))
    };
    let three = "127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3";
    let lints = with(three, "30%");
    assert!(
        only(&lints, "max-open-rounds-to-zero")
            .message
            .starts_with("max_open 30% of 3 endpoints = 0.90")
    );
    assert_eq!(ids(&with(three, "34%")), NONE);
    assert_eq!(ids(&with(three, "33.33%")), NONE);
    assert_eq!(
        ids(&with("127.0.0.1:1", "10%")),
        NONE,
        "a single endpoint may open"
    );
    assert_eq!(
        ids(&with("a:1, b:2", "10%")),
        NONE,
        "a name may be any number of endpoints"
    );
}

fn with_text(text: &str) -> Vec<Lint> {
    lint(&loaded(text))
}

#[test]
fn open_for_that_ends_before_a_probe_does() {
    let with = |open_for: &str, timeouts: &str| {
        with(&format!(
            "timeouts: {{ {timeouts} }}\ncircuit_breaker: {{ open_for: {open_for} }}"
        ))
    };
    only(&with("1999ms", "try: 2s"), "open-for-below-probe");
    assert_eq!(ids(&with("2s", "try: 2s")), NONE);
    assert_eq!(ids(&with("1s", "request: 15s")), NONE, "no try timeout");
}

#[test]
fn a_fallback_body_that_is_no_json() {
    let with = |kind: &str, body: &str| {
        with(&format!(
            "fallback: [{{ on: [any], respond: {{ headers: {{ content-type: {kind} }}, body: '{body}' }} }}]"
        ))
    };
    let lints = with("application/json", "[1,");
    let lint = only(&lints, "fallback-body-not-json");
    assert_eq!(lint.path, "upstreams.pay.fallback[0].respond.body");
    only(
        &with("application/problem+json; charset=utf-8", "oops"),
        "fallback-body-not-json",
    );
    only(&with("application/json", ""), "fallback-body-not-json");
    assert_eq!(ids(&with("application/json", "[1]")), NONE);
    assert_eq!(ids(&with("text/plain", "[1,")), NONE);
}

#[test]
fn rule_72_a_fallback_body_where_none_may_be() {
    let with = |status: u16, body: &str| {
        with(&format!(
            "fallback: [{{ on: [any], respond: {{ status: {status}, headers: {{ content-type: application/json }}{body} }} }}]"
        ))
    };
    only(&with(204, ", body: 'x'"), "fallback-body-not-allowed");
    only(&with(304, ", body: 'x'"), "fallback-body-not-allowed");
    assert_eq!(ids(&with(204, "")), NONE);
    assert_eq!(ids(&with(205, ", body: '{}'")), NONE);
}

#[test]
fn rule_73_a_plain_fallback_where_grpc_calls_come() {
    let plain = "{ on: any, respond: { status: 503 } }";
    let named = "{ on: [unavailable], respond: { status: 503 } }";
    let call = "{ on: any, respond: { grpc_status: unavailable } }";
    let retry = "retry: { on: [unavailable], methods: all }";
    let with_all = |policies: &str, all: &[&str]| {
        with(&format!(
            "protocol: http2\n{policies}\nfallback: [{}]",
            all.join(", ")
        ))
    };
    assert_eq!(ids(&with_all("", &[plain])), NONE, "nothing speaks of gRPC");
    let lints = with_all(retry, &[plain]);
    let lint = only(&lints, "fallback-not-for-grpc");
    assert_eq!(lint.path, "upstreams.pay.fallback[0].respond");
    only(
        &with_all("circuit_breaker: { ignore: [unknown] }", &[plain]),
        "fallback-not-for-grpc",
    );
    only(&with_all("", &[named]), "fallback-not-for-grpc");
    let ours = named.replace("unavailable", "internal");
    assert_eq!(ids(&with_all("", &[&ours])), NONE, "a reason as well");
    assert_eq!(ids(&with_all(retry, &[plain, call])), NONE, "one for each");
    let lints = with_all(retry, &[named, call]);
    assert_eq!(
        only(&lints, "fallback-not-for-grpc").path,
        "upstreams.pay.fallback[0].respond"
    );
    for (kind, expected) in [
        ("application/grpc", true),
        ("{ regex: 'application/grpc.*' }", true),
        ("application/json", false),
    ] {
        let lints = with_routes(&format!(
            "{{ upstream: pay, match: {{ headers: {{ content-type: {kind} }} }}, fallback: [{plain}] }}"
        ));
        let all = ["fallback-not-for-grpc", "grpc-over-http1"];
        let expected = if expected { &all[..] } else { &[] };
        assert_eq!(ids(&lints), expected, "{kind}");
    }
}

#[test]
fn grpc_over_http1() {
    let with = |protocol: &str| {
        with(&format!(
            "{protocol}\nretry: {{ on: [unavailable], methods: all }}"
        ))
    };
    let lints = with("");
    assert_eq!(only(&lints, "grpc-over-http1").path, "upstreams.pay");
    only(&with("protocol: http1"), "grpc-over-http1");
    assert_eq!(ids(&with("protocol: http2")), NONE);
}

#[test]
fn grpc_codes_that_are_never_retried() {
    let lints = with("protocol: http2\nretry: { on: [unavailable, aborted] }");
    let lint = only(&lints, "grpc-never-retried");
    assert!(lint.message.contains("aborted, unavailable"), "{lint}");
    assert_eq!(lint.path, "upstreams.pay.retry.methods");
    for methods in ["all", "[POST]"] {
        assert_eq!(
            ids(&with(&format!(
                "protocol: http2\nretry: {{ on: [unavailable], methods: {methods} }}"
            ))),
            NONE
        );
    }
}

#[test]
fn a_route_that_an_earlier_one_leaves_nothing_to() {
    let shadowed = |first: &str, second: &str| {
        let lints = with_routes(&format!(
            "{{ name: first, upstream: pay, match: {first} }}\n{{ name: second, upstream: pay, match: {second} }}"
        ));
        match ids(&lints).as_slice() {
            [] => false,
            ["route-shadowed"] => {
                assert_eq!(lints[0].path, "listeners.out.routes[1]");
                assert_eq!(lints[0].place.as_ref().map(|place| place.line), Some(6));
                true
            }
            other => panic!("{other:?}"),
        }
    };
    for (first, second, expected) in [
        ("{}", "{ path: /a }", true),
        ("{}", "{}", true),
        ("{ path: /a }", "{}", false),
        ("{ path_prefix: / }", "{}", true),
        ("{ path_prefix: /a }", "{ path_prefix: /a/b }", true),
        ("{ path_prefix: /a }", "{ path: /a }", true),
        ("{ path_prefix: /a }", "{ path: /ab }", false),
        ("{ path_prefix: /a/b }", "{ path_prefix: /a }", false),
        ("{ path: /a }", "{ path_prefix: /a }", false),
        ("{ path: /a }", "{ path: /a }", true),
        ("{ path_regex: '/[ab]' }", "{ path: /b }", true),
        ("{ path_regex: '/[ab]' }", "{ path: /c }", false),
        ("{ path_regex: '/[ab]' }", "{ path_regex: '/[ab]' }", true),
        ("{ path_regex: '/[ab]' }", "{ path_regex: '/[a]' }", false),
        ("{ path_regex: '/.*' }", "{ path_prefix: /a }", false),
        ("{ host: a.b }", "{ host: a.b, path: /x }", true),
        ("{ host: a.b }", "{ host: A.B }", true),
        ("{ host: a.b }", "{ host: c.b }", false),
        ("{ host: '*.b' }", "{ host: a.b }", true),
        ("{ host: '*.b' }", "{ host: '*.a.b' }", true),
        ("{ host: '*.a.b' }", "{ host: '*.b' }", false),
        ("{ host: '*.b' }", "{ host: b }", false),
        ("{ host: a.b }", "{ host: '*.b' }", false),
        ("{ host: a.b }", "{ path: /x }", false),
        ("{ methods: [GET, POST] }", "{ methods: [POST] }", true),
        ("{ methods: [GET] }", "{ methods: [GET, POST] }", false),
        ("{ methods: [GET] }", "{}", false),
        (
            "{ headers: { a: '1' } }",
            "{ headers: { a: '1', b: '2' } }",
            true,
        ),
        (
            "{ headers: { a: '1', b: '2' } }",
            "{ headers: { a: '1' } }",
            false,
        ),
        (
            "{ headers: { a: { present: true } } }",
            "{ headers: { a: '1' } }",
            true,
        ),
        (
            "{ headers: { a: '1' } }",
            "{ headers: { a: { present: true } } }",
            false,
        ),
        (
            "{ headers: { a: { regex: '[12]' } } }",
            "{ headers: { a: '2' } }",
            true,
        ),
        (
            "{ headers: { a: { regex: '[12]' } } }",
            "{ headers: { a: '3' } }",
            false,
        ),
        (
            "{ query: { p: '1' } }",
            "{ query: { p: '1' }, path: /x }",
            true,
        ),
        ("{ query: { p: '1' } }", "{ query: { p: '2' } }", false),
        ("{ query: { p: '1' } }", "{ headers: { p: '1' } }", false),
    ] {
        assert_eq!(shadowed(first, second), expected, "{first} before {second}");
    }
}

#[test]
fn an_upstream_that_no_route_uses() {
    let text = "listeners: { out: { address: 127.0.0.1:0, upstream: pay } }
upstreams:
  pay: { endpoints: [127.0.0.1:1] }
  old: { endpoints: [127.0.0.1:2], retry: { budget: off } }";
    let lints = with_text(text);
    let lint = only(&lints, "upstream-unused");
    assert_eq!(
        (lint.path.as_str(), lint.message.as_str()),
        ("upstreams.old", "no route leads to upstream `old`")
    );
    assert_eq!(lint.place.as_ref().map(|place| place.line), Some(4));
}

#[test]
fn rule_65_a_pool_that_keeps_connections_longer_than_servers_do() {
    only(
        &with("pool: { idle_timeout: 5s }"),
        "pool-idle-timeout-above-keep-alive",
    );
    assert_eq!(ids(&with("pool: { idle_timeout: 4999ms }")), NONE);
}

#[test]
fn rule_7_a_request_timeout_on_what_looks_like_a_stream() {
    let route = |rest: &str| with_routes(&format!("{{ upstream: pay, {rest} }}"));
    for stream in [
        "name: order-stream",
        "match: { path_prefix: /v1/watch }",
        "match: { path: /api/long-poll }",
        "match: { path_regex: '/v[0-9]+/sse/.*' }",
        "match: { headers: { accept: text/event-stream } }",
        "match: { headers: { accept: { regex: '.*text/event-stream.*' } } }",
    ] {
        let lints = route(stream);
        let lint = only(&lints, "request-timeout-on-stream");
        assert_eq!(
            lint.path, "listeners.out.routes[0].timeouts.request",
            "{stream}"
        );
        assert_eq!(
            ids(&route(&format!("{stream}, timeouts: {{ request: none }}"))),
            NONE,
            "{stream}"
        );
    }
    for plain in [
        "name: events",
        "match: { path_prefix: /v1/watches }",
        "match: { path: /upstream }",
        "match: { headers: { accept: application/json } }",
        "match: { headers: { accept: { present: true } } }",
    ] {
        assert_eq!(ids(&route(plain)), NONE, "{plain}");
    }
}

#[test]
fn what_holds_for_an_upstream_is_told_once() {
    let lints = lint(&loaded(
        "listeners:
  out:
    address: 127.0.0.1:0
    routes:
      - { match: { path: /a }, upstream: pay }
      - { match: { path: /b }, upstream: pay, bulkhead: {} }
      - { match: { path: /c }, upstream: pay, timeouts: { request: 20s } }
      - { match: { path: /d }, upstream: pay, timeouts: { request: 3s } }
upstreams:
  pay:
    endpoints: [127.0.0.1:1]
    timeouts: { request: 5s, try: 2s }
    retry: {}",
    ));
    assert_eq!(ids(&lints), ["tries-exceed-request-timeout"; 2]);
    assert_eq!(lints[0].path, "listeners.out.routes[3].retry.max_attempts");
    assert_eq!(
        lints[0].place.as_ref().map(|place| place.line),
        Some(8),
        "the route makes it wrong"
    );
    assert_eq!(lints[1].path, "upstreams.pay.retry.max_attempts");
}

#[test]
fn what_no_route_leaves_as_it_is_is_not_told() {
    let lints = with_routes("{ upstream: pay, timeouts: { try: 100ms } }");
    assert_eq!(lints, []);
    let overridden = lint(&loaded(
        "listeners: { out: { address: 127.0.0.1:0, routes: [{ upstream: pay, timeouts: { request: 20s } }] } }
upstreams: { pay: { endpoints: [127.0.0.1:1], timeouts: { request: 1s, try: 2s } } }",
    ));
    assert_eq!(overridden, []);
}

#[test]
fn what_upstreams_inherit_from_defaults_is_told_once() {
    let lints = lint(&loaded(
        "defaults:
  retry:
    budget: off
listeners:
  out:
    address: 127.0.0.1:0
    routes: [{ match: { path: /a }, upstream: a }, { match: { path: /b }, upstream: b }, { upstream: c }]
upstreams:
  a: { endpoints: [127.0.0.1:1] }
  b: { endpoints: [127.0.0.1:2] }
  c: { endpoints: [127.0.0.1:3], retry: { budget: {} } }",
    ));
    let lint = only(&lints, "retry-without-budget");
    assert_eq!(lint.place.as_ref().map(|place| place.line), Some(3));
    assert_eq!(lint.path, "upstreams.a.retry.budget");
    assert!(
        lint.message.ends_with("(likewise upstream `b`)"),
        "{}",
        lint.message
    );
}

#[test]
fn a_default_inside_of_a_block_of_defaults_is_told_once_too() {
    let lints = lint(&loaded(
        "defaults: { timeouts: { request: 5s, try: 2s }, retry: {} }
listeners: { out: { address: 127.0.0.1:0, routes: [{ match: { path: /a }, upstream: a }, { upstream: b }] } }
upstreams: { a: { endpoints: [127.0.0.1:1] }, b: { endpoints: [127.0.0.1:2] } }",
    ));
    only(&lints, "tries-exceed-request-timeout");
}

#[test]
fn where_spans_go() {
    let with = |tracing: &str| {
        lint(&loaded(&format!(
            "tracing: {{ {tracing} }}\nlisteners: {{ out: {{ address: 127.0.0.1:0, upstream: pay }} }}\n\
             upstreams: {{ pay: {{ endpoints: [127.0.0.1:1] }} }}"
        )))
    };
    only(
        &with("otlp: http://otel.test:4317"),
        "collector-port-of-grpc",
    );
    let lints = with("otlp: http://otel.test:4318, headers: { authorization: Bearer t0ken }");
    let lint = only(&lints, "collector-headers-in-plaintext");
    assert_eq!(lint.path, "tracing.headers");
    assert_eq!(lint.place.as_ref().map(|place| place.line), Some(1));
    assert!(!format!("{lint}").contains("t0ken"), "{lint}");
    for fine in [
        "otlp: http://otel.test:4318",
        "otlp: https://otel.test:4318, headers: { a: b }",
        "otlp: http://127.0.0.1:4318, headers: { a: b }",
        "otlp: http://localhost:4318, headers: { a: b }",
        "otlp: \"http://[::1]:4318\", headers: { a: b }",
    ] {
        assert_eq!(with(fine), [], "{fine}");
    }
}
