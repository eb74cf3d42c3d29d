//! A kept request as the admin interface shows it: a line of the list, or all of its steps in the order
//! in which they happened. Durations are milliseconds.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Kept, tell};
use crate::policy::balance::How;
use crate::policy::breaker::State;
use crate::policy::outcome::Ending;
use crate::telemetry::events::stamp;
use crate::telemetry::report::{BreakerMove, Halted, Next, Report, Try};
use crate::telemetry::trace::write_hex;

/// A request in the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The id that is in every log.
    pub request_id: String,
    /// Its trace's, 32 hexadecimal digits.
    pub trace_id: String,
    /// When it began, RFC 3339 in UTC.
    pub at: String,
    /// Where it came in.
    pub listener: String,
    /// Its route; `null`: none matched.
    pub route: Option<String>,
    /// Its upstream; `null`: no route matched.
    pub upstream: Option<String>,
    /// Its method; `null`: it was no request.
    pub method: Option<String>,
    /// Its path, without the query and cut where it is long.
    pub path: Option<String>,
    /// The status that its client got; 499: the client left before there was one.
    pub status: u16,
    /// What it ended in.
    pub outcome: &'static str,
    /// Why it failed, if it did.
    pub reason: Option<&'static str>,
    /// Its tries.
    pub tries: usize,
    /// From its first byte to its end.
    pub took_ms: f64,
    /// Why it is kept: `failed`, `retried`, `slow`, `fallback`, `asked`.
    pub kept_for: Vec<&'static str>,
}

/// All that is known of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// As in the list.
    #[serde(flatten)]
    pub line: Line,
    /// The host that it was for.
    pub host: Option<String>,
    /// The generation of the configuration that it ran under.
    pub generation: u64,
    /// What happened, in one sentence.
    pub summary: String,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Since the request began.
    pub at_ms: f64,
    /// `route`, `seat`, `wait`, `try`, `decision`, `breaker`, `fallback` or `answer`.
    pub kind: &'static str,
    /// What happened, in a sentence.
    pub text: String,
    /// The same in figures.
    #[serde(flatten)]
    pub figures: Map<String, Value>,
}

impl Line {
    /// The line of a kept request.
    pub fn of(kept: &Kept) -> Self {
        let report = &*kept.report;
        let labels = report.place.labels();
        let route = labels.route.as_ref();
        let target = report.target.as_ref();
        // What never became a request has a dash for its method, as in the access log.
        let target = target.filter(|target| target.method.as_str() != "-");
        let mut trace_id = [0; 32];
        write_hex(&mut trace_id, report.trace.trace_id.to_be_bytes());
        let began = kept.ended.checked_sub(kept.took).unwrap_or(kept.ended);
        Self {
            request_id: String::from_utf8_lossy(report.request_id.as_bytes()).into_owned(),
            trace_id: String::from_utf8_lossy(&trace_id).into_owned(),
            at: stamp(began),
            listener: labels.listener.to_string(),
            route: route.map(|route| route.name.to_string()),
            upstream: route.map(|route| route.upstream.to_string()),
            method: target.map(|target| target.method.to_string()),
            path: target.map(|target| target.uri.path().to_owned()),
            status: report.status,
            outcome: report.outcome.name(),
            reason: report.reason.map(|reason| reason.name()),
            tries: report.tries.len(),
            took_ms: millis(kept.took),
            kept_for: kept.kept_for.names().collect(),
        }
    }
}

impl Story {
    /// The story of a kept request.
    pub fn of(kept: &Kept) -> Self {
        let report = &*kept.report;
        let line = Line::of(kept);
        let target = report.target.as_ref();
        let host = target.and_then(|target| target.host.as_ref());
        Self {
            host: host.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()),
            generation: report.generation,
            summary: tell::summary(report, kept.took),
            steps: steps(report, kept.took),
            line,
        }
    }
}

/// Every step, in the order in which they happened.
fn steps(report: &Report, took: Duration) -> Vec<Step> {
    let mut steps = vec![route(report)];
    steps.extend(seat(report));
    let mut moves = report.moves.iter().peekable();
    let mut before: Option<Duration> = None;
    for (index, one) in report.tries.iter().enumerate() {
        let number = index + 1;
        if let Some(began) = before.replace(one.started + one.took) {
            // As long as it was, which may be longer than it was to be.
            let waited = one.started.saturating_sub(began);
            let figures = json!({ "waited_ms": millis(waited) });
            steps.push(step(began, "wait", tell::waited(waited, number), figures));
        }
        // A breaker becomes half-open as an endpoint is looked for.
        let is_before = |moved: &BreakerMove| {
            let opens_up = moved.transition.to == State::HalfOpen;
            moved.at < one.started || (moved.at == one.started && opens_up)
        };
        while let Some(moved) = moves.next_if(|moved| is_before(moved)) {
            steps.push(breaker(moved));
        }
        steps.push(attempt(one, number));
        // It learns of the result before anything is decided about another try.
        let ended = one.started + one.took;
        while let Some(moved) = moves.next_if(|moved| moved.at <= ended) {
            steps.push(breaker(moved));
        }
        let next = one.next.as_deref();
        steps.extend(next.map(|next| decision(report, one, next, ended)));
    }
    let answer = answer(report, took);
    let until_answer = |moved: &&BreakerMove| millis(moved.at) <= answer.at_ms;
    while let Some(moved) = moves.next_if(until_answer) {
        steps.push(breaker(moved));
    }
    steps.extend(report.halted.as_deref().map(halted));
    steps.extend(fallback(report, took));
    steps.push(answer);
    // A body that broke off has taught its breaker later.
    steps.extend(moves.map(breaker));
    steps
}

