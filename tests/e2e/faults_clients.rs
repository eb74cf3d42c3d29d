//! Slow and absent clients (section C of the faults): work stops at once, everything is given back, and
//! the breaker learns nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::faults_told::{WATCHED, expect_all_told, expect_learnt, expect_told};
use crate::support::{
    BlackHole, Client, Gate, PATIENCE, Program, Proxy, Refused, Reply, Upstream, descriptors,
    eventually,
};

/// How long until a client that leaves is no longer taken for one that only stopped sending.
const MOMENT: Duration = Duration::from_millis(60);

/// The client of a request that is under way leaves, cleanly or with a reset.
fn leave(client: Client, by_reset: bool) {
    if by_reset {
        client.reset()
    } else {
        drop(client)
    }
}

/// A proxy whose listener has these settings, before these endpoints.
fn listening(listener: &str, upstream: &Upstream, policies: &str) -> Proxy {
    let policies: String = policies
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    Proxy::start(&format!(
        "listeners:\n  outbound: {{ address: \"127.0.0.1:0\", upstream: u, {listener} }}\n\
         upstreams:\n  u:\n    endpoints: [\"{}\"]\n{policies}",
        upstream.address()
    ))
}

#[test]
fn fault_041_a_client_leaves_in_the_head() {
    let upstream = Upstream::always(200);
    let mut proxy = Proxy::before(&upstream, WATCHED);
    for by_reset in [false, true] {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nhost:");
        leave(client, by_reset);
    }
    drop(proxy.client());
    proxy.assert_quiet();
    // There was no request, so none is told of.
    assert_eq!(proxy.metric("mamparo_requests_total", &[]), 0.0);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn fault_041_a_client_leaves_in_the_queue() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let proxy = Proxy::before(
        &upstream,
        "bulkhead: { max_in_flight: 1, max_queue: 4, queue_timeout: 10s }\ncircuit_breaker: {}",
    );
    let mut seated = proxy.client();
    seated.request("GET", "/seated", &[], b"");
    upstream.wait_for(1);
    let queued = |count| move |proxy: &Proxy| proxy.upstream("u").bulkhead.unwrap().queued == count;
    for by_reset in [false, true] {
        let mut client = proxy.client();
        client.request("GET", "/queued", &[], b"");
        eventually("queued", || queued(1)(&proxy));
        std::thread::sleep(MOMENT);
        leave(client, by_reset);
        eventually("out of the queue", || queued(0)(&proxy));
    }
    gate.open();
    assert_eq!(seated.answer().status, 200);
    drop(seated);
    assert_eq!(upstream.count(), 1, "those that left were never sent");
    let gone = [("outcome", "client_gone")];
    proxy.expect_metric("mamparo_requests_total", &gone, 2.0);
    proxy.expect_metric("mamparo_failures_total", &[("reason", "client_gone")], 2.0);
    expect_learnt(&proxy, 1, 0);
}

#[test]
fn fault_041_a_client_leaves_in_backoff() {
    for by_reset in [false, true] {
        let upstream = Upstream::always(503);
        let policies =
            format!("{WATCHED}\nretry: {{ backoff: {{ base: 2s, max: 2s, jitter: none }} }}");
        let proxy = Proxy::before(&upstream, &policies.replace("request: 3s", "request: 60s"));
        let mut client = proxy.client();
        client.request("GET", "/", &[], b"");
        upstream.wait_for(1);
        eventually("learnt", || proxy.endpoint().window.unwrap().total == 1);
        std::thread::sleep(MOMENT);
        leave(client, by_reset);
        expect_told(&proxy, "client_gone", Some("client_gone"));
        assert_eq!(upstream.count(), 1);
        expect_learnt(&proxy, 1, 1);
    }
}

#[test]
fn fault_041_a_client_leaves_while_a_connection_is_made() {
    for by_reset in [false, true] {
        let hole = BlackHole::new();
        let proxy = Proxy::to(&[hole.address], &WATCHED.replace("500ms", "30s"));
        let mut client = proxy.client();
        client.request("POST", "/", &[], b"hello");
        eventually("connecting", || proxy.upstream("u").connections.active == 1);
        std::thread::sleep(MOMENT);
        leave(client, by_reset);
        expect_told(&proxy, "client_gone", Some("client_gone"));
        expect_learnt(&proxy, 0, 0);
    }
}

