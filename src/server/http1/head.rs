//! The head of a request: from bytes to what the handler is asked, read strictly (RFC 9112).
//!
//! The parser is lenient where a proxy must not be: it takes bare line feeds and looks at no framing.
//! What could be read in two ways is looked for beside what it has found, so that a head is gone through
//! once.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::TE;
use http::{Method, Request, Uri, Version};
use httparse::{ParserConfig, Status};

use crate::live::http1::Malformed;
use crate::live::http1::body::Decoder;
use crate::live::http1::chunked::Chunked;
use crate::live::http1::{fields, maps};
use crate::live::received::ReceivedBody;
use crate::live::trailers;
use crate::proxy::Reason;

/// What is wrong with the bytes: the reason, and a sentence for the client.
pub(super) type Fault = (Reason, &'static str);

/// Header lines for which there is room without an allocation.
const LINES: usize = 100;

/// Digits of a length that no body has; more are leading zeros, or too many bytes.
const MAX_DIGITS: usize = 19;

/// The longest target that there is a type for.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Its bytes.
    pub(super) size: usize,
    /// Its header lines.
    pub(super) lines: usize,
}

/// A request's head. Boxed where it is passed on, since it is large.
#[derive(Debug)]
pub(super) struct Head {
    /// The request, without its body.
    pub(super) request: Request<ReceivedBody>,
    /// Its bytes.
    pub(super) length: usize,
    /// What follows it.
    pub(super) body: Decoder,
    /// What matters for its answer.
    pub(super) asked: Asked,
    /// It waits to be told before it sends the body.
    pub(super) expects: bool,
}

/// What matters of a request for its answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    /// It is older than HTTP/1.1: it knows no chunks and no interim answers.
    pub(super) old: bool,
    /// Its connection may be used again.
    pub(super) keep_alive: bool,
    /// Its answer has a head only.
    pub(super) head_only: bool,
    /// It wants a tunnel.
    pub(super) connect: bool,
    /// It takes trailers.
    pub(super) takes_trailers: bool,
}

/// Bytes of the empty lines that some clients send before a request.
pub(super) fn empty_lines(bytes: &[u8]) -> usize {
    let (pairs, _) = bytes.as_chunks();
    2 * pairs.iter().take_while(|pair| *pair == b"\r\n").count()
}

/// Takes a head from the front of the bytes. `None`: it is not complete.
///
/// # Errors
/// What is wrong with it. Nothing may be read from the connection after that.
pub(super) fn parse(bytes: &[u8], limits: Limits) -> Result<Option<Box<Head>>, Fault> {
    let mut space = [MaybeUninit::uninit(); LINES];
    if limits.lines > LINES {
        let mut space = vec![MaybeUninit::uninit(); limits.lines];
        return parse_in(bytes, limits, &mut space);
    }
    parse_in(bytes, limits, &mut space[..limits.lines])
}

fn parse_in<'b>(
    bytes: &'b [u8],
    limits: Limits,
    space: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Option<Box<Head>>, Fault> {
    match bytes.first() {
        Some(&HANDSHAKE) => {
            return bad("This looks like a TLS handshake, but the listener speaks plain HTTP.");
        }
        Some(b'\n') => return bad(NO_RETURN),
        _ => {}
    }
    let mut parsed = httparse::Request::new(&mut []);
    let outcome =
        ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, bytes, space);
    let length = match outcome {
        Ok(Status::Complete(length)) if length <= limits.size => length,
        Ok(Status::Partial) if bytes.len() <= limits.size => return Ok(None),
        Ok(_) => return Err(TOO_LARGE),
        Err(error) => return Err(wrong(error, parsed.method.is_some())),
    };
    let (method, target) = (parsed.method.unwrap_or(""), parsed.path.unwrap_or(""));
    check_target(bytes, target)?;
    if bytes.get(length - 2) != Some(&b'\r') {
        return bad(NO_RETURN);
    }
    let old = parsed.version == Some(0);
    let mut found = Found::new(bytes, old);
    for header in parsed.headers.iter() {
        found.take(header)?;
    }
    let head = Bytes::copy_from_slice(&bytes[..length]);
    let spare = maps::take(parsed.headers.len());
    let map = fields::map(&head, bytes, parsed.headers, spare);
    let headers = map.map_err(|Malformed(sentence)| (Reason::BadRequest, sentence))?;
    let target = fields::part(&head, bytes, target.as_bytes()).unwrap_or_default();
    let mut request = Request::new(ReceivedBody::Empty);
    let Ok(method) = Method::from_bytes(method.as_bytes()) else {
        return bad(BAD_METHOD);
    };
    let Ok(target) = Uri::from_maybe_shared(target) else {
        return bad(BAD_TARGET);
    };
    let asked = Asked {
        old,
        keep_alive: found.keep_alive,
        head_only: method == Method::HEAD,
        connect: method == Method::CONNECT,
        takes_trailers: found.te && trailers::are_taken(&headers),
    };
    debug_assert!(!found.te || headers.contains_key(TE));
    if old {
        *request.version_mut() = Version::HTTP_10;
    }
    (*request.method_mut(), *request.uri_mut()) = (method, target);
    *request.headers_mut() = headers;
    let body = match (found.chunked, found.length) {
        (true, _) => Decoder::Chunked(Box::new(Chunked::strict(limits.size, limits.lines))),
        (false, None | Some(0)) => Decoder::Empty,
        (false, Some(length)) => Decoder::Length(length),
    };
    Ok(Some(Box::new(Head {
        request,
        length,
        expects: found.expects && !old && !body.is_end(),
        body,
        asked,
    })))
}

