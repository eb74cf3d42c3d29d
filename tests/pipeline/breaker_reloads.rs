//! Breakers in each of their states while each of their settings changes (fault 68, rule 81).

use mamparo::live::roster::BreakerReading;
use mamparo::policy::breaker::{Forced, State};
use tokio::task::JoinHandle;

use super::bench::{Answer, Bench, ms, yaml};
use super::endpoint::answer;

/// The settings that the others are changes of.
const BASE: [(&str, &str); 6] = [
    ("consecutive_failures", "3"),
    ("open_for", "10s"),
    ("max_open_for", "10s"),
    ("probes", "2"),
    ("ramp", "20s"),
    ("min_requests", "50"),
];

/// The base with some settings changed.
fn with(changes: &[(&str, &str)]) -> String {
    let mut settings: Vec<(&str, &str)> = BASE.to_vec();
    for change in changes {
        settings.retain(|(key, _)| *key != change.0);
        settings.push(*change);
    }
    let settings: Vec<String> = settings.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    yaml(
        1,
        &format!("circuit_breaker: {{ {} }}", settings.join(", ")),
    )
}

async fn asks(bench: &Bench, status: u16, times: usize) {
    for _ in 0..times {
        bench.endpoint(1).will([answer(status)]);
        assert_eq!(bench.get("GET /").await.status, status);
    }
}

/// Where a breaker stands when the configuration changes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stand {
    Closed,
    Open,
    HalfOpen,
    Probing,
    Ramping,
}

impl Stand {
    const ALL: [Self; 5] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::Probing,
        Self::Ramping,
    ];

    /// Brings the breaker there; gives a probe that is under way.
    async fn bring(self, bench: &Bench) -> Option<JoinHandle<Answer>> {
        asks(bench, 500, 2).await;
        if self == Self::Closed {
            return None;
        }
        asks(bench, 500, 1).await;
        ms(4_000).await;
        if self == Self::Open {
            return None;
        }
        ms(6_000).await;
        asks(bench, 200, 1).await;
        match self {
            Self::Closed | Self::Open | Self::HalfOpen => None,
            Self::Probing => {
                bench.endpoint(1).will([answer(200).after(100)]);
                let probe = bench.start("GET /probe");
                ms(50).await;
                Some(probe)
            }
            Self::Ramping => {
                asks(bench, 200, 1).await;
                ms(5_000).await;
                None
            }
        }
    }

    fn state(self) -> State {
        match self {
            Self::Closed | Self::Ramping => State::Closed,
            Self::Open => State::Open,
            Self::HalfOpen | Self::Probing => State::HalfOpen,
        }
    }
}

/// What a reload must not change.
fn memory(breaker: &BreakerReading) -> (State, u32, u32, Option<u128>, Option<String>) {
    (
        breaker.state,
        breaker.opens_in_a_row,
        breaker.counts.consecutive_failures,
        breaker.retry_in.map(|wait| wait.as_millis()),
        breaker.cause.as_ref().map(ToString::to_string),
    )
}

/// One change of each setting, at least.
const CHANGES: [&[(&str, &str)]; 18] = [
    &[],
    &[("consecutive_failures", "1")],
    &[("consecutive_failures", "2")],
    &[("consecutive_failures", "none")],
    &[("failure_rate", "1%"), ("min_requests", "1")],
    &[("failure_rate", "none")],
    &[("slow_rate", "10%"), ("slow_call", "1ms")],
    &[("peer_deviation", "2")],
    &[("window", "1s")],
    &[("window", "5m")],
    &[("open_for", "1s")],
    &[("open_for", "60s"), ("max_open_for", "60s")],
    &[("probes", "1")],
    &[("probes", "9")],
    &[("ramp", "0s")],
    &[("max_open", "1%")],
    &[("when_all_open", "send_anyway")],
    &[("ignore", "[500]")],
];

