//! The times of bodies: `idle` in both directions, and what the other timeouts have no say in.

use super::bench::{Bench, ms, request, yaml};
use super::endpoint::{Play, answer};

const IDLE: &str = "timeouts: { request: 10s, try: 200ms, idle: 400ms }";

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_cut_after_idle() {
    let bench = Bench::new(&yaml(1, IDLE));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200).after(100).half_then_hang()]);
    let cut = bench.get("GET /").await;
    assert_eq!((cut.status, cut.at, cut.done), (200, 100, 500));
    assert!(!cut.complete);
    assert_eq!(endpoint.open(), 0, "the endpoint's connection is closed");
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_050_a_drip_just_under_idle_goes_on_and_the_trys_time_is_over() {
    let bench = Bench::new(&yaml(1, IDLE));
    // Rule 3: after the head, only `idle` holds.
    bench.endpoint(1).will([answer(200).pauses(399, 399)]);
    let dripped = bench.get("GET /").await;
    assert_eq!((dripped.at, dripped.done), (0, 798));
    assert!(dripped.complete);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn the_requests_time_ends_with_the_head_of_the_answer() {
    let bench = Bench::new(&yaml(1, "timeouts: { request: 300ms, idle: none }"));
    bench.endpoint(1).will([answer(200).pauses(60_000, 60_000)]);
    let slow = bench.get("GET /").await;
    assert_eq!((slow.at, slow.done, slow.complete), (0, 120_000, true));
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_had_a_body_has_no_longer_idle_time() {
    let bench = Bench::new(&yaml(1, IDLE));
    bench.endpoint(1).will([answer(200).half_then_hang()]);
    let cut = bench.start_with("PUT /", &[], "a body").await.unwrap();
    assert_eq!((cut.at, cut.done, cut.complete), (0, 400, false));
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_07_bytes_in_either_direction_keep_an_exchange_alive() {
    let bench = Bench::new(&yaml(1, IDLE));
    let endpoint = bench.endpoint(1);
    // The answer has begun, and stalls; the request's body goes on coming.
    endpoint.will([answer(200).early().half_then_hang()]);
    let mut client = bench.client();
    let head = request("PUT /", &[("content-length", "100")], "");
    client.write(&head).await;
    let reading = tokio::spawn(async move {
        for _ in 0..3 {
            ms(250).await;
            client.write("0123456789").await;
        }
        client.answer(false).await
    });
    let cut = reading.await.unwrap();
    assert_eq!((cut.done, cut.complete), (750 + 400, false));
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_040_a_client_that_takes_nothing_is_cut_after_idle() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { idle: 400ms }
         bulkhead: { max_in_flight: 1 }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.room(1024);
    endpoint.will([answer(200).body(&"x".repeat(1 << 20))]);
    let mut client = bench.client_with_room(1024);
    client.write(&request("GET /", &[], "")).await;
    ms(399).await;
    assert_eq!(bench.seats(), (1, 0));
    assert!(!client.served.is_finished());
    ms(2).await;
    assert_eq!(bench.seats(), (0, 0));
    assert!(client.served.is_finished());
    assert_eq!(endpoint.open(), 0);
    assert_eq!(bench.ended("client_gone"), 1.0);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_01_fault_039_the_time_of_a_try_starts_when_the_request_is_sent() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { request: 10s, try: 200ms, idle: 400ms }
         circuit_breaker: { consecutive_failures: 1 }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200).after(199)]);
    let mut client = bench.client();
    let head = request("PUT /", &[("content-length", "30")], "");
    client.write(&head).await;
    // A slow client is no slow endpoint.
    for _ in 0..3 {
        ms(300).await;
        client.write("0123456789").await;
    }
    assert_eq!(client.answer(false).await.short(), (200, "", 900 + 199));
    let seen = &endpoint.seen()[0];
    assert_eq!((seen.at, seen.body.len()), (0, 30), "streamed as it came");
    // And when it is sent, the try has its time and no more.
    endpoint.will([Play::Hang]);
    client.write(&head).await;
    ms(300).await;
    client.write(&"x".repeat(30)).await;
    let late = client.answer(false).await;
    assert_eq!(late.short(), (504, "try_timeout", 1099 + 300 + 200));
    assert_eq!(bench.breaker(1).opens_in_a_row, 1);
    drop(client);
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn fault_039_a_client_that_stops_sending_is_cut_after_idle_and_nobody_else_is_blamed() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { request: none, idle: 400ms }
         retry: { methods: all }
         circuit_breaker: { consecutive_failures: 1 }
         bulkhead: { max_in_flight: 1 }",
    ));
    let endpoint = bench.endpoint(1);
    let mut client = bench.client();
    client
        .write(&request("PUT /", &[("content-length", "30")], ""))
        .await;
    ms(100).await;
    client.write("0123456789").await;
    let cut = client.answer(false).await;
    assert_eq!(cut.short(), (499, "client_gone", 500));
    assert_eq!(bench.seats(), (0, 0));
    assert_eq!(endpoint.count(), 1, "and it is not tried again");
    assert!(!endpoint.seen()[0].complete, "the endpoint sees an abort");
    assert_eq!(bench.breaker(1).counts.requests, 0, "learnt nothing");
    assert_eq!(bench.ended("client_gone"), 1.0);
    drop(client);
    bench.settle(1).await;
}
