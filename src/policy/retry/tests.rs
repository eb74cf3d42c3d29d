//! The decision for each cause, in the order of the questions, and at random.

use super::*;

mod grpc;

const MS: Duration = Duration::from_millis(1);

/// The defaults without chance and without a budget: waits of 25 ms, 50 ms …
fn settings() -> Settings {
    Settings {
        backoff: backoff::Settings {
            jitter: backoff::Jitter::None,
            ..backoff::Settings::default()
        },
        budget: None,
        ..Settings::default()
    }
}

/// A first try of a GET that broke after it was sent.
const RESET: Attempt = Attempt {
    made: 1,
    ending: Ending::Failed(Reason::Reset),
    sent: Sent::Unanswered,
    repeatable: true,
    replayable: true,
    time_left: None,
    retry_after: None,
    pushback: None,
};

const BUSY: Attempt = Attempt {
    ending: Ending::Answered(503),
    sent: Sent::Answered,
    ..RESET
};

fn decide(settings: &Settings, a: Attempt) -> Decision {
    decide_with(settings, a, 0.5)
}

fn decide_with(settings: &Settings, a: Attempt, chance: f64) -> Decision {
    settings.decide(&a, &mut Budget::new(), crate::clock::now(), chance)
}

fn again(millis: u32) -> Decision {
    Decision::Again { wait: MS * millis }
}

fn on(words: &[&str]) -> Conditions {
    let mut conditions = Conditions::default();
    for word in words {
        conditions.add(word).unwrap();
    }
    conditions
}

#[test]
fn a_failure_is_tried_again_until_the_attempts_are_used_up() {
    let s = settings();
    assert_eq!(decide(&s, RESET), again(25));
    assert_eq!(decide(&s, Attempt { made: 2, ..RESET }), again(50));
    for made in [3, 4] {
        let last = Attempt { made, ..RESET };
        assert_eq!(decide(&s, last), Decision::Denied(Why::Attempts));
    }
}

#[test]
fn the_questions_are_asked_in_their_order() {
    let empty = budget::Settings {
        ratio: 0.0,
        min_per_second: 0.0,
        ..budget::Settings::default()
    };
    let s = Settings {
        budget: Some(empty),
        ..settings()
    };
    // Everything speaks against it; the first question that is answered otherwise gives the cause.
    let mut a = Attempt {
        made: 9,
        ending: Ending::Answered(200),
        sent: Sent::Committed,
        repeatable: false,
        replayable: false,
        time_left: Some(Duration::ZERO),
        retry_after: None,
        pushback: None,
    };
    assert_eq!(decide(&s, a), Decision::Final);
    a.ending = Ending::Answered(503);
    assert_eq!(decide(&s, a), Decision::Denied(Why::Committed));
    a.sent = Sent::Answered;
    assert_eq!(decide(&s, a), Decision::Denied(Why::Attempts));
    a.made = 1;
    assert_eq!(decide(&s, a), Decision::Denied(Why::Method));
    a.repeatable = true;
    assert_eq!(decide(&s, a), Decision::Denied(Why::Body));
    a.replayable = true;
    assert_eq!(decide(&s, a), Decision::Denied(Why::Deadline));
    a.time_left = None;
    assert_eq!(decide(&s, a), Decision::Denied(Why::Budget));
    assert_eq!(decide(&settings(), a), again(25));
}

#[test]
fn rule_11_nothing_is_tried_again_once_the_client_has_seen_a_byte() {
    for a in [RESET, BUSY] {
        let sent = Sent::Committed;
        assert_eq!(
            decide(&settings(), Attempt { sent, ..a }),
            Decision::Denied(Why::Committed)
        );
    }
}

