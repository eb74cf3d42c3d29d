//! Which headers pass, which are made, and how a message is framed on its way.

use std::collections::BTreeSet;

use crate::support::{Proxy, Received, Refused, Reply, Upstream};

const RETRY: &str = "retry: { backoff: { base: 0s }, budget: off }";

/// The three tries that this request is given.
#[track_caller]
fn three_tries(headers: &[&str]) -> (Proxy, Vec<Received>) {
    let upstream = Upstream::script([503, 503, 200]);
    let proxy = Proxy::before(&upstream, RETRY);
    assert_eq!(proxy.request("GET", "/", headers, b"").status, 200);
    let received = upstream.received();
    assert_eq!(received.len(), 3);
    (proxy, received)
}

fn all(received: &[Received], name: &str) -> Vec<Option<String>> {
    received.iter().map(|one| one.header(name)).collect()
}

fn distinct(received: &[Received], name: &str) -> BTreeSet<Option<String>> {
    all(received, name).into_iter().collect()
}

#[test]
fn a_request_id_is_kept_everywhere() {
    let upstream = Upstream::echo();
    let proxy = Proxy::before(&upstream, "");
    let answer = proxy.request("GET", "/", &["X-Request-Id: r-17"], b"");
    assert_eq!(answer.header("x-request-id").as_deref(), Some("r-17"));
    assert_eq!(
        upstream.last().header("x-request-id").as_deref(),
        Some("r-17")
    );
    assert_eq!(proxy.only_line()["request_id"], "r-17");
}

#[test]
fn a_request_id_is_made_where_there_is_none() {
    let upstream = Upstream::echo();
    let proxy = Proxy::before(&upstream, "");
    let ids: BTreeSet<String> = (0..3)
        .map(|_| {
            let id = proxy.get("/").header("x-request-id").unwrap();
            assert_eq!(upstream.last().header("x-request-id").as_ref(), Some(&id));
            id
        })
        .collect();
    assert_eq!(ids.len(), 3);
    let logged: BTreeSet<String> = proxy
        .logged(3)
        .iter()
        .map(|line| line["request_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(logged, ids);
}

#[test]
fn a_correlation_id_is_passed_and_used_where_it_is_the_only_id() {
    let upstream = Upstream::echo();
    let proxy = Proxy::before(&upstream, "");
    let answer = proxy.request("GET", "/", &["x-correlation-id: c-1"], b"");
    assert_eq!(answer.header("x-request-id").as_deref(), Some("c-1"));
    let received = upstream.last();
    assert_eq!(received.header("x-correlation-id").as_deref(), Some("c-1"));
    assert_eq!(received.header("x-request-id").as_deref(), Some("c-1"));
    let both = ["x-correlation-id: c-1", "x-request-id: r-1"];
    let answer = proxy.request("GET", "/", &both, b"");
    assert_eq!(answer.header("x-request-id").as_deref(), Some("r-1"));
    assert_eq!(
        upstream.last().header("x-correlation-id").as_deref(),
        Some("c-1")
    );
}

/// Our own answers carry it too.
#[test]
fn a_refusal_carries_the_request_id() {
    let refusing = Refused::new();
    let proxy = Proxy::to(&[refusing.address], "");
    let answer = proxy.request("GET", "/", &["x-request-id: r-1"], b"");
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("x-request-id").as_deref(), Some("r-1"));
    let proxy = Proxy::to(
        &[refusing.address],
        "fallback: [{ on: [any], respond: {} }]",
    );
    let answer = proxy.request("GET", "/", &["x-request-id: r-1"], b"");
    assert_eq!(answer.header("x-request-id").as_deref(), Some("r-1"));
}

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Rule 22: the trace and the ids stay, each try is its own span.
#[test]
fn rule_022_a_trace_goes_through_all_tries() {
    let (proxy, received) = three_tries(&[
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate: vendor=1,other=2",
        "baggage: user=7",
        "idempotency-key: k",
    ]);
    let spans = distinct(&received, "traceparent");
    assert_eq!(spans.len(), 3, "{spans:?}");
    for span in spans.into_iter().flatten() {
        let parts: Vec<&str> = span.split('-').collect();
        assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE_ID, "01"));
        assert_ne!(parts[2], "00f067aa0ba902b7", "our own span lies in between");
        assert_eq!(parts[2].len(), 16);
    }
    for (name, value) in [
        ("tracestate", "vendor=1,other=2"),
        ("baggage", "user=7"),
        ("idempotency-key", "k"),
    ] {
        assert_eq!(distinct(&received, name), [Some(value.to_owned())].into());
    }
    assert_eq!(distinct(&received, "x-request-id").len(), 1);
    let attempts = all(&received, "x-mamparo-attempt");
    assert_eq!(attempts, [None, Some("2".into()), Some("3".into())]);
    assert_eq!(proxy.only_line()["trace_id"], TRACE_ID);
}

