//! Listeners under TLS: what clients may do, and what becomes of those that do it wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::support::tls::{Authority, Files, Setup};
use super::support::{Proxy, Reply, Upstream, eventually};

const FAILURES: &str = "mamparo_tls_handshake_failures_total";

/// A listener `outbound` under TLS before an upstream, with further keys of the listener.
struct Stage {
    proxy: Proxy,
    authority: Authority,
    /// Whose certificates `mutual` accepts.
    clients: Authority,
    _files: Files,
}

fn stage(upstream: &Upstream, keys: &str) -> Stage {
    let (authority, clients, files) = (
        Authority::new("ours"),
        Authority::new("theirs"),
        Files::new(),
    );
    files.put_pair("tls", &authority.issue(&["localhost", "127.0.0.1"]));
    files.put("clients.crt", &clients.pem());
    let folder = files.folder().display();
    let proxy = Proxy::start(&format!(
        "listeners:
  outbound: {{ address: '127.0.0.1:0', upstream: u, tls: {{ cert: {folder}/tls.crt, key: {folder}/tls.key }}{keys} }}
  mutual: {{ address: '127.0.0.1:0', upstream: u, tls: {{ cert: {folder}/tls.crt, key: {folder}/tls.key, client_ca: {folder}/clients.crt }} }}
  plain: {{ address: '127.0.0.1:0', upstream: u }}
upstreams: {{ u: {{ endpoints: ['{}'], timeouts: {{ idle: 1s }} }} }}
",
        upstream.address()
    ));
    Stage {
        proxy,
        authority,
        clients,
        _files: files,
    }
}

impl Stage {
    fn address(&self) -> SocketAddr {
        self.proxy.listener("outbound")
    }

    fn expect_failures(&self, listener: &str, why: &str, count: f64) {
        let labels = [("listener", listener), ("why", why)];
        self.proxy.expect_metric(FAILURES, &labels, count);
    }
}

