//! `health_check`: endpoints are asked whether they work, over real connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::{Duration, Instant};

use mamparo::server::status::{Endpoint, Health};

use crate::support::tls::{Authority, Files, TlsUpstream};
use crate::support::{
    Authority as Issuer, BlackHole, GrpcService, Http2Upstream, Manners, Proxy, Refused, Reply,
    Upstream, eventually, until,
};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("upstream.health_check", a_failing_endpoint_is_left_out),
    ("defaults.health_check", inherited),
    ("health_check.kind", kind),
    ("health_check.path", path_and_expect),
    ("health_check.expect", path_and_expect),
    ("health_check.service", service),
    ("health_check.interval", interval),
    ("health_check.timeout", timeout),
    ("health_check.healthy_after", so_many_in_a_row),
    ("health_check.unhealthy_after", so_many_in_a_row),
    ("health_check.port", port),
    ("health_check.host", host),
];

/// One check decides. The first one comes within 50 ms.
const QUICK: &str = "interval: 500ms, timeout: 500ms, healthy_after: 1, unhealthy_after: 1";

/// Answers checks with the status that is set, and requests with 200.
fn sick(status: u16) -> (Upstream, Arc<AtomicU16>) {
    let says = Arc::new(AtomicU16::new(status));
    let now = Arc::clone(&says);
    let upstream = Upstream::with(move |_, received| {
        let is_check = received.target.starts_with("/healthz");
        Reply::new(if is_check { now.load(SeqCst) } else { 200 })
    });
    (upstream, says)
}

fn checked(endpoints: &[&Upstream], check: &str) -> Proxy {
    let addresses: Vec<_> = endpoints.iter().map(|one| one.address()).collect();
    Proxy::to(
        &addresses,
        &format!("health_check: {{ path: /healthz, {check} }}"),
    )
}

fn endpoint(proxy: &Proxy, of: &Upstream) -> Endpoint {
    let endpoints = proxy.upstream("u").endpoints;
    let address = of.address().to_string();
    let found = endpoints.into_iter().find(|one| one.address == address);
    found.expect("it is configured")
}

fn health(proxy: &Proxy, of: &Upstream) -> Health {
    endpoint(proxy, of).health.expect("it is checked")
}

#[track_caller]
fn becomes(proxy: &Proxy, state: &str) -> Health {
    let found = until(|| {
        let health = proxy.endpoint().health.expect("it is checked");
        (health.state == state).then_some(health)
    });
    found.unwrap_or_else(|| panic!("never {state}: {:?}", proxy.endpoint().health))
}

/// The answer while everything is unhealthy.
#[track_caller]
fn refused_for(proxy: &Proxy, words: &str) {
    becomes(proxy, "unhealthy");
    // The first check may have met something else; while one is under way, no time is known.
    let told = || {
        let answer = proxy.get("/");
        assert_eq!(answer.reason().as_deref(), Some("no_endpoint"));
        let timed = answer.header("retry-after").is_some();
        (timed && answer.text().contains(words)).then_some(())
    };
    if until(told).is_none() {
        panic!("{}\nlacks {words}, or a time", proxy.get("/").text());
    }
}

#[test]
fn a_failing_endpoint_is_left_out() {
    let ((a, says), (b, _)) = (sick(500), sick(200));
    let proxy = checked(&[&a, &b], QUICK);
    eventually("a is out", || health(&proxy, &a).state == "unhealthy");
    eventually("b is in", || health(&proxy, &b).state == "healthy");
    for _ in 0..10 {
        assert_eq!(proxy.get("/for-b").status, 200);
    }
    let asked = |one: &Upstream| {
        let received = one.received();
        received.iter().filter(|one| one.target == "/for-b").count()
    };
    assert_eq!((asked(&a), asked(&b)), (0, 10));
    proxy.expect_metric("mamparo_endpoints", &[("state", "unhealthy")], 1.0);
    proxy.expect_metric("mamparo_endpoints", &[("state", "available")], 1.0);
    let health = health(&proxy, &a);
    let reason = health.reason.expect("a reason");
    assert!(
        reason.starts_with("health check GET /healthz answered 500"),
        "{reason}"
    );
    says.store(200, SeqCst);
    eventually("a is back", || self::health(&proxy, &a).state == "healthy");
    let of_a = a.address().to_string();
    let told = || {
        let events = proxy.status().events.into_iter();
        let of_a = events.filter(|event| event.endpoint.as_deref() == Some(&*of_a));
        of_a.map(|event| event.text).collect::<Vec<_>>()
    };
    // It is told just after it holds.
    eventually("it is told", || told().len() >= 2);
    let texts = told();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].starts_with("unhealthy: health check GET /healthz"));
    assert!(texts[1].starts_with("healthy"));
    assert!(proxy.metric("mamparo_health_checks_total", &[("result", "success")]) > 0.0);
    assert!(proxy.metric("mamparo_health_checks_total", &[("result", "failure")]) > 0.0);
}

