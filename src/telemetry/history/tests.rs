//! Points from counts, how many are kept, and whose.

use super::*;
use crate::telemetry::handles::SCRAPES;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report::{Outcome, samples};

fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// So many requests so far, all of them within 1 ms to 2.5 ms.
fn sums(counts: &[(&str, u64)]) -> Sums {
    let mut sums = Sums::default();
    for (upstream, count) in counts {
        let sum = sums.of(&name(upstream));
        sum.add_requests([(Outcome::Upstream, "2xx", *count)].into_iter());
        let mut durations = Buckets::default();
        durations[2] = *count;
        sum.add_durations(&durations);
    }
    sums
}

fn shown(history: &History, upstreams: &[&str]) -> Shown {
    let names: Vec<_> = upstreams.iter().map(|upstream| name(upstream)).collect();
    history.shown(names.iter())
}

#[test]
fn a_point_is_what_came_since_the_one_before() {
    let history = History::default();
    let empty = shown(&history, &["a"]);
    assert_eq!((empty.until, empty.total), (None, None));
    for (step, requests) in [100, 107, 107, 110].into_iter().enumerate() {
        history.take(sums(&[("a", requests)]), at(step as u64 * 5));
    }
    let shown = shown(&history, &["a", "b"]);
    assert_eq!((shown.every_ms, shown.points), (5000, 60));
    assert_eq!(shown.until.as_deref(), Some("1970-01-01T00:00:15.000Z"));
    let a = &shown.upstreams["a"];
    assert_eq!(
        a.requests,
        [7, 0, 3],
        "what was before the first is not its"
    );
    assert_eq!(a.p50_ms, [Some(1.75), None, Some(1.75)]);
    assert_eq!(a.p99_ms[1], None);
    assert_eq!(shown.total.as_ref(), Some(a));
    assert!(!shown.upstreams.contains_key("b"));
}

#[test]
fn a_failure_is_what_the_client_saw_as_one() {
    use Outcome::{ClientGone, Failed, Fallback, Refused, Upstream};
    let mut sum = Sum::default();
    let counts = [
        (Upstream, "2xx", 1),
        (Upstream, "4xx", 10),
        (Upstream, "5xx", 100),
        (Fallback, "2xx", 1_000),
        (Fallback, "5xx", 10_000),
        (Refused, "4xx", 100_000),
        (Failed, "5xx", 1_000_000),
        (ClientGone, "4xx", 10_000_000),
    ];
    sum.add_requests(counts.into_iter());
    sum.retries = 5;
    let point = Point::between(&Sum::default(), &sum);
    assert_eq!(point.requests, 11_111_111);
    assert_eq!(point.failures, 1_110_100);
    assert_eq!(point.fallbacks, 11_000);
    assert_eq!(point.retries, 5);
}

#[test]
fn what_found_no_route_counts_in_all_and_nowhere_else() {
    let history = History::default();
    history.take(sums(&[("a", 0), ("", 0)]), at(0));
    history.take(sums(&[("a", 1), ("", 2)]), at(5));
    let shown = shown(&history, &["a", ""]);
    assert_eq!(shown.total.unwrap().requests, [3]);
    assert_eq!(shown.upstreams.len(), 1);
}

#[test]
fn five_minutes_are_kept_and_no_more() {
    let history = History::default();
    for step in 0..200 {
        history.take(sums(&[("a", step * step)]), at(step * 5));
    }
    let shown = shown(&history, &["a"]);
    let requests = &shown.upstreams["a"].requests;
    assert_eq!(
        (requests.len(), requests[POINTS - 1]),
        (POINTS, 2 * 199 - 1)
    );
}

#[test]
fn one_that_is_new_is_shorter_and_one_that_is_gone_is_forgotten() {
    let history = History::default();
    history.take(sums(&[("a", 1)]), at(0));
    history.take(sums(&[("a", 2)]), at(5));
    history.take(sums(&[("a", 3), ("b", 9)]), at(10));
    let now = shown(&history, &["a", "b"]);
    assert_eq!(now.upstreams["a"].requests, [1, 1]);
    assert_eq!(now.upstreams["b"].requests, [9]);
    history.take(sums(&[("b", 9)]), at(15));
    assert!(!shown(&history, &["a", "b"]).upstreams.contains_key("a"));
    history.take(sums(&[("a", 4), ("b", 9)]), at(20));
    assert_eq!(shown(&history, &["a"]).upstreams["a"].requests, [4]);
}

