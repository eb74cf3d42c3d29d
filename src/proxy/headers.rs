//! What changes in a head on its way: hop-by-hop headers go in both directions, ours are set.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE, VIA,
};

use crate::live::http1::decimal::Decimal;
use crate::live::request_head::Line;
use crate::live::{hop_by_hop, trailers};
use crate::telemetry::trace::{REQUEST_ID, TRACEPARENT, TRACESTATE, TraceContext};

/// Which try this is, to the upstream, from the second on.
pub const ATTEMPT: HeaderName = HeaderName::from_static("x-mamparo-attempt");
/// How many tries there were, to the client, if more than one.
pub const ATTEMPTS: HeaderName = HeaderName::from_static("x-mamparo-attempts");
/// What is left of the request's time, in milliseconds.
pub const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-mamparo-timeout-ms");
/// From a client that is trusted: it wants to know what becomes of the request. For us alone.
const EXPLAIN: HeaderName = HeaderName::from_static("x-mamparo-explain");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Headers that a request gets on its way: room for them.
const ADDED: usize = 8;
const OUR_PREFIX: &str = "x-mamparo-";

/// Which of a request's headers are there that matter on its way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    /// `idempotency-key`, which makes a POST or PATCH retryable.
    pub idempotency_key: bool,
    /// `max-forwards`, which counts hops.
    pub max_forwards: bool,
    /// `expect`, which ends here unless it is passed on.
    pub expect: bool,
    /// `upgrade`
    pub upgrade: bool,
    /// `via`
    pub via: bool,
    /// `host`, or a target that names one.
    pub host: bool,
    hop_by_hop: bool,
    request_id: bool,
    traceparent: bool,
    tracestate: bool,
    forwarded_for: bool,
    forwarded_proto: bool,
    forwarded_host: bool,
    ours: bool,
}

impl Found {
    /// This one is there.
    pub fn note(&mut self, name: &HeaderName) {
        match name.as_str() {
            "idempotency-key" => self.idempotency_key = true,
            "expect" => self.expect = true,
            "via" => self.via = true,
            "upgrade" => {
                self.upgrade = true;
                self.hop_by_hop = true;
            }
            "max-forwards" => self.max_forwards = true,
            "x-request-id" => self.request_id = true,
            "traceparent" => self.traceparent = true,
            "tracestate" => self.tracestate = true,
            "x-forwarded-for" => self.forwarded_for = true,
            "x-forwarded-proto" => self.forwarded_proto = true,
            "x-forwarded-host" => self.forwarded_host = true,
            other if other.starts_with(OUR_PREFIX) => self.ours = true,
            _ => self.hop_by_hop |= hop_by_hop::is_one(name),
        }
    }
}

/// What our headers on a request are made from.
#[derive(Debug)]
pub struct Onward<'a> {
    /// Whether the client's control headers are trusted.
    pub trusted: bool,
    /// The client's address, where it has one.
    pub forwarded_for: Option<&'a HeaderValue>,
    /// How the client's URL begins, for `x-forwarded-proto`.
    pub scheme: &'static str,
    /// What of the client's headers has to be changed.
    pub found: Found,
    /// The protocols that the client asks to switch to, where it may.
    pub upgrade: Option<&'a HeaderValue>,
    /// What takes the place of `host`.
    pub host: Option<&'a HeaderValue>,
    /// Ourselves, for `via`.
    pub via: &'a HeaderValue,
    /// The request's id.
    pub request_id: &'a HeaderValue,
    /// The request's trace.
    pub trace: &'a TraceContext,
}

