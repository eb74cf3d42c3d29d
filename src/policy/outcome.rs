//! What a try or a request ended in: the closed list of failure reasons, their classes, and how far
//! a request had got when it failed. Breakers, retries, fallbacks, logs and metrics share these words.

use super::grpc::Code;

/// Why a request or a try failed. The list is closed: there is no "other".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// No route of the listener matches.
    NoRoute,
    /// The request is malformed or must not be forwarded.
    BadRequest,
    /// The request's head is over the listener's limits.
    HeaderTooLarge,
    /// The request's body is over the listener's limit.
    BodyTooLarge,
    /// The client did not finish the request's head in time.
    HeaderTimeout,
    /// The rate limit has no token.
    RateLimited,
    /// Every seat of the bulkhead is taken and the queue is full.
    TooManyInFlight,
    /// The request waited for a seat as long as it may.
    QueueTimeout,
    /// Every connection that the upstream may have is in use.
    TooManyConnections,
    /// No endpoint's breaker lets a request through.
    BreakerOpen,
    /// The upstream has no endpoint.
    NoEndpoint,
    /// This process takes no new work.
    Draining,
    /// The connection could not be made.
    ConnectFailure,
    /// The connection was not made in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    TlsFailure,
    /// The connection broke before the head of the answer.
    Reset,
    /// The upstream's answer is no valid HTTP.
    ProtocolError,
    /// One try took longer than it may.
    TryTimeout,
    /// The request, tries and waits included, took longer than it may.
    RequestTimeout,
    /// The client left before its answer was complete.
    ClientGone,
    /// A fault of this program.
    Internal,
}

impl Reason {
    /// Every reason, in the order of declaration: `ALL[r as usize] == r`.
    pub const ALL: [Self; 21] = [
        Self::NoRoute,
        Self::BadRequest,
        Self::HeaderTooLarge,
        Self::BodyTooLarge,
        Self::HeaderTimeout,
        Self::RateLimited,
        Self::TooManyInFlight,
        Self::QueueTimeout,
        Self::TooManyConnections,
        Self::BreakerOpen,
        Self::NoEndpoint,
        Self::Draining,
        Self::ConnectFailure,
        Self::ConnectTimeout,
        Self::TlsFailure,
        Self::Reset,
        Self::ProtocolError,
        Self::TryTimeout,
        Self::RequestTimeout,
        Self::ClientGone,
        Self::Internal,
    ];

    /// The word for configuration, metrics, logs and the `x-mamparo-reason` header.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The status of the answer that we make for it; 499 is for the log only.
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// The `error_code` of the error body.
    pub const fn error_code(self) -> &'static str {
        self.row().2
    }

    /// The class that retries, logs and metrics sort it under.
    pub const fn class(self) -> Class {
        self.row().3
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Whether an endpoint caused it, so that its breaker counts a failure.
    pub const fn blames_endpoint(self) -> bool {
        matches!(self.class(), Class::Transient | Class::Timeout)
    }

    const fn row(self) -> (&'static str, u16, &'static str, Class) {
        use Class::{Local, Timeout, Transient, Unavailable};
        match self {
            Self::NoRoute => ("no_route", 404, "NO_ROUTE", Local),
            Self::BadRequest => ("bad_request", 400, "BAD_REQUEST", Local),
            Self::HeaderTooLarge => ("header_too_large", 431, "HEADER_TOO_LARGE", Local),
            Self::BodyTooLarge => ("body_too_large", 413, "BODY_TOO_LARGE", Local),
            Self::HeaderTimeout => ("header_timeout", 408, "HEADER_TIMEOUT", Local),
            Self::RateLimited => ("rate_limited", 429, "RATE_LIMIT_EXCEEDED", Local),
            Self::TooManyInFlight => ("too_many_in_flight", 503, "BULKHEAD_FULL", Unavailable),
            Self::QueueTimeout => ("queue_timeout", 503, "BULKHEAD_QUEUE_TIMEOUT", Unavailable),
            Self::TooManyConnections => {
                ("too_many_connections", 503, "CONNECTION_LIMIT", Unavailable)
            }
            Self::BreakerOpen => ("breaker_open", 503, "CIRCUIT_BREAKER_OPEN", Unavailable),
            Self::NoEndpoint => ("no_endpoint", 503, "NO_ENDPOINT", Unavailable),
            Self::Draining => ("draining", 503, "DRAINING", Local),
            Self::ConnectFailure => (
                "connect_failure",
                502,
                "UPSTREAM_CONNECT_FAILURE",
                Transient,
            ),
            Self::ConnectTimeout => ("connect_timeout", 504, "UPSTREAM_CONNECT_TIMEOUT", Timeout),
            Self::TlsFailure => ("tls_failure", 502, "UPSTREAM_TLS_FAILURE", Transient),
            Self::Reset => ("reset", 502, "UPSTREAM_RESET", Transient),
            Self::ProtocolError => ("protocol_error", 502, "UPSTREAM_PROTOCOL_ERROR", Transient),
            Self::TryTimeout => ("try_timeout", 504, "UPSTREAM_TIMEOUT", Timeout),
            Self::RequestTimeout => ("request_timeout", 504, "REQUEST_TIMEOUT", Timeout),
            Self::ClientGone => ("client_gone", 499, "CLIENT_GONE", Local),
            Self::Internal => ("internal", 500, "INTERNAL_ERROR", Local),
        }
    }
}

