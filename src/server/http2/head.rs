//! Heads between the library and the handler: what HTTP/2 writes differently.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body::Body;

use crate::live::received::{ReceivedBody, StreamBody};
use crate::telemetry::trace::REQUEST_ID;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The request as the handler takes it. What follows a CONNECT is no body of it, but what a tunnel begins
/// with: that is given beside it.
pub(super) fn received(
    request: Request<h2::RecvStream>,
) -> (Request<ReceivedBody>, Option<h2::RecvStream>) {
    let (mut head, stream) = request.into_parts();
    join_cookies(&mut head.headers);
    if head.method == Method::CONNECT {
        let request = Request::from_parts(head, ReceivedBody::Empty);
        return (request, Some(stream));
    }
    let body = StreamBody::new(stream, &head.headers);
    let request = Request::from_parts(head, ReceivedBody::Http2(body));
    (request, None)
}

/// A client may send each cookie in a header of its own, so that they compress better; elsewhere they
/// are one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// Removes what has no place in HTTP/2, where connections are not spoken of in heads and trailers.
pub(super) fn clean(headers: &mut HeaderMap) {
    const NAMES: [HeaderName; 5] = [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ];
    let any = headers.keys().any(|name| {
        matches!(
            name.as_str(),
            "connection" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-connection"
        )
    });
    if any {
        for name in NAMES {
            headers.remove(name);
        }
    }
}

/// Makes the head of an answer ready to be sent.
pub(super) fn ready(headers: &mut HeaderMap) {
    clean(headers);
    // No two answers share it, so it is kept out of the table of headers: it would only drive out those
    // that come again.
    if let Some(id) = headers.get_mut(REQUEST_ID) {
        id.set_sensitive(true);
    }
}

/// Says how long the body is, where that is known and nobody has said it.
pub(super) fn tell_length(headers: &mut HeaderMap, body: &impl Body) {
    if let Some(length) = body.size_hint().exact()
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_joined_in_their_order() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2; c=3", "d=4"] {
            headers.append(COOKIE, HeaderValue::from_static(cookie));
        }
        join_cookies(&mut headers);
        let cookies: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn fault_024_headers_of_one_connection_are_not_sent() {
        let mut headers = HeaderMap::new();
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "x-kept",
        ] {
            headers.append(name, HeaderValue::from_static("x"));
        }
        clean(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-kept"));
    }
}
