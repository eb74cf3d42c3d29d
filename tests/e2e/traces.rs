//! Spans for a collector: what they say of a request, and that no request waits for the collector,
//! whatever it does.

use std::time::{Duration, Instant};

use crate::support::proxy::single;
use crate::support::tls::{Authority, Files, TlsUpstream};
use crate::support::{
    BlackHole, Client, Http2, Program, Proxy, Refused, Reply, Span, Upstream, eventually, spans_at,
    spans_in, value_of,
};

const TRACEPARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const RETRIES: &str = "retry: { backoff: { base: 20ms, jitter: none } }";

/// A `tracing` block that keeps this.
fn tracing(collector: std::net::SocketAddr, more: &str) -> String {
    format!("tracing: {{ otlp: \"http://{collector}\"{more} }}\n")
}

/// A proxy before one upstream, with spans of everything.
fn all(collector: std::net::SocketAddr, upstream: &Upstream, policies: &str) -> Proxy {
    let more = ", keep: { rest: 100% }";
    let block = tracing(collector, more);
    Proxy::start(&(block + &single(&[upstream.address()], policies)))
}

/// Waits for exactly so many spans.
#[track_caller]
fn spans(collector: &Upstream, count: usize) -> Vec<Span> {
    eventually("the spans are there", || spans_at(collector).len() >= count);
    let spans = spans_at(collector);
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans
}

#[track_caller]
fn counted(proxy: &Proxy, result: &str, spans: f64) {
    let read = || proxy.metric("mamparo_spans_total", &[("result", result)]);
    eventually(result, || read() >= spans);
    assert_eq!(read(), spans, "{result}");
}

