//! Peers, the share that may be open, the classifier, and the words.

use super::*;
use crate::policy::grpc::Code;
use crate::policy::outcome::{Ending, Reason, StatusSet};

fn peers(rates: &[(u32, u32)]) -> Option<Peers> {
    Peers::of(rates.iter().copied())
}

#[test]
fn rule_46_fewer_than_five_endpoints_are_not_compared() {
    assert_eq!(peers(&[(20, 20); 3]), None);
    assert_eq!(peers(&[(20, 20), (20, 20), (20, 20), (0, 0)]), None);
    assert!(peers(&[(20, 20); 4]).is_some());
}

#[test]
fn mean_and_deviation_are_those_of_the_others() {
    let peers = peers(&[(10, 20), (20, 20), (10, 20), (20, 20)]).unwrap();
    assert!((peers.mean() - 0.75).abs() < 1e-12);
    assert!((peers.deviation() - 0.25).abs() < 1e-12);
    assert!(peers.outdo(0.49, 1.0));
    assert!(
        !peers.outdo(0.50, 1.0),
        "it must lie below, not at, the bound"
    );
    assert!(!peers.outdo(0.49, 2.0));
}

#[test]
fn rule_46_peers_that_are_all_alike_do_not_condemn_one_for_an_error() {
    let alike = peers(&[(10_000, 10_000); 9]).unwrap();
    assert!(!alike.outdo(0.9999, 3.0));
    assert!(!alike.outdo(0.951, 3.0), "less than five points below");
    assert!(alike.outdo(0.949, 3.0));
    assert!(
        !alike.outdo(0.91, 10.0),
        "less than ten of the least deviations below"
    );
    assert!(alike.outdo(0.89, 10.0));
}

/// An endpoint with so many successes and failures, and the next result, beside perfect peers.
fn beside_perfect_peers(successes: u32, failures: u32, last: Outcome) -> Option<Breaker> {
    let s = Settings {
        consecutive_failures: None,
        failure_rate: None,
        peer_deviation: Some(3.0),
        // Every call is slow, so that each one is looked at, but slowness opens nothing.
        slow_call: Some(Duration::ZERO),
        ..Settings::default()
    };
    let peers = peers(&[(100, 100); 4]);
    let now = crate::clock::now();
    let mut breaker = Breaker::new();
    let results = (0..successes).map(|_| Outcome::Success);
    let results = results
        .chain((0..failures).map(|_| Outcome::Failure))
        .chain([last]);
    for outcome in results {
        assert_eq!(breaker.state(&s, now), State::Closed);
        let ticket = breaker.admit(&s, now).unwrap();
        let seen = Observation {
            outcome,
            took: Duration::ZERO,
        };
        let _ = breaker.settle(&s, now, ticket, seen, true, peers.as_ref(), 0.0);
    }
    (breaker.state(&s, now) == State::Open).then_some(breaker)
}

#[test]
fn an_endpoint_far_below_its_peers_opens_once_it_has_min_requests() {
    assert!(
        beside_perfect_peers(17, 1, Outcome::Failure).is_none(),
        "19 requests"
    );
    assert!(
        beside_perfect_peers(19, 0, Outcome::Failure).is_none(),
        "95 % are near enough"
    );
    assert!(
        beside_perfect_peers(17, 2, Outcome::Success).is_none(),
        "success opens nothing"
    );
    let breaker = beside_perfect_peers(18, 1, Outcome::Failure).unwrap();
    assert_eq!(
        breaker.cause().unwrap().to_string(),
        "success rate of 90.0% where its peers have 100.0% with a standard deviation of 0.0%"
    );
}

#[test]
fn the_success_rate_is_told_from_min_requests_on() {
    let s = Settings {
        min_requests: 3,
        ..Settings::default()
    };
    let mut play = play(s, "0 ok\n 0 fail");
    let now = play.start;
    assert_eq!(play.breaker.success_rate(&play.s, now), None);
    play.step("0 ok");
    assert_eq!(play.breaker.success_rate(&play.s, now), Some((2, 3)));
}

#[test]
fn rule_43_at_least_one_may_open_and_never_the_last_of_several() {
    let most = |endpoints: usize, max_open: f64| {
        (0..=endpoints)
            .take_while(|open| may_open(*open, endpoints, max_open))
            .count()
    };
    for (endpoints, max_open, expected) in [
        (2, 0.5, 1),
        (2, 0.99, 1),
        (2, 1.0 - 1e-12, 1),
        (2, 1.0, 2),
        (3, 0.0, 1),
        (3, 0.1, 1),
        (3, 0.5, 1),
        (3, 0.67, 2),
        (3, 1.0, 3),
        (10, 0.1, 1),
        (10, 0.5, 5),
        (10, 0.7, 7),
        (10, 0.99, 9),
        (100, 0.29, 29),
        (2, f64::NAN, 1),
    ] {
        assert_eq!(
            most(endpoints, max_open),
            expected,
            "{max_open} of {endpoints}"
        );
    }
}

#[test]
fn rule_44_a_single_endpoint_may_open_whatever_the_share() {
    assert!(may_open(0, 1, 0.0));
    assert!(may_open(0, 1, 0.5));
}

