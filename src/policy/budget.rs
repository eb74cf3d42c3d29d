//! The share of traffic that may be retries, so that a failing upstream is not drowned in them.

use std::time::Duration;

/// How many retries an upstream's original requests pay for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Retries for each original request, 0 to 10.
    pub ratio: f64,
    /// Retries in a second that are always allowed, so that low traffic can retry at all.
    pub min_per_second: f64,
    /// How long an original request counts.
    pub window: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_second: 3.0,
            window: Duration::from_secs(10),
        }
    }
}
