//! What an upstream does with one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::message::Received;

/// One act of a script. Without anything else said: reads the whole request, answers, keeps the
/// connection.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(super) at: At,
    pub(super) waits: Vec<Wait>,
    pub(super) content: Content,
    /// A pause after each byte.
    pub(super) drip: Option<Duration>,
    /// The head goes at once; only the body drips.
    pub(super) whole_head: bool,
    pub(super) end: End,
}

/// When it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// On a connection, before it reads.
    Accepted,
    /// When the head of a request is there; its body is not read before.
    Head,
    /// When the request is complete.
    Request,
}

#[derive(Debug, Clone)]
pub(super) enum Wait {
    Time(Duration),
    Gate(Gate),
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Nothing,
    Raw(Vec<u8>),
    Echo,
    Made {
        status: u16,
        headers: Vec<String>,
        body: Vec<u8>,
        chunks: Option<Vec<Vec<u8>>>,
        trailers: Vec<String>,
    },
}

/// What happens to the connection afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Keep,
    Close,
    Reset,
    /// Nothing more, until the peer closes.
    Stall,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self::new(status)
    }
}

impl Reply {
    /// An answer of that status; its body is the status in digits.
    pub(crate) fn new(status: u16) -> Self {
        let body = match status {
            204 | 304 => Vec::new(),
            status => status.to_string().into_bytes(),
        };
        Self::of(Content::Made {
            status,
            headers: Vec::new(),
            body,
            chunks: None,
            trailers: Vec::new(),
        })
    }

    /// These bytes, and then the end of the connection.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::of(Content::Raw(bytes.as_ref().to_vec())).then_close()
    }

    /// 200 with the received head as the body.
    pub(crate) fn echo() -> Self {
        Self::of(Content::Echo)
    }

    /// Closes a connection as soon as it is there.
    pub(crate) fn close_on_accept() -> Self {
        Self {
            at: At::Accepted,
            ..Self::close()
        }
    }

    /// Closes once the request is there.
    pub(crate) fn close() -> Self {
        Self::of(Content::Nothing).then_close()
    }

    /// Resets once the request is there.
    pub(crate) fn reset() -> Self {
        Self::of(Content::Nothing).then_reset()
    }

    /// Reads the request and never answers.
    pub(crate) fn stall() -> Self {
        Self::of(Content::Nothing).then_stall()
    }

    /// Closes in the midst of the head.
    pub(crate) fn half_head() -> Self {
        Self::raw("HTTP/1.1 200 OK\r\ncontent-le")
    }

    /// Announces ten bytes of body, sends five and closes.
    pub(crate) fn cut_body() -> Self {
        Self::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
    }

    fn of(content: Content) -> Self {
        Self {
            at: At::Request,
            waits: Vec::new(),
            content,
            drip: None,
            whole_head: false,
            end: End::Keep,
        }
    }

    /// With a further header line, `name: value`.
    pub(crate) fn header(mut self, line: &str) -> Self {
        if let Content::Made { headers, .. } = &mut self.content {
            headers.push(line.to_owned());
        }
        self
    }

    pub(crate) fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        if let Content::Made { body, .. } = &mut self.content {
            *body = bytes.as_ref().to_vec();
        }
        self
    }

    /// With a chunked body.
    pub(crate) fn chunked(mut self, parts: &[&str]) -> Self {
        if let Content::Made { chunks, .. } = &mut self.content {
            *chunks = Some(parts.iter().map(|part| part.as_bytes().to_vec()).collect());
        }
        self
    }

    /// With a trailer after the chunked body, `name: value`.
    pub(crate) fn trailer(mut self, line: &str) -> Self {
        if let Content::Made { trailers, .. } = &mut self.content {
            trailers.push(line.to_owned());
        }
        self
    }

    /// So long after the request.
    pub(crate) fn after(mut self, time: Duration) -> Self {
        self.waits.push(Wait::Time(time));
        self
    }

    /// So many milliseconds after the request.
    pub(crate) fn after_ms(self, milliseconds: u64) -> Self {
        self.after(Duration::from_millis(milliseconds))
    }

    /// Once the gate is open.
    pub(crate) fn when(mut self, gate: &Gate) -> Self {
        self.waits.push(Wait::Gate(gate.clone()));
        self
    }

    /// As soon as the head of the request is there.
    pub(crate) fn early(mut self) -> Self {
        self.at = At::Head;
        self
    }

    /// Byte by byte, with a pause after each.
    pub(crate) fn dripping(mut self, pause: Duration) -> Self {
        self.drip = Some(pause);
        self
    }

    /// The head at once, the body byte by byte.
    pub(crate) fn dripping_body(mut self, pause: Duration) -> Self {
        self.whole_head = true;
        self.dripping(pause)
    }

    pub(crate) fn then_keep(mut self) -> Self {
        self.end = End::Keep;
        self
    }

    pub(crate) fn then_close(mut self) -> Self {
        self.end = End::Close;
        self
    }

    pub(crate) fn then_reset(mut self) -> Self {
        self.end = End::Reset;
        self
    }

    pub(crate) fn then_stall(mut self) -> Self {
        self.end = End::Stall;
        self
    }

    /// The bytes that answer this request.
    pub(super) fn bytes(&self, received: &Received) -> Vec<u8> {
        let head_only = received.method == "HEAD";
        match &self.content {
            Content::Nothing => Vec::new(),
            Content::Raw(bytes) => bytes.clone(),
            Content::Echo => {
                let mut body = received.head.line.clone();
                for (name, value) in &received.head.headers {
                    body.push_str(&format!("\n{name}: {value}"));
                }
                plain(200, &[], body.as_bytes(), head_only)
            }
            Content::Made {
                status,
                headers,
                body,
                chunks: None,
                ..
            } => plain(*status, headers, body, head_only),
            Content::Made {
                status,
                headers,
                chunks: Some(chunks),
                trailers,
                ..
            } => {
                let mut bytes = head(*status, headers);
                bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                if head_only {
                    return bytes;
                }
                for chunk in chunks {
                    bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n");
                for line in trailers {
                    bytes.extend_from_slice(format!("{line}\r\n").as_bytes());
                }
                bytes.extend_from_slice(b"\r\n");
                bytes
            }
        }
    }
}

fn head(status: u16, headers: &[String]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for line in headers {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.into_bytes()
}

fn plain(status: u16, headers: &[String], body: &[u8], head_only: bool) -> Vec<u8> {
    let mut bytes = head(status, headers);
    if !matches!(status, 204 | 304) {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    if !head_only {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// Holds answers back until the test opens it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
