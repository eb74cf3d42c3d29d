//! The sentences: what happened to a request, in words for somebody who was just woken up. All of them
//! are here, so that the interface, the command line and the page say the same.

use std::borrow::Cow;
use std::time::Duration;

use crate::policy::balance::{How, Picked};
use crate::policy::breaker::State;
use crate::policy::outcome::{self, Ending, Reason, Sent};
use crate::policy::retry::{Figures, Wait, Why};
use crate::telemetry::report::{BreakerMove, Halted, Next, Outcome, Report, Try};

/// What happened, in one sentence.
pub(super) fn summary(report: &Report, took: Duration) -> String {
    let what = subject(report);
    let status = answered_with(report);
    let ended = match report.outcome {
        Outcome::Upstream if report.broken => "got an answer that broke off".to_owned(),
        Outcome::Upstream => format!("was answered by its upstream with {status}"),
        Outcome::Fallback => format!("was answered by a fallback with {status}"),
        Outcome::Refused => format!("was answered here with {status}"),
        Outcome::Failed => format!("failed with {status}"),
        Outcome::ClientGone => "was given up by its client".to_owned(),
    };
    let tries = match (report.tries.len(), report.place.labels().route.is_some()) {
        (0, false) => String::new(),
        (0, true) => " without a try".to_owned(),
        (1, _) => " after 1 try".to_owned(),
        (tries, _) => format!(" after {tries} tries"),
    };
    let why = why(report).map(|why| format!(": {}", without_stop(&why)));
    format!(
        "{what} {ended}{tries} in {}{}.",
        time(took),
        why.unwrap_or_default()
    )
}

/// Where it came in, and where it was to go.
pub(super) fn route(report: &Report) -> String {
    let labels = report.place.labels();
    let client = report.peer.map(|peer| format!(" from {peer}"));
    let came = format!(
        "{} came in by listener '{}'{}",
        subject(report),
        labels.listener,
        client.unwrap_or_default()
    );
    let goes = match &labels.route {
        Some(route) => {
            let path = report.rewritten.as_deref();
            let path = path.map(|path| format!(" as {path}"));
            format!(
                "; route '{}' takes it to upstream '{}'{}",
                route.name,
                route.upstream,
                path.unwrap_or_default()
            )
        }
        None => "; no route was found for it".to_owned(),
    };
    let limit = report.time_limit;
    let limit = limit.map(|limit| format!(", and it has {} to be answered", time(limit)));
    format!(
        "{came}{goes}{}. The configuration is of generation {}.",
        limit.unwrap_or_default(),
        report.generation
    )
}

/// Whether a request that had to wait for a seat got one.
pub(super) fn is_seated(report: &Report) -> bool {
    let refused = matches!(
        report.reason,
        Some(Reason::QueueTimeout | Reason::RequestTimeout | Reason::ClientGone)
    );
    !report.tries.is_empty() || (!report.queued.is_zero() && !refused)
}

pub(super) fn seat(report: &Report) -> String {
    let full = "Every seat of the bulkhead was taken, so it had to wait";
    match (is_seated(report), report.queued) {
        (true, waited) => format!("{full}: it got a seat after {}.", time(waited)),
        (false, Duration::ZERO) => format!("{full}, and its client left meanwhile."),
        (false, waited) => format!("{full}: none became free in {}.", time(waited)),
    }
}

pub(super) fn waited(waited: Duration, number: usize) -> String {
    format!("Waited {} before try {number}.", time(waited))
}

/// One try: where and why there, over what, what came of it, and what its endpoint's breaker learnt.
pub(super) fn attempt(one: &Try, number: usize) -> String {
    let connection = match (one.reused, one.connected) {
        (true, None) => ", over a connection of the pool".to_owned(),
        (true, Some(waited)) => format!(
            ", over a connection of the pool, whose turn came after {}",
            time(waited)
        ),
        (false, Some(took)) => {
            let tls = if one.tls { " under TLS" } else { "" };
            format!(
                ", over a new connection{tls}, which stood after {}",
                time(took)
            )
        }
        (false, None) => String::new(),
    };
    let took = time(one.took);
    let came = match (one.ending, one.sent) {
        (Ending::Answered(status), _) => format!("it answered {status} after {took}"),
        (Ending::Grpc { status: 200, code }, _) => {
            format!(
                "the call ended with grpc-status {} after {took}",
                code.name()
            )
        }
        (Ending::Grpc { status, .. }, _) => {
            format!("it answered {status} after {took}, which is no answer to a gRPC call")
        }
        (Ending::Failed(reason), Sent::NotSent) => {
            format!(
                "{} after {took}; no byte of the request was sent",
                failure(reason)
            )
        }
        (Ending::Failed(reason), Sent::Unanswered | Sent::Answered | Sent::Committed) => {
            format!("the request was sent, but {} after {took}", failure(reason))
        }
    };
    let detail = one.detail.as_deref();
    let detail = detail.map(|detail| format!(" ({})", without_stop(detail)));
    format!(
        "Try {number} on {} ({}){connection}: {came}{}. {}",
        one.endpoint,
        chosen(&one.picked, one.hashed_by.as_deref()),
        detail.unwrap_or_default(),
        learnt(one.outcome)
    )
}

