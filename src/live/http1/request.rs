//! The head of a request as bytes.

use std::io::Write;

use http::Uri;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use super::decimal::Decimal;
use super::encoder::Encoder;
use super::fields;
use crate::live::request_head::RequestHead;

/// Room for a head of the usual size.
const ROOM: usize = 512;

/// Appends the head of a request, and gives how its body follows: `left` bytes, or of unknown length.
/// What the headers say of that goes first.
pub fn head(head: RequestHead<'_>, left: Option<u64>, to: &mut Vec<u8>) -> Encoder {
    to.reserve(ROOM);
    to.extend_from_slice(head.method.as_str().as_bytes());
    to.push(b' ');
    append_target(head.target, to);
    to.extend_from_slice(b" HTTP/1.1\r\n");
    let (mut chunked, mut said) = (false, None);
    let ours = head.ours.iter().map(|(name, value)| (name, value));
    for (name, value) in head.headers.iter().chain(ours) {
        if *name == TRANSFER_ENCODING {
            // A body that is known to be empty has no chunks either.
            chunked = left != Some(0);
            continue;
        }
        if *name == CONTENT_LENGTH {
            said = Some(value);
            continue;
        }
        fields::append_one(name.as_str().as_bytes(), value.as_bytes(), to);
    }
    let said = said.and_then(|length| length.to_str().ok()?.parse().ok());
    // One of the two is said, whatever came.
    let encoder = match (chunked, said.or(left)) {
        (false, Some(0)) if said.is_none() => Encoder::Length(0),
        (false, Some(length)) => {
            fields::append_one(b"content-length", Decimal::new(length).as_ref(), to);
            Encoder::Length(length)
        }
        (true, _) | (false, None) => {
            to.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Encoder::Chunked
        }
    };
    to.extend_from_slice(b"\r\n");
    encoder
}

/// As a request to an origin names it: the path with the query. Another form is passed on as it is.
fn append_target(target: &Uri, to: &mut Vec<u8>) {
    match target.path_and_query() {
        Some(path) if target.scheme().is_none() => to.extend_from_slice(path.as_str().as_bytes()),
        // Writing into memory does not fail.
        _ => _ = write!(to, "{target}"),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    fn encoded(
        target: &str,
        pairs: &[(&'static str, &str)],
        left: Option<u64>,
    ) -> (String, Encoder) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let mut bytes = Vec::new();
        let target = target.parse().unwrap();
        let lent = RequestHead {
            method: &Method::POST,
            target: &target,
            headers: &headers,
            ours: &[],
        };
        let encoder = head(lent, left, &mut bytes);
        (String::from_utf8(bytes).unwrap(), encoder)
    }

    #[test]
    fn a_head_says_once_how_its_body_ends() {
        let post = |lines: &str| format!("POST /a?b HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
        let host = ("host", "x");
        let chunked = ("transfer-encoding", "chunked");
        let five = ("content-length", "5");
        for (pairs, left, lines, encoder) in [
            (vec![host], Some(0), "", Encoder::Length(0)),
            (vec![host, chunked], Some(0), "", Encoder::Length(0)),
            (
                vec![host, five],
                Some(5),
                "content-length: 5\r\n",
                Encoder::Length(5),
            ),
            (
                vec![host],
                Some(5),
                "content-length: 5\r\n",
                Encoder::Length(5),
            ),
            (
                vec![host],
                None,
                "transfer-encoding: chunked\r\n",
                Encoder::Chunked,
            ),
            (
                vec![host, five, chunked],
                None,
                "transfer-encoding: chunked\r\n",
                Encoder::Chunked,
            ),
            (
                vec![host, chunked],
                None,
                "transfer-encoding: chunked\r\n",
                Encoder::Chunked,
            ),
        ] {
            assert_eq!(encoded("/a?b", &pairs, left), (post(lines), encoder));
        }
    }

    #[test]
    fn every_form_of_target_is_written_as_it_was_meant() {
        for target in ["/", "/a?b=c", "*", "http://a:80/b?c"] {
            let (text, _) = encoded(target, &[], Some(0));
            assert_eq!(text, format!("POST {target} HTTP/1.1\r\n\r\n"));
        }
    }
}
