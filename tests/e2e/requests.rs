//! Policies together: what one request meets where several of them have a word.

use std::time::{Duration, Instant};

use mamparo::server::status::Circuit;

use crate::support::{Client, Gate, Proxy, Refused, Reply, Upstream, eventually};

const RETRY: &str = "retry: { backoff: { base: 1ms }, budget: off }";

/// Rule 31: status, headers and body of the last real answer, also where the last try brought none.
#[test]
fn rule_031_the_last_real_answer_is_passed_on() {
    let real = Reply::new(503).header("x-real: yes").body("the real one");
    for script in [
        vec![real.clone()],
        vec![real.clone(), Reply::close()],
        vec![Reply::close(), real.clone(), Reply::reset()],
        vec![Reply::new(502), real.clone(), Reply::stall()],
    ] {
        let seen = format!("{script:?}");
        let upstream = Upstream::script(script);
        let proxy = Proxy::before(&upstream, &format!("timeouts: {{ try: 200ms }}\n{RETRY}"));
        let answer = proxy.get("/");
        assert_eq!(upstream.count(), 3, "{seen}");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (503, "the real one")
        );
        assert_eq!(answer.header("x-real").as_deref(), Some("yes"));
        assert_eq!(answer.header("x-mamparo-attempts").as_deref(), Some("3"));
        assert_eq!(answer.reason(), None, "it is the upstream's");
        assert_eq!(proxy.only_line()["outcome"], "upstream");
    }
    // Where there was none, ours says what the last try met.
    let upstream = Upstream::script([Reply::reset(), Reply::close(), Reply::raw("x\r\n\r\n")]);
    let answer = Proxy::before(&upstream, RETRY).get("/");
    assert_eq!(answer.reason().as_deref(), Some("protocol_error"));
}

#[test]
fn rule_005_a_wait_that_does_not_fit_is_not_begun() {
    let upstream = Upstream::always(Reply::new(503).body("real"));
    let policies = "timeouts: { request: 3s }\n\
                    retry: { backoff: { kind: fixed, base: 5s, max: 5s, jitter: none } }";
    let proxy = Proxy::before(&upstream, policies);
    let began = Instant::now();
    let answer = proxy.get("/");
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!((answer.status, answer.text().as_str()), (503, "real"));
    proxy.expect_metric("mamparo_retries_denied_total", &[("why", "deadline")], 1.0);

    // Rule 24: nor is a retry-after that does.
    let upstream = Upstream::always(Reply::new(503).header("retry-after: 2"));
    let proxy = Proxy::before(&upstream, "timeouts: { request: 1s }\nretry: {}");
    let answer = proxy.get("/");
    assert_eq!(
        answer.header("retry-after").as_deref(),
        Some("2"),
        "the client hears of it"
    );
    assert_eq!(upstream.count(), 1);
}

/// Rules 15, 16: whatever happens to the connection, a POST is never processed twice.
#[test]
fn a_post_without_a_key_is_never_sent_twice() {
    for act in [
        Reply::close(),
        Reply::reset(),
        Reply::half_head(),
        Reply::cut_body(),
        Reply::stall(),
        Reply::close().early(),
        Reply::new(502),
        Reply::new(503),
        Reply::new(504),
    ] {
        let seen = format!("{act:?}");
        let upstream = Upstream::always(act);
        let proxy = Proxy::before(&upstream, &format!("timeouts: {{ try: 200ms }}\n{RETRY}"));
        let mut client = proxy.client();
        client.request("POST", "/", &[], b"pay");
        let _ = client.try_answer("POST");
        // On a connection that has been used, too (fault 46).
        let mut client = proxy.client();
        client.request("POST", "/", &[], b"pay");
        let _ = client.try_answer("POST");
        proxy.expect_metric("mamparo_requests_total", &[], 2.0);
        proxy.expect_metric("mamparo_retries_total", &[], 0.0);
        upstream.wait_for(2);
        assert_eq!(upstream.count(), 2, "{seen}");
    }
}

