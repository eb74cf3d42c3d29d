//! The bulkhead at run time: seats that are held to the last byte of an answer and come back whichever
//! way the request ends, and a queue whose waiters leave it the moment they are no longer waited for.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::policy::bulkhead::{Bulkhead, Entry, Settings, Waiter};

/// The seats of one upstream.
#[derive(Debug, Default)]
pub struct Seats {
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    bulkhead: Bulkhead,
    bells: HashMap<Waiter, Bell>,
}

/// How a waiter is told that it has a seat.
#[derive(Debug)]
struct Bell {
    ring: oneshot::Sender<()>,
    route: RouteName,
}

/// A route that requests come by: its listener's name and its own. A reload finds it again by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteName {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The route's name.
    pub route: Arc<str>,
}

/// A seat; dropping it gives it to the next who waits.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
}

/// What came of asking for a seat.
#[derive(Debug)]
pub enum Seating {
    /// A seat was free.
    Seated(Seat),
    /// One may become free.
    Queued(Queued),
    /// Seats and queue are full.
    Refused,
}

/// A place in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub struct Queued {
    seats: Arc<Seats>,
    waiter: Waiter,
    bell: oneshot::Receiver<()>,
    done: bool,
}

impl Seats {
    /// Asks for a seat under the route's settings. `route` is asked for its name where it has to wait.
    pub fn enter(
        self: &Arc<Self>,
        settings: &Settings,
        route: impl FnOnce() -> RouteName,
    ) -> Seating {
        let mut room = self.room.lock();
        match room.bulkhead.enter(settings) {
            Entry::Seated => Seating::Seated(Seat {
                seats: Arc::clone(self),
            }),
            Entry::Refused => Seating::Refused,
            Entry::Waiting(waiter) => {
                let (ring, bell) = oneshot::channel();
                let route = route();
                room.bells.insert(waiter, Bell { ring, route });
                let seats = Arc::clone(self);
                Seating::Queued(Queued {
                    seats,
                    waiter,
                    bell,
                    done: false,
                })
            }
        }
    }

    /// A reload: `limit` says what holds for a route now; `None` where there is no such route any more,
    /// then it stays as it was. Who waits moves up where the new limit makes room.
    pub fn configure(&self, limit: impl Fn(&RouteName) -> Option<Settings>) {
        let mut room = self.room.lock();
        let Room { bulkhead, bells } = &mut *room;
        let seated = bulkhead.resize(|waiter| limit(&bells.get(&waiter)?.route));
        for waiter in seated {
            room.ring(waiter);
        }
    }

    /// Requests that have a seat.
    pub fn in_flight(&self) -> usize {
        self.room.lock().bulkhead.in_flight()
    }

    /// Requests that wait for one.
    pub fn queued(&self) -> usize {
        self.room.lock().bulkhead.queued()
    }

    fn leave(&self) {
        let mut room = self.room.lock();
        if let Some(waiter) = room.bulkhead.leave() {
            room.ring(waiter);
        }
    }
}

impl Room {
    fn ring(&mut self, waiter: Waiter) {
        // One that no longer listens is about to leave by itself: its drop gives the seat on.
        if let Some(bell) = self.bells.remove(&waiter) {
            let _ = bell.ring.send(());
        }
    }
}

impl Queued {
    /// Waits for the seat. Dropping the future, by a time limit say, keeps the place.
    pub async fn seat(&mut self) -> Option<Seat> {
        (&mut self.bell).await.ok()?;
        self.done = true;
        Some(Seat {
            seats: Arc::clone(&self.seats),
        })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut room = self.seats.room.lock();
        room.bells.remove(&self.waiter);
        if !room.bulkhead.cancel(self.waiter) {
            // The seat came at the very moment of giving up: it goes on to the next.
            drop(room);
            self.seats.leave();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.leave();
    }
}

#[cfg(test)]
mod tests;
