//! Connections that are used again (faults 26, 46, 52) and the limits on them, exact for the whole
//! process.

use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::faults_told::{WATCHED, expect_all_told, expect_learnt, watched_with_retries};
use crate::support::{Acceptor, Client, Head, Proxy, Reply, Upstream, eventually};

#[test]
fn fault_046_a_connection_that_was_closed_while_idle_costs_nothing_whatever_the_method() {
    // Without a budget and without retries at all: nothing was sent, so nothing is tried again.
    for policies in [
        WATCHED.to_owned(),
        format!("{WATCHED}\nretry: {{ budget: {{ ratio: 0%, min_per_second: 0 }} }}"),
    ] {
        for end in [Reply::then_close as fn(Reply) -> Reply, Reply::then_reset] {
            let upstream = Upstream::always(end(Reply::new(200)));
            let proxy = Proxy::before(&upstream, &policies);
            let mut client = proxy.client();
            for round in 1..=5 {
                assert_eq!(
                    client.request("POST", "/", &[], b"hello").answer().status,
                    200
                );
                eventually("closed", || upstream.open_connections() == 0);
                std::thread::sleep(Duration::from_millis(5));
                assert_eq!(upstream.count(), round, "each was sent once");
            }
            drop(client);
            expect_all_told(&proxy, 5, "upstream", None);
            expect_learnt(&proxy, 5, 0);
            assert_eq!(proxy.metric("mamparo_retries_total", &[]), 0.0);
        }
    }
}

/// The first request is answered, the second is taken and never answered, the third is answered.
fn taken_and_dropped(headers: &[&str], method: &str) -> (u16, usize) {
    let upstream = Upstream::script([Reply::new(200), Reply::close(), Reply::new(200)]);
    let proxy = Proxy::before(&upstream, &watched_with_retries());
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    let answer = client.request(method, "/", headers, b"hello").answer();
    let line = proxy.logged(2).swap_remove(1);
    assert_eq!(line["tries"][0]["sent"], "sent_unanswered", "{line:#}");
    assert_eq!(line["tries"][0]["reused"], true);
    expect_learnt(&proxy, 2 + u64::from(answer.status == 200), 1);
    (answer.status, upstream.count())
}

#[test]
fn fault_046_a_connection_that_was_closed_with_the_request_written_is_ambiguous() {
    assert_eq!(taken_and_dropped(&[], "POST"), (502, 2));
    assert_eq!(taken_and_dropped(&["idempotency-key: 1"], "POST"), (200, 3));
    assert_eq!(taken_and_dropped(&[], "GET"), (200, 3));
    assert_eq!(taken_and_dropped(&[], "PUT"), (200, 3));
}

#[test]
fn fault_046_at_the_very_moment_of_reuse_no_body_is_cut_and_none_is_sent_twice() {
    for (end, body) in [
        (Reply::then_close as fn(Reply) -> Reply, 20),
        (Reply::then_reset, 20),
        (Reply::then_reset, 100_000),
    ] {
        let upstream = Upstream::always(end(Reply::new(200)));
        let proxy = Proxy::before(&upstream, "bulkhead: {}");
        let address = proxy.listener("outbound");
        let answered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = Client::connect(address);
                    let chunk = format!("{body:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(body));
                    for _ in 0..50 {
                        client.send(
                            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
                        );
                        client.send(&chunk);
                        let answer = client.answer();
                        match answer.status {
                            200 => drop(answered.fetch_add(1, SeqCst)),
                            502 => assert_eq!(answer.reason().as_deref(), Some("reset")),
                            _ => panic!("{answer:?}"),
                        }
                        if answer.header("connection").as_deref() == Some("close") {
                            // Answered before its body was there (rule 20).
                            client = Client::connect(address);
                        }
                    }
                });
            }
        });
        let received = upstream.received();
        let complete = received.iter().filter(|one| one.complete);
        assert!(
            complete.clone().all(|one| one.body.len() == body),
            "a body was cut"
        );
        let (complete, answered) = (complete.count(), answered.into_inner());
        assert!(complete >= answered, "{complete} {answered}");
        let lines = proxy.logged(200);
        let sent = lines.iter().filter(|line| {
            let tries = line["tries"].as_array().unwrap();
            assert_eq!(tries.len(), 1, "nothing is tried again: {line:#}");
            tries[0]["sent"] != "not_sent"
        });
        let sent = sent.count();
        assert!(
            body > 16 << 10 || sent == 200,
            "a small body is kept until it is sent"
        );
        assert!(complete <= sent, "what is said not to be sent was not");
    }
}

