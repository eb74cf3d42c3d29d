//! Endpoints under TLS: who is trusted, and what is said of those that are not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::support::tls::{Authority, Files, Pair, TlsUpstream, self_signed};
use super::support::{Answer, DnsServer, Proxy, Says};

/// A proxy before one endpoint under TLS that the files' `ca.crt` vouches for.
fn before(address: impl std::fmt::Display, files: &Files, keys: &str, policies: &str) -> Proxy {
    let folder = files.folder().display();
    Proxy::start(&format!(
        "listeners: {{ outbound: {{ address: '127.0.0.1:0', upstream: u }} }}
upstreams:
  u:
    endpoints: ['https://{address}']
    tls: {{ ca: {folder}/ca.crt{keys} }}
    timeouts: {{ connect: 2s, request: 10s }}
{policies}"
    ))
}

fn trusted(authority: &Authority) -> Files {
    let files = Files::new();
    files.put("ca.crt", &authority.pem());
    files
}

#[test]
fn connections_are_kept_and_the_endpoint_is_told_https() {
    let authority = Authority::new("ca");
    let upstream = TlsUpstream::start(&authority.issue(&["127.0.0.1"]));
    let proxy = before(upstream.address, &trusted(&authority), "", "");
    // One client, one worker, one pool.
    let mut client = proxy.client();
    for _ in 0..5 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
    assert_eq!(upstream.connections(), 1);
}

/// What is said of an endpoint that shows this certificate; the authority is trusted.
fn said_of(pair: &Pair, authority: &Authority, keys: &str) -> String {
    let upstream = TlsUpstream::start(pair);
    let proxy = before(
        upstream.address,
        &trusted(authority),
        keys,
        "    circuit_breaker: {}\n",
    );
    let answer = proxy.get("/");
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(answer.reason().as_deref(), Some("tls_failure"));
    let line = proxy.only_line();
    assert_eq!(line["reason"], "tls_failure");
    assert_eq!(line["tries"][0]["sent"], "not_sent", "{line}");
    let labels = [("upstream", "u"), ("reason", "tls_failure")];
    proxy.expect_metric("mamparo_failures_total", &labels, 1.0);
    assert_eq!(proxy.window().failures, 1);
    text(&answer)
}

fn text(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap().to_owned()
}

#[track_caller]
fn says(text: &str, words: &str) {
    assert!(text.contains(words), "{text}\nlacks {words}");
}

#[test]
fn fault_061_what_is_wrong_with_a_certificate_is_spelt_out() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let here: &[&str] = &["127.0.0.1"];
    let expired = ours.issue_between(here, 2000, 2001);
    says(&said_of(&expired, &ours, ""), "expired on 2001-01-01");
    let early = ours.issue_between(here, 2090, 2091);
    says(
        &said_of(&early, &ours, ""),
        "is not valid before 2090-01-01",
    );
    let wrong = ours.issue(&["a.example", "*.b.example"]);
    let sentence = said_of(&wrong, &ours, "");
    says(
        &sentence,
        "is not for '127.0.0.1' but for a.example, *.b.example",
    );
    let sentence = said_of(&wrong, &ours, ", server_name: c.example");
    says(&sentence, "is not for 'c.example' but for");
    let unknown = other.issue(here);
    says(
        &said_of(&unknown, &ours, ""),
        "was issued by 'CN=other', who is not trusted by",
    );
    says(&said_of(&self_signed(here), &ours, ""), "is self-signed");
    says(&said_of(&ours.issue(&[]), &ours, ""), "has no names");
}

/// The target of a record has a certificate of its own, where the target lies in the record's domain: who
/// forges an answer cannot have one for that.
#[test]
fn the_target_of_a_record_is_believed_only_within_its_domain() {
    let authority = Authority::new("ca");
    let files = trusted(&authority);
    for (target, certified, status) in [
        ("a.pay.test", "a.pay.test", 200),
        ("a.pay.test", "pay.test", 502),
        ("a.evil.test", "a.evil.test", 502),
        ("a.evil.test", "pay.test", 200),
    ] {
        let upstream = TlsUpstream::start(&authority.issue(&[certified]));
        let dns = DnsServer::start();
        dns.says(target, Says::found(60, &["127.0.0.1"]));
        let services = [(0, 0, upstream.address.port(), target)];
        dns.says("_https._tcp.pay.test", Says::services(60, &services));
        let proxy = Proxy::start(&format!(
            "runtime: {{ workers: 1, drain: 1s, dns: {{ servers: ['{}'] }} }}
listeners: {{ outbound: {{ address: '127.0.0.1:0', upstream: u }} }}
upstreams:
  u:
    endpoints: [{{ srv: _https._tcp.pay.test }}]
    tls: {{ ca: {}/ca.crt }}
",
            dns.address(),
            files.folder().display()
        ));
        assert_eq!(proxy.get("/").status, status, "{target} {certified}");
    }
}

