//! How a stream of HTTP/2 can end before its answer, and what that says about the request: rules 15, 67.

use super::bench::{Answer, ms, request, yaml};
use super::http2_peer::*;

/// A configuration whose endpoints speak HTTP/2.
pub(crate) fn http2(policies: &str) -> String {
    yaml(1, &format!("protocol: http2\n{policies}"))
}

/// The next connection answers everything.
fn well(net: &Net) -> tokio::task::JoinHandle<u32> {
    let net = net.clone();
    tokio::spawn(async move { net.accept(None).await.serve(0).await })
}

pub(crate) fn fine(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "fine"),
        "{answer:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_and_its_answer_and_the_connection_is_kept_for_the_next() {
    let net = Net::default();
    let bench = net.bench(&http2(""));
    let served = well(&net);
    for line in ["GET /a", "POST /b"] {
        fine(&bench.get(line).await);
    }
    let answer = bench.client().ask("POST /", &[], "a body").await;
    fine(&answer);
    assert_eq!((bench.slots(), net.dialled()), ((1, 1), 1));
    ms(3_999).await;
    assert_eq!(bench.slots(), (1, 1));
    // It closes when it has been idle for as long as it may: four seconds.
    ms(2).await;
    assert_eq!(bench.slots(), (0, 0));
    assert_eq!(served.await.unwrap(), 3);
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn fault_034_a_stream_above_the_last_of_a_goaway_goes_to_another_connection_at_no_cost() {
    let net = Net::default();
    let bench = net.bench(&http2(""));
    let first = bench.start("GET /1");
    let mut peer = net.accept(None).await;
    assert_eq!(peer.request().await, 1);
    peer.answer(1).await;
    fine(&first.await.unwrap());
    // Not even a POST is lost, and no retry is configured.
    let second = bench.start_with("POST /2", &[], "a body");
    assert_eq!(peer.request().await, 3);
    let served = well(&net);
    peer.go_away(1, 0).await;
    fine(&second.await.unwrap());
    assert_eq!(bench.metric("mamparo_retries_total", &[]), 0.0);
    peer.ends().await;
    bench.settle(2).await;
    ms(5_000).await;
    assert_eq!(served.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn fault_034_a_stream_at_or_below_the_last_of_a_goaway_ends_or_is_ambiguous() {
    let net = Net::default();
    let bench = net.bench(&http2("retry: { backoff: { base: 1ms, jitter: none } }"));
    let served = bench.start("POST /1");
    let lost = bench.start("POST /2");
    let mut peer = net.accept(None).await;
    assert_eq!((peer.request().await, peer.request().await), (1, 3));
    peer.go_away(3, 0).await;
    ms(10).await;
    peer.answer(1).await;
    fine(&served.await.unwrap());
    drop(peer);
    // It may have been acted on: a POST is not sent again.
    let lost = lost.await.unwrap();
    assert_eq!(lost.short(), (502, "reset", 10));
    assert_eq!(net.dialled(), 1);
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn fault_034_a_graceful_goaway_is_drained_and_the_next_request_goes_elsewhere() {
    let net = Net::default();
    let bench = net.bench(&http2(""));
    let first = bench.start("GET /1");
    let mut peer = net.accept(None).await;
    assert_eq!(peer.request().await, 1);
    peer.go_away(0x7fff_ffff, 0).await;
    ms(10).await;
    let served = well(&net);
    fine(&bench.get("POST /2").await);
    assert_eq!(bench.slots(), (2, 1));
    peer.answer(1).await;
    fine(&first.await.unwrap());
    peer.ends().await;
    drop(peer);
    ms(5_000).await;
    assert_eq!(served.await.unwrap(), 1);
    bench.settle(2).await;
}

/// Every code of RFC 9113, and one that nobody knows.
const CODES: [u32; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 99];
const REFUSED_STREAM: u32 = 7;

#[tokio::test(start_paused = true)]
async fn fault_036_a_reset_before_the_head_is_ambiguous_but_for_a_refused_stream() {
    for code in CODES {
        for early in [false, true] {
            let net = Net::default();
            let policies = "retry: { max_attempts: 2, backoff: { base: 10ms, jitter: none } }";
            let bench = net.bench(&http2(policies));
            let mut client = bench.client();
            client.write(&request("POST /", &[], "")).await;
            let mut peer = net.accept(None).await;
            let id = peer.request().await;
            if early {
                peer.send(HEADERS, END_HEADERS, id, EARLY_HINTS).await;
                let head = client.head().await.unwrap();
                assert_eq!(head.second(), "103");
            }
            peer.reset(id, code).await;
            let served = tokio::spawn(peer.serve(0));
            let answer = client.answer(false).await;
            drop(client);
            if code == REFUSED_STREAM {
                assert_eq!(answer.short(), (200, "", 10), "code {code}");
            } else {
                assert_eq!(answer.short(), (502, "reset", 0), "code {code}");
            }
            assert_eq!(net.dialled(), 1, "the connection is as good as before");
            bench.settle(1).await;
            ms(5_000).await;
            let tried_again = u32::from(code == REFUSED_STREAM);
            assert_eq!(served.await.unwrap(), tried_again);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_036_a_reset_in_the_body_breaks_the_answer_off_and_one_after_it_does_no_harm() {
    for code in CODES {
        for complete in [false, true] {
            let net = Net::default();
            let bench = net.bench(&http2(""));
            let asked = bench.start("GET /");
            let mut peer = net.accept(None).await;
            let id = peer.request().await;
            peer.send(HEADERS, END_HEADERS, id, OK).await;
            let flags = if complete { END_STREAM } else { 0 };
            peer.send(DATA, flags, id, b"fine").await;
            ms(u64::from(!complete)).await;
            peer.reset(id, code).await;
            let answer = asked.await.unwrap();
            assert_eq!(
                (answer.status, answer.complete),
                (200, complete),
                "code {code}"
            );
            assert_eq!(answer.body, "fine", "code {code}");
            drop(peer);
            bench.settle(1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_045_046_a_connection_that_closes_before_the_request_leaves_us_costs_nothing() {
    let net = Net::default();
    let bench = net.bench(&http2(""));
    let served = well(&net);
    fine(&bench.get("GET /").await);
    served.abort();
    let _ = served.await;
    // The end of the connection is there, but nobody has looked yet.
    let served = well(&net);
    fine(&bench.get("POST /").await);
    assert_eq!(net.dialled(), 2);
    net.refuse(true);
    served.abort();
    let _ = served.await;
    let answer = bench.get("POST /").await;
    assert_eq!((answer.status, answer.reason()), (502, "connect_failure"));
    bench.settle(3).await;
    assert_eq!(bench.slots(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_resets_its_stream_and_nothing_else() {
    let net = Net::default();
    let bench = net.bench(&http2("timeouts: { try: 100ms }"));
    let late = bench.start("GET /late");
    let mut peer = net.accept(None).await;
    assert_eq!(peer.request().await, 1);
    assert_eq!(late.await.unwrap().short(), (504, "try_timeout", 100));
    assert_eq!(peer.reset_of().await, (1, 8), "CANCEL");
    let gone = bench.start("GET /gone");
    assert_eq!(peer.request().await, 3);
    gone.abort();
    assert_eq!(peer.reset_of().await, (3, 8), "CANCEL");
    let asked = bench.start("GET /");
    assert_eq!(peer.request().await, 5);
    peer.answer(5).await;
    fine(&asked.await.unwrap());
    drop(peer);
    bench.settle(3).await;
}
