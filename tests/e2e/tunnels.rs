//! Upgrades and tunnels: bytes both ways behind a request, under its seat and its report to the end.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::proxy::single;
use crate::support::{Far, PATIENCE, Program, Proxy, Reply, Socket, Upstream, eventually, until};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: service\r\nconnection: keep-alive, Upgrade\r\n\
                   upgrade: WebSocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                      upgrade: websocket\r\ncontent-length: 0\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A tunnel that stands, through a proxy with these policies: the proxy, the client, the endpoint.
fn tunnel(policies: &str) -> (Proxy, Socket, Socket) {
    let far = Far::new();
    let proxy = Proxy::to(&[far.address()], policies);
    let mut client = Socket::connect(proxy.listener("outbound"));
    client.send(ASK);
    let mut endpoint = far.accept();
    endpoint.head();
    endpoint.send(SWITCH);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    (proxy, client, endpoint)
}

#[test]
fn an_upgrade_goes_on_with_its_own_headers_and_becomes_a_tunnel() {
    let far = Far::new();
    let proxy = Proxy::to(&[far.address()], "bulkhead: { max_in_flight: 1 }");
    let mut client = Socket::connect(proxy.listener("outbound"));
    // The first words of the new protocol may come with the request.
    client.send(format!("{ASK}early "));
    let mut endpoint = far.accept();
    let head = endpoint.head();
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: WebSocket\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-key: dGhl"), "{head}");
    assert_eq!(head.matches("connection:").count(), 1, "{head}");
    endpoint.send(format!("{SWITCH}hello "));
    let head = client.head();
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-accept: s3pP"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"));
    client.expect("hello ");
    endpoint.expect("early ");
    client.send("from the client");
    endpoint.expect("from the client");
    endpoint.send("from the endpoint");
    client.expect("from the endpoint");

    // Seat, connection and request are held; a second one finds no seat.
    let upstream = proxy.upstream("u");
    assert_eq!(upstream.bulkhead.unwrap().in_flight, 1);
    assert_eq!(upstream.connections.active, 1);
    let second = proxy.get("/");
    assert_eq!(second.reason().as_deref(), Some("too_many_in_flight"));
    proxy.logged(1);

    // An end is passed on, and the other way goes on.
    client.half_close();
    endpoint.expect_end();
    endpoint.send("the last word");
    client.expect("the last word");
    std::thread::sleep(Duration::from_millis(60));
    drop(endpoint);
    client.expect_end();
    let line = proxy
        .logged(2)
        .into_iter()
        .find(|line| line["status"] == 101)
        .unwrap();
    assert_eq!(line["outcome"], "upstream");
    assert_eq!(line["path"], "/chat");
    assert_eq!(line["bytes_in"], "early from the client".len());
    assert_eq!(
        line["bytes_out"],
        "hello from the endpointthe last word".len()
    );
    assert!(line["duration_ms"].as_f64().unwrap() >= 60.0, "{line}");
    assert!(line["reason"].is_null(), "{line}");
    let labels = [("outcome", "upstream"), ("code", "1xx")];
    proxy.expect_metric("mamparo_requests_total", &labels, 1.0);
    // Its time does not count as that of a request.
    let sum = proxy.metric("mamparo_request_duration_seconds_sum", &[("route", "u")]);
    assert!(sum < 0.06, "{sum}");
}

#[test]
fn rule_033_retries_and_breakers_work_until_the_answer_and_never_after() {
    let far = Far::new();
    let policies = "retry: { backoff: { base: 1ms } }\ncircuit_breaker: {}";
    let proxy = Proxy::to(&[far.address()], policies);
    let mut client = Socket::connect(proxy.listener("outbound"));
    client.send(ASK);
    let mut first = far.accept();
    first.head();
    first.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    // The connection that was asked to switch is not used again.
    let mut second = far.accept();
    let head = second.head();
    assert!(head.contains("\r\nx-mamparo-attempt: 2\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: WebSocket\r\n"), "{head}");
    second.send(SWITCH);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    second.reset();
    client.expect_break();
    let line = proxy.only_line();
    assert_eq!(line["status"], 101);
    assert_eq!(line["reason"], "reset");
    assert_eq!(line["tries"].as_array().unwrap().len(), 2);
    assert_eq!(proxy.window().failures, 1);
}

#[test]
fn an_answer_that_does_not_switch_is_an_ordinary_one() {
    let upstream = Upstream::always(Reply::new(426).header("upgrade: foo").body("no"));
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    client.send(ASK);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (426, "no"));
    assert_eq!(answer.header("upgrade"), None);
    assert_eq!(client.get("/next").status, 426, "the connection goes on");
}

#[test]
fn fault_023_h2c_and_what_may_not_switch_are_ordinary_requests() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "");
    for (headers, body) in [
        (
            &[
                "connection: upgrade, http2-settings",
                "upgrade: h2c",
                "http2-settings: AAMAAABk",
            ][..],
            "",
        ),
        (&["connection: close", "upgrade: websocket"], ""),
        (&["upgrade: websocket"], ""),
        (&["connection: upgrade", "upgrade: websocket"], "body"),
    ] {
        let answer = proxy.request("GET", "/", headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{headers:?}");
        let last = upstream.last();
        assert_eq!(last.header("upgrade"), None, "{headers:?}");
        assert_eq!(last.header("connection"), None, "{headers:?}");
        assert_eq!(last.header("http2-settings"), None);
        assert_eq!(last.body, body.as_bytes());
    }
}

