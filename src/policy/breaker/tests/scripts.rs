//! What a breaker does under settings that stay.

use super::*;

fn triggers_off() -> Settings {
    Settings {
        consecutive_failures: None,
        failure_rate: None,
        ..Settings::default()
    }
}

#[test]
fn consecutive_failures_open_it_at_the_exact_count_and_probes_close_it() {
    play(
        Settings::default(),
        "0     fail ×4  -> closed, row 4, retry none
         1     ok       -> closed, row 0
         2     fail ×4  -> closed, row 4
         3     fail     -> open, told open, retry 30000, opens 1, because 5 consecutive failures
         4     refused  -> open, retry 29999
         30002 refused  -> open, retry 1
         30003 hold     -> half_open, told half_open, retry none, because 5 consecutive failures
         30003 ok ×2    -> half_open
         30003 ok       -> closed, told closed, opens 1, row 0",
    );
}

#[test]
fn rule_10_it_is_open_to_the_exact_time_without_a_tick() {
    let mut play = play(Settings::default(), "0 fail ×5 -> open");
    let due = play.start + Duration::from_secs(30);
    let before = due - Duration::from_nanos(1);
    assert_eq!(play.breaker.state(&play.s, before), State::Open);
    assert_eq!(play.breaker.retry_in(before), Some(Duration::from_nanos(1)));
    assert_eq!(play.gate(before, "before"), Gate::Shut);
    assert_eq!(play.breaker.state(&play.s, due), State::HalfOpen);
    assert_eq!(play.breaker.retry_in(due), None);
    assert_eq!(play.told, State::Open, "only the gate moves it");
    assert_eq!(play.gate(due, "due"), Gate::Probing);
    assert_eq!(play.told, State::HalfOpen);
}

#[test]
fn without_its_gate_an_open_breaker_lets_nothing_through_however_late() {
    let mut play = play(Settings::default(), "0 fail ×5 -> open");
    let late = play.start + Duration::from_secs(100);
    assert!(play.breaker.admit(&play.s, late).is_none());
    assert_eq!(play.told, State::Open);
}

#[test]
fn rule_40_the_second_opening_takes_exactly_as_many_failures_as_the_first() {
    play(
        Settings::default(),
        "0     fail ×4  -> closed
         0     fail     -> open
         30000 ok ×3    -> closed, row 0, counts 0/0/0
         30000 fail ×4  -> closed, row 4, counts 4/4/0
         30000 fail     -> open, because 5 consecutive failures
         89999 refused  -> open            # the second time in a row takes twice as long
         90000 ok ×3    -> closed
         90000 fail ×4  -> closed
         90000 fail     -> open",
    );
}

#[test]
fn the_failure_rate_counts_from_min_requests_on_and_only_when_a_call_fails() {
    let s = Settings {
        consecutive_failures: None,
        ..Settings::default()
    };
    play(
        s.clone(),
        "0 fail ×9   -> closed
         0 ok ×9     -> closed
         0 fail      -> closed, counts 19/10/0     # below min_requests
         0 ok        -> closed, counts 20/10/0     # 50 %, but success opens nothing
         0 fail      -> open, because 11 of 21 requests failed in 30s",
    );
    play(
        s.clone(),
        "0 ok ×10    -> closed
         0 fail ×9   -> closed, counts 19/9/0
         0 fail      -> open, because 10 of 20 requests failed in 30s    # 50 % is enough",
    );
    play(
        s,
        "0 ok ×11    -> closed
         0 fail ×9   -> closed
         0 fail      -> closed, counts 21/10/0     # 47.6 %
         0 fail      -> open",
    );
}

#[test]
fn a_rate_is_met_exactly_where_binary_fractions_would_miss_it() {
    let s = Settings {
        consecutive_failures: None,
        failure_rate: Some(0.07),
        ..Settings::default()
    };
    let s = Settings {
        min_requests: 100,
        ..s
    };
    play(
        s,
        "0 ok ×93    -> closed
         0 fail ×6   -> closed
         0 fail      -> open, because 7 of 100 requests failed in 30s",
    );
}

