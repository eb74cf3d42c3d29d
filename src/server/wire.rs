//! What stands between a client's socket and the HTTP library, and does what the library does not:
//!
//! - It gives the library one request at a time. Bytes of the next one are kept until the answer has
//!   been written out, so that a refused request can never spoil the answer before it.
//! - It refuses framing that could be read in two ways ([`super::scan`]).
//! - It withholds the library's own error answers; ours are sent when the library has ended.
//! - It tells a half-close from a client that has gone. A FIN alone does not say which it is: a
//!   client that calls `shutdown(SHUT_WR)` after its request still wants the answer, one that calls
//!   `close` does not. But a half-close is part of sending the request and comes with it, while a
//!   client that gives up does so after a while. So a FIN within [`HALF_CLOSE`] of the last byte is
//!   a half-close, a later one means that the client has gone. Mistaken for a half-close, a client
//!   that has gone costs one answer; its reset of our first bytes ends the connection.
//! - It keeps the connection's deadlines, without touching a timer.
//!
//! A client that leaves while bytes of its request's body still have to be read is noticed when the
//! handler reads on: a FIN behind unread bytes cannot be seen.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::door::Settings;
use super::exchange::{Exchanging, NEVER, Stage};
use super::http2::PREFACE;
use super::interim;
use super::redirected::Kept;
use super::scan::{Fault, Scan};
use crate::clock;
use crate::live::gather::{SPACE, gather};
use crate::proxy::client::Client;
use crate::proxy::{Protocol, Reason};

/// A FIN that comes so soon after a request's last byte belongs to the request.
pub(super) const HALF_CLOSE: Duration = Duration::from_millis(20);

/// Bytes of later requests that are taken in while one is served. Then reading pauses, and the
/// client's leaving is not seen until the answer is written.
const MAX_CARRY: usize = 16 * 1024;

/// A redirected client speaks another protocol.
const NO_HTTP: Fault = (
    Reason::BadRequest,
    "The connection does not begin with a request.",
);

/// One client's connection. The HTTP library reads and writes through one handle, the task around it
/// watches the client through another; both are used by that task alone, so the lock never waits.
///
/// The library could watch by itself, but only by reading into a second buffer of 8 KiB for each
/// request, and not while a request's body waits to be taken.
pub(super) struct Wire<IO, S>(Arc<Mutex<Core<IO, S>>>);

struct Core<IO, S> {
    io: IO,
    scan: Scan,
    served: Arc<S>,
    times: Times,
    /// Read, but not yet the library's turn to see.
    carry: BytesMut,
    fault: Option<Fault>,
    /// What has come of the current request, where its connection may be passed on.
    kept: Option<Box<Kept>>,
    /// What has come from a client that speaks HTTP/2.
    http2: Option<BytesMut>,
    /// The client's FIN has come.
    eof: bool,
    /// The client does not take what we write.
    blocked: bool,
    /// The library wanted to read when it was not its turn.
    asked: bool,
    /// The socket wakes the task when more comes: it was asked during this exchange and had nothing.
    watched: bool,
    /// Interim answers that go out before whatever the library writes next.
    ahead: BytesMut,
    /// When the client's last byte came, nanoseconds after the connection was accepted.
    last_byte: u64,
}

/// The settings that the wire needs, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) header: u64,
    pub(super) idle: u64,
}

/// What the wire and the service share of a connection.
pub(super) trait Shared: Exchanging {
    fn client(&self) -> &Client;
}

impl<IO, S: Shared> Wire<IO, S> {
    pub(super) fn new(io: IO, settings: &Settings, times: Times, served: Arc<S>) -> Self {
        let mut scan = Scan::new(settings.header_size, settings.max_headers);
        if settings.protocol != Protocol::Http1 {
            scan = scan.or_http2();
        }
        Self(Arc::new(Mutex::new(Core {
            io,
            scan,
            served,
            times,
            carry: BytesMut::new(),
            fault: None,
            kept: None,
            http2: None,
            eof: false,
            blocked: false,
            asked: false,
            watched: false,
            ahead: BytesMut::new(),
            last_byte: 0,
        })))
    }

    /// The same, for a client whose connection may be passed on.
    pub(super) fn keeping(self, may_be_http2: bool) -> Self {
        self.0.lock().kept = Some(Box::new(Kept::new(may_be_http2)));
        self
    }