/// What a try taught about its endpoint.
const fn learnt(outcome: outcome::Outcome) -> &'static str {
    match outcome {
        outcome::Outcome::Success => "It counts as a success of the endpoint.",
        outcome::Outcome::Failure => "It counts as a failure of the endpoint.",
        outcome::Outcome::Ignored => "It says nothing about the endpoint.",
    }
}

/// Why it was this endpoint, as a part of a sentence.
fn chosen(picked: &Picked, hashed_by: Option<&str>) -> String {
    let mut text: Cow<'_, str> = match (picked.how, hashed_by) {
        (How::Only, _) if picked.endpoints <= 1 => "the only endpoint".into(),
        (How::Only, _) => format!("the only one left of {} endpoints", picked.endpoints).into(),
        (How::LessLoaded { load, other }, _) if load < other => {
            format!("fewest in flight of two by chance: {load} against {other}").into()
        }
        (How::LessLoaded { load, other }, _) if load == other => {
            format!("one of two by chance, both with {load} in flight").into()
        }
        (How::LessLoaded { load, other }, _) => format!(
            "the less loaded of two by chance, for weight and recent failures: {load} in flight against {other}"
        )
        .into(),
        (How::Turn, _) => "next in turn".into(),
        (How::Hash, Some(header)) => format!("by the hash of header {header}").into(),
        (How::Hash, None) => "by hash".into(),
        (How::Chance, Some(header)) => {
            format!("by chance, since the request has no header {header}").into()
        }
        (How::Chance, None) => "by chance".into(),
    };
    if picked.tried > 0 {
        text += match picked.tried {
            1 => "; the one that was tried before was left aside".into(),
            tried => Cow::from(format!("; {tried} that were tried before were left aside")),
        };
    }
    for (number, one, more) in [
        (
            picked.shut,
            "the breaker of another lets nothing through",
            "breakers of others let nothing through",
        ),
        (
            picked.unhealthy,
            "another is unhealthy by its checks",
            "others are unhealthy by their checks",
        ),
        (
            picked.later,
            "another comes last: it is not checked yet, or no longer named by its source",
            "others come last: they are not checked yet, or no longer named by their source",
        ),
    ] {
        text += match number {
            0 => continue,
            1 => format!("; {one}").into(),
            number => Cow::from(format!("; {number} {more}")),
        };
    }
    if picked.probe {
        text += "; a probe of its half-open breaker";
    }
    if picked.anyway {
        text += "; every breaker is open, and when_all_open says send_anyway";
    }
    if picked.share < 1.0 {
        let share = (picked.share * 100.0).round();
        text += Cow::from(format!("; it warms up at {share} % of its traffic"));
    }
    text.into_owned()
}

/// What was decided about another try.
pub(super) fn decision(report: &Report, one: &Try, next: &Next) -> String {
    match next {
        Next::Granted { wait, figures } => granted(*wait, figures),
        Next::Denied { why, figures } => {
            format!("Retry denied: {}.", denied(report, *why, figures))
        }
        Next::Unlisted => {
            let ending: Cow<'_, str> = match one.ending {
                Ending::Answered(status) => status.to_string().into(),
                Ending::Grpc { code, .. } => code.name().into(),
                Ending::Failed(reason) => reason.name().into(),
            };
            format!("No retry: retry.on does not list {ending}.")
        }
        Next::NoPolicy => "No retry: the route has no retry policy.".to_owned(),
    }
}

fn granted(wait: Duration, figures: &Figures) -> String {
    let asked = match figures.wait {
        Wait::Backoff(_) | Wait::Never => "of backoff".to_owned(),
        Wait::RetryAfter(asked) => format!("since its retry-after asks for {}", time(asked)),
        Wait::Pushback(_) => "as its grpc-retry-pushback-ms asks".to_owned(),
    };
    let left = figures.tokens.map(|(tokens, limit)| {
        let (tokens, limit) = (number(tokens), number(limit));
        format!(" The retry budget has {tokens} of {limit} tokens left.")
    });
    format!(
        "Retry granted: attempt {} of {} after {} {asked}.{}",
        figures.made + 1,
        figures.max_attempts,
        time(wait),
        left.unwrap_or_default()
    )
}

