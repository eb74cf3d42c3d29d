//! `listeners`: where requests come in, whom to trust, and what a client may not do.

use std::time::{Duration, Instant};

use crate::support::{Client, Gate, Http2, Proxy, Reply, Upstream, eventually};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("listeners", upstream),
    ("listener.address", address),
    ("listener.role", rule_093_role),
    ("listener.protocol", protocol),
    ("listener.original_dst", original_dst),
    ("listener.unmatched", unmatched),
    ("listener.timeouts", header_timeout),
    ("listener.limits", header_size),
    ("listener.upstream", upstream),
    ("listener.routes", routes),
    ("listener_timeouts.header", header_timeout),
    ("listener_timeouts.idle", idle_timeout),
    ("limits.header_size", header_size),
    ("limits.headers", headers),
    ("limits.body_size", body_size),
    ("limits.connections", connections),
    ("limits.streams", streams),
];

/// A listener with these settings before one upstream.
#[track_caller]
fn with(settings: &str, upstream: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u, {settings} }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    ))
}

#[test]
fn upstream() {
    let (a, b) = (Upstream::always(200), Upstream::always(201));
    let proxy = Proxy::start(&format!(
        "listeners:\n  one: {{ address: \"127.0.0.1:0\", upstream: a }}\n  \
         two: {{ address: \"127.0.0.1:0\", upstream: b }}\n\
         upstreams: {{ a: {{ endpoints: [\"{}\"] }}, b: {{ endpoints: [\"{}\"] }} }}\n",
        a.address(),
        b.address()
    ));
    assert_eq!(Client::connect(proxy.listener("one")).get("/").status, 200);
    assert_eq!(Client::connect(proxy.listener("two")).get("/").status, 201);
    let labels = [("listener", "two"), ("route", "b"), ("upstream", "b")];
    proxy.expect_metric("mamparo_requests_total", &labels, 1.0);
}

#[test]
fn address() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::start(&format!(
        "listeners: {{ outbound: {{ address: \"[::1]:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    ));
    assert!(proxy.listener("outbound").is_ipv6());
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(
        upstream.last().header("x-forwarded-for").as_deref(),
        Some("::1")
    );
}

/// What a client says of the time that is left counts only where the client is our own service.
#[test]
fn rule_093_role() {
    let control = [
        "x-mamparo-timeout-ms: 50",
        "x-mamparo-attempt: 7",
        "x-mamparo-odd: 1",
    ];
    for (role, trusted) in [("outbound", true), ("inbound", false)] {
        let upstream = Upstream::echo();
        let proxy = with(&format!("role: {role}"), &upstream);
        assert_eq!(proxy.request("GET", "/", &control, b"").status, 200);
        let received = upstream.last();
        let left = received.header("x-mamparo-timeout-ms");
        let left: u64 = left.map_or(u64::MAX, |left| left.parse().unwrap());
        assert_eq!(left <= 50, trusted, "{left} ms");
        assert_eq!(
            received.header("x-mamparo-attempt"),
            None,
            "this is the first try"
        );
        assert_eq!(received.header("x-mamparo-odd").is_some(), trusted);
    }
}

#[test]
fn protocol() {
    let upstream = Upstream::always(200);
    for protocol in ["auto", "http1"] {
        let proxy = with(&format!("protocol: {protocol}"), &upstream);
        let answer = proxy.get("/");
        assert!(
            answer.head.line.starts_with("HTTP/1.1 200 "),
            "{}",
            answer.head.line
        );
    }
}

/// What a redirection does takes a network of its own: `tests/real/test_transparent.py`.
#[test]
fn original_dst() {
    let upstream = Upstream::always(200);
    let proxy = with("original_dst: true", &upstream);
    assert_eq!(proxy.get("/").status, 200, "not redirected, and served");
}

#[test]
fn unmatched() {
    let upstream = Upstream::always(200);
    for unmatched in ["pass", "refuse"] {
        let proxy = Proxy::start(&format!(
            "listeners:\n  outbound:\n    address: \"127.0.0.1:0\"\n    original_dst: true\n    \
             unmatched: {unmatched}\n    routes: [{{ match: {{ host: a }}, upstream: u }}]\n\
             upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
            upstream.address()
        ));
        // What was not redirected has nowhere to pass to.
        let answer = proxy.get("/");
        assert_eq!(answer.reason().as_deref(), Some("no_route"), "{unmatched}");
        let passed = "mamparo_passed_connections_total";
        assert_eq!(proxy.metric(passed, &[("listener", "outbound")]), 0.0);
    }
}

#[test]
fn routes() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    routes:\n      \
         - {{ match: {{ path: /a }}, upstream: u }}\n      - {{ upstream: u }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    ));
    for path in ["/a", "/b"] {
        assert_eq!(proxy.get(path).status, 200);
    }
    for line in proxy.logged(2) {
        let route = if line["path"] == "/a" { "u" } else { "u.2" };
        assert_eq!(line["route"], route, "{line}");
    }
}

