//! Every timeout before the head of the answer at its exact moment, and the deadline that each try is
//! told.

use super::bench::{Bench, ms, yaml};
use super::endpoint::{Play, answer};

#[tokio::test(start_paused = true)]
async fn a_connection_is_waited_for_as_long_as_connect_says() {
    let bench = Bench::new(&yaml(1, "timeouts: { connect: 300ms, request: 1s }"));
    let endpoint = bench.endpoint(1);
    endpoint.will([Play::ConnectTakes(299)]);
    assert_eq!(bench.get("GET /").await.short(), (200, "", 299));
    // The pooled connection would be taken: use it up.
    endpoint.will([Play::Close(0), Play::ConnectHangs]);
    assert_eq!(bench.get("GET /").await.reason(), "reset");
    let late = bench.get("GET /").await;
    assert_eq!(late.short(), (504, "connect_timeout", 599));
    endpoint.will([Play::Refuse]);
    let refused = bench.get("GET /").await;
    assert_eq!(refused.short(), (502, "connect_failure", 599));
    assert_eq!(endpoint.dialled(), [0, 299, 599]);
    assert_eq!(
        bench.metric("mamparo_connections_opened_total", &[]),
        1.0,
        "only what was opened counts"
    );
    bench.settle(4).await;
}

#[tokio::test(start_paused = true)]
async fn rule_09_the_requests_time_ends_a_connect_that_takes_too_long() {
    let bench = Bench::new(&yaml(1, "timeouts: { connect: 1s, request: 500ms }"));
    bench.endpoint(1).will([Play::ConnectHangs]);
    let late = bench.get("GET /").await;
    assert_eq!(late.short(), (504, "request_timeout", 500));
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_04_a_try_has_its_time_from_the_sending_and_the_first_try_too() {
    let bench = Bench::new(&yaml(1, "timeouts: { try: 200ms, request: 5s }"));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200).after(199)]);
    assert_eq!(bench.get("GET /").await.short(), (200, "", 199));
    endpoint.will([Play::Hang]);
    assert_eq!(bench.get("GET /").await.short(), (504, "try_timeout", 399));
    // The connect is no part of the try: it has a time of its own.
    endpoint.will([Play::ConnectTakes(150), Play::Hang]);
    assert_eq!(bench.get("GET /").await.short(), (504, "try_timeout", 749));
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn the_requests_time_runs_since_the_first_byte_of_its_head() {
    let bench = Bench::new(&yaml(1, "timeouts: { request: 500ms }"));
    bench.endpoint(1).will([Play::Hang]);
    let mut client = bench.client();
    ms(70).await;
    client.write("GET / HT").await;
    ms(200).await;
    client.write("TP/1.1\r\nhost: u\r\n\r\n").await;
    let late = client.answer(false).await;
    assert_eq!(late.short(), (504, "request_timeout", 570));
    drop(client);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_pipelined_request_runs_since_its_turn() {
    let bench = Bench::new(&yaml(1, "timeouts: { request: 500ms }"));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200).after(400).into(), Play::Hang]);
    let mut client = bench.client();
    let one = "GET / HTTP/1.1\r\nhost: u\r\n\r\n";
    client.write(&[one, one].concat()).await;
    assert_eq!(client.answer(false).await.short(), (200, "", 400));
    let late = client.answer(false).await;
    assert_eq!(late.short(), (504, "request_timeout", 900));
    drop(client);
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn rule_58_a_place_in_the_queue_is_kept_for_queue_timeout() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { request: 5s }
         bulkhead: { max_in_flight: 1, max_queue: 1, queue_timeout: 100ms }",
    ));
    bench.endpoint(1).will([answer(200).after(500)]);
    let first = bench.start("GET /first");
    ms(10).await;
    let waiting = bench.start("GET /waiting");
    ms(10).await;
    assert_eq!(bench.seats(), (1, 1));
    let refused = bench.get("GET /refused").await;
    assert_eq!(refused.short(), (503, "too_many_in_flight", 20));
    assert_eq!(refused.head.get("retry-after"), Some("1"));
    let gave_up = waiting.await.unwrap();
    assert_eq!(gave_up.short(), (503, "queue_timeout", 110));
    assert_eq!(first.await.unwrap().short(), (200, "", 500));
    assert_eq!(bench.ended("refused"), 2.0);
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn rule_05_waiting_in_the_queue_counts_against_the_requests_time() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { request: 300ms }
         bulkhead: { max_in_flight: 1, max_queue: 2, queue_timeout: 1s }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200).after(250).into(), Play::Hang]);
    let first = bench.start("GET /first");
    ms(10).await;
    let second = bench.start("GET /second");
    ms(10).await;
    let mut client = bench.client();
    let headers = [("x-mamparo-timeout-ms", "50")];
    let third = client.ask("GET /third", &headers, "").await;
    assert_eq!(third.short(), (504, "request_timeout", 70));
    assert_eq!(first.await.unwrap().short(), (200, "", 250));
    // The seat came at 250; what was waited is gone.
    let second = second.await.unwrap();
    assert_eq!(second.short(), (504, "request_timeout", 310));
    assert_eq!(
        endpoint.seen()[1].head.number("x-mamparo-timeout-ms"),
        Some(60)
    );
    drop(client);
    bench.settle(3).await;
}

