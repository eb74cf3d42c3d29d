//! What is written of sample requests, and what waits for the collector.

use std::collections::BTreeMap;

use super::*;
use crate::plan::tracing::{Collector, Shares};
use crate::policy::grpc::Code;
use crate::policy::outcome::{Ending, Reason};
use crate::policy::retry::Why;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report::samples::{self, attempt, name};
use crate::telemetry::report::{FallbackKind, Outcome, Place};
use crate::telemetry::trace::TraceContext;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A message's fields: a number's value, or bytes.
type Fields = Vec<(u64, Result<u64, Vec<u8>>)>;

fn fields(mut bytes: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while let Some((field, value)) = protobuf::next(&mut bytes) {
        fields.push(match value {
            Read::Number(number) => (field, Ok(number)),
            Read::Bytes(bytes) => (field, Err(bytes.to_vec())),
        });
    }
    assert_eq!(bytes, b"", "the rest is no field");
    fields
}

/// Every message in a field.
fn inner(fields: &Fields, number: u64) -> Vec<Vec<u8>> {
    let all = fields.iter().filter(|(field, _)| *field == number);
    all.filter_map(|(_, value)| value.clone().err()).collect()
}

fn number(fields: &Fields, number: u64) -> Option<u64> {
    let found = fields.iter().find(|(field, _)| *field == number)?;
    found.1.clone().ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A span as it was written.
#[derive(Debug)]
struct Span {
    fields: Fields,
    name: String,
    attributes: BTreeMap<String, String>,
}

impl Span {
    fn of(bytes: &[u8]) -> Self {
        let fields = fields(bytes);
        Self {
            name: text(&inner(&fields, 5)[0]),
            attributes: attributes(&inner(&fields, 9)),
            fields,
        }
    }

    #[track_caller]
    fn has(&self, pairs: &[(&str, &str)]) {
        for (key, value) in pairs {
            let found = self.attributes.get(*key).map(String::as_str);
            assert_eq!(found, Some(*value), "{key} of {self:#?}");
        }
    }

    #[track_caller]
    fn lacks(&self, keys: &[&str]) {
        for key in keys {
            assert!(!self.attributes.contains_key(*key), "{key} of {self:#?}");
        }
    }

    /// Whether it is an error, and what is said of that.
    fn error(&self) -> Option<String> {
        let status = fields(inner(&self.fields, 15).first()?);
        assert_eq!(number(&status, 3), Some(2));
        Some(
            inner(&status, 2)
                .first()
                .map_or(String::new(), |it| text(it)),
        )
    }
}

fn attributes(pairs: &[Vec<u8>]) -> BTreeMap<String, String> {
    let pairs = pairs.iter().map(|pair| {
        let pair = fields(pair);
        let value = fields(&inner(&pair, 2)[0]);
        let value = match &value[0] {
            (1, Err(bytes)) => text(bytes),
            (2, Ok(truth)) => (*truth == 1).to_string(),
            (3, Ok(number)) => number.to_string(),
            (4, Ok(bits)) => f64::from_bits(*bits).to_string(),
            other => panic!("no such kind of value: {other:?}"),
        };
        (text(&inner(&pair, 1)[0]), value)
    });
    pairs.collect()
}

/// The spans of a request that took a second.
fn spans(report: &Report) -> Vec<Span> {
    let mut bytes = Vec::new();
    let ended = report.started + Duration::from_secs(1);
    let anchor = Anchor {
        now: ended,
        since_epoch: Duration::from_secs(1_700_000_001),
    };
    encode::spans(&mut bytes, report, ended, &anchor);
    let spans = inner(&fields(&bytes), 2);
    assert_eq!(spans.len(), encode::count(report));
    spans.iter().map(|bytes| Span::of(bytes)).collect()
}

fn report(outcome: Outcome, status: u16) -> Report {
    let metrics = Metrics::default();
    let route = metrics.route(&name("out"), &name("charges"), &name("payments"));
    let mut report = samples::report(metrics.listener(&name("out")), Some(route), outcome, status);
    report.trace = TraceContext::read(PARENT.as_bytes()).unwrap();
    report
}

#[test]
fn a_retried_request_is_a_span_with_a_child_for_each_try() {
    let mut report = report(Outcome::Upstream, 200);
    report.queued = Duration::from_millis(3);
    report.queued_at = Some(Duration::from_millis(2));
    let ms = Duration::from_millis;
    report.tries.push(attempt(ms(10), Ending::Answered(503)));
    report.tries.push(attempt(ms(20), Ending::Answered(200)));
    report.tries[0].started = ms(5);
    report.tries[1].started = ms(40);
    report.tries[1].waited = ms(25);
    report.tries[1].span_id = 7;
    let spans = spans(&report);
    let [server, first, second] = spans.as_slice() else {
        panic!("{spans:#?}");
    };
    let trace_id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    let own = report.trace.span_id.to_be_bytes();
    for (span, id, parent, kind, flags) in [
        (
            server,
            own,
            0x00f0_67aa_0ba9_02b7_u64.to_be_bytes(),
            2,
            0x301,
        ),
        (first, report.tries[0].span_id.to_be_bytes(), own, 3, 0x101),
        (second, 7_u64.to_be_bytes(), own, 3, 0x101),
    ] {
        assert_eq!(inner(&span.fields, 1), [trace_id]);
        assert_eq!(inner(&span.fields, 2), [id]);
        assert_eq!(inner(&span.fields, 4), [parent]);
        assert_eq!(number(&span.fields, 6), Some(kind));
        assert_eq!(number(&span.fields, 16), Some(flags));
    }
    let times = |span: &Span| [7, 8].map(|field| number(&span.fields, field).unwrap());
    let at = |ms: u64| 1_700_000_000_000_000_000 + ms * 1_000_000;
    assert_eq!(times(server), [at(0), at(1000)]);
    assert_eq!(times(first), [at(5), at(15)]);
    assert_eq!(times(second), [at(40), at(60)]);
    assert_eq!(
        (server.name.as_str(), first.name.as_str()),
        ("GET charges", "GET")
    );
    server.has(&[
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/v1/charges"),
        ("server.address", "payments.internal"),
        ("server.port", "80"),
        ("client.address", "127.0.0.1"),
        ("network.peer.port", "40000"),
        ("network.protocol.version", "1.1"),
        ("http.route", "charges"),
        ("http.response.status_code", "200"),
        ("mamparo.listener", "out"),
        ("mamparo.upstream", "payments"),
        ("mamparo.outcome", "upstream"),
        ("mamparo.request_id", "r-1"),
    ]);
    first.has(&[
        ("http.response.status_code", "503"),
        ("error.type", "503"),
        ("mamparo.outcome", "failure"),
        ("server.address", "127.0.0.1"),
        ("server.port", "9001"),
        ("network.peer.address", "127.0.0.1"),
        ("url.scheme", "http"),
        ("url.full", "http://127.0.0.1:9001/v1/charges"),
        ("mamparo.connection.reused", "false"),
    ]);
    first.lacks(&["http.request.resend_count"]);
    second.has(&[
        ("http.request.resend_count", "1"),
        ("mamparo.sent", "answered"),
    ]);
    assert_eq!(server.error(), None);
    assert_eq!(first.error().as_deref(), Some(""));
    assert_eq!(second.error(), None);
    let events = inner(&server.fields, 11);
    let events = events.iter().map(|event| {
        let event = fields(event);
        let told = attributes(&inner(&event, 3));
        (text(&inner(&event, 2)[0]), number(&event, 1).unwrap(), told)
    });
    let events: Vec<_> = events.collect();
    assert_eq!(events[0].0, "mamparo.queue");
    assert_eq!(
        (events[0].1, &*events[0].2["mamparo.wait_ms"]),
        (at(2), "3")
    );
    assert_eq!(events[1].0, "mamparo.backoff");
    assert_eq!(events[1].1, at(15));
    assert_eq!(events[1].2["mamparo.attempt"], "2");
    // The query of the target holds the number of a card.
    assert!(!format!("{spans:?}").contains("4111"));
}

#[test]
fn only_what_the_server_is_at_fault_for_is_its_error() {
    for (outcome, status, reason, error) in [
        (Outcome::Failed, 502, Some(Reason::Reset), Some("reset")),
        (
            Outcome::Refused,
            503,
            Some(Reason::BreakerOpen),
            Some("breaker_open"),
        ),
        (Outcome::Refused, 429, Some(Reason::RateLimited), None),
        (Outcome::Refused, 404, Some(Reason::NoRoute), None),
        (Outcome::ClientGone, 499, Some(Reason::ClientGone), None),
        (Outcome::Upstream, 500, None, Some("500")),
        (Outcome::Upstream, 404, None, None),
        (Outcome::Fallback, 200, Some(Reason::TryTimeout), None),
    ] {
        let mut report = report(outcome, status);
        report.reason = reason;
        report.detail = Some("why".into());
        report.fallback = (outcome == Outcome::Fallback).then_some(FallbackKind::Respond);
        report.denied = Some(Why::Budget);
        let server = spans(&report).remove(0);
        assert_eq!(
            server.error(),
            error.map(|_| "why".to_owned()),
            "{outcome:?}"
        );
        let told = server.attributes.get("error.type").map(String::as_str);
        assert_eq!(told, error);
        server.has(&[
            ("mamparo.outcome", outcome.name()),
            ("mamparo.retry.denied", "budget"),
        ]);
        if let Some(reason) = reason {
            server.has(&[("mamparo.reason", reason.name())]);
        }
        match outcome {
            Outcome::Fallback => server.has(&[("mamparo.fallback", "respond")]),
            Outcome::ClientGone => server.lacks(&["http.response.status_code"]),
            Outcome::Upstream | Outcome::Refused | Outcome::Failed => {}
        }
    }
    let mut broken = report(Outcome::Upstream, 200);
    broken.broken = true;
    for _ in 0..2 {
        broken
            .tries
            .push(attempt(Duration::ZERO, Ending::Answered(200)));
    }
    broken.rewritten = Some("/v2/charges".into());
    let [server, first, last] = &spans(&broken)[..] else {
        panic!("one of the request, one of each try");
    };
    server.has(&[("error.type", "reset")]);
    last.has(&[
        ("error.type", "reset"),
        ("url.full", "http://127.0.0.1:9001/v2/charges"),
    ]);
    first.lacks(&["error.type"]);
    broken.reason = Some(Reason::Draining);
    let spans = spans(&broken);
    spans[0].has(&[("error.type", "draining")]);
    spans[2].lacks(&["error.type"]);
}

#[test]
fn a_try_that_did_not_get_what_it_asked_for_is_an_error_unless_the_client_left() {
    for (ending, error) in [
        (Ending::Answered(204), None),
        (Ending::Answered(404), Some("404")),
        (
            Ending::Failed(Reason::ConnectFailure),
            Some("connect_failure"),
        ),
        (Ending::Failed(Reason::ClientGone), None),
    ] {
        let mut report = report(Outcome::Upstream, 200);
        report.tries.push(attempt(Duration::ZERO, ending));
        report.tries[0].detail = Some("why".into());
        let client = spans(&report).remove(1);
        let said = error.map(|_| "why".to_owned());
        assert_eq!(client.error(), said, "{ending:?}");
        assert_eq!(
            client.attributes.get("error.type").map(String::as_str),
            error
        );
        if let Ending::Failed(reason) = ending {
            client.has(&[("mamparo.reason", reason.name())]);
        }
    }
}

#[test]
fn a_call_of_grpc_is_named_by_its_service_and_method() {
    let mut report = report(Outcome::Upstream, 200);
    report.target = Some(samples::target("/shop.Orders/Place", "[::1]:50051"));
    report.grpc_status = Some(Code::Unavailable);
    let (status, code) = (200, Code::Unavailable);
    let ending = Ending::Grpc { status, code };
    report.tries.push(attempt(Duration::ZERO, ending));
    let spans = spans(&report);
    for span in &spans {
        assert_eq!(span.name, "shop.Orders/Place");
        span.has(&[
            ("rpc.system", "grpc"),
            ("rpc.service", "shop.Orders"),
            ("rpc.method", "Place"),
            ("rpc.grpc.status_code", "14"),
            ("error.type", "UNAVAILABLE"),
        ]);
        assert!(span.error().is_some());
    }
    spans[0].has(&[("server.address", "::1"), ("server.port", "50051")]);
}

#[test]
fn what_is_strange_or_missing_does_no_harm() {
    let mut odd = report(Outcome::Upstream, 200);
    let target = odd.target.as_mut().unwrap();
    target.method = "BREW".parse().unwrap();
    target.uri = format!("/{}", "x".repeat(9000)).parse().unwrap();
    target.host = Some(http::HeaderValue::from_bytes(b"\xff:x").unwrap());
    odd.tries
        .push(attempt(Duration::from_secs(5), Ending::Answered(200)));
    odd.tries[0].endpoint = name("unix:/run/pay.sock");
    let spans_of_odd = spans(&odd);
    let [server, client] = spans_of_odd.as_slice() else {
        panic!("{spans_of_odd:#?}");
    };
    assert_eq!(server.name, "HTTP charges");
    server.has(&[
        ("http.request.method", "_OTHER"),
        ("http.request.method_original", "BREW"),
    ]);
    assert_eq!(server.attributes["url.path"].len(), 4096);
    server.lacks(&["server.address"]);
    client.has(&[
        ("server.address", "/run/pay.sock"),
        ("network.transport", "unix"),
    ]);
    client.lacks(&["url.full"]);
    assert_eq!(
        number(&client.fields, 8),
        number(&server.fields, 8),
        "it ends with its parent"
    );
    odd.target = None;
    odd.place = Place::Unrouted(Metrics::default().listener(&name("outbound")));
    odd.trace = TraceContext::begin();
    let server = spans(&odd).remove(0);
    assert_eq!(server.name, "HTTP");
    server.has(&[("http.request.method", "_OTHER")]);
    assert_eq!(
        inner(&server.fields, 4),
        [[0; 0]; 0],
        "the trace begins here"
    );
    assert_eq!(number(&server.fields, 16), Some(0x101));
}

fn settings() -> Arc<Tracing> {
    Arc::new(Tracing {
        collector: Collector {
            tls: false,
            host: name("127.0.0.1"),
            port: 4318,
            authority: name("127.0.0.1:4318"),
            path: name("/v1/traces"),
        },
        headers: Vec::new(),
        timeout: Duration::from_secs(1),
        keep: Shares {
            failed: 1.0,
            slower_than: None,
            rest: 0.0,
        },
    })
}

/// An exporter, and a request that it keeps, with one try.
fn exporter() -> (Exporter, Arc<Report>) {
    let exporter = Exporter::default();
    exporter.follow(Some(&settings()), &name("orders"));
    let mut report = report(Outcome::Upstream, 503);
    report
        .tries
        .push(attempt(Duration::ZERO, Ending::Answered(503)));
    (exporter, Arc::new(report))
}

fn lost(exporter: &Exporter) -> [u64; 3] {
    exporter.counts().read().map(|(_, count)| count)
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_after_a_second_and_names_its_service() {
    let (exporter, report) = exporter();
    let began = clock::now();
    exporter.offer(&report, report.started);
    let batch = exporter.next().await.unwrap();
    assert_eq!((clock::now() - began, batch.spans), (GATHER, 2));
    exporter.follow(Some(&settings()), &name("orders"));
    exporter.offer(&report, report.started);
    let next = exporter.next().await.unwrap();
    // A reload that changes nothing of it leaves the connection alone.
    assert!(Arc::ptr_eq(&next.settings, &batch.settings));
    let all = fields(&inner(&fields(&batch.body), 1)[0]);
    let resource = attributes(&inner(&fields(&inner(&all, 1)[0]), 1));
    assert_eq!(resource["service.name"], "orders");
    assert_eq!(resource["telemetry.sdk.language"], "rust");
    assert_eq!(resource["process.pid"], std::process::id().to_string());
    let scope = fields(&inner(&all, 2)[0]);
    assert_eq!(text(&inner(&fields(&inner(&scope, 1)[0]), 1)[0]), "mamparo");
    assert_eq!(inner(&scope, 2).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_spans_is_woken_by_the_first_and_by_a_full_batch() {
    let (exporter, report) = exporter();
    let began = clock::now();
    let offers = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        exporter.offer(&report, report.started);
        tokio::time::sleep(GATHER / 2).await;
        for _ in 0..BATCH_SPANS {
            exporter.offer(&report, report.started);
        }
    };
    let (batch, ()) = tokio::join!(exporter.next(), offers);
    assert_eq!(batch.unwrap().spans, BATCH_SPANS as u64);
    assert_eq!(clock::now() - began, Duration::from_secs(60) + GATHER / 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_goes_at_once_and_what_has_no_room_is_dropped_and_counted() {
    let (exporter, report) = exporter();
    assert!(exporter.keeps(&report, report.started));
    for _ in 0..MAX_WAITING {
        exporter.offer(&report, report.started);
    }
    assert!(!exporter.keeps(&report, report.started), "no room");
    exporter.offer(&report, report.started);
    assert_eq!(lost(&exporter), [0, 4, 0]);
    assert!(exporter.has_overflowed() && !exporter.has_overflowed());
    let began = clock::now();
    let mut spans = 0;
    while spans < 2 * MAX_WAITING as u64 {
        let batch = exporter.next().await.unwrap();
        assert_eq!(batch.spans, BATCH_SPANS as u64);
        assert!(batch.body.len() < 4 << 20);
        spans += batch.spans;
    }
    assert_eq!(clock::now(), began);
    assert!(
        exporter.keeps(&report, report.started),
        "there is room again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_in_bytes_and_takes_a_large_request_alone() {
    let (exporter, report) = exporter();
    let mut large = Report::clone(&report);
    large.detail = Some("x".repeat(10_000).into());
    large.target = Some(samples::target(&format!("/{}", "x".repeat(5000)), "a"));
    let large = Arc::new(large);
    let mut many = Report::clone(&report);
    for _ in 0..2 * BATCH_SPANS {
        many.tries.push(many.tries[0].clone());
    }
    exporter.offer(&large, report.started);
    exporter.offer(&Arc::new(many), report.started);
    exporter.offer(&large, report.started);
    let mut spans = Vec::new();
    for _ in 0..3 {
        spans.push(exporter.next().await.unwrap().spans);
    }
    assert_eq!(spans, [2, 2 + 2 * BATCH_SPANS as u64, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_over_as_the_collector_goes_is_dropped_and_counted() {
    let (exporter, report) = exporter();
    exporter.follow(None, &name("orders"));
    exporter.offer(&report, clock::now());
    let next = tokio::time::timeout(Duration::from_secs(5), exporter.next()).await;
    assert!(next.is_err(), "{next:?}");
    assert_eq!(lost(&exporter)[1], encode::count(&report) as u64);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_without_a_collector_and_at_the_end_what_waits_is_due() {
    let (exporter, report) = exporter();
    exporter.offer(&report, report.started);
    exporter.follow(None, &name("orders"));
    assert!(!exporter.is_active() && !exporter.keeps(&report, report.started));
    assert_eq!(lost(&exporter), [0, 2, 0], "it waited for nobody");
    exporter.follow(Some(&settings()), &name("orders"));
    exporter.offer(&report, report.started);
    let began = clock::now();
    exporter.close();
    exporter.until_closed().await;
    assert_eq!(exporter.next().await.unwrap().spans, 2);
    assert!(exporter.next().await.is_none());
    assert_eq!(clock::now(), began);
    exporter.offer(&report, report.started);
    assert_eq!(lost(&exporter), [0, 4, 0]);
}

#[test]
fn what_a_collector_refuses_is_read() {
    for (answer, told) in [
        (&b""[..], None),
        (b"\x0a\x00", None),
        (b"\x0a\x06\x08\x03\x12\x02no", Some((3, "no".to_owned()))),
        (b"\x0a\x04\x12\x02hm", Some((0, "hm".to_owned()))),
        (b"\xff\xff no protobuf", None),
    ] {
        assert_eq!(refused(answer), told);
    }
}