#[test]
fn rule_15_what_was_not_sent_may_be_sent_by_any_method() {
    for (sent, repeatable, expected) in [
        (Sent::NotSent, false, again(25)),
        (Sent::NotSent, true, again(25)),
        (Sent::Unanswered, false, Decision::Denied(Why::Method)),
        (Sent::Unanswered, true, again(25)),
        (Sent::Answered, false, Decision::Denied(Why::Method)),
        (Sent::Answered, true, again(25)),
    ] {
        let a = Attempt {
            sent,
            repeatable,
            ..RESET
        };
        assert_eq!(decide(&settings(), a), expected, "{}", sent.name());
    }
}

#[test]
fn methods_that_may_be_sent_twice() {
    let list = Methods::List(["POST".into(), "GET".into()].into());
    for (method, keyed, idempotent, listed) in [
        ("GET", false, true, true),
        ("HEAD", false, true, false),
        ("OPTIONS", false, true, false),
        ("TRACE", false, true, false),
        ("PUT", false, true, false),
        ("DELETE", false, true, false),
        ("POST", false, false, true),
        ("POST", true, true, true),
        ("PATCH", false, false, false),
        ("PATCH", true, true, false),
        ("CONNECT", false, false, false),
        ("get", false, false, false),
    ] {
        assert_eq!(
            Methods::Idempotent.allow(method, keyed),
            idempotent,
            "{method}"
        );
        assert_eq!(list.allow(method, keyed), listed, "{method}");
        assert!(Methods::All.allow(method, keyed));
    }
}

#[test]
fn rule_19_a_body_that_is_gone_cannot_be_sent_again() {
    let a = Attempt {
        replayable: false,
        ..RESET
    };
    assert_eq!(decide(&settings(), a), Decision::Denied(Why::Body));
}

#[test]
fn rule_5_the_wait_must_leave_time_for_a_try() {
    for (left, expected) in [
        (0, Decision::Denied(Why::Deadline)),
        (25, Decision::Denied(Why::Deadline)),
        (26, again(25)),
        (9000, again(25)),
    ] {
        let time_left = Some(MS * left);
        assert_eq!(
            decide(&settings(), Attempt { time_left, ..RESET }),
            expected,
            "{left} ms"
        );
    }
    // Without any wait, a try still needs its millisecond.
    let mut s = settings();
    s.backoff.base = Duration::ZERO;
    for (micros, expected) in [(999, Decision::Denied(Why::Deadline)), (1000, again(0))] {
        let time_left = Some(Duration::from_micros(micros));
        assert_eq!(decide(&s, Attempt { time_left, ..RESET }), expected);
    }
}

#[test]
fn rule_24_retry_after_is_spread_upwards_only() {
    let a = Attempt {
        retry_after: Some(MS * 2000),
        ..BUSY
    };
    for (chance, millis) in [(0.0, 2000), (0.5, 2500), (0.999, 2999)] {
        assert_eq!(
            decide_with(&settings(), a, chance),
            again(millis),
            "{chance}"
        );
    }
    // The spread alone must not use up the time that is left.
    let tight = Attempt {
        time_left: Some(MS * 2401),
        ..a
    };
    assert_eq!(decide_with(&settings(), tight, 0.9), again(2400));
}

#[test]
fn rule_24_fault_055_a_retry_after_too_far_off_ends_the_tries() {
    for (seconds, left, expected) in [
        (10, None, again(15_000 - 2_500)),
        (11, None, Decision::Denied(Why::Deadline)),
        (3600, None, Decision::Denied(Why::Deadline)),
        (u64::MAX, None, Decision::Denied(Why::Deadline)),
        (3, Some(3000), Decision::Denied(Why::Deadline)),
        (3, Some(3001), again(3000)),
    ] {
        let a = Attempt {
            retry_after: Some(Duration::from_secs(seconds)),
            time_left: left.map(Duration::from_millis),
            ..BUSY
        };
        assert_eq!(decide(&settings(), a), expected, "{seconds} s of {left:?}");
    }
    let s = Settings {
        max_retry_after: Duration::MAX,
        ..settings()
    };
    let a = Attempt {
        retry_after: Some(Duration::MAX),
        ..BUSY
    };
    let wait = Duration::MAX;
    assert_eq!(decide(&s, a), Decision::Again { wait }, "no overflow");
}

