//! Why a request is kept.

use std::time::{Duration, Instant};

use crate::telemetry::report::{Outcome, Report};

/// The reasons for which a request is kept; none: it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptFor(u8);

const FAILED: u8 = 1;
const RETRIED: u8 = 1 << 1;
const SLOW: u8 = 1 << 2;
const FALLBACK: u8 = 1 << 3;
const ASKED: u8 = 1 << 4;

/// Every reason with its word, in the order in which they are told.
const WORDS: [(u8, &str); 5] = [
    (FAILED, "failed"),
    (RETRIED, "retried"),
    (SLOW, "slow"),
    (FALLBACK, "fallback"),
    (ASKED, "asked"),
];

impl KeptFor {
    /// It is not kept.
    pub const NOTHING: Self = Self(0);

    /// What holds for a request that ended at `now`.
    pub fn of(report: &Report, now: Instant, slower_than: Duration) -> Self {
        let slow = report.is_slow(now, slower_than);
        // As nearly all are: the upstream answered at once, and that was that.
        if report.went_well() && !report.asked && !slow {
            return Self::NOTHING;
        }
        let failed = match report.outcome {
            Outcome::Upstream => {
                report.broken || report.reason.is_some() || report.judged_status() >= 500
            }
            Outcome::Fallback => report.broken,
            // Some are answered here by right, such as a TRACE with `max-forwards: 0`.
            Outcome::Refused => report.reason.is_some(),
            Outcome::Failed | Outcome::ClientGone => true,
        };
        let bit = |holds: bool, bit: u8| if holds { bit } else { 0 };
        Self(
            bit(failed, FAILED)
                | bit(report.tries.len() > 1, RETRIED)
                | bit(slow, SLOW)
                | bit(report.fallback.is_some(), FALLBACK)
                | bit(report.asked, ASKED),
        )
    }

    /// Whether there is a reason.
    pub const fn any(self) -> bool {
        self.0 != 0
    }

    /// The words.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = WORDS.into_iter();
        all.filter_map(move |(bit, word)| (self.0 & bit != 0).then_some(word))
    }
}
