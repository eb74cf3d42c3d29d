use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn scan() -> Scan {
    Scan::new(1024, 10)
}

/// What is left of `bytes` behind the first request, or the sentence; in pieces of `step` bytes.
fn rest(bytes: &[u8], step: usize) -> Result<&[u8], &'static str> {
    let mut scan = scan();
    let mut taken = 0;
    for piece in bytes.chunks(step) {
        let some = scan.take(piece).map_err(|(_, sentence)| sentence)?;
        taken += some;
        if some < piece.len() {
            break;
        }
    }
    if scan.is_complete() {
        Ok(&bytes[taken..])
    } else {
        Err("incomplete")
    }
}

fn everywhere(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let whole = rest(bytes, bytes.len());
    for step in [1, 2, 3, 7, 16] {
        assert_eq!(rest(bytes, step), whole, "in pieces of {step}");
    }
    whole
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}").into_bytes()
}

#[test]
fn fault_018_and_020_a_request_ends_where_its_length_says() {
    for (headers, body) in [
        ("", ""),
        ("content-length: 0\r\n", ""),
        ("Content-Length:5\r\n", "hello"),
        ("transfer-encoding: chunked\r\n", "0\r\n\r\n"),
        (
            "Transfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n00A;x=\"\\\"\";y\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
        ),
    ] {
        let mut bytes = post(headers, body);
        assert_eq!(everywhere(&bytes), Ok(&b""[..]), "{headers}{body}");
        bytes.extend_from_slice(GET);
        assert_eq!(everywhere(&bytes), Ok(GET), "{headers}{body}");
    }
    let mut scan = scan();
    for _ in 0..100 {
        assert_eq!(scan.take(GET), Ok(GET.len()));
        scan.next();
        assert!(scan.at_start());
    }
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
        "content-length: 00000000000000000005\r\n",
        "content-length: 9223372036854775808\r\n",
        "content-length: 99999999999999999999\r\n",
        "content-length:\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding:\tchunked\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding: Chunked\r\n",
        "transfer-encoding:\r\n",
    ] {
        let error = everywhere(&post(headers, "")).expect_err(headers);
        assert_ne!(error, "incomplete", "{headers}");
    }
}

#[test]
fn fault_006_to_008_chunks_are_read_strictly() {
    for body in [
        "\r\n",
        "+5\r\n",
        "-5\r\n",
        " 5\r\n",
        "5 \r\n",
        "0x5\r\n",
        "1_0\r\n",
        "5g\r\n",
        "00000000000000005\r\n",
        "fffffffffffffffff\r\n",
        "ffffffffffffffff\r\n",
        "5;\r\n",
        "5; a\r\n",
        "5;a=\r\n",
        "5;a b\r\n",
        "5;\"a\"\r\n",
        "5;a=\"\n\"\r\n",
        "5;a=\"\r\n\"\r\n",
        "5;a\n",
        "5\n",
        "5\rx",
        "5\r\nhello!",
        "5\r\nhello\n",
        "0\r\n\n",
        "0\r\nx: y\n\r\n",
    ] {
        let error = everywhere(&post("transfer-encoding: chunked\r\n", body)).expect_err(body);
        assert_ne!(error, "incomplete", "{body}");
    }
    for long in [
        format!("5;{}\r\n", "a".repeat(65536)),
        format!("0\r\n{}", "x: y\r\n".repeat(11)),
    ] {
        let error = everywhere(&post("transfer-encoding: chunked\r\n", &long)).expect_err("long");
        assert_ne!(error, "incomplete");
    }
}

#[test]
fn fault_008_and_014_and_017_heads_that_the_parser_would_take() {
    for head in [
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /#a HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a\\b HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    ] {
        let error = everywhere(head.as_bytes()).expect_err(head);
        assert_ne!(error, "incomplete", "{head}");
    }
}

#[test]
fn fault_013_the_limits_hold_to_the_byte_and_to_the_line() {
    let head =
        |fill: usize| format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(fill)).into_bytes();
    let fill = 1024 - head(0).len();
    assert_eq!(everywhere(&head(fill)), Ok(&b""[..]));
    assert!(everywhere(&head(fill + 1)).is_err());
    let lines = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(count)).into_bytes();
    assert_eq!(everywhere(&lines(10)), Ok(&b""[..]));
    let mut scan = scan();
    assert_eq!(
        scan.take(&lines(11)).expect_err("too many").0,
        Reason::HeaderTooLarge
    );
}

#[test]
fn empty_lines_before_a_request_do_not_begin_it() {
    let mut scan = scan();
    scan.take(b"\r\n\r").expect("fine");
    assert!(scan.at_start());
    scan.take(b"\nG").expect("fine");
    assert!(scan.in_head());
}

#[test]
fn the_first_line_feed_is_found_wherever_it_is() {
    let mut random = fastrand::Rng::with_seed(7);
    for length in 0..40 {
        for _ in 0..200 {
            // Neighbours of the line feed, where a borrow could mislead.
            let byte = |_| {
                *b"\n\x0b\x09\x8a\x00\xff\x0c"
                    .get(random.usize(0..20))
                    .unwrap_or(&b'\x0b')
            };
            let bytes: Vec<u8> = (0..length).map(byte).collect();
            let plain = bytes.iter().position(|byte| *byte == b'\n');
            assert_eq!(line_end(&bytes), plain, "{bytes:?}");
        }
    }
}
