//! How bad it is, since when, why, and what is done about it: a rank, a word and sentences, made of the
//! status alone. The page, `mamparo top` and scripts show these, so that all say the same.

mod process;
mod reasons;
mod upstream;

use serde::Serialize;

use super::words::some_of;
use super::{History, Minute, Status};
use crate::telemetry::explain::Recorder;

/// What is to be said of an upstream, or of the process itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// 0 is worst, 9 is well: the order in which an operator looks.
    pub rank: u8,
    /// How bad it is, in three steps.
    pub severity: Severity,
    /// What it is called.
    pub word: Word,
    /// What else holds and is less bad, the worst first.
    pub also: Vec<Word>,
    /// Since when, RFC 3339 in UTC; `null`: it is not known.
    pub since: Option<String>,
    /// What is wrong: the rest of a sentence that begins with the upstream's name; of the process a whole
    /// one. Empty where nothing is.
    pub what: String,
    /// Why, in sentences. May be empty.
    pub why: String,
    /// What the proxy does about it, in sentences. May be empty.
    pub next: String,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is wrong.
    #[default]
    Ok,
    /// Somebody should look.
    Warning,
    /// Requests fail, or what should be in use is not.
    Error,
}

/// What a state is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// An upstream has no endpoint at all.
    NoEndpoint,
    /// Each of its endpoints has an open breaker or fails its health checks.
    Down,
    /// New work should go elsewhere: it drains.
    Draining,
    /// Not every listener is bound yet.
    Starting,
    /// No breaker is closed, and a few requests find out whether it works again.
    HalfOpen,
    /// A certificate in use has expired.
    CertificateExpired,
    /// Too many of the requests of the last minute failed.
    Failing,
    /// The last configuration does not run.
    ConfigRefused,
    /// Some of its endpoints get no requests, others do.
    Degraded,
    /// Newer certificates are there and not in use.
    CertificateUnused,
    /// Every seat is taken.
    BulkheadFull,
    /// No retry can be paid for.
    RetryBudgetEmpty,
    /// Four of five seats are taken.
    BulkheadNearlyFull,
    /// Too many of the requests of the last minute failed, and none does now.
    Recovered,
    /// An operator holds a breaker open or closed.
    Forced,
    /// It cannot be found out anew where its endpoints are.
    Unresolved,
    /// A certificate in use expires soon.
    CertificateExpires,
    /// All is well.
    #[default]
    Ok,
}

impl Word {
    /// How bad it is: 0 is worst, 9 is well.
    const fn rank(self) -> u8 {
        match self {
            Self::NoEndpoint | Self::Down | Self::Draining | Self::Starting => 0,
            Self::HalfOpen | Self::CertificateExpired => 1,
            Self::Failing | Self::ConfigRefused => 2,
            Self::Degraded | Self::CertificateUnused => 3,
            Self::BulkheadFull => 4,
            Self::RetryBudgetEmpty => 5,
            Self::BulkheadNearlyFull | Self::Recovered => 6,
            Self::Forced => 7,
            Self::Unresolved | Self::CertificateExpires => 8,
            Self::Ok => 9,
        }
    }

    const fn severity(self) -> Severity {
        match self {
            Self::NoEndpoint
            | Self::Down
            | Self::CertificateExpired
            | Self::Failing
            | Self::ConfigRefused
            | Self::CertificateUnused => Severity::Error,
            Self::Draining
            | Self::Starting
            | Self::HalfOpen
            | Self::Degraded
            | Self::BulkheadFull
            | Self::RetryBudgetEmpty
            | Self::BulkheadNearlyFull
            | Self::Recovered
            | Self::Forced
            | Self::Unresolved
            | Self::CertificateExpires => Severity::Warning,
            Self::Ok => Severity::Ok,
        }
    }
}

impl Judgement {
    fn of(word: Word, what: impl Into<String>) -> Self {
        Self {
            rank: word.rank(),
            severity: word.severity(),
            word,
            what: what.into(),
            ..Self::default()
        }
    }

    fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    fn since(mut self, since: Option<String>) -> Self {
        self.since = since;
        self
    }
}

/// The answer in one line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The worst of all.
    pub severity: Severity,
    /// What is in trouble, in a sentence.
    pub text: String,
    /// Upstreams and other things whose severity is `error`.
    pub errors: usize,
    /// Those whose severity is `warning`.
    pub warnings: usize,
}

impl Status {
    /// Says of every upstream, of the process and of all together how bad it is. The history must be
    /// there; the requests that are kept say why others failed.
    pub fn judge(&mut self, kept: &Recorder) {
        let none = History::default();
        let history = self.history.as_ref().unwrap_or(&none);
        let minute = |series| Minute::of(series, history.every_ms);
        self.last_minute = history.total.as_ref().map(minute);
        let mut reasons = None;
        for upstream in &mut self.upstreams {
            let series = history.upstreams.get(&upstream.name);
            upstream.last_minute = series.map(minute);
            upstream.judgement = upstream::Case {
                upstream,
                series,
                history,
                events: &self.events,
                reasons: &mut |name| {
                    let all = reasons.get_or_insert_with(|| reasons::Reasons::of(kept));
                    all.of_upstream(name)
                },
            }
            .judgement();
        }
        self.notices = process::notices(self);
        self.verdict = verdict(self);
    }
}

fn verdict(status: &Status) -> Verdict {
    let upstreams = status.upstreams.iter();
    let mut all: Vec<_> = upstreams
        .map(|one| (&one.judgement, one.name.as_str()))
        .collect();
    let notices = status.notices.iter();
    all.extend(notices.map(|one| (one, process::subject(one.word))));
    all.sort_by_key(|(judgement, name)| (judgement.rank, *name));
    let of = |severity| -> Vec<&str> {
        let those = all.iter().filter(|(one, _)| one.severity == severity);
        those.map(|(_, name)| *name).collect()
    };
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let look = if warnings.len() == 1 { "needs" } else { "need" };
    let text = match (errors.len(), warnings.len()) {
        (0, 0) => match status.upstreams.len() {
            0 => "Nothing is wrong: no upstream is configured.".to_owned(),
            1 => "All is well: the upstream works.".to_owned(),
            count => format!("All is well: all {count} upstreams work."),
        },
        (0, _) => format!("{} {look} a look; nothing is broken.", some_of(&warnings)),
        (1, 0) => format!("{} is in trouble.", errors[0]),
        (_, 0) => format!("{} are in trouble.", some_of(&errors)),
        (1, count) => format!("{} is in trouble; {count} more {look} a look.", errors[0]),
        (_, count) => format!(
            "{} are in trouble; {count} more {look} a look.",
            some_of(&errors)
        ),
    };
    Verdict {
        severity: all
            .iter()
            .map(|(one, _)| one.severity)
            .max()
            .unwrap_or_default(),
        text: capitalised(&text),
        errors: errors.len(),
        warnings: warnings.len(),
    }
}

/// A sentence begins with a capital, but the name of an upstream stays as it is.
fn capitalised(text: &str) -> String {
    match process::SUBJECTS
        .iter()
        .any(|subject| text.starts_with(subject))
    {
        true => text[..1].to_uppercase() + &text[1..],
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
