//! Our own answers, read back as a client would.

use serde_json::{Value, json};

use super::*;

const ID: HeaderValue = HeaderValue::from_static("r-1");
const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

fn voice(format: ErrorFormat, documentation: Option<&str>) -> Voice {
    let errors = Errors {
        format,
        documentation_url: documentation.map(Arc::from),
    };
    Voice::new(Arc::from("orders"), errors)
}

fn failure(reason: Reason) -> Failure {
    Failure {
        reason,
        status: None,
        message: "The circuit of upstream 'payments' is open: 5 \"ü\" failures.".to_owned(),
        retry_after: Some(Duration::from_millis(11_001)),
        attempts: 2,
        elapsed: Duration::from_micros(41_900),
        upstream: Some(Arc::from("payments")),
        route: Some(Arc::from("charges")),
    }
}

fn body(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

#[test]
fn the_contract_is_kept_to_the_letter() {
    let documentation = "https://docs.example.com/errors/{error_code}";
    let voice = voice(ErrorFormat::Contract, Some(documentation));
    let failure = failure(Reason::BreakerOpen);
    let answer = voice.answer(&failure, None, TRACE, &ID, false);
    let mut body = body(&answer);
    let timestamp = body["timestamp"].take();
    let timestamp = timestamp.as_str().unwrap();
    assert_eq!(timestamp.len(), "2026-11-21T20:30:00.123Z".len());
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok());
    let expected = json!({
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "error_code": "CIRCUIT_BREAKER_OPEN",
        "message": failure.message,
        "status_code": 503,
        "timestamp": null,
        "service_name": "orders",
        "context": {
            "upstream": "payments",
            "route": "charges",
            "attempts": 2,
            "reason": "breaker_open",
            "elapsed_ms": 41,
        },
        "documentation_url": "https://docs.example.com/errors/CIRCUIT_BREAKER_OPEN",
    });
    assert_eq!(body, expected);
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&body), keys(&expected), "the order is part of it");
}

#[test]
fn rule_094_every_reason_is_named_in_status_header_and_body() {
    for reason in Reason::ALL {
        let voice = voice(ErrorFormat::Contract, None);
        let answer = voice.answer(&failure(reason), None, TRACE, &ID, false);
        assert_eq!(answer.status(), reason.status());
        let headers = answer.headers();
        assert_eq!(headers["x-mamparo-reason"], reason.name());
        assert_eq!(headers["x-request-id"], "r-1");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-mamparo-attempts"], "2");
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(
            headers["content-length"],
            answer.body().len().to_string().as_str()
        );
        let known = matches!(reason.status(), 429 | 503);
        assert_eq!(
            headers.contains_key("retry-after"),
            known,
            "{}",
            reason.name()
        );
        assert_eq!(body(&answer)["error_code"], reason.error_code());
        assert_eq!(body(&answer)["context"]["reason"], reason.name());
        assert!(body(&answer).get("documentation_url").is_none());
        let status = headers["proxy-status"].to_str().unwrap();
        assert!(status.starts_with("mamparo; error="), "{status}");
        assert!(status.ends_with("5 \\\"?\\\" failures.\""), "{status}");
    }
}

#[test]
fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
    let voice = voice(ErrorFormat::Contract, None);
    for (milliseconds, seconds) in [(0, "0"), (1, "1"), (1000, "1"), (11_001, "12")] {
        let retry_after = Some(Duration::from_millis(milliseconds));
        let failure = Failure {
            retry_after,
            ..failure(Reason::RateLimited)
        };
        let answer = voice.answer(&failure, None, TRACE, &ID, false);
        assert_eq!(answer.headers()["retry-after"], seconds);
    }
}

