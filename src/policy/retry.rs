//! Whether a failed try is made again, and when.
//!
//! The questions in their order, each with the answer that ends it. The budget comes last, so that a
//! denial for another cause costs nothing.
//!
//! ```text
//! does `on` list it?             no  → Final
//! has the client seen a byte?    yes → Denied(committed)       rule 11
//! are there attempts left?       no  → Denied(attempts)        by class, where the class has a rule
//! not sent, or safe to repeat?   no  → Denied(method)          rule 15
//! is the body still whole?       no  → Denied(body)            rule 19
//! is there time for the wait?    no  → Denied(deadline)        rules 5, 24
//! does the budget pay?           no  → Denied(budget)          rule 29
//!                                      Again { wait }
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::condition::{self, BadWord, Word};
use super::grpc::{Code, CodeSet};
use super::outcome::{Class, Ending, Reason, Sent, StatusSet};
use super::{backoff, budget};

mod figures;

pub use figures::{Figures, Wait};

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
    /// What gRPC calls ended with.
    pub codes: CodeSet,
    /// Any answer of 429 or 5xx, or a code of gRPC that stands for one, that carries a `retry-after` or
    /// a pushback.
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

/// Statuses that another try cannot change (rule 18): `on` must not list them, and `5xx` and
/// `retry_after` leave them out.
pub const NEVER: [u16; 4] = [401, 407, 501, 505];

/// Codes of gRPC that another try cannot change. `on` must not list them, nor the one that is no
/// failure.
pub const NEVER_CODES: [Code; 2] = [Code::Unauthenticated, Code::Unimplemented];

/// What may stand in `on`, besides a status from 200 to 599 that is not in [`NEVER`].
pub const WORDS: [&str; 24] = [
    "connect_failure",
    "connect_timeout",
    "tls_failure",
    "reset",
    "protocol_error",
    "timeout",
    "try_timeout",
    "request_timeout",
    "5xx",
    "retry_after",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "internal",
    "unavailable",
    "data_loss",
];

/// Less time than this is not enough for a try.
pub const SHORTEST_TRY: Duration = Duration::from_millis(1);

impl Default for Settings {
    fn default() -> Self {
        let mut on = Conditions::default();
        for reason in [
            Reason::ConnectFailure,
            Reason::TlsFailure,
            Reason::Reset,
            Reason::TryTimeout,
            Reason::RequestTimeout,
            Reason::ConnectTimeout,
        ] {
            on.insert_reason(reason);
        }
        on.statuses.insert_range(502, 504);
        Self {
            max_attempts: 3,
            on,
            methods: Methods::Idempotent,
            backoff: backoff::Settings::default(),
            budget: Some(budget::Settings::default()),
            respect_retry_after: true,
            max_retry_after: Duration::from_secs(10),
            max_body: 64 * 1024,
            by_class: ByClass::default(),
        }
    }
}

/// A try that has ended, and what is left for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Tries so far, this one included; at least 1.
    pub made: u32,
    /// How it ended.
    pub ending: Ending,
    /// How far the request had got.
    pub sent: Sent,
    /// Whether the request may be sent twice: what [`Methods::allow`] says.
    pub repeatable: bool,
    /// Whether its body is still whole.
    pub replayable: bool,
    /// What is left of the request's time; `None`: no limit.
    pub time_left: Option<Duration>,
    /// The answer's `retry-after`, from now.
    pub retry_after: Option<Duration>,
    /// A gRPC answer's `grpc-retry-pushback-ms`.
    pub pushback: Option<Pushback>,
}

/// When a gRPC service wants a call again (gRFC A6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushback {
    /// After just this long.
    After(Duration),
    /// Not at all.
    Never,
}

impl Pushback {
    /// Reads the value of `grpc-retry-pushback-ms`: what is no number, or below 0, forbids another try
    /// (rule 25).
    pub fn read(value: &[u8]) -> Self {
        let number = std::str::from_utf8(value).ok();
        let number = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        let wait = number.and_then(|number| number.parse().ok());
        wait.map_or(Self::Never, |wait| Self::After(Duration::from_millis(wait)))
    }
}

