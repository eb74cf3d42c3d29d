//! Every effective setting that a request meets, with who set it.

use super::line;
use crate::config::secrets::shown;
use crate::config::{Effective, Entry};
use crate::plan::{Listener, Route};

/// The policies, which a route shows as its own, inherited or not.
const POLICIES: [&str; 6] = [
    "timeouts",
    "retry",
    "circuit_breaker",
    "bulkhead",
    "rate_limit",
    "fallback",
];

/// Values longer than this many characters do not push the others' origins away.
const WIDEST_VALUE: usize = 32;

pub(super) fn write(
    text: &mut String,
    effective: &Effective,
    listener: &Listener,
    index: usize,
    route: &Route,
) {
    let at_listener = format!("listeners.{}", listener.name);
    let at_route = format!("{at_listener}.routes[{index}]");
    let at_upstream = format!("upstreams.{}", route.upstream.name);
    let routes = format!("{at_listener}.routes");
    let listeners = effective
        .with_prefix(&at_listener)
        .filter(|(path, _)| !path.starts_with(&routes));
    block(
        text,
        &format!("settings of listener {}", listener.name),
        &at_listener,
        listeners,
    );
    let of_pool = format!("{at_route}.bulkhead.max_connections");
    let of_route = effective
        .with_prefix(&at_route)
        .filter(|(path, _)| *path != of_pool);
    block(
        text,
        &format!("settings of route {}", route.name),
        &at_route,
        of_route,
    );
    // A policy of the upstream holds for the route as the route shows it.
    let has_own = effective.with_prefix(&at_route).next().is_some();
    let of_upstream = effective
        .with_prefix(&at_upstream)
        .filter(|(path, _)| !(has_own && is_policy(path, &at_upstream)));
    block(
        text,
        &format!("settings of upstream {}", route.upstream.name),
        &at_upstream,
        of_upstream,
    );
}

fn is_policy(path: &str, at: &str) -> bool {
    let relative = path
        .strip_prefix(at)
        .unwrap_or(path)
        .trim_start_matches('.');
    let first = relative.split(['.', '[']).next().unwrap_or_default();
    // Connections belong to the upstream's pool, whatever the route.
    POLICIES.contains(&first) && relative != "bulkhead.max_connections"
}

fn block<'a>(
    text: &mut String,
    title: &str,
    at: &str,
    entries: impl Iterator<Item = (&'a str, &'a Entry)>,
) {
    let rows: Vec<(&str, String, String)> = entries
        .map(|(path, entry)| {
            let relative = path
                .strip_prefix(at)
                .unwrap_or(path)
                .trim_start_matches('.');
            (
                relative,
                shown(path, &entry.value).into_owned(),
                entry.origin.to_string(),
            )
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    line(text, format_args!("\n  {title}"));
    let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let name = widest(&mut rows.iter().map(|(name, _, _)| name.len()));
    let lengths = rows.iter().map(|(_, value, _)| value.chars().count());
    let value = widest(&mut lengths.filter(|length| *length <= WIDEST_VALUE));
    for (key, content, origin) in &rows {
        line(
            text,
            format_args!("    {key:name$}  {content:value$}  {origin}"),
        );
    }
}
