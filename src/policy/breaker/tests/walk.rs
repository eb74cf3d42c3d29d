//! Random walks: whatever a caller and an operator do, some things hold.

use super::*;

/// One walk: a breaker, the calls under way, and what an observer has noted down.
struct Walk {
    random: fastrand::Rng,
    s: Settings,
    breaker: Breaker,
    now: Instant,
    /// Tickets with the era (counted by the observer) that they were given out in, and whether as
    /// probes.
    out: Vec<(Ticket, u32, bool)>,
    era: u32,
    told: State,
    opened_at: Instant,
}

fn settings(random: &mut fastrand::Rng) -> Settings {
    let some = |random: &mut fastrand::Rng, count| random.bool().then_some(count);
    let milliseconds = |random: &mut fastrand::Rng| Duration::from_millis(random.u64(1..2000));
    let consecutive = random.u32(1..6);
    let (failure_rate, slow_rate) = (random.f64().max(0.01), random.f64().max(0.01));
    Settings {
        consecutive_failures: some(random, consecutive),
        failure_rate: random.bool().then_some(failure_rate),
        slow_rate: random.bool().then_some(slow_rate),
        slow_call: random.bool().then(|| milliseconds(random)),
        peer_deviation: None,
        window: milliseconds(random),
        min_requests: random.u32(1..10),
        open_for: milliseconds(random),
        max_open_for: milliseconds(random) * 3,
        probes: random.u32(1..5),
        ramp: milliseconds(random),
        ..Settings::default()
    }
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = crate::clock::now();
        Self {
            s: settings(&mut random),
            random,
            breaker: Breaker::new(),
            now,
            out: Vec::new(),
            era: 0,
            told: State::Closed,
            opened_at: now,
        }
    }

    fn probes_out(&self) -> usize {
        self.out
            .iter()
            .filter(|(_, era, probe)| *probe && *era == self.era)
            .count()
    }

    /// Notes a transition that the breaker told of by itself.
    fn tell(&mut self, told: Option<Transition>) {
        let Some(Transition { from, to }) = told else {
            return;
        };
        assert_eq!(from, self.told);
        let lawful = matches!(
            (from, to),
            (State::Closed | State::HalfOpen, State::Open)
                | (State::Open, State::HalfOpen)
                | (State::HalfOpen, State::Closed)
        );
        assert!(lawful, "{from:?} to {to:?}");
        self.note(to);
    }

    fn note(&mut self, to: State) {
        self.told = to;
        self.era += 1;
        if to == State::Open {
            self.opened_at = self.now;
        }
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..45 => self.call(),
            45..75 => self.end_one(),
            75..80 => self.bypass(),
            80..84 => {
                let (may_open, chance) = (self.random.bool(), self.random.f64());
                let told = self
                    .breaker
                    .late_failure(&self.s, self.now, may_open, chance);
                self.tell(told);
            }
            84..97 => self.now += Duration::from_micros(self.random.u64(0..400_000)),
            97 => self.s = settings(&mut self.random),
            98 => self.force(),
            _ => self.now += Duration::from_millis(self.random.u64(0..5_000)),
        }
        self.check();
    }

    fn call(&mut self) {
        let (gate, told) = self.breaker.gate(&self.s, self.now);
        self.tell(told);
        let ticket = self.breaker.admit(&self.s, self.now);
        assert_eq!(
            ticket.is_some(),
            gate != Gate::Shut,
            "the gate says what admit does"
        );
        match gate {
            Gate::Closed { share } => assert!(share > 0.0 && share <= 1.0, "{share}"),
            Gate::Probing => assert!(self.probes_out() < self.s.probes as usize),
            Gate::Shut if self.told == State::HalfOpen => {
                assert!(
                    self.probes_out() >= self.s.probes as usize,
                    "a place was lost"
                );
            }
            Gate::Shut => assert_eq!(self.told, State::Open),
        }
        self.out
            .extend(ticket.map(|ticket| (ticket, self.era, gate == Gate::Probing)));
    }

    fn bypass(&mut self) {
        self.out.push((self.breaker.bypass(), self.era, false));
    }

    fn end_one(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let (ticket, era, probe) = self.out.swap_remove(self.random.usize(0..self.out.len()));
        let before = format!("{:?}", self.breaker);
        let counts_for_something = era == self.era && (probe || self.told == State::Closed);
        if self.random.u32(0..4) == 0 {
            self.breaker.release(ticket);
        } else {
            let outcome = match self.random.u32(0..5) {
                0 | 1 => Outcome::Failure,
                2 | 3 => Outcome::Success,
                _ => Outcome::Ignored,
            };
            let took = Duration::from_millis(self.random.u64(0..3000));
            let (may_open, chance) = (self.random.u32(0..4) > 0, self.random.f64());
            let (s, seen) = (&self.s, Observation { outcome, took });
            let told = self
                .breaker
                .settle(s, self.now, ticket, seen, may_open, None, chance);
            if let Some(Transition {
                from: State::Closed,
                ..
            }) = told
            {
                assert!(may_open);
            }
            self.tell(told);
        }
        if !counts_for_something {
            assert_eq!(
                format!("{:?}", self.breaker),
                before,
                "a stale ticket changed something"
            );
        }
    }

    fn force(&mut self) {
        let forced = match self.random.u32(0..4) {
            0 => Some(Forced::Open),
            1 => Some(Forced::Closed),
            _ => None,
        };
        let changes = forced != self.breaker.forced();
        let told = self.breaker.force(forced, self.now);
        assert!(changes || told.is_none());
        if changes {
            self.note(match forced {
                Some(Forced::Open) => State::Open,
                Some(Forced::Closed) | None => State::Closed,
            });
        }
    }

    fn check(&mut self) {
        let state = self.breaker.state(&self.s, self.now);
        let time_has_come = self.told == State::Open && state == State::HalfOpen;
        assert!(
            state == self.told || time_has_come,
            "{state:?} but told {:?}",
            self.told
        );
        assert!(
            self.probes_out() <= 4,
            "never more than any setting of probes"
        );
        assert_eq!(self.breaker.cause().is_some(), self.told != State::Closed);
        if self.breaker.forced().is_none() && state == State::Open {
            let open = self.now - self.opened_at;
            assert!(
                open < self.s.max_open_for,
                "open for {open:?} of {:?}",
                self.s.max_open_for
            );
            let wait = self.breaker.retry_in(self.now);
            assert!(
                wait.is_some_and(|wait| wait <= Duration::from_secs(6)),
                "{wait:?}"
            );
        } else {
            assert!(self.breaker.retry_in(self.now).is_none() || self.told == State::Open);
        }
        let counts = self.breaker.counts(&self.s, self.now);
        assert!(counts.failures <= counts.requests && counts.slow <= counts.requests);
        if self.told != State::Closed {
            assert_eq!(counts, Counts::default(), "only a closed breaker counts");
        }
    }

    /// Whatever happened: once the hand is lifted and no call is under way, as many good probes as
    /// are asked for close it.
    fn recovers(mut self) {
        for (ticket, _, _) in std::mem::take(&mut self.out) {
            self.breaker.release(ticket);
        }
        if self.breaker.forced().is_some() {
            let _ = self.breaker.force(None, self.now);
        }
        self.now += self.s.max_open_for;
        for _ in 0..self.s.probes {
            let (gate, _) = self.breaker.gate(&self.s, self.now);
            assert_ne!(gate, Gate::Shut, "locked: {:?}", self.breaker);
            let ticket = self.breaker.admit(&self.s, self.now).unwrap();
            let seen = Observation {
                outcome: Outcome::Success,
                took: Duration::ZERO,
            };
            let _ = self
                .breaker
                .settle(&self.s, self.now, ticket, seen, true, None, 0.0);
        }
        assert_eq!(self.breaker.state(&self.s, self.now), State::Closed);
    }
}

#[test]
fn whatever_happens_the_breaker_keeps_its_word() {
    let mut seen = [0_u32; 3];
    for seed in 0..300 {
        let mut walk = Walk::new(seed);
        for _ in 0..400 {
            walk.step();
            seen[walk.told as usize] += 1;
        }
        walk.recovers();
    }
    assert!(
        seen.iter().all(|steps| *steps > 5_000),
        "the walks must visit each state: {seen:?}"
    );
}