#[test]
fn fault_025_a_switch_that_was_not_asked_for_is_a_protocol_error() {
    let switch = |to: &str| {
        let text = format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: {to}\r\n\r\nsmuggled");
        Reply::raw(text)
    };
    let upstream = Upstream::script([switch("websocket"), switch("h2c")]);
    let proxy = Proxy::before(&upstream, "");
    let answer = proxy.get("/");
    assert_eq!(answer.reason().as_deref(), Some("protocol_error"));
    let answer = proxy.send(ASK);
    assert_eq!(answer.reason().as_deref(), Some("protocol_error"));
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn back_pressure_reaches_the_endpoint_and_nothing_is_lost() {
    let (proxy, mut client, endpoint) = tunnel("");
    const BYTES: usize = 32 * 1024 * 1024;
    let part: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    let expected = part.clone();
    endpoint
        .stream()
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    // The client takes nothing: so many bytes fit into the sockets, and no more go.
    let mut sent = 0;
    while endpoint
        .stream()
        .write(&part[sent % part.len()..])
        .is_ok_and(|written| {
            sent += written;
            true
        })
    {
        assert!(sent < BYTES, "no back-pressure");
    }
    endpoint.stream().set_write_timeout(Some(PATIENCE)).unwrap();
    let writing = std::thread::spawn(move || {
        while sent < BYTES {
            let rest = &part[sent % part.len()..];
            sent += endpoint.stream().write(rest).unwrap();
        }
        endpoint.half_close();
        (endpoint, sent)
    });
    let mut received = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = client.reader.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        for (index, byte) in buffer[..read].iter().enumerate() {
            assert_eq!(*byte, expected[(received + index) % expected.len()]);
        }
        received += read;
    }
    let (endpoint, sent) = writing.join().unwrap();
    assert_eq!(received, sent);
    drop((client, endpoint));
    assert_eq!(proxy.only_line()["bytes_out"], sent);
}

#[test]
fn the_idle_timeout_takes_the_place_of_the_others() {
    let policies = "timeouts: { request: 200ms, try: 100ms, idle: 2s }";
    let (proxy, mut client, mut endpoint) = tunnel(policies);
    let began = Instant::now();
    // A byte in either direction keeps it.
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(400));
        client.send("a");
        endpoint.expect("a");
        std::thread::sleep(Duration::from_millis(400));
        endpoint.send("b");
        client.expect("b");
    }
    client.expect_end();
    endpoint.expect_end();
    assert!(began.elapsed() >= Duration::from_millis(4_300));
    let line = proxy.only_line();
    assert!(line["reason"].is_null(), "{line}");
    assert_eq!(
        line["detail"],
        "no byte in the tunnel for 2s (idle timeout)"
    );
}

#[test]
fn a_client_that_breaks_off_takes_its_endpoint_along() {
    let (proxy, client, mut endpoint) = tunnel("bulkhead: {}");
    client.reset();
    endpoint.expect_break();
    let line = proxy.only_line();
    assert_eq!(line["outcome"], "client_gone");
    assert_eq!(line["status"], 101);
    assert_eq!(line["reason"], "client_gone");
}

#[test]
fn an_upgrade_that_takes_too_long_is_late_like_any_request() {
    let far = Far::new();
    let proxy = Proxy::to(&[far.address()], "timeouts: { request: 100ms }");
    let mut client = Socket::connect(proxy.listener("outbound"));
    client.send(ASK);
    let _endpoint = far.accept();
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    assert!(head.contains("x-mamparo-reason: request_timeout"), "{head}");
}

#[test]
fn fault_069_a_tunnel_has_until_the_drain_ends() {
    drained(false);
}

#[test]
fn fault_069_a_tunnel_that_ends_in_time_ends_the_drain() {
    drained(true);
}

#[track_caller]
fn drained(ends_in_time: bool) {
    let drain = if ends_in_time { "10s" } else { "3s" };
    let far = Far::new();
    let log = tempfile::tempdir().unwrap();
    let log = log.path().join("access.log");
    let yaml = format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\nruntime: {{ drain: {drain} }}\n\
         access_log: {{ destination: {} }}\n{}",
        log.display(),
        single(&[far.address()], "")
    );
    let mut program = Program::run(&yaml);
    let mut client = Socket::connect(program.listener("outbound"));
    client.send(ASK);
    let mut endpoint = far.accept();
    endpoint.head();
    endpoint.send(SWITCH);
    client.head();
    let began = Instant::now();
    program.signal("TERM");
    eventually("the drain has begun", || {
        program.stderr().contains("draining")
    });
    client.send("still");
    endpoint.expect("still");
    endpoint.send("here");
    client.expect("here");
    if ends_in_time {
        drop(endpoint);
        client.expect_end();
        drop(client);
        assert_eq!(program.wait().code(), Some(0));
        eventually("it was not cut", || {
            program.stderr().contains("every request was answered")
        });
        assert!(began.elapsed() < Duration::from_secs(10));
    } else {
        client.expect_break();
        endpoint.expect_break();
        assert!(began.elapsed() >= Duration::from_millis(2_990));
        assert_eq!(program.wait().code(), Some(0));
    }
    expect_reason(&log, ends_in_time);
}

/// The only line of that log says why the tunnel was cut, if it was.
#[track_caller]
pub(crate) fn expect_reason(log: &Path, ends_in_time: bool) {
    let text = until(|| {
        let text = std::fs::read_to_string(log).ok();
        text.filter(|text| text.ends_with('\n'))
    });
    let line: Value = serde_json::from_str(&text.expect("a line")).unwrap();
    let reason = if ends_in_time {
        Value::Null
    } else {
        "draining".into()
    };
    assert_eq!(line["reason"], reason, "{line}");
}
