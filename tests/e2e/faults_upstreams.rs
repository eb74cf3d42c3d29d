//! Upstreams that fail before, within and after the head of their answer (section D of the faults).

use std::time::{Duration, Instant};

use crate::faults_told::{
    WATCHED, expect_all_told, expect_learnt, expect_told, watched_with_retries,
};
use crate::support::{BlackHole, Client, Gate, Proxy, Refused, Reply, Upstream, eventually};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const CHUNKS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";

/// A failure of the upstream's, without retries: what the client gets, what is told, what is learnt.
#[track_caller]
fn fails(reply: Reply, status: u16, reason: &str) {
    let upstream = Upstream::always(reply);
    let proxy = Proxy::before(&upstream, WATCHED);
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (status, Some(reason)),
        "{answer:?}"
    );
    assert!(answer.complete);
    expect_told(&proxy, "failed", Some(reason));
    expect_learnt(&proxy, 1, 1);
    assert_eq!(upstream.count().max(1), 1);
}

#[test]
fn fault_044_a_refused_connection() {
    let refused = Refused::new();
    let proxy = Proxy::to(&[refused.address], WATCHED);
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (502, Some("connect_failure"))
    );
    expect_told(&proxy, "failed", Some("connect_failure"));
    expect_learnt(&proxy, 1, 1);
}

#[test]
fn fault_044_a_black_hole_before_the_connection_stands() {
    let hole = BlackHole::new();
    let proxy = Proxy::to(&[hole.address], &WATCHED.replace("500ms", "150ms"));
    let began = Instant::now();
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (504, Some("connect_timeout"))
    );
    assert!(began.elapsed() >= Duration::from_millis(150));
    expect_told(&proxy, "failed", Some("connect_timeout"));
    expect_learnt(&proxy, 1, 1);
}

#[test]
fn fault_044_a_black_hole_counts_against_the_requests_time() {
    let hole = BlackHole::new();
    let policies = WATCHED
        .replace("500ms", "30s")
        .replace("request: 3s", "request: 150ms");
    let proxy = Proxy::to(&[hole.address], &policies);
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (504, Some("request_timeout"))
    );
    expect_told(&proxy, "failed", Some("request_timeout"));
    expect_learnt(&proxy, 1, 1);
}

#[test]
fn fault_044_the_next_endpoint_is_tried_with_any_method_since_nothing_was_sent() {
    let upstream = Upstream::always(200);
    let (hole, refused) = (BlackHole::new(), Refused::new());
    for bad in [hole.address, refused.address] {
        let policies = "circuit_breaker: {}\nbulkhead: {}\ntimeouts: { connect: 100ms }\n\
             balance: round_robin\nretry: { backoff: { base: 1ms } }";
        let proxy = Proxy::to(&[bad, upstream.address()], policies);
        for _ in 0..4 {
            let answer = proxy.request("POST", "/", &[], b"hello");
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        expect_all_told(&proxy, 4, "upstream", None);
        assert!(upstream.received().iter().all(|one| one.text() == "hello"));
        assert!(
            proxy.metric("mamparo_retries_total", &[("class", "transient")]) > 0.0
                || bad == hole.address
        );
    }
    assert_eq!(upstream.count(), 8);
}

#[test]
fn fault_045_closes_when_accepted() {
    fails(Reply::close_on_accept(), 502, "reset");
}

#[test]
fn fault_045_accepts_and_never_reads_nor_answers() {
    // The backlog accepts; nobody ever calls accept.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(
        &[listener.local_addr().unwrap()],
        &WATCHED.replace("request: 3s", "try: 150ms"),
    );
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (504, Some("try_timeout"))
    );
    expect_told(&proxy, "failed", Some("try_timeout"));
    expect_learnt(&proxy, 1, 1);
}

#[test]
fn fault_045_reads_and_never_answers() {
    let upstream = Upstream::always(Reply::stall());
    let proxy = Proxy::before(
        &upstream,
        &WATCHED.replace("request: 3s", "request: 5s, try: 100ms"),
    );
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (504, Some("try_timeout"))
    );
    expect_told(&proxy, "failed", Some("try_timeout"));
    expect_learnt(&proxy, 1, 1);
    eventually("its connection is closed", || {
        upstream.open_connections() == 0
    });
}

#[test]
fn fault_047_ends_before_the_head() {
    fails(Reply::close(), 502, "reset");
    fails(Reply::reset(), 502, "reset");
}

