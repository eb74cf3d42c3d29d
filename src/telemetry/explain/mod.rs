//! What became of requests that did not simply go well, step by step: those that failed, were retried,
//! were slow, were answered by a fallback, or whose client asked. Their reports are kept in a ring of
//! bounded length and bytes, the newest ones win, and sentences are made of them when somebody asks.
//!
//! The lock is taken by requests with trouble, and by whoever looks; never by one that went well.

mod kept_for;
mod story;
mod tell;
mod text;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::report::Report;
use crate::plan;

pub use kept_for::KeptFor;
pub use story::{Line, Step, Story};
pub use text::{list as list_text, story as story_text};

/// Bytes that all kept reports may take together.
const MAX_BYTES: usize = 1024 * 1024;

/// Microseconds that no request takes: nothing is kept.
const OFF: u64 = u64::MAX;

/// The reports that are kept.
#[derive(Debug)]
pub struct Recorder {
    /// From how many microseconds on a request is slow; [`OFF`] where nothing is kept.
    slower_than: AtomicU64,
    ring: Mutex<Ring>,
}

/// One request that is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// What there is to tell of it.
    pub report: Arc<Report>,
    /// Why it is kept.
    pub kept_for: KeptFor,
    /// When it ended.
    pub ended: SystemTime,
    /// From its first byte to its end.
    pub took: Duration,
    /// Counts up: the greater, the newer.
    number: u64,
    bytes: usize,
}

/// Two queues, each oldest first. A flood of requests that are refused without a try must not push out
/// what was tried: those are worth more than their number.
#[derive(Debug)]
struct Ring {
    refused: VecDeque<Kept>,
    tried: VecDeque<Kept>,
    bytes: usize,
    most: usize,
    next: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        let settings = plan::Explain::default();
        let recorder = Self {
            slower_than: AtomicU64::new(OFF),
            ring: Mutex::new(Ring {
                refused: VecDeque::new(),
                tried: VecDeque::new(),
                bytes: 0,
                most: 0,
                next: 0,
            }),
        };
        recorder.configure(Some(&settings));
        recorder
    }
}

impl Recorder {
    /// Keeps as these settings say from now on; `None`: nothing, and what was kept is forgotten.
    pub fn configure(&self, settings: Option<&plan::Explain>) {
        let slower_than = settings.map_or(OFF, |settings| micros(settings.slower_than));
        self.slower_than.store(slower_than, Relaxed);
        let mut ring = self.ring.lock();
        ring.most = settings.map_or(0, |settings| settings.keep);
        let gone = ring.make_room();
        drop(ring);
        drop(gone);
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.slower_than.load(Relaxed) != OFF
    }

    /// Requests that are kept at most.
    pub fn capacity(&self) -> usize {
        self.ring.lock().most
    }

    /// Why a request that ended at `now` is to be kept, if it is. Cheap: asked for every one.
    pub fn wants(&self, report: &Report, now: Instant) -> KeptFor {
        match self.slower_than.load(Relaxed) {
            OFF => KeptFor::NOTHING,
            slower_than => KeptFor::of(report, now, Duration::from_micros(slower_than)),
        }
    }

    /// Keeps a request that ended at `now`, which is the date `ended`.
    pub fn keep(&self, report: Arc<Report>, kept_for: KeptFor, now: Instant, ended: SystemTime) {
        let took = now.saturating_duration_since(report.started);
        let bytes = report.weight() + size_of::<Kept>();
        let gone = self.ring.lock().push(Kept {
            report,
            kept_for,
            ended,
            took,
            number: 0,
            bytes,
        });
        // Taken apart when the lock is free again.
        drop(gone);
    }

    /// What is kept, newest first.
    pub fn recent(&self) -> Vec<Kept> {
        let ring = self.ring.lock();
        let mut all: Vec<Kept> = ring.refused.iter().chain(&ring.tried).cloned().collect();
        drop(ring);
        all.sort_unstable_by_key(|kept| std::cmp::Reverse(kept.number));
        all
    }

    /// The newest request with that id, or else with that trace id (32 hexadecimal digits).
    pub fn find(&self, id: &str) -> Option<Kept> {
        let ring = self.ring.lock();
        let newest = |is_it: &dyn Fn(&Report) -> bool| {
            let all = ring.refused.iter().chain(&ring.tried);
            all.filter(|kept| is_it(&kept.report))
                .max_by_key(|kept| kept.number)
                .cloned()
        };
        let trace = Some(id).filter(|id| id.len() == 32);
        let trace = trace.and_then(|id| u128::from_str_radix(id, 16).ok());
        newest(&|report| report.request_id.as_bytes() == id.as_bytes())
            .or_else(|| newest(&|report| Some(report.trace.trace_id) == trace))
    }

    /// Reports that are kept, and the bytes that they take.
    pub fn used(&self) -> (usize, usize) {
        let ring = self.ring.lock();
        (ring.len(), ring.bytes)
    }
}

impl Ring {
    fn len(&self) -> usize {
        self.refused.len() + self.tried.len()
    }

    fn is_over(&self) -> bool {
        self.len() > self.most || self.bytes > MAX_BYTES
    }

    /// Gives what had to go.
    fn push(&mut self, kept: Kept) -> SmallVec<[Kept; 1]> {
        let number = self.next;
        self.next += 1;
        self.bytes += kept.bytes;
        let queue = match kept.report.tries.is_empty() {
            true => &mut self.refused,
            false => &mut self.tried,
        };
        queue.push_back(Kept { number, ..kept });
        self.make_room()
    }

    fn make_room(&mut self) -> SmallVec<[Kept; 1]> {
        let mut gone = SmallVec::new();
        while self.is_over() {
            gone.extend(self.forget_one());
        }
        gone
    }

    /// The oldest goes; of more refused than tried ones, the oldest refused one.
    fn forget_one(&mut self) -> Option<Kept> {
        let age = |queue: &VecDeque<Kept>| queue.front().map_or(u64::MAX, |kept| kept.number);
        let many_refused = self.refused.len() > self.tried.len();
        let queue = match many_refused || age(&self.refused) < age(&self.tried) {
            true => &mut self.refused,
            false => &mut self.tried,
        };
        let gone = queue.pop_front();
        self.bytes = match &gone {
            Some(gone) => self.bytes.saturating_sub(gone.bytes),
            // Nothing is left, so nothing takes any bytes.
            None => 0,
        };
        gone
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).map_or(OFF - 1, |micros| micros.min(OFF - 1))
}

#[cfg(test)]
mod tests;
