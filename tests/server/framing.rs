//! Faults 1 to 24 as bytes: refused with an error of ours, or understood in the one right way.

use mamparo::proxy::Reason;

use crate::fake::{Seen, Talk, door, settings, settle};

/// What came of the bytes.
#[derive(Debug)]
struct Outcome {
    /// The statuses of the answers.
    statuses: Vec<u16>,
    text: String,
    seen: Vec<Seen>,
    refused: Vec<Reason>,
}

async fn outcome(bytes: &[u8], step: usize) -> Outcome {
    let mut talk = Talk::to(&door(settings()));
    for piece in bytes.chunks(step) {
        use tokio::io::AsyncWriteExt;
        // It may have been refused and closed before its end.
        if talk.io.write_all(piece).await.is_err() {
            break;
        }
        settle().await;
    }
    let text = talk.rest().await;
    let status = |part: &str| part.get(1..4)?.parse().ok();
    let statuses = text
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|part| status(&part[1..]));
    let refused = talk.fake().refusals();
    let seen = talk.fake().seen.lock().clone();
    Outcome {
        statuses: statuses.collect(),
        text,
        seen,
        refused,
    }
}

/// Sends it whole and byte by byte. It must be refused once, with our words, and be the end.
async fn refused(bytes: impl AsRef<[u8]>, status: u16) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    for step in [bytes.len(), 1] {
        if step == 1 && bytes.len() > 500 {
            continue;
        }
        let outcome = outcome(bytes, step).await;
        assert_eq!(outcome.statuses, [status], "{shown:?}: {outcome:?}");
        assert!(
            outcome.text.contains("\"reason\""),
            "{shown:?}: {outcome:?}"
        );
        assert!(
            outcome.seen.iter().all(|seen| seen.body.is_none()),
            "{shown:?} was understood: {outcome:?}"
        );
    }
}

/// It must be understood as these requests: method, target, body.
async fn understood(bytes: impl AsRef<[u8]>, expected: &[(&str, &str, &str)]) -> Vec<Seen> {
    let mut last = Vec::new();
    for step in [bytes.as_ref().len(), 1] {
        let outcome = outcome(bytes.as_ref(), step).await;
        let body = |seen: &Seen| String::from_utf8(seen.body.clone().unwrap().to_vec()).unwrap();
        let seen: Vec<_> = outcome
            .seen
            .iter()
            .map(|seen| (seen.method.as_str(), seen.target.as_str(), body(seen)))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(method, target, body)| (*method, *target, (*body).to_owned()))
            .collect();
        assert_eq!(seen, expected, "{outcome:?}");
        assert!(outcome.refused.is_empty());
        last = outcome.seen;
    }
    last
}

fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

fn with_line(line: &str) -> String {
    format!("GET / HTTP/1.1\r\n{line}\r\nhost: a\r\n\r\n")
}

