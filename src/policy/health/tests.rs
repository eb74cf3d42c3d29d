//! What checks make of an endpoint, by script: one step a line.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        question: Question {
            kind: Kind::Http {
                path: "/healthz".into(),
                expect: StatusSet::EMPTY,
            },
            port: None,
            host: None,
        },
        interval: 10 * SECOND,
        timeout: SECOND,
        healthy_after: 2,
        unhealthy_after: 3,
    }
}

/// Plays lines such as `fail -> healthy`, `pass -> unhealthy turned`, `anew -> unchecked`; `turned` says
/// that the step is told of.
fn play(settings: &Settings, script: &str) -> Health {
    let mut health = Health::new();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (step, expected) = line.split_once(" -> ").expect("step -> standing");
        let turn = match step {
            "pass" => health.record(settings, Ok(())),
            "fail" => health.record(settings, Err(Fault::Answered(500))),
            "anew" => {
                health.ask_anew();
                None
            }
            other => panic!("no such step: {other}"),
        };
        let turned = if turn.is_some() { " turned" } else { "" };
        let found = format!("{}{turned}", health.standing().name());
        assert_eq!(found, expected, "at `{line}`\n{script}");
        assert!(turn.is_none_or(|turn| turn.to == health.standing()));
    }
    health
}

#[test]
fn rule_053_the_first_success_of_a_new_endpoint_counts_at_once() {
    play(&settings(), "pass -> healthy turned\n pass -> healthy");
    play(&settings(), "fail -> unchecked\n pass -> healthy turned");
    // Even after it was given up: it has never been seen at work.
    let late = "fail -> unchecked
        fail -> unchecked
        fail -> unhealthy turned
        fail -> unhealthy
        pass -> healthy turned";
    play(&settings(), late);
}

#[test]
fn so_many_in_a_row_turn_it_and_the_other_kind_begins_the_count_anew() {
    let script = "pass -> healthy turned
        fail -> healthy
        fail -> healthy
        pass -> healthy
        fail -> healthy
        fail -> healthy
        fail -> unhealthy turned
        fail -> unhealthy
        pass -> unhealthy
        fail -> unhealthy
        pass -> unhealthy
        pass -> healthy turned
        fail -> healthy
        fail -> healthy
        fail -> unhealthy turned";
    play(&settings(), script);
}

#[test]
fn one_is_enough_where_one_is_asked_for() {
    let settings = Settings {
        healthy_after: 1,
        unhealthy_after: 1,
        ..settings()
    };
    let script = "pass -> healthy turned
        fail -> unhealthy turned
        pass -> healthy turned";
    play(&settings, script);
}

#[test]
fn thresholds_that_a_reload_changes_hold_for_what_was_counted_before() {
    let mut health = play(&settings(), "pass -> healthy turned\n fail -> healthy");
    let stricter = Settings {
        unhealthy_after: 2,
        ..settings()
    };
    let turn = health.record(&stricter, Err(Fault::Answered(503)));
    assert_eq!(turn.expect("the second failure").to, Standing::Unhealthy);
}

#[test]
fn another_question_clears_what_was_held_against_it() {
    let down = "pass -> healthy turned
        fail -> healthy
        fail -> healthy
        fail -> unhealthy turned
        anew -> unchecked
        pass -> healthy turned";
    play(&settings(), down);
    let up = "pass -> healthy turned
        fail -> healthy
        fail -> healthy
        anew -> healthy
        fail -> healthy
        fail -> healthy
        fail -> unhealthy turned
        pass -> healthy turned";
    play(&settings(), up);
}

