//! A client that says exactly the bytes it is told, over one connection.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::answer::Answer;
use super::message::Head;
use super::wait::PATIENCE;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

/// Why no answer came.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) io::Error);

impl Client {
    #[track_caller]
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            reader: BufReader::new(stream),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.stream().local_addr().unwrap()
    }

    /// Sends bytes.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).expect("the proxy takes the bytes");
        self
    }

    /// Sends bytes, which a proxy that has closed does not take.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a request with these lines as further headers (each `name: value`).
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: &[u8],
    ) -> &mut Self {
        let bytes = request(method, target, headers, body);
        self.send(bytes)
    }

    /// The next answer, to any method but HEAD.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// The next answer, to a request of that method.
    #[track_caller]
    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer(method)
            .unwrap_or_else(|Broken(error)| panic!("no answer: {error}"))
    }

    pub(crate) fn try_answer(&mut self, method: &str) -> Result<Answer, Broken> {
        Answer::read(&mut self.reader, method).map_err(Broken)
    }

    /// The next head, of an interim answer too.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Head {
        Head::read(&mut self.reader).unwrap().expect("a head comes")
    }

    /// Asks for a path and reads the answer.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], b"").answer()
    }

    /// Asks the admin interface at the other end, which wants to be called by its own address.
    #[track_caller]
    pub(crate) fn get_from_admin(&mut self, target: &str) -> Answer {
        self.ask_admin("GET", target, "")
    }

    #[track_caller]
    pub(crate) fn post_to_admin(&mut self, target: &str) -> Answer {
        self.ask_admin("POST", target, "{}")
    }

    #[track_caller]
    pub(crate) fn ask_admin(&mut self, method: &str, target: &str, body: &str) -> Answer {
        let host = self.stream().peer_addr().unwrap();
        let length = body.len();
        let bytes = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        self.send(bytes).answer_to(method)
    }

    /// Everything until the proxy closes; an error if that is no clean end.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Whether the proxy closes the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.rest() {
            Ok(rest) => rest.is_empty(),
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        }
    }

    /// Whether nothing comes within that time, not even an end.
    pub(crate) fn hears_nothing_for(&mut self, time: Duration) -> bool {
        self.stream().set_read_timeout(Some(time)).unwrap();
        let heard = self.reader.read(&mut [0; 1]);
        self.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(heard, Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Says that nothing more will be sent; still listens.
    pub(crate) fn half_close(&mut self) -> &mut Self {
        self.stream().shutdown(Shutdown::Write).unwrap();
        self
    }

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        let linger = socket2::SockRef::from(self.stream()).set_linger(Some(Duration::ZERO));
        linger.unwrap();
    }
}

/// The bytes of a request. The length is announced where there is a body.
pub(crate) fn request(method: &str, target: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: service\r\n");
    for line in headers {
        text.push_str(line);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
