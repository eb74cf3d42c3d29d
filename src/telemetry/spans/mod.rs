//! Spans for a collector. A worker hands over the report of a request whose spans are kept, and nothing
//! else: they are written by whoever sends them, in batches. The queue is bounded and never waited for.
//! Where the collector is slower than the traffic, spans are dropped and counted.
//!
//! ```text
//! worker 1 ─┐ keeps? ── no: nothing happens
//! worker 2 ─┼─ yes ─▶ [reports, 2048 at most] ── a second old, or 512 spans ─▶ batch ─▶ collector
//! worker 3 ─┘            full: dropped, counted
//! ```

mod choice;
mod encode;
mod resource;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::histogram::Counter;
use super::protobuf::{self, Read};
use super::report::Report;
use crate::clock;
use crate::plan::Tracing;
use choice::Choice;
use encode::Anchor;

/// Reports that wait; one more is dropped.
pub const MAX_WAITING: usize = 2048;
/// Spans of one batch, but for a last request with many tries.
pub const BATCH_SPANS: usize = 512;
/// Bytes of one batch, but for its last request: collectors take 4 MiB and more.
const BATCH_BYTES: usize = 3 << 20;
/// How long spans gather before a batch that is not full goes.
const GATHER: Duration = Duration::from_secs(1);

/// What became of spans.
#[derive(Debug, Default)]
pub struct Counts {
    /// The collector took them.
    pub exported: Counter,
    /// More came than the collector takes, or it refused them one by one.
    pub dropped: Counter,
    /// The collector was not reached, or refused the whole batch.
    pub failed: Counter,
}

