//! Calls of gRPC over HTTP/1.1, which carries trailers as well: judged by their codes, wherever those
//! stand; put off, shortened and refused in gRPC's own words.

use super::bench::{Answer, Bench, ms, request, yaml};
use super::endpoint::{Play, Reply, answer, call, call_head};
use mamparo::policy::breaker::{Forced, State};

const OK: u8 = 0;
const NOT_FOUND: u8 = 5;
const UNAVAILABLE: u8 = 14;

const KIND: (&str, &str) = ("content-type", "application/grpc+proto");

/// Tries again without chance.
const RETRY: &str = "retry: { on: [unavailable, reset], methods: all, budget: off, max_attempts: 3, \
                     backoff: { base: 10ms, jitter: none } }";

async fn ask(bench: &Bench, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![KIND, ("te", "trailers")];
    all.extend(headers);
    bench.client().ask("POST /a.B/C", &all, "message").await
}

/// A call that ends with its head.
fn at_once(code: u8) -> Reply {
    call_head().header("grpc-status", &code.to_string())
}

/// What of the tries was counted as `success`, `failure` and `ignored`.
fn learnt(bench: &Bench) -> [f64; 3] {
    ["success", "failure", "ignored"].map(|outcome| {
        let label = format!("outcome=\"{outcome}\"");
        bench.metric("mamparo_attempts_total", &[&label])
    })
}

/// The policies, and what the only endpoint answers first and then.
fn bench(policies: &str, first: impl IntoIterator<Item = Reply>, then: Reply) -> Bench {
    let bench = Bench::new(&yaml(1, policies));
    bench.endpoint(1).will(first);
    bench.endpoint(1).always(then);
    bench
}

