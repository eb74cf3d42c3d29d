//! Clients that speak HTTP/2: requests, answers and bodies, one beside the other.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use mamparo::proxy::{Protocol, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{Talk, about, door, settings, settle};
use crate::http2_client::{Client, answer, body_of, get, request};

#[tokio::test(start_paused = true)]
async fn requests_of_one_connection_are_served_beside_one_another() {
    let mut client = Client::new().await;
    let slow = client.send(get("/after/1000"));
    let fast = client.send(get("/fast"));
    let (status, _, body, _) = answer(fast).await;
    assert_eq!((status, &*body), (200, &b"answer to /fast"[..]));
    assert_eq!(client.elapsed(), Duration::ZERO);
    let (_, headers, body, _) = answer(slow).await;
    assert_eq!(body, "answer to /after/1000");
    assert_eq!(headers["content-length"], "21");
    about(client.elapsed(), Duration::from_secs(1));
    let seen = client.fake().seen.lock().clone();
    assert_eq!(seen[1].target, "http://a/fast");
}

#[tokio::test(start_paused = true)]
async fn a_preface_in_pieces_is_seen_and_a_method_with_its_letters_is_not_taken_for_it() {
    for size in [1, 3, 14, 16, 17, 24] {
        let mut talk = Talk::new();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        for piece in [&preface[..], &settings].concat().chunks(size) {
            talk.send(piece).await;
            settle().await;
        }
        let mut head = [0; 9];
        talk.io.read_exact(&mut head).await.unwrap();
        assert_eq!(head[3], 4, "pieces of {size}: our settings");
    }
    let mut talk = Talk::new();
    talk.send("PRI /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(talk.some().await.ends_with("answer to /x"));
}

#[tokio::test(start_paused = true)]
async fn a_listener_speaks_only_the_version_that_it_is_told_to() {
    let mut one = settings();
    one.protocol = Protocol::Http1;
    let mut talk = Talk::to(&door(one));
    talk.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(talk.rest().await.starts_with("HTTP/1.1 400"));
    let mut two = settings();
    two.protocol = Protocol::Http2;
    let door = door(two);
    let mut talk = Talk::to(&door);
    talk.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut bytes = Vec::new();
    talk.io.read_to_end(&mut bytes).await.unwrap();
    let sentence = String::from_utf8_lossy(&bytes);
    assert!(!sentence.contains("HTTP/1.1"), "{sentence}");
    assert_eq!(talk.fake().refused.lock()[0].0, Reason::BadRequest);
    let mut client = Client::to(&door).await;
    let (status, ..) = answer(client.send(get("/"))).await;
    assert_eq!(status, 200);
}

#[tokio::test(start_paused = true)]
async fn bodies_and_trailers_go_both_ways() {
    let mut client = Client::new().await;
    let (response, mut sending) = client.begin(request(Method::POST, "/echo"));
    sending.send_data("first ".into(), false).unwrap();
    sending.send_data("second".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    sending.send_trailers(trailers).unwrap();
    let (_, _, body, trailers) = answer(response).await;
    assert_eq!(body, "first second");
    let trailers = trailers.expect("trailers");
    assert_eq!(trailers["x-sum"], "1");
    assert!(!trailers.contains_key("connection"));
    let seen = client.fake().seen.lock().clone();
    assert_eq!(seen[0].body.as_deref(), Some(&b"first second"[..]));
}

#[tokio::test(start_paused = true)]
async fn head_and_statuses_without_a_body_have_none() {
    let mut client = Client::new().await;
    let (status, headers, body, _) = answer(client.send(request(Method::HEAD, "/x"))).await;
    assert_eq!((status, body.len()), (200, 0));
    assert!(!headers.contains_key("content-length") || headers["content-length"] == "12");
    let (status, _, body, _) = answer(client.send(get("/status/204"))).await;
    assert_eq!((status, body.len()), (204, 0));
    let (status, _, body, _) = answer(client.send(get("/status/304"))).await;
    assert_eq!((status, body.len()), (304, 0));
}

#[tokio::test(start_paused = true)]
async fn fault_024_no_header_of_a_connection_is_sent() {
    let mut client = Client::new().await;
    // The stand-in refuses it with `connection: close`.
    let bad = Request::get("http://a/")
        .header("host", "b")
        .body(())
        .unwrap();
    let (status, headers, ..) = answer(client.send(bad)).await;
    assert_eq!(status, 400);
    assert!(!headers.contains_key("connection"));
}

#[tokio::test(start_paused = true)]
async fn cookies_are_joined() {
    let mut client = Client::new().await;
    let two = Request::get("http://a/")
        .header("cookie", "a=1")
        .header("cookie", "b=2");
    answer(client.send(two.body(()).unwrap())).await;
    let seen = client.fake().seen.lock().clone();
    assert_eq!(seen[0].headers["cookie"], "a=1; b=2");
}

#[tokio::test(start_paused = true)]
async fn fault_076_a_panic_is_answered_and_the_other_streams_go_on() {
    let mut client = Client::new().await;
    let slow = client.send(get("/after/1000"));
    let (status, _, body, _) = answer(client.send(get("/panic"))).await;
    assert_eq!((status, &*body), (500, &b"internal"[..]));
    assert_eq!(client.fake().refused.lock()[0].0, Reason::Internal);
    let (status, ..) = answer(slow).await;
    assert_eq!(status, 200);
    assert_eq!(client.serving(), 0);
}

#[tokio::test(start_paused = true)]
async fn fault_041_a_stream_that_is_reset_is_dropped_at_once() {
    let mut client = Client::new().await;
    let (response, mut sending) = client.begin(get("/never"));
    settle().await;
    assert_eq!(client.serving(), 1);
    sending.send_reset(h2::Reason::CANCEL);
    settle().await;
    assert_eq!(client.serving(), 0);
    drop(response);
    let (status, ..) = answer(client.send(get("/"))).await;
    assert_eq!(status, 200, "the connection goes on");
}

#[tokio::test(start_paused = true)]
async fn fault_041_a_client_that_closes_its_connection_has_gone_on_every_stream() {
    let mut client = Client::new().await;
    let kept: Vec<_> = (0..10).map(|_| client.send(get("/never"))).collect();
    settle().await;
    assert_eq!(client.serving(), 10);
    client.close();
    drop(kept);
    settle().await;
    assert_eq!(client.serving(), 0);
    assert_eq!(client.door.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_its_request_stops_the_upload() {
    let mut client = Client::new().await;
    let (response, mut sending) = client.begin(request(Method::POST, "/early"));
    sending.send_data("some".into(), false).unwrap();
    let (status, _, body, _) = answer(response).await;
    assert_eq!((status, &*body), (200, &b"early"[..]));
    let code = std::future::poll_fn(|cx| sending.poll_reset(cx)).await;
    assert_eq!(code.unwrap(), h2::Reason::NO_ERROR);
    let (status, ..) = answer(client.send(get("/"))).await;
    assert_eq!(status, 200);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_reset_not_ended() {
    let mut client = Client::new().await;
    let response = client.send(get("/broken-later")).await.unwrap();
    let error = body_of(response.into_body()).await.expect_err("no end");
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert_eq!(client.serving(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_comes_whole_through_a_small_window() {
    let mut client = Client::new().await;
    let (_, _, body, _) = answer(client.send(get("/large"))).await;
    assert_eq!(body.len(), 1024 * 1024);
    assert!(body.iter().all(|byte| *byte == b'x'));
}

#[tokio::test(start_paused = true)]
async fn fault_015_and_031_a_host_that_disagrees_with_the_authority_is_refused() {
    let mut client = Client::new().await;
    for (authority, host, status) in [
        ("a", None, 200),
        ("a", Some("a"), 200),
        ("a:80", Some("a"), 200),
        ("a", Some("b"), 400),
        ("a", Some("a.evil"), 400),
        ("u@a", None, 400),
    ] {
        let mut asked = Request::get(format!("http://{authority}/"));
        if let Some(host) = host {
            asked = asked.header("host", host);
        }
        let (got, ..) = answer(client.send(asked.body(()).unwrap())).await;
        assert_eq!(got, status, "{authority} {host:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_a_preface_belong_to_it() {
    // Preface, settings and a request in one piece, as a client without a round trip to lose sends them.
    let mut talk = Talk::new();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // :method GET, :scheme http, :path /, :authority a
    let block = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    bytes.extend([0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend(block);
    talk.send(bytes).await;
    settle().await;
    assert_eq!(talk.fake().seen.lock().len(), 1);
    talk.io.shutdown().await.unwrap();
    let mut rest = Vec::new();
    talk.io.read_to_end(&mut rest).await.unwrap();
    let answer = Bytes::from(rest);
    assert!(answer.windows(11).any(|part| part == b"answer to /"));
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_the_streams_finish_and_then_closes() {
    let mut client = Client::new().await;
    let slow = client.send(get("/after/3000"));
    settle().await;
    let door = std::sync::Arc::clone(&client.door);
    let drain = tokio::spawn(async move { door.drain(Duration::from_secs(30)).await });
    let (status, ..) = answer(slow).await;
    assert_eq!(status, 200);
    assert_eq!(drain.await.unwrap(), 0, "nothing was cut");
    about(client.elapsed(), Duration::from_secs(3));
    client.task.await.unwrap();
    client.connection.await.unwrap().expect("a graceful end");
}