    /// Another handle.
    pub(super) fn handle(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// What is left of it; from the last handle.
    pub(super) fn into_parts(self) -> Option<Parts<IO>> {
        let core = Arc::into_inner(self.0)?.into_inner();
        Some(Parts {
            http2: core
                .http2
                .or_else(|| core.scan.preface().map(BytesMut::from)),
            io: core.io,
            fault: core.fault,
            kept: core.kept,
            eof: core.eof,
            carry: core.carry,
        })
    }
}

/// What is left of a connection that has ended for the HTTP library.
pub(super) struct Parts<IO> {
    pub(super) io: IO,
    /// What is wrong with the bytes.
    pub(super) fault: Option<Fault>,
    /// What has come of the current request, where its connection may be passed on.
    pub(super) kept: Option<Box<Kept>>,
    /// The client speaks HTTP/2; all that has come from it.
    pub(super) http2: Option<BytesMut>,
    /// The client's FIN has come.
    pub(super) eof: bool,
    /// What came behind the last request.
    pub(super) carry: BytesMut,
}

/// What has come from a client whose first line is that of HTTP/2: so many bytes of it were handed on
/// before, and `fresh` came now.
fn from_preface(handed: usize, fresh: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::from(PREFACE.get(..handed).unwrap_or_default());
    bytes.extend_from_slice(fresh);
    bytes
}

impl<IO, S: Shared> Core<IO, S> {
    fn stage(&self) -> Stage {
        self.served.exchange().stage()
    }

    /// Nanoseconds since the connection was accepted.
    fn now(&self) -> u64 {
        since(self.served.client())
    }

    /// Follows the bytes in `buf` behind `before`, hands on what belongs to the current request and
    /// keeps the rest.
    fn admit(&mut self, buf: &mut ReadBuf<'_>, before: usize, carried: bool) -> io::Result<()> {
        let fresh = &buf.filled()[before..];
        if let Some(kept) = &mut self.kept
            && !kept.look(fresh)
        {
            if !carried {
                kept.keep(fresh);
            }
            buf.set_filled(before);
            self.fault = Some(NO_HTTP);
            return Err(broken(NO_HTTP));
        }
        let began = self.scan.at_start();
        let handed = self.scan.head();
        let taken = self.scan.take(fresh);
        let whole = self.scan.is_complete();
        self.served.exchange().set_whole(whole);
        if began && (taken.is_err() || !self.scan.at_start()) {
            self.last_byte = self.now();
            self.served.client().set_began(self.last_byte);
            let deadline = self.last_byte.saturating_add(self.times.header);
            self.served.exchange().enter(Stage::Head, deadline);
        } else if whole {
            self.last_byte = self.now();
        }
        let taken = match taken {
            Ok(taken) => taken,
            Err(fault) => {
                if self.scan.is_http2() {
                    self.http2 = Some(from_preface(handed, &buf.filled()[before..]));
                }
                buf.set_filled(before);
                self.fault = Some(fault);
                return Err(broken(fault));
            }
        };
        if let Some(kept) = &mut self.kept {
            if self.served.client().is_unrouted() {
                kept.keep(&fresh[..taken]);
            } else {
                kept.forget();
            }
        }
        if carried {
            self.carry.advance(taken);
        } else if taken < fresh.len() {
            self.carry.extend_from_slice(&fresh[taken..]);
        }
        buf.set_filled(before + taken);
        Ok(())
    }

    fn end_exchange(&mut self) {
        self.scan.next();
        if let Some(kept) = &mut self.kept {
            kept.forget();
            self.served.client().set_routed(false);
        }
        let deadline = self.now().saturating_add(self.times.idle);
        self.served.exchange().enter(Stage::Idle, deadline);
    }

