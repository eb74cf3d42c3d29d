//! What changes in a head on its way: hop-by-hop headers go in both directions, ours are set.

use std::time::Duration;

use http::header::{CONNECTION, EXPECT, Entry, HeaderMap, HeaderName, HeaderValue, VIA};
use smallvec::SmallVec;

use crate::telemetry::trace::{REQUEST_ID, TRACEPARENT, TRACESTATE, TraceContext};

/// Makes a POST or PATCH retryable.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Which try this is, to the upstream, from the second on.
pub const ATTEMPT: HeaderName = HeaderName::from_static("x-mamparo-attempt");
/// How many tries there were, to the client, if more than one.
pub const ATTEMPTS: HeaderName = HeaderName::from_static("x-mamparo-attempts");
/// What is left of the request's time, in milliseconds.
pub const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-mamparo-timeout-ms");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Headers that a request gets on its way, at most.
const ADDED: usize = 8;
const OUR_PREFIX: &str = "x-mamparo-";

/// Whether a header speaks of one connection only (RFC 9110 section 7.6.1, and common use). Framing is
/// hyper's: `transfer-encoding` is rebuilt by it.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "upgrade"
    )
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

/// Removes what concerns only the connection that the head came over.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have one of them or none: looking at each name once is less than looking each up.
    let found: SmallVec<[HeaderName; 2]> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name))
        .cloned()
        .collect();
    if found.is_empty() {
        return;
    }
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in found {
        headers.remove(name);
    }
}

/// The headers that `connection` names beside what it always says.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let words = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim));
    words
        .filter(|word| {
            !word.eq_ignore_ascii_case("keep-alive") && !word.eq_ignore_ascii_case("close")
        })
        .filter_map(|word| word.parse().ok())
        .filter(|name: &HeaderName| !NEVER_STRIPPED.contains(&name.as_str()))
        .collect()
}

/// What our headers on a request are made from.
#[derive(Debug)]
pub struct Onward<'a> {
    /// Whether the client's control headers are trusted.
    pub trusted: bool,
    /// The client's address, where it has one.
    pub forwarded_for: Option<&'a HeaderValue>,
    /// What takes the place of `host`.
    pub host: Option<&'a HeaderValue>,
    /// The request's id.
    pub request_id: &'a HeaderValue,
    /// The request's trace.
    pub trace: &'a TraceContext,
}

/// Makes the head of a request that came in into one that goes on. What differs between tries is set
/// by [`for_try`].
pub fn onward(headers: &mut HeaderMap, onward: &Onward<'_>) {
    strip_hop_by_hop(headers);
    // Room for all that follows at once.
    headers.reserve(ADDED);
    // Answered by ourselves as soon as the body is wanted.
    headers.remove(EXPECT);
    if !onward.trusted {
        remove_ours(headers);
    }
    if onward.trace.parent.is_none() {
        headers.remove(TRACESTATE);
    }
    if let Some(client) = onward.forwarded_for {
        append_to_list(headers, FORWARDED_FOR, client);
    }
    headers
        .entry(FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static("http"));
    if !headers.contains_key(FORWARDED_HOST)
        && let Some(host) = headers.get(http::header::HOST).cloned()
    {
        headers.insert(FORWARDED_HOST, host);
    }
    if let Some(host) = onward.host {
        headers.insert(http::header::HOST, host.clone());
    }
    append_to_list(headers, VIA, &HeaderValue::from_static("1.1 mamparo"));
    headers.insert(REQUEST_ID, onward.request_id.clone());
}

/// Sets what is new for each try (rules 6, 22).
pub fn for_try(headers: &mut HeaderMap, number: u32, trace: &TraceContext, left: Option<Duration>) {
    headers.insert(TRACEPARENT, trace.child());
    if number > 1 {
        headers.insert(ATTEMPT, HeaderValue::from(number));
    } else {
        headers.remove(ATTEMPT);
    }
    match left {
        Some(left) => {
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
            headers.insert(TIMEOUT_MS, HeaderValue::from(left));
        }
        None => {
            headers.remove(TIMEOUT_MS);
        }
    }
}

/// Makes the head of an upstream's answer into one that goes to the client.
pub fn back(headers: &mut HeaderMap, request_id: &HeaderValue, attempts: usize) {
    strip_hop_by_hop(headers);
    append_to_list(headers, VIA, &HeaderValue::from_static("1.1 mamparo"));
    headers.insert(REQUEST_ID, request_id.clone());
    if attempts > 1 {
        headers.insert(ATTEMPTS, HeaderValue::from(attempts));
    }
}

