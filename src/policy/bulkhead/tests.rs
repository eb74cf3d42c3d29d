//! The bulkhead by script, through reloads, and at random.

use std::collections::HashSet;

use super::*;

fn settings(max_in_flight: usize, max_queue: usize) -> Settings {
    Settings {
        max_in_flight: Some(max_in_flight),
        max_queue,
        ..Settings::default()
    }
}

/// Runs a script: `enter` and `cancel a` and `leave`, each with what must come of it. Waiters are
/// named a, b, c … in the order in which they came.
fn run(bulkhead: &mut Bulkhead, s: &Settings, script: &str) {
    let name = |waiter: Waiter| char::from(b'a' + waiter.0 as u8).to_string();
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (step, expected) = line.split_once(" -> ").unwrap();
        let came = match step.split_once(' ').unwrap_or((step, "")) {
            ("enter", _) => match bulkhead.enter(s) {
                Entry::Seated => "seated".into(),
                Entry::Waiting(waiter) => name(waiter),
                Entry::Refused => "refused".into(),
            },
            ("leave", _) => bulkhead.leave().map_or("nobody".into(), name),
            ("cancel", who) => {
                let waiter = Waiter(u64::from(who.as_bytes()[0] - b'a'));
                bulkhead.cancel(waiter).to_string()
            }
            (other, _) => panic!("no such step: {other}"),
        };
        assert_eq!(came, expected, "{line}");
    }
}

#[test]
fn without_a_queue_the_request_over_the_limit_is_refused_at_once() {
    let mut bulkhead = Bulkhead::new();
    run(
        &mut bulkhead,
        &settings(2, 0),
        "enter -> seated
         enter -> seated
         enter -> refused
         leave -> nobody
         enter -> seated
         leave -> nobody
         leave -> nobody",
    );
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
}

#[test]
fn rule_58_the_newest_waiter_has_the_seat_and_the_queue_is_bounded() {
    let mut bulkhead = Bulkhead::new();
    run(
        &mut bulkhead,
        &settings(1, 3),
        "enter -> seated
         enter -> a
         enter -> b
         enter -> c
         enter -> refused
         leave -> c
         enter -> d
         leave -> d
         leave -> b
         leave -> a
         leave -> nobody",
    );
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
}

#[test]
fn rule_58_a_waiter_who_gave_up_takes_no_place_and_gets_no_seat() {
    run(
        &mut Bulkhead::new(),
        &settings(1, 2),
        "enter -> seated
         enter -> a
         enter -> b
         enter -> refused
         cancel b -> true
         cancel b -> false
         enter -> c
         cancel c -> true
         leave -> a
         leave -> nobody",
    );
}

#[test]
fn fault_052_a_waiter_who_gives_up_too_late_has_a_seat_to_give_back() {
    let mut bulkhead = Bulkhead::new();
    run(
        &mut bulkhead,
        &settings(1, 2),
        "enter -> seated
         enter -> a
         enter -> b
         leave -> b
         cancel b -> false
         leave -> a
         leave -> nobody",
    );
    assert_eq!(bulkhead.in_flight(), 0);
}

#[test]
fn no_limit_seats_everyone_and_a_limit_of_none_nobody() {
    let mut bulkhead = Bulkhead::new();
    let unlimited = Settings {
        max_in_flight: None,
        ..Settings::default()
    };
    for _ in 0..10_000 {
        assert_eq!(bulkhead.enter(&unlimited), Entry::Seated);
    }
    assert_eq!(bulkhead.enter(&settings(0, 0)), Entry::Refused);
}

#[test]
fn a_seat_too_many_given_back_is_no_seat_more() {
    let mut bulkhead = Bulkhead::new();
    run(
        &mut bulkhead,
        &settings(1, 0),
        "leave -> nobody
         enter -> seated
         enter -> refused",
    );
}

#[test]
fn rule_81_a_limit_that_a_reload_lowers_shrinks_as_requests_leave() {
    let mut bulkhead = Bulkhead::new();
    run(
        &mut bulkhead,
        &settings(3, 2),
        "enter -> seated
         enter -> seated
         enter -> seated
         enter -> a
         enter -> b",
    );
    assert_eq!(bulkhead.resize(|_| Some(settings(1, 1))), []);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (3, 2));
    run(
        &mut bulkhead,
        &settings(1, 1),
        "enter -> refused
         leave -> nobody
         leave -> nobody
         enter -> refused
         leave -> b
         enter -> refused
         leave -> a
         enter -> c
         leave -> c
         leave -> nobody
         enter -> seated",
    );
}