/// Whether there is another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// After this wait. The budget has paid for it.
    Again {
        /// Zero only where `backoff.base` is.
        wait: Duration,
    },
    /// It was a failure worth another try, but there is none.
    Denied(Why),
    /// It was no failure that `on` lists: nothing was denied.
    Final,
}

impl Methods {
    /// Whether a request may be sent twice. `keyed`: it has an `idempotency-key`, which counts for
    /// nothing where the configuration lists the methods. Methods are case-sensitive.
    pub fn allow(&self, method: &str, keyed: bool) -> bool {
        match self {
            Self::Idempotent => {
                let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
                keyed || idempotent.contains(&method)
            }
            Self::All => true,
            Self::List(methods) => methods.iter().any(|listed| **listed == *method),
        }
    }
}

impl Conditions {
    /// Adds what a word of the configuration stands for.
    ///
    /// # Errors
    /// The word is unknown, or trying again would be in vain (rules 18, 27).
    pub fn add(&mut self, word: &str) -> Result<(), BadWord> {
        match condition::read(word).ok_or(BadWord::Unknown)? {
            // A fault of ours is no failure of the upstream, so this is the code of gRPC.
            Word::Reasons(_) if word == Code::Internal.name() => self.codes.insert(Code::Internal),
            Word::Grpc(Code::Ok) => {
                return Err(BadWord::Refused("a call that went well needs no other try"));
            }
            Word::Grpc(code) if NEVER_CODES.contains(&code) => {
                return Err(BadWord::Refused(
                    "another try gets the same answer to unauthenticated and unimplemented",
                ));
            }
            Word::Grpc(code) => self.codes.insert(code),
            Word::Reasons(bits) if bits & !upstream_reasons() == 0 => self.reasons |= bits,
            Word::Reasons(_) => {
                return Err(BadWord::Refused(
                    "this is no failure of the upstream: another try would meet the same refusal",
                ));
            }
            Word::Status(status) if NEVER.contains(&status) => {
                return Err(BadWord::Refused(
                    "another try gets the same answer to 401, 407, 501 and 505",
                ));
            }
            Word::Status(status) => self.insert_status(status),
            Word::ServerErrors => {
                let errors = (500..600).filter(|status| !NEVER.contains(status));
                errors.for_each(|status| self.insert_status(status));
            }
            Word::RetryAfter => self.retry_after = true,
            Word::Any => return Err(BadWord::Unknown),
        }
        Ok(())
    }

    /// Adds a reason, and no other.
    pub fn insert_reason(&mut self, reason: Reason) {
        self.reasons |= condition::bit(reason);
    }

    /// Adds a status of the upstream's answers.
    pub fn insert_status(&mut self, status: u16) {
        self.statuses.insert(status);
    }

    /// Whether what ended so can be worth another try at all. Cheap, and so asked first: most answers
    /// are none.
    pub fn may_want(&self, ending: Ending) -> bool {
        match ending {
            Ending::Answered(status) => {
                self.statuses.contains(status) || (self.retry_after && status >= 429)
            }
            Ending::Grpc { .. } => self.wants(ending, true),
            Ending::Failed(_) => true,
        }
    }

    /// Whether this ending is worth another try. Any of the conditions will do (rule 14).
    pub fn wants(&self, ending: Ending, has_retry_after: bool) -> bool {
        match ending {
            Ending::Grpc { code, .. } if NEVER_CODES.contains(&code) => false,
            Ending::Grpc { status, code } => {
                let asked = self.retry_after && has_retry_after;
                self.codes.contains(code)
                    || asked && matches!(code.http_status(), 429 | 500..)
                    || self.wants(Ending::Answered(status), has_retry_after)
            }
            Ending::Answered(status) if NEVER.contains(&status) => false,
            Ending::Answered(status) => {
                let asked = self.retry_after && has_retry_after;
                self.statuses.contains(status) || asked && matches!(status, 429 | 500..)
            }
            Ending::Failed(reason) => {
                self.reasons & condition::bit(reason) & upstream_reasons() != 0
            }
        }
    }
}

