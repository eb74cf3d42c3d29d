//! The ring's bounds, and the stories that are made of what it keeps.

use serde_json::json;

use super::*;
use crate::clock;
use crate::plan::Explain;
use crate::policy::outcome::{Ending, Reason};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report::{FallbackKind, Outcome, samples};

fn plain() -> Report {
    let metrics = Metrics::default();
    let names = ["outbound", "charges", "payments"].map(samples::name);
    let listener = metrics.listener(&names[0]);
    let route = metrics.route(&names[0], &names[1], &names[2]);
    samples::report(listener, Some(route), Outcome::Upstream, 200)
}

/// A request that was tried once, in vain.
fn failed(id: usize) -> Report {
    let mut report = plain();
    report.request_id = http::HeaderValue::from(id);
    report.outcome = Outcome::Failed;
    report.reason = Some(Reason::Reset);
    report.status = 502;
    let took = Duration::from_millis(3);
    let ending = Ending::Failed(Reason::Reset);
    report.tries.push(samples::attempt(took, ending));
    report
}

/// A request that was refused without a try.
fn refused(id: usize) -> Report {
    Report {
        tries: smallvec::SmallVec::new(),
        outcome: Outcome::Refused,
        reason: Some(Reason::RateLimited),
        status: 429,
        ..failed(id)
    }
}

/// Tells the recorder of a request as [`crate::telemetry::Telemetry::tell`] does.
fn tell(recorder: &Recorder, report: &Report) {
    let now = report.started + Duration::from_millis(41);
    let kept_for = recorder.wants(report, now);
    if kept_for.any() {
        let report = Arc::new(report.detached());
        recorder.keep(report, kept_for, now, clock::date());
    }
}

fn ids(recorder: &Recorder) -> Vec<usize> {
    let all = recorder.recent();
    let ids = all
        .iter()
        .map(|kept| kept.report.request_id.to_str().unwrap());
    ids.map(|id| id.parse().unwrap()).collect()
}

#[test]
fn ten_thousand_failures_leave_the_newest_256_and_bounded_bytes() {
    let recorder = Recorder::default();
    for id in 0..10_000 {
        tell(&recorder, &failed(id));
    }
    let newest: Vec<usize> = (10_000 - 256..10_000).rev().collect();
    assert_eq!(ids(&recorder), newest);
    let (count, bytes) = recorder.used();
    assert_eq!(count, 256);
    assert!(bytes <= MAX_BYTES, "{bytes}");
}

#[test]
fn large_reports_are_fewer() {
    let recorder = Recorder::default();
    for id in 0..2_000 {
        let mut report = failed(id);
        let long = format!("/{}?secret", "x".repeat(60_000));
        report.target = Some(samples::target(&long, &"h".repeat(9_000)));
        report.detail = Some("y".repeat(100_000).into());
        let one = report.tries[0].clone();
        report.tries.extend(std::iter::repeat_n(one, 99));
        tell(&recorder, &report);
    }
    let (count, bytes) = recorder.used();
    assert!((8..256).contains(&count), "{count}");
    assert!(bytes <= MAX_BYTES, "{bytes}");
    assert_eq!(ids(&recorder)[0], 1_999, "the newest is there");
}

#[test]
fn a_flood_of_refusals_leaves_what_was_tried() {
    let recorder = Recorder::default();
    for id in 0..100 {
        tell(&recorder, &failed(id));
    }
    for id in 100..10_000 {
        tell(&recorder, &refused(id));
    }
    let kept = ids(&recorder);
    assert_eq!(kept.len(), 256);
    assert_eq!(kept.iter().filter(|id| **id < 100).count(), 100);
    for id in 10_000..10_400 {
        tell(&recorder, &failed(id));
    }
    let refusals = ids(&recorder);
    let refusals = refusals.iter().filter(|id| **id < 10_000).count();
    assert!(refusals <= 128, "{refusals} make room for what is newer");
}

