//! The head of an answer: from bytes.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode, Version};

use super::body::Decoder;
use super::chunked::Chunked;
use super::{Malformed, bad, fields, maps};

/// Headers that an answer gains on its way: two of ours, and one of the connection's goes.
const GAINED: usize = 1;

/// Header lines that an answer may have.
const MAX_LINES: usize = 100;

/// The words of a status line, where they are not those that everybody uses. Among the extensions of an
/// answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasonPhrase(pub Bytes);

/// The head that these bytes begin with, and its length. `copy` gives a copy of so many of them from the
/// front. `None`: more has to come.
///
/// # Errors
/// It is no head of an answer.
pub fn parse(
    bytes: &[u8],
    copy: impl FnOnce(usize) -> Bytes,
) -> Result<Option<(Response<()>, usize)>, Malformed> {
    let mut space = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(wrong(error)),
    };
    let head = copy(length);
    let mut answer = Response::new(());
    let Ok(status) = StatusCode::from_u16(parsed.code.unwrap_or_default()) else {
        return bad("the answer's status is malformed");
    };
    *answer.status_mut() = status;
    if parsed.version != Some(1) {
        *answer.version_mut() = Version::HTTP_10;
    }
    let map = maps::take(parsed.headers.len() + GAINED);
    *answer.headers_mut() = fields::map(&head, bytes, parsed.headers, map)?;
    let usual = status.canonical_reason();
    if let Some(reason) = parsed.reason.filter(|reason| usual != Some(reason))
        && let Some(reason) = fields::part(&head, bytes, reason.as_bytes())
    {
        answer.extensions_mut().insert(ReasonPhrase(reason));
    }
    Ok(Some((answer, length)))
}

fn wrong(error: httparse::Error) -> Malformed {
    Malformed(match error {
        httparse::Error::TooManyHeaders => "the answer has more than 100 header lines",
        httparse::Error::Status | httparse::Error::Version => {
            "what came does not begin as an answer does"
        }
        httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Token => "the head of the answer is malformed",
    })
}

/// What an answer's head says of its body and its connection (RFC 9112, section 6.3).
#[derive(Debug)]
pub struct Framing {
    /// How the body comes.
    pub body: Decoder,
    /// Whether the connection goes on behind it.
    pub keeps_alive: bool,
}

/// How the body of an answer to such a request comes.
///
/// # Errors
/// Its length is not a number.
pub fn framing(answer: &Response<()>, method: &Method) -> Result<Framing, Malformed> {
    let old = answer.version() < Version::HTTP_11;
    let (mut chunked, mut length, mut lives) = (None, None, !old);
    for (name, value) in answer.headers() {
        if *name == CONTENT_LENGTH {
            let value = value.to_str().ok().and_then(|value| value.parse().ok());
            length = Some(value.ok_or(Malformed("a content-length that is not a number"))?);
        } else if *name == TRANSFER_ENCODING {
            // Whatever else it is, its end cannot be found.
            chunked = Some(!old && value.as_bytes().eq_ignore_ascii_case(b"chunked"));
        } else if *name == CONNECTION {
            lives = is_kept(value.as_bytes(), lives);
        }
    }
    let status = answer.status();
    let bodiless = [
        StatusCode::SWITCHING_PROTOCOLS,
        StatusCode::NO_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    let body = if *method == Method::HEAD || bodiless.contains(&status) {
        Decoder::Empty
    } else {
        match (chunked, length) {
            (Some(true), _) => Decoder::Chunked(Box::new(Chunked::lenient())),
            (None, Some(length)) => Decoder::Length(length),
            (Some(false), _) | (None, None) => Decoder::UntilEnd,
        }
    };
    let endless = matches!(body, Decoder::UntilEnd) || status == StatusCode::SWITCHING_PROTOCOLS;
    Ok(Framing {
        keeps_alive: lives && !endless,
        body,
    })
}

/// What a `connection` header makes of a connection that would live or not without it.
fn is_kept(value: &[u8], lives: bool) -> bool {
    !fields::has_word(value, b"close") && (lives || fields::has_word(value, b"keep-alive"))
}

/// The length of the head that these bytes begin with, seen from their line ends alone; the first
/// `seen` were looked at before. For a head that comes in many pieces: it is not parsed for each.
pub fn length_by_lines(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    let feeds = (from..bytes.len()).filter(|place| bytes[*place] == b'\n');
    feeds
        .map(|place| (place, &bytes[..place]))
        .find(|(_, before)| before.ends_with(b"\n\r") || before.ends_with(b"\n"))
        .map(|(place, _)| place + 1)
}

#[cfg(test)]
mod tests;
