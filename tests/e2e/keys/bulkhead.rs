//! `bulkhead` and `rate_limit`: how many at once, how many in a time.

use std::time::{Duration, Instant};

use crate::support::{Client, Gate, Proxy, Reply, Upstream, eventually};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("bulkhead.max_in_flight", max_in_flight),
    ("bulkhead.max_connections", max_connections),
    ("bulkhead.max_queue", max_queue),
    ("bulkhead.queue_timeout", queue_timeout),
    ("rate_limit.per_second", per_second),
    ("rate_limit.burst", burst),
];

#[track_caller]
fn ask(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    client
}

/// Rule 56: exact for the whole process, whatever the number of workers.
#[test]
fn max_in_flight() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let proxy = Proxy::before(&upstream, "bulkhead: { max_in_flight: 3 }");
    let mut clients: Vec<Client> = (0..10).map(|_| ask(&proxy)).collect();
    let labels = [("upstream", "u"), ("reason", "too_many_in_flight")];
    proxy.expect_metric("mamparo_bulkhead_refused_total", &labels, 7.0);
    upstream.wait_for(3);
    proxy.expect_metric("mamparo_bulkhead_in_flight", &[("upstream", "u")], 3.0);
    proxy.expect_metric("mamparo_bulkhead_limit", &[("upstream", "u")], 3.0);
    gate.open();
    let mut statuses: Vec<u16> = clients.iter_mut().map(|one| one.answer().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 503, 503, 503, 503, 503, 503, 503]);
    assert_eq!(upstream.count(), 3);

    let proxy = Proxy::before(&upstream, "bulkhead: { max_in_flight: none }");
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(
        proxy.metric("mamparo_bulkhead_limit", &[("upstream", "u")]),
        0.0
    );
}

/// Rule 57: a seat is held to the last byte of the answer.
#[test]
fn a_seat_is_held_to_the_last_byte() {
    let act = Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").then_stall();
    let upstream = Upstream::always(act);
    let proxy = Proxy::before(&upstream, "bulkhead: { max_in_flight: 1 }");
    let first = ask(&proxy);
    upstream.wait_for(1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(
        proxy.get("/").reason().as_deref(),
        Some("too_many_in_flight")
    );
    drop(first);
    eventually("the seat comes back when the client leaves", || {
        proxy.upstream("u").bulkhead.unwrap().in_flight == 0
    });
}

/// A request holds one seat, however often it is tried.
#[test]
fn retries_need_no_seat_of_their_own() {
    let upstream = Upstream::script([503, 503, 200]);
    let policies = "bulkhead: { max_in_flight: 1 }\nretry: { backoff: { base: 1ms } }";
    let proxy = Proxy::before(&upstream, policies);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(upstream.count(), 3);
}

#[test]
fn max_connections() {
    let gate = Gate::default();
    let upstream = Upstream::with(move |number, _| match number {
        0 | 1 => Reply::new(200).when(&gate),
        2.. => Reply::new(200),
    });
    // The gate went into the script: two requests hold their connections until the test ends.
    let proxy = Proxy::before(&upstream, "bulkhead: { max_connections: 2 }");
    let held: Vec<Client> = (0..2).map(|_| ask(&proxy)).collect();
    upstream.wait_for(2);
    let answer = proxy.get("/");
    assert_eq!(answer.reason().as_deref(), Some("too_many_connections"));
    assert_eq!(upstream.open_connections(), 2);
    held.into_iter().for_each(Client::reset);
    eventually("the places are free", || proxy.get("/").status == 200);

    // At the limit an idle one of any worker is taken.
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "bulkhead: { max_connections: 1 }");
    for _ in 0..10 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(
        upstream.connections(),
        1,
        "ten clients on two workers share it"
    );
    proxy.expect_metric(
        "mamparo_connections_opened_total",
        &[("upstream", "u")],
        1.0,
    );
    proxy.expect_metric("mamparo_connections", &[("state", "idle")], 1.0);
}