#[test]
fn rule_47_failures_leave_the_window_so_yesterdays_do_not_count() {
    let s = Settings {
        consecutive_failures: None,
        ..Settings::default()
    };
    play(
        s,
        "0     fail ×19 -> closed
         28000 hold     -> counts 19/19/0
         30000 hold     -> counts 0/0/0
         30000 fail     -> closed, counts 1/1/0",
    );
}

#[test]
fn slow_calls_open_it_only_under_slow_rate_and_from_slow_call_on() {
    let s = Settings {
        min_requests: 4,
        ..triggers_off()
    };
    let slow_call = Some(Duration::from_secs(2));
    play(
        Settings {
            slow_call,
            ..s.clone()
        },
        "0 slow ×9   -> closed, counts 9/0/9",
    );
    play(
        Settings {
            slow_rate: Some(0.5),
            ..s.clone()
        },
        "0 slow ×9   -> closed, counts 9/0/0",
    );
    play(
        Settings {
            slow_rate: Some(0.5),
            slow_call,
            ..s.clone()
        },
        "0 slow ×2   -> closed
         0 ok        -> closed
         0 slow      -> open, because 3 of 4 requests took 2s or longer in 30s",
    );
    let slow_call = Some(Duration::from_millis(2001));
    play(
        Settings {
            slow_rate: Some(0.5),
            slow_call,
            ..s
        },
        "0 slow ×9   -> closed, counts 9/0/0",
    );
}

#[test]
fn a_fast_failure_does_not_fire_the_slow_rate() {
    let slow_call = Some(Duration::from_secs(1));
    let s = Settings {
        min_requests: 2,
        slow_rate: Some(0.5),
        slow_call,
        ..triggers_off()
    };
    play(
        s,
        "0 slow      -> closed
         0 fail      -> closed, counts 2/1/1
         0 slow      -> open",
    );
}

#[test]
fn a_slow_probe_opens_it_again_where_slow_calls_count() {
    let slow_call = Some(Duration::from_secs(1));
    let s = Settings {
        min_requests: 2,
        slow_rate: Some(0.5),
        slow_call,
        ..triggers_off()
    };
    play(
        s.clone(),
        "0     slow ×2 -> open
         30000 ok      -> half_open
         30000 slow    -> open, opens 2, because a probe took 2000 ms, which is slow",
    );
    play(
        Settings {
            slow_rate: None,
            consecutive_failures: Some(1),
            ..s
        },
        "0     fail    -> open, because 1 failure
         30000 slow ×3 -> closed",
    );
}

#[test]
fn ignored_results_change_nothing() {
    play(
        Settings::default(),
        "0     fail ×4    -> closed
         0     ignored ×9 -> closed, row 4, counts 4/4/0
         0     fail       -> open
         30000 ok ×2      -> half_open
         30000 ignored ×9 -> half_open
         30000 take a b c
         30000 refused
         30000 end a ignored
         30000 ok         -> closed",
    );
}

#[test]
fn half_open_lets_probes_through_at_a_time_and_one_failure_opens_it_for_twice_as_long() {
    play(
        Settings::default(),
        "0     fail ×5      -> open
         30000 take a b c   -> half_open
         30000 refused      -> half_open, share shut
         30001 end a ok     -> half_open, share probing
         30001 take d       -> half_open
         30001 refused
         30002 end b fail   -> open, retry 60000, opens 2, because a probe failed
         90001 refused      -> open
         90002 hold         -> half_open",
    );
}

#[test]
fn rule_38_a_probe_that_taught_nothing_gives_its_place_back() {
    play(
        Settings::default(),
        "0     fail ×5     -> open
         30000 take a b c
         30000 refused
         30001 drop a b c  -> half_open
         30002 take d e f
         30002 refused
         30003 end d ok
         30003 end e ok
         30003 end f ok    -> closed",
    );
}

