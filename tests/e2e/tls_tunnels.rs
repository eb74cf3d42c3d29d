//! Upgrades between ends under TLS, and towards endpoints that speak HTTP/2.

use std::io::{ErrorKind, Read};
use std::sync::atomic::Ordering::SeqCst;

use super::support::tls::{Authority, Files, Setup, TlsClient, TlsFar, TlsSocket};
use super::support::{Http2Upstream, Manners, Proxy};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                      upgrade: websocket\r\n\r\n";

/// A proxy whose clients come under TLS, and whose endpoint is spoken to under TLS.
struct Stage {
    proxy: Proxy,
    authority: Authority,
    far: TlsFar,
    _files: Files,
}

impl Stage {
    /// The endpoint offers these protocols by ALPN.
    fn new(offered: &[&str], policies: &str) -> Self {
        let (authority, files) = (Authority::new("ca"), Files::new());
        let pair = authority.issue(&["localhost", "127.0.0.1"]);
        files.put_pair("tls", &pair);
        files.put("ca.crt", &authority.pem());
        let far = TlsFar::offering(&pair, offered);
        let folder = files.folder().display();
        let policies: String = policies
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect();
        let proxy = Proxy::start(&format!(
            "listeners:
  outbound:
    address: '127.0.0.1:0'
    upstream: u
    tls: {{ cert: {folder}/tls.crt, key: {folder}/tls.key }}
upstreams:
  u:
    endpoints: ['https://{}']
    tls: {{ ca: {folder}/ca.crt }}
{policies}",
            far.address()
        ));
        Self {
            proxy,
            authority,
            far,
            _files: files,
        }
    }

    fn client(&self, offered: &[&str]) -> TlsClient {
        let setup = Setup::trusting(&self.authority).offering(offered);
        setup.connect(self.proxy.listener("outbound")).unwrap()
    }

    /// A tunnel that stands.
    fn tunnel(&self) -> (TlsClient, TlsSocket) {
        let mut client = self.client(&["http/1.1"]);
        client.send(ASK).unwrap();
        let mut endpoint = self.far.accept();
        let head = endpoint.head();
        assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
        endpoint.send(SWITCH);
        let head = head_of(&mut client);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (client, endpoint)
    }
}

/// The next head, byte by byte: what is behind it may be anything.
fn head_of(client: &mut TlsClient) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.0.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

#[track_caller]
fn expect(client: &mut TlsClient, wanted: &[u8]) {
    let mut found = vec![0; wanted.len()];
    client.0.read_exact(&mut found).unwrap();
    assert!(found == wanted, "{} bytes differ", wanted.len());
}

#[test]
fn a_tunnel_between_two_ends_under_tls_loses_nothing_and_passes_ends_on() {
    // The endpoint would rather speak HTTP/2, and is not asked to.
    let stage = Stage::new(&["h2", "http/1.1"], "bulkhead: { max_in_flight: 1 }");
    let (mut client, mut endpoint) = stage.tunnel();
    assert_eq!(endpoint.agreed(), Some(&b"http/1.1"[..]));
    let large: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let echo = std::thread::spawn({
        let large = large.clone();
        move || {
            endpoint.expect(&large);
            endpoint.send(&large);
            endpoint
        }
    });
    client.send(&large).unwrap();
    expect(&mut client, &large);
    let mut endpoint = echo.join().unwrap();
    // An end is passed on as an end, and the other way goes on.
    client.session().send_close_notify();
    client.send("").unwrap();
    endpoint.expect_end();
    endpoint.send("the last word");
    expect(&mut client, b"the last word");
    endpoint.end();
    assert_eq!(client.rest().unwrap(), b"");
    let line = stage.proxy.only_line();
    assert_eq!(line["status"], 101);
    assert!(line["reason"].is_null(), "{line}");
    assert_eq!(line["bytes_in"], large.len());
    assert_eq!(line["bytes_out"], large.len() + "the last word".len());
}

#[test]
fn an_endpoint_that_is_cut_off_within_a_tunnel_is_no_end_to_the_client() {
    let stage = Stage::new(&[], "");
    let (mut client, mut endpoint) = stage.tunnel();
    endpoint.send("half a mess");
    expect(&mut client, b"half a mess");
    // A FIN without an end of TLS: somebody on the way could have sent it.
    drop(endpoint);
    let error = client.rest().unwrap_err();
    let kind = error.kind();
    let broken = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
    assert!(broken.contains(&kind), "{error}");
    assert_eq!(stage.proxy.only_line()["reason"], "reset");
}

#[test]
fn an_upgrade_to_an_endpoint_that_speaks_only_http_2_is_refused_and_blames_nobody() {
    let stage = Stage::new(&["h2"], "circuit_breaker: {}\nretry: {}");
    let mut client = stage.client(&["http/1.1"]);
    client.send(ASK).unwrap();
    // Its handshake fails, since it is offered HTTP/1.1 alone.
    let mut endpoint = stage.far.accept();
    assert!(endpoint.shake_hands().is_err());
    let answer = super::support::Answer::read(&mut client.0, "GET").unwrap();
    refused(&answer);
    assert_eq!(stage.proxy.window().failures, 0);
}

#[test]
fn an_upgrade_to_an_upstream_of_http_2_is_refused_without_a_try() {
    let manners = Manners {
        streams: 10,
        takes: std::time::Duration::ZERO,
    };
    let upstream = Http2Upstream::plain(manners);
    let proxy = Proxy::to(&[upstream.address], "protocol: http2");
    refused(&proxy.send(ASK));
    assert_eq!(upstream.seen.requests.load(SeqCst), 0);
    // Only what would leave HTTP: others are asked for in vain everywhere.
    let ask = ASK.replace("websocket", "h2c");
    assert_eq!(proxy.send(ask).status, 200);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(upstream.seen.requests.load(SeqCst), 2);
}

#[track_caller]
fn refused(answer: &super::support::Answer) {
    assert_eq!(answer.status, 501);
    assert_eq!(answer.reason().as_deref(), Some("bad_request"));
    let text = answer.text();
    assert!(text.contains("cannot be upgraded to 'websocket'"), "{text}");
    assert!(text.contains("HTTP/2, which has no upgrades"), "{text}");
}
