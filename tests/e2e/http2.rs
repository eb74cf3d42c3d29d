//! Clients that speak HTTP/2 to the whole proxy: every policy acts as it does for HTTP/1.1, and what is
//! told of requests is the same.

use std::time::Duration;

use crate::support::{Gate, Http2, Proxy, Reply, Upstream, eventually};

fn http2(proxy: &Proxy) -> Http2 {
    Http2::connect(proxy.listener("outbound"))
}

/// The counters that must not depend on the version that the client speaks.
fn counters(proxy: &Proxy) -> Vec<String> {
    let counted = [
        "mamparo_requests_total",
        "mamparo_failures_total",
        "mamparo_attempts_total",
        "mamparo_retries_total",
        "mamparo_retries_denied_total",
        "mamparo_circuit_breaker_transitions_total",
        "mamparo_circuit_breaker_state",
        "mamparo_bulkhead_refused_total",
        "mamparo_fallbacks_total",
        "mamparo_request_duration_seconds_count",
    ];
    let text = proxy.metrics();
    let lines = text.lines().filter(|line| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        counted.contains(&name)
    });
    lines.map(str::to_owned).collect()
}

/// What an answer says that must not depend on the version: status, reason, tries, body.
type Said = (u16, Option<String>, Option<String>, Vec<u8>);

/// Sends the same requests over both versions to proxies and upstreams of their own, and compares.
#[track_caller]
fn alike(policies: &str, script: &[Reply], requests: &[(&str, &str, &[&str], &[u8])]) {
    let ask = |second: bool| -> (Vec<Said>, Vec<String>) {
        let upstream = Upstream::script(script.to_vec());
        let proxy = Proxy::before(&upstream, policies);
        let mut said = Vec::new();
        let mut client = second.then(|| http2(&proxy));
        for (number, (method, target, headers, body)) in (1..).zip(requests) {
            said.push(match &mut client {
                Some(client) => {
                    let answer = client.request(method, target, headers, body);
                    let tries = answer.header("x-mamparo-attempts").map(str::to_owned);
                    let reason = answer.reason().map(str::to_owned);
                    let body = if reason.is_some() {
                        Vec::new()
                    } else {
                        answer.body
                    };
                    (answer.status, reason, tries, body)
                }
                None => {
                    let answer = proxy.request(method, target, headers, body);
                    let body = if answer.reason().is_some() {
                        Vec::new()
                    } else {
                        answer.body.clone()
                    };
                    let tries = answer.header("x-mamparo-attempts");
                    (answer.status, answer.reason(), tries, body)
                }
            });
            proxy.logged(number);
        }
        drop(client);
        // The breaker's state names the endpoint, whose port is another one.
        let port = upstream.address().to_string();
        let counters = counters(&proxy);
        (
            said,
            counters
                .iter()
                .map(|line| line.replace(&port, "endpoint"))
                .collect(),
        )
    };
    let (first, second) = (ask(false), ask(true));
    assert_eq!(first.0, second.0, "answers");
    assert_eq!(first.1, second.1, "counters");
}

const GET: (&str, &str, &[&str], &[u8]) = ("GET", "/", &[], b"");

#[test]
fn retries_are_alike() {
    let policies = "retry: { backoff: { base: 1ms } }";
    let post: (&str, &str, &[&str], &[u8]) = ("POST", "/", &[], b"once");
    let keyed: (&str, &str, &[&str], &[u8]) =
        ("POST", "/", &["idempotency-key: 1"], b"again and again");
    alike(policies, &[503.into(), 503.into(), Reply::new(200)], &[GET]);
    alike(policies, &[503.into(), Reply::new(200)], &[post, post]);
    alike(policies, &[503.into(), Reply::new(200)], &[keyed]);
    alike(
        policies,
        &[Reply::reset(), Reply::close(), Reply::new(201)],
        &[GET, GET],
    );
    alike(policies, &[503.into()], &[GET, GET, GET]);
}

#[test]
fn breakers_are_alike() {
    let policies = "circuit_breaker: { consecutive_failures: 3, open_for: 1m }";
    alike(policies, &[500.into()], &[GET; 6]);
}