#[test]
fn rule_81_a_reload_makes_the_ring_smaller_or_empties_it() {
    let recorder = Recorder::default();
    (0..20).for_each(|id| tell(&recorder, &failed(id)));
    let settings = Explain {
        keep: 3,
        ..Explain::default()
    };
    recorder.configure(Some(&settings));
    assert_eq!(ids(&recorder), [19, 18, 17]);
    recorder.configure(None);
    tell(&recorder, &failed(20));
    assert_eq!(recorder.used(), (0, 0));
    assert!(!recorder.is_on());
}

#[test]
fn only_what_did_not_simply_go_well_is_kept() {
    type Change = fn(&mut Report);
    let cases: [(Change, &[&str]); 12] = [
        (|_| {}, &[]),
        (|r| r.status = 404, &[]),
        (|r| r.head_at = Some(Duration::from_millis(999)), &[]),
        (|r| r.head_at = Some(Duration::from_secs(1)), &["slow"]),
        (|r| r.asked = true, &["asked"]),
        (|r| r.status = 503, &["failed"]),
        (|r| r.broken = true, &["failed"]),
        (|r| r.outcome = Outcome::ClientGone, &["failed"]),
        (
            |r| r.grpc_status = Some(crate::policy::grpc::Code::Unavailable),
            &["failed"],
        ),
        // A TRACE that ends here.
        (|r| r.outcome = Outcome::Refused, &[]),
        (
            |r| {
                let answered = Ending::Answered(200);
                let one = samples::attempt(Duration::ZERO, answered);
                r.tries.extend([one.clone(), one]);
            },
            &["retried"],
        ),
        (
            |r| {
                (r.outcome, r.fallback) = (Outcome::Fallback, Some(FallbackKind::Respond));
                r.reason = Some(Reason::Reset);
            },
            &["fallback"],
        ),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let mut report = plain();
        change(&mut report);
        let second = Duration::from_secs(1);
        let kept_for = KeptFor::of(&report, report.started, second);
        let names: Vec<&str> = kept_for.names().collect();
        assert_eq!(names, expected, "case {number}");
        assert_eq!(kept_for.any(), !expected.is_empty());
    }
}

#[test]
fn a_request_is_found_by_its_id_or_its_trace_and_the_newest_wins() {
    let recorder = Recorder::default();
    let mut first = failed(7);
    first.status = 504;
    tell(&recorder, &first);
    tell(&recorder, &failed(7));
    tell(&recorder, &refused(8));
    assert_eq!(recorder.find("7").unwrap().report.status, 502);
    let trace = format!("{:032x}", first.trace.trace_id);
    assert_eq!(recorder.find(&trace).unwrap().report.status, 504);
    assert!(recorder.find("9").is_none());
    assert!(recorder.find(&"0".repeat(32)).is_none());
}

fn story(report: Report, took: u64) -> Story {
    let recorder = Recorder::default();
    let now = report.started + Duration::from_millis(took);
    let kept_for = KeptFor::of(&report, now, Duration::from_secs(1));
    recorder.keep(Arc::new(report.detached()), kept_for, now, clock::date());
    Story::of(&recorder.recent()[0])
}

#[test]
fn a_line_has_the_fields_that_the_page_reads() {
    let told = serde_json::to_value(story(failed(1), 41)).unwrap();
    for (key, value) in [
        ("request_id", json!("1")),
        ("listener", json!("outbound")),
        ("route", json!("charges")),
        ("upstream", json!("payments")),
        ("method", json!("GET")),
        ("path", json!("/v1/charges")),
        ("status", json!(502)),
        ("outcome", json!("failed")),
        ("reason", json!("reset")),
        ("tries", json!(1)),
        ("took_ms", json!(41.0)),
        ("kept_for", json!(["failed"])),
        ("generation", json!(1)),
    ] {
        assert_eq!(told[key], value, "{key}");
    }
    assert_eq!(told["trace_id"].as_str().unwrap().len(), 32);
    assert!(told["at"].as_str().unwrap().ends_with('Z'));
    let kinds: Vec<&str> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["route", "try", "answer"]);
    assert_eq!(told["steps"][1]["sent"], "sent_unanswered");
}

