//! What one client's connection may cost beside its requests. Frames that carry nothing are cheap to
//! send and make work here, and so are requests that are taken back at once (faults 27 to 29). Each is
//! counted over a window of time; an honest client stays far below.

use std::time::{Duration, Instant};

use crate::telemetry::limits::Limit;

/// The counts begin anew after so long.
const WINDOW: Duration = Duration::from_secs(10);

/// Frames without content that a window has room for, and those that each frame with content earns: an
/// update of the window for each piece of an answer, a PING to measure the way.
const CONTROL_FRAMES: u32 = 1000;
const EARNED: u32 = 10;

/// A change of settings may touch every stream.
pub(super) const SETTINGS_WEIGHT: u32 = 10;

/// A stream that is reset so soon has cost us a request and the client nothing.
pub(super) const SOON: Duration = Duration::from_millis(100);

/// Streams that may be reset so soon, beside as many as may be open at a time; and always half of all.
const RESETS: u32 = 100;

/// What a connection has cost in this window.
#[derive(Debug)]
pub(super) struct Floods {
    since: Instant,
    max_streams: u32,
    control: u32,
    content: u32,
    opened: u32,
    reset: u32,
}

impl Floods {
    /// A connection that begins at `now`.
    pub(super) const fn new(max_streams: u32, now: Instant) -> Self {
        Self {
            since: now,
            max_streams,
            control: 0,
            content: 0,
            opened: 0,
            reset: 0,
        }
    }

    /// A frame with content came or went.
    pub(super) const fn content(&mut self) {
        self.content = self.content.saturating_add(1);
    }

    /// A stream was opened.
    pub(super) const fn opened(&mut self) {
        self.opened = self.opened.saturating_add(1);
        self.content();
    }

    /// A frame without content came. The clock is read only where the count is over the limit.
    pub(super) fn control(&mut self, weight: u32, now: impl FnOnce() -> Instant) -> Option<Limit> {
        self.control = self.control.saturating_add(weight);
        let room = CONTROL_FRAMES.saturating_add(self.content.saturating_mul(EARNED));
        (self.control > room && !self.renew(now())).then_some(Limit::ControlFrames)
    }

    /// A stream ended before its time: the client has reset it soon after it was opened, or it was
    /// against the protocol.
    pub(super) fn reset(&mut self, now: impl FnOnce() -> Instant) -> Option<Limit> {
        self.reset = self.reset.saturating_add(1);
        let many = self.reset > RESETS.saturating_add(self.max_streams);
        let most = self.reset > self.opened / 2;
        (many && most && !self.renew(now())).then_some(Limit::Resets)
    }

    /// Begins a new window if this one is over.
    fn renew(&mut self, now: Instant) -> bool {
        let over = now.saturating_duration_since(self.since) > WINDOW;
        if over {
            *self = Self::new(self.max_streams, now);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn fault_029_frames_without_content_have_a_limit_in_each_window() {
        let now = clock::now();
        let mut floods = Floods::new(100, now);
        for _ in 0..CONTROL_FRAMES {
            assert_eq!(floods.control(1, || now), None);
        }
        assert_eq!(floods.control(1, || now), Some(Limit::ControlFrames));
        let later = now + WINDOW + Duration::from_secs(1);
        for _ in 0..CONTROL_FRAMES {
            assert_eq!(floods.control(1, || later), None);
        }
    }

    #[test]
    fn an_honest_client_may_send_as_many_as_its_requests_ask_for() {
        let now = clock::now();
        let mut floods = Floods::new(100, now);
        for _ in 0..100_000 {
            floods.opened();
            floods.content();
            for _ in 0..10 {
                assert_eq!(floods.control(1, || now), None);
            }
        }
    }

    #[test]
    fn fault_027_streams_that_are_reset_at_once_are_the_smaller_part() {
        let now = clock::now();
        let mut floods = Floods::new(100, now);
        for round in 0..10_000 {
            floods.opened();
            floods.opened();
            assert_eq!(floods.reset(|| now), None, "round {round}");
        }
        let mut floods = Floods::new(100, now);
        for _ in 0..RESETS + 100 {
            floods.opened();
            assert_eq!(floods.reset(|| now), None);
        }
        floods.opened();
        assert_eq!(floods.reset(|| now), Some(Limit::Resets));
    }
}