/// The reasons that come from the upstream; the rest are refusals of ours (rule 27) or the client's.
fn upstream_reasons() -> u32 {
    let blamed = Reason::ALL.into_iter().filter(|r| r.blames_endpoint());
    blamed.fold(0, |bits, reason| bits | condition::bit(reason))
}

impl Settings {
    /// Whether a try that has ended is made again. `chance` is 0 to below 1.
    pub fn decide(&self, a: &Attempt, budget: &mut Budget, now: Instant, chance: f64) -> Decision {
        let asked = a.retry_after.is_some() || matches!(a.pushback, Some(Pushback::After(_)));
        if !self.on.wants(a.ending, asked) {
            return Decision::Final;
        }
        let rule = self.rule_for(a.ending);
        let denied = if a.sent == Sent::Committed {
            Some(Why::Committed)
        } else if a.made >= rule.max_attempts {
            Some(Why::Attempts)
        } else if a.sent != Sent::NotSent && !a.repeatable {
            Some(Why::Method)
        } else if !a.replayable {
            Some(Why::Body)
        } else {
            None
        };
        if let Some(why) = denied {
            return Decision::Denied(why);
        }
        let Some(wait) = self.wait(&rule, a, chance) else {
            return Decision::Denied(Why::Deadline);
        };
        match &self.budget {
            Some(s) if !budget.withdraw(s, now) => Decision::Denied(Why::Budget),
            Some(_) | None => Decision::Again { wait },
        }
    }

    /// The attempts and the waits for a class of failure.
    pub fn rule(&self, class: Class) -> ClassRule {
        let own = match class {
            Class::Transient => self.by_class.transient,
            Class::Timeout => self.by_class.timeout,
            Class::RateLimited => self.by_class.rate_limited,
            Class::Unavailable => self.by_class.unavailable,
            Class::Client | Class::Permanent | Class::Local => None,
        };
        own.unwrap_or(self.general_rule())
    }

    fn rule_for(&self, ending: Ending) -> ClassRule {
        ending
            .class()
            .map_or(self.general_rule(), |class| self.rule(class))
    }

    fn general_rule(&self) -> ClassRule {
        ClassRule {
            max_attempts: self.max_attempts,
            backoff: self.backoff,
        }
    }

    /// How long to wait, if a try fits in after it.
    fn wait(&self, rule: &ClassRule, a: &Attempt, chance: f64) -> Option<Duration> {
        let latest = match a.time_left {
            Some(left) => left.checked_sub(SHORTEST_TRY)?,
            None => Duration::MAX,
        };
        match a.pushback.filter(|_| self.respect_retry_after) {
            // Just what it says: the service spreads its callers itself (rule 25).
            Some(Pushback::After(wait)) => {
                return (wait <= self.max_retry_after && wait <= latest).then_some(wait);
            }
            Some(Pushback::Never) => return None,
            None => {}
        }
        let backoff = rule.backoff.wait(a.made, chance);
        let wait = match a.retry_after.filter(|_| self.respect_retry_after) {
            Some(asked) if asked > self.max_retry_after || asked > latest => return None,
            // Upwards only, since before that time the upstream does not want us; but not so far
            // that the spread alone would use up the time (rule 24).
            Some(asked) if asked > Duration::ZERO => {
                let spread = (asked / 2).mul_f64(chance.clamp(0.0, 1.0));
                asked.saturating_add(spread).min(latest)
            }
            // "Now" says nothing about how long is polite.
            Some(_) | None => backoff,
        };
        (wait <= latest).then_some(wait)
    }
}

#[cfg(test)]
mod tests;
