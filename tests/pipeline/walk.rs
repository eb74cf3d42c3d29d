//! Random walks over the whole pipeline: every policy at once, endpoints that do anything, clients that
//! leave at any moment, reloads in between. Whatever the order, nothing is left behind and every request
//! is counted once.

use mamparo::policy::breaker::Forced;

use super::bench::{Bench, ms, request, yaml};
use super::endpoint::{Play, answer};

fn one_of<T: Copy>(rng: &mut fastrand::Rng, values: &[T]) -> T {
    values[rng.usize(..values.len())]
}

/// A configuration with each policy on or off, and narrow limits.
fn policies(rng: &mut fastrand::Rng) -> String {
    let timeouts = [
        "timeouts: { connect: 20ms, request: 300ms, try: 80ms, idle: 60ms }",
        "timeouts: { connect: 50ms, request: 1s, idle: 200ms }",
    ];
    let retry = [
        "retry: off",
        "retry: { methods: all, budget: off, backoff: { base: 5ms, max: 50ms } }",
        "retry: { max_body: 5, on: [5xx, timeout, reset, connect_failure], backoff: { base: 40ms, jitter: none } }",
        "retry: { budget: { ratio: 10%, min_per_second: 1 } }",
    ];
    let breaker = [
        "circuit_breaker: off",
        "circuit_breaker: { consecutive_failures: 2, open_for: 100ms, probes: 1 }",
        "circuit_breaker: { consecutive_failures: 3, open_for: 50ms, max_open: 100%, when_all_open: send_anyway, ramp: 1s }",
    ];
    let bulkhead = [
        "bulkhead: off",
        "bulkhead: { max_in_flight: 3, max_queue: 3, queue_timeout: 30ms }",
        "bulkhead: { max_in_flight: 2, max_queue: 9, queue_timeout: 150ms, max_connections: 2 }",
        "bulkhead: { max_in_flight: none, max_connections: 3 }",
    ];
    let rate = [
        "rate_limit: off",
        "rate_limit: { per_second: 200, burst: 5 }",
    ];
    let fallback = [
        "fallback: []",
        "fallback: [ { on: [any], respond: { status: 200, body: instead } } ]",
        "fallback: [ { on: [breaker_open, 503], respond: { status: 204 } } ]",
    ];
    let balance = [
        "balance: least_request",
        "balance: round_robin",
        "balance: random",
    ];
    let lines = [
        one_of(rng, &timeouts),
        one_of(rng, &retry),
        one_of(rng, &breaker),
        one_of(rng, &bulkhead),
        one_of(rng, &rate),
        one_of(rng, &fallback),
        one_of(rng, &balance),
    ];
    yaml(rng.u8(1..=3), &lines.join("\n"))
}

fn play(rng: &mut fastrand::Rng) -> Play {
    let status = one_of(rng, &[200, 204, 404, 429, 500, 503]);
    let reply = answer(status).after(rng.u64(..60));
    match rng.usize(..12) {
        0 => Play::Hang,
        1 => Play::Close(rng.u64(..30)),
        2 => Play::Slam,
        3 => Play::Refuse,
        4 => Play::ConnectHangs,
        5 => Play::ConnectTakes(rng.u64(..40)),
        6 => reply.half_then_close(rng.u64(..20)).into(),
        7 => reply.half_then_hang().into(),
        8 => reply.early().into(),
        9 => reply.pauses(rng.u64(..50), rng.u64(..50)).into(),
        _ => reply.into(),
    }
}

async fn walk(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let bench = Bench::new(&policies(&mut rng));
    let (mut requests, mut sent) = (Vec::new(), 0);
    for _ in 0..250 {
        match rng.usize(..20) {
            0..9 => {
                let line = one_of(&mut rng, &["GET /", "HEAD /", "PUT /", "POST /"]);
                let body = if line.starts_with(['G', 'H']) {
                    0
                } else {
                    rng.usize(..20)
                };
                requests.push(bench.start_with(line, &[], &"x".repeat(body)));
                sent += 1;
                // Its head has come before anything else happens.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            9 => {
                // One that sends only a part of its body.
                let mut client = bench.client();
                requests.push(tokio::spawn(async move {
                    client
                        .write(&request("PUT /", &[("content-length", "9")], ""))
                        .await;
                    client.write("1234").await;
                    client.answer(false).await
                }));
                sent += 1;
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            10..14 => bench.endpoint(rng.u8(1..=3)).will([play(&mut rng)]),
            14 => bench.endpoint(rng.u8(1..=3)).go_stale(),
            15 | 16 if !requests.is_empty() => {
                requests.swap_remove(rng.usize(..requests.len())).abort();
            }
            17 => bench.reload(&policies(&mut rng)),
            18 => {
                let forced = one_of(&mut rng, &[None, Some(Forced::Open), Some(Forced::Closed)]);
                bench.force(1, forced);
            }
            _ => ms(rng.u64(..40)).await,
        }
    }
    for request in requests {
        // It has an answer, or its connection was cut: then its task has panicked.
        let _ = request.await;
    }
    bench.settle(sent).await;
    let upstream = bench.upstream();
    upstream.sweep(bench.clock() + std::time::Duration::from_secs(3600));
    assert_eq!(bench.slots(), (0, 0), "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn whatever_the_order_nothing_is_left_behind() {
    for seed in 0..30 {
        walk(seed).await;
    }
}
