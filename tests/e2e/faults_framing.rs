//! Bytes that two parties could read in two ways (section A of the faults), the whole way: what is
//! refused never reaches the upstream, the reason is in answer, log and metric, and the connection ends.

use std::time::Duration;

use crate::faults_told::expect_all_told;
use crate::support::{Client, Http2, Proxy, Reply, Upstream};

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// Sends each of these, and a second request behind it. Each must be refused with that status, and
/// neither it nor what follows may reach the upstream.
#[track_caller]
fn refused(status: u16, reason: &str, requests: &[impl AsRef<[u8]>]) {
    refused_under("", status, reason, requests);
}

#[track_caller]
fn refused_under(listener: &str, status: u16, reason: &str, requests: &[impl AsRef<[u8]>]) {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound: {{ address: \"127.0.0.1:0\", upstream: u{listener} }}\n\
         upstreams:\n  u: {{ endpoints: [\"{}\"], bulkhead: {{}}, circuit_breaker: {{}} }}\n",
        upstream.address()
    ));
    for request in requests {
        let bytes = request.as_ref();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
        let mut client = proxy.client();
        // The proxy may close before it has read everything.
        let _ = client.try_send([bytes, NEXT.as_bytes()].concat());
        let answer = client
            .try_answer("GET")
            .unwrap_or_else(|error| panic!("{error:?}: {shown:?}"));
        assert_eq!(answer.status, status, "{shown:?}: {answer:?}");
        assert_eq!(answer.reason().as_deref(), Some(reason), "{shown:?}");
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
        assert_eq!(answer.json()["context"]["reason"], reason);
        assert!(client.rest().is_ok_and(|rest| rest.is_empty()), "{shown:?}");
    }
    let complete = upstream
        .received()
        .iter()
        .filter(|one| one.complete)
        .count();
    assert_eq!(complete, 0, "{:#?}", upstream.received());
    expect_all_told(&proxy, requests.len(), "refused", Some(reason));
    assert_eq!(
        proxy.endpoint().window.map(|window| window.failures),
        Some(0)
    );
}

/// A POST with these header lines and this body.
fn post(headers: &[&str], body: &str) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("POST /x HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}")
}

fn get(line: &str) -> String {
    format!("GET /x HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n")
}

#[test]
fn fault_001_length_and_transfer_encoding_together() {
    refused(
        400,
        "bad_request",
        &[
            post(
                &["content-length: 6", "transfer-encoding: chunked"],
                "0\r\n\r\nG",
            ),
            post(
                &["transfer-encoding: chunked", "content-length: 0"],
                "0\r\n\r\n",
            ),
        ],
    );
}

#[test]
fn fault_002_and_003_lengths_that_are_no_single_number() {
    let values = [
        "5, 5",
        "5,6",
        "+5",
        "-5",
        "0x5",
        "5 ",
        "5a",
        "",
        "٣",
        "9223372036854775808",
        "00000000000000000005",
        "18446744073709551621",
        "5\t",
    ];
    let mut requests: Vec<String> = values
        .iter()
        .filter(|value| !matches!(**value, "5 "))
        .map(|value| post(&[&format!("content-length: {value}")], "hello"))
        .collect();
    requests.push(post(&["content-length: 5", "content-length: 6"], "hello"));
    requests.push(post(&["content-length: 5", "content-length: 5"], "hello"));
    refused(400, "bad_request", &requests);
}

#[test]
fn fault_004_transfer_encodings_that_are_not_exactly_chunked() {
    let values = [
        "xchunked",
        "chunked, identity",
        "gzip, chunked",
        "gzip",
        "identity",
        "\tchunked",
        "\u{b}chunked",
        "Chunked",
        "chunked;q=1",
        "",
        "chunked,",
        "'chunked'",
    ];
    let mut requests: Vec<String> = values
        .iter()
        .map(|value| post(&[&format!("transfer-encoding: {value}")], "0\r\n\r\n"))
        .collect();
    let twice = ["transfer-encoding: chunked", "transfer-encoding: chunked"];
    requests.push(post(&twice, "0\r\n\r\n"));
    refused(400, "bad_request", &requests);
}

