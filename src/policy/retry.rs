//! Whether a failed try is made again, and when.

use std::sync::Arc;
use std::time::Duration;

use super::outcome::StatusSet;
use super::{backoff, budget};

/// When and how often a request is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Tries in all; the first counts. At least 1.
    pub max_attempts: u32,
    /// What is worth another try.
    pub on: Conditions,
    /// Which methods may be sent twice.
    pub methods: Methods,
    /// How long to wait between tries.
    pub backoff: backoff::Settings,
    /// The share of traffic that may be retries; `None`: no bound.
    pub budget: Option<budget::Settings>,
    /// Whether the upstream's `retry-after` sets the wait.
    pub respect_retry_after: bool,
    /// A longer `retry-after` ends the tries.
    pub max_retry_after: Duration,
    /// Bytes of a request's body kept for another try.
    pub max_body: usize,
    /// Rules of their own for some classes of failure.
    pub by_class: ByClass,
}

/// What is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Bit `reason as u8` for each of our reasons (`timeout` and `connect_failure` already spread out).
    pub reasons: u32,
    /// Statuses of the upstream's answers.
    pub statuses: StatusSet,
    /// Any answer of 429 or 5xx that carries a `retry-after`.
    pub retry_after: bool,
}

/// Which methods may be sent twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// GET HEAD OPTIONS TRACE PUT DELETE, and any with an `idempotency-key`.
    Idempotent,
    /// Every one.
    All,
    /// These, and no others.
    List(Arc<[Box<str>]>),
}

/// Rules for a class of failure; an absent key is the block's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassRule {
    /// Tries in all.
    pub max_attempts: u32,
    /// How long to wait.
    pub backoff: backoff::Settings,
}

/// Rules for the classes that can have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByClass {
    /// Broken connections, 502, 503.
    pub transient: Option<ClassRule>,
    /// Our timeouts, 504.
    pub timeout: Option<ClassRule>,
    /// 429.
    pub rate_limited: Option<ClassRule>,
    /// Refused before it was sent.
    pub unavailable: Option<ClassRule>,
}

/// Why a failed try was not made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Why {
    /// The budget is used up.
    Budget,
    /// It was the last try.
    Attempts,
    /// The time left is too short for another.
    Deadline,
    /// The method may not be sent twice, and it may have been sent.
    Method,
    /// The body was not kept.
    Body,
    /// The client already has a part of the answer.
    Committed,
}

impl Why {
    /// Every reason, in the order of declaration: `ALL[w as usize] == w`.
    pub const ALL: [Self; 6] = [
        Self::Budget,
        Self::Attempts,
        Self::Deadline,
        Self::Method,
        Self::Body,
        Self::Committed,
    ];

    /// The word for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Attempts => "attempts",
            Self::Deadline => "deadline",
            Self::Method => "method",
            Self::Body => "body",
            Self::Committed => "committed",
        }
    }
}
