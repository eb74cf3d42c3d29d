//! The guard that tells of a request: once, when it is complete, or when it is dropped because the
//! client left.

use std::sync::Arc;

use super::Proxy;
use crate::clock;
use crate::policy::outcome::Reason;
use crate::telemetry::report::{Outcome, Report};
use crate::telemetry::trace::TraceContext;

/// A report that will be told, whatever happens.
#[derive(Debug)]
pub struct Told {
    proxy: Arc<Proxy>,
    report: Box<Report>,
    complete: bool,
}

impl Told {
    /// Until [`Self::complete`] is called, being dropped means that the client has gone.
    pub fn new(proxy: &Arc<Proxy>, report: Report) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            report: Box::new(report),
            complete: false,
        }
    }

    /// What is told.
    pub fn report(&mut self) -> &mut Report {
        &mut self.report
    }

    /// The trace that it belongs to.
    pub fn trace(&self) -> &TraceContext {
        &self.report.trace
    }

    /// The process that it is told to.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The request ended as the report says.
    pub fn complete(mut self) {
        self.complete = true;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if !self.complete {
            // Dropped by a panic of ours, the request is answered with 500 by the server.
            let (outcome, reason) = if std::thread::panicking() {
                (Outcome::Failed, Reason::Internal)
            } else {
                (Outcome::ClientGone, Reason::ClientGone)
            };
            self.report.outcome = outcome;
            self.report.reason = Some(reason);
            if self.report.head_at.is_none() {
                self.report.status = reason.status();
            }
        }
        self.proxy.telemetry.tell(&self.report, clock::now());
    }
}