fn step(at: Duration, kind: &'static str, text: String, figures: Value) -> Step {
    let figures = figures.as_object().cloned().unwrap_or_default();
    let at_ms = millis(at);
    Step {
        at_ms,
        kind,
        text,
        figures,
    }
}

fn route(report: &Report) -> Step {
    let limit = report.time_limit.map(millis);
    let figures = json!({ "generation": report.generation, "time_limit_ms": limit });
    step(Duration::ZERO, "route", tell::route(report), figures)
}

fn seat(report: &Report) -> Option<Step> {
    let began = report.queued_at?;
    let figures = json!({ "waited_ms": millis(report.queued), "seated": tell::is_seated(report) });
    Some(step(began, "seat", tell::seat(report), figures))
}

fn attempt(one: &Try, number: usize) -> Step {
    let connection = match (one.reused, one.connected) {
        (true, _) => "reused",
        (false, Some(_)) => "new",
        (false, None) => "none",
    };
    let (status, code, reason) = match one.ending {
        Ending::Answered(status) => (Some(status), None, None),
        Ending::Grpc { status, code } => (Some(status), Some(code.name()), None),
        Ending::Failed(reason) => (None, None, Some(reason.name())),
    };
    let figures = json!({
        "try": number,
        "endpoint": *one.endpoint,
        "chosen_by": match one.picked.how {
            How::Only => "only",
            How::LessLoaded { .. } => "less_loaded",
            How::Turn => "turn",
            How::Chance => "chance",
            How::Hash => "hash",
        },
        "probe": one.picked.probe,
        "connection": connection,
        "connect_ms": one.connected.map(millis),
        "tls": one.tls,
        "sent": one.sent.name(),
        "status": status,
        "grpc_status": code,
        "reason": reason,
        "took_ms": millis(one.took),
        "learnt": one.outcome.name(),
    });
    step(one.started, "try", tell::attempt(one, number), figures)
}

fn decision(report: &Report, one: &Try, next: &Next, at: Duration) -> Step {
    let (granted, why, figures) = match next {
        Next::Granted { figures, .. } => (true, None, Some(figures)),
        Next::Denied { why, figures } => (false, Some(why.name()), Some(figures)),
        Next::Unlisted => (false, Some("unlisted"), None),
        Next::NoPolicy => (false, Some("no_policy"), None),
    };
    let wait = match next {
        Next::Granted { wait, .. } => Some(millis(*wait)),
        Next::Denied { .. } | Next::Unlisted | Next::NoPolicy => None,
    };
    let tokens = figures.and_then(|figures| figures.tokens);
    let figures = json!({
        "granted": granted,
        "why": why,
        "wait_ms": wait,
        "time_left_ms": figures.and_then(|figures| figures.time_left).map(millis),
        "max_attempts": figures.map(|figures| figures.max_attempts),
        "budget_tokens": tokens.map(|(tokens, _)| round(f64::from(tokens))),
        "budget_limit": tokens.map(|(_, limit)| round(f64::from(limit))),
    });
    step(at, "decision", tell::decision(report, one, next), figures)
}

fn breaker(moved: &BreakerMove) -> Step {
    let figures = json!({
        "endpoint": *moved.endpoint,
        "from": moved.transition.from.name(),
        "to": moved.transition.to.name(),
    });
    step(moved.at, "breaker", tell::breaker(moved), figures)
}

fn halted(halted: &Halted) -> Step {
    let figures = json!({ "granted": false, "why": halted.reason.name() });
    step(halted.at, "decision", tell::halted(halted), figures)
}

fn fallback(report: &Report, took: Duration) -> Option<Step> {
    let kind = report.fallback?;
    let figures =
        json!({ "fallback": kind.name(), "number": report.fell_back.map(|one| one.number) });
    let at = report.head_at.unwrap_or(took);
    Some(step(at, "fallback", tell::fallback(report), figures))
}

fn answer(report: &Report, took: Duration) -> Step {
    let figures = json!({
        "status": report.status,
        "outcome": report.outcome.name(),
        "reason": report.reason.map(|reason| reason.name()),
        "bytes": report.sent,
    });
    // Where the answer went wrong after its head, its end is what there is to tell.
    let at = match tell::went_wrong_later(report) {
        true => took,
        false => report.head_at.unwrap_or(took),
    };
    step(at, "answer", tell::answer(report, took), figures)
}

/// Milliseconds, to the microsecond.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
