//! Active health checks and requests side by side: who is asked, who is not, and what neither learns of the
//! other.

use std::io;
use std::sync::Arc;

use mamparo::discovery::health::Checks;
use mamparo::live::roster::HealthReading;
use mamparo::live::wire::Dialer;
use mamparo::policy::breaker::State;
use mamparo::policy::health::Standing::{self, Healthy, Unchecked, Unhealthy};
use mamparo::telemetry::events::Kind;

use super::bench::{Bench, ms, yaml};
use super::endpoint::{CHECK, Play, answer};

/// Every 10 s, for at most 1 s; 2 successes or 3 failures turn it.
const PLAIN: &str = "health_check: { path: /healthz }";
/// The longest that the first check, and three in a row, take.
const FIRST: u64 = 1_000;
const THREE: u64 = 34_000;

/// A bench whose endpoints are checked.
struct Ward {
    bench: Bench,
    checks: Checks,
}

impl Ward {
    fn new(text: &str) -> Self {
        let bench = Bench::new(text);
        let checks = Checks::default();
        checks.follow(&bench.proxy);
        Self { bench, checks }
    }

    /// The same with an endpoint whose checks are answered with that status.
    fn answering(endpoints: u8, policies: &str, status: u16) -> Self {
        let ward = Self::new(&yaml(endpoints, policies));
        (1..=9).for_each(|one| ward.check_says(one, status));
        ward
    }

    fn check_says(&self, endpoint: u8, status: u16) {
        self.bench.endpoint(endpoint).when_checked(answer(status));
    }

    fn reload(&self, text: &str) {
        self.bench.reload(text);
        self.checks.follow(&self.bench.proxy);
    }

    fn health(&self, endpoint: u8) -> Option<HealthReading> {
        let readings = self
            .bench
            .upstream()
            .roster()
            .readings(None, self.bench.clock());
        let label = format!("10.0.0.{endpoint}:80");
        let reading = readings.into_iter().find(|one| *one.endpoint == *label);
        reading.expect("that endpoint").health
    }

    fn standing(&self, endpoint: u8) -> Standing {
        self.health(endpoint).expect("it is checked").standing
    }

    /// Requests that came to an endpoint, checks not counted.
    fn requests(&self, endpoint: u8) -> usize {
        self.paths(endpoint, |path| !path.starts_with(CHECK))
    }

    fn checks_of(&self, endpoint: u8) -> usize {
        self.paths(endpoint, |path| path.starts_with(CHECK))
    }

    fn paths(&self, endpoint: u8, wanted: impl Fn(&str) -> bool) -> usize {
        let seen = self.bench.endpoint(endpoint).seen();
        seen.iter().filter(|one| wanted(one.head.second())).count()
    }

    /// Sends so many requests, which must be answered with that status.
    async fn get(&self, times: usize, status: u16) {
        for _ in 0..times {
            let answer = self.bench.get("GET /").await;
            assert_eq!(answer.status, status, "{}", answer.body);
        }
    }