#[test]
fn inherited() {
    let (a, _) = sick(500);
    let yaml = |own: &str| {
        format!(
            "listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
             defaults: {{ health_check: {{ path: /healthz, {QUICK} }} }}\n\
             upstreams: {{ u: {{ endpoints: [\"{}\"]{own} }} }}\n",
            a.address()
        )
    };
    refused_for(&Proxy::start(&yaml("")), "GET /healthz answered 500");
    // Key by key.
    let own = ", health_check: { expect: [5xx] }";
    becomes(&Proxy::start(&yaml(own)), "healthy");
    let off = Proxy::start(&yaml(", health_check: off"));
    assert_eq!(off.endpoint().health, None);
    assert_eq!(off.get("/").status, 200);
}

#[test]
fn kind() {
    let refusing = Refused::new();
    let quick = |kind: &str| format!("health_check: {{ kind: {kind}, {QUICK} }}");
    for kind in ["http", "tcp", "grpc"] {
        let proxy = Proxy::to(&[refusing.address], &quick(kind));
        refused_for(&proxy, "got no connection (Connection refused");
    }
    // One that is only accepted, and closed at once.
    let upstream = Upstream::always(Reply::close_on_accept());
    becomes(&Proxy::before(&upstream, &quick("tcp")), "healthy");
    refused_for(&Proxy::before(&upstream, &quick("http")), "got no answer (");
    let service = GrpcService::start(|_, _| 0);
    let proxy = Proxy::to(&[service.address()], &quick("grpc"));
    becomes(&proxy, "healthy");
    let (path, headers) = service.calls().remove(0);
    assert_eq!(path, "/grpc.health.v1.Health/Check");
    assert_eq!(headers["content-type"], "application/grpc");
    assert_eq!(headers["te"], "trailers");
}

#[test]
fn path_and_expect() {
    let upstream = Upstream::with(|_, received| {
        Reply::new(if received.target == "/ready" {
            418
        } else {
            200
        })
    });
    let check = |keys: &str| {
        let check = format!("health_check: {{ {keys} {QUICK} }}");
        Proxy::before(&upstream, &check)
    };
    becomes(&check(""), "healthy");
    assert_eq!(upstream.last().target, "/");
    refused_for(&check("path: /ready,"), "GET /ready answered 418");
    becomes(&check("path: /ready, expect: [200, 418],"), "healthy");
    refused_for(&check("expect: [204, 4xx],"), "GET / answered 200");
}

#[test]
fn service() {
    let service = GrpcService::start(|_, number| if number == 0 { 5 } else { 0 });
    let check =
        "kind: grpc, service: shop.Cart, interval: 200ms, timeout: 200ms, unhealthy_after: 1";
    let proxy = Proxy::to(
        &[service.address()],
        &format!("health_check: {{ {check} }}"),
    );
    let reason = becomes(&proxy, "unhealthy").reason.expect("a reason");
    assert_eq!(
        reason,
        "health check grpc.health.v1 of shop.Cart ended with not_found"
    );
    becomes(&proxy, "healthy");
}

#[test]
fn interval() {
    let upstream = Upstream::always(200);
    let _proxy = checked(&[&upstream], "interval: 100ms, timeout: 100ms");
    upstream.wait_for(1);
    let began = Instant::now();
    upstream.wait_for(6);
    assert!(
        began.elapsed() > Duration::from_millis(440),
        "five, less a tenth"
    );
    // Each was closed in order by both ends.
    assert!(upstream.connections() >= 6);
    let open = || upstream.open_connections();
    eventually("none is left open", || open() <= 1);
}

#[test]
fn timeout() {
    let slow = Upstream::always(Reply::new(200).after_ms(300));
    let check = "interval: 1s, timeout: 100ms, unhealthy_after: 1";
    refused_for(&checked(&[&slow], check), "got no answer within 100ms");
    let check = "interval: 1s, timeout: 1s";
    becomes(&checked(&[&slow], check), "healthy");
    let hole = BlackHole::new();
    let check = "health_check: { interval: 1s, timeout: 100ms, unhealthy_after: 1 }";
    refused_for(
        &Proxy::to(&[hole.address], check),
        "got no answer within 100ms",
    );
}

#[test]
fn so_many_in_a_row() {
    let (upstream, says) = sick(200);
    let check = "interval: 200ms, timeout: 200ms, healthy_after: 4, unhealthy_after: 6";
    let proxy = checked(&[&upstream], check);
    // The first success of all counts at once.
    becomes(&proxy, "healthy");
    assert!(upstream.count() < 4);
    says.store(503, SeqCst);
    let before = upstream.count();
    let reason = becomes(&proxy, "unhealthy").reason.expect("a reason");
    assert!(upstream.count() >= before + 5);
    assert!(reason.contains("in a row"), "{reason}");
    says.store(200, SeqCst);
    let before = upstream.count();
    becomes(&proxy, "healthy");
    assert!(upstream.count() >= before + 3);
}

#[test]
fn port() {
    let (upstream, other) = (Upstream::always(500), Upstream::always(200));
    let proxy = checked(&[&upstream], &format!("{QUICK}, port: {}", other.port()));
    becomes(&proxy, "healthy");
    assert_eq!(upstream.count(), 0);
    let host = other.last().header("host");
    assert_eq!(host, Some(other.address().to_string()));
    let other = other.stop();
    let words = format!("GET /healthz on port {} got no connection", other.port());
    refused_for(&proxy, &words);
}

#[test]
fn host() {
    let upstream = Upstream::always(200);
    let proxy = checked(&[&upstream], QUICK);
    becomes(&proxy, "healthy");
    let told = upstream.last().header("host");
    assert_eq!(told, Some(upstream.address().to_string()));
    let proxy = checked(&[&upstream], &format!("{QUICK}, host: payments.internal"));
    becomes(&proxy, "healthy");
    let received = upstream.received();
    let hosts = received.iter().filter_map(|one| one.header("host"));
    assert!(hosts.into_iter().any(|host| host == "payments.internal"));
}

/// The handshake is part of the check, under the same certificates as requests have.
#[test]
fn under_tls() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let files = Files::new();
    files.put("ca.crt", &ours.pem());
    let before = |upstream: &TlsUpstream| {
        Proxy::start(&format!(
            "listeners: {{ outbound: {{ address: '127.0.0.1:0', upstream: u }} }}\n\
             upstreams: {{ u: {{ endpoints: ['https://{}'], tls: {{ ca: {}/ca.crt }}, \
             health_check: {{ interval: 200ms, timeout: 200ms, unhealthy_after: 1 }} }} }}\n",
            upstream.address,
            files.folder().display()
        ))
    };
    let good = TlsUpstream::start(&ours.issue(&["127.0.0.1"]));
    let proxy = before(&good);
    becomes(&proxy, "healthy");
    assert_eq!(proxy.get("/").status, 200);
    let bad = TlsUpstream::start(&other.issue(&["127.0.0.1"]));
    refused_for(&before(&bad), "got no connection (");
}

#[test]
fn over_http2_in_plaintext_and_by_alpn() {
    let manners = Manners {
        streams: 10,
        takes: Duration::ZERO,
    };
    let plain = Http2Upstream::plain(manners);
    let check = format!("protocol: http2\nhealth_check: {{ {QUICK} }}");
    becomes(&Proxy::to(&[plain.address], &check), "healthy");
    let issuer = Issuer::new();
    let identity = issuer.sign("localhost");
    for alpn in [&[&b"h2"[..]][..], &[&b"http/1.1"[..]]] {
        let encrypted = Http2Upstream::tls(manners, &identity, alpn);
        let yaml = format!(
            "listeners: {{ outbound: {{ address: '127.0.0.1:0', upstream: u }} }}\n\
             upstreams: {{ u: {{ endpoints: ['https://{}'], \
             tls: {{ ca: '{}', server_name: localhost }}, \
             health_check: {{ interval: 300ms, timeout: 300ms }} }} }}\n",
            encrypted.address,
            issuer.certificate().display()
        );
        let proxy = Proxy::start(&yaml);
        becomes(&proxy, "healthy");
        assert!(encrypted.seen.requests.load(SeqCst) > 0);
        assert_eq!(encrypted.seen.http1.load(SeqCst) > 0, alpn[0] != b"h2");
    }
}

/// What an operator and an orchestrator see while a critical upstream is unhealthy.
#[test]
fn the_deep_health_check_says_which_check_failed() {
    let (upstream, says) = sick(500);
    let policies = format!("critical: true\nhealth_check: {{ path: /healthz, {QUICK} }}");
    let proxy = Proxy::before(&upstream, &policies);
    becomes(&proxy, "unhealthy");
    let answer = proxy.admin("GET", "/healthz", "");
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("GET /healthz answered 500"),
        "{}",
        answer.text()
    );
    assert_eq!(proxy.admin("GET", "/readyz", "").status, 200);
    says.store(204, SeqCst);
    becomes(&proxy, "healthy");
    assert_eq!(proxy.admin("GET", "/healthz", "").status, 200);
}
