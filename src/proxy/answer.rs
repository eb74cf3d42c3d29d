//! The answers that we make ourselves: for a failure the error contract or RFC 9457, and a fallback's
//! answer as it is written in the configuration. Every one carries the reason under the same name
//! that log and metrics use (rule 94).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::headers;
use crate::clock;
use crate::plan::{ErrorFormat, Errors, Respond};
use crate::policy::outcome::Reason;
use crate::telemetry::json::{self, Object};
use crate::telemetry::report::FallbackKind;
use crate::telemetry::trace::{REQUEST_ID, write_hex};

mod accept;

pub use accept::prefers;
mod call;
mod status;

/// The reason of the failure.
pub const REASON: HeaderName = HeaderName::from_static("x-mamparo-reason");
/// The kind of the fallback that answered.
pub const FALLBACK: HeaderName = HeaderName::from_static("x-mamparo-fallback");
/// What failed, in the words of RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

const CONTRACT_TYPE: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A request that failed, and what its client should know.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// The status, where it is not the reason's own.
    pub status: Option<StatusCode>,
    /// The same in a sentence; see [`super::message`].
    pub message: String,
    /// When another request makes sense; told on 429 and 503.
    pub retry_after: Option<Duration>,
    /// Tries that were made.
    pub attempts: usize,
    /// Time since the request began.
    pub elapsed: Duration,
    /// The upstream that it was for.
    pub upstream: Option<Arc<str>>,
    /// The route that it took.
    pub route: Option<Arc<str>>,
}

impl Failure {
    fn status(&self) -> StatusCode {
        let own = || status_code(self.reason.status());
        self.status.unwrap_or_else(own)
    }
}

/// How we speak: the settings that our own answers share. One for a snapshot.
#[derive(Debug, Clone)]
pub struct Voice {
    service: Arc<str>,
    errors: Errors,
}

impl Voice {
    /// A voice that speaks for a service.
    pub fn new(service: Arc<str>, errors: Errors) -> Self {
        Self { service, errors }
    }

