//! What a client sends, against what goes on: requests that mean one thing, in their order, each whole or
//! not completed, and with no header that concerned only the client's connection.

use super::chance;
use super::stage::Stage;
use super::strict::{self, Begin, Message};
use super::text;

#[rustfmt::skip]
const PIECES: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"GET / HTTP/1.1\r\n", b"GET /a?b=c HTTP/1.1\r\nhost: a\r\n",
    b"POST /p HTTP/1.1\r\nhost: a\r\n", b"PUT /p HTTP/1.1\r\nhost: a\r\n", b"HEAD / HTTP/1.1\r\nhost: a\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: a\r\n", b"GET http://a/x HTTP/1.1\r\nhost: a\r\n", b"GET /o HTTP/1.0\r\n",
    b"POST / HTTP/1.0\r\n", b"GET /%2e%2e//x HTTP/1.1\r\nhost: a\r\n", b"GET", b"POST", b" ", b" / ",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\x16\x03\x01", b"TRACE",
    b"host: a\r\n", b"host: b\r\n", b"host:\r\n", b"host: a@b\r\n", b"content-length: 0\r\n",
    b"content-length: 3\r\n", b"Content-Length: 5\r\n", b"content-length: 5, 5\r\n", b"content-length: +5\r\n",
    b"content-length:5\r\n", b"content-length: 99999999999999999999\r\n", b"content-length", b"content-length:\t3\r\n",
    b"transfer-encoding: chunked\r\n", b"Transfer-Encoding: Chunked\r\n", b"transfer-encoding: gzip, chunked\r\n",
    b"transfer-encoding:\tchunked\r\n", b"transfer-encoding : chunked\r\n", b"transfer-encoding: identity\r\n",
    b"connection: close\r\n", b"connection: keep-alive\r\n", b"connection: x-a, host, content-length\r\n",
    b"connection: transfer-encoding\r\n", b"connection: upgrade\r\n", b"keep-alive: timeout=5\r\n",
    b"proxy-connection: close\r\n", b"proxy-authorization: x\r\n", b"expect: 100-continue\r\n", b"expect: x\r\n",
    b"te: trailers\r\n", b"te: gzip, trailers\r\n", b"trailer: x-t\r\n", b"upgrade: h2c\r\n",
    b"upgrade: websocket\r\n", b"http2-settings: AAMAAABk\r\n", b"max-forwards: 0\r\n", b"max-forwards: 3\r\n",
    b"x-a: 1\r\n", b"x-b:\r\n", b"x-mamparo-attempt: 9\r\n", b"x-mamparo-timeout-ms: 5\r\n",
    b"x-mamparo-timeout-ms: 0\r\n", b"x-forwarded-for: 10.9.9.9\r\n", b"x-forwarded-host: c\r\n", b"via: 1.0 x\r\n",
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n", b"tracestate: a=b\r\n",
    b"x-request-id: r\r\n", b"content-type: application/grpc\r\n", b"grpc-timeout: 1S\r\n", b"cookie: a=b\r\n",
    b" folded\r\n", b"\tfolded\r\n", b"x y: 1\r\n", b": 1\r\n", b"\r\n", b"\n", b"\r", b"\0", b"\x80", b"\xff",
    b"0\r\n\r\n", b"3\r\nabc\r\n", b"5\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"5;a=\"q\\\"\"\r\nhello\r\n",
    b"5;\r\nhello\r\n", b"5 \r\nhello\r\n", b"05\r\nhello\r\n", b"-5\r\n", b"0x5\r\n", b"ffffffffffffffff\r\n",
    b"10000000000000000\r\n", b"0\r\nx-t: 1\r\n\r\n", b"0\r\ncontent-length: 9\r\nhost: z\r\n\r\n", b"0\r\n",
    b"0;a\r\n\r\n", b"abc", b"hello", b"5\r\nhell", b"\r\n\r\n", b"\n\n", b"\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
];

/// Headers that only the connection they came over is concerned with.
const HOP_BY_HOP: [&str; 6] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
    "upgrade",
];
/// Headers that are set or changed on the way.
const SET: [&str; 15] = [
    "trailer",
    "connection",
    "host",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "traceparent",
    "x-mamparo-timeout-ms",
    "max-forwards",
    "grpc-timeout",
    "te",
    "transfer-encoding",
    "content-length",
];

#[test]
fn fuzz_requests() {
    let stage = Stage::new("inbound", "timeouts: { request: 5s, idle: 3s }");
    let target = |input: &[u8]| {
        let Some((letter, input)) = input.split_first() else {
            return;
        };
        let bytes = text::spell(input, PIECES);
        let meant = requests(&bytes);
        let (back, seen) = stage.run(&bytes, *letter, Vec::new());
        assert_eq!(seen.wrong, [], "what goes on is well-formed");
        assert!(seen.whole.len() <= meant.len(), "{seen:#?}\n{meant:#?}");
        for (sent, meant) in seen.whole.iter().zip(&meant) {
            assert_same(sent, meant);
        }
        for part in &seen.parts {
            assert_clean(part);
        }
        assert_answers(&back, &meant);
    };
    chance::fixed(300, 120, target);
    bolero::check!()
        .with_iterations(chance::iterations())
        .for_each(target);
}