impl Counts {
    /// Each with its word.
    pub fn read(&self) -> [(&'static str, u64); 3] {
        [
            ("exported", self.exported.get()),
            ("dropped", self.dropped.get()),
            ("failed", self.failed.get()),
        ]
    }

    /// Spans that no collector has got.
    pub fn lost(&self) -> u64 {
        self.dropped.get() + self.failed.get()
    }
}

/// Spans on their way to a collector.
#[derive(Debug, Default)]
pub struct Exporter {
    running: ArcSwapOption<Running>,
    /// Whether there is a collector.
    active: AtomicBool,
    queue: Mutex<VecDeque<Kept>>,
    /// Reports in the queue, and their spans: for those who do not hold it.
    waiting: AtomicUsize,
    spans: AtomicUsize,
    wake: Notify,
    overflowed: AtomicBool,
    closing: AtomicBool,
    closed: Notify,
    counts: Arc<Counts>,
}

/// What holds of the configuration.
#[derive(Debug)]
struct Running {
    settings: Arc<Tracing>,
    choice: Choice,
    /// Whose spans they are, written already.
    resource: Vec<u8>,
}

/// A request whose spans are kept.
#[derive(Debug)]
struct Kept {
    report: Arc<Report>,
    ended: Instant,
}

/// Spans that are sent together.
#[derive(Debug)]
pub struct Batch {
    /// Where they go, and how.
    pub settings: Arc<Tracing>,
    /// The request's body: `ExportTraceServiceRequest` in protobuf.
    pub body: Bytes,
    /// How many there are.
    pub spans: u64,
}

impl Exporter {
    /// Counts there.
    pub fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            ..Self::default()
        }
    }

    /// What became of spans so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Has spans exported as these settings say from the next request on, under the service's name;
    /// `None`: none are. What waits goes to the new collector.
    pub fn follow(&self, settings: Option<&Arc<Tracing>>, service: &Arc<str>) {
        let next = settings.map(|settings| {
            let mut resource = Vec::new();
            resource::write(&mut resource, service);
            Arc::new(Running {
                settings: Arc::clone(settings),
                choice: Choice::new(settings.keep),
                resource,
            })
        });
        let running = self.running.load();
        if let (Some(next), Some(running)) = (&next, &*running)
            && next.settings == running.settings
            && next.resource == running.resource
        {
            // The connection to the collector is that of these settings.
            return;
        }
        self.active.store(next.is_some(), Ordering::Relaxed);
        let gone = next.is_none();
        self.running.store(next);
        if gone {
            self.drop_all();
        }
    }

    /// Whether there is a collector.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Whether the spans of a request that ended at `now` are to be offered. Those that no room is left
    /// for are counted as dropped here.
    pub fn keeps(&self, report: &Report, now: Instant) -> bool {
        if !self.is_active() {
            return false;
        }
        let running = self.running.load();
        let kept = running
            .as_ref()
            .is_some_and(|running| running.choice.keeps(report, now));
        if kept && self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            self.overflow(report);
            return false;
        }
        kept
    }

    /// Hands over a request that ended then. Never waits.
    pub fn offer(&self, report: &Arc<Report>, ended: Instant) {
        let spans = encode::count(report);
        let mut queue = self.queue.lock();
        if queue.len() >= MAX_WAITING || self.is_closed() {
            drop(queue);
            return self.overflow(report);
        }
        let report = Arc::clone(report);
        queue.push_back(Kept { report, ended });
        self.waiting.store(queue.len(), Ordering::Relaxed);
        let before = self.spans.fetch_add(spans, Ordering::Relaxed);
        drop(queue);
        // Twice for each batch: as it begins, and as it is full.
        if before == 0 || before < BATCH_SPANS && before + spans >= BATCH_SPANS {
            self.wake.notify_one();
        }
    }

    /// The next batch, once it is due. `None`: nothing comes any more.
    pub async fn next(&self) -> Option<Batch> {
        loop {
            self.gather().await;
            if let Some(batch) = self.batch() {
                return Some(batch);
            }
            if self.is_closed() {
                return None;
            }
        }
    }

    /// Whether spans were dropped for want of room since it was last asked.
    pub fn has_overflowed(&self) -> bool {
        self.overflowed.swap(false, Ordering::Relaxed)
    }

    /// Nothing is taken any more, and what waits is due.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.closed.notify_waiters();
        self.wake.notify_one();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Until it is closed.
    pub async fn until_closed(&self) {
        let mut closed = std::pin::pin!(self.closed.notified());
        closed.as_mut().enable();
        if !self.is_closed() {
            closed.await;
        }
    }

    async fn gather(&self) {
        let spans = || self.spans.load(Ordering::Relaxed);
        while spans() == 0 && !self.is_closed() {
            self.wake.notified().await;
        }
        let until = clock::now() + GATHER;
        while spans() < BATCH_SPANS && !self.is_closed() {
            let woken = tokio::time::timeout_at(until.into(), self.wake.notified()).await;
            if woken.is_err() {
                return;
            }
        }
    }

    /// What waits, as much of it as one batch holds; `None`: nothing does.
    fn batch(&self) -> Option<Batch> {
        let Some(running) = self.running.load_full() else {
            // Handed over by who had asked before there was no collector any more.
            self.drop_all();
            return None;
        };
        let anchor = Anchor {
            now: clock::now(),
            since_epoch: clock::since_epoch(),
        };
        let (mut spans, mut bytes) = (0, Vec::new());
        while bytes.len() < BATCH_BYTES
            && let Some(kept) = self.take(spans)
        {
            spans += encode::count(&kept.report);
            encode::spans(&mut bytes, &kept.report, kept.ended, &anchor);
        }
        (spans > 0).then(|| Batch {
            settings: Arc::clone(&running.settings),
            body: encode::batch(&running.resource, &bytes).into(),
            spans: spans as u64,
        })
    }

    /// The next report that still has room beside so many spans.
    fn take(&self, beside: usize) -> Option<Kept> {
        let mut queue = self.queue.lock();
        let spans = encode::count(&queue.front()?.report);
        if beside > 0 && beside + spans > BATCH_SPANS {
            return None;
        }
        let kept = queue.pop_front();
        self.waiting.store(queue.len(), Ordering::Relaxed);
        self.spans.fetch_sub(spans, Ordering::Relaxed);
        kept
    }

    fn drop_all(&self) {
        let mut spans = 0;
        while let Some(kept) = self.take(0) {
            spans += encode::count(&kept.report);
        }
        self.counts.dropped.add(spans as u64);
    }

    fn overflow(&self, report: &Report) {
        self.counts.dropped.add(encode::count(report) as u64);
        self.overflowed.store(true, Ordering::Relaxed);
    }
}

/// What a collector says of a batch that it has taken: how many spans it refused, and why. `None`: it
/// took them all.
pub fn refused(answer: &[u8]) -> Option<(u64, String)> {
    const PARTIAL_SUCCESS: u64 = 1;
    const REJECTED_SPANS: u64 = 1;
    const ERROR_MESSAGE: u64 = 2;
    let (mut spans, mut why) = (0, String::new());
    let mut rest = answer;
    while let Some((field, value)) = protobuf::next(&mut rest) {
        let (PARTIAL_SUCCESS, Read::Bytes(mut inner)) = (field, value) else {
            continue;
        };
        while let Some((field, value)) = protobuf::next(&mut inner) {
            match (field, value) {
                (REJECTED_SPANS, Read::Number(count)) => spans = count,
                (ERROR_MESSAGE, Read::Bytes(text)) => {
                    why = String::from_utf8_lossy(text).into_owned();
                }
                (_, Read::Number(_) | Read::Bytes(_)) => {}
            }
        }
    }
    (spans > 0 || !why.is_empty()).then_some((spans, why))
}