#[test]
fn rule_24_retry_after_now_waits_as_long_as_the_backoff() {
    let a = Attempt {
        retry_after: Some(Duration::ZERO),
        ..BUSY
    };
    assert_eq!(decide(&settings(), a), again(25));
}

#[test]
fn retry_after_that_is_not_respected_sets_no_wait() {
    let s = Settings {
        respect_retry_after: false,
        ..settings()
    };
    let a = Attempt {
        retry_after: Some(Duration::from_secs(3600)),
        ..BUSY
    };
    assert_eq!(decide(&s, a), again(25));
}

#[test]
fn rule_29_the_budget_pays_last_and_only_for_what_is_tried_again() {
    let one = budget::Settings {
        ratio: 1.0,
        min_per_second: 0.0,
        ..budget::Settings::default()
    };
    let s = Settings {
        budget: Some(one),
        ..settings()
    };
    let now = crate::clock::now();
    let mut budget = Budget::new();
    budget.deposit(&one, now);
    for (a, expected) in [
        (
            Attempt { made: 3, ..RESET },
            Decision::Denied(Why::Attempts),
        ),
        (
            Attempt {
                repeatable: false,
                ..RESET
            },
            Decision::Denied(Why::Method),
        ),
        (
            Attempt {
                replayable: false,
                ..RESET
            },
            Decision::Denied(Why::Body),
        ),
        (
            Attempt {
                time_left: Some(MS),
                ..RESET
            },
            Decision::Denied(Why::Deadline),
        ),
        (RESET, again(25)),
        (RESET, Decision::Denied(Why::Budget)),
    ] {
        assert_eq!(s.decide(&a, &mut budget, now, 0.0), expected);
    }
    // A reload to a larger share takes the memory as it is.
    let more = Settings {
        budget: Some(budget::Settings { ratio: 2.0, ..one }),
        ..settings()
    };
    assert_eq!(more.decide(&RESET, &mut budget, now, 0.0), again(25));
    assert_eq!(
        more.decide(&RESET, &mut budget, now, 0.0),
        Decision::Denied(Why::Budget)
    );
}

#[test]
fn a_class_can_have_a_rule_of_its_own() {
    let slow = backoff::Settings {
        kind: backoff::Kind::Fixed,
        base: MS * 700,
        ..settings().backoff
    };
    let own = |max_attempts| {
        Some(ClassRule {
            max_attempts,
            backoff: slow,
        })
    };
    let s = Settings {
        on: on(&["reset", "timeout", "5xx", "429", "404"]),
        by_class: ByClass {
            transient: own(2),
            timeout: own(1),
            rate_limited: own(5),
            unavailable: own(7),
        },
        ..settings()
    };
    let timeout = Attempt {
        ending: Ending::Failed(Reason::TryTimeout),
        ..RESET
    };
    let answered = |status, made| Attempt {
        ending: Ending::Answered(status),
        made,
        ..BUSY
    };
    for (a, expected) in [
        (RESET, again(700)),
        (
            Attempt { made: 2, ..RESET },
            Decision::Denied(Why::Attempts),
        ),
        (timeout, Decision::Denied(Why::Attempts)),
        (answered(429, 4), again(700)),
        (answered(429, 5), Decision::Denied(Why::Attempts)),
        (answered(500, 1), again(25)),
        (answered(404, 2), again(50)),
        (answered(404, 3), Decision::Denied(Why::Attempts)),
    ] {
        assert_eq!(decide(&s, a), expected, "{a:?}");
    }
    assert_eq!(s.rule(Class::Unavailable).max_attempts, 7);
    for class in [Class::Client, Class::Permanent, Class::Local] {
        assert_eq!(s.rule(class).max_attempts, 3);
    }
}

