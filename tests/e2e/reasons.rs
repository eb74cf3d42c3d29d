//! Every failure reason, provoked: the answer, its headers and body, the metrics, the access line, and
//! what the endpoint's breaker learnt are the same wherever one looks (rule 94).
//!
//! `tls_failure` cannot occur in this release: connections are plaintext.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use mamparo::live::wire::Dialer;
use mamparo::policy::outcome::Reason;
use serde_json::Value;

use crate::support::proxy::single;
use crate::support::{Answer, BlackHole, Gate, Proxy, Refused, Reply, Upstream};

/// What a reason is everywhere.
struct Told {
    reason: &'static str,
    status: u16,
    error_code: &'static str,
    /// The type that RFC 9209 registers.
    error: &'static str,
    outcome: &'static str,
    class: &'static str,
}

const fn told(
    reason: &'static str,
    status: u16,
    error_code: &'static str,
    error: &'static str,
    outcome: &'static str,
    class: &'static str,
) -> Told {
    Told {
        reason,
        status,
        error_code,
        error,
        outcome,
        class,
    }
}

#[rustfmt::skip]
const REASONS: [Told; 20] = [
    told("no_route", 404, "NO_ROUTE", "destination_not_found", "refused", "local"),
    told("bad_request", 400, "BAD_REQUEST", "http_request_error", "refused", "local"),
    told("header_too_large", 431, "HEADER_TOO_LARGE", "http_request_error", "refused", "local"),
    told("body_too_large", 413, "BODY_TOO_LARGE", "http_request_error", "refused", "local"),
    told("header_timeout", 408, "HEADER_TIMEOUT", "http_request_error", "refused", "local"),
    told("rate_limited", 429, "RATE_LIMIT_EXCEEDED", "http_request_denied", "refused", "local"),
    told("too_many_in_flight", 503, "BULKHEAD_FULL", "http_request_denied", "refused", "unavailable"),
    told("queue_timeout", 503, "BULKHEAD_QUEUE_TIMEOUT", "http_request_denied", "refused", "unavailable"),
    told("too_many_connections", 503, "CONNECTION_LIMIT", "connection_limit_reached", "refused", "unavailable"),
    told("breaker_open", 503, "CIRCUIT_BREAKER_OPEN", "destination_unavailable", "refused", "unavailable"),
    told("no_endpoint", 503, "NO_ENDPOINT", "destination_unavailable", "refused", "unavailable"),
    told("draining", 503, "DRAINING", "proxy_internal_response", "refused", "local"),
    told("connect_failure", 502, "UPSTREAM_CONNECT_FAILURE", "connection_refused", "failed", "transient"),
    told("connect_timeout", 504, "UPSTREAM_CONNECT_TIMEOUT", "connection_timeout", "failed", "timeout"),
    told("reset", 502, "UPSTREAM_RESET", "connection_terminated", "failed", "transient"),
    told("protocol_error", 502, "UPSTREAM_PROTOCOL_ERROR", "http_protocol_error", "failed", "transient"),
    told("try_timeout", 504, "UPSTREAM_TIMEOUT", "http_response_timeout", "failed", "timeout"),
    told("request_timeout", 504, "REQUEST_TIMEOUT", "http_response_timeout", "failed", "timeout"),
    told("client_gone", 499, "CLIENT_GONE", "", "client_gone", "local"),
    told("internal", 500, "INTERNAL_ERROR", "proxy_internal_error", "failed", "local"),
];

fn of(reason: &str) -> &'static Told {
    let found = REASONS.iter().find(|told| told.reason == reason);
    found.expect("it is in the table")
}

/// What one request met, beside what its reason says.
struct Met {
    reason: &'static str,
    /// Whether it had found its route when it failed.
    routed: bool,
    tries: u64,
    retry_after: Option<RangeInclusive<u64>>,
    /// Failures in the breaker's window.
    learnt: u64,
}

/// A request that failed before it was sent anywhere.
fn refused(reason: &'static str) -> Met {
    Met {
        reason,
        routed: true,
        tries: 0,
        retry_after: None,
        learnt: 0,
    }
}

/// A request that we or the client gave up in the midst of its only try.
fn interrupted(reason: &'static str) -> Met {
    Met {
        tries: 1,
        ..refused(reason)
    }
}

/// A request whose only try failed, which its endpoint is blamed for.
fn failed(reason: &'static str) -> Met {
    Met {
        tries: 1,
        learnt: 1,
        ..refused(reason)
    }
}

