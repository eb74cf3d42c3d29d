//! How many connections an upstream may have open, exact for the whole process: a slot is taken before
//! a connection is opened and given back when it is closed, whichever way that comes about.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The connections of one upstream.
#[derive(Debug, Default)]
pub struct Slots {
    open: AtomicUsize,
    idle: AtomicUsize,
    /// Rings for those who wait for a connection when one of them should look again.
    freed: Notify,
}

impl Slots {
    /// Takes a slot; `None` where `limit` connections are open.
    pub fn take(self: &Arc<Self>, limit: Option<usize>) -> Option<Slot> {
        let limit = limit.unwrap_or(usize::MAX);
        self.open
            .try_update(Ordering::AcqRel, Ordering::Relaxed, |open| {
                (open < limit).then_some(open + 1)
            })
            .ok()?;
        Some(Slot {
            slots: Arc::clone(self),
        })
    }

    /// Connections that are open or being opened.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Connections that wait in the pool.
    pub fn idle(&self) -> usize {
        self.idle.load(Ordering::Acquire)
    }

    /// Waits until a slot may have become free, counted from this call.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Lets those who wait for a connection look again.
    pub(super) fn nudge(&self) {
        self.freed.notify_waiters();
    }

    /// Counts one more idle connection, unless `limit` are idle.
    pub(super) fn rest(&self, limit: usize) -> bool {
        self.idle
            .try_update(Ordering::AcqRel, Ordering::Relaxed, |idle| {
                (idle < limit).then_some(idle + 1)
            })
            .is_ok()
    }

    /// Counts one idle connection less.
    pub(super) fn wake(&self) {
        self.idle.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to one open connection; dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
}

impl Slot {
    /// The upstream's count that it belongs to.
    pub(super) fn slots(&self) -> &Slots {
        &self.slots
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.open.fetch_sub(1, Ordering::AcqRel);
        self.slots.nudge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_among_threads() {
        let slots = Arc::new(Slots::default());
        let taken: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..50)
                            .filter_map(|_| slots.take(Some(100)))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        assert_eq!(taken.len(), 100);
        assert_eq!(slots.open(), 100);
        drop(taken);
        assert_eq!(slots.open(), 0);
        assert!(slots.take(Some(0)).is_none());
        assert!(slots.take(None).is_some());
    }
}
