//! What is known of each endpoint, for the page and the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Member, Roster};
use crate::policy::breaker::{self, Cause, Counts, Forced, Gate, State};
use crate::policy::health::{Health, Standing, Verdict};

/// What is known of one endpoint, for the page and the metrics.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its address.
    pub endpoint: Arc<str>,
    /// Its configured weight.
    pub weight: u32,
    /// Tries under way.
    pub in_flight: u32,
    /// It has left the upstream; its last requests still run.
    pub leaving: bool,
    /// Its breaker; `None`: off.
    pub breaker: Option<BreakerReading>,
    /// What its health checks showed; `None`: it is not checked.
    pub health: Option<HealthReading>,
}

/// What is known of one breaker.
#[derive(Debug, Clone)]
pub struct BreakerReading {
    /// Where it stands.
    pub state: State,
    /// Why it opened last.
    pub cause: Option<Cause>,
    /// What would have opened it, had `max_open` let one more endpoint of the upstream open.
    pub held: Option<Cause>,
    /// Since when it has not been closed; `None`: it is.
    pub since: Option<Instant>,
    /// Until the next probe, while open.
    pub retry_in: Option<Duration>,
    /// The operator's hand.
    pub forced: Option<Forced>,
    /// Openings in a row.
    pub opens_in_a_row: u32,
    /// What its window holds.
    pub counts: Counts,
    /// The share of its traffic that it gets, 0 to 1: less than 1 while it warms up after closing.
    pub share: f64,
}

/// What the health checks of one endpoint showed.
#[derive(Debug, Clone)]
pub struct HealthReading {
    /// What they make of it.
    pub standing: Standing,
    /// The last failure since it was healthy.
    pub verdict: Option<Verdict>,
    /// Until the next check; `None`: none is planned.
    pub next_in: Option<Duration>,
    /// Successes since the last failure.
    pub passes: u32,
    /// Failures since the last success.
    pub failures: u32,
}

impl HealthReading {
    fn of(health: &Health, now: Instant) -> Self {
        Self {
            standing: health.standing(),
            verdict: health.verdict().cloned(),
            next_in: health.next_in(now),
            passes: health.passes(),
            failures: health.failures(),
        }
    }
}

impl Roster {
    /// What is known of each endpoint now.
    pub fn readings(&self, settings: Option<&breaker::Settings>, now: Instant) -> Vec<Reading> {
        let mut members = self.members.lock();
        // Counted once: there may be a thousand, and each of them held.
        let open = settings.map(|settings| members.open_beside(None, settings, now));
        let held = |member: &mut Member| {
            let (settings, (open, endpoints)) = (settings?, open?);
            let others = open - usize::from(member.is_named() && member.is_out());
            let cause = member.breaker.would_open(settings, now)?;
            (!breaker::may_open(others, endpoints, settings.max_open)).then_some(cause)
        };
        let readings = members.list.iter_mut().map(|member| {
            let held = held(member);
            member.reading(settings, held, now)
        });
        readings.collect()
    }
}

impl Member {
    /// Looking must not move a breaker: only one that reads closed is asked for its share.
    fn share_when_closed(&mut self, settings: &breaker::Settings, now: Instant) -> f64 {
        if self.breaker.state(settings, now) != State::Closed {
            return 0.0;
        }
        match self.breaker.gate(settings, now).0 {
            Gate::Closed { share } => share,
            Gate::Probing | Gate::Shut => 0.0,
        }
    }

    fn reading(
        &mut self,
        settings: Option<&breaker::Settings>,
        held: Option<Cause>,
        now: Instant,
    ) -> Reading {
        let breaker = settings.map(|settings| BreakerReading {
            state: self.breaker.state(settings, now),
            cause: self.breaker.cause().cloned(),
            held,
            since: self.breaker.since(),
            retry_in: self.breaker.retry_in(now),
            forced: self.breaker.forced(),
            opens_in_a_row: self.breaker.opens_in_a_row(),
            counts: self.breaker.counts(settings, now),
            share: self.share_when_closed(settings, now),
        });
        Reading {
            endpoint: Arc::clone(&self.endpoint.label),
            weight: self.weight,
            in_flight: self.in_flight,
            leaving: self.leaving,
            breaker,
            health: self.health.as_ref().map(|one| HealthReading::of(one, now)),
        }
    }
}
