//! The access log: a line for each request, formatted on the worker into a buffer of its own and
//! written by a thread of its own. A worker never waits for a disk or a pipe: where the buffer is full
//! or the destination broken, lines are dropped and counted (fault 71).
//!
//! ```text
//! worker 1 ── line ─▶ [buffer 1] ─┐
//! worker 2 ── line ─▶ [buffer 2] ─┼─ swapped for an empty one ─▶ writer ─▶ stdout, stderr or a file
//! worker 3 ── line ─▶ [buffer 3] ─┘
//! ```
//!
//! The first line after a pause wakes the writer; while lines keep coming it takes them in batches, so
//! that a line costs no system call on the worker and no allocation. Lines of one worker keep their
//! order; those of two may change places within a batch.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::histogram::Counter;
use super::report::Report;
use crate::clock;
use crate::plan;

mod destination;
pub mod line;

use destination::{Broken, Destination};

/// Buffers; a worker keeps to one, so that they do not wait for each other.
const BUFFERS: usize = 8;
/// Bytes that wait in one buffer before lines are dropped: those of a busy worker for as long as the
/// writer may have to wait for a processor.
const BUFFER_SIZE: usize = 2 << 20;
/// Bytes of an empty buffer that are kept for the next lines.
const KEPT_SIZE: usize = 256 << 10;
/// How long lines gather between two writes.
const GATHER: Duration = Duration::from_millis(10);
/// How long a stop waits for a destination that does not take the last lines.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// A running access log.
#[derive(Debug)]
pub struct AccessLog {
    keep: plan::Keep,
    shared: Arc<Shared>,
    writer: thread::Thread,
}

#[derive(Debug)]
struct Shared {
    buffers: [Mutex<Buffer>; BUFFERS],
    dropped: Arc<Counter>,
    /// A buffer was full since the writer last looked.
    overflowed: AtomicBool,
    reopen: AtomicBool,
    closing: AtomicBool,
    closed: Mutex<bool>,
    is_closed: Condvar,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    /// The writer has taken the last lines.
    closed: bool,
}

impl AccessLog {
    /// Opens the destination and starts the writer; `None` where the log is off. Lines that cannot be
    /// written are added to `dropped`.
    pub fn start(settings: &plan::AccessLog, dropped: Arc<Counter>) -> io::Result<Option<Self>> {
        let Some(destination) = &settings.destination else {
            return Ok(None);
        };
        let destination = Destination::open(destination)?;
        Self::spawn(settings.keep, destination, dropped).map(Some)
    }

    fn spawn(
        keep: plan::Keep,
        destination: Destination,
        dropped: Arc<Counter>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            buffers: Default::default(),
            dropped,
            overflowed: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            closed: Mutex::new(false),
            is_closed: Condvar::new(),
        });
        let writer = Writer {
            shared: shared.clone(),
            destination,
            batch: Vec::new(),
            lost: None,
        };
        let handle = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            keep,
            shared,
            writer: handle.thread().clone(),
        })
    }

    /// Hands over the line of a request that ended at `now`, if its kind is kept.
    pub fn write(&self, report: &Report, now: Instant) {
        match self.keep {
            plan::Keep::All => (),
            plan::Keep::Failures if report.troubled() => (),
            plan::Keep::Failures => return,
        }
        let mut buffer = self.shared.buffers[own_buffer()].lock();
        if buffer.closed || buffer.lines.len() >= BUFFER_SIZE {
            drop(buffer);
            self.shared.dropped.add_one();
            self.shared.overflowed.store(true, Ordering::Relaxed);
            return;
        }
        let is_first = buffer.lines.is_empty();
        line::write(&mut buffer.lines, report, now, clock::since_epoch());
        drop(buffer);
        if is_first {
            self.writer.unpark();
        }
    }

    /// Has a file opened anew before the next line, for whoever has just moved it away.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
    }

    /// Lets the writer end once it has written what is there; returns at once.
    pub fn stop(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.writer.unpark();
    }

    /// The same, and waits until the last line is written, at most two seconds.
    pub fn close(&self) {
        self.stop();
        let mut closed = self.shared.closed.lock();
        let is_open = |closed: &mut bool| !*closed;
        let wait = self
            .shared
            .is_closed
            .wait_while_for(&mut closed, is_open, LAST_WRITE);
        if wait.timed_out() {
            tracing::warn!(
                "The access log's destination took nothing for {LAST_WRITE:?}; its last lines are lost."
            );
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The buffer of this thread.
fn own_buffer() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    let own = OWN.try_with(|own| match own.get() {
        Some(index) => index,
        None => {
            let index = NEXT.fetch_add(1, Ordering::Relaxed) % BUFFERS;
            own.set(Some(index));
            index
        }
    });
    own.unwrap_or(0)
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    destination: Destination,
    batch: Vec<u8>,
    /// Lines dropped before the present stretch of errors, while there is one.
    lost: Option<u64>,
}

impl Writer {
    fn run(mut self) {
        loop {
            let is_last = self.shared.closing.load(Ordering::Acquire);
            if self.shared.reopen.swap(false, Ordering::Relaxed) {
                self.destination.reopen();
            }
            let any = self.write_all(is_last);
            if is_last {
                break;
            }
            if any {
                thread::sleep(GATHER);
            } else {
                thread::park();
            }
        }
        *self.shared.closed.lock() = true;
        self.shared.is_closed.notify_all();
    }

    /// Writes what every buffer holds; says whether there was anything.
    fn write_all(&mut self, is_last: bool) -> bool {
        let mut any = false;
        for index in 0..BUFFERS {
            {
                let mut buffer = self.shared.buffers[index].lock();
                buffer.closed = is_last;
                std::mem::swap(&mut buffer.lines, &mut self.batch);
            }
            if !self.batch.is_empty() {
                any = true;
                self.write();
                self.batch.clear();
                self.batch.shrink_to(KEPT_SIZE);
            }
        }
        any
    }

    fn write(&mut self) {
        let before = self.shared.dropped.get();
        let result = self.destination.write(&self.batch, clock::now());
        let overflowed = self.shared.overflowed.swap(false, Ordering::Relaxed);
        let problem = match result {
            Err(Broken { error, lost }) => {
                self.shared.dropped.add(lost);
                Some(error.to_string())
            }
            Ok(()) => overflowed.then(|| "its destination is too slow".to_owned()),
        };
        match (problem, self.lost) {
            (Some(problem), None) => {
                self.lost = Some(before);
                tracing::warn!(
                    "Access lines are dropped: {problem}. Requests go on; mamparo_access_log_dropped_total counts the lines."
                );
            }
            (None, Some(before)) => {
                self.lost = None;
                let lost = self.shared.dropped.get() - before;
                tracing::info!("The access log is written again; {lost} lines were lost.");
            }
            (Some(_), Some(_)) | (None, None) => (),
        }
    }
}

#[cfg(test)]
mod tests;
