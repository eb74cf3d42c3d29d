//! Upstreams that speak HTTP/2, over real sockets and with several workers.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::support::{Authority, Client, Http2, Http2Upstream, Manners, Proxy, eventually};

const QUICK: Manners = Manners {
    streams: 100,
    takes: Duration::ZERO,
};

fn before(upstream: &Http2Upstream, workers: usize, scheme: &str, policies: &str) -> Proxy {
    let policies: String = policies
        .lines()
        .map(|line| format!("    {}\n", line.trim()))
        .collect();
    Proxy::start(&format!(
        "runtime: {{ workers: {workers}, drain: 1s }}\n\
         listeners:\n  outbound: {{ address: \"127.0.0.1:0\", upstream: u }}\n\
         upstreams:\n  u:\n    endpoints: [\"{scheme}{}\"]\n{policies}",
        upstream.address
    ))
}

/// So many clients at once, each with so many requests; every one has to be answered 200.
fn load(proxy: &Proxy, clients: usize, requests: usize) {
    let address = proxy.listener("outbound");
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..requests {
                    let answer = client.get("/");
                    assert_eq!(answer.status, 200, "{answer:?}");
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn fault_035_limits_of_connections_and_streams_are_exact_among_workers() {
    let manners = Manners {
        streams: 5,
        takes: Duration::from_millis(1),
    };
    let upstream = Http2Upstream::plain(manners);
    let policies = "protocol: http2
        timeouts: { connect: 30s }
        bulkhead: { max_connections: 3, max_in_flight: none }
        pool: { idle_timeout: 60s }";
    let proxy = before(&upstream, 4, "", policies);
    load(&proxy, 40, 25);
    let seen = &upstream.seen;
    assert_eq!(seen.requests.load(SeqCst), 1_000);
    assert!(seen.most_open.load(SeqCst) <= 3, "{seen:?}");
    assert!(seen.most_streams.load(SeqCst) <= 5, "{seen:?}");
    assert!(seen.accepted.load(SeqCst) <= 3, "none was closed: {seen:?}");
    let opened = proxy.metric("mamparo_connections_opened_total", &[("upstream", "u")]);
    assert_eq!(opened, seen.accepted.load(SeqCst) as f64);
    let now = proxy.upstream("u").connections;
    assert_eq!((now.idle, now.active), (seen.open.load(SeqCst), 0));
}

#[test]
fn a_worker_has_its_own_connection_and_few_are_enough() {
    let upstream = Http2Upstream::plain(QUICK);
    let proxy = before(
        &upstream,
        2,
        "",
        "protocol: http2\npool: { idle_timeout: 60s }",
    );
    load(&proxy, 20, 50);
    let seen = &upstream.seen;
    assert_eq!(seen.requests.load(SeqCst), 1_000);
    assert!(seen.accepted.load(SeqCst) <= 2, "{seen:?}");
}

#[test]
fn idle_connections_are_closed_on_every_worker() {
    let upstream = Http2Upstream::plain(QUICK);
    let proxy = before(
        &upstream,
        4,
        "",
        "protocol: http2\npool: { idle_timeout: 50ms }",
    );
    load(&proxy, 20, 5);
    eventually("all are closed", || upstream.seen.open.load(SeqCst) == 0);
    eventually("and counted no more", || {
        let now = proxy.upstream("u").connections;
        (now.idle, now.active) == (0, 0)
    });
}

#[test]
fn http_2_goes_through_with_its_body_and_trailers() {
    let upstream = Http2Upstream::plain(QUICK);
    let proxy = before(&upstream, 1, "", "protocol: http2");
    let mut client = Http2::connect(proxy.listener("outbound"));
    for length in [0, 1, 70_000, 1_000_000] {
        let body = vec![b'x'; length];
        let mut asked = client.begin("POST", "/", &["te: trailers"]);
        asked.body.send_data(body.clone().into(), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        asked.body.send_trailers(trailers).unwrap();
        let answer = client.answer(asked);
        assert_eq!(
            (answer.status, answer.header("x-version")),
            (200, Some("HTTP/2.0"))
        );
        assert_eq!(answer.header("x-authority"), Some("service"));
        assert_eq!(answer.header("x-scheme"), Some("http"));
        assert!(answer.body == body, "{length} bytes");
        assert_eq!(answer.trailers["grpc-status"], "0");
    }
}

#[test]
fn under_tls_the_endpoint_chooses_the_version() {
    let authority = Authority::new();
    let identity = authority.sign("127.0.0.1");
    let h2: &[u8] = b"h2";
    let http1: &[u8] = b"http/1.1";
    for (offered, version) in [
        (&[h2, http1][..], "HTTP/2.0"),
        (&[http1][..], "HTTP/1.1"),
        (&[][..], "HTTP/1.1"),
    ] {
        let upstream = Http2Upstream::tls(QUICK, &identity, offered);
        let policies = format!(
            "tls: {{ ca: {} }}\nbulkhead: {{ max_connections: 4, max_in_flight: 4, max_queue: 100, queue_timeout: 30s }}",
            authority.certificate().display()
        );
        let proxy = before(&upstream, 2, "https://", &policies);
        let answer = proxy.get("/");
        assert_eq!(
            (answer.status, answer.header("x-version")),
            (200, Some(version.to_owned()))
        );
        load(&proxy, 10, 10);
        let seen = &upstream.seen;
        assert_eq!(seen.requests.load(SeqCst), 101);
        assert!(seen.most_open.load(SeqCst) <= 4, "{seen:?}");
        let spoken = if version == "HTTP/2.0" {
            0
        } else {
            seen.accepted.load(SeqCst)
        };
        assert_eq!(seen.http1.load(SeqCst), spoken);
    }
}

#[test]
fn a_request_for_another_protocol_gets_a_connection_of_http_1_where_there_is_a_choice() {
    let authority = Authority::new();
    let identity = authority.sign("127.0.0.1");
    let upstream = Http2Upstream::tls(QUICK, &identity, &[b"h2", b"http/1.1"]);
    let policies = format!("tls: {{ ca: {} }}", authority.certificate().display());
    let proxy = before(&upstream, 1, "https://", &policies);
    assert_eq!(
        proxy.get("/").header("x-version").as_deref(),
        Some("HTTP/2.0")
    );
    let headers = ["connection: upgrade", "upgrade: websocket"];
    let answer = proxy.request("GET", "/", &headers, b"");
    assert_eq!(answer.header("x-version").as_deref(), Some("HTTP/1.1"));
    assert_eq!(upstream.seen.http1.load(SeqCst), 1);
}