#[test]
fn a_server_name_is_asked_for_in_the_place_of_the_address() {
    let authority = Authority::new("ca");
    let upstream = TlsUpstream::start(&authority.issue(&["payments.internal"]));
    let keys = ", server_name: payments.internal";
    let proxy = before(upstream.address, &trusted(&authority), keys, "");
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn a_configured_host_is_the_name_that_counts() {
    let authority = Authority::new("ca");
    let upstream = TlsUpstream::start(&authority.issue(&["localhost"]));
    let address = format!("localhost:{}", upstream.address.port());
    let proxy = before(address, &trusted(&authority), "", "");
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn a_certificate_that_is_in_the_ca_file_itself_is_trusted() {
    let pair = self_signed(&["127.0.0.1"]);
    let files = Files::new();
    files.put("ca.crt", &pair.cert);
    let upstream = TlsUpstream::start(&pair);
    assert_eq!(
        before(upstream.address, &files, "", "").get("/").status,
        200
    );
    // But only for its names.
    let elsewhere = self_signed(&["elsewhere.example"]);
    files.put("ca.crt", &elsewhere.cert);
    let upstream = TlsUpstream::start(&elsewhere);
    let answer = before(upstream.address, &files, "", "").get("/");
    says(&text(&answer), "but for elsewhere.example");
}

#[test]
fn fault_061_an_endpoint_without_tls_is_told_from_one_that_breaks_off() {
    let authority = Authority::new("ca");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (index, mut socket) in listener.incoming().map_while(Result::ok).enumerate() {
            let _ = socket.read(&mut [0; 512]);
            if index == 0 {
                let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    let proxy = before(address, &trusted(&authority), "", "");
    for words in ["does not speak TLS", "in the midst of the TLS handshake"] {
        let answer = proxy.get("/");
        assert_eq!(answer.reason().as_deref(), Some("tls_failure"));
        says(&text(&answer), words);
    }
}

#[test]
fn certificates_of_ours_are_shown_and_their_lack_is_told() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let pair = authority.issue(&["127.0.0.1"]);
    let upstream = TlsUpstream::requiring(&pair, &clients);
    let files = trusted(&authority);
    files.put_pair("client", &clients.issue(&["orders"]));
    let folder = files.folder().display().to_string();
    let keys = format!(", cert: {folder}/client.crt, key: {folder}/client.key");
    assert_eq!(
        before(upstream.address, &files, &keys, "").get("/").status,
        200
    );
    // Under TLS 1.3 its lack is noticed when the handshake is over for us; the request was not looked
    // at, so that even a POST may be tried elsewhere.
    let proxy = before(
        upstream.address,
        &files,
        "",
        "    retry: { backoff: { base: 1ms } }\n",
    );
    let answer = proxy.request("POST", "/", &[], b"once");
    assert_eq!(
        answer.reason().as_deref(),
        Some("tls_failure"),
        "{}",
        answer.text()
    );
    says(&text(&answer), "requires a certificate of ours");
    assert_eq!(proxy.only_line()["tries"].as_array().unwrap().len(), 3);
}

#[test]
fn rule_15_a_failed_handshake_has_sent_nothing_and_may_be_tried_elsewhere() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let bad = TlsUpstream::start(&other.issue(&["127.0.0.1"]));
    let good = TlsUpstream::start(&ours.issue(&["127.0.0.1"]));
    let files = trusted(&ours);
    let addresses = format!("{}', 'https://{}", bad.address, good.address);
    let policies = "    balance: round_robin\n    retry: { backoff: { base: 1ms } }\n";
    let proxy = before(addresses, &files, "", policies);
    for _ in 0..4 {
        let answer = proxy.request("POST", "/", &[], b"body");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert!(bad.connections() > 0);
}

#[test]
fn fault_064_an_endpoint_that_never_shakes_hands_is_late() {
    let authority = Authority::new("ca");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut sockets: Vec<_> = silent.incoming().map_while(Result::ok).take(1).collect();
        let _ = sockets[0].read_to_end(&mut Vec::new());
    });
    let folder = trusted(&authority);
    let proxy = Proxy::start(&format!(
        "listeners: {{ outbound: {{ address: '127.0.0.1:0', upstream: u }} }}
upstreams: {{ u: {{ endpoints: ['https://{address}'], tls: {{ ca: {}/ca.crt }}, timeouts: {{ connect: 300ms }} }} }}
",
        folder.folder().display()
    ));
    let began = Instant::now();
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (504, Some("connect_timeout"))
    );
    assert!(began.elapsed() >= Duration::from_millis(290));
}

#[test]
fn fault_065_an_endpoint_that_ignores_alpn_gets_no_http2() {
    let authority = Authority::new("ca");
    let upstream = TlsUpstream::start(&authority.issue(&["127.0.0.1"]));
    let proxy = before(
        upstream.address,
        &trusted(&authority),
        "",
        "    protocol: http2\n",
    );
    let answer = proxy.get("/");
    assert_eq!(
        answer.reason().as_deref(),
        Some("tls_failure"),
        "{}",
        answer.text()
    );
    says(&text(&answer), "does not agree to HTTP/2");
}
