//! One client's connection, as a request sees it: where it came from, when the request began, and
//! whether the client still takes bytes. The server keeps it up to date, the request only reads it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::timer::Timer;
use crate::live::interim::Interim;

/// A client's connection. One for the connection's whole life, shared by all of its requests.
#[derive(Debug)]
pub struct Client {
    /// The other end; `None` where the transport has no addresses.
    pub peer: Option<SocketAddr>,
    /// The name of the listener that accepted it.
    pub listener: Arc<str>,
    /// The worker that serves it, counted from 0.
    pub worker: usize,
    /// When it was accepted; the times below are nanoseconds since then, so that an atomic holds them.
    accepted: Instant,
    began: AtomicU64,
    progress: AtomicU64,
    stall: AtomicU64,
    forwarded_for: Option<HeaderValue>,
    /// Whether it came under TLS.
    encrypted: bool,
    /// Whether it is one of several requests at a time.
    stream: bool,
    /// For the limits of its requests, which come one after another.
    pub(super) timer: Timer,
    interim: Interim,
    /// Set where it was redirected to us.
    original: Option<Box<Original>>,
}

/// A redirected client's way.
#[derive(Debug)]
struct Original {
    destination: SocketAddr,
    /// The route of the current request is known.
    routed: AtomicBool,
}

impl Client {
    /// A connection accepted at `accepted`. `stall` is how long it may refuse to take bytes of an
    /// answer; see [`Client::set_stall`].
    pub fn new(
        peer: Option<SocketAddr>,
        listener: Arc<str>,
        worker: usize,
        accepted: Instant,
        stall: Duration,
    ) -> Self {
        Self {
            peer,
            listener,
            worker,
            accepted,
            began: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            stall: AtomicU64::new(nanos(stall)),
            forwarded_for: peer.and_then(|peer| HeaderValue::try_from(peer.ip().to_string()).ok()),
            encrypted: false,
            stream: false,
            original: None,
            timer: Timer::default(),
            interim: Interim::default(),
        }
    }

    /// The interim answers (1xx) to the request that it waits for. The server takes them after each
    /// poll of the handler, before it writes anything of the final answer.
    pub const fn interim(&self) -> &Interim {
        &self.interim
    }

    /// The same client as one of several requests at a time sees it: with times of its own.
    pub fn for_stream(&self) -> Self {
        Self {
            peer: self.peer,
            listener: Arc::clone(&self.listener),
            worker: self.worker,
            accepted: self.accepted,
            began: AtomicU64::new(self.began.load(Relaxed)),
            progress: AtomicU64::new(0),
            stall: AtomicU64::new(self.stall.load(Relaxed)),
            forwarded_for: self.forwarded_for.clone(),
            timer: Timer::default(),
            interim: Interim::default(),
            encrypted: self.encrypted,
            stream: true,
            original: None,
        }
    }

    /// Whether it is one of several requests at a time on its connection.
    pub const fn is_stream(&self) -> bool {
        self.stream
    }

    /// The client's address for `x-forwarded-for`, built once.
    pub const fn forwarded_for(&self) -> Option<&HeaderValue> {
        self.forwarded_for.as_ref()
    }

    /// The same client, come under TLS or not.
    #[must_use]
    pub const fn encrypted(mut self, encrypted: bool) -> Self {
        self.encrypted = encrypted;
        self
    }

    /// The same client, redirected to us on its way to that address.
    #[must_use]
    pub fn redirected(mut self, destination: SocketAddr) -> Self {
        self.original = Some(Box::new(Original {
            destination,
            routed: AtomicBool::new(false),
        }));
        self
    }

    /// Where it was going, where it was redirected to us.
    pub fn destination(&self) -> Option<SocketAddr> {
        Some(self.original.as_deref()?.destination)
    }

    /// Whether it was redirected to us, and nothing is known of its current request's route yet.
    pub fn is_unrouted(&self) -> bool {
        let original = self.original.as_deref();
        original.is_some_and(|original| !original.routed.load(Relaxed))
    }

    pub(crate) fn set_routed(&self, routed: bool) {
        if let Some(original) = &self.original {
            original.routed.store(routed, Relaxed);
        }
    }

    /// What its requests' URLs begin with: `http`, or `https` where it came under TLS.
    pub const fn scheme(&self) -> &'static str {
        if self.encrypted { "https" } else { "http" }
    }

    /// When it was accepted.
    pub const fn accepted(&self) -> Instant {
        self.accepted
    }

    /// When the first byte of the current request came; the request's deadline counts from here. For
    /// a pipelined request: when its turn came.
    pub fn began(&self) -> Instant {
        self.accepted + Duration::from_nanos(self.began.load(Relaxed))
    }

    /// Bytes read from and written to the connection so far. While an answer is sent and this stands
    /// still, the client does not take bytes.
    pub fn progress(&self) -> u64 {
        self.progress.load(Relaxed)
    }

    /// How long the client may refuse to take bytes of an answer before the connection is cut, from
    /// now on and for later requests too. It is the server that cuts: while the client takes nothing
    /// the answer's body is not asked for more, so no timer in the body would be looked at.
    pub fn set_stall(&self, stall: Duration) {
        self.stall.store(nanos(stall), Relaxed);
    }

    /// How long the client may refuse to take bytes of an answer.
    pub fn stall(&self) -> Duration {
        Duration::from_nanos(self.stall.load(Relaxed))
    }

    pub(crate) fn set_began(&self, since_accepted: u64) {
        self.began.store(since_accepted, Relaxed);
    }

    pub(crate) fn add_progress(&self, bytes: usize) {
        // Only the connection's own task writes, so a plain store is enough.
        let sum = self.progress.load(Relaxed).wrapping_add(bytes as u64);
        self.progress.store(sum, Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