#[test]
fn fault_005_transfer_encoding_in_http_1_0() {
    refused(
        400,
        "bad_request",
        &["POST /x HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    );
}

#[test]
fn fault_006_and_007_chunks_that_are_malformed() {
    let ends = "\r\nhello\r\n0\r\n\r\n";
    let mut requests: Vec<String> = [
        "",
        "+5",
        "-5",
        " 5",
        "5 ",
        "0x5",
        "5_0",
        "00000000000000005",
        "fffffffffffffffff",
        "5g",
        "5;",
        "5;a=\r",
        "5;=b",
        "5;a\n",
        "5;a=\"\r\n\"",
        "5;a b",
    ]
    .iter()
    .map(|size| post(&["transfer-encoding: chunked"], &format!("{size}{ends}")))
    .collect();
    let long = format!("5;a={}{ends}", "b".repeat(64 * 1024));
    requests.push(post(&["transfer-encoding: chunked"], &long));
    requests.push(post(
        &["transfer-encoding: chunked"],
        "5\r\nhelloX\r\n0\r\n\r\n",
    ));
    requests.push(post(
        &["transfer-encoding: chunked"],
        "5\r\nhello\n0\r\n\r\n",
    ));
    refused(400, "bad_request", &requests);
}

#[test]
fn fault_006_a_chunk_that_turns_bad_later_aborts_the_upstreams_request() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "bulkhead: {}\ncircuit_breaker: {}\nretry: {}");
    let mut client = proxy.client();
    client.send(post(&["transfer-encoding: chunked"], "5\r\nhello\r\n"));
    upstream.wait_for(1);
    client.send("5x\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.reason().as_deref(), Some("bad_request"));
    assert!(client.is_closed());
    assert!(!upstream.last().complete);
    assert_eq!(upstream.count(), 1, "nothing is tried again");
    expect_all_told(&proxy, 1, "refused", Some("bad_request"));
    crate::faults_told::expect_learnt(&proxy, 0, 0);
}

#[test]
fn fault_008_to_012_lines_and_names_that_are_malformed() {
    let mut requests: Vec<Vec<u8>> = [
        "GET /x HTTP/1.1\nhost: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\r\nx: y\n\n",
        "GET /x HTTP/1.1\r\n x: y\r\nhost: a\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    for line in [
        "x: a\rb",
        "x: a\r\n b",
        "x: a\r\n\tb",
        "x : y",
        " x: y",
        ": y",
        "x",
        "x: a\0b",
        "x: \x01",
        "x\0: y",
        "(x): y",
        "x y: z",
        "x\"y: z",
        "ä: b",
        "x: \x7f",
    ] {
        requests.push(get(line).into_bytes());
    }
    for target in ["/a\0", "/a\x01", "/a b", "/a\tb"] {
        requests.push(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes());
    }
    refused(400, "bad_request", &requests);
}

#[test]
fn fault_013_and_014_heads_and_targets_over_the_limits() {
    let limits = ", limits: { header_size: 8KiB, headers: 10 }";
    let many: String = (0..11).map(|n| format!("x-{n}: y\r\n")).collect();
    refused_under(
        limits,
        431,
        "header_too_large",
        &[
            get(&format!("x: {}", "y".repeat(9000))),
            format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(9000)),
            format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"),
        ],
    );
}

