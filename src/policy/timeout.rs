//! How long things may take.

use std::time::Duration;

/// How long things may take; `None`: as long as they like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Name, TCP and TLS of a new connection.
    pub connect: Option<Duration>,
    /// From the first byte of the request to the head of the answer: queue, tries, backoffs.
    pub request: Option<Duration>,
    /// One try, from sending to the head of the answer.
    pub per_try: Option<Duration>,
    /// No byte of a body in either direction.
    pub idle: Option<Duration>,
}