#[test]
fn fault_041_a_client_leaves_while_the_head_is_awaited() {
    for by_reset in [false, true] {
        let upstream = Upstream::always(Reply::stall());
        let proxy = Proxy::before(&upstream, WATCHED);
        let mut client = proxy.client();
        client.request("GET", "/", &[], b"");
        upstream.wait_for(1);
        std::thread::sleep(MOMENT);
        leave(client, by_reset);
        expect_told(&proxy, "client_gone", Some("client_gone"));
        expect_learnt(&proxy, 0, 0);
        eventually("the upstream is let go", || {
            upstream.open_connections() == 0
        });
    }
}

#[test]
fn fault_041_a_client_leaves_in_the_body_of_the_answer() {
    for by_reset in [false, true] {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello";
        let upstream = Upstream::always(Reply::raw(head).then_stall());
        let proxy = Proxy::before(&upstream, &WATCHED.replace("300ms", "30s"));
        let mut client = proxy.client();
        client.request("GET", "/", &[], b"");
        let mut some = [0; 32];
        client.stream().read_exact(&mut some).unwrap();
        std::thread::sleep(MOMENT);
        leave(client, by_reset);
        expect_told(&proxy, "client_gone", Some("client_gone"));
        expect_learnt(&proxy, 1, 0);
        eventually("the upstream is let go", || {
            upstream.open_connections() == 0
        });
    }
}

#[test]
fn fault_041_a_client_leaves_during_its_upload() {
    for by_reset in [false, true] {
        for policies in [
            WATCHED.to_owned(),
            crate::faults_told::watched_with_retries(),
        ] {
            let upstream = Upstream::always(200);
            let proxy = Proxy::before(&upstream, &policies);
            let mut client = proxy.client();
            client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nhello");
            upstream.wait_for(1);
            leave(client, by_reset);
            expect_told(&proxy, "client_gone", Some("client_gone"));
            assert!(!upstream.last().complete);
            assert_eq!(upstream.count(), 1);
            expect_learnt(&proxy, 0, 0);
        }
    }
}

#[test]
fn fault_041_a_client_that_leaves_gets_no_fallback() {
    let upstream = Upstream::always(200);
    let policies = format!("{WATCHED}\nfallback: [{{ on: any, respond: {{ status: 200 }} }}]");
    let proxy = Proxy::before(&upstream, &policies);
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nhello");
    upstream.wait_for(1);
    drop(client);
    expect_told(&proxy, "client_gone", Some("client_gone"));
    proxy.expect_metric("mamparo_fallbacks_total", &[], 0.0);
}

#[test]
fn fault_043_a_half_closed_client_is_answered() {
    let upstream = Upstream::always(Reply::new(200).after_ms(100));
    let proxy = Proxy::before(&upstream, WATCHED);
    for body in [&b""[..], b"hello"] {
        let mut client = proxy.client();
        let answer = client.request("POST", "/", &[], body).half_close().answer();
        assert_eq!(answer.status, 200);
        assert!(client.is_closed());
    }
    expect_all_told(&proxy, 2, "upstream", None);
}

#[test]
fn fault_038_slow_heads_are_cut_and_the_rest_is_served() {
    // Each has a descriptor at both ends, which are in this process.
    let count = (descriptors().saturating_sub(2_000) / 2).clamp(200, 2_000);
    eprintln!("{count} slow clients");
    let upstream = Upstream::always(200);
    let listener = "timeouts: { header: 4s, idle: 30s }";
    let proxy = listening(listener, &upstream, WATCHED);
    let mut slow: Vec<Client> = (0..count).map(|_| proxy.client()).collect();
    let mut client = proxy.client();
    for byte in "GET / HTTP/1.1\r\nx-slow".chars() {
        for one in &mut slow {
            let _ = one.try_send(byte.to_string());
        }
        let asked = Instant::now();
        assert_eq!(client.get("/").status, 200, "the rest is served");
        // Behind them it would wait until they are cut.
        assert!(
            asked.elapsed() < Duration::from_millis(3_900),
            "and at once"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    for one in &mut slow {
        let answer = one.answer();
        assert_eq!(
            (answer.status, answer.reason().as_deref()),
            (408, Some("header_timeout"))
        );
        assert!(one.is_closed());
    }
    let count = count as f64;
    proxy.expect_metric(
        "mamparo_failures_total",
        &[("reason", "header_timeout")],
        count,
    );
    proxy.expect_metric(
        "mamparo_requests_total",
        &[("outcome", "refused"), ("code", "4xx")],
        count,
    );
}

#[test]
fn fault_039_a_slow_upload_counts_against_the_requests_time_and_is_not_the_upstreams_fault() {
    let upstream = Upstream::always(200);
    let policies = crate::faults_told::watched_with_retries();
    let policies = policies.replace("request: 3s", "request: 500ms, try: 100ms");
    let proxy = Proxy::before(&upstream, &policies);
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(700) && client.try_send("x").is_ok() {
        std::thread::sleep(Duration::from_millis(30));
    }
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (504, Some("request_timeout"))
    );
    let why = "within 500ms (request timeout): the client had not sent all of its request (1 try";
    assert!(answer.text().contains(why), "{}", answer.text());
    drop(client);
    expect_told(&proxy, "failed", Some("request_timeout"));
    eventually("the upstream is let go", || {
        upstream.open_connections() == 0
    });
    assert!(!upstream.last().complete, "it sees an abort");
    assert_eq!(upstream.count(), 1, "no retry storm");
    expect_learnt(&proxy, 0, 0);
}

#[test]
fn fault_039_the_try_timeout_counts_from_the_end_of_the_upload() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, &WATCHED.replace("request: 3s", "try: 500ms"));
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n");
    for _ in 0..20 {
        client.send("x");
        std::thread::sleep(Duration::from_millis(40));
    }
    assert_eq!(client.answer().status, 200);
    drop(client);
    expect_told(&proxy, "upstream", None);
    // When the body is there and the upstream is silent, it is the upstream that is late.
    let upstream = Upstream::always(Reply::stall());
    let proxy = Proxy::before(&upstream, &WATCHED.replace("request: 3s", "try: 500ms"));
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n");
    for _ in 0..10 {
        client.send("x");
        std::thread::sleep(Duration::from_millis(60));
    }
    assert_eq!(client.answer().reason().as_deref(), Some("try_timeout"));
    expect_told(&proxy, "failed", Some("try_timeout"));
    expect_learnt(&proxy, 1, 1);
}

