//! What `top` shows of a status, line by line: pure, so that a test can read it.

use serde_json::Value;

use super::table::{Cell, Column, Line, Shade, lay_out};
use super::words::{bars, clock, duration, millis, number, percent, short};

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
/// Endpoints of an upstream that are shown where all is well with them.
const FEW: usize = 6;

/// All of it, cut to the width and, from below, to the height.
pub(super) fn draw(seen: &Seen<'_>, width: usize, height: usize, style: Style) -> String {
    let status = seen.status;
    let mut lines = head(status);
    let upstreams = upstreams(seen);
    lines.push(verdict(&upstreams));
    lines.push(totals(seen));
    lines.extend(notices(status));
    lines.push(Line::default());
    let mut events = events(status);
    if height < usize::MAX {
        // The upstreams come first; of the events as many as there is room for.
        let rows: usize = upstreams.iter().map(|one| 1 + one.endpoints.len()).sum();
        let room = height.saturating_sub(lines.len() + 1 + rows + 2);
        events.truncate(room);
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
        (Some(true), _) => ('▼', "draining: new work is turned away", Shade::Warn),
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
    /// 0 is worst, 9 is well, as on the page.
    rank: u8,
    cells: Vec<Cell>,
    endpoints: Vec<Line>,
}

fn upstreams(seen: &Seen<'_>) -> Vec<Shown> {
    let mut shown: Vec<_> = items(&seen.status["upstreams"])
        .map(|upstream| one(seen, upstream))
        .collect();
    shown.sort_by(|one, other| (one.rank, &one.name).cmp(&(other.rank, &other.name)));
    shown
}

fn verdict(upstreams: &[Shown]) -> Line {
    let all = upstreams.len();
    let broken = names(upstreams, |rank| matches!(rank, 0 | 2));
    let looked_at = names(upstreams, |rank| matches!(rank, 1 | 3..=8));
    if !broken.is_empty() {
        let more = if looked_at.is_empty() {
            String::new()
        } else {
            format!("; look at {}, too", looked_at.join(", "))
        };
        let are = if broken.len() == 1 { "is" } else { "are" };
        return Line::of(
            Shade::Bad,
            format!("✕ {} {are} broken{more}", broken.join(", ")),
        );
    }
    if !looked_at.is_empty() {
        let what = looked_at.join(", ");
        return Line::of(Shade::Warn, format!("▲ nothing is broken; look at {what}"));
    }
    let text = match all {
        0 => "● no upstream is configured".to_owned(),
        1 => "● the upstream works".to_owned(),
        all => format!("● all {all} upstreams work"),
    };
    Line::of(Shade::Good, text)
}

fn names(upstreams: &[Shown], is_meant: impl Fn(u8) -> bool) -> Vec<&str> {
    let meant = upstreams.iter().filter(|one| is_meant(one.rank));
    meant.map(|one| one.name.as_str()).collect()
}

/// What the history says of the last minute.
struct Minute {
    seconds: f64,
    requests: f64,
    failures: f64,
    fallbacks: f64,
    retries: f64,
    p50: Option<f64>,
    p99: Option<f64>,
    latency: Vec<Option<f64>>,
}

fn minute(history: &Value, series: &Value) -> Minute {
    let every = number(&history["every_ms"]).max(1.0) / 1_000.0;
    let points = (60.0 / every).round() as usize;
    let values =
        |name: &str| -> Vec<Option<f64>> { items(&series[name]).map(Value::as_f64).collect() };
    let recent = |name: &str| -> Vec<Option<f64>> {
        let all = values(name);
        all[all.len().saturating_sub(points)..].to_vec()
    };
    // An empty sum of floats is a negative zero.
    let sum = |name: &str| {
        recent(name)
            .into_iter()
            .flatten()
            .fold(0.0, |all, one| all + one)
    };
    let last = |name: &str| recent(name).into_iter().flatten().next_back();
    Minute {
        seconds: recent("requests").len() as f64 * every,
        requests: sum("requests"),
        failures: sum("failures"),
        fallbacks: sum("fallbacks"),
        retries: sum("retries"),
        p50: last("p50_ms"),
        p99: last("p99_ms"),
        latency: values("p99_ms"),
    }
}

fn totals(seen: &Seen<'_>) -> Line {
    let history = &seen.status["history"];
    let minute = minute(history, &history["total"]);
    let rate = rate(seen, &minute, |status| {
        number(&status["totals"]["requests"])
    });
    let rate = rate.map_or("–".to_owned(), |rate| format!("{}/s", short(rate)));
    let mut line = Line::of(Shade::Bold, rate);
    if minute.requests > 0.0 {
        let failed = minute.failures / minute.requests;
        let shade = if failed > 0.05 {
            Shade::Bad
        } else {
            Shade::Normal
        };
        line = line.and(shade, format!("  {} failed", percent(failed)));
    }
    let of = |value: Option<f64>| value.map_or("–".to_owned(), duration);
    line.and(
        Shade::Normal,
        format!(
            "  p50 {}  p99 {}  {} retries  {} fallbacks",
            of(minute.p50),
            of(minute.p99),
            short(minute.retries),
            short(minute.fallbacks)
        ),
    )
    .and(Shade::Quiet, "  in the last minute")
}

/// Requests per second: between the two readings, or over the last minute where there is only one.
fn rate(seen: &Seen<'_>, minute: &Minute, count: impl Fn(&Value) -> f64) -> Option<f64> {
    if let Some(before) = seen.before
        && let (Some(from), Some(to)) = (millis(&before["at"]), millis(&seen.status["at"]))
        && to > from
    {
        let more = count(seen.status) - count(before);
        return Some((more / (to - from) as f64 * 1_000.0).max(0.0));
    }
    (minute.seconds > 0.0).then(|| minute.requests / minute.seconds)
}

/// What concerns the whole process and is not as it should be.
fn notices(status: &Value) -> Vec<Line> {
    let mut lines = Vec::new();
    let reload = &status["last_reload"];
    if reload["result"] == "refused" {
        let count = items(&reload["problems"]).count();
        let first = items(&reload["problems"]).next().map_or("", text);
        lines.push(Line::of(
            Shade::Bad,
            format!(
                "✕ the configuration of {} was refused ({count} problems); generation {} still runs: {}",
                clock(&reload["at"]),
                number(&reload["generation"]),
                first.lines().next().unwrap_or_default(),
            ),
        ));
    }
    let certificates = items(&status["certificates"]);
    for one in certificates.filter(|one| !one["problem"].is_null()) {
        let file = text(&one["file"]);
        let problem = text(&one["problem"]);
        lines.push(Line::of(
            Shade::Bad,
            format!("✕ {file} is not in use: {problem}"),
        ));
    }
    lines
}

fn one(seen: &Seen<'_>, upstream: &Value) -> Shown {
    let name = text(&upstream["name"]).to_owned();
    let history = &seen.status["history"];
    let minute = minute(history, &history["upstreams"][&name]);
    let staying: Vec<_> = items(&upstream["endpoints"])
        .filter(|endpoint| endpoint["draining"] != true)
        .collect();
    let shut = staying
        .iter()
        .filter(|endpoint| endpoint["state"] != "closed");
    let (shut, all) = (shut.count(), staying.len());
    let rank = rank(upstream, &minute, shut, &staying);
    let (sign, shade) = match rank {
        0 | 2 => ('✕', Shade::Bad),
        1 | 3 => ('◐', Shade::Warn),
        9 => ('●', Shade::Good),
        _lesser => ('▲', Shade::Warn),
    };
    let has_breaker = staying.iter().any(|endpoint| !endpoint["window"].is_null());
    let state = match upstream["circuit"].as_str() {
        _ if all == 0 => "no endpoint".to_owned(),
        Some("open") => "open".to_owned(),
        Some("half_open") => "half-open".to_owned(),
        _ if shut > 0 => format!("{shut} of {all} not closed"),
        _ if has_breaker => "closed".to_owned(),
        _ => "no breaker".to_owned(),
    };
    let rate = rate(seen, &minute, |status| {
        let mut all = items(&status["upstreams"]);
        let same = all.find(|other| other["name"] == upstream["name"]);
        same.map_or(0.0, |same| number(&same["totals"]["requests"]))
    });
    let normal = |text: String| (Shade::Normal, text);
    let dash = || "–".to_owned();
    let failing = minute.requests > 0.0 && minute.failures / minute.requests > 0.05;
    let success = if minute.requests > 0.0 {
        percent(1.0 - minute.failures / minute.requests)
    } else {
        dash()
    };
    let cells = vec![
        (shade, format!("{sign} {name}")),
        (shade, state),
        normal(rate.map_or_else(dash, |rate| format!("{}/s", short(rate)))),
        (if failing { Shade::Bad } else { Shade::Normal }, success),
        normal(minute.p50.map_or_else(dash, duration)),
        normal(minute.p99.map_or_else(dash, duration)),
        (Shade::Quiet, bars(&minute.latency, BARS)),
        normal(short(minute.retries)),
        normal(short(minute.fallbacks)),
        normal(seats(&upstream["bulkhead"])),
        normal(tokens(&upstream["retry_budget"])),
        normal(pool(&upstream["connections"])),
    ];
    Shown {
        name,
        rank,
        cells,
        endpoints: endpoints(upstream),
    }
}

/// How bad it is: 0 is worst, 9 is well. The page ranks alike.
fn rank(upstream: &Value, minute: &Minute, shut: usize, staying: &[&Value]) -> u8 {
    let seats = &upstream["bulkhead"];
    let budget = &upstream["retry_budget"];
    let (taken, limit) = (number(&seats["in_flight"]), seats["limit"].as_f64());
    let is_out = |endpoint: &&Value| is_unhealthy(endpoint) || endpoint["state"] == "open";
    if staying.iter().all(is_out) {
        0
    } else if upstream["circuit"] == "half_open" {
        1
    } else if is_failing(minute) {
        2
    } else if shut > 0 || staying.iter().any(|endpoint| is_unhealthy(endpoint)) {
        3
    } else if limit.is_some_and(|limit| taken >= limit) {
        4
    } else if number(&budget["limit"]) >= 1.0 && number(&budget["tokens"]) < 1.0 {
        5
    } else if limit.is_some_and(|limit| taken >= limit * 0.8) {
        6
    } else if staying.iter().any(|endpoint| !endpoint["forced"].is_null()) {
        7
    } else if items(&upstream["sources"]).any(|source| !source["problem"].is_null()) {
        8
    } else {
        9
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

/// The endpoints that say something: all of a few, of many those that are in trouble.
fn endpoints(upstream: &Value) -> Vec<Line> {
    let all: Vec<_> = items(&upstream["endpoints"]).collect();
    let says_something = |endpoint: &&&Value| {
        all.len() <= FEW
            || endpoint["state"] != "closed"
            || !endpoint["forced"].is_null()
            || is_unhealthy(endpoint)
    };
    let shown: Vec<_> = all.iter().filter(says_something).collect();
    let widest = shown
        .iter()
        .map(|one| text(&one["address"]).chars().count());
    let column = 6 + widest.max().unwrap_or(0);
    let mut lines: Vec<_> = shown.iter().map(|one| endpoint(one, column)).collect();
    if shown.len() < all.len() {
        let more = all.len() - shown.len();
        lines.push(Line::of(
            Shade::Quiet,
            format!("    and {more} more, all closed"),
        ));
    }
    lines
}

fn endpoint(endpoint: &Value, column: usize) -> Line {
    let state = text(&endpoint["state"]);
    let has_breaker = !endpoint["window"].is_null();
    let (sign, shade) = match state {
        "open" => ('✕', Shade::Bad),
        "half_open" => ('◐', Shade::Warn),
        _ if has_breaker => ('●', Shade::Good),
        _ => ('○', Shade::Quiet),
    };
    let word = if has_breaker {
        state.replace('_', "-")
    } else {
        "no breaker".to_owned()
    };
    let mut parts = Vec::new();
    if let Some(reason) = endpoint["reason"].as_str() {
        parts.push(reason.to_owned());
    }
    if endpoint["since"].is_string() {
        parts.push(format!("since {}", clock(&endpoint["since"])));
    }
    match endpoint["forced"].as_str() {
        Some(to) => parts.push(format!("held {to} by an operator")),
        None => parts.extend(
            endpoint["next_probe_ms"]
                .as_f64()
                .map(|ms| format!("next probe in {}", duration(ms))),
        ),
    }
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

fn table(upstreams: &[Shown], width: usize) -> Vec<Line> {
    const fn column(head: &'static str, right: bool, order: u8) -> Column {
        Column { head, right, order }
    }
    const COLUMNS: [Column; 12] = [
        column("  UPSTREAM", false, 0),
        column("BREAKERS", false, 0),
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
        lines.extend(upstream.endpoints.iter().cloned());
    }
    lines
}

/// The newest first.
fn events(status: &Value) -> Vec<Line> {
    let all: Vec<_> = items(&status["events"]).collect();
    let newest = all.iter().rev().take(EVENTS);
    newest
        .map(|event| {
            let place = |name: &str| {
                event[name]
                    .as_str()
                    .map_or(String::new(), |one| format!("{one} "))
            };
            Line::of(Shade::Quiet, format!("{}  ", clock(&event["at"])))
                .and(Shade::Normal, place("upstream"))
                .and(Shade::Quiet, place("endpoint"))
                .and(Shade::Normal, text(&event["text"]))
        })
        .collect()
}

/// Whether too few of the requests of the last minute succeeded.
fn is_failing(minute: &Minute) -> bool {
    let share = minute.failures / minute.requests.max(1.0);
    minute.requests >= 10.0 && share > 0.05 || minute.requests >= 3.0 && share > 0.5
}

fn is_unhealthy(endpoint: &Value) -> bool {
    endpoint["health"]["state"] == "unhealthy"
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
