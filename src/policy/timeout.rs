//! How long things may take.

use std::time::Duration;

/// How long things may take; `None`: as long as they like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Name, TCP and TLS of a new connection.
    pub connect: Option<Duration>,
    /// From the first byte of the request to the head of the answer: queue, tries, backoffs.
    pub request: Option<Duration>,
    /// One try, from sending to the head of the answer.
    pub per_try: Option<Duration>,
    /// No byte of a body in either direction.
    pub idle: Option<Duration>,
}

impl Settings {
    /// What a `timeouts` block sets that is present; a key that it gives takes its place.
    pub const PRESENT: Self = Self {
        connect: Some(Duration::from_secs(1)),
        request: Some(Duration::from_secs(15)),
        per_try: None,
        idle: Some(Duration::from_secs(300)),
    };
}

/// The shorter of two limits, where `None` is no limit: a client's wish can only shorten ours.
pub fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (limit, None) | (None, limit) => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_limit_holds_and_no_limit_is_the_longest() {
        let second = Some(Duration::from_secs(1));
        let minute = Some(Duration::from_secs(60));
        assert_eq!(shorter(second, minute), second);
        assert_eq!(shorter(minute, second), second);
        assert_eq!(shorter(None, minute), minute);
        assert_eq!(shorter(minute, None), minute);
        assert_eq!(shorter(None, None), None);
    }

    #[test]
    fn a_block_that_is_absent_limits_nothing() {
        let Settings {
            connect,
            request,
            per_try,
            idle,
        } = Settings::default();
        assert_eq!([connect, request, per_try, idle], [None; 4]);
        assert_eq!(Settings::PRESENT.per_try, None);
    }
}