#[test]
fn a_trace_is_made_where_there_is_none_or_no_valid_one() {
    for headers in [
        &[][..],
        &[
            "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "tracestate: a=b",
        ],
        &["traceparent: nonsense", "tracestate: a=b"],
        &["tracestate: a=b"],
    ] {
        let (proxy, received) = three_tries(headers);
        let parents = distinct(&received, "traceparent");
        let traces: BTreeSet<String> = parents
            .into_iter()
            .map(|parent| parent.unwrap()[3..35].to_owned())
            .collect();
        let logged = proxy.only_line()["trace_id"].as_str().unwrap().to_owned();
        assert_eq!(traces, [logged].into(), "one trace for all tries");
        assert_eq!(distinct(&received, "tracestate"), [None].into());
    }
}

#[test]
fn forwarding_headers() {
    let upstream = Upstream::always(Reply::new(200).header("via: 1.0 origin"));
    let proxy = Proxy::before(&upstream, "");
    let answer = proxy.get("/");
    let received = upstream.last();
    assert_eq!(
        received.header("x-forwarded-for").as_deref(),
        Some("127.0.0.1")
    );
    assert_eq!(
        received.header("x-forwarded-proto").as_deref(),
        Some("http")
    );
    assert_eq!(
        received.header("x-forwarded-host").as_deref(),
        Some("service")
    );
    let via = received.header("via").unwrap();
    assert!(via.starts_with("1.1 mamparo-"), "{via}");
    let expected = format!("1.0 origin, {via}");
    assert_eq!(answer.header("via").as_deref(), Some(&*expected));
    let before = [
        "x-forwarded-for: 10.0.0.1, 10.0.0.2",
        "x-forwarded-proto: https",
        "x-forwarded-host: shop.example.com",
        "via: 1.1 edge",
    ];
    proxy.request("GET", "/", &before, b"");
    let received = upstream.last();
    let list = received.header("x-forwarded-for");
    assert_eq!(list.as_deref(), Some("10.0.0.1, 10.0.0.2, 127.0.0.1"));
    assert_eq!(
        received.header("x-forwarded-proto").as_deref(),
        Some("https")
    );
    let host = received.header("x-forwarded-host");
    assert_eq!(host.as_deref(), Some("shop.example.com"));
    let expected = format!("1.1 edge, {via}");
    assert_eq!(received.header("via").as_deref(), Some(&*expected));
}

/// Each hop says in which version it got the message.
#[test]
fn via_names_the_version_that_came_in() {
    let reply = "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let upstream = Upstream::always(Reply::raw(reply));
    let proxy = Proxy::before(&upstream, "");
    let answer = proxy.send("GET / HTTP/1.0\r\nvia: 1.1 edge\r\n\r\n");
    let via = answer.header("via").unwrap();
    assert!(via.starts_with("1.0 mamparo-"), "{via}");
    let via = upstream.last().header("via").unwrap();
    assert!(via.starts_with("1.1 edge, 1.0 mamparo-"), "{via}");
}

#[test]
fn max_forwards_is_counted_and_at_0_the_answer_is_ours() {
    let upstream = Upstream::echo();
    let proxy = Proxy::before(&upstream, "");
    for (method, left, then) in [("OPTIONS", 5, 4), ("TRACE", 1, 0), ("GET", 3, 3)] {
        let header = format!("max-forwards: {left}");
        assert_eq!(proxy.request(method, "/", &[&header], b"").status, 200);
        let left = upstream.last().header("max-forwards");
        assert_eq!(left, Some(then.to_string()), "{method}");
    }
    let count = upstream.count();
    let answer = proxy.request("OPTIONS", "/", &["max-forwards: 0"], b"");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let answer = proxy.request("TRACE", "/a", &["max-forwards: 0", "cookie: c"], b"");
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("message/http")
    );
    let text = "TRACE /a HTTP/1.1\r\nhost: service\r\nmax-forwards: 0\r\n\r\n";
    assert_eq!(answer.text(), text);
    assert_eq!(upstream.count(), count, "neither went on");
    proxy.expect_metric("mamparo_requests_total", &[("outcome", "refused")], 2.0);
}

