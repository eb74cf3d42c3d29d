//! Shares, loads, turns and hashes, by example and at random.

use super::*;

const CHANCES: [f64; 2] = [0.0, 0.0];

fn header() -> Settings {
    Settings::Hash {
        header: "x-user-id".into(),
    }
}

/// Idle endpoints of these weights; the key of each is the hash of its name, a, b, c …
fn weighted(weights: &[f64]) -> Vec<Candidate> {
    let names = b'a'..;
    let idle = |(weight, name)| Candidate {
        load: 0,
        weight,
        key: hash(&[name]),
        penalty: 0.0,
    };
    weights.iter().copied().zip(names).map(idle).collect()
}

fn loaded(loads: &[u32]) -> Vec<Candidate> {
    let mut candidates = weighted(&vec![1.0; loads.len()]);
    for (candidate, load) in candidates.iter_mut().zip(loads) {
        candidate.load = *load;
    }
    candidates
}

fn turns(memory: &mut Memory, candidates: &[Candidate], count: usize) -> String {
    let names: Vec<char> = ('a'..).take(26).collect();
    let name_of = |key| names.iter().find(|name| hash(&[**name as u8]) == key);
    (0..count)
        .filter_map(|_| Settings::RoundRobin.pick(memory, candidates, CHANCES, None))
        .filter_map(|pick| name_of(candidates[pick.place].key))
        .collect()
}

/// The share of each in many picks.
fn shares(settings: &Settings, candidates: &[Candidate]) -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut memory = Memory::new();
    let mut counts = vec![0.0; candidates.len()];
    for _ in 0..20_000 {
        let chance = [rng.f64(), rng.f64()];
        let hash = matches!(settings, Settings::Hash { .. }).then(|| rng.u64(..));
        let pick = settings.pick(&mut memory, candidates, chance, hash);
        counts[pick.unwrap().place] += 1.0 / 20_000.0;
    }
    counts
}

fn assert_near(actual: &[f64], expected: &[f64]) {
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() < 0.015, "{actual} for {expected}");
    }
}

fn all_settings() -> [Settings; 4] {
    [
        Settings::LeastRequest,
        Settings::RoundRobin,
        Settings::Random,
        header(),
    ]
}

