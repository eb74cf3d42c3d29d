//! Why a breaker is open, in words for the operator.

use std::fmt;
use std::time::Duration;

/// Why a breaker opened. Its `Display` is a part of a sentence: "5 consecutive failures".
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// So many calls failed in a row.
    ConsecutiveFailures {
        /// Failures in a row.
        failures: u32,
    },
    /// Too large a share of the calls in the window failed.
    FailureRate {
        /// Calls that failed.
        failures: u32,
        /// Calls in all.
        requests: u32,
        /// The time that they fell into.
        window: Duration,
    },
    /// Too large a share of the calls in the window was slow.
    SlowRate {
        /// Calls that were slow.
        slow: u32,
        /// Calls in all.
        requests: u32,
        /// The time that they fell into.
        window: Duration,
        /// From when on a call is slow.
        slow_call: Duration,
    },
    /// Its success rate lies too far below that of its peers.
    PeerDeviation {
        /// Its success rate, 0 to 1.
        success_rate: f64,
        /// The mean success rate of its peers, 0 to 1.
        mean: f64,
        /// The standard deviation of its peers' success rates, 0 to 1.
        deviation: f64,
    },
    /// It was half-open, and a probe failed.
    ProbeFailed,
    /// It was half-open, slow calls count, and a probe was slow.
    ProbeSlow {
        /// How long the probe took.
        took: Duration,
    },
    /// The operator opened it.
    Forced,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures { failures: 1 } => f.write_str("1 failure"),
            Self::ConsecutiveFailures { failures } => write!(f, "{failures} consecutive failures"),
            Self::FailureRate {
                failures,
                requests,
                window,
            } => {
                write!(f, "{failures} of {requests} requests failed in {window:?}")
            }
            Self::SlowRate {
                slow,
                requests,
                window,
                slow_call,
            } => {
                write!(
                    f,
                    "{slow} of {requests} requests took {slow_call:?} or longer in {window:?}"
                )
            }
            Self::PeerDeviation {
                success_rate,
                mean,
                deviation,
            } => write!(
                f,
                "success rate of {:.1}% where its peers have {:.1}% with a standard deviation of {:.1}%",
                success_rate * 100.0,
                mean * 100.0,
                deviation * 100.0
            ),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbeSlow { took } => {
                write!(f, "a probe took {} ms, which is slow", took.as_millis())
            }
            Self::Forced => f.write_str("forced open by the operator"),
        }
    }
}
