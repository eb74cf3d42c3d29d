//! What `top` shows of a status, line by line: pure, so that a test can read it.

use serde_json::Value;

use super::places::{endpoints, sources};
use super::table::{Cell, Column, Line, Shade, lay_out};
use super::words::{bars, clock, millis, number};
use crate::server::status::words::{duration, percent, short};

/// Whether it may be coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Colour,
}

/// The newest status, and the one before it, for rates.
pub(super) struct Seen<'a> {
    pub(super) status: &'a Value,
    pub(super) before: Option<&'a Value>,
}

/// Columns of the line of bars.
const BARS: usize = 20;
/// Events that are shown where there is room.
const EVENTS: usize = 12;

/// All of it, cut to the width and, from below, to the height.
pub(super) fn draw(seen: &Seen<'_>, width: usize, height: usize, style: Style) -> String {
    let status = seen.status;
    let mut lines = head(status);
    let mut upstreams = upstreams(seen);
    lines.push(verdict(status));
    lines.push(totals(seen));
    lines.extend(items(&status["notices"]).filter_map(|notice| told(notice, "")));
    lines.push(Line::default());
    let mut events = events(status);
    if height < usize::MAX {
        // The upstreams come first, then what is well with them; of the events as many as there is room for.
        let used = |upstreams: &[Shown]| -> usize {
            let rows: usize = upstreams.iter().map(|one| 1 + one.more.len()).sum();
            lines.len() + 1 + rows
        };
        if used(&upstreams) > height {
            for one in &mut upstreams {
                one.more.retain(|(matters, _)| *matters);
            }
        }
        events.truncate(height.saturating_sub(used(&upstreams) + 2));
    }
    lines.extend(table(&upstreams, width));
    if !events.is_empty() {
        lines.push(Line::default());
        lines.push(Line::of(Shade::Quiet, "EVENTS (UTC)"));
        lines.extend(events);
    }
    let cut = lines.len() > height;
    lines.truncate(if cut {
        height.saturating_sub(1)
    } else {
        height
    });
    if cut {
        lines.push(Line::of(
            Shade::Quiet,
            "… more than fits; the page shows all",
        ));
    }
    let lines = lines.iter().map(|line| line.text(width, style) + "\n");
    lines.collect()
}

/// The same with a sentence on top that says why it is old.
pub(super) fn with_problem(text: &str, problem: &str, width: usize, style: Style) -> String {
    let told = Line::of(Shade::Bad, format!("✕ no answer: {problem}"));
    let (_, rest) = text.split_once('\n').unwrap_or_default();
    format!("{}\n{rest}", told.text(width, style))
}

fn head(status: &Value) -> Vec<Line> {
    let process = &status["process"];
    let (sign, word, shade) = match (process["draining"].as_bool(), process["ready"].as_bool()) {
        (Some(true), _) => ('▼', "draining: new work should go elsewhere", Shade::Warn),
        (_, Some(true)) => ('●', "ready", Shade::Good),
        (_, _) => ('▲', "starting", Shade::Warn),
    };
    let line = Line::of(Shade::Bold, text(&process["service"]))
        .and(shade, format!("  {sign} {word}"))
        .and(
            Shade::Quiet,
            format!(
                "  mamparo {}  generation {}  up {}  {} UTC",
                text(&process["version"]),
                number(&process["generation"]),
                duration(number(&process["uptime_ms"])),
                clock(&status["at"]),
            ),
        );
    vec![line]
}

/// One upstream as it is shown.
struct Shown {
    name: String,
    /// 0 is worst, 9 is well.
    rank: u64,
    cells: Vec<Cell>,
    /// What is wrong with it, its sources and endpoints; whether that matters where there is little room.
    more: Vec<(bool, Line)>,
}

fn upstreams(seen: &Seen<'_>) -> Vec<Shown> {
    let mut shown: Vec<_> = items(&seen.status["upstreams"])
        .map(|upstream| one(seen, upstream))
        .collect();
    shown.sort_by(|one, other| (one.rank, &one.name).cmp(&(other.rank, &other.name)));
    shown
}

fn verdict(status: &Value) -> Line {
    let verdict = &status["verdict"];
    let (sign, shade) = sign(&verdict["severity"], &Value::Null);
    Line::of(shade, format!("{sign} {}", text(&verdict["text"])))
}

