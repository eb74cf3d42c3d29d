//! `circuit_breaker`: what opens it, for how long, and what closes it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mamparo::server::status::Circuit;

use crate::support::{Client, Gate, Proxy, Reply, Upstream, eventually};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("circuit_breaker.consecutive_failures", consecutive_failures),
    ("circuit_breaker.failure_rate", failure_rate),
    ("circuit_breaker.slow_rate", slow_rate),
    ("circuit_breaker.slow_call", slow_rate),
    ("circuit_breaker.peer_deviation", peer_deviation),
    ("circuit_breaker.window", window),
    ("circuit_breaker.min_requests", failure_rate),
    ("circuit_breaker.open_for", open_for),
    ("circuit_breaker.max_open_for", max_open_for),
    ("circuit_breaker.probes", probes),
    ("circuit_breaker.ramp", ramp),
    ("circuit_breaker.max_open", max_open),
    ("circuit_breaker.when_all_open", when_all_open),
    ("circuit_breaker.ignore", ignore),
];

/// A breaker without triggers but for these.
fn breaker(settings: &str) -> String {
    let rate = match settings.contains("failure_rate") {
        true => "",
        false => "failure_rate: none, ",
    };
    format!("circuit_breaker: {{ consecutive_failures: none, {rate}{settings} }}")
}

/// A breaker that one failure opens, with these settings.
fn touchy(settings: &str) -> String {
    format!("circuit_breaker: {{ consecutive_failures: 1, {settings} }}")
}

#[track_caller]
fn get(proxy: &Proxy, times: usize) {
    for _ in 0..times {
        proxy.get("/");
    }
}

#[track_caller]
fn state(proxy: &Proxy) -> Circuit {
    proxy.endpoint().state
}

#[test]
fn consecutive_failures() {
    let upstream = Upstream::script([500, 500, 200, 500, 500, 500, 200]);
    let proxy = Proxy::before(&upstream, "circuit_breaker: { consecutive_failures: 3 }");
    get(&proxy, 5);
    assert_eq!(
        state(&proxy),
        Circuit::Closed,
        "a success between them ends the row"
    );
    assert_eq!(proxy.window().consecutive_failures, 2);
    assert_eq!(proxy.get("/").status, 500);
    assert_eq!(state(&proxy), Circuit::Open);
    assert_eq!(proxy.get("/").reason().as_deref(), Some("breaker_open"));
    assert_eq!(
        proxy.endpoint().reason.as_deref(),
        Some("3 consecutive failures")
    );
    let labels = [
        ("upstream", "u"),
        ("endpoint", &upstream.address().to_string()),
    ];
    proxy.expect_metric("mamparo_circuit_breaker_state", &labels, 1.0);
    let labels = [("upstream", "u"), ("to", "open")];
    proxy.expect_metric("mamparo_circuit_breaker_transitions_total", &labels, 1.0);
    proxy.expect_metric("mamparo_endpoints", &[("state", "open")], 1.0);
    let events = proxy.status().events;
    assert!(
        events
            .iter()
            .any(|event| event.text.contains("3 consecutive failures")),
        "{events:?}"
    );

    let upstream = Upstream::always(500);
    let proxy = Proxy::before(&upstream, &breaker(""));
    get(&proxy, 30);
    assert_eq!(upstream.count(), 30, "every trigger is off");
}

/// Rules 50 and 51: what is a failure of the endpoint, and what is not.
#[test]
fn fault_056_what_counts_as_a_failure() {
    for (status, total, failures) in [
        (200, 1, 0),
        (404, 1, 0),
        (408, 1, 0),
        (429, 0, 0),
        (500, 1, 1),
        (501, 1, 0),
        (503, 1, 1),
        (505, 1, 0),
    ] {
        let upstream = Upstream::always(status);
        let proxy = Proxy::before(&upstream, &breaker(""));
        assert_eq!(proxy.get("/").status, status);
        let window = proxy.window();
        assert_eq!(
            (window.total, window.failures),
            (total, failures),
            "{status}"
        );
    }
}

#[test]
fn failure_rate() {
    let upstream = Upstream::script([500, 500, 200, 200, 200, 500, 500]);
    let proxy = Proxy::before(&upstream, &breaker("failure_rate: 50%, min_requests: 6"));
    // Three of five were too few to judge by; three of six are the half.
    get(&proxy, 5);
    assert_eq!(state(&proxy), Circuit::Closed);
    get(&proxy, 1);
    assert_eq!(state(&proxy), Circuit::Open);
    let reason = proxy.endpoint().reason.unwrap();
    assert!(reason.contains("3 of 6"), "{reason}");
}