/// Fault 38.
#[test]
fn header_timeout() {
    let upstream = Upstream::always(200);
    let proxy = with("timeouts: { header: 120ms }", &upstream);
    let mut client = proxy.client();
    let began = Instant::now();
    // A byte now and then does not help.
    for byte in b"GET / HTT" {
        if client.try_send([*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = client.answer();
    assert_eq!(answer.status, 408);
    assert!(began.elapsed() >= Duration::from_millis(120));
    assert!(client.is_closed());
    assert_eq!(upstream.count(), 0);
}

#[test]
fn idle_timeout() {
    let upstream = Upstream::always(200);
    let proxy = with("timeouts: { idle: 500ms }", &upstream);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200, "each request begins it anew");
        std::thread::sleep(Duration::from_millis(300));
    }
    let began = Instant::now();
    assert!(client.is_closed(), "without a word");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(proxy.logged(3).len(), 3, "an idle connection is no request");
}

/// Fault 13.
#[test]
fn header_size() {
    let upstream = Upstream::always(200);
    let proxy = with("limits: { header_size: 8KiB }", &upstream);
    for (length, status) in [(7 * 1024, 200), (9 * 1024, 431), (60 * 1024, 431)] {
        let long = format!("x-long: {}", "x".repeat(length));
        assert_eq!(proxy.request("GET", "/", &[&long], b"").status, status);
    }
}

#[test]
fn headers() {
    let upstream = Upstream::always(200);
    for limit in [10, 300] {
        let proxy = with(&format!("limits: {{ headers: {limit} }}"), &upstream);
        // One line is the host.
        for (lines, status) in [(limit - 1, 200), (limit, 431)] {
            let lines: Vec<String> = (0..lines).map(|at| format!("x-{at}: 1")).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(
                proxy.request("GET", "/", &lines, b"").status,
                status,
                "{limit}"
            );
        }
    }
}

#[test]
fn body_size() {
    let upstream = Upstream::always(200);
    let proxy = with("limits: { body_size: 1KiB }", &upstream);
    for (length, status) in [(1024, 200), (1025, 413)] {
        let body = vec![b'x'; length];
        assert_eq!(proxy.request("POST", "/", &[], &body).status, status);
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        client
            .send(format!("{length:x}\r\n"))
            .send(&body)
            .send("\r\n0\r\n\r\n");
        assert_eq!(client.answer().status, status);
    }
}

/// Fault 42: one more is closed at once, and told; when one has gone, the next is welcome.
#[test]
fn connections() {
    let upstream = Upstream::always(200);
    let proxy = with("limits: { connections: 2 }", &upstream);
    let mut kept: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(proxy.client().is_closed());
    let labels = [("listener", "outbound"), ("limit", "connections")];
    proxy.expect_metric("mamparo_limit_exceeded_total", &labels, 1.0);
    drop(kept.pop());
    eventually("a place is free", || {
        proxy.status().listeners[0].connections < 2
    });
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn streams() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let proxy = with("limits: { streams: 2 }", &upstream);
    let mut client = Http2::connect(proxy.listener("outbound"));
    let kept = [client.begin("GET", "/", &[]), client.begin("GET", "/", &[])];
    upstream.wait_for(2);
    // A client that keeps to the limit waits with its third request by itself.
    let third = client.begin("GET", "/", &[]);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(upstream.count(), 2);
    gate.open();
    for one in kept.into_iter().chain([third]) {
        assert_eq!(client.answer(one).status, 200);
    }
}
