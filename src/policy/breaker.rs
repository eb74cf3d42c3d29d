//! When an endpoint is left alone.
//!
//! ```text
//!              a trigger fires, and max_open allows it
//!     closed ────────────────────────────────────────────▶ open ◀──────┐
//!       ▲                                                   │          │
//!       │                                   open_for is over │          │ a probe fails
//!       │                                                   ▼          │
//!       └──────────────────────────────────────────────── half-open ───┘
//!                      `probes` probes succeeded
//! ```
//!
//! - **Closed**: every result is counted. A trigger is looked at when a call has failed (the slow
//!   rate: when a call was slow), so success alone never opens a breaker. Where `max_open` forbids
//!   the opening it stays closed and the next failure asks again.
//! - **Open**: nothing goes through until `open_for` is over, to the nanosecond (rule 10). That
//!   time doubles with each opening in a row up to `max_open_for`, plus up to 10 % so that
//!   endpoints do not come back all at once. The row ends only on evidence: `min_requests`
//!   successes after it has closed (rule 42).
//! - **Half-open**: at most `probes` calls at a time; so many successes close it, one failure opens
//!   it again. A probe that taught nothing gives its place back (rule 38). Where slow calls count,
//!   a slow probe is a failed one.
//! - Each change begins a new era with clean counts (rule 40). A [`Ticket`] belongs to the era that
//!   it was given out in; what it brings home later is not heard (rule 37).
//!
//! Settings come in with each call, so a reload takes effect in place (rule 81): thresholds at the
//! next result, `probes` at the next probe (fewer than have succeeded already: the next success
//! closes). An open breaker stays open as long as it was told, but in all never longer than the
//! present `max_open_for`.

use std::time::{Duration, Instant};

use super::outcome::Outcome;
use super::window::{Tally, Window};

mod cause;
mod classify;
mod peers;
mod settings;
mod times;
mod words;

pub use cause::Cause;
pub use classify::is_failure;
pub use peers::{ENOUGH_ENDPOINTS, Peers, may_open};
pub use settings::{Settings, WhenAllOpen};
pub use words::{Counts, Forced, Gate, Observation, State, Transition};

use times::{latest_end, open_for, ramp_share};

/// The permission for one call, of the era that it was given out in. It goes back exactly once: by
/// [`Breaker::settle`] with what the call showed, or by [`Breaker::release`] where it showed
/// nothing. A probe's ticket that is lost keeps its place until the next era.
#[derive(Debug)]
#[must_use = "a ticket that is not settled or released keeps the place of a probe"]
pub struct Ticket {
    era: u64,
    probe: bool,
}

impl Ticket {
    /// Whether it is that of a probe.
    pub const fn is_probe(&self) -> bool {
        self.probe
    }
}

/// The memory of one endpoint's breaker.
#[derive(Debug)]
pub struct Breaker {
    stage: Stage,
    era: u64,
    forced: Option<Forced>,
    cause: Option<Cause>,
    /// When it opened first in its trouble; `None` while closed.
    since: Option<Instant>,
    consecutive_failures: u32,
    window: Window,
    opens_in_a_row: u32,
    /// Successes since it closed; counted only while there is a row of openings to end.
    successes: u32,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Closed {
        /// When the ramp began; `None` when it is over or there was none.
        ramp_from: Option<Instant>,
    },
    Open {
        since: Instant,
        until: Instant,
    },
    HalfOpen {
        /// Probes under way.
        out: u32,
        /// Probes that succeeded.
        successes: u32,
    },
}

