//! What a breaker is told and what it answers.

use std::time::Duration;

use crate::policy::outcome::Outcome;

/// What a breaker does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Lets them through and counts.
    Closed,
    /// Lets none through.
    Open,
    /// Lets a few through to see how they fare.
    HalfOpen,
}

impl State {
    /// The word for metrics, logs and the status page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The operator's hand on a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forced {
    /// Nothing goes through until it is lifted.
    Open,
    /// Everything goes through; results are counted, but nothing opens it.
    Closed,
}

impl Forced {
    /// The word of the admin interface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// Whether a request may go now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gate {
    /// It may.
    Closed {
        /// The share of its usual traffic that the endpoint should get, above 0 to 1: less than 1
        /// while it warms up after closing. It is for the choice among endpoints, never a reason to
        /// refuse.
        share: f64,
    },
    /// It may, as a probe: there is a place.
    Probing,
    /// It may not.
    Shut,
}

/// A change of state, to be counted and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub from: State,
    /// What it is now.
    pub to: State,
}

/// What a call showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// How it ended, as [`is_failure`](super::is_failure) judges it.
    pub outcome: Outcome,
    /// How long it took to the head of the answer.
    pub took: Duration,
}

/// What a breaker has counted, for the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Calls in the window.
    pub requests: u32,
    /// Those that failed.
    pub failures: u32,
    /// Those that were slow.
    pub slow: u32,
}
