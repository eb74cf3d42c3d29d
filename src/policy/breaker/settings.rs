//! What an operator sets about a breaker.

use std::time::Duration;

use crate::policy::grpc::CodeSet;
use crate::policy::outcome::StatusSet;

/// When an endpoint's breaker opens, and how it closes again. `None` switches a trigger off.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Failures in a row.
    pub consecutive_failures: Option<u32>,
    /// Share of failures in the window, above 0 to 1.
    pub failure_rate: Option<f64>,
    /// Share of slow calls in the window, above 0 to 1.
    pub slow_rate: Option<f64>,
    /// From when on a call is slow.
    pub slow_call: Option<Duration>,
    /// Standard deviations below the mean success rate of its peers.
    pub peer_deviation: Option<f64>,
    /// How long a call counts.
    pub window: Duration,
    /// Calls in the window below which no rate is taken.
    pub min_requests: u32,
    /// How long it stays open the first time.
    pub open_for: Duration,
    /// How long it stays open at most.
    pub max_open_for: Duration,
    /// Half-open: calls at a time, and successes to close.
    pub probes: u32,
    /// After closing, the share of traffic grows to full in this time.
    pub ramp: Duration,
    /// Share of the endpoints that may be open at once, 0 to 1; at least one may.
    pub max_open: f64,
    /// What happens when every endpoint's breaker is open.
    pub when_all_open: WhenAllOpen,
    /// Statuses that are no failure.
    pub ignore: StatusSet,
    /// Codes of gRPC that are no failure.
    pub ignore_codes: CodeSet,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(5),
            failure_rate: Some(0.5),
            slow_rate: None,
            slow_call: None,
            peer_deviation: None,
            window: Duration::from_secs(30),
            min_requests: 20,
            open_for: Duration::from_secs(30),
            max_open_for: Duration::from_secs(300),
            probes: 3,
            ramp: Duration::ZERO,
            max_open: 0.5,
            when_all_open: WhenAllOpen::Refuse,
            ignore: StatusSet::EMPTY,
            ignore_codes: CodeSet::EMPTY,
        }
    }
}

/// What happens when every endpoint's breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllOpen {
    /// Requests are refused with `breaker_open`.
    Refuse,
    /// Requests are sent as if no breaker were open.
    SendAnyway,
}
