//! What counts, and for how long.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

#[test]
fn each_kind_is_counted() {
    let (mut window, now) = (Window::default(), crate::clock::now());
    assert_eq!(window.tally(SECOND, now), Tally::default());
    window.record(SECOND, now, false, false);
    window.record(SECOND, now, true, false);
    window.record(SECOND, now, false, true);
    window.record(SECOND, now, true, true);
    assert_eq!(
        window.tally(SECOND, now),
        Tally {
            requests: 4,
            failures: 2,
            slow: 2
        }
    );
    window.clear();
    assert_eq!(window.tally(SECOND, now), Tally::default());
}

#[test]
fn a_call_counts_for_15_sixteenths_and_never_longer_than_the_window() {
    let (mut window, start) = (Window::new(), crate::clock::now());
    let length = 16 * SECOND;
    window.record(length, start, true, false); // at the very beginning of its slot
    window.record(length, at(start, 1999), true, false); // at the very end of the next one
    assert_eq!(window.tally(length, at(start, 15_999)).requests, 2);
    assert_eq!(window.tally(length, at(start, 16_000)).requests, 1);
    assert_eq!(window.tally(length, at(start, 16_999)).requests, 1);
    assert_eq!(window.tally(length, at(start, 17_000)).requests, 0);
}

#[test]
fn after_a_long_silence_it_begins_anew() {
    let (mut window, start) = (Window::new(), crate::clock::now());
    window.record(SECOND, start, true, true);
    let later = start + Duration::from_secs(1_000_000_000);
    window.record(SECOND, later, false, false);
    assert_eq!(
        window.tally(SECOND, later),
        Tally {
            requests: 1,
            failures: 0,
            slow: 0
        }
    );
}

#[test]
fn rule_91_an_earlier_time_is_taken_for_the_same() {
    let (mut window, start) = (Window::new(), crate::clock::now());
    window.record(SECOND, at(start, 900), true, false);
    window.record(SECOND, start, true, false);
    assert_eq!(window.tally(SECOND, start).requests, 2);
    assert_eq!(window.tally(SECOND, at(start, 1_800)).requests, 2);
    assert_eq!(window.tally(SECOND, at(start, 1_900)).requests, 0);
}

#[test]
fn a_longer_window_keeps_what_the_shorter_one_had() {
    let (mut window, start) = (Window::new(), crate::clock::now());
    for second in 0..16 {
        window.record(16 * SECOND, start + second * SECOND, true, false);
    }
    let now = at(start, 15_500);
    assert_eq!(window.tally(16 * SECOND, now).requests, 16);
    assert_eq!(window.tally(64 * SECOND, now).requests, 16);
    // The oldest are half a minute old now; slots last four seconds.
    assert_eq!(window.tally(64 * SECOND, at(start, 58_000)).requests, 16);
    assert_eq!(window.tally(64 * SECOND, at(start, 84_000)).requests, 0);
}

#[test]
fn a_shorter_window_applies_at_once_and_is_cut_finer_after_a_round() {
    let (mut window, start) = (Window::new(), crate::clock::now());
    let (long, short) = (16 * SECOND, 4 * SECOND);
    for half in 0..20 {
        window.record(long, start + half * SECOND / 2, true, false);
    }
    // Slots of a second: the last three whole ones, and the one that is under way.
    let now = at(start, 9_900);
    assert_eq!(window.tally(short, now).requests, 8);
    assert_eq!(
        window.tally(long, now).requests,
        20,
        "the longer one is still there"
    );
    // In the first round the longer one was asked for, in the second it was not.
    for quarter in 40..200 {
        window.record(short, start + quarter * SECOND / 4, true, false);
    }
    assert_eq!(window.span, short);
    let now = at(start, 49_750);
    let exact = window.tally(short, now).requests;
    assert!((15..=16).contains(&exact), "{exact}");
}

#[test]
fn one_window_serves_two_lengths_without_loss() {
    let (mut window, start) = (Window::new(), crate::clock::now());
    for second in 0..200 {
        let now = start + second * SECOND;
        // From second 5 on, slots of 2 s; the longer length is asked for once in a round of 32 s, by the
        // first call of a slot and never by one that begins a round.
        if second == 5 || second % 32 == 21 {
            let long = window.tally(32 * SECOND, now).requests;
            // The first two calls had left the shorter window by second 5.
            let least = (second - 2).min(29);
            assert!(long >= least && long <= 32, "{long} after {second}");
        }
        window.record(4 * SECOND, now, false, false);
        let short = window.tally(4 * SECOND, now).requests;
        assert!(
            short >= (second + 1).min(2) && short <= 4,
            "{short} after {second}"
        );
        assert!(second < 5 || window.span == 32 * SECOND, "after {second}");
    }
}

#[test]
fn no_length_breaks_it() {
    let (mut window, start) = (Window::new(), crate::clock::now());
    for (length, expected) in [
        (Duration::ZERO, 1),
        (Duration::MAX, 2),
        (Duration::from_nanos(1), 2),
    ] {
        window.record(length, start, true, false);
        assert_eq!(window.tally(length, start).requests, expected, "{length:?}");
    }
}

/// Calls as they were, to compare with.
fn calls_within(calls: &[Instant], now: Instant, age: Duration) -> u32 {
    calls.iter().filter(|at| now - **at < age).count() as u32
}

#[test]
fn random_walk_the_counts_lie_between_those_of_15_sixteenths_and_of_the_window() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut window, mut now) = (Window::new(), crate::clock::now());
        // Lengths that 16 divides, so that the bounds are exact.
        let length = 16 * Duration::from_micros(random.u64(1..100_000));
        let (mut calls, mut failures) = (Vec::new(), Vec::new());
        for _ in 0..500 {
            now += match random.u32(0..50) {
                0 => length.mul_f64(random.f64() * 2.0),
                _ => length.mul_f64(random.f64() * 0.1),
            };
            if random.u32(0..4) > 0 {
                let failed = random.bool();
                window.record(length, now, failed, false);
                calls.push(now);
                failures.extend(failed.then_some(now));
            }
            let tally = window.tally(length, now);
            for (real, kept) in [(tally.requests, &calls), (tally.failures, &failures)] {
                let least = calls_within(kept, now, length / 16 * 15);
                let most = calls_within(kept, now, length);
                assert!(
                    (least..=most).contains(&real),
                    "{least} ≤ {real} ≤ {most}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn random_walk_under_changing_lengths_the_sum_is_that_of_the_slots_and_nothing_is_counted_twice() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut window, mut now) = (Window::new(), crate::clock::now());
        let mut length = SECOND;
        let mut calls = Vec::new();
        for _ in 0..500 {
            now += Duration::from_millis(random.u64(0..300));
            if random.u32(0..20) == 0 {
                length = Duration::from_millis(random.u64(1..20_000));
            }
            window.record(length, now, random.bool(), random.bool());
            calls.push(now);
            let tally = window.tally(length, now);
            let mut sum = Tally::default();
            window.slots.iter().for_each(|slot| sum.add(*slot));
            assert_eq!(sum, window.total, "seed {seed}");
            // A change may keep a call for one slot of the coarser measure too long, each time.
            let most = calls_within(&calls, now, length + 4 * window.span.max(20 * SECOND) / 16);
            assert!(
                (1..=most).contains(&tally.requests),
                "{} of {most}, seed {seed}",
                tally.requests
            );
        }
    }
}
