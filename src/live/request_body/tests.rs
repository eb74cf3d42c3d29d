//! A body is sent again exactly once and whole, or not at all, and its memory comes back.

use std::future::poll_fn;
use std::io;
use std::task::Waker;

use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::super::http1::body::{Decoder, Piece};
use super::super::http1::chunked::Chunked;
use super::super::inbox::{Feed, inbox};
use super::super::received::ReceiveError;
use super::*;

/// A request's body as it comes from a client, and the client.
fn incoming(mut decoder: Decoder) -> (ReceivedBody, DuplexStream) {
    let (client, mut server) = duplex(1 << 20);
    let (feed, inbox) = inbox(decoder.left());
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        while !decoder.is_end() && poll_fn(|cx| feed.poll_wanted(cx)).await {
            let part = part(&mut decoder, &mut buffer, &mut server, &feed).await;
            if let Some(part) = part {
                feed.put(part, decoder.is_end());
            }
        }
    });
    (ReceivedBody::Inbox(inbox), client)
}

/// The next part of what a client sends; `None`: there is none.
async fn part(
    decoder: &mut Decoder,
    buffer: &mut BytesMut,
    server: &mut DuplexStream,
    feed: &Feed,
) -> Option<Result<Frame<Bytes>, ReceiveError>> {
    loop {
        match decoder.next(buffer) {
            Ok(Piece::Data(data)) => return Some(Ok(Frame::data(data))),
            Ok(Piece::End(Some(trailers))) => return Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::End(None)) => {
                feed.end();
                return None;
            }
            Err(malformed) => return Some(Err(malformed.into())),
            Ok(Piece::More) => {}
        }
        if server.read_buf(buffer).await.expect("a connection") == 0 {
            return Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
        }
    }
}

fn in_chunks() -> Decoder {
    Decoder::Chunked(Box::new(Chunked::strict(1000, 10)))
}

fn chunked(max_kept: usize, memory: &Arc<ReplayMemory>) -> (RequestBody, DuplexStream) {
    let (incoming, client) = incoming(in_chunks());
    (RequestBody::new(incoming, None, max_kept, memory), client)
}

async fn send(client: &mut DuplexStream, chunk: &str) {
    let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
    client.write_all(chunk.as_bytes()).await.expect("room");
}

async fn end(client: &mut DuplexStream, trailers: &str) {
    let end = format!("0\r\n{trailers}\r\n");
    client.write_all(end.as_bytes()).await.expect("room");
}

async fn next(body: &mut TryBody) -> String {
    let frame = body.frame().await.expect("a frame").expect("whole");
    let data = frame.into_data().expect("data");
    String::from_utf8(data.to_vec()).expect("text")
}

/// All that comes, and the trailers.
async fn rest(body: TryBody) -> (String, Option<HeaderMap>) {
    let collected = body.collect().await.expect("whole");
    let trailers = collected.trailers().cloned();
    let text = String::from_utf8(collected.to_bytes().to_vec());
    (text.expect("text"), trailers)
}

