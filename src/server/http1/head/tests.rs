use super::*;

const LIMITS: Limits = Limits {
    size: 1024,
    lines: 10,
};

/// The head, the sentence, or that it is not complete; the same however it is cut.
fn everywhere(bytes: &[u8]) -> Result<Box<Head>, &'static str> {
    for end in 0..bytes.len() {
        if let Err((_, sentence)) = parse(&bytes[..end], LIMITS) {
            let whole = parse(bytes, LIMITS).expect_err("refused at once, refused at the end");
            assert!(!sentence.is_empty() && !whole.1.is_empty());
            return Err(sentence);
        }
    }
    match parse(bytes, LIMITS) {
        Ok(Some(head)) => Ok(head),
        Ok(None) => Err("incomplete"),
        Err((_, sentence)) => Err(sentence),
    }
}

fn post(headers: &str) -> Vec<u8> {
    format!("POST /a?b HTTP/1.1\r\nhost: a\r\n{headers}\r\n").into_bytes()
}

#[track_caller]
fn refused(bytes: &[u8]) {
    let error = everywhere(bytes).expect_err("refused");
    let text = String::from_utf8_lossy(bytes);
    assert_ne!(error, "incomplete", "{text:?}");
}

#[test]
fn fault_018_and_020_what_follows_a_head_is_told() {
    for (headers, left) in [
        ("", Some(0)),
        ("content-length: 0\r\n", Some(0)),
        ("Content-Length:5\r\n", Some(5)),
        ("content-length:  0005 \r\n", Some(5)),
        ("Transfer-Encoding: chunked\r\n", None),
    ] {
        let bytes = post(headers);
        let head = everywhere(&bytes).expect(headers);
        assert_eq!((head.length, head.body.left()), (bytes.len(), left));
        assert_eq!(head.request.uri(), "/a?b");
        assert_eq!(head.request.headers()["host"], "a");
    }
    let mut two = post("content-length: 5\r\n");
    let length = two.len();
    two.extend_from_slice(b"helloGET / HT");
    let head = parse(&two, LIMITS).unwrap().unwrap();
    assert_eq!(head.length, length);
}

#[test]
fn fault_001_to_005_lengths_that_can_be_read_two_ways_are_refused() {
    for headers in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\nCONTENT-LENGTH: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5\r\ncontent-length: 5\r\n",
        "content-length: 5, 5\r\n",
        "content-length: +5\r\n",
        "content-length: -5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 0x5\r\n",
        "content-length: \t5\r\n",
        "content-length: 5\t\r\n",
        "content-length: 00000000000000000005\r\n",
        "content-length: 9223372036854775808\r\n",
        "content-length: 99999999999999999999\r\n",
        "content-length:\r\n",
        "content-length:  \r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding:\tchunked\r\n",
        "transfer-encoding: chunked\t\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding: Chunked\r\n",
        "transfer-encoding:\r\n",
    ] {
        refused(&post(headers));
    }
    refused(b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n");
}

#[test]
fn fault_008_to_017_heads_that_others_may_read_differently_are_refused() {
    for head in [
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a \n\r\n",
        "GET / HTTP/1.1\r\nx:\n\r\n",
        "GET / HTTP/1.1\r\nx: \n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "GET / HTTP/1.1\r\n\n",
        "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n x: a\r\n\r\n",
        "GET / HTTP/1.1\r\nx : a\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\0\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\rb\r\n\r\n",
        "GET /#a HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a\\b HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    ] {
        refused(head.as_bytes());
    }
}

#[test]
fn fault_013_the_limits_hold_to_the_byte_and_to_the_line() {
    let head =
        |fill: usize| format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(fill)).into_bytes();
    let fill = LIMITS.size - head(0).len();
    assert!(everywhere(&head(fill)).is_ok());
    assert!(everywhere(&head(fill + 1)).is_err());
    let lines = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(count)).into_bytes();
    assert!(everywhere(&lines(10)).is_ok());
    let error = parse(&lines(11), LIMITS).expect_err("too many");
    assert_eq!(error.0, Reason::HeaderTooLarge);
    let more = Limits {
        size: 65536,
        lines: 300,
    };
    let head = parse(&lines(300), more).unwrap().unwrap();
    assert_eq!(head.request.headers().len(), 300);
    assert!(parse(&lines(301), more).is_err());
}

#[test]
fn fault_014_a_target_that_no_type_holds_is_too_large() {
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000));
    let limits = Limits {
        size: 100_000,
        lines: 10,
    };
    let error = parse(long.as_bytes(), limits).expect_err("too long");
    assert_eq!(error.0, Reason::HeaderTooLarge);
}

#[test]
fn what_becomes_of_the_connection_is_read_from_version_and_header() {
    for (head, stays) in [
        ("GET / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", true),
        (
            "GET / HTTP/1.0\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n",
            false,
        ),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive\r\nconnection: close\r\n\r\n",
            false,
        ),
    ] {
        let head_of = everywhere(head.as_bytes()).expect(head);
        assert_eq!(head_of.asked.keep_alive, stays, "{head}");
    }
}

#[test]
fn fault_022_only_who_sends_a_body_is_told_to() {
    for (head, expects) in [
        (
            "POST / HTTP/1.1\r\nexpect: 100-Continue\r\ncontent-length: 5\r\n\r\n",
            true,
        ),
        (
            "POST / HTTP/1.1\r\nexpect: x\r\ncontent-length: 5\r\n\r\n",
            false,
        ),
        (
            "POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
            false,
        ),
        (
            "POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 0\r\n\r\n",
            false,
        ),
    ] {
        let head_of = everywhere(head.as_bytes()).expect(head);
        assert_eq!(head_of.expects, expects, "{head}");
    }
}

#[test]
fn empty_lines_are_counted_in_pairs() {
    for (bytes, count) in [
        ("", 0),
        ("\r", 0),
        ("\r\n", 2),
        ("\r\n\r\nGET", 4),
        ("\r\n\n", 2),
        ("\n\r\n", 0),
        ("G\r\n", 0),
    ] {
        assert_eq!(empty_lines(bytes.as_bytes()), count, "{bytes:?}");
    }
}