/// The sign and the shade of a severity; some words have a sign of their own. A process of another
/// version may say what is not known here.
fn sign(severity: &Value, word: &Value) -> (char, Shade) {
    match (text(severity), text(word)) {
        ("ok", _) => ('●', Shade::Good),
        ("error", _) => ('✕', Shade::Bad),
        ("warning", "degraded" | "half_open") => ('◐', Shade::Warn),
        ("warning", "forced") => ('⚑', Shade::Warn),
        ("warning", "draining") => ('▼', Shade::Warn),
        ("warning", _) => ('▲', Shade::Warn),
        (_, _) => ('○', Shade::Quiet),
    }
}

/// What is wrong, since when, why, and what is done about it; `None`: nothing is.
fn told(judgement: &Value, indent: &str) -> Option<Line> {
    let what = text(&judgement["what"]);
    if what.is_empty() {
        return None;
    }
    let (sign, shade) = sign(&judgement["severity"], &judgement["word"]);
    let also: Vec<_> = items(&judgement["also"]).map(spaced).collect();
    let since = match judgement["since"].is_string() {
        true => format!(" since {}", clock(&judgement["since"])),
        false => String::new(),
    };
    let also = match also.is_empty() {
        true => String::new(),
        false => format!(", also: {}", also.join(", ")),
    };
    // Why the lines of its endpoints and sources say below.
    let is_below = [
        "no_endpoint",
        "down",
        "half_open",
        "degraded",
        "forced",
        "unresolved",
    ];
    let why = match text(&judgement["why"]) {
        why if why.is_empty() || is_below.contains(&text(&judgement["word"])) => String::new(),
        why => format!("  {why}"),
    };
    let line = Line::of(shade, format!("{indent}{sign} {what}{since}{also}."));
    let line = line.and(Shade::Normal, why);
    Some(line.and(Shade::Quiet, format!("  {}", text(&judgement["next"]))))
}

/// A word as a person reads it.
fn spaced(word: &Value) -> String {
    text(word)
        .replace('_', " ")
        .replace("half open", "half-open")
}

fn totals(seen: &Seen<'_>) -> Line {
    let minute = &seen.status["last_minute"];
    let rate = rate(seen, minute, |status| number(&status["totals"]["requests"]));
    let rate = rate.map_or("–".to_owned(), |rate| format!("{}/s", short(rate)));
    let mut line = Line::of(Shade::Bold, rate);
    if let Some(failed) = failed(minute) {
        line = line.and(much(failed), format!("  {} failed", percent(failed)));
    }
    line.and(
        Shade::Normal,
        format!(
            "  p50 {}  p99 {}  {} retries  {} fallbacks",
            time(&minute["p50_ms"]),
            time(&minute["p99_ms"]),
            short(number(&minute["retries"])),
            short(number(&minute["fallbacks"]))
        ),
    )
    .and(Shade::Quiet, "  in the last minute")
}

/// The share of the last minute's requests that failed; `None`: there were none.
fn failed(minute: &Value) -> Option<f64> {
    let requests = number(&minute["requests"]);
    (requests > 0.0).then(|| number(&minute["failures"]) / requests)
}

/// The shade of a share of failures.
const fn much(failed: f64) -> Shade {
    if failed > 0.05 {
        Shade::Bad
    } else {
        Shade::Normal
    }
}

fn time(ms: &Value) -> String {
    ms.as_f64().map_or("–".to_owned(), duration)
}

/// Requests per second: between the two readings, or over the last minute where there is only one.
fn rate(seen: &Seen<'_>, minute: &Value, count: impl Fn(&Value) -> f64) -> Option<f64> {
    if let Some(before) = seen.before
        && let (Some(from), Some(to)) = (millis(&before["at"]), millis(&seen.status["at"]))
        && to > from
    {
        let more = count(seen.status) - count(before);
        return Some((more / (to - from) as f64 * 1_000.0).max(0.0));
    }
    let seconds = number(&minute["span_ms"]) / 1_000.0;
    (seconds > 0.0).then(|| number(&minute["requests"]) / seconds)
}