fn with_listener_timeouts(text: &str) -> String {
    text.replace(
        "role: outbound,",
        "role: outbound, timeouts: { header: 2s, idle: 5s },",
    )
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_head_that_takes_too_long_is_answered_with_408() {
    let bench = Bench::new(&with_listener_timeouts(&yaml(1, "")));
    let mut client = bench.client();
    ms(300).await;
    client.write("GET / HTTP/1.1\r\nhost").await;
    let late = client.answer(false).await;
    assert_eq!(late.short(), (408, "header_timeout", 2300));
    assert_eq!(late.head.get("connection"), Some("close"));
    drop(client);
    assert_eq!(bench.endpoint(1).count(), 0);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_cut_all_the_same() {
    let bench = Bench::new(&with_listener_timeouts(&yaml(1, "")));
    let mut client = bench.client();
    for byte in "GET / HTTP/1.1\r\nhost: u\r\n".chars().take(20) {
        client.write(&byte.to_string()).await;
        ms(150).await;
    }
    let late = client.answer(false).await;
    assert_eq!(late.reason(), "header_timeout");
    drop(client);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_after_header_and_an_idle_one_after_idle() {
    let bench = Bench::new(&with_listener_timeouts(&yaml(1, "")));
    let mut silent = bench.client();
    assert_eq!(silent.end().await, 2000);
    let mut client = bench.client();
    bench.endpoint(1).will([answer(200).after(100)]);
    assert_eq!(client.ask("GET /", &[], "").await.short(), (200, "", 2100));
    ms(4_900).await;
    assert_eq!(client.ask("GET /", &[], "").await.short(), (200, "", 7000));
    assert_eq!(client.end().await, 12_000);
    bench.settle(2).await;
}

const THREE_TRIES: &str = "timeouts: { request: 1s }
    retry: { max_attempts: 3, backoff: { kind: fixed, base: 100ms, jitter: none } }";

#[tokio::test(start_paused = true)]
async fn rule_06_each_try_is_told_what_is_left() {
    let bench = Bench::new(&yaml(1, THREE_TRIES));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503).after(50), answer(503).after(25), answer(200)]);
    assert_eq!(bench.get("GET /").await.short(), (200, "", 275));
    let told: Vec<_> = endpoint
        .seen()
        .iter()
        .map(|seen| (seen.at, seen.head.number("x-mamparo-timeout-ms")))
        .collect();
    assert_eq!(told, [(0, Some(1000)), (150, Some(850)), (275, Some(725))]);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_clients_own_time_can_only_shorten_ours() {
    let bench = Bench::new(&yaml(1, "timeouts: { request: 1s }"));
    let endpoint = bench.endpoint(1);
    endpoint.always(Play::Hang);
    for (asked, told, took) in [
        ("300", 300, 300),
        ("5000", 1000, 1000),
        // What is no number of milliseconds is passed over.
        ("soon", 1000, 1000),
        ("-5", 1000, 1000),
    ] {
        endpoint.forget();
        let before = bench.now();
        let mut client = bench.client();
        let headers = [("x-mamparo-timeout-ms", asked)];
        let late = client.ask("GET /", &headers, "").await;
        assert_eq!(late.short(), (504, "request_timeout", before + took));
        let seen = endpoint.seen()[0].head.number("x-mamparo-timeout-ms");
        assert_eq!(seen, Some(told), "{asked}");
    }
    bench.settle(4).await;
}

#[tokio::test(start_paused = true)]
async fn rule_93_a_client_from_outside_has_no_say_in_our_time() {
    let text = yaml(1, "timeouts: { request: 1s }").replace("outbound", "inbound");
    let bench = Bench::new(&text);
    let endpoint = bench.endpoint(1);
    endpoint.always(Play::Hang);
    let headers = [("x-mamparo-timeout-ms", "300"), ("x-mamparo-attempt", "7")];
    let late = bench.client().ask("GET /", &headers, "").await;
    assert_eq!(late.short(), (504, "request_timeout", 1000));
    let head = &endpoint.seen()[0].head;
    assert_eq!(head.number("x-mamparo-timeout-ms"), Some(1000));
    assert_eq!(head.get("x-mamparo-attempt"), None);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_time_nothing_is_told_but_a_clients_own_time_holds() {
    let bench = Bench::new(&yaml(1, ""));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200).after(600_000).into(), Play::Hang]);
    assert_eq!(bench.get("GET /").await.short(), (200, "", 600_000));
    assert_eq!(endpoint.seen()[0].head.get("x-mamparo-timeout-ms"), None);
    let mut client = bench.client();
    let headers = [("x-mamparo-timeout-ms", "40")];
    let late = client.ask("GET /", &headers, "").await;
    assert_eq!(late.short(), (504, "request_timeout", 600_040));
    drop(client);
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn fault_041_a_client_that_leaves_ends_the_work_at_once_wherever_it_stands() {
    let bench = Bench::new(&yaml(
        1,
        "timeouts: { connect: 10s, request: 60s }
         retry: { on: [503], backoff: { kind: fixed, base: 5s, max: 5s, jitter: none } }
         circuit_breaker: { consecutive_failures: 1 }
         bulkhead: { max_in_flight: 1, max_queue: 1, queue_timeout: 30s }",
    ));
    let endpoint = bench.endpoint(1);
    // Connecting; waiting for the head; in the body.
    for play in [
        Play::ConnectHangs,
        Play::Hang,
        answer(200).half_then_hang().into(),
    ] {
        endpoint.will([play]);
        let leaving = bench.start("GET /");
        ms(100).await;
        assert_eq!(bench.seats(), (1, 0));
        let waiting = bench.start("GET /");
        ms(100).await;
        assert_eq!(bench.seats(), (1, 1), "and one waits in the queue");
        waiting.abort();
        ms(1).await;
        assert_eq!(bench.seats(), (1, 0), "it has left the queue");
        leaving.abort();
        ms(1).await;
        assert_eq!(bench.seats(), (0, 0));
        assert_eq!(bench.slots(), (0, 0));
        assert_eq!(endpoint.open(), 0, "the endpoint sees it too");
    }
    assert_eq!(bench.ended("client_gone"), 6.0);
    let counts = bench.breaker(1).counts;
    assert_eq!((counts.requests, counts.failures), (1, 0), "only the head");
    bench.settle(6).await;
}

#[tokio::test(start_paused = true)]
async fn fault_041_a_client_that_leaves_in_backoff_is_not_tried_for_again() {
    let bench = Bench::new(&yaml(
        1,
        "retry: { backoff: { kind: fixed, base: 1s, jitter: none } }
         bulkhead: { max_in_flight: 1 }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.always(answer(503));
    let leaving = bench.start("GET /");
    ms(500).await;
    assert_eq!(bench.seats(), (1, 0));
    leaving.abort();
    ms(1).await;
    assert_eq!(bench.seats(), (0, 0));
    ms(2_000).await;
    assert_eq!(endpoint.count(), 1);
    assert_eq!(bench.ended("client_gone"), 1.0);
    bench.settle(1).await;
}
