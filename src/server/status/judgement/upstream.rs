//! What is to be said of one upstream.

use std::time::Duration;

use super::{Judgement, Word};
use crate::server::status::minute::{Failures, Minute};
use crate::server::status::words::{duration, percent, plural, some_of};
use crate::server::status::{Bulkhead, Circuit, Endpoint, Event, History, Upstream};
use crate::telemetry::events::{Kind, stamp};
use crate::telemetry::history::Series;

/// The share of its seats from which on a bulkhead is told of.
const NEARLY_FULL: f64 = 0.8;

/// All that is looked at.
pub(super) struct Case<'c> {
    pub(super) upstream: &'c Upstream,
    /// Its points; `None`: others are busier.
    pub(super) series: Option<&'c Series>,
    pub(super) history: &'c History,
    pub(super) events: &'c [Event],
    /// Why its requests failed lately.
    pub(super) reasons: &'c mut dyn FnMut(&str) -> String,
}

impl Case<'_> {
    pub(super) fn judgement(mut self) -> Judgement {
        let mut words = self.words();
        words.sort_by_key(|word| word.rank());
        let mut words = words.into_iter();
        let Some(worst) = words.next() else {
            return Judgement::of(Word::Ok, "");
        };
        let judgement = self.told(worst);
        Judgement {
            also: words.collect(),
            ..judgement
        }
    }

    /// All that holds.
    fn words(&self) -> Vec<Word> {
        let upstream = self.upstream;
        let staying = || staying(upstream);
        let mut words = Vec::new();
        let mut is = |holds: bool, word: Word| {
            if holds {
                words.push(word);
            }
        };
        let none = staying().next().is_none();
        let down = !none && staying().all(is_out);
        let probing = upstream.circuit == Circuit::HalfOpen;
        let some = staying().any(|one| one.state != Circuit::Closed || is_unhealthy(one));
        is(none, Word::NoEndpoint);
        is(down, Word::Down);
        is(probing, Word::HalfOpen);
        let minute = upstream.last_minute.unwrap_or_default();
        // What gets no request at all needs no other word for that.
        let failing = minute.is_failing() && !none && !down;
        let over = matches!(self.failures(), Failures::Over(_));
        is(failing && !over, Word::Failing);
        is(failing && over, Word::Recovered);
        is(some && !down && !probing, Word::Degraded);
        is(is_full(upstream, 1.0), Word::BulkheadFull);
        is(
            is_full(upstream, NEARLY_FULL) && !is_full(upstream, 1.0),
            Word::BulkheadNearlyFull,
        );
        let budget = upstream.retry_budget;
        let is_empty = budget.is_some_and(|budget| {
            budget.tokens < 1.0 && budget.limit.is_some_and(|limit| limit >= 1.0)
        });
        is(is_empty, Word::RetryBudgetEmpty);
        is(staying().any(|one| one.forced.is_some()), Word::Forced);
        let unresolved = upstream
            .sources
            .iter()
            .any(|source| source.problem.is_some());
        is(unresolved && !none, Word::Unresolved);
        words
    }

    fn told(&mut self, word: Word) -> Judgement {
        match word {
            Word::NoEndpoint => self.no_endpoint(),
            Word::Down => self.down(),
            Word::HalfOpen => self.half_open(),
            Word::Failing => self.failing(),
            Word::Recovered => self.recovered(),
            Word::Degraded => self.degraded(),
            Word::BulkheadFull => self.bulkhead(word, "has a full bulkhead"),
            Word::BulkheadNearlyFull => self.bulkhead(word, "is near the limit of its bulkhead"),
            Word::RetryBudgetEmpty => self.budget(),
            Word::Forced => self.forced(),
            Word::Unresolved => self.unresolved(),
            Word::Draining
            | Word::Starting
            | Word::CertificateExpired
            | Word::ConfigRefused
            | Word::CertificateUnused
            | Word::CertificateExpires
            | Word::Ok => Judgement::of(word, ""),
        }
    }

    fn no_endpoint(&self) -> Judgement {
        let why = match self.problems() {
            problems if problems.is_empty() => "What it is named by stands for no address.".into(),
            problems => problems,
        };
        Judgement::of(Word::NoEndpoint, "has no endpoint")
            .since(self.event(Kind::Discovery, None))
            .why(why)
            .next(sentences([self.traffic(), self.asked_again()]))
    }

    fn down(&self) -> Judgement {
        let all: Vec<_> = staying(self.upstream).collect();
        let open = all.iter().filter(|one| one.state == Circuit::Open).count();
        let count = all.len();
        let what = match (count, open) {
            (1, 0) => "its endpoint is unhealthy".to_owned(),
            (1, _) => "its breaker is open".to_owned(),
            (_, 0) => format!("all {count} endpoints are unhealthy"),
            (_, open) if open == count => format!("the breakers of all {count} endpoints are open"),
            (_, _) => format!("each of its {count} endpoints is unhealthy or has an open breaker"),
        };
        let since = all.iter().map(|one| self.out_since(one));
        // One that is not known might be the last.
        let since = since.collect::<Option<Vec<_>>>().unwrap_or_default();
        Judgement::of(Word::Down, format!("is down: {what}"))
            .since(since.into_iter().max())
            .why(whys(&all))
            .next(sentences([self.traffic(), self.probes()]))
    }

    fn half_open(&self) -> Judgement {
        let shut = self.out();
        let since = shut.iter().filter_map(|one| one.since.clone()).min();
        Judgement::of(Word::HalfOpen, "is being probed")
            .since(since)
            .why(whys(&shut))
            .next(sentences([
                "A few requests find out whether it works again.".into(),
                self.traffic(),
            ]))
    }

    fn failing(&mut self) -> Judgement {
        let minute = self.upstream.last_minute.unwrap_or_default();
        let success = percent(1.0 - minute.failures as f64 / minute.requests.max(1) as f64);
        let (since, for_long) = match self.failures() {
            // As far back as anything is kept.
            Failures::For(span) if span >= self.history.points as u64 * self.history.every_ms => {
                (None, format!(", for {} or longer", duration(span as f64)))
            }
            Failures::For(span) | Failures::Over(span) => (self.ago(span), String::new()),
        };
        let mostly = match (self.reasons)(&self.upstream.name) {
            reasons if reasons.is_empty() => "The failed requests say why.".to_owned(),
            reasons => format!("Mostly {reasons}."),
        };
        let out = self.out();
        let why = match out.is_empty() {
            true => mostly,
            false => format!("{mostly} {}", whys(&out)),
        };
        Judgement::of(
            Word::Failing,
            format!("fails: {success} of its requests succeed{for_long}"),
        )
        .since(since)
        .why(why)
        .next(sentences([self.traffic(), self.probes()]))
    }

    fn recovered(&mut self) -> Judgement {
        let (Failures::Over(span) | Failures::For(span)) = self.failures();
        let mostly = match (self.reasons)(&self.upstream.name) {
            reasons if reasons.is_empty() => String::new(),
            reasons => format!("Mostly {reasons}."),
        };
        Judgement::of(Word::Recovered, "works again")
            .since(self.ago(span))
            .why(sentences([self.traffic(), mostly]))
    }

    fn failures(&self) -> Failures {
        let every_ms = self.history.every_ms;
        self.series
            .map_or(Failures::For(0), |series| Failures::of(series, every_ms))
    }

    /// So many milliseconds before the newest point of the history.
    fn ago(&self, ms: u64) -> Option<String> {
        let until: jiff::Timestamp = self.history.until.as_deref()?.parse().ok()?;
        let then = until.checked_sub(Duration::from_millis(ms)).ok()?;
        Some(stamp(then.into()))
    }

    fn degraded(&self) -> Judgement {
        let out = self.out();
        let all = staying(self.upstream).count();
        let since = out.iter().map(|one| self.out_since(one));
        let since = since.collect::<Option<Vec<_>>>().unwrap_or_default();
        Judgement::of(
            Word::Degraded,
            format!("works without {} of its {all} endpoints", out.len()),
        )
        .since(since.into_iter().min())
        .why(whys(&out))
        .next(sentences([
            "The others take its share.".into(),
            self.traffic(),
            self.probes(),
        ]))
    }

    fn bulkhead(&self, word: Word, what: &str) -> Judgement {
        let Bulkhead {
            in_flight,
            queued,
            limit,
            max_queue,
        } = self.upstream.bulkhead.unwrap_or_default();
        let queue = match max_queue {
            0 => String::new(),
            places => format!(" and {queued} of {places} places in its queue"),
        };
        let limit = limit.unwrap_or_default();
        Judgement::of(word, what)
            .why(format!("{in_flight} of {limit} seats{queue} are taken."))
            .next(self.traffic())
    }

    fn budget(&self) -> Judgement {
        let budget = self.upstream.retry_budget.unwrap_or_default();
        let limit = budget.limit.unwrap_or_default();
        Judgement::of(Word::RetryBudgetEmpty, "has used up its retry budget")
            .why(format!(
                "{:.1} of {limit:.1} tokens are left.",
                budget.tokens
            ))
            .next("Failed tries are not made again until requests have filled it.")
    }

    fn forced(&self) -> Judgement {
        let forced = staying(self.upstream).filter_map(|one| {
            let to = one.forced.as_deref()?;
            Some(format!("{}: held {to}", one.address))
        });
        let forced: Vec<_> = forced.collect();
        let count = plural(forced.len() as u64, "breaker", "breakers");
        Judgement::of(Word::Forced, format!("has {count} in an operator's hand"))
            .why(format!("{}.", some_of(&forced)))
            .next("It stays so until it is set to auto.")
    }

    fn unresolved(&self) -> Judgement {
        Judgement::of(Word::Unresolved, "cannot be found anew")
            .since(self.event(Kind::Discovery, None))
            .why(self.problems())
            .next(sentences([
                "The endpoints that were found last stay in use.".into(),
                self.asked_again(),
            ]))
    }

    /// What becomes of its requests.
    fn traffic(&self) -> String {
        let Some(Minute {
            requests,
            failures,
            fallbacks,
            ..
        }) = self.upstream.last_minute
        else {
            return String::new();
        };
        let all = plural(requests, "request", "requests");
        match (requests, failures, fallbacks) {
            (0, _, _) => "It got no request in the last minute.".to_owned(),
            (1, 0, 0) => "The one request of the last minute was answered.".to_owned(),
            (_, 0, 0) => format!("All {requests} requests of the last minute were answered."),
            (_, _, 0) => format!("{failures} of {all} failed in the last minute."),
            (_, 0, _) => format!("A fallback answered {fallbacks} of {all} in the last minute."),
            (_, _, _) => format!(
                "A fallback answered {fallbacks} of {all} in the last minute, {failures} failed."
            ),
        }
    }

    fn probes(&self) -> String {
        let due = self
            .upstream
            .endpoints
            .iter()
            .filter_map(|one| one.next_probe_ms);
        due.min().map_or_else(String::new, |ms| {
            format!("Next probe in {}.", duration(ms as f64))
        })
    }

    /// When what it is named by is asked for next.
    fn asked_again(&self) -> String {
        let failing = self
            .upstream
            .sources
            .iter()
            .filter(|one| one.problem.is_some());
        let next = failing.filter_map(|one| one.next_ms).min();
        next.map_or_else(String::new, |ms| {
            format!("Asked for again in {}.", duration(ms as f64))
        })
    }

    /// What keeps its sources from being found.
    fn problems(&self) -> String {
        let problems = self.upstream.sources.iter().filter_map(|source| {
            let problem = source.problem.as_deref()?;
            Some(format!("{}: {problem}.", source.name))
        });
        problems.collect::<Vec<_>>().join(" ")
    }

    /// Those that get no requests, or only probes.
    fn out(&self) -> Vec<&Endpoint> {
        let out = |one: &&Endpoint| one.state != Circuit::Closed || is_unhealthy(one);
        staying(self.upstream).filter(out).collect()
    }

    /// Since when an endpoint gets no requests.
    fn out_since(&self, endpoint: &Endpoint) -> Option<String> {
        let unhealthy = match is_unhealthy(endpoint) {
            true => self.event(Kind::Health, Some(&endpoint.address)),
            false => None,
        };
        // Whichever came first kept its requests away.
        [endpoint.since.clone(), unhealthy]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the newest event of this kind was.
    fn event(&self, kind: Kind, endpoint: Option<&str>) -> Option<String> {
        let mut newest = self.events.iter().rev();
        let event = newest.find(|event| {
            event.kind == kind
                && event.upstream.as_deref() == Some(&self.upstream.name)
                && (endpoint.is_none() || event.endpoint.as_deref() == endpoint)
        });
        event.map(|event| event.at.clone())
    }
}