    /// Keeps account of a write's outcome.
    fn written(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &outcome {
            Poll::Pending => self.block(),
            Poll::Ready(Ok(bytes)) => {
                self.served.client().add_progress(*bytes);
                if self.blocked {
                    self.unblock();
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        outcome
    }

    /// The client does not take what we write: it has its time for that.
    fn block(&mut self) {
        if !self.blocked {
            self.blocked = true;
            let stall = nanos(self.served.client().stall());
            let deadline = self.now().saturating_add(stall);
            self.served.exchange().set_deadline(deadline);
        }
    }

    fn unblock(&mut self) {
        self.blocked = false;
        self.served.exchange().set_deadline(NEVER);
    }
}

impl<IO: AsyncRead + Unpin, S: Shared> Wire<IO, S> {
    /// While an answer is awaited: ready when the client has gone. Keeps what it sends ahead.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.lock().poll_gone(cx)
    }
}

impl<IO: AsyncRead + Unpin, S: Shared> Core<IO, S> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.scan.is_complete() && !self.eof && self.carry.len() < MAX_CARRY {
            let mut space = [const { MaybeUninit::uninit() }; 1024];
            let mut buf = ReadBuf::uninit(&mut space);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut buf);
            self.watched = read.is_pending();
            if ready!(read).is_err() {
                return Poll::Ready(());
            }
            let fresh = buf.filled();
            let now = self.now();
            if fresh.is_empty() {
                self.eof = true;
                let after = Duration::from_nanos(now.saturating_sub(self.last_byte));
                if after > HALF_CLOSE {
                    return Poll::Ready(());
                }
            } else {
                self.last_byte = now;
                self.served.client().add_progress(fresh.len());
                self.carry.extend_from_slice(fresh);
            }
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(fault) = self.fault {
            return Poll::Ready(Err(broken(fault)));
        }
        if self.scan.is_complete() {
            // It is woken when the exchange ends.
            self.asked = true;
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let carried = !self.carry.is_empty();
        if carried {
            let some = self.carry.len().min(buf.remaining());
            buf.put_slice(&self.carry[..some]);
        } else if self.eof {
            return Poll::Ready(Ok(()));
        } else {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            let bytes = buf.filled().len() - before;
            if bytes == 0 {
                self.eof = true;
                return Poll::Ready(Ok(()));
            }
            self.served.client().add_progress(bytes);
        }
        Poll::Ready(self.admit(buf, before, carried))
    }
}

impl<IO: AsyncWrite + Unpin, S: Shared> Wire<IO, S> {
    /// Writes the interim answers that wait, while the library has nothing to write. What the client
    /// does not take now goes out with the library's next write.
    pub(super) fn poll_interim(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut core = self.0.lock();
        ready!(core.poll_ahead(cx))?;
        Pin::new(&mut core.io).poll_flush(cx)
    }
}

impl<IO: AsyncWrite + Unpin, S: Shared> Core<IO, S> {
    /// Writes the interim answers that wait.
    #[cold]
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let heads = self.served.client().interim().take();
        // HTTP/1.0 knows none. And while the client takes nothing, the library may be in the midst of
        // a head of its own.
        if !self.served.exchange().is_old() && !self.blocked {
            interim::encode(&heads, &mut self.ahead);
        }
        while !self.ahead.is_empty() {
            let outcome = Pin::new(&mut self.io).poll_write(cx, &self.ahead);
            match ready!(self.written(outcome))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.ahead.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.stage().is_busy() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        if self.served.client().interim().is_waiting() || !self.ahead.is_empty() {
            ready!(self.poll_ahead(cx))?;
        }
        let io = Pin::new(&mut self.io);
        let mut space = SPACE;
        let outcome = match slices {
            [slice] => io.poll_write(cx, slice),
            slices => match gather(slices, &mut space) {
                Some(gathered) => io.poll_write(cx, gathered.filled()),
                None => io.poll_write_vectored(cx, slices),
            },
        };
        self.written(outcome)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_pending() {
            // Under TLS what the client does not take may wait here, all of it written.
            self.block();
        }
        ready!(flushed)?;
        if self.blocked {
            self.unblock();
        }
        if self.served.exchange().flushed() {
            cx.waker().wake_by_ref();
        }
        if self.stage() == Stage::Answered && self.scan.is_complete() {
            self.end_exchange();
            let asked = std::mem::take(&mut self.asked);
            let watched = std::mem::take(&mut self.watched);
            if (asked && !watched) || !self.carry.is_empty() || self.eof {
                // The socket will not wake the task for these.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin, S: Shared> AsyncRead for Wire<IO, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.lock().poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin, S: Shared> AsyncWrite for Wire<IO, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().io.is_write_vectored()
    }

    /// Called by the HTTP library in each of its turns in which it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_flush(cx)
    }

    /// The end of the connection is ours to shape: see [`super::connection`].
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Nanoseconds since the client's connection was accepted.
pub(super) fn since(client: &Client) -> u64 {
    nanos(clock::now().saturating_duration_since(client.accepted()))
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

fn broken((_, sentence): Fault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}