/// Compares everything that tells of the last request.
#[track_caller]
fn check(proxy: &Proxy, answer: &Answer, met: &Met) {
    let told = of(met.reason);
    check_head(answer, told, met);
    check_contract(answer, told, met);
    check_telling(proxy, told, met, 1);
    let line = proxy.log().pop().unwrap();
    assert!(line["detail"].is_string(), "{line}");
    if told.reason != "internal" {
        assert_eq!(line["trace_id"], answer.json()["trace_id"]);
        assert_eq!(
            line["request_id"].as_str(),
            answer.header("x-request-id").as_deref()
        );
    }
}

#[track_caller]
fn check_head(answer: &Answer, told: &Told, met: &Met) {
    assert_eq!(answer.status, told.status, "{answer:?}");
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/json")
    );
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(answer.reason().as_deref(), Some(told.reason));
    let status = answer.header("proxy-status").unwrap_or_default();
    let begin = format!("mamparo; error={}; details=\"", told.error);
    assert!(status.starts_with(&begin), "{status}");
    let seconds = answer
        .header("retry-after")
        .map(|text| text.parse::<u64>().unwrap());
    match (&met.retry_after, seconds) {
        (None, None) => (),
        (Some(range), Some(seconds)) => assert!(range.contains(&seconds), "{seconds}"),
        (wanted, found) => panic!("retry-after: {found:?}, not {wanted:?}"),
    }
    assert!(answer.header("x-request-id").is_some());
    assert!(answer.header("date").is_some(), "{answer:?}");
    assert!(answer.complete);
}

#[track_caller]
fn check_contract(answer: &Answer, told: &Told, met: &Met) {
    let body = answer.json();
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    let expected = [
        "trace_id",
        "error_code",
        "message",
        "status_code",
        "timestamp",
        "service_name",
        "context",
    ];
    assert_eq!(keys, expected);
    assert!(is_hex(&body["trace_id"], 32), "{body}");
    assert_eq!(body["error_code"], told.error_code);
    assert!(body["message"].as_str().unwrap().ends_with('.'), "{body}");
    assert_eq!(body["status_code"], told.status);
    assert!(is_date(&body["timestamp"]), "{body}");
    assert_eq!(body["service_name"], "tested");
    let context = &body["context"];
    let routed = met.routed.then_some("u");
    assert_eq!(context["upstream"].as_str(), routed, "{body}");
    assert_eq!(context["route"].as_str(), routed, "{body}");
    assert_eq!(context["attempts"], met.tries, "{body}");
    assert_eq!(context["reason"], told.reason);
    assert!(context["elapsed_ms"].is_u64(), "{body}");
}

/// Metrics, access line and breaker. `lines` is how many requests there were; the last is looked at.
#[track_caller]
fn check_telling(proxy: &Proxy, told: &Told, met: &Met, lines: usize) {
    let by_reason = [("reason", told.reason)];
    proxy.expect_metric("mamparo_failures_total", &by_reason, 1.0);
    proxy.expect_metric("mamparo_failures_total", &[], 1.0);
    let code = format!("{}xx", told.status / 100);
    let labels = [
        ("listener", "outbound"),
        ("outcome", told.outcome),
        ("code", &code),
    ];
    proxy.expect_metric("mamparo_requests_total", &labels, 1.0);
    let line = proxy.line_for(told.reason, lines);
    assert_eq!(line["status"], told.status, "{line}");
    assert_eq!(line["outcome"], told.outcome, "{line}");
    assert_eq!(line["reason"], told.reason, "{line}");
    assert_eq!(line["class"], told.class, "{line}");
    assert_eq!(
        line["upstream"].as_str(),
        met.routed.then_some("u"),
        "{line}"
    );
    let tries = line["tries"].as_array().map_or(0, Vec::len) as u64;
    assert_eq!(tries, met.tries, "{line}");
    if let Some(endpoint) = proxy.upstream("u").endpoints.first() {
        assert_eq!(
            endpoint.window.unwrap_or_default().failures,
            met.learnt,
            "{endpoint:?}"
        );
    }
}

fn is_hex(value: &Value, length: usize) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `2026-11-21T20:30:00.123Z`.
fn is_date(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape == "0000-00-00T00:00:00.000Z"
}

/// A breaker that opens for nothing in these tests, but counts.
const COUNTING: &str = "circuit_breaker: {}";

#[test]
fn the_table_knows_every_reason() {
    for reason in Reason::ALL {
        if reason != Reason::TlsFailure {
            let told = of(reason.name());
            assert_eq!(
                (told.status, told.error_code),
                (reason.status(), reason.error_code())
            );
        }
    }
    assert_eq!(REASONS.len() + 1, Reason::ALL.len());
}