/// One after the other, without those that have nothing to say.
fn sentences<const N: usize>(all: [String; N]) -> String {
    let said: Vec<_> = all.into_iter().filter(|one| !one.is_empty()).collect();
    said.join(" ")
}

/// Those that are to stay: what leaves is nobody's trouble.
fn staying(upstream: &Upstream) -> impl Iterator<Item = &Endpoint> {
    upstream
        .endpoints
        .iter()
        .filter(|endpoint| !endpoint.draining)
}

/// Whether an active health check says that it is not to be used.
fn is_unhealthy(endpoint: &Endpoint) -> bool {
    let health = endpoint.health.as_ref();
    health.is_some_and(|health| health.state == "unhealthy")
}

/// Whether it gets no request at all.
fn is_out(endpoint: &Endpoint) -> bool {
    is_unhealthy(endpoint) || endpoint.state == Circuit::Open
}

fn is_full(upstream: &Upstream, share: f64) -> bool {
    let Some(Bulkhead {
        in_flight,
        limit: Some(limit),
        ..
    }) = upstream.bulkhead
    else {
        return false;
    };
    in_flight as f64 >= limit as f64 * share
}

fn whys(endpoints: &[&Endpoint]) -> String {
    let why = |endpoint: &&Endpoint| {
        let health = endpoint.health.as_ref().filter(|_| is_unhealthy(endpoint));
        let reason = match (&endpoint.reason, health) {
            (Some(reason), _) => reason.as_str(),
            (None, Some(health)) => health.reason.as_deref().unwrap_or("its health check fails"),
            (None, None) => endpoint.state.name(),
        };
        format!("{}: {reason}", endpoint.address)
    };
    let shown: Vec<_> = endpoints.iter().take(3).map(why).collect();
    let more = match endpoints.len().saturating_sub(3) {
        0 => String::new(),
        more => format!("; and {}", plural(more as u64, "other", "others")),
    };
    format!("{}{more}.", shown.join("; "))
}
