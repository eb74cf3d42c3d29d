//! How long a breaker stays open, and how fast traffic comes back.

use std::time::{Duration, Instant};

use super::Settings;

/// The share of traffic that a ramp begins with: some, or there would be nothing to learn from.
const RAMP_FLOOR: f64 = 0.1;

/// How much longer than told an opening may last, so that endpoints do not come back all at once.
const OPEN_JITTER: f64 = 0.1;

/// Longer openings are taken for this one, so that no sum of times overflows: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The share of traffic after so much of the ramp.
pub(super) fn ramp_share(ramp: Duration, elapsed: Duration) -> f64 {
    if elapsed >= ramp {
        return 1.0;
    }
    RAMP_FLOOR + (1.0 - RAMP_FLOOR) * elapsed.as_secs_f64() / ramp.as_secs_f64()
}

/// How long the next opening lasts after `opened` ones in a row.
pub(super) fn open_for(s: &Settings, opened: u32, chance: f64) -> Duration {
    let longest = s.max_open_for.min(LONGEST);
    let doubled = 1_u32
        .checked_shl(opened)
        .and_then(|factor| s.open_for.checked_mul(factor));
    let wait = doubled.unwrap_or(longest).min(longest);
    let jitter = wait.mul_f64(OPEN_JITTER * chance.clamp(0.0, 1.0));
    wait.saturating_add(jitter).min(longest)
}

/// The time beyond which a breaker that opened then does not stay open.
pub(super) fn latest_end(s: &Settings, since: Instant) -> Instant {
    since + s.max_open_for.min(LONGEST)
}
