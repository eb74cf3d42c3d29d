//! Deadlines of a client's connection: nanoseconds after it was accepted, so that a number holds them.

use std::time::Duration;

use crate::clock;
use crate::proxy::client::Client;

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// Nanoseconds since the client's connection was accepted.
pub(super) fn since(client: &Client) -> u64 {
    nanos(clock::now().saturating_duration_since(client.accepted()))
}

/// The duration in nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}