#[test]
fn fault_019_a_retry_sends_the_body_from_its_first_byte_once() {
    for chunked in [false, true] {
        let upstream = Upstream::script([Reply::new(503), Reply::close(), Reply::new(200)]);
        let proxy = Proxy::before(&upstream, &watched_with_retries());
        let mut client = proxy.client();
        if chunked {
            client.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
            for part in [
                "5\r\nhello\r\n",
                "1\r\n \r\n",
                "5\r\nworld\r\n",
                "0\r\n\r\n",
            ] {
                client.send(part);
                std::thread::sleep(Duration::from_millis(5));
            }
        } else {
            client.request("PUT", "/", &[], b"hello world");
        }
        assert_eq!(client.answer().status, 200);
        let bodies: Vec<String> = upstream.received().iter().map(|one| one.text()).collect();
        assert_eq!(bodies, ["hello world"; 3]);
    }
}

#[test]
fn fault_077_a_body_that_was_not_kept_is_never_sent_from_its_middle() {
    // Over max_body: the second try would have to begin with the first byte, which is gone.
    let upstream = Upstream::script([Reply::new(503), Reply::new(200)]);
    let policies = watched_with_retries().replace("retry: {", "retry: { max_body: 4B,");
    let proxy = Proxy::before(&upstream, &policies);
    let answer = proxy.request("PUT", "/", &[], b"hello world");
    assert_eq!((answer.status, upstream.count()), (503, 1));
    proxy.expect_metric("mamparo_retries_denied_total", &[("why", "body")], 1.0);
    assert_eq!(proxy.only_line()["retry_denied"], "body");
}

/// Serves with threads; counts the requests that it has at a time, and the most there ever were.
struct Counting {
    acceptor: Acceptor,
    most: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

impl Counting {
    fn new(takes: Duration) -> Self {
        let (now, most, accepted) =
            <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let counts = (Arc::clone(&most), Arc::clone(&accepted));
        let acceptor = Acceptor::start("127.0.0.1:0", move |stream| {
            counts.1.fetch_add(1, SeqCst);
            let (now, most) = (Arc::clone(&now), Arc::clone(&counts.0));
            move || {
                let mut reader = BufReader::new(&stream);
                while let Ok(Some(_)) = Head::read(&mut reader) {
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    std::thread::sleep(takes);
                    now.fetch_sub(1, SeqCst);
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if (&stream).write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            }
        });
        Self {
            acceptor,
            most,
            accepted,
        }
    }
}

fn with_four_workers(endpoint: SocketAddr, policies: &str) -> Proxy {
    let policies: String = policies
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    Proxy::start(&format!(
        "runtime: {{ workers: 4, drain: 1s }}\n\
         listeners:\n  outbound: {{ address: \"127.0.0.1:0\", upstream: u }}\n\
         upstreams:\n  u:\n    endpoints: [\"{endpoint}\"]\n{policies}"
    ))
}

/// So many clients, each with so many requests over one connection; gives how many were answered 200,
/// and the reasons of the rest.
fn load(address: SocketAddr, clients: usize, requests: usize) -> (usize, Vec<String>) {
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let answers = (0..requests).map(|_| client.get("/"));
                let (good, bad): (Vec<_>, Vec<_>) =
                    answers.partition(|answer| answer.status == 200);
                let reasons: Vec<String> =
                    bad.iter().filter_map(|answer| answer.reason()).collect();
                (good.len(), reasons)
            })
        })
        .collect();
    let mut all = (0, Vec::new());
    for thread in threads {
        let (good, reasons) = thread.join().unwrap();
        all.0 += good;
        all.1.extend(reasons);
    }
    all
}

