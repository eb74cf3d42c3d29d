//! A stand-in for the proxy, and a client with its hands on the bytes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use mamparo::live::received::ReceivedBody;
use mamparo::proxy::client::Client;
use mamparo::proxy::fields::Fields;
use mamparo::proxy::{Protocol, Reason, Role, framing};
use mamparo::server::connection::serve;
use mamparo::server::door::{Door, Settings};
use mamparo::server::handler::Handler;
use mamparo::telemetry::limits::Limit;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What the handler was asked.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// `None`: it broke off.
    pub(crate) body: Option<Bytes>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) began: Instant,
}

/// Answers by path; keeps what it saw.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) refused: Mutex<Vec<(Reason, String)>>,
    pub(crate) limited: Mutex<Vec<Limit>>,
    /// Requests that are with the handler, their answers' bodies included.
    pub(crate) serving: Arc<AtomicUsize>,
    pub(crate) release: Notify,
}

impl Fake {
    /// Why it refused heads, so far.
    pub(crate) fn refusals(&self) -> Vec<Reason> {
        let refused = self.refused.lock();
        refused.iter().map(|(reason, _)| *reason).collect()
    }
}

/// Counted while it lives.
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, SeqCst);
        Self(Arc::clone(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    let never = |error: Infallible| match error {};
    Full::new(text.into()).map_err(never).boxed_unsync()
}

fn echo(body: Bytes, trailers: Option<HeaderMap>) -> Body {
    let mut trailers = trailers.unwrap_or_default();
    trailers.insert("connection", "close".parse().unwrap());
    let never = |error: Infallible| match error {};
    let body = Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers))));
    body.map_err(never).boxed_unsync()
}

fn refuse(reason: Reason, sentence: &str) -> Response<Body> {
    let body = format!(
        "{{\"reason\": \"{}\", \"message\": \"{sentence}\"}}",
        reason.name()
    );
    Response::builder()
        .status(reason.status())
        .header("connection", "close")
        .body(full(body))
        .unwrap()
}

/// What comes after an answer's frames.
enum After {
    End,
    Error,
    /// A moment later, so that what came before is on its way.
    ErrorLater,
    Nothing,
}

fn frames(count: usize, size: usize, after: After, counted: Counted) -> Body {
    let frame = Bytes::from(vec![b'x'; size]);
    let frames = Frames {
        left: count,
        frame,
        after,
        _counted: counted,
    };
    frames.boxed_unsync()
}

struct Frames {
    left: usize,
    frame: Bytes,
    after: After,
    _counted: Counted,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<Frame<Bytes>>>> {
        use std::task::Poll;
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))));
        }
        match self.after {
            After::End => Poll::Ready(None),
            After::ErrorLater => {
                self.after = After::Error;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            After::Error => Poll::Ready(Some(Err(io::Error::other("upstream broke off")))),
            After::Nothing => Poll::Pending,
        }
    }
}

impl Handler for Fake {
    type Body = Body;

    async fn handle(
        self: &Arc<Self>,
        client: &Arc<Client>,
        request: Request<ReceivedBody>,
    ) -> Response<Body> {
        let counted = Counted::new(&self.serving);
        let (parts, body) = request.into_parts();
        if let Err(refusal) = framing::check(&parts, &Fields::read(&parts), false) {
            return refuse(Reason::BadRequest, refusal.sentence);
        }
        let path = parts.uri.path().to_owned();
        let mut seen = Seen {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            headers: parts.headers,
            body: None,
            trailers: None,
            began: client.began(),
        };
        if path == "/early" {
            self.seen.lock().push(seen);
            return Response::new(full("early"));
        }
        if path == "/held" {
            let _held = body;
            return std::future::pending().await;
        }
        if path == "/both" {
            tokio::spawn(body.collect());
            return Response::new(full("both"));
        }
        let patience = Duration::from_secs(3600);
        let collected = match tokio::time::timeout(patience, body.collect()).await {
            Ok(Ok(collected)) => collected,
            Err(_) => {
                self.seen.lock().push(seen);
                return refuse(Reason::RequestTimeout, "The body does not come.");
            }
            Ok(Err(error)) => {
                self.seen.lock().push(seen);
                let reason = if error.is_malformed() {
                    Reason::BadRequest
                } else {
                    Reason::ClientGone
                };
                return refuse(reason, "The body broke off.");
            }
        };
        let trailers = collected.trailers().cloned();
        seen.trailers = trailers.clone();
        let bytes = collected.to_bytes();
        seen.body = Some(bytes.clone());
        self.seen.lock().push(seen);
        match path.as_str() {
            "/echo" => return Response::new(echo(bytes, trailers)),
            "/status/204" | "/status/304" => {
                let answer = Response::builder().status(&path[8..]);
                return answer.body(full("no body")).unwrap();
            }
            "/release" => self.release.notified().await,
            "/never" => std::future::pending().await,
            "/panic" => panic!("on purpose"),
            "/big" => return Response::new(frames(1024, 64 * 1024, After::End, counted)),
            "/large" => return Response::new(full(vec![b'x'; 1024 * 1024])),
            "/big-then-silent" => {
                return Response::new(frames(16, 64 * 1024, After::Nothing, counted));
            }
            "/broken" => return Response::new(frames(1, 10, After::Error, counted)),
            "/broken-later" => return Response::new(frames(1, 10, After::ErrorLater, counted)),
            "/silent" => return Response::new(frames(1, 10, After::Nothing, counted)),
            _ => {
                if let Some(millis) = path.strip_prefix("/after/") {
                    tokio::time::sleep(Duration::from_millis(millis.parse().unwrap())).await;
                }
            }
        }
        Response::new(full(format!("answer to {path}")))
    }