#[test]
fn fault_047_ends_within_the_head() {
    for bytes in [
        "H",
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
    ] {
        fails(Reply::raw(bytes), 502, "reset");
        fails(Reply::raw(bytes).then_reset().after_ms(5), 502, "reset");
    }
}

/// An answer that breaks off in its body: the client sees that it did, by whatever framing.
#[track_caller]
fn breaks_off(reply: Reply, reason: &str) {
    let upstream = Upstream::always(reply);
    let proxy = Proxy::before(&upstream, &watched_with_retries());
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    // What came goes to the client, even if the break was there as soon as the head.
    let answer = client.answer();
    assert!(!answer.complete, "{answer:?}");
    assert_eq!(answer.status, 200);
    let line = proxy.only_line();
    assert_eq!(line["reason"], reason, "{line:#}");
    assert_eq!(line["outcome"], "upstream", "{line:#}");
    proxy.expect_metric("mamparo_failures_total", &[("reason", reason)], 1.0);
    expect_learnt(&proxy, 2, 1);
    assert_eq!(
        upstream.count(),
        1,
        "a byte went to the client: it is never tried again"
    );
}

#[test]
fn fault_047_ends_within_the_body() {
    let short = &HELLO[..HELLO.len() - 1];
    for bytes in [
        short,
        &HELLO[..HELLO.len() - 5],
        CHUNKS,
        &CHUNKS[..CHUNKS.len() - 4],
        &format!("{CHUNKS}0\r\n"),
    ] {
        breaks_off(Reply::raw(bytes), "reset");
        breaks_off(
            Reply::raw(bytes)
                .then_stall()
                .dripping(Duration::from_micros(200)),
            "try_timeout",
        );
    }
    breaks_off(
        Reply::raw(short)
            .dripping(Duration::from_micros(200))
            .then_reset(),
        "reset",
    );
}

#[test]
fn fault_047_an_old_client_does_not_take_a_broken_body_for_a_whole_one() {
    let upstream = Upstream::always(Reply::raw(CHUNKS).dripping(Duration::from_micros(200)));
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    assert!(
        client.rest().is_err(),
        "the end of the connection is the only end that it has"
    );
}

#[test]
fn fault_047_a_chunk_that_is_malformed_is_a_protocol_error() {
    for tail in [
        "5x\r\nhello\r\n0\r\n\r\n",
        "-1\r\n",
        "5\r\nhelloX",
        "ffffffffffffffffff\r\n",
    ] {
        breaks_off(
            Reply::raw(format!("{CHUNKS}{tail}")).then_stall(),
            "protocol_error",
        );
    }
}

#[test]
fn fault_057_trailers_without_end() {
    let trailers = "x-trailer: 1\r\n".repeat(80_000);
    breaks_off(
        Reply::raw(format!("{CHUNKS}0\r\n{trailers}\r\n")).then_stall(),
        "protocol_error",
    );
}

#[test]
fn fault_048_an_answer_before_the_body_is_passed_on_and_not_retried() {
    for status in [413, 401, 503, 200] {
        for end in [
            Reply::then_close as fn(Reply) -> Reply,
            Reply::then_stall,
            Reply::then_keep,
        ] {
            let upstream = Upstream::always(end(Reply::new(status).early()));
            let proxy = Proxy::before(&upstream, &watched_with_retries());
            let mut client = proxy.client();
            client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\nhello");
            let answer = client.answer();
            assert_eq!((answer.status, answer.complete), (status, true));
            drop(client);
            expect_told(&proxy, "upstream", None);
            assert_eq!(upstream.count(), 1, "{status}");
            expect_learnt(&proxy, 1, u64::from(status == 503));
            eventually("the upload ends", || upstream.open_connections() == 0);
            assert!(
                !upstream.last().complete,
                "it was not completed on the client's behalf"
            );
        }
    }
}

#[test]
fn fault_048_an_answer_while_the_upload_goes_on() {
    // The first part of the answer before the body, the second behind it: both directions at once.
    let upstream = Upstream::always(
        Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
            .early()
            .then_keep(),
    );
    let proxy = Proxy::before(&upstream, WATCHED);
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000000\r\n\r\n");
    upstream.wait_for(1);
    client.send(vec![b'x'; 2_000_000]);
    eventually("the whole body arrived", || upstream.last().complete);
    assert_eq!(upstream.last().body.len(), 2_000_000);
}

