//! What is drawn of a status.

use serde_json::{Value, json};

use super::table::{Line, Shade};
use super::view::{Seen, Style, draw, with_problem};

fn endpoint(address: &str, state: &str) -> Value {
    let open = state == "open";
    json!({
        "address": address, "state": state, "forced": null, "draining": false, "in_flight": 1,
        "reason": open.then_some("5 consecutive failures"),
        "since": open.then_some("2026-11-21T20:29:48.000Z"),
        "next_probe_ms": open.then_some(3_140),
        "window": {"total": 20, "failures": if open { 12 } else { 0 }, "slow": 0},
    })
}

fn judgement(rank: u8, severity: &str, word: &str, what: &str, why: &str) -> Value {
    json!({
        "rank": rank, "severity": severity, "word": word, "also": [], "since": null,
        "what": what, "why": why, "next": "",
    })
}

fn ok() -> Value {
    judgement(9, "ok", "ok", "", "")
}

fn minute(requests: u64, failures: u64, p99: f64) -> Value {
    json!({
        "span_ms": 10_000, "requests": requests, "failures": failures, "fallbacks": 4, "retries": 7,
        "p50_ms": p99 / 2.0, "p99_ms": p99,
    })
}

fn upstream(name: &str, judgement: Value, minute: Value, endpoints: &[Value]) -> Value {
    json!({
        "name": name, "judgement": judgement, "last_minute": minute, "endpoints": endpoints, "sources": [],
        "bulkhead": {"in_flight": 3, "queued": 2, "limit": 8, "max_queue": 4},
        "retry_budget": {"tokens": 8.25, "limit": 12.0},
        "connections": {"active": 3, "idle": 5, "limit": null, "opened": 9},
        "totals": {"requests": 500},
    })
}

fn status() -> Value {
    let why = "127.0.0.1:22: 5 consecutive failures.";
    let mut down = judgement(0, "error", "down", "is down: its breaker is open", why);
    down["also"] = json!(["failing", "bulkhead_full"]);
    down["since"] = json!("2026-11-21T20:29:48.000Z");
    down["next"] = json!("30 of 40 requests failed in the last minute.");
    let degraded = judgement(
        3,
        "warning",
        "degraded",
        "works without 1 of its 2 endpoints",
        "",
    );
    json!({
        "at": "2026-11-21T20:30:00.123Z",
        "process": {
            "service": "orders", "version": "0.1.0", "generation": 3, "uptime_ms": 65_000,
            "ready": true, "draining": false,
        },
        "verdict": {"severity": "error", "text": "payments is in trouble; 1 more needs a look."},
        "notices": [],
        "totals": {"requests": 1_000},
        "last_minute": minute(100, 10, 50.0),
        "upstreams": [
            upstream("catalog", ok(), minute(60, 0, 5.0), &[endpoint("127.0.0.1:1", "closed")]),
            upstream("payments", down, minute(40, 30, 250.0), &[endpoint("127.0.0.1:22", "open")]),
            upstream("stock", degraded, Value::Null, &[endpoint("127.0.0.1:3", "closed"), endpoint("127.0.0.1:4", "open")]),
        ],
        "events": [
            {"at": "2026-11-21T20:29:00.000Z", "upstream": null, "endpoint": null, "text": "started"},
            {"at": "2026-11-21T20:29:01.000Z", "upstream": "stock", "endpoint": "a.test:80", "text": "a.test:80 is found"},
            {"at": "2026-11-21T20:29:48.000Z", "upstream": "payments", "endpoint": "127.0.0.1:22",
             "text": "breaker opened: 5 consecutive failures"},
        ],
        "history": {
            "every_ms": 5_000,
            "upstreams": {"catalog": {"p99_ms": [null, 5.0]}, "payments": {"p99_ms": [null, 250.0]}},
        },
    })
}

fn drawn(status: &Value, width: usize, height: usize) -> String {
    let seen = Seen {
        status,
        before: None,
    };
    draw(&seen, width, height, Style::Plain)
}