#[test]
fn fault_014_targets_with_a_fragment_or_a_backslash() {
    refused(
        400,
        "bad_request",
        &["/a#b", "/a\\b", "#", "\\", "a/b", ""]
            .map(|target| format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")),
    );
}

#[test]
fn fault_014_a_path_is_matched_and_forwarded_as_it_came() {
    let upstream = Upstream::echo();
    let proxy = Proxy::before(&upstream, "");
    let targets = [
        "//host/path",
        "/a/../b",
        "/a/./b",
        "/a%2fb",
        "/a%2e%2e/b",
        "/a?b=/../c",
        "/%00",
        "/a;b",
        "/a//b",
    ];
    for target in targets {
        assert_eq!(proxy.get(target).status, 200, "{target}");
        assert_eq!(upstream.last().target, target);
    }
}

#[test]
fn fault_014_dot_segments_do_not_lead_around_a_route() {
    let (open, closed) = (Upstream::always(200), Upstream::always(200));
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: \"127.0.0.1:0\"\n    routes:\n\
         \x20     - {{ match: {{ path_prefix: /public }}, upstream: open }}\n\
         \x20     - {{ match: {{ path_prefix: /secret }}, upstream: closed }}\n\
         upstreams:\n  open: {{ endpoints: [\"{}\"] }}\n  closed: {{ endpoints: [\"{}\"] }}\n",
        open.address(),
        closed.address()
    ));
    for target in [
        "/public/../secret",
        "/public/%2e%2e/secret",
        "/publicity",
        "/PUBLIC",
        "//public",
    ] {
        let before = open.count();
        let answer = proxy.get(target);
        // It matched as it came, or not at all; what went on is what was matched.
        match answer.status {
            200 => assert_eq!(open.last().target, target),
            404 => assert_eq!(open.count(), before),
            _ => panic!("{target}: {answer:?}"),
        }
    }
    assert_eq!(closed.count(), 0);
}

#[test]
fn fault_015_hosts_that_can_be_read_two_ways() {
    let hosts = [
        "", "a@b", "a/b", "a b", "a, b", "a:b", "a:123456", "[::1", "[x]", "a#", "a?b", "a\\b",
    ];
    let mut requests: Vec<String> = hosts
        .iter()
        .map(|host| format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n"))
        .collect();
    requests.extend(
        [
            "GET /x HTTP/1.1\r\n\r\n",
            "GET /x HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET /x HTTP/1.1\r\nhost: a\r\nHost: b\r\n\r\n",
            "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://u@a/x HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET ftp://a/x HTTP/1.1\r\nhost: a\r\n\r\n",
        ]
        .map(str::to_owned),
    );
    refused(400, "bad_request", &requests);
    // A forward proxy goes by the target (RFC 9112, section 3.2.2); before a service it is an attack.
    let disagreeing = "GET http://b/x HTTP/1.1\r\nhost: a\r\n\r\n";
    refused_under(", role: inbound", 400, "bad_request", &[disagreeing]);
    let upstream = Upstream::always(200);
    assert_eq!(Proxy::before(&upstream, "").send(disagreeing).status, 200);
    assert_eq!(upstream.last().header("host").as_deref(), Some("b"));
}

#[test]
fn fault_015_an_absolute_target_goes_on_as_a_path_with_its_host() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "");
    let answer = proxy.send("GET http://A:80/x?y HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(answer.status, 200);
    let received = upstream.last();
    assert_eq!(
        (received.target.as_str(), received.header("host").as_deref()),
        ("/x?y", Some("A:80"))
    );
}

#[test]
fn fault_016_methods() {
    refused(
        400,
        "bad_request",
        &[
            "G(T /x HTTP/1.1\r\nhost: a\r\n\r\n",
            " GET /x HTTP/1.1\r\nhost: a\r\n\r\n",
            "G\0T /x HTTP/1.1\r\nhost: a\r\n\r\n",
        ],
    );
    let connect = "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n";
    refused(405, "bad_request", &[connect]);
    let upstream = Upstream::echo();
    let proxy = Proxy::before(&upstream, "");
    for method in ["BREW", "get", "M-SEARCH", "PROPFIND"] {
        assert_eq!(
            proxy.request(method, "/x", &[], b"").status,
            200,
            "{method}"
        );
        assert_eq!(upstream.last().method, method);
    }
}

