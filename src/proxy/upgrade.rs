//! Switching to another protocol, WebSocket mostly: which request may ask for it, and which answer
//! grants it (RFC 9110 section 7.8).

use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{StatusCode, Version, response};

use super::handle::Failed;
use super::message;
use crate::plan::{self, Protocol};
use crate::policy::outcome::Reason;

/// The protocols that the request asks to switch to, as they go on; `None`: none that we pass on. To be
/// asked where the header is there.
///
/// HTTP/2 is none of them: it would take the requests that follow past every policy (rule 70). Neither
/// may a request with a body ask: the bytes behind its head could be read in two ways.
pub fn wanted(head: &Parts, has_body: bool) -> Option<Box<HeaderValue>> {
    let may = head.version == Version::HTTP_11 && !has_body;
    if !may || !says(&head.headers, CONNECTION.as_str(), "upgrade") {
        return None;
    }
    let mut passed: Vec<&str> = Vec::new();
    for protocol in words(&head.headers, UPGRADE.as_str()) {
        if !is_http(protocol) && !passed.contains(&protocol) {
            passed.push(protocol);
        }
    }
    if passed.is_empty() {
        return None;
    }
    HeaderValue::from_str(&passed.join(", ")).ok().map(Box::new)
}

/// What is wanted, unless the upstream is one of HTTP/2 by its configuration. Sent on without it, the
/// request would mean something else.
///
/// # Errors
/// The refusal.
pub(super) fn possible(
    wanted: Option<Box<HeaderValue>>,
    upstream: &plan::Upstream,
) -> Result<Option<Box<HeaderValue>>, Failed> {
    match (wanted, upstream.protocol) {
        (Some(wanted), Protocol::Http2) => Err(impossible(&upstream.name, &wanted)),
        (wanted, Protocol::Auto | Protocol::Http1 | Protocol::Http2) => Ok(wanted),
    }
}

/// The endpoint speaks only HTTP/2.
pub(super) fn impossible(upstream: &str, wanted: &HeaderValue) -> Failed {
    let wanted = wanted.to_str().unwrap_or_default();
    Failed {
        status: Some(StatusCode::NOT_IMPLEMENTED),
        ..Failed::new(Reason::BadRequest, message::no_upgrade(upstream, wanted))
    }
}

/// Whether an answer with status 101 switches to something that was asked for.
///
/// # Errors
/// What is wrong with it.
pub fn granted(head: &response::Parts, wanted: Option<&HeaderValue>) -> Result<(), &'static str> {
    let Some(wanted) = wanted.and_then(|wanted| wanted.to_str().ok()) else {
        return Err("status 101, but no change of protocol was asked for");
    };
    let mut switched = words(&head.headers, UPGRADE.as_str()).peekable();
    let asked = |protocol: &str| {
        let mut all = wanted.split(", ");
        all.any(|one| one.eq_ignore_ascii_case(protocol))
    };
    if switched.peek().is_some() && switched.all(asked) {
        Ok(())
    } else {
        Err("status 101 to a protocol that was not asked for")
    }
}

/// `h2c`, and HTTP by any other name.
fn is_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    ["h2c", "h2", "http"]
        .iter()
        .any(|one| name.eq_ignore_ascii_case(one))
}

fn says(headers: &HeaderMap, name: &str, wanted: &str) -> bool {
    words(headers, name).any(|word| word.eq_ignore_ascii_case(wanted))
}

fn words<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(',').map(str::trim))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn asks(version: Version, headers: &[(&str, &str)], has_body: bool) -> Option<String> {
        let request = Request::builder().version(version);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let (head, ()) = request.body(()).expect("a request").into_parts();
        wanted(&head, has_body).map(|value| value.to_str().expect("text").to_owned())
    }

    const ASK: (&str, &str) = ("connection", "keep-alive, Upgrade");

    #[test]
    fn fault_023_what_is_asked_for_goes_on_but_never_http() {
        for (asked, passed) in [
            ("websocket", Some("websocket")),
            ("WebSocket, spdy/3", Some("WebSocket, spdy/3")),
            ("h2c", None),
            ("H2C, websocket", Some("websocket")),
            ("HTTP/2.0", None),
            ("h2c/2", None),
            ("", None),
            (" , ", None),
        ] {
            let found = asks(Version::HTTP_11, &[ASK, ("upgrade", asked)], false);
            assert_eq!(found.as_deref(), passed, "{asked}");
        }
        let websocket = ("upgrade", "websocket");
        assert_eq!(asks(Version::HTTP_10, &[ASK, websocket], false), None);
        assert_eq!(asks(Version::HTTP_11, &[ASK, websocket], true), None);
        assert_eq!(asks(Version::HTTP_11, &[websocket], false), None);
        let close = ("connection", "close");
        assert_eq!(asks(Version::HTTP_11, &[close, websocket], false), None);
    }

    #[test]
    fn fault_025_only_what_was_asked_for_is_switched_to() {
        let websocket = HeaderValue::from_static("websocket, foo");
        let verdict = |switched: Option<&str>, wanted| {
            let mut answer = Response::builder().status(101);
            if let Some(switched) = switched {
                answer = answer.header("upgrade", switched);
            }
            granted(&answer.body(()).expect("an answer").into_parts().0, wanted)
        };
        for fine in ["websocket", "WebSocket", "foo", "foo, websocket"] {
            assert!(verdict(Some(fine), Some(&websocket)).is_ok(), "{fine}");
        }
        for bad in [None, Some("h2c"), Some("websocket, bar"), Some("")] {
            assert!(verdict(bad, Some(&websocket)).is_err(), "{bad:?}");
        }
        assert!(verdict(Some("websocket"), None).is_err());
    }
}