/// The kinds of failure that want to be treated differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Gone with the next try, likely: a broken connection, 502, 503.
    Transient,
    /// Too late: our timeouts, 504.
    Timeout,
    /// 429 from the upstream.
    RateLimited,
    /// Refused before it was sent: open breaker, no endpoint, full bulkhead.
    Unavailable,
    /// The other 4xx: the request is at fault.
    Client,
    /// The other 5xx.
    Permanent,
    /// Our own refusals and faults.
    Local,
}

impl Class {
    /// Every class, in the order of declaration: `ALL[c as usize] == c`.
    pub const ALL: [Self; 7] = [
        Self::Transient,
        Self::Timeout,
        Self::RateLimited,
        Self::Unavailable,
        Self::Client,
        Self::Permanent,
        Self::Local,
    ];

    /// The word for configuration, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Client => "client",
            Self::Permanent => "permanent",
            Self::Local => "local",
        }
    }

    /// The class of an upstream's answer; `None` for 1xx to 3xx.
    pub const fn of_status(status: u16) -> Option<Self> {
        match status {
            ..400 => None,
            429 => Some(Self::RateLimited),
            502 | 503 => Some(Self::Transient),
            504 => Some(Self::Timeout),
            500.. => Some(Self::Permanent),
            _ => Some(Self::Client),
        }
    }
}

/// How a try ended: with the head of an answer, or without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The upstream answered with this status. A gRPC call whose first message came ends so too: how
    /// it goes on is not known yet.
    Answered(u16),
    /// The upstream answered a gRPC call with this, and the call is over (rule 13).
    Grpc {
        /// The status of HTTP: 200, unless something that knows no gRPC answered.
        status: u16,
        /// The `grpc-status`, or what stands for it.
        code: Code,
    },
    /// No answer came.
    Failed(Reason),
}

impl Ending {
    /// The class of the failure; `None` where it is none.
    pub const fn class(self) -> Option<Class> {
        match self {
            Self::Failed(reason) => Some(reason.class()),
            Self::Answered(_) | Self::Grpc { .. } => match self.status() {
                Some(status) => Class::of_status(status),
                None => None,
            },
        }
    }

    /// The status that an answer is judged by. A gRPC answer of 200 is what its code says.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Grpc { status: 200, code } => Some(code.http_status()),
            Self::Answered(status) | Self::Grpc { status, .. } => Some(status),
            Self::Failed(_) => None,
        }
    }
}

/// What a breaker, a budget and the balance learn from a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint works.
    Success,
    /// The endpoint failed.
    Failure,
    /// The try says nothing about the endpoint.
    Ignored,
}

impl Outcome {
    /// Each once, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Ignored];

    /// Its name in metrics, spans and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Ignored => "ignored",
        }
    }
}

/// How far a request had got when its try ended. It decides whether another try can do harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// No byte left us: any method may be tried again.
    NotSent,
    /// The upstream may have acted on it: only what may be done twice is tried again.
    Unanswered,
    /// The head of an answer came: its status decides.
    Answered,
    /// A byte of an answer went to the client: never again.
    Committed,
}

impl Sent {
    /// The word for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Unanswered => "sent_unanswered",
            Self::Answered => "answered",
            Self::Committed => "committed",
        }
    }
}

/// A set of HTTP statuses, 100 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusSet([u64; 8]);

impl StatusSet {
    /// The set without members.
    pub const EMPTY: Self = Self([0; 8]);

    /// Adds a status; one outside 100 to 599 is passed over.
    pub fn insert(&mut self, status: u16) {
        if let Some((word, bit)) = Self::place(status) {
            self.0[word] |= bit;
        }
    }

    /// Adds every status from `first` to `last`, both included.
    pub fn insert_range(&mut self, first: u16, last: u16) {
        (first..=last).for_each(|status| self.insert(status));
    }

    /// Whether the status is a member.
    pub fn contains(&self, status: u16) -> bool {
        Self::place(status).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (100..600).filter(|status| self.contains(*status))
    }

    fn place(status: u16) -> Option<(usize, u64)> {
        let index = status.checked_sub(100).filter(|index| *index < 500)?;
        Some((usize::from(index / 64), 1 << (index % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_place_and_is_found_by_its_name() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
        }
        assert_eq!(Reason::from_name("other"), None);
    }

    #[test]
    fn only_what_an_endpoint_did_is_blamed_on_it() {
        use Reason::*;
        let blamed = [
            ConnectFailure,
            ConnectTimeout,
            TlsFailure,
            Reset,
            ProtocolError,
            TryTimeout,
            RequestTimeout,
        ];
        for reason in Reason::ALL {
            assert_eq!(
                reason.blames_endpoint(),
                blamed.contains(&reason),
                "{}",
                reason.name()
            );
        }
    }

    #[test]
    fn statuses_fall_into_their_classes() {
        for (status, class) in [
            (200, None),
            (304, None),
            (404, Some(Class::Client)),
            (429, Some(Class::RateLimited)),
            (500, Some(Class::Permanent)),
            (502, Some(Class::Transient)),
            (503, Some(Class::Transient)),
            (504, Some(Class::Timeout)),
            (599, Some(Class::Permanent)),
        ] {
            assert_eq!(Ending::Answered(status).class(), class, "{status}");
        }
        assert_eq!(
            Ending::Failed(Reason::Reset).class(),
            Some(Class::Transient)
        );
    }

    #[test]
    fn a_status_set_holds_exactly_what_was_put_in() {
        let mut set = StatusSet::EMPTY;
        assert!(set.is_empty());
        set.insert_range(500, 502);
        set.insert(100);
        set.insert(599);
        set.insert(99);
        set.insert(600);
        assert_eq!(set.iter().collect::<Vec<_>>(), [100, 500, 501, 502, 599]);
    }
}