#[test]
fn fallbacks_are_alike() {
    let policies = "fallback:\n- on: [5xx]\n  respond: { status: 200, body: \"instead\" }";
    alike(policies, &[500.into()], &[GET, ("HEAD", "/", &[], b"")]);
}

#[test]
fn timeouts_and_rate_limits_are_alike() {
    alike("timeouts: { request: 100ms }", &[Reply::stall()], &[GET]);
    alike(
        "rate_limit: { per_second: 0.001, burst: 2 }",
        &[200.into()],
        &[GET; 4],
    );
}

#[test]
fn methods_and_statuses_are_alike() {
    let script = [
        Reply::new(204),
        Reply::new(304),
        Reply::new(404),
        Reply::new(200),
    ];
    let requests: [(&str, &str, &[&str], &[u8]); 6] = [
        GET,
        GET,
        GET,
        ("HEAD", "/", &[], b""),
        ("OPTIONS", "/x?y=z", &[], b""),
        ("BREW", "/", &["x-to: upstream"], b""),
    ];
    alike("bulkhead: {}", &script, &requests);
}

#[test]
fn many_requests_at_once_hold_as_many_seats() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let proxy = Proxy::before(&upstream, "bulkhead: { max_in_flight: 3 }");
    let mut client = http2(&proxy);
    let asked: Vec<_> = (0..10).map(|_| client.begin("GET", "/", &[])).collect();
    let labels = [("upstream", "u"), ("reason", "too_many_in_flight")];
    proxy.expect_metric("mamparo_bulkhead_refused_total", &labels, 7.0);
    upstream.wait_for(3);
    proxy.expect_metric("mamparo_bulkhead_in_flight", &[("upstream", "u")], 3.0);
    gate.open();
    let mut statuses: Vec<u16> = asked
        .into_iter()
        .map(|one| client.answer(one).status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 503, 503, 503, 503, 503, 503, 503]);
}

/// Rule 57.
#[test]
fn a_seat_is_held_until_the_client_takes_the_last_byte_or_leaves() {
    let upstream = Upstream::always(Reply::new(200).body("a body that nobody takes"));
    let proxy = Proxy::before(&upstream, "bulkhead: { max_in_flight: 1 }");
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let mut client = Http2::connect_with(proxy.listener("outbound"), &builder);
    let first = client.begin("GET", "/", &[]);
    upstream.wait_for(1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(
        proxy.get("/").reason().as_deref(),
        Some("too_many_in_flight")
    );
    client.cancel(first);
    eventually("the seat comes back when the client leaves", || {
        proxy.upstream("u").bulkhead.unwrap().in_flight == 0
    });
    proxy.expect_metric("mamparo_requests_total", &[("outcome", "client_gone")], 1.0);
}

#[test]
fn fault_041_a_request_that_is_taken_back_ends_at_once() {
    let upstream = Upstream::always(Reply::stall());
    let proxy = Proxy::before(&upstream, "bulkhead: {}\ncircuit_breaker: {}");
    let mut client = http2(&proxy);
    let asked = client.begin("GET", "/", &[]);
    upstream.wait_for(1);
    client.cancel(asked);
    eventually("the upstream's connection is closed", || {
        upstream.open_connections() == 0
    });
    let line = proxy.only_line();
    assert_eq!(line["reason"], "client_gone");
    assert_eq!(proxy.window().failures, 0, "the breaker learns nothing");
    drop(client);
}

/// Rule 20.
#[test]
fn an_early_answer_ends_the_upload() {
    let upstream = Upstream::always(Reply::new(413).early().then_close());
    let proxy = Proxy::before(&upstream, "retry: {}");
    let mut client = http2(&proxy);
    let mut asked = client.begin("POST", "/", &[]);
    asked
        .body
        .send_data(vec![b'x'; 1000].into(), false)
        .unwrap();
    assert_eq!(client.answer(asked).status, 413);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn trailers_and_lengths_pass_both_ways() {
    let act = Reply::new(200)
        .chunked(&["one ", "two"])
        .trailer("x-sum: 3");
    let upstream = Upstream::script([act, Reply::new(200).body("counted")]);
    let proxy = Proxy::before(&upstream, "");
    let mut client = http2(&proxy);
    let answer = client.get("/");
    assert_eq!(
        (&*answer.body, answer.header("content-length")),
        (&b"one two"[..], None)
    );
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.trailers.get("x-sum").unwrap(), "3");
    let answer = client.get("/");
    assert_eq!(answer.header("content-length"), Some("7"));
    for name in ["connection", "keep-alive", "transfer-encoding"] {
        assert_eq!(answer.header(name), None);
    }
}

#[test]
fn what_goes_to_the_upstream_is_http1_with_the_authority_as_its_host() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "");
    let mut client = http2(&proxy);
    client.request(
        "POST",
        "/a?b=c",
        &["cookie: a=1", "cookie: b=2", "te: trailers"],
        b"body",
    );
    let received = upstream.last();
    assert_eq!(received.target, "/a?b=c");
    assert_eq!(received.header("host").as_deref(), Some("service"));
    assert_eq!(received.header("cookie").as_deref(), Some("a=1; b=2"));
    assert_eq!(received.body, b"body");
    assert!(received.header("x-forwarded-for").is_some());
}

