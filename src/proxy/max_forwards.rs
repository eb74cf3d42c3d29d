//! `max-forwards` of OPTIONS and TRACE (RFC 9110, section 7.6.2): how many more hops the request may
//! take. At 0 it is answered here, as by an origin.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, MAX_FORWARDS};
use http::request::Parts;
use http::{Method, Response, response};

use crate::live::hop_by_hop;

/// What becomes of a request with `max-forwards`.
pub(super) enum Verdict {
    /// It goes on, with one hop less where they are counted.
    GoesOn,
    /// It ends here, with this answer.
    EndsHere(Box<(response::Parts, Bytes)>),
}

/// Counts this hop.
pub(super) fn count(head: &mut Parts) -> Verdict {
    let counted = head.method == Method::OPTIONS || head.method == Method::TRACE;
    let left = head.headers.get(MAX_FORWARDS).filter(|_| counted);
    let left = left.and_then(|left| left.to_str().ok()?.trim().parse::<u32>().ok());
    match left {
        Some(0) => {
            let (parts, body) = answer(head).into_parts();
            Verdict::EndsHere(Box::new((parts, body)))
        }
        Some(left) => {
            let left = HeaderValue::from(left - 1);
            head.headers.insert(MAX_FORWARDS, left);
            Verdict::GoesOn
        }
        None => Verdict::GoesOn,
    }
}

fn answer(head: &Parts) -> Response<Bytes> {
    if head.method == Method::OPTIONS {
        return Response::new(Bytes::new());
    }
    let mut answer = Response::new(Bytes::from(echo(head)));
    let kind = HeaderValue::from_static("message/http");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// The head as it came, without what nobody else should see.
fn echo(head: &Parts) -> Vec<u8> {
    let mut headers: HeaderMap = head.headers.clone();
    hop_by_hop::strip(&mut headers);
    for secret in [AUTHORIZATION, COOKIE] {
        headers.remove(secret);
    }
    let mut text = format!("{} {} {:?}\r\n", head.method, head.uri, head.version).into_bytes();
    for (name, value) in &headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: &str, left: &str) -> Parts {
        let request = Request::builder().method(method).uri("/x");
        let request = request
            .header("max-forwards", left)
            .header("cookie", "secret");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn hops_are_counted_for_options_and_trace_alone() {
        for (method, left, then) in [
            ("OPTIONS", "3", Some("2")),
            ("TRACE", "1", Some("0")),
            ("GET", "3", Some("3")),
            ("GET", "0", Some("0")),
            ("TRACE", "many", Some("many")),
            ("OPTIONS", "0", None),
        ] {
            let mut head = head(method, left);
            let goes_on = matches!(count(&mut head), Verdict::GoesOn);
            let left = goes_on.then(|| head.headers["max-forwards"].to_str().unwrap());
            assert_eq!(left, then, "{method}");
        }
    }

    #[test]
    fn a_trace_that_ends_here_shows_what_came_but_no_secret() {
        let Verdict::EndsHere(answer) = count(&mut head("TRACE", "0")) else {
            panic!("it goes on");
        };
        assert_eq!(answer.0.headers["content-type"], "message/http");
        assert_eq!(answer.1, "TRACE /x HTTP/1.1\r\nmax-forwards: 0\r\n\r\n");
    }
}
