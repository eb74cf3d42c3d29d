//! The handles through which requests are counted. A snapshot resolves them once by their labels;
//! from then on counting is an addition. Counters outlive reloads, since the same labels give the
//! same handle (see [`super::metrics::Metrics`]).

use std::sync::Arc;
use std::time::Duration;

use super::examples::Examples;
use super::histogram::{Counter, Histogram};
use super::limits::Exceeded;
use super::report::{FallbackKind, Outcome, Report, Try};
use crate::policy::breaker::State;
use crate::policy::outcome::{self, Class, Ending, Reason};
use crate::policy::retry::Why;

/// The classes of statuses, as the `code` label has them.
pub const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place in [`CODES`] of a status.
fn code(status: u16) -> usize {
    usize::from((status / 100).clamp(1, 5) - 1)
}

/// Requests by what they ended in and by the class of their status.
#[derive(Debug, Default)]
pub struct Requests([[Counter; CODES.len()]; Outcome::ALL.len()]);

impl Requests {
    fn count(&self, report: &Report) {
        self.0[report.outcome as usize][code(report.judged_status())].add_one();
    }

    /// The combinations that occurred, with how often.
    pub fn read(&self) -> impl Iterator<Item = (Outcome, &'static str, u64)> + '_ {
        self.all().filter(|(.., count)| *count > 0)
    }

    /// The same of a route, with those that are there from the start: the rate of a series that appears with
    /// its first error does not have that error, nor any other before the next scrape.
    pub fn read_of_route(&self) -> impl Iterator<Item = (Outcome, &'static str, u64)> + '_ {
        self.all().filter(|(outcome, code, count)| {
            *count > 0
                || match outcome {
                    Outcome::Upstream => matches!(*code, "2xx" | "5xx"),
                    Outcome::Refused | Outcome::Failed => *code == "5xx",
                    Outcome::Fallback | Outcome::ClientGone => false,
                }
        })
    }

    fn all(&self) -> impl Iterator<Item = (Outcome, &'static str, u64)> + '_ {
        Outcome::ALL.into_iter().flat_map(move |outcome| {
            let row = self.0[outcome as usize].iter().zip(CODES);
            row.map(move |(count, code)| (outcome, code, count.get()))
        })
    }
}

/// What is counted by route and upstream alone. Two listeners may have routes of the same names to
/// the same upstream; they share one of these, so that no series appears twice.
#[derive(Debug)]
pub struct Passage {
    route: Arc<str>,
    upstream: Arc<str>,
    /// From the first byte of a request to the last of its answer.
    pub duration: Histogram,
    /// Traces of such requests.
    pub examples: Examples,
    failures: [Counter; Reason::ALL.len()],
}

impl Passage {
    pub(super) fn new(route: Arc<str>, upstream: Arc<str>) -> Self {
        Self {
            route,
            upstream,
            duration: Histogram::default(),
            examples: Examples::default(),
            failures: Default::default(),
        }
    }

    /// The route's label; empty for requests that found none.
    pub fn route(&self) -> &Arc<str> {
        &self.route
    }

    /// The upstream's label; empty for requests that found no route.
    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// The reasons that occurred, with how often.
    pub fn failures(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let all = Reason::ALL.into_iter().zip(&self.failures);
        all.map(|(reason, count)| (reason, count.get()))
            .filter(|(_, count)| *count > 0)
    }

    fn count(&self, report: &Report, total: Duration) {
        self.duration.observe(total);
        if let Some(reason) = report.reason {
            self.failures[reason as usize].add_one();
        }
    }
}

/// Where requests come in, and the way that they take from there: names of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Labels {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The route; `None`: none was found.
    pub route: Option<RouteLabels>,
}

/// A route and where it leads.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteLabels {
    /// The route's name.
    pub name: Arc<str>,
    /// The upstream's name.
    pub upstream: Arc<str>,
}

/// One listener's handle: it counts the requests that found no route.
#[derive(Debug)]
pub struct ListenerMeters {
    labels: Arc<Labels>,
    /// Requests that found no route.
    pub unrouted: Requests,
    /// Limits that its clients went over.
    pub exceeded: Exceeded,
    /// Redirected connections that were passed on to where they were going.
    pub passed: Counter,
    /// Those of them that have ended.
    pub passed_ended: Counter,
    nowhere: Arc<Passage>,
}

impl ListenerMeters {
    pub(super) fn new(name: Arc<str>, nowhere: Arc<Passage>) -> Self {
        let labels = Labels {
            listener: name,
            route: None,
        };
        Self {
            labels: Arc::new(labels),
            unrouted: Requests::default(),
            exceeded: Exceeded::default(),
            passed: Counter::default(),
            passed_ended: Counter::default(),
            nowhere,
        }
    }