#[test]
fn the_sentences_name_what_decided() {
    let mut report = failed(1);
    report.detail = Some("Upstream 'payments' ended the connection.".into());
    let told = story(report, 41);
    assert_eq!(
        told.summary,
        "GET /v1/charges failed with 502 reset after 1 try in 41 ms: Upstream 'payments' ended the connection."
    );
    assert_eq!(
        told.steps[1].text,
        "Try 1 on 127.0.0.1:9001 (the only endpoint), over a new connection, which stood after 0.30 ms: \
         the request was sent, but the connection broke (reset) after 3.0 ms. It counts as a failure of \
         the endpoint."
    );
}

#[test]
fn every_random_report_has_a_story() {
    let metrics = Metrics::default();
    for report in samples::Telling::new(&metrics, 11).tell(2_000) {
        let told = story(report, 50);
        let text = story_text(&told);
        assert!(text.ends_with('\n') && !told.summary.is_empty());
        for step in &told.steps {
            assert!(step.text.ends_with('.'), "{}", step.text);
        }
        assert!(list_text(&[told.line]).lines().count() == 1);
    }
    assert!(list_text(&[]).contains("No request is kept"));
}

#[test]
fn what_was_sent_cannot_command_a_terminal() {
    let mut report = failed(1);
    report.detail = Some("\u{1b}[2Jgone\r\n  forged".into());
    let text = story_text(&story(report, 1));
    assert!(!text.contains(['\u{1b}', '\r']), "{text}");
    assert!(!text.lines().any(|line| line == "  forged"), "{text}");
}

#[test]
fn why_an_endpoint_was_chosen_is_told_with_what_narrowed_the_choice() {
    use crate::policy::balance::{How, Picked};
    let two = |load, other| How::LessLoaded { load, other };
    let of = |how| Picked {
        how,
        endpoints: 4,
        ..Picked::ONLY
    };
    for (picked, header, expected) in [
        (Picked::ONLY, None, "(the only endpoint)"),
        (
            of(two(1, 4)),
            None,
            "(fewest in flight of two by chance: 1 against 4)",
        ),
        (
            of(two(0, 0)),
            None,
            "(one of two by chance, both with 0 in flight)",
        ),
        (
            of(two(3, 1)),
            None,
            "(the less loaded of two by chance, for weight and recent failures: 3 in flight against 1)",
        ),
        (of(How::Turn), None, "(next in turn)"),
        (of(How::Chance), None, "(by chance)"),
        (
            of(How::Hash),
            Some("x-user-id"),
            "(by the hash of header x-user-id)",
        ),
        (
            Picked {
                tried: 1,
                shut: 2,
                unhealthy: 1,
                later: 3,
                ..of(How::Only)
            },
            None,
            "(the only one left of 4 endpoints; the one that was tried before was left aside; \
             2 breakers of others let nothing through; another is unhealthy by its checks; \
             3 others come last: they are not checked yet, or no longer named by their source)",
        ),
        (
            Picked {
                probe: true,
                share: 0.404,
                ..of(How::Turn)
            },
            None,
            "(next in turn; a probe of its half-open breaker; it warms up at 40 % of its traffic)",
        ),
        (
            Picked {
                anyway: true,
                ..of(How::Turn)
            },
            None,
            "(next in turn; every breaker is open, and when_all_open says send_anyway)",
        ),
    ] {
        let mut report = failed(1);
        report.tries[0].picked = picked;
        report.tries[0].hashed_by = header.map(samples::name);
        let told = story(report, 41).steps[1].text.clone();
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn times_and_tokens_are_as_exact_as_a_reader_needs_them() {
    for (micros, expected) in [
        (0, "0.00 ms"),
        (410, "0.41 ms"),
        (3_140, "3.1 ms"),
        (37_400, "37 ms"),
        (999_499, "999 ms"),
        (1_234_000, "1.23 s"),
        (90_000_000, "90.0 s"),
    ] {
        assert_eq!(tell::time(Duration::from_micros(micros)), expected);
    }
}
