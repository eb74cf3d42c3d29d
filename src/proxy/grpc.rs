//! Calls of gRPC: what they are, how their answers are judged, and how ours look.
//!
//! A call is over with its status, and that comes last: in the head where there is nothing else, else in
//! the trailers. So the head is held until the first message or the trailers are there (rule 12); from
//! the first message on the answer is passed on as it comes, and what the trailers say later is one more
//! thing to learn about the endpoint.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Version};

use super::attempt::Attempted;
use super::body::Stream;
use super::tries::Passage;
use crate::clock;
use crate::policy::grpc::Code;
use crate::policy::outcome::{Ending, Sent};
use crate::policy::retry::Pushback;

mod timeout;

/// How the call ended: a number, see [`Code`].
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The same in words, percent-encoded.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How long the client waits: up to 8 digits and a unit.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// When the service wants the call again.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// How often the call was made before, to the service.
const PREVIOUS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// How long a head is held for the first message or the trailers, where no `try` timeout says. Services
/// send one of them right behind the head, but for streams that are silent at first.
const HOLD: Duration = Duration::from_millis(250);

/// What has to be known of a call when its head has gone to the upstream.
#[derive(Debug)]
pub(super) struct Call {
    content_type: HeaderValue,
    /// How long the client waits for the whole call; until when.
    pub(super) timeout: Option<Duration>,
    until: Option<Instant>,
    /// How often the client itself has made the call before.
    previous: u32,
    /// Whether trailers reach the client.
    pub(super) takes_trailers: bool,
}

/// Whether a message with this `content-type` belongs to a call. That of gRPC-Web is HTTP as any other:
/// its status is a part of its body.
pub(super) fn is_call(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

impl Call {
    /// The call that a request with this head makes, if it makes one. It began at `began`.
    pub(super) fn of(head: &Parts, began: Instant) -> Option<Box<Self>> {
        let content_type = head
            .headers
            .get(CONTENT_TYPE)
            .filter(|kind| is_call(kind))?;
        let timeout = head.headers.get(TIMEOUT);
        let timeout = timeout.and_then(|value| timeout::read(value.as_bytes()));
        let previous = head
            .headers
            .get(PREVIOUS)
            .and_then(|value| value.to_str().ok());
        Some(Box::new(Self {
            content_type: content_type.clone(),
            timeout,
            until: timeout.and_then(|timeout| began.checked_add(timeout)),
            previous: previous.and_then(|value| value.parse().ok()).unwrap_or(0),
            takes_trailers: head.version >= Version::HTTP_2,
        }))
    }

    /// Sets what is new for each try (rule 6). A `grpc-timeout` that cannot be read stays as it is: what
    /// to make of it is for the service.
    pub(super) fn for_try(&self, headers: &mut HeaderMap, number: u32, now: Instant) {
        // The client's time, not ours: ours ends with the head, its own with the whole call.
        if let Some(until) = self.until {
            headers.insert(
                TIMEOUT,
                timeout::write(until.saturating_duration_since(now)),
            );
        }
        let previous = self.previous.saturating_add(number - 1);
        if number > 1 {
            headers.insert(PREVIOUS, HeaderValue::from(previous));
        }
    }

    /// Makes the headers of an answer of ours into those of a call that ends with this code, without a
    /// message (rule 73).
    pub(super) fn end(&self, headers: &mut HeaderMap, code: Code, message: &[u8]) {
        self.begin(headers);
        end(headers, code, message);
    }

    /// Makes the headers of an answer of ours into those of a call.
    pub(super) fn begin(&self, headers: &mut HeaderMap) {
        // How long it is follows from its messages, and is not said.
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, self.content_type.clone());
    }
}

/// Sets what says how a call ended.
pub(super) fn end(headers: &mut HeaderMap, code: Code, message: &[u8]) {
    headers.insert(STATUS, HeaderValue::from(u16::from(code as u8)));
    if !message.is_empty() {
        headers.insert(MESSAGE, percent_encoded(message));
    }
}

