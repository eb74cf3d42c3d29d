//! What a parsed request may not be (RFC 9110, RFC 9112): the checks that guard against a request
//! that two parties read differently.
//!
//! Not everything can be seen here: the parser takes bare line feeds and drops tabs around values, and a
//! fragment is cut off a target. The server looks for those in the bytes (`server/http1/head.rs`). What is
//! checked here is what needs the parsed head, and the lengths once more, so that no other way in can miss
//! them.

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, Version, response};

use super::fields::Fields;
use crate::live::received::ReceiveError;
use crate::policy::outcome::Reason;

/// Why a request is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What the answer's status is, where the reason has several.
    pub status: Option<StatusCode>,
    /// A sentence for the client.
    pub sentence: &'static str,
}

/// Whether the request may be forwarded whose headers say that. No allocation.
///
/// To a forward proxy a client says in the target where the request goes: the target's host is the one
/// that counts, and CONNECT asks for a tunnel. Elsewhere both are suspicious.
///
/// # Errors
/// What the client is told, with the reason `bad_request`; the connection must be closed after it.
pub fn check(parts: &Parts, fields: &Fields<'_>, is_forward_proxy: bool) -> Result<(), Refusal> {
    if let Some(wrong) = fields.wrong {
        return Err(wrong);
    }
    if fields.chunked {
        if fields.length.is_some() {
            return refuse("Both content-length and transfer-encoding are given.");
        }
        if parts.version < Version::HTTP_11 {
            return refuse("HTTP/1.0 has no transfer-encoding.");
        }
    }
    match fields.host {
        Some(host) if host.is_empty() => return refuse("The host header is empty."),
        Some(host) if !is_authority(host.as_bytes()) => {
            return refuse("The host header is not a host name or address with an optional port.");
        }
        Some(_) => {}
        // In HTTP/2 the target names the host, and the header is not needed.
        None if parts.version == Version::HTTP_2 && parts.uri.authority().is_some() => {}
        None if parts.version >= Version::HTTP_11 => return refuse("The host header is missing."),
        None => {}
    }
    if parts.method == Method::CONNECT {
        check_connect(parts, fields, is_forward_proxy)
    } else {
        // In HTTP/2 the host has but one place.
        let wins = is_forward_proxy && parts.version <= Version::HTTP_11;
        check_target(&parts.method, &parts.uri, fields.host, wins)
    }
}

/// Digits of a length that no body has.
const MAX_DIGITS: usize = 19;

/// What an answer's headers say of its connection.
#[derive(Debug, Default)]
pub struct AnswerFields<'a> {
    /// Its `keep-alive`.
    pub keep_alive: Option<&'a HeaderValue>,
}

/// Whether an upstream's answer has framing that everybody reads in the same way. The parser passes
/// over what is checked here.
///
/// # Errors
/// What is wrong with it; the connection that it came over must not be used again.
pub fn check_answer(head: &response::Parts) -> Result<AnswerFields<'_>, &'static str> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("status 101, but no change of protocol was asked for");
    }
    let mut fields = AnswerFields::default();
    let (mut chunked, mut length) = (false, false);
    for (name, value) in &head.headers {
        match name.as_str() {
            // We announce no other with `te`, so the upstream must not use one.
            "transfer-encoding" => {
                if head.version < Version::HTTP_11 {
                    return Err("a transfer-encoding, which HTTP/1.0 does not have");
                }
                if chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err("a transfer-encoding that is not exactly \"chunked\"");
                }
                chunked = true;
            }
            "content-length" => {
                if length {
                    return Err("more than one content-length");
                }
                if value.is_empty() || !value.as_bytes().iter().all(u8::is_ascii_digit) {
                    return Err("a content-length that is not a number");
                }
                // The parser looks at it only where a body follows, and not after HEAD.
                if value.len() >= MAX_DIGITS {
                    return Err("a content-length that is too large");
                }
                length = true;
            }
            "keep-alive" => _ = fields.keep_alive.get_or_insert(value),
            _ => {}
        }
    }
    if chunked && length {
        return Err("both content-length and transfer-encoding");
    }
    Ok(fields)
}

/// Why an answer's body broke off, from the error that reading it gave: malformed framing, or the
/// connection's end.
pub fn broken_answer(error: &ReceiveError) -> Reason {
    if error.is_malformed() {
        Reason::ProtocolError
    } else {
        Reason::Reset
    }
}

pub(super) fn host<'a>(fields: &mut Fields<'a>, value: &'a HeaderValue) -> Result<(), Refusal> {
    match fields.host.replace(value) {
        Some(_) => refuse("The host header is given more than once."),
        None => Ok(()),
    }
}

pub(super) fn content_length(fields: &mut Fields<'_>, value: &HeaderValue) -> Result<(), Refusal> {
    if fields.length.is_some() {
        return refuse("The content-length is given more than once.");
    }
    let digits = value.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return refuse("The content-length is not a number.");
    }
    let number = value.to_str().ok().and_then(|number| number.parse().ok());
    fields.length = Some(number.unwrap_or(u64::MAX));
    Ok(())
}