fn denied(report: &Report, why: Why, figures: &Figures) -> String {
    let method = report.target.as_ref().map(|target| target.method.as_str());
    let method = method.unwrap_or("the method");
    match why {
        Why::Budget => {
            let (tokens, limit) = figures.tokens.unwrap_or_default();
            let (tokens, limit) = (number(tokens), number(limit));
            format!("budget {tokens} of {limit} tokens, and a retry costs 1")
        }
        Why::Attempts => format!(
            "{} of {} attempts are made",
            figures.made, figures.max_attempts
        ),
        Why::Deadline => too_late(figures),
        Why::Method if figures.keys_count => format!(
            "{method} without an Idempotency-Key, and the upstream may have acted on it already"
        ),
        Why::Method => format!(
            "retry.methods does not list {method}, and the upstream may have acted on it already"
        ),
        Why::Body => format!(
            "the request's body is not there whole any more: it is longer than retry.max_body ({} bytes), \
             no memory was left to keep it, or it was still on its way",
            figures.max_body
        ),
        Why::Committed => "the client has a part of the answer already".to_owned(),
    }
}

fn too_late(figures: &Figures) -> String {
    let most = figures.max_retry_after;
    let left = figures.time_left.map(|left| format!("{} left", time(left)));
    let left = left.unwrap_or_else(|| "no limit of time".to_owned());
    match figures.wait {
        Wait::Backoff(wait) => format!("{left}, backoff {}", time(wait)),
        Wait::RetryAfter(wait) if wait > most => format!(
            "retry-after asks for {}, max_retry_after is {}",
            time(wait),
            time(most)
        ),
        Wait::RetryAfter(wait) => format!("{left}, retry-after asks for {}", time(wait)),
        Wait::Pushback(wait) if wait > most => format!(
            "grpc-retry-pushback-ms asks for {}, max_retry_after is {}",
            time(wait),
            time(most)
        ),
        Wait::Pushback(wait) => format!("{left}, grpc-retry-pushback-ms asks for {}", time(wait)),
        Wait::Never => "grpc-retry-pushback-ms forbids another try".to_owned(),
    }
}

/// What kept a granted try from being made.
pub(super) fn halted(halted: &Halted) -> String {
    let message = without_stop(&halted.message);
    format!("The next try was not made: {message}. The client gets the last real answer.")
}

pub(super) fn breaker(moved: &BreakerMove) -> String {
    let endpoint = &moved.endpoint;
    match moved.transition.to {
        State::Open => {
            let cause = moved.cause.as_ref().map(|cause| format!(": {cause}"));
            let next = moved
                .retry_in
                .map(|wait| format!("; next probe in {}", time(wait)));
            let (cause, next) = (cause.unwrap_or_default(), next.unwrap_or_default());
            format!("The breaker of {endpoint} opened{cause}{next}.")
        }
        State::HalfOpen => format!("The breaker of {endpoint} became half-open: it is probed."),
        State::Closed => format!("The breaker of {endpoint} closed: the endpoint answers again."),
    }
}

pub(super) fn fallback(report: &Report) -> String {
    let Some(one) = report.fell_back else {
        return "A fallback answered.".to_owned();
    };
    let because = match one.because {
        Ending::Answered(status) => format!("the upstream answered {status}"),
        Ending::Grpc { code, .. } => format!("the call ended with grpc-status {}", code.name()),
        Ending::Failed(reason) => format!("it failed with {}", reason.name()),
    };
    format!(
        "Fallback {} of the route answered, since {because}.",
        one.number
    )
}

/// Whether the head of the answer was there and something went wrong after it.
pub(super) fn went_wrong_later(report: &Report) -> bool {
    report.head_at.is_some() && (report.broken || report.outcome == Outcome::ClientGone)
}

/// How it ended for the client.
pub(super) fn answer(report: &Report, took: Duration) -> String {
    let after = time(report.head_at.unwrap_or(took));
    let status = answered_with(report);
    let bytes = report.sent;
    if went_wrong_later(report) {
        let why = why(report).map(|why| format!(": {}", without_stop(&why)));
        let why = why.unwrap_or_default();
        return match report.outcome {
            Outcome::ClientGone => format!(
                "The client left after {}, when it had {bytes} bytes of its answer ({status}){why}.",
                time(took)
            ),
            Outcome::Upstream | Outcome::Fallback | Outcome::Refused | Outcome::Failed => format!(
                "The client got {status} after {after}, but the answer broke off after {bytes} bytes{why}."
            ),
        };
    }
    match report.outcome {
        Outcome::Upstream if is_kept_answer(report) => format!(
            "The client got {status} after {after}: the last real answer, of an earlier try."
        ),
        Outcome::Upstream => format!("The client got {status} from the upstream after {after}."),
        Outcome::Fallback => format!("The client got {status} from the fallback after {after}."),
        Outcome::Refused | Outcome::Failed => match report.detail.as_deref() {
            Some(detail) => {
                let detail = without_stop(detail);
                format!("The client got {status} after {after}: {detail}.")
            }
            None => format!("The client got {status} after {after}."),
        },
        Outcome::ClientGone => {
            let at = time(took);
            format!(
                "The client left after {at}, {}; it got no answer.",
                gone_while(report)
            )
        }
    }
}

