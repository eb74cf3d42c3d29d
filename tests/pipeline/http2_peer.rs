//! Endpoints that speak HTTP/2 frame by frame, as a test tells them: what a well-behaved library would
//! never send has to be met as well.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mamparo::live::wire::{Dialer, Pipe};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::bench::{Bench, ms};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const ACK: u8 = 1;

/// `:status` 200 and 100 in HPACK.
pub(crate) const OK: &[u8] = &[0x88];
pub(crate) const EARLY_HINTS: &[u8] = &[0x08, 3, b'1', b'0', b'3'];

/// The other side of the dialer: connections that were asked for.
#[derive(Clone, Default)]
pub(crate) struct Net(Arc<Lines>);

#[derive(Default)]
struct Lines {
    waiting: Mutex<VecDeque<DuplexStream>>,
    come: Notify,
    dialled: Mutex<Vec<SocketAddr>>,
    /// Connections to these ports are refused.
    refused: Mutex<bool>,
    cut: Arc<Notify>,
}

impl Net {
    pub(crate) fn bench(&self, text: &str) -> Bench {
        let net = self.clone();
        let dialer = Dialer::Memory(Arc::new(move |address| {
            let net = net.clone();
            Box::pin(async move {
                net.0.dialled.lock().push(address);
                if *net.0.refused.lock() {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let (ours, theirs) = duplex(256 * 1024);
                net.0.waiting.lock().push_back(theirs);
                net.0.come.notify_one();
                Ok(Box::new(ours) as Box<dyn Pipe>)
            })
        }));
        Bench::with(text, dialer)
    }

    /// How often a connection was asked for.
    pub(crate) fn dialled(&self) -> usize {
        self.0.dialled.lock().len()
    }

    /// Connections from now on are refused, or not any more.
    pub(crate) fn refuse(&self, refuse: bool) {
        *self.0.refused.lock() = refuse;
    }

    /// Ends every connection that is served at once.
    pub(crate) fn cut_all(&self) {
        self.0.cut.notify_waiters();
    }

    /// Serves every connection that comes from now on: so many streams at a time, each request after so
    /// many milliseconds.
    pub(crate) fn serve_all(&self, streams: u32, after: u64) -> JoinHandle<()> {
        let net = self.clone();
        tokio::spawn(async move {
            loop {
                let mut peer = net.silent().await;
                peer.settings(Some(streams)).await;
                tokio::spawn(peer.serve_at_once(after, Arc::clone(&net.0.cut)));
            }
        })
    }

    /// The next connection, before a byte of it.
    pub(crate) async fn raw(&self) -> DuplexStream {
        loop {
            let come = self.0.come.notified();
            if let Some(io) = self.0.waiting.lock().pop_front() {
                return io;
            }
            come.await;
        }
    }

    /// The next connection, which allows so many streams at a time.
    pub(crate) async fn accept(&self, streams: Option<u32>) -> Peer {
        let mut peer = self.silent().await;
        peer.settings(streams).await;
        peer
    }

    /// The next connection; nothing was sent on it.
    pub(crate) async fn silent(&self) -> Peer {
        let mut io = self.raw().await;
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.expect("a preface");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Peer {
            io,
            pongs: true,
            ahead: Vec::new(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the paused clock of the test")]
fn now() -> Instant {
    Instant::now()
}

fn later() -> Instant {
    now() + Duration::from_secs(3_600)
}

/// A frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// One connection, seen from the endpoint.
pub(crate) struct Peer {
    io: DuplexStream,
    /// Pings are answered.
    pub(crate) pongs: bool,
    /// What has been read of the next frames.
    ahead: Vec<u8>,
}

impl Peer {
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        // That the connection has gone shows by what the client gets.
        let _ = self.io.write_all(&bytes).await;
    }

    pub(crate) async fn settings(&mut self, streams: Option<u32>) {
        let mut payload = Vec::new();
        if let Some(streams) = streams {
            payload.extend(3_u16.to_be_bytes());
            payload.extend(streams.to_be_bytes());
        }
        self.send(SETTINGS, 0, 0, &payload).await;
    }

    pub(crate) async fn go_away(&mut self, last: u32, code: u32) {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    /// A whole answer.
    pub(crate) async fn answer(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS, stream, OK).await;
        self.send(DATA, END_STREAM, stream, b"fine").await;
    }

    /// The next frame that is no housekeeping; `None`: the connection has ended.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any().await?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
                PING if frame.flags & ACK == 0 && self.pongs => {
                    self.send(PING, ACK, 0, &frame.payload).await;
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// May be given up at any time: nothing is lost.
    async fn any(&mut self) -> Option<Frame> {
        loop {
            if let [a, b, c, kind, flags, d, e, f, g, rest @ ..] = &self.ahead[..] {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let frame = Frame {
                        kind: *kind,
                        flags: *flags,
                        stream: u32::from_be_bytes([*d, *e, *f, *g]),
                        payload: payload.to_vec(),
                    };
                    self.ahead.drain(..9 + length);
                    return Some(frame);
                }
            }
            let mut some = [0; 16 * 1024];
            let read = self
                .io
                .read(&mut some)
                .await
                .ok()
                .filter(|read| *read > 0)?;
            self.ahead.extend_from_slice(&some[..read]);
        }
    }

    /// The stream of the next request.
    pub(crate) async fn request(&mut self) -> u32 {
        loop {
            let frame = self.frame().await.expect("a request");
            if frame.kind == HEADERS {
                return frame.stream;
            }
        }
    }

    /// The code that the next stream is reset with, and which it is.
    pub(crate) async fn reset_of(&mut self) -> (u32, u32) {
        loop {
            let frame = self.frame().await.expect("a reset");
            if frame.kind == RST_STREAM {
                let code = frame.payload.try_into().expect("four bytes");
                return (frame.stream, u32::from_be_bytes(code));
            }
        }
    }

    /// Answers every request, each after so many milliseconds, until the connection ends; gives how
    /// many it was.
    pub(crate) async fn serve(mut self, after: u64) -> u32 {
        let mut count = 0;
        while let Some(frame) = self.frame().await {
            if frame.kind == HEADERS {
                count += 1;
                ms(after).await;
                self.answer(frame.stream).await;
            }
        }
        count
    }

    /// The same, but all requests at once; the connection ends when the net is cut.
    pub(crate) async fn serve_at_once(mut self, after: u64, cut: Arc<Notify>) {
        let mut due = VecDeque::new();
        let mut cut = pin!(cut.notified());
        loop {
            let next = due.front().map_or_else(later, |(at, _)| *at);
            tokio::select! {
                frame = self.frame() => match frame {
                    Some(frame) if frame.kind == HEADERS => {
                        due.push_back((now() + Duration::from_millis(after), frame.stream));
                    }
                    Some(_) => {}
                    None => return,
                },
                () = tokio::time::sleep_until(next) => {
                    if let Some((_, stream)) = due.pop_front() {
                        self.answer(stream).await;
                    }
                }
                () = cut.as_mut() => return,
            }
        }
    }

    /// Reads to the end of the connection; panics where a request comes.
    pub(crate) async fn ends(&mut self) {
        while let Some(frame) = self.frame().await {
            assert_ne!(
                frame.kind, HEADERS,
                "a request on a connection that is over"
            );
        }
    }
}