#[test]
fn no_route() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    \
         routes: [{{ match: {{ path: /known }}, upstream: u }}]\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], {COUNTING} }} }}\n",
        upstream.address()
    ));
    let answer = proxy.get("/unknown?secret=1");
    let met = Met {
        routed: false,
        ..refused("no_route")
    };
    check(&proxy, &answer, &met);
    assert!(!answer.text().contains("secret"), "no query is told");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn bad_request_at_the_head() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, COUNTING);
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let answer = client.answer();
    let met = Met {
        routed: false,
        ..refused("bad_request")
    };
    check(&proxy, &answer, &met);
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
    assert!(client.is_closed());
    assert_eq!(upstream.count(), 0);
}

#[test]
fn bad_request_in_the_body() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, COUNTING);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    upstream.wait_for(1);
    client.send("no number\r\n");
    let answer = client.answer();
    check(&proxy, &answer, &interrupted("bad_request"));
    assert!(client.is_closed());
    assert!(
        !upstream.last().complete,
        "the upstream sees no whole request"
    );
}

#[test]
fn header_too_large() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, COUNTING);
    let long = format!("x-long: {}", "x".repeat(70 * 1024));
    let answer = proxy.request("GET", "/", &[&long], b"");
    let met = Met {
        routed: false,
        ..refused("header_too_large")
    };
    check(&proxy, &answer, &met);
    assert_eq!(upstream.count(), 0);
}

fn with_body_limit(upstream: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    \
         limits: {{ body_size: 10B }}\n    upstream: u\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], {COUNTING} }} }}\n",
        upstream.address()
    ))
}

#[test]
fn body_too_large_as_announced() {
    let upstream = Upstream::always(200);
    let proxy = with_body_limit(&upstream);
    let answer = proxy.request("POST", "/", &[], b"eleven bytes");
    let met = Met {
        routed: false,
        ..refused("body_too_large")
    };
    check(&proxy, &answer, &met);
    assert_eq!(upstream.count(), 0);
    drop(proxy);
    let proxy = with_body_limit(&upstream);
    assert_eq!(proxy.request("POST", "/", &[], b"ten bytes.").status, 200);
}

#[test]
fn body_too_large_as_it_comes() {
    let upstream = Upstream::always(200);
    let proxy = with_body_limit(&upstream);
    let mut client = proxy.client();
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n");
    upstream.wait_for(1);
    client.send("8\r\n12345678\r\n0\r\n\r\n");
    check(&proxy, &client.answer(), &interrupted("body_too_large"));
    assert!(!upstream.last().complete);
}

#[test]
fn header_timeout() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    \
         timeouts: {{ header: 50ms }}\n    upstream: u\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], {COUNTING} }} }}\n",
        upstream.address()
    ));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n");
    let answer = client.answer();
    let met = Met {
        routed: false,
        ..refused("header_timeout")
    };
    check(&proxy, &answer, &met);
    assert!(client.is_closed());
}

#[test]
fn rate_limited() {
    let upstream = Upstream::always(200);
    let policies = format!("{COUNTING}\nrate_limit: {{ per_second: 0.1, burst: 1 }}");
    let proxy = Proxy::before(&upstream, &policies);
    assert_eq!(proxy.get("/").status, 200);
    let answer = proxy.get("/");
    let met = Met {
        retry_after: Some(8..=10),
        ..refused("rate_limited")
    };
    check_head(&answer, of("rate_limited"), &met);
    check_contract(&answer, of("rate_limited"), &met);
    check_telling(&proxy, of("rate_limited"), &met, 2);
    assert_eq!(upstream.count(), 1);
}

