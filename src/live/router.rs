//! Which route a request takes. Traffic and `mamparo explain` share this matcher, so that they never
//! disagree.
//!
//! The path is matched as the client sent it, and the same bytes are forwarded: nothing is decoded, dot
//! segments stay, `%2F` is no slash, and letters keep their case. A route that guards `/admin` therefore
//! does not see `/x/../admin`; neither does an upstream that treats paths alike.
//!
//! Nothing here allocates, but for a query parameter that is percent-encoded *and* compared with an
//! expression, and for a host that is not written in small letters.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

use crate::plan::secret::{HIDDEN, is_secret};
use crate::plan::{HostPattern, Match, PathPattern, Route, ValuePattern};

/// What of a request decides its route.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The host that the request is for, with or without a port.
    pub host: Option<&'a str>,
    /// The method; methods are compared with their case.
    pub method: &'a str,
    /// The path as sent, without the query.
    pub path: &'a str,
    /// What follows the `?`, as sent.
    pub query: Option<&'a str>,
    /// The request's headers.
    pub headers: &'a HeaderMap,
}

/// The first condition of a route that a request does not meet.
#[derive(Debug, Clone, Copy)]
pub enum Mismatch<'a> {
    /// It is for another host, or for none.
    Host {
        /// What the route asks for.
        pattern: &'a HostPattern,
        /// What the request is for.
        found: Option<&'a str>,
    },
    /// It has another path.
    Path {
        /// What the route asks for.
        pattern: &'a PathPattern,
        /// The request's path.
        found: &'a str,
    },
    /// It has another method.
    Method {
        /// What the route asks for.
        methods: &'a [Arc<str>],
        /// The request's method.
        found: &'a str,
    },
    /// It is a CONNECT, and the route names neither its host nor that method.
    Connect,
    /// A header is absent, or none of its lines has the value.
    Header {
        /// The header's name.
        name: &'a str,
        /// What the route asks for.
        pattern: &'a ValuePattern,
        /// Whether the header is there at all.
        present: bool,
    },
    /// A query parameter is absent, or none of that name has the value.
    Query {
        /// The parameter's name.
        name: &'a str,
        /// What the route asks for.
        pattern: &'a ValuePattern,
        /// Whether the parameter is there at all.
        present: bool,
    },
}

/// The first route whose conditions all hold; its place in `routes`.
pub fn find(routes: &[Route], wanted: &Wanted<'_>) -> Option<usize> {
    routes
        .iter()
        .position(|route| why_not(&route.matcher, wanted).is_none())
}

/// The places of routes by the host that they ask for: of ten thousand routes for a thousand hosts, a
/// request looks at ten.
#[derive(Debug, Default)]
pub struct ByHost {
    /// Of the routes for one host, by that host.
    exact: HashMap<Arc<str>, Vec<usize>>,
    /// Of those for any host, or for all below one.
    others: Vec<usize>,
}

impl ByHost {
    /// The places of these routes.
    pub fn of(routes: &[Route]) -> Self {
        let mut places = Self::default();
        for (place, route) in routes.iter().enumerate() {
            match &route.matcher.host {
                Some(HostPattern::Exact(host)) => {
                    places
                        .exact
                        .entry(Arc::clone(host))
                        .or_default()
                        .push(place);
                }
                Some(HostPattern::Suffix(_)) | None => places.others.push(place),
            }
        }
        places
    }

    /// As [`find`], in the routes that these are the places of.
    pub fn find(&self, routes: &[Route], wanted: &Wanted<'_>) -> Option<usize> {
        let own = wanted.host.and_then(|host| self.exact.get(&*small(host)));
        let is_met = |place: &usize| {
            let route = routes.get(*place);
            route.is_some_and(|route| why_not(&route.matcher, wanted).is_none())
        };
        let own = own.and_then(|own| own.iter().copied().find(is_met));
        let others = self.others.iter().copied();
        let mut before = others.take_while(|place| own.is_none_or(|own| *place < own));
        before.find(is_met).or(own)
    }
}

/// The name of a host in small letters, as routes have it.
fn small(host: &str) -> Cow<'_, str> {
    let name = host_name(host);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// The first condition that does not hold, in the order host, path, methods, headers, query; `None`: the