#[test]
fn a_client_that_asks_for_a_problem_gets_one() {
    let accept = HeaderValue::from_static("application/problem+json");
    let contract = voice(ErrorFormat::Contract, None);
    let asked = contract.answer(&failure(Reason::Reset), Some(&accept), TRACE, &ID, false);
    let problem = voice(ErrorFormat::Problem, None);
    let set = problem.answer(&failure(Reason::Reset), None, TRACE, &ID, false);
    for answer in [asked, set] {
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body = body(&answer);
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["title"], "Bad Gateway");
        assert_eq!(body["status"], 502);
        assert_eq!(body["detail"], failure(Reason::Reset).message);
        assert_eq!(
            body["instance"],
            "urn:mamparo:trace:4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(body["error_code"], "UPSTREAM_RESET");
        assert_eq!(body["context"]["upstream"], "payments");
    }
    let documented = voice(ErrorFormat::Problem, Some("https://e/{error_code}"));
    let answer = documented.answer(&failure(Reason::Reset), None, TRACE, &ID, false);
    assert_eq!(body(&answer)["type"], "https://e/UPSTREAM_RESET");
    assert_eq!(body(&answer)["title"], "Connection reset");
}

#[test]
fn rule_072_head_gets_the_length_and_no_body() {
    let voice = voice(ErrorFormat::Contract, None);
    let failure = failure(Reason::NoRoute);
    let get = voice.answer(&failure, None, TRACE, &ID, false);
    let head = voice.answer(&failure, None, TRACE, &ID, true);
    assert!(head.body().is_empty());
    assert_eq!(
        head.headers()["content-length"],
        get.headers()["content-length"]
    );
}

#[test]
fn a_head_that_never_became_a_request_is_answered_in_full_and_closed() {
    let voice = voice(ErrorFormat::Contract, None);
    let text = voice.raw(&failure(Reason::HeaderTooLarge), None, TRACE, &ID, false);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap();
    assert_eq!(status, "HTTP/1.1 431 Request Header Fields Too Large");
    let headers: Vec<_> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    let value = |name: &str| headers.iter().find(|(key, _)| *key == name).unwrap().1;
    assert_eq!(value("connection"), "close");
    assert_eq!(value("content-length"), body.len().to_string());
    assert!(httpdate::parse_http_date(value("date")).is_ok());
    assert!(serde_json::from_str::<Value>(body).is_ok());
}

fn fallback(status: u16, headers: &[(&str, &str)]) -> Respond {
    let headers = headers.iter();
    Respond {
        grpc_status: None,
        status,
        headers: headers
            .map(|(key, value)| (Arc::from(*key), Arc::from(*value)))
            .collect(),
        body: Arc::from(b"{\"recommendations\": []}".as_slice()),
    }
}

#[test]
fn a_fallback_answers_as_it_is_written() {
    let voice = voice(ErrorFormat::Contract, None);
    let written = fallback(
        200,
        &[
            ("content-type", "application/json"),
            ("content-length", "1"),
        ],
    );
    let answer = voice.respond(&written, Some(Reason::BreakerOpen), &ID, false);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.body(), &b"{\"recommendations\": []}"[..]);
    let headers = answer.headers();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["content-length"], "23");
    assert_eq!(headers["x-mamparo-fallback"], "respond");
    assert_eq!(headers["x-mamparo-reason"], "breaker_open");
    assert_eq!(headers["cache-control"], "no-store");
    let kept = voice.respond(
        &fallback(200, &[("cache-control", "max-age=5")]),
        None,
        &ID,
        false,
    );
    assert_eq!(kept.headers()["cache-control"], "max-age=5");
}

#[test]
fn rule_072_a_fallback_without_a_body_has_none_and_no_length() {
    let voice = voice(ErrorFormat::Contract, None);
    for status in [204, 304] {
        let answer = voice.respond(&fallback(status, &[]), None, &ID, false);
        assert!(answer.body().is_empty());
        assert!(!answer.headers().contains_key("content-length"), "{status}");
    }
    let head = voice.respond(&fallback(200, &[]), None, &ID, true);
    assert!(head.body().is_empty());
    assert_eq!(head.headers()["content-length"], "23");
}
