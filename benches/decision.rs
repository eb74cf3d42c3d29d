//! Nanoseconds per policy decision: `cargo bench --bench decision`. The time goes on by 100 µs with
//! each decision, as it does at 10 000 requests a second, so that windows turn as they do in earnest.
#![allow(missing_docs)]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use mamparo::clock;
use mamparo::live::roster::{Place, Roster, Wish};
use mamparo::policy::balance::{self, Candidate};
use mamparo::policy::breaker::{self, Breaker, Observation};
use mamparo::policy::budget::{self, Budget};
use mamparo::policy::bulkhead::{self, Bulkhead};
use mamparo::policy::outcome::{Ending, Outcome, Sent};
use mamparo::policy::rate_limit::{self, Bucket};
use mamparo::policy::retry::{self, Attempt};
use mamparo::policy::window::Window;

const STEP: Duration = Duration::from_micros(100);

const GOOD: Observation = Observation {
    outcome: Outcome::Success,
    took: Duration::from_millis(3),
};
const BAD: Observation = Observation {
    outcome: Outcome::Failure,
    took: Duration::from_millis(3),
};

/// One request through a breaker; true where it was let through.
fn request(breaker: &mut Breaker, s: &breaker::Settings, now: Instant, seen: Observation) -> bool {
    let (gate, _) = black_box(breaker.gate(s, now));
    black_box(gate);
    let Some(ticket) = breaker.admit(s, now) else {
        return false;
    };
    let _ = black_box(breaker.settle(s, now, ticket, seen, true, None, 0.5));
    true
}

fn breakers(c: &mut Criterion) {
    let s = breaker::Settings::default();
    let mut now = clock::now();
    let mut breaker = Breaker::new();
    c.bench_function("breaker: gate, admit, settle a success; closed", |b| {
        b.iter(|| {
            now += STEP;
            request(black_box(&mut breaker), black_box(&s), now, GOOD)
        });
    });
    let never = breaker::Settings {
        consecutive_failures: None,
        failure_rate: Some(1.0),
        ..s.clone()
    };
    request(&mut breaker, &never, now, GOOD);
    c.bench_function(
        "breaker: gate, admit, settle a failure and a success; closed",
        |b| {
            b.iter(|| {
                now += STEP;
                request(black_box(&mut breaker), black_box(&never), now, BAD);
                request(black_box(&mut breaker), black_box(&never), now, GOOD)
            });
        },
    );
    let mut open = Breaker::new();
    while request(&mut open, &s, now, BAD) {}
    c.bench_function("breaker: gate; open", |b| {
        b.iter(|| black_box(&mut open).gate(black_box(&s), now));
    });
}

fn windows(c: &mut Criterion) {
    let length = Duration::from_secs(30);
    let mut now = clock::now();
    let mut window = Window::new();
    c.bench_function("window: record", |b| {
        b.iter(|| {
            now += STEP;
            black_box(&mut window).record(black_box(length), now, false, false);
        });
    });
    c.bench_function("window: tally", |b| {
        b.iter(|| black_box(&mut window).tally(black_box(length), now));
    });
}

fn retries(c: &mut Criterion) {
    let s = retry::Settings::default();
    let generous = budget::Settings {
        ratio: 1.0,
        ..budget::Settings::default()
    };
    let attempt = Attempt {
        made: 1,
        ending: Ending::Answered(503),
        sent: Sent::Answered,
        repeatable: true,
        replayable: true,
        time_left: Some(Duration::from_secs(5)),
        retry_after: None,
        pushback: None,
    };
    let mut budget = Budget::new();
    let mut now = clock::now();
    c.bench_function("retry: decide; with budget", |b| {
        b.iter(|| {
            now += STEP;
            budget.deposit(&generous, now);
            black_box(&s).decide(black_box(&attempt), &mut budget, now, 0.5)
        });
    });
    let success = Attempt {
        ending: Ending::Answered(200),
        ..attempt
    };
    c.bench_function("retry: decide; a success", |b| {
        b.iter(|| black_box(&s).decide(black_box(&success), &mut budget, now, 0.5));
    });
    c.bench_function("backoff: wait", |b| {
        b.iter(|| black_box(&s.backoff).wait(black_box(3), black_box(0.5)));
    });
    let s = budget::Settings::default();
    c.bench_function("budget: deposit", |b| {
        b.iter(|| {
            now += STEP;
            black_box(&mut budget).deposit(black_box(&s), now);
        });
    });
    c.bench_function("budget: withdraw", |b| {
        b.iter(|| {
            now += STEP;
            black_box(&mut budget).withdraw(black_box(&s), now)
        });
    });
}

fn limits(c: &mut Criterion) {
    let mut now = clock::now();
    let s = rate_limit::Settings {
        per_second: 20_000.0,
        burst: 100.0,
    };
    let mut bucket = Bucket::new(&s, now);
    c.bench_function("rate limit: take", |b| {
        b.iter(|| {
            now += STEP;
            black_box(&mut bucket).take(black_box(&s), now)
        });
    });
    let s = bulkhead::Settings::default();
    let mut bulkhead = Bulkhead::new();
    c.bench_function("bulkhead: enter and leave", |b| {
        b.iter(|| {
            black_box(black_box(&mut bulkhead).enter(black_box(&s)));
            bulkhead.leave()
        });
    });
}

fn balances(c: &mut Criterion) {
    let candidates: Vec<Candidate> = (0..10_u32)
        .map(|place| Candidate {
            load: place % 4,
            weight: 1.0,
            key: balance::hash(&place.to_le_bytes()),
            penalty: 0.0,
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    for (name, s) in [
        ("least_request", balance::Settings::LeastRequest),
        ("round_robin", balance::Settings::RoundRobin),
        ("random", balance::Settings::Random),
        (
            "hash",
            balance::Settings::Hash {
                header: "x-user-id".into(),
            },
        ),
    ] {
        let mut memory = balance::Memory::new();
        c.bench_function(&format!("balance: pick of 10; {name}"), |b| {
            b.iter(|| {
                let chance = [random.f64(), random.f64()];
                let hash = Some(random.u64(..));
                black_box(&s).pick(&mut memory, black_box(&candidates), chance, hash)
            });
        });
    }
}

/// Under the one lock of an upstream: what is in it stands in the way of every other request.
fn rosters(c: &mut Criterion) {
    let s = Arc::new(breaker::Settings::default());
    let mut random = fastrand::Rng::with_seed(7);
    for endpoints in [2_u8, 10, 100, 250] {
        let roster = Roster::new(2);
        let places = (1..=endpoints).map(|one| SocketAddr::from(([10, 0, 0, one], 80)));
        let places: Vec<Place> = places.map(|one| (one.into(), 1).into()).collect();
        roster.set(&places);
        let mut now = clock::now();
        let wish = Wish {
            breaker: Some(&s),
            balance: &balance::Settings::LeastRequest,
            hash: None,
            tried: &[],
        };
        c.bench_function(&format!("roster: pick and settle; {endpoints}"), |b| {
            b.iter(|| {
                now += STEP;
                let (picked, _) = roster.pick(&wish, now, [random.f64(), random.f64()]);
                picked.map(|one| one.settle(GOOD, now, 0.5))
            });
        });
        c.bench_function(&format!("roster: set the same; {endpoints}"), |b| {
            b.iter(|| roster.set(black_box(&places)));
        });
    }
}

criterion_group!(
    decisions, breakers, windows, retries, limits, balances, rosters
);
criterion_main!(decisions);
