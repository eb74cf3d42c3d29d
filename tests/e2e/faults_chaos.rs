//! Everything at once: upstreams that fail in any way, clients that leave at any moment, for a while and
//! by chance. What must hold then holds always: an answer belongs to its request, what may not be sent
//! twice is not, no body is cut, each request is told of once, and nothing is left behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Client, Proxy, Refused, Reply, Upstream};

const CLIENTS: u64 = 12;
const TURNS: u64 = 50;

/// What the upstream does with a request, by chance; an answer names its request.
fn behaves(random: &mut fastrand::Rng, target: &str) -> Reply {
    let whole = |extra: &str| {
        let length = target.len();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{target}{extra}")
    };
    let fine = Reply::new(200).body(target);
    match random.u8(..24) {
        0 => Reply::new(503).body(target),
        1 => Reply::new(500).body(target).then_close(),
        2 => Reply::close(),
        3 => Reply::reset(),
        4 => Reply::stall(),
        5 => Reply::half_head(),
        6 => Reply::raw(&whole("").as_bytes()[..whole("").len() - 1]),
        7 => Reply::raw(whole("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")).then_keep(),
        8 => Reply::raw(whole(""))
            .dripping(Duration::from_micros(300))
            .then_keep(),
        9 => Reply::raw("garbage\r\n\r\n"),
        10 => Reply::new(413).body(target).early().then_close(),
        11 => Reply::new(200).body(target).early(),
        12 => fine.then_close(),
        13 => fine.then_reset(),
        14 => Reply::new(200).chunked(&[&target[..2], &target[2..]]),
        15 => Reply::raw(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
            &target[..2]
        )),
        16 => Reply::raw(whole("")).then_stall(),
        17 => fine.after_ms(random.u64(..40)),
        18 => Reply::new(503).header("retry-after: 0").body(target),
        _ => fine,
    }
}

/// One client's life: requests over connections that it keeps or leaves by chance. Gives the requests
/// that it sent whole.
fn lives(to: SocketAddr, number: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(number);
    let mut client = Client::connect(to);
    let mut sent = 0;
    for turn in 0..TURNS {
        let method = ["GET", "PUT", "POST", "POST"][random.usize(..4)];
        let id = format!("/{number}-{turn}-{method}");
        let body = match method {
            "GET" => String::new(),
            _ => id.repeat(random.usize(1..400)),
        };
        let head = format!(
            "{method} {id} HTTP/1.1\r\nhost: a\r\nx-length: {}\r\n",
            body.len()
        );
        let bytes = match random.bool() {
            _ if method == "GET" => format!("{head}\r\n"),
            true => format!("{head}content-length: {}\r\n\r\n{body}", body.len()),
            false => format!(
                "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        };
        if random.u8(..12) == 0 {
            // In the midst of its request.
            let _ = client.try_send(&bytes[..random.usize(1..bytes.len())]);
            std::thread::sleep(Duration::from_millis(random.u64(..20)));
            client = Client::connect(to);
            continue;
        }
        if client.try_send(&bytes).is_err() {
            client = Client::connect(to);
            continue;
        }
        sent += 1;
        if random.u8(..10) == 0 {
            // While it waits.
            std::thread::sleep(Duration::from_millis(random.u64(..60)));
            let next = Client::connect(to);
            match random.bool() {
                true => std::mem::replace(&mut client, next).reset(),
                false => client = next,
            }
            continue;
        }
        let Ok(answer) = client.try_answer(method) else {
            client = Client::connect(to);
            continue;
        };
        let ours = answer.reason().is_some();
        let whose = answer.text();
        assert!(
            ours || !answer.complete || whose == id,
            "{id} was answered with {answer:?}"
        );
        assert!(
            ours || id.starts_with(&whose),
            "{id} was answered with {answer:?}"
        );
        let last = answer
            .header("connection")
            .is_some_and(|value| value.contains("close"));
        if last || !answer.complete {
            client = Client::connect(to);
        }
    }
    sent
}

#[test]
fn fault_079_everything_at_once() {
    let upstream = Upstream::with(|number, request| {
        let mut random = fastrand::Rng::with_seed(number as u64 + 1000);
        behaves(&mut random, &request.target)
    });
    let refused = Refused::new();
    let policies = "bulkhead: { max_in_flight: 6, max_queue: 4, queue_timeout: 50ms, max_connections: 8 }\n\
         circuit_breaker: { consecutive_failures: 8, open_for: 20ms, max_open_for: 40ms, max_open: 50% }\n\
         retry: { backoff: { base: 2ms, max: 10ms }, budget: { ratio: 50% }, on: [connect_failure, reset, timeout, 5xx] }\n\
         timeouts: { connect: 500ms, try: 80ms, request: 1s, idle: 80ms }";
    let mut proxy = Proxy::to(&[upstream.address(), refused.address], policies);
    let to = proxy.listener("outbound");
    let lives: Vec<_> = (0..CLIENTS)
        .map(|number| std::thread::spawn(move || lives(to, number)))
        .collect();
    let sent: u64 = lives.into_iter().map(|life| life.join().unwrap()).sum();
    proxy.assert_quiet();

    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for request in upstream
        .received()
        .iter()
        .filter(|request| request.complete)
    {
        let length: usize = request.header("x-length").unwrap().parse().unwrap();
        assert_eq!(request.body.len(), length, "{} was cut", request.target);
        assert!(
            request
                .text()
                .split('/')
                .skip(1)
                .all(|part| format!("/{part}") == request.target)
        );
        *times.entry(request.target.clone()).or_default() += 1;
    }
    for (target, times) in times {
        assert!(
            times == 1 || !target.ends_with("POST"),
            "{target} was sent {times} times"
        );
        assert!(times <= 3, "{target} was sent {times} times");
    }
    let told = proxy.metric("mamparo_requests_total", &[]);
    assert!(told >= sent as f64, "{told} told of {sent}");
    // What was retried, refused and answered adds up (rule 88).
    let attempts = proxy.metric("mamparo_attempts_total", &[]);
    let retries = proxy.metric("mamparo_retries_total", &[]);
    let tries: usize = proxy
        .log()
        .iter()
        .map(|line| line["tries"].as_array().map_or(0, Vec::len))
        .sum();
    assert_eq!(attempts, tries as f64);
    assert!(
        retries > 0.0 && retries < attempts && attempts - retries <= told,
        "{attempts} {retries} {told}"
    );
}
