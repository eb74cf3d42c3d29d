//! Telling what happened: the report of a request, the metrics and the access line made from it, and
//! the trace that it belongs to.

pub mod events;
pub mod exposition;
pub mod handles;
pub mod histogram;
pub mod json;
pub mod log;
pub mod meters;
pub mod metrics;
pub mod process;
pub mod readings;
pub mod report;
pub mod table;
pub mod trace;

use std::time::Instant;

use events::Events;
use metrics::Metrics;
use report::Report;

/// What tells of requests; one for the whole process.
#[derive(Debug, Default)]
pub struct Telemetry {
    metrics: Metrics,
    events: Events,
}

impl Telemetry {
    /// The metrics, for handles and for scrapes.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What happened lately.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Tells of a request that ended at `now`: it is counted, once, and its access line handed over.
    pub fn tell(&self, report: &Report, now: Instant) {
        self.metrics.count(report, now);
    }
}
