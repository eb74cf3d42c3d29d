//! Calls of gRPC through the whole program: what the client gets, and what is told of them.

use serde_json::json;

use crate::support::{Answer2, Http2, Proxy, Refused, Reply, Upstream};

const HEADERS: [&str; 2] = ["content-type: application/grpc", "te: trailers"];

/// An answer with these messages, and how the call ended in the trailers.
fn answer(messages: &[&str], code: u8) -> Reply {
    let reply = Reply::new(200).header("content-type: application/grpc");
    reply
        .chunked(messages)
        .trailer(&format!("grpc-status: {code}"))
}

fn call(proxy: &Proxy) -> Answer2 {
    let mut client = Http2::connect(proxy.listener("outbound"));
    client.request("POST", "/a.B/C", &HEADERS, b"message")
}

fn status(headers: &http::HeaderMap) -> Option<&str> {
    headers.get("grpc-status")?.to_str().ok()
}

#[test]
fn rule_013_a_call_that_was_tried_again_is_told_with_the_codes_of_its_tries() {
    let upstream = Upstream::script([answer(&[], 14), answer(&["one", "two"], 0)]);
    let retry = "retry: { on: [unavailable], methods: all, backoff: { base: 1ms } }";
    let proxy = Proxy::before(&upstream, retry);
    let got = call(&proxy);
    assert_eq!((got.status, &got.body[..]), (200, &b"onetwo"[..]));
    assert_eq!(status(&got.trailers), Some("0"));
    assert_eq!(got.header("x-mamparo-attempts"), Some("2"));
    let log = proxy.logged(1);
    let line = &log[0];
    assert_eq!(line["status"], 200, "{line}");
    assert_eq!(line["grpc_status"], "ok");
    assert_eq!(line["outcome"], "upstream");
    let codes = [0, 1].map(|place| &line["tries"][place]["grpc_status"]);
    assert_eq!(codes, [&json!("unavailable"), &json!("ok")]);
}

#[test]
fn rule_073_a_refusal_is_a_call_that_ended_and_is_told_as_a_failure() {
    let nobody = Refused::new();
    let proxy = Proxy::to(
        &[nobody.address],
        "circuit_breaker: { consecutive_failures: 1 }",
    );
    for reason in ["connect_failure", "breaker_open"] {
        let got = call(&proxy);
        assert_eq!((got.status, got.body.len()), (200, 0));
        assert_eq!(
            (status(&got.headers), got.reason()),
            (Some("14"), Some(reason))
        );
        assert_eq!(got.header("content-type"), Some("application/grpc"));
        assert_eq!(got.header("content-length"), None);
        assert!(got.trailers.is_empty());
    }
    for line in proxy.logged(2) {
        assert_eq!(line["grpc_status"], "unavailable", "{line}");
        assert_eq!(line["status"], 200);
        assert!(line["detail"].is_string());
    }
}

#[test]
fn fault_047_a_call_whose_answer_breaks_off_ends_with_trailers_and_is_never_well() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n";
    let upstream =
        Upstream::script([Reply::raw(format!("{head}3\r\none\r\n5\r\ntw")).then_close()]);
    let proxy = Proxy::before(&upstream, "");
    let got = call(&proxy);
    assert!(got.body.starts_with(b"one"), "{got:?}");
    assert_eq!(status(&got.trailers), Some("14"));
    assert!(got.broken.is_none());
    let log = proxy.logged(1);
    assert_eq!(log[0]["reason"], "reset");
    assert_eq!(log[0]["grpc_status"], "unavailable");
    assert_eq!(log[0]["flags"], "UC");
}

#[test]
fn a_fallback_sends_its_body_as_a_message() {
    let upstream = Upstream::script([answer(&[], 13)]);
    let policies = "fallback: [{ on: any, respond: { grpc_status: ok, body: instead } }]";
    let proxy = Proxy::before(&upstream, policies);
    let got = call(&proxy);
    assert_eq!(&got.body[..], b"\0\0\0\0\x07instead");
    assert_eq!(status(&got.trailers), Some("0"));
    let log = proxy.logged(1);
    let told = ["outcome", "fallback", "grpc_status", "class"].map(|key| log[0][key].as_str());
    assert_eq!(
        told,
        [
            Some("fallback"),
            Some("respond"),
            Some("ok"),
            Some("permanent")
        ]
    );
}
