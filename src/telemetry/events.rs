//! What happened lately: breakers that changed, reloads, drains. A bounded ring in memory, for the
//! status page and for whoever asks "what was that five minutes ago?". The log has them too.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

/// Events that are kept; the oldest go first.
pub const KEPT: usize = 200;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its number: 1 for the first since the start, one more for each that follows.
    pub number: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What sort of thing it is.
    pub kind: Kind,
    /// The upstream that it concerns.
    pub upstream: Option<String>,
    /// The endpoint that it concerns.
    pub endpoint: Option<String>,
    /// What happened, a sentence.
    pub text: String,
}

/// What sort of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The program started or is about to end.
    Process,
    /// A breaker changed its state, or an operator forced it.
    Breaker,
    /// An endpoint's health checks made something else of it.
    Health,
    /// A configuration was applied or refused.
    Reload,
    /// Files of certificates were swapped, or could not be.
    Certificates,
    /// It could not be found out where an upstream's endpoints are, or it could again.
    Discovery,
    /// New work should go elsewhere: it drains.
    Drain,
    /// The log level was changed.
    LogLevel,
}

/// The ring. Writing takes a lock for as long as a push lasts; events are rare.
#[derive(Debug, Default)]
pub struct Events {
    ring: Mutex<Ring>,
    /// Told of each change; the number is of no use but to differ.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<Event>,
    /// How many there were since the start.
    told: u64,
}

impl Events {
    /// Notes something that concerns the whole process.
    pub fn note(&self, at: SystemTime, kind: Kind, text: impl Into<String>) {
        self.push(at, kind, None, None, text.into());
    }

    /// Notes something about one endpoint of an upstream.
    pub fn note_endpoint(
        &self,
        at: SystemTime,
        kind: Kind,
        upstream: &str,
        endpoint: &str,
        text: impl Into<String>,
    ) {
        self.push(
            at,
            kind,
            Some(upstream.into()),
            Some(endpoint.into()),
            text.into(),
        );
    }

    /// What is kept, newest last.
    pub fn recent(&self) -> Vec<Event> {
        self.ring.lock().kept.iter().cloned().collect()
    }

    /// What changes whenever something happens that whoever watches should see at once.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Has those who watch look again, where something changed that is no event.
    pub fn touch(&self) {
        self.changes
            .send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    fn push(
        &self,
        at: SystemTime,
        kind: Kind,
        upstream: Option<String>,
        endpoint: Option<String>,
        text: String,
    ) {
        let at = stamp(at);
        let mut ring = self.ring.lock();
        ring.told += 1;
        let event = Event {
            number: ring.told,
            at,
            kind,
            upstream,
            endpoint,
            text,
        };
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(event);
        drop(ring);
        self.touch();
    }
}

/// A date as RFC 3339 in UTC with milliseconds; empty for one that no calendar has.
pub fn stamp(date: SystemTime) -> String {
    jiff::Timestamp::try_from(date)
        .map(|timestamp| format!("{timestamp:.3}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_and_never_more_than_its_measure() {
        let events = Events::default();
        for number in 0..KEPT + 7 {
            events.note(SystemTime::UNIX_EPOCH, Kind::Reload, number.to_string());
        }
        let recent = events.recent();
        assert_eq!(recent.len(), KEPT);
        assert_eq!(recent[0].text, "7");
        assert_eq!(recent[KEPT - 1].text, (KEPT + 6).to_string());
        assert_eq!((recent[0].number, recent[1].number), (8, 9), "from 1 on");
    }

    #[test]
    fn who_watches_is_told_of_events_and_of_other_changes() {
        let events = Events::default();
        let mut changes = events.changes();
        assert!(!changes.has_changed().unwrap());
        events.note(SystemTime::UNIX_EPOCH, Kind::Drain, "draining");
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        events.touch();
        assert!(changes.has_changed().unwrap());
        assert_eq!(events.recent().len(), 1);
    }

    #[test]
    fn an_event_names_what_it_is_about() {
        let events = Events::default();
        events.note_endpoint(
            SystemTime::UNIX_EPOCH,
            Kind::Breaker,
            "payments",
            "127.0.0.1:1",
            "opened",
        );
        let event = events.recent().remove(0);
        assert_eq!(event.upstream.as_deref(), Some("payments"));
        assert_eq!(event.endpoint.as_deref(), Some("127.0.0.1:1"));
        assert_eq!(
            serde_json::to_value(event.kind).unwrap(),
            serde_json::json!("breaker")
        );
    }

    #[test]
    fn a_stamp_has_milliseconds_and_says_utc() {
        let date = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(stamp(date), "1970-01-01T00:00:01.500Z");
    }
}
