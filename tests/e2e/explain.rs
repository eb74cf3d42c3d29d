//! What became of a request, asked of the running process.

use serde_json::Value;

use crate::support::{Proxy, Upstream, eventually};

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