/// The requests that bytes mean, up to what is none.
fn requests(mut bytes: &[u8]) -> Vec<Message> {
    let mut requests = Vec::new();
    while let Begin::Whole(message, used) = strict::request(bytes) {
        bytes = &bytes[used..];
        requests.push(*message);
    }
    requests
}

/// What was sent on is what the client meant.
#[track_caller]
fn assert_same(sent: &Message, meant: &Message) {
    assert_eq!(sent.line[0], meant.line[0]);
    assert_eq!(sent.line[2], b"HTTP/1.1");
    assert_eq!(
        String::from_utf8_lossy(&sent.line[1]),
        String::from_utf8_lossy(&origin_form(&meant.line[1]))
    );
    assert_eq!(sent.body, meant.body, "{sent:#?}\n{meant:#?}");
    assert_clean(sent);
    for (name, value) in &sent.headers {
        let theirs = meant.all(name).any(|theirs| theirs == value);
        assert!(theirs || SET.contains(&name.as_str()), "{name} is made up");
    }
    for trailer in &sent.trailers {
        assert!(meant.trailers.contains(trailer), "{trailer:?} is made up");
    }
}

/// The target without scheme and host.
fn origin_form(target: &[u8]) -> Vec<u8> {
    let Some(scheme) = target.windows(3).position(|three| three == b"://") else {
        return target.to_vec();
    };
    if target.starts_with(b"/") {
        return target.to_vec();
    }
    let rest = &target[scheme + 3..];
    let path = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    match path.map(|path| &rest[path..]) {
        None => b"/".to_vec(),
        Some(query @ [b'?', ..]) => [b"/", query].concat(),
        Some(path) => path.to_vec(),
    }
}

/// It has what a request must have once, and nothing that it must not have.
#[track_caller]
fn assert_clean(sent: &Message) {
    assert_eq!(sent.all("host").count(), 1, "{sent:#?}");
    for name in HOP_BY_HOP {
        assert!(!sent.has(name), "{name}: {sent:#?}");
    }
    let te: Vec<&[u8]> = sent.all("te").collect();
    assert!(matches!(te[..], [] | [b"trailers"]), "{sent:#?}");
    let connection: Vec<&[u8]> = sent.all("connection").collect();
    let expected: &[&[u8]] = if te.is_empty() { &[] } else { &[b"te"] };
    assert_eq!(connection, expected, "{sent:#?}");
    assert!(!sent.has("x-mamparo-attempt"), "this is the first try");
    for (name, _) in &sent.trailers {
        let of_the_head = ["content-length", "transfer-encoding", "host"];
        assert!(!of_the_head.contains(&name.as_str()), "{name} as a trailer");
    }
}

/// What came back is answers, no more than there are requests and one refusal; nothing follows the last.
#[track_caller]
fn assert_answers(mut back: &[u8], meant: &[Message]) {
    let mut methods = meant.iter().map(Message::method);
    let mut refused = false;
    while !back.is_empty() {
        let method = methods.next();
        // The request behind the last that is one may have any method.
        let method = method.unwrap_or(b"GET");
        let begin = loop {
            match strict::answer(back, method, true) {
                Begin::Whole(interim, used) if interim.line[1][0] == b'1' => back = &back[used..],
                begin @ (Begin::Whole(..) | Begin::Part(_) | Begin::Wrong(_)) => break begin,
            }
        };
        let Begin::Whole(answer, used) = begin else {
            // A refusal of a HEAD that is no request has no body.
            let text = String::from_utf8_lossy(back);
            assert!(matches!(begin, Begin::Part(Some(_))), "{text}");
            return;
        };
        assert!(!refused, "an answer after the last");
        refused = answer.all("connection").any(|value| value == b"close");
        back = &back[used..];
        if refused && method == b"HEAD" && answer.status() == 400 {
            // A head that is refused before it is read whole is answered whatever its method is.
            return;
        }
        // A refused call of gRPC gets 200 too, and so does what may go no further (max-forwards).
        let ours = answer.has("grpc-status") || matches!(method, b"OPTIONS" | b"TRACE");
        if answer.status() == 200 && ours {
            continue;
        }
        if answer.status() == 200 {
            assert_eq!(
                answer.body,
                if method == b"HEAD" { &b""[..] } else { b"ok" }
            );
        } else {
            assert!(answer.has("x-mamparo-reason"), "{answer:#?}");
        }
    }
}