    /// The listener's name.
    pub fn name(&self) -> &Arc<str> {
        &self.labels.listener
    }

    /// The names, for whoever tells of a request and does not count it.
    pub(super) fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    /// What is counted of requests without a route.
    pub(super) fn nowhere(&self) -> &Passage {
        &self.nowhere
    }

    pub(super) fn count(&self, report: &Report, total: Duration) {
        self.unrouted.count(report);
        self.nowhere.count(report, total);
    }
}

/// One route's handle on one listener.
#[derive(Debug)]
pub struct RouteMeters {
    labels: Arc<Labels>,
    /// Requests that took this route.
    pub requests: Requests,
    passage: Arc<Passage>,
    upstream: Arc<UpstreamMeters>,
}

impl RouteMeters {
    pub(super) fn new(
        listener: Arc<str>,
        passage: Arc<Passage>,
        upstream: Arc<UpstreamMeters>,
    ) -> Self {
        let route = RouteLabels {
            name: Arc::clone(passage.route()),
            upstream: Arc::clone(upstream.name()),
        };
        let labels = Labels {
            listener,
            route: Some(route),
        };
        Self {
            labels: Arc::new(labels),
            requests: Requests::default(),
            passage,
            upstream,
        }
    }

    /// The listener's name.
    pub fn listener(&self) -> &Arc<str> {
        &self.labels.listener
    }

    /// The names, for whoever tells of a request and does not count it.
    pub(super) fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    /// The route's name.
    pub fn route(&self) -> &Arc<str> {
        self.passage.route()
    }

    /// The upstream's handle.
    pub fn upstream(&self) -> &Arc<UpstreamMeters> {
        &self.upstream
    }

    /// What is counted by route and upstream alone.
    pub(super) fn passage(&self) -> &Passage {
        &self.passage
    }

