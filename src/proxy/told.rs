//! The guard that tells of a request: once, when it is complete, or when it is dropped because the
//! client left or the drain's time is over.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::{Proxy, message};
use crate::clock;
use crate::live::roster::{Endpoint, Move, Moves};
use crate::policy;
use crate::policy::balance::Picked;
use crate::policy::outcome::{Ending, Reason, Sent};
use crate::telemetry::report::{BreakerMove, Outcome, Report, Try};
use crate::telemetry::trace::{self, TraceContext};

thread_local! {
    /// Who the request was that a panic on this thread has dropped last.
    static DROPPED_BY_PANIC: Cell<Option<(HeaderValue, u128)>> = const { Cell::new(None) };
    /// What is dropped on this thread is cut by us.
    static CUTTING: Cell<bool> = const { Cell::new(false) };
}

/// Drops a connection's requests. `cut`: because the drain's time is over, which is told of them then;
/// else their client has left (rule 85).
pub fn drop_requests<T>(cut: bool, drop_them: impl FnOnce() -> T) -> T {
    CUTTING.set(cut);
    let given = drop_them();
    CUTTING.set(false);
    given
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
    /// The last try of the report has begun, and not ended.
    under_way: bool,
    sending: AtomicBool,
    /// Nanoseconds from the try's begin to its connection, where that was waited for; 0: it was not.
    connected: AtomicU64,
}

/// A try that begins.
#[derive(Debug)]
pub struct Begins<'a> {
    /// Where.
    pub endpoint: &'a Endpoint,
    /// Why there.
    pub picked: Picked,
    /// The header whose hash may have chosen it.
    pub hashed_by: Option<&'a Arc<str>>,
    /// When.
    pub began: Instant,
    /// The backoff before it.
    pub waited: Duration,
}

/// What a try has shown.
#[derive(Debug)]
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
    /// What the system or the parser said of a failure.
    pub detail: Option<Box<str>>,
}

impl Told {
    /// Until [`Self::complete`] is called, being dropped means that the client has gone.
    pub fn new(proxy: &Arc<Proxy>, report: Report) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            report: Box::new(report),
            ended: None,
            under_way: false,
            sending: AtomicBool::new(false),
            connected: AtomicU64::new(0),
        }
    }

    /// A try begins. It is told of even if the client leaves before it ends: a client that gives up at
    /// its own timeout must not hide which endpoint was slow (rule 8).
    pub fn try_begins(&mut self, begins: &Begins<'_>) {
        self.report.tries.push(Try {
            endpoint: Arc::clone(&begins.endpoint.label),
            started: begins.began.saturating_duration_since(self.report.started),
            waited: begins.waited,
            took: Duration::ZERO,
            ending: Ending::Failed(Reason::ClientGone),
            sent: Sent::NotSent,
            reused: false,
            connected: None,
            tls: begins.endpoint.secured.is_some(),
            span_id: trace::span(),
            picked: begins.picked,
            hashed_by: begins.hashed_by.map(Arc::clone),
            detail: None,
            outcome: policy::outcome::Outcome::Ignored,
            next: None,
        });
        self.under_way = true;
        self.sending.store(false, Ordering::Relaxed);
        self.connected.store(0, Ordering::Relaxed);
    }

    /// Whether a try has ended.
    pub fn has_tried(&self) -> bool {
        self.report.tries.len() > usize::from(self.under_way)
    }

    /// The connection stands, so long after the try began: it had to be waited for.
    pub fn connected(&self, after: Duration) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.connected.store(nanos.max(1), Ordering::Relaxed);
    }

    /// The `traceparent` of the try that has begun (rule 22).
    pub fn traceparent(&self) -> HeaderValue {
        let trace = &self.report.trace;
        let last = self.report.tries.last().filter(|_| self.under_way);
        trace.header(last.map_or(trace.span_id, |last| last.span_id))
    }

    /// The try that has begun hands its request to a connection now.
    pub fn sending(&self) {
        self.sending.store(true, Ordering::Relaxed);
    }

    /// The try that has begun was none: nothing is told of it.
    pub fn forget_try(&mut self) {
        if std::mem::take(&mut self.under_way) {
            self.report.tries.pop();
        }
    }

    /// The try that has begun ends so.
    pub fn end_try(&mut self, shown: Shown) {
        if !std::mem::take(&mut self.under_way) {
            return;
        }
        if let Some(last) = self.report.tries.last_mut() {
            last.took = shown.took;
            last.ending = shown.ending;
            last.sent = shown.sent;
            last.reused = shown.reused;
            last.outcome = shown.outcome;
            last.detail = shown.detail;
            last.connected = match self.connected.load(Ordering::Relaxed) {
                0 => None,
                nanos => Some(Duration::from_nanos(nanos)),
            };
        }
    }

    /// Breakers moved because of this request: told to everyone who wants to know.
    pub fn moved(&mut self, upstream: &Arc<str>, moves: &Moves, now: Instant) {
        for moved in moves {
            self.moved_one(upstream, moved, now);
        }
    }

    /// One breaker did.
    pub fn moved_one(&mut self, upstream: &Arc<str>, moved: &Move, now: Instant) {
        self.proxy.moved_one(upstream, moved);
        self.report.moves.push(BreakerMove {
            at: now.saturating_duration_since(self.report.started),
            endpoint: Arc::clone(&moved.endpoint),
            transition: moved.transition,
            cause: moved.cause.clone(),
            retry_in: moved.retry_in,
        });
    }

    /// The request ends before the try that has begun, if one has: it is told of as far as it came.
    pub fn tell_of_try(&mut self, now: Instant) {
        let last = self.report.tries.last().filter(|_| self.under_way);
        let Some(began) = last.map(|last| self.report.started + last.started) else {
            return;
        };
        let reason = self.report.reason.unwrap_or(Reason::ClientGone);
        let sent = match self.sending.load(Ordering::Relaxed) {
            true => Sent::Unanswered,
            false => Sent::NotSent,
        };
        let shown = Shown {
            took: now.saturating_duration_since(began),
            ending: Ending::Failed(reason),
            sent,
            reused: false,
            outcome: policy::outcome::Outcome::Ignored,
            detail: None,
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
            } else if CUTTING.get() {
                self.report.detail = Some(message::cut().into());
                (Outcome::Failed, Reason::Draining)
            } else {
                (Outcome::ClientGone, Reason::ClientGone)
            };
            self.report.reason = Some(reason);
            if self.report.head_at.is_none() {
                self.report.status = reason.status();
                self.report.outcome = outcome;
            } else if reason == Reason::Draining {
                // An answer had begun, and is counted as what it was.
                self.report.broken = true;
            } else {
                self.report.outcome = outcome;
            }
        }
        let now = self.ended.unwrap_or_else(clock::now);
        self.tell_of_try(now);
        self.proxy.telemetry.tell(&self.report, now);
    }
}
