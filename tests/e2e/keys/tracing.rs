//! Where spans go, and whose.

use std::time::Duration;

use crate::support::proxy::single;
use crate::support::{Proxy, Reply, Upstream, eventually, spans_at};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("tracing", otlp),
    ("tracing.otlp", otlp),
    ("tracing.headers", headers),
    ("tracing.timeout", timeout),
    ("tracing.keep", failed),
    ("keep_traces.failed", failed),
    ("keep_traces.slower_than", slower_than),
    ("keep_traces.rest", rest),
];

/// A proxy whose spans go to the collector: `more` follows its address.
fn traced(collector: &Upstream, more: &str, upstream: &Upstream) -> Proxy {
    let block = format!(
        "tracing: {{ otlp: \"http://{}{more} }}\n",
        collector.address()
    );
    Proxy::start(&(block + &single(&[upstream.address()], "")))
}

/// The paths of the requests that the collector has been told of, after all of them.
fn kept(proxy: Proxy, collector: &Upstream) -> Vec<String> {
    // The end sends what waits.
    proxy.shutdown();
    let spans = spans_at(collector);
    let paths = spans
        .iter()
        .filter_map(|span| span.attributes.get("url.path"));
    paths.cloned().collect()
}

#[test]
fn otlp() {
    let upstream = Upstream::always(200);
    for (path, target) in [("", "/v1/traces"), ("/otel/in", "/otel/in")] {
        let collector = Upstream::always(200);
        let more = format!("{path}\", keep: {{ rest: 100% }}");
        let proxy = traced(&collector, &more, &upstream);
        proxy.get("/");
        eventually("the spans are there", || collector.count() == 1);
        assert_eq!(collector.last().target, target);
        let host = collector.last().head.header("host");
        assert_eq!(host, Some(collector.address().to_string()));
    }
}

#[test]
fn headers() {
    let (collector, upstream) = (Upstream::always(200), Upstream::always(200));
    let more =
        "\", headers: { X-Tenant: acme, authorization: Bearer hunter2 }, keep: { rest: 100% }";
    let proxy = traced(&collector, more, &upstream);
    proxy.get("/");
    eventually("the spans are there", || collector.count() == 1);
    let head = collector.last().head;
    assert_eq!(head.header("x-tenant").as_deref(), Some("acme"));
    assert_eq!(
        head.header("authorization").as_deref(),
        Some("Bearer hunter2")
    );
    let shown = proxy.admin("GET", "/api/v1/config", "").text();
    assert!(
        shown.contains("X-Tenant") && !shown.contains("acme"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn timeout() {
    let late = Reply::new(200).after(Duration::from_secs(5));
    let (collector, upstream) = (Upstream::always(late), Upstream::always(200));
    let more = "\", timeout: 100ms, keep: { rest: 100% }";
    let proxy = traced(&collector, more, &upstream);
    proxy.get("/");
    let failed = || proxy.metric("mamparo_spans_total", &[("result", "failed")]);
    eventually("the batch is given up", || failed() == 2.0);
    assert_eq!(collector.count(), 1, "it may have taken it");
}

#[test]
fn failed() {
    let upstream = Upstream::with(|_, request| match request.target.as_str() {
        "/failed" => Reply::new(500),
        _ => Reply::new(200),
    });
    for (share, expected) in [("100%", vec!["/failed"]), ("0%", vec![])] {
        let collector = Upstream::always(200);
        let more = format!("\", keep: {{ failed: {share}, rest: 0% }}");
        let proxy = traced(&collector, &more, &upstream);
        for path in ["/", "/failed"] {
            proxy.get(path);
        }
        assert_eq!(kept(proxy, &collector), expected);
    }
}

#[test]
fn slower_than() {
    let upstream = Upstream::with(|_, request| match request.target.as_str() {
        "/slow" => Reply::new(200).after_ms(500),
        _ => Reply::new(200),
    });
    for (limit, expected) in [("400ms", vec!["/slow"]), ("none", vec![])] {
        let collector = Upstream::always(200);
        let more = format!("\", keep: {{ slower_than: {limit}, rest: 0% }}");
        let proxy = traced(&collector, &more, &upstream);
        for path in ["/", "/slow"] {
            proxy.get(path);
        }
        assert_eq!(kept(proxy, &collector), expected);
    }
}

#[test]
fn rest() {
    let (collector, upstream) = (Upstream::always(200), Upstream::always(200));
    let more = "\", keep: { rest: 25%, slower_than: none }";
    let proxy = traced(&collector, more, &upstream);
    // The last 14 digits of the trace's id decide: a quarter is kept from c0… on.
    for (path, id, flags) in [
        ("/below", "bfffffffffff00", "01"),
        ("/kept", "c0000000000100", "01"),
        ("/not-by-its-caller", "ffffffffffffff", "00"),
    ] {
        let trace = format!("traceparent: 00-4bf92f3577b34da6aa{id}-00f067aa0ba902b7-{flags}");
        proxy.request("GET", path, &[&trace], b"");
    }
    assert_eq!(kept(proxy, &collector), ["/kept"]);
}