#[test]
fn attempts_are_told_where_there_was_more_than_one() {
    for (script, attempts) in [(vec![200], None), (vec![503, 200], Some("2"))] {
        let upstream = Upstream::script(script);
        let answer = Proxy::before(&upstream, RETRY).get("/");
        assert_eq!(answer.header("x-mamparo-attempts").as_deref(), attempts);
        assert_eq!(upstream.received()[0].header("x-mamparo-attempt"), None);
    }
    let refusing = Refused::new();
    let answer = Proxy::to(&[refusing.address], RETRY).get("/");
    assert_eq!(answer.header("x-mamparo-attempts").as_deref(), Some("3"));
    assert_eq!(answer.json()["context"]["attempts"], 3);
}

/// Rule 6: what is left, anew for each try; a client can only shorten it.
#[test]
fn rule_006_the_time_that_is_left_is_told_to_each_try() {
    let left = |received: &Received| -> u64 {
        received
            .header("x-mamparo-timeout-ms")
            .unwrap()
            .parse()
            .unwrap()
    };
    let upstream = Upstream::script([Reply::new(503).after_ms(30), Reply::new(200)]);
    let proxy = Proxy::before(&upstream, &format!("timeouts: {{ request: 5s }}\n{RETRY}"));
    assert_eq!(proxy.get("/").status, 200);
    let lefts: Vec<u64> = upstream.received().iter().map(left).collect();
    assert!(lefts[0] <= 5000 && lefts[1] + 30 <= lefts[0], "{lefts:?}");

    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "timeouts: { request: 5s }");
    for (asked, most, least) in [
        ("1000", 1000, 1),
        ("9000", 5000, 1001),
        ("soon", 5000, 1001),
        ("-1", 5000, 1001),
    ] {
        let header = format!("x-mamparo-timeout-ms: {asked}");
        proxy.request("GET", "/", &[&header], b"");
        let left = left(&upstream.last());
        assert!((least..=most).contains(&left), "{left} of {asked}");
    }
    let sent = upstream.count();
    let answer = proxy.request("GET", "/", &["x-mamparo-timeout-ms: 0"], b"");
    assert_eq!(answer.reason().as_deref(), Some("request_timeout"));
    assert_eq!(
        upstream.count(),
        sent,
        "there is no time, so nothing is sent"
    );
    let upstream = Upstream::always(Reply::stall());
    let proxy = Proxy::before(&upstream, "timeouts: { request: 5s }");
    let answer = proxy.request("GET", "/", &["x-mamparo-timeout-ms: 50"], b"");
    assert_eq!(answer.reason().as_deref(), Some("request_timeout"));
}