#[tokio::test(start_paused = true)]
async fn rules_12_and_13_a_call_is_judged_by_its_code_wherever_that_stands() {
    for (failed, later) in [
        (at_once(UNAVAILABLE), 0),
        (call("", UNAVAILABLE), 0),
        // The trailers come a while after the head, within the time that it is held.
        (call("", UNAVAILABLE).pauses(0, 200), 200),
        // By something that knows no gRPC.
        (answer(503), 0),
        (answer(429), 0),
        // It broke before the first message.
        (call("", OK).half_then_close(30), 30),
    ] {
        let told = format!("{failed:?}");
        let bench = bench(RETRY, [failed], call("done", OK));
        let got = ask(&bench, &[]).await;
        assert_eq!((got.status, got.body.as_str()), (200, "done"), "{told}");
        assert_eq!(got.head.get("x-mamparo-attempts"), Some("2"));
        let seen = bench.endpoint(1).seen();
        let at: Vec<_> = seen.iter().map(|seen| seen.at).collect();
        assert_eq!(at, [0, later + 10], "{told}");
        let previous: Vec<_> = seen
            .iter()
            .map(|seen| seen.head.get("grpc-previous-rpc-attempts"))
            .collect();
        assert_eq!(previous, [None, Some("1")]);
        assert!(
            seen.iter()
                .all(|seen| seen.head.get("te") == Some("trailers"))
        );
        bench.settle(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_status_of_200_that_is_no_answer_of_grpc_is_unknown() {
    let policies = format!(
        "circuit_breaker: {{}}\n{}",
        RETRY.replace("unavailable", "unknown")
    );
    for failed in [
        answer(200).header("content-type", "text/html"),
        call_head(),
        call_head().header("grpc-status", "many"),
        call_head()
            .header("transfer-encoding", "chunked")
            .trailer("x", "y"),
    ] {
        let told = format!("{failed:?}");
        let bench = bench(&policies, [failed], call("done", OK));
        let got = ask(&bench, &[]).await;
        assert_eq!(got.body, "done", "{told}");
        assert_eq!(learnt(&bench), [1.0, 1.0, 0.0], "{told}");
        bench.settle(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rule_11_from_the_first_message_on_nothing_is_tried_again() {
    let policies = format!("circuit_breaker: {{}}\n{RETRY}");
    let late = call("message", UNAVAILABLE).pauses(0, 5_000);
    let bench = bench(&policies, [late], call("done", OK));
    let got = ask(&bench, &[]).await;
    assert_eq!((got.body.as_str(), got.at, got.done), ("message", 0, 5_000));
    assert_eq!(bench.endpoint(1).count(), 1);
    bench.settle(1).await;
    // But it was a failure, for the breaker and for whoever looks.
    assert_eq!(learnt(&bench), [0.0, 1.0, 0.0]);
    assert_eq!(bench.breaker(1).counts.failures, 1);
    assert_eq!(
        bench.metric("mamparo_requests_total", &["code=\"5xx\""]),
        1.0
    );
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_head_is_held_for_the_try_timeout_and_no_longer() {
    for (timeouts, held) in [
        ("", 250),
        ("timeouts: { try: 700ms }", 700),
        ("timeouts: { request: 100ms }", 100),
    ] {
        let policies = format!("{RETRY}\n{timeouts}");
        // A stream that is silent at first is no failure.
        let silent = call("event", OK).pauses(60_000, 0);
        let bench = bench(&policies, [silent], call("done", OK));
        let got = ask(&bench, &[]).await;
        assert_eq!(
            (got.status, got.at, got.done),
            (200, held, 60_000),
            "{timeouts}"
        );
        assert_eq!((got.body.as_str(), bench.endpoint(1).count()), ("event", 1));
        bench.settle(1).await;
        assert_eq!(learnt(&bench), [1.0, 0.0, 0.0]);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_no_head_is_held_while_the_client_still_sends() {
    let bench = Bench::new(&yaml(1, RETRY));
    bench
        .endpoint(1)
        .will([call("pong", OK).pauses(3_000, 0).early()]);
    let mut client = bench.client();
    let (name, value) = KIND;
    let head = format!(
        "POST /a.B/C HTTP/1.1\r\nhost: u\r\n{name}: {value}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    client.write(&head).await;
    let answer = client.head().await.expect("a head");
    assert_eq!((answer.second(), bench.now()), ("200", 0));
    client.write("4\r\nping\r\n0\r\n\r\n").await;
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn rule_51_a_breaker_opens_by_the_codes_that_mean_a_broken_service() {
    let policies = "circuit_breaker: { consecutive_failures: 3, ignore: [unknown] }";
    for (code, opens) in [
        (UNAVAILABLE, true),
        (NOT_FOUND, false),
        (2, false),
        (8, false),
        (13, true),
    ] {
        for reply in [at_once(code), call("", code)] {
            let bench = bench(policies, [], reply);
            for _ in 0..3 {
                let got = ask(&bench, &[]).await;
                assert_eq!((got.status, got.reason()), (200, ""));
            }
            let expected = if opens { State::Open } else { State::Closed };
            assert_eq!(bench.state(1), expected, "code {code}");
            bench.settle(3).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_73_what_we_refuse_is_a_call_that_ended() {
    let refused = async |bench: &Bench, code: u8, reason: &str| {
        let got = ask(bench, &[]).await;
        assert_eq!((got.status, got.body.as_str()), (200, ""), "{reason}");
        assert_eq!(got.reason(), reason);
        assert_eq!(
            got.head.number("grpc-status"),
            Some(u64::from(code)),
            "{reason}"
        );
        assert_eq!(got.head.get("content-type"), Some(KIND.1), "{reason}");
        let message = got.head.get("grpc-message").expect("words");
        assert!(
            message.starts_with(|first: char| first.is_ascii_uppercase()),
            "{message}"
        );
    };
    let bench = Bench::new(&yaml(1, "circuit_breaker: {}"));
    bench.force(1, Some(Forced::Open));
    refused(&bench, UNAVAILABLE, "breaker_open").await;
    bench.proxy.refuse_new_requests();
    refused(&bench, UNAVAILABLE, "draining").await;
    // For those who count by statuses it is what the code stands for.
    assert_eq!(
        bench.metric(
            "mamparo_requests_total",
            &["outcome=\"refused\"", "code=\"5xx\""]
        ),
        2.0
    );

    let bench = Bench::new(&yaml(1, "rate_limit: { per_second: 1, burst: 1 }"));
    assert_eq!(ask(&bench, &[]).await.reason(), "");
    refused(&bench, 8, "rate_limited").await;

    let bench = Bench::new(&yaml(1, "bulkhead: { max_in_flight: 1 }"));
    bench.endpoint(1).will([Play::Hang]);
    let first = bench.start_with("POST /", &[KIND], "");
    ms(1).await;
    refused(&bench, UNAVAILABLE, "too_many_in_flight").await;
    first.abort();

    for (play, code, reason) in [
        (Play::Refuse, UNAVAILABLE, "connect_failure"),
        (Play::ConnectHangs, UNAVAILABLE, "connect_timeout"),
        (Play::Close(1), UNAVAILABLE, "reset"),
        (Play::Hang, 4, "try_timeout"),
    ] {
        let bench = Bench::new(&yaml(1, "timeouts: { connect: 50ms, try: 100ms }"));
        bench.endpoint(1).will([play]);
        refused(&bench, code, reason).await;
    }

    let routes = yaml(1, "").replace(
        "upstream: u }",
        "routes: [{ match: { path: /x }, upstream: u }] }",
    );
    refused(&Bench::new(&routes), 12, "no_route").await;
}

#[tokio::test(start_paused = true)]
async fn rule_73_a_request_that_must_not_be_forwarded_is_refused_in_grpc_too() {
    let bench = Bench::new(&yaml(1, ""));
    let got = ask(&bench, &[("expect", "miracles")]).await;
    assert_eq!((got.status, got.reason()), (200, "bad_request"));
    assert_eq!(got.head.number("grpc-status"), Some(13));
}

#[tokio::test(start_paused = true)]
async fn rule_6_the_clients_time_shortens_ours_and_each_try_is_told_what_is_left() {
    let bench = Bench::new(&yaml(1, &format!("timeouts: {{ request: 15s }}\n{RETRY}")));
    bench.endpoint(1).will([at_once(UNAVAILABLE).after(40)]);
    bench.endpoint(1).always(Play::Hang);
    let got = ask(&bench, &[("grpc-timeout", "100m")]).await;
    // The last real answer is what there is.
    assert_eq!((got.reason(), got.at), ("", 100));
    assert_eq!(got.head.number("grpc-status"), Some(u64::from(UNAVAILABLE)));
    let seen = bench.endpoint(1).seen();
    let told: Vec<_> = seen
        .iter()
        .map(|seen| seen.head.get("grpc-timeout"))
        .collect();
    assert_eq!(told, [Some("100000u"), Some("50000000n")]);

    let bench = Bench::new(&yaml(1, "timeouts: { request: 15s }"));
    bench.endpoint(1).will([Play::Hang]);
    let got = ask(&bench, &[("grpc-timeout", "100m")]).await;
    assert_eq!((got.reason(), got.at), ("request_timeout", 100));
    assert_eq!(got.head.number("grpc-status"), Some(4));

    // What cannot be read is passed on, and what is longer than ours changes nothing.
    for (value, sent) in [("soon", "soon"), ("1H", "3600000m")] {
        let bench = bench_of_answers();
        let got = ask(&bench, &[("grpc-timeout", value)]).await;
        assert_eq!(got.reason(), "", "{value}");
        assert_eq!(
            bench.endpoint(1).seen()[0].head.get("grpc-timeout"),
            Some(sent)
        );
        // What is left of ours ends with the head, and is told by its own header.
        assert_eq!(
            bench.endpoint(1).seen()[0].head.get("x-mamparo-timeout-ms"),
            Some("15000")
        );
    }
    let bench = bench_of_answers();
    let got = ask(&bench, &[("grpc-timeout", "0S")]).await;
    assert_eq!((got.reason(), got.at), ("request_timeout", 0));
    assert!(
        got.head
            .get("grpc-message")
            .unwrap()
            .contains("grpc-timeout")
    );
    assert_eq!(bench.endpoint(1).count(), 0);
}

fn bench_of_answers() -> Bench {
    bench("timeouts: { request: 15s }", [], call("done", OK))
}

#[tokio::test(start_paused = true)]
async fn rule_93_the_time_of_somebody_who_is_not_trusted_is_told_but_not_ours() {
    let text = yaml(1, "timeouts: { request: 1s }").replace("role: outbound", "role: inbound");
    let bench = Bench::new(&text);
    bench.endpoint(1).will([at_once(OK).after(200)]);
    let got = ask(&bench, &[("grpc-timeout", "100m")]).await;
    assert_eq!((got.reason(), got.at), ("", 200));
    assert_eq!(
        bench.endpoint(1).seen()[0].head.get("grpc-timeout"),
        Some("100000u")
    );
}

#[tokio::test(start_paused = true)]
async fn rule_25_pushback_sets_the_wait_or_ends_the_tries() {
    for (value, at) in [
        ("0", Some(0)),
        ("300", Some(300)),
        ("-1", None),
        ("never", None),
        ("20000", None),
    ] {
        for failed in [
            at_once(UNAVAILABLE).header("grpc-retry-pushback-ms", value),
            call("", UNAVAILABLE).trailer("grpc-retry-pushback-ms", value),
        ] {
            let bench = bench(RETRY, [failed], call("done", OK));
            let got = ask(&bench, &[]).await;
            let seen = bench.endpoint(1).times();
            match at {
                Some(at) => assert_eq!((seen, got.body.as_str()), (vec![0, at], "done"), "{value}"),
                None => {
                    assert_eq!(seen, [0], "{value}");
                    let denied =
                        bench.metric("mamparo_retries_denied_total", &["why=\"deadline\""]);
                    assert_eq!(denied, 1.0, "{value}");
                }
            }
            bench.settle(1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_31_the_last_real_answer_is_what_a_call_gets_at_last() {
    let bench = Bench::new(&yaml(1, RETRY));
    bench.endpoint(1).will([Play::Answer(
        at_once(UNAVAILABLE).header("x-from", "service"),
    )]);
    bench.endpoint(1).always(Play::Close(1));
    let got = ask(&bench, &[]).await;
    assert_eq!(got.head.number("grpc-status"), Some(u64::from(UNAVAILABLE)));
    assert_eq!(
        (got.head.get("x-from"), got.reason()),
        (Some("service"), "")
    );
    assert_eq!(bench.endpoint(1).count(), 3);
    bench.settle(1).await;
    assert_eq!(
        bench.metric("mamparo_requests_total", &["code=\"5xx\""]),
        1.0
    );
}

#[tokio::test(start_paused = true)]
async fn rule_74_a_fallback_answers_calls_or_others_but_never_in_the_wrong_words() {
    let policies = r#"
        fallback:
          - { on: [unavailable, connect_failure], respond: { status: 203, body: plain } }
          - { on: [not_found], respond: { grpc_status: aborted, body: "No. 100%" } }
          - { on: any, respond: { grpc_status: ok, headers: { x-from: here }, body: message } }"#;
    let policies = policies.replace("\n        ", "\n");
    let text = yaml(1, "")
        + &policies
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>();
    for (failed, is_call, status, body) in [
        (
            Play::Answer(at_once(UNAVAILABLE)),
            true,
            None,
            "\0\0\0\0\u{7}message",
        ),
        (Play::Refuse, true, None, "\0\0\0\0\u{7}message"),
        (Play::Refuse, false, None, "plain"),
        (Play::Answer(at_once(NOT_FOUND)), true, Some(10), ""),
    ] {
        let told = format!("{failed:?}");
        let bench = Bench::new(&text);
        bench.endpoint(1).will([failed]);
        let got = if is_call {
            ask(&bench, &[]).await
        } else {
            bench.get("GET /").await
        };
        assert_eq!(got.body, body, "{told}");
        assert_eq!(got.head.number("grpc-status"), status, "{told}");
        assert_eq!(
            got.head.get("x-mamparo-fallback"),
            Some("respond"),
            "{told}"
        );
        if let Some(10) = status {
            assert_eq!(got.head.get("grpc-message"), Some("No. 100%25"));
        } else if is_call {
            assert_eq!(got.head.get("x-from"), Some("here"));
        }
        assert_eq!(got.status, if is_call { 200 } else { 203 });
        assert_eq!(bench.ended("fallback"), 1.0);
    }
    // The service's own words, where no fallback of gRPC holds.
    let bench = Bench::new(&text.replace("grpc_status: ok, ", ""));
    bench.endpoint(1).will([at_once(UNAVAILABLE)]);
    let got = ask(&bench, &[]).await;
    assert_eq!(got.head.get("x-mamparo-fallback"), None);
    assert_eq!(got.head.number("grpc-status"), Some(u64::from(UNAVAILABLE)));
}

#[tokio::test(start_paused = true)]
async fn rule_19_a_stream_of_messages_that_was_not_kept_is_not_tried_again() {
    let policies = RETRY.replace("max_attempts: 3", "max_attempts: 3, max_body: 1KiB");
    let bench = bench(&policies, [at_once(UNAVAILABLE)], call("done", OK));
    let long = "m".repeat(2_000);
    let text = request("POST /a.B/C", &[KIND], &long);
    let mut client = bench.client();
    client.write(&text).await;
    let got = client.answer(false).await;
    assert_eq!(got.head.number("grpc-status"), Some(u64::from(UNAVAILABLE)));
    assert_eq!(
        bench.metric("mamparo_retries_denied_total", &["why=\"body\""]),
        1.0
    );
    drop(client);
    bench.settle(1).await;
}