/// One request holds the only seat while another is refused.
fn refused_by_the_bulkhead(bulkhead: &str, reason: &'static str) {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let proxy = Proxy::before(&upstream, &format!("{COUNTING}\nbulkhead: {bulkhead}"));
    let mut first = proxy.client();
    first.request("GET", "/", &[], b"");
    upstream.wait_for(1);
    let answer = proxy.get("/");
    let met = Met {
        retry_after: Some(1..=1),
        ..refused(reason)
    };
    check(&proxy, &answer, &met);
    proxy.expect_metric(
        "mamparo_bulkhead_refused_total",
        &[("upstream", "u"), ("reason", reason)],
        1.0,
    );
    gate.open();
    assert_eq!(first.answer().status, 200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn too_many_in_flight() {
    refused_by_the_bulkhead("{ max_in_flight: 1 }", "too_many_in_flight");
}

#[test]
fn queue_timeout() {
    refused_by_the_bulkhead(
        "{ max_in_flight: 1, max_queue: 1, queue_timeout: 30ms }",
        "queue_timeout",
    );
}

#[test]
fn too_many_connections() {
    refused_by_the_bulkhead("{ max_connections: 1 }", "too_many_connections");
}

#[test]
fn breaker_open() {
    let upstream = Upstream::always(200);
    let policies = "circuit_breaker: { consecutive_failures: 1, open_for: 20s }";
    let refusing = Refused::new();
    let proxy = Proxy::to(&[refusing.address], policies);
    assert_eq!(proxy.get("/").reason().as_deref(), Some("connect_failure"));
    let answer = proxy.get("/");
    let told = of("breaker_open");
    let met = Met {
        retry_after: Some(18..=22),
        ..refused("breaker_open")
    };
    check_head(&answer, told, &met);
    check_contract(&answer, told, &met);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    let begin = "The circuit of upstream 'u' is open: 1 failure; next probe in ";
    assert!(message.starts_with(begin), "{message}");
    proxy.expect_metric("mamparo_failures_total", &[("reason", "breaker_open")], 1.0);
    proxy.expect_metric("mamparo_requests_total", &[("outcome", "refused")], 1.0);
    // Rule 27: the refusal taught the breaker nothing, and was no try.
    proxy.expect_metric("mamparo_attempts_total", &[("upstream", "u")], 1.0);
    assert_eq!(proxy.endpoint().opened_in_a_row, 1);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn fault_059_no_endpoint() {
    let yaml = "listeners: { outbound: { address: \"127.0.0.1:0\", upstream: u } }\n\
                upstreams: { u: { endpoints: [\"does-not-exist.invalid:80\"], circuit_breaker: {} } }\n";
    let proxy = Proxy::start(yaml);
    check(&proxy, &proxy.get("/"), &refused("no_endpoint"));
    assert_eq!(proxy.admin("GET", "/readyz", "").status, 200);
}

#[test]
fn draining() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, COUNTING);
    assert_eq!(proxy.admin("POST", "/api/v1/drain", "{}").status, 202);
    let answer = proxy.get("/");
    let met = Met {
        routed: false,
        retry_after: Some(1..=1),
        ..refused("draining")
    };
    check(&proxy, &answer, &met);
    assert_eq!(proxy.admin("GET", "/readyz", "").status, 503);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn fault_044_connect_failure() {
    let refusing = Refused::new();
    let proxy = Proxy::to(&[refusing.address], COUNTING);
    check(&proxy, &proxy.get("/"), &failed("connect_failure"));
    assert_eq!(proxy.only_line()["tries"][0]["sent"], "not_sent");
}

#[test]
fn fault_044_connect_timeout() {
    let hole = BlackHole::new();
    let policies = format!("{COUNTING}\ntimeouts: {{ connect: 40ms }}");
    let proxy = Proxy::to(&[hole.address], &policies);
    check(&proxy, &proxy.get("/"), &failed("connect_timeout"));
    assert_eq!(proxy.only_line()["tries"][0]["sent"], "not_sent");
}

#[test]
fn fault_045_reset() {
    for act in [
        Reply::close_on_accept(),
        Reply::close(),
        Reply::reset(),
        Reply::close().early(),
        Reply::half_head(),
        Reply::raw("HT").then_reset(),
    ] {
        let upstream = Upstream::always(act.clone());
        let proxy = Proxy::before(&upstream, COUNTING);
        check(&proxy, &proxy.get("/"), &failed("reset"));
    }
}

#[test]
fn fault_025_protocol_error() {
    for act in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ] {
        let upstream = Upstream::always(Reply::raw(act));
        let proxy = Proxy::before(&upstream, COUNTING);
        check(&proxy, &proxy.get("/"), &failed("protocol_error"));
    }
}

#[test]
fn try_timeout() {
    let upstream = Upstream::always(Reply::stall());
    let policies = format!("{COUNTING}\ntimeouts: {{ try: 40ms }}");
    let proxy = Proxy::before(&upstream, &policies);
    check(&proxy, &proxy.get("/"), &failed("try_timeout"));
}

#[test]
fn request_timeout() {
    let upstream = Upstream::always(Reply::stall());
    let policies = format!("{COUNTING}\ntimeouts: {{ request: 40ms }}");
    let proxy = Proxy::before(&upstream, &policies);
    // A failure of the try that was under way.
    check(&proxy, &proxy.get("/"), &failed("request_timeout"));
}

#[test]
fn request_timeout_in_the_queue_blames_nobody() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let policies =
        format!("{COUNTING}\nbulkhead: {{ max_in_flight: 1, max_queue: 1, queue_timeout: 5s }}");
    let proxy = Proxy::before(&upstream, &policies);
    let mut first = proxy.client();
    first.request("GET", "/", &[], b"");
    upstream.wait_for(1);
    let answer = proxy.request("GET", "/", &["x-mamparo-timeout-ms: 40"], b"");
    assert_eq!(answer.status, 504);
    assert_eq!(answer.reason().as_deref(), Some("request_timeout"));
    assert_eq!(proxy.window().total, 0);
    assert_eq!(
        proxy.only_line()["outcome"],
        "refused",
        "it was never tried"
    );
    gate.open();
    assert_eq!(first.answer().status, 200);
}

