//! Whether the other end of an HTTP/2 connection lives: any byte from it says so, and where none comes
//! it is asked by a ping.

use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};

use crate::clock;
use crate::live::age::after;

/// How long an endpoint that is in doubt has for its answer.
const DOUBT_FOR: Duration = Duration::from_secs(1);
/// How often an endpoint is asked because of doubt: more pings would be taken for an attack.
const DOUBT_EVERY: Duration = Duration::from_secs(10);

/// The pulse of one connection.
pub(super) struct Pulse {
    pings: Option<PingPong>,
    interval: Option<Duration>,
    /// Bytes that had come, and when the last of them did.
    read: u64,
    moved: Instant,
    /// When it was asked, where no byte has come since.
    asked: Option<Instant>,
    /// When it was doubted last, and whether it still is.
    doubted: Option<Instant>,
    in_doubt: bool,
}

impl Pulse {
    pub(super) fn new(pings: Option<PingPong>, read: u64, now: Instant) -> Self {
        Self {
            pings,
            interval: None,
            read,
            moved: now,
            asked: None,
            doubted: None,
            in_doubt: false,
        }
    }

    /// So many bytes have come.
    pub(super) fn feel(&mut self, read: u64) {
        if read != self.read {
            self.read = read;
            self.moved = clock::now();
            self.asked = None;
            self.in_doubt = false;
        }
    }

    /// From now on it is asked when nothing has come for so long; `None`: never.
    pub(super) fn every(&mut self, interval: Option<Duration>) {
        self.interval = interval;
    }

    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// A request got no sign of life.
    pub(super) fn doubt(&mut self, now: Instant) {
        if self.doubted.is_none_or(|last| now >= last + DOUBT_EVERY) {
            self.doubted = Some(now);
            self.in_doubt = true;
            self.ask(now);
        }
    }

    /// Whether it has not answered for as long as it may; asks where it is time to.
    pub(super) fn has_stopped(&mut self, now: Instant) -> bool {
        let Some(interval) = self.interval else {
            return false;
        };
        if self.asked.is_none() && now >= after(self.moved, interval) {
            self.ask(now);
        }
        self.asked
            .is_some_and(|asked| now >= after(asked, interval))
    }

    /// Whether it has not answered for so long that others are better; says so once.
    pub(super) fn is_weak(&mut self, now: Instant) -> bool {
        let over = self.asked.is_some_and(|asked| now >= asked + DOUBT_FOR);
        let weak = over && self.in_doubt;
        self.in_doubt &= !weak;
        weak
    }

    /// When to feel it again.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let mut next = after(now, Duration::MAX);
        if let Some(interval) = self.interval {
            next = after(self.asked.unwrap_or(self.moved), interval);
        }
        match self.asked {
            Some(asked) if self.in_doubt => next.min(asked + DOUBT_FOR),
            Some(_) | None => next,
        }
    }

    fn ask(&mut self, now: Instant) {
        if self.asked.is_some() {
            return;
        }
        self.asked = Some(now);
        if let Some(pings) = &mut self.pings {
            // The answer to the one before has to be taken first.
            let _ = pings.poll_pong(&mut Context::from_waker(Waker::noop()));
            let _ = pings.send_ping(Ping::opaque());
        }
    }
}
