//! Which fields may come behind a body (RFC 9110, section 6.5). A field that frames, routes, controls
//! or authenticates a message must be known before its body: behind it, two parties would read the
//! message differently.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRAILER};

use super::hop_by_hop;

/// Whether the field may come behind a body.
pub fn may_be(name: &HeaderName) -> bool {
    let text = name.as_str();
    let never = matches!(
        text,
        "host"
            | "content-length"
            | "transfer-encoding"
            | "content-encoding"
            | "content-type"
            | "content-range"
            | "authorization"
            | "www-authenticate"
            | "cookie"
            | "set-cookie"
            | "max-forwards"
            | "cache-control"
            | "expect"
            | "range"
            | "via"
            | "forwarded"
            | "age"
            | "date"
            | "expires"
            | "location"
            | "vary"
            | "x-request-id"
            | "x-real-ip"
            | "traceparent"
            | "tracestate"
            | "idempotency-key"
    );
    let ours = ["x-forwarded-", "x-mamparo-", "if-"];
    let ours = ours.iter().any(|prefix| text.starts_with(prefix));
    !never && !ours && !hop_by_hop::is_one(name)
}

/// Takes out what may not be there.
pub fn clean(trailers: &mut HeaderMap) {
    if trailers.keys().all(may_be) {
        return;
    }
    let wrong: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !may_be(name))
        .cloned()
        .collect();
    for name in wrong {
        trailers.remove(name);
    }
}

/// Keeps of a `trailer` header the fields that may come. A body whose length is known has none.
pub fn announce(headers: &mut HeaderMap) {
    let announced = headers.get_all(TRAILER).iter();
    let names: Vec<HeaderName> = announced
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(may_be)
        .collect();
    headers.remove(TRAILER);
    if headers.contains_key(CONTENT_LENGTH) {
        return;
    }
    for name in names {
        headers.append(TRAILER, HeaderValue::from(name));
    }
}

/// Whether the sender of these headers takes trailers.
pub fn are_taken(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(TE).iter();
    lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_023_what_frames_routes_or_authenticates_never_comes_behind_a_body() {
        let mut trailers = HeaderMap::new();
        for name in [
            "grpc-status",
            "content-length",
            "transfer-encoding",
            "host",
            "authorization",
            "connection",
            "x-forwarded-for",
            "x-mamparo-reason",
            "if-match",
            "server-timing",
            "te",
        ] {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        clean(&mut trailers);
        let left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["grpc-status", "server-timing"]);
    }

    #[test]
    fn fault_024_only_what_may_come_is_announced() {
        let announced = |length: bool, list: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(TRAILER, HeaderValue::from_static(list));
            headers.append(TRAILER, HeaderValue::from_static("x-sum"));
            if length {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static("1"));
            }
            announce(&mut headers);
            let names = headers.get_all(TRAILER).iter();
            let names: Vec<String> = names.map(|name| name.to_str().unwrap().into()).collect();
            names.join(",")
        };
        assert_eq!(
            announced(false, "Digest, Host,, content-length"),
            "digest,x-sum"
        );
        assert_eq!(announced(true, "digest"), "");
    }

    #[test]
    fn te_is_read_as_a_list() {
        let taken = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TE, HeaderValue::from_static(line));
            }
            are_taken(&headers)
        };
        assert!(taken(&["trailers"]) && taken(&["gzip", "deflate;q=0.5, Trailers"]));
        assert!(!taken(&[]) && !taken(&["gzip"]) && !taken(&["trailers;q=1x"]));
    }
}