#[tokio::test]
async fn rule_19_each_try_begins_with_what_has_come_and_goes_on_with_the_rest() {
    let memory = Arc::new(ReplayMemory::new(1000));
    let (body, mut client) = chunked(100, &memory);
    send(&mut client, "first").await;
    let mut one = body.for_try().expect("whole");
    assert_eq!(next(&mut one).await, "first");
    drop(one);
    send(&mut client, "second").await;
    let mut two = body.for_try().expect("whole");
    assert_eq!(next(&mut two).await, "first");
    assert_eq!(next(&mut two).await, "second");
    drop(two);
    // One that has read nothing yet, and one that reads all, the trailers too.
    drop(body.for_try());
    end(&mut client, "x-sum: 7\r\n").await;
    for _ in 0..2 {
        let (text, trailers) = rest(body.for_try().expect("whole")).await;
        assert_eq!(text, "firstsecond");
        assert_eq!(trailers.expect("trailers")["x-sum"], "7", "rule 19 (e)");
    }
    assert_eq!(body.progress(), (11, true));
    assert_eq!(memory.used(), 11);
    drop(body);
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn rule_19_over_the_limit_it_streams_on_and_gives_its_memory_back() {
    for (max_kept, room, why) in [
        (8, 1000, Unkept::MaxBody),
        (100, 8, Unkept::Memory),
        (0, 1000, Unkept::MaxBody),
    ] {
        let memory = Arc::new(ReplayMemory::new(room));
        let (body, mut client) = chunked(max_kept, &memory);
        let mut one = body.for_try().expect("whole");
        send(&mut client, "first").await;
        assert_eq!(next(&mut one).await, "first");
        assert_eq!(body.unkept().is_some(), max_kept == 0);
        send(&mut client, "second").await;
        assert_eq!(next(&mut one).await, "second");
        assert_eq!(body.unkept(), Some(why));
        assert_eq!(memory.used(), 0);
        assert!(body.for_try().is_none(), "never from its middle");
        send(&mut client, "third").await;
        end(&mut client, "").await;
        assert_eq!(rest(one).await.0, "third", "the try under way has it all");
        assert_eq!(memory.used(), 0);
    }
}

#[tokio::test]
async fn a_body_that_is_exactly_as_long_as_may_be_kept_is_kept() {
    let memory = Arc::new(ReplayMemory::new(10));
    let (incoming, mut client) = incoming(Decoder::Length(10));
    let body = RequestBody::new(incoming, Some(10), 10, &memory);
    client.write_all(b"0123456789").await.expect("room");
    for _ in 0..3 {
        let one = body.for_try().expect("whole");
        assert_eq!(one.size_hint().exact(), Some(10));
        assert_eq!(rest(one).await.0, "0123456789");
    }
    assert!(body.upload().complete);
}

#[tokio::test]
async fn rule_19_a_body_that_came_whole_is_kept_without_a_copy() {
    let memory = Arc::new(ReplayMemory::new(5));
    let whole = Bytes::from("hello".to_owned());
    let body = |max_kept| {
        let incoming = ReceivedBody::Whole(whole.clone());
        RequestBody::new(incoming, None, max_kept, &memory)
    };
    let kept = body(5);
    for _ in 0..2 {
        let mut one = kept.for_try().expect("kept");
        let frame = one.frame().await.expect("a frame").expect("whole");
        let data = frame.into_data().expect("data");
        assert_eq!((&data, data.as_ptr()), (&whole, whole.as_ptr()));
        assert!(one.is_end_stream() && one.frame().await.is_none());
    }
    assert_eq!((kept.progress(), memory.used()), ((5, true), 5));
    let other = body(5);
    assert_eq!(rest(other.for_try().expect("unread")).await.0, "hello");
    assert_eq!(other.unkept(), Some(Unkept::Memory));
    drop(kept);
    assert_eq!(memory.used(), 0);
    let longer = body(4);
    assert_eq!(rest(longer.for_try().expect("unread")).await.0, "hello");
    assert_eq!(longer.unkept(), Some(Unkept::MaxBody));
    assert!(longer.for_try().is_none() && memory.used() == 0);
}

#[tokio::test]
async fn a_body_over_the_listeners_limit_breaks_off_for_every_try() {
    let memory = Arc::new(ReplayMemory::new(1000));
    let (incoming, mut client) = incoming(in_chunks());
    let body = RequestBody::new(incoming, Some(8), 100, &memory);
    send(&mut client, "12345").await;
    let mut one = body.for_try().expect("whole");
    assert_eq!(next(&mut one).await, "12345");
    send(&mut client, "6789").await;
    assert!(one.frame().await.expect("a frame").is_err());
    assert_eq!(body.broken(), Some(Broken::TooLarge));
    let mut two = body.for_try().expect("what came is there");
    assert_eq!(next(&mut two).await, "12345");
    assert!(two.frame().await.expect("a frame").is_err(), "no clean end");
}

#[tokio::test]
async fn what_broke_is_told_from_who_left() {
    for (last, expected) in [
        ("5\r\nfirst\r\nnonsense\r\n", Broken::Malformed),
        ("5\r\nfir", Broken::ClientGone),
    ] {
        let memory = Arc::new(ReplayMemory::new(1000));
        let (body, mut client) = chunked(100, &memory);
        client.write_all(last.as_bytes()).await.expect("room");
        drop(client);
        let one = body.for_try().expect("whole");
        assert!(one.collect().await.is_err(), "{last}");
        assert_eq!(body.broken(), Some(expected), "{last}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_waited_for_is_known() {
    let memory = Arc::new(ReplayMemory::new(1000));
    let (body, mut client) = chunked(100, &memory);
    assert!(!body.upload().waits_for_client(), "nobody has asked yet");
    let mut one = body.for_try().expect("whole");
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut one).poll_frame(cx).is_pending());
    assert!(body.upload().waits_for_client());
    let began = body.upload().moved;
    tokio::time::sleep(std::time::Duration::from_millis(70)).await;
    send(&mut client, "first").await;
    assert_eq!(next(&mut one).await, "first");
    let upload = body.upload();
    assert!(!upload.waits_for_client(), "not until it is asked again");
    assert_eq!((upload.moved - began).as_millis(), 70);
    end(&mut client, "").await;
    assert_eq!(rest(one).await.0, "");
    assert!(body.upload().complete && !body.upload().waits_for_client());
}

#[tokio::test]
async fn walk_whatever_is_read_of_earlier_tries_the_last_one_has_it_all() {
    let mut rng = fastrand::Rng::with_seed(19);
    for round in 0..100 {
        let memory = Arc::new(ReplayMemory::new(rng.usize(..400)));
        let (body, mut client) = chunked(rng.usize(..400), &memory);
        let mut sent = String::new();
        let mut one = body.for_try();
        let mut read = String::new();
        for _ in 0..rng.usize(1..20) {
            match rng.usize(..4) {
                0 | 1 => {
                    let chunk = "x".repeat(rng.usize(1..30)) + &round.to_string();
                    send(&mut client, &chunk).await;
                    sent += &chunk;
                    // The server reads it in its own time.
                    tokio::task::yield_now().await;
                }
                2 => {
                    drop(one.take());
                    read.clear();
                    one = body.for_try();
                    assert_eq!(one.is_none(), body.unkept().is_some());
                }
                _ => {
                    let cx = &mut Context::from_waker(Waker::noop());
                    if let Some(body) = &mut one
                        && let Poll::Ready(frame) = Pin::new(body).poll_frame(cx)
                    {
                        let data = frame.expect("a frame").expect("whole").into_data();
                        read += std::str::from_utf8(&data.expect("data")).expect("text");
                    }
                }
            }
            assert!(sent.starts_with(&read), "round {round}");
            assert!(memory.used() <= memory.limit());
        }
        end(&mut client, "").await;
        if let Some(body) = one {
            read += &rest(body).await.0;
            assert_eq!(read, sent, "round {round}");
        }
        if let Some(last) = body.for_try() {
            assert_eq!(rest(last).await.0, sent, "round {round}");
        } else {
            assert_eq!(memory.used(), 0, "what is of no use is let go");
        }
        drop(body);
        assert_eq!(memory.used(), 0, "round {round}");
    }
}