/// request matches.
pub fn why_not<'a>(matcher: &'a Match, wanted: &Wanted<'a>) -> Option<Mismatch<'a>> {
    if let Some(pattern) = &matcher.host
        && !wanted.host.is_some_and(|host| host_matches(pattern, host))
    {
        let found = wanted.host;
        return Some(Mismatch::Host { pattern, found });
    }
    if !path_matches(&matcher.path, wanted.path) {
        let (pattern, found) = (&matcher.path, wanted.path);
        return Some(Mismatch::Path { pattern, found });
    }
    let methods = &matcher.methods;
    if !methods.is_empty() && !methods.iter().any(|method| **method == *wanted.method) {
        let found = wanted.method;
        return Some(Mismatch::Method { methods, found });
    }
    // What goes through its tunnel is not seen: a route for everything does not mean that.
    if methods.is_empty() && matcher.host.is_none() && wanted.method == "CONNECT" {
        return Some(Mismatch::Connect);
    }
    for (name, pattern) in &matcher.headers {
        let mut values = wanted.headers.get_all(&**name).iter();
        if !values.any(|value| value_matches(pattern, value.as_bytes())) {
            let present = wanted.headers.contains_key(&**name);
            return Some(Mismatch::Header {
                name,
                pattern,
                present,
            });
        }
    }
    for (name, pattern) in &matcher.query {
        if !values_of(wanted.query, name).any(|value| parameter_matches(pattern, value)) {
            let present = values_of(wanted.query, name).next().is_some();
            return Some(Mismatch::Query {
                name,
                pattern,
                present,
            });
        }
    }
    None
}

/// The path and query to send, where the route's `rewrite` changes the path; `None`: as they came.
///
/// The matched prefix is replaced by whole segments and the query is kept. However the two prefixes and
/// the request are written, no double slash comes about where they meet.
pub fn rewritten_path(route: &Route, path_and_query: &str) -> Option<String> {
    let replacement = route.rewrite.path_prefix.as_deref()?;
    let prefix = match &route.matcher.path {
        PathPattern::Any => "/",
        PathPattern::Prefix(prefix) => prefix,
        PathPattern::Exact(_) | PathPattern::Regex(_) => return None,
    };
    let (path, query) = match path_and_query.find('?') {
        Some(mark) => path_and_query.split_at(mark),
        None => (path_and_query, ""),
    };
    let rest = below(prefix, path)?;
    let base = replacement.trim_end_matches('/');
    let mut rewritten = String::with_capacity(base.len() + 1 + rest.len() + query.len());
    rewritten.push_str(base);
    if rest.starts_with('/') || base.is_empty() {
        rewritten.push('/');
        rewritten.push_str(rest.trim_start_matches('/'));
    }
    rewritten.push_str(query);
    Some(rewritten)
}

/// What of `path` follows `prefix`: empty, or with a slash at its beginning; `None`: it lies elsewhere.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    if prefix == "/" {
        return path.starts_with('/').then_some(path);
    }
    path.strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn path_matches(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Any => true,
        PathPattern::Exact(exact) => **exact == *path,
        PathPattern::Prefix(prefix) => below(prefix, path).is_some(),
        PathPattern::Regex(regex) => regex.is_match(path),
    }
}

fn host_matches(pattern: &HostPattern, host: &str) -> bool {
    let host = host_name(host).as_bytes();
    match pattern {
        HostPattern::Exact(exact) => host.eq_ignore_ascii_case(exact.as_bytes()),
        HostPattern::Suffix(suffix) => host
            .len()
            .checked_sub(suffix.len())
            .filter(|length| *length > 0)
            .is_some_and(|length| host[length..].eq_ignore_ascii_case(suffix.as_bytes())),
    }
}

