//! An answer as bytes: its head, and what frames its body.

use std::time::Instant;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRAILER,
    TRANSFER_ENCODING,
};
use http::{StatusCode, response};
use http_body::{Body, Frame};

use super::date;
use super::head::Asked;
use crate::live::http1::answer::ReasonPhrase;
use crate::live::http1::decimal::Decimal;
use crate::live::http1::encoder::{Encoder, WrongLength};
use crate::live::http1::fields;
use crate::live::http1::output::Output;
use crate::live::interim;
use crate::live::trailers;

/// Bytes of a head's header, roughly.
const LINE: usize = 40;

/// What is known of a body before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// There is none.
    None,
    /// So many bytes.
    Known(u64),
    /// Its end will show.
    Unknown,
}

impl Size {
    pub(super) fn of(body: &impl Body) -> Self {
        if body.is_end_stream() {
            return Self::None;
        }
        body.size_hint().exact().map_or(Self::Unknown, Self::Known)
    }
}

/// How the end of an answer is told, and what may come with it.
#[derive(Debug)]
pub(super) struct Framing {
    encoder: Encoder,
    /// Trailers that were announced, and that the client takes.
    announced: Vec<HeaderName>,
}

/// The answer gives a length that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLength;

/// Appends the head of an answer to that request. Gives how its body is framed, and whether it is the
/// connection's last; `closing`: it is in any case.
///
/// # Errors
/// Nothing was appended.
pub(super) fn append_head(
    head: &response::Parts,
    size: Size,
    asked: &Asked,
    closing: bool,
    now: Instant,
    to: &mut Vec<u8>,
) -> Result<(Framing, bool), BadLength> {
    let status = head.status;
    let switches =
        status == StatusCode::SWITCHING_PROTOCOLS || asked.connect && status.is_success();
    let no_length = switches || has_no_body(status);
    let bodiless = no_length || asked.head_only;
    let begin = to.len();
    to.reserve(64 + head.headers.len() * LINE);
    append_status(head, asked.old, to);
    let mut length = None;
    let (mut has_connection, mut has_date, mut has_trailer) = (false, false, false);
    for (name, value) in &head.headers {
        match *name {
            CONTENT_LENGTH => {
                length.get_or_insert(value);
                continue;
            }
            // How the body is framed is said below.
            TRANSFER_ENCODING => continue,
            CONNECTION => {
                has_connection = true;
                continue;
            }
            TRAILER if asked.old || bodiless => continue,
            TRAILER => has_trailer = true,
            DATE => has_date = true,
            _ => {}
        }
        fields::append_one(name.as_str().as_bytes(), value.as_bytes(), to);
    }
    if !has_date {
        date::append(now, to);
    }
    let encoder = match append_length(length, size, asked, no_length, bodiless, to) {
        Ok(encoder) => encoder,
        Err(bad) => {
            to.truncate(begin);
            return Err(bad);
        }
    };
    let mut announced = Vec::new();
    if has_trailer && asked.takes_trailers && encoder == Encoder::Chunked {
        announced = trailers_of(&head.headers);
    }
    let closing = closing || encoder == Encoder::UntilEnd;
    let last = append_connection(&head.headers, has_connection, asked, closing, switches, to);
    to.extend_from_slice(b"\r\n");
    Ok((Framing { encoder, announced }, last))
}

/// Whether an answer with this status has no body, and says nothing of its length either.
fn has_no_body(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status.is_informational()
}

