use super::*;

/// The data and the trailers of a body that comes in pieces of so many bytes, and what is behind it.
fn read(
    mut chunked: Chunked,
    bytes: &[u8],
    step: usize,
) -> Result<(String, Option<HeaderMap>, Vec<u8>), &'static str> {
    let mut buffer = BytesMut::new();
    let mut data = String::new();
    let mut pieces = bytes.chunks(step);
    loop {
        match chunked.next(&mut buffer).map_err(|wrong| wrong.0)? {
            Piece::Data(some) => data.push_str(std::str::from_utf8(&some).unwrap()),
            Piece::End(trailers) => {
                assert!(chunked.is_complete());
                buffer.extend_from_slice(&pieces.collect::<Vec<_>>().concat());
                return Ok((data, trailers, buffer.to_vec()));
            }
            Piece::More => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => return Err("incomplete"),
            },
        }
    }
}

fn everywhere(
    chunked: fn() -> Chunked,
    bytes: &str,
) -> Result<(String, Option<HeaderMap>, Vec<u8>), &'static str> {
    let whole = read(chunked(), bytes.as_bytes(), bytes.len().max(1));
    for step in [1, 2, 3, 7, 16] {
        assert_eq!(read(chunked(), bytes.as_bytes(), step), whole, "{step}");
    }
    whole
}

fn strict() -> Chunked {
    Chunked::strict(1024, 10)
}

#[test]
fn a_body_ends_where_its_last_chunk_says_and_not_behind_it() {
    let body = "5\r\nhello\r\n00A;x=\"\\\"\";y\r\n0123456789\r\n0\r\nx: y\r\nX: z\r\n\r\nGET";
    let (data, trailers, rest) = everywhere(strict, body).unwrap();
    assert_eq!(
        (data.as_str(), rest.as_slice()),
        ("hello0123456789", &b"GET"[..])
    );
    let trailers = trailers.unwrap();
    let values: Vec<_> = trailers.get_all("x").iter().collect();
    assert_eq!(values, ["y", "z"]);
    let empty = everywhere(strict, "0\r\n\r\n").unwrap();
    assert_eq!(empty, (String::new(), None, Vec::new()));
}

#[test]
fn fault_006_to_008_a_request_is_read_strictly() {
    for body in [
        "\r\n",
        "+5\r\n",
        " 5\r\n",
        "5 \r\n",
        "0x5\r\n",
        "1_0\r\n",
        "00000000000000005\r\n",
        "fffffffffffffffff\r\n",
        "ffffffffffffffff\r\n",
        "5;\r\n",
        "5; a\r\n",
        "5;a=\r\n",
        "5;a=\"\n\"\r\n",
        "5;a\n",
        "5\n",
        "5\r\nhello!",
        "5\r\nhello\n",
        "0\r\n\n",
        "0\r\nx: y\n\r\n",
        "0\r\nx y\r\n\r\n",
        "0\r\n: y\r\n\r\n",
    ] {
        let wrong = everywhere(strict, body).unwrap_err();
        assert_ne!(wrong, "incomplete", "{body}");
    }
    let long = format!("5;{}\r\n", "a".repeat(65536));
    let many = format!("0\r\n{}", "x: y\r\n".repeat(11));
    let large = format!("0\r\nx: {}", "y".repeat(1100));
    for body in [long, many, large] {
        assert_ne!(everywhere(strict, &body).unwrap_err(), "incomplete");
    }
}

#[test]
fn an_answer_may_pad_its_sizes_and_say_what_it_likes_in_extensions() {
    let body = "5  \r\nhello\r\n1 ; any thing\r\n!\r\n0 \r\n\r\n";
    assert_eq!(everywhere(Chunked::lenient, body).unwrap().0, "hello!");
    for body in [
        "5 5\r\n",
        "5;a\n",
        "5;a\x01\r\n",
        "5\n",
        " 5\r\n",
        "0\r\n\n",
    ] {
        let wrong = everywhere(Chunked::lenient, body).unwrap_err();
        assert_ne!(wrong, "incomplete", "{body}");
    }
}