pub(super) fn transfer_encoding(
    fields: &mut Fields<'_>,
    value: &HeaderValue,
) -> Result<(), Refusal> {
    if fields.chunked || value.as_bytes() != b"chunked" {
        return refuse("The transfer-encoding is not exactly \"chunked\".");
    }
    fields.chunked = true;
    Ok(())
}

pub(super) fn expect(version: Version, value: &HeaderValue) -> Result<(), Refusal> {
    let known = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !known && version >= Version::HTTP_11 {
        return Err(Refusal {
            status: Some(StatusCode::EXPECTATION_FAILED),
            sentence: "The expectation is unknown: only 100-continue is met.",
        });
    }
    Ok(())
}

fn check_connect(
    parts: &Parts,
    fields: &Fields<'_>,
    is_forward_proxy: bool,
) -> Result<(), Refusal> {
    if !is_forward_proxy {
        return Err(Refusal {
            status: Some(StatusCode::METHOD_NOT_ALLOWED),
            sentence: "CONNECT is not offered here.",
        });
    }
    let target = parts.uri.authority().map(|authority| authority.as_str());
    let named = parts.uri.scheme().is_none()
        && parts.uri.port_u16().is_some_and(|port| port > 0)
        && target.is_some_and(|target| is_authority(target.as_bytes()));
    if !named {
        return refuse("The target of CONNECT is not a host with a port.");
    }
    if fields.chunked || fields.length.is_some_and(|length| length > 0) {
        return refuse("CONNECT has no body.");
    }
    Ok(())
}

fn check_target(
    method: &Method,
    uri: &Uri,
    host: Option<&HeaderValue>,
    target_wins: bool,
) -> Result<(), Refusal> {
    match uri.path().as_bytes() {
        [b'/', ..] => {}
        b"*" if method == Method::OPTIONS => {}
        b"*" => return refuse("The target * is for OPTIONS only."),
        _ => return refuse("The target is not a path, nor a whole URL, nor *."),
    }
    let Some(authority) = uri.authority() else {
        return Ok(());
    };
    let default_port = match uri.scheme_str() {
        Some("http") => ":80",
        Some("https") => ":443",
        Some(_) => return refuse("The target's scheme is neither http nor https."),
        None => return refuse("The target is not a path, nor a whole URL, nor *."),
    };
    let authority = authority.as_str();
    if !is_authority(authority.as_bytes()) {
        return refuse("The target's authority is not a host with an optional port.");
    }
    let Some(host) = host.filter(|_| !target_wins) else {
        return Ok(());
    };
    let bare = |name: &'_ [u8]| {
        let port = default_port.as_bytes();
        name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase()
    };
    if bare(host.as_bytes()) == bare(authority.as_bytes()) {
        Ok(())
    } else {
        refuse("The target and the host header name different hosts.")
    }
}

/// Whether it is a host name, an IPv4 address or an IPv6 address in brackets, with an optional port.
/// Neither userinfo nor a path.
fn is_authority(text: &[u8]) -> bool {
    let (host, rest) = if text.first() == Some(&b'[') {
        let Some(end) = text.iter().position(|byte| *byte == b']') else {
            return false;
        };
        let inside = &text[1..end];
        let hex = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        if !inside.iter().all(hex) {
            return false;
        }
        (inside, &text[end + 1..])
    } else {
        let end = text.iter().position(|byte| !is_host_byte(*byte));
        text.split_at(end.unwrap_or(text.len()))
    };
    let port = match rest {
        [] => &[],
        [b':', port @ ..] => port,
        _ => return false,
    };
    !host.is_empty() && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

fn is_host_byte(byte: u8) -> bool {
    HOST_BYTES[usize::from(byte)]
}

/// What the name of a host may consist of, by byte: each request's is looked at.
static HOST_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let other = matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        );
        bytes[byte as usize] = other || byte.is_ascii_alphanumeric();
        byte += 1;
    }
    bytes
};

