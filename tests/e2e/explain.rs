//! What became of a request, asked of the running process: by the interface and by the command.

use std::process::Output;

use serde_json::Value;

use crate::support::program::output;
use crate::support::{Client, Program, Proxy, Reply, Upstream, eventually};

const RETRIES: &str = "retry: { backoff: { base: 1ms, max: 1ms } }";

/// The kept request with that id, once it is told.
#[track_caller]
fn story(proxy: &Proxy, id: &str) -> Value {
    let path = format!("/api/v1/explain/{id}");
    eventually("the request is told", || {
        proxy.admin("GET", &path, "").status == 200
    });
    proxy.admin("GET", &path, "").json()
}

#[test]
fn rule_089_a_retried_request_is_told_step_by_step_and_the_endpoint_saw_the_same_spans() {
    let upstream = Upstream::script([503, 200]);
    let proxy = Proxy::before(&upstream, RETRIES);
    assert_eq!(proxy.get("/v1/charges?card=4111").status, 200);
    let list = || proxy.admin("GET", "/api/v1/explain", "").json();
    eventually("the request is told", || list()["requests"][0].is_object());
    let line = list()["requests"][0].clone();
    assert_eq!(line["kept_for"], serde_json::json!(["retried"]));
    assert_eq!(line["tries"], 2);
    let told = story(&proxy, line["request_id"].as_str().unwrap());
    for key in [
        "listener", "route", "upstream", "method", "path", "status", "outcome", "at", "trace_id",
    ] {
        assert_eq!(told[key], line[key], "{key}");
    }
    let logged = proxy.only_line();
    assert_eq!(logged["request_id"], line["request_id"]);
    assert_eq!(logged["trace_id"], line["trace_id"]);
    let kinds: Vec<&str> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["route", "try", "decision", "wait", "try", "answer"]);
    let seen = upstream.received();
    let spans: Vec<String> = seen
        .iter()
        .map(|one| one.head.header("traceparent").unwrap())
        .collect();
    assert_ne!(spans[0], spans[1]);
    assert!(
        spans
            .iter()
            .all(|one| one.contains(line["trace_id"].as_str().unwrap()))
    );
    assert!(!told.to_string().contains("4111"));
}

#[test]
fn a_request_is_found_by_an_id_with_odd_characters_and_by_its_trace() {
    let upstream = Upstream::always(500);
    let proxy = Proxy::before(&upstream, "critical: false");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers = [
        "x-request-id: a/b?c%d",
        &format!("traceparent: 00-{trace}-00f067aa0ba902b7-01"),
    ];
    assert_eq!(proxy.request("GET", "/", &headers, b"").status, 500);
    for id in ["a%2Fb%3Fc%25d", "a/b%3Fc%25d", trace] {
        assert_eq!(story(&proxy, id)["request_id"], "a/b?c%d", "{id}");
    }
    let unknown = proxy.admin("GET", "/api/v1/explain/nobody", "");
    assert_eq!(unknown.status, 404);
    let error = unknown.json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("'nobody'") && error.contains("256"),
        "{error}"
    );
    assert_eq!(proxy.admin("POST", "/api/v1/explain", "{}").status, 405);
}

#[test]
fn rule_93_who_asks_gets_a_record_of_what_went_well() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "critical: false");
    let headers = ["x-mamparo-explain: 1", "x-request-id: asked"];
    let answer = proxy.request("GET", "/", &headers, b"");
    assert_eq!(answer.header("x-request-id").as_deref(), Some("asked"));
    let told = story(&proxy, "asked");
    assert_eq!(told["kept_for"], serde_json::json!(["asked"]));
    assert_eq!(upstream.last().head.header("x-mamparo-explain"), None);
    let attempt = &told["steps"][1];
    assert_eq!(attempt["connection"], "new");
    assert_eq!(attempt["sent"], "answered");
    assert!(attempt["connect_ms"].as_f64().unwrap() >= 0.0);
}

fn mamparo(arguments: &[&str]) -> (Output, String) {
    let output = output(arguments);
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let told = told.into_owned();
    (output, told)
}

#[test]
fn the_command_asks_the_running_process() {
    let upstream = Upstream::always(Reply::new(503));
    let yaml = format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\naccess_log: {{ destination: off }}\n\
         listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], {RETRIES} }} }}\n",
        upstream.address()
    );
    let program = Program::run(&yaml);
    let admin = program.admin().to_string();
    let (empty, told) = mamparo(&["explain", "--recent", "--admin", &admin]);
    assert_eq!(empty.status.code(), Some(0), "{told}");
    assert!(told.contains("No request is kept"), "{told}");
    let mut client = Client::connect(program.listener("outbound"));
    let headers = ["x-request-id: order/7", "idempotency-key: 1"];
    client.request("POST", "/pay?card=4111", &headers, b"x");
    assert_eq!(client.answer().status, 503);
    eventually("the request is told", || {
        mamparo(&["explain", "--id", "order/7", "--admin", &admin])
            .0
            .status
            .success()
    });
    let (_, told) = mamparo(&["explain", "--id", "order/7", "--admin", &admin]);
    for words in [
        "POST /pay was answered by its upstream with 503 after 3 tries",
        "request id  order/7",
        "Retry granted: attempt 2 of 3",
        "Retry denied: 3 of 3 attempts are made.",
        &format!("Try 3 on {} (the only endpoint)", upstream.address()),
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("4111"), "{told}");
    let (_, list) = mamparo(&["explain", "--recent", "--admin", &admin]);
    assert!(
        list.contains("order/7") && list.lines().count() == 1,
        "{list}"
    );
    let (unknown, told) = mamparo(&["explain", "--id", "nobody", "--admin", &admin]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        told.contains("no request with the id 'nobody' is kept"),
        "{told}"
    );
}

#[test]
fn the_command_says_which_arguments_go_together() {
    for arguments in [
        &["explain"][..],
        &["explain", "GET"],
        &["explain", "--id", "1", "GET", "/"],
        &["explain", "--id", "1", "--config", "a.yaml"],
        &["explain", "--id", "1", "--recent"],
        &["explain", "--recent", "-H", "a: b"],
    ] {
        let (output, told) = mamparo(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(
            told.contains("mamparo explain --id ID"),
            "{arguments:?}: {told}"
        );
    }
    // Nobody listens there.
    let (output, told) = mamparo(&["explain", "--id", "1", "--admin", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("127.0.0.1:1"), "{told}");
}

#[test]
fn a_rewritten_path_is_told_as_the_endpoint_saw_it_without_its_query() {
    let upstream = Upstream::always(503);
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    routes:\n      \
         - {{ match: {{ path_prefix: /v1 }}, rewrite: {{ path_prefix: /api/v2 }}, upstream: u }}\n      \
         - {{ upstream: u }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    ));
    for (id, path, goes) in [
        (
            "one",
            "/v1/charges?card=4111",
            "upstream 'u' as /api/v2/charges",
        ),
        ("two", "/v3?card=4111", "upstream 'u'"),
    ] {
        let headers = [&*format!("x-request-id: {id}")];
        assert_eq!(proxy.request("GET", path, &headers, b"").status, 503);
        let told = story(&proxy, id);
        let route = told["steps"][0]["text"].as_str().unwrap();
        assert!(
            route.contains(&format!("{goes},")) || route.contains(&format!("{goes}.")),
            "{route}"
        );
        assert!(!told.to_string().contains("4111"));
    }
}