#[test]
fn fault_017_other_protocols_on_the_port() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    refused(
        400,
        "bad_request",
        &[
            &b"GET /\r\n\r\n"[..],
            b"GET / HTTP/1.2\r\nhost: a\r\n\r\n",
            b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
            b"\xff\xfe\xfd\r\n\r\n",
            b"hello\r\n\r\n",
            hello,
            b"SSH-2.0-OpenSSH_9.6\r\n",
        ],
    );
}

#[test]
fn fault_018_bodies_of_get_and_head_are_framed_and_the_rest_is_the_next_request() {
    let upstream = Upstream::with(|_, _| Reply::new(200));
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    for method in ["GET", "HEAD", "DELETE"] {
        client.send(format!(
            "{method} /body HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"
        ));
        assert_eq!(client.answer_to(method).status, 200);
        let received = upstream.last();
        assert_eq!(
            (received.method.as_str(), received.text().as_str()),
            (method, "hello")
        );
    }
    // Longer than announced: the rest is another request, not a longer body.
    client.send(format!(
        "POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello{NEXT}"
    ));
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().status, 200);
    let received = upstream.received();
    assert_eq!(received[3].text(), "hello");
    assert_eq!(received[4].target, "/smuggled");
    client.send("GET /first HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGARBAGE\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().status, 400);
    assert!(client.is_closed());
    assert_eq!(upstream.count(), 6);
}

#[test]
fn fault_019_a_body_that_ends_too_soon_aborts_the_request() {
    for headers in ["content-length: 10", "transfer-encoding: chunked"] {
        let upstream = Upstream::always(200);
        let proxy = Proxy::before(&upstream, "bulkhead: {}\ncircuit_breaker: {}\nretry: {}");
        let mut client = proxy.client();
        let body = if headers.ends_with("10") {
            "hello"
        } else {
            "a\r\nhello"
        };
        client.send(post(&[headers, "idempotency-key: 1"], body));
        upstream.wait_for(1);
        drop(client);
        expect_all_told(&proxy, 1, "client_gone", Some("client_gone"));
        assert!(!upstream.last().complete, "{headers}");
        assert_eq!(upstream.count(), 1, "nothing is tried again");
        crate::faults_told::expect_learnt(&proxy, 0, 0);
    }
}

