//! What an endpoint sends, against what a client gets: the answer that was meant, whole or visibly broken
//! off, or one of ours; and nothing of it in the answer to another request.

use super::chance;
use super::stage::{Play, Stage};
use super::strict::{self, Begin, Message};
use super::text;

#[rustfmt::skip]
const PIECES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 \r\n",
    b"HTTP/1.1 404 Not Found\r\n", b"HTTP/1.1 503 Busy\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
    b"HTTP/1.1 99 No\r\n", b"HTTP/1.1 1000 No\r\n", b"HTTP/1.1 200\r\n", b"HTTP/1.1  200 OK\r\n", b"HTTP/2.0 200 OK\r\n",
    b"ICY 200 OK\r\n", b"HTTP/1.1 200 OK\n", b"HTTP/1.1 ", b"HTTP/1.1 205 Reset\r\n", b"HTTP/1.1 199 Odd\r\n\r\n",
    b"content-length: 0\r\n", b"content-length: 3\r\n", b"Content-Length: 5\r\n", b"content-length: 5, 5\r\n",
    b"content-length: +5\r\n", b"content-length: 99999999999999999999\r\n", b"content-length:\r\n",
    b"content-length: 007\r\n", b"transfer-encoding: chunked\r\n", b"Transfer-Encoding: Chunked\r\n",
    b"transfer-encoding: gzip, chunked\r\n", b"transfer-encoding: chunked, chunked\r\n", b"transfer-encoding: identity\r\n",
    b"transfer-encoding : chunked\r\n", b"connection: close\r\n", b"connection: keep-alive\r\n",
    b"connection: x-a, content-length\r\n", b"connection: upgrade\r\n", b"keep-alive: timeout=1\r\n",
    b"upgrade: h2c\r\n", b"trailer: x-t\r\n", b"te: trailers\r\n", b"proxy-authenticate: x\r\n", b"proxy-connection: x\r\n",
    b"x-a: 1\r\n", b"x-b:\r\n", b"set-cookie: a=b\r\nset-cookie: c=d\r\n", b"via: 1.0 x\r\n", b"retry-after: 1\r\n",
    b"x-mamparo-reason: lies\r\n", b"x-request-id: other\r\n", b"content-type: application/grpc\r\n", b"grpc-status: 14\r\n",
    b"date: Mon, 01 Jan 2024 00:00:00 GMT\r\n", b" folded\r\n", b"\tfolded\r\n", b"no colon\r\n", b": 1\r\n", b"x y: 1\r\n",
    b"\r\n", b"\n", b"\r", b"\0", b"\x80", b"\xff", b"\r\n\r\n", b"0\r\n\r\n", b"3\r\nabc\r\n", b"5\r\nhello\r\n", b"5;a=b\r\nhello\r\n",
    b"5;\nhello\r\n", b"05\r\nhello\r\n", b"-5\r\n", b"0x5\r\n", b"ffffffffffffffff\r\n", b"10000000000000000\r\n",
    b"0\r\nx-t: 1\r\n\r\n", b"0\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
    b"0\r\nx-t: 1\n\n", b"0\r\n", b"abc", b"hello", b"5\r\nhell", b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled",
];

const HOP_BY_HOP: [&str; 6] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "upgrade",
    "http2-settings",
];
const SET: [&str; 8] = [
    "trailer",
    "via",
    "x-request-id",
    "connection",
    "content-length",
    "transfer-encoding",
    "date",
    "x-mamparo-reason",
];

