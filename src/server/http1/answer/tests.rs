use http::Response;
use http_body_util::Full;

use super::*;

/// What is asked for in HTTP/1.1, on a connection that stays.
const ASKED: Asked = Asked {
    old: false,
    keep_alive: true,
    head_only: false,
    connect: false,
    takes_trailers: true,
};
const OLD: Asked = Asked {
    old: true,
    keep_alive: false,
    ..ASKED
};

fn answer(status: u16, headers: &[(&str, &str)]) -> response::Parts {
    let mut answer = Response::builder().status(status).header("date", "now");
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(()).unwrap().into_parts().0
}

/// The head without its date, and whether it is the connection's last.
fn head(head: &response::Parts, size: Size, asked: Asked, closing: bool) -> (String, bool) {
    let mut bytes = b"before ".to_vec();
    let now = crate::clock::now();
    let (_, last) = append_head(head, size, &asked, closing, now, &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let text = text.strip_prefix("before ").unwrap();
    (text.replace("date: now\r\n", ""), last)
}

#[track_caller]
fn assert_head(parts: &response::Parts, size: Size, asked: Asked, lines: &[&str]) {
    let (text, _) = head(parts, size, asked, false);
    assert_eq!(text, lines.join("\r\n") + "\r\n\r\n");
}

const OK: &str = "HTTP/1.1 200 OK";

#[test]
fn a_body_is_framed_by_what_is_known_of_it() {
    let plain = answer(200, &[("x-y", "z")]);
    let ask = |size, line| assert_head(&plain, size, ASKED, &[OK, "x-y: z", line]);
    ask(Size::None, "content-length: 0");
    ask(Size::Known(1234567890), "content-length: 1234567890");
    ask(Size::Unknown, "transfer-encoding: chunked");
    assert_head(
        &plain,
        Size::Unknown,
        OLD,
        &["HTTP/1.0 200 OK", "x-y: z", "connection: close"],
    );
    let said = answer(
        200,
        &[("content-length", "5"), ("transfer-encoding", "chunked")],
    );
    for size in [Size::Known(5), Size::Unknown] {
        assert_head(&said, size, ASKED, &[OK, "content-length: 5"]);
    }
    // What is sent is what counts.
    assert_head(&said, Size::Known(7), ASKED, &[OK, "content-length: 7"]);
    assert_head(&said, Size::None, ASKED, &[OK, "content-length: 0"]);
    let wrong = answer(200, &[("content-length", "5x")]);
    let mut bytes = b"before".to_vec();
    let outcome = append_head(
        &wrong,
        Size::Unknown,
        &ASKED,
        false,
        crate::clock::now(),
        &mut bytes,
    );
    assert_eq!(
        (outcome.err(), bytes),
        (Some(BadLength), b"before".to_vec())
    );
}

#[test]
fn fault_018_answers_without_a_body_say_what_it_would_have_been_or_nothing() {
    let head_only = Asked {
        head_only: true,
        ..ASKED
    };
    let said = answer(200, &[("content-length", "5")]);
    assert_head(&said, Size::None, head_only, &[OK, "content-length: 5"]);
    let plain = answer(200, &[("transfer-encoding", "chunked")]);
    assert_head(&plain, Size::None, head_only, &[OK]);
    assert_head(
        &plain,
        Size::Known(3),
        head_only,
        &[OK, "content-length: 3"],
    );
    assert_head(&plain, Size::Unknown, head_only, &[OK]);
    for status in [204, 304] {
        let plain = answer(status, &[]);
        for size in [Size::None, Size::Known(5), Size::Unknown] {
            let (text, last) = head(&plain, size, ASKED, false);
            assert!(
                !text.contains("content-length") && !text.contains("transfer"),
                "{text}"
            );
            assert!(!last);
        }
    }
    let connect = Asked {
        connect: true,
        ..ASKED
    };
    assert_head(&answer(200, &[]), Size::None, connect, &[OK]);
    let switching = answer(101, &[("connection", "upgrade"), ("upgrade", "x")]);
    let lines = [
        "HTTP/1.1 101 Switching Protocols",
        "upgrade: x",
        "connection: upgrade",
    ];
    assert_head(&switching, Size::None, ASKED, &lines);
    assert!(head(&switching, Size::None, ASKED, false).1);
}

#[test]
fn what_becomes_of_the_connection_is_said_once() {
    let last_of = Asked {
        keep_alive: false,
        ..ASKED
    };
    let kept = Asked {
        keep_alive: true,
        ..OLD
    };
    for (headers, asked, closing, line, last) in [
        ("", ASKED, false, "", false),
        ("", ASKED, true, "connection: close", true),
        ("x-mine", ASKED, false, "connection: x-mine", false),
        ("x-mine", ASKED, true, "connection: close", true),
        ("Close", ASKED, false, "connection: Close", true),
        ("", last_of, false, "connection: close", true),
        ("x-mine", last_of, false, "connection: x-mine, close", true),
        ("close", last_of, false, "connection: close", true),
        ("", OLD, false, "", true),
        ("", kept, false, "connection: keep-alive", false),
        ("close", kept, false, "connection: close", true),
    ] {
        let headers: &[_] = match headers {
            "" => &[],
            words => &[("connection", words)],
        };
        let (text, is_last) = head(&answer(200, headers), Size::Known(1), asked, closing);
        let found = text.lines().find(|line| line.starts_with("connection"));
        assert_eq!((found.unwrap_or_default(), is_last), (line, last), "{text}");
    }
}

#[test]
fn an_answer_without_a_date_gets_one() {
    let plain = Response::new(()).into_parts().0;
    let (text, _) = head(&plain, Size::None, ASKED, false);
    assert!(
        text.contains("\r\ndate: ") && text.contains(" GMT\r\n"),
        "{text}"
    );
}

fn framing(encoder: Encoder) -> Framing {
    Framing {
        encoder,
        announced: Vec::new(),
    }
}

fn sent(mut framing: Framing, parts: &[&'static str], end: Option<HeaderMap>) -> (String, bool) {
    let mut output = Output::default();
    let mut fits = true;
    for part in parts {
        fits &= framing
            .append(Bytes::from_static(part.as_bytes()), false, &mut output)
            .is_ok();
    }
    let whole = fits && framing.append_end(end, &mut output).is_ok();
    (String::from_utf8(output.bytes().clone()).unwrap(), whole)
}

#[test]
fn parts_of_a_body_are_framed_one_by_one() {
    let text = |encoder, parts: &[&'static str]| sent(framing(encoder), parts, None);
    let chunks = "11\r\n0123456789abcdef0\r\n1\r\nx\r\n0\r\n\r\n";
    assert_eq!(
        text(Encoder::Chunked, &["0123456789abcdef0", "x"]),
        (chunks.into(), true)
    );
    assert_eq!(
        text(Encoder::Length(5), &["he", "llo"]),
        ("hello".into(), true)
    );
    assert_eq!(text(Encoder::Length(5), &["he"]), ("he".into(), false));
    // More than announced would be read as another answer.
    assert_eq!(
        text(Encoder::Length(5), &["hello", "!"]),
        ("hello".into(), false)
    );
    assert_eq!(text(Encoder::UntilEnd, &["hello"]), ("hello".into(), true));
    let mut output = Output::default();
    assert_eq!(
        framing(Encoder::Chunked).append("abc".into(), true, &mut output),
        Ok(true)
    );
    assert_eq!(output.bytes(), b"3\r\nabc\r\n0\r\n\r\n");
    // Behind a large part the end waits until that is written.
    let large = Bytes::from(vec![b'x'; 10_000]);
    assert_eq!(
        framing(Encoder::Chunked).append(large, true, &mut output),
        Ok(false)
    );
}

#[test]
fn words_of_the_upstreams_own_are_passed_on() {
    let mut parts = answer(200, &[]);
    parts
        .extensions
        .insert(ReasonPhrase(Bytes::from_static(b"Fine")));
    assert_head(
        &parts,
        Size::None,
        ASKED,
        &["HTTP/1.1 200 Fine", "content-length: 0"],
    );
    assert_head(
        &answer(599, &[]),
        Size::None,
        ASKED,
        &["HTTP/1.1 599 <none>", "content-length: 0"],
    );
}

#[test]
fn fault_023_only_trailers_that_were_announced_and_are_taken_are_sent() {
    let announced = answer(200, &[("trailer", "x-sum, Host"), ("trailer", "x-other")]);
    let trailers = || {
        let mut trailers = HeaderMap::new();
        trailers.append("x-sum", HeaderValue::from_static("1"));
        trailers.append("x-more", HeaderValue::from_static("2"));
        Some(trailers)
    };
    for (takes_trailers, lines) in [(true, "x-sum: 1\r\n"), (false, "")] {
        let asked = Asked {
            takes_trailers,
            ..ASKED
        };
        let mut bytes = Vec::new();
        let now = crate::clock::now();
        let outcome = append_head(&announced, Size::Unknown, &asked, false, now, &mut bytes);
        let (framing, _) = outcome.unwrap();
        let (text, whole) = sent(framing, &[], trailers());
        assert_eq!((text, whole), (format!("0\r\n{lines}\r\n"), true));
    }
    assert_eq!(
        sent(framing(Encoder::Length(0)), &[], trailers()),
        (String::new(), true)
    );
}

#[test]
fn the_size_of_a_body_is_what_it_says() {
    assert_eq!(Size::of(&Full::new(Bytes::new())), Size::None);
    assert_eq!(
        Size::of(&Full::new(Bytes::from_static(b"abc"))),
        Size::Known(3)
    );
}

#[test]
fn fault_049_interim_answers_are_written_one_behind_the_other() {
    let mut headers = HeaderMap::new();
    headers.append("link", HeaderValue::from_static("</a>"));
    headers.append("link", HeaderValue::from_static("</b>"));
    let hints = interim::Head::received(StatusCode::EARLY_HINTS, headers).unwrap();
    let odd = interim::Head::received(StatusCode::from_u16(199).unwrap(), HeaderMap::new());
    let mut bytes = Vec::new();
    append_interim(&[hints, interim::Head::go_on(), odd.unwrap()], &mut bytes);
    let text = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\nHTTP/1.1 199 \r\n\r\n";
    assert_eq!(bytes, text.as_bytes());
}
