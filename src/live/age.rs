//! How old a connection may become: those that were opened together do not end together (rule 67).

use std::time::{Duration, Instant};

use crate::plan;

/// The share of its age by which a connection may be replaced early.
const JITTER: f64 = 0.1;

/// When a connection was opened, and how early it is replaced.
#[derive(Debug, Clone, Copy)]
pub struct Age {
    opened: Instant,
    /// What is left of the age that is allowed, 0.9 to 1.
    share: f64,
}

impl Age {
    /// A connection is opened now.
    pub fn begin(now: Instant) -> Self {
        Self {
            opened: now,
            share: 1.0 - JITTER * fastrand::f64(),
        }
    }

    /// When it takes no more requests; `None`: never.
    pub fn ends(&self, settings: &plan::Pool) -> Option<Instant> {
        let age = settings.max_connection_age?;
        Some(after(self.opened, age.min(LONG).mul_f64(self.share)))
    }
}

/// A time that does not come.
const LONG: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// The instant so much later; one that does not come where it is too long.
pub fn after(instant: Instant, wait: Duration) -> Instant {
    instant + wait.min(LONG)
}