/// Fault 46: after the request was written on a reused connection, only what is safe is repeated.
#[test]
fn fault_046_a_reused_connection_that_breaks_with_the_request_on_it() {
    for (method, keyed, status, made) in [
        ("GET", false, 200, 3),
        ("POST", false, 502, 2),
        ("POST", true, 200, 3),
    ] {
        let upstream = Upstream::script([Reply::new(200), Reply::reset(), Reply::new(200)]);
        let proxy = Proxy::before(&upstream, RETRY);
        let mut client = proxy.client();
        assert_eq!(client.get("/").status, 200);
        let headers: &[&str] = if keyed { &["idempotency-key: 1"] } else { &[] };
        let answer = client.request(method, "/", headers, b"x").answer();
        assert_eq!(
            (answer.status, upstream.count()),
            (status, made),
            "{method} {keyed}"
        );
        let line = proxy.logged(2).pop().unwrap();
        assert_eq!(line["tries"][0]["reused"], true);
        assert_eq!(line["tries"][0]["sent"], "sent_unanswered");
    }
}

/// Rule 19: a body that is still coming when the first try fails is sent whole, once per try.
#[test]
fn rule_019_a_body_that_is_still_coming() {
    let upstream = Upstream::script([Reply::close().early(), Reply::new(200)]);
    let proxy = Proxy::before(&upstream, RETRY);
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234");
    upstream.wait_for(1);
    std::thread::sleep(Duration::from_millis(60));
    client.send("56789");
    let answer = client.answer();
    assert_eq!((answer.status, upstream.count()), (200, 2));
    assert_eq!(upstream.last().text(), "0123456789");
}

/// Rule 19 (b): the limit does not stop a try whose request was not sent.
#[test]
fn rule_019_a_body_over_the_limit_that_was_not_sent() {
    let (refusing, upstream) = (Refused::new(), Upstream::always(200));
    let policies = "balance: round_robin\n\
                    retry: { max_body: 10B, backoff: { base: 0s }, budget: off }";
    let proxy = Proxy::to(&[refusing.address, upstream.address()], policies);
    let body = vec![b'x'; 200_000];
    for _ in 0..2 {
        assert_eq!(proxy.request("POST", "/", &[], &body).status, 200);
        assert!(upstream.last().body == body);
    }
}

#[test]
fn replay_memory_is_given_back() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let proxy = Proxy::before(&upstream, RETRY);
    let mut client = proxy.client();
    client.request("PUT", "/", &[], &[b'x'; 50_000]);
    eventually("the body is kept", || {
        proxy.status().replay.bytes_used >= 50_000
    });
    gate.open();
    assert_eq!(client.answer().status, 200);
    eventually("it is forgotten", || proxy.status().replay.bytes_used == 0);
}

/// Rule 28: another endpoint is preferred; where there is none, the same is tried.
#[test]
fn rule_028_another_endpoint_is_preferred() {
    let upstreams: Vec<Upstream> = (0..3).map(|_| Upstream::always(503)).collect();
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let proxy = Proxy::to(&addresses, RETRY);
    for round in 1..=5 {
        assert_eq!(proxy.get("/").status, 503);
        let counts: Vec<usize> = upstreams.iter().map(Upstream::count).collect();
        assert_eq!(counts, [round; 3]);
    }
    let proxy = Proxy::to(&addresses[..2], RETRY);
    let before = upstreams[0].count() + upstreams[1].count();
    proxy.get("/");
    assert_eq!(upstreams[0].count() + upstreams[1].count() - before, 3);
}

/// Rules 27 and 36: each try counts at its breaker, and a refusal of ours at none.
#[test]
fn each_try_counts_and_no_refusal_does() {
    let upstream = Upstream::always(503);
    let policies = format!("circuit_breaker: {{ consecutive_failures: 5 }}\n{RETRY}");
    let proxy = Proxy::before(&upstream, &policies);
    proxy.get("/");
    assert_eq!(proxy.window().consecutive_failures, 3);
    let answer = proxy.get("/");
    assert_eq!(answer.status, 503);
    assert_eq!(proxy.endpoint().state, Circuit::Open);
    assert_eq!(upstream.count(), 5, "the breaker opened between two tries");
    for _ in 0..5 {
        assert_eq!(proxy.get("/").reason().as_deref(), Some("breaker_open"));
    }
    assert_eq!(upstream.count(), 5);
    proxy.expect_metric("mamparo_attempts_total", &[], 5.0);
    proxy.expect_metric("mamparo_retries_total", &[], 3.0);
    proxy.expect_metric("mamparo_requests_total", &[], 7.0);
}

