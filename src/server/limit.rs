//! How many connections from clients the whole process may have. At the limit accepting pauses: new
//! ones wait in the system's backlog.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::episode::Episode;
use crate::clock;

/// The limit `runtime.max_connections`, with what is open. Exact for the whole process.
#[derive(Debug)]
pub struct ConnectionLimit {
    open: AtomicUsize,
    max: AtomicUsize,
    freed: Notify,
    waiting: Mutex<Episode>,
}

impl ConnectionLimit {
    /// A limit of `max` connections, at least 1.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max.max(1)),
            freed: Notify::new(),
            waiting: Mutex::default(),
        })
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// How many may be open.
    pub fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// Sets how many may be open from now on, at least 1. Connections over a lowered limit stay; none
    /// is added until enough have ended.
    pub fn set_max(&self, max: usize) {
        self.max.store(max.max(1), SeqCst);
        self.freed.notify_waiters();
    }

    /// A place for one more connection, at once or when one has ended. An episode of waiting is told
    /// once: it begins when a connection has to wait and ends when one finds a place at once, a while
    /// after the last that did not.
    pub async fn place(self: &Arc<Self>) -> Place {
        if let Some(place) = self.try_place() {
            if self.waiting.lock().well(clock::now) {
                tracing::info!(open = self.open(), "accepting connections again");
            }
            return place;
        }
        if self.waiting.lock().trouble(clock::now()) {
            tracing::warn!(
                max_connections = self.max(),
                "runtime.max_connections is reached: {} connections from clients are open; new ones \
                 wait in the backlog until one ends",
                self.open()
            );
        }
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(place) = self.try_place() {
                return place;
            }
            freed.await;
        }
    }

    fn try_place(self: &Arc<Self>) -> Option<Place> {
        let max = self.max.load(SeqCst);
        let one_more = |open| (open < max).then_some(open + 1);
        self.open
            .try_update(SeqCst, SeqCst, one_more)
            .ok()
            .map(|_| Place(Arc::clone(self)))
    }
}

/// A place for one connection; given back on drop.
#[derive(Debug)]
pub struct Place(Arc<ConnectionLimit>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_one_waits_until_another_has_ended() {
        let limit = ConnectionLimit::new(2);
        let (first, _second) = (limit.place().await, limit.place().await);
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, limit.place()).await.is_err());
        drop(first);
        let third = limit.place().await;
        assert_eq!(limit.open(), 2);
        drop(third);
        assert_eq!(limit.open(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_raised_limit_lets_the_waiting_in_and_a_lowered_one_keeps_what_is_open() {
        let limit = ConnectionLimit::new(1);
        let first = limit.place().await;
        let waiting = tokio::spawn({
            let limit = Arc::clone(&limit);
            async move { limit.place().await }
        });
        tokio::task::yield_now().await;
        limit.set_max(2);
        let second = waiting.await.expect("a place");
        limit.set_max(1);
        drop(first);
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, limit.place()).await.is_err());
        drop(second);
        limit.place().await;
    }
}
