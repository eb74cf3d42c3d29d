//! Connections that the system has redirected to a listener (iptables, `original_dst`). The system knows
//! where each was going. What is no HTTP, or a request that no route matches, goes on to there untouched
//! where the listener lets it pass; so all bytes of a request are kept until its route is known.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::net::TcpStream;

/// How long a redirected client may say nothing before its protocol is taken for one in which the
/// server speaks first.
pub(super) const SERVER_FIRST: Duration = Duration::from_millis(200);

/// The longest first line that is waited for; one without an end so far is no HTTP.
const MAX_LINE: usize = 16 * 1024;

/// The longest method; a longer word is no HTTP.
const MAX_METHOD: usize = 64;

/// Where a connection was going before it was redirected to us; `None`: it was not, or it was going to
/// ourselves.
pub(super) fn original_destination(socket: &TcpStream) -> Option<SocketAddr> {
    let local = socket.local_addr().ok()?;
    let asked = || -> io::Result<Option<SocketAddr>> {
        let socket = SockRef::from(socket);
        let found = match local.ip().to_canonical() {
            IpAddr::V4(_) => socket.original_dst_v4()?,
            IpAddr::V6(_) => socket.original_dst_v6()?,
        };
        Ok(found.as_socket())
    };
    // Without a redirection the system knows of none, or says what is true anyway.
    let found = asked().ok()??;
    let same = found.ip() == local.ip().to_canonical() && found.port() == local.port();
    (!same).then_some(found)
}

/// What has come of a redirected client's current request.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: BytesMut,
    state: State,
    may_be_http2: bool,
}

/// What is known of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its first line has not come.
    #[default]
    Unknown,
    /// It is HTTP.
    Http,
    /// It is none.
    Other,
}

impl Kept {
    pub(super) fn new(may_be_http2: bool) -> Self {
        Self {
            may_be_http2,
            ..Self::default()
        }
    }

    /// Takes note of bytes as they come; whether they may be HTTP. Only the first line of
    /// a connection is looked at: behind it there is HTTP to its end.
    pub(super) fn look(&mut self, fresh: &[u8]) -> bool {
        if self.state == State::Unknown {
            let before = self.bytes.len();
            self.bytes.extend_from_slice(fresh);
            self.state = state_of(&self.bytes, self.may_be_http2);
            self.bytes.truncate(before);
        }
        self.state != State::Other
    }

    /// These bytes came.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The route of the request is known, or the request is over.
    pub(super) fn forget(&mut self) {
        self.bytes = BytesMut::new();
    }

    /// Whether nothing that came so far shows that the connection speaks HTTP.
    pub(super) fn is_no_http(&self) -> bool {
        self.state != State::Http
    }

    /// All that is kept.
    pub(super) fn into_bytes(self) -> BytesMut {
        self.bytes
    }
}

/// What the beginning of a connection is.
fn state_of(bytes: &[u8], may_be_http2: bool) -> State {
    // Some clients end a request with an empty line too many.
    let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte));
    let Some(bytes) = begin.map(|begin| &bytes[begin..]) else {
        return if bytes.len() > 4 {
            State::Other
        } else {
            State::Unknown
        };
    };
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..end.unwrap_or(bytes.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let word = line.iter().position(|byte| *byte == b' ');
    let method = &line[..word.unwrap_or(line.len())];
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let printable = |byte: &u8| (b' '..=b'~').contains(byte) || *byte >= 0x80;
    if method.is_empty()
        || method.len() > MAX_METHOD
        || !method.iter().all(is_token)
        || !line.iter().all(printable)
        || line.len() > MAX_LINE
    {
        return State::Other;
    }
    match end {
        None => State::Unknown,
        Some(_) if is_request_line(line, may_be_http2) => State::Http,
        Some(_) => State::Other,
    }
}

fn is_request_line(line: &[u8], may_be_http2: bool) -> bool {
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let (_method, Some(rest)) = (words.next(), words.next()) else {
        return false;
    };
    let version = rest.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let old = version.len() == 8 && version.starts_with(b"HTTP/1.") && rest.len() > version.len();
    old || may_be_http2 && line == b"PRI * HTTP/2.0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_known_by_its_first_line() {
        for (text, state) in [
            ("", State::Unknown),
            ("\r\n", State::Unknown),
            ("G", State::Unknown),
            ("GET /", State::Unknown),
            ("GET / HTTP/1.1", State::Unknown),
            ("GET / HTTP/1.1\r\n", State::Http),
            ("\r\nGET / HTTP/1.0\n", State::Http),
            ("FOO-BAR * HTTP/1.1\r\nx", State::Http),
            ("PRI * HTTP/2.0\r\n", State::Http),
            // A TLS hello, SSH, Redis in both its forms, SMTP, PostgreSQL, HTTP/0.9.
            ("\u{16}\u{3}\u{1}", State::Other),
            ("SSH-2.0-OpenSSH_9.2 Debian\r\n", State::Other),
            ("PING\r\n", State::Other),
            ("*1\r\n$4\r\nPING\r\n", State::Other),
            ("EHLO there\r\n", State::Other),
            ("\0\0\0\u{8}\u{4}\u{2}\u{16}/", State::Other),
            ("GET /\r\n", State::Other),
            ("GET  HTTP/9\r\n", State::Other),
        ] {
            assert_eq!(state_of(text.as_bytes(), true), state, "{text:?}");
        }
        assert_eq!(state_of(b"PRI * HTTP/2.0\r\n", false), State::Other);
        assert_eq!(state_of(&[b'A'; MAX_METHOD + 1], true), State::Other);
    }

    #[test]
    fn what_is_kept_is_what_was_handed_on() {
        let mut kept = Kept::new(true);
        assert!(kept.look(b"GE"));
        kept.keep(b"GE");
        assert!(kept.is_no_http());
        assert!(kept.look(b"T / HTTP/1.1\r\nhost: a\r\n\r\nnext"));
        kept.keep(b"T / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(!kept.is_no_http());
        // Behind its first line a connection is HTTP.
        kept.forget();
        assert!(kept.look(b"\x16\x03"));
        let mut other = Kept::new(true);
        assert!(!other.look(b"\x16\x03\x01"));
        assert!(other.into_bytes().is_empty());
    }
}