/// The host without its port and without the dot that may end a full name. An IPv6 address keeps its
/// brackets.
fn host_name(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn value_matches(pattern: &ValuePattern, value: &[u8]) -> bool {
    match pattern {
        ValuePattern::Present => true,
        ValuePattern::Exact(exact) => exact.as_bytes() == value,
        ValuePattern::Regex(regex) => std::str::from_utf8(value).is_ok_and(|v| regex.is_match(v)),
    }
}

fn parameter_matches(pattern: &ValuePattern, value: &str) -> bool {
    match pattern {
        ValuePattern::Present => true,
        ValuePattern::Exact(exact) => is_decoded(value, exact),
        ValuePattern::Regex(_) if !is_encoded(value) => value_matches(pattern, value.as_bytes()),
        ValuePattern::Regex(_) => value_matches(pattern, &decoded(value).collect::<Vec<u8>>()),
    }
}

/// The values of the parameters of that name, still encoded; a parameter without `=` has an empty one.
fn values_of<'a>(query: Option<&'a str>, name: &str) -> impl Iterator<Item = &'a str> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(move |(found, _)| is_decoded(found, name))
        .map(|(_, value)| value)
}

/// Whether `encoded` stands for `plain`.
fn is_decoded(encoded: &str, plain: &str) -> bool {
    if is_encoded(encoded) {
        decoded(encoded).eq(plain.bytes())
    } else {
        encoded == plain
    }
}

fn is_encoded(text: &str) -> bool {
    text.bytes().any(|byte| byte == b'%' || byte == b'+')
}

/// The bytes that a part of a query stands for: `+` is a space, `%41` an `A`; a `%` without two hex
/// digits stands for itself.
fn decoded(encoded: &str) -> impl Iterator<Item = u8> {
    let mut rest = encoded.as_bytes();
    std::iter::from_fn(move || {
        let (byte, length) = match rest {
            [] => return None,
            [b'%', high, low, ..] => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                (Some(_) | None, _) => (b'%', 1),
            },
            [b'+', ..] => (b' ', 1),
            [byte, ..] => (*byte, 1),
        };
        rest = &rest[length..];
        Some(byte)
    })
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

impl fmt::Display for Mismatch<'_> {
    /// One clause, such as "host is `a`, not `b`".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { pattern, found } => match found {
                Some(found) => write!(f, "host is `{}`, not {}", host_name(found), host(pattern)),
                None => write!(
                    f,
                    "the request names no host, the route wants {}",
                    host(pattern)
                ),
            },
            Self::Path { pattern, found } => match pattern {
                PathPattern::Any => write!(f, "path `{found}` does not match"),
                PathPattern::Exact(exact) => write!(f, "path is `{found}`, not exactly `{exact}`"),
                PathPattern::Prefix(prefix) => {
                    write!(f, "path `{found}` is not `{prefix}` or below it")
                }
                PathPattern::Regex(regex) => {
                    write!(
                        f,
                        "path `{found}` is not matched whole by `{}`",
                        regex.as_str()
                    )
                }
            },
            Self::Method { methods, found } => {
                write!(f, "method is {found}, not {}", methods.join(" or "))
            }
            Self::Connect => f.write_str(
                "a CONNECT takes only a route that names its host, or CONNECT among its methods",
            ),
            Self::Header {
                name,
                pattern,
                present,
            } => value(f, "header", name, pattern, *present),
            Self::Query {
                name,
                pattern,
                present,
            } => value(f, "query parameter", name, pattern, *present),
        }
    }
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(exact) => format!("`{exact}`"),
        HostPattern::Suffix(suffix) => format!("`*{suffix}`"),
    }
}

fn value(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    name: &str,
    pattern: &ValuePattern,
    present: bool,
) -> fmt::Result {
    if !present {
        return write!(f, "{what} `{name}` is absent");
    }
    let shown = |text: &str| {
        if is_secret(name) {
            HIDDEN.to_owned()
        } else {
            format!("`{text}`")
        }
    };
    match pattern {
        ValuePattern::Present => write!(f, "{what} `{name}` does not match"),
        ValuePattern::Exact(exact) => write!(f, "{what} `{name}` is not {}", shown(exact)),
        ValuePattern::Regex(regex) => {
            write!(
                f,
                "{what} `{name}` is not matched whole by {}",
                shown(regex.as_str())
            )
        }
    }
}

#[cfg(test)]
mod tests;
