//! Looks at a client's bytes before the HTTP parser does: where each request ends, and whether its
//! framing could be read in two ways (RFC 9112).
//!
//! The parser is lenient where a proxy must not be: it takes bare line feeds, drops a
//! `content-length` beside a `transfer-encoding`, cuts fragments off and skips chunk extensions. And
//! it reads ahead into the next request. So the bytes are followed here, without copying them:
//!
//! ```text
//!            head            content-length          last byte
//! Start ───────────▶ Fields ───────────────▶ Body ───────────▶ Complete ──next()──▶ Start
//!                      │  │     chunked                            ▲
//!                      │  └──────────────▶ Chunked ────────────────┤
//!                      └───────────── neither ─────────────────────┘
//! ```
//!
//! What is checked by the parser well enough (methods, header names, control characters in values,
//! folded lines) is left to it.

mod chunked;

use crate::proxy::Reason;
use chunked::Chunked;

/// What is wrong with the bytes: the reason, and a sentence for the client.
pub(super) type Fault = (Reason, &'static str);

/// What a client of HTTP/2 begins with: the first line of its preface.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0";

/// Follows one connection's requests. Give it every byte once, in order.
#[derive(Debug)]
pub(super) struct Scan {
    state: State,
    /// Bytes that a head may have.
    max_head: usize,
    /// Header lines that a head may have.
    max_lines: usize,
    /// Whether the first line may be that of HTTP/2.
    first: First,
    /// Bytes and header lines of this head so far.
    head: usize,
    lines: usize,
    length: Option<u64>,
    chunked: bool,
    /// A line whose end has not come yet; empty as long as heads come in one piece.
    partial: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Start,
    Fields,
    Body(u64),
    Chunked(Chunked),
    Complete,
}

/// What is known of a connection's first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// It has to be a request's.
    Request,
    /// It has not come; the client may speak HTTP/2.
    Any,
    /// The client speaks HTTP/2.
    Http2,
}

impl Scan {
    pub(super) const fn new(max_head: usize, max_lines: usize) -> Self {
        Self {
            state: State::Start,
            max_head,
            max_lines,
            first: First::Request,
            head: 0,
            lines: 0,
            length: None,
            chunked: false,
            partial: Vec::new(),
        }
    }

    /// Lets the client begin with the preface of HTTP/2. It is a fault like others, but
    /// [`Self::is_http2`] tells of it.
    pub(super) const fn or_http2(mut self) -> Self {
        self.first = First::Any;
        self
    }