#[test]
fn rule_37_results_of_an_earlier_era_are_not_heard() {
    play(
        Settings::default(),
        "0     take a b c d e f -> closed
         0     fail ×5       -> open
         1     end a ok      -> open, retry 29999
         1     end b fail    -> open, retry 29999, opens 1
         30000 take p q      -> half_open
         30000 end c fail    -> half_open     # sent before it opened
         30000 drop d        -> half_open     # and no probe's place comes back for it
         30000 take r
         30000 refused
         30001 end p ok
         30001 end q ok
         30001 end r ok      -> closed, row 0
         30002 end e fail    -> closed, row 0, counts 0/0/0
         30002 drop f        -> closed",
    );
    play(
        Settings::default(),
        "0     fail ×5       -> open
         30000 take a b c    -> half_open
         30001 end a fail    -> open, opens 2
         90001 take d e f    -> half_open
         90001 end b ok      -> half_open     # a probe of the time before
         90001 drop c        -> half_open     # and no place comes back for it either
         90001 refused
         90001 end d ok      -> half_open
         90001 end e ok      -> half_open
         90001 end f ok      -> closed",
    );
}

#[test]
fn what_was_sent_anyway_changes_nothing_while_it_is_not_closed() {
    play(
        Settings::default(),
        "0     fail ×5       -> open
         1     bypass a
         1     end a fail    -> open, opens 1, retry 29999
         2     bypass b
         2     end b ok      -> open
         3     bypass c
         30000 bypass d
         30000 take p q r
         30000 end c fail    -> half_open
         30000 end d fail    -> half_open
         30000 bypass e
         30000 drop e        -> half_open
         30000 refused                        # no place came back with it
         30000 bypass f
         30000 end f ok      -> half_open
         30000 end p ok
         30000 end q ok      -> half_open     # nor did it count as a probe
         30000 end r ok      -> closed
         30000 bypass g
         30000 end g fail    -> closed, row 1",
    );
}

#[test]
fn a_body_that_breaks_off_is_one_more_failure_while_closed() {
    play(
        Settings::default(),
        "0     ok ×4         -> closed
         0     late          -> closed, row 1, counts 5/1/0
         0     fail ×3       -> closed
         0     late          -> open, because 5 consecutive failures
         1     late          -> open, opens 1, retry 29999
         30000 take a
         30000 late          -> half_open
         30000 end a ok
         30000 ok ×2         -> closed, row 0",
    );
}

#[test]
fn openings_in_a_row_last_longer_up_to_the_longest() {
    play(
        Settings {
            probes: 1,
            ..Settings::default()
        },
        "0       fail ×5     -> open, retry 30000, opens 1
         30000   fail        -> open, retry 60000, opens 2
         90000   fail        -> open, retry 120000, opens 3
         210000  fail        -> open, retry 240000, opens 4
         450000  fail        -> open, retry 300000, opens 5
         750000  fail        -> open, retry 300000, opens 6",
    );
}

#[test]
fn rule_42_the_row_ends_with_successes_and_not_with_time() {
    play(
        Settings {
            probes: 1,
            ..Settings::default()
        },
        "0       fail ×5     -> open, opens 1
         30000   fail        -> open, opens 2
         90000   ok          -> closed, opens 2
         9000000 ok ×19      -> closed, opens 2     # hours without traffic are no evidence
         9000000 fail ×5     -> open, opens 3, retry 120000
         9120000 ok          -> closed, opens 3
         9120000 ok ×10      -> closed
         9120000 fail        -> closed              # a failure in between does no harm
         9120000 ok ×9       -> closed, opens 3
         9120000 ok          -> closed, opens 0
         9120000 fail ×5     -> open, opens 1, retry 30000",
    );
}

#[test]
fn jitter_only_lengthens_and_never_beyond_the_longest() {
    play(
        Settings {
            probes: 1,
            ..Settings::default()
        },
        "0       chance 0.5
         0       fail ×5     -> open, retry 31500
         31500   chance 0.999999
         31500   fail        -> open, retry 65999
         98000   fail        -> open
         300000  fail        -> open
         600000  fail        -> open, retry 300000, opens 5",
    );
}