#[test]
fn fault_020_pipelined_requests_are_answered_in_order_and_a_refused_one_is_the_last() {
    let upstream = Upstream::with(|number, _| {
        Reply::new(200)
            .body(number.to_string())
            .after_ms(if number == 0 { 50 } else { 0 })
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    let one = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    client.send(format!("{one}{one}GET /a HTTP/1.1\r\n\r\n{one}"));
    assert_eq!(client.answer().text(), "0");
    assert_eq!(client.answer().text(), "1");
    assert_eq!(client.answer().status, 400);
    assert!(client.is_closed());
    assert_eq!(upstream.count(), 2);
}

#[test]
fn fault_021_to_024_hop_by_hop_headers_go_in_both_directions() {
    let reply = Reply::new(200)
        .header("connection: x-private")
        .header("x-private: 1")
        .header("keep-alive: timeout=5")
        .header("proxy-authenticate: Basic")
        .header("upgrade: h2c")
        .header("x-public: 1");
    let upstream = Upstream::always(reply);
    let proxy = Proxy::before(&upstream, "");
    let answer = proxy.request(
        "POST",
        "/x",
        &[
            "connection: close, x-secret, content-length, authorization, host, x-forwarded-for",
            "x-secret: 1",
            "authorization: b",
            "te: gzip",
            "trailer: x",
            "keep-alive: 5",
            "upgrade: h2c",
            "http2-settings: AAA",
            "proxy-authorization: c",
            "x-forwarded-for: 10.1.2.3",
            "x-public: 1",
        ],
        b"hello",
    );
    assert_eq!(answer.status, 200);
    for gone in ["x-private", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.header("x-public").as_deref(), Some("1"));
    let received = upstream.last();
    for gone in [
        "x-secret",
        "te",
        "trailer",
        "keep-alive",
        "upgrade",
        "proxy-authorization",
    ] {
        assert_eq!(received.header(gone), None, "{gone}");
    }
    assert_ne!(received.header("connection").as_deref(), Some("close"));
    assert_eq!(received.header("authorization").as_deref(), Some("b"));
    assert_eq!(received.header("host").as_deref(), Some("service"));
    assert_eq!(
        received.header("x-forwarded-for").as_deref(),
        Some("10.1.2.3, 127.0.0.1")
    );
    assert_eq!(received.text(), "hello");
}

#[test]
fn fault_022_a_refusal_comes_before_the_body_is_asked_for() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "circuit_breaker: {}");
    assert_eq!(proxy.force(upstream.address(), "open").status, 200);
    let mut client = proxy.client();
    let head = "POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let answer = client.send(head).answer();
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (503, Some("breaker_open"))
    );
    assert!(answer.interim.is_empty(), "100 was sent for nothing");
    assert!(client.is_closed());
    assert_eq!(proxy.force(upstream.address(), "auto").status, 200);
    let mut client = proxy.client();
    client.send(head);
    upstream.wait_for(1);
    let answer = client.send("hello").answer();
    assert_eq!((answer.status, answer.interim), (200, vec![100]));
    assert_eq!(upstream.last().text(), "hello");
    let unknown =
        "POST /x HTTP/1.1\r\nhost: a\r\nexpect: miracles\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(proxy.send(unknown).status, 417);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn fault_023_trailers_do_not_become_headers_and_carry_no_framing() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "");
    let body = "5\r\nhello\r\n0\r\nhost: evil\r\ncontent-length: 7\r\nx-trailer: 1\r\n\r\n";
    let answer = proxy.send(post(
        &["transfer-encoding: chunked", "trailer: x-trailer, host"],
        body,
    ));
    assert_eq!(answer.status, 200, "{answer:?}");
    let received = upstream.last();
    assert_eq!(received.text(), "hello");
    assert_eq!(received.header("host").as_deref(), Some("a"));
    let names: Vec<_> = received
        .trailers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["x-trailer"], "neither framing nor routing");
    assert_eq!(received.header("trailer").as_deref(), Some("x-trailer"));
}

/// They pass where they were announced and are wanted, in both directions.
#[test]
fn fault_023_trailers_pass_in_both_directions_where_they_are_wanted() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, host, x-mamparo-reason\r\n\r\n\
                  5\r\nhello\r\n0\r\nx-sum: 7\r\nhost: evil\r\nx-mamparo-reason: no_route\r\nx-unsaid: 1\r\n\r\n";
    let upstream = Upstream::always(Reply::raw(answer).then_keep());
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    for (te, trailers) in [
        ("te: trailers", true),
        ("te: gzip, Trailers;", false),
        ("x: y", false),
    ] {
        let headers = [
            te,
            "connection: te",
            "transfer-encoding: chunked",
            "trailer: x-a",
            "trailer: X-B",
        ];
        client.request("POST", "/", &headers, b"");
        let answer = client
            .send("2\r\nhi\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n")
            .answer();
        assert_eq!((answer.text().as_str(), answer.complete), ("hello", true));
        let sum = [("x-sum".to_owned(), "7".to_owned())];
        assert_eq!(
            answer.trailers,
            if trailers { &sum[..] } else { &[] },
            "{te}"
        );
        assert_eq!(answer.header("trailer").as_deref(), Some("x-sum"));
        let received = upstream.last();
        let fields: Vec<_> = received.trailers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            (received.text().as_str(), &fields[..]),
            ("hi", &["x-a", "x-b"][..])
        );
        let te = received.header("te");
        assert_eq!(te.as_deref(), trailers.then_some("trailers"));
        assert_eq!(
            received.header("connection").as_deref(),
            trailers.then_some("te")
        );
    }
    // HTTP/2 announces nothing, so that here the fields themselves are looked at.
    let answer = Http2::connect(proxy.listener("outbound")).get("/");
    let fields: Vec<_> = answer.trailers.keys().map(|name| name.as_str()).collect();
    assert_eq!(
        (&*answer.body, &fields[..]),
        (&b"hello"[..], &["x-sum", "x-unsaid"][..])
    );
    // HTTP/1.0 has no chunks, and so no trailers.
    let answer = proxy.send("GET / HTTP/1.0\r\nte: trailers\r\n\r\n");
    assert_eq!(
        (answer.text().as_str(), answer.trailers.len()),
        ("hello", 0)
    );
    assert_eq!(answer.header("trailer"), None);
}