/// The target as it is, and the end of its line.
fn check_target(bytes: &[u8], target: &str) -> Result<(), Fault> {
    if target.len() > MAX_TARGET {
        return Err(TOO_LARGE);
    }
    match target.bytes().find(|byte| matches!(byte, b'#' | b'\\')) {
        Some(b'#') => return bad("The target has a fragment (#)."),
        Some(_) => return bad("The target has a backslash."),
        None => {}
    }
    let end = offset(bytes, target.as_bytes()) + target.len() + " HTTP/1.1".len();
    if bytes.get(end..end + 2) != Some(b"\r\n") {
        return bad(NO_RETURN);
    }
    Ok(())
}

/// What the header lines say of the request's framing and its connection.
struct Found<'b> {
    bytes: &'b [u8],
    length: Option<u64>,
    chunked: bool,
    old: bool,
    keep_alive: bool,
    close: bool,
    expects: bool,
    te: bool,
}

impl<'b> Found<'b> {
    const fn new(bytes: &'b [u8], old: bool) -> Self {
        Self {
            bytes,
            length: None,
            chunked: false,
            old,
            keep_alive: !old,
            close: false,
            expects: false,
            te: false,
        }
    }

    fn take(&mut self, header: &httparse::Header<'_>) -> Result<(), Fault> {
        let end = self.line_end(header.value)?;
        let (name, value) = (header.name, header.value);
        // The length of the name tells nearly all other headers apart.
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => self.take_length(name, end),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.take_coding(name, end),
            10 if name.eq_ignore_ascii_case("connection") => {
                self.take_connection(value);
                Ok(())
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                self.expects = value.eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            2 if name.eq_ignore_ascii_case("te") => {
                self.te = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Where the line of this value ends, which it must do as all lines do.
    fn line_end(&self, value: &[u8]) -> Result<usize, Fault> {
        let mut end = offset(self.bytes, value) + value.len();
        while let Some(b' ' | b'\t') = self.bytes.get(end) {
            end += 1;
        }
        if self.bytes.get(end..end + 2) != Some(b"\r\n") {
            return bad(NO_RETURN);
        }
        Ok(end)
    }

    /// The value as it was sent, without spaces around it. A tab stays: it is legal there, but parties
    /// disagree about it.
    fn raw(&self, name: &str, end: usize) -> &'b [u8] {
        let begin = offset(self.bytes, name.as_bytes()) + name.len() + 1;
        let mut value = self.bytes.get(begin..end).unwrap_or_default();
        while let [b' ', rest @ ..] | [rest @ .., b' '] = value {
            value = rest;
        }
        value
    }

    fn take_length(&mut self, name: &str, end: usize) -> Result<(), Fault> {
        if self.length.is_some() {
            return bad("The content-length is given more than once.");
        }
        self.length = Some(parse_length(self.raw(name, end))?);
        self.check_lengths()
    }

    fn take_coding(&mut self, name: &str, end: usize) -> Result<(), Fault> {
        if self.chunked || self.raw(name, end) != b"chunked" {
            return bad("The transfer-encoding is not exactly \"chunked\".");
        }
        if self.old {
            return bad("HTTP/1.0 has no transfer-encoding.");
        }
        self.chunked = true;
        self.check_lengths()
    }

    fn check_lengths(&self) -> Result<(), Fault> {
        if self.chunked && self.length.is_some() {
            return bad("Both content-length and transfer-encoding are given.");
        }
        Ok(())
    }

    /// A `close` anywhere counts, whatever else is said.
    fn take_connection(&mut self, value: &[u8]) {
        self.close |= fields::has_word(value, b"close");
        let stays = self.keep_alive || fields::has_word(value, b"keep-alive");
        self.keep_alive = stays && !self.close;
    }
}

/// Where the part begins, which is one of these bytes.
fn offset(bytes: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize)
}

fn parse_length(value: &[u8]) -> Result<u64, Fault> {
    // 19 digits hold 2⁶³.
    if value.is_empty() || value.len() > MAX_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return bad("The content-length is not a number of at most 19 digits.");
    }
    let digit = |sum: u64, byte: &u8| sum * 10 + u64::from(byte - b'0');
    let length = value.iter().fold(0, digit);
    if length > i64::MAX as u64 {
        return bad("The content-length is too large.");
    }
    Ok(length)
}

const NO_RETURN: &str = "A line of the head ends without a carriage return.";
const BAD_METHOD: &str = "The method is malformed.";
const BAD_TARGET: &str = "The target is malformed.";

/// What a head is that is over its limit.
pub(super) const TOO_LARGE: Fault = (
    Reason::HeaderTooLarge,
    "The head of the request is larger than the listener's header_size.",
);

/// What the parser gave up at.
fn wrong(error: httparse::Error, has_method: bool) -> Fault {
    let sentence = match error {
        httparse::Error::TooManyHeaders => {
            let sentence = "The request has more header lines than the listener's limit.";
            return (Reason::HeaderTooLarge, sentence);
        }
        httparse::Error::Token if has_method => BAD_TARGET,
        httparse::Error::Token | httparse::Error::Status => BAD_METHOD,
        httparse::Error::Version => "The request line does not end with HTTP/1.1 or HTTP/1.0.",
        httparse::Error::NewLine => "A line of the head does not end as lines do.",
        httparse::Error::HeaderName => "A header's name is malformed, or its line is folded.",
        httparse::Error::HeaderValue => "A header's value is malformed.",
    };
    (Reason::BadRequest, sentence)
}

const fn bad<T>(sentence: &'static str) -> Result<T, Fault> {
    Err((Reason::BadRequest, sentence))
}

#[cfg(test)]
mod tests;
