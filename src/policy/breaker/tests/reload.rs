//! What a reload does to a breaker in each state (rule 81).

use super::*;

#[test]
fn closed_thresholds_apply_to_what_is_counted_already() {
    play(
        Settings::default(),
        "0 fail ×4                   -> closed, row 4
         0 set consecutive_failures=2 -> closed, row 4
         0 hold                      -> closed           # a reload opens nothing, a failure does
         0 fail                      -> open, because 5 consecutive failures",
    );
    play(
        Settings::default(),
        "0 fail ×4
         0 set consecutive_failures=none failure_rate=none
         0 fail ×99                  -> closed, row 103
         0 set failure_rate=0.9
         0 fail                      -> open, because 104 of 104 requests failed in 30s",
    );
    play(
        Settings {
            consecutive_failures: None,
            ..Settings::default()
        },
        "0 fail ×10                  -> closed
         0 set min_requests=11
         0 fail                      -> open, because 11 of 11 requests failed in 30s",
    );
    play(
        Settings {
            consecutive_failures: None,
            failure_rate: None,
            ..Settings::default()
        },
        "0 slow ×30                  -> closed, counts 30/0/0
         0 set slow_call=2000 slow_rate=0.5
         0 slow ×29                  -> closed, counts 59/0/29
         0 slow                      -> open",
    );
}

#[test]
fn closed_the_window_changes_its_length_and_keeps_what_fits() {
    play(
        Settings {
            consecutive_failures: None,
            ..Settings::default()
        },
        "0      fail ×3              -> counts 3/3/0
         20000  fail ×4              -> counts 7/7/0
         20000  set window=5000      -> counts 4/4/0
         20000  set window=60000     -> counts 7/7/0      # the longer one was there all along
         55000  hold                 -> counts 7/7/0
         75000  hold                 -> counts 4/4/0
         90000  hold                 -> counts 0/0/0",
    );
}

#[test]
fn closed_a_ramp_under_way_follows_the_new_length() {
    play(
        Settings {
            ramp: Duration::from_secs(10),
            ..Settings::default()
        },
        "0     fail ×5
         30000 ok ×3                 -> closed, share 0.100
         35000 set ramp=20000        -> closed, share 0.325
         35000 set ramp=0            -> closed, share 1.000
         35000 set ramp=20000        -> closed, share 1.000     # it was over",
    );
}

#[test]
fn open_it_stays_open_as_long_as_it_was_told() {
    play(
        Settings::default(),
        "0     fail ×5               -> open, retry 30000
         1000  set open_for=1000     -> open, retry 29000
         1000  set open_for=90000    -> open, retry 29000
         1000  set consecutive_failures=none failure_rate=none probes=1 window=1000
         29999 refused               -> open
         30000 ok                    -> closed",
    );
}

#[test]
fn open_it_does_not_stay_open_beyond_a_shorter_longest_time() {
    play(
        Settings::default(),
        "0     fail ×5               -> open, retry 30000
         1000  set max_open_for=5000
         1001  hold                  -> open, retry 3999
         4999  refused               -> open, retry 1
         5000  hold                  -> half_open, told half_open",
    );
    play(
        Settings::default(),
        "0     fail ×5               -> open, retry 30000
         20000 set max_open_for=5000 -> half_open, told open
         20001 fail                  -> open, retry 5000, opens 2
         20001 set max_open_for=300000
         25000 refused               -> open
         25001 hold                  -> half_open",
    );
}

#[test]
fn half_open_fewer_probes_end_those_under_way_first() {
    play(
        Settings {
            probes: 4,
            ..Settings::default()
        },
        "0     fail ×5
         30000 take a b c d          -> half_open
         30000 set probes=2
         30000 refused               -> half_open
         30001 drop a b              -> half_open
         30001 refused
         30002 drop c
         30002 take e
         30002 refused
         30003 end d ok              -> half_open
         30004 end e ok              -> closed",
    );
    play(
        Settings { probes: 4, ..Settings::default() },
        "0     fail ×5
         30000 ok ×3                 -> half_open
         30000 set probes=1          -> half_open     # a reload closes nothing, the next success does
         30001 take a
         30001 refused
         30002 end a ok              -> closed",
    );
}

#[test]
fn half_open_more_probes_let_more_through_and_ask_for_more() {
    play(
        Settings {
            probes: 1,
            ..Settings::default()
        },
        "0     fail ×5
         30000 take a                -> half_open
         30000 refused
         30000 set probes=3
         30000 take b c
         30000 refused
         30001 end a ok              -> half_open
         30001 end b ok              -> half_open
         30001 end c ok              -> closed",
    );
}

#[test]
fn half_open_a_probe_is_judged_by_the_settings_at_its_end() {
    play(
        Settings::default(),
        "0     fail ×5
         30000 take a                -> half_open
         30000 set slow_rate=0.5 slow_call=1000 open_for=7000
         30001 end a slow            -> open, retry 14000",
    );
}

#[test]
fn forced_a_reload_does_not_lift_the_hand() {
    play(
        Settings::default(),
        "0     force open
         0     set probes=1 open_for=1 max_open_for=1
         99999 refused               -> open, because forced open by the operator
         99999 force closed
         99999 set consecutive_failures=1
         99999 fail ×9               -> closed, row 9",
    );
}

#[test]
fn probes_of_zero_would_lock_it_and_are_taken_for_one() {
    play(
        Settings {
            probes: 0,
            min_requests: 0,
            ..Settings::default()
        },
        "0     fail                  -> open, because 1 of 1 requests failed in 30s
         30000 take a                -> half_open
         30000 refused
         30000 end a ok              -> closed",
    );
}