#[test]
fn rule_81_a_limit_that_a_reload_raises_seats_the_waiters_at_once_newest_first() {
    let mut bulkhead = Bulkhead::new();
    let before = settings(1, 9);
    run(
        &mut bulkhead,
        &before,
        "enter -> seated
         enter -> a
         enter -> b
         enter -> c",
    );
    assert_eq!(
        bulkhead.resize(|_| Some(settings(3, 9))),
        [Waiter(2), Waiter(1)]
    );
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (3, 1));
    assert!(!bulkhead.cancel(Waiter(1)), "it has a seat");
    let none = Settings {
        max_in_flight: None,
        ..before
    };
    assert_eq!(
        bulkhead.resize(|_| Some(none)),
        [Waiter(0)],
        "limit switched off"
    );
}

#[test]
fn rule_81_a_reload_that_concerns_one_route_leaves_the_others_waiters_alone() {
    let mut bulkhead = Bulkhead::new();
    run(
        &mut bulkhead,
        &settings(1, 9),
        "enter -> seated
         enter -> a
         enter -> b",
    );
    let raised = |waiter| (waiter == Waiter(0)).then(|| settings(2, 9));
    assert_eq!(bulkhead.resize(raised), [Waiter(0)], "not the newer one");
    assert_eq!(bulkhead.resize(|_| None), []);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (2, 1));
}

#[test]
fn each_request_is_let_in_by_the_limit_of_its_own_route() {
    let (wide, narrow) = (settings(4, 9), settings(2, 9));
    let mut bulkhead = Bulkhead::new();
    run(&mut bulkhead, &wide, "enter -> seated\nenter -> seated");
    run(&mut bulkhead, &narrow, "enter -> a");
    // The narrow route's waiter does not keep the wide route out of its seats ...
    run(
        &mut bulkhead,
        &wide,
        "enter -> seated
         enter -> seated
         enter -> b
         leave -> b
         leave -> nobody
         leave -> nobody",
    );
    // ... and has a seat as soon as there are fewer than its own limit.
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (2, 1));
    run(&mut bulkhead, &wide, "leave -> a");
}

/// Whoever is told that it waits sits, waits or has given up; nobody is forgotten, nobody is seated
/// twice, nobody enters above the limit, and no seat stays empty while one waits who may have it.
#[test]
fn walk_no_seat_is_lost_whatever_the_order() {
    let mut rng = fastrand::Rng::with_seed(57);
    for _ in 0..200 {
        let mut bulkhead = Bulkhead::new();
        let mut s = settings(rng.usize(1..6), rng.usize(..6));
        let mut waiting: HashSet<Waiter> = HashSet::new();
        let mut late: Vec<Waiter> = Vec::new();
        let mut seated = 0;
        for _ in 0..300 {
            match rng.u32(..10) {
                0..4 => match bulkhead.enter(&s) {
                    Entry::Seated => {
                        seated += 1;
                        assert!(Some(seated) <= s.max_in_flight);
                    }
                    Entry::Waiting(waiter) => {
                        assert!(waiting.insert(waiter));
                        assert!(waiting.len() <= s.max_queue && Some(seated) >= s.max_in_flight);
                    }
                    Entry::Refused => {
                        assert!(waiting.len() >= s.max_queue && Some(seated) >= s.max_in_flight);
                    }
                },
                4..7 if seated > 0 => {
                    seated -= 1;
                    if let Some(waiter) = bulkhead.leave() {
                        assert!(waiting.remove(&waiter));
                        late.push(waiter);
                        seated += 1;
                        assert!(Some(seated) <= s.max_in_flight);
                    }
                }
                7 => {
                    let mut known: Vec<Waiter> = waiting.iter().copied().collect();
                    known.sort_by_key(|waiter| waiter.0);
                    if let Some(waiter) = rng.choice(known) {
                        assert!(bulkhead.cancel(waiter) && waiting.remove(&waiter));
                    }
                }
                8 => {
                    if let Some(waiter) = late.pop() {
                        assert!(!bulkhead.cancel(waiter));
                    }
                }
                _ => {
                    s = settings(rng.usize(1..6), rng.usize(..6));
                    for waiter in bulkhead.resize(|_| Some(s)) {
                        assert!(waiting.remove(&waiter));
                        seated += 1;
                        assert!(Some(seated) <= s.max_in_flight);
                    }
                }
            }
            assert_eq!(bulkhead.in_flight(), seated);
            assert_eq!(bulkhead.queued(), waiting.len());
            assert!(waiting.is_empty() || Some(seated) >= s.max_in_flight);
        }
    }
}