/// An upstream that sends and receives so many bytes, both at once and neither waiting for the other.
fn both_ways(length: usize) -> std::net::SocketAddr {
    use std::io::{BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        crate::support::Head::read(&mut reader).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                let _ = (&stream).write_all(head.as_bytes());
                let _ = (&stream).write_all(&vec![b'x'; length]);
            });
            let _ = std::io::copy(&mut reader.take(length as u64), &mut std::io::sink());
        });
    });
    address
}

#[test]
fn fault_048_a_client_that_reads_nothing_before_all_is_sent_is_no_deadlock() {
    // More than the buffers on the way hold, in either direction.
    let length = 64 << 20;
    let policies = WATCHED
        .replace("idle: 300ms", "idle: 5s")
        .replace("request: 3s", "request: 20s");
    let proxy = Proxy::to(&[both_ways(length)], &policies);
    let mut client = proxy.client();
    client.send(format!(
        "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"
    ));
    client.send(vec![b'x'; length]);
    let answer = client.answer();
    assert!(answer.complete && answer.body.len() == length);
    drop(client);
    expect_told(&proxy, "upstream", None);
}

#[test]
fn fault_050_a_body_that_drips_just_under_idle_is_served() {
    let bytes = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhello hello hello he";
    let upstream = Upstream::always(
        Reply::raw(bytes)
            .dripping(Duration::from_millis(20))
            .then_keep(),
    );
    let proxy = Proxy::before(&upstream, &WATCHED.replace("300ms", "200ms"));
    assert_eq!(proxy.get("/").text(), "hello hello hello he");
    expect_told(&proxy, "upstream", None);
    expect_learnt(&proxy, 1, 0);
}

#[test]
fn fault_050_a_head_after_the_try_timeout() {
    let upstream = Upstream::script([
        Reply::new(200).after_ms(300),
        Reply::new(200).body("second"),
    ]);
    let policies = watched_with_retries().replace("request: 3s", "try: 100ms");
    let proxy = Proxy::before(&upstream, &policies);
    let answer = proxy.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "second"));
    assert_eq!(answer.header("x-mamparo-attempts").as_deref(), Some("2"));
    assert_eq!(upstream.connections(), 2, "the late answer is nobody's");
    // One that may not be sent twice is not.
    let upstream = Upstream::always(Reply::new(200).after_ms(300));
    let proxy = Proxy::before(&upstream, &policies);
    assert_eq!(
        proxy.request("POST", "/", &[], b"x").reason().as_deref(),
        Some("try_timeout")
    );
    assert_eq!(upstream.count(), 1);
    expect_learnt(&proxy, 1, 1);
}

#[test]
fn fault_051_all_endpoints_down_and_one_of_three() {
    let (a, b, c) = (Refused::new(), Refused::new(), Refused::new());
    let policies = "circuit_breaker: { consecutive_failures: 2, max_open: 100% }\nbulkhead: {}\nretry: { backoff: { base: 1ms } }";
    let proxy = Proxy::to(&[a.address, b.address, c.address], policies);
    let answers: Vec<_> = (0..5).map(|_| proxy.get("/").reason().unwrap()).collect();
    assert_eq!(answers[0], "connect_failure");
    assert_eq!(answers[4], "breaker_open");
    let upstream = Upstream::always(200);
    let proxy = Proxy::to(&[a.address, upstream.address(), c.address], policies);
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    expect_all_told(&proxy, 20, "upstream", None);
}

#[test]
fn fault_051_an_endpoint_that_fails_fast_does_not_attract_the_load() {
    let bad = Upstream::always(503);
    let good = Upstream::always(Reply::new(200).after_ms(3));
    let proxy = Proxy::to(&[bad.address(), good.address()], "bulkhead: {}");
    let address = proxy.listener("outbound");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                for _ in 0..50 {
                    client.get("/");
                }
            });
        }
    });
    let (bad, good) = (bad.count(), good.count());
    assert_eq!(bad + good, 200);
    assert!(bad < good, "the failing one got {bad}, the good one {good}");
}