/// A message as it is on the wire: not compressed, and its length.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// Visible ASCII but for `%` stays as it is.
fn percent_encoded(text: &[u8]) -> HeaderValue {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'%' | ..b' ' | 0x7f.. => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
                encoded.extend([b'%', digit(byte >> 4), digit(*byte)]);
            }
            visible => encoded.push(*visible),
        }
    }
    HeaderValue::from_bytes(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Judges the try of a call whose head has come: by the head, or by what follows it as long as that may
/// be waited for. Its request began to be sent at `began`.
pub(super) async fn judge(
    call: &Call,
    passage: &Passage<'_>,
    attempted: &mut Attempted,
    began: Instant,
) {
    let Some(stream) = &mut attempted.answer else {
        return;
    };
    if let Some(ending) = by_head(stream) {
        attempted.ending = ending;
        return;
    }
    let first = poll_fn(|cx| stream.poll_first(cx));
    let until = hold_until(passage, began);
    // Too late is not a failure: the head was in time, and streams may well be silent.
    let _ = tokio::time::timeout_at(until.into(), first).await;
    if let Some((reason, detail)) = stream.broke_off_first() {
        attempted.ending = Ending::Failed(reason);
        attempted.sent = Sent::Unanswered;
        attempted.detail = Some(detail);
        attempted.answer = None;
        return;
    }
    let ended = if stream.is_over() {
        Some(code_of(stream.first_trailers(), stream.headers()))
    } else {
        let trailers = stream.first_trailers();
        trailers.map(|trailers| code_of(Some(trailers), stream.headers()))
    };
    match ended {
        Some(code) => attempted.ending = Ending::Grpc { status: 200, code },
        None => stream.judge_at_end(call.takes_trailers),
    }
}

/// How a call ended that ended with its head, or before.
fn by_head(stream: &Stream) -> Option<Ending> {
    let headers = stream.headers();
    let said = headers
        .get(STATUS)
        .map(|value| Code::of_status(value.as_bytes()));
    let status = stream.status();
    if status != StatusCode::OK {
        // By something that knows no gRPC, such as another proxy.
        let status = status.as_u16();
        let code = said.unwrap_or(Code::of_http(status));
        return Some(Ending::Grpc { status, code });
    }
    let ended = |code| Ending::Grpc { status: 200, code };
    match said {
        Some(code) if stream.is_over() => Some(ended(code)),
        Some(_) | None => {
            let is_answer = headers.get(CONTENT_TYPE).is_some_and(is_call);
            (!is_answer).then(|| ended(Code::of_http(200)))
        }
    }
}

/// Until when a head is held. Not at all while the client still sends: what it sends next may depend on
/// what it is told, and another try could not be made (rule 20).
fn hold_until(passage: &Passage<'_>, began: Instant) -> Instant {
    let now = clock::now();
    let upload = passage.upload();
    if upload.is_some_and(|upload| !upload.complete) {
        return now;
    }
    let sent = upload.map_or(began, |upload| upload.moved.max(began));
    let held = match passage.route.plan.policies.timeouts.per_try {
        Some(per_try) => sent + per_try,
        None => now + HOLD,
    };
    passage
        .deadline
        .map_or(held, |deadline| held.min(deadline.at))
}

/// What the trailers say, or else the head; where neither does it is `UNKNOWN`.
pub(super) fn code_of(trailers: Option<&HeaderMap>, head: &HeaderMap) -> Code {
    let said = trailers.and_then(|trailers| trailers.get(STATUS));
    let said = said.or_else(|| head.get(STATUS));
    said.map_or(Code::Unknown, |value| Code::of_status(value.as_bytes()))
}

/// When the service wants the call again, in an answer that has ended.
pub(super) fn pushback(stream: &Stream) -> Option<Pushback> {
    let trailers = stream
        .first_trailers()
        .and_then(|trailers| trailers.get(PUSHBACK));
    let said = trailers.or_else(|| stream.headers().get(PUSHBACK))?;
    Some(Pushback::read(said.as_bytes()))
}

#[cfg(test)]
mod tests;
