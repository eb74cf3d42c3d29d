//! What is said of a status.

use std::collections::BTreeMap;

use super::*;
use crate::server::status::{
    Bulkhead, Certificate, Circuit, Endpoint, Event, Health, LastReload, Process, ReloadResult,
    RetryBudget, Source, Upstream,
};
use crate::telemetry::events::Kind;
use crate::telemetry::history::Series;

const AT: &str = "2026-11-21T20:30:00.000Z";
const EARLIER: &str = "2026-11-21T20:29:00.000Z";
const LATER: &str = "2026-11-21T20:29:30.000Z";

fn closed(address: &str) -> Endpoint {
    Endpoint {
        address: address.to_owned(),
        ..Endpoint::default()
    }
}

fn open(address: &str, since: &str) -> Endpoint {
    Endpoint {
        state: Circuit::Open,
        reason: Some("5 consecutive failures".to_owned()),
        since: Some(since.to_owned()),
        next_probe_ms: Some(3_140),
        ..closed(address)
    }
}

fn unhealthy(address: &str) -> Endpoint {
    Endpoint {
        health: Some(Health {
            state: "unhealthy".to_owned(),
            reason: Some("health check GET /healthz answered 500, 3 in a row".to_owned()),
            ..Health::default()
        }),
        ..closed(address)
    }
}

fn upstream(endpoints: Vec<Endpoint>) -> Upstream {
    Upstream {
        name: "payments".to_owned(),
        circuit: Circuit::of(endpoints.iter().map(|one| one.state)),
        endpoints,
        ..Upstream::default()
    }
}

fn history(requests: u64, failures: u64, fallbacks: u64) -> History {
    let series = Series {
        requests: vec![0, requests],
        failures: vec![0, failures],
        fallbacks: vec![0, fallbacks],
        ..Series::default()
    };
    History {
        every_ms: 5_000,
        points: 60,
        until: Some(AT.to_owned()),
        upstreams: BTreeMap::from([("payments".to_owned(), series)]),
        ..History::default()
    }
}

fn judged(mut status: Status) -> Status {
    status.at = AT.to_owned();
    status.process.ready = true;
    status.judge(&Recorder::default());
    status
}

/// What is said of one upstream that got 20 requests, of which so many failed.
fn said(upstream: Upstream, failures: u64) -> Judgement {
    let status = judged(Status {
        upstreams: vec![upstream],
        history: Some(history(20, failures, 0)),
        events: vec![Event {
            number: 1,
            at: EARLIER.to_owned(),
            kind: Kind::Health,
            upstream: Some("payments".to_owned()),
            endpoint: Some("b:2".to_owned()),
            text: "unhealthy".to_owned(),
        }],
        ..Status::default()
    });
    status.upstreams[0].judgement.clone()
}

#[test]
fn an_upstream_that_is_well_has_nothing_to_say() {
    let well = said(upstream(vec![closed("a:1")]), 1);
    assert_eq!(
        (well.rank, well.severity, well.word),
        (9, Severity::Ok, Word::Ok)
    );
    assert_eq!(
        (well.what.as_str(), well.why.as_str(), well.next.as_str()),
        ("", "", "")
    );
    // What leaves is nobody's trouble.
    let leaving = Endpoint {
        draining: true,
        ..open("b:2", LATER)
    };
    assert_eq!(
        said(upstream(vec![closed("a:1"), leaving]), 0).word,
        Word::Ok
    );
}

#[test]
fn what_is_down_says_since_when_why_and_what_comes_next() {
    let down = said(upstream(vec![open("a:1", EARLIER), open("b:2", LATER)]), 20);
    assert_eq!(
        (down.rank, down.severity, down.word),
        (0, Severity::Error, Word::Down)
    );
    assert_eq!(down.also, []);
    assert_eq!(
        down.what,
        "is down: the breakers of all 2 endpoints are open"
    );
    // It was not down before the last one.
    assert_eq!(down.since.as_deref(), Some(LATER));
    assert_eq!(
        down.why,
        "a:1: 5 consecutive failures; b:2: 5 consecutive failures."
    );
    assert_eq!(
        down.next,
        "20 of 20 requests failed in the last minute. Next probe in 3.1 s."
    );
    for (endpoints, what, since) in [
        (
            vec![open("a:1", LATER)],
            "is down: its breaker is open",
            Some(LATER),
        ),
        (
            vec![unhealthy("b:2")],
            "is down: its endpoint is unhealthy",
            Some(EARLIER),
        ),
        (
            vec![unhealthy("b:2"), open("a:1", LATER)],
            "is down: each of its 2 endpoints is unhealthy or has an open breaker",
            Some(LATER),
        ),
        // Nobody knows since when the other is.
        (
            vec![unhealthy("b:2"), unhealthy("c:3")],
            "is down: all 2 endpoints are unhealthy",
            None,
        ),
    ] {
        let down = said(upstream(endpoints), 0);
        assert_eq!((down.what.as_str(), down.since.as_deref()), (what, since));
    }
}