fn one(seen: &Seen<'_>, upstream: &Value) -> Shown {
    let name = text(&upstream["name"]).to_owned();
    let (judgement, minute) = (&upstream["judgement"], &upstream["last_minute"]);
    let (sign, shade) = sign(&judgement["severity"], &judgement["word"]);
    let rate = rate(seen, minute, |status| {
        let mut all = items(&status["upstreams"]);
        let same = all.find(|other| other["name"] == upstream["name"]);
        same.map_or(0.0, |same| number(&same["totals"]["requests"]))
    });
    let normal = |text: String| (Shade::Normal, text);
    let dash = || "–".to_owned();
    let failed = failed(minute);
    let latency = items(&seen.status["history"]["upstreams"][&name]["p99_ms"]);
    let latency: Vec<_> = latency.map(Value::as_f64).collect();
    let cells = vec![
        (shade, format!("{sign} {name}")),
        (shade, spaced(&judgement["word"])),
        normal(rate.map_or_else(dash, |rate| format!("{}/s", short(rate)))),
        (
            failed.map_or(Shade::Normal, much),
            failed.map_or_else(dash, |failed| percent(1.0 - failed)),
        ),
        normal(time(&minute["p50_ms"])),
        normal(time(&minute["p99_ms"])),
        (Shade::Quiet, bars(&latency, BARS)),
        normal(short(number(&minute["retries"]))),
        normal(short(number(&minute["fallbacks"]))),
        normal(seats(&upstream["bulkhead"])),
        normal(tokens(&upstream["retry_budget"])),
        normal(pool(&upstream["connections"])),
    ];
    let wrong = told(judgement, "    ").into_iter().chain(sources(upstream));
    let mut more: Vec<_> = wrong.map(|line| (true, line)).collect();
    more.extend(endpoints(upstream));
    Shown {
        name,
        rank: judgement["rank"].as_u64().unwrap_or(9),
        cells,
        more,
    }
}

fn seats(bulkhead: &Value) -> String {
    if bulkhead.is_null() {
        return "–".to_owned();
    }
    let limit = bulkhead["limit"].as_f64();
    let of = limit.map_or(String::new(), |limit| format!("/{}", short(limit)));
    let queued = match number(&bulkhead["queued"]) {
        0.0 => String::new(),
        queued => format!(" +{}", short(queued)),
    };
    format!("{}{of}{queued}", short(number(&bulkhead["in_flight"])))
}

fn tokens(budget: &Value) -> String {
    if budget.is_null() {
        return "–".to_owned();
    }
    let limit = budget["limit"].as_f64();
    let of = limit.map_or(String::new(), |limit| format!("/{limit:.0}"));
    format!("{:.1}{of}", number(&budget["tokens"]))
}

fn pool(connections: &Value) -> String {
    let of = |name: &str| short(number(&connections[name]));
    format!("{}+{}", of("active"), of("idle"))
}

fn table(upstreams: &[Shown], width: usize) -> Vec<Line> {
    const fn column(head: &'static str, right: bool, order: u8) -> Column {
        Column { head, right, order }
    }
    const COLUMNS: [Column; 12] = [
        column("  UPSTREAM", false, 0),
        column("STATE", false, 0),
        column("REQUESTS", true, 2),
        column("SUCCESS", true, 1),
        column("P50", true, 8),
        column("P99", true, 4),
        column("P99 LATELY", false, 9),
        column("RETRIES", true, 6),
        column("FALLBACKS", true, 7),
        column("SEATS", true, 3),
        column("BUDGET", true, 5),
        column("POOL", true, 10),
    ];
    let cells: Vec<_> = upstreams.iter().map(|one| one.cells.clone()).collect();
    let (head, rows) = lay_out(&COLUMNS, &cells, width);
    let mut lines = vec![head];
    for (row, upstream) in rows.into_iter().zip(upstreams) {
        lines.push(row);
        lines.extend(upstream.more.iter().map(|(_, line)| line.clone()));
    }
    lines
}

/// The newest first.
fn events(status: &Value) -> Vec<Line> {
    let all: Vec<_> = items(&status["events"]).collect();
    let newest = all.iter().rev().take(EVENTS);
    newest
        .map(|event| {
            let what = text(&event["text"]);
            let place = |name: &str| match text(&event[name]) {
                // It may speak of the place itself.
                place if place.is_empty() || what.starts_with(place) => String::new(),
                place => format!("{place} "),
            };
            Line::of(Shade::Quiet, format!("{}  ", clock(&event["at"])))
                .and(Shade::Normal, place("upstream"))
                .and(Shade::Quiet, place("endpoint"))
                .and(Shade::Normal, what)
        })
        .collect()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
