//! Calls of gRPC: judged by their codes, put off by pushback.

use super::*;

/// A call that ended with this; HTTP was well.
fn called(code: Code) -> Attempt {
    Attempt {
        ending: Ending::Grpc { status: 200, code },
        ..BUSY
    }
}

fn settings_on(words: &[&str]) -> Settings {
    Settings {
        on: on(words),
        ..settings()
    }
}

#[test]
fn rule_13_a_status_of_200_is_tried_again_where_the_code_is_listed() {
    let s = settings_on(&["reset", "unavailable", "internal"]);
    for code in Code::ALL {
        let listed = matches!(code, Code::Unavailable | Code::Internal);
        let expected = if listed { again(25) } else { Decision::Final };
        assert_eq!(decide(&s, called(code)), expected, "{code:?}");
        assert_eq!(s.on.may_want(called(code).ending), listed, "{code:?}");
    }
    // Names are for calls; an answer of HTTP, or none, has words of its own.
    let failed = Attempt {
        ending: Ending::Failed(Reason::ConnectFailure),
        ..RESET
    };
    assert_eq!(decide(&s, BUSY), Decision::Final);
    assert_eq!(decide(&s, failed), Decision::Final);
    // And the defaults name no code.
    assert_eq!(
        decide(&settings(), called(Code::Unavailable)),
        Decision::Final
    );
}

#[test]
fn rule_14_the_status_that_came_with_the_code_counts_too() {
    let mapped = Attempt {
        ending: Ending::Grpc {
            status: 503,
            code: Code::Unavailable,
        },
        ..BUSY
    };
    for words in [&["503"], &["5xx"], &["unavailable"]] {
        assert_eq!(decide(&settings_on(words), mapped), again(25), "{words:?}");
    }
    for words in [&["502"], &["unknown"]] {
        assert_eq!(
            decide(&settings_on(words), mapped),
            Decision::Final,
            "{words:?}"
        );
    }
}

#[test]
fn the_class_of_a_code_has_its_own_rule() {
    let mut s = settings_on(&[
        "unavailable",
        "deadline_exceeded",
        "resource_exhausted",
        "unknown",
    ]);
    let own = |max_attempts| ClassRule {
        max_attempts,
        backoff: s.backoff,
    };
    s.by_class = ByClass {
        transient: Some(own(4)),
        timeout: Some(own(1)),
        rate_limited: Some(own(2)),
        unavailable: None,
    };
    for (code, attempts) in [
        (Code::Unavailable, 4),
        (Code::DeadlineExceeded, 1),
        (Code::ResourceExhausted, 2),
        (Code::Unknown, 3),
    ] {
        let last = Attempt {
            made: attempts,
            ..called(code)
        };
        assert_eq!(
            decide(&s, last),
            Decision::Denied(Why::Attempts),
            "{code:?}"
        );
        if attempts > 1 {
            let before = Attempt {
                made: attempts - 1,
                ..last
            };
            assert!(
                matches!(decide(&s, before), Decision::Again { .. }),
                "{code:?}"
            );
        }
    }
}

#[test]
fn rule_25_pushback_is_waited_for_to_the_millisecond_or_ends_the_tries() {
    let s = settings_on(&["unavailable"]);
    let pushed = |pushback, left: Option<u32>| Attempt {
        pushback: Some(pushback),
        time_left: left.map(|left| MS * left),
        ..called(Code::Unavailable)
    };
    let after = |millis| Pushback::After(MS * millis);
    let late = Decision::Denied(Why::Deadline);
    for chance in [0.0, 0.99] {
        let decided = |a| decide_with(&s, a, chance);
        assert_eq!(decided(pushed(after(1), None)), again(1));
        assert_eq!(decided(pushed(after(0), None)), again(0));
        assert_eq!(decided(pushed(after(700), Some(701))), again(700));
        assert_eq!(decided(pushed(after(700), Some(700))), late);
        // Longer than `max_retry_after`.
        assert_eq!(decided(pushed(after(10_001), None)), late);
        assert_eq!(decided(pushed(Pushback::Never, None)), late);
    }
    let deaf = Settings {
        respect_retry_after: false,
        ..s
    };
    assert_eq!(decide(&deaf, pushed(Pushback::Never, None)), again(25));
    // It makes nothing a failure that is none, but is one way to ask for another try.
    let well = Attempt {
        pushback: Some(after(1)),
        ..called(Code::Ok)
    };
    let asked = settings_on(&["retry_after"]);
    assert_eq!(decide(&asked, well), Decision::Final);
    assert_eq!(decide(&asked, pushed(after(1), None)), again(1));
    assert_eq!(
        decide(&asked, pushed(Pushback::Never, None)),
        Decision::Final
    );
    assert_eq!(decide(&asked, called(Code::Unavailable)), Decision::Final);
}

#[test]
fn rule_25_pushback_that_cannot_be_read_forbids_another_try() {
    for (value, pushback) in [
        ("0", Pushback::After(Duration::ZERO)),
        ("250", Pushback::After(MS * 250)),
        ("-1", Pushback::Never),
        ("", Pushback::Never),
        ("+1", Pushback::Never),
        ("1.5", Pushback::Never),
        ("soon", Pushback::Never),
        ("99999999999999999999", Pushback::Never),
    ] {
        assert_eq!(Pushback::read(value.as_bytes()), pushback, "{value}");
    }
}

#[test]
fn what_another_try_cannot_change_is_no_condition() {
    for word in ["ok", "unauthenticated", "unimplemented"] {
        let refusal = Conditions::default().add(word);
        assert!(matches!(refusal, Err(BadWord::Refused(_))), "{word}");
    }
    for name in Code::NAMES {
        let known = Conditions::default().add(name).is_ok();
        assert_eq!(WORDS.contains(&name), known, "{name}");
    }
}