#[test]
fn what_is_broken_comes_first_and_says_why() {
    let text = drawn(&status(), 200, usize::MAX);
    let wanted = "\
orders  ● ready  mamparo 0.1.0  generation 3  up 1 min 5 s  20:30:00 UTC
✕ payments is in trouble; 1 more needs a look.
10/s  10.0 % failed  p50 25 ms  p99 50 ms  7 retries  4 fallbacks  in the last minute

  UPSTREAM  STATE     REQUESTS  SUCCESS     P50     P99  P99 LATELY            RETRIES  FALLBACKS   SEATS  BUDGET  POOL
✕ payments  down           4/s   25.0 %  125 ms  250 ms                     █        7          4  3/8 +2  8.2/12   3+5
    ✕ is down: its breaker is open since 20:29:48, also: failing, bulkhead full.  30 of 40 requests failed in the last minute.
    127.0.0.1:22  ✕ open  5 consecutive failures; since 20:29:48; next probe in 3.1 s; 12 of 20 failed; 1 in flight
◐ stock     degraded         –        –       –       –                              0          0  3/8 +2  8.2/12   3+5
    ◐ works without 1 of its 2 endpoints.
    127.0.0.1:3  ● closed  0 of 20 failed; 1 in flight
    127.0.0.1:4  ✕ open  5 consecutive failures; since 20:29:48; next probe in 3.1 s; 12 of 20 failed; 1 in flight
● catalog   ok             6/s    100 %  2.5 ms  5.0 ms                     █        7          4  3/8 +2  8.2/12   3+5
    127.0.0.1:1  ● closed  0 of 20 failed; 1 in flight

EVENTS (UTC)
20:29:48  payments 127.0.0.1:22 breaker opened: 5 consecutive failures
20:29:01  stock a.test:80 is found
20:29:00  started
";
    assert_eq!(text, wanted, "\n{text}");
}

#[test]
fn it_keeps_to_the_width_and_the_height_and_drops_what_matters_least() {
    let status = status();
    for width in [20, 40, 60, 80, 100, 120] {
        for height in [5, 10, 24] {
            let text = drawn(&status, width, height);
            assert!(
                text.lines().count() <= height,
                "{width} × {height}:\n{text}"
            );
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width), "{width}:\n{text}");
        }
    }
    let text = drawn(&status, 60, 24);
    assert!(text.contains("SUCCESS") && !text.contains("POOL"), "{text}");
    assert!(text.contains("20:29:48"), "{text}");
    let text = drawn(&status, 60, 10);
    assert!(text.contains("more than fits"), "{text}");
    assert!(!text.contains("EVENTS"), "{text}");
}

#[test]
fn where_there_is_little_room_what_is_well_gives_way() {
    let mut status = status();
    status["upstreams"][2]["name"] = json!("recommendations-personalised-for-the-home-page");
    let text = drawn(&status, 80, 12);
    // A long name, and an endpoint that is well.
    assert!(
        text.contains("◐ recommendations-persona…  degraded"),
        "{text}"
    );
    assert!(text.contains("REQUESTS  SUCCESS"), "{text}");
    assert!(!text.contains("127.0.0.1:3 "), "{text}");
    // All that is wrong, and all upstreams.
    for shown in ["127.0.0.1:22", "127.0.0.1:4", "● catalog"] {
        assert!(text.contains(shown), "{shown}\n{text}");
    }
    assert!(!text.contains("more than fits"), "{text}");
    assert!(drawn(&status, 80, 14).contains("127.0.0.1:3 "));
}

#[test]
fn rates_are_those_between_two_readings() {
    let (before, mut after) = (status(), status());
    after["at"] = json!("2026-11-21T20:30:02.123Z");
    after["totals"]["requests"] = json!(1_500);
    after["upstreams"][0]["totals"]["requests"] = json!(700);
    let seen = Seen {
        status: &after,
        before: Some(&before),
    };
    let text = draw(&seen, 200, 50, Style::Plain);
    assert!(text.contains("\n250/s  "), "{text}");
    assert!(text.contains("100/s"), "{text}");
}