#[test]
fn where_max_open_forbids_it_stays_closed_and_the_next_failure_asks_again() {
    play(
        Settings::default(),
        "0 may_open no
         0 fail ×7     -> closed, row 7
         0 may_open yes
         0 ok          -> closed, row 0
         0 may_open no
         0 fail ×6     -> closed, row 6
         0 may_open yes
         0 hold        -> closed
         0 fail        -> open, because 7 consecutive failures
         30000 may_open no
         30000 fail    -> open, opens 2               # it never ceased to be one of the open ones",
    );
    play(
        Settings::default(),
        "0 may_open no
         0 fail ×5     -> closed
         0 may_open yes
         0 late        -> open",
    );
}

#[test]
fn forced_open_lets_nothing_through_until_it_is_lifted() {
    play(
        Settings::default(),
        "0       take a
         0       force open   -> open, told open, retry none, because forced open by the operator
         0       refused      -> open
         0       end a fail   -> open
         0       late         -> open
         0       force open   -> open
         9999999 refused      -> open
         9999999 bypass b
         9999999 end b fail   -> open, counts 0/0/0
         9999999 force auto   -> closed, told closed, row 0, opens 0
         9999999 fail ×4      -> closed
         9999999 fail         -> open, opens 1
         9999999 force auto   -> open, opens 1      # that is no change",
    );
}

#[test]
fn forced_closed_lets_everything_through_and_counts_it() {
    play(
        Settings::default(),
        "0     fail ×5      -> open
         1     force closed -> closed, told closed, share 1.000, opens 0
         1     fail ×50     -> closed, row 50, counts 50/50/0
         1     late         -> closed, row 51
         2     force auto   -> closed, row 0, counts 0/0/0, share 1.000
         2     fail ×4      -> closed
         2     fail         -> open, opens 1",
    );
}

#[test]
fn fault_079_forced_open_against_probes_under_way() {
    play(
        Settings::default(),
        "0     fail ×5      -> open
         30000 take a b     -> half_open
         30000 force open   -> open, told open
         30000 end a ok     -> open
         30000 force closed -> closed
         30000 end b fail   -> closed, row 0
         30000 force auto   -> closed
         30000 fail ×5      -> open
         60000 take c       -> half_open
         60000 force closed -> closed
         60000 drop c       -> closed",
    );
}

#[test]
fn rule_52_after_closing_traffic_comes_back_over_the_ramp() {
    play(
        Settings {
            ramp: Duration::from_secs(10),
            ..Settings::default()
        },
        "0     hold     -> closed, share 1.000
         0     fail ×5  -> open, share shut
         30000 hold     -> half_open, share probing
         30000 ok ×3    -> closed, share 0.100
         31000 hold     -> closed, share 0.190
         35000 hold     -> closed, share 0.550
         39999 hold     -> closed, share 1.000       # 0.99991
         40000 hold     -> closed, share 1.000
         50000 force open
         60000 force auto -> closed, share 0.100
         70000 hold     -> closed, share 1.000
         70000 force closed
         70000 force auto -> closed, share 1.000",
    );
}

#[test]
fn fault_053_flapping_each_second_for_a_minute_ends_closed_with_no_place_lost() {
    let s = Settings {
        open_for: Duration::from_millis(500),
        probes: 2,
        ..Settings::default()
    };
    let mut script = String::from("0 hold -> closed\n");
    let mut open_until = 0;
    let mut opens = 0;
    for second in 0..60 {
        let at = second * 1000;
        if at < open_until {
            script += &format!("{at} refused -> open\n");
        } else if second % 2 == 0 {
            let verb = if opens == 0 { "fail ×5" } else { "fail" };
            script += &format!("{at} {verb} -> open\n");
            open_until = at + (500 << opens);
            opens += 1;
        } else {
            script += &format!("{at} ok -> half_open\n");
        }
    }
    script += "999000 take a b -> half_open\n 999000 refused\n 999000 end a ok\n 999001 end b ok -> closed";
    play(s, &script);
}

#[test]
fn rule_91_a_time_before_the_last_one_does_no_harm() {
    play(
        Settings::default(),
        "60000 ok ×3    -> closed
         1     fail ×5  -> open, retry 30000
         0     refused  -> open, retry 30001
         30001 take a   -> half_open
         5     end a ok -> half_open
         5     ok ×2    -> closed
         0     hold     -> closed, share 1.000",
    );
}