/// What was waited for when the client left.
fn gone_while(report: &Report) -> &'static str {
    let last = report.tries.last();
    let waits = report.queued_at.is_some() && !is_seated(report);
    match last.map(|last| (last.ending, last.next.as_deref())) {
        Some((Ending::Failed(Reason::ClientGone), _)) => "in the midst of a try",
        Some((_, Some(Next::Granted { .. }))) => "in the wait before the next try",
        Some(_) => "after a try",
        None if waits => "while it waited for a seat",
        None => "before a try was made",
    }
}

/// Whether the answer is not that of the last try.
fn is_kept_answer(report: &Report) -> bool {
    let last = report.tries.last();
    let failed = last.is_some_and(|last| matches!(last.ending, Ending::Failed(_)));
    failed || report.halted.is_some()
}

/// What there is to say about what went wrong.
fn why(report: &Report) -> Option<Cow<'_, str>> {
    if let Some(detail) = report.detail.as_deref() {
        return Some(detail.into());
    }
    if let Some(reason) = report.reason {
        return Some(reason.name().into());
    }
    let first = report.tries.first().filter(|_| report.tries.len() > 1)?;
    Some(match first.ending {
        Ending::Answered(status) => format!("try 1 was answered {status}").into(),
        Ending::Grpc { code, .. } => format!("try 1 ended with {}", code.name()).into(),
        Ending::Failed(reason) => format!("try 1 ended with {}", reason.name()).into(),
    })
}

/// Its method and path.
fn subject(report: &Report) -> String {
    let target = report.target.as_ref();
    match target.filter(|target| target.method.as_str() != "-") {
        Some(target) => {
            let path = target.uri.path();
            let host = target.host.as_ref().filter(|_| path.is_empty());
            let host = host.map_or(Cow::Borrowed(path), |host| {
                String::from_utf8_lossy(host.as_bytes())
            });
            format!("{} {host}", target.method)
        }
        None => "What was no request".to_owned(),
    }
}

/// The status that the client got, with the reason where we made the answer.
fn answered_with(report: &Report) -> String {
    let status = report.status;
    let code = report.grpc_status;
    let code = code.map(|code| format!(" (grpc-status {})", code.name()));
    let reason = report
        .reason
        .filter(|_| matches!(report.outcome, Outcome::Refused | Outcome::Failed) && !report.broken);
    let reason = reason.map(|reason| format!(" {}", reason.name()));
    let (reason, code) = (reason.unwrap_or_default(), code.unwrap_or_default());
    format!("{status}{reason}{code}")
}

/// What a try failed with, as a part of a sentence.
fn failure(reason: Reason) -> &'static str {
    match reason {
        Reason::ConnectFailure => "no connection could be made (connect_failure)",
        Reason::ConnectTimeout => "no connection stood in time (connect_timeout)",
        Reason::TlsFailure => "the TLS handshake failed (tls_failure)",
        Reason::Reset => "the connection broke (reset)",
        Reason::ProtocolError => "what came back was no valid HTTP (protocol_error)",
        Reason::TryTimeout => "no answer came in the time of a try (try_timeout)",
        Reason::RequestTimeout => "the time of the whole request was over (request_timeout)",
        Reason::ClientGone => "the client left (client_gone)",
        Reason::BodyTooLarge => "the request's body was too large (body_too_large)",
        Reason::BadRequest => "the request's body was malformed (bad_request)",
        Reason::Internal => "the proxy failed (internal)",
        Reason::NoRoute
        | Reason::HeaderTooLarge
        | Reason::HeaderTimeout
        | Reason::RateLimited
        | Reason::TooManyInFlight
        | Reason::QueueTimeout
        | Reason::TooManyConnections
        | Reason::BreakerOpen
        | Reason::NoEndpoint
        | Reason::Draining => reason.name(),
    }
}

/// A measured time, as exact as a reader needs it.
pub(super) fn time(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    match millis {
        ..0.995 => format!("{millis:.2} ms"),
        ..9.95 => format!("{millis:.1} ms"),
        ..999.5 => format!("{millis:.0} ms"),
        ..9_995.0 => format!("{:.2} s", millis / 1000.0),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

/// A number of tokens: `0.4`, `12`.
fn number(number: f32) -> String {
    // Rounded down: 0.97 of a token is not one. What is below a thousandth is the rounding of others.
    let rounded = (number * 10.0 + 0.001).floor() / 10.0;
    format!("{rounded}")
}

/// A sentence as a part of another.
fn without_stop(text: &str) -> &str {
    text.trim_end_matches('.')
}