#[test]
fn it_says_which_check_failed_how_and_how_often() {
    let once = play(&settings(), "fail -> unchecked");
    let told = once.verdict().expect("a failure").to_string();
    assert_eq!(told, "health check GET /healthz answered 500");
    let script = "fail -> unchecked\n fail -> unchecked\n fail -> unhealthy turned";
    let mut health = play(&settings(), script);
    let told = health.verdict().expect("a failure").to_string();
    assert_eq!(told, "health check GET /healthz answered 500, 3 in a row");
    health.record(&settings(), Ok(()));
    assert_eq!(health.verdict(), None);

    let question = |kind, port| Question {
        kind,
        port,
        host: None,
    };
    let grpc = |service: &str| Kind::Grpc {
        service: service.into(),
    };
    for (question, fault, told) in [
        (
            question(Kind::Tcp, Some(8081)),
            Fault::NoConnection("refused".into()),
            "by TCP on port 8081 got no connection (refused)",
        ),
        (
            question(grpc(""), None),
            Fault::Failed(Code::Unimplemented),
            "grpc.health.v1 ended with unimplemented",
        ),
        (
            question(grpc("shop.Cart"), None),
            Fault::NotServing("NOT_SERVING"),
            "grpc.health.v1 of shop.Cart answered NOT_SERVING",
        ),
        (
            question(Kind::Tcp, None),
            Fault::TimedOut(SECOND),
            "by TCP got no answer within 1s",
        ),
    ] {
        assert_eq!(format!("{question} {fault}"), told);
    }
}

#[test]
fn the_time_to_recover_counts_the_checks_that_are_still_needed() {
    let now = crate::clock::now();
    let new = "fail -> unchecked\n fail -> unchecked\n fail -> unhealthy turned";
    let known = format!(
        "pass -> healthy turned\n{}",
        new.replace("unchecked", "healthy")
    );
    let mut health = play(&settings(), new);
    assert_eq!(
        health.recovers_in(&settings(), now),
        None,
        "nothing is planned"
    );
    health.plan(now + 4 * SECOND);
    assert_eq!(health.next_in(now), Some(4 * SECOND));
    assert_eq!(health.recovers_in(&settings(), now), Some(4 * SECOND));
    let mut health = play(&settings(), &known);
    health.plan(now + 4 * SECOND);
    assert_eq!(health.recovers_in(&settings(), now), Some(14 * SECOND));
    health.record(&settings(), Ok(()));
    assert_eq!(health.recovers_in(&settings(), now), Some(4 * SECOND));
    assert_eq!(health.next_in(now + 5 * SECOND), Some(Duration::ZERO));
}

#[test]
fn rule_054_checks_are_spread_and_jittered() {
    let settings = settings();
    assert_eq!(settings.first_pause(0.0), Duration::ZERO);
    assert_eq!(settings.first_pause(0.5), SECOND / 2);
    let quick = Settings {
        interval: SECOND / 10,
        timeout: SECOND / 10,
        ..settings.clone()
    };
    assert_eq!(quick.first_pause(0.5), SECOND / 20);
    // Until it has answered for the first time it may be about to start.
    let new = play(&settings, "fail -> unchecked");
    assert_eq!(new.pause(&settings, 0.5), SECOND);
    assert_eq!(new.pause(&quick, 0.5), SECOND / 10);
    let known = play(&settings, "pass -> healthy turned\n fail -> healthy");
    assert_eq!(known.pause(&settings, 0.0), 9 * SECOND);
    assert_eq!(known.pause(&settings, 0.5), 10 * SECOND);
    assert!(known.pause(&settings, 0.999) < 11 * SECOND);
}

/// Whatever comes: it is never unhealthy before so many failures in a row, never healthy again before so
/// many successes, and the first success of all always counts.
#[test]
fn a_random_walk_keeps_to_the_counts() {
    let mut random = 7_u64;
    let mut chance = move || {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        random >> 33
    };
    for _ in 0..200 {
        let settings = Settings {
            healthy_after: 1 + (chance() % 4) as u32,
            unhealthy_after: 1 + (chance() % 4) as u32,
            ..settings()
        };
        let mut health = Health::new();
        let (mut passes, mut failures, mut ever) = (0, 0, false);
        for _ in 0..100 {
            let before = health.standing();
            let pass = chance() % 2 == 0;
            let first = pass && !ever;
            if pass {
                (passes, failures, ever) = (passes + 1, 0, true);
                health.record(&settings, Ok(()));
            } else {
                (passes, failures) = (0, failures + 1);
                health.record(&settings, Err(Fault::Answered(500)));
            }
            let expected = if first || passes >= settings.healthy_after {
                Standing::Healthy
            } else if failures >= settings.unhealthy_after {
                Standing::Unhealthy
            } else {
                before
            };
            assert_eq!(health.standing(), expected);
        }
    }
}
