//! An episode of trouble with accepting, told in the log when it begins and when it is over. At a limit
//! one connection gets in whenever another one ends: that is still the same episode.

use std::time::{Duration, Instant};

/// So long nothing must have gone wrong.
const OVER_AFTER: Duration = Duration::from_secs(5);

/// Whether there is one.
#[derive(Debug, Default)]
pub(super) struct Episode {
    trouble: Option<Instant>,
}

impl Episode {
    /// Something is wrong; gives whether an episode begins with it.
    pub(super) const fn trouble(&mut self, now: Instant) -> bool {
        self.trouble.replace(now).is_none()
    }

    /// All is well; gives whether that ends an episode.
    pub(super) fn well(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let over = |since| now().saturating_duration_since(since) >= OVER_AFTER;
        let ended = self.trouble.is_some_and(over);
        if ended {
            self.trouble = None;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn fault_070_who_gets_in_between_does_not_end_an_episode() {
        let mut episode = Episode::default();
        let mut now = clock::now();
        assert!(!episode.well(|| now));
        assert!(episode.trouble(now), "it begins");
        for _ in 0..10 {
            now += OVER_AFTER - Duration::from_millis(1);
            assert!(!episode.well(|| now));
            assert!(!episode.trouble(now));
        }
        now += OVER_AFTER;
        assert!(
            !episode.trouble(now),
            "that nobody came meanwhile proves nothing"
        );
        now += OVER_AFTER;
        assert!(episode.well(|| now), "it is over");
        assert!(!episode.well(|| now), "which is told once");
        assert!(episode.trouble(now), "the next one");
    }
}
