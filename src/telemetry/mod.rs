//! Telling what happened: the report of a request, the metrics and the access line made from it, and
//! the trace that it belongs to.

pub mod access_log;
pub mod events;
pub mod examples;
pub mod explain;
pub mod exposition;
pub mod foreign;
pub mod handles;
pub mod histogram;
pub mod history;
pub mod json;
pub mod limits;
pub mod log;
pub mod meters;
pub mod metrics;
pub mod process;
pub(crate) mod protobuf;
pub mod readings;
pub mod report;
pub mod spans;
pub mod sums;
pub mod table;
pub mod trace;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use access_log::AccessLog;
use events::Events;
use explain::{KeptFor, Recorder};
use limits::Limit;
use metrics::Metrics;
use report::Report;
use spans::Exporter;

use crate::clock;
use crate::plan;

/// What tells of requests; one for the whole process.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    spans: Exporter,
    events: Events,
    explain: Recorder,
    access_log: ArcSwapOption<AccessLog>,
    /// Whether there is one.
    logs_requests: AtomicBool,
    /// What the access log runs with.
    logging: Mutex<Option<plan::AccessLog>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let metrics = Metrics::default();
        Self {
            spans: Exporter::new(Arc::clone(&metrics.spans)),
            metrics,
            events: Events::default(),
            explain: Recorder::default(),
            access_log: ArcSwapOption::default(),
            logs_requests: AtomicBool::default(),
            logging: Mutex::default(),
        }
    }
}

impl Telemetry {
    /// The metrics, for handles and for scrapes.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Spans on their way to a collector.
    pub fn spans(&self) -> &Exporter {
        &self.spans
    }

    /// What happened lately.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What became of requests that did not simply go well.
    pub fn explain(&self) -> &Recorder {
        &self.explain
    }

    /// Tells that a client of a listener went over a limit: it is counted, and told in the log.
    pub fn limited(
        &self,
        listener: &Arc<str>,
        peer: Option<SocketAddr>,
        limit: Limit,
        now: Instant,
    ) {
        let meters = self.metrics.listener(listener);
        if let Some(count) = meters.exceeded.count(limit, now) {
            let client = peer.map(tracing::field::display);
            let sentence = limits::line(listener, limit, count);
            tracing::warn!(limit = limit.name(), client, "{sentence}");
        }
    }

    /// Tells of a request that ended at `now`: it is counted, once, its access line is handed over, and where
    /// there is a reason to, it is kept and its spans are handed over.
    pub fn tell(&self, report: &Report, now: Instant) {
        self.metrics.count(report, now);
        if self.logs_requests()
            && let Some(log) = &*self.access_log.load()
        {
            log.write(report, now);
        }
        let kept_for = self.explain.wants(report, now);
        let exported = self.spans.keeps(report, now);
        if exported || kept_for.any() {
            self.keep(report, kept_for, exported, now);
        }
    }

    /// Apart, since few requests come to this.
    #[cold]
    fn keep(&self, report: &Report, kept_for: KeptFor, exported: bool, now: Instant) {
        let kept = Arc::new(report.detached());
        if exported {
            self.metrics.exemplify(report, now);
            self.spans.offer(&kept, now);
        }
        if kept_for.any() {
            self.explain.keep(kept, kept_for, now, clock::date());
        }
    }

    /// Whether anybody will ask what a request was for. Few know when it begins.
    pub fn wants_targets(&self) -> bool {
        self.logs_requests() || self.explain.is_on() || self.spans.is_active()
    }

    /// Whether access lines are written at all.
    pub fn logs_requests(&self) -> bool {
        self.logs_requests.load(Relaxed)
    }

    /// Has access lines written as these settings say, from the next request on. Where they are what
    /// holds already, nothing happens; where the destination cannot be opened, the old one stays.
    pub fn log_requests(&self, settings: &plan::AccessLog) -> io::Result<()> {
        let mut logging = self.logging.lock();
        if logging.as_ref() == Some(settings) {
            return Ok(());
        }
        let dropped = self.metrics.access_log_dropped.clone();
        let next = AccessLog::start(settings, dropped)?;
        self.logs_requests.store(next.is_some(), Relaxed);
        if let Some(old) = self.access_log.swap(next.map(Arc::new)) {
            old.stop();
        }
        *logging = Some(settings.clone());
        Ok(())
    }

    /// Has the access log's file opened anew, for whoever has just moved it away.
    pub fn reopen(&self) {
        if let Some(log) = &*self.access_log.load() {
            log.reopen();
        }
    }

    /// Ends the access log once its last line is written; waits two seconds at most. For the very end:
    /// lines that come later are dropped.
    pub fn close(&self) {
        if let Some(log) = self.access_log.load_full() {
            log.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Keep, LogDestination};
    use crate::telemetry::report::{Outcome, samples};

    #[test]
    fn rule_87_a_request_that_is_kept_keeps_no_counters_of_what_was_removed() {
        let telemetry = Telemetry::default();
        let names = ["in", "charges", "payments"].map(samples::name);
        let (listener, route) = (
            telemetry.metrics().listener(&names[0]),
            telemetry.metrics().route(&names[0], &names[1], &names[2]),
        );
        let mut failed = samples::report(listener, Some(route), Outcome::Failed, 502);
        failed.asked = true;
        telemetry.tell(&failed, failed.started);
        drop(failed);
        let series = || {
            let readings = readings::Readings::default();
            let text = telemetry.metrics().render(&readings);
            text.matches("charges").count()
        };
        assert!(series() > 0, "the last counts are still to be had");
        // The route goes first, and then what it held.
        (0..2 * handles::SCRAPES).for_each(|_| _ = series());
        assert_eq!(series(), 0);
        let kept = telemetry.explain().recent().remove(0);
        let line = explain::Line::of(&kept);
        assert_eq!(
            (line.listener.as_str(), line.route.as_deref()),
            ("in", Some("charges"))
        );
        assert_eq!(line.upstream.as_deref(), Some("payments"));
    }

    #[test]
    fn a_request_is_counted_and_logged_once_wherever_the_log_goes_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let telemetry = Telemetry::default();
        let listener = telemetry.metrics().listener(&samples::name("in"));
        let report = samples::report(listener, None, Outcome::Refused, 404);
        telemetry.tell(&report, report.started);
        let settings = |name: &str| plan::AccessLog {
            destination: Some(LogDestination::File(folder.path().join(name))),
            keep: Keep::All,
        };
        for name in ["a", "a", "b"] {
            telemetry.log_requests(&settings(name)).unwrap();
            telemetry.tell(&report, report.started);
        }
        let refused = telemetry.log_requests(&settings("no/such/folder"));
        assert!(refused.is_err(), "and the old one stays");
        telemetry.tell(&report, report.started);
        telemetry.close();
        let mut off = settings("a");
        off.destination = None;
        telemetry.log_requests(&off).unwrap();
        telemetry.tell(&report, report.started);
        // The writer of the first file ends by itself.
        let lines = |name: &str| {
            let text = std::fs::read_to_string(folder.path().join(name));
            text.unwrap_or_default().lines().count()
        };
        for _ in 0..2000 {
            if lines("a") == 2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!((lines("a"), lines("b")), (2, 2));
        assert_eq!(telemetry.metrics().sums().total().requests, 6);
        assert_eq!(telemetry.metrics().access_log_dropped.get(), 0);
    }
}