#[test]
fn of_very_many_upstreams_the_busiest_are_kept_and_it_says_so() {
    let names: Vec<String> = (0..1_000).map(|number| format!("u{number}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let history = History::default();
    // The higher its number, the busier; later one of the quiet ones wakes up.
    for step in 0..70_u64 {
        let count = |index: usize| match index {
            3 if step > 60 => step * 1_000_000,
            index => step * index as u64,
        };
        let counts = all.iter().enumerate().map(|(i, name)| (*name, count(i)));
        history.take(sums(&counts.collect::<Vec<_>>()), at(step * 5));
        let shown = shown(&history, &all);
        assert!(shown.upstreams.len() <= KEPT, "{}", shown.upstreams.len());
    }
    let shown = shown(&history, &all);
    assert_eq!(shown.kept, "the busiest 100 of 1000 upstreams");
    assert_eq!(shown.upstreams.len(), KEPT);
    assert_eq!(shown.upstreams["u999"].requests, [999; POINTS]);
    assert_eq!(shown.upstreams["u3"].requests.len(), 9);
    assert!(!shown.upstreams.contains_key("u500"));
    assert!(!shown.upstreams.contains_key("u900"), "it made room for u3");
    let kept = history.0.lock();
    let points = kept.rows.values().filter(|row| row.points.is_some());
    assert_eq!(points.count(), KEPT, "and no memory is held for the others");
}

#[test]
fn two_that_are_as_busy_do_not_take_turns() {
    let history = History::default();
    let mut totals = vec![0_u64; KEPT + 1];
    for step in 0..40_usize {
        for (index, total) in totals.iter_mut().enumerate() {
            // The first and the last are busier in turn.
            let more = match index {
                0 => 10 + step % 2,
                KEPT => 10 + (step + 1) % 2,
                _ => 1_000,
            };
            *total += more as u64;
        }
        let names: Vec<_> = (0..=KEPT).map(|index| format!("u{index}")).collect();
        let counts = names.iter().map(String::as_str).zip(totals.clone());
        history.take(sums(&counts.collect::<Vec<_>>()), at(step as u64 * 5));
    }
    let rows = history.0.lock();
    let longest = rows.rows.values().filter_map(|row| row.points.as_ref());
    assert!(longest.map(VecDeque::len).all(|length| length >= 38));
}

#[test]
fn rule_87_what_is_forgotten_of_a_removed_route_leaves_no_empty_point() {
    let (metrics, history) = (Metrics::default(), History::default());
    let route = |route: &str, upstream| metrics.route(&name("in"), &name(route), &name(upstream));
    let listener = metrics.listener(&name("in"));
    let tell = |route: &Arc<_>, count: usize| {
        let route = Some(Arc::clone(route));
        let report = samples::report(listener.clone(), route, Outcome::Failed, 502);
        let ended = report.started + Duration::from_millis(2);
        (0..count).for_each(|_| metrics.count(&report, ended));
    };
    let (stays, goes) = (route("stays", "a"), route("goes", "a"));
    let gone = route("gone", "b");
    history.take(metrics.sums(), at(0));
    tell(&stays, 1);
    tell(&goes, 100);
    tell(&gone, 1_000);
    history.take(metrics.sums(), at(5));
    drop((goes, gone));
    for step in 0..3 * u64::from(SCRAPES) {
        drop(metrics.scraped());
        tell(&stays, 3);
        history.take(metrics.sums(), at(10 + step * 5));
    }
    assert_eq!(
        metrics.scraped().routes.len(),
        1,
        "the others are forgotten"
    );
    let shown = shown(&history, &["a", "b"]);
    let (a, total) = (&shown.upstreams["a"], shown.total.unwrap());
    assert_eq!((a.requests[0], total.requests[0]), (101, 1_101));
    for series in [a, &total] {
        assert_eq!(series.requests.len(), 1 + 3 * SCRAPES as usize);
        assert!(series.requests[1..].iter().all(|requests| *requests == 3));
        assert!(series.failures[1..].iter().all(|failures| *failures == 3));
        assert!(series.p50_ms.iter().all(|time| *time == Some(1.75)));
    }
    assert!(!shown.upstreams.contains_key("b"));
    // Within a step it has gone, been forgotten and come back.
    history.take(sums(&[("c", 50)]), at(1_000));
    history.take(sums(&[("c", 2)]), at(1_005));
    let c = &self::shown(&history, &["c"]).upstreams["c"];
    assert_eq!(c.requests, [50, 2]);
}