#[test]
fn what_concerns_the_process_stands_above_and_a_source_that_is_not_found_below() {
    let mut status = status();
    let refused = "The last configuration was refused: 1 problem";
    let why = "mamparo.yaml:3:5: unknown key 'adress'";
    let mut refused = judgement(2, "error", "config_refused", refused, why);
    refused["since"] = json!("2026-11-21T20:28:00.000Z");
    refused["next"] = json!("Generation 3 still runs.");
    status["process"]["draining"] = json!(true);
    status["notices"] = json!([refused]);
    let unresolved = judgement(8, "warning", "unresolved", "cannot be found anew", "");
    status["upstreams"] = json!([upstream(
        "a",
        unresolved,
        Value::Null,
        &[endpoint("127.0.0.1:1", "closed")]
    )]);
    status["upstreams"][0]["sources"] = json!([
        {"name": "a.test:80", "answered_at": "2026-11-21T20:27:00.000Z", "next_ms": 4_000,
         "problem": "there is no such name (NXDOMAIN)"},
        {"name": "b.test:80", "answered_at": null, "next_ms": null, "problem": "refused"},
        {"name": "c.test:80", "answered_at": null, "next_ms": 4_000, "problem": null},
    ]);
    let text = drawn(&status, 200, 50);
    for line in [
        "orders  ▼ draining: new work should go elsewhere",
        "✕ The last configuration was refused: 1 problem since 20:28:00.  mamparo.yaml:3:5: unknown key \
         'adress'  Generation 3 still runs.",
        "▲ a         unresolved  ",
        "    ▲ cannot be found anew.",
        "    a.test:80  ▲ not found  there is no such name (NXDOMAIN); answered last at 20:27:00; asked again in 4.0 s",
        "    b.test:80  ▲ not found  refused; never answered",
    ] {
        assert!(
            text.lines().any(|shown| shown.starts_with(line)),
            "{line}\n{text}"
        );
    }
    assert!(!text.contains("c.test"), "{text}");
}

#[test]
fn an_unhealthy_endpoint_is_told_as_such_whatever_its_breaker_says() {
    let mut sick = endpoint("127.0.0.1:1", "closed");
    sick["health"] =
        json!({"state": "unhealthy", "reason": "health check GET /healthz answered 500"});
    let mut held = endpoint("127.0.0.1:2", "open");
    held["forced"] = json!("open");
    held["reason"] = json!("forced open by the operator");
    let mut well = endpoint("127.0.0.1:3", "closed");
    well["health"] = json!({"state": "healthy"});
    well["window"] = Value::Null;
    let mut status = status();
    status["upstreams"] = json!([upstream("a", ok(), Value::Null, &[sick, held, well])]);
    let text = drawn(&status, 200, 50);
    for line in [
        "127.0.0.1:1  ✕ unhealthy  health check GET /healthz answered 500; ",
        "127.0.0.1:2  ✕ open  held open by an operator; since 20:29:48; next probe in 3.1 s; ",
        "127.0.0.1:3  ● healthy",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn of_many_endpoints_only_those_in_trouble_are_listed() {
    let mut status = status();
    let mut endpoints: Vec<_> = (0..50)
        .map(|port| endpoint(&format!("10.0.0.1:{port}"), "closed"))
        .collect();
    endpoints[7] = endpoint("10.0.0.1:7", "open");
    status["upstreams"] = json!([upstream("a", ok(), Value::Null, &endpoints)]);
    let text = drawn(&status, 120, usize::MAX);
    assert!(text.contains("10.0.0.1:7  ✕ open"), "{text}");
    assert!(text.contains("and 49 more, all closed"), "{text}");
    assert!(!text.contains("10.0.0.1:8"), "{text}");
}

#[test]
fn colour_adds_no_width_and_an_old_view_says_that_it_is() {
    let status = status();
    let seen = Seen {
        status: &status,
        before: None,
    };
    let text = draw(&seen, 60, 24, Style::Colour);
    assert!(text.contains("\u{1b}[1;31m✕ payments"), "{text}");
    let bare = text
        .split("\u{1b}[")
        .enumerate()
        .map(|(index, part)| match index {
            0 => part,
            _ => part.split_once('m').map_or(part, |(_, rest)| rest),
        });
    assert_eq!(bare.collect::<String>(), drawn(&status, 60, 24));
    let old = with_problem(
        &drawn(&status, 60, 24),
        "connection refused",
        60,
        Style::Plain,
    );
    assert!(
        old.starts_with("✕ no answer: connection refused\n✕ payments is in trouble"),
        "{old}"
    );
}

#[test]
fn a_status_of_another_version_is_shown_as_far_as_it_is_understood() {
    for odd in [
        json!({}),
        json!(null),
        json!({"upstreams": [{"name": "a"}], "events": [{}]}),
    ] {
        assert!(!drawn(&odd, 80, 24).is_empty());
    }
}

#[test]
fn what_came_over_the_network_commands_no_terminal() {
    let line = Line::of(Shade::Bad, "gone \u{1b}]0;title\u{7}\u{9b}2J");
    let shown = line.text(80, Style::Plain);
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(shown.starts_with("gone"), "{shown:?}");
}