    /// Whether the client has begun with the preface of HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.first == First::Http2
    }

    /// What has come of the preface of HTTP/2, where its first line lacks no more than its end. The
    /// parser does not wait for that, and gives up.
    pub(super) fn preface(&self) -> Option<&[u8]> {
        let line = self.partial.starts_with(PREFACE_LINE) && self.partial.len() == self.head;
        (line && self.first == First::Any).then_some(&self.partial)
    }

    /// Bytes of the current head so far.
    pub(super) const fn head(&self) -> usize {
        self.head
    }

    /// Whether the current request has come to its last byte.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether a byte of a request's head has come, but not yet its end. Empty lines before the first
    /// line do not count: some clients send one after a body.
    pub(super) fn in_head(&self) -> bool {
        match &self.state {
            State::Start => !matches!(self.partial[..], [] | [b'\r']),
            State::Fields => true,
            State::Body(_) | State::Chunked(_) | State::Complete => false,
        }
    }

    /// Whether nothing of a request has come.
    pub(super) fn at_start(&self) -> bool {
        self.state == State::Start && !self.in_head()
    }

    /// Makes ready for the next request.
    pub(super) fn next(&mut self) {
        *self = Self::new(self.max_head, self.max_lines);
    }

    /// Takes in `bytes` up to the end of the current request and gives how many it took: all, unless
    /// the request is complete.
    ///
    /// # Errors
    /// What is wrong with the bytes. Nothing may be read from the connection after that.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_complete() {
            let rest = &bytes[taken..];
            taken += match &mut self.state {
                State::Start | State::Fields => self.take_head(rest)?,
                State::Body(left) => {
                    let some =
                        usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= some as u64;
                    if *left == 0 {
                        self.state = State::Complete;
                    }
                    some
                }
                State::Chunked(chunked) => {
                    let some = chunked.take(rest)?;
                    if chunked.is_complete() {
                        self.state = State::Complete;
                    }
                    some
                }
                State::Complete => 0,
            };
        }
        Ok(taken)
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        if self.at_start() && bytes[0] == 0x16 {
            return bad("This looks like a TLS handshake, but the listener speaks plain HTTP.");
        }
        let mut taken = 0;
        while let Some(end) = line_end(&bytes[taken..]) {
            let line = &bytes[taken..=taken + end];
            taken += line.len();
            self.count(line.len())?;
            let ended = if self.partial.is_empty() {
                self.take_line(line)?
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.take_line(&whole)?
            };
            if ended {
                return Ok(taken);
            }
        }
        let rest = &bytes[taken..];
        self.count(rest.len())?;
        self.partial.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Fault> {
        self.head += bytes;
        if self.head > self.max_head {
            let sentence = "The head of the request is larger than the listener's header_size.";
            return Err((Reason::HeaderTooLarge, sentence));
        }
        Ok(())
    }

    /// Takes in a line of the head with its end, and gives whether the head ends with it.
    fn take_line(&mut self, line: &[u8]) -> Result<bool, Fault> {
        let [line @ .., b'\r', b'\n'] = line else {
            return bad("A line of the head ends without a carriage return.");
        };
        match (&self.state, line) {
            (State::Start, []) => Ok(false),
            (State::Start, line) => {
                if line == PREFACE_LINE && self.head <= line.len() + 2 && self.first == First::Any {
                    self.first = First::Http2;
                    return bad("The client speaks HTTP/2.");
                }
                check_request_line(line)?;
                self.state = State::Fields;
                Ok(false)
            }
            (_, []) => {
                self.state = match (self.chunked, self.length) {
                    (true, _) => State::Chunked(Chunked::new(self.max_head, self.max_lines)),
                    (false, None | Some(0)) => State::Complete,
                    (false, Some(length)) => State::Body(length),
                };
                Ok(true)
            }
            (_, field) => self.take_field(field).map(|()| false),
        }
    }

    fn take_field(&mut self, field: &[u8]) -> Result<(), Fault> {
        self.lines += 1;
        if self.lines > self.max_lines {
            let sentence = "The request has more header lines than the listener's limit.";
            return Err((Reason::HeaderTooLarge, sentence));
        }
        if let Some(value) = value_of(b"content-length:", field) {
            if self.length.is_some() {
                return bad("The content-length is given more than once.");
            }
            self.length = Some(parse_length(value)?);
        } else if let Some(value) = value_of(b"transfer-encoding:", field) {
            if self.chunked || value != b"chunked" {
                return bad("The transfer-encoding is not exactly \"chunked\".");
            }
            self.chunked = true;
        } else {
            return Ok(());
        }
        if self.chunked && self.length.is_some() {
            return bad("Both content-length and transfer-encoding are given.");
        }
        Ok(())
    }
}

fn check_request_line(line: &[u8]) -> Result<(), Fault> {
    if !(line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")) {
        return bad("The request line does not end with HTTP/1.1 or HTTP/1.0.");
    }
    match line.iter().find(|byte| matches!(byte, b'#' | b'\\')) {
        Some(b'#') => bad("The target has a fragment (#)."),
        Some(_) => bad("The target has a backslash."),
        None => Ok(()),
    }
}

/// Where the first line feed is. Eight bytes at a time: header lines are short, so that a search with
/// wide registers costs more to begin than it saves.
fn line_end(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let zero_where_equal = u64::from_le_bytes(*word) ^ (EACH * b'\n' as u64);
        // The lowest high bit that is set belongs to the first byte that is zero.
        let found = zero_where_equal.wrapping_sub(EACH) & !zero_where_equal & (EACH << 7);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let end = tail.iter().position(|byte| *byte == b'\n')?;
    Some(words.len() * 8 + end)
}

/// The value behind `name` (lower-case, with its colon), without spaces around it. A tab stays: it is
/// legal there, but parties disagree about it.
fn value_of<'a>(name: &[u8], field: &'a [u8]) -> Option<&'a [u8]> {
    let (start, value) = field.split_at_checked(name.len())?;
    // The first letter tells nearly all other headers apart.
    if start[0] | 0x20 != name[0] || !start.eq_ignore_ascii_case(name) {
        return None;
    }
    let mut value = value;
    while let [b' ', rest @ ..] | [rest @ .., b' '] = value {
        value = rest;
    }
    Some(value)
}

fn parse_length(value: &[u8]) -> Result<u64, Fault> {
    // 19 digits hold 2⁶³; more are leading zeros or too many bytes.
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return bad("The content-length is not a number of at most 19 digits.");
    }
    let digit = |sum: u64, byte: &u8| sum * 10 + u64::from(byte - b'0');
    let length = value.iter().fold(0, digit);
    if length > i64::MAX as u64 {
        return bad("The content-length is too large.");
    }
    Ok(length)
}

const fn bad<T>(sentence: &'static str) -> Result<T, Fault> {
    Err((Reason::BadRequest, sentence))
}

#[cfg(test)]
mod tests;
