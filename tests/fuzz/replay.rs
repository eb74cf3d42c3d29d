//! Bodies that are sent again: whatever the client's parts and wherever a try breaks off, each try gets
//! exactly the client's bytes, and nothing of them is kept afterwards.

use bolero::TypeGenerator;

use super::chance;
use super::stage::{Play, Stage};
use super::strict;

/// What becomes of one try.
#[derive(Debug, Clone, Copy, TypeGenerator)]
enum Fate {
    /// The endpoint closes after so many bytes of the request, or the whole.
    Drop(u16),
    /// It answers 503 when it has the whole.
    Busy,
    /// The same, and closes.
    BusyAndGone,
    /// It says 100 first.
    Continue,
}

/// One request.
#[derive(Debug, TypeGenerator)]
struct Case {
    /// The parts that the client's bytes come in.
    letter: u8,
    chunks: Vec<u16>,
    chunked: bool,
    expect: bool,
    trailers: bool,
    /// The client leaves before the end.
    cut: Option<u16>,
    fates: Vec<Fate>,
}

/// Bytes that are kept for another try.
const MAX_BODY: usize = 4096;

impl Case {
    /// The body: no two places near each other look alike.
    fn body(&self) -> Vec<u8> {
        let length: usize = self.sizes().sum();
        (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    fn sizes(&self) -> impl Iterator<Item = usize> {
        let sizes = self.chunks.iter().take(12);
        sizes.map(|size| usize::from(*size) % 1500 + 1)
    }

    fn bytes(&self) -> Vec<u8> {
        let body = self.body();
        let mut bytes = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n".to_vec();
        if self.expect {
            bytes.extend(b"expect: 100-continue\r\n");
        }
        if !self.chunked {
            bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend(body);
            return bytes;
        }
        bytes.extend(b"transfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n");
        let mut rest = &body[..];
        for size in self.sizes() {
            let (chunk, after) = rest.split_at(size);
            rest = after;
            bytes.extend(format!("{size:x}\r\n").as_bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        let trailers: &[u8] = if self.trailers { b"x-t: 1\r\n" } else { b"" };
        bytes.extend([b"0\r\n", trailers, b"\r\n"].concat());
        bytes
    }

    fn plays(&self) -> Vec<Play> {
        let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy";
        let plays = self.fates.iter().take(3).map(|fate| match fate {
            Fate::Drop(limit) => Play::Drop(usize::from(*limit) % 8000),
            Fate::Busy => Play::Answer(busy.to_vec()),
            Fate::BusyAndGone => Play::Last(busy.to_vec(), 0),
            Fate::Continue => Play::Last([b"HTTP/1.1 100 Continue\r\n\r\n", &busy[..]].concat(), 3),
        });
        plays.collect()
    }
}

#[test]
fn fuzz_replays() {
    let retry = format!(
        "timeouts: {{ request: 60s, idle: 3s }}\n    retry: {{ max_attempts: 4, methods: all, budget: off, \
         backoff: {{ base: 1ms }}, max_body: {MAX_BODY}B }}"
    );
    let stage = Stage::new("inbound", &retry);
    let target = |case: &Case| {
        let (mut bytes, body, plays) = (case.bytes(), case.body(), case.plays());
        let whole = bytes.len();
        if let Some(cut) = case.cut {
            bytes.truncate(usize::from(cut) % whole);
        }
        let failures = plays.len();
        let (back, seen) = stage.run(&bytes, case.letter, plays);
        assert_eq!(seen.wrong, []);
        assert!(seen.whole.len() + seen.parts.len() <= 4, "{seen:#?}");
        for request in &seen.whole {
            assert_eq!(bytes.len(), whole, "completed though the client never did");
            assert_eq!(request.body, body);
            let trailers = usize::from(case.chunked && case.trailers);
            assert_eq!(request.trailers.len(), trailers, "{request:?}");
        }
        for part in &seen.parts {
            assert!(body.starts_with(&part.body), "{part:#?}");
        }
        // A try that has failed is made again, as long as the client is there and its body was kept.
        if bytes.len() == whole && body.len() <= MAX_BODY {
            let strict::Begin::Whole(answer, _) = strict::answer(&back, b"POST", false) else {
                panic!("{}", String::from_utf8_lossy(&back));
            };
            let interim = answer.line[1][0] == b'1';
            assert!(
                interim || answer.status() == 200,
                "{failures} failures: {answer:#?}"
            );
        }
    };
    // A body of thousands of bytes that come one by one takes its time.
    chance::fixed_values(60, 12, target);
    bolero::check!()
        .with_type::<Case>()
        .with_iterations(chance::iterations())
        .for_each(target);
}
