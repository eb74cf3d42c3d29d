//! What was decided about a request on its way, with the figures that decided. Small values, written
//! down as they come up; sentences are made of them when somebody asks.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::breaker::{Cause, Transition};
use crate::policy::outcome::{Ending, Reason};
use crate::policy::retry::{Figures, Why};

/// What was decided when a try had failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// Another try, after this wait.
    Granted {
        /// The wait.
        wait: Duration,
        /// What it went by.
        figures: Figures,
    },
    /// No other try.
    Denied {
        /// What was in the way.
        why: Why,
        /// What it went by.
        figures: Figures,
    },
    /// No other try: the route's `retry.on` does not list what the try ended in.
    Unlisted,
    /// No other try: the route has no `retry`.
    NoPolicy,
}

/// What kept a try from being made that had been granted. The last real answer was the client's then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halted {
    /// When, since the request began.
    pub at: Duration,
    /// What was in the way.
    pub reason: Reason,
    /// The same in a sentence.
    pub message: Box<str>,
}

/// A breaker that moved because of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerMove {
    /// When, since the request began.
    pub at: Duration,
    /// Which endpoint's.
    pub endpoint: Arc<str>,
    /// From where to where.
    pub transition: Transition,
    /// Why, where it opened.
    pub cause: Option<Cause>,
    /// Until the next probe, where it opened.
    pub retry_in: Option<Duration>,
}

/// Which fallback answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FellBack {
    /// Its place among the route's, counted from 1.
    pub number: u32,
    /// What it stood in for.
    pub because: Ending,
}
