//! What there is to tell about a request once it has ended: one value, filled in on the way by the
//! pipeline and told once, whatever happened. Metrics and the access line are made from it, and from
//! nothing else, so they cannot disagree.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::meters::{Labels, ListenerMeters, RouteMeters};
use super::trace::{Identity, TraceContext};
use crate::policy::balance::Picked;
use crate::policy::grpc::Code;
use crate::policy::outcome::{self, Class, Ending, Reason, Sent};
use crate::policy::retry::Why;

mod decisions;
mod detached;

pub(crate) use detached::without_user;

pub use decisions::{BreakerMove, FellBack, Halted, Next};

/// What a request ended in, as its client sees it. Each request ends in exactly one (rule 88).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// The upstream's answer was passed on, whatever its status.
    Upstream,
    /// A fallback answered.
    Fallback,
    /// We answered without having tried: no route, a limit, an open breaker, draining.
    Refused,
    /// We answered, since no try brought an answer.
    Failed,
    /// The client left before its answer was complete.
    ClientGone,
}

impl Outcome {
    /// Every outcome, in the order of declaration: `ALL[o as usize] == o`.
    pub const ALL: [Self; 5] = [
        Self::Upstream,
        Self::Fallback,
        Self::Refused,
        Self::Failed,
        Self::ClientGone,
    ];

    /// The word for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Fallback => "fallback",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::ClientGone => "client_gone",
        }
    }
}

/// What kind of fallback answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FallbackKind {
    /// An answer that is written in the configuration.
    Respond,
}

impl FallbackKind {
    /// Every kind, in the order of declaration: `ALL[k as usize] == k`.
    pub const ALL: [Self; 1] = [Self::Respond];

    /// The word for metrics, logs and the `x-mamparo-fallback` header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Respond => "respond",
        }
    }
}

/// One try.
#[derive(Debug, Clone)]
pub struct Try {
    /// The endpoint's address, as the configuration or the resolver has it.
    pub endpoint: Arc<str>,
    /// When it began, since the request began.
    pub started: Duration,
    /// The backoff before it.
    pub waited: Duration,
    /// From its start to the head of the answer, or to the failure.
    pub took: Duration,
    /// What it ended in.
    pub ending: Ending,
    /// How far the request had got.
    pub sent: Sent,
    /// Whether the connection had been used before.
    pub reused: bool,
    /// When the connection stood, since the try began, where it had to be waited for: a new one, or a
    /// turn on one of HTTP/2.
    pub connected: Option<Duration>,
    /// Whether the endpoint is spoken to under TLS.
    pub tls: bool,
    /// The span of the try in the request's trace, as `traceparent` told the endpoint; never 0.
    pub span_id: u64,
    /// Why it was this endpoint.
    pub picked: Picked,
    /// The header whose hash chose the endpoint, where the upstream is balanced so.
    pub hashed_by: Option<Arc<str>>,
    /// What the system or the parser said of a failure.
    pub detail: Option<Box<str>>,
    /// What the endpoint's breaker learnt.
    pub outcome: outcome::Outcome,
    /// What was decided about another try; `None` where there was nothing to decide.
    pub next: Option<Box<Next>>,
}

/// Where a request came in and which way it took from there, with what counts it.
#[derive(Debug, Clone)]
pub enum Place {
    /// No route was found for it, or none yet.
    Unrouted(Arc<ListenerMeters>),
    /// It took this route.
    Routed(Arc<RouteMeters>),
    /// It is counted already. Who goes on telling of it holds the names alone, since counters of what was
    /// removed must not stay for as long as there is something to tell (rule 87).
    Counted(Arc<Labels>),
}

impl Place {
    /// The names.
    pub fn labels(&self) -> &Arc<Labels> {
        match self {
            Self::Unrouted(listener) => listener.labels(),
            Self::Routed(route) => route.labels(),
            Self::Counted(labels) => labels,
        }
    }
}

/// What a request asked for.
#[derive(Debug, Clone)]
pub struct Target {
    /// The method.
    pub method: http::Method,
    /// The target, as it came. Its query is never written anywhere.
    pub uri: http::Uri,
    /// The host that was asked for.
    pub host: Option<http::HeaderValue>,
    /// What its URL begins with: `http`, or `https` where it came under TLS.
    pub scheme: &'static str,
    /// The version of HTTP that it came in.
    pub version: http::Version,
}