/// HTTP/1.1 would take a GET without a length for one without a body.
#[test]
fn fault_018_a_body_of_unknown_length_that_comes_over_http_2_is_framed_for_http_1() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "");
    let mut client = Http2::connect(proxy.listener("outbound"));
    for method in ["GET", "DELETE", "POST"] {
        let mut asked = client.begin_head(method, "/", &[], true);
        asked.body.send_data("hello".into(), true).unwrap();
        assert_eq!(client.answer(asked).status, 200);
        assert_eq!(upstream.last().text(), "hello", "{method}");
        assert!(upstream.last().head.is_chunked());
    }
    assert_eq!(client.get("/").status, 200);
    assert!(!upstream.last().head.is_chunked());
    assert_eq!(upstream.connections(), 1);
}

/// What a length means where there is no body, and that it stays.
#[test]
fn fault_025_lengths_without_a_body_frame_nothing() {
    let upstream = Upstream::with(|_, received| {
        let head = match received.target.as_str() {
            "/304" => "304 Not Modified\r\ncontent-length: 10\r\netag: \"1\"",
            "/204" => "204 No Content",
            _ => "200 OK\r\ncontent-length: 10",
        };
        Reply::raw(format!("HTTP/1.1 {head}\r\n\r\n")).then_keep()
    });
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    for (method, target, status) in [
        ("GET", "/304", 304),
        ("GET", "/204", 204),
        ("HEAD", "/", 200),
        ("HEAD", "/304", 304),
    ] {
        let answer = client.request(method, target, &[], b"").answer_to(method);
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{target}");
        if status == 200 {
            assert_eq!(answer.header("content-length").as_deref(), Some("10"));
        }
        assert_eq!(answer.header("transfer-encoding"), None);
    }
    assert_eq!(
        upstream.connections(),
        1,
        "all of them were good for another"
    );
}