/// Makes the head of a request that came in into one that goes on, and gives our own lines that belong
/// to it. What differs between tries is set by [`for_try`].
pub fn onward(headers: &mut HeaderMap, onward: &Onward<'_>) -> Vec<Line> {
    let found = onward.found;
    let mut ours = Vec::with_capacity(ADDED);
    if found.hop_by_hop {
        // Trailers are taken by whoever asked, and passed on by us.
        let trailers = trailers::are_taken(headers);
        hop_by_hop::strip(headers);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            // It speaks of our connection now.
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    if let Some(upgrade) = onward.upgrade {
        ask_for(headers, upgrade);
    }
    if found.expect {
        headers.remove(EXPECT);
    }
    if found.ours && onward.trusted {
        // These two are our own word to the upstream, see [`for_try`].
        headers.remove(ATTEMPT);
        headers.remove(TIMEOUT_MS);
        headers.remove(EXPLAIN);
    } else if found.ours {
        remove_ours(headers);
    }
    if found.tracestate && onward.trace.parent.is_none() {
        headers.remove(TRACESTATE);
    }
    if let Some(client) = onward.forwarded_for {
        match found_before(headers, found.forwarded_for, &FORWARDED_FOR) {
            Some(list) => join(list, client),
            None => ours.push((FORWARDED_FOR, client.clone())),
        }
    }
    if !found.forwarded_proto {
        let scheme = match onward.scheme {
            "https" => const { HeaderValue::from_static("https") },
            _ => const { HeaderValue::from_static("http") },
        };
        ours.push((FORWARDED_PROTO, scheme));
    }
    if !found.forwarded_host
        && let Some(asked) = headers.get(HOST)
    {
        ours.push((FORWARDED_HOST, asked.clone()));
    }
    if let Some(host) = onward.host {
        headers.insert(HOST, host.clone());
    }
    match found_before(headers, found.via, &VIA) {
        Some(list) => join(list, onward.via),
        None => ours.push((VIA, onward.via.clone())),
    }
    if found.request_id {
        headers.remove(REQUEST_ID);
    }
    ours.push((REQUEST_ID, onward.request_id.clone()));
    if found.traceparent {
        headers.remove(TRACEPARENT);
    }
    ours
}

/// Adds what is new for each try (rules 6, 22).
pub fn for_try(
    ours: &mut Vec<Line>,
    number: u32,
    traceparent: HeaderValue,
    left: Option<Duration>,
) {
    ours.push((TRACEPARENT, traceparent));
    if number > 1 {
        ours.push((ATTEMPT, HeaderValue::from(number)));
    }
    if let Some(left) = left {
        ours.push((TIMEOUT_MS, milliseconds(left)));
    }
}

thread_local! {
    /// The time that was told last, in milliseconds. Mostly the next is the same: all that the route
    /// allows, but for the first millisecond.
    static LAST_TOLD: RefCell<(u64, HeaderValue)> =
        const { RefCell::new((0, HeaderValue::from_static("0"))) };
}

/// A time as a header's value, in whole milliseconds; at least one.
fn milliseconds(time: Duration) -> HeaderValue {
    let number = time.as_secs().saturating_mul(1000) + u64::from(time.subsec_millis());
    let number = number.max(1);
    LAST_TOLD.with_borrow_mut(|(last, value)| {
        if *last != number {
            (*last, *value) = (number, decimal(number));
        }
        value.clone()
    })
}

/// Makes the head of an upstream's answer into one that goes to the client.
pub fn back(
    headers: &mut HeaderMap,
    via: Option<&HeaderValue>,
    request_id: &HeaderValue,
    attempts: usize,
) {
    hop_by_hop::strip(headers);
    if let Some(via) = via {
        let is_there = headers.keys().any(|name| *name == VIA);
        match found_before(headers, is_there, &VIA) {
            Some(list) => join(list, via),
            None => _ = headers.insert(VIA, via.clone()),
        }
    }
    headers.insert(REQUEST_ID, request_id.clone());
    tell_attempts(headers, attempts);
}

/// Tells the client how many tries there were, if more than one.
pub fn tell_attempts(headers: &mut HeaderMap, attempts: usize) {
    if attempts > 1 {
        headers.insert(ATTEMPTS, HeaderValue::from(attempts));
    }
}

/// Puts `upgrade` with these protocols into a head that has no hop-by-hop headers any more.
pub fn ask_for(headers: &mut HeaderMap, protocols: &HeaderValue) {
    headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocols.clone());
}

/// The time that a trusted client leaves us; it can only shorten ours.
pub fn timeout_of(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_millis)
}

/// For how long the upstream says that it keeps an idle connection (`keep-alive: timeout=5`).
pub fn keep_alive_of(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("timeout")
            .then(|| seconds.trim().parse().ok())?
    });
    seconds.map(Duration::from_secs)
}

/// A number as a header's value. The value's own conversion allocates twice.
fn decimal(number: u64) -> HeaderValue {
    let digits = Bytes::from_owner(Decimal::new(number));
    HeaderValue::from_maybe_shared(digits).unwrap_or_else(|_| HeaderValue::from_static("0"))
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

/// The header of that name, looked up only where it was found before.
fn found_before<'a>(
    headers: &'a mut HeaderMap,
    found: bool,
    name: &HeaderName,
) -> Option<&'a mut HeaderValue> {
    if found { headers.get_mut(name) } else { None }
}

