//! Calls of gRPC over HTTP/2 on both sides: trailers pass, and streams that are reset are told of in
//! gRPC's own words.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use mamparo::server::connection;
use std::sync::Arc;
use tokio::io::duplex;
use tokio::task::JoinHandle;

use super::bench::{Bench, ms};
use super::http2_goaway::http2;
use super::http2_peer::*;

const RETRY: &str = "retry: { on: [unavailable, reset], methods: all, budget: off, \
                     backoff: { base: 10ms, jitter: none } }";
const UNAVAILABLE: u32 = 14;

/// Headers in HPACK that nobody remembers.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    [
        OK,
        &block(&[("content-type", "application/grpc")]),
        &block(fields),
    ]
    .concat()
}

/// What the client got.
#[derive(Debug)]
struct Got {
    /// Whether the head ended it.
    at_once: bool,
    head: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Got {
    fn code(&self) -> Option<u32> {
        let from = if self.at_once {
            &self.head
        } else {
            &self.trailers
        };
        from.get("grpc-status")?.to_str().ok()?.parse().ok()
    }
}

/// A client with one connection.
struct Client {
    requests: SendRequest<Bytes>,
    _connection: JoinHandle<()>,
}

impl Client {
    async fn of(bench: &Bench) -> Self {
        let (ours, theirs) = duplex(256 * 1024);
        let door = Arc::clone(&bench.door);
        tokio::spawn(async move { connection::serve(theirs, &door, None, 0).await });
        let (requests, connection) = h2::client::handshake(ours).await.unwrap();
        let driven = tokio::spawn(async move { connection.await.unwrap() });
        Self {
            requests,
            _connection: driven,
        }
    }

