//! How many streams an endpoint allows, and how many connections we may open.

use super::bench::ms;
use super::http2_goaway::http2;
use super::http2_peer::*;

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