    fn refuse(
        self: &Arc<Self>,
        _: &Client,
        reason: Reason,
        detail: &str,
        _: Instant,
    ) -> Option<Vec<u8>> {
        self.refused.lock().push((reason, detail.to_owned()));
        let head = format!(
            "HTTP/1.1 {} refused\r\nconnection: close\r\n\r\n",
            reason.status()
        );
        let body = format!(
            "{{\"reason\": \"{}\", \"message\": \"{detail}\"}}",
            reason.name()
        );
        Some((head + &body).into_bytes())
    }

    fn refusal(
        self: &Arc<Self>,
        _: &Client,
        reason: Reason,
        detail: &str,
        _: Instant,
    ) -> Response<Bytes> {
        self.refused.lock().push((reason, detail.to_owned()));
        let answer = Response::builder().status(reason.status());
        answer.body(Bytes::from(reason.name())).unwrap()
    }

    fn limited(self: &Arc<Self>, _: &Arc<str>, _: Option<SocketAddr>, limit: Limit) {
        self.limited.lock().push(limit);
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        header_size: 64 * 1024,
        max_headers: 100,
        protocol: Protocol::Auto,
        max_streams: 100,
        max_connections: None,
        redirected: None,
    }
}

pub(crate) fn door(settings: Settings) -> Arc<Door<Fake>> {
    let handler = Arc::new(Fake::default());
    Door::new("in".into(), Role::Inbound, settings, handler)
}

/// A client of a door, connected through memory.
pub(crate) struct Talk {
    pub(crate) io: DuplexStream,
    pub(crate) task: JoinHandle<()>,
    pub(crate) door: Arc<Door<Fake>>,
    pub(crate) began: Instant,
}

impl Talk {
    pub(crate) fn to(door: &Arc<Door<Fake>>) -> Self {
        Self::through(door, 1024 * 1024)
    }

    /// A pipe that holds `bytes` in each direction.
    pub(crate) fn through(door: &Arc<Door<Fake>>, bytes: usize) -> Self {
        let (io, theirs) = tokio::io::duplex(bytes);
        let task = tokio::spawn({
            let door = Arc::clone(door);
            async move { serve(theirs, &door, None, 0).await }
        });
        let door = Arc::clone(door);
        let began = mamparo::clock::now();
        Self {
            io,
            task,
            door,
            began,
        }
    }

    pub(crate) fn new() -> Self {
        Self::to(&door(settings()))
    }

    pub(crate) fn fake(&self) -> &Arc<Fake> {
        self.door.handler()
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends GETs of these paths at once.
    pub(crate) async fn get(&mut self, paths: &[&str]) {
        let gets: Vec<_> = paths.iter().map(|path| get(path)).collect();
        self.send(gets.concat()).await;
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.io.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// What comes within a millisecond of silence.
    pub(crate) async fn some(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        let quiet = Duration::from_millis(1);
        while let Ok(read) = tokio::time::timeout(quiet, self.io.read(&mut buffer)).await {
            match read.unwrap() {
                0 => break,
                some => bytes.extend_from_slice(&buffer[..some]),
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Time since the connection was made.
    pub(crate) fn elapsed(&self) -> Duration {
        mamparo::clock::now() - self.began
    }

    pub(crate) fn serving(&self) -> usize {
        self.fake().serving.load(SeqCst)
    }
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// Lets the other tasks run as far as they can, without time passing.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Timers may be late by their grain, never early.
pub(crate) fn about(elapsed: Duration, expected: Duration) {
    assert!(
        elapsed >= expected && elapsed <= expected + Duration::from_millis(5),
        "{elapsed:?} is not {expected:?}"
    );
}
