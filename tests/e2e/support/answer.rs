//! An answer as the client received it.

use std::io::{self, BufRead};

use serde_json::Value;

use super::message::{Body, Framing, Head};

/// An answer, as far as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) chunks: usize,
    pub(crate) trailers: Vec<(String, String)>,
    /// The body came to its announced end: the client can tell that it has everything.
    pub(crate) complete: bool,
    /// The statuses of the 1xx answers before it.
    pub(crate) interim: Vec<u16>,
}

impl Answer {
    /// Reads one answer to a request of that method.
    pub(crate) fn read(from: &mut impl BufRead, method: &str) -> io::Result<Self> {
        let mut interim = Vec::new();
        loop {
            let head = Head::read(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = status_of(&head)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let framing = match status {
                101 | 204 | 304 => Framing::None,
                _ if method == "HEAD" => Framing::None,
                _ if head.is_chunked() => Framing::Chunked,
                _ => head.length().map_or(Framing::Close, Framing::Length),
            };
            let body = Body::read(from, framing);
            return Ok(Self {
                status,
                head,
                body: body.bytes,
                chunks: body.chunks,
                trailers: body.trailers,
                complete: body.complete,
                interim,
            });
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reason, where the answer is ours.
    pub(crate) fn reason(&self) -> Option<String> {
        self.header("x-mamparo-reason")
    }
}

fn status_of(head: &Head) -> io::Result<u16> {
    let mut parts = head.line.splitn(3, ' ');
    let version = parts.next().unwrap_or_default();
    let status = parts.next().and_then(|status| status.parse().ok());
    status
        .filter(|_| version.starts_with("HTTP/1."))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, head.line.clone()))
}
