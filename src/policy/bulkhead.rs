//! How many requests may be under way at once: seats, and a bounded queue before them.

use std::time::Duration;

/// The bulkhead's measures. (`max_connections` belongs to the upstream's pool.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Requests under way, until the last byte of the answer; `None`: no limit.
    pub max_in_flight: Option<usize>,
    /// Requests that wait for a seat.
    pub max_queue: usize,
    /// How long one may wait.
    pub queue_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_in_flight: Some(100),
            max_queue: 0,
            queue_timeout: Duration::from_millis(100),
        }
    }
}
