//! How many requests may be under way at once: seats, and a bounded queue before them.
//!
//! ```text
//!            seat free              leave: the newest waiter has the seat now
//! enter ──┬──────────────► seated ◄───────────────────────────────────────┐
//!         ├──────────────► waiting ─────────────────────────────────────────┘
//!         │  room in queue    └── cancel (too late, client gone) ──► out
//!         └──────────────► refused
//! ```
//!
//! Nothing here sleeps or wakes: who is told that a [`Waiter`] has a seat is the caller's affair.
//! A waiter is served newest first: under overload the newest is the one whose client still waits,
//! and the oldest is about to give up (rule 58).
//!
//! Routes to one upstream may have limits of their own. Each request is let in by its own limit,
//! against the requests of all; so a waiter keeps the limit that it came with until a reload
//! ([`Bulkhead::resize`]) tells a new one.

use std::time::Duration;

/// The bulkhead's measures. (`max_connections` belongs to the upstream's pool.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Requests under way, until the last byte of the answer; `None`: no limit.
    pub max_in_flight: Option<usize>,
    /// Requests that wait for a seat.
    pub max_queue: usize,
    /// How long one may wait.
    pub queue_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_in_flight: Some(100),
            max_queue: 0,
            queue_timeout: Duration::from_millis(100),
        }
    }
}

impl Settings {
    /// Seats; no limit is as many as can be counted.
    fn seats(&self) -> usize {
        self.max_in_flight.unwrap_or(usize::MAX)
    }
}

/// A request that waits for a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Waiter(u64);

/// What became of a request that wants a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It has one, and must [`leave`](Bulkhead::leave) it.
    Seated,
    /// It waits until it is named by [`leave`](Bulkhead::leave) or [`resize`](Bulkhead::resize), or
    /// is [cancelled](Bulkhead::cancel).
    Waiting(Waiter),
    /// Every seat is taken and the queue is full.
    Refused,
}

/// The seats of an upstream and who waits for one.
#[derive(Debug, Clone, Default)]
pub struct Bulkhead {
    in_flight: usize,
    /// Ascending by number, since it is only ever added to at its end.
    queue: Vec<Waiting>,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    number: u64,
    /// It may sit down while fewer than these are taken.
    seats: usize,
}

impl Bulkhead {
    /// With every seat free.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request wants a seat.
    ///
    /// It cannot overtake a waiter: whenever a seat comes free, or a limit rises, the waiters who
    /// may have it have it before this returns.
    pub fn enter(&mut self, s: &Settings) -> Entry {
        if self.in_flight < s.seats() {
            self.in_flight += 1;
            return Entry::Seated;
        }
        if self.queue.len() >= s.max_queue {
            return Entry::Refused;
        }
        let number = self.next;
        self.next += 1;
        self.queue.push(Waiting {
            number,
            seats: s.seats(),
        });
        Entry::Waiting(Waiter(number))
    }

    /// A seat comes back. Says which waiter has it now; nobody, while more are taken than the
    /// waiters' limits allow.
    pub fn leave(&mut self) -> Option<Waiter> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.seat_newest()
    }

    /// A waiter gives up. `true`: it is out of the queue. `false`: it has been given a seat
    /// meanwhile, which the caller must [`leave`](Self::leave).
    pub fn cancel(&mut self, waiter: Waiter) -> bool {
        let place = self
            .queue
            .binary_search_by_key(&waiter.0, |waiting| waiting.number);
        match place {
            Ok(place) => {
                self.queue.remove(place);
                true
            }
            Err(_) => false,
        }
    }

    /// A reload: says to which limit each waiter is held from now on; `None`: to the one that it came
    /// with. Says who has a seat because its limit rose. Where it fell nobody is thrown out, of a seat
    /// or of the queue; they grow fewer as requests leave.
    pub fn resize(&mut self, mut limit: impl FnMut(Waiter) -> Option<Settings>) -> Vec<Waiter> {
        for waiting in &mut self.queue {
            if let Some(settings) = limit(Waiter(waiting.number)) {
                waiting.seats = settings.seats();
            }
        }
        std::iter::from_fn(|| self.seat_newest()).collect()
    }

    /// Seats that are taken.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    fn seat_newest(&mut self) -> Option<Waiter> {
        let in_flight = self.in_flight;
        let place = self
            .queue
            .iter()
            .rposition(|waiting| in_flight < waiting.seats)?;
        let waiting = self.queue.remove(place);
        self.in_flight += 1;
        Some(Waiter(waiting.number))
    }
}

#[cfg(test)]
mod tests;
