//! CONNECT over HTTP/2: one stream of a connection is a tunnel (RFC 9113 section 8.5).

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::proxy::complete;
use crate::support::{Far, Http2, Program, Proxy, Refused, Socket, Tunnel2, Upstream};
use crate::support::{PATIENCE, eventually};
use crate::tunnels::expect_reason;

fn yaml(endpoints: &[std::net::SocketAddr], policies: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
    let policies: String = policies
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    format!(
        "listeners:\n  \
           outbound: {{ address: \"127.0.0.1:0\", routes: [{{ match: {{ host: shop.internal }}, upstream: u }}] }}\n  \
           inbound: {{ address: \"127.0.0.1:0\", role: inbound, upstream: u }}\n\
         upstreams:\n  u:\n    endpoints: [{}]\n{policies}",
        endpoints.join(", ")
    )
}

/// A tunnel that stands, through a proxy with these policies.
struct Stage {
    proxy: Proxy,
    client: Http2,
    tunnel: Tunnel2,
    endpoint: Socket,
}

fn stage(policies: &str) -> Stage {
    let far = Far::new();
    let proxy = Proxy::start(&yaml(&[far.address()], policies));
    let mut client = Http2::connect(proxy.listener("outbound"));
    let tunnel = client.tunnel("shop.internal:443");
    let endpoint = far.accept();
    Stage {
        proxy,
        client,
        tunnel,
        endpoint,
    }
}

#[test]
fn a_stream_becomes_a_tunnel_and_the_connection_goes_on() {
    let Stage {
        proxy,
        mut client,
        mut tunnel,
        mut endpoint,
    } = stage("bulkhead: { max_in_flight: 1 }\ncircuit_breaker: {}");
    tunnel.send(b"hello");
    endpoint.expect("hello");
    endpoint.send("and back");
    tunnel.expect(b"and back");
    // It holds its seat and its connection; other streams find the seat taken.
    let upstream = proxy.upstream("u");
    assert_eq!(upstream.bulkhead.unwrap().in_flight, 1);
    assert_eq!(upstream.connections.active, 1);
    let other = client.request("GET", "/", &["host: shop.internal"], b"");
    assert_eq!(other.status, 400, "it names two hosts");
    let other = client.connect_through("shop.internal:443");
    assert_eq!(other.reason(), Some("too_many_in_flight"));
    // An end is passed on, and the other way goes on.
    tunnel.end();
    endpoint.expect_end();
    endpoint.send("last");
    drop(endpoint);
    tunnel.expect(b"last");
    tunnel.expect_end();
    let lines = proxy.logged(3);
    let line = lines.iter().find(|line| line["status"] == 200).unwrap();
    assert_eq!(line["method"], "CONNECT");
    assert_eq!(line["outcome"], "upstream");
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&5.into(), &12.into())
    );
    assert!(line["reason"].is_null(), "{line}");
    proxy.expect_metric("mamparo_requests_total", &[("code", "2xx")], 1.0);
    proxy.expect_metric("mamparo_attempts_total", &[("outcome", "success")], 1.0);
    assert_eq!(proxy.upstream("u").bulkhead.unwrap().in_flight, 0);
}

#[test]
fn several_tunnels_and_requests_share_a_connection() {
    let far = Far::new();
    let proxy = Proxy::start(&yaml(&[far.address()], ""));
    let mut client = Http2::connect(proxy.listener("outbound"));
    let mut tunnels: Vec<_> = (0..10u8)
        .map(|_| (client.tunnel("shop.internal:443"), far.accept()))
        .collect();
    let large: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for (tunnel, _) in &mut tunnels {
        tunnel.send(&large);
    }
    for (tunnel, endpoint) in tunnels.iter_mut().rev() {
        let mut found = vec![0; large.len()];
        endpoint.reader.read_exact(&mut found).unwrap();
        assert!(found == large);
        endpoint.send(&found);
        tunnel.expect(&large);
    }
    drop(tunnels);
    assert_eq!(proxy.logged(10).len(), 10);
}

