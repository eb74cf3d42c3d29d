//! How long things may take with the API, and how often it is asked.

use std::ops::Range;
use std::time::Duration;

use crate::policy::backoff::{Jitter, Kind, Settings};

/// How long things may take with the API.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Until a connection stands: name, TCP and TLS.
    pub(super) connect: Duration,
    /// From a request to the head of its answer.
    pub(super) answer: Duration,
    /// From there to the end of a page of a list.
    pub(super) page: Duration,
    /// How long a watch is asked for, in seconds. Those of many processes that started together do not
    /// end together.
    pub(super) watch: Range<u64>,
    /// How much later than asked for a watch may end.
    pub(super) grace: Duration,
    /// A watch that was held for so long was worth it, even if it told nothing.
    pub(super) settled: Duration,
    /// The waits after failures in a row.
    pub(super) backoff: Settings,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            page: Duration::from_secs(30),
            watch: 240..360,
            grace: Duration::from_secs(15),
            settled: Duration::from_secs(5),
            backoff: Settings {
                kind: Kind::Exponential,
                base: Duration::from_secs(1),
                max: Duration::from_secs(30),
                jitter: Jitter::Equal,
            },
        }
    }
}