/// Rule 37: an answer that comes after the breaker has moved on is not heard.
#[test]
fn rule_037_a_straggler_is_not_heard() {
    let gate = Gate::default();
    let late = Reply::new(500).when(&gate);
    let upstream = Upstream::script([late, Reply::new(500), Reply::new(200), Reply::new(200)]);
    let settings = "circuit_breaker: { consecutive_failures: 1, open_for: 80ms, probes: 1 }";
    let proxy = Proxy::before(&upstream, settings);
    let mut straggler = proxy.client();
    straggler.request("GET", "/", &[], b"");
    upstream.wait_for(1);
    assert_eq!(proxy.get("/").status, 500);
    eventually("it is closed again", || proxy.get("/").status == 200);
    gate.open();
    assert_eq!(straggler.answer().status, 500);
    eventually("it is told of", || {
        proxy.metric("mamparo_attempts_total", &[]) >= 3.0
    });
    assert_eq!(proxy.endpoint().state, Circuit::Closed);
    assert_eq!(proxy.window().failures, 0);
}

/// Rule 40: what it had counted before it opened does not open it again.
#[test]
fn rule_040_counts_begin_anew() {
    let mut script = vec![500, 500, 500, 200];
    script.extend([500, 500, 500, 500]);
    let upstream = Upstream::script(script);
    let settings = "circuit_breaker: { consecutive_failures: 3, open_for: 60ms, probes: 1 }";
    let proxy = Proxy::before(&upstream, settings);
    for _ in 0..3 {
        proxy.get("/");
    }
    assert_eq!(proxy.endpoint().state, Circuit::Open);
    eventually("it is closed again", || proxy.get("/").status == 200);
    for opened in [false, false, true] {
        assert_eq!(proxy.get("/").status, 500);
        assert_eq!(proxy.endpoint().state == Circuit::Open, opened);
    }
}

/// An answer that breaks off is one more failure of the endpoint, and not tried again (rule 11).
#[test]
fn rule_011_nothing_is_tried_again_after_the_first_byte() {
    let act = Reply::cut_body().dripping_body(Duration::from_millis(20));
    let upstream = Upstream::always(act);
    let policies = format!("circuit_breaker: {{ consecutive_failures: 2 }}\n{RETRY}");
    let proxy = Proxy::before(&upstream, &policies);
    let answer = proxy.get("/");
    assert!(!answer.complete && answer.text() == "hello");
    proxy.expect_metric("mamparo_requests_total", &[], 1.0);
    assert_eq!(upstream.count(), 1);
    assert_eq!(proxy.window().failures, 1);
    let line = proxy.only_line();
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&200.into(), &"reset".into())
    );
}

/// Fault 79: a budget that is empty does not keep a request from a connection that is not stale.
#[test]
fn fault_079_an_empty_budget_and_stale_connections() {
    let upstream = Upstream::always(200);
    let policies = "retry: { budget: { ratio: 0%, min_per_second: 0 } }";
    let proxy = Proxy::before(&upstream, policies);
    let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    upstream.close_connections();
    for client in &mut clients {
        assert_eq!(client.request("POST", "/", &[], b"x").answer().status, 200);
    }
    assert_eq!(upstream.count(), 10);
}

