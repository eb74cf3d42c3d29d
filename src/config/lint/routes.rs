//! Lints about routes: what no request reaches, and streams under a request timeout.

use std::sync::Arc;

use super::Found;
use crate::plan::timeline::shown;
use crate::plan::{HostPattern, Match, PathPattern, Route, Upstream, ValuePattern};

/// Words that tell of a stream. `events` is not among them: it names an ordinary collection as often.
const STREAMING: [&str; 8] = [
    "stream",
    "streams",
    "streaming",
    "sse",
    "eventsource",
    "watch",
    "longpoll",
    "longpolling",
];

/// An upstream that no route uses.
pub(super) fn unused(upstream: &Upstream) -> Found {
    Found {
        id: "upstream-unused",
        setting: String::new(),
        message: format!("no route leads to upstream `{}`", upstream.name),
        help: "remove it, or name it in a route",
    }
}

/// Routes that an earlier one of the same listener leaves nothing to, by their index.
pub(super) fn shadowed(routes: &[Route]) -> Vec<(usize, Found)> {
    let mut found = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let earlier = routes.iter().take(index).enumerate();
        let covers = |(_, earlier): &(usize, &Route)| is_within(&route.matcher, &earlier.matcher);
        if let Some((place, earlier)) = earlier.into_iter().find(covers) {
            let message = format!(
                "route `{}` is never reached: every request that it matches is taken by `{}`, routes[{place}], before it",
                route.name, earlier.name
            );
            found.push((
                index,
                Found {
                    id: "route-shadowed",
                    setting: String::new(),
                    message,
                    help: "move it before the other, or remove it",
                },
            ));
        }
    }
    found
}

/// Whether every request that `inner` matches is matched by `outer`. Between two different expressions it
/// is not decided, and answered with no.
fn is_within(inner: &Match, outer: &Match) -> bool {
    let methods = outer.methods.is_empty()
        || !inner.methods.is_empty()
            && inner
                .methods
                .iter()
                .all(|method| outer.methods.contains(method));
    methods
        && host_within(inner.host.as_ref(), outer.host.as_ref())
        && path_within(&inner.path, &outer.path)
        && values_within(&inner.headers, &outer.headers)
        && values_within(&inner.query, &outer.query)
}

fn host_within(inner: Option<&HostPattern>, outer: Option<&HostPattern>) -> bool {
    match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) | (Some(HostPattern::Suffix(_)), Some(HostPattern::Exact(_))) => false,
        (Some(HostPattern::Exact(inner)), Some(HostPattern::Exact(outer))) => inner == outer,
        (Some(HostPattern::Exact(inner)), Some(HostPattern::Suffix(outer))) => {
            inner.len() > outer.len() && inner.ends_with(&**outer)
        }
        (Some(HostPattern::Suffix(inner)), Some(HostPattern::Suffix(outer))) => {
            inner.ends_with(&**outer)
        }
    }
}

/// `path_prefix: /` leaves nothing but the target `*` to a route without a path: it counts as everything.
fn path_within(inner: &PathPattern, outer: &PathPattern) -> bool {
    let is_below = |path: &str, prefix: &str| {
        prefix == "/" && path.starts_with('/')
            || path
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match (inner, outer) {
        (_, PathPattern::Any) => true,
        (_, PathPattern::Prefix(outer)) if **outer == *"/" => true,
        (PathPattern::Exact(inner), PathPattern::Exact(outer)) => inner == outer,
        (PathPattern::Exact(inner) | PathPattern::Prefix(inner), PathPattern::Prefix(outer)) => {
            is_below(inner, outer)
        }
        (PathPattern::Exact(inner), PathPattern::Regex(outer)) => outer.is_match(inner),
        (PathPattern::Regex(inner), PathPattern::Regex(outer)) => inner.as_str() == outer.as_str(),
        (
            PathPattern::Any,
            PathPattern::Exact(_) | PathPattern::Prefix(_) | PathPattern::Regex(_),
        )
        | (PathPattern::Prefix(_), PathPattern::Exact(_) | PathPattern::Regex(_))
        | (PathPattern::Regex(_), PathPattern::Exact(_) | PathPattern::Prefix(_)) => false,
    }
}

/// Whether every condition of `outer` follows from one of `inner`.
fn values_within(inner: &[(Arc<str>, ValuePattern)], outer: &[(Arc<str>, ValuePattern)]) -> bool {
    outer.iter().all(|(name, outer)| {
        let mut same = inner.iter().filter(|(inner, _)| inner == name);
        same.any(|(_, inner)| value_within(inner, outer))
    })
}

fn value_within(inner: &ValuePattern, outer: &ValuePattern) -> bool {
    match (inner, outer) {
        (_, ValuePattern::Present) => true,
        (ValuePattern::Exact(inner), ValuePattern::Exact(outer)) => inner == outer,
        (ValuePattern::Exact(inner), ValuePattern::Regex(outer)) => outer.is_match(inner),
        (ValuePattern::Regex(inner), ValuePattern::Regex(outer)) => {
            inner.as_str() == outer.as_str()
        }
        (ValuePattern::Present, ValuePattern::Exact(_) | ValuePattern::Regex(_))
        | (ValuePattern::Regex(_), ValuePattern::Exact(_)) => false,
    }
}

/// Rule 7: a route that looks like a stream, under a request timeout. It looks like one where it asks for
/// `accept: text/event-stream`, or where its name or path has a word such as `stream`, `sse` or `watch`.
pub(super) fn streaming(route: &Route) -> Option<Found> {
    let request = route.policies.timeouts.request?;
    let sign = sign_of_a_stream(route)?;
    Some(Found {
        id: "request-timeout-on-stream",
        setting: "timeouts.request".into(),
        message: format!(
            "request timeout {} on a route that looks like a stream ({sign}): it ends a request whose answer begins later than that, and an upload that goes on longer",
            shown(request)
        ),
        help: "set `timeouts: { request: none }` on the route; `timeouts.idle` ends streams that are dead",
    })
}

fn sign_of_a_stream(route: &Route) -> Option<String> {
    for (name, pattern) in &route.matcher.headers {
        let wanted = match pattern {
            ValuePattern::Exact(value) => value.to_string(),
            ValuePattern::Regex(regex) => regex.as_str().replace('\\', ""),
            ValuePattern::Present => continue,
        };
        if **name == *"accept" && wanted.contains("text/event-stream") {
            return Some("it matches `accept: text/event-stream`".into());
        }
    }
    let path = match &route.matcher.path {
        PathPattern::Any => "",
        PathPattern::Exact(path) | PathPattern::Prefix(path) => path,
        PathPattern::Regex(regex) => regex.as_str(),
    };
    for (what, text) in [("name", &*route.name), ("path", path)] {
        let lower = text
            .to_ascii_lowercase()
            .replace("long-poll", "longpoll")
            .replace("long_poll", "longpoll");
        let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric());
        if let Some(word) = words.find(|word| STREAMING.contains(word)) {
            return Some(format!("its {what} has the word `{word}`"));
        }
    }
    None
}
