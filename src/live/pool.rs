//! Idle connections to one endpoint: a shard for each worker, newest first, so that the hot ones stay
//! hot and the others expire. A worker prefers its own shard and takes from another before it gives up.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::slots::Slots;

/// Something that can wait in a pool.
pub trait Idle {
    /// Whether it could be used when it was looked at last. That its peer has closed it meanwhile shows
    /// when it is used, before anything is sent.
    fn is_ready(&self) -> bool;
    /// Whether it can still be used; a closed peer shows here.
    fn is_alive(&mut self) -> bool;
    /// How long it may lie idle by its peer's word, if it gave one.
    fn keep_alive(&self) -> Option<Duration>;
    /// The count that it is idle in.
    fn slots(&self) -> &Slots;
}

#[derive(Debug)]
struct Resting<C> {
    connection: C,
    since: Instant,
    /// When it is too old for another request.
    ends: Option<Instant>,
}

/// The idle connections of one endpoint.
#[derive(Debug)]
pub struct Pool<C: Idle> {
    shards: Box<[Mutex<Vec<Resting<C>>>]>,
}

impl<C: Idle> Pool<C> {
    /// An empty pool with a shard for each of so many workers (at least one).
    pub fn new(workers: usize) -> Self {
        Self {
            shards: (0..workers.max(1))
                .map(|_| Mutex::new(Vec::new()))
                .collect(),
        }
    }

    /// A connection out of the worker's own shard; those on the way that have expired or are known to be
    /// dead are closed.
    pub fn take(&self, worker: usize, idle_timeout: Duration, now: Instant) -> Option<C> {
        self.take_fit(worker, idle_timeout, now, |connection| {
            connection.is_ready()
        })
    }

    /// A live connection out of any shard, the worker's own first; the dead and expired ones on the way
    /// are closed.
    pub fn take_any(&self, worker: usize, idle_timeout: Duration, now: Instant) -> Option<C> {
        (0..self.shards.len())
            .find_map(|step| self.take_fit(worker + step, idle_timeout, now, C::is_alive))
    }

    fn take_fit(
        &self,
        worker: usize,
        idle_timeout: Duration,
        now: Instant,
        is_fit: impl Fn(&mut C) -> bool,
    ) -> Option<C> {
        let shard = &self.shards[worker % self.shards.len()];
        loop {
            let mut resting = shard.lock().pop()?;
            resting.connection.slots().wake();
            if !resting.expired(idle_timeout, now) && is_fit(&mut resting.connection) {
                return Some(resting.connection);
            }
            // A dead one is dropped here, outside the lock. Its siblings are looked at the same way when
            // their turn comes: a restart of the endpoint has closed them all (rule 66).
        }
    }

    /// Keeps a connection for the next request, unless `max_idle` of the upstream's are idle already;
    /// until it is too old for one, if it ever is (`ends`).
    pub fn put(
        &self,
        worker: usize,
        connection: C,
        max_idle: usize,
        ends: Option<Instant>,
        now: Instant,
    ) {
        if connection.slots().rest(max_idle) {
            let shard = &self.shards[worker % self.shards.len()];
            shard.lock().push(Resting {
                connection,
                since: now,
                ends,
            });
        }
    }

    /// Closes what has expired or was closed by its peer.
    pub fn sweep(&self, idle_timeout: Duration, now: Instant) {
        self.close_where(|resting| {
            resting.expired(idle_timeout, now) || !resting.connection.is_alive()
        });
    }

    /// Closes everything idle.
    pub fn clear(&self) {
        self.close_where(|_| true);
    }

    fn close_where(&self, mut unwanted: impl FnMut(&mut Resting<C>) -> bool) {
        for shard in &self.shards {
            let closed: Vec<_> = shard
                .lock()
                .extract_if(.., |resting| unwanted(resting))
                .collect();
            for resting in closed {
                resting.connection.slots().wake();
            }
        }
    }
}

impl<C: Idle> Resting<C> {
    fn expired(&self, idle_timeout: Duration, now: Instant) -> bool {
        // A second before the peer's own limit, so that both do not act at the same moment (rule 65).
        let theirs = self.connection.keep_alive().map(|limit| {
            limit
                .saturating_sub(Duration::from_secs(1))
                .max(Duration::from_millis(500))
        });
        let limit = theirs.map_or(idle_timeout, |theirs| theirs.min(idle_timeout));
        let old = self.ends.is_some_and(|end| now >= end);
        old || now.saturating_duration_since(self.since) >= limit
    }
}