#[test]
fn a_retried_request_is_told_with_its_tries_and_without_its_secrets() {
    let collector = Upstream::always(200);
    let upstream = Upstream::script([503, 200]);
    let proxy = all(collector.address(), &upstream, RETRIES);
    let answer = proxy.request(
        "GET",
        "/v1/charges?token=hunter2",
        &[
            TRACEPARENT,
            "authorization: Bearer hunter2",
            "cookie: session=hunter2",
        ],
        b"",
    );
    assert_eq!(answer.status, 200);
    let spans = spans(&collector, 3);
    let received = collector.last();
    assert_eq!(received.target, "/v1/traces");
    let content_type = received.head.header("content-type");
    assert_eq!(content_type.as_deref(), Some("application/x-protobuf"));
    assert!(!received.body.windows(7).any(|bytes| bytes == b"hunter2"));
    let [server, first, second] = spans.as_slice() else {
        panic!("{spans:#?}");
    };
    assert_eq!(
        (server.kind, first.kind, second.kind),
        (Span::SERVER, Span::CLIENT, Span::CLIENT)
    );
    assert_eq!(
        (server.name.as_str(), first.name.as_str()),
        ("GET u", "GET")
    );
    assert_eq!(server.parent, "00f067aa0ba902b7");
    assert_eq!((&first.parent, &second.parent), (&server.id, &server.id));
    for span in &spans {
        assert_eq!(span.trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(span.resource["service.name"], "tested");
        assert!(span.start <= span.end && server.start <= span.start && span.end <= server.end);
    }
    // What the endpoint was told is what the collector is told (rule 22).
    for (request, span) in upstream.received().iter().zip([first, second]) {
        let told = request.head.header("traceparent").unwrap();
        assert_eq!(told, format!("00-{}-{}-01", span.trace, span.id));
    }
    assert!(server.has(&[
        ("http.response.status_code", "200"),
        ("url.path", "/v1/charges"),
        ("mamparo.outcome", "upstream"),
    ]));
    assert!(
        first.is_error && first.has(&[("error.type", "503")]),
        "{first:#?}"
    );
    assert!(!first.attributes.contains_key("http.request.resend_count"));
    assert!(second.has(&[
        ("http.request.resend_count", "1"),
        ("mamparo.upstream", "u")
    ]));
    assert!(!server.is_error && !second.is_error);
    assert_eq!(server.events, ["mamparo.backoff"]);
    assert!(
        second.start - first.end >= 20_000_000,
        "{first:#?} {second:#?}"
    );
    counted(&proxy, "exported", 3.0);
}

#[test]
fn a_request_that_no_try_was_made_for_and_one_that_a_fallback_answered_are_told() {
    let collector = Upstream::always(200);
    let nobody = Refused::new();
    let policies = "fallback: [{ on: any, respond: { status: 200, body: kept } }]";
    let routes = format!(
        "listeners:\n  outbound:\n    address: \"127.0.0.1:0\"\n    routes: [{{ match: {{ path_prefix: /u }}, upstream: u }}]\n\
         upstreams:\n  u:\n    endpoints: [\"{}\"]\n    {policies}\n",
        nobody.address
    );
    let proxy = Proxy::start(&(tracing(collector.address(), "") + &routes));
    assert_eq!(proxy.get("/elsewhere").status, 404);
    assert_eq!(proxy.get("/u").status, 200);
    let spans = spans(&collector, 3);
    let with = |pairs: &[(&str, &str)]| {
        let found = spans.iter().find(|span| span.has(pairs));
        found.unwrap_or_else(|| panic!("{pairs:?}: {spans:#?}"))
    };
    let refused = with(&[
        ("mamparo.reason", "no_route"),
        ("mamparo.outcome", "refused"),
    ]);
    assert_eq!(
        (refused.name.as_str(), refused.parent.as_str()),
        ("GET", "")
    );
    let fallback = with(&[("mamparo.fallback", "respond"), ("http.route", "u")]);
    assert!(!refused.is_error && !fallback.is_error);
    let failed = with(&[
        ("error.type", "connect_failure"),
        ("mamparo.sent", "not_sent"),
    ]);
    assert!(failed.is_error && failed.parent == fallback.id);
}

#[test]
fn a_call_of_grpc_is_told_as_one() {
    let collector = Upstream::always(200);
    let ended = Reply::new(200).header("content-type: application/grpc");
    let upstream = Upstream::always(ended.chunked(&[]).trailer("grpc-status: 14"));
    let proxy = all(collector.address(), &upstream, "");
    let mut client = Http2::connect(proxy.listener("outbound"));
    let headers = ["content-type: application/grpc", "te: trailers"];
    client.request("POST", "/shop.Orders/Place", &headers, b"message");
    drop(client);
    let spans = spans(&collector, 2);
    for span in &spans {
        assert_eq!(span.name, "shop.Orders/Place");
        let told = [
            ("rpc.service", "shop.Orders"),
            ("rpc.grpc.status_code", "14"),
        ];
        assert!(span.is_error && span.has(&told), "{span:#?}");
    }
}

#[test]
fn a_collector_that_is_down_costs_spans_and_nothing_else() {
    let upstream = Upstream::always(200);
    let (refused, hole) = (Refused::new(), BlackHole::new());
    for down in [refused.address, hole.address] {
        let more = ", timeout: 200ms, keep: { rest: 100% }";
        let yaml = tracing(down, more) + &single(&[upstream.address()], "");
        let proxy = Proxy::start(&yaml);
        let mut client = proxy.client();
        let began = Instant::now();
        for _ in 0..50 {
            assert_eq!(client.get("/").status, 200);
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        drop(client);
        counted(&proxy, "failed", 100.0);
        counted(&proxy, "exported", 0.0);
    }
}

#[test]
fn a_slow_collector_gets_what_the_queue_holds_and_the_rest_is_dropped() {
    let collector = Upstream::always(Reply::stall());
    let upstream = Upstream::always(200);
    let more = ", timeout: 5m, keep: { rest: 100% }";
    let yaml = tracing(collector.address(), more) + &single(&[upstream.address()], "");
    let proxy = Proxy::start(&yaml);
    let mut client = proxy.client();
    for _ in 0..2600 {
        assert_eq!(client.get("/").status, 200);
    }
    drop(client);
    proxy.expect_metric("mamparo_requests_total", &[], 2600.0);
    let dropped = proxy.metric("mamparo_spans_total", &[("result", "dropped")]);
    // One batch is on its way, and 2048 requests wait.
    assert!((2.0 * 296.0..2.0 * 552.0).contains(&dropped), "{dropped}");
    let began = Instant::now();
    proxy.shutdown();
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(6),
        "the end waits two seconds: {took:?}"
    );
}

#[test]
fn a_batch_that_may_pass_is_sent_again_and_another_is_not() {
    let upstream = Upstream::always(200);
    for (script, sent, result) in [
        (vec![Reply::new(503), Reply::new(200)], 2, "exported"),
        (vec![Reply::reset(), Reply::new(200)], 2, "exported"),
        (
            vec![Reply::new(429).header("retry-after: 1"), Reply::new(200)],
            2,
            "exported",
        ),
        (vec![Reply::new(502)], 3, "failed"),
        (vec![Reply::new(400)], 1, "failed"),
    ] {
        let collector = Upstream::script(script);
        let proxy = all(collector.address(), &upstream, "");
        proxy.get("/");
        counted(&proxy, result, 2.0);
        let received = collector.received();
        assert_eq!(received.len(), sent, "{result}");
        assert!(received.iter().all(|one| one.body == received[0].body));
        assert_eq!(spans_in(&received[0].body).len(), 2);
    }
}

/// ExportTraceServiceResponse { partial_success { rejected_spans: 1, error_message: "no" } }
const PARTIAL: &[u8] = b"\x0a\x06\x08\x01\x12\x02no";

#[test]
fn spans_that_a_collector_refuses_one_by_one_are_dropped() {
    let collector = Upstream::always(Reply::new(200).body(PARTIAL));
    let upstream = Upstream::always(200);
    let proxy = all(collector.address(), &upstream, "");
    proxy.get("/");
    counted(&proxy, "exported", 1.0);
    counted(&proxy, "dropped", 1.0);
}

#[test]
fn trouble_with_the_collector_is_told_once_and_its_end_too() {
    let refused = [503; 4].map(Reply::new).into_iter();
    let [taken, partly] = [&b""[..], PARTIAL].map(|body| Reply::new(200).body(body));
    let collector = Upstream::script(refused.chain([taken.clone(), partly, taken]));
    let upstream = Upstream::always(200);
    let program = Program::run(&format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\naccess_log: {{ destination: off }}\n{}{}",
        tracing(
            collector.address(),
            ", headers: { x-key: hunter2 }, keep: { rest: 100% }"
        ),
        single(&[upstream.address()], "")
    ));
    let mut client = Client::connect(program.listener("outbound"));
    assert_eq!(client.get("/").status, 200);
    eventually("the batch is given up", || collector.count() == 3);
    assert_eq!(client.get("/").status, 200);
    eventually("it is told of", || {
        program.stderr().contains("takes spans again")
    });
    let log = program.stderr();
    assert_eq!(
        log.matches("Spans are lost: it answered 503").count(),
        1,
        "{log}"
    );
    assert!(log.contains("takes spans again; 2 were lost."), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    // What one batch loses is known only when it has come through.
    for sent in [6, 7] {
        assert_eq!(client.get("/").status, 200);
        eventually("the batch has come", || collector.count() == sent);
    }
    eventually("it is told of again", || {
        program.stderr().contains("takes spans again; 1 were lost.")
    });
    assert_eq!(
        collector.last().head.header("x-key").as_deref(),
        Some("hunter2")
    );
}

#[test]
fn at_the_end_what_waits_is_sent() {
    let collector = Upstream::always(200);
    let upstream = Upstream::always(200);
    let proxy = all(collector.address(), &upstream, "");
    let began = Instant::now();
    assert_eq!(proxy.get("/").status, 200);
    proxy.shutdown();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(spans_at(&collector).len(), 2);
}

#[test]
fn a_reload_changes_the_collector_and_the_shares() {
    let (one, other) = (Upstream::always(200), Upstream::always(200));
    let upstream = Upstream::always(200);
    let yaml = |block: &str| {
        format!(
            "admin: {{ address: \"127.0.0.1:0\" }}\naccess_log: {{ destination: off }}\n{block}{}",
            single(&[upstream.address()], "")
        )
    };
    let none = tracing(one.address(), ", keep: { rest: 0% }");
    let program = Program::run(&yaml(&none));
    let reload = |block: &str| {
        std::fs::write(program.config(), yaml(block)).unwrap();
        let answer = Client::connect(program.admin()).ask_admin("POST", "/api/v1/reload", "");
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let mut client = Client::connect(program.listener("outbound"));
    assert_eq!(client.get("/kept-by-nobody").status, 200);
    reload(&tracing(other.address(), ", keep: { rest: 100% }"));
    assert_eq!(client.get("/kept").status, 200);
    let kept = spans(&other, 2);
    assert!(kept[0].has(&[("url.path", "/kept")]));
    reload("");
    assert_eq!(client.get("/kept-by-nobody").status, 200);
    // What a collector gets comes within a second.
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!((one.count(), spans_at(&other).len()), (0, 2));
}

#[test]
fn a_collector_under_tls_gets_spans_if_the_system_trusts_it() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let collector = TlsUpstream::start(&ours.issue(&["127.0.0.1"]));
    let upstream = Upstream::always(200);
    let yaml = format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\naccess_log: {{ destination: off }}\n\
         tracing: {{ otlp: \"https://{}\", keep: {{ rest: 100% }} }}\n{}",
        collector.address,
        single(&[upstream.address()], "")
    );
    for (trusted, result) in [(&ours, "exported"), (&other, "failed")] {
        let files = Files::new();
        files.put("ca.crt", &trusted.pem());
        let program = Program::run_with(&yaml, &[], |command| {
            command.env("SSL_CERT_FILE", files.folder().join("ca.crt"));
            command.env_remove("SSL_CERT_DIR");
        });
        let mut client = Client::connect(program.listener("outbound"));
        assert_eq!(client.get("/").status, 200);
        let counted = || {
            let metrics = Client::connect(program.admin()).get("/metrics").text();
            value_of(&metrics, "mamparo_spans_total", &[("result", result)])
        };
        eventually(result, || counted() == 2.0);
        let told = "who is not trusted by the system's authorities";
        let is_told = program.stderr().contains(told);
        assert_eq!(is_told, result == "failed", "{}", program.stderr());
    }
}