#[tokio::test(start_paused = true)]
async fn fault_068_a_breaker_keeps_its_state_whatever_setting_changes() {
    for stand in Stand::ALL {
        for change in CHANGES {
            let bench = Bench::new(&with(&[]));
            let probe = stand.bring(&bench).await;
            let before = bench.breaker(1);
            assert_eq!(before.state, stand.state());
            bench.reload(&with(change));
            let after = bench.breaker(1);
            assert_eq!(memory(&after), memory(&before), "{stand:?} {change:?}");
            if let Some(probe) = probe {
                assert_eq!(probe.await.unwrap().status, 200);
            }
            // Whatever changed, it lives on: healthy answers close it in the end.
            ms(11_000).await;
            for _ in 0..10 {
                bench.get("GET /").await;
            }
            let slow = change.iter().any(|(key, _)| *key == "slow_rate");
            assert!(
                slow || bench.state(1) == State::Closed,
                "{stand:?} {change:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_81_thresholds_take_effect_at_the_next_result() {
    for (limit, failures) in [("1", 1), ("2", 1), ("3", 1), ("4", 2), ("7", 5)] {
        let bench = Bench::new(&with(&[]));
        Stand::Closed.bring(&bench).await;
        bench.reload(&with(&[("consecutive_failures", limit)]));
        asks(&bench, 500, failures - 1).await;
        assert_eq!(bench.state(1), State::Closed, "{limit}");
        asks(&bench, 500, 1).await;
        assert_eq!(
            bench.state(1),
            State::Open,
            "{limit}: two were counted before"
        );
    }
    // A success opens nothing, however low the limit has become.
    let bench = Bench::new(&with(&[]));
    Stand::Closed.bring(&bench).await;
    bench.reload(&with(&[("consecutive_failures", "1")]));
    asks(&bench, 200, 1).await;
    assert_eq!(bench.state(1), State::Closed);
    // What is no failure any more is not counted as one.
    bench.reload(&with(&[("ignore", "[500]")]));
    asks(&bench, 500, 5).await;
    assert_eq!(bench.state(1), State::Closed);
    // The window was filled all along.
    let rate = [
        ("consecutive_failures", "none"),
        ("failure_rate", "20%"),
        ("min_requests", "8"),
    ];
    bench.reload(&with(&rate));
    asks(&bench, 500, 1).await;
    assert_eq!(bench.state(1), State::Open);
    let cause = bench.breaker(1).cause.unwrap().to_string();
    assert_eq!(cause, "3 of 9 requests failed in 30s");
}

#[tokio::test(start_paused = true)]
async fn rule_81_an_open_breaker_stays_open_as_told_but_not_beyond_the_new_longest() {
    // It has been open for four of its ten seconds.
    for (change, left) in [
        (&[("open_for", "1s")][..], 6_000),
        (&[("open_for", "60s"), ("max_open_for", "60s")], 6_000),
        (&[("open_for", "5s"), ("max_open_for", "5s")], 1_000),
        (&[("open_for", "4s"), ("max_open_for", "4s")], 0),
        (&[("open_for", "1s"), ("max_open_for", "1s")], 0),
    ] {
        let bench = Bench::new(&with(&[]));
        Stand::Open.bring(&bench).await;
        bench.reload(&with(change));
        if left > 0 {
            ms(left - 1).await;
            assert_eq!(bench.state(1), State::Open, "{change:?}");
            assert_eq!(bench.get("GET /").await.reason(), "breaker_open");
            ms(1).await;
        }
        assert_eq!(bench.state(1), State::HalfOpen, "{change:?}");
        assert_eq!(bench.get("GET /").await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_81_more_or_fewer_probes() {
    // One of two has succeeded, and one is under way: with one asked for, the next success closes.
    let bench = Bench::new(&with(&[]));
    let probe = Stand::Probing.bring(&bench).await.unwrap();
    bench.reload(&with(&[("probes", "1")]));
    assert_eq!(
        bench.get("GET /").await.reason(),
        "breaker_open",
        "one at a time"
    );
    probe.await.unwrap();
    assert_eq!(bench.state(1), State::Closed);
    // With four asked for, three more are needed, and four may be under way.
    let bench = Bench::new(&with(&[]));
    Stand::HalfOpen.bring(&bench).await;
    bench.reload(&with(&[("probes", "4")]));
    let slow = [100, 200, 300, 400].map(|millis| answer(200).after(millis));
    bench.endpoint(1).will(slow);
    let more: Vec<_> = (0..5).map(|_| bench.start("GET /")).collect();
    ms(1).await;
    let refused = more.iter().filter(|one| one.is_finished()).count();
    assert_eq!(refused, 1);
    ms(200).await;
    assert_eq!(bench.state(1), State::HalfOpen, "three of four");
    ms(100).await;
    assert_eq!(bench.state(1), State::Closed);
    for one in more {
        one.await.unwrap();
    }
    // A probe that is under way is judged by the configuration that it began with (rule 82).
    let bench = Bench::new(&with(&[]));
    let probe = Stand::Probing.bring(&bench).await.unwrap();
    bench.reload(&with(&[("probes", "4")]));
    probe.await.unwrap();
    assert_eq!(bench.state(1), State::Closed, "the second of two");
}

#[tokio::test(start_paused = true)]
async fn rule_81_a_ramp_goes_on_at_the_new_pace() {
    for (ramp, share) in [
        ("20s", 0.325),
        ("10s", 0.55),
        ("90s", 0.15),
        ("5s", 1.0),
        ("0s", 1.0),
    ] {
        let bench = Bench::new(&with(&[]));
        Stand::Ramping.bring(&bench).await;
        bench.reload(&with(&[("ramp", ramp)]));
        let now = bench.breaker(1).share;
        assert!((now - share).abs() < 1e-9, "{ramp}: {now}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_81_switched_off_everything_goes_and_on_again_the_open_one_is_still_open() {
    let off = yaml(1, "circuit_breaker: off");
    let bench = Bench::new(&with(&[]));
    Stand::Open.bring(&bench).await;
    bench.reload(&off);
    asks(&bench, 200, 3).await;
    asks(&bench, 500, 3).await;
    ms(3_000).await;
    bench.reload(&with(&[]));
    let breaker = bench.breaker(1);
    assert_eq!((breaker.state, breaker.opens_in_a_row), (State::Open, 1));
    assert_eq!(breaker.retry_in.unwrap().as_millis(), 3_000);
    assert_eq!(bench.get("GET /").await.reason(), "breaker_open");
    ms(3_000).await;
    asks(&bench, 200, 2).await;
    assert_eq!(bench.state(1), State::Closed);
    // A probe that began before it was switched off is judged by its own configuration.
    let bench = Bench::new(&with(&[]));
    let probe = Stand::Probing.bring(&bench).await.unwrap();
    bench.reload(&off);
    asks(&bench, 500, 5).await;
    probe.await.unwrap();
    bench.reload(&with(&[]));
    assert_eq!(bench.state(1), State::Closed, "it was the second success");
}

#[tokio::test(start_paused = true)]
async fn rule_81_an_operators_hand_outlives_reloads() {
    for forced in [Forced::Open, Forced::Closed] {
        let bench = Bench::new(&with(&[]));
        bench.force(1, Some(forced));
        for text in [
            with(&[("probes", "1")]),
            yaml(1, "circuit_breaker: off"),
            with(&[]),
        ] {
            bench.reload(&text);
        }
        assert_eq!(bench.breaker(1).forced, Some(forced));
        let reason = if forced == Forced::Open {
            "breaker_open"
        } else {
            ""
        };
        assert_eq!(bench.get("GET /").await.reason(), reason);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_43_how_many_may_be_open_changes_with_the_setting_and_with_the_endpoints() {
    let text = |endpoints: u8, share: &str| {
        let line = format!(
            "circuit_breaker: {{ consecutive_failures: 1, open_for: 60s, max_open_for: 60s, max_open: {share} }}\nbalance: round_robin"
        );
        yaml(endpoints, &line)
    };
    let open = |bench: &Bench, endpoints: u8| {
        let states = (1..=endpoints).map(|number| bench.state(number));
        states.filter(|state| *state == State::Open).count()
    };
    let bench = Bench::new(&text(4, "50%"));
    (1..=4).for_each(|number| bench.endpoint(number).always(answer(500)));
    let ask = async || {
        for _ in 0..8 {
            bench.get("GET /").await;
        }
    };
    ask().await;
    assert_eq!(open(&bench, 4), 2);
    bench.reload(&text(4, "75%"));
    ask().await;
    assert_eq!(open(&bench, 4), 3);
    bench.reload(&text(4, "100%"));
    ask().await;
    assert_eq!(open(&bench, 4), 4);
    // None is closed by a share that shrinks; new endpoints come in closed and keep their place.
    bench.reload(&text(4, "25%"));
    assert_eq!(open(&bench, 4), 4);
    bench.reload(&text(6, "25%"));
    (5..=6).for_each(|number| bench.endpoint(number).always(answer(500)));
    ask().await;
    assert_eq!(open(&bench, 6), 4, "the two that are left may not");
}

#[tokio::test(start_paused = true)]
async fn rule_81_what_happens_when_all_are_open_changes_with_the_reload() {
    let bench = Bench::new(&with(&[]));
    Stand::Open.bring(&bench).await;
    assert_eq!(bench.get("GET /").await.reason(), "breaker_open");
    bench.reload(&with(&[("when_all_open", "send_anyway")]));
    assert_eq!(bench.get("GET /").await.status, 200);
    assert_eq!(bench.state(1), State::Open);
    bench.reload(&with(&[]));
    assert_eq!(bench.get("GET /").await.reason(), "breaker_open");
}

#[tokio::test(start_paused = true)]
async fn rule_68_an_endpoint_that_leaves_and_comes_back_while_it_is_used_keeps_its_memory() {
    let bench = Bench::new(&with(&[]));
    Stand::Closed.bring(&bench).await;
    bench.endpoint(1).will([answer(500).after(100)]);
    let under_way = bench.start("GET /");
    ms(50).await;
    let elsewhere = with(&[]).replace("10.0.0.1", "10.0.0.2");
    bench.reload(&elsewhere);
    assert_eq!(bench.get("GET /").await.status, 200);
    assert_eq!(bench.endpoint(2).count(), 1);
    bench.reload(&with(&[]));
    assert_eq!(under_way.await.unwrap().status, 500);
    assert_eq!(bench.state(1), State::Open, "the third in a row");
    bench.settle(4).await;
}
