//! Who may be chosen, who may open, and what a change of the endpoints leaves.

use std::net::SocketAddr;

use super::super::*;

fn address(number: u8) -> SocketAddress {
    SocketAddr::from(([10, 0, 0, number], 80)).into()
}

fn set(roster: &Roster, numbers: impl IntoIterator<Item = u8>) {
    let addresses: Vec<_> = numbers
        .into_iter()
        .map(|number| (address(number), 1).into())
        .collect();
    roster.set(&addresses);
}

fn roster(endpoints: u8) -> Arc<Roster> {
    let roster = Roster::new(1);
    set(&roster, 1..=endpoints);
    roster
}

fn quick() -> breaker::Settings {
    breaker::Settings {
        consecutive_failures: Some(1),
        failure_rate: None,
        open_for: Duration::from_secs(10),
        max_open_for: Duration::from_secs(10),
        max_open: 1.0,
        probes: 1,
        ..breaker::Settings::default()
    }
}

/// A request's choice.
struct Asks<'a> {
    roster: &'a Arc<Roster>,
    settings: Arc<breaker::Settings>,
    now: Instant,
}

impl<'a> Asks<'a> {
    fn of(roster: &'a Arc<Roster>, settings: breaker::Settings) -> Self {
        let (settings, now) = (Arc::new(settings), crate::clock::now());
        Self {
            roster,
            settings,
            now,
        }
    }

    fn pick(&self, tried: &[u64], chance: f64) -> Result<Admission, Refusal> {
        let wish = Wish {
            breaker: Some(&self.settings),
            balance: &balance::Settings::Random,
            hash: None,
            tried,
        };
        self.roster.pick(&wish, self.now, [chance; 2]).0
    }