#[test]
fn each_trouble_has_its_rank_and_its_word() {
    let seats = |in_flight| {
        Some(Bulkhead {
            in_flight,
            queued: 1,
            limit: Some(10),
            max_queue: 4,
        })
    };
    let source = |problem: &str| Source {
        name: "db.test:80".to_owned(),
        next_ms: Some(4_000),
        problem: Some(problem.to_owned()),
        ..Source::default()
    };
    let one = || upstream(vec![closed("a:1")]);
    let two = |other| upstream(vec![closed("a:1"), other]);
    let half_open = Endpoint {
        state: Circuit::HalfOpen,
        ..open("a:1", LATER)
    };
    let forced = Endpoint {
        forced: Some("closed".to_owned()),
        ..closed("a:1")
    };
    let budget = RetryBudget {
        tokens: 0.4,
        limit: Some(6.0),
    };
    let unresolved = vec![source("there is no such name (NXDOMAIN)")];
    for (upstream, failures, rank, word, what, why) in [
        (
            Upstream {
                sources: unresolved.clone(),
                ..upstream(vec![])
            },
            0,
            0,
            Word::NoEndpoint,
            "has no endpoint",
            "db.test:80: there is no such name (NXDOMAIN).",
        ),
        (
            upstream(vec![half_open]),
            0,
            1,
            Word::HalfOpen,
            "is being probed",
            "a:1: 5 consecutive failures.",
        ),
        (
            one(),
            2,
            2,
            Word::Failing,
            "fails: 90.0 % of its requests succeed",
            "The failed requests say why.",
        ),
        (
            two(unhealthy("b:2")),
            0,
            3,
            Word::Degraded,
            "works without 1 of its 2 endpoints",
            "b:2: health check GET /healthz answered 500, 3 in a row.",
        ),
        (
            Upstream {
                bulkhead: seats(10),
                ..one()
            },
            0,
            4,
            Word::BulkheadFull,
            "has a full bulkhead",
            "10 of 10 seats and 1 of 4 places in its queue are taken.",
        ),
        (
            Upstream {
                retry_budget: Some(budget),
                ..one()
            },
            0,
            5,
            Word::RetryBudgetEmpty,
            "has used up its retry budget",
            "0.4 of 6.0 tokens are left.",
        ),
        (
            Upstream {
                bulkhead: seats(8),
                ..one()
            },
            0,
            6,
            Word::BulkheadNearlyFull,
            "is near the limit of its bulkhead",
            "8 of 10 seats and 1 of 4 places in its queue are taken.",
        ),
        (
            upstream(vec![forced]),
            0,
            7,
            Word::Forced,
            "has 1 breaker in an operator's hand",
            "a:1: held closed.",
        ),
        (
            Upstream {
                sources: unresolved,
                ..one()
            },
            0,
            8,
            Word::Unresolved,
            "cannot be found anew",
            "db.test:80: there is no such name (NXDOMAIN).",
        ),
    ] {
        let judgement = said(upstream, failures);
        assert_eq!(
            (judgement.rank, judgement.word),
            (rank, word),
            "{judgement:?}"
        );
        assert_eq!(
            (judgement.what.as_str(), judgement.why.as_str()),
            (what, why)
        );
        assert!(!judgement.next.is_empty(), "{judgement:?}");
        let bad = matches!(rank, 0 | 2);
        assert_eq!(judgement.severity == Severity::Error, bad, "{judgement:?}");
    }
    // All that holds is said, the worst in sentences.
    let judgement = said(
        Upstream {
            bulkhead: seats(10),
            retry_budget: Some(budget),
            ..one()
        },
        9,
    );
    assert_eq!(judgement.word, Word::Failing);
    assert_eq!(judgement.also, [Word::BulkheadFull, Word::RetryBudgetEmpty]);
    // From the only point with requests on: five seconds.
    assert_eq!(judgement.since.as_deref(), Some("2026-11-21T20:29:55.000Z"));
}

#[test]
fn an_upstream_that_nothing_is_kept_of_is_judged_by_the_rest() {
    let mut status = judged(Status {
        upstreams: vec![upstream(vec![open("a:1", LATER)])],
        history: Some(History::default()),
        ..Status::default()
    });
    let judgement = &status.upstreams[0].judgement;
    assert_eq!(judgement.next, "Next probe in 3.1 s.");
    assert_eq!(status.upstreams[0].last_minute, None);
    status.history = Some(history(20, 0, 12));
    let judgement = judged(status).upstreams[0].judgement.clone();
    let saved = "A fallback answered 12 of 20 requests in the last minute. Next probe in 3.1 s.";
    assert_eq!(judgement.next, saved);
}