#[test]
fn max_queue() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let settings = "bulkhead: { max_in_flight: 1, max_queue: 2, queue_timeout: 30s }";
    let proxy = Proxy::before(&upstream, settings);
    let mut clients = vec![ask(&proxy)];
    upstream.wait_for(1);
    clients.push(ask(&proxy));
    clients.push(ask(&proxy));
    proxy.expect_metric("mamparo_bulkhead_queued", &[("upstream", "u")], 2.0);
    assert_eq!(
        proxy.get("/").reason().as_deref(),
        Some("too_many_in_flight")
    );
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    let lines = proxy.logged(4);
    let waited = lines.iter().filter(|line| line["queue_ms"].is_number());
    assert_eq!(waited.count(), 2);
}

/// Rule 58, fault 41: who leaves the queue takes no place in it.
#[test]
fn a_client_that_leaves_the_queue_makes_room() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let settings = "bulkhead: { max_in_flight: 1, max_queue: 1, queue_timeout: 30s }";
    let proxy = Proxy::before(&upstream, settings);
    let mut first = ask(&proxy);
    upstream.wait_for(1);
    let queued = ask(&proxy);
    proxy.expect_metric("mamparo_bulkhead_queued", &[("upstream", "u")], 1.0);
    queued.reset();
    proxy.expect_metric("mamparo_bulkhead_queued", &[("upstream", "u")], 0.0);
    let mut third = ask(&proxy);
    proxy.expect_metric("mamparo_bulkhead_queued", &[("upstream", "u")], 1.0);
    gate.open();
    assert_eq!(first.answer().status, 200);
    assert_eq!(third.answer().status, 200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn queue_timeout() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let settings = "bulkhead: { max_in_flight: 1, max_queue: 1, queue_timeout: 80ms }";
    let proxy = Proxy::before(&upstream, settings);
    let mut first = ask(&proxy);
    upstream.wait_for(1);
    let began = Instant::now();
    let answer = proxy.get("/");
    assert!(began.elapsed() >= Duration::from_millis(80));
    assert_eq!(answer.reason().as_deref(), Some("queue_timeout"));
    let message = answer.json()["message"].to_string();
    assert!(message.contains("80ms"), "{message}");
    gate.open();
    assert_eq!(first.answer().status, 200);
}

#[test]
fn burst() {
    let upstream = Upstream::always(200);
    let settings = "rate_limit: { per_second: 0.01, burst: 4 }";
    let proxy = Proxy::before(&upstream, settings);
    let statuses: Vec<u16> = (0..6).map(|_| proxy.get("/").status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    assert_eq!(upstream.count(), 4);
    let state = proxy.upstream("u").rate_limit.unwrap();
    assert_eq!(state.burst, 4.0);
    assert!(state.tokens < 1.0, "{state:?}");
}

#[test]
fn per_second() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "rate_limit: { per_second: 10, burst: 1 }");
    let began = Instant::now();
    let mut passed = 0;
    while passed < 4 {
        match proxy.get("/").status {
            200 => passed += 1,
            429 => std::thread::sleep(Duration::from_millis(5)),
            other => panic!("{other}"),
        }
    }
    // One at once, then one each 100 ms.
    assert!(
        began.elapsed() >= Duration::from_millis(290),
        "{:?}",
        began.elapsed()
    );
}

/// Rule 64: retries do not pay the rate limit, and a refused request takes no seat.
#[test]
fn rule_064_a_retry_is_no_request() {
    let upstream = Upstream::script([503, 503, 200]);
    let policies = "rate_limit: { per_second: 0.01, burst: 1 }\nretry: { backoff: { base: 1ms } }\n\
                    bulkhead: { max_in_flight: 1 }";
    let proxy = Proxy::before(&upstream, policies);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(upstream.count(), 3);
    assert_eq!(proxy.get("/").reason().as_deref(), Some("rate_limited"));
}
