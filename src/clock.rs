//! The only reader of the clock. Everything else takes the time as an argument, so that tests can
//! tell it. Monotonic time is for every decision, the date for headers, logs and `retry-after` only.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic time. Under a paused tokio runtime it stands still with it.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The date.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub fn date() -> SystemTime {
    SystemTime::now()
}

/// The date as the time since 1970; nothing where the clock stands before it.
pub fn since_epoch() -> Duration {
    date()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