    /// Which endpoints chance can choose.
    fn choices(&self, tried: &[u8]) -> Vec<u8> {
        let endpoints = self.roster.endpoints();
        let key = |number: &u8| {
            let mut endpoints = endpoints.iter();
            endpoints
                .find(|one| one.address == address(*number))
                .map(|one| one.key)
        };
        let tried: Vec<u64> = tried.iter().filter_map(key).collect();
        let mut found: Vec<u8> = (0..100)
            .filter_map(|percent| self.pick(&tried, f64::from(percent) / 100.0).ok())
            .map(|admission| number(&admission))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The try of an endpoint fails.
    fn fail(&self, endpoint: u8) -> Option<Move> {
        let all: Vec<u64> = self.roster.endpoints().iter().map(|one| one.key).collect();
        let mut admissions = Vec::new();
        // All are held until the one is found, so that each draw can be another.
        for percent in 0..100 {
            let admission = self.pick(&[], f64::from(percent) / 100.0).ok()?;
            if number(&admission) == endpoint {
                return admission.settle(seen(Outcome::Failure), self.now, 0.0);
            }
            admissions.push(admission);
        }
        panic!("endpoint {endpoint} is never chosen among {}", all.len());
    }

    /// Those that stay closed though they would open, and why they would.
    fn held(&self) -> Vec<String> {
        let readings = self.roster.readings(Some(&self.settings), self.now);
        let held = readings.iter().filter_map(|reading| {
            let cause = reading.breaker.as_ref()?.held.as_ref()?;
            Some(format!("{}: {cause}", reading.endpoint))
        });
        held.collect()
    }

    fn open(&self) -> Vec<u8> {
        let readings = self.roster.readings(Some(&self.settings), self.now);
        let open = readings.iter().filter(|reading| {
            let breaker = reading.breaker.as_ref();
            breaker.is_some_and(|breaker| breaker.state != State::Closed)
        });
        open.map(|reading| reading.endpoint.split('.').nth(3).unwrap())
            .map(|rest| rest.split(':').next().unwrap().parse().unwrap())
            .collect()
    }
}

fn number(admission: &Admission) -> u8 {
    match admission
        .endpoint()
        .address
        .ip()
        .map(|address| address.ip())
    {
        Some(std::net::IpAddr::V4(ip)) => ip.octets()[3],
        Some(std::net::IpAddr::V6(_)) | None => 0,
    }
}

fn seen(outcome: Outcome) -> Observation {
    let took = Duration::from_millis(1);
    Observation { outcome, took }
}

#[test]
fn rule_28_those_that_were_tried_come_last_but_rather_than_none() {
    let roster = roster(3);
    let asks = Asks::of(&roster, quick());
    assert_eq!(asks.choices(&[]), [1, 2, 3]);
    assert_eq!(asks.choices(&[2]), [1, 3]);
    assert_eq!(asks.choices(&[1, 3]), [2]);
    assert_eq!(asks.choices(&[1, 2, 3]), [1, 2, 3]);
    asks.fail(3);
    assert_eq!(asks.choices(&[1, 2]), [1, 2], "the only other one is open");
    assert_eq!(asks.choices(&[1]), [2]);
}

/// What a source names no more is asked when nothing else can be, and not instead of another try.
#[test]
fn rule_68_those_that_are_only_kept_come_last_but_rather_than_none() {
    let roster = Roster::new(1);
    let weighed = |weights: [u32; 4]| {
        let numbers = (1..).map(address);
        let places = numbers.zip(weights).map(Place::from);
        roster.set(&places.collect::<Vec<_>>());
    };
    weighed([1, 1, 0, 0]);
    let asks = Asks::of(&roster, quick());
    assert_eq!(asks.choices(&[]), [1, 2]);
    assert_eq!(asks.choices(&[1]), [2]);
    assert_eq!(asks.choices(&[1, 2]), [1, 2]);
    asks.fail(1);
    asks.fail(2);
    assert_eq!(asks.choices(&[]), [3, 4], "alike among themselves");
    assert_eq!(asks.choices(&[3]), [4]);
    weighed([0, 0, 1, 0]);
    assert_eq!(asks.choices(&[]), [3]);
}

/// Of two that are named one may open, however many are kept beside them.
#[test]
fn rule_43_those_that_are_only_kept_make_up_for_none_that_opens() {
    let roster = Roster::new(1);
    let numbers = (1..).map(address);
    let places = numbers.zip([1, 1, 0, 0, 0, 0]).map(Place::from);
    roster.set(&places.collect::<Vec<_>>());
    let half = breaker::Settings {
        max_open: 0.5,
        ..quick()
    };
    let asks = Asks::of(&roster, half);
    asks.fail(1);
    asks.fail(2);
    assert_eq!(asks.open(), [1]);
    assert_eq!(asks.choices(&[]), [2]);
}

#[test]
fn rule_45_when_all_are_open_it_is_refuse_or_send_anyway() {
    let roster = roster(2);
    let mut asks = Asks::of(&roster, quick());
    asks.fail(1);
    asks.fail(2);
    let refusal = asks.pick(&[], 0.0).expect_err("all are open");
    let Refusal::BreakerOpen { cause, retry_in } = refusal else {
        panic!("{refusal:?}");
    };
    assert_eq!(
        cause.map(|cause| cause.to_string()).as_deref(),
        Some("1 failure")
    );
    assert_eq!(retry_in, Some(Duration::from_secs(10)));
    asks.settings = Arc::new(breaker::Settings {
        when_all_open: WhenAllOpen::SendAnyway,
        ..quick()
    });
    assert_eq!(asks.choices(&[]), [1, 2]);
    assert_eq!(asks.choices(&[1]), [1, 2], "nobody is preferred then");
    let anyway = asks.pick(&[], 0.0).expect("sent anyway");
    assert!(
        anyway
            .settle(seen(Outcome::Success), asks.now, 0.0)
            .is_none()
    );
    assert_eq!(asks.open(), [1, 2], "it proves nothing");
    set(&roster, []);
    assert!(matches!(asks.pick(&[], 0.0), Err(Refusal::NoEndpoint)));
}

#[test]
fn rule_43_so_many_may_be_open_and_not_one_more() {
    for (endpoints, share, most) in [
        (1, 0.1, 1),
        (2, 0.5, 1),
        (2, 1.0, 2),
        (3, 0.99, 2),
        (4, 0.5, 2),
        (10, 0.05, 1),
        (10, 0.3, 3),
        (10, 0.999, 9),
    ] {
        let roster = roster(endpoints);
        let asks = Asks::of(
            &roster,
            breaker::Settings {
                max_open: share,
                ..quick()
            },
        );
        for endpoint in 1..=endpoints {
            let opened = asks.fail(endpoint).is_some();
            assert_eq!(
                opened,
                usize::from(endpoint) <= most,
                "{endpoint} of {endpoints}"
            );
        }
        assert_eq!(asks.open().len(), most);
        let held = usize::from(endpoints) - most;
        assert_eq!(asks.held().len(), held, "{share} of {endpoints}");
    }
}

/// What stays closed for its peers' sake is told as such, and no longer than that is so.
#[test]
fn rule_43_what_would_open_is_told() {
    let roster = roster(2);
    let half = breaker::Settings {
        max_open: 0.5,
        ..quick()
    };
    let mut asks = Asks::of(&roster, half);
    asks.fail(1);
    assert!(asks.held().is_empty(), "the second works");
    asks.fail(2);
    assert_eq!(asks.held(), ["10.0.0.2:80: 1 failure"]);
    asks.settings = Arc::new(breaker::Settings {
        max_open: 1.0,
        ..quick()
    });
    assert!(asks.held().is_empty(), "its next failure opens it");
    asks.fail(2);
    assert_eq!(asks.open(), [1, 2]);
    assert!(asks.held().is_empty(), "it is open");
}

#[test]
fn rule_43_those_that_leave_make_room_for_others_to_open() {
    let roster = roster(4);
    let asks = Asks::of(
        &roster,
        breaker::Settings {
            max_open: 0.5,
            ..quick()
        },
    );
    asks.fail(1);
    asks.fail(2);
    assert!(asks.fail(3).is_none());
    // Five and six come, one and two go: of four, none is open.
    set(&roster, 3..=6);
    assert!(asks.fail(3).is_some());
    assert!(asks.fail(4).is_some());
    assert!(asks.fail(5).is_none());
    // Of two that are left, one is open.
    set(&roster, [4, 5]);
    assert!(asks.fail(5).is_none(), "never the last one");
}

#[test]
fn rule_68_what_stays_keeps_its_memory_and_what_leaves_finishes_first() {
    let roster = roster(2);
    let asks = Asks::of(&roster, quick());
    asks.fail(1);
    let busy = asks.pick(&[], 0.0).expect("the second");
    assert_eq!(number(&busy), 2);
    roster.set(&[(address(1), 5).into(), (address(3), 1).into()]);
    assert_eq!(asks.open(), [1], "and its new weight is");
    let readings = roster.readings(None, asks.now);
    let state: Vec<_> = readings
        .iter()
        .map(|one| (&*one.endpoint, one.weight, one.in_flight, one.leaving))
        .collect();
    let expected = [
        ("10.0.0.1:80", 5, 0, false),
        ("10.0.0.2:80", 1, 1, true),
        ("10.0.0.3:80", 1, 0, false),
    ];
    assert_eq!(state, expected);
    assert_eq!(asks.choices(&[]), [3], "not the one that leaves");
    assert!(
        roster
            .force(&address(2).to_string(), Some(Forced::Open), asks.now)
            .is_none()
    );
    busy.settle(seen(Outcome::Failure), asks.now, 0.0);
    assert_eq!(roster.endpoints().len(), 2, "and then it is forgotten");
    // One that comes back while it is used is the same as before; later it is a new one.
    let busy = asks.pick(&[], 0.0).expect("the third");
    set(&roster, [1]);
    set(&roster, [1, 3]);
    busy.settle(seen(Outcome::Failure), asks.now, 0.0);
    assert_eq!(asks.open(), [1, 3]);
    set(&roster, [1]);
    set(&roster, [1, 3]);
    assert_eq!(asks.open(), [1]);
}

#[test]
fn walk_nothing_is_lost_whatever_the_order() {
    let mut rng = fastrand::Rng::with_seed(38);
    for round in 0..60 {
        let roster = roster(4);
        let probes = rng.u32(1..4);
        let mut asks = Asks::of(
            &roster,
            breaker::Settings {
                consecutive_failures: Some(rng.u32(1..4)),
                open_for: Duration::from_secs(1),
                max_open: [0.3, 0.5, 1.0][rng.usize(..3)],
                probes,
                ..quick()
            },
        );
        let mut held: Vec<Admission> = Vec::new();
        for _ in 0..400 {
            asks.now += Duration::from_millis(rng.u64(..200));
            match rng.usize(..20) {
                0..9 => held.extend(asks.pick(&[], rng.f64())),
                9..16 if !held.is_empty() => {
                    let one = held.swap_remove(rng.usize(..held.len()));
                    let outcomes = [Outcome::Success, Outcome::Failure, Outcome::Ignored];
                    let outcome = outcomes[rng.usize(..3)];
                    one.settle(seen(outcome), asks.now, rng.f64());
                }
                16..18 if !held.is_empty() => drop(held.swap_remove(rng.usize(..held.len()))),
                18 => set(&roster, (1..=5).filter(|_| rng.u8(..4) > 0)),
                _ => {
                    let forced = [None, Some(Forced::Open), Some(Forced::Closed)];
                    let forced = forced[rng.usize(..3)].filter(|_| rng.u8(..4) == 0);
                    roster.force(&address(rng.u8(1..=5)).to_string(), forced, asks.now);
                }
            }
            let readings = roster.readings(Some(&asks.settings), asks.now);
            for reading in &readings {
                let ours = held
                    .iter()
                    .filter(|one| one.endpoint().label == reading.endpoint);
                let in_flight = usize::try_from(reading.in_flight).unwrap();
                assert_eq!(in_flight, ours.count(), "round {round}");
                assert!(!reading.leaving || in_flight > 0, "gone ones are forgotten");
            }
        }
        // When all is done and time has passed, each place for a probe is there again.
        held.clear();
        set(&roster, 1..=4);
        (1..=4).for_each(|number| drop(roster.force(&address(number).to_string(), None, asks.now)));
        asks.now += Duration::from_secs(60);
        if let Some(endpoint) = asks.open().first() {
            set(&roster, [*endpoint]);
            let many: Vec<_> = (0..probes + 1).map(|_| asks.pick(&[], 0.0)).collect();
            let admitted = many.iter().filter(|one| one.is_ok()).count();
            assert_eq!(admitted, probes as usize, "round {round}");
        }
    }
}

fn checks() -> Arc<health::Settings> {
    Arc::new(health::Settings {
        question: health::Question {
            kind: health::Kind::Tcp,
            port: None,
            host: None,
        },
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        healthy_after: 1,
        unhealthy_after: 1,
    })
}

/// What an operator is told of a choice names what holds: the breaker, the health check, or neither.
#[test]
fn what_leaves_endpoints_aside_is_told_apart() {
    let roster = Roster::new(1);
    let numbers = (1..).map(address);
    let places = numbers.zip([1, 1, 1, 1, 1, 0]).map(Place::from);
    roster.set(&places.collect::<Vec<_>>());
    let checks = checks();
    roster.check_by(Some(&checks));
    let endpoints = roster.endpoints();
    let keys: Vec<u64> = endpoints.iter().map(|one| one.key).collect();
    let check = |place: usize, seen| drop(roster.checked(&endpoints[place], &checks, seen));
    for healthy in [0, 1, 2, 5] {
        check(healthy, Ok(()));
    }
    check(3, Err(health::Fault::Answered(503)));
    let mut asks = Asks::of(&roster, quick());
    asks.fail(2);
    let told = |asks: &Asks<'_>, tried: &[u64]| {
        let picked = asks.pick(tried, 0.0).expect("one is left").picked();
        (picked.tried, picked.shut, picked.unhealthy, picked.later)
    };
    // The fifth is not checked yet, and the sixth is only kept.
    assert_eq!(told(&asks, &[]), (0, 1, 1, 2));
    assert_eq!(told(&asks, &keys[..1]), (1, 1, 1, 2));
    let all_tried = [keys[0], keys[2]];
    asks.fail(1);
    asks.fail(3);
    assert_eq!(
        told(&asks, &all_tried),
        (2, 1, 1, 1),
        "the one that is kept"
    );
    asks.fail(6);
    asks.fail(5);
    asks.settings = Arc::new(breaker::Settings {
        when_all_open: WhenAllOpen::SendAnyway,
        ..quick()
    });
    assert_eq!(told(&asks, &all_tried), (0, 0, 1, 0), "any may be asked");
}