/// Answers that are no valid HTTP.
#[test]
fn fault_025_answers_that_are_malformed() {
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nhello");
    let mut answers = vec![
        head("content-length: 5, 5"),
        head("content-length: 5\r\ncontent-length: 5"),
        head("content-length: 5\r\ncontent-length: 6"),
        head("content-length: 99999999999999999999"),
        head("content-length: +5"),
        head("content-length: 5\r\ntransfer-encoding: chunked"),
        head("transfer-encoding: gzip"),
        head("transfer-encoding: xchunked"),
        head("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        // HTTP/1.0 has none, so that its end would be read in two ways.
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        head("no colon"),
        head("content-length: 5\r\nx: a\r\n folded"),
        head("content-length: 5\r\nx: a\0b"),
        head("content-length: 5\r\nx : a"),
        head("content-length: 5\r\nx: a\rset-cookie: b"),
        "HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 1000 High\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(),
        "hello\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\x00\x01\x00\x01".to_owned(),
        head(&format!("x: {}", "y".repeat(600 * 1024))),
    ];
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    answers.push(head(&many));
    for bytes in answers {
        let shown = &bytes[..bytes.len().min(120)];
        let upstream = Upstream::script([Reply::raw(&bytes).then_keep(), Reply::new(200)]);
        let proxy = Proxy::before(&upstream, crate::faults_told::WATCHED);
        let answer = proxy.get("/");
        assert_eq!(answer.status, 502, "{shown:?}: {answer:?}");
        assert_eq!(
            answer.reason().as_deref(),
            Some("protocol_error"),
            "{shown:?}"
        );
        expect_all_told(&proxy, 1, "failed", Some("protocol_error"));
        crate::faults_told::expect_learnt(&proxy, 1, 1);
        assert_eq!(proxy.get("/").status, 200, "{shown:?}");
        assert_eq!(
            upstream.connections(),
            2,
            "{shown:?}: the connection was used again"
        );
    }
}

#[test]
fn fault_025_and_049_interim_answers_without_end() {
    let mut flood = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(60_000);
    flood.push_str("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let upstream = Upstream::always(Reply::raw(flood).then_stall());
    let proxy = Proxy::before(&upstream, "bulkhead: {}\ncircuit_breaker: {}");
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (502, Some("protocol_error"))
    );
    expect_all_told(&proxy, 1, "failed", Some("protocol_error"));
    crate::faults_told::expect_learnt(&proxy, 1, 1);
}

#[test]
fn fault_049_a_hundred_interim_answers_and_a_final_one() {
    let mut bytes =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(50);
    bytes.push_str("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let upstream = Upstream::always(Reply::raw(bytes).then_keep());
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn fault_025_answers_without_a_body_that_have_one() {
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let bytes = format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\nhello");
        let upstream =
            Upstream::script([Reply::raw(bytes).then_keep(), Reply::new(200).body("clean")]);
        let proxy = Proxy::before(&upstream, "");
        let mut client = proxy.client();
        let answer = client.request(method, "/", &[], b"").answer_to(method);
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        let length = answer.header("content-length");
        match (method, status) {
            ("HEAD", _) => assert_eq!(length.as_deref(), Some("5")),
            (_, 204) => assert_eq!(length, None, "one that believes it waits for five bytes"),
            _ => {}
        }
        assert_eq!(client.get("/").text(), "clean", "{method} {status}");
        assert_eq!(upstream.connections(), 2);
    }
}

#[test]
fn fault_026_bytes_behind_a_body_are_never_another_requests_answer() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for extra in [evil, "x", "\r\n"] {
        for late in [false, true] {
            let plain = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst";
            let first = match late {
                false => Reply::raw(format!("{plain}{extra}")).then_keep(),
                true => Reply::raw(format!("{plain}{extra}"))
                    .then_keep()
                    .dripping(Duration::from_micros(100)),
            };
            let upstream = Upstream::script([first, Reply::new(200).body("second")]);
            let proxy = Proxy::before(&upstream, "");
            let mut client = proxy.client();
            assert_eq!(client.get("/").text(), "first");
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(client.get("/").text(), "second", "{extra:?} late: {late}");
            assert_eq!(upstream.connections(), 2);
        }
    }
}

#[test]
fn fault_011_nothing_that_came_in_splits_an_answer_or_a_request() {
    let upstream = Upstream::echo();
    let proxy = Proxy::before(&upstream, "");
    // What is reflected into our own answers and the upstream's head: the path, the host, the ids.
    let odd = [
        "x-request-id: a%0d%0aset-cookie: x",
        "x-request-id: a\tb",
        "x-correlation-id: é",
        "traceparent: 00-x-y-01",
    ];
    for line in odd {
        let answer = proxy.send(get(line).as_bytes());
        assert_eq!(answer.status, 200, "{line}");
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(
            answer
                .head
                .headers
                .iter()
                .filter(|(name, _)| name == "x-request-id")
                .count(),
            1
        );
    }
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: \"127.0.0.1:0\"\n    routes: [{{ match: {{ path: /only }}, upstream: u }}]\n\
         upstreams:\n  u: {{ endpoints: [\"{}\"] }}\n",
        upstream.address()
    ));
    let mut client: Client = proxy.client();
    let answer = client.get("/%0d%0a%22'script");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (404, Some("no_route"))
    );
    assert!(
        answer.json()["message"]
            .as_str()
            .is_some_and(|text| text.contains("%0d%0a"))
    );
}