#[test]
fn fault_016_and_037_connect_is_refused_where_it_is_not_offered() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::start(&yaml(&[upstream.address()], ""));
    let mut client = Http2::connect(proxy.listener("outbound"));
    let answer = client.connect_through("elsewhere.internal:443");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.reason(), Some("bad_request"));
    // What is not offered by a setting is against the protocol.
    let error = client.extended_connect().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR));
    assert!(!client.offers_extended_connect());
    assert_eq!(proxy.logged(2)[1]["reason"], "bad_request");
    // The connection goes on, unlike one of HTTP/1.1.
    assert_eq!(client.connect_through("shop.internal").status, 400);
    let mut inbound = Http2::connect(proxy.listener("inbound"));
    assert_eq!(inbound.connect_through("shop.internal:443").status, 405);
    assert_eq!(inbound.get("/").status, 200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_endpoint_that_refuses_is_tried_elsewhere() {
    let (refused, far) = (Refused::new(), Far::new());
    let policies = "retry: { backoff: { base: 1ms } }\nbalance: round_robin";
    let proxy = Proxy::start(&yaml(&[refused.address, far.address()], policies));
    let mut client = Http2::connect(proxy.listener("outbound"));
    for _ in 0..2 {
        let mut tunnel = client.tunnel("shop.internal:443");
        let mut endpoint = far.accept();
        endpoint.send("here");
        tunnel.expect(b"here");
    }
    let tries = |line: &serde_json::Value| line["tries"].as_array().unwrap().len();
    let lines = proxy.logged(2);
    assert_eq!(lines.iter().map(tries).sum::<usize>(), 3, "{lines:?}");
}

#[test]
fn back_pressure_reaches_both_ends() {
    let Stage {
        proxy,
        mut tunnel,
        endpoint,
        client: _client,
    } = stage("");
    const MOST: usize = 24 << 20;
    let part = vec![7; 64 * 1024];
    // The client takes nothing: so many bytes fit into windows and sockets, and no more.
    let stream = endpoint.stream();
    let soon = Duration::from_millis(300);
    stream.set_write_timeout(Some(soon)).unwrap();
    let mut down = 0;
    while let Ok(written) = { stream }.write(&part) {
        down += written;
        assert!(down < MOST, "no back-pressure");
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // The endpoint takes nothing.
    let mut up = 0;
    loop {
        let room = tunnel.room(part.len(), soon).min(part.len());
        if room == 0 {
            break;
        }
        tunnel.send(&part[..room]);
        up += room;
        assert!(up < MOST, "no back-pressure");
    }
    // And all of it is there for those who take it.
    let reading = std::thread::spawn({
        let mut reader = endpoint.stream().try_clone().unwrap();
        move || {
            let mut taken = vec![0; up];
            reader.read_exact(&mut taken).unwrap();
            taken.iter().all(|byte| *byte == 7)
        }
    });
    let mut taken = 0;
    while taken < down {
        taken += tunnel.next().unwrap().expect("more").len();
    }
    assert!(reading.join().unwrap());
    tunnel.end();
    endpoint.half_close();
    tunnel.expect_end();
    let line = proxy.only_line();
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&up.into(), &down.into())
    );
}

#[test]
fn a_break_at_one_end_is_a_break_at_the_other() {
    let Stage {
        proxy,
        mut client,
        mut tunnel,
        endpoint,
    } = stage("circuit_breaker: {}");
    endpoint.reset();
    assert_eq!(tunnel.expect_break(), Some(h2::Reason::CONNECT_ERROR));
    assert_eq!(proxy.only_line()["reason"], "reset");
    assert_eq!(client.connect_through("elsewhere:1").status, 405);

    let Stage {
        proxy,
        mut tunnel,
        mut endpoint,
        client: _client,
    } = stage("bulkhead: {}");
    tunnel.send.send_reset(h2::Reason::CANCEL);
    endpoint.expect_break();
    let line = proxy.only_line();
    assert_eq!(line["outcome"], "client_gone");
    assert_eq!(line["status"], 200);

    // The same where its whole connection goes.
    let Stage {
        proxy,
        client,
        mut tunnel,
        mut endpoint,
    } = stage("bulkhead: {}");
    tunnel.send(b"a word");
    endpoint.expect("a word");
    drop((client, tunnel));
    endpoint.expect_break();
    let line = proxy.only_line();
    assert_eq!(line["outcome"], "client_gone");
    assert_eq!(line["bytes_in"], "a word".len());
}

#[test]
fn the_idle_timeout_ends_it_in_order() {
    let Stage {
        proxy,
        mut client,
        mut tunnel,
        mut endpoint,
    } = stage("timeouts: { request: 100ms, try: 50ms, idle: 2s }");
    let began = Instant::now();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(600));
        tunnel.send(b"a");
        endpoint.expect("a");
    }
    tunnel.expect_end();
    endpoint.expect_end();
    assert!(began.elapsed() >= Duration::from_millis(4_300));
    let line = proxy.only_line();
    assert!(line["reason"].is_null(), "{line}");
    assert_eq!(
        line["detail"],
        "no byte in the tunnel for 2s (idle timeout)"
    );
    assert_eq!(client.connect_through("elsewhere:1").status, 405);
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
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let yaml = yaml(&[far.address()], "");
    // The other listener would accept for another second.
    let only_outbound = |line: &&str| !line.contains("role: inbound");
    let yaml: Vec<&str> = yaml.lines().filter(only_outbound).collect();
    let yaml = format!("runtime: {{ drain: {drain} }}\n{}\n", yaml.join("\n"));
    let mut program = Program::run(&complete(&yaml, &log));
    let mut client = Http2::connect(program.listener("outbound"));
    let mut tunnel = client.tunnel("shop.internal:443");
    let mut endpoint = far.accept();
    let began = Instant::now();
    program.signal("TERM");
    eventually("the drain has begun", || {
        program.stderr().contains("draining")
    });
    tunnel.send(b"still");
    endpoint.expect("still");
    endpoint.send("here");
    tunnel.expect(b"here");
    if ends_in_time {
        tunnel.end();
        endpoint.expect_end();
        drop(endpoint);
        tunnel.expect_end();
        drop((client, tunnel));
        assert_eq!(program.wait().code(), Some(0));
        eventually("it was not cut", || {
            program.stderr().contains("every request was answered")
        });
        assert!(began.elapsed() < Duration::from_secs(10));
    } else {
        tunnel.expect_break();
        endpoint.expect_break();
        assert!(began.elapsed() >= Duration::from_millis(2_990));
        assert_eq!(program.wait().code(), Some(0));
    }
    expect_reason(&log, ends_in_time);
}