    pub(super) fn count(&self, report: &Report, total: Duration) {
        self.requests.count(report);
        self.passage.count(report, total);
        self.upstream.count(report);
    }
}

/// What made a fallback answer: one of our reasons, or else the class of the upstream's status.
const CAUSES: usize = Reason::ALL.len() + CODES.len();

/// One upstream's handle.
#[derive(Debug)]
pub struct UpstreamMeters {
    name: Arc<str>,
    /// Connections that were made to it.
    pub connections_opened: Counter,
    /// From the start of a try to the head of its answer, or to its failure.
    pub attempt_duration: Histogram,
    attempts: [Counter; 3],
    retries: [Counter; Class::ALL.len()],
    denied: [Counter; Why::ALL.len()],
    transitions: [Counter; STATES.len()],
    bulkhead_refused: [Counter; BULKHEAD_REASONS.len()],
    fallbacks: [[Counter; CAUSES]; FallbackKind::ALL.len()],
    health_checks: [Counter; HEALTH_CHECKS.len()],
}

/// The words for what a health check showed.
const HEALTH_CHECKS: [&str; 2] = ["success", "failure"];

/// The states of a breaker, in the order of [`state`].
const STATES: [State; 3] = [State::Closed, State::Open, State::HalfOpen];

const fn state(state: State) -> usize {
    match state {
        State::Closed => 0,
        State::Open => 1,
        State::HalfOpen => 2,
    }
}

/// The reasons for which a bulkhead refuses.
pub const BULKHEAD_REASONS: [Reason; 3] = [
    Reason::TooManyInFlight,
    Reason::QueueTimeout,
    Reason::TooManyConnections,
];

impl UpstreamMeters {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            connections_opened: Counter::default(),
            attempt_duration: Histogram::default(),
            attempts: Default::default(),
            retries: Default::default(),
            denied: Default::default(),
            transitions: Default::default(),
            bulkhead_refused: Default::default(),
            fallbacks: Default::default(),
            health_checks: Default::default(),
        }
    }

    /// The upstream's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Tries by what the endpoint's breaker learnt.
    pub fn attempts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let all = outcome::Outcome::ALL.into_iter().zip(&self.attempts);
        all.map(|(outcome, count)| (outcome.name(), count.get()))
    }

    /// Retries by the class of the failure that they answered to.
    pub fn retries(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let all = Class::ALL.into_iter().zip(&self.retries);
        all.map(|(class, count)| (class.name(), count.get()))
    }

    /// Retries that were not made, by what forbade them.
    pub fn retries_denied(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let all = Why::ALL.into_iter().zip(&self.denied);
        all.map(|(why, count)| (why.name(), count.get()))
    }

    /// Takes note that an endpoint's breaker has changed to this state.
    pub fn breaker_changed(&self, to: State) {
        self.transitions[state(to)].add_one();
    }

    /// Changes of the endpoints' breakers, by the state that they changed to.
    pub fn breaker_transitions(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let all = STATES.into_iter().zip(&self.transitions);
        all.map(|(state, count)| (state.name(), count.get()))
    }

    /// Takes note of an active health check of an endpoint.
    pub fn health_checked(&self, success: bool) {
        self.health_checks[usize::from(!success)].add_one();
    }

    /// Active health checks by what they showed.
    pub fn health_checks(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let all = HEALTH_CHECKS.into_iter().zip(&self.health_checks);
        all.map(|(result, count)| (result, count.get()))
    }

    /// Requests that the bulkhead refused.
    pub fn bulkhead_refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let all = BULKHEAD_REASONS.into_iter().zip(&self.bulkhead_refused);
        all.map(|(reason, count)| (reason.name(), count.get()))
    }

    /// The fallbacks that occurred, by kind and by what made them answer.
    pub fn fallbacks(&self) -> impl Iterator<Item = (FallbackKind, &'static str, u64)> + '_ {
        FallbackKind::ALL.into_iter().flat_map(move |kind| {
            let causes = Reason::ALL.into_iter().map(Reason::name).chain(CODES);
            let all = causes.zip(&self.fallbacks[kind as usize]);
            all.map(move |(cause, count)| (kind, cause, count.get()))
                .filter(|(_, _, count)| *count > 0)
        })
    }

    fn count(&self, report: &Report) {
        for one in &report.tries {
            self.attempts[one.outcome as usize].add_one();
            self.attempt_duration.observe(one.took);
        }
        for (before, _) in report.tries.iter().zip(report.tries.iter().skip(1)) {
            // Only a status that the configuration names is tried again though it is no failure.
            let class = before.ending.class().unwrap_or(Class::Transient);
            self.retries[class as usize].add_one();
        }
        if let Some(why) = report.denied {
            self.denied[why as usize].add_one();
        }
        if let Some(reason) = report.reason {
            let refused = BULKHEAD_REASONS.iter().zip(&self.bulkhead_refused);
            for (_, count) in refused.filter(|(one, _)| **one == reason) {
                count.add_one();
            }
        }
        if let Some(kind) = report.fallback {
            self.fallbacks[kind as usize][cause(report)].add_one();
        }
    }
}

/// What made the fallback answer, as a place in the row of [`CAUSES`].
fn cause(report: &Report) -> usize {
    let answered = |last: &Try| match (last.ending, last.ending.status()) {
        (Ending::Failed(reason), _) => reason as usize,
        (_, status) => Reason::ALL.len() + code(status.unwrap_or_default()),
    };
    match report.reason {
        Some(reason) => reason as usize,
        None => report
            .tries
            .last()
            .map_or(Reason::Internal as usize, answered),
    }
}
