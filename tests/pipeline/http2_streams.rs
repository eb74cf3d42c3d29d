//! How many streams an endpoint allows, how many connections we may open, and for how long they live:
//! rules 60, 65 and 67.

use std::time::Duration;

use super::bench::{Answer, Bench, ms};
use super::http2_goaway::{fine, http2};
use super::http2_peer::*;

async fn all(started: Vec<tokio::task::JoinHandle<Answer>>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for one in started {
        answers.push(one.await.unwrap());
    }
    answers
}

fn burst(bench: &Bench, count: usize) -> Vec<tokio::task::JoinHandle<Answer>> {
    (0..count).map(|_| bench.start("GET /")).collect()
}

#[tokio::test(start_paused = true)]
async fn fault_035_without_a_single_stream_requests_wait_until_there_are_some() {
    let net = Net::default();
    let bench = net.bench(&http2("timeouts: { connect: 1s }"));
    let asked = bench.start("GET /");
    let mut peer = net.accept(Some(0)).await;
    let mut other = net.accept(Some(0)).await;
    ms(500).await;
    peer.settings(Some(1)).await;
    assert_eq!(peer.request().await, 1);
    peer.answer(1).await;
    assert_eq!(asked.await.unwrap().short(), (200, "", 500));
    // The other one was tried in vain; there is no third.
    other.settings(Some(1)).await;
    assert_eq!(net.dialled(), 2);
    drop((peer, other));
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_035_an_endpoint_that_never_allows_a_stream_is_late() {
    let net = Net::default();
    let bench = net.bench(&http2("timeouts: { connect: 1s }"));
    let _served = net.serve_all(0, 0);
    assert_eq!(
        bench.get("GET /").await.short(),
        (504, "connect_timeout", 1_000)
    );
    assert_eq!(net.dialled(), 2);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_035_with_one_stream_each_request_has_a_connection_and_all_are_used_again() {
    let net = Net::default();
    let bench = net.bench(&http2(""));
    let _served = net.serve_all(1, 100);
    let answers = all(burst(&bench, 20)).await;
    answers.iter().for_each(fine);
    assert_eq!(net.dialled(), 20);
    assert_eq!(bench.slots(), (20, 20));
    all(burst(&bench, 20)).await.iter().for_each(fine);
    assert_eq!(net.dialled(), 20);
    assert_eq!(bench.metric("mamparo_connections_opened_total", &[]), 20.0);
    bench.settle(40).await;
}

#[tokio::test(start_paused = true)]
async fn fault_035_limits_are_exact_under_200_requests_at_once() {
    let net = Net::default();
    let policies =
        "timeouts: { connect: 10s }\nbulkhead: { max_in_flight: 1000, max_connections: 3 }";
    let bench = net.bench(&http2(policies));
    let _served = net.serve_all(7, 100);
    let started = burst(&bench, 200);
    let watch = async {
        loop {
            assert!(bench.slots().0 <= 3);
            ms(1).await;
        }
    };
    let answers = tokio::select! { answers = all(started) => answers, () = watch => panic!() };
    answers.iter().for_each(fine);
    assert_eq!(net.dialled(), 3);
    // 200 requests by 21 at a time, 100 ms each.
    let last = answers.iter().map(|answer| answer.at).max();
    assert_eq!(last, Some(1_000));
    bench.settle(200).await;
}

#[tokio::test(start_paused = true)]
async fn fault_035_a_limit_that_is_lowered_while_in_use_holds_for_the_next() {
    let net = Net::default();
    let policies =
        "timeouts: { connect: 10s }\nbulkhead: { max_in_flight: 1000, max_connections: 1 }";
    let bench = net.bench(&http2(policies));
    let first = burst(&bench, 3);
    let mut peer = net.accept(Some(3)).await;
    let ids = [
        peer.request().await,
        peer.request().await,
        peer.request().await,
    ];
    assert_eq!(ids, [1, 3, 5]);
    peer.settings(Some(1)).await;
    ms(1).await;
    let second = burst(&bench, 2);
    ms(100).await;
    for id in ids {
        peer.answer(id).await;
    }
    all(first).await.iter().for_each(fine);
    // One after the other now.
    assert_eq!(peer.request().await, 7);
    let none = tokio::time::timeout(Duration::from_secs(1), peer.request()).await;
    assert!(none.is_err(), "the limit is one");
    peer.answer(7).await;
    assert_eq!(peer.request().await, 9);
    peer.answer(9).await;
    all(second).await.iter().for_each(fine);
    drop(peer);
    bench.settle(5).await;
}

#[tokio::test(start_paused = true)]
async fn fault_035_a_stream_that_the_lowered_limit_overtook_waits_for_its_turn_again() {
    let net = Net::default();
    let policies =
        "timeouts: { connect: 10s }\nbulkhead: { max_in_flight: 1000, max_connections: 1 }";
    let bench = net.bench(&http2(policies));
    let started: Vec<_> = (0..2).map(|_| bench.start("POST /")).collect();
    let mut peer = net.accept(Some(2)).await;
    assert_eq!((peer.request().await, peer.request().await), (1, 3));
    // Both were on their way when the endpoint made up its mind. Neither method nor policy let it be
    // sent again, but it was not acted on.
    peer.settings(Some(1)).await;
    peer.reset(3, 7).await;
    ms(50).await;
    peer.answer(1).await;
    assert_eq!(peer.request().await, 5);
    peer.answer(5).await;
    all(started).await.iter().for_each(fine);
    drop(peer);
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_a_request_waits_as_long_as_for_a_connection_and_says_whose_limit_it_is() {
    let net = Net::default();
    let policies = "timeouts: { connect: 300ms }\ncircuit_breaker: { consecutive_failures: 1 }\n\
                    bulkhead: { max_in_flight: 1000, max_connections: 1 }";
    let bench = net.bench(&http2(policies));
    let first = bench.start("GET /1");
    let mut peer = net.accept(Some(1)).await;
    peer.request().await;
    let second = bench.start("GET /2");
    assert_eq!(
        second.await.unwrap().short(),
        (503, "too_many_connections", 300)
    );
    // The endpoint's breaker has learnt nothing.
    let third = bench.start("GET /3");
    ms(200).await;
    peer.answer(1).await;
    fine(&first.await.unwrap());
    assert_eq!(peer.request().await, 3);
    peer.answer(3).await;
    assert_eq!(third.await.unwrap().short(), (200, "", 500));
    drop(peer);
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn those_who_leave_the_line_leave_nothing_behind() {
    let net = Net::default();
    let policies =
        "timeouts: { connect: 10s }\nbulkhead: { max_in_flight: 1000, max_connections: 1 }";
    let bench = net.bench(&http2(policies));
    let held = bench.start("GET /held");
    let mut peer = net.accept(Some(1)).await;
    peer.request().await;
    let waiting = burst(&bench, 10);
    let last = bench.start("GET /last");
    ms(100).await;
    waiting.iter().for_each(|one| one.abort());
    ms(100).await;
    peer.answer(1).await;
    fine(&held.await.unwrap());
    // The stream goes to the one who still waits.
    assert_eq!(peer.request().await, 3);
    peer.answer(3).await;
    fine(&last.await.unwrap());
    assert_eq!(net.dialled(), 1);
    drop(peer);
    bench.settle(12).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_waits_for_any_more_is_not_opened() {
    let net = Net::default();
    let bench = net.bench(&http2(""));
    let asked = bench.start("GET /");
    // It stands, but the endpoint says nothing.
    let mut peer = net.silent().await;
    assert_eq!(bench.slots(), (1, 0));
    ms(50).await;
    asked.abort();
    ms(1).await;
    assert_eq!(bench.slots(), (0, 0));
    peer.ends().await;
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_045_an_endpoint_that_is_silent_or_speaks_otherwise_is_no_connection() {
    let net = Net::default();
    let bench = net.bench(&http2("timeouts: { connect: 1s }"));
    let asked = bench.start("GET /");
    let peer = net.silent().await;
    assert_eq!(
        asked.await.unwrap().short(),
        (504, "connect_timeout", 1_000)
    );
    drop(peer);
    assert_eq!(bench.slots(), (0, 0));
    let asked = bench.start("GET /");
    let mut io = net.raw().await;
    let text = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut io, text)
        .await
        .unwrap();
    let answer = asked.await.unwrap();
    assert_eq!((answer.status, answer.reason()), (502, "connect_failure"));
    assert!(
        answer.body.contains("does not speak HTTP/2"),
        "{}",
        answer.body
    );
    let asked = bench.start("GET /");
    drop(net.raw().await);
    assert_eq!(asked.await.unwrap().reason(), "connect_failure");
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn an_opening_that_hangs_does_not_keep_those_back_who_come_later() {
    let net = Net::default();
    let bench = net.bench(&http2("timeouts: { connect: 1s }"));
    let first = bench.start("GET /1");
    let silent = net.silent().await;
    ms(900).await;
    let second = bench.start("GET /2");
    assert_eq!(
        first.await.unwrap().short(),
        (504, "connect_timeout", 1_000)
    );
    // Another is opened for it, and it still has its own time.
    let mut peer = net.accept(None).await;
    let id = peer.request().await;
    peer.answer(id).await;
    assert_eq!(second.await.unwrap().short(), (200, "", 1_000));
    drop((silent, peer));
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn rule_67_an_old_connection_takes_no_more_requests_and_ends_with_its_last() {
    let net = Net::default();
    let bench = net.bench(&http2(
        "pool: { idle_timeout: 1h, max_connection_age: 100s }",
    ));
    let held = bench.start("GET /held");
    let mut peer = net.accept(None).await;
    peer.request().await;
    ms(89_000).await;
    let young = bench.start("GET /young");
    assert_eq!(peer.request().await, 3);
    peer.answer(3).await;
    fine(&young.await.unwrap());
    ms(11_000).await;
    let fresh = bench.start("GET /fresh");
    let mut next = net.accept(None).await;
    assert_eq!(next.request().await, 1);
    next.answer(1).await;
    fine(&fresh.await.unwrap());
    assert_eq!(bench.slots(), (2, 1));
    peer.answer(1).await;
    fine(&held.await.unwrap());
    peer.ends().await;
    drop(peer);
    // The other ends by itself, idle as it is: between 90 and 100 seconds after it was opened.
    ms(89_000).await;
    assert_eq!(bench.slots(), (1, 1));
    ms(11_100).await;
    assert_eq!(bench.slots(), (0, 0));
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_after_so_many_requests() {
    let net = Net::default();
    let bench = net.bench(&http2("pool: { max_requests_per_connection: 3 }"));
    let _served = net.serve_all(100, 0);
    for _ in 0..7 {
        fine(&bench.get("GET /").await);
    }
    assert_eq!(net.dialled(), 3);
    ms(10).await;
    assert_eq!(bench.slots(), (1, 1));
    bench.settle(7).await;
}

#[tokio::test(start_paused = true)]
async fn max_idle_is_exact_and_what_is_over_it_closes() {
    let net = Net::default();
    let bench = net.bench(&http2("pool: { max_idle: 2 }"));
    let _served = net.serve_all(1, 100);
    all(burst(&bench, 5)).await.iter().for_each(fine);
    ms(10).await;
    assert_eq!(bench.slots(), (2, 2));
    bench.settle(5).await;
}

#[tokio::test(start_paused = true)]
async fn a_ping_without_an_answer_closes_the_connection_and_its_requests_fail() {
    let net = Net::default();
    let bench = net.bench(&http2("pool: { ping_interval: 10s, idle_timeout: 1h }"));
    let held = bench.start("GET /held");
    let mut peer = net.accept(None).await;
    peer.request().await;
    // Answered pings keep it open, however long the answer takes.
    let quiet = tokio::time::timeout(Duration::from_secs(60), peer.frame()).await;
    assert!(quiet.is_err());
    peer.pongs = false;
    let end = tokio::time::timeout(Duration::from_secs(21), peer.frame()).await;
    assert!(end.expect("the connection ends").is_none());
    let answer = held.await.unwrap();
    assert_eq!((answer.status, answer.reason()), (502, "reset"));
    assert!((70_000..=80_000).contains(&answer.at), "{}", answer.at);
    assert!(answer.body.contains("ping"), "{}", answer.body);
    bench.settle(1).await;
    assert_eq!(bench.slots(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn fault_044_a_black_hole_is_found_out_by_the_first_that_gives_up() {
    let net = Net::default();
    let bench = net.bench(&http2("timeouts: { try: 200ms }"));
    let asked = bench.start("GET /");
    let mut peer = net.accept(None).await;
    peer.pongs = false;
    peer.request().await;
    assert_eq!(asked.await.unwrap().short(), (504, "try_timeout", 200));
    // A second later no request goes there any more.
    let stuck = tokio::spawn(async move { while peer.frame().await.is_some() {} });
    ms(1_100).await;
    let asked = bench.start("GET /");
    let mut peer = net.accept(None).await;
    let id = peer.request().await;
    peer.answer(id).await;
    fine(&asked.await.unwrap());
    stuck.abort();
    drop(peer);
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_slow_but_lives_keeps_its_connection() {
    let net = Net::default();
    let bench = net.bench(&http2("timeouts: { try: 200ms }"));
    let asked = bench.start("GET /");
    let peer = net.accept(None).await;
    let served = tokio::spawn(peer.serve(1_000));
    assert_eq!(asked.await.unwrap().short(), (504, "try_timeout", 200));
    ms(3_000).await;
    assert_eq!((bench.slots(), net.dialled()), ((1, 1), 1));
    served.abort();
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_052_a_restart_costs_no_request_and_no_burst_of_connections() {
    let net = Net::default();
    let policies = "retry: { budget: off, backoff: { base: 1ms, jitter: none } }\n\
                    bulkhead: { max_in_flight: 1000, max_connections: 10 }";
    let bench = net.bench(&http2(policies));
    let served = net.serve_all(10, 50);
    let started = burst(&bench, 100);
    ms(20).await;
    assert_eq!((bench.slots().0, net.dialled()), (10, 10));
    // All connections die at once, with all requests on them.
    served.abort();
    net.cut_all();
    let _served = net.serve_all(10, 50);
    let watch = async {
        loop {
            assert!(bench.slots().0 <= 10);
            ms(1).await;
        }
    };
    let answers = tokio::select! { answers = all(started) => answers, () = watch => panic!() };
    answers.iter().for_each(fine);
    assert!(net.dialled() <= 20, "{}", net.dialled());
    bench.settle(100).await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_what_holds_for_connections_that_are_open() {
    let net = Net::default();
    let bench = net.bench(&http2("pool: { idle_timeout: 1h }"));
    let _served = net.serve_all(100, 0);
    fine(&bench.get("GET /").await);
    ms(10_000).await;
    assert_eq!(bench.slots(), (1, 1));
    bench.reload(&http2("pool: { idle_timeout: 5s }"));
    bench.upstream().sweep(bench.clock());
    ms(10).await;
    assert_eq!(bench.slots(), (0, 0));
    fine(&bench.get("GET /").await);
    // It is spoken to in HTTP/1.1 from now on; what is idle ends when its time has come.
    bench.reload(&http2("pool: { idle_timeout: 5s }").replace("http2", "http1"));
    ms(5_100).await;
    assert_eq!(bench.slots(), (0, 0));
    bench.settle(2).await;
}