#[test]
fn rule_51_the_classifier_blames_5xx_and_nothing_below() {
    for (status, outcome) in [
        (100, Outcome::Success),
        (200, Outcome::Success),
        (304, Outcome::Success),
        (400, Outcome::Success),
        (404, Outcome::Success),
        (429, Outcome::Ignored),
        (499, Outcome::Success),
        (500, Outcome::Failure),
        (501, Outcome::Success),
        (502, Outcome::Failure),
        (503, Outcome::Failure),
        (504, Outcome::Failure),
        (505, Outcome::Success),
        (506, Outcome::Failure),
        (599, Outcome::Failure),
        (999, Outcome::Failure),
    ] {
        assert_eq!(
            is_failure(None, Ending::Answered(status)),
            outcome,
            "{status}"
        );
    }
}

#[test]
fn ignored_statuses_are_no_failures_and_429_is_never_a_judgement() {
    let mut ignore = StatusSet::EMPTY;
    ignore.insert(503);
    ignore.insert(429);
    let s = Settings {
        ignore,
        ..Settings::default()
    };
    assert_eq!(
        is_failure(Some(&s), Ending::Answered(503)),
        Outcome::Success
    );
    assert_eq!(
        is_failure(Some(&s), Ending::Answered(502)),
        Outcome::Failure
    );
    assert_eq!(
        is_failure(Some(&s), Ending::Answered(429)),
        Outcome::Ignored
    );
}

#[test]
fn rule_51_of_the_codes_of_grpc_these_are_failures_and_no_others() {
    let ended = |status, code| Ending::Grpc { status, code };
    for code in Code::ALL {
        let expected = match code {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unknown
            | Code::DataLoss => Outcome::Failure,
            // Rule 50: it speaks of load.
            Code::ResourceExhausted => Outcome::Ignored,
            Code::Ok
            | Code::Cancelled
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Outcome::Success,
        };
        assert_eq!(is_failure(None, ended(200, code)), expected, "{code:?}");
    }
    // What something that knows no gRPC answered is judged by its status.
    for (status, expected) in [
        (404, Outcome::Success),
        (429, Outcome::Ignored),
        (500, Outcome::Failure),
        (503, Outcome::Failure),
    ] {
        let ending = ended(status, Code::of_http(status));
        assert_eq!(is_failure(None, ending), expected, "{status}");
    }
}

#[test]
fn a_code_is_ignored_by_its_name_or_by_the_status_that_came_with_it() {
    let mut s = Settings::default();
    s.ignore.insert(503);
    s.ignore_codes.insert(Code::Unknown);
    let judge = |status, code| is_failure(Some(&s), Ending::Grpc { status, code });
    assert_eq!(judge(200, Code::Unknown), Outcome::Success);
    assert_eq!(judge(500, Code::Unknown), Outcome::Success);
    assert_eq!(judge(503, Code::Unavailable), Outcome::Success);
    // 503 is not what came.
    assert_eq!(judge(200, Code::Unavailable), Outcome::Failure);
    assert_eq!(judge(200, Code::Internal), Outcome::Failure);
}

#[test]
fn rule_27_our_own_refusals_and_a_client_that_left_say_nothing() {
    for reason in Reason::ALL {
        let expected = match reason.blames_endpoint() {
            true => Outcome::Failure,
            false => Outcome::Ignored,
        };
        assert_eq!(
            is_failure(None, Ending::Failed(reason)),
            expected,
            "{}",
            reason.name()
        );
    }
    assert_eq!(
        is_failure(None, Ending::Failed(Reason::ClientGone)),
        Outcome::Ignored
    );
    assert_eq!(
        is_failure(None, Ending::Failed(Reason::BreakerOpen)),
        Outcome::Ignored
    );
    assert_eq!(
        is_failure(None, Ending::Failed(Reason::RequestTimeout)),
        Outcome::Failure
    );
}

#[test]
fn words_and_defaults() {
    assert_eq!(State::Closed.name(), "closed");
    assert_eq!(State::Open.name(), "open");
    assert_eq!(State::HalfOpen.name(), "half_open");
    assert_eq!(Forced::Open.name(), "open");
    assert_eq!(Forced::Closed.name(), "closed");
    let breaker = Breaker::default();
    assert_eq!(
        (breaker.cause(), breaker.forced(), breaker.opens_in_a_row()),
        (None, None, 0)
    );
}

#[test]
fn its_trouble_lasts_from_the_first_opening_until_it_is_closed() {
    play(
        Settings::default(),
        "0     fail ×4     -> closed, since none
         7     fail        -> open, since 7
         30007 hold        -> half_open, since 7
         30008 fail        -> open, opens 2, since 7
         90008 ok ×3       -> closed, since none
         90009 force open  -> open, since 90009
         90010 force auto  -> closed, since none",
    );
}

#[test]
fn absurd_times_do_not_overflow() {
    let longest = Duration::MAX;
    let s = Settings {
        open_for: longest,
        max_open_for: longest,
        window: longest,
        ramp: longest,
        ..Settings::default()
    };
    play(
        s,
        "0         chance 0.9
         0         fail ×5    -> open
         999999999 refused    -> open
         999999999 set max_open_for=1
         999999999 ok ×3      -> closed, share 0.100",
    );
    let s = Settings {
        probes: 1,
        open_for: Duration::from_nanos(1),
        ..Settings::default()
    };
    let mut script = String::from("0 fail ×5 -> open\n");
    for opening in 1..40_u64 {
        script += &format!("{} fail -> open\n", opening * 300_000);
    }
    script += "11999999 refused -> open, retry 1, opens 40\n 12000000 ok -> closed";
    play(s, &script);
}