#[test]
fn a_success_that_is_listed_goes_by_the_general_rule() {
    let s = Settings {
        on: on(&["202"]),
        ..settings()
    };
    let a = Attempt {
        ending: Ending::Answered(202),
        ..BUSY
    };
    assert_eq!(decide(&s, a), again(25));
}

#[test]
fn rule_27_our_own_refusals_are_never_tried_again() {
    let everything = Conditions {
        reasons: u32::MAX,
        ..on(&WORDS)
    };
    for reason in Reason::ALL {
        let ending = Ending::Failed(reason);
        assert_eq!(
            everything.wants(ending, true),
            reason.blames_endpoint(),
            "{reason:?}"
        );
        // `internal` is taken for the code of gRPC.
        let is_code = reason == Reason::Internal;
        assert_eq!(
            Conditions::default().add(reason.name()).is_ok(),
            reason.blames_endpoint() || is_code
        );
    }
}

#[test]
fn rule_18_some_answers_are_never_asked_for_again() {
    let statuses = on(&["5xx"]).statuses;
    assert!(!statuses.contains(501) && !statuses.contains(505) && statuses.contains(599));
    let mut all = on(&["5xx", "retry_after"]);
    all.statuses.insert_range(100, 599);
    for status in NEVER {
        assert!(!on(&["5xx", "retry_after"]).wants(Ending::Answered(status), true));
        assert!(!all.wants(Ending::Answered(status), true), "{status}");
        let refusal = Conditions::default().add(&status.to_string());
        assert!(matches!(refusal, Err(BadWord::Refused(_))), "{status}");
    }
    // These only if they are asked for.
    for status in [409, 421, 423, 425] {
        assert!(!on(&["5xx"]).wants(Ending::Answered(status), false));
        assert!(on(&[&status.to_string()]).wants(Ending::Answered(status), false));
    }
}

#[test]
fn rule_14_any_condition_of_the_list_will_do() {
    let conditions = on(&["429", "connect_failure", "timeout", "retry_after"]);
    let wanted = |reason| conditions.wants(Ending::Failed(reason), false);
    for reason in [
        Reason::ConnectFailure,
        Reason::TlsFailure,
        Reason::ConnectTimeout,
        Reason::TryTimeout,
        Reason::RequestTimeout,
    ] {
        assert!(wanted(reason), "{reason:?}");
    }
    assert!(!wanted(Reason::Reset) && !wanted(Reason::ProtocolError));
    for (status, plain, with_retry_after) in [
        (200, false, false),
        (302, false, false),
        (404, false, false),
        (429, true, true),
        (500, false, true),
        (501, false, false),
        (503, false, true),
        (599, false, true),
    ] {
        let ending = Ending::Answered(status);
        assert_eq!(conditions.wants(ending, false), plain, "{status}");
        assert_eq!(conditions.wants(ending, true), with_retry_after, "{status}");
    }
    assert!(!on(&["503"]).wants(Ending::Answered(429), true));
}

#[test]
fn the_words_are_these_and_no_others() {
    for word in WORDS {
        assert_eq!(Conditions::default().add(word), Ok(()), "{word}");
    }
    for word in ["any", "4xx", "breaker", "", "50", "GATEWAY"] {
        assert_eq!(
            Conditions::default().add(word),
            Err(BadWord::Unknown),
            "{word}"
        );
    }
}

#[test]
fn an_empty_block_is_the_documented_one() {
    let words = ["connect_failure", "reset", "timeout", "502", "503", "504"];
    let s = Settings::default();
    assert_eq!(s.on, on(&words));
    assert_eq!((s.max_attempts, s.max_body), (3, 65_536));
    assert_eq!(s.max_retry_after, Duration::from_secs(10));
    assert!(s.respect_retry_after && s.budget == Some(budget::Settings::default()));
}

