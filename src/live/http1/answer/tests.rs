use super::*;

fn parsed(text: &str) -> Result<Option<(Response<()>, usize)>, Malformed> {
    let bytes = text.as_bytes();
    let copy = |length| Bytes::copy_from_slice(&bytes[..length]);
    parse(bytes, copy)
}

fn answer(lines: &str) -> Response<()> {
    let text = format!("HTTP/1.1 {lines}\r\n");
    let (answer, length) = parsed(&text).unwrap().unwrap();
    assert_eq!(length, text.len());
    answer
}

#[test]
fn a_head_is_taken_apart_and_what_is_behind_it_left() {
    let text = "HTTP/1.1 200 OK\r\nServer: a\r\nx: 1\r\nx: 2\r\n\r\nbody";
    let (head, length) = parsed(text).unwrap().unwrap();
    assert_eq!(&text[length..], "body");
    assert_eq!(
        (head.status(), head.version()),
        (StatusCode::OK, Version::HTTP_11)
    );
    assert_eq!(head.headers()["server"], "a");
    assert_eq!(head.headers().get_all("x").iter().count(), 2);
    assert!(head.extensions().is_empty());
    assert!(parsed(&text[..length - 1]).unwrap().is_none());
    let (old, _) = parsed("HTTP/1.0 404 Gone Fishing\r\n\r\n")
        .unwrap()
        .unwrap();
    assert_eq!(old.version(), Version::HTTP_10);
    let words = old.extensions().get::<ReasonPhrase>().unwrap();
    assert_eq!(words.0, "Gone Fishing");
}

#[test]
fn what_is_no_head_is_refused_as_soon_as_it_is_seen() {
    for text in [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/1.1 2x0 OK\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n",
        "HTTP/1.1 200 OK\r\na b: c\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/1.1 099 Less\r\n\r\n",
    ] {
        assert!(parsed(text).is_err(), "{text}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    let error = parsed(&many).unwrap_err();
    assert_eq!(error.0, "the answer has more than 100 header lines");
}

#[test]
fn the_body_ends_as_the_head_says() {
    let how = |lines: &str, method: Method| {
        let Framing { body, keeps_alive } = framing(&answer(lines), &method).unwrap();
        let body = match body {
            Decoder::Empty => "empty".to_owned(),
            Decoder::Length(length) => length.to_string(),
            Decoder::Chunked(_) => "chunked".to_owned(),
            Decoder::UntilEnd => "until the end".to_owned(),
        };
        (body, keeps_alive)
    };
    let chunked = "200 OK\r\ntransfer-encoding: Chunked\r\n";
    for (lines, body, keeps_alive) in [
        ("200 OK\r\ncontent-length: 5\r\n", "5", true),
        (
            "200 OK\r\ncontent-length: 5\r\nconnection: x, Close\r\n",
            "5",
            false,
        ),
        (chunked, "chunked", true),
        (
            "200 OK\r\ntransfer-encoding: gzip\r\n",
            "until the end",
            false,
        ),
        ("200 OK\r\n", "until the end", false),
        ("204 No Content\r\n", "empty", true),
        ("304 Not Modified\r\ncontent-length: 5\r\n", "empty", true),
        ("101 Switching Protocols\r\n", "empty", false),
    ] {
        assert_eq!(
            how(lines, Method::GET),
            (body.to_owned(), keeps_alive),
            "{lines}"
        );
    }
    assert_eq!(how(chunked, Method::HEAD), ("empty".to_owned(), true));
    let wrong = answer("200 OK\r\ncontent-length: 5, 5\r\n");
    assert!(framing(&wrong, &Method::GET).is_err());
}

#[test]
fn an_old_connection_lives_only_if_it_says_so() {
    for (line, lives) in [
        ("", false),
        ("connection: Keep-Alive\r\n", true),
        ("connection: close\r\n", false),
    ] {
        let text = format!("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n{line}\r\n");
        let (head, _) = parsed(&text).unwrap().unwrap();
        assert_eq!(
            framing(&head, &Method::GET).unwrap().keeps_alive,
            lives,
            "{line}"
        );
    }
}

#[test]
fn the_end_of_a_head_is_found_however_it_comes() {
    for head in [
        "HTTP/1.1 200 OK\r\na: b\r\n\r\n",
        "HTTP/1.1 200 OK\na: b\n\n",
    ] {
        let text = format!("{head}body\r\n\r\n");
        for seen in 0..head.len() {
            let found = length_by_lines(text.as_bytes(), seen);
            assert_eq!(found, Some(head.len()), "{seen}");
        }
        assert_eq!(length_by_lines(&text.as_bytes()[..head.len() - 1], 0), None);
    }
}