/// Who checks it sleeps until the next check of what was there before: it has to notice.
#[test]
fn rule_53_one_that_comes_back_while_it_is_used_is_checked_as_a_new_one() {
    let roster = roster(2);
    let checks = checks();
    roster.check_by(Some(&checks));
    let endpoint = || Arc::clone(&roster.endpoints()[1]);
    let asks = Asks::of(&roster, quick());
    asks.fail(1);
    let (before, busy) = (endpoint(), asks.pick(&[], 0.0).expect("the second"));
    set(&roster, [1]);
    set(&roster, [1, 2]);
    assert!(!Arc::ptr_eq(&before, &endpoint()));
    assert_eq!(before.key, endpoint().key);
    // A check of what was there before ends.
    assert!(roster.checked(&before, &checks, Ok(())).is_none());
    assert!(roster.checked(&endpoint(), &checks, Ok(())).is_some());
    busy.settle(seen(Outcome::Failure), asks.now, 0.0);
    assert_eq!(asks.open(), [1, 2], "what was learnt of it stays");
    let before = endpoint();
    set(&roster, [2, 1]);
    assert!(
        Arc::ptr_eq(&before, &endpoint()),
        "one that stays is the same"
    );
}

/// Every reload says again where the endpoints are.
#[tokio::test(start_paused = true)]
async fn rule_81_endpoints_that_are_the_same_as_before_are_not_touched() {
    let roster = roster(2);
    let changed = async || {
        let changed = tokio::time::timeout(Duration::ZERO, roster.changed());
        changed.await.is_ok()
    };
    assert!(changed().await);
    set(&roster, [1, 2]);
    assert!(!changed().await);
    set(&roster, [1, 3]);
    assert!(changed().await);
}

/// An admission finds its endpoint again however others have come and gone.
#[test]
fn rule_38_a_try_is_given_back_to_its_endpoint_wherever_that_is_by_now() {
    let roster = roster(3);
    let asks = Asks::of(&roster, quick());
    let last = asks.pick(&[], 0.99).expect("the third");
    assert_eq!(number(&last), 3);
    set(&roster, [3, 4]);
    last.settle(seen(Outcome::Failure), asks.now, 0.0);
    assert_eq!(asks.open(), [3]);
    let in_flight = |one: &Reading| one.in_flight;
    let readings = roster.readings(None, asks.now);
    assert_eq!(readings.iter().map(in_flight).collect::<Vec<_>>(), [0, 0]);
}
