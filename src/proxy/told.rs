//! The guard that tells of a request: once, when it is complete, or when it is dropped because the
//! client left.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::Proxy;
use crate::clock;
use crate::policy;
use crate::policy::outcome::{Ending, Reason, Sent};
use crate::telemetry::report::{Outcome, Report, Try};
use crate::telemetry::trace::{self, TraceContext};

thread_local! {
    /// Who the request was that a panic on this thread has dropped last.
    static DROPPED_BY_PANIC: Cell<Option<(HeaderValue, u128)>> = const { Cell::new(None) };
}

/// The request's id and its trace's, when called right after a panic has been caught: its guard is gone
/// then, but its answer has to name it.
pub fn take_dropped_by_panic() -> Option<(HeaderValue, u128)> {
    DROPPED_BY_PANIC.take()
}

/// A report that will be told, whatever happens.
#[derive(Debug)]
pub struct Told {
    proxy: Arc<Proxy>,
    report: Box<Report>,
    ended: Option<Instant>,
    under_way: Option<UnderWay>,
    sending: AtomicBool,
}

/// A try that has begun.
#[derive(Debug)]
struct UnderWay {
    endpoint: Arc<str>,
    began: Instant,
    waited: Duration,
    span_id: u64,
}

/// What a try has shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// How long it took.
    pub took: Duration,
    /// What it ended in.
    pub ending: Ending,
    /// How far the request had got.
    pub sent: Sent,
    /// Whether the connection had been used before.
    pub reused: bool,
    /// What the endpoint's breaker learnt.
    pub outcome: policy::outcome::Outcome,
}

impl Told {
    /// Until [`Self::complete`] is called, being dropped means that the client has gone.
    pub fn new(proxy: &Arc<Proxy>, report: Report) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            report: Box::new(report),
            ended: None,
            under_way: None,
            sending: AtomicBool::new(false),
        }
    }

    /// A try begins. It is told of even if the client leaves before it ends: a client that gives up at
    /// its own timeout must not hide which endpoint was slow (rule 8).
    pub fn try_begins(&mut self, endpoint: &Arc<str>, began: Instant, waited: Duration) {
        let endpoint = Arc::clone(endpoint);
        self.under_way = Some(UnderWay {
            endpoint,
            began,
            waited,
            span_id: trace::span(),
        });
        self.sending.store(false, Ordering::Relaxed);
    }

    /// The `traceparent` of the try that has begun (rule 22).
    pub fn traceparent(&self) -> HeaderValue {
        let own = self.under_way.as_ref().map(|one| one.span_id);
        let trace = &self.report.trace;
        trace.header(own.unwrap_or(trace.span_id))
    }

    /// The try that has begun hands its request to a connection now.
    pub fn sending(&self) {
        self.sending.store(true, Ordering::Relaxed);
    }

    /// The try that has begun was none: nothing is told of it.
    pub fn forget_try(&mut self) {
        self.under_way = None;
    }

    /// The try that has begun ends so.
    pub fn end_try(&mut self, shown: Shown) {
        let Some(UnderWay {
            endpoint,
            began,
            waited,
            span_id,
        }) = self.under_way.take()
        else {
            return;
        };
        let Shown {
            took,
            ending,
            sent,
            reused,
            outcome,
        } = shown;
        self.report.tries.push(Try {
            endpoint,
            started: began.saturating_duration_since(self.report.started),
            waited,
            took,
            ending,
            sent,
            reused,
            outcome,
            span_id,
        });
    }

    /// The request ends before the try that has begun, if one has: it is told of as far as it came.
    pub fn tell_of_try(&mut self, now: Instant) {
        let Some(under_way) = &self.under_way else {
            return;
        };
        let reason = self.report.reason.unwrap_or(Reason::ClientGone);
        let sent = match self.sending.load(Ordering::Relaxed) {
            true => Sent::Unanswered,
            false => Sent::NotSent,
        };
        let shown = Shown {
            took: now.saturating_duration_since(under_way.began),
            ending: Ending::Failed(reason),
            sent,
            reused: false,
            outcome: policy::outcome::Outcome::Ignored,
        };
        self.end_try(shown);
    }

    /// What is told.
    pub fn report(&mut self) -> &mut Report {
        &mut self.report
    }

    /// The trace that it belongs to.
    pub fn trace(&self) -> &TraceContext {
        &self.report.trace
    }

    /// The request's id.
    pub fn request_id(&self) -> &HeaderValue {
        &self.report.request_id
    }

    /// The process that it is told to.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The request ended, at `now`, as the report says.
    pub fn complete(mut self, now: Instant) {
        self.ended = Some(now);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Dropped by a panic of ours, the request is answered with 500 by the server.
            let (outcome, reason) = if std::thread::panicking() {
                let request_id = self.report.request_id.clone();
                DROPPED_BY_PANIC.set(Some((request_id, self.report.trace.trace_id)));
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
        let now = self.ended.unwrap_or_else(clock::now);
        self.tell_of_try(now);
        self.proxy.telemetry.tell(&self.report, now);
    }
}