#[test]
fn fault_052_a_restart_of_the_upstream_with_many_pooled_connections_shows_in_nothing() {
    let gate = Gate::default();
    let upstream = {
        let gate = gate.clone();
        // All at once, so that each has a connection of its own.
        Upstream::with(move |number, _| {
            if number < 60 {
                Reply::new(200).when(&gate)
            } else {
                Reply::new(200)
            }
        })
    };
    let proxy = Proxy::before(
        &upstream,
        "bulkhead: { max_connections: 100 }\ncircuit_breaker: {}\nretry: {}",
    );
    let mut clients: Vec<Client> = (0..60).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.request("GET", "/", &[], b"");
    }
    upstream.wait_for(60);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    eventually("pooled", || proxy.upstream("u").connections.idle == 60);
    upstream.close_connections();
    for client in &mut clients {
        client.request("GET", "/", &[], b"");
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    assert!(
        upstream.connections() <= 160,
        "{} connections",
        upstream.connections()
    );
    drop(clients);
    expect_all_told(&proxy, 120, "upstream", None);
    assert_eq!(
        proxy.endpoint().window.unwrap().failures as f64,
        proxy.metric("mamparo_retries_total", &[])
    );
}

#[test]
fn fault_053_an_upstream_that_flaps_leaves_no_request_stuck() {
    let upstream = Upstream::with(|number, _| {
        if number / 10 % 2 == 0 {
            Reply::new(200)
        } else {
            Reply::reset()
        }
    });
    let policies = "circuit_breaker: { consecutive_failures: 3, open_for: 20ms, max_open_for: 40ms, probes: 1 }\n\
         bulkhead: {}\ntimeouts: { request: 2s }";
    let proxy = Proxy::before(&upstream, policies);
    let mut client = proxy.client();
    let mut refused = 0;
    for _ in 0..150 {
        match client.get("/") {
            answer if answer.status == 200 => {}
            answer => match answer.reason().as_deref() {
                Some("reset") => {}
                Some("breaker_open") => {
                    refused += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => panic!("{answer:?}"),
            },
        }
    }
    assert!(refused > 0 && upstream.count() + refused == 150);
    drop(client);
    let opened = proxy.metric(
        "mamparo_circuit_breaker_transitions_total",
        &[("to", "open")],
    );
    let probed = proxy.metric(
        "mamparo_circuit_breaker_transitions_total",
        &[("to", "half_open")],
    );
    assert!(
        opened >= 2.0 && (opened - probed).abs() <= 1.0,
        "{opened} {probed}"
    );
}

#[test]
fn fault_057_a_body_of_twenty_thousand_chunks_is_streamed() {
    let part = "x".repeat(1000);
    let upstream = Upstream::always(Reply::new(200).chunked(&vec![part.as_str(); 20_000]));
    let proxy = Proxy::before(&upstream, WATCHED);
    let answer = proxy.get("/");
    assert!(answer.complete && answer.body.len() == 20_000_000);
    expect_told(&proxy, "upstream", None);
}

#[test]
fn fault_058_one_byte_segments_and_a_long_header() {
    let long = "y".repeat(64 * 1024);
    let upstream = Upstream::script([
        Reply::raw(HELLO).dripping(Duration::ZERO).then_keep(),
        Reply::raw(CHUNKS.to_owned() + "0\r\n\r\n")
            .dripping(Duration::ZERO)
            .then_keep(),
        Reply::new(200)
            .header(&format!("x-long: {long}"))
            .body("hello"),
    ]);
    let proxy = Proxy::before(&upstream, WATCHED);
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").text(), "hello");
    }
    let answer = client.get("/");
    assert_eq!(
        (answer.text().as_str(), answer.header("x-long")),
        ("hello", Some(long))
    );
    assert_eq!(upstream.connections(), 1);
    drop(client);
    expect_all_told(&proxy, 3, "upstream", None);
}

#[test]
fn fault_025_a_body_to_a_head_request_that_was_kept_between_tries() {
    let upstream = Upstream::always(Reply::new(503).body("a body of 18 bytes"));
    let proxy = Proxy::before(&upstream, &watched_with_retries());
    let mut client = proxy.client();
    let answer = client.request("HEAD", "/", &[], b"").answer_to("HEAD");
    assert_eq!(
        (answer.status, answer.header("content-length").as_deref()),
        (503, Some("18"))
    );
    assert_eq!(client.get("/").text(), "a body of 18 bytes");
    assert_eq!(upstream.count(), 6);
}

#[test]
fn fault_024_an_upstream_of_http_1_0_gets_whole_bodies_and_its_answers_go_out_as_ours() {
    let old =
        Reply::raw("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello")
            .then_keep();
    let upstream = Upstream::always(old);
    let proxy = Proxy::before(&upstream, WATCHED);
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let answer = client.answer();
        assert_eq!(
            (answer.text().as_str(), answer.head.line.as_str()),
            ("hello", "HTTP/1.1 200 OK")
        );
        assert_eq!(upstream.last().text(), "hello");
    }
}
