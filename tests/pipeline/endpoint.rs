//! Endpoints that do as they are told: what each connection, and each request on it, meets.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{
    AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf, duplex, split,
};
use tokio::time::Instant;

use super::bench::{ms, since};
use super::message::{Head, Reader};

/// The path of health checks.
pub(crate) const CHECK: &str = "/healthz";

/// What an endpoint does with one connection or one request.
#[derive(Debug, Clone)]
pub(crate) enum Play {
    /// Answers.
    Answer(Reply),
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and closes, so many milliseconds later.
    Close(u64),
    /// Closes as soon as the connection stands.
    Slam,
    /// The connection is refused.
    Refuse,
    /// The connection is never made.
    ConnectHangs,
    /// The connection takes so long.
    ConnectTakes(u64),
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    after: u64,
    headers: Vec<(String, String)>,
    body: String,
    /// What follows a body in chunks; then half of the body is all of it but them.
    trailers: String,
    /// Milliseconds between the head and the body, and in the middle of the body.
    pauses: [u64; 2],
    ending: Ending,
    /// The request's body is not waited for.
    early: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Complete,
    /// Half of the body comes, and then the connection closes.
    HalfThenClose,
    /// Half of the body comes, and then nothing more.
    HalfThenHang,
}

/// An answer with that status and a short body, at once.
pub(crate) fn answer(status: u16) -> Reply {
    Reply {
        status,
        after: 0,
        headers: Vec::new(),
        body: format!("answer {status}"),
        trailers: String::new(),
        pauses: [0; 2],
        ending: Ending::Complete,
        early: false,
    }
}

/// The head of an answer to a gRPC call; nothing follows it.
pub(crate) fn call_head() -> Reply {
    let kind = "application/grpc+proto";
    answer(200).body("").header("content-type", kind)
}

/// An answer to a gRPC call with one message, or none, and how it ended in the trailers.
pub(crate) fn call(message: &str, code: u8) -> Reply {
    let head = call_head().header("transfer-encoding", "chunked");
    head.body(message).trailer("grpc-status", &code.to_string())
}

impl Reply {
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers += &format!("{name}: {value}\r\n");
        self
    }

    pub(crate) fn after(mut self, millis: u64) -> Self {
        self.after = millis;
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A pause between head and body, and one in the middle of the body.
    pub(crate) fn pauses(mut self, before: u64, within: u64) -> Self {
        self.pauses = [before, within];
        self
    }

    /// Half of the body, and so many milliseconds later the end.
    pub(crate) fn half_then_close(mut self, millis: u64) -> Self {
        self.pauses[1] = millis;
        self.ending = Ending::HalfThenClose;
        self
    }

    pub(crate) fn half_then_hang(mut self) -> Self {
        self.ending = Ending::HalfThenHang;
        self
    }

    pub(crate) fn early(mut self) -> Self {
        self.early = true;
        self
    }
}

impl From<Reply> for Play {
    fn from(reply: Reply) -> Self {
        Self::Answer(reply)
    }
}

/// A request as an endpoint saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// When its head was there.
    pub(crate) at: u64,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) complete: bool,
    /// Which of the endpoint's connections it came over, counted from 1.
    pub(crate) connection: usize,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    began: Instant,
    stage: Mutex<Stage>,
}

#[derive(Debug)]
struct Stage {
    next: VecDeque<Play>,
    otherwise: Play,
    /// What health checks meet, where that is something else.
    checked: Option<Play>,
    seen: Vec<Seen>,
    dialled: Vec<u64>,
    open: usize,
    /// Bytes between us and the endpoint.
    room: usize,
    /// Set when connections of now take no more bytes.
    broken: Arc<AtomicBool>,
}

impl Endpoint {
    pub(crate) fn new(began: Instant) -> Arc<Self> {
        let stage = Stage {
            next: VecDeque::new(),
            otherwise: answer(200).into(),
            checked: None,
            seen: Vec::new(),
            dialled: Vec::new(),
            open: 0,
            room: 64 * 1024,
            broken: Arc::default(),
        };
        let stage = Mutex::new(stage);
        Arc::new(Self { began, stage })
    }

    /// What comes next, one after the other.
    pub(crate) fn will<P: Into<Play>>(&self, plays: impl IntoIterator<Item = P>) {
        let mut stage = self.stage.lock();
        stage.next.extend(plays.into_iter().map(Into::into));
    }

    /// What comes when nothing else is to come; until told, 200 at once.
    pub(crate) fn always(&self, play: impl Into<Play>) {
        self.stage.lock().otherwise = play.into();
    }

    /// What requests for [`CHECK`] meet from now on, whatever comes to the others.
    pub(crate) fn when_checked(&self, play: impl Into<Play>) {
        self.stage.lock().checked = Some(play.into());
    }

    /// Bytes that fit between us and the endpoint, for connections from now on.
    pub(crate) fn room(&self, bytes: usize) {
        self.stage.lock().room = bytes;
    }

    /// The connections that are open now break at the next byte that is written to them, and not before:
    /// the endpoint has closed them, but we cannot know yet.
    pub(crate) fn go_stale(&self) {
        let mut stage = self.stage.lock();
        std::mem::take(&mut stage.broken).store(true, Relaxed);
    }

