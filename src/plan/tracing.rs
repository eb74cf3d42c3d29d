//! Where spans go, and of which requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::secret::HIDDEN;

/// The export of spans.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Where they go.
    pub collector: Collector,
    /// Headers that go with them, by valid lower-case name.
    pub headers: Vec<(Arc<str>, Secret)>,
    /// How long the collector may take over one batch.
    pub timeout: Duration,
    /// Whose spans they are.
    pub keep: Shares,
}

/// A collector that takes OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Whether it is spoken to under TLS.
    pub tls: bool,
    /// Its name or IP address, the latter without brackets.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// What `host` says: host and port as they are written.
    pub authority: Arc<str>,
    /// Where it takes spans.
    pub path: Arc<str>,
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// Shares of requests whose spans are kept, from 0 to 1. Where several apply, the largest holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Of those that failed, were retried, or were answered by a fallback.
    pub failed: f64,
    /// All whose answer's head takes this long or longer are kept; `None`: slowness does not matter.
    pub slower_than: Option<Duration>,
    /// Of all others.
    pub rest: f64,
}

/// A value that no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
