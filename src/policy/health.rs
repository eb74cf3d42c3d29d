//! Whether an endpoint answers its health checks.
//!
//! ```text
//!                      a success
//!    unchecked ───────────────────────────▶ healthy
//!        │                                   │   ▲
//!        │ unhealthy_after                   │   │ healthy_after successes in a row;
//!        │ failures in a row                 ▼   │ the first, where none came before
//!        └───────────────────────────▶ unhealthy
//! ```
//!
//! An endpoint that no check has told of yet is not used while there is one that is healthy; its first
//! success counts at once (rule 53). A check says nothing to a circuit breaker and a breaker nothing to a
//! check: an endpoint gets requests when both let it. So no success of a check brings back an endpoint
//! whose real traffic fails.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::grpc::Code;
use super::outcome::StatusSet;

/// Checks are put off by chance by this share of the interval, either way, so that many do not come
/// together.
const JITTER: f64 = 0.1;
/// An endpoint that has never answered is checked so often, or every interval if that is less: it may be
/// about to start, and everybody waits for it. The first checks of many are spread over that time.
const AT_FIRST: Duration = Duration::from_secs(1);

/// How the endpoints of an upstream are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What they are asked.
    pub question: Question,
    /// From one check to the next.
    pub interval: Duration,
    /// How long a check may take; at most the interval.
    pub timeout: Duration,
    /// Successes in a row that make an unhealthy endpoint healthy; at least 1.
    pub healthy_after: u32,
    /// Failures in a row that make an endpoint unhealthy; at least 1.
    pub unhealthy_after: u32,
}

/// What an endpoint is asked. Its `Display` is a part of a sentence: "GET /healthz".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// In which way.
    pub kind: Kind,
    /// Another port than the endpoint's own.
    pub port: Option<u16>,
    /// Another `host` than the one that a request gets which names none.
    pub host: Option<Arc<str>>,
}

/// In which way an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// By a GET.
    Http {
        /// The path, with its query.
        path: Arc<str>,
        /// The statuses that are a success.
        expect: StatusSet,
    },
    /// By the standard's call, `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service that is asked about; empty: the whole server.
        service: Arc<str>,
    },
    /// By a connection that is made and closed.
    Tcp,
}

/// Why a check failed. Its `Display` goes on after the question: "answered 500".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// With a status that is no success.
    Answered(u16),
    /// The call failed.
    Failed(Code),
    /// The service says itself that it does not serve, in the standard's word.
    NotServing(&'static str),
    /// No connection came about.
    NoConnection(Arc<str>),
    /// It took longer than it may.
    TimedOut(Duration),
    /// The connection broke, or what came over it was no answer.
    Broken(Arc<str>),
}

/// What the checks make of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They have not told yet.
    Unchecked,
    /// It answers.
    Healthy,
    /// It does not.
    Unhealthy,
}

/// A change, to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What it is now.
    pub to: Standing,
    /// Which check failed and how, where it turned unhealthy.
    pub verdict: Option<Verdict>,
}

/// Which check failed and how. Its `Display` is a part of a sentence: "health check GET /healthz answered
/// 500, 3 in a row".
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    question: Question,
    fault: Fault,
    failures: u32,
}

/// What is known of one endpoint's checks.
#[derive(Debug, Clone)]
pub struct Health {
    standing: Standing,
    /// Successes and failures since the last of the other.
    passes: u32,
    failures: u32,
    /// It has passed this question before.
    proven: bool,
    /// The last failure since it was healthy.
    verdict: Option<Verdict>,
    /// When it is checked next.
    next: Option<Instant>,
}

impl Settings {
    /// How long the first check waits; `chance` is 0 to below 1.
    pub fn first_pause(&self, chance: f64) -> Duration {
        self.interval.min(AT_FIRST).mul_f64(chance)
    }
}