fn append_status(head: &response::Parts, old: bool, to: &mut Vec<u8>) {
    let status = head.status;
    if status == StatusCode::OK && !old && head.extensions.is_empty() {
        to.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    to.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    to.extend_from_slice(status.as_str().as_bytes());
    to.push(b' ');
    // Many parsers expect some words here.
    let usual = status.canonical_reason().unwrap_or("<none>");
    let words = head.extensions.get::<ReasonPhrase>();
    to.extend_from_slice(words.map_or(usual.as_bytes(), |words| &words.0));
    to.extend_from_slice(b"\r\n");
}

/// Says how long the body is, or that it comes in chunks.
fn append_length(
    said: Option<&HeaderValue>,
    size: Size,
    asked: &Asked,
    no_length: bool,
    bodiless: bool,
    to: &mut Vec<u8>,
) -> Result<Encoder, BadLength> {
    const NAME: &[u8] = b"content-length";
    let said_length = || said.and_then(|value| atoi(value.as_bytes()));
    if bodiless {
        // What a body would have had, if there had been one.
        match (size, said) {
            (Size::None, _) if !asked.head_only => {}
            (_, Some(value)) => fields::append_one(NAME, value.as_bytes(), to),
            (Size::Known(1..), None) if !no_length => append_number(size_of(size), to),
            (Size::None | Size::Known(_) | Size::Unknown, None) => {}
        }
        return Ok(Encoder::Length(0));
    }
    match (size, said) {
        (Size::None, _) => {
            append_number(0, to);
            Ok(Encoder::Length(0))
        }
        (Size::Known(bytes), Some(value)) if said_length() == Some(bytes) => {
            fields::append_one(NAME, value.as_bytes(), to);
            Ok(Encoder::Length(bytes))
        }
        (Size::Known(bytes), _) => {
            append_number(bytes, to);
            Ok(Encoder::Length(bytes))
        }
        (Size::Unknown, Some(value)) => {
            let bytes = said_length().ok_or(BadLength)?;
            fields::append_one(NAME, value.as_bytes(), to);
            Ok(Encoder::Length(bytes))
        }
        (Size::Unknown, None) if asked.old => Ok(Encoder::UntilEnd),
        (Size::Unknown, None) => {
            to.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Ok(Encoder::Chunked)
        }
    }
}

const fn size_of(size: Size) -> u64 {
    match size {
        Size::Known(bytes) => bytes,
        Size::None | Size::Unknown => 0,
    }
}

/// Says what becomes of the connection; gives whether this is its last answer.
fn append_connection(
    headers: &HeaderMap,
    has_some: bool,
    asked: &Asked,
    closing: bool,
    switches: bool,
    to: &mut Vec<u8>,
) -> bool {
    if !has_some && !closing && !switches && !asked.old && asked.keep_alive {
        return false;
    }
    let said = || {
        headers
            .get_all(CONNECTION)
            .iter()
            .map(HeaderValue::as_bytes)
    };
    let says = |word: &[u8]| said().any(|list| fields::has_word(list, word));
    let last = switches || closing || !asked.keep_alive || says(b"close");
    let added: &[u8] = if switches {
        b""
    } else if closing {
        // Whatever else it says of the connection is of no use any more.
        return append_close(to);
    } else if last && !asked.old && !says(b"close") {
        b"close"
    } else if asked.old && !last && !says(b"keep-alive") {
        b"keep-alive"
    } else {
        b""
    };
    let words = said().chain(Some(added)).filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        to.extend_from_slice(if index == 0 { b"connection: " } else { b", " });
        to.extend_from_slice(word);
    }
    if has_some || !added.is_empty() {
        to.extend_from_slice(b"\r\n");
    }
    last
}

fn append_close(to: &mut Vec<u8>) -> bool {
    to.extend_from_slice(b"connection: close\r\n");
    true
}

/// What a `trailer` header announces, as far as it may come.
fn trailers_of(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(TRAILER).iter();
    lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(trailers::may_be)
        .collect()
}

impl Framing {
    /// There is nothing to be framed.
    pub(super) const NONE: Self = Self {
        encoder: Encoder::Length(0),
        announced: Vec::new(),
    };

    /// Whether the answer is complete, and no end has to be told.
    pub(super) fn is_done(&self) -> bool {
        self.encoder.is_done()
    }

    /// Appends a part of the body; `end`: it is the last. Gives whether the answer is complete.
    ///
    /// # Errors
    /// The body is not as long as was said.
    pub(super) fn append(
        &mut self,
        data: Bytes,
        end: bool,
        output: &mut Output,
    ) -> Result<bool, WrongLength> {
        self.encoder.part(data, output)?;
        if end && !output.is_full() {
            self.encoder.end(None, output)?;
            return Ok(true);
        }
        Ok(self.is_done())
    }

    /// Appends what tells the end of the body.
    ///
    /// # Errors
    /// It is shorter than was said.
    pub(super) fn append_end(
        &self,
        trailers: Option<HeaderMap>,
        output: &mut Output,
    ) -> Result<(), WrongLength> {
        let mut trailers = trailers.filter(|_| !self.announced.is_empty());
        if let Some(trailers) = &mut trailers {
            let others = trailers
                .keys()
                .filter(|name| !self.announced.contains(name));
            for other in others.cloned().collect::<Vec<_>>() {
                trailers.remove(other);
            }
        }
        self.encoder.end(trailers.as_ref(), output)
    }
}

/// What a frame of a body is.
pub(super) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Nothing that HTTP/1.1 knows.
    Other,
}

/// Takes a frame apart.
pub(super) fn part(frame: Frame<Bytes>) -> Part {
    match frame.into_data() {
        Ok(data) => Part::Data(data),
        Err(frame) => frame.into_trailers().map_or(Part::Other, Part::Trailers),
    }
}

/// Appends interim answers. `100 Continue` is not among them: it is said when the body is wanted.
pub(super) fn append_interim(heads: &[interim::Head], to: &mut Vec<u8>) {
    for head in heads {
        if head.status == StatusCode::CONTINUE {
            continue;
        }
        to.extend_from_slice(b"HTTP/1.1 ");
        to.extend_from_slice(head.status.as_str().as_bytes());
        to.push(b' ');
        to.extend_from_slice(head.status.canonical_reason().unwrap_or("").as_bytes());
        to.extend_from_slice(b"\r\n");
        fields::append(&head.headers, to);
        to.extend_from_slice(b"\r\n");
    }
}

fn atoi(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Appends the line that gives that length.
fn append_number(number: u64, to: &mut Vec<u8>) {
    fields::append_one(b"content-length", Decimal::new(number).as_ref(), to);
}

#[cfg(test)]
mod tests;