fn with_target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn fault_001_both_lengths() {
    refused(
        post(
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        400,
    )
    .await;
    refused(
        post(
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            "0\r\n\r\n",
        ),
        400,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn fault_002_two_lengths() {
    refused(
        post("content-length: 5\r\ncontent-length: 6\r\n", "hello"),
        400,
    )
    .await;
    refused(
        post("content-length: 5\r\ncontent-length: 5\r\n", "hello"),
        400,
    )
    .await;
    refused(post("content-length: 5, 5\r\n", "hello"), 400).await;
}

#[tokio::test(start_paused = true)]
async fn fault_003_lengths_that_are_no_numbers() {
    for length in [
        "+5",
        "-5",
        "5 5",
        "0x5",
        "5a",
        "00000000000000000005",
        "9223372036854775808",
        "18446744073709551621",
        "\t5",
        "",
    ] {
        refused(post(&format!("content-length: {length}\r\n"), "hello"), 400).await;
    }
    understood(
        post("content-length:  0005 \r\n", "hello"),
        &[("POST", "/", "hello")],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn fault_004_transfer_encodings() {
    for coding in [
        "xchunked",
        "chunked, identity",
        "gzip, chunked",
        "gzip",
        "\tchunked",
        "\x0bchunked",
        "Chunked",
        "chunked;",
        "",
    ] {
        refused(
            post(&format!("transfer-encoding: {coding}\r\n"), "0\r\n\r\n"),
            400,
        )
        .await;
    }
    let twice = "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n";
    refused(post(twice, "0\r\n\r\n"), 400).await;
    let twice = "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n";
    refused(post(twice, "0\r\n\r\n"), 400).await;
}

#[tokio::test(start_paused = true)]
async fn fault_005_transfer_encoding_in_http_1_0() {
    refused(
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn fault_006_chunk_sizes() {
    for body in [
        "\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "1_0\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "5g\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
    ] {
        refused(chunked(body), 400).await;
    }
    understood(
        chunked("5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\n"),
        &[("POST", "/", "hello0123456789")],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn fault_007_chunk_extensions() {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(65536));
    for body in [
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;(a)\r\nhello\r\n0\r\n\r\n",
        long.as_str(),
    ] {
        refused(chunked(body), 400).await;
    }
    understood(
        chunked("5;a;b=c;d=\"e f\"\r\nhello\r\n0;x\r\n\r\n"),
        &[("POST", "/", "hello")],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn fault_008_bare_line_ends() {
    for head in [
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "GET / HTTP/1.1\rhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\rx: b\r\n\r\n",
        "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        refused(head, 400).await;
    }
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "0\r\nx: y\n\r\n",
        "0\r\n\n",
        "0\n\r\n",
    ] {
        refused(chunked(body), 400).await;
    }
    understood(
        "\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        &[("GET", "/", "")],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn fault_009_to_012_header_lines() {
    for line in [
        "x: a\r\n b",
        "x: a\r\n\tb",
        " x: a",
        "\tx: a",
        "x : a",
        ": a",
        "x",
        "x: a\0b",
        "x: a\x01b",
        "x: a\x7fb",
        "x y: a",
        "x(y): a",
        "x\u{e4}: a",
        "content-length : 5",
        "x: a\rb",
    ] {
        refused(with_line(line), 400).await;
    }
    let seen = understood(with_line("x:  a\tb "), &[("GET", "/", "")]).await;
    assert_eq!(seen[0].headers["x"], "a\tb");
}

#[tokio::test(start_paused = true)]
async fn fault_013_large_heads() {
    let wide = with_line(&format!("x: {}", "y".repeat(64 * 1024)));
    refused(&wide, 431).await;
    let many = with_line(&vec!["x: y"; 100].join("\r\n"));
    refused(&many, 431).await;
    let just = with_line(&vec!["x: y"; 99].join("\r\n"));
    understood(&just, &[("GET", "/", "")]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_013_more_headers_than_the_library_takes_by_itself() {
    let mut more = settings();
    more.max_headers = 300;
    let mut talk = Talk::to(&door(more));
    talk.send(with_line(&vec!["x: y"; 299].join("\r\n"))).await;
    assert!(talk.some().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn fault_014_targets() {
    refused(with_target(&format!("/{}", "a".repeat(70_000))), 431).await;
    for target in [
        "/#a",
        "/a#",
        "/a b",
        "/a\\b",
        "/a\tb",
        "/a\0b",
        "a",
        "?a",
        "",
        "/\u{7f}",
        "http://a/#b",
    ] {
        refused(with_target(target), 400).await;
    }
    for target in [
        "//b/c",
        "/../a/./b",
        "/a%2fb%00",
        "/?q=//",
        "/~a_b-c.d!$&'()*+,;=:@",
    ] {
        understood(with_target(target), &[("GET", target, "")]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn fault_015_hosts() {
    for host in [
        "",
        "host:\r\n",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nhost: b\r\n",
        "host: u@a\r\n",
        "host: a/b\r\n",
        "host: a b\r\n",
        "host: a,b\r\n",
        "host: a:b\r\n",
    ] {
        refused(format!("GET / HTTP/1.1\r\n{host}\r\n"), 400).await;
    }
    for target in ["*", "http://b/", "http://u@a/", "a:80", "ftp://a/"] {
        refused(with_target(target), 400).await;
    }
    understood(with_target("http://a/b"), &[("GET", "http://a/b", "")]).await;
    understood(
        "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        &[("OPTIONS", "*", "")],
    )
    .await;
    understood("GET / HTTP/1.0\r\n\r\n", &[("GET", "/", "")]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_016_methods() {
    for head in [
        "G(T / HTTP/1.1\r\nhost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET\0 / HTTP/1.1\r\nhost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n",
    ] {
        refused(head, 400).await;
    }
    understood("BREW / HTTP/1.1\r\nhost: a\r\n\r\n", &[("BREW", "/", "")]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_017_other_protocols() {
    for head in [
        "GET /\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET / HTTP/1.2\r\nhost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        "GET / http/1.1\r\nhost: a\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
    ] {
        refused(head, 400).await;
    }
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400).await;
    refused(b"\x00\x01\x02\x03\xff\xfe", 400).await;
}

#[tokio::test(start_paused = true)]
async fn fault_018_and_020_bodies_are_framed_and_what_follows_is_the_next_request() {
    let next = "GET /next HTTP/1.1\r\nhost: a\r\n\r\n";
    let get = "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    understood(
        format!("{get}{next}"),
        &[("GET", "/", "hello"), ("GET", "/next", "")],
    )
    .await;
    let chunks = chunked("5\r\nhello\r\n0\r\n\r\n");
    understood(
        format!("{chunks}{next}{chunks}"),
        &[
            ("POST", "/", "hello"),
            ("GET", "/next", ""),
            ("POST", "/", "hello"),
        ],
    )
    .await;
    // The rest is no request, so it is refused, after the answer.
    let outcome = outcome(post("content-length: 2\r\n", "hello").as_bytes(), 1000).await;
    assert_eq!(outcome.statuses[0], 200);
    assert_eq!(outcome.seen.len(), 1);
    assert_eq!(outcome.seen[0].body.as_deref(), Some(&b"he"[..]));
}

#[tokio::test(start_paused = true)]
async fn fault_020_a_refused_request_ends_the_connection() {
    let good = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
    ] {
        let outcome = outcome(format!("{good}{bad}{good}").as_bytes(), 1000).await;
        assert_eq!(outcome.statuses, [200, 400], "{bad:?} {outcome:?}");
        assert_eq!(outcome.seen.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_022_expectations() {
    refused(
        post("expect: 200-ok\r\ncontent-length: 5\r\n", "hello"),
        400,
    )
    .await;
    let mut talk = Talk::to(&door(settings()));
    talk.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    assert_eq!(talk.some().await, "HTTP/1.1 100 Continue\r\n\r\n");
    talk.send("hello").await;
    assert!(talk.some().await.starts_with("HTTP/1.1 200"));
    // Refused without the body read: no 100, and the connection ends.
    let mut talk = Talk::to(&door(settings()));
    talk.send(
        "POST /early HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    )
    .await;
    assert!(talk.rest().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn fault_023_trailers_come_apart_from_the_headers() {
    let body = "5\r\nhello\r\n0\r\nx: y\r\ncontent-length: 7\r\n\r\n";
    let seen = understood(chunked(body), &[("POST", "/", "hello")]).await;
    assert_eq!(seen[0].trailers.as_ref().unwrap()["x"], "y");
    assert!(seen[0].headers.get("x").is_none());
    refused(
        chunked(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(65536))),
        400,
    )
    .await;
    refused(
        chunked(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(1000))),
        400,
    )
    .await;
}

/// Requests put together from good and bad parts, cut into pieces anywhere: whatever comes, the
/// connection ends in time, each answer belongs to a request that was seen or is the last word.
#[tokio::test(start_paused = true)]
async fn fault_001_to_020_random_walks() {
    const LINES: &[&str] = &[
        "host: a",
        "host: a",
        "host: a",
        "host: b",
        "content-length: 5",
        "content-length: 0",
        "transfer-encoding: chunked",
        "transfer-encoding: gzip",
        "x: y",
        "x: #\\",
        " folded",
        "bad",
        "connection: close",
        "expect: 100-continue",
        "te: trailers",
        "content-length: 5x",
        "upgrade: h2c",
    ];
    const BODIES: &[&str] = &[
        "",
        "hello",
        "5\r\nhello\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "0\r\nx: y\r\n\r\n",
        "5;x\r\nhello\r\n",
        "\r\n",
        "zz",
    ];
    const FIRST: &[&str] = &[
        "GET / HTTP/1.1",
        "POST / HTTP/1.1",
        "POST /early HTTP/1.1",
        "GET / HTTP/1.0",
        "GET /after/30 HTTP/1.1",
        "GET",
    ];
    const ENDS: &[&str] = &["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n"];
    for seed in 0..1500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = String::new();
        for _ in 0..random.usize(1..4) {
            bytes += random.choice(FIRST).unwrap();
            bytes += random.choice(ENDS).unwrap();
            bytes += "host: a\r\n";
            for _ in 0..random.usize(0..3) {
                bytes += LINES[random.usize(0..LINES.len())];
                bytes += random.choice(ENDS).unwrap();
            }
            bytes += "\r\n";
            bytes += random.choice(BODIES).unwrap();
        }
        let door = door(settings());
        let mut talk = Talk::to(&door);
        let mut rest = bytes.as_bytes();
        while !rest.is_empty() {
            use tokio::io::AsyncWriteExt;
            let (piece, behind) = rest.split_at(random.usize(1..=rest.len()));
            rest = behind;
            if talk.io.write_all(piece).await.is_err() {
                break;
            }
            if random.bool() {
                settle().await;
            }
        }
        let text = talk.rest().await;
        let seen = talk.fake().seen.lock().len();
        let refused = talk.fake().refused.lock().len();
        let answers = text
            .split("HTTP/1.")
            .skip(1)
            .filter(|part| part.as_bytes()[2].is_ascii_digit())
            .count();
        let continues = text.matches("100 Continue").count();
        let unseen = text.matches("{\"reason\"").count();
        // A request without its body is both seen and refused.
        let broken = talk
            .fake()
            .seen
            .lock()
            .iter()
            .filter(|seen| seen.body.is_none() && seen.target != "/early")
            .count();
        assert!(refused <= 1, "{seed}: {bytes:?} {text}");
        assert!(
            answers - continues + broken >= seen,
            "{seed}: {bytes:?} {text}"
        );
        assert!(
            answers - continues <= seen + unseen,
            "{seed}: {bytes:?} {text}"
        );
        assert!(talk.elapsed().as_secs() <= 3675, "{seed}: {bytes:?}");
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert_eq!(door.open(), 0, "{seed}: {bytes:?}");
    }
}
