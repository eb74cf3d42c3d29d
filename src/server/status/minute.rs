//! What the last minute was like: the sum of the newest points of the history.

use serde::Serialize;

use crate::telemetry::history::Series;

/// The time that is looked at, in milliseconds.
const SPAN_MS: u64 = 60_000;
/// Share of failures above which an upstream fails, where there were enough requests to say so.
const FAILING: f64 = 0.05;
const ENOUGH: u64 = 10;
/// Share of failures that needs no more than a few.
const MOSTLY_FAILING: f64 = 0.5;
const SOME: u64 = 3;

/// What became of the requests of the last minute, or since the start where that is shorter ago.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Minute {
    /// The time that it covers, in milliseconds.
    pub span_ms: u64,
    /// Requests that have ended.
    pub requests: u64,
    /// Those among them that failed as their client saw it: refused, failed, or a 5xx.
    pub failures: u64,
    /// Those that a fallback answered.
    pub fallbacks: u64,
    /// Tries after the first.
    pub retries: u64,
    /// The newest time that half of them did not pass, in milliseconds; `null`: there were none.
    pub p50_ms: Option<f32>,
    /// The newest time that 99 of 100 did not pass.
    pub p99_ms: Option<f32>,
}

impl Minute {
    /// That of these points, each of which stands for so many milliseconds.
    pub fn of(series: &Series, every_ms: u64) -> Self {
        let every_ms = every_ms.max(1);
        let points = usize::try_from((SPAN_MS / every_ms).max(1)).unwrap_or(usize::MAX);
        fn newest<T>(all: &[T], points: usize) -> &[T] {
            &all[all.len().saturating_sub(points)..]
        }
        let sum = |all: &[u64]| newest(all, points).iter().sum();
        let last = |all: &[Option<f32>]| newest(all, points).iter().rev().flatten().next().copied();
        Self {
            span_ms: newest(&series.requests, points).len() as u64 * every_ms,
            requests: sum(&series.requests),
            failures: sum(&series.failures),
            fallbacks: sum(&series.fallbacks),
            retries: sum(&series.retries),
            p50_ms: last(&series.p50_ms),
            p99_ms: last(&series.p99_ms),
        }
    }

    /// Whether so many failed that somebody should look.
    pub fn is_failing(&self) -> bool {
        fails(self.requests, self.failures)
    }
}

fn fails(requests: u64, failures: u64) -> bool {
    let share = failures as f64 / requests.max(1) as f64;
    (requests >= ENOUGH && share > FAILING) || (requests >= SOME && share > MOSTLY_FAILING)
}

/// How long an upstream has been failing, in milliseconds, to the last point before which it was not:
/// points without a failure end it, those without a request do not.
pub(super) fn failing_for(series: &Series, every_ms: u64) -> u64 {
    let points = series.requests.iter().zip(&series.failures).rev();
    let mut failing = 0;
    for (index, (requests, failures)) in points.enumerate() {
        if *failures > 0 && *failures as f64 > *requests as f64 * FAILING {
            failing = index as u64 + 1;
        } else if *requests > 0 {
            break;
        }
    }
    failing * every_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(requests: &[u64], failures: &[u64]) -> Series {
        Series {
            requests: requests.to_vec(),
            failures: failures.to_vec(),
            p99_ms: vec![Some(3.0), None],
            ..Series::default()
        }
    }

    #[test]
    fn it_is_the_newest_points_alone() {
        let many = series(&[7; 20], &[1; 20]);
        let minute = Minute::of(&many, 5_000);
        assert_eq!((minute.requests, minute.failures), (84, 12));
        assert_eq!((minute.span_ms, minute.p99_ms), (60_000, Some(3.0)));
        let few = Minute::of(&series(&[1, 2], &[0, 0]), 5_000);
        assert_eq!((few.requests, few.span_ms), (3, 10_000));
        assert_eq!(Minute::of(&Series::default(), 0).requests, 0);
    }

    #[test]
    fn a_failure_or_two_are_none_of_an_upstream() {
        for (requests, failures, failing) in [
            (0, 0, false),
            (2, 2, false),
            (3, 2, true),
            (9, 4, false),
            (10, 1, true),
            (20, 1, false),
            (1_000, 50, false),
            (1_000, 51, true),
        ] {
            assert_eq!(
                fails(requests, failures),
                failing,
                "{failures} of {requests}"
            );
        }
    }

    #[test]
    fn it_fails_since_the_last_point_that_went_well() {
        let for_ms =
            |requests: &[u64], failures: &[u64]| failing_for(&series(requests, failures), 5);
        assert_eq!(for_ms(&[9, 9, 9, 9], &[9, 0, 9, 9]), 10);
        assert_eq!(for_ms(&[9, 0, 9, 0], &[9, 0, 9, 0]), 20);
        assert_eq!(for_ms(&[9, 100], &[9, 5]), 0);
        assert_eq!(for_ms(&[], &[]), 0);
    }
}
