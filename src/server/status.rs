//! What `GET /api/v1/status` says: everything the status page shows, as plain values. Times are RFC 3339
//! in UTC, durations milliseconds, shares 0 to 1. A `null` limit means that there is none.

mod judgement;
mod minute;
pub mod words;

use serde::Serialize;

pub use judgement::{Judgement, Severity, Verdict, Word};
pub use minute::Minute;

pub use crate::telemetry::events::Event;
pub use crate::telemetry::history::Shown as History;

/// The state of the whole process at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// When this was read.
    pub at: String,
    /// The answer in one line.
    pub verdict: Verdict,
    /// What is wrong with the process itself, the worst first: its configuration, its certificates.
    pub notices: Vec<Judgement>,
    /// The program itself.
    pub process: Process,
    /// Where requests come in.
    pub listeners: Vec<Listener>,
    /// Where requests go.
    pub upstreams: Vec<Upstream>,
    /// What has been counted since the start.
    pub totals: Totals,
    /// What has come in the last minute; `null` before the first point of the history.
    pub last_minute: Option<Minute>,
    /// The request bytes kept for another try.
    pub replay: Replay,
    /// The files of certificates in use.
    pub certificates: Vec<Certificate>,
    /// The last attempt to reload; `null` before the first.
    pub last_reload: Option<LastReload>,
    /// What happened lately, newest last.
    pub events: Vec<Event>,
    /// The last five minutes as points; absent in the stream's status, where it is an event of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// The program itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Process {
    /// The program's version.
    pub version: String,
    /// The service that we stand beside.
    pub service: String,
    /// When the process began.
    pub started_at: String,
    /// Time since then, in milliseconds.
    pub uptime_ms: u64,
    /// The configuration that is running: 1 at the start, one more with each applied reload.
    pub generation: u64,
    /// Whether it drains: new work should go elsewhere.
    pub draining: bool,
    /// Whether `GET /readyz` says yes.
    pub ready: bool,
    /// The threads that serve requests.
    pub workers: Vec<Worker>,
}

/// One thread that serves requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Worker {
    /// Its number, from 0.
    pub id: usize,
    /// Tasks alive on it: connections of both sides and what belongs to them.
    pub tasks: usize,
    /// Connections from clients that it serves.
    pub connections: usize,
}

/// One file of certificates in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Certificate {
    /// The listener that uses it.
    pub listener: Option<String>,
    /// The upstream that uses it.
    pub upstream: Option<String>,
    /// The file.
    pub file: String,
    /// When the first certificate in it expires.
    pub expires_at: String,
    /// Why what the files of this listener or upstream hold now is not in use, but what they held
    /// before; `null`: it is.
    pub problem: Option<String>,
}

/// One place where requests come in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Listener {
    /// Its key in the configuration.
    pub name: String,
    /// `outbound` or `inbound`.
    pub role: String,
    /// The address that is bound, with its real port.
    pub address: String,
    /// Open connections from clients.
    pub connections: usize,
    /// Whether it takes no new connections and ends those it has.
    pub draining: bool,
}

/// One service that requests go to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Upstream {
    /// Its key in the configuration.
    pub name: String,
    /// How bad its state is, why, and what is done about it.
    pub judgement: Judgement,
    /// Whether `GET /healthz` depends on it.
    pub critical: bool,
    /// `closed`, `open` (every endpoint's breaker is open) or `half_open` (none is closed, and one probes).
    pub circuit: Circuit,
    /// Where it can be reached.
    pub endpoints: Vec<Endpoint>,
    /// The seats; `null` where there is no bulkhead.
    pub bulkhead: Option<Bulkhead>,
    /// The connections to it.
    pub connections: Connections,
    /// What retries may be paid from; `null` where none is set.
    pub retry_budget: Option<RetryBudget>,
    /// What requests may be paid from; `null` where no rate limit is set.
    pub rate_limit: Option<RateLimit>,
    /// What has been counted for it since the start.
    pub totals: Totals,
    /// What it got in the last minute; `null`: nothing is kept of it, as others are busier.
    pub last_minute: Option<Minute>,
    /// Where its endpoints come from that are not written as addresses.
    pub sources: Vec<Source>,
}

/// A name, a record or a service that stands for endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Source {
    /// As it is configured: `payments:80`, `srv _http._tcp.payments.test`.
    pub name: String,
    /// The addresses that it stands for.
    pub addresses: usize,
    /// When it answered last; `null`: it never has.
    pub answered_at: Option<String>,
    /// Time since then, in milliseconds.
    pub age_ms: Option<u64>,
    /// Time until it is asked again, in milliseconds; `null` where it says by itself what is new.
    pub next_ms: Option<u64>,
    /// Why it could not be found out what it stands for, when it was asked last; `null`: it could.
    pub problem: Option<String>,
}

/// The state of a breaker, or of a whole upstream's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// Requests pass.
    #[default]
    Closed,
    /// No request passes.
    Open,
    /// A few requests pass, to find out whether the endpoint works again.
    HalfOpen,
}

impl Circuit {
    /// The word for JSON, metrics and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    /// The circuit of an upstream whose endpoints' breakers stand so. One that is closed closes it; with
    /// no endpoint at all there is nothing that could be open.
    pub fn of(endpoints: impl IntoIterator<Item = Self>) -> Self {
        let (mut any, mut probing) = (false, false);
        for state in endpoints {
            match state {
                Self::Closed => return Self::Closed,
                Self::HalfOpen => (any, probing) = (true, true),
                Self::Open => any = true,
            }
        }
        match (any, probing) {
            (_, true) => Self::HalfOpen,
            (true, false) => Self::Open,
            (false, false) => Self::Closed,
        }
    }
}