#[test]
fn slow_rate() {
    let slow = Reply::new(200).after_ms(60);
    let upstream = Upstream::script([Reply::new(200), slow.clone(), slow]);
    let settings = "slow_call: 50ms, slow_rate: 60%, min_requests: 2";
    let proxy = Proxy::before(&upstream, &breaker(settings));
    get(&proxy, 2);
    if proxy.window().slow == 1 {
        assert_eq!(state(&proxy), Circuit::Closed);
    }
    get(&proxy, 1);
    assert_eq!(state(&proxy), Circuit::Open);
    let reason = proxy.endpoint().reason.unwrap();
    assert!(
        reason.contains("50ms") || reason.contains("50 ms"),
        "{reason}"
    );
}

#[test]
fn peer_deviation() {
    let good: Vec<Upstream> = (0..4).map(|_| Upstream::always(200)).collect();
    let bad = Upstream::always(500);
    let mut addresses: Vec<SocketAddr> = good.iter().map(Upstream::address).collect();
    addresses.push(bad.address());
    for (settings, opens) in [("peer_deviation: 2", true), ("peer_deviation: none", false)] {
        let policies = breaker(&format!("{settings}, min_requests: 3"));
        let proxy = Proxy::to(&addresses, &format!("balance: round_robin\n{policies}"));
        get(&proxy, 25);
        let states = proxy.upstream("u").endpoints;
        let open = states.iter().find(|one| one.state == Circuit::Open);
        assert_eq!(
            open.map(|one| one.address.clone()),
            opens.then(|| bad.address().to_string())
        );
    }
}

#[test]
fn window() {
    let upstream = Upstream::always(500);
    let settings = "failure_rate: 50%, min_requests: 2, window: 400ms";
    let proxy = Proxy::before(&upstream, &breaker(settings));
    get(&proxy, 1);
    assert_eq!(proxy.window().total, 1);
    std::thread::sleep(Duration::from_millis(450));
    assert_eq!(proxy.window().total, 0, "forgotten");
    get(&proxy, 1);
    assert_eq!(state(&proxy), Circuit::Closed);
}

#[test]
fn open_for() {
    let upstream = Upstream::script([500, 200]);
    let proxy = Proxy::before(&upstream, &touchy("open_for: 200ms, probes: 1"));
    get(&proxy, 1);
    let opened = Instant::now();
    let answer = proxy.get("/");
    assert_eq!(answer.reason().as_deref(), Some("breaker_open"));
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    eventually("it is probed", || proxy.get("/").status == 200);
    assert!(opened.elapsed() >= Duration::from_millis(150), "rule 10");
    assert_eq!(state(&proxy), Circuit::Closed, "one probe closes it");
    assert_eq!(upstream.count(), 2);
    for to in ["open", "half_open", "closed"] {
        proxy.expect_metric(
            "mamparo_circuit_breaker_transitions_total",
            &[("to", to)],
            1.0,
        );
    }
}

/// Rule 42: a row of openings makes each longer.
#[test]
fn max_open_for() {
    let upstream = Upstream::always(500);
    for (limit, range) in [("10s", 221..=440), ("250ms", 150..=250)] {
        let settings = format!("open_for: 200ms, max_open_for: {limit}");
        let proxy = Proxy::before(&upstream, &touchy(&settings));
        get(&proxy, 1);
        eventually("it opens a second time", || {
            proxy.get("/");
            proxy.endpoint().opened_in_a_row == 2
        });
        let next = proxy.endpoint().next_probe_ms.unwrap();
        assert!(range.contains(&next), "{next} ms under {limit}");
    }
}