#[test]
fn fault_039_an_upload_that_stalls_is_cut_by_idle() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, &WATCHED.replace("request: 3s", "request: none"));
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nhello");
    let began = Instant::now();
    let _ = client.rest();
    assert!((Duration::from_millis(250)..PATIENCE).contains(&began.elapsed()));
    expect_told(&proxy, "client_gone", Some("client_gone"));
    eventually("the upstream is let go", || {
        upstream.open_connections() == 0
    });
    assert!(!upstream.last().complete);
    expect_learnt(&proxy, 0, 0);
}

#[test]
fn fault_039_an_upstream_that_takes_no_body_is_cut_by_idle() {
    let upstream = Upstream::always(
        Reply::raw("")
            .early()
            .then_stall()
            .after(Duration::from_secs(60)),
    );
    let proxy = Proxy::before(&upstream, &WATCHED.replace("request: 3s", "request: none"));
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n");
    client.stream().set_nonblocking(true).unwrap();
    let part = vec![b'x'; 64 * 1024];
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        let _ = client.stream().write(&part);
        std::thread::sleep(Duration::from_micros(100));
    }
    client.stream().set_nonblocking(false).unwrap();
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (504, Some("try_timeout"))
    );
    drop(client);
    expect_told(&proxy, "failed", Some("try_timeout"));
    expect_learnt(&proxy, 1, 1);
}

/// 200 MB would not fit anywhere on the way.
const LARGE: usize = 200 << 20;

/// An upstream that writes until nobody takes it; gives what it could write.
fn flooding() -> (std::net::SocketAddr, std::thread::JoinHandle<usize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let writing = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let part = vec![b'x'; 64 * 1024];
        let mut written = 0;
        while written < LARGE && stream.write_all(&part).is_ok() {
            written += part.len();
        }
        written
    });
    (address, writing)
}

#[test]
fn fault_040_a_client_that_takes_nothing_holds_the_upstream_back_and_is_cut_by_idle() {
    let (address, writing) = flooding();
    let proxy = Proxy::to(&[address], &WATCHED.replace("request: 3s", "request: none"));
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    let began = Instant::now();
    let written = writing.join().unwrap();
    assert!(began.elapsed() < PATIENCE, "cut by idle");
    assert!(
        written < 32 << 20,
        "{written} bytes were taken from the upstream"
    );
    expect_told(&proxy, "client_gone", Some("client_gone"));
    expect_learnt(&proxy, 1, 0);
    let got = client.rest();
    assert!(got.is_err() || got.is_ok_and(|bytes| bytes.len() < LARGE));
}

#[test]
fn fault_040_a_slow_reader_is_served() {
    let (address, writing) = flooding();
    let proxy = Proxy::to(
        &[address],
        &WATCHED
            .replace("300ms", "2s")
            .replace("request: 3s", "request: none"),
    );
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    let mut stream: &TcpStream = client.stream();
    let mut buffer = vec![0; 1 << 20];
    let mut read = 0;
    for _ in 0..20 {
        read += stream.read(&mut buffer).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    while read < LARGE {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            bytes => read += bytes,
        }
    }
    drop(client);
    assert!(read >= LARGE);
    assert_eq!(writing.join().unwrap(), LARGE);
    expect_told(&proxy, "upstream", None);
}

