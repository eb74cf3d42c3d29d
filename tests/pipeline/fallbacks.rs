//! Fallbacks: they see every way to fail, ours and the upstream's, and the failure is counted first.

use super::bench::{Bench, ms, request, yaml};
use super::endpoint::{Play, answer};
use mamparo::policy::breaker::{Forced, State};

/// An upstream with these policies and a fallback for `on`.
fn with_fallback(policies: &str, on: &str) -> String {
    let policies = format!(
        "{policies}
         fallback: [ {{ on: [{on}], respond: {{ status: 200, headers: {{ content-type: text/plain }}, body: instead }} }} ]"
    );
    yaml(1, &policies)
}

/// Asserts that a request which ends with this reason gets the fallback where it is listed, and only
/// there. `fail` brings the failure about.
async fn sees<F>(policies: &str, reason: &str, fail: F)
where
    F: AsyncFn(&Bench) -> super::bench::Answer,
{
    for (on, answered) in [
        (reason, true),
        ("any", true),
        (
            if reason == "reset" {
                "rate_limited"
            } else {
                "reset"
            },
            false,
        ),
    ] {
        let bench = Bench::new(&with_fallback(policies, on));
        let got = fail(&bench).await;
        assert_eq!(got.reason(), reason, "under {on}");
        if answered {
            assert_eq!((got.status, got.body.as_str()), (200, "instead"));
            assert_eq!(got.head.get("x-mamparo-fallback"), Some("respond"));
            assert_eq!(got.head.get("content-type"), Some("text/plain"));
            assert_eq!(bench.ended("fallback"), 1.0, "{reason} under {on}");
        } else {
            assert_ne!(got.status, 200);
            assert_eq!(got.head.get("x-mamparo-fallback"), None);
            assert_eq!(bench.ended("fallback"), 0.0);
        }
        let label = format!("reason=\"{reason}\"");
        let failures = bench.metric("mamparo_failures_total", &[&label]);
        assert_eq!(failures, 1.0, "rule 74: counted whoever answers");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_74_failures_of_the_upstream() {
    for (play, reason) in [
        (Play::Refuse, "connect_failure"),
        (Play::ConnectHangs, "connect_timeout"),
        (Play::Close(10), "reset"),
        (Play::Slam, "reset"),
        (Play::Hang, "try_timeout"),
    ] {
        let policies = "timeouts: { connect: 50ms, try: 100ms, request: 1s }";
        sees(policies, reason, async |bench| {
            bench.endpoint(1).will([play.clone()]);
            bench.get("GET /").await
        })
        .await;
    }
    sees(
        "timeouts: { request: 1s }",
        "request_timeout",
        async |bench| {
            bench.endpoint(1).will([Play::Hang]);
            bench.get("GET /").await
        },
    )
    .await;
    sees("", "protocol_error", async |bench| {
        bench
            .endpoint(1)
            .will([answer(200).header("no colon here\r\nx", "1")]);
        bench.get("GET /").await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rule_74_refusals_of_our_own() {
    sees(
        "rate_limit: { per_second: 1, burst: 1 }",
        "rate_limited",
        async |bench| {
            assert_eq!(bench.get("GET /").await.body, "answer 200");
            bench.get("GET /").await
        },
    )
    .await;
    let one = "bulkhead: { max_in_flight: 1, max_queue: 1, queue_timeout: 50ms }";
    sees(one, "queue_timeout", async |bench| {
        bench.endpoint(1).will([answer(200).after(100)]);
        let first = bench.start("GET /");
        ms(1).await;
        let got = bench.get("GET /").await;
        assert_eq!(first.await.unwrap().body, "answer 200");
        got
    })
    .await;
    sees(
        "bulkhead: { max_in_flight: 1 }",
        "too_many_in_flight",
        async |bench| {
            bench.endpoint(1).will([answer(200).after(100)]);
            let first = bench.start("GET /");
            ms(1).await;
            let got = bench.get("GET /").await;
            assert_eq!(first.await.unwrap().body, "answer 200");
            got
        },
    )
    .await;
    let one = "bulkhead: { max_in_flight: none, max_connections: 1 }";
    sees(one, "too_many_connections", async |bench| {
        bench.endpoint(1).will([answer(200).after(100)]);
        let first = bench.start("GET /");
        ms(1).await;
        let got = bench.get("GET /").await;
        assert_eq!(first.await.unwrap().body, "answer 200");
        got
    })
    .await;
    sees("circuit_breaker: {}", "breaker_open", async |bench| {
        bench.force(1, Some(Forced::Open));
        bench.get("GET /").await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rule_74_an_upstream_without_an_endpoint() {
    let text = with_fallback("", "no_endpoint").replace("10.0.0.1:80", "nowhere.invalid:80");
    let bench = Bench::new(&text);
    let got = bench.get("GET /").await;
    assert_eq!(got.short(), (200, "no_endpoint", 0));
    assert_eq!(got.body, "instead");
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn rule_74_the_upstreams_own_errors() {
    for (on, status, answered) in [
        ("5xx", 500, true),
        ("5xx", 503, true),
        ("503", 503, true),
        ("any", 599, true),
        ("503", 500, false),
        ("breaker_open", 503, false),
        ("any", 404, false),
    ] {
        let policies = "circuit_breaker: { consecutive_failures: 10 }";
        let bench = Bench::new(&with_fallback(policies, on));
        bench.endpoint(1).will([answer(status)]);
        let got = bench.get("GET /").await;
        assert_eq!(got.body == "instead", answered, "{status} under {on}");
        let failures = bench.breaker(1).counts.failures;
        assert_eq!(failures, u32::from(status >= 500), "still a failure");
        bench.settle(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_that_holds_answers_and_the_tries_come_first() {
    let bench = Bench::new(&yaml(
        1,
        "retry: { max_attempts: 2, backoff: { base: 1ms } }
         fallback:
           - { on: [timeout], respond: { status: 201, body: first } }
           - { on: [5xx], respond: { status: 202, body: second } }
           - { on: [any], respond: { status: 203, body: third } }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503)]);
    assert_eq!(
        bench.get("GET /").await.status,
        200,
        "the second try did it"
    );
    endpoint.will([answer(503), answer(500)]);
    assert_eq!(bench.get("GET /").await.body, "second");
    endpoint.will([Play::Refuse, Play::Refuse]);
    ms(10_000).await;
    assert_eq!(bench.get("GET /").await.body, "third");
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn fault_079_fallback_and_head() {
    let bench = Bench::new(&with_fallback("", "5xx, connect_failure"));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503).into(), Play::Close(0), Play::Refuse]);
    let mut client = bench.client();
    let got = client.ask("HEAD /", &[], "").await;
    assert_eq!(got.short(), (200, "", 0));
    assert_eq!(got.head.number("content-length"), Some(7), "as for GET");
    // The connection goes on: not a byte of a body was sent.
    let reset = client.ask("HEAD /", &[], "").await;
    assert_eq!(reset.short(), (502, "reset", 0));
    let refused = client.ask("HEAD /", &[], "").await;
    assert_eq!(refused.short(), (200, "connect_failure", 0));
    assert_eq!(client.ask("GET /", &[], "").await.body, "answer 200");
    let ends = ["fallback", "failed", "upstream", "client_gone"].map(|one| bench.ended(one));
    assert_eq!(ends, [2.0, 1.0, 1.0, 0.0]);
    drop(client);
    bench.settle(4).await;
}

#[tokio::test(start_paused = true)]
async fn rule_72_a_fallback_without_a_body_is_counted_as_one() {
    let text = yaml(
        1,
        "fallback: [ { on: [5xx], respond: { status: 204 } }, { on: [any], respond: { status: 200 } } ]",
    );
    let bench = Bench::new(&text);
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(503).into(), Play::Refuse]);
    let mut client = bench.client();
    let none = client.ask("GET /", &[], "").await;
    assert_eq!((none.status, none.head.get("content-length")), (204, None));
    let empty = client.ask("GET /", &[], "").await;
    assert_eq!(
        (empty.status, empty.head.number("content-length")),
        (200, Some(0))
    );
    assert_eq!(bench.ended("fallback"), 2.0);
    assert_eq!(bench.ended("client_gone"), 0.0);
    drop(client);
    bench.settle(2).await;
}

#[tokio::test(start_paused = true)]
async fn head_and_empty_answers_of_every_kind_are_counted_as_what_they_are() {
    let bench = Bench::new(&yaml(
        1,
        "retry: { max_attempts: 2, backoff: { base: 1ms } }",
    ));
    let endpoint = bench.endpoint(1);
    let mut client = bench.client();
    // Ours; the upstream's; one kept from the try before.
    endpoint.will([Play::Refuse, Play::Refuse]);
    assert_eq!(
        client.ask("HEAD /", &[], "").await.reason(),
        "connect_failure"
    );
    assert_eq!(client.ask("HEAD /", &[], "").await.status, 200);
    endpoint.will([answer(503).into(), Play::Close(0), Play::Refuse]);
    let kept = client.ask("HEAD /", &[], "").await;
    assert_eq!(
        (kept.status, kept.head.number("content-length")),
        (503, Some(10))
    );
    endpoint.will([answer(204)]);
    assert_eq!(client.ask("GET /", &[], "").await.status, 204);
    let ends = ["failed", "upstream", "client_gone"].map(|one| bench.ended(one));
    assert_eq!(ends, [1.0, 3.0, 0.0]);
    drop(client);
    bench.settle(4).await;
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opens_between_two_tries_does_not_hide_the_answer_from_the_fallbacks() {
    for (on, answered) in [("503", true), ("breaker_open", true), ("reset", false)] {
        let policies = "circuit_breaker: { consecutive_failures: 1 }
             retry: { max_attempts: 3, backoff: { kind: fixed, base: 10ms, jitter: none } }";
        let bench = Bench::new(&with_fallback(policies, on));
        bench.endpoint(1).will([answer(503)]);
        let got = bench.get("GET /").await;
        assert_eq!(bench.state(1), State::Open);
        assert_eq!(bench.endpoint(1).count(), 1);
        assert_eq!(got.at, 10, "the open breaker was met after the backoff");
        let body = if answered { "instead" } else { "answer 503" };
        assert_eq!(got.body, body, "under {on}");
        bench.settle(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_gets_no_fallback() {
    let bench = Bench::new(&with_fallback("timeouts: { idle: 100ms }", "any"));
    let mut client = bench.client();
    let head = request("PUT /", &[("content-length", "10")], "");
    client.write(&head).await;
    let got = client.answer(false).await;
    assert_eq!(got.short(), (499, "client_gone", 100));
    drop(client);
    assert_eq!(bench.ended("fallback"), 0.0);
    assert_eq!(bench.ended("client_gone"), 1.0);
    bench.settle(1).await;
}
