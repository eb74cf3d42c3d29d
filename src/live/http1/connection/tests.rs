//! A connection against a peer in memory: what it makes of bytes, and whom it wakes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Wake;

use http::{HeaderMap, Uri};
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::*;
use crate::live::wire::Dialing;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The head of a GET without headers.
fn get() -> RequestHead<'static> {
    static EMPTY: LazyLock<(Uri, HeaderMap)> = LazyLock::new(Default::default);
    RequestHead {
        method: &Method::GET,
        target: &EMPTY.0,
        headers: &EMPTY.1,
        ours: &[],
    }
}

#[tokio::test]
async fn an_answer_in_one_piece_wakes_its_task_once() {
    let (mut connection, mut peer) = pair().await;
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = &mut Context::from_waker(&waker);
    let interim = Interim::default();
    let mut sending = Box::pin(connection.send(get(), TryBody::empty(), &interim));
    assert!(sending.as_mut().poll(cx).is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    peer.write_all(bytes).await.expect("written");
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "by the first byte");
    let Poll::Ready(Ok(answer)) = sending.as_mut().poll(cx) else {
        panic!("the answer is there");
    };
    drop(sending);
    assert_eq!(answer.status(), StatusCode::OK);
    let part = connection.poll_frame(&mut asleep());
    assert!(matches!(part, Poll::Ready(Some(Ok(_)))));
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "and never by itself");
}

/// A connection in memory, and its other end.
async fn pair() -> (Box<Http1>, DuplexStream) {
    let (ours, peer) = tokio::io::duplex(64 * 1024);
    let ours = Mutex::new(Some(ours));
    let dial = move |_| -> Dialing {
        let ours = ours.lock().take().expect("dialled once");
        Box::pin(async move { Ok(Box::new(ours) as _) })
    };
    let slot = Arc::new(Slots::default()).take(None).expect("no limit");
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let endpoint = Endpoint::new(&(address.into(), 1).into(), 1);
    let dialer = Dialer::Memory(Arc::new(dial));
    let opening = Http1::open(&dialer, &endpoint, slot);
    (opening.await.expect("an open connection"), peer)
}

/// Sends a GET that is answered by these bytes, cut into such pieces.
async fn answered(
    connection: &mut Http1,
    peer: &mut DuplexStream,
    bytes: &[u8],
    piece: usize,
) -> (Result<u16, Box<SendError>>, Vec<u16>) {
    let interim = Interim::default();
    let sending = connection.send(get(), TryBody::empty(), &interim);
    let answering = async {
        let mut request = [0; 1024];
        assert_ne!(peer.read(&mut request).await.expect("a request"), 0);
        for piece in bytes.chunks(piece) {
            peer.write_all(piece).await.expect("room");
            tokio::task::yield_now().await;
        }
    };
    let (result, ()) = tokio::join!(sending, answering);
    let passed = interim
        .take()
        .iter()
        .map(|head| head.status.as_u16())
        .collect();
    (result.map(|answer| answer.status().as_u16()), passed)
}

/// The whole body, or why it broke off.
async fn body(connection: &mut Http1) -> Result<String, String> {
    let mut text = String::new();
    while let Some(part) = poll_fn(|cx| connection.poll_frame(cx)).await {
        let part = part.map_err(|error| error.to_string())?;
        let data = part.into_data().unwrap_or_default();
        text.push_str(std::str::from_utf8(&data).expect("text"));
    }
    Ok(text)
}

#[tokio::test]
async fn an_answer_is_the_same_however_its_bytes_are_cut() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
    for piece in 1..bytes.len() {
        let (mut connection, mut peer) = pair().await;
        for _ in 0..2 {
            let (status, passed) = answered(&mut connection, &mut peer, bytes, piece).await;
            assert_eq!(
                (status.ok(), passed),
                (Some(200), vec![100, 103]),
                "{piece}"
            );
            assert_eq!(body(&mut connection).await.as_deref(), Ok("hello!"));
            assert!(connection.is_reusable(), "{piece}");
        }
        assert_eq!(connection.requests(), 2);
    }
}

#[tokio::test]
async fn a_large_head_and_a_large_body_come_whole() {
    let (mut connection, mut peer) = pair().await;
    let large = "y".repeat(20_000);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 20000\r\nx: {large}\r\n\r\n");
    let bytes = format!("{head}{large}");
    for piece in [700, 4096, 64 * 1024] {
        let (status, _) = answered(&mut connection, &mut peer, bytes.as_bytes(), piece).await;
        assert_eq!(status.ok(), Some(200));
        assert_eq!(body(&mut connection).await, Ok(large.clone()));
        assert!(connection.is_reusable());
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_from_none() {
    let endless = [&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'y'; MAX_HEAD]].concat();
    for (bytes, invalid) in [
        (&b"SSH-2.0-x\r\n"[..], true),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\n", true),
        (&endless, true),
        (b"HTTP/1.1 200 OK\r\n", false),
        (b"", false),
    ] {
        let (mut connection, mut peer) = pair().await;
        let interim = Interim::default();
        let sending = connection.send(get(), TryBody::empty(), &interim);
        let answering = async {
            // It may have seen enough before the end.
            let _ = peer.write_all(bytes).await;
            drop(peer);
        };
        let (result, ()) = tokio::join!(sending, answering);
        let error = result.expect_err("no answer");
        assert_eq!(error.invalid_answer, invalid, "{error:?}");
        assert!(!connection.is_reusable());
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_never_looks_complete() {
    for (bytes, why) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"[..],
            "the connection ended before the body did",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nHTTP",
            "A chunk has no size.",
        ),
    ] {
        let (mut connection, mut peer) = pair().await;
        let (status, _) = answered(&mut connection, &mut peer, bytes, 1024).await;
        assert_eq!(status.ok(), Some(200));
        drop(peer);
        assert_eq!(body(&mut connection).await, Err(why.to_owned()));
        assert!(!connection.is_end_stream() && !connection.is_reusable());
        assert_ne!(connection.size_hint().exact(), Some(0));
    }
}

#[tokio::test]
async fn rule_16_an_idle_connection_that_ended_gives_the_request_back() {
    let ok = b"HTTP/1.1 204 No Content\r\n\r\n";
    for unasked in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let (mut connection, mut peer) = pair().await;
        let (status, _) = answered(&mut connection, &mut peer, ok, 1024).await;
        assert_eq!(status.ok(), Some(204));
        assert!(connection.is_reusable() && Http1::is_alive(&mut connection));
        peer.write_all(unasked).await.expect("room");
        drop(peer);
        let interim = Interim::default();
        let sent = connection.send(get(), TryBody::empty(), &interim);
        let error = sent.await.expect_err("it has ended");
        assert!(error.unsent.is_some() && error.nothing_written);
    }
}