#[test]
fn the_process_has_its_own_troubles() {
    let certificate = |expires_at: &str, problem: Option<&str>| Certificate {
        listener: Some("public".to_owned()),
        file: "tls.crt".to_owned(),
        expires_at: expires_at.to_owned(),
        problem: problem.map(str::to_owned),
        ..Certificate::default()
    };
    let status = judged(Status {
        process: Process {
            draining: true,
            ..Process::default()
        },
        last_reload: Some(LastReload {
            at: EARLIER.to_owned(),
            result: ReloadResult::Refused,
            generation: 3,
            problems: vec![
                "a.yaml:3:5: unknown key 'adress'\n  3 | adress\n".to_owned(),
                "b".to_owned(),
            ],
            changes: Vec::new(),
        }),
        certificates: vec![
            certificate("2026-11-20T00:00:00.000Z", None),
            certificate("2026-11-22T00:00:00.000Z", Some("the key is of another")),
            certificate("2026-11-24T00:00:00.000Z", Some("the key is of another")),
            certificate("2027-11-20T00:00:00.000Z", None),
        ],
        ..Status::default()
    });
    let said: Vec<_> = status
        .notices
        .iter()
        .map(|one| (one.word, one.what.as_str(), one.why.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (Word::Draining, "Draining: new work should go elsewhere", ""),
            (
                Word::CertificateExpired,
                "A certificate of listener public has expired",
                "tls.crt"
            ),
            (
                Word::ConfigRefused,
                "The last configuration was refused: 2 problems",
                "a.yaml:3:5: unknown key 'adress'"
            ),
            (
                Word::CertificateUnused,
                "The newer certificates of listener public are not in use",
                "the key is of another"
            ),
            (
                Word::CertificateExpires,
                "A certificate of listener public expires within a day",
                "tls.crt"
            ),
            (
                Word::CertificateExpires,
                "A certificate of listener public expires in 2 days",
                "tls.crt"
            ),
        ]
    );
    assert_eq!(status.notices[2].since.as_deref(), Some(EARLIER));
    assert_eq!(status.notices[2].next, "Generation 3 still runs.");
}

#[test]
fn the_verdict_names_what_is_in_trouble() {
    let named = |name: &str, endpoints| Upstream {
        name: name.to_owned(),
        ..upstream(endpoints)
    };
    let well = |name| named(name, vec![closed("a:1")]);
    let down = |name| named(name, vec![open("a:1", LATER)]);
    let partly = |name| named(name, vec![closed("a:1"), open("b:2", LATER)]);
    for (upstreams, severity, text) in [
        (
            vec![],
            Severity::Ok,
            "Nothing is wrong: no upstream is configured.",
        ),
        (
            vec![well("a")],
            Severity::Ok,
            "All is well: the upstream works.",
        ),
        (
            vec![well("a"), well("b")],
            Severity::Ok,
            "All is well: all 2 upstreams work.",
        ),
        (
            vec![well("a"), partly("b")],
            Severity::Warning,
            "b needs a look; nothing is broken.",
        ),
        (
            vec![partly("a"), partly("b")],
            Severity::Warning,
            "a and b need a look; nothing is broken.",
        ),
        (
            vec![down("a"), well("b")],
            Severity::Error,
            "a is in trouble.",
        ),
        (
            vec![partly("a"), down("b")],
            Severity::Error,
            "b is in trouble; 1 more needs a look.",
        ),
        (
            vec![
                down("a"),
                down("b"),
                down("c"),
                down("d"),
                partly("e"),
                partly("f"),
            ],
            Severity::Error,
            "a, b, c and 1 more are in trouble; 2 more need a look.",
        ),
    ] {
        let status = judged(Status {
            upstreams,
            ..Status::default()
        });
        assert_eq!(
            (status.verdict.severity, status.verdict.text.as_str()),
            (severity, text)
        );
    }
    let refused = LastReload {
        at: EARLIER.to_owned(),
        result: ReloadResult::Refused,
        generation: 1,
        problems: Vec::new(),
        changes: Vec::new(),
    };
    let status = judged(Status {
        last_reload: Some(refused),
        ..Status::default()
    });
    assert_eq!(status.verdict.text, "The configuration is in trouble.");
    assert_eq!((status.verdict.errors, status.verdict.warnings), (1, 0));
}

#[test]
fn an_upstream_that_works_again_is_not_said_to_fail() {
    let calm = |count: usize| {
        let series = Series {
            requests: [vec![20], vec![9; count]].concat(),
            failures: [vec![20], vec![0; count]].concat(),
            ..Series::default()
        };
        let mut history = history(0, 0, 0);
        history.upstreams.insert("payments".to_owned(), series);
        let upstreams = vec![upstream(vec![closed("a:1")])];
        let status = judged(Status {
            upstreams,
            history: Some(history),
            ..Status::default()
        });
        status.upstreams[0].judgement.clone()
    };
    assert_eq!(calm(2).word, Word::Failing);
    let again = calm(3);
    assert_eq!(
        (again.rank, again.word, again.what.as_str()),
        (6, Word::Recovered, "works again")
    );
    assert_eq!(again.since.as_deref(), Some("2026-11-21T20:29:45.000Z"));
    assert_eq!(again.why, "20 of 47 requests failed in the last minute.");
    // When a minute is over, nothing is left to say.
    assert_eq!(calm(12).word, Word::Ok);
}