#[test]
fn hop_by_hop_headers_end_here() {
    let upstream = Upstream::always(
        Reply::new(200)
            .header("connection: x-hop, keep-alive")
            .header("x-hop: 1")
            .header("keep-alive: timeout=9")
            .header("proxy-authenticate: Basic")
            .header("upgrade: h2c")
            .header("x-end: 1"),
    );
    let proxy = Proxy::before(&upstream, "");
    let sent = [
        "connection: x-hop, keep-alive",
        "x-hop: 1",
        "keep-alive: timeout=9",
        "te: gzip",
        "proxy-authorization: Basic abc",
        "proxy-connection: keep-alive",
        "upgrade: h2c",
        "x-end: 1",
    ];
    let answer = proxy.request("GET", "/", &sent, b"");
    let received = upstream.last();
    for name in [
        "x-hop",
        "keep-alive",
        "te",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-connection",
        "upgrade",
    ] {
        assert_eq!(received.header(name), None, "{name}");
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(received.header("x-end").as_deref(), Some("1"));
    assert_eq!(answer.header("x-end").as_deref(), Some("1"));
}

/// Repeated header lines stay repeated, and in their order.
#[test]
fn repeated_headers_stay() {
    let act = Reply::new(200)
        .header("set-cookie: a=1")
        .header("set-cookie: b=2");
    let upstream = Upstream::always(act);
    let proxy = Proxy::before(&upstream, "");
    let answer = proxy.request("GET", "/", &["x-many: 1", "x-many: 2"], b"");
    assert_eq!(answer.header("set-cookie").as_deref(), Some("a=1|b=2"));
    assert_eq!(upstream.last().header("x-many").as_deref(), Some("1|2"));
}

#[test]
fn answers_without_a_body() {
    let upstream = Upstream::with(|_, received| match received.target.as_str() {
        "/204" => Reply::new(204),
        "/304" => Reply::new(304).header("etag: \"1\""),
        _ => Reply::new(200).body("a body"),
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    let head = client.request("HEAD", "/", &[], b"").answer_to("HEAD");
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length").as_deref(), Some("6"));
    for status in [204, 304] {
        let answer = client.get(&format!("/{status}"));
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        assert_eq!(answer.header("transfer-encoding"), None);
    }
    assert_eq!(client.get("/").text(), "a body");
    assert_eq!(
        upstream.connections(),
        1,
        "and every connection is in order"
    );
}

/// Rule 72: ours, too.
#[test]
fn our_own_answer_to_head_has_no_body() {
    let refusing = Refused::new();
    let proxy = Proxy::to(&[refusing.address], "");
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.request("HEAD", "/", &[], b"").answer_to("HEAD");
        assert_eq!(answer.status, 502);
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert!(length > 100);
    }
}

#[test]
fn http_1_0_clients() {
    let upstream = Upstream::with(|_, received| match received.target.as_str() {
        "/chunked" => Reply::new(200).chunked(&["one ", "two"]),
        _ => Reply::new(200).body("plain"),
    });
    let proxy = Proxy::before(&upstream, "");
    for (target, text, wish) in [
        ("/", "plain", ""),
        ("/chunked", "one two", ""),
        // Without a length it cannot be kept, whatever the client wishes.
        ("/chunked", "one two", "connection: keep-alive\r\n"),
    ] {
        let mut client = proxy.client();
        client.send(format!("GET {target} HTTP/1.0\r\n{wish}\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, text));
        assert_ne!(answer.header("connection").as_deref(), Some("keep-alive"));
        assert!(!answer.head.is_chunked(), "it would not understand");
        assert!(client.is_closed());
        let received = upstream.last();
        assert_eq!(received.head.line, format!("GET {target} HTTP/1.1"));
        assert_eq!(
            received.header("host"),
            Some(upstream.address().to_string())
        );
    }
}

#[test]
fn chunked_bodies_and_trailers_pass_both_ways() {
    let act = Reply::new(200)
        .header("trailer: x-sum")
        .chunked(&["one ", "two"])
        .trailer("x-sum: 7");
    let upstream = Upstream::always(act);
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    client.send(
        "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.text(), "one two");
    assert!(answer.head.is_chunked() && answer.complete);
    let received = upstream.last();
    assert!(
        received.head.is_chunked(),
        "its length is not known before its end"
    );
    assert_eq!(received.text(), "abcdef");
    assert_eq!(client.get("/").text(), "one two");
}

/// An answer that ends with its connection is framed for a client that goes on.
#[test]
fn an_answer_that_ends_with_its_connection() {
    let upstream = Upstream::always(Reply::raw("HTTP/1.1 200 OK\r\n\r\nto the end"));
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(answer.text(), "to the end");
        assert!(answer.head.is_chunked() && answer.complete);
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn bodies_of_any_size_pass_unchanged() {
    for length in [1, 8 * 1024, 100_000, 5 << 20] {
        let body: Vec<u8> = (0..251_u8).cycle().take(length).collect();
        let upstream = Upstream::always(Reply::new(200).body(&body));
        let proxy = Proxy::before(&upstream, "retry: {}");
        let answer = proxy.request("POST", "/", &[], &body);
        assert!(answer.body == body, "{length} bytes down");
        assert!(upstream.last().body == body, "{length} bytes up");
        let line = proxy.only_line();
        assert_eq!(
            (&line["bytes_in"], &line["bytes_out"]),
            (&length.into(), &length.into())
        );
    }
}

/// Rule 20: where an answer comes before the request is complete, what the client still sends is not
/// waited for: the connection ends, and the answer says so, or the client would lose its next request.
#[test]
fn rule_020_an_answer_before_the_end_of_its_request_ends_the_connection() {
    let (refusing, early) = (Refused::new(), Upstream::always(Reply::new(413).early()));
    for (endpoint, status) in [(refusing.address, 502), (early.address(), 413)] {
        let proxy = Proxy::to(&[endpoint], "");
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n");
        let answer = client.answer();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
        // Its rest does not spoil the answer, and is no request.
        let _ = client.try_send("body");
        assert!(client.is_closed());
    }
}

/// A request that is there as a whole costs no connection, though nobody reads its body.
#[test]
fn an_answer_to_a_whole_request_keeps_the_connection() {
    let refusing = Refused::new();
    let proxy = Proxy::to(&[refusing.address], "");
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.request("POST", "/", &[], b"body").answer();
        assert_eq!((answer.status, answer.header("connection")), (502, None));
    }
}