const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn fuzz_answers() {
    let stage = Stage::new("inbound", "timeouts: { request: 5s, idle: 3s }");
    let target = |input: &[u8]| {
        let [letter, kind, input @ ..] = input else {
            return;
        };
        let bytes = text::spell(input, PIECES);
        let (method, request): (&[u8], &[u8]) = match kind & 3 {
            0 => (b"GET", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
            1 => (b"HEAD", b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n"),
            2 => (
                b"POST",
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
            ),
            _ => (
                b"GET",
                b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
            ),
        };
        let ends = kind & 4 != 0;
        let play = match ends {
            true => Play::Last(bytes.clone(), *letter),
            false => Play::Answer(bytes.clone()),
        };
        let (back, seen) = stage.run(&[request, NEXT].concat(), 0, vec![play]);
        assert_eq!(seen.wrong, []);
        let meant = answer(&bytes, method, ends);
        let (got, rest) = first(&back, method, kind & 3 != 3);
        match got {
            // Without a length and chunks its end is the connection's; whether that is a break is not in its bytes.
            Got::Whole(got) if kind & 3 == 3 && !got.has("content-length") => {
                let mut connection = got.all("connection");
                let close = connection.all(|value| value.starts_with(b"close"));
                assert!(close || matches!(got.status(), 204 | 304), "{got:?}");
            }
            // Trailers may be malformed in ways that harm nobody: the connection is not used again.
            Got::Whole(got) if matches!(meant, Begin::Wrong(why) if why == strict::TRAILERS) => {
                assert!(got.trailers.len() <= 1, "{got:?}");
            }
            Got::Whole(got) if got.has("x-mamparo-reason") && !is_theirs(&got, &meant) => {}
            Got::Whole(got) => assert_same(&got, &meant),
            // It broke off where the endpoint's did.
            Got::Broken(head) => {
                assert!(!matches!(meant, Begin::Whole(..)), "{head:#?}\n{meant:#?}");
                assert_eq!(rest, b"");
            }
        }
        // What comes behind an answer when the next request has been sent already looks like the answer to it.
        let late = letter & 31 != 0 && ends;
        let more = matches!(meant, Begin::Whole(_, used) if used < bytes.len());
        if !(late && more) {
            assert_next(rest);
        }
    };
    chance::fixed(300, 120, target);
    bolero::check!()
        .with_iterations(chance::iterations())
        .for_each(target);
}

/// The final answer that bytes mean.
fn answer(mut bytes: &[u8], method: &[u8], ends: bool) -> Begin {
    let all = bytes.len();
    loop {
        match strict::answer(bytes, method, ends) {
            Begin::Whole(interim, used) if is_interim(&interim) => bytes = &bytes[used..],
            // Its length among all bytes, interim answers before it included.
            Begin::Whole(answer, used) => return Begin::Whole(answer, all - bytes.len() + used),
            begin @ (Begin::Part(_) | Begin::Wrong(_)) => return begin,
        }
    }
}

fn is_interim(answer: &Message) -> bool {
    answer.line[1][0] == b'1' && answer.status() != 101
}

/// Whether it is the endpoint that says `x-mamparo-reason`.
fn is_theirs(got: &Message, meant: &Begin) -> bool {
    let (Begin::Whole(meant, _) | Begin::Part(Some(meant))) = meant else {
        return false;
    };
    meant.has("x-mamparo-reason") && got.status() == meant.status()
}

#[derive(Debug)]
enum Got {
    Whole(Box<Message>),
    /// Its head at least.
    Broken(Option<Box<Message>>),
}

/// The first final answer that a client got, and what follows it. `new`: the client speaks HTTP/1.1, so that no
/// answer needs the connection's end to have one.
#[track_caller]
fn first<'a>(mut back: &'a [u8], method: &[u8], new: bool) -> (Got, &'a [u8]) {
    loop {
        let begin = strict::answer(back, method, !new);
        match begin {
            Begin::Whole(interim, used) if is_interim(&interim) => {
                assert_clean(&interim);
                back = &back[used..];
            }
            Begin::Whole(answer, used) => {
                assert_clean(&answer);
                return (Got::Whole(answer), &back[used..]);
            }
            Begin::Part(head) => return (Got::Broken(head), b""),
            Begin::Wrong(why) => panic!("{why}: {}", String::from_utf8_lossy(back)),
        }
    }
}

#[track_caller]
fn assert_same(got: &Message, meant: &Begin) {
    let Begin::Whole(meant, _) = meant else {
        panic!("{got:#?} of {meant:#?}");
    };
    assert_eq!(got.status(), meant.status());
    assert_eq!(got.body, meant.body, "{got:#?}\n{meant:#?}");
    for (name, value) in &got.headers {
        let theirs = meant.all(name).any(|theirs| theirs == value);
        assert!(theirs || SET.contains(&name.as_str()), "{name} is made up");
    }
    for trailer in &got.trailers {
        assert!(meant.trailers.contains(trailer), "{trailer:?} is made up");
    }
}

#[track_caller]
fn assert_clean(got: &Message) {
    for name in HOP_BY_HOP {
        assert!(!got.has(name), "{name}: {got:#?}");
    }
    for (name, _) in &got.trailers {
        let of_the_head = ["content-length", "transfer-encoding", "connection"];
        assert!(!of_the_head.contains(&name.as_str()), "{name} as a trailer");
    }
}

/// The answer to the other request, if there was one, has nothing of these bytes.
#[track_caller]
fn assert_next(rest: &[u8]) {
    if rest.is_empty() {
        return;
    }
    let (got, rest) = first(rest, b"GET", true);
    let Got::Whole(got) = got else {
        panic!("{got:#?}");
    };
    assert!(got.body == b"ok" || got.has("x-mamparo-reason"), "{got:#?}");
    assert_eq!(rest, b"");
}