#[test]
fn probes() {
    let gate = Gate::default();
    let probe = Reply::new(200).when(&gate);
    let upstream = Upstream::script([Reply::new(500), probe]);
    let proxy = Proxy::before(&upstream, &touchy("open_for: 60ms, probes: 2"));
    get(&proxy, 1);
    std::thread::sleep(Duration::from_millis(100));
    let mut probing: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut probing {
        client.request("GET", "/", &[], b"");
    }
    upstream.wait_for(3);
    assert_eq!(state(&proxy), Circuit::HalfOpen);
    proxy.expect_metric("mamparo_circuit_breaker_state", &[("upstream", "u")], 2.0);
    let answer = proxy.get("/");
    assert_eq!(answer.reason().as_deref(), Some("breaker_open"));
    let message = answer.json()["message"].to_string();
    assert!(message.contains("probes are under way"), "{message}");
    assert_eq!(
        answer.header("retry-after"),
        None,
        "nobody knows how long they take"
    );
    gate.open();
    for client in &mut probing {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(state(&proxy), Circuit::Closed);
    assert_eq!(upstream.count(), 3);
}

/// Rule 38: a probe whose client leaves gives its place back.
#[test]
fn fault_041_a_probe_whose_client_leaves_teaches_nothing() {
    let upstream = Upstream::script([Reply::new(500), Reply::stall(), Reply::new(200)]);
    let proxy = Proxy::before(&upstream, &touchy("open_for: 60ms, probes: 1"));
    get(&proxy, 1);
    std::thread::sleep(Duration::from_millis(100));
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    upstream.wait_for(2);
    assert_eq!(proxy.get("/").reason().as_deref(), Some("breaker_open"));
    client.reset();
    eventually("the place is free", || proxy.get("/").status == 200);
    assert_eq!(state(&proxy), Circuit::Closed);
}

/// Rule 52.
#[test]
fn ramp() {
    let (old, back) = (Upstream::always(200), Upstream::always(200));
    let addresses = [old.address(), back.address()];
    for (ramp, least, most) in [("60s", 1, 10), ("0s", 20, 20)] {
        let (count_old, count_back) = (old.count(), back.count());
        let policies = format!("balance: round_robin\ncircuit_breaker: {{ ramp: {ramp} }}");
        let proxy = Proxy::to(&addresses, &policies);
        assert_eq!(proxy.force(back.address(), "open").status, 200);
        get(&proxy, 4);
        assert_eq!(back.count(), count_back, "forced open");
        assert_eq!(proxy.force(back.address(), "auto").status, 200);
        get(&proxy, 40);
        let got = back.count() - count_back;
        assert!(
            (least..=most).contains(&got),
            "{got} of 40 with a ramp of {ramp}"
        );
        assert_eq!(old.count() - count_old + got, 44);
        let endpoints = proxy.upstream("u").endpoints;
        let share = endpoints.iter().map(|one| one.share).fold(1.0, f64::min);
        assert_eq!(share < 0.5, ramp == "60s", "{share}");
    }
}

/// Rules 43 to 45.
#[test]
fn max_open() {
    let upstreams: Vec<Upstream> = (0..4).map(|_| Upstream::always(500)).collect();
    let addresses: Vec<SocketAddr> = upstreams.iter().map(Upstream::address).collect();
    for (share, open) in [("10%", 1), ("50%", 2), ("75%", 3), ("99%", 3), ("100%", 4)] {
        let proxy = Proxy::to(&addresses, &touchy(&format!("max_open: {share}")));
        get(&proxy, 20);
        let endpoints = proxy.upstream("u").endpoints;
        let opened = endpoints.iter().filter(|one| one.state == Circuit::Open);
        assert_eq!(opened.count(), open, "{share}");
        let closed = endpoints.iter().filter(|one| one.state == Circuit::Closed);
        let mut why = closed.map(|one| one.reason.as_deref().unwrap_or_default());
        assert!(why.all(|why| {
            why.ends_with("would open it, but max_open lets no more endpoints of the upstream open")
        }));
        let refused = proxy.get("/").reason().as_deref() == Some("breaker_open");
        assert_eq!(refused, open == 4);
    }
}

#[test]
fn when_all_open() {
    let upstream = Upstream::script([500, 200]);
    let proxy = Proxy::before(&upstream, &touchy("when_all_open: send_anyway"));
    assert_eq!(proxy.get("/").status, 500);
    assert_eq!(state(&proxy), Circuit::Open);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(
        state(&proxy),
        Circuit::Open,
        "what was sent anyway closes nothing"
    );
}

#[test]
fn ignore() {
    let upstream = Upstream::script([503, 503, 500]);
    let proxy = Proxy::before(&upstream, &touchy("ignore: [503]"));
    get(&proxy, 2);
    assert_eq!(state(&proxy), Circuit::Closed);
    assert_eq!(proxy.window().failures, 0);
    get(&proxy, 1);
    assert_eq!(state(&proxy), Circuit::Open);
}

#[test]
fn an_operator_forces_it() {
    let upstream = Upstream::script([200, 500, 500, 200]);
    let proxy = Proxy::before(&upstream, &touchy(""));
    proxy.force(upstream.address(), "open");
    let answer = proxy.get("/");
    assert_eq!(answer.reason().as_deref(), Some("breaker_open"));
    assert_eq!(
        answer.header("retry-after"),
        None,
        "nobody knows until when"
    );
    assert_eq!(proxy.endpoint().forced.as_deref(), Some("open"));
    proxy.force(upstream.address(), "closed");
    get(&proxy, 3);
    assert_eq!(upstream.count(), 3, "no failure opens it");
    proxy.force(upstream.address(), "auto");
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(
        proxy.force("127.0.0.1:1".parse().unwrap(), "open").status,
        404
    );
    assert_eq!(proxy.force(upstream.address(), "ajar").status, 400);
}

/// Rule 31: a breaker that opens between two tries does not hide the last real answer.
#[test]
fn an_opening_between_two_tries_keeps_the_last_answer() {
    let act = Reply::new(503)
        .header("x-why: tired")
        .body("the last real answer");
    let upstream = Upstream::always(act);
    let policies = touchy("") + "\nretry: { backoff: { base: 1ms } }";
    let proxy = Proxy::before(&upstream, &policies);
    let answer = proxy.get("/");
    assert_eq!((answer.status, upstream.count()), (503, 1));
    assert_eq!(answer.reason(), None, "it is the upstream's");
    assert_eq!(answer.header("x-why").as_deref(), Some("tired"));
    assert_eq!(answer.text(), "the last real answer");
    assert_eq!(state(&proxy), Circuit::Open);
    assert_eq!(proxy.only_line()["outcome"], "upstream");
}
