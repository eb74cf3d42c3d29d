//! A request's head on its way into HTTP/2: the host becomes `:authority`, and what concerns only one
//! connection of HTTP/1.1 stays behind (RFC 9113 section 8.2.2).

use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The head as HTTP/2 has it. `scheme` is what the connection itself speaks.
pub(super) fn onward<B>(head: http::request::Parts, scheme: Scheme, body: B) -> Request<B> {
    let mut head = head;
    strip(&mut head.headers);
    let authority = match head.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => authority(&head.headers),
    };
    // Without an authority the library takes the scheme for `http` and the host goes as it came.
    head.version = Version::HTTP_11;
    if let Some(authority) = authority {
        let mut parts = http::uri::Parts::default();
        let tunnel = head.method == Method::CONNECT;
        parts.authority = Some(authority);
        if !tunnel {
            parts.scheme = Some(scheme);
            let target = head.uri.path_and_query().cloned();
            parts.path_and_query = Some(target.unwrap_or(PathAndQuery::from_static("/")));
        }
        if let Ok(uri) = Uri::from_parts(parts) {
            head.uri = uri;
            head.version = Version::HTTP_2;
            head.headers.remove(HOST);
        }
    }
    Request::from_parts(head, body)
}

fn authority(headers: &HeaderMap) -> Option<Authority> {
    Authority::try_from(headers.get(HOST)?.as_bytes()).ok()
}

/// Takes away what must not be in HTTP/2, in heads and trailers alike.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ] {
        headers.remove(name);
    }
    let trailers = HeaderValue::from_static("trailers");
    if headers.get(TE).is_some_and(|te| *te != trailers) {
        headers.remove(TE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(method: &str, target: &str, headers: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        onward(head, Scheme::HTTPS, ())
    }

    #[test]
    fn the_host_becomes_the_authority_and_the_rest_of_the_target_stays() {
        for (target, path) in [("/a/b?c=d", "/a/b?c=d"), ("/", "/"), ("*", "*")] {
            let request = made("OPTIONS", target, &[("host", "u.example:81"), ("x", "1")]);
            assert_eq!(
                request.uri().authority().map(Authority::as_str),
                Some("u.example:81")
            );
            assert_eq!(request.uri().scheme(), Some(&Scheme::HTTPS));
            assert_eq!(
                request.uri().path_and_query().map(PathAndQuery::as_str),
                Some(path)
            );
            assert!(!request.headers().contains_key(HOST));
            assert_eq!(request.headers()["x"], "1");
        }
    }

    #[test]
    fn what_concerns_one_connection_of_http_1_stays_behind() {
        let head = [
            ("host", "u"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("content-length", "5"),
            ("cookie", "a=b"),
        ];
        let request = made("POST", "/", &head);
        let mut left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "cookie", "te"]);
        let request = made("POST", "/", &[("host", "u"), ("te", "gzip, trailers")]);
        assert!(request.headers().is_empty());
    }

    #[test]
    fn a_host_that_is_no_authority_is_left_to_the_upstream_to_judge() {
        let request = made("GET", "/", &[("host", "a b")]);
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.headers()[HOST], "a b");
    }
}
