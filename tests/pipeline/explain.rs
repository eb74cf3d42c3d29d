//! What is told of a request afterwards: each wait, each try, each decision with its figures, and never a
//! secret.

use mamparo::telemetry::explain::{Kept, Line, Step, Story, list_text, story_text};

use super::bench::{Bench, ms, yaml};
use super::endpoint::{Play, answer};

/// The stories of what is kept, newest first.
fn stories(bench: &Bench) -> Vec<Story> {
    let kept: Vec<Kept> = bench.proxy.telemetry.explain().recent();
    kept.iter().map(Story::of).collect()
}

/// The only one.
#[track_caller]
fn only(bench: &Bench) -> Story {
    let mut all = stories(bench);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

/// The steps of a kind.
fn steps<'a>(story: &'a Story, kind: &str) -> Vec<&'a Step> {
    let all = story.steps.iter();
    all.filter(|step| step.kind == kind).collect()
}

/// The sentence of the only step of a kind.
#[track_caller]
fn told<'a>(story: &'a Story, kind: &str) -> &'a str {
    let steps = steps(story, kind);
    assert_eq!(steps.len(), 1, "{story:#?}");
    &steps[0].text
}

fn kinds(story: &Story) -> Vec<&str> {
    story.steps.iter().map(|step| step.kind).collect()
}

const PATIENT: &str = "backoff: { kind: fixed, base: 37ms, jitter: none }";

