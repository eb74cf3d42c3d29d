//! Which requests' spans are exported, decided when all of a request is known.
//!
//! A share is taken by the trace's id and by nothing else: a trace is kept where the last 56 bits of its
//! id are not below a threshold, as the consistent sampling of OpenTelemetry has it. So several of us on
//! the way of a request keep the same traces, and who keeps a larger share keeps all that another does.

use std::time::Duration;

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

    /// Whether the spans of a request that took so long are exported.
    pub(super) fn keeps(&self, report: &Report, took: Duration) -> bool {
        let trace = &report.trace;
        // A caller that does not keep the trace has no use for ours, unless something is to be seen.
        trace.is_sampled() && self.rest.keeps(trace)
            || self.slower_than.is_some_and(|limit| took > limit)
            || report.troubled() && self.failed.keeps(trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::report::{Outcome, samples};

    const FAST: Duration = Duration::from_millis(5);
    const SLOW: Duration = Duration::from_millis(1001);

    fn report(trace_id: u128, sampled: bool, status: u16) -> Report {
        let listener = Metrics::default().listener(&samples::name("in"));
        let mut report = samples::report(listener, None, Outcome::Upstream, status);
        report.trace.trace_id = trace_id;
        report.trace.flags = u8::from(sampled);
        report
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
            assert!(choice.keeps(&report(1, sampled, 503), FAST));
            assert!(choice.keeps(&report(1, sampled, 200), SLOW));
            assert!(!choice.keeps(&report(u128::MAX, sampled, 200), FAST));
        }
    }

    #[test]
    fn the_rest_is_kept_by_the_traces_id_where_the_caller_keeps_it() {
        let tenth = choice(0.0, 0.1);
        let least = (1_u128 << 56) * 9 / 10;
        for above in [0, 7 << 56, 0xffff << 112] {
            let (below, kept) = (above + least - 100, above + least + 100);
            assert!(!tenth.keeps(&report(below, true, 200), FAST));
            assert!(tenth.keeps(&report(kept, true, 200), FAST));
            assert!(!tenth.keeps(&report(kept, false, 200), FAST));
        }
        let (all, none) = (choice(0.0, 1.0), choice(0.0, 0.0));
        for id in [1, u128::MAX] {
            assert!(all.keeps(&report(id, true, 200), FAST));
            assert!(!none.keeps(&report(id, true, 200), FAST));
        }
    }

    #[test]
    fn the_larger_share_holds_and_keeps_all_that_the_smaller_does() {
        let mut chance = fastrand::Rng::with_seed(7);
        let (half, fifth) = (choice(0.5, 0.2), choice(0.2, 0.2));
        let mut kept = [0; 2];
        for _ in 0..10_000 {
            let failed = report(chance.u128(1..), true, 500);
            let by = [half.keeps(&failed, FAST), fifth.keeps(&failed, FAST)];
            assert!(by[0] || !by[1]);
            kept[0] += u32::from(by[0]);
            kept[1] += u32::from(by[1]);
        }
        assert!((4_800..5_200).contains(&kept[0]), "{kept:?}");
        assert!((1_850..2_150).contains(&kept[1]), "{kept:?}");
    }
}