#[test]
fn rule_56_seats_are_exact_among_workers() {
    let counting = Counting::new(Duration::from_millis(2));
    let policies = "bulkhead: { max_in_flight: 5, max_queue: 100, queue_timeout: 10s }";
    let proxy = with_four_workers(counting.acceptor.address(), policies);
    let (good, reasons) = load(proxy.listener("outbound"), 30, 20);
    assert_eq!((good, reasons), (600, vec![]));
    assert_eq!(counting.most.load(SeqCst), 5);
    expect_all_told(&proxy, 600, "upstream", None);
}

#[test]
fn rule_58_over_seats_and_queue_requests_are_refused_at_once() {
    let counting = Counting::new(Duration::from_millis(5));
    let policies =
        "bulkhead: { max_in_flight: 2, max_queue: 3, queue_timeout: 30ms }\ncircuit_breaker: {}";
    let proxy = Proxy::to(&[counting.acceptor.address()], policies);
    let (good, reasons) = load(proxy.listener("outbound"), 20, 20);
    assert!(good > 20 && good + reasons.len() == 400, "{good}");
    assert!(
        reasons
            .iter()
            .all(|reason| reason == "too_many_in_flight" || reason == "queue_timeout")
    );
    assert!(counting.most.load(SeqCst) <= 2);
    proxy.expect_metric("mamparo_bulkhead_refused_total", &[], reasons.len() as f64);
    expect_learnt(&proxy, good as u64, 0);
}

#[test]
fn fault_052_connections_are_exact_among_workers() {
    let counting = Counting::new(Duration::from_millis(1));
    let proxy = with_four_workers(
        counting.acceptor.address(),
        "bulkhead: { max_connections: 5, max_in_flight: none }\npool: { idle_timeout: 60s }\ncircuit_breaker: {}",
    );
    let (good, reasons) = load(proxy.listener("outbound"), 20, 50);
    assert!(good > 0 && good + reasons.len() == 1000);
    assert!(
        reasons
            .iter()
            .all(|reason| reason == "too_many_connections")
    );
    // None was closed meanwhile, so what was accepted is what was ever open.
    assert!(
        counting.accepted.load(SeqCst) <= 5,
        "{}",
        counting.accepted.load(SeqCst)
    );
    assert!(counting.most.load(SeqCst) <= 5);
    expect_learnt(&proxy, good as u64, 0);
}

#[test]
fn fault_052_at_the_limit_an_idle_connection_of_another_worker_is_taken() {
    let counting = Counting::new(Duration::ZERO);
    let proxy = with_four_workers(
        counting.acceptor.address(),
        "bulkhead: { max_connections: 1 }\npool: { idle_timeout: 60s }",
    );
    let mut clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    for _ in 0..5 {
        for client in &mut clients {
            assert_eq!(client.get("/").status, 200);
        }
    }
    assert_eq!(counting.accepted.load(SeqCst), 1);
}

#[test]
fn fault_052_at_the_limit_the_place_of_an_idle_connection_to_another_endpoint_is_taken() {
    let (a, b) = (Upstream::always(200), Upstream::always(200));
    let proxy = Proxy::to(
        &[a.address(), b.address()],
        "bulkhead: { max_connections: 1 }\nbalance: round_robin\npool: { idle_timeout: 60s }",
    );
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
        assert_eq!(
            proxy.upstream("u").connections.idle + proxy.upstream("u").connections.active,
            1
        );
    }
    assert_eq!((a.count(), b.count()), (5, 5));
    eventually("one is open", || {
        a.open_connections() + b.open_connections() == 1
    });
}

#[test]
fn rule_65_the_upstreams_keep_alive_is_heeded() {
    let upstream = Upstream::always(Reply::new(200).header("keep-alive: timeout=1"));
    let proxy = Proxy::before(&upstream, "pool: { idle_timeout: 60s }");
    let mut client = proxy.client();
    client.get("/");
    client.get("/");
    assert_eq!(upstream.connections(), 1);
    std::thread::sleep(Duration::from_millis(600));
    client.get("/");
    assert_eq!(
        upstream.connections(),
        2,
        "half a second before the upstream closes it, it is left alone"
    );
}