#[test]
fn what_weighs_nothing_is_chosen_only_where_nothing_else_can_be() {
    for settings in all_settings() {
        for weights in [[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [1.0, 2.0, 0.0]] {
            let shares = shares(&settings, &weighted(&weights));
            for (share, weight) in shares.iter().zip(weights) {
                assert_eq!(*share > 0.0, weight > 0.0, "{settings:?} {shares:?}");
            }
        }
        let mut candidates = weighted(&[0.0, 1.0]);
        candidates[1].load = 1_000;
        assert_eq!(shares(&settings, &candidates)[0], 0.0);
        assert_near(
            &[shares(&settings, &weighted(&[0.0, 0.0])).iter().sum()],
            &[1.0],
        );
    }
}

#[test]
fn of_none_none_is_chosen_and_of_one_the_one() {
    for settings in all_settings() {
        let mut memory = Memory::default();
        assert_eq!(settings.pick(&mut memory, &[], CHANCES, Some(1)), None);
        let one = weighted(&[0.5]);
        let pick = settings.pick(&mut memory, &one, CHANCES, Some(1)).unwrap();
        assert_eq!((pick.place, pick.how), (0, How::Only));
    }
}

#[test]
fn rule_52_shares_of_idle_endpoints_follow_the_weights_and_the_ramp() {
    for settings in all_settings() {
        for weights in [
            &[1.0, 1.0][..],
            &[2.0, 1.0],
            &[1.0, 0.1],
            &[3.0, 1.0, 4.0, 2.0],
        ] {
            let total: f64 = weights.iter().sum();
            let expected: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
            assert_near(&shares(&settings, &weighted(weights)), &expected);
        }
    }
}

#[test]
fn least_request_takes_the_less_loaded_of_its_two() {
    for (loads, chosen) in [([3, 2], 1), ([0, 1], 0), ([7, 0], 1), ([100, 99], 1)] {
        for chance in [0.0, 0.3, 0.7, 0.999] {
            let pick = Settings::LeastRequest.pick(
                &mut Memory::new(),
                &loaded(&loads),
                [chance, chance],
                None,
            );
            let pick = pick.unwrap();
            assert_eq!(pick.place, chosen, "{loads:?} at {chance}");
            let (load, other) = (loads[chosen], loads[1 - chosen]);
            assert_eq!(pick.how, How::LessLoaded { load, other });
        }
    }
}

#[test]
fn least_request_looks_at_two_and_never_at_the_same_twice() {
    // Of the three, the most loaded is never chosen: it is always looked at beside another.
    assert_near(
        &shares(&Settings::LeastRequest, &loaded(&[9, 5, 1])),
        &[0.0, 1.0 / 3.0, 2.0 / 3.0],
    );
}

#[test]
fn least_request_holds_loads_to_the_weights() {
    for (weights, loads, expected) in [
        ([2.0, 1.0], [10, 2], 1),
        ([2.0, 1.0], [10, 6], 0),
        ([1.0, 0.1], [5, 1], 0),
        ([1.0, 0.1], [20, 1], 1),
    ] {
        let mut candidates = weighted(&weights);
        candidates[0].load = loads[0];
        candidates[1].load = loads[1];
        let mut share = [0.0; 2];
        share[expected] = 1.0;
        assert_near(&shares(&Settings::LeastRequest, &candidates), &share);
    }
}

#[test]
fn rule_49_an_endpoint_that_fails_fast_does_not_attract_requests() {
    let now = crate::clock::now();
    let mut penalty = Penalty::new();
    for _ in 0..20 {
        penalty.record(now, Outcome::Failure);
    }
    // It has nothing in flight, since it fails at once; its peer has thirty requests.
    let mut candidates = loaded(&[0, 30]);
    assert_near(&shares(&Settings::LeastRequest, &candidates), &[1.0, 0.0]);
    candidates[0].penalty = penalty.value(now);
    assert_near(&shares(&Settings::LeastRequest, &candidates), &[0.0, 1.0]);
}

#[test]
fn rule_49_a_penalty_goes_by_the_share_of_failures_and_is_forgotten() {
    let start = crate::clock::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut lone = Penalty::new();
    assert_eq!(lone.value(start), 0.0);
    lone.record(start, Outcome::Ignored);
    assert_eq!(lone.value(start), 0.0);
    lone.record(start, Outcome::Failure);
    for (seconds, expected) in [(0, 4.0), (5, 2.0), (10, 1.0), (15, 0.5), (3600, 0.0)] {
        assert!(
            (lone.value(after(seconds)) - expected).abs() < 1e-3,
            "after {seconds} s"
        );
    }
    let value_of = |failures, successes| {
        let mut penalty = Penalty::new();
        (0..successes).for_each(|_| penalty.record(start, Outcome::Success));
        (0..failures).for_each(|_| penalty.record(start, Outcome::Failure));
        penalty.value(start)
    };
    assert_eq!(value_of(0, 1000), 0.0);
    assert!(value_of(1, 99) < 0.05);
    assert_eq!(value_of(9, 8), 4.0);
    assert!(value_of(100, 0) >= 100.0);
    // Bounded however long it fails, so that it comes back in time: 512 is halved nine times.
    assert!(value_of(1_000_000, 0) <= 512.0);
    // Successes are forgotten as failures are.
    let mut old = Penalty::new();
    (0..100).for_each(|_| old.record(start, Outcome::Success));
    old.record(after(60), Outcome::Failure);
    assert!(old.value(after(60)) > 3.9);
    // A long good past does not hide that everything fails now.
    assert!(value_of(200, 1_000_000) > 4.0);
}

#[test]
fn fault_072_a_penalty_does_not_mind_time_that_goes_back() {
    let start = crate::clock::now();
    let mut penalty = Penalty::new();
    penalty.record(start + Duration::from_secs(9), Outcome::Failure);
    penalty.record(start, Outcome::Failure);
    assert_eq!(penalty.value(start), 8.0);
}

#[test]
fn round_robin_takes_turns_smoothly() {
    for (weights, expected) in [
        (&[1.0, 1.0, 1.0][..], "abcabcabc"),
        (&[2.0, 1.0], "abaabaaba"),
        (&[5.0, 1.0, 1.0], "aabacaaaabacaa"),
        (&[1.0, 0.25], "aabaaaabaa"),
    ] {
        let mut memory = Memory::new();
        assert_eq!(
            turns(&mut memory, &weighted(weights), expected.len()),
            expected
        );
    }
}

#[test]
fn rule_81_turns_outlast_a_change_of_endpoints_and_weights() {
    let mut memory = Memory::new();
    let all = weighted(&[1.0; 4]);
    assert_eq!(turns(&mut memory, &all, 2), "ab");
    // b is left out for a time, and the order of the others is another: d and c are owed theirs.
    let some = [all[3], all[2], all[0]];
    assert_eq!(turns(&mut memory, &some, 6), "dcdcad");
    assert_eq!(turns(&mut memory, &all, 8).matches('b').count(), 2);
    // Weights that fall from thousands to one owe nobody thousands of turns.
    let mut memory = Memory::new();
    turns(&mut memory, &weighted(&[9000.0, 8000.0, 1.0]), 2);
    let after = turns(&mut memory, &weighted(&[1.0; 3]), 12);
    for name in ['a', 'b', 'c'] {
        assert!((3..=5).contains(&after.matches(name).count()), "{after}");
    }
}

#[test]
fn turns_of_endpoints_that_are_gone_are_forgotten() {
    let mut memory = Memory::new();
    for change in 0..1000_u64 {
        let mut candidates = weighted(&[1.0; 3]);
        for candidate in &mut candidates {
            candidate.key ^= change;
        }
        turns(&mut memory, &candidates, 1);
        assert!(memory.turns.len() <= 22);
    }
}

#[test]
fn hash_without_the_header_is_by_chance() {
    let mut seen = [0; 3];
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let chance = [rng.f64(), 0.0];
        let pick = header().pick(&mut Memory::new(), &weighted(&[1.0; 3]), chance, None);
        let pick = pick.unwrap();
        assert_eq!(pick.how, How::Chance);
        seen[pick.place] += 1;
    }
    assert!(
        seen.iter().all(|count| (60..140).contains(count)),
        "{seen:?}"
    );
}