/// One request, from its first byte to the last byte of its answer or to its end without one.
#[derive(Debug, Clone)]
pub struct Report {
    /// When the request began.
    pub started: Instant,
    /// The generation of the configuration that it ran under.
    pub generation: u64,
    /// Where it came in, and its route and upstream.
    pub place: Place,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// What it asked for; `None` where nobody will write of it.
    pub target: Option<Target>,
    /// The path that its endpoints are asked for, without a query, where its route rewrites it.
    pub rewritten: Option<Box<str>>,
    /// Whether a client that is trusted wants to know what became of it (`x-mamparo-explain: 1`).
    pub asked: bool,
    /// The id that is in our log, the upstream's and the client's.
    pub request_id: http::HeaderValue,
    /// The trace that it belongs to, and our span in it.
    pub trace: TraceContext,
    /// The time that it has to the head of its answer; `None`: no limit.
    pub time_limit: Option<Duration>,
    /// When it began to wait for a seat, since it began; `None`: it did not have to.
    pub queued_at: Option<Duration>,
    /// How long it waited for a seat.
    pub queued: Duration,
    /// How long it waited between tries, all waits together.
    pub backoff: Duration,
    /// Its tries, in order.
    pub tries: SmallVec<[Try; 1]>,
    /// Why a failed try was not made again, where one could have been.
    pub denied: Option<Why>,
    /// What kept another try from being made that had been granted.
    pub halted: Option<Box<Halted>>,
    /// Breakers that it moved, in order.
    pub moves: Vec<BreakerMove>,
    /// The primary failure, before any fallback.
    pub reason: Option<Reason>,
    /// What there is to say about the failure beside its reason.
    pub detail: Option<Box<str>>,
    /// The fallback that answered.
    pub fallback: Option<FallbackKind>,
    /// Which one of the route's it was, and because of what.
    pub fell_back: Option<FellBack>,
    /// What it ended in.
    pub outcome: Outcome,
    /// The status that the client got; 499 where it left before there was one.
    pub status: u16,
    /// What the client of a gRPC call was told; `None` for other requests, and until it is known.
    pub grpc_status: Option<Code>,
    /// When the head of the answer was ready, since the request began.
    pub head_at: Option<Duration>,
    /// Bytes of the request's body that were read.
    pub received: u64,
    /// Bytes of the answer's body that were handed to the client's connection.
    pub sent: u64,
    /// Whether it became a tunnel: then the bytes are those of both, and its time in the metrics ends
    /// with the head of the answer.
    pub tunnel: bool,
    /// Whether the answer's body broke off.
    pub broken: bool,
}

impl Report {
    /// What is known when a request begins. Until more is known it says that the client has gone.
    pub fn begin(
        started: Instant,
        generation: u64,
        listener: Arc<ListenerMeters>,
        peer: Option<SocketAddr>,
        whose: Identity,
        target: Option<Target>,
    ) -> Self {
        Self {
            started,
            generation,
            place: Place::Unrouted(listener),
            peer,
            target,
            rewritten: None,
            asked: false,
            request_id: whose.request_id,
            trace: whose.trace,
            time_limit: None,
            queued_at: None,
            queued: Duration::ZERO,
            backoff: Duration::ZERO,
            tries: SmallVec::new(),
            denied: None,
            halted: None,
            moves: Vec::new(),
            reason: None,
            detail: None,
            fallback: None,
            fell_back: None,
            outcome: Outcome::ClientGone,
            status: Reason::ClientGone.status(),
            grpc_status: None,
            head_at: None,
            received: 0,
            sent: 0,
            tunnel: false,
            broken: false,
        }
    }

    /// What we added ourselves: the time to the head of the answer, less tries, queue and backoff.
    /// `None` where there was no head.
    pub fn overhead(&self) -> Option<Duration> {
        let others = self.tries.iter().map(|one| one.took).sum::<Duration>();
        let head_at = self.head_at?;
        Some(head_at.saturating_sub(others + self.queued + self.backoff))
    }

    /// The status that the request is counted by: a gRPC call is what its code stands for in HTTP, since
    /// its status is nearly always 200.
    pub fn judged_status(&self) -> u16 {
        match self.grpc_status {
            Some(code) if self.status == 200 => code.http_status(),
            Some(_) | None => self.status,
        }
    }

    /// The class of what went wrong, by the reason or else by the upstream's last answer; `None`
    /// where nothing did.
    pub fn class(&self) -> Option<Class> {
        match self.reason {
            Some(reason) => Some(reason.class()),
            None => self.tries.last().and_then(|last| last.ending.class()),
        }
    }

    /// Whether it is slow, having ended at `now`: the head of its answer took this long or longer, or its
    /// end where there was none. How long a body takes depends on its length and its reader, and how long
    /// a tunnel stands says nothing at all.
    pub fn is_slow(&self, now: Instant, limit: Duration) -> bool {
        let took = || now.saturating_duration_since(self.started);
        self.head_at.unwrap_or_else(took) >= limit
    }

    /// Whether it failed, was tried more than once, or did not end as it should: what a log that
    /// keeps failures only is about. An upstream's own 5xx is one.
    pub fn troubled(&self) -> bool {
        !self.went_well()
    }

    /// The opposite: one try at most, and an answer of the upstream's that is not its failure.
    pub fn went_well(&self) -> bool {
        self.outcome == Outcome::Upstream
            && self.tries.len() <= 1
            && !self.broken
            && self.reason.is_none()
            && self.judged_status() < 500
    }
}

#[cfg(test)]
pub(crate) mod samples;
