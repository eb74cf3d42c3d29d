//! How long to wait before another try.

use std::time::Duration;

/// How the wait grows and is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How it grows.
    pub kind: Kind,
    /// The first wait, before jitter.
    pub base: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How it is spread.
    pub jitter: Jitter,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: Kind::Exponential,
            base: Duration::from_millis(25),
            max: Duration::from_secs(1),
            jitter: Jitter::Full,
        }
    }
}

/// How the wait grows from one try to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// base, base×2, base×4 …
    Exponential,
    /// base, base×2, base×3 …
    Linear,
    /// base each time.
    Fixed,
}

/// How the wait is spread, so that clients do not come back all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// Anything from nothing to the wait.
    Full,
    /// Half the wait, and anything up to the other half.
    Equal,
    /// The wait.
    None,
}