/// Fault 79: a full bulkhead and a breaker that waits for its probes.
#[test]
fn fault_079_a_full_bulkhead_does_not_use_up_probes() {
    let gate = Gate::default();
    let act = Reply::new(200).when(&gate);
    let upstream = Upstream::script([Reply::new(500), act.clone(), act]);
    let policies = "circuit_breaker: { consecutive_failures: 1, open_for: 60ms, probes: 2 }\n\
                    bulkhead: { max_in_flight: 1 }";
    let proxy = Proxy::before(&upstream, policies);
    assert_eq!(proxy.get("/").status, 500);
    std::thread::sleep(Duration::from_millis(90));
    let mut probe = proxy.client();
    probe.request("GET", "/", &[], b"");
    upstream.wait_for(2);
    for _ in 0..5 {
        assert_eq!(
            proxy.get("/").reason().as_deref(),
            Some("too_many_in_flight")
        );
    }
    gate.open();
    assert_eq!(probe.answer().status, 200);
    // The client has its last byte a moment before the seat is free.
    eventually("the second probe goes", || proxy.get("/").status == 200);
    assert_eq!(proxy.endpoint().state, Circuit::Closed);
}

/// Rule 88: whatever happens, each request is counted in one outcome.
#[test]
fn rule_088_each_request_is_counted_once() {
    let upstream = Upstream::with(|number, _| match number % 5 {
        0 => Reply::new(503),
        1 => Reply::close(),
        2 => Reply::cut_body(),
        3 => Reply::new(404),
        _ => Reply::new(200),
    });
    let policies = "circuit_breaker: { consecutive_failures: 3, open_for: 20ms }\n\
                    rate_limit: { per_second: 200, burst: 30 }\n\
                    bulkhead: { max_in_flight: 2 }\n\
                    retry: { backoff: { base: 1ms } }\n\
                    fallback: [{ on: [breaker_open], respond: {} }]";
    let proxy = Proxy::before(&upstream, policies);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let mut client = proxy.client();
                    client.request("GET", "/", &[], b"");
                    let _ = client.try_answer("GET");
                }
            });
        }
    });
    proxy.expect_metric("mamparo_requests_total", &[], 100.0);
    let lines = proxy.logged(100);
    for outcome in ["upstream", "fallback", "refused", "failed", "client_gone"] {
        let logged = lines.iter().filter(|line| line["outcome"] == outcome);
        let counted = proxy.metric("mamparo_requests_total", &[("outcome", outcome)]);
        assert_eq!(logged.count() as f64, counted, "{outcome}");
    }
    let tries: usize = lines
        .iter()
        .map(|line| line["tries"].as_array().map_or(0, Vec::len))
        .sum();
    proxy.expect_metric("mamparo_attempts_total", &[], tries as f64);
    let totals = proxy.status().totals;
    assert_eq!(totals.requests, 100);
}

/// The rest of a failed answer is waited for before the next try, longer than the backoff if need be.
#[test]
fn a_failed_answer_that_comes_slowly_is_not_our_time() {
    let slow = Reply::new(503)
        .body("slow")
        .dripping_body(Duration::from_millis(20));
    let upstream = Upstream::script([slow, Reply::new(200)]);
    let proxy = Proxy::before(&upstream, RETRY);
    assert_eq!(proxy.get("/").status, 200);
    let line = proxy.only_line();
    let field = |name: &str| line[name].as_f64().unwrap();
    assert!(field("backoff_ms") >= 40.0, "{line}");
    assert!(
        field("overhead_ms") <= field("duration_ms") - 40.0,
        "{line}"
    );
}

/// `mamparo_overhead_seconds` and the durations of the access line leave out what others took.
#[test]
fn the_time_of_others_is_not_ours() {
    let upstream = Upstream::script([Reply::new(503).after_ms(60), Reply::new(200).after_ms(60)]);
    let policies = "retry: { backoff: { kind: fixed, base: 50ms, jitter: none } }";
    let proxy = Proxy::before(&upstream, policies);
    assert_eq!(proxy.get("/").status, 200);
    let line = proxy.only_line();
    let field = |name: &str| line[name].as_f64().unwrap();
    assert!(field("duration_ms") >= 170.0, "{line}");
    assert_eq!(field("backoff_ms"), 50.0);
    assert!(
        field("overhead_ms") < field("duration_ms") - 160.0,
        "{line}"
    );
    assert!(line["tries"][0]["duration_ms"].as_f64().unwrap() >= 60.0);
    let sum = proxy.metric("mamparo_overhead_seconds_sum", &[]);
    assert!(sum < field("duration_ms") / 1000.0 - 0.16, "{sum}");
}