/// Puts a value behind those of a list.
fn join(list: &mut HeaderValue, value: &HeaderValue) {
    let joined = [list.as_bytes(), b", ", value.as_bytes()].concat();
    if let Ok(joined) = joined.try_into() {
        *list = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::trace::span;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    /// What goes on of these headers, with ours.
    fn sent(mut headers: HeaderMap, to: &Onward<'_>) -> HeaderMap {
        let ours = onward(&mut headers, to);
        headers.extend(ours);
        headers
    }

    /// Our lines of one try.
    fn of_try(number: u32, trace: &TraceContext, left: Option<Duration>) -> HeaderMap {
        let mut ours = Vec::new();
        for_try(&mut ours, number, trace.header(span()), left);
        ours.into_iter().collect()
    }

    fn found(headers: &HeaderMap) -> Found {
        let mut found = Found::default();
        headers.keys().for_each(|name| found.note(name));
        found
    }

    #[test]
    fn rule_93_control_headers_of_the_untrusted_go() {
        let trace = TraceContext::begin();
        let id = HeaderValue::from_static("id");
        for trusted in [false, true] {
            let head = headers(&[
                ("x-mamparo-timeout-ms", "5"),
                ("x-mamparo-explain", "1"),
                ("x-mamparo-other", "1"),
                ("x-mamparo-attempt", "9"),
                ("tracestate", "a=b"),
            ]);
            let to = Onward {
                trusted,
                upgrade: None,
                via: &HeaderValue::from_static("1.1 mamparo"),
                forwarded_for: Some(&HeaderValue::from_static("10.0.0.1")),
                scheme: "http",
                found: found(&head),
                host: None,
                request_id: &id,
                trace: &trace,
            };
            let head = sent(head, &to);
            assert!(!head.contains_key("x-mamparo-explain"), "for us alone");
            assert_eq!(head.contains_key("x-mamparo-other"), trusted);
            assert!(!head.contains_key(ATTEMPT), "our own word");
            assert!(!head.contains_key(TIMEOUT_MS), "our own word");
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
        let head = headers(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("via", "1.0 fred"),
            ("host", "shop"),
        ]);
        let to = Onward {
            trusted: true,
            upgrade: None,
            via: &HeaderValue::from_static("1.1 mamparo"),
            forwarded_for: Some(&HeaderValue::from_static("10.0.0.2")),
            scheme: "http",
            found: found(&head),
            host: Some(&HeaderValue::from_static("shop.prod")),
            request_id: &id,
            trace: &trace,
        };
        let head = sent(head, &to);
        assert_eq!(head["x-forwarded-for"], "10.0.0.1, 10.0.0.2");
        assert_eq!(head["x-forwarded-proto"], "https");
        assert_eq!(head["x-forwarded-host"], "shop");
        assert_eq!(head["host"], "shop.prod");
        assert_eq!(head["via"], "1.0 fred, 1.1 mamparo");
    }

    #[test]
    fn rule_22_each_try_has_its_own_span_and_number() {
        let trace = TraceContext::begin();
        let first = of_try(1, &trace, None);
        assert!(!first.contains_key(ATTEMPT));
        assert!(!first.contains_key(TIMEOUT_MS));
        let second = of_try(2, &trace, Some(Duration::from_micros(1_900)));
        assert_eq!(second[ATTEMPT], "2");
        assert_eq!(second[TIMEOUT_MS], "1");
        let (first, second) = (&first[TRACEPARENT], &second[TRACEPARENT]);
        assert_ne!(first, second);
        assert_eq!(first.as_bytes()[..36], second.as_bytes()[..36]);
    }

    #[test]
    fn a_number_is_written_with_all_its_digits() {
        for number in [0, 7, 10, 14_999, u64::MAX] {
            assert_eq!(decimal(number), number.to_string());
        }
    }

    #[test]
    fn what_a_peer_says_of_time_is_read_or_passed_over() {
        assert_eq!(
            timeout_of(&HeaderValue::from_static("250")),
            Some(Duration::from_millis(250))
        );
        assert_eq!(timeout_of(&HeaderValue::from_static("-1")), None);
        assert_eq!(
            keep_alive_of(&HeaderValue::from_static("max=9, timeout=5")),
            Some(Duration::from_secs(5))
        );
        assert_eq!(keep_alive_of(&HeaderValue::from_static("timeout=x")), None);
    }
}
