//! The budget by script, through reloads, and at random.

use super::*;

const SETTINGS: Settings = Settings {
    ratio: 0.2,
    min_per_second: 0.0,
    window: Duration::from_secs(10),
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn deposit(budget: &mut Budget, s: &Settings, now: Instant, requests: usize) {
    for _ in 0..requests {
        budget.deposit(s, now);
    }
}

fn withdraw_all(budget: &mut Budget, s: &Settings, now: Instant) -> usize {
    (0..10_000).take_while(|_| budget.withdraw(s, now)).count()
}

#[test]
fn rule_29_requests_pay_for_their_share_of_retries_exactly() {
    let now = crate::clock::now();
    for (ratio, requests, retries) in [
        (0.2, 4, 0),
        (0.2, 5, 1),
        (0.2, 100, 20),
        (0.1, 30, 3),
        (0.29, 100, 29), // 28.999999999999996 in binary
        (0.35, 20, 7),
        (1.0, 7, 7),
        (10.0, 3, 30),
        (0.0, 1000, 0),
    ] {
        let s = Settings { ratio, ..SETTINGS };
        let mut budget = Budget::new();
        deposit(&mut budget, &s, now, requests);
        assert_eq!(
            withdraw_all(&mut budget, &s, now),
            retries,
            "{ratio} of {requests}"
        );
    }
}

#[test]
fn rule_29_a_floor_lets_low_traffic_retry() {
    let now = crate::clock::now();
    let s = Settings::default();
    let mut budget = Budget::new();
    assert_eq!(
        withdraw_all(&mut budget, &s, now),
        30,
        "3 a second for 10 s"
    );
    deposit(&mut budget, &s, now, 5);
    assert_eq!((budget.tokens(&s, now), budget.limit(&s, now)), (1.0, 31.0));
}

#[test]
fn rule_29_a_retry_is_paid_when_it_is_scheduled_and_deposits_nothing() {
    let now = crate::clock::now();
    let mut budget = Budget::default();
    deposit(&mut budget, &SETTINGS, now, 1000);
    // A burst of 1000 failures at once, all of which would be retried:
    assert_eq!(withdraw_all(&mut budget, &SETTINGS, now), 200);
    assert_eq!(withdraw_all(&mut budget, &SETTINGS, now + ms(9_000)), 0);
    assert_eq!(budget.limit(&SETTINGS, now + ms(9_000)), 200.0);
}

#[test]
fn what_has_left_the_window_counts_no_more() {
    let start = crate::clock::now();
    let mut budget = Budget::new();
    deposit(&mut budget, &SETTINGS, start, 10);
    for (at, tokens) in [(0, 2.0), (9_999, 2.0), (10_200, 0.0)] {
        assert_eq!(
            budget.tokens(&SETTINGS, start + ms(at)),
            tokens,
            "at {at} ms"
        );
    }
    // A retry is forgotten too, a slot later than a request would be.
    let floor = Settings {
        min_per_second: 0.1,
        ..SETTINGS
    };
    assert!(budget.withdraw(&floor, start + ms(20_000)));
    assert!(!budget.withdraw(&floor, start + ms(29_999)));
    assert!(budget.withdraw(&floor, start + ms(30_400)));
    // After a long silence nothing is left of the ring's former turns.
    assert_eq!(budget.tokens(&floor, start + ms(86_400_000)), 1.0);
}

#[test]
fn fault_072_time_that_goes_back_changes_nothing() {
    let start = crate::clock::now();
    let mut budget = Budget::new();
    deposit(&mut budget, &SETTINGS, start + ms(8_000), 5);
    deposit(&mut budget, &SETTINGS, start, 5);
    assert_eq!(budget.tokens(&SETTINGS, start), 2.0);
    assert_eq!(budget.tokens(&SETTINGS, start + ms(17_000)), 2.0);
}

#[test]
fn rule_81_a_reload_of_the_share_holds_for_the_requests_that_were() {
    let now = crate::clock::now();
    let mut budget = Budget::new();
    deposit(&mut budget, &SETTINGS, now, 100);
    assert_eq!(withdraw_all(&mut budget, &SETTINGS, now), 20);
    let more = Settings {
        ratio: 0.5,
        ..SETTINGS
    };
    assert_eq!(budget.tokens(&more, now), 30.0);
    let less = Settings {
        ratio: 0.1,
        ..SETTINGS
    };
    assert_eq!(budget.tokens(&less, now), 0.0, "overdrawn is empty");
    let floor = Settings {
        min_per_second: 1.5,
        ..less
    };
    assert_eq!(budget.tokens(&floor, now), 5.0);
}

#[test]
fn rule_81_a_reload_to_a_longer_window_forgets_nothing_that_it_remembers() {
    let start = crate::clock::now();
    let mut budget = Budget::new();
    for second in 0..10 {
        deposit(&mut budget, &SETTINGS, start + ms(1000 * second), 10);
        assert!(budget.withdraw(&SETTINGS, start + ms(1000 * second)));
    }
    let now = start + ms(9_500);
    assert_eq!(budget.tokens(&SETTINGS, now), 10.0);
    let minute = Settings {
        window: Duration::from_secs(60),
        ..SETTINGS
    };
    assert_eq!(budget.tokens(&minute, now), 10.0);
    assert_eq!(budget.tokens(&minute, start + ms(50_000)), 10.0);
    assert_eq!(budget.limit(&minute, start + ms(72_000)), 0.0);
}

#[test]
fn rule_81_a_reload_to_a_shorter_window_counts_what_lies_in_it_and_grows_exact() {
    let start = crate::clock::now();
    let hour = Settings {
        window: Duration::from_secs(3600),
        ..SETTINGS
    };
    let second = Settings {
        window: Duration::from_secs(1),
        ..SETTINGS
    };
    let mut budget = Budget::new();
    deposit(&mut budget, &hour, start, 1000);
    let now = start + ms(1_800_000);
    deposit(&mut budget, &hour, now, 50);
    assert_eq!(budget.tokens(&hour, now), 210.0);
    assert!(budget.tokens(&second, now) <= 10.0);
    // When no window needed the wide slots for as long as they remember, they are cut to size.
    let later = now + ms(4_000_000);
    deposit(&mut budget, &second, later, 5);
    assert_eq!(budget.width, 1_000_000_000_u64.div_ceil(62));
    assert_eq!(budget.tokens(&second, later + ms(980)), 1.0);
    assert_eq!(budget.tokens(&second, later + ms(1_040)), 0.0);
}

#[test]
fn routes_with_windows_of_their_own_share_the_memory() {
    let start = crate::clock::now();
    let minute = Settings {
        window: Duration::from_secs(60),
        ..SETTINGS
    };
    let mut budget = Budget::new();
    for second in 0..120 {
        let now = start + ms(1000 * second);
        deposit(&mut budget, &SETTINGS, now, 5);
        deposit(&mut budget, &minute, now, 5);
        if second > 60 {
            let now = now + ms(500);
            assert!((110.0..=122.0).contains(&budget.limit(&minute, now)));
            assert!((16.0..=22.0).contains(&budget.limit(&SETTINGS, now)));
        }
    }
}

/// Whatever is deposited, withdrawn and reloaded: no window sees more retries than its requests and
/// its floor pay for. After a reload to a longer window, the window grows with what is remembered:
/// from the edge of the former one.
#[test]
fn walk_no_window_sees_more_retries_than_are_paid_for() {
    let mut rng = fastrand::Rng::with_seed(29);
    for round in 0..60 {
        let mut now = crate::clock::now();
        let mut budget = Budget::new();
        let draw = |rng: &mut fastrand::Rng| Settings {
            ratio: [0.0, 0.1, 0.2, 1.0, 3.0][rng.usize(..5)],
            min_per_second: [0.0, 0.3, 3.0][rng.usize(..3)],
            window: ms(rng.u64(200..20_000)),
        };
        let mut s = draw(&mut rng);
        let mut remembered = now;
        let (mut requests, mut retries): (Vec<Instant>, Vec<Instant>) = Default::default();
        for _ in 0..1500 {
            now += Duration::from_micros(rng.u64(..40_000));
            match rng.u32(..200) {
                0 => {
                    remembered = remembered.max(now.checked_sub(s.window).unwrap());
                    s = draw(&mut rng);
                }
                1 => now += ms(rng.u64(..30_000)),
                2..120 => {
                    budget.deposit(&s, now);
                    requests.push(now);
                }
                _ => {
                    // Now and then a thread's reading of the clock is a little old.
                    let read = now.checked_sub(ms(rng.u64(..3))).unwrap();
                    if budget.withdraw(&s, read) {
                        retries.push(now);
                        assert_paid(&s, now, remembered, &requests, &retries, round);
                    }
                }
            }
        }
    }
}

fn assert_paid(
    s: &Settings,
    now: Instant,
    remembered: Instant,
    requests: &[Instant],
    retries: &[Instant],
    round: usize,
) {
    let edge = now.checked_sub(s.window).unwrap();
    // A reading that is a little old may find a request in the window that has just left it.
    let paying = requests.iter().filter(|t| **t + ms(3) >= edge).count();
    let made = retries
        .iter()
        .filter(|t| **t > edge.max(remembered))
        .count();
    let paid = s.ratio * paying as f64 + s.min_per_second * s.window.as_secs_f64();
    assert!(
        made as f64 <= paid + 1e-3,
        "round {round}: {made} of {paid}"
    );
}

/// Caution costs at most the share of one slot: with steady traffic all the rest can be had.
#[test]
fn walk_what_is_paid_for_can_be_had_but_for_one_slot() {
    let mut rng = fastrand::Rng::with_seed(30);
    for _ in 0..50 {
        let s = Settings {
            window: ms(rng.u64(1_000..60_000)),
            ..SETTINGS
        };
        let start = crate::clock::now();
        let mut budget = Budget::new();
        let step = s.window / 1000;
        for request in 0..rng.u32(1000..5000) {
            budget.deposit(&s, start + step * request);
            let before = request.min(1000) + 1;
            let limit = budget.limit(&s, start + step * request);
            let slot = 1000.0 / 62.0 + 2.0;
            assert!(limit <= 0.2 * f64::from(before) + 1e-6);
            assert!(
                limit >= 0.2 * (f64::from(before) - slot),
                "{limit} of {before}"
            );
        }
    }
}