#[tokio::test(start_paused = true)]
async fn what_goes_well_leaves_nothing() {
    let bench = Bench::new(&yaml(
        2,
        "retry: {}\ncircuit_breaker: {}\nfallback: [{ on: any, respond: {} }]",
    ));
    for status in [200, 304, 404] {
        bench.endpoint(1).always(answer(status));
        bench.endpoint(2).always(answer(status));
        assert_eq!(bench.get("GET /").await.status, status);
    }
    bench.settle(3).await;
    assert_eq!(stories(&bench), []);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_granted_tells_why_and_when() {
    let bench = Bench::new(&yaml(1, &format!("retry: {{ {PATIENT} }}")));
    bench.endpoint(1).will([answer(503).after(5)]);
    assert_eq!(bench.get("GET /v1/charges?card=4111").await.status, 200);
    bench.settle(1).await;
    let story = only(&bench);
    let expected = ["route", "try", "decision", "wait", "try", "answer"];
    assert_eq!(kinds(&story), expected);
    assert_eq!(story.line.kept_for, ["retried"]);
    assert_eq!(
        story.summary,
        "GET /v1/charges was answered by its upstream with 200 after 2 tries in 42 ms: try 1 was answered 503."
    );
    assert_eq!(
        told(&story, "decision"),
        "Retry granted: attempt 2 of 3 after 37 ms of backoff. The retry budget has 29.2 of 30.2 tokens left."
    );
    let tries = steps(&story, "try");
    assert_eq!(
        tries[0].text,
        "Try 1 on 10.0.0.1:80 (the only endpoint), over a new connection, which stood after 0.00 ms: it \
         answered 503 after 5.0 ms. It counts as a failure of the endpoint."
    );
    assert!(tries[1].text.contains("over a connection of the pool"));
    assert_eq!(tries[1].figures["connection"], "reused");
    assert_eq!((tries[0].at_ms, tries[1].at_ms), (0.0, 42.0));
    assert!(told(&story, "route").contains("upstream 'u'"));
    assert!(told(&story, "answer").contains("200 from the upstream"));
}

#[tokio::test(start_paused = true)]
async fn rule_29_a_retry_that_the_budget_denies_tells_the_tokens() {
    let budget = "budget: { ratio: 0%, min_per_second: 0.04, window: 10s }";
    let bench = Bench::new(&yaml(1, &format!("retry: {{ {budget}, {PATIENT} }}")));
    bench.endpoint(1).will([answer(503)]);
    assert_eq!(bench.get("GET /").await.status, 503);
    bench.settle(1).await;
    let story = only(&bench);
    assert_eq!(
        told(&story, "decision"),
        "Retry denied: budget 0.4 of 0.4 tokens, and a retry costs 1."
    );
    assert_eq!(steps(&story, "decision")[0].figures["why"], "budget");
    assert_eq!(story.line.kept_for, ["failed"]);
}

#[tokio::test(start_paused = true)]
async fn rule_15_a_method_that_may_not_be_sent_twice_is_told() {
    let bench = Bench::new(&yaml(1, "retry: {}"));
    bench.endpoint(1).will([Play::Close(4)]);
    assert_eq!(bench.get("POST /").await.reason(), "reset");
    bench.settle(1).await;
    let story = only(&bench);
    assert_eq!(
        told(&story, "decision"),
        "Retry denied: POST without an Idempotency-Key, and the upstream may have acted on it already."
    );
    let attempt = told(&story, "try");
    assert!(
        attempt.contains("the request was sent, but the connection broke (reset) after 4.0 ms")
    );
    let answer = told(&story, "answer");
    assert!(
        answer.starts_with("The client got 502 reset after 4.0 ms: "),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_05_a_retry_that_comes_too_late_tells_both_times() {
    let slow = "backoff: { kind: fixed, base: 200ms, jitter: none }";
    let policies = format!("timeouts: {{ request: 1s }}\nretry: {{ {slow} }}");
    let bench = Bench::new(&yaml(1, &policies));
    bench.endpoint(1).will([answer(503).after(880)]);
    assert_eq!(bench.get("GET /").await.status, 503);
    let asks_long = answer(503).header("retry-after", "60");
    bench.endpoint(1).will([asks_long]);
    assert_eq!(bench.get("GET /").await.status, 503);
    bench.settle(2).await;
    let stories = stories(&bench);
    assert_eq!(
        told(&stories[1], "decision"),
        "Retry denied: 120 ms left, backoff 200 ms."
    );
    assert_eq!(
        told(&stories[0], "decision"),
        "Retry denied: retry-after asks for 60.0 s, max_retry_after is 10.0 s."
    );
    assert!(told(&stories[0], "route").contains("it has 1.00 s to be answered"));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_wanted_to_try_again_says_so() {
    for (policies, expected) in [
        ("retry: {}", "No retry: retry.on does not list 500."),
        ("", "No retry: the route has no retry policy."),
        (
            "retry: { on: [500], max_attempts: 1 }",
            "Retry denied: 1 of 1 attempts are made.",
        ),
    ] {
        let bench = Bench::new(&yaml(1, policies));
        bench.endpoint(1).will([answer(500)]);
        assert_eq!(bench.get("GET /").await.status, 500);
        bench.settle(1).await;
        assert_eq!(told(&only(&bench), "decision"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_this_request_opens_and_the_next_meets() {
    let breaker = "circuit_breaker: { consecutive_failures: 2, open_for: 10s }";
    let bench = Bench::new(&yaml(1, &format!("{breaker}\nretry: {{ {PATIENT} }}")));
    bench.endpoint(1).will([Play::Refuse, Play::Refuse]);
    assert_eq!(bench.get("GET /first").await.reason(), "breaker_open");
    assert_eq!(bench.get("GET /second").await.reason(), "breaker_open");
    bench.until(20_000).await;
    bench.endpoint(1).will([answer(500)]);
    assert_eq!(bench.get("GET /third").await.status, 500);
    bench.settle(3).await;
    let stories = stories(&bench);
    let opened = told(&stories[2], "breaker");
    assert!(
        opened.starts_with(
            "The breaker of 10.0.0.1:80 opened: 2 consecutive failures; next probe in 10."
        ),
        "{opened}"
    );
    let order = kinds(&stories[2]);
    assert_eq!(
        order,
        [
            "route", "try", "decision", "wait", "try", "breaker", "decision", "answer"
        ]
    );
    assert!(
        steps(&stories[2], "try")[0]
            .text
            .contains("no byte of the request was sent")
    );
    assert_eq!(kinds(&stories[1]), ["route", "answer"]);
    assert!(
        stories[1]
            .summary
            .contains("503 breaker_open without a try"),
        "{}",
        stories[1].summary
    );
    let probe = steps(&stories[0], "breaker");
    assert_eq!(
        probe[0].text,
        "The breaker of 10.0.0.1:80 became half-open: it is probed."
    );
    assert!(probe[1].text.contains("opened: a probe failed"));
    assert!(told(&stories[0], "try").contains("a probe of its half-open breaker"));
    assert_eq!(steps(&stories[0], "try")[0].figures["probe"], true);
}

#[tokio::test(start_paused = true)]
async fn rule_31_what_keeps_a_granted_try_from_being_made_is_told() {
    let breaker = "circuit_breaker: { consecutive_failures: 1, open_for: 10s }";
    let bench = Bench::new(&yaml(1, &format!("{breaker}\nretry: {{ {PATIENT} }}")));
    bench.endpoint(1).will([answer(503)]);
    let got = bench.get("GET /").await;
    assert_eq!((got.status, got.body.as_str()), (503, "answer 503"));
    bench.settle(1).await;
    let story = only(&bench);
    let decisions = steps(&story, "decision");
    assert!(
        decisions[0]
            .text
            .starts_with("Retry granted: attempt 2 of 3")
    );
    let halted = &decisions[1].text;
    assert!(
        halted.starts_with(
            "The next try was not made: The circuit of upstream 'u' is open: 1 failure"
        ) && halted.ends_with("The client gets the last real answer."),
        "{halted}"
    );
    assert_eq!(decisions[1].figures["why"], "breaker_open");
    assert!(told(&story, "answer").contains("the last real answer, of an earlier try"));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_tells_which_one_it_was_and_because_of_what() {
    let fallback = "fallback: [{ on: [rate_limited], respond: {} }, { on: [5xx, reset], respond: { body: instead } }]";
    let bench = Bench::new(&yaml(1, fallback));
    bench.endpoint(1).will([answer(500).into(), Play::Close(1)]);
    assert_eq!(bench.get("GET /").await.body, "instead");
    assert_eq!(bench.get("GET /").await.body, "instead");
    bench.settle(2).await;
    let stories = stories(&bench);
    assert_eq!(stories[0].line.kept_for, ["fallback"]);
    assert_eq!(
        told(&stories[1], "fallback"),
        "Fallback 2 of the route answered, since the upstream answered 500."
    );
    assert_eq!(
        told(&stories[0], "fallback"),
        "Fallback 2 of the route answered, since it failed with reset."
    );
    assert!(told(&stories[0], "answer").contains("200 from the fallback"));
}

#[tokio::test(start_paused = true)]
async fn the_queue_for_a_seat_is_told_however_it_ends() {
    let bench = Bench::new(&yaml(
        1,
        "retry: {}\nbulkhead: { max_in_flight: 1, max_queue: 2, queue_timeout: 100ms }",
    ));
    let endpoint = bench.endpoint(1);
    endpoint.will([answer(200).after(50), answer(503), answer(200).after(200)]);
    let first = bench.start("GET /first");
    ms(10).await;
    let second = bench.start("GET /second");
    ms(10).await;
    // The newest waiter gets the seat, after 30 ms, and holds it through both of its tries.
    let third = bench.start("GET /third");
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(second.await.unwrap().reason(), "queue_timeout");
    let fourth = bench.start("GET /fourth");
    // Sooner it would be taken for half a close.
    ms(60).await;
    fourth.abort();
    assert_eq!(third.await.unwrap().status, 200);
    bench.settle(4).await;
    let stories = stories(&bench);
    let find = |path: &str| {
        let mut all = stories.iter();
        let found = all.find(|story| story.line.path.as_deref() == Some(path));
        found.expect("it is kept")
    };
    let seat = |path: &str| told(find(path), "seat").to_owned();
    let full = "Every seat of the bulkhead was taken, so it had to wait";
    assert_eq!(
        seat("/third"),
        format!("{full}: it got a seat after 30 ms.")
    );
    assert_eq!(
        seat("/second"),
        format!("{full}: none became free in 100 ms.")
    );
    assert_eq!(
        seat("/fourth"),
        format!("{full}, and its client left meanwhile.")
    );
    let gone = told(find("/fourth"), "answer");
    assert!(
        gone.contains("while it waited for a seat; it got no answer"),
        "{gone}"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_client_that_leaves_in_the_backoff_or_in_a_try() {
    let slow = "backoff: { kind: fixed, base: 500ms, jitter: none }";
    let bench = Bench::new(&yaml(1, &format!("retry: {{ {slow} }}")));
    bench.endpoint(1).will([answer(503).into(), Play::Hang]);
    let in_backoff = bench.start("GET /a");
    ms(100).await;
    in_backoff.abort();
    ms(10).await;
    let in_try = bench.start("GET /b");
    ms(30).await;
    in_try.abort();
    bench.settle(2).await;
    let stories = stories(&bench);
    assert_eq!(
        told(&stories[1], "answer"),
        "The client left after 100 ms, in the wait before the next try; it got no answer."
    );
    assert_eq!(
        told(&stories[0], "answer"),
        "The client left after 30 ms, in the midst of a try; it got no answer."
    );
    assert_eq!(stories[0].line.status, 499);
}

#[tokio::test(start_paused = true)]
async fn rule_28_the_choice_of_an_endpoint_is_told() {
    let bench = Bench::new(&yaml(
        3,
        &format!("balance: {{ hash: {{ header: x-user-id }} }}\nretry: {{ {PATIENT} }}"),
    ));
    for number in 1..=3 {
        bench.endpoint(number).always(answer(503));
    }
    let mut client = bench.client();
    assert_eq!(
        client.ask("GET /", &[("x-user-id", "7")], "").await.status,
        503
    );
    assert_eq!(client.ask("GET /", &[], "").await.status, 503);
    drop(client);
    bench.settle(2).await;
    let stories = stories(&bench);
    let chosen = |story: usize, number: usize| {
        let text = &steps(&stories[story], "try")[number].text;
        let rest = text.split_once('(').unwrap().1;
        rest.split_once("), over").unwrap().0.to_owned()
    };
    assert_eq!(chosen(1, 0), "by the hash of header x-user-id");
    assert_eq!(
        chosen(1, 1),
        "by the hash of header x-user-id; the one that was tried before was left aside"
    );
    assert_eq!(
        chosen(1, 2),
        "the only one left of 3 endpoints; 2 that were tried before were left aside"
    );
    assert_eq!(
        chosen(0, 0),
        "by chance, since the request has no header x-user-id"
    );
}

#[tokio::test(start_paused = true)]
async fn the_less_loaded_of_two_is_told_with_both_loads() {
    let bench = Bench::new(&yaml(2, ""));
    for number in [1, 2] {
        bench.endpoint(number).will([answer(200).after(500)]);
        bench.endpoint(number).always(answer(500));
    }
    let held = [bench.start("GET /"), bench.start("GET /")];
    ms(10).await;
    assert_eq!(bench.get("GET /").await.status, 500);
    let text = told(&only(&bench), "try").to_owned();
    assert!(
        text.contains("(one of two by chance, both with 1 in flight)"),
        "{text}"
    );
    for one in held {
        assert_eq!(one.await.unwrap().status, 200);
    }
    bench.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_kept_and_a_slow_body_is_not() {
    let text = yaml(1, "") + "explain: { slower_than: 300ms }\n";
    let bench = Bench::new(&text);
    bench.endpoint(1).will([
        answer(200).after(299),
        answer(200).pauses(400, 400),
        answer(200).after(300),
    ]);
    for path in ["/a", "/b", "/c"] {
        assert_eq!(bench.get(&format!("GET {path}")).await.status, 200);
    }
    bench.settle(3).await;
    let story = only(&bench);
    assert_eq!(story.line.path.as_deref(), Some("/c"));
    assert_eq!(story.line.kept_for, ["slow"]);
}

#[tokio::test(start_paused = true)]
async fn rule_93_only_a_trusted_client_may_ask_and_the_upstream_never_sees_it() {
    for role in ["outbound", "inbound"] {
        let text = yaml(1, "").replace("role: outbound", &format!("role: {role}"));
        let bench = Bench::new(&text);
        for (value, asks) in [("1", true), ("0", false), ("yes", false)] {
            let mut client = bench.client();
            let headers = [("x-mamparo-explain", value), ("x-request-id", value)];
            assert_eq!(client.ask("GET /", &headers, "").await.status, 200);
            drop(client);
            let kept = stories(&bench).into_iter();
            let kept = kept.filter(|story| story.line.request_id == value).count();
            let trusted = role == "outbound";
            assert_eq!(kept, usize::from(asks && trusted), "{role}, {value}");
        }
        for seen in bench.endpoint(1).seen() {
            assert_eq!(seen.head.get("x-mamparo-explain"), None);
        }
        bench.settle(3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_with_their_reason() {
    let bench = Bench::new(&yaml(1, "rate_limit: { per_second: 1, burst: 1 }"));
    assert_eq!(bench.get("GET /").await.status, 200);
    assert_eq!(bench.get("GET /").await.reason(), "rate_limited");
    bench.settle(2).await;
    let story = only(&bench);
    assert_eq!(kinds(&story), ["route", "answer"]);
    assert!(
        told(&story, "answer").starts_with(
            "The client got 429 rate_limited after 0.00 ms: The rate limit of upstream 'u' is reached"
        ),
        "{story:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_told_to_where_it_came() {
    let breaker = "circuit_breaker: { consecutive_failures: 1 }";
    let bench = Bench::new(&yaml(1, breaker));
    bench.endpoint(1).will([answer(200).half_then_close(20)]);
    assert!(!bench.get("GET /").await.complete);
    bench.settle(1).await;
    let story = only(&bench);
    assert_eq!(kinds(&story), ["route", "try", "breaker", "answer"]);
    let answer = told(&story, "answer");
    assert!(
        answer.starts_with(
            "The client got 200 after 0.00 ms, but the answer broke off after 5 bytes: "
        ),
        "{answer}"
    );
    assert!(told(&story, "breaker").contains("opened: 1 failure"));
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_nowhere_to_be_found() {
    const SECRET: &str = "s3cr3t";
    let bench = Bench::new(&yaml(
        1,
        &format!("retry: {{ max_attempts: 2, {PATIENT} }}"),
    ));
    bench.endpoint(1).always(
        answer(503)
            .header("set-cookie", "session=s3cr3t")
            .header("www-authenticate", "s3cr3t")
            .body("s3cr3t"),
    );
    let headers = [
        ("authorization", "Bearer s3cr3t"),
        ("proxy-authorization", "s3cr3t"),
        ("cookie", "session=s3cr3t"),
        ("x-api-key", "s3cr3t"),
        ("idempotency-key", "s3cr3t"),
        ("tracestate", "a=s3cr3t"),
        ("baggage", "user=s3cr3t"),
    ];
    for line in [
        "POST /pay?token=s3cr3t&sig=s3cr3t",
        "GET http://u/pay?password=s3cr3t",
        "GET http://user:s3cr3t@u/pay",
        "NO-METHOD /pay?s3cr3t",
    ] {
        let mut client = bench.client();
        let got = client.ask(line, &headers, "card=s3cr3t").await;
        assert!(got.status >= 400, "{line}");
    }
    let mut client = bench.client();
    client
        .write("GET /pay?s3cr3t HTTP/1.1\r\nhost: user:s3cr3t@u\r\nauthorization: s3cr3t\r\n\r\n")
        .await;
    assert_eq!(client.answer(false).await.status, 400);
    drop(client);
    bench.settle(5).await;
    let kept = bench.proxy.telemetry.explain().recent();
    assert_eq!(kept.len(), 5);
    for one in &kept {
        let story = Story::of(one);
        let json = serde_json::to_string(&story).unwrap();
        let texts = [
            json,
            story_text(&story),
            list_text(&[Line::of(one)]),
            // What is in memory, whether it is shown or not.
            format!("{:?}", one.report),
        ];
        for text in texts {
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_81_explain_can_be_switched_off_and_on() {
    let text = yaml(1, "");
    let off = format!("{text}explain: off\n");
    let bench = Bench::new(&text);
    bench.endpoint(1).always(answer(500));
    assert_eq!(bench.get("GET /").await.status, 500);
    assert_eq!(stories(&bench).len(), 1);
    bench.reload(&off);
    assert_eq!(bench.get("GET /").await.status, 500);
    assert_eq!(stories(&bench), []);
    bench.reload(&text);
    assert_eq!(bench.get("GET /").await.status, 500);
    assert_eq!(only(&bench).generation, 3);
    bench.settle(3).await;
}
