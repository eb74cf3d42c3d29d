//! The share of traffic that may be retries, so that a failing upstream is not drowned in them.
//!
//! Retries in the last `window` ≤ `ratio` × original requests in it + `min_per_second` × `window`.
//! A retry counts from when it is scheduled, its wait included, and never pays for another (rule 29).
//!
//! Time is cut into slots. A slot that the window's edge cuts counts as a whole for retries and not
//! at all for requests: the bound is never broken, and at most one slot's share is forgone.

use std::time::{Duration, Instant};

/// How many retries an upstream's original requests pay for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Retries for each original request, 0 to 10.
    pub ratio: f64,
    /// Retries in a second that are always allowed, so that low traffic can retry at all.
    pub min_per_second: f64,
    /// How long an original request counts.
    pub window: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_second: 3.0,
            window: Duration::from_secs(10),
        }
    }
}

/// Slots in the ring. A window needs all but two: the one under way and the one its edge cuts.
const SLOTS: u64 = 64;

/// Parts of a retry below this are rounding.
const ROUNDING: f64 = 1e-6;

/// What an upstream's requests have deposited and its retries have withdrawn.
///
/// The measures come in with each call. Slots are as wide as the longest window needs that was asked
/// for of late, so that routes with windows of their own can share a budget, and a reload that
/// changes one loses nothing.
#[derive(Debug, Clone)]
pub struct Budget {
    /// When slot 0 began: at the first call. Times below are nanoseconds from there.
    origin: Option<Instant>,
    /// By number, modulo their count.
    slots: [Slot; SLOTS as usize],
    /// The number of the slot under way.
    head: u64,
    /// How long a slot is; above 0.
    width: u64,
    /// When a window was last asked for that needs slots of this width.
    needed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    requests: u32,
    retries: u32,
}

const EMPTY: [Slot; SLOTS as usize] = [Slot {
    requests: 0,
    retries: 0,
}; SLOTS as usize];

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl Budget {
    /// Without a request or a retry.
    pub const fn new() -> Self {
        Self {
            origin: None,
            slots: EMPTY,
            head: 0,
            width: 1,
            needed: 0,
        }
    }

    /// An original request; not a retry.
    pub fn deposit(&mut self, s: &Settings, now: Instant) {
        self.advance(s, now);
        self.add(self.head, 1, 0);
    }

    /// Takes what a retry costs, when it is scheduled; `false` if there is not enough.
    pub fn withdraw(&mut self, s: &Settings, now: Instant) -> bool {
        let enough = self.tokens(s, now) + ROUNDING >= 1.0;
        if enough {
            self.add(self.head, 0, 1);
        }
        enough
    }

    /// Retries that may be scheduled now, parts of one included; not below 0.
    pub fn tokens(&mut self, s: &Settings, now: Instant) -> f64 {
        let (requests, retries) = self.count(s, now);
        (limit(s, requests) - retries as f64).max(0.0)
    }

    /// [`Self::tokens`] and [`Self::limit`].
    pub fn reading(&mut self, s: &Settings, now: Instant) -> (f64, f64) {
        let (requests, retries) = self.count(s, now);
        let limit = limit(s, requests);
        ((limit - retries as f64).max(0.0), limit)
    }

    /// Retries that the window would allow in all, had none been made.
    pub fn limit(&mut self, s: &Settings, now: Instant) -> f64 {
        limit(s, self.count(s, now).0)
    }

    /// Requests and retries in the window.
    fn count(&mut self, s: &Settings, now: Instant) -> (u64, u64) {
        let edge = self.advance(s, now).saturating_sub(nanos(s.window));
        // The first slot that the window holds a part of, and the first that it holds whole.
        let (part, whole) = (edge / self.width, edge.div_ceil(self.width));
        let (mut requests, mut retries) = (0, 0);
        for number in part.max(self.oldest())..=self.head {
            let slot = self.slots[(number % SLOTS) as usize];
            retries += u64::from(slot.retries);
            if number >= whole {
                requests += u64::from(slot.requests);
            }
        }
        (requests, retries)
    }

    /// Goes on to the slot of `now`, which is returned as the time from the origin. Time does not go
    /// back. Cheap while a slot lasts: this is on the path of every request.
    fn advance(&mut self, s: &Settings, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        let now = nanos(now.saturating_duration_since(origin)).max(self.head * self.width);
        let width = nanos(s.window).div_ceil(SLOTS - 2).max(1);
        if width.saturating_mul(2) > self.width {
            self.needed = now;
        }
        if now - self.head * self.width >= self.width {
            self.turn_to(now / self.width);
        }
        let unneeded = now.saturating_sub(self.needed) >= self.width.saturating_mul(SLOTS);
        if width > self.width || unneeded {
            self.recut(width, now);
        }
        now
    }

    /// Empties the slots after the present one, up to this.
    fn turn_to(&mut self, number: u64) {
        let passed = (self.head + 1).max((number + 1).saturating_sub(SLOTS));
        self.head = number;
        for number in passed..=number {
            self.slots[(number % SLOTS) as usize] = EMPTY[0];
        }
    }

    /// Cuts what is remembered into slots of another width, such that the bound still holds:
    /// requests count from where their old slot began, retries from where it ended.
    fn recut(&mut self, width: u64, now: u64) {
        let (slots, numbers, was) = (self.slots, self.oldest()..=self.head, self.width);
        (self.slots, self.head, self.width) = (EMPTY, now / width, width);
        self.needed = now;
        for number in numbers {
            let Slot { requests, retries } = slots[(number % SLOTS) as usize];
            let (began, ended) = (number * was, number * was + (was - 1));
            self.add(began / width, requests, 0);
            self.add((ended / width).min(self.head), 0, retries);
        }
    }

    /// Adds to a slot that is not too old to be remembered.
    fn add(&mut self, number: u64, requests: u32, retries: u32) {
        if number >= self.oldest() {
            let slot = &mut self.slots[(number % SLOTS) as usize];
            slot.requests = slot.requests.saturating_add(requests);
            slot.retries = slot.retries.saturating_add(retries);
        }
    }

    fn oldest(&self) -> u64 {
        (self.head + 1).saturating_sub(SLOTS)
    }
}

fn limit(s: &Settings, requests: u64) -> f64 {
    s.ratio * requests as f64 + s.min_per_second * s.window.as_secs_f64()
}

/// Nanoseconds, which last for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
