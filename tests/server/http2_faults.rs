//! Clients that speak HTTP/2 with ill will: floods, tiny windows, heads that never end or are none.
//! Frames are made by hand where no library would send them.

use std::time::Duration;

use h2::Reason as Code;
use mamparo::proxy::Reason;
use mamparo::telemetry::limits::Limit;

use crate::fake::{Talk, about, door, settings, settle};
use crate::frames::{self, Frames};
use crate::http2_client::{Client, answer, get};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// A connection whose frames are made by hand.
async fn talk() -> Talk {
    let mut talk = Talk::new();
    talk.send(frames::preface(&[])).await;
    settle().await;
    talk
}

/// What comes until the connection ends: the code of the GOAWAY, and the resets by stream.
async fn end(talk: &mut Talk) -> Frames {
    frames::read_to_end(&mut talk.io).await
}

fn cancel(stream: u32) -> Vec<u8> {
    frames::frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

#[tokio::test(start_paused = true)]
async fn fault_027_streams_that_are_opened_and_reset_end_the_connection() {
    // All at once, a few at a time, and one by one with time between.
    for (at_once, pause) in [(1000, 0), (10, 0), (1, 5)] {
        let mut talk = talk().await;
        let mut streams = (0..).map(|number| 2 * number + 1);
        let mut sent = 0;
        while !talk.task.is_finished() && sent < 100_000 {
            let some: Vec<u8> = streams
                .by_ref()
                .take(at_once)
                .flat_map(|stream| [frames::get(stream, "/never"), cancel(stream)].concat())
                .collect();
            sent += at_once;
            if tokio::io::AsyncWriteExt::write_all(&mut talk.io, &some)
                .await
                .is_err()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            settle().await;
        }
        assert!(sent <= 2000, "{at_once} at once: {sent}");
        assert_eq!(talk.serving(), 0);
        assert_eq!(*talk.fake().limited.lock(), [Limit::Resets]);
        assert_eq!(talk.door.open(), 0);
        assert_eq!(end(&mut talk).await.gone, Some(Code::ENHANCE_YOUR_CALM));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_given_up_after_a_while_are_no_flood() {
    let mut client = Client::new().await;
    for _ in 0..1000 {
        let (response, mut sending) = client.begin(get("/never"));
        tokio::time::sleep(Duration::from_millis(101)).await;
        sending.send_reset(Code::CANCEL);
        drop(response);
    }
    let (status, ..) = answer(client.send(get("/"))).await;
    assert_eq!(status, 200);
    assert!(client.fake().limited.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn fault_028_a_header_block_without_end_is_cut() {
    let mut talk = talk().await;
    let mut bytes = frames::frame(HEADERS, 1, 1, &frames::block("/"));
    for number in 0..1000 {
        let header = frames::literal(&format!("x-{number}"), "value");
        bytes.extend(frames::frame(CONTINUATION, 0, 1, &header));
    }
    talk.send(bytes).await;
    let end = end(&mut talk).await;
    assert_eq!(end.gone, Some(Code::ENHANCE_YOUR_CALM));
    assert_eq!(*talk.fake().limited.lock(), [Limit::HeaderBlock]);
    assert!(talk.fake().seen.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn fault_028_headers_that_grow_when_they_are_unpacked_are_cut() {
    let mut talk = talk().await;
    // One header of 4 000 bytes goes into the table; each byte after that repeats it.
    let mut block = frames::block("/");
    block.extend(frames::indexed("x-bomb", &"b".repeat(3900)));
    block.extend([0xbe; 10_000]);
    talk.send(frames::frame(HEADERS, 5, 1, &block)).await;
    let end = end(&mut talk).await;
    assert_eq!(end.gone, Some(Code::ENHANCE_YOUR_CALM));
    assert_eq!(*talk.fake().limited.lock(), [Limit::HeaderBlock]);
}

#[tokio::test(start_paused = true)]
async fn fault_013_and_028_a_head_over_the_limit_is_told_and_the_connection_goes_on() {
    let mut talk = talk().await;
    let mut block = frames::block("/");
    for number in 0..30 {
        block.extend(frames::literal(&format!("x-{number}"), &"v".repeat(3000)));
    }
    let (first, rest) = block.split_at(16_000);
    let mut bytes = frames::frame(HEADERS, 1, 1, first);
    let mut pieces = rest.chunks(16_000).peekable();
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { 4 } else { 0 };
        bytes.extend(frames::frame(CONTINUATION, last, 1, piece));
    }
    bytes.extend(frames::get(3, "/"));
    talk.send(bytes).await;
    settle().await;
    assert_eq!(talk.fake().refusals(), [Reason::HeaderTooLarge]);
    assert_eq!(talk.fake().seen.lock().len(), 1, "the next request");
}

#[tokio::test(start_paused = true)]
async fn fault_028_a_head_that_takes_too_long_ends_the_connection() {
    for first in [
        &frames::frame(HEADERS, 1, 3, &frames::block("/"))[..],
        &[0, 0, 40, HEADERS, 5, 0, 0, 0, 3],
    ] {
        let mut talk = talk().await;
        talk.send(frames::get(1, "/after/30000")).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        talk.send(first).await;
        let end = end(&mut talk).await;
        about(talk.elapsed(), Duration::from_secs(15));
        assert_eq!(end.gone, Some(Code::ENHANCE_YOUR_CALM));
        assert_eq!(talk.fake().refused.lock()[0].0, Reason::HeaderTimeout);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_029_floods_of_frames_that_carry_nothing_end_the_connection() {
    let priority = frames::frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]);
    let window = frames::frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    for (name, frame, limit) in [
        (
            "ping",
            frames::frame(PING, 0, 0, &[7; 8]),
            Limit::ControlFrames,
        ),
        (
            "pong",
            frames::frame(PING, 1, 0, &[7; 8]),
            Limit::ControlFrames,
        ),
        (
            "settings",
            frames::frame(SETTINGS, 0, 0, &[]),
            Limit::ControlFrames,
        ),
        ("priority", priority, Limit::ControlFrames),
        ("window", window, Limit::ControlFrames),
        (
            "unknown",
            frames::frame(0xfe, 0, 0, &[]),
            Limit::ControlFrames,
        ),
        ("data", frames::frame(DATA, 0, 1, &[]), Limit::DataFrames),
        ("bytes", frames::frame(DATA, 0, 1, &[1]), Limit::DataFrames),
    ] {
        let mut talk = talk().await;
        talk.send(frames::post(1, "/held")).await;
        let mut sent = 0;
        while sent < 20_000 && !talk.task.is_finished() {
            let write = tokio::io::AsyncWriteExt::write_all(&mut talk.io, &frame);
            if write.await.is_err() {
                break;
            }
            sent += 1;
            if sent % 50 == 0 {
                settle().await;
            }
        }
        assert!(sent < 10_000, "{name}: {sent}");
        assert_eq!(*talk.fake().limited.lock(), [limit], "{name}");
        assert_eq!(
            end(&mut talk).await.gone,
            Some(Code::ENHANCE_YOUR_CALM),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault_030_a_client_that_takes_nothing_of_an_answer_loses_its_stream() {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let mut client = Client::with(&door(settings()), &builder).await;
    let stalled: Vec<_> = (0..50).map(|_| client.send(get("/big"))).collect();
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(client.serving(), 50, "back-pressure, not yet the end");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(client.serving(), 0);
    for response in stalled {
        let body = crate::http2_client::body_of(response.await.unwrap().into_body());
        assert_eq!(body.await.unwrap_err().reason(), Some(Code::CANCEL));
    }
    let (status, ..) = answer(client.send(get("/status/204"))).await;
    assert_eq!(status, 204, "the connection goes on");
}

#[tokio::test(start_paused = true)]
async fn fault_030_a_window_of_one_byte_is_enough() {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1);
    let mut client = Client::with(&door(settings()), &builder).await;
    let (status, _, body, _) = answer(client.send(get("/x"))).await;
    assert_eq!((status, &*body), (200, &b"answer to /x"[..]));
}

#[tokio::test(start_paused = true)]
async fn fault_030_a_client_that_reads_nothing_from_its_socket_is_cut() {
    let door = door(settings());
    let mut talk = Talk::through(&door, 4096);
    // Windows without end, but a pipe that nobody empties.
    talk.send(frames::preface(&[(4, 0x7fff_ffff)])).await;
    talk.send(frames::frame(
        WINDOW_UPDATE,
        0,
        0,
        &0x7fff_0000_u32.to_be_bytes(),
    ))
    .await;
    talk.send(frames::get(1, "/big")).await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(talk.serving(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(talk.serving(), 0);
    assert_eq!(door.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn fault_031_malformed_heads_are_reset_and_told() {
    let plain = |name: &str, value: &str| frames::literal(name, value);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "uppercase",
            [frames::block("/"), plain("X-Up", "1")].concat(),
        ),
        (
            "connection",
            [frames::block("/"), plain("connection", "close")].concat(),
        ),
        (
            "keep-alive",
            [frames::block("/"), plain("keep-alive", "timeout=5")].concat(),
        ),
        (
            "upgrade",
            [frames::block("/"), plain("upgrade", "h2c")].concat(),
        ),
        (
            "chunked",
            [frames::block("/"), plain("transfer-encoding", "chunked")].concat(),
        ),
        ("te", [frames::block("/"), plain("te", "gzip")].concat()),
        (
            "two paths",
            [frames::block("/"), plain(":path", "/2")].concat(),
        ),
        (
            "pseudo behind",
            [
                frames::block("/"),
                plain("a", "b"),
                plain(":authority", "c"),
            ]
            .concat(),
        ),
        (
            "unknown pseudo",
            [frames::block("/"), plain(":proto", "x")].concat(),
        ),
        (
            "no method",
            [vec![0x86, 0x84], plain(":authority", "a")].concat(),
        ),
        (
            "no path",
            [vec![0x82, 0x86], plain(":authority", "a")].concat(),
        ),
        (
            "no scheme",
            [vec![0x82, 0x84], plain(":authority", "a")].concat(),
        ),
        (
            "empty path",
            [
                vec![0x82, 0x86],
                plain(":path", ""),
                plain(":authority", "a"),
            ]
            .concat(),
        ),
        (
            "status",
            [frames::block("/"), plain(":status", "200")].concat(),
        ),
        (
            "line feed",
            [frames::block("/"), plain("x", "a\r\nevil: 1")].concat(),
        ),
        ("nul", [frames::block("/"), plain("x", "a\0b")].concat()),
        ("name", [frames::block("/"), plain("x y", "1")].concat()),
        (
            "two lengths",
            [
                frames::block("/"),
                plain("content-length", "1"),
                plain("content-length", "2"),
            ]
            .concat(),
        ),
        (
            "no length",
            [frames::block("/"), plain("content-length", "-1")].concat(),
        ),
        (
            "length without body",
            [frames::block("/"), plain("content-length", "5")].concat(),
        ),
        (
            "fault_037 extended connect",
            [
                vec![0x86, 0x84],
                plain(":method", "CONNECT"),
                plain(":protocol", "websocket"),
                plain(":authority", "a"),
            ]
            .concat(),
        ),
    ];
    for (name, block) in cases {
        let mut talk = talk().await;
        talk.send(frames::frame(HEADERS, 5, 1, &block)).await;
        talk.send(frames::get(3, "/next")).await;
        settle().await;
        let seen: Vec<_> = talk
            .fake()
            .seen
            .lock()
            .iter()
            .map(|seen| seen.target.clone())
            .collect();
        let refused = talk.fake().refused.lock().clone();
        let came = frames::read_some(&mut talk.io).await;
        // The connection goes on, unless the state of the compression is lost.
        if came.gone.is_none() {
            assert_eq!(came.resets, [(1, Code::PROTOCOL_ERROR)], "{name}");
            assert_eq!(seen, ["http://a/next"], "{name}");
        } else {
            assert!(seen.is_empty(), "{name}: {seen:?}");
        }
        assert_eq!(refused.len(), 1, "{name}: {refused:?}");
        assert_eq!(refused[0].0, Reason::BadRequest, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_031_targets_that_are_no_path_are_refused() {
    for (path, allowed) in [
        ("x", false),
        ("*", false),
        ("//a/b", true),
        ("/%2e%2e/x", true),
    ] {
        let mut talk = talk().await;
        talk.send(frames::get(1, path)).await;
        settle().await;
        let seen: Vec<_> = talk
            .fake()
            .seen
            .lock()
            .iter()
            .map(|seen| seen.target.clone())
            .collect();
        assert_eq!(seen.is_empty(), !allowed, "{path}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_032_a_body_that_is_not_as_long_as_it_was_said_to_be_is_reset() {
    for (length, body, last) in [
        (5, &b"123"[..], true),
        (5, b"123456", true),
        (5, b"123456", false),
    ] {
        let mut talk = talk().await;
        let mut block = frames::block("/upload");
        block.extend(frames::literal("content-length", &format!("{length}")));
        talk.send(frames::frame(HEADERS, 4, 1, &block)).await;
        talk.send(frames::frame(DATA, u8::from(last), 1, body))
            .await;
        settle().await;
        let seen = talk.fake().seen.lock().clone();
        assert!(seen.iter().all(|seen| seen.body.is_none()), "no whole body");
        let came = frames::read_some(&mut talk.io).await;
        assert_eq!(came.resets, [(1, Code::PROTOCOL_ERROR)]);
        assert_eq!(talk.serving(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_033_frames_against_the_protocol_end_the_connection_or_the_stream() {
    let data = |stream| frames::frame(DATA, 1, stream, b"x");
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        (
            "frame too large",
            frames::frame(DATA, 0, 1, &[0; 16_385]),
            Code::FRAME_SIZE_ERROR,
        ),
        ("data on no stream", data(0), Code::PROTOCOL_ERROR),
        ("data on an idle stream", data(7), Code::PROTOCOL_ERROR),
        (
            "headers on an even stream",
            frames::get(2, "/"),
            Code::PROTOCOL_ERROR,
        ),
        (
            "headers on stream 0",
            frames::get(0, "/"),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a stream of the past",
            [frames::get(5, "/"), frames::get(3, "/")].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a continuation of nothing",
            frames::frame(CONTINUATION, 4, 1, b""),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a block that is interrupted",
            [
                frames::frame(HEADERS, 1, 1, b"\x82"),
                frames::frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "settings of 5 bytes",
            frames::frame(SETTINGS, 0, 0, &[0; 5]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "settings on a stream",
            frames::frame(SETTINGS, 0, 1, &[]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "ping of 7 bytes",
            frames::frame(PING, 0, 0, &[0; 7]),
            Code::PROTOCOL_ERROR,
        ),
        ("reset of an idle stream", cancel(9), Code::PROTOCOL_ERROR),
        (
            "window without increment",
            frames::frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "window over its end",
            frames::frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            Code::FLOW_CONTROL_ERROR,
        ),
        (
            "a promise from a client",
            frames::frame(5, 4, 1, &[0, 0, 0, 2]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "padding longer than the frame",
            frames::frame(HEADERS, 0xd, 1, &[200, 0x82]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a broken index",
            frames::frame(HEADERS, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0x7f]),
            Code::PROTOCOL_ERROR,
        ),
    ];
    for (name, bytes, code) in cases {
        let mut talk = talk().await;
        talk.send(&bytes).await;
        let end = end(&mut talk).await;
        let codes = [
            Some(code),
            Some(Code::PROTOCOL_ERROR),
            Some(Code::FRAME_SIZE_ERROR),
            Some(Code::COMPRESSION_ERROR),
        ];
        assert!(codes.contains(&end.gone), "{name}: {:?}", end.gone);
        assert_eq!(
            talk.fake().refused.lock()[0].0,
            Reason::BadRequest,
            "{name}"
        );
        assert_eq!(talk.serving(), 0, "{name}");
        (&mut talk.task).await.unwrap();
        assert_eq!(talk.door.open(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_033_data_behind_the_end_of_a_request_is_a_stream_error() {
    let mut talk = talk().await;
    talk.send(frames::get(1, "/held")).await;
    talk.send(frames::frame(DATA, 0, 1, b"more")).await;
    settle().await;
    let came = frames::read_some(&mut talk.io).await;
    let reset = came.resets.iter().any(|(stream, _)| *stream == 1);
    assert!(reset || came.gone.is_some(), "{came:?}");
    assert_eq!(talk.serving(), 0);
}

#[tokio::test(start_paused = true)]
async fn more_streams_than_the_limit_are_refused_and_can_be_sent_again() {
    let mut settings = settings();
    settings.max_streams = 3;
    let mut talk = Talk::to(&door(settings));
    talk.send(frames::preface(&[])).await;
    for stream in [1, 3, 5, 7] {
        talk.send(frames::get(stream, "/never")).await;
    }
    settle().await;
    let came = frames::read_some(&mut talk.io).await;
    assert_eq!(came.settings.iter().find(|(id, _)| *id == 3), Some(&(3, 3)));
    assert_eq!(came.resets, [(7, Code::REFUSED_STREAM)]);
    assert_eq!(talk.serving(), 3);
    assert_eq!(*talk.fake().limited.lock(), [Limit::Streams]);
    assert!(talk.fake().refused.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_stream_ends_after_the_idle_timeout() {
    let mut client = Client::new().await;
    answer(client.send(get("/after/3000"))).await;
    client.task.await.unwrap();
    about(
        mamparo::clock::now() - client.began,
        Duration::from_secs(63),
    );
    client.connection.await.unwrap().expect("a graceful end");
}

#[tokio::test(start_paused = true)]
async fn a_preface_without_more_is_closed_after_the_header_timeout() {
    let mut talk = Talk::new();
    talk.send("PRI * HTTP/2.0\r\n\r\nSM").await;
    let end = frames::read_to_end(&mut talk.io).await;
    about(talk.elapsed(), Duration::from_secs(10));
    assert_eq!(end.gone, None);
}

#[tokio::test(start_paused = true)]
async fn a_request_begins_with_its_first_byte() {
    let mut talk = talk().await;
    let get = frames::get(1, "/");
    talk.send(&get[..12]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    talk.send(&get[12..]).await;
    settle().await;
    let seen = talk.fake().seen.lock().clone();
    assert_eq!(seen[0].began - talk.began, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_when_the_drain_ends_is_cut() {
    let mut client = Client::new().await;
    let response = client.send(get("/never"));
    settle().await;
    assert_eq!(client.door.drain(Duration::from_secs(5)).await, 1);
    assert_eq!(client.serving(), 0);
    response.await.expect_err("no answer");
}