/// One place where an upstream can be reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Endpoint {
    /// The address or name as it is configured, or the address that the name stands for.
    pub address: String,
    /// Its breaker.
    pub state: Circuit,
    /// Why it is open, in words: `5 consecutive failures`; or why it stays closed where it would open.
    pub reason: Option<String>,
    /// Since when its breaker has not been closed; `null`: it is.
    pub since: Option<String>,
    /// Time to the next probe, in milliseconds.
    pub next_probe_ms: Option<u64>,
    /// Openings since its last success.
    pub opened_in_a_row: u32,
    /// What an operator has set it to: `open`, `closed`, or `null` where it decides by itself.
    pub forced: Option<String>,
    /// Requests under way.
    pub in_flight: usize,
    /// What its breaker's window holds; `null` where there is no breaker.
    pub window: Option<Window>,
    /// Its weight: that of the configuration times that of its source. 0: its source does not name it any
    /// more; it is kept for a while, and gets requests only where no other can take them.
    pub weight: u32,
    /// How much of its weight it gets: below 1 while it ramps up after closing.
    pub share: f64,
    /// Whether it is no longer configured, or no more named by its source, and finishes what it has.
    pub draining: bool,
    /// What its health checks showed; `null` where it is not checked.
    pub health: Option<Health>,
}

/// What the active health checks of one endpoint showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `unchecked`, `healthy`, or `unhealthy`: then it gets no requests, whatever its breaker says.
    pub state: String,
    /// Which check failed and how, since it was healthy last: `health check GET /healthz answered 500, 3
    /// in a row`.
    pub reason: Option<String>,
    /// Time to the next check, in milliseconds; 0 while one is under way.
    pub next_check_ms: Option<u64>,
    /// Successes since the last failure.
    pub passes_in_a_row: u32,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
}

/// What a breaker's window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Calls.
    pub total: u64,
    /// Failed ones among them.
    pub failures: u64,
    /// Slow ones among them.
    pub slow: u64,
    /// Failures in a row up to now.
    pub consecutive_failures: u32,
}

/// The seats of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bulkhead {
    /// Seats that are taken.
    pub in_flight: usize,
    /// Requests that wait for one.
    pub queued: usize,
    /// Seats in all.
    pub limit: Option<usize>,
    /// Requests that may wait.
    pub max_queue: usize,
}

/// The connections to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Open, waiting for a request.
    pub idle: usize,
    /// In use.
    pub active: usize,
    /// How many may be open.
    pub limit: Option<usize>,
    /// Opened since the start.
    pub opened: u64,
}

/// What retries are paid from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RetryBudget {
    /// Retries that could be made now.
    pub tokens: f64,
    /// Retries that it can hold at most at the present traffic; `null` where it is not bounded.
    pub limit: Option<f64>,
}

/// What requests are paid from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RateLimit {
    /// Requests that would be let through now.
    pub tokens: f64,
    /// Requests that it can hold.
    pub burst: f64,
    /// Requests that come back in a second.
    pub per_second: f64,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests that have ended.
    pub requests: u64,
    /// Those among them that we refused or that failed.
    pub failures: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Requests that a fallback answered.
    pub fallbacks: u64,
}

/// The request bytes kept for another try, whole process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// Bytes that are kept now.
    pub bytes_used: usize,
    /// Bytes that may be kept.
    pub bytes_limit: usize,
}

/// An attempt to reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastReload {
    /// When.
    pub at: String,
    /// What came of it.
    pub result: ReloadResult,
    /// The generation that runs since then.
    pub generation: u64,
    /// Why it was refused, as `mamparo check` words it.
    pub problems: Vec<String>,
    /// What has changed, a line for each setting.
    pub changes: Vec<String>,
}

/// What came of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadResult {
    /// The new configuration runs.
    Applied,
    /// The files say what already runs.
    Unchanged,
    /// The old configuration still runs.
    Refused,
}

impl ReloadResult {
    /// The word for JSON, metrics and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Circuit::{Closed, HalfOpen, Open};
    use super::*;

    #[test]
    fn a_circuit_is_open_when_every_endpoints_breaker_is() {
        for (endpoints, circuit) in [
            (vec![], Closed),
            (vec![Open], Open),
            (vec![Open, Open], Open),
            (vec![Open, Closed], Closed),
            (vec![HalfOpen, Closed], Closed),
            (vec![Open, HalfOpen], HalfOpen),
            (vec![HalfOpen, Open], HalfOpen),
        ] {
            assert_eq!(Circuit::of(endpoints.clone()), circuit, "{endpoints:?}");
        }
    }

    #[test]
    fn the_words_of_the_json_are_those_of_the_rest() {
        for circuit in [Closed, Open, HalfOpen] {
            let json = serde_json::to_string(&circuit).unwrap();
            assert_eq!(json, format!("\"{}\"", circuit.name()));
        }
        for result in [
            ReloadResult::Applied,
            ReloadResult::Unchanged,
            ReloadResult::Refused,
        ] {
            let json = serde_json::to_string(&result).unwrap();
            assert_eq!(json, format!("\"{}\"", result.name()));
        }
    }
}