/// Whatever comes: never again when committed or when a second copy could do harm, never past the
/// time, the attempts or the budget, and never for what `on` does not list.
#[test]
fn walk_another_try_does_no_harm() {
    let mut rng = fastrand::Rng::with_seed(15);
    let mut seen = std::collections::HashMap::<String, u32>::new();
    let mut budget = Budget::new();
    let mut now = crate::clock::now();
    let mut s = settings();
    let mut words: Vec<String> = WORDS.map(String::from).to_vec();
    words.extend([429, 500, 503].map(|status| status.to_string()));
    for _ in 0..30_000 {
        now += MS * rng.u32(..50);
        if rng.u32(..50) == 0 {
            rng.shuffle(&mut words);
            let listed: Vec<&str> = words[..6].iter().map(String::as_str).collect();
            s.on = on(&listed);
            s.max_attempts = rng.u32(1..6);
            s.respect_retry_after = rng.bool();
            s.backoff.max = MS * rng.u32(1..500);
            s.budget = rng.bool().then_some(budget::Settings {
                ratio: rng.f64() * 0.1,
                min_per_second: rng.f64() * 0.2,
                ..budget::Settings::default()
            });
            s.by_class.transient = rng.bool().then_some(ClassRule {
                max_attempts: rng.u32(1..6),
                backoff: s.backoff,
            });
        }
        if let Some(paying) = &s.budget {
            budget.deposit(paying, now);
        }
        let a = draw(&mut rng);
        let wanted = s.on.wants(a.ending, a.retry_after.is_some());
        let tokens = s.budget.map(|b| budget.tokens(&b, now));
        let decision = s.decide(&a, &mut budget, now, rng.f64());
        let kind = match decision {
            Decision::Again { .. } => "again".into(),
            Decision::Denied(why) => why.name().to_owned(),
            Decision::Final => "final".into(),
        };
        *seen.entry(kind).or_default() += 1;
        assert_eq!(decision == Decision::Final, !wanted);
        let left = s.budget.map(|b| budget.tokens(&b, now));
        let Decision::Again { wait } = decision else {
            assert_eq!(tokens, left, "a denial costs nothing");
            continue;
        };
        assert!(a.sent != Sent::Committed && a.replayable);
        assert!(a.repeatable || a.sent == Sent::NotSent);
        let rule = a
            .ending
            .class()
            .map_or(s.general_rule(), |class| s.rule(class));
        assert!(a.made < rule.max_attempts);
        assert!(a.time_left.is_none_or(|left| wait + SHORTEST_TRY <= left));
        let hint = a
            .retry_after
            .filter(|hint| s.respect_retry_after && !hint.is_zero());
        match hint {
            Some(hint) => assert!(wait >= hint && wait < hint + hint / 2 + MS),
            None => assert!(wait <= s.backoff.max),
        }
        if let (Some(before), Some(after)) = (tokens, left) {
            assert!((before - after - 1.0).abs() < 1e-3);
        }
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

fn draw(rng: &mut fastrand::Rng) -> Attempt {
    let statuses = [200, 404, 429, 500, 501, 503];
    let sent = [
        Sent::NotSent,
        Sent::Unanswered,
        Sent::Answered,
        Sent::Committed,
    ][rng.usize(..4)];
    let failed = Ending::Failed(Reason::ALL[rng.usize(..Reason::ALL.len())]);
    let answered = Ending::Answered(statuses[rng.usize(..statuses.len())]);
    let is_answer = rng.bool();
    Attempt {
        made: rng.u32(1..7),
        ending: if is_answer { answered } else { failed },
        sent,
        repeatable: rng.bool(),
        replayable: rng.u32(..5) > 0,
        time_left: rng.bool().then(|| MS * rng.u32(..2000)),
        retry_after: (is_answer && rng.bool()).then(|| MS * rng.u32(..15_000)),
        pushback: None,
    }
}