impl<C: Idle> Drop for Pool<C> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::slots::Slot;
    use super::*;
    use crate::clock;

    #[derive(Debug)]
    struct Fake {
        name: u32,
        alive: bool,
        keep_alive: Option<Duration>,
        slot: Slot,
    }

    impl Idle for Fake {
        fn is_ready(&self) -> bool {
            self.alive
        }
        fn is_alive(&mut self) -> bool {
            self.alive
        }
        fn keep_alive(&self) -> Option<Duration> {
            self.keep_alive
        }
        fn slots(&self) -> &Slots {
            self.slot.slots()
        }
    }

    fn fake(slots: &Arc<Slots>, name: u32) -> Fake {
        let slot = slots.take(None).expect("no limit");
        Fake {
            name,
            alive: true,
            keep_alive: None,
            slot,
        }
    }

    const LIMIT: Duration = Duration::from_secs(4);

    #[test]
    fn the_newest_comes_back_first_and_other_shards_are_a_last_resort() {
        let (slots, now) = (Arc::new(Slots::default()), clock::now());
        let pool = Pool::new(2);
        for name in 0..3 {
            pool.put(0, fake(&slots, name), 10, None, now);
        }
        assert_eq!(pool.take(0, LIMIT, now).expect("idle").name, 2);
        assert!(pool.take(1, LIMIT, now).is_none());
        assert_eq!(pool.take_any(1, LIMIT, now).expect("another's").name, 1);
        assert_eq!((slots.idle(), slots.open()), (1, 1));
    }

    #[test]
    fn what_is_dead_or_expired_is_closed_and_never_given_out() {
        let (slots, now) = (Arc::new(Slots::default()), clock::now());
        let pool = Pool::new(1);
        pool.put(0, fake(&slots, 0), 10, None, now);
        pool.put(
            0,
            Fake {
                alive: false,
                ..fake(&slots, 1)
            },
            10,
            None,
            now,
        );
        let early = Some(Duration::from_secs(3));
        pool.put(
            0,
            Fake {
                keep_alive: early,
                ..fake(&slots, 2)
            },
            10,
            None,
            now,
        );
        let later = now + Duration::from_secs(2);
        assert_eq!(
            pool.take(0, LIMIT, later).expect("the first is fine").name,
            0
        );
        assert_eq!((slots.idle(), slots.open()), (0, 0));
    }

    #[test]
    fn idle_ones_are_bounded_and_swept_after_their_time() {
        let (slots, now) = (Arc::new(Slots::default()), clock::now());
        let pool = Pool::new(1);
        for name in 0..5 {
            pool.put(0, fake(&slots, name), 3, None, now);
        }
        assert_eq!((slots.idle(), slots.open()), (3, 3));
        pool.sweep(LIMIT, now + LIMIT - Duration::from_millis(1));
        assert_eq!(slots.idle(), 3);
        pool.sweep(LIMIT, now + LIMIT);
        assert_eq!((slots.idle(), slots.open()), (0, 0));
    }

    #[test]
    fn rule_67_what_is_too_old_is_closed_however_short_it_was_idle() {
        let (slots, now) = (Arc::new(Slots::default()), clock::now());
        let pool = Pool::new(1);
        let ends = now + Duration::from_secs(2);
        pool.put(0, fake(&slots, 0), 10, Some(ends), now);
        let before = ends - Duration::from_millis(1);
        let one = pool.take(0, LIMIT, before).expect("young enough");
        pool.put(0, one, 10, Some(ends), before);
        assert!(pool.take(0, LIMIT, ends).is_none());
        assert_eq!((slots.idle(), slots.open()), (0, 0));
    }

    #[test]
    fn a_dropped_pool_leaves_no_count_behind() {
        let (slots, now) = (Arc::new(Slots::default()), clock::now());
        let pool = Pool::new(1);
        pool.put(0, fake(&slots, 0), 3, None, now);
        drop(pool);
        assert_eq!((slots.idle(), slots.open()), (0, 0));
    }
}
