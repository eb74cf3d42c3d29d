//! HTTP/1.1 messages as both ends of the pipeline write and read them: by hand, so that a test can stop
//! in the middle of one.

use tokio::io::{AsyncRead, AsyncReadExt};

/// The head of a request or an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// `GET /path HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub(crate) line: String,
    /// By lower-case name, in their order.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The value of a header that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).map(|value| value.parse().expect("a number"))
    }

    /// The second word of the first line: the target of a request, the status of an answer.
    pub(crate) fn second(&self) -> &str {
        self.line.split(' ').nth(1).expect("three words")
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let line = lines.next().expect("a first line").to_owned();
        let headers = lines.filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(':').expect("a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        let headers = headers.collect();
        Self { line, headers }
    }
}

/// Reads messages off one direction of a connection.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    io: R,
    ahead: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self {
            io,
            ahead: Vec::new(),
        }
    }

    /// The next head; `None` where the connection ended or broke before it was complete.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        loop {
            let end = self.ahead.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let text: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Some(Head::parse(std::str::from_utf8(&text).expect("text")));
            }
            self.more().await?;
        }
    }

    /// The body that belongs to a head, and whether it came to its end. `bare`: nothing follows a head
    /// without framing (requests); otherwise all that comes up to the connection's end.
    pub(crate) async fn body(&mut self, head: &Head, bare: bool) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        if head.get("transfer-encoding") == Some("chunked") {
            let complete = self.chunks(&mut body).await.is_some();
            return (body, complete);
        }
        let length = match head.number("content-length") {
            Some(length) => usize::try_from(length).expect("a length"),
            None if bare => 0,
            None => usize::MAX,
        };
        while self.ahead.len() < length {
            if self.more().await.is_none() {
                return (std::mem::take(&mut self.ahead), length == usize::MAX);
            }
        }
        (self.ahead.drain(..length).collect(), true)
    }

    /// Waits for the end of the connection.
    pub(crate) async fn end(&mut self) {
        while self.more().await.is_some() {}
    }

    /// One chunk; the last is empty.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line().await?;
        let size = usize::from_str_radix(line.split(';').next()?, 16).expect("a size");
        while self.ahead.len() < size + 2 {
            self.more().await?;
        }
        let chunk = self.ahead.drain(..size).collect();
        self.ahead.drain(..2);
        Some(chunk)
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(line.split(';').next()?, 16).expect("a size");
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Some(());
            }
            while self.ahead.len() < size + 2 {
                if self.more().await.is_none() {
                    body.append(&mut self.ahead);
                    return None;
                }
            }
            body.extend(self.ahead.drain(..size));
            self.ahead.drain(..2);
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let mut some = [0; 4096];
        match self.io.read(&mut some).await {
            Ok(0) | Err(_) => None,
            Ok(bytes) => {
                self.ahead.extend_from_slice(&some[..bytes]);
                Some(())
            }
        }
    }
}