const fn refuse<T>(sentence: &'static str) -> Result<T, Refusal> {
    Err(Refusal {
        status: None,
        sentence,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn check(parts: &Parts, is_forward_proxy: bool) -> Result<(), Refusal> {
        super::check(parts, &Fields::read(parts), is_forward_proxy)
    }

    fn verdict(build: http::request::Builder) -> Option<&'static str> {
        let (parts, ()) = build.body(()).expect("a request").into_parts();
        check(&parts, false).err().map(|refusal| refusal.sentence)
    }

    fn get(uri: &str, headers: &[(&str, &str)]) -> Option<&'static str> {
        let request = Request::builder().uri(uri);
        verdict(headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        }))
    }

    #[test]
    fn what_is_well_formed_passes() {
        for host in ["a", "a.b:8080", "127.0.0.1:1", "[::1]", "[::1]:80", "a_b"] {
            assert_eq!(get("/x?y=z", &[("host", host)]), None, "{host}");
        }
        assert_eq!(get("http://a/x", &[("host", "A:80")]), None);
        assert_eq!(
            get(
                "/",
                &[
                    ("host", "a"),
                    ("expect", "100-Continue"),
                    ("content-length", "3")
                ]
            ),
            None
        );
        let options = Request::builder().method("OPTIONS").uri("*");
        assert_eq!(verdict(options.header("host", "a")), None);
        assert_eq!(verdict(Request::builder().version(Version::HTTP_10)), None);
    }

    #[test]
    fn fault_015_hosts_and_targets_that_can_be_read_two_ways_are_refused() {
        for host in [
            "", "a@b", "a/b", "a b", "a,b", "a:b", "a:123456", "[::1", "[x]", ":80", "a:1:2",
        ] {
            assert!(get("/", &[("host", host)]).is_some(), "{host}");
        }
        assert!(get("/", &[]).is_some());
        assert!(get("/", &[("host", "a"), ("host", "a")]).is_some());
        assert!(get("*", &[("host", "a")]).is_some());
        assert!(get("http://b/", &[("host", "a")]).is_some());
        assert!(get("http://u@a/", &[("host", "a")]).is_some());
        assert!(get("ftp://a/", &[("host", "a")]).is_some());
        assert!(get("a:80", &[("host", "a:80")]).is_some());
    }

    #[test]
    fn fault_001_to_005_lengths_that_can_be_read_two_ways_are_refused() {
        let with = |headers: &[(&str, &str)]| {
            let mut all = vec![("host", "a")];
            all.extend(headers);
            get("/", &all)
        };
        assert!(with(&[("content-length", "1"), ("transfer-encoding", "chunked")]).is_some());
        assert!(with(&[("content-length", "1"), ("content-length", "1")]).is_some());
        for length in ["+1", "0x1", "1, 1", "", "-1"] {
            assert!(with(&[("content-length", length)]).is_some(), "{length}");
        }
        for coding in [
            "xchunked",
            "Chunked",
            "gzip, chunked",
            "chunked, identity",
            "",
        ] {
            assert!(with(&[("transfer-encoding", coding)]).is_some(), "{coding}");
        }
        assert!(
            with(&[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked")
            ])
            .is_some()
        );
        let old = Request::builder().version(Version::HTTP_10);
        assert!(verdict(old.header("transfer-encoding", "chunked")).is_some());
    }

    #[test]
    fn fault_015_what_the_target_says_wins_in_a_forward_proxy_alone() {
        let request = Request::builder().uri("http://b/").header("host", "a");
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        assert!(check(&parts, true).is_ok());
        assert!(check(&parts, false).is_err());
    }

    #[test]
    fn fault_016_connect_names_a_host_and_a_port_where_it_is_offered() {
        let connect = |target: &str, headers: &[(&str, &str)]| {
            let request = Request::builder()
                .method("CONNECT")
                .uri(target)
                .header("host", "a");
            let request = headers.iter().fold(request, |request, (name, value)| {
                request.header(*name, *value)
            });
            request.body(()).expect("a request").into_parts().0
        };
        for fine in ["a:443", "[::1]:80", "10.0.0.1:1"] {
            assert!(check(&connect(fine, &[]), true).is_ok(), "{fine}");
            let refused = check(&connect(fine, &[]), false).expect_err("not here");
            assert_eq!(refused.status, Some(StatusCode::METHOD_NOT_ALLOWED));
        }
        for bad in ["a", "http://a:80/", "u@a:80", "/", "a:0"] {
            let refused = check(&connect(bad, &[]), true).expect_err(bad);
            assert_eq!(refused.status, None);
        }
        let body = [("content-length", "3")];
        assert!(check(&connect("a:80", &body), true).is_err());
    }

    #[test]
    fn fault_016_and_022_connect_and_unknown_expectations_are_refused() {
        let connect = Request::builder().method("CONNECT").uri("a:80");
        assert!(verdict(connect.header("host", "a:80")).is_some());
        assert!(get("/", &[("host", "a"), ("expect", "200-ok")]).is_some());
    }

    #[test]
    fn fault_025_answers_that_can_be_read_two_ways_are_no_answers() {
        let verdict = |status: u16, headers: &[(&str, &str)]| {
            let answer = headers.iter().fold(
                http::Response::builder().status(status),
                |answer, (k, v)| answer.header(*k, *v),
            );
            let (head, ()) = answer.body(()).expect("an answer").into_parts();
            check_answer(&head).map(drop)
        };
        for fine in [
            &[][..],
            &[("content-length", "5")],
            &[("transfer-encoding", "chunked")],
        ] {
            assert_eq!(verdict(200, fine), Ok(()), "{fine:?}");
        }
        for bad in [
            &[("content-length", "5"), ("content-length", "5")][..],
            &[("content-length", "5, 5")],
            &[("content-length", "+5")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "xchunked")],
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
        ] {
            assert!(verdict(200, bad).is_err(), "{bad:?}");
            assert!(verdict(304, bad).is_err(), "{bad:?}");
        }
        assert!(verdict(101, &[("upgrade", "h2c")]).is_err());
    }
}