impl Health {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self {
            standing: Standing::Unchecked,
            passes: 0,
            failures: 0,
            proven: false,
            verdict: None,
            next: None,
        }
    }

    /// What the checks make of it.
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Takes note of a check; tells what has changed by it.
    pub fn record(&mut self, settings: &Settings, seen: Result<(), Fault>) -> Option<Turn> {
        let to = match seen {
            Ok(()) => self.passed(settings),
            Err(fault) => self.failed(settings, fault),
        };
        if to == self.standing {
            return None;
        }
        self.standing = to;
        let verdict = match to {
            Standing::Unhealthy => self.verdict.clone(),
            Standing::Unchecked | Standing::Healthy => None,
        };
        Some(Turn { to, verdict })
    }

    fn passed(&mut self, settings: &Settings) -> Standing {
        self.failures = 0;
        self.passes = self.passes.saturating_add(1);
        let enough = self.passes >= settings.healthy_after || !self.proven;
        self.proven = true;
        match self.standing {
            Standing::Healthy => Standing::Healthy,
            Standing::Unchecked | Standing::Unhealthy if enough => {
                self.verdict = None;
                Standing::Healthy
            }
            other @ (Standing::Unchecked | Standing::Unhealthy) => other,
        }
    }

    fn failed(&mut self, settings: &Settings, fault: Fault) -> Standing {
        self.passes = 0;
        self.failures = self.failures.saturating_add(1);
        self.verdict = Some(Verdict {
            question: settings.question.clone(),
            fault,
            failures: self.failures,
        });
        if self.failures >= settings.unhealthy_after {
            Standing::Unhealthy
        } else {
            self.standing
        }
    }

    /// It is asked something else from now on. What it was found unhealthy by does not count any more; an
    /// endpoint that was healthy stays so until the new question says otherwise.
    pub fn ask_anew(&mut self) {
        let standing = match self.standing {
            Standing::Healthy => Standing::Healthy,
            Standing::Unchecked | Standing::Unhealthy => Standing::Unchecked,
        };
        *self = Self {
            standing,
            ..Self::new()
        };
    }

    /// How long after a check began the next one begins; `chance` is 0 to below 1.
    pub fn pause(&self, settings: &Settings, chance: f64) -> Duration {
        let interval = if self.proven {
            settings.interval
        } else {
            settings.interval.min(AT_FIRST)
        };
        interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance)
    }

    /// When it will be checked next.
    pub const fn plan(&mut self, next: Instant) {
        self.next = Some(next);
    }

    /// Until the next check; zero where it is under way, `None` where none is planned.
    pub fn next_in(&self, now: Instant) -> Option<Duration> {
        Some(self.next?.saturating_duration_since(now))
    }

    /// Until it can be healthy again at the earliest; `None` where no check is planned.
    pub fn recovers_in(&self, settings: &Settings, now: Instant) -> Option<Duration> {
        let more = if self.proven {
            settings.healthy_after.saturating_sub(self.passes + 1)
        } else {
            0
        };
        let more = settings.interval.saturating_mul(more);
        Some(self.next_in(now)?.saturating_add(more))
    }

    /// The last failure since it was healthy.
    pub const fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Failures since the last success.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Successes since the last failure.
    pub const fn passes(&self) -> u32 {
        self.passes
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Standing {
    /// The word for logs and the status page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Http { path, .. } => write!(f, "GET {path}")?,
            Kind::Grpc { service } if service.is_empty() => f.write_str("grpc.health.v1")?,
            Kind::Grpc { service } => write!(f, "grpc.health.v1 of {service}")?,
            Kind::Tcp => f.write_str("by TCP")?,
        }
        match self.port {
            Some(port) => write!(f, " on port {port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "answered {status}"),
            Self::Failed(code) => write!(f, "ended with {}", code.name()),
            Self::NotServing(word) => write!(f, "answered {word}"),
            Self::NoConnection(cause) => write!(f, "got no connection ({cause})"),
            Self::TimedOut(timeout) => write!(f, "got no answer within {timeout:?}"),
            Self::Broken(cause) => write!(f, "got no answer ({cause})"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            question,
            fault,
            failures,
        } = self;
        write!(f, "health check {question} {fault}")?;
        match failures {
            0 | 1 => Ok(()),
            failures => write!(f, ", {failures} in a row"),
        }
    }
}

#[cfg(test)]
mod tests;
