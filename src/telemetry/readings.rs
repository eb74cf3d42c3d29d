//! What is read from the running state at the moment of a scrape: plain numbers, filled in by whoever
//! knows the state. A gauge is never kept up to date by events, so it cannot drift (rule 87).

use std::sync::Arc;

use crate::policy::breaker::State;

/// The gauges of the whole process.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// The generation of the configuration that runs.
    pub generation: u64,
    /// Whether the last configuration that was read is the one that runs.
    pub last_reload_ok: bool,
    /// The upstreams of the running configuration, each once.
    pub upstreams: Vec<UpstreamReading>,
    /// Handshakes that failed, by listener and reason.
    pub handshakes: Vec<HandshakeReading>,
    /// The files of certificates in use.
    pub certificates: Vec<CertificateReading>,
    /// How often sources of endpoints were asked, by upstream and source.
    pub discovery: Vec<DiscoveryReading>,
}

/// How often one source of an upstream's endpoints was asked.
#[derive(Debug, Clone)]
pub struct DiscoveryReading {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The source, as it is configured.
    pub source: String,
    /// How often, by what came of it, of a closed list.
    pub updates: [(&'static str, u64); 3],
}

/// Handshakes that failed on one listener for one reason.
#[derive(Debug, Clone)]
pub struct HandshakeReading {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The reason, of a closed list.
    pub why: &'static str,
    /// How many, so far.
    pub count: u64,
}

/// One file of certificates in use.
#[derive(Debug, Clone)]
pub struct CertificateReading {
    /// The listener that uses it; empty: an upstream does.
    pub listener: Arc<str>,
    /// The upstream that uses it; empty: a listener does.
    pub upstream: Arc<str>,
    /// The file.
    pub file: String,
    /// When the first certificate in it expires, in Unix time.
    pub expires: i64,
}

/// The gauges of one upstream.
#[derive(Debug, Clone)]
pub struct UpstreamReading {
    /// Its name.
    pub name: Arc<str>,
    /// Retries that the budget would pay for now; `None`: no budget.
    pub retry_budget_tokens: Option<f64>,
    /// Requests that hold a seat.
    pub in_flight: usize,
    /// Requests that wait for a seat.
    pub queued: usize,
    /// Seats in all; `None`: no limit.
    pub limit: Option<usize>,
    /// Connections that wait for a request.
    pub idle: usize,
    /// Connections with a request under way.
    pub active: usize,
    /// Its endpoints, each address once.
    pub endpoints: Vec<EndpointReading>,
}

/// The gauges of one endpoint.
#[derive(Debug, Clone)]
pub struct EndpointReading {
    /// Its address.
    pub address: Arc<str>,
    /// The state of its breaker; `None`: it has none.
    pub breaker: Option<State>,
    /// Whether its health checks say that it does not work.
    pub unhealthy: bool,
    /// Whether it gets no new requests, since it was removed or its source names it no more.
    pub draining: bool,
}

impl UpstreamReading {
    /// How many endpoints are available, open, unhealthy, and draining; each is one of them.
    pub(super) fn endpoints_by_state(&self) -> [(&'static str, usize); 4] {
        let (mut available, mut open, mut unhealthy, mut draining) = (0, 0, 0, 0);
        for endpoint in &self.endpoints {
            match endpoint.breaker {
                _ if endpoint.draining => draining += 1,
                _ if endpoint.unhealthy => unhealthy += 1,
                Some(State::Open) => open += 1,
                None | Some(State::Closed | State::HalfOpen) => available += 1,
            }
        }
        [
            ("available", available),
            ("open", open),
            ("unhealthy", unhealthy),
            ("draining", draining),
        ]
    }
}
