//! Random walks: endpoints that lower and raise their limits, say goodbye, reset, stall and close at any
//! moment, and clients that come and leave. Whatever happens, limits hold, every request ends, and
//! nothing is left behind.

use std::time::Duration;

use fastrand::Rng;

use super::bench::ms;
use super::http2_goaway::http2;
use super::http2_peer::*;

/// One connection that does as chance says.
async fn misbehave(mut peer: Peer, mut rng: Rng) {
    let mut last = 0;
    loop {
        let pause = Duration::from_millis(rng.u64(1..200));
        match tokio::time::timeout(pause, peer.frame()).await {
            Ok(None) => return,
            Ok(Some(frame)) if frame.kind == HEADERS => {
                let id = frame.stream;
                match rng.u8(..20) {
                    0 => peer.reset(id, 7).await,
                    1 => peer.reset(id, rng.u32(..14)).await,
                    // Never answered.
                    2 => {}
                    3 => peer.send(HEADERS, END_HEADERS, id, OK).await,
                    4 => peer.go_away(last, rng.u32(..14)).await,
                    5 => return,
                    _ => peer.answer(id).await,
                }
                last = id;
            }
            Ok(Some(_)) => {}
            Err(_) => match rng.u8(..30) {
                0..4 => peer.settings(Some(rng.u32(..5))).await,
                4 => peer.go_away(last, 0).await,
                5 => peer.go_away(0x7fff_ffff, 0).await,
                6 => peer.pongs = !peer.pongs,
                7 => return,
                _ => {}
            },
        }
    }
}

async fn walk(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let limit = rng.usize(1..5);
    let policies = format!(
        "timeouts: {{ connect: 500ms, try: 1s, idle: 2s }}\n\
         pool: {{ max_idle: {}, max_connection_age: 5s, ping_interval: 700ms }}\n\
         bulkhead: {{ max_in_flight: 1000, max_connections: {limit} }}",
        rng.usize(1..4),
    );
    let retry = if rng.bool() {
        "\nretry: { budget: off, backoff: { base: 5ms } }"
    } else {
        ""
    };
    let net = Net::default();
    let bench = net.bench(&http2(&(policies + retry)));
    let (accepting, mut chances) = (net.clone(), rng.fork());
    let accept = tokio::spawn(async move {
        loop {
            let mut peer = accepting.silent().await;
            if chances.u8(..10) > 0 {
                peer.settings(Some(chances.u32(..6))).await;
            }
            tokio::spawn(misbehave(peer, chances.fork()));
        }
    });
    let mut started = Vec::new();
    for _ in 0..150 {
        match rng.u8(..10) {
            0..6 => started.push(bench.start(if rng.bool() { "GET /" } else { "POST /" })),
            6 => {
                let body = "x".repeat(rng.usize(1..100_000));
                started.push(bench.start_with("POST /", &[], &body));
            }
            7 if !started.is_empty() => started[rng.usize(..started.len())].abort(),
            8 => net.refuse(rng.u8(..4) == 0),
            _ => {}
        }
        ms(rng.u64(1..60)).await;
        let (open, idle) = bench.slots();
        assert!(
            open <= limit && idle <= open,
            "seed {seed}: {open} open, {idle} idle"
        );
    }
    let count = started.len();
    for one in started {
        let ended = tokio::time::timeout(Duration::from_secs(60), one).await;
        assert!(ended.is_ok(), "seed {seed}: a request never ended");
    }
    accept.abort();
    ms(10_000).await;
    assert_eq!(bench.slots(), (0, 0), "seed {seed}");
    bench.settle(u32::try_from(count).unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn faults_034_to_036_in_any_order_leave_nothing_behind() {
    for seed in 0..30 {
        walk(seed).await;
    }
}