/// What decides over an opening besides the counts.
#[derive(Clone, Copy)]
struct Circumstances<'a> {
    s: &'a Settings,
    now: Instant,
    may_open: bool,
    peers: Option<&'a Peers>,
    chance: f64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl Breaker {
    /// A closed breaker that has seen nothing.
    pub const fn new() -> Self {
        Self {
            stage: Stage::Closed { ramp_from: None },
            era: 0,
            forced: None,
            cause: None,
            since: None,
            consecutive_failures: 0,
            window: Window::new(),
            opens_in_a_row: 0,
            successes: 0,
        }
    }

    /// Whether a request may go now. It takes nothing; an open breaker whose time has come becomes
    /// half-open here, and only here.
    pub fn gate(&mut self, s: &Settings, now: Instant) -> (Gate, Option<Transition>) {
        match self.forced {
            Some(Forced::Open) => return (Gate::Shut, None),
            Some(Forced::Closed) => return (Gate::Closed { share: 1.0 }, None),
            None => {}
        }
        match self.stage {
            Stage::Closed { ramp_from: None } => (Gate::Closed { share: 1.0 }, None),
            Stage::Closed {
                ramp_from: Some(from),
            } => {
                let share = ramp_share(s.ramp, now.saturating_duration_since(from));
                if share >= 1.0 {
                    self.stage = Stage::Closed { ramp_from: None };
                }
                (Gate::Closed { share }, None)
            }
            Stage::Open { since, until } => {
                let until = until.min(latest_end(s, since));
                if now < until {
                    self.stage = Stage::Open { since, until };
                    return (Gate::Shut, None);
                }
                let transition = self.enter(Stage::HalfOpen {
                    out: 0,
                    successes: 0,
                });
                (Gate::Probing, transition)
            }
            Stage::HalfOpen { out, .. } if out < s.probes.max(1) => (Gate::Probing, None),
            Stage::HalfOpen { .. } => (Gate::Shut, None),
        }
    }

    /// Lets one call through, or not (`None`). Call [`Self::gate`] with the same `now` before: an
    /// open breaker stays shut here even when its time has come.
    pub fn admit(&mut self, s: &Settings, _now: Instant) -> Option<Ticket> {
        match (self.forced, &mut self.stage) {
            (Some(Forced::Open), _) | (None, Stage::Open { .. }) => None,
            (None, Stage::HalfOpen { out, .. }) => (*out < s.probes.max(1)).then(|| {
                *out += 1;
                Ticket {
                    era: self.era,
                    probe: true,
                }
            }),
            (Some(Forced::Closed), _) | (None, Stage::Closed { .. }) => Some(Ticket {
                era: self.era,
                probe: false,
            }),
        }
    }

    /// A ticket for a call that goes whatever the state, where `when_all_open` is `send_anyway`.
    /// While the breaker is not closed the call's result changes nothing.
    pub const fn bypass(&self) -> Ticket {
        Ticket {
            era: self.era,
            probe: false,
        }
    }

    /// Takes a ticket back with what the call showed.
    ///
    /// `may_open` is whether one more endpoint may open (see [`may_open`]); a half-open breaker
    /// opens again without it, since it never ceased to be one of the open ones. `peers` is needed
    /// only for a failure under `peer_deviation`. `chance`, from 0 up to but not including 1,
    /// spreads the time that it stays open.
    #[expect(
        clippy::too_many_arguments,
        reason = "a pure decision takes all it depends on"
    )]
    pub fn settle(
        &mut self,
        s: &Settings,
        now: Instant,
        ticket: Ticket,
        seen: Observation,
        may_open: bool,
        peers: Option<&Peers>,
        chance: f64,
    ) -> Option<Transition> {
        if ticket.era != self.era {
            return None;
        }
        let around = Circumstances {
            s,
            now,
            may_open,
            peers,
            chance,
        };
        match self.stage {
            Stage::Closed { .. } => self.observe(seen, &around),
            // Only a call that was sent anyway has a ticket of an open breaker's era.
            Stage::Open { .. } => None,
            Stage::HalfOpen { .. } if !ticket.probe => None,
            Stage::HalfOpen { out, successes } => {
                let out = out.saturating_sub(1);
                self.stage = Stage::HalfOpen { out, successes };
                self.judge_probe(out, successes, seen, &around)
            }
        }
    }

    /// Takes a ticket back from a call that showed nothing: the client left, we refused it, it was
    /// never sent.
    pub fn release(&mut self, ticket: Ticket) {
        if let Stage::HalfOpen { out, .. } = &mut self.stage
            && ticket.probe
            && ticket.era == self.era
        {
            *out = out.saturating_sub(1);
        }
    }

    /// Counts one more failure: a body broke off whose head was judged before. It counts while the
    /// breaker is closed, whenever its call began, since the connection broke now; otherwise only
    /// probes decide.
    pub fn late_failure(
        &mut self,
        s: &Settings,
        now: Instant,
        may_open: bool,
        chance: f64,
    ) -> Option<Transition> {
        match self.stage {
            Stage::Open { .. } | Stage::HalfOpen { .. } => None,
            Stage::Closed { .. } => {
                let seen = Observation {
                    outcome: Outcome::Failure,
                    took: Duration::ZERO,
                };
                self.observe(
                    seen,
                    &Circumstances {
                        s,
                        now,
                        may_open,
                        peers: None,
                        chance,
                    },
                )
            }
        }
    }

    /// Sets or lifts (`None`) the operator's hand. Every change leaves a clean, closed breaker
    /// beneath: when the hand is lifted the breaker goes on from there, and an endpoint that was
    /// forced open warms up by the ramp. To say again what holds already changes nothing.
    pub fn force(&mut self, forced: Option<Forced>, now: Instant) -> Option<Transition> {
        if forced == self.forced {
            return None;
        }
        let from = self.state_by_stage();
        let was_open = self.forced == Some(Forced::Open);
        self.forced = forced;
        self.opens_in_a_row = 0;
        self.begin_era(Stage::Closed {
            ramp_from: was_open.then_some(now),
        });
        self.cause = (forced == Some(Forced::Open)).then_some(Cause::Forced);
        self.since = (forced == Some(Forced::Open)).then_some(now);
        let to = self.state_by_stage();
        (from != to).then_some(Transition { from, to })
    }

    /// What is to be seen at `now`: an open breaker whose time has come reads half-open, a forced
    /// one as it is forced.
    pub fn state(&self, s: &Settings, now: Instant) -> State {
        match (self.forced, self.stage) {
            (None, Stage::Open { since, until }) if now >= until.min(latest_end(s, since)) => {
                State::HalfOpen
            }
            (_, _) => self.state_by_stage(),
        }
    }

    /// Why it is open or half-open; `None` while closed.
    pub const fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Since when it has not been closed: the first opening, however often its probes failed since;
    /// `None` while closed.
    pub const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// The operator's hand; `None`: it decides by itself.
    pub const fn forced(&self) -> Option<Forced> {
        self.forced
    }

    /// How often it has opened in a row, that is without `min_requests` successes after closing.
    pub const fn opens_in_a_row(&self) -> u32 {
        self.opens_in_a_row
    }

    /// While open: the time until the next probe, as the last [`Self::gate`] saw it. `None` where
    /// it is not open any more, or open until the operator lifts the hand.
    pub fn retry_in(&self, now: Instant) -> Option<Duration> {
        match (self.forced, self.stage) {
            (None, Stage::Open { until, .. }) => until
                .checked_duration_since(now)
                .filter(|wait| !wait.is_zero()),
            (_, Stage::Open { .. } | Stage::Closed { .. } | Stage::HalfOpen { .. }) => None,
        }
    }

    /// Successes and requests in the window, for its peers to compare with; `None` below
    /// `min_requests`.
    pub fn success_rate(&mut self, s: &Settings, now: Instant) -> Option<(u32, u32)> {
        let tally = self.window.tally(s.window, now);
        is_enough(s, tally).then_some((
            tally.requests.saturating_sub(tally.failures),
            tally.requests,
        ))
    }

    /// What it has counted.
    pub fn counts(&mut self, s: &Settings, now: Instant) -> Counts {
        let Tally {
            requests,
            failures,
            slow,
        } = self.window.tally(s.window, now);
        Counts {
            consecutive_failures: self.consecutive_failures,
            requests,
            failures,
            slow,
        }
    }

    /// What would open it at its next failure, were it allowed to open; `None`: nothing, or it is not
    /// closed. Its peers are not compared.
    pub fn would_open(&mut self, s: &Settings, now: Instant) -> Option<Cause> {
        let closed = matches!(self.stage, Stage::Closed { .. }) && self.forced.is_none();
        if !closed || self.consecutive_failures == 0 {
            return None;
        }
        let around = Circumstances {
            s,
            now,
            may_open: false,
            peers: None,
            chance: 0.0,
        };
        self.trigger(true, false, &around)
    }

    /// Counts a result while closed, and opens where a trigger fires.
    fn observe(&mut self, seen: Observation, around: &Circumstances<'_>) -> Option<Transition> {
        let s = around.s;
        // Under an operator's "open" only what was sent anyway comes back, and it must not count.
        if self.forced == Some(Forced::Open) || seen.outcome == Outcome::Ignored {
            return None;
        }
        let failed = seen.outcome == Outcome::Failure;
        let slow = is_slow(s, seen.took);
        self.window.record(s.window, around.now, failed, slow);
        if failed {
            self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        } else {
            self.consecutive_failures = 0;
            self.count_towards_the_end_of_the_row(s);
        }
        if !(failed || slow) || !around.may_open || self.forced.is_some() {
            return None;
        }
        let cause = self.trigger(failed, slow, around)?;
        self.open(cause, around)
    }

    fn count_towards_the_end_of_the_row(&mut self, s: &Settings) {
        if self.opens_in_a_row > 0 {
            self.successes += 1;
            if self.successes >= s.min_requests {
                self.opens_in_a_row = 0;
            }
        }
    }

    /// The first trigger that fires, if any.
    fn trigger(&mut self, failed: bool, slow: bool, around: &Circumstances<'_>) -> Option<Cause> {
        let s = around.s;
        let failures = self.consecutive_failures;
        if failed
            && s.consecutive_failures
                .is_some_and(|limit| failures >= limit)
        {
            return Some(Cause::ConsecutiveFailures { failures });
        }
        let tally = self.window.tally(s.window, around.now);
        if !is_enough(s, tally) {
            return None;
        }
        let Tally {
            requests,
            failures,
            slow: slow_calls,
        } = tally;
        let (share_failed, share_slow) = (share(failures, requests), share(slow_calls, requests));
        if failed && s.failure_rate.is_some_and(|limit| share_failed >= limit) {
            return Some(Cause::FailureRate {
                failures,
                requests,
                window: s.window,
            });
        }
        if slow && s.slow_rate.is_some_and(|limit| share_slow >= limit) {
            let slow_call = s.slow_call.unwrap_or_default();
            return Some(Cause::SlowRate {
                slow: slow_calls,
                requests,
                window: s.window,
                slow_call,
            });
        }
        let (peers, deviations) = (around.peers?, s.peer_deviation?);
        let success_rate = 1.0 - share_failed;
        (failed && peers.outdo(success_rate, deviations)).then(|| Cause::PeerDeviation {
            success_rate,
            mean: peers.mean(),
            deviation: peers.deviation(),
        })
    }

    /// Judges a probe whose place has been given back; `successes` are those of the probes before.
    fn judge_probe(
        &mut self,
        out: u32,
        successes: u32,
        seen: Observation,
        around: &Circumstances<'_>,
    ) -> Option<Transition> {
        let s = around.s;
        match seen.outcome {
            Outcome::Ignored => None,
            Outcome::Failure => self.open(Cause::ProbeFailed, around),
            Outcome::Success if s.slow_rate.is_some() && is_slow(s, seen.took) => {
                self.open(Cause::ProbeSlow { took: seen.took }, around)
            }
            Outcome::Success if successes + 1 < s.probes => {
                let successes = successes + 1;
                self.stage = Stage::HalfOpen { out, successes };
                None
            }
            Outcome::Success => {
                (self.cause, self.since) = (None, None);
                self.enter(Stage::Closed {
                    ramp_from: Some(around.now),
                })
            }
        }
    }

    fn open(&mut self, cause: Cause, around: &Circumstances<'_>) -> Option<Transition> {
        let since = around.now;
        let wait = open_for(around.s, self.opens_in_a_row, around.chance);
        self.opens_in_a_row = self.opens_in_a_row.saturating_add(1);
        self.cause = Some(cause);
        self.since.get_or_insert(since);
        self.enter(Stage::Open {
            since,
            until: since + wait,
        })
    }

    fn enter(&mut self, stage: Stage) -> Option<Transition> {
        let from = self.state_by_stage();
        self.begin_era(stage);
        Some(Transition {
            from,
            to: self.state_by_stage(),
        })
    }

    /// Tickets given out before are void, and counts begin anew (rules 37 and 40).
    fn begin_era(&mut self, stage: Stage) {
        self.stage = stage;
        self.era += 1;
        self.consecutive_failures = 0;
        self.successes = 0;
        self.window.clear();
    }

    const fn state_by_stage(&self) -> State {
        match (self.forced, self.stage) {
            (Some(Forced::Open), _) | (None, Stage::Open { .. }) => State::Open,
            (Some(Forced::Closed), _) | (None, Stage::Closed { .. }) => State::Closed,
            (None, Stage::HalfOpen { .. }) => State::HalfOpen,
        }
    }
}

fn is_slow(s: &Settings, took: Duration) -> bool {
    s.slow_call.is_some_and(|limit| took >= limit)
}

fn is_enough(s: &Settings, tally: Tally) -> bool {
    tally.requests >= s.min_requests.max(1)
}

/// A quotient rather than a product: 7 of 100 are exactly 7 %, but 7 % of 100 are a little over 7.
fn share(part: u32, whole: u32) -> f64 {
    f64::from(part) / f64::from(whole)
}

#[cfg(test)]
mod tests;