/// A client that leaves at that stage: nobody is blamed, and everything is given back.
#[track_caller]
fn client_leaves(upstream: &Upstream, proxy: &Proxy, reset: bool) {
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    upstream.wait_for(1);
    // So soon a FIN would be a half-close.
    std::thread::sleep(Duration::from_millis(60));
    if reset {
        client.reset();
    } else {
        drop(client);
    }
    let met = interrupted("client_gone");
    check_telling(proxy, of("client_gone"), &met, 1);
    assert_eq!(proxy.window().total, 0, "rule 8");
}

#[test]
fn fault_041_client_gone_while_the_answer_is_awaited() {
    for reset in [true, false] {
        let upstream = Upstream::always(Reply::stall());
        let proxy = Proxy::before(&upstream, &format!("{COUNTING}\nbulkhead: {{}}"));
        client_leaves(&upstream, &proxy, reset);
    }
}

#[test]
fn internal() {
    let dialer = Dialer::Memory(Arc::new(|_| panic!("provoked by a test")));
    let address = "127.0.0.1:1".parse().unwrap();
    let yaml = single(&[address], &format!("{COUNTING}\nbulkhead: {{}}"));
    let proxy = Proxy::dialing(&yaml, dialer);
    let mut client = proxy.client();
    let answer = client.get("/");
    let told = of("internal");
    let met = refused("internal");
    check_head(&answer, told, &met);
    // The server answers for the request that is gone, and knows nothing of its route.
    let unrouted = Met {
        routed: false,
        ..refused("internal")
    };
    check_contract(&answer, told, &unrouted);
    check_telling(&proxy, told, &interrupted("internal"), 1);
    assert!(client.is_closed());
    // Fault 76: the process serves on.
    assert_eq!(proxy.get("/").status, 500);
    assert_eq!(proxy.admin("GET", "/livez", "").status, 200);
}

#[test]
fn rfc_9457_by_the_accept_header() {
    let refusing = Refused::new();
    let proxy = Proxy::to(&[refusing.address], "");
    let accept = "accept: application/problem+json";
    let answer = proxy.request("GET", "/", &[accept], b"");
    check_problem(&answer, "about:blank", "Bad Gateway");
    let answer = proxy.request("GET", "/", &["accept: application/json"], b"");
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/json")
    );
}

#[test]
fn rfc_9457_by_the_setting() {
    let refusing = Refused::new();
    let errors = "errors: { format: problem, documentation_url: \"https://docs.example.com/{error_code}\" }\n";
    let yaml = errors.to_owned() + &single(&[refusing.address], "");
    let proxy = Proxy::start(&yaml);
    let url = "https://docs.example.com/UPSTREAM_CONNECT_FAILURE";
    check_problem(&proxy.get("/"), url, "Connection failed");
    assert_eq!(proxy.get("/").json()["documentation_url"], url);
}

#[track_caller]
fn check_problem(answer: &Answer, kind: &str, title: &str) {
    assert_eq!(answer.status, 502);
    let content_type = answer.header("content-type");
    assert_eq!(content_type.as_deref(), Some("application/problem+json"));
    let body = answer.json();
    assert_eq!(body["type"], kind);
    assert_eq!(body["title"], title);
    assert_eq!(body["status"], 502);
    assert!(body["detail"].as_str().unwrap().ends_with('.'), "{body}");
    let trace_id = body["trace_id"].as_str().unwrap();
    assert_eq!(body["instance"], format!("urn:mamparo:trace:{trace_id}"));
    assert_eq!(body["error_code"], "UPSTREAM_CONNECT_FAILURE");
    assert_eq!(body["service_name"], "tested");
    assert_eq!(body["context"]["reason"], "connect_failure");
    assert!(is_date(&body["timestamp"]));
    assert_eq!(answer.reason().as_deref(), Some("connect_failure"));
}
