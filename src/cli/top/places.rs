//! Below an upstream: its endpoints, and the names that stand for them.

use serde_json::Value;

use super::table::{Line, Shade};
use super::view::{items, text};
use super::words::{clock, number};
use crate::server::status::words::{duration, short};

/// Endpoints of an upstream that are shown where all is well with them.
const FEW: usize = 6;

/// The names of an upstream that cannot be found.
pub(super) fn sources(upstream: &Value) -> impl Iterator<Item = Line> {
    let failing = items(&upstream["sources"]).filter(|source| source["problem"].is_string());
    failing.map(|source| {
        let answered = match source["answered_at"].is_string() {
            true => format!("; answered last at {}", clock(&source["answered_at"])),
            false => "; never answered".to_owned(),
        };
        let next = source["next_ms"].as_f64();
        let next = next.map_or(String::new(), |ms| {
            format!("; asked again in {}", duration(ms))
        });
        Line::of(Shade::Quiet, format!("    {}", text(&source["name"])))
            .and(Shade::Warn, "  ▲ not found")
            .and(
                Shade::Normal,
                format!("  {}{answered}{next}", text(&source["problem"])),
            )
    })
}

/// The endpoints that say something: all of a few, of many those that are in trouble. With each whether it is.
pub(super) fn endpoints(upstream: &Value) -> Vec<(bool, Line)> {
    let all: Vec<_> = items(&upstream["endpoints"]).collect();
    let is_in_trouble = |endpoint: &Value| {
        endpoint["state"] != "closed"
            || !endpoint["forced"].is_null()
            || endpoint["reason"].is_string()
            || is_unhealthy(endpoint)
    };
    let shown = all
        .iter()
        .filter(|one| all.len() <= FEW || is_in_trouble(one));
    let shown: Vec<_> = shown.collect();
    let widest = shown
        .iter()
        .map(|one| text(&one["address"]).chars().count());
    let column = 6 + widest.max().unwrap_or(0);
    let lines = shown
        .iter()
        .map(|one| (is_in_trouble(one), endpoint(one, column)));
    let mut lines: Vec<_> = lines.collect();
    if shown.len() < all.len() {
        let more = all.len() - shown.len();
        let line = Line::of(Shade::Quiet, format!("    and {more} more, all closed"));
        lines.push((false, line));
    }
    lines
}

fn endpoint(endpoint: &Value, column: usize) -> Line {
    let state = text(&endpoint["state"]);
    let has_breaker = !endpoint["window"].is_null();
    let (sign, shade, word) = match (state, has_breaker) {
        ("open", _) => ('✕', Shade::Bad, "open"),
        (_, _) if is_unhealthy(endpoint) => ('✕', Shade::Bad, "unhealthy"),
        ("half_open", _) => ('◐', Shade::Warn, "half-open"),
        (_, true) => ('●', Shade::Good, "closed"),
        (_, false) => match endpoint["health"]["state"].as_str() {
            Some("healthy") => ('●', Shade::Good, "healthy"),
            Some(_) | None => ('○', Shade::Quiet, "no breaker"),
        },
    };
    let mut parts = Vec::new();
    match (endpoint["forced"].as_str(), endpoint["reason"].as_str()) {
        (Some(to), _) => parts.push(format!("held {to} by an operator")),
        (None, Some(reason)) => parts.push(reason.to_owned()),
        (None, None) => {}
    }
    if endpoint["since"].is_string() {
        parts.push(format!("since {}", clock(&endpoint["since"])));
    }
    let next = endpoint["next_probe_ms"].as_f64();
    parts.extend(next.map(|ms| format!("next probe in {}", duration(ms))));
    if is_unhealthy(endpoint) {
        let reason = endpoint["health"]["reason"].as_str();
        parts.push(reason.unwrap_or("its health check fails").to_owned());
    }
    if endpoint["draining"] == true {
        parts.push("draining".to_owned());
    }
    let window = &endpoint["window"];
    if number(&window["total"]) > 0.0 {
        let (failures, total) = (number(&window["failures"]), number(&window["total"]));
        parts.push(format!("{} of {} failed", short(failures), short(total)));
    }
    if number(&endpoint["in_flight"]) > 0.0 {
        parts.push(format!(
            "{} in flight",
            short(number(&endpoint["in_flight"]))
        ));
    }
    Line::of(Shade::Quiet, format!("    {}", text(&endpoint["address"])))
        .to(column)
        .and(shade, format!("{sign} {word}"))
        .and(Shade::Normal, format!("  {}", parts.join("; ")))
}

fn is_unhealthy(endpoint: &Value) -> bool {
    endpoint["health"]["state"] == "unhealthy"
}
