//! HTTP/1.1 read byte by byte, by hand: what the proxy sends is judged by nobody's library.

use std::io::{self, BufRead, Read};

/// The first line and the headers of a message, as they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads up to the empty line. `None`: the peer closed before the first byte.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(line) = read_line(from)? else {
            return Ok(None);
        };
        let headers = read_headers(from)?;
        Ok(Some(Self { line, headers }))
    }

    /// The only header of that name; several are joined with `|`, so that they show.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        find(&self.headers, name)
    }

    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.header(name).is_some_and(|value| {
            value
                .split([',', '|'])
                .any(|one| one.trim().eq_ignore_ascii_case(token))
        })
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.has_token("transfer-encoding", "chunked")
    }

    pub(crate) fn length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }
}

/// The value of a header; several are joined with `|`.
pub(crate) fn find(headers: &[(String, String)], name: &str) -> Option<String> {
    let found: Vec<&str> = headers
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect();
    (!found.is_empty()).then(|| found.join("|"))
}

/// One line without its end. `None`: nothing more comes.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if !line.ends_with(b"\r\n") {
        let line = String::from_utf8_lossy(&line).into_owned();
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, line));
    }
    line.truncate(line.len() - 2);
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

fn read_headers(from: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line.clone()))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// How the body of a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(usize),
    Chunked,
    Close,
}

/// A body as far as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) chunks: usize,
    pub(crate) trailers: Vec<(String, String)>,
    /// It came to the end that its framing announces.
    pub(crate) complete: bool,
}

impl Body {
    pub(crate) fn read(from: &mut impl BufRead, framing: Framing) -> Self {
        let mut body = Self::default();
        body.complete = body.fill(from, framing).is_ok();
        body
    }

    fn fill(&mut self, from: &mut impl BufRead, framing: Framing) -> io::Result<()> {
        match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.take(from, length),
            Framing::Close => from.read_to_end(&mut self.bytes).map(drop),
            Framing::Chunked => loop {
                let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16)
                    .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, line.clone()))?;
                if size == 0 {
                    self.trailers = read_headers(from)?;
                    return Ok(());
                }
                self.chunks += 1;
                self.take(from, size)?;
                if read_line(from)?.as_deref() != Some("") {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            },
        }
    }

    fn take(&mut self, from: &mut impl BufRead, length: usize) -> io::Result<()> {
        let before = self.bytes.len();
        from.take(length as u64).read_to_end(&mut self.bytes)?;
        if self.bytes.len() - before < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// A request as an upstream received it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The body came to its end.
    pub(crate) complete: bool,
    /// Which connection it came over, from 0.
    pub(crate) connection: usize,
}

impl Received {
    pub(crate) fn new(head: Head, connection: usize) -> Self {
        let mut line = head.line.split(' ').map(str::to_owned);
        Self {
            method: line.next().unwrap_or_default(),
            target: line.next().unwrap_or_default(),
            head,
            connection,
            ..Self::default()
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn framing(&self) -> Framing {
        match self.head.length() {
            _ if self.head.is_chunked() => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        }
    }
}