    /// The requests that have come.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.stage.lock().seen.clone()
    }

    /// When they came.
    pub(crate) fn times(&self) -> Vec<u64> {
        self.stage.lock().seen.iter().map(|seen| seen.at).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.stage.lock().seen.len()
    }

    /// When connections were asked for.
    pub(crate) fn dialled(&self) -> Vec<u64> {
        self.stage.lock().dialled.clone()
    }

    /// Connections that we have open to it.
    pub(crate) fn open(&self) -> usize {
        self.stage.lock().open
    }

    /// Forgets what has come.
    pub(crate) fn forget(&self) {
        let mut stage = self.stage.lock();
        stage.seen.clear();
        stage.dialled.clear();
    }

    pub(crate) async fn dial(self: Arc<Self>) -> io::Result<Connection> {
        let (number, play, room, broken) = {
            let mut stage = self.stage.lock();
            stage.dialled.push(since(self.began));
            let front = stage.next.front().unwrap_or(&stage.otherwise).clone();
            let is_about_connections = matches!(
                front,
                Play::Slam | Play::Refuse | Play::ConnectHangs | Play::ConnectTakes(_)
            );
            if is_about_connections {
                stage.next.pop_front();
            }
            let broken = Arc::clone(&stage.broken);
            (stage.dialled.len(), front, stage.room, broken)
        };
        match play {
            Play::Refuse => return Err(io::ErrorKind::ConnectionRefused.into()),
            Play::ConnectHangs => std::future::pending().await,
            Play::ConnectTakes(millis) => ms(millis).await,
            Play::Answer(_) | Play::Hang | Play::Close(_) | Play::Slam => {}
        }
        let (ours, theirs) = duplex(room);
        if !matches!(play, Play::Slam) {
            self.stage.lock().open += 1;
            tokio::spawn(self.serve(theirs, number));
        }
        Ok(Connection { io: ours, broken })
    }

    async fn serve(self: Arc<Self>, io: DuplexStream, connection: usize) {
        let (reading, mut writing) = split(io);
        let mut reader = Reader::new(reading);
        while let Some(head) = reader.head().await {
            if !self.meet(head, &mut reader, &mut writing, connection).await {
                break;
            }
        }
        self.stage.lock().open -= 1;
    }

    /// Meets one request; whether another may come.
    async fn meet(
        &self,
        head: Head,
        reader: &mut Reader<ReadHalf<DuplexStream>>,
        writing: &mut WriteHalf<DuplexStream>,
        connection: usize,
    ) -> bool {
        let (play, index) = {
            let mut stage = self.stage.lock();
            let (at, body, complete) = (since(self.began), Vec::new(), false);
            stage.seen.push(Seen {
                at,
                head: head.clone(),
                body,
                complete,
                connection,
            });
            let index = stage.seen.len() - 1;
            let checked = stage.checked.clone().filter(|_| head.line.contains(CHECK));
            let play = checked.or_else(|| stage.next.pop_front());
            (play.unwrap_or_else(|| stage.otherwise.clone()), index)
        };
        let early = matches!(&play, Play::Answer(reply) if reply.early);
        if !early {
            let (body, complete) = reader.body(&head, true).await;
            if let Some(seen) = self.stage.lock().seen.get_mut(index) {
                (seen.body, seen.complete) = (body, complete);
            }
            if !complete {
                return false;
            }
        }
        match play {
            Play::Answer(reply) => {
                let heads_only = head.line.starts_with("HEAD ");
                let goes_on = tokio::select! {
                    goes_on = reply.write(writing, heads_only) => goes_on,
                    () = reader.end(), if !early => false,
                };
                if early && goes_on {
                    reader.end().await;
                }
                goes_on && !early
            }
            Play::Hang => {
                reader.end().await;
                false
            }
            Play::Close(millis) => {
                ms(millis).await;
                false
            }
            // These are about connections: they were met when it was made.
            Play::Slam | Play::Refuse | Play::ConnectHangs | Play::ConnectTakes(_) => false,
        }
    }
}

impl Reply {
    async fn write(&self, io: &mut WriteHalf<DuplexStream>, head_only: bool) -> bool {
        ms(self.after).await;
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", self.status);
        let chunked = self.headers.iter().any(|(n, _)| n == "transfer-encoding");
        if !chunked && self.status != 204 {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut body = self.body.clone();
        let mut half = body.len() / 2;
        if chunked {
            if !body.is_empty() {
                body = format!("{:x}\r\n{}\r\n", body.len(), body);
            }
            half = body.len();
            body += &format!("0\r\n{}\r\n", self.trailers);
            if self.trailers.is_empty() {
                half = body.len() / 2;
            }
        }
        if head_only || self.status == 204 {
            return io.write_all(head.as_bytes()).await.is_ok();
        }
        let (first, second) = body.as_bytes().split_at(half);
        let [before, within] = self.pauses;
        if before == 0 {
            // In one piece, as a server would.
            head += std::str::from_utf8(first).expect("text");
            if io.write_all(head.as_bytes()).await.is_err() {
                return false;
            }
        } else {
            if io.write_all(head.as_bytes()).await.is_err() {
                return false;
            }
            ms(before).await;
            if io.write_all(first).await.is_err() {
                return false;
            }
        }
        match self.ending {
            Ending::HalfThenClose => {
                ms(within).await;
                return false;
            }
            Ending::HalfThenHang => std::future::pending().await,
            Ending::Complete => {}
        }
        ms(within).await;
        io.write_all(second).await.is_ok()
    }
}

/// Our end of a connection to an endpoint.
pub(crate) struct Connection {
    io: DuplexStream,
    broken: Arc<AtomicBool>,
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken.load(Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