    /// A call with one message.
    async fn call(&mut self) -> JoinHandle<Result<Got, h2::Error>> {
        let request = Request::post("http://u/a.B/C")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        self.requests = self.requests.clone().ready().await.unwrap();
        let sent = self.requests.send_request(request.body(()).unwrap(), false);
        let (answer, mut body) = sent.unwrap();
        body.send_data(Bytes::from_static(b"message"), true)
            .unwrap();
        tokio::spawn(got(answer))
    }
}

async fn got(answer: ResponseFuture) -> Result<Got, h2::Error> {
    let (head, mut stream) = answer.await?.into_parts();
    assert_eq!(head.status, 200);
    let at_once = stream.is_end_stream();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    Ok(Got {
        at_once,
        head: head.headers,
        body,
        trailers,
    })
}

async fn all(call: JoinHandle<Result<Got, h2::Error>>) -> Got {
    call.await.unwrap().expect("an answer to its end")
}

impl Peer {
    /// Answers with one message, and these trailers.
    async fn message(&mut self, stream: u32, trailers: &[(&str, &str)]) {
        self.send(HEADERS, END_HEADERS, stream, &head(&[])).await;
        self.send(DATA, 0, stream, b"done").await;
        let trailers = block(trailers);
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &trailers)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn head_messages_and_trailers_pass_as_they_are() {
    let net = Net::default();
    let bench = net.bench(&http2(RETRY));
    let mut client = Client::of(&bench).await;
    let call = client.call().await;
    let mut peer = net.accept(None).await;
    let stream = peer.request().await;
    let trailers = [
        ("grpc-status", "5"),
        ("grpc-message", "none"),
        ("x-data-bin", "AAE"),
    ];
    peer.message(stream, &trailers).await;
    let got = all(call).await;
    assert_eq!((got.code(), &got.body[..]), (Some(5), &b"done"[..]));
    assert_eq!(got.trailers["x-data-bin"], "AAE");
    assert_eq!(got.head["content-type"], "application/grpc");
    assert_eq!(
        bench.metric("mamparo_requests_total", &["code=\"4xx\""]),
        1.0
    );
}

#[tokio::test(start_paused = true)]
async fn rule_12_trailers_in_a_frame_of_their_own_are_waited_for() {
    let net = Net::default();
    let bench = net.bench(&http2(RETRY));
    let mut client = Client::of(&bench).await;
    let call = client.call().await;
    let mut peer = net.accept(None).await;
    let first = peer.request().await;
    peer.send(HEADERS, END_HEADERS, first, &head(&[])).await;
    ms(100).await;
    let trailers = block(&[("grpc-status", "14")]);
    peer.send(HEADERS, END_HEADERS | END_STREAM, first, &trailers)
        .await;
    let second = peer.request().await;
    assert_eq!(bench.now(), 110);
    peer.message(second, &[("grpc-status", "0")]).await;
    let got = all(call).await;
    assert_eq!((got.code(), &got.body[..]), (Some(0), &b"done"[..]));
    assert_eq!(
        bench.metric("mamparo_attempts_total", &["outcome=\"failure\""]),
        1.0
    );
}

#[tokio::test(start_paused = true)]
async fn rule_31_the_last_real_answer_is_kept_with_its_trailers() {
    let net = Net::default();
    let bench = net.bench(&http2(RETRY));
    let mut client = Client::of(&bench).await;
    let call = client.call().await;
    let mut peer = net.accept(None).await;
    let first = peer.request().await;
    peer.send(HEADERS, END_HEADERS, first, &head(&[("x-from", "service")]))
        .await;
    let trailers = block(&[("grpc-status", "14"), ("grpc-message", "busy")]);
    peer.send(HEADERS, END_HEADERS | END_STREAM, first, &trailers)
        .await;
    for _ in 0..2 {
        let next = peer.request().await;
        peer.reset(next, 2).await;
    }
    let got = all(call).await;
    assert!(!got.at_once);
    assert_eq!((got.code(), got.body.len()), (Some(UNAVAILABLE), 0));
    assert_eq!(
        (&got.head["x-from"], &got.trailers["grpc-message"]),
        (&"service".parse().unwrap(), &"busy".parse().unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn fault_036_a_reset_before_the_first_message_is_a_failed_try() {
    for code in [1, 2, 8, 11] {
        for with_head in [false, true] {
            let net = Net::default();
            let bench = net.bench(&http2(RETRY));
            let mut client = Client::of(&bench).await;
            let call = client.call().await;
            let mut peer = net.accept(None).await;
            for _ in 0..3 {
                let stream = peer.request().await;
                if with_head {
                    peer.send(HEADERS, END_HEADERS, stream, &head(&[])).await;
                }
                peer.reset(stream, code).await;
            }
            let got = all(call).await;
            assert!(got.at_once, "no message, no body: code {code}");
            assert_eq!(got.code(), Some(UNAVAILABLE));
            assert_eq!(got.head["x-mamparo-reason"], "reset");
            assert_eq!(got.head["x-mamparo-attempts"], "3");
            assert_eq!(
                bench.metric("mamparo_attempts_total", &["outcome=\"failure\""]),
                3.0
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_036_a_reset_after_a_message_ends_the_call_with_the_code_that_it_stands_for() {
    for (reset, code, label) in [
        (1, 13, "5xx"),
        (2, 13, "5xx"),
        (7, UNAVAILABLE, "5xx"),
        (8, 1, "4xx"),
        (11, 8, "4xx"),
        (12, 7, "4xx"),
        (13, 2, "5xx"),
    ] {
        let net = Net::default();
        let bench = net.bench(&http2(&format!("circuit_breaker: {{}}\n{RETRY}")));
        let mut client = Client::of(&bench).await;
        let call = client.call().await;
        let mut peer = net.accept(None).await;
        let stream = peer.request().await;
        peer.send(HEADERS, END_HEADERS, stream, &head(&[])).await;
        peer.send(DATA, 0, stream, b"first").await;
        ms(50).await;
        peer.reset(stream, reset).await;
        let got = all(call).await;
        assert_eq!(
            (got.code(), &got.body[..]),
            (Some(code), &b"first"[..]),
            "reset with {reset}"
        );
        assert!(
            got.trailers["grpc-message"]
                .to_str()
                .unwrap()
                .contains("broke off")
        );
        let label = format!("code=\"{label}\"");
        assert_eq!(
            bench.metric("mamparo_requests_total", &[&label]),
            1.0,
            "reset with {reset}"
        );
        let failures = bench.metric("mamparo_failures_total", &["reason=\"reset\""]);
        assert_eq!((failures, bench.breaker(1).counts.failures), (1.0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn fault_036_a_reset_after_the_end_changes_nothing() {
    let net = Net::default();
    let bench = net.bench(&http2(RETRY));
    let mut client = Client::of(&bench).await;
    let call = client.call().await;
    let mut peer = net.accept(None).await;
    let stream = peer.request().await;
    peer.message(stream, &[("grpc-status", "0")]).await;
    peer.reset(stream, 0).await;
    let got = all(call).await;
    assert_eq!((got.code(), &got.body[..]), (Some(0), &b"done"[..]));
    assert_eq!(
        bench.metric("mamparo_attempts_total", &["outcome=\"success\""]),
        1.0
    );
}
