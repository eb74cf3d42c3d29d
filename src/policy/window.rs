//! Counts of outcomes over a sliding time.
//!
//! The time is cut into 16 slots. A call is counted into the newest one and goes out with its slot,
//! so that it counts for at least 15/16 of the window and never longer than the window; a window of
//! 30 s is exact to 1.875 s. Memory is bounded, nothing is allocated, and a call costs one
//! comparison and a few additions unless a slot is over.
//!
//! How long the window is comes in with each call, since it is a setting and settings change:
//!
//! - A longer one takes effect at once. What is already counted is laid out anew and keeps its age,
//!   to one slot of the coarser measure.
//! - A shorter one takes effect at once to the grain of the slots that there are. Those are cut
//!   finer when the longer window was not asked for during one whole round; so two routes with
//!   windows of their own do not spoil each other's counts.

use std::time::{Duration, Instant};

const SLOTS: usize = 16;

/// Longer windows are taken for this one, so that no sum of times overflows: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Calls that were judged.
    pub requests: u32,
    /// Those that failed.
    pub failures: u32,
    /// Those that were slow, failed or not.
    pub slow: u32,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.slow = self.slow.saturating_add(other.slow);
    }

    fn subtract(&mut self, other: Self) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.failures = self.failures.saturating_sub(other.failures);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

/// Counts of the calls of the last while.
#[derive(Debug)]
pub struct Window {
    slots: [Tally; SLOTS],
    /// The sum of all slots.
    total: Tally,
    /// The newest slot.
    newest: usize,
    /// When the newest slot is over; `None` before the first call.
    ends: Option<Instant>,
    /// The time that all slots together cover.
    span: Duration,
    /// Whether the whole span was asked for in this round of the slots.
    asked_whole: bool,
    /// The longest of the shorter times asked for in this round.
    asked_less: Duration,
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    /// A window without calls.
    pub const fn new() -> Self {
        Self {
            slots: [Tally {
                requests: 0,
                failures: 0,
                slow: 0,
            }; SLOTS],
            total: Tally {
                requests: 0,
                failures: 0,
                slow: 0,
            },
            newest: 0,
            ends: None,
            span: Duration::ZERO,
            asked_whole: false,
            asked_less: Duration::ZERO,
        }
    }

    /// Counts one call that ended at `now`, in a window of `length`. A `now` before that of an
    /// earlier call is taken for the same time.
    #[inline]
    pub fn record(&mut self, length: Duration, now: Instant, failed: bool, slow: bool) {
        self.advance(length, now);
        let call = Tally {
            requests: 1,
            failures: u32::from(failed),
            slow: u32::from(slow),
        };
        self.slots[self.newest].add(call);
        self.total.add(call);
    }

    /// What the last `length` before `now` saw.
    #[inline]
    pub fn tally(&mut self, length: Duration, now: Instant) -> Tally {
        self.advance(length, now);
        if length == self.span {
            self.total
        } else {
            self.tally_of_the_last(length)
        }
    }

    /// Forgets every call.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    #[inline]
    fn advance(&mut self, length: Duration, now: Instant) {
        let in_newest = self.ends.is_some_and(|ends| now < ends);
        if in_newest && length == self.span {
            self.asked_whole = true;
        } else {
            self.catch_up(clamp(length), now);
        }
    }

    /// Brings the slots up to `now`, and the span up to what is asked for.
    #[cold]
    fn catch_up(&mut self, length: Duration, now: Instant) {
        let Some(ends) = self.ends else {
            return self.restart(length, now);
        };
        let slot = self.slot();
        let late = now.checked_duration_since(ends);
        let turns = late.map_or(0, |late| 1 + late.as_nanos() / slot.as_nanos());
        let mut round_is_over = false;
        for turn in 0..turns {
            if turn as usize == SLOTS {
                return self.restart(length, now);
            }
            self.newest = (self.newest + 1) % SLOTS;
            self.total.subtract(self.slots[self.newest]);
            self.slots[self.newest] = Tally::default();
            self.ends = self.ends.map(|ends| ends + slot);
            round_is_over |= self.newest == 0;
        }
        if length > self.span {
            self.rescale(length, now);
        } else if round_is_over {
            let longest = if self.asked_whole {
                self.span
            } else {
                self.asked_less.max(length)
            };
            if longest < self.span {
                self.rescale(longest, now);
            }
            (self.asked_whole, self.asked_less) = (false, Duration::ZERO);
        }
        self.asked_whole |= length == self.span;
        if length < self.span {
            self.asked_less = self.asked_less.max(length);
        }
    }

    /// Begins anew at `now`.
    fn restart(&mut self, length: Duration, now: Instant) {
        self.clear();
        self.span = length;
        self.ends = Some(now + self.slot());
        self.asked_whole = true;
    }

    /// Lays out what is counted in slots of another length. The newest begins empty at `now`; the
    /// calls of an old slot go where its end belongs.
    fn rescale(&mut self, length: Duration, now: Instant) {
        let (old, old_slot, old_newest, old_ends) =
            (self.slots, self.slot(), self.newest, self.ends);
        self.restart(length, now);
        let slot = self.slot();
        let mut end = old_ends;
        for back in 0..SLOTS {
            let tally = old[(old_newest + SLOTS - back) % SLOTS];
            let Some(slot_end) = end else { break };
            end = slot_end.checked_sub(old_slot);
            let age = now.saturating_duration_since(slot_end);
            let place = 1 + age.as_nanos() / slot.as_nanos();
            if let Some(place) = usize::try_from(place).ok().filter(|place| *place < SLOTS) {
                self.slots[SLOTS - place].add(tally);
                self.total.add(tally);
            }
        }
    }

    fn tally_of_the_last(&self, length: Duration) -> Tally {
        let slots = clamp(length).as_nanos() / self.slot().as_nanos();
        let slots = usize::try_from(slots).map_or(SLOTS, |slots| slots.clamp(1, SLOTS));
        let mut sum = Tally::default();
        for back in 0..slots {
            sum.add(self.slots[(self.newest + SLOTS - back) % SLOTS]);
        }
        sum
    }

    fn slot(&self) -> Duration {
        self.span / SLOTS as u32
    }
}

/// A slot must last at least a nanosecond, and the end of one must be a time.
fn clamp(length: Duration) -> Duration {
    length.clamp(Duration::from_nanos(SLOTS as u64), LONGEST)
}

#[cfg(test)]
mod tests;