#[test]
fn fault_047_a_body_that_breaks_off_is_reset() {
    let act = Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let upstream = Upstream::always(act);
    let proxy = Proxy::before(&upstream, "");
    let mut client = http2(&proxy);
    let asked = client.begin("GET", "/", &[]);
    // What came before may have been sent, or be dropped by the reset.
    match client.try_answer(asked) {
        Ok(answer) => assert!(answer.broken.is_some(), "not taken for a whole one"),
        Err(error) => assert!(error.is_reset()),
    }
}

#[test]
fn fault_013_heads_over_the_limits_are_refused_with_words() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::start(&format!(
        "listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u, limits: {{ header_size: 8KiB, headers: 20, body_size: 10 }} }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    ));
    let mut client = http2(&proxy);
    let long = format!("x-long: {}", "x".repeat(8200));
    let answer = client.request("GET", "/", &[&long], b"");
    assert_eq!(
        (answer.status, answer.reason()),
        (431, Some("header_too_large"))
    );
    let lines: Vec<String> = (0..21).map(|at| format!("x-{at}: 1")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let answer = client.request("GET", "/", &lines, b"");
    assert_eq!(
        (answer.status, answer.reason()),
        (431, Some("header_too_large"))
    );
    let answer = client.request("POST", "/", &[], b"eleven byte");
    assert_eq!(
        (answer.status, answer.reason()),
        (413, Some("body_too_large"))
    );
    // Far over it, the library answers, and it is told all the same.
    let longer = format!("x-long: {}", "x".repeat(16_000));
    assert_eq!(client.request("GET", "/", &[&longer], b"").status, 431);
    assert_eq!(client.get("/").status, 200, "the connection goes on");
    let labels = [("reason", "header_too_large")];
    proxy.expect_metric("mamparo_failures_total", &labels, 3.0);
}

#[test]
fn fault_069_a_drain_ends_connections_when_their_streams_have() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let proxy = Proxy::before(&upstream, "");
    let mut client = http2(&proxy);
    let asked = client.begin("GET", "/", &[]);
    upstream.wait_for(1);
    let ending = std::thread::spawn(move || proxy.shutdown());
    std::thread::sleep(Duration::from_millis(100));
    gate.open();
    assert_eq!(client.answer(asked).status, 200);
    assert!(ending.join().unwrap() < Duration::from_secs(5));
}

#[test]
fn fault_032_a_body_that_is_not_as_long_as_it_was_said_to_be_is_reset() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "retry: {}");
    let mut client = http2(&proxy);
    let mut asked = client.begin("POST", "/", &["content-length: 10"]);
    asked.body.send_data("short".into(), true).unwrap();
    let error = client.try_answer(asked).expect_err("no answer");
    assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR));
    // Which of them it is depends on whether the handler has come to the body yet.
    let reason = proxy.only_line()["reason"].clone();
    assert!(
        reason == "bad_request" || reason == "client_gone",
        "{reason}"
    );
    // The upstream has seen no whole request.
    assert!(upstream.received().iter().all(|one| one.body.len() < 10));
    assert_eq!(client.get("/").status, 200, "the connection goes on");
}