/// The time that a trusted client leaves us; it can only shorten ours.
pub fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(TIMEOUT_MS)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_millis)
}

/// For how long the upstream says that it keeps an idle connection (`keep-alive: timeout=5`).
pub fn keep_alive_of(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("timeout")
            .then(|| seconds.trim().parse().ok())?
    });
    seconds.map(Duration::from_secs)
}

fn remove_ours(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OUR_PREFIX))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

fn append_to_list(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(value.clone());
        }
        Entry::Occupied(mut entry) => {
            let list = entry.get();
            let mut joined = Vec::with_capacity(list.len() + 2 + value.len());
            joined.extend_from_slice(list.as_bytes());
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(value.as_bytes());
            if let Ok(joined) = HeaderValue::from_bytes(&joined) {
                *entry.get_mut() = joined;
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "c"),
            ("proxy-connection", "close"),
        ]);
        strip_hop_by_hop(&mut head);
        let mut left: Vec<_> = head.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "host", "x-stays"]);
    }

    #[test]
    fn rule_93_control_headers_of_the_untrusted_go() {
        let trace = TraceContext::begin();
        let id = HeaderValue::from_static("id");
        for trusted in [false, true] {
            let mut head = headers(&[("x-mamparo-timeout-ms", "5"), ("tracestate", "a=b")]);
            let to = Onward {
                trusted,
                forwarded_for: Some(&HeaderValue::from_static("10.0.0.1")),
                host: None,
                request_id: &id,
                trace: &trace,
            };
            onward(&mut head, &to);
            assert_eq!(head.contains_key(TIMEOUT_MS), trusted);
            assert!(
                !head.contains_key(TRACESTATE),
                "its traceparent was missing"
            );
            assert_eq!(head["x-forwarded-for"], "10.0.0.1");
            assert_eq!(head["x-request-id"], "id");
        }
    }

    #[test]
    fn lists_are_continued_and_the_first_host_and_scheme_are_kept() {
        let trace = TraceContext::begin();
        let id = HeaderValue::from_static("id");
        let mut head = headers(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("via", "1.0 fred"),
            ("host", "shop"),
        ]);
        let to = Onward {
            trusted: true,
            forwarded_for: Some(&HeaderValue::from_static("10.0.0.2")),
            host: Some(&HeaderValue::from_static("shop.prod")),
            request_id: &id,
            trace: &trace,
        };
        onward(&mut head, &to);
        assert_eq!(head["x-forwarded-for"], "10.0.0.1, 10.0.0.2");
        assert_eq!(head["x-forwarded-proto"], "https");
        assert_eq!(head["x-forwarded-host"], "shop");
        assert_eq!(head["host"], "shop.prod");
        assert_eq!(head["via"], "1.0 fred, 1.1 mamparo");
    }

    #[test]
    fn rule_22_each_try_has_its_own_span_and_number() {
        let trace = TraceContext::begin();
        let mut head = headers(&[("x-mamparo-attempt", "9")]);
        for_try(&mut head, 1, &trace, None);
        let first = head[TRACEPARENT].clone();
        assert!(!head.contains_key(ATTEMPT));
        assert!(!head.contains_key(TIMEOUT_MS));
        for_try(&mut head, 2, &trace, Some(Duration::from_micros(1_900)));
        assert_eq!(head[ATTEMPT], "2");
        assert_eq!(head[TIMEOUT_MS], "1");
        assert_ne!(head[TRACEPARENT], first);
        assert_eq!(head[TRACEPARENT].as_bytes()[..36], first.as_bytes()[..36]);
    }

    #[test]
    fn what_a_peer_says_of_time_is_read_or_passed_over() {
        assert_eq!(
            timeout_of(&headers(&[("x-mamparo-timeout-ms", "250")])),
            Some(Duration::from_millis(250))
        );
        assert_eq!(
            timeout_of(&headers(&[("x-mamparo-timeout-ms", "-1")])),
            None
        );
        assert_eq!(
            keep_alive_of(&headers(&[("keep-alive", "max=9, timeout=5")])),
            Some(Duration::from_secs(5))
        );
        assert_eq!(
            keep_alive_of(&headers(&[("keep-alive", "timeout=x")])),
            None
        );
    }
}