#[test]
fn fault_042_at_the_limit_of_connections_new_ones_wait() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::start(&format!(
        "runtime: {{ workers: 2, drain: 1s, max_connections: 3 }}\n\
         listeners:\n  outbound: {{ address: \"127.0.0.1:0\", upstream: u }}\n\
         upstreams:\n  u: {{ endpoints: [\"{}\"] }}\n",
        upstream.address()
    ));
    let mut first: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut first {
        assert_eq!(client.get("/").status, 200);
    }
    let mut waiting: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut waiting {
        client.request("GET", "/", &[], b"");
    }
    assert!(waiting[0].hears_nothing_for(Duration::from_millis(100)));
    assert_eq!(upstream.count(), 3);
    drop(first);
    // Each that goes makes room for one that waits.
    for mut client in waiting {
        assert_eq!(client.answer().status, 200);
    }
    expect_all_told(&proxy, 23, "upstream", None);
}

#[test]
fn fault_042_ten_thousand_idle_connections_cost_nothing_but_their_place() {
    // The proxy is a process of its own, and other tests of this one have their files, too.
    let count = descriptors().saturating_sub(3_000).clamp(500, 10_000);
    eprintln!("{count} idle connections");
    let upstream = Upstream::always(200);
    let program = Program::run(&format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\naccess_log: {{ destination: off }}\n\
         runtime: {{ workers: 2, max_connections: {} }}\n\
         listeners:\n  in: {{ address: \"127.0.0.1:0\", upstream: u, timeouts: {{ header: 5m, idle: 5m }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        count + 10,
        upstream.address()
    ));
    let address = program.listener("in");
    let connections = || {
        let status = Client::connect(program.admin()).get_from_admin("/api/v1/status");
        status.json()["listeners"][0]["connections"]
            .as_u64()
            .unwrap()
    };
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").status, 200);
    let before = memory(&program);
    // Every other one has had an answer; all of them are idle then.
    let mut idle: Vec<Client> = (0..count).map(|_| Client::connect(address)).collect();
    for one in idle.iter_mut().step_by(2) {
        assert_eq!(one.get("/").status, 200);
    }
    eventually("counted", || connections() == count as u64 + 1);
    let each = memory(&program).saturating_sub(before) / count;
    assert!(each < 40 * 1024, "{each} bytes for each");
    // They are not looked at, and those that have something to say are served.
    let (spent, began) = (processor_time(&program), Instant::now());
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(client.get("/").status, 200);
        std::thread::sleep(Duration::from_millis(20));
    }
    let spent = processor_time(&program) - spent;
    assert!(spent < Duration::from_millis(500), "{spent:?} of a second");
    idle.into_iter().for_each(Client::reset);
    eventually("they are gone", || connections() == 1);
}

/// The resident memory of a process, in bytes.
fn memory(program: &Program) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", program.id())).unwrap();
    let pages = text.split(' ').nth(1).unwrap();
    pages.parse::<usize>().unwrap() * 4096
}

/// What a process has used of the processors, in ticks of 10 ms.
fn processor_time(program: &Program) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap();
    let behind_name = text.rsplit(')').next().unwrap();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}

#[test]
fn fault_041_two_hundred_clients_leave_at_any_moment() {
    let upstream = Upstream::with(|number, _| match number % 4 {
        0 => Reply::new(503),
        1 => Reply::new(200).after_ms(20),
        2 => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").then_stall(),
        _ => Reply::close(),
    });
    let refused = Refused::new();
    let policies = "bulkhead: { max_in_flight: 5, max_queue: 5, queue_timeout: 30ms }\ncircuit_breaker: {}\n\
         retry: { methods: all, backoff: { base: 20ms } }\ntimeouts: { request: 500ms, idle: 200ms }";
    let mut proxy = Proxy::to(&[upstream.address(), refused.address], policies);
    let address = proxy.listener("outbound");
    std::thread::scope(|scope| {
        for thread in 0_u64..8 {
            scope.spawn(move || {
                for turn in 0..25 {
                    let mut client = Client::connect(address);
                    let half = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhell";
                    if turn % 3 == 0 {
                        client.send(half);
                    } else {
                        client.request("PUT", "/", &[], b"hello");
                    }
                    std::thread::sleep(Duration::from_millis(thread * 7 + turn));
                    leave(client, turn % 2 == 0);
                }
            });
        }
    });
    // Seats, connections, tasks, bytes, and a line and a count for each that became a request.
    proxy.assert_quiet();
}
