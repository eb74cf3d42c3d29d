//! Explanations of requests against a configuration with two listeners.

use super::*;

const CONFIG: &str = "\
listeners:
  out:
    address: 127.0.0.1:8080
    routes:
      - name: admin
        match: { host: admin.internal }
        upstream: payments
      - name: charges
        match: { path_prefix: /v1/charges, methods: [GET, POST], headers: { authorization: Bearer s3cr3t } }
        upstream: payments
        rewrite: { path_prefix: /, host: payments.prod }
        timeouts: { request: 2s }
      - name: rest
        match: { path_prefix: /v1 }
        upstream: payments
  in:
    address: 127.0.0.1:8081
    role: inbound
    upstream: service
upstreams:
  payments:
    endpoints: [127.0.0.1:9001, { address: 127.0.0.1:9002, weight: 2 }]
    timeouts: { try: 800ms }
    retry: {}
  service:
    endpoints: ['http://127.0.0.1:3000']
";

fn loaded() -> Loaded {
    config::parse("a.yaml", CONFIG, &|_| None).unwrap()
}

fn question(method: &str, url: &str, headers: &[&str]) -> Result<Question, String> {
    let headers: Vec<String> = headers.iter().map(|line| (*line).to_owned()).collect();
    Question::new(method, url, &headers)
}

fn explained(method: &str, url: &str, headers: &[&str], only: Option<&str>) -> String {
    explain(&loaded(), &question(method, url, headers).unwrap(), only).unwrap()
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.lines().any(|found| squeezed(found) == *line),
            "no line `{line}` in:\n{text}"
        );
    }
}

#[test]
fn the_route_is_told_and_why_the_earlier_ones_do_not_match() {
    let text = explained(
        "POST",
        "http://pay/v1/charges/7?x=1",
        &["Authorization: Bearer s3cr3t"],
        Some("out"),
    );
    has(
        &text,
        &[
            "POST /v1/charges/7?x=1, host pay",
            "listener out (127.0.0.1:8080, outbound)",
            "routes[0] admin no: host is `pay`, not `admin.internal`",
            "routes[1] charges matches",
            "routes[2] rest not asked, since an earlier one matches",
            "upstream payments: 127.0.0.1:9001, 127.0.0.1:9002 (weight 2)",
            "sent as POST /7?x=1, host payments.prod",
        ],
    );
    assert!(!text.contains("listener in "));
    assert!(
        text.contains("tried again only where nothing of it was sent")
            && text.contains("idempotency-key")
    );
}

#[test]
fn a_header_or_the_host_decides_as_it_does_for_traffic() {
    let text = explained("GET", "/v1/charges", &[], Some("out"));
    has(
        &text,
        &[
            "routes[1] charges no: header `authorization` is absent",
            "routes[2] rest matches",
        ],
    );
    let text = explained(
        "GET",
        "http://pay/v1/charges",
        &["host: admin.internal:80"],
        Some("out"),
    );
    has(
        &text,
        &[
            "routes[0] admin matches",
            "sent as GET /v1/charges, host admin.internal:80",
        ],
    );
    let keyed = explained("POST", "/v1", &["idempotency-key: 1"], Some("out"));
    assert!(!keyed.contains("tried again only"), "{keyed}");
}

#[test]
fn every_setting_has_its_origin_and_secrets_are_hidden() {
    let text = explained(
        "GET",
        "/v1/charges",
        &["authorization: Bearer s3cr3t"],
        None,
    );
    has(
        &text,
        &[
            "settings of listener out",
            "role outbound default",
            "settings of route charges",
            "timeouts.request 2s a.yaml:12:30",
            "timeouts.try 800ms a.yaml:23:22 (from upstream)",
            "retry.max_attempts 3 default",
            "circuit_breaker off default",
            "settings of upstream payments",
            "endpoints[1].weight 2 a.yaml:22:68",
            "pool.idle_timeout 4s default",
        ],
    );
    assert!(
        text.contains("(hidden)") && !text.contains("s3cr3t"),
        "{text}"
    );
    assert_eq!(
        text.matches("timeouts.try ").count(),
        1,
        "a policy is shown as the route has it"
    );
}

#[test]
fn the_timeline_is_drawn_up_to_where_it_is_cut() {
    let text = explained(
        "GET",
        "/v1/charges",
        &["authorization: Bearer s3cr3t"],
        None,
    );
    has(
        &text,
        &[
            "worst case until the head of the answer: 2s",
            "0s connect 1 1s |#################### |",
            "1s try 1 800ms | ################ |",
            "1.8s backoff 1 25ms | # |",
            "1.825s connect 2 1s | ###|",
            "2s the request timeout ends it during connect 2",
            "All steps together would take 5.475s; the request timeout is 2s.",
            "A backoff becomes as long as the upstream's retry-after asks, up to 10s.",
        ],
    );
    assert!(!text.contains("try 2"));
}

#[test]
fn a_request_that_no_route_takes_is_said_so() {
    let text = explained("DELETE", "/v2", &[], Some("out"));
    has(
        &text,
        &[
            "routes[2] rest no: path `/v2` is not `/v1` or below it",
            "No route matches: the answer is 404 no_route, and nothing is sent to any upstream.",
        ],
    );
    assert!(!text.contains("settings"));
}

#[test]
fn each_listener_is_asked_unless_one_is_named() {
    let text = explained("GET", "/x", &[], None);
    has(
        &text,
        &[
            "No route matches: the answer is 404 no_route, and nothing is sent to any upstream.",
            "listener in (127.0.0.1:8081, inbound)",
            "routes[0] service matches",
            "sent as GET /x, host none",
            "worst case until the head of the answer: without end",
        ],
    );
    let question = question("GET", "/x", &[]).unwrap();
    let error = explain(&loaded(), &question, Some("inn")).unwrap_err();
    assert_eq!(error, "there is no listener `inn`; there is out, in");
}

#[test]
fn what_cannot_be_asked_is_said() {
    for (method, url, header, expected) in [
        (
            "http://a/",
            "GET",
            None,
            "`http://a/` is no method; write it first, such as GET",
        ),
        (
            "GET",
            "payments:80",
            None,
            "has no scheme: write http://payments:80",
        ),
        ("GET", "a b", None, "`a b` is no URL"),
        (
            "GET",
            "/",
            Some("x"),
            "`x` is no header: write it as 'name: value'",
        ),
        ("GET", "/", Some("a b: x"), "no valid header name"),
        ("GET", "/", Some("a: \u{7f}"), "no valid header value"),
    ] {
        let headers: Vec<&str> = header.into_iter().collect();
        let error = question(method, url, &headers).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let with_user = question("GET", "http://user:pw@pay:81", &[]).unwrap();
    assert_eq!(with_user.to_string(), "GET /, host pay:81");
    assert_eq!(with_user.headers.get("host").unwrap(), "pay:81");
}