    /// The answer to a request that failed. `accept` is the client's header. `head_only` is for HEAD:
    /// the headers, the length among them, and no body.
    pub fn answer(
        &self,
        failure: &Failure,
        accept: Option<&HeaderValue>,
        trace_id: u128,
        request_id: &HeaderValue,
        head_only: bool,
    ) -> Response<Bytes> {
        let problem = match self.errors.format {
            ErrorFormat::Problem => true,
            ErrorFormat::Contract => accept.is_some_and(accept::prefers_problem),
        };
        let body = match problem {
            true => self.problem(failure, trace_id),
            false => self.contract(failure, trace_id),
        };
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = failure.status();
        let headers = answer.headers_mut();
        headers.reserve(10);
        headers.insert(
            CONTENT_TYPE,
            if problem { PROBLEM_TYPE } else { CONTRACT_TYPE },
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(CACHE_CONTROL, NO_STORE);
        headers.insert(REQUEST_ID, request_id.clone());
        self.explain(headers, failure);
        if !head_only {
            *answer.body_mut() = Bytes::from(body);
        }
        answer
    }

    /// The same as the bytes of a whole HTTP/1.1 answer that ends the connection: for a head that never
    /// became a request.
    pub fn raw(
        &self,
        failure: &Failure,
        accept: Option<&HeaderValue>,
        trace_id: u128,
        request_id: &HeaderValue,
        head_only: bool,
    ) -> Vec<u8> {
        let mut answer = self.answer(failure, accept, trace_id, request_id, head_only);
        let date = httpdate::fmt_http_date(clock::date());
        if let Ok(date) = HeaderValue::try_from(date) {
            answer.headers_mut().insert(DATE, date);
        }
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
        let status = answer.status();
        let phrase = status.canonical_reason().unwrap_or("");
        let mut text = format!("HTTP/1.1 {} {phrase}\r\n", status.as_str()).into_bytes();
        for (name, value) in answer.headers() {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(answer.body());
        text
    }

    /// The headers that say what failed and what to do.
    fn explain(&self, headers: &mut HeaderMap, failure: &Failure) {
        let reason = failure.reason;
        headers.insert(REASON, HeaderValue::from_static(reason.name()));
        headers.insert(PROXY_STATUS, status::proxy_status(reason, &failure.message));
        headers::tell_attempts(headers, failure.attempts);
        if let (Some(wait), 429 | 503) = (failure.retry_after, reason.status()) {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    fn contract(&self, failure: &Failure, trace_id: u128) -> Vec<u8> {
        let mut body = Vec::with_capacity(768);
        let mut object = Object::begin(&mut body);
        let status = u64::from(failure.status().as_u16());
        object.text("trace_id", hex(trace_id));
        object.text("error_code", failure.reason.error_code());
        object.text("message", &failure.message);
        object.number("status_code", status);
        self.rest(&mut object, failure);
        object.end();
        body
    }

    fn problem(&self, failure: &Failure, trace_id: u128) -> Vec<u8> {
        let mut body = Vec::with_capacity(896);
        let mut object = Object::begin(&mut body);
        let status = failure.status();
        // Without a page about this error, the status says what kind it is.
        let (kind, title) = match self.documentation(failure.reason) {
            Some(url) => (url, status::title(failure.reason)),
            None => {
                let phrase = status.canonical_reason().unwrap_or("");
                ("about:blank".to_owned(), phrase)
            }
        };
        let trace_id = hex(trace_id);
        object.text("type", kind);
        object.text("title", title);
        object.number("status", u64::from(status.as_u16()));
        object.text("detail", &failure.message);
        let instance = [b"urn:mamparo:trace:".as_slice(), &trace_id].concat();
        object.text("instance", instance);
        object.text("trace_id", trace_id);
        object.text("error_code", failure.reason.error_code());
        self.rest(&mut object, failure);
        object.end();
        body
    }

    /// The members that both forms share.
    fn rest(&self, object: &mut Object<'_>, failure: &Failure) {
        let timestamp = object.member("timestamp");
        timestamp.push(b'"');
        json::date(timestamp, clock::since_epoch());
        timestamp.push(b'"');
        object.text("service_name", &*self.service);
        let mut context = Object::begin(object.member("context"));
        for (key, name) in [("upstream", &failure.upstream), ("route", &failure.route)] {
            if let Some(name) = name {
                context.text(key, &**name);
            }
        }
        context.number("attempts", failure.attempts as u64);
        context.text("reason", failure.reason.name());
        let elapsed = u64::try_from(failure.elapsed.as_millis()).unwrap_or(u64::MAX);
        context.number("elapsed_ms", elapsed);
        context.end();
        if let Some(url) = self.documentation(failure.reason) {
            object.text("documentation_url", url);
        }
    }

    fn documentation(&self, reason: Reason) -> Option<String> {
        let url = self.errors.documentation_url.as_ref()?;
        Some(url.replace("{error_code}", reason.error_code()))
    }

    /// A fallback's answer, as it is written. `reason` is the failure that it stands in for, where that
    /// was one of ours.
    pub fn respond(
        &self,
        fallback: &Respond,
        reason: Option<Reason>,
        request_id: &HeaderValue,
        head_only: bool,
    ) -> Response<Bytes> {
        let status = status_code(fallback.status);
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        take_headers(headers, fallback);
        // How the answer is framed follows from its body alone (rule 72).
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
            headers.remove(name);
        }
        // It stands for a failure, which is over sooner than a cache would think (rule 77).
        headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
        tell_of_fallback(headers, reason, request_id);
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return answer;
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(fallback.body.len()));
        if !head_only {
            *answer.body_mut() = Bytes::from_owner(fallback.body.clone());
        }
        answer
    }
}

/// The headers that a fallback's answer is written with.
fn take_headers(headers: &mut HeaderMap, fallback: &Respond) {
    for (name, value) in &fallback.headers {
        let name = HeaderName::try_from(&**name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(&**value)) {
            headers.append(name, value);
        }
    }
}

/// Says that a fallback answers, and for which failure.
fn tell_of_fallback(headers: &mut HeaderMap, reason: Option<Reason>, request_id: &HeaderValue) {
    headers.insert(REQUEST_ID, request_id.clone());
    let kind = HeaderValue::from_static(FallbackKind::Respond.name());
    headers.insert(FALLBACK, kind);
    if let Some(reason) = reason {
        headers.insert(REASON, HeaderValue::from_static(reason.name()));
    }
}

/// The status; ours and those of a plan are all valid.
fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn hex(trace_id: u128) -> [u8; 32] {
    let mut text = [0; 32];
    write_hex(&mut text, trace_id.to_be_bytes());
    text
}

#[cfg(test)]
mod tests;
