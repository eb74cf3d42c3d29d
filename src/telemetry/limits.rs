//! The limits that a listener's clients may go over: counted by listener and limit, and told in the log,
//! but not for each client of a flood.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A line for each limit of a listener at most so often.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What a client has gone over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The listener's open connections: the new one was closed.
    Connections,
    /// Streams at a time on one connection: the new one was refused.
    Streams,
    /// Streams that are reset at once: the connection was closed.
    Resets,
    /// Frames that carry nothing: the connection was closed.
    ControlFrames,
    /// The size of one header block: the connection was closed.
    HeaderBlock,
    /// Pieces of bodies without a byte, or with a few only: the connection was closed.
    DataFrames,
}

impl Limit {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Connections,
        Self::Streams,
        Self::Resets,
        Self::ControlFrames,
        Self::HeaderBlock,
        Self::DataFrames,
    ];

    /// The word in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Streams => "streams",
            Self::Resets => "resets",
            Self::ControlFrames => "control_frames",
            Self::HeaderBlock => "header_block",
            Self::DataFrames => "data_frames",
        }
    }

    /// What has happened, in a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Connections => {
                "the listener's limits.connections are open; the new connection was closed"
            }
            Self::Streams => {
                "the client has more than limits.streams requests open on one connection; the new one \
                 was refused and can be sent again"
            }
            Self::Resets => {
                "the client resets requests as soon as it has sent them, or sends what is none; its \
                 connection was closed"
            }
            Self::ControlFrames => {
                "the client sends frames that carry nothing (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, \
                 RST_STREAM) without end; its connection was closed"
            }
            Self::HeaderBlock => {
                "the headers of one request are far larger than limits.header_size, or come in too many \
                 pieces; the client's connection was closed"
            }
            Self::DataFrames => {
                "the client sends bodies in pieces of no or a few bytes; its connection was closed"
            }
        }
    }
}

/// How often each limit was gone over, and when that was told last.
#[derive(Debug, Default)]
pub struct Exceeded([Mutex<Row>; Limit::ALL.len()]);

#[derive(Debug, Default)]
struct Row {
    count: u64,
    told: Option<(Instant, u64)>,
}

impl Exceeded {
    /// Counts one. Gives how many there were since the last line, this one included, if it is time for
    /// another line.
    pub fn count(&self, limit: Limit, now: Instant) -> Option<u64> {
        let mut row = self.0[limit as usize].lock();
        row.count += 1;
        let (at, before) = row.told.unwrap_or((now, 0));
        let due = row.told.is_none() || now.saturating_duration_since(at) >= TOLD_EVERY;
        due.then(|| {
            row.told = Some((now, row.count));
            row.count - before
        })
    }

    /// How often each was gone over.
    pub fn read(&self) -> impl Iterator<Item = (Limit, u64)> + '_ {
        let counts = self.0.iter().map(|row| row.lock().count);
        Limit::ALL.into_iter().zip(counts)
    }
}

/// The sentence for the log.
pub fn line(listener: &Arc<str>, limit: Limit, count: u64) -> String {
    let what = limit.sentence();
    match count {
        0 | 1 => format!("listener '{listener}': {what}"),
        _ => format!(
            "listener '{listener}': {what}; {count} times in the last {} s at least",
            TOLD_EVERY.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn each_is_counted_and_the_lines_are_few() {
        let exceeded = Exceeded::default();
        let now = clock::now();
        assert_eq!(exceeded.count(Limit::Resets, now), Some(1));
        for _ in 0..100 {
            assert_eq!(exceeded.count(Limit::Resets, now), None);
        }
        assert_eq!(exceeded.count(Limit::Streams, now), Some(1));
        assert_eq!(exceeded.count(Limit::Resets, now + TOLD_EVERY), Some(101));
        let read: Vec<_> = exceeded.read().filter(|(_, count)| *count > 0).collect();
        assert_eq!(read, [(Limit::Streams, 1), (Limit::Resets, 102)]);
    }
}
