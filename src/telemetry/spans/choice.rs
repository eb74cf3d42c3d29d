//! Which requests' spans are exported, decided when all of a request is known.
//!
//! A share is taken by the trace's id and by nothing else: a trace is kept where the last 56 bits of its
//! id are not below a threshold, as the consistent sampling of OpenTelemetry has it. So several of us on
//! the way of a request keep the same traces, and who keeps a larger share keeps all that another does.

use std::time::{Duration, Instant};

use crate::plan::tracing::Shares;
use crate::telemetry::report::Report;
use crate::telemetry::trace::TraceContext;

/// Values of the bits that decide.
const RANGE: u64 = 1 << 56;

/// A share as the least value that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Threshold(u64);

impl Threshold {
    fn of(share: f64) -> Self {
        let refused = (1.0 - share.clamp(0.0, 1.0)) * RANGE as f64;
        Self(refused.round() as u64)
    }

    fn keeps(self, trace: &TraceContext) -> bool {
        let random = trace.trace_id as u64 & (RANGE - 1);
        random >= self.0
    }
}

/// The settings, ready to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    failed: Threshold,
    slower_than: Option<Duration>,
    rest: Threshold,
}

impl Choice {
    pub(super) fn new(shares: Shares) -> Self {
        Self {
            failed: Threshold::of(shares.failed),
            slower_than: shares.slower_than,
            rest: Threshold::of(shares.rest),
        }
    }

    /// Whether the spans of a request that ended at `now` are exported.
    pub(super) fn keeps(&self, report: &Report, now: Instant) -> bool {
        let trace = &report.trace;
        // A caller that does not keep the trace has no use for ours, unless something is to be seen.
        trace.is_sampled() && self.rest.keeps(trace)
            || self
                .slower_than
                .is_some_and(|limit| report.is_slow(now, limit))
            || report.troubled() && self.failed.keeps(trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::report::{Outcome, samples};

    fn report(trace_id: u128, sampled: bool, status: u16) -> Report {
        let listener = Metrics::default().listener(&samples::name("in"));
        let mut report = samples::report(listener, None, Outcome::Upstream, status);
        report.trace.trace_id = trace_id;
        report.trace.flags = u8::from(sampled);
        report
    }

    /// Whether it is kept where it ended without an answer after so long, or had the head of one by then
    /// and ended an hour later.
    fn keeps(choice: &Choice, mut report: Report, millis: u64) -> bool {
        let took = Duration::from_millis(millis);
        report.head_at = Some(took);
        let end = report.started + Duration::from_secs(3600);
        let by_head = choice.keeps(&report, end);
        report.head_at = None;
        assert_eq!(choice.keeps(&report, report.started + took), by_head);
        by_head
    }

    fn choice(failed: f64, rest: f64) -> Choice {
        Choice::new(Shares {
            failed,
            slower_than: Some(Duration::from_secs(1)),
            rest,
        })
    }

    #[test]
    fn failures_and_slow_ones_are_kept_whatever_the_caller_decided() {
        let choice = choice(1.0, 0.0);
        for sampled in [false, true] {
            assert!(keeps(&choice, report(1, sampled, 503), 5));
            assert!(keeps(&choice, report(1, sampled, 200), 1000));
            assert!(!keeps(&choice, report(u128::MAX, sampled, 200), 999));
        }
    }

    #[test]
    fn the_rest_is_kept_by_the_traces_id_where_the_caller_keeps_it() {
        let tenth = choice(0.0, 0.1);
        let least = (1_u128 << 56) * 9 / 10;
        for above in [0, 7 << 56, 0xffff << 112] {
            let (below, kept) = (above + least - 100, above + least + 100);
            assert!(!keeps(&tenth, report(below, true, 200), 5));
            assert!(keeps(&tenth, report(kept, true, 200), 5));
            assert!(!keeps(&tenth, report(kept, false, 200), 5));
        }
        let (all, none) = (choice(0.0, 1.0), choice(0.0, 0.0));
        for id in [1, u128::MAX] {
            assert!(keeps(&all, report(id, true, 200), 5));
            assert!(!keeps(&none, report(id, true, 200), 5));
        }
    }

    #[test]
    fn the_larger_share_holds_and_keeps_all_that_the_smaller_does() {
        let mut chance = fastrand::Rng::with_seed(7);
        let (half, fifth) = (choice(0.5, 0.2), choice(0.2, 0.2));
        let mut kept = [0; 2];
        for _ in 0..10_000 {
            let id = chance.u128(1..);
            let by = [&half, &fifth].map(|choice| keeps(choice, report(id, true, 500), 5));
            assert!(by[0] || !by[1]);
            kept[0] += u32::from(by[0]);
            kept[1] += u32::from(by[1]);
        }
        assert!((4_800..5_200).contains(&kept[0]), "{kept:?}");
        assert!((1_850..2_150).contains(&kept[1]), "{kept:?}");
    }
}
