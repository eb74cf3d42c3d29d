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

/// How the failures of an upstream lie in its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failures {
    /// They began so many milliseconds ago.
    For(u64),
    /// They ended so many milliseconds ago.
    Over(u64),
}

/// Points in a row with requests of which too few failed to speak of it, after which failures are over.
const CALM: usize = 3;

impl Failures {
    /// Those of these points, each of which stands for so many milliseconds; points without a request
    /// say nothing.
    pub(super) fn of(series: &Series, every_ms: u64) -> Self {
        let (mut calm, mut newest, mut oldest) = (0, None, 0);
        let points = series.requests.iter().zip(&series.failures).rev();
        for (index, (requests, failures)) in points.enumerate() {
            if *failures as f64 > *requests as f64 * FAILING {
                newest.get_or_insert((index as u64, calm));
                oldest = index as u64 + 1;
                calm = 0;
            } else if *requests > 0 {
                calm += 1;
                if calm >= CALM && newest.is_some() {
                    break;
                }
            }
        }
        match newest {
            Some((index, calm)) if calm >= CALM => Self::Over(index * every_ms),
            Some(_) | None => Self::For(oldest * every_ms),
        }
    }
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
    fn failures_have_a_beginning_and_an_end() {
        use Failures::{For, Over};
        for (requests, failures, found) in [
            (&[9, 9, 9, 9, 9][..], &[9, 0, 0, 0, 9][..], For(5)),
            // Two good points are luck.
            (&[9, 9, 9, 9, 9], &[0, 9, 0, 0, 9], For(20)),
            (&[9, 9, 9, 9], &[9, 9, 0, 0], For(20)),
            (&[9, 9, 9, 9, 9], &[9, 9, 0, 0, 0], Over(15)),
            // Without requests nobody knows.
            (&[9, 0, 0, 0, 0], &[9, 0, 0, 0, 0], For(25)),
            (&[9, 100], &[0, 5], For(0)),
            (&[], &[], For(0)),
        ] {
            assert_eq!(
                Failures::of(&series(requests, failures), 5),
                found,
                "{failures:?}"
            );
        }
    }
}