#[test]
fn a_hash_is_the_same_in_every_version() {
    // These send users to their endpoints: another value would send all of them elsewhere.
    assert_eq!(hash(b""), 0xf52a15e9a9b5e89b);
    assert_eq!(hash(b"user-42"), 0x7a1596f0e94b5793);
}

#[test]
fn walk_a_hash_moves_only_what_it_must() {
    let mut rng = fastrand::Rng::with_seed(3);
    let pick = |candidates: &[Candidate], hash| {
        let pick = header().pick(&mut Memory::new(), candidates, CHANCES, Some(hash));
        candidates[pick.unwrap().place].key
    };
    for _ in 0..100 {
        let weights: Vec<f64> = (0..rng.usize(3..9)).map(|_| 0.2 + rng.f64()).collect();
        let all = weighted(&weights);
        let gone = rng.usize(..all.len());
        let mut rest = all.clone();
        rest.remove(gone);
        rng.shuffle(&mut rest);
        let mut lighter = all.clone();
        lighter[gone].weight *= 0.5;
        for _ in 0..200 {
            let hash = rng.u64(..);
            let (before, after) = (pick(&all, hash), pick(&rest, hash));
            assert!(before == after || before == all[gone].key);
            let less = pick(&lighter, hash);
            assert!(less == before || before == all[gone].key);
        }
    }
}

#[test]
fn walk_every_pick_is_one_of_the_candidates() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut memory = Memory::new();
    for _ in 0..20_000 {
        let settings = &all_settings()[rng.usize(..4)];
        let candidates: Vec<Candidate> = (0..rng.usize(..7))
            .map(|_| Candidate {
                load: if rng.bool() {
                    rng.u32(..)
                } else {
                    rng.u32(..5)
                },
                weight: [f64::MIN_POSITIVE, 1e-9, 0.3, 1.0, 7.0, 1e300][rng.usize(..6)],
                key: rng.u64(..10),
                penalty: [0.0, 0.5, 4.0, 512.0][rng.usize(..4)],
            })
            .collect();
        let chance = [
            [0.0, rng.f64(), 1.0 - f64::EPSILON][rng.usize(..3)],
            rng.f64(),
        ];
        let hash = rng.bool().then(|| rng.u64(..));
        let pick = settings.pick(&mut memory, &candidates, chance, hash);
        assert_eq!(pick.is_some(), !candidates.is_empty());
        assert!(pick.is_none_or(|pick| pick.place < candidates.len()));
    }
}

/// Requests that come and go: with equal endpoints the loads stay close together, and an endpoint
/// that takes ten times as long gets a small part of the requests.
#[test]
fn walk_least_request_keeps_loads_even() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut loads = [0_u32; 5];
    let mut given = [0_u32; 5];
    let mut ends: Vec<(u32, usize)> = Vec::new();
    for time in 0..20_000 {
        ends.retain(|(end, place)| {
            let over = *end <= time;
            loads[*place] -= u32::from(over);
            !over
        });
        let chance = [rng.f64(), rng.f64()];
        let pick = Settings::LeastRequest.pick(&mut Memory::new(), &loaded(&loads), chance, None);
        let place = pick.unwrap().place;
        loads[place] += 1;
        given[place] += 1;
        ends.push((time + if place == 0 { 400 } else { 40 }, place));
        let (least, most) = (loads.iter().min(), loads.iter().max());
        assert!(most.unwrap() - least.unwrap() <= 20, "{loads:?}");
    }
    assert!(given[0] * 5 < given[1], "{given:?}");
}
