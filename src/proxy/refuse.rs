//! Answers to what never became a request: a head that is malformed, too large or too slow. They are
//! counted and logged like the others, with what is known of them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, Uri};

use super::answer::{Failure, Voice};
use super::client::Client;
use super::told::{self, Told};
use super::{Proxy, Reason, message};
use crate::clock;
use crate::telemetry::report::{Outcome, Report, Target};
use crate::telemetry::trace::{Claims, Identity, new_request_id};

/// A whole HTTP/1.1 answer with `connection: close`.
pub fn refuse(
    proxy: &Arc<Proxy>,
    client: &Client,
    reason: Reason,
    detail: &str,
    started: Instant,
) -> Vec<u8> {
    refused(proxy, client, reason, detail, started, |voice, words| {
        voice.raw(words.failure, None, words.trace_id, words.request_id, false)
    })
}

/// The answer on a stream of HTTP/2.
pub fn refusal(
    proxy: &Arc<Proxy>,
    client: &Client,
    reason: Reason,
    detail: &str,
    started: Instant,
) -> Response<Bytes> {
    refused(proxy, client, reason, detail, started, |voice, words| {
        voice.answer(words.failure, None, words.trace_id, words.request_id, false)
    })
}

/// What an answer is made from.
struct Words<'a> {
    failure: &'a Failure,
    trace_id: u128,
    request_id: &'a HeaderValue,
}

fn refused<A>(
    proxy: &Arc<Proxy>,
    client: &Client,
    reason: Reason,
    detail: &str,
    started: Instant,
    answer: impl FnOnce(&Voice, Words<'_>) -> A,
) -> A {
    let site = proxy.site();
    let message = match site
        .listener(&client.listener)
        .map(|listener| &listener.plan)
    {
        Some(plan) if reason == Reason::HeaderTooLarge => {
            message::header_too_large(&plan.name, plan.header_size, plan.max_headers)
        }
        Some(plan) if reason == Reason::HeaderTimeout => {
            message::header_timeout(&plan.name, plan.header_timeout)
        }
        _ if reason == Reason::Internal => message::internal(),
        _ => message::bad_request(&detail.trim_end_matches('.')),
    };
    let mut report = Report::begin(
        started,
        site.snapshot.generation,
        proxy.telemetry.metrics().listener(&client.listener),
        client.peer,
        Identity::of(&Claims::default()),
        // No method, no target: there was no request.
        Some(Target {
            method: Method::from_bytes(b"-").unwrap_or_default(),
            uri: Uri::default(),
            host: None,
            scheme: client.scheme(),
            version: http::Version::HTTP_11,
        }),
    );
    let now = clock::now();
    let elapsed = now.saturating_duration_since(started);
    let failure = Failure {
        reason,
        status: None,
        message,
        retry_after: None,
        attempts: 0,
        elapsed,
        upstream: None,
        route: None,
    };
    let panicked = (reason == Reason::Internal).then(told::take_dropped_by_panic);
    let (request_id, trace_id) = panicked
        .flatten()
        .unwrap_or_else(|| (new_request_id(), report.trace.trace_id));
    let words = Words {
        failure: &failure,
        trace_id,
        request_id: &request_id,
    };
    let answer = answer(&site.voice, words);
    // A handler that panicked has told of its request when its guard was dropped.
    if reason != Reason::Internal {
        report.request_id = request_id;
        report.outcome = Outcome::Refused;
        report.reason = Some(reason);
        report.detail = Some(detail.into());
        report.status = reason.status();
        report.head_at = Some(elapsed);
        Told::new(proxy, report).complete(now);
    }
    answer
}
