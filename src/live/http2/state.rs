//! What is known of the connections to one endpoint under one lock: who holds how many streams, who
//! waits, and what is being opened. Nothing in here waits, and nothing is dropped in here that would come
//! back for the lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::pool::{Given, Place, StreamPool};
use super::shared::Shared;
use crate::plan;

/// Requests after which a connection is replaced at the latest: the ids of its streams are finite.
const MOST_REQUESTS: u64 = 1 << 29;
#[derive(Debug)]
pub(super) struct State {
    pub(super) open: Vec<Entry>,
    pub(super) opening: Vec<Opening>,
    pub(super) line: VecDeque<Waiter>,
    /// The next name of a waiter or an opening.
    pub(super) next: u64,
    /// Streams that the connection opened last has; 1 where it was one of HTTP/1.1.
    pub(super) streams: usize,
    /// The endpoint spoke HTTP/1.1 when it was last asked.
    pub(super) is_http1: bool,
    /// Another endpoint was asked to give its place.
    pub(super) asked_for_room: bool,
    pub(super) settings: plan::Pool,
}

/// A connection that takes requests.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) shared: Arc<Shared>,
    /// Streams that requests hold.
    pub(super) active: usize,
    /// Streams that the other end allows.
    pub(super) limit: usize,
    pub(super) requests: u64,
    /// Since when it is idle, and counted so.
    pub(super) idle_since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Opening {
    pub(super) name: u64,
    pub(super) worker: usize,
    pub(super) task: AbortHandle,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) name: u64,
    pub(super) worker: usize,
    pub(super) bell: oneshot::Sender<Given>,
}

/// What goes to those who waited, to be handed out behind the lock.
pub(super) type Handed = SmallVec<[(oneshot::Sender<Given>, Given); 1]>;

/// Connections that were let go of under the lock, to be dropped behind it.
pub(super) type Gone = SmallVec<[Arc<Shared>; 1]>;

impl State {
    pub(super) fn name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn find(&self, shared: &Arc<Shared>) -> Option<usize> {
        self.open
            .iter()
            .position(|entry| Arc::ptr_eq(&entry.shared, shared))
    }

    pub(super) fn forget_opening(&mut self, name: u64) -> bool {
        let index = self.opening.iter().position(|one| one.name == name);
        index.map(|index| self.opening.swap_remove(index)).is_some()
    }

    /// A stream of the first connection that has one: the others can become idle and close.
    pub(super) fn take(
        &mut self,
        pool: &Arc<StreamPool>,
        worker: Option<usize>,
        now: Instant,
        gone: &mut Gone,
    ) -> Option<Place> {
        let mut index = 0;
        while index < self.open.len() {
            let entry = &self.open[index];
            if worker.is_some_and(|worker| worker != entry.shared.worker)
                || entry.active >= entry.limit
            {
                index += 1;
            } else if self.is_over(index, now) || entry.shared.seen.is_going_away() {
                self.retire(index, gone);
            } else {
                return Some(self.hold(index, pool, gone));
            }
        }
        None
    }

    pub(super) fn hold(&mut self, index: usize, pool: &Arc<StreamPool>, gone: &mut Gone) -> Place {
        let entry = &mut self.open[index];
        entry.active += 1;
        entry.requests += 1;
        if entry.idle_since.take().is_some() {
            entry.shared.slots.wake();
        }
        let place = Place {
            pool: Arc::clone(pool),
            shared: Arc::clone(&entry.shared),
            first: entry.requests == 1,
            reused: true,
        };
        let most = self.settings.max_requests_per_connection;
        if entry.requests >= most.unwrap_or(MOST_REQUESTS).min(MOST_REQUESTS) {
            self.retire(index, gone);
        }
        place
    }

    /// Gives the free streams of a connection to those who wait: to the first in line, but not to one
    /// of another worker for whom a connection is being opened.
    pub(super) fn serve(
        &mut self,
        pool: &Arc<StreamPool>,
        shared: &Arc<Shared>,
        gone: &mut Gone,
    ) -> Handed {
        let mut handed = Handed::new();
        while let Some(index) = self.find(shared) {
            let entry = &self.open[index];
            if self.line.is_empty() || entry.active >= entry.limit {
                break;
            }
            let first = self.line.iter().position(|one| {
                let is_served = |opening: &Opening| opening.worker == one.worker;
                one.worker == shared.worker || !self.opening.iter().any(is_served)
            });
            let Some(waiter) = first.and_then(|first| self.line.remove(first)) else {
                break;
            };
            let place = self.hold(index, pool, gone);
            handed.push((waiter.bell, Given::Stream(place)));
        }
        handed
    }

    /// A connection without a stream is idle from now on, or closes where enough are.
    pub(super) fn rest(&mut self, shared: &Arc<Shared>, now: Instant, gone: &mut Gone) {
        let Some(index) = self.find(shared) else {
            return;
        };
        let entry = &mut self.open[index];
        if entry.active > 0 || entry.idle_since.is_some() {
            return;
        }
        if entry.shared.slots.rest(self.settings.max_idle) {
            entry.idle_since = Some(now);
        } else {
            self.retire(index, gone);
        }
    }

    /// Whether a connection has been idle or open for as long as it may.
    pub(super) fn is_over(&self, index: usize, now: Instant) -> bool {
        let entry = &self.open[index];
        let idle = entry.idle_since;
        let is_idle = |since| now.saturating_duration_since(since) >= self.settings.idle_timeout;
        let ends = entry.shared.age.ends(&self.settings);
        idle.is_some_and(is_idle) || ends.is_some_and(|end| now >= end)
    }

    pub(super) fn retire(&mut self, index: usize, gone: &mut Gone) {
        let entry = self.open.remove(index);
        if entry.idle_since.is_some() {
            entry.shared.slots.wake();
        }
        gone.push(entry.shared);
    }
}