    fn told(&self) -> Vec<String> {
        let events = self.bench.proxy.telemetry.events().recent();
        let ours = events.into_iter().filter(|one| one.kind == Kind::Health);
        ours.map(|one| format!("{} {}", one.endpoint.unwrap_or_default(), one.text))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn rule_053_nothing_fails_for_want_of_a_check_at_the_start() {
    let ward = Ward::new(&yaml(2, PLAIN));
    for endpoint in [1, 2] {
        ward.bench.endpoint(endpoint).when_checked(Play::Hang);
        assert_eq!(ward.standing(endpoint), Unchecked);
    }
    ward.get(10, 200).await;
    // As long as they were not found unhealthy, too.
    ms(2_000).await;
    assert_eq!(ward.standing(1), Unchecked);
    ward.get(10, 200).await;
    assert!(ward.requests(1) > 0 && ward.requests(2) > 0);
    ward.bench.settle(20).await;
}

#[tokio::test(start_paused = true)]
async fn rule_053_a_new_endpoint_gets_requests_with_its_first_success() {
    let ward = Ward::answering(1, PLAIN, 200);
    ms(FIRST).await;
    assert_eq!(ward.standing(1), Healthy);
    ward.check_says(2, 503);
    ward.reload(&yaml(2, PLAIN));
    ward.get(20, 200).await;
    ms(1_500).await;
    ward.get(20, 200).await;
    assert_eq!((ward.standing(2), ward.requests(2)), (Unchecked, 0));
    ms(15_000).await;
    // It may be about to start: it is asked every second.
    assert_eq!(ward.standing(2), Unhealthy);
    assert!(ward.checks_of(2) >= 14);
    ward.check_says(2, 200);
    ms(1_200).await;
    assert_eq!(ward.standing(2), Healthy);
    ward.get(20, 200).await;
    assert!(ward.requests(2) > 0, "it takes its part");
    ward.bench.settle(60).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_check_takes_an_endpoint_out_although_its_breaker_is_closed() {
    let ward = Ward::answering(2, &format!("{PLAIN}\ncircuit_breaker: {{}}"), 200);
    ms(FIRST).await;
    ward.check_says(1, 500);
    ms(11_000).await;
    assert_eq!(ward.standing(1), Healthy, "once is not enough");
    ms(THREE).await;
    assert_eq!(ward.standing(1), Unhealthy);
    assert_eq!(ward.bench.state(1), State::Closed);
    let before = ward.requests(1);
    ward.get(30, 200).await;
    assert_eq!(ward.requests(1), before);
    ward.check_says(1, 200);
    ms(22_500).await;
    assert_eq!(ward.standing(1), Healthy);
    ward.get(30, 200).await;
    assert!(ward.requests(1) > before);
    let told = ward.told();
    let about_it: Vec<&str> = told
        .iter()
        .filter_map(|one| one.strip_prefix("10.0.0.1:80 "))
        .collect();
    assert_eq!(about_it.len(), 3, "{told:?}");
    assert_eq!(about_it[0], "healthy: its health checks succeed");
    let why = "unhealthy: health check GET /healthz answered 500, 3 in a row; next in ";
    assert!(about_it[1].starts_with(why), "{told:?}");
    assert_eq!(about_it[2], about_it[0]);
    ward.bench.settle(60).await;
}

#[tokio::test(start_paused = true)]
async fn rule_053_a_success_closes_no_breaker_that_requests_have_opened() {
    let breaker = "circuit_breaker: { consecutive_failures: 2, open_for: 5m, max_open_for: 5m }";
    let ward = Ward::answering(1, &format!("{PLAIN}\n{breaker}"), 200);
    ms(FIRST).await;
    ward.bench.endpoint(1).always(answer(500));
    ward.get(2, 500).await;
    assert_eq!(ward.bench.state(1), State::Open);
    ms(60_000).await;
    assert_eq!(
        (ward.standing(1), ward.bench.state(1)),
        (Healthy, State::Open)
    );
    let refused = ward.bench.get("GET /").await;
    assert_eq!(refused.reason(), "breaker_open");
    ward.bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn all_unhealthy_is_no_endpoint_and_says_which_check_failed_and_when_the_next_is() {
    let ward = Ward::answering(2, PLAIN, 500);
    ms(THREE).await;
    let refused = ward.bench.get("GET /").await;
    assert_eq!((refused.status, refused.reason()), (503, "no_endpoint"));
    for part in [
        "Every endpoint of upstream 'u' is unhealthy. Checked next in ",
        ": 10.0.0.",
        ":80, health check GET /healthz answered 500, ",
        " in a row.",
    ] {
        assert!(refused.body.contains(part), "{}", refused.body);
    }
    let retry_after: u64 = refused.head.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&retry_after), "{retry_after}");
    assert_eq!(ward.requests(1) + ward.requests(2), 0);
    ward.check_says(2, 200);
    ms(1_200).await;
    // It has never answered before: its first success counts at once.
    ward.get(5, 200).await;
    assert_eq!(ward.requests(2), 5);
    ward.bench.settle(6).await;
}

#[tokio::test(start_paused = true)]
async fn when_all_open_send_anyway_holds_for_checks_too_and_prefers_who_is_not_known_to_be_dead() {
    let anyway = "circuit_breaker: { consecutive_failures: 1, max_open: 100%, open_for: 5m, \
                  when_all_open: send_anyway }";
    let ward = Ward::answering(2, &format!("{PLAIN}\n{anyway}"), 500);
    ms(THREE).await;
    assert_eq!((ward.standing(1), ward.standing(2)), (Unhealthy, Unhealthy));
    ward.get(20, 200).await;
    assert!(ward.requests(1) > 0 && ward.requests(2) > 0);
    ward.check_says(2, 200);
    ms(11_000).await;
    ward.bench.endpoint(2).always(answer(500));
    ward.get(1, 500).await;
    assert_eq!(ward.bench.state(2), State::Open);
    let before = ward.requests(1);
    ward.get(10, 500).await;
    assert_eq!(ward.requests(1), before, "the check says that it is dead");
    ward.bench.settle(31).await;
}

#[tokio::test(start_paused = true)]
async fn the_breaker_of_the_last_healthy_endpoint_may_not_open_by_max_open() {
    let ward = Ward::answering(2, &format!("{PLAIN}\ncircuit_breaker: {{}}"), 200);
    ms(FIRST).await;
    ward.check_says(1, 500);
    ms(THREE + 11_000).await;
    ward.bench.endpoint(2).always(answer(500));
    // Half of the endpoints are out already.
    ward.get(10, 500).await;
    assert_eq!(ward.bench.state(2), State::Closed);
    ward.bench.settle(10).await;
}

/// Rule 54: own connections, no seat, no token, no observation, no request counted.
#[tokio::test(start_paused = true)]
async fn rule_054_checks_are_no_requests() {
    let policies = format!(
        "{PLAIN}\nretry: {{}}\ncircuit_breaker: {{}}\nrate_limit: {{}}\n\
         bulkhead: {{ max_in_flight: 1, max_connections: 1 }}"
    );
    let ward = Ward::answering(1, &policies, 503);
    // The only seat and the only connection are in use for all that time.
    ward.bench.endpoint(1).will([answer(200).after(14_000)]);
    let long = ward.bench.start("GET /long");
    let tokens = ward.bench.tokens();
    ms(12_500).await;
    assert!(ward.checks_of(1) >= 2);
    assert_eq!(ward.bench.slots(), (1, 0));
    assert_eq!(ward.bench.seats(), (1, 0));
    // The share of the long request may have expired, and nothing else has changed.
    assert!((ward.bench.tokens() - tokens).abs() < 0.3);
    let counts = ward.bench.breaker(1).counts;
    assert_eq!((counts.requests, counts.failures), (0, 0));
    assert_eq!(long.await.expect("no panic").status, 200);
    ms(60_000).await;
    let checks = ward.checks_of(1);
    let counted = |result: &str| {
        let label = format!("result=\"{result}\"");
        ward.bench.metric("mamparo_health_checks_total", &[&label])
    };
    assert_eq!(counted("success"), 0.0);
    assert_eq!(counted("failure"), checks as f64);
    for metric in ["mamparo_requests_total", "mamparo_attempts_total"] {
        assert_eq!(ward.bench.metric(metric, &[]), 1.0, "{metric}");
    }
    let opened = ward.bench.metric("mamparo_connections_opened_total", &[]);
    assert_eq!(opened, 1.0);
    // Each over a connection of its own, which is closed afterwards.
    let seen = ward.bench.endpoint(1).seen();
    let mut connections: Vec<_> = seen.iter().map(|one| one.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), checks + 1);
    let check = seen.iter().find(|one| one.head.second() == CHECK);
    let head = &check.expect("a check").head;
    assert_eq!(head.get("host"), Some("10.0.0.1:80"));
    assert!(
        head.get("user-agent")
            .is_some_and(|name| name.contains("health check"))
    );
    drop(ward.checks);
    ward.bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_054_checks_come_with_jitter_and_each_endpoint_has_its_own_time() {
    let ward = Ward::answering(3, PLAIN, 200);
    ms(300_000).await;
    let mut firsts = Vec::new();
    for endpoint in 1..=3 {
        let times = ward.bench.endpoint(endpoint).times();
        assert!(times[0] < FIRST);
        firsts.push(times[0]);
        let mut pauses: Vec<u64> = times.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses.len() >= 26);
        pauses.sort_unstable();
        assert!(
            pauses[0] >= 8_999 && *pauses.last().unwrap() <= 11_001,
            "{pauses:?}"
        );
        assert!(pauses[0] + 500 < *pauses.last().unwrap(), "{pauses:?}");
    }
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_too_slow_fails_and_its_connection_is_closed() {
    let ward = Ward::new(&yaml(1, PLAIN));
    ward.bench
        .endpoint(1)
        .when_checked(answer(200).after(1_500));
    ms(THREE + 1_000).await;
    assert_eq!(ward.standing(1), Unhealthy);
    let verdict = ward.health(1).unwrap().verdict.unwrap().to_string();
    assert!(
        verdict.starts_with("health check GET /healthz got no answer within 1s, "),
        "{verdict}"
    );
    // None but that of a check which may be under way.
    assert!(ward.bench.endpoint(1).open() <= 1);
    // Slow, but within its time.
    ward.bench.endpoint(1).when_checked(answer(200).after(900));
    ms(12_000).await;
    assert_eq!(ward.standing(1), Healthy);
}

#[tokio::test(start_paused = true)]
async fn connections_that_fail_or_break_fail_the_check() {
    for (play, words) in [
        (Play::Close(0), "got no answer ("),
        (Play::Hang, "got no answer within 1s"),
        (answer(302).into(), "answered 302"),
    ] {
        let ward = Ward::new(&yaml(1, PLAIN));
        ward.bench.endpoint(1).when_checked(play);
        ms(2_500).await;
        let verdict = ward.health(1).unwrap().verdict.unwrap().to_string();
        assert!(verdict.contains(words), "{verdict}");
    }
    let ward = Ward::new(&yaml(1, "health_check: { kind: tcp, interval: 1s }"));
    ward.bench.endpoint(1).always(Play::Refuse);
    ms(4_000).await;
    let verdict = ward.health(1).unwrap().verdict.unwrap().to_string();
    assert!(verdict.contains("by TCP got no connection ("), "{verdict}");
    assert_eq!(ward.standing(1), Unhealthy);
    ward.bench.endpoint(1).always(answer(200));
    ms(1_500).await;
    assert_eq!(ward.standing(1), Healthy);
    assert_eq!(ward.bench.endpoint(1).count(), 0, "nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn fault_053_an_endpoint_that_flaps_stays_what_it_is() {
    let ward = Ward::answering(1, PLAIN, 200);
    ms(FIRST).await;
    // Never three failures in a row, and never two successes when it is down.
    for step in 0..12 {
        ward.check_says(1, if step % 3 == 2 { 200 } else { 500 });
        let before = ward.checks_of(1);
        while ward.checks_of(1) == before {
            ms(100).await;
        }
        ms(50).await;
        assert_eq!(ward.standing(1), Healthy, "step {step}");
    }
    ward.check_says(1, 500);
    ms(THREE).await;
    for step in 0..12 {
        ward.check_says(1, if step % 2 == 0 { 200 } else { 500 });
        let before = ward.checks_of(1);
        while ward.checks_of(1) == before {
            ms(100).await;
        }
        ms(50).await;
        assert_eq!(ward.standing(1), Unhealthy, "step {step}");
    }
    assert_eq!(ward.told().len(), 2, "{:?}", ward.told());
}

#[tokio::test(start_paused = true)]
async fn fault_068_a_reload_that_removes_the_check_lets_everyone_in_at_once() {
    let ward = Ward::answering(1, PLAIN, 500);
    ms(THREE).await;
    ward.get(1, 503).await;
    ward.reload(&yaml(1, ""));
    ward.get(1, 200).await;
    assert!(ward.health(1).is_none());
    let before = ward.checks_of(1);
    ms(60_000).await;
    assert_eq!(ward.checks_of(1), before, "nobody asks any more");
    // Back again, nothing is known.
    ward.reload(&yaml(1, PLAIN));
    assert_eq!(ward.standing(1), Unchecked);
    ward.get(1, 200).await;
    ms(FIRST).await;
    assert!(ward.checks_of(1) > before);
    ward.bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn fault_068_a_reload_that_asks_something_else_clears_what_was_held_against_it() {
    let ward = Ward::answering(2, PLAIN, 500);
    ms(THREE).await;
    ward.get(1, 503).await;
    ward.reload(&yaml(
        2,
        "health_check: { path: /healthz/ready, expect: [500] }",
    ));
    ward.get(1, 200).await;
    assert_eq!(ward.standing(1), Unchecked);
    ms(FIRST).await;
    assert_eq!((ward.standing(1), ward.standing(2)), (Healthy, Healthy));
    let asked = |endpoint| ward.paths(endpoint, |path| path == "/healthz/ready");
    assert_eq!((asked(1), asked(2)), (1, 1));
    ward.bench.settle(2).await;
}

/// Rule 81: memory stays, by address; other thresholds and times hold at once.
#[tokio::test(start_paused = true)]
async fn rule_081_a_reload_that_changes_nothing_or_only_the_counts_keeps_what_is_known() {
    let ward = Ward::answering(2, PLAIN, 200);
    ms(FIRST).await;
    (1..=2).for_each(|endpoint| ward.check_says(endpoint, 500));
    ms(THREE).await;
    assert_eq!(ward.standing(1), Unhealthy);
    let times = ward.bench.endpoint(1).times();
    for _ in 0..5 {
        ward.reload(&yaml(2, &format!("{PLAIN}\nretry: {{}}")));
        ms(1_000).await;
        ward.get(1, 503).await;
    }
    let now = ward.bench.endpoint(1).times();
    assert!(
        now.len() <= times.len() + 1,
        "reloads make no checks: {now:?}"
    );
    ward.reload(&yaml(
        2,
        "health_check: { path: /healthz, interval: 1s, unhealthy_after: 1000 }",
    ));
    assert_eq!(ward.standing(1), Unhealthy);
    ms(5_000).await;
    assert!(ward.bench.endpoint(1).times().len() >= now.len() + 4);
    ward.check_says(1, 200);
    ms(2_500).await;
    assert_eq!(ward.standing(1), Healthy);
    // Endpoint 1 goes; what is known of the other stays.
    let without = yaml(2, PLAIN).replace("\"10.0.0.1:80\", ", "");
    ward.reload(&without);
    assert_eq!(ward.standing(2), Unhealthy);
    let checks = ward.checks_of(1);
    ms(30_000).await;
    assert_eq!(ward.checks_of(1), checks, "who is gone is not checked");
    ward.bench.settle(5).await;
}

#[tokio::test(start_paused = true)]
async fn checks_end_with_their_upstream_and_with_their_owner() {
    let ward = Ward::answering(1, PLAIN, 200);
    ms(FIRST).await;
    let other = yaml(2, "")
        .replace("upstream: u", "upstream: v")
        .replace("  u:", "  v:");
    ward.reload(&other.replace("10.0.0.1:80", "10.0.0.3:80"));
    let before = ward.checks_of(1);
    ms(60_000).await;
    assert_eq!(ward.checks_of(1), before);
    ward.reload(&yaml(1, PLAIN));
    ms(FIRST).await;
    assert_eq!(ward.checks_of(1), before + 1);
    drop(ward.checks);
    ms(60_000).await;
    let seen = ward.bench.endpoint(1).seen();
    assert_eq!(seen.len(), before + 1);
}

/// It is our own trouble, and must not take out every endpoint at once.
#[tokio::test(start_paused = true)]
async fn fault_070_a_check_that_cannot_be_made_for_want_of_a_descriptor_says_nothing() {
    const EMFILE: i32 = 24;
    let none_left = || Err(io::Error::from_raw_os_error(EMFILE));
    let dialer = Dialer::Memory(Arc::new(move |_| Box::pin(async move { none_left() })));
    for kind in ["http", "tcp", "grpc"] {
        let check = format!("health_check: {{ kind: {kind} }}");
        let ward = Ward {
            bench: Bench::with(&yaml(1, &check), dialer.clone()),
            checks: Checks::default(),
        };
        ward.checks.follow(&ward.bench.proxy);
        ms(60_000).await;
        let health = ward.health(1).expect("it is checked");
        assert_eq!((health.standing, health.failures), (Unchecked, 0));
        let checks = ward.bench.metric("mamparo_health_checks_total", &[]);
        assert_eq!(checks, 0.0);
    }
}
