//! Headers that concern one connection only. They end here, in both directions.

use super::trailers;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    UPGRADE,
};

/// What speaks of one connection only (RFC 9110 section 7.6.1, and common use). Framing, the
/// `transfer-encoding`, is built anew by each connection.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Where `connection` is in [`HOP_BY_HOP`].
const CONNECTION_PLACE: usize = 0;

/// Where `trailer` is in [`HOP_BY_HOP`].
const TRAILER_PLACE: usize = 6;

/// The place of a name in [`HOP_BY_HOP`].
fn place(name: &HeaderName) -> Option<usize> {
    Some(match name.as_str() {
        "connection" => CONNECTION_PLACE,
        "keep-alive" => 1,
        "proxy-connection" => 2,
        "proxy-authenticate" => 3,
        "proxy-authorization" => 4,
        "te" => 5,
        "trailer" => TRAILER_PLACE,
        "upgrade" => 7,
        "http2-settings" => 8,
        _ => return None,
    })
}

/// Whether the header concerns one connection only.
pub fn is_one(name: &HeaderName) -> bool {
    place(name).is_some()
}

/// Headers that `connection` must not take away though it names them: a client could strip what the
/// upstream's safety rests on (rule 70).
const NEVER_STRIPPED: [&str; 9] = [
    "host",
    "content-length",
    "content-type",
    "authorization",
    "cookie",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Removes what concerns only the connection that the head came over. A `trailer` header stays, as far
/// as it announces what may come.
pub fn strip(headers: &mut HeaderMap) {
    // Most heads have one of them or none: looking at each line once is less than looking each up.
    let mut found = 0_u16;
    let mut names_others = false;
    for (name, value) in &*headers {
        if let Some(place) = place(name) {
            found |= 1 << place;
            names_others |= place == CONNECTION_PLACE && !is_usual(value.as_bytes());
        }
    }
    if names_others {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    if found & 1 << TRAILER_PLACE != 0 {
        trailers::announce(headers);
        found &= !(1 << TRAILER_PLACE);
    }
    while found != 0 {
        headers.remove(&HOP_BY_HOP[found.trailing_zeros() as usize]);
        found &= found - 1;
    }
}

/// Whether `connection` says no more than it mostly does, or this word of it.
fn is_usual(text: &[u8]) -> bool {
    text == b"keep-alive"
        || text.eq_ignore_ascii_case(b"keep-alive")
        || text.eq_ignore_ascii_case(b"close")
}

/// The headers that `connection` names beside what it always says.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter();
    let words = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(',').map(str::trim));
    words
        .filter(|word| !is_usual(word.as_bytes()))
        .filter_map(|word| word.parse().ok())
        .filter(|name: &HeaderName| !NEVER_STRIPPED.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn fault_021_and_024_what_connection_names_goes_but_never_what_safety_rests_on() {
        let mut head = headers(&[
            ("connection", "close, x-secret , Host, authorization"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("x-stays", "1"),
            ("host", "a"),
            ("authorization", "b"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x, host"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("proxy-authorization", "c"),
            ("proxy-connection", "close"),
        ]);
        strip(&mut head);
        let mut left: Vec<_> = head.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "host", "trailer", "x-stays"]);
        assert_eq!(head[TRAILER], "x");
    }
}