#[test]
fn requests_come_under_tls_1_2_and_1_3_and_go_on_as_https() {
    let upstream = Upstream::echo();
    let stage = stage(&upstream, "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let setup = Setup::only(&stage.authority, version).offering(&["http/1.1"]);
        let mut client = setup.connect(stage.address()).unwrap();
        assert_eq!(client.get("/one").unwrap().status, 200);
        assert_eq!(client.get("/two").unwrap().status, 200);
        assert_eq!(client.session().protocol_version(), Some(version.version));
        assert_eq!(client.session().alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    let received = upstream.received();
    assert_eq!(received.len(), 4);
    for request in received {
        assert_eq!(
            request.header("x-forwarded-proto").as_deref(),
            Some("https")
        );
    }
    let answer = stage.proxy.listener("plain");
    super::support::Client::connect(answer).get("/");
    let last = upstream.received().pop().unwrap();
    assert_eq!(last.header("x-forwarded-proto").as_deref(), Some("http"));
}

#[test]
fn fault_017_a_plain_request_on_a_tls_port_is_told_so_in_one_line() {
    let upstream = Upstream::echo();
    let stage = stage(&upstream, "");
    let answer = super::support::Client::connect(stage.address()).get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (400, Some("bad_request"))
    );
    assert!(answer.text().contains("use https"), "{}", answer.text());
    assert_eq!(stage.proxy.only_line()["reason"], "bad_request");
    stage.expect_failures("outbound", "not_tls", 1.0);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn fault_017_a_tls_hello_on_a_plain_port_ends_with_one_line() {
    let upstream = Upstream::echo();
    let stage = stage(&upstream, "");
    let plain = stage.proxy.listener("plain");
    assert!(Setup::trusting(&stage.authority).connect(plain).is_err());
    let line = stage.proxy.only_line();
    assert_eq!(line["reason"], "bad_request");
    assert!(line["detail"].as_str().unwrap().contains("TLS"), "{line}");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn fault_062_clients_without_a_certificate_or_with_a_foreign_one_are_refused_and_counted() {
    let upstream = Upstream::echo();
    let stage = stage(&upstream, "");
    let mutual = stage.proxy.listener("mutual");
    // Under TLS 1.3 the client learns of it only when it reads.
    assert!(Setup::trusting(&stage.authority).get(mutual, "/").is_err());
    stage.expect_failures("mutual", "no_certificate", 1.0);
    let foreign = Authority::new("foreign").issue(&["client"]);
    let wrong = Setup::showing(&stage.authority, &foreign);
    assert!(wrong.get(mutual, "/").is_err());
    stage.expect_failures("mutual", "bad_certificate", 1.0);
    let expired = stage.clients.issue_between(&["client"], 2000, 2001);
    let late = Setup::showing(&stage.authority, &expired);
    assert!(late.get(mutual, "/").is_err());
    stage.expect_failures("mutual", "bad_certificate", 2.0);
    let right = Setup::showing(&stage.authority, &stage.clients.issue(&["client"]));
    assert_eq!(right.get(mutual, "/").unwrap().status, 200);
    assert_eq!(upstream.count(), 1);
    // Who does not trust us says so.
    let stranger = Setup::trusting(&stage.clients);
    assert!(stranger.get(stage.address(), "/").is_err());
    stage.expect_failures("outbound", "client_refused", 1.0);
}

#[test]
fn fault_064_a_handshake_that_never_ends_is_cut_and_holds_nobody_up() {
    let upstream = Upstream::echo();
    let stage = stage(&upstream, ", timeouts: { header: 400ms }");
    // The first bytes of a hello that promises 512, then one byte at a time.
    let mut slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut socket = TcpStream::connect(stage.address()).unwrap();
            socket.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
            socket
        })
        .collect();
    let began = Instant::now();
    let setup = Setup::trusting(&stage.authority);
    assert_eq!(setup.get(stage.address(), "/").unwrap().status, 200);
    let mut closed = 0;
    while closed < slow.len() && began.elapsed() < Duration::from_secs(10) {
        closed = 0;
        for socket in &mut slow {
            socket
                .set_read_timeout(Some(Duration::from_millis(1)))
                .unwrap();
            let _ = socket.write(&[0]);
            match socket.read(&mut [0; 16]) {
                Ok(0) => closed += 1,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => closed += 1,
                Ok(_) | Err(_) => {}
            }
        }
    }
    assert_eq!(closed, slow.len());
    assert!(began.elapsed() >= Duration::from_millis(300));
    stage.expect_failures("outbound", "timeout", 20.0);
}

#[test]
fn a_connection_that_only_knocks_is_no_failure() {
    let upstream = Upstream::echo();
    let stage = stage(&upstream, "");
    drop(TcpStream::connect(stage.address()).unwrap());
    eventually("it is gone", || {
        let listeners = stage.proxy.status().listeners;
        listeners.iter().all(|one| one.connections == 0)
    });
    assert!((stage.proxy.metric(FAILURES, &[]) - 0.0).abs() < 1e-9);
}

#[test]
fn fault_065_safe_defaults_for_alpn_server_names_and_early_data() {
    let upstream = Upstream::echo();
    let stage = stage(&upstream, ", protocol: http1");
    // Nothing in common.
    let only_h2 = Setup::trusting(&stage.authority).offering(&["h2"]);
    assert!(only_h2.connect(stage.address()).is_err());
    stage.expect_failures("outbound", "alpn", 1.0);
    // Nothing offered: HTTP/1.1. No name sent, as for an address: the certificate is the same.
    let setup = Setup::trusting(&stage.authority);
    let mut client = setup.connect_as(stage.address(), "127.0.0.1").unwrap();
    assert_eq!(client.get("/").unwrap().status, 200);
    // The second connection resumes the first one's session, but sends nothing ahead of it: it could
    // be played back.
    let mut early = Setup::trusting(&stage.authority);
    early.0.enable_early_data = true;
    let mut first = early.connect(stage.address()).unwrap();
    assert_eq!(first.get("/").unwrap().status, 200);
    let mut second = early.connect(stage.address()).unwrap();
    assert!(second.session().early_data().is_none());
    assert!(!second.session().is_early_data_accepted());
    assert_eq!(second.get("/").unwrap().status, 200);
    let resumed = Some(rustls::HandshakeKind::Resumed);
    assert_eq!(second.session().handshake_kind(), resumed);
}

#[test]
fn fault_043_a_client_that_says_goodbye_after_its_request_is_answered() {
    let upstream = Upstream::always(Reply::new(200).after_ms(100).body("late"));
    let stage = stage(&upstream, "");
    let setup = Setup::trusting(&stage.authority);
    let mut client = setup.connect(stage.address()).unwrap();
    // Both go out together: a goodbye that comes later means that the client has gone.
    let request = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
    client.session().writer().write_all(request).unwrap();
    client.session().send_close_notify();
    client.send("").unwrap();
    let text = String::from_utf8(client.rest().unwrap()).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.ends_with("late"),
        "{text}"
    );
}

#[test]
fn fault_041_a_client_that_leaves_is_noticed_while_it_waits() {
    let upstream = Upstream::always(Reply::stall());
    let stage = stage(&upstream, "");
    let setup = Setup::trusting(&stage.authority);
    let mut client = setup.connect(stage.address()).unwrap();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    eventually("the request is there", || upstream.count() == 1);
    drop(client);
    assert_eq!(stage.proxy.only_line()["reason"], "client_gone");
}

#[test]
fn fault_047_an_answer_that_breaks_off_is_no_end_in_order() {
    let upstream = Upstream::always(Reply::raw("HTTP/1.1 200 OK\r\n\r\nhalf").then_reset());
    let stage = stage(&upstream, "");
    let setup = Setup::trusting(&stage.authority);
    let mut client = setup.connect(stage.address()).unwrap();
    // An old client's answer has no other end than that of its connection.
    client.send("GET / HTTP/1.0\r\nhost: h\r\n\r\n").unwrap();
    assert!(client.rest().is_err());
}

#[test]
fn fault_040_a_client_that_does_not_read_is_cut_after_idle() {
    let body = vec![b'x'; 32 << 20];
    let upstream = Upstream::always(Reply::new(200).body(body));
    let stage = stage(&upstream, "");
    let setup = Setup::trusting(&stage.authority);
    let mut client = setup.connect(stage.address()).unwrap();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    let line = stage.proxy.only_line();
    assert_eq!(line["reason"], "client_gone", "{line}");
    assert!(client.rest().is_err());
}
