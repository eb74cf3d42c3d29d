//! What stands between a client's socket and the library: it follows the frames of both directions.
//!
//! From the client's it learns how many streams were opened, whether a header block is open, and which
//! frames carry nothing. From ours, which heads the library has refused by itself: it answers or resets
//! streams that it never hands over, and says so to nobody. So the streams that were opened and not
//! handed over are kept by number, until they are; what is written to one of them is a refusal.

use std::io;
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::floods::{Floods, SETTINGS_WEIGHT};
use crate::clock;
use crate::live::frames::{CONTINUATION, DATA, Frames, HEADERS, RST_STREAM, SETTINGS, Seen};
use crate::telemetry::limits::Limit;

/// Heads that may wait for the library's judgement.
const MAX_UNJUDGED: usize = 10_000;

/// One client's connection. The library reads and writes through one handle, the task around it looks
/// through another; both are used by that task alone, so the lock never waits.
pub(super) struct Wire<IO>(Arc<Mutex<Core<IO>>>);

struct Core<IO> {
    io: IO,
    /// Read already, when it was found out which version the client speaks.
    ahead: BytesMut,
    from_client: Frames,
    to_client: Frames,
    state: State,
}

struct State {
    floods: Floods,
    limit: Option<Limit>,
    /// Since when a header block is open.
    head_since: Option<Instant>,
    in_block: bool,
    /// The last stream whose head did not come in one piece, and when it began.
    slow_head: Option<(u32, Instant)>,
    /// Since when the client takes nothing of what we write.
    blocked_since: Option<Instant>,
    /// The last stream that the client has opened.
    last_opened: u32,
    unjudged: Vec<u32>,
    refused: Vec<Refused>,
    eof: bool,
}

/// How the library has refused a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its headers are larger than what was announced.
    TooLarge,
    /// Reset with this code.
    Reset(u32),
}

impl<IO> Wire<IO> {
    /// A connection of which `ahead` has been read already.
    pub(super) fn new(io: IO, ahead: BytesMut, max_streams: u32) -> Self {
        Self(Arc::new(Mutex::new(Core {
            io,
            ahead,
            from_client: Frames::after_preface(),
            to_client: Frames::without_preface(),
            state: State {
                floods: Floods::new(max_streams, clock::now()),
                limit: None,
                head_since: None,
                in_block: false,
                slow_head: None,
                blocked_since: None,
                last_opened: 0,
                unjudged: Vec::new(),
                refused: Vec::new(),
                eof: false,
            },
        })))
    }

    /// Another handle.
    pub(super) fn handle(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// The socket, and whether the client's FIN has come; from the last handle.
    pub(super) fn into_parts(self) -> Option<(IO, bool)> {
        let core = Arc::into_inner(self.0)?.into_inner();
        Some((core.io, core.state.eof))
    }

    /// What was seen since the last call.
    pub(super) fn look(&self) -> Look {
        let state = &mut self.0.lock().state;
        Look {
            limit: state.limit,
            refused: take(&mut state.refused),
            head_since: state.head_since,
            blocked_since: state.blocked_since,
        }
    }

    /// The library has handed over this stream.
    pub(super) fn judged(&self, stream: u32) -> Judged {
        let state = &mut self.0.lock().state;
        let place = state.unjudged.iter().position(|one| *one == stream);
        let Some(place) = place else {
            return Judged::Refused;
        };
        state.unjudged.remove(place);
        let slow = state.slow_head.take_if(|(slow, _)| *slow == stream);
        Judged::Handed(slow.map(|(_, since)| since))
    }

    /// What our last frame said to the client.
    pub(super) fn goodbye(&self) -> Vec<u8> {
        self.0.lock().to_client.goodbye().to_vec()
    }

    /// A stream was reset by the client soon after it was opened.
    pub(super) fn reset_soon(&self) {
        let state = &mut self.0.lock().state;
        state.limit = state.limit.or_else(|| state.floods.reset(clock::now));
    }
}

/// What became of a stream that the library hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is a request. When its head began, if it did not come in one piece.
    Handed(Option<Instant>),
    /// It was reset already, for what came behind its head, and that was told.
    Refused,
}

/// What the wire has seen of the client.
pub(super) struct Look {
    /// The limit that it has gone over. Nothing is read from it after that.
    pub(super) limit: Option<Limit>,
    /// The heads that the library has refused.
    pub(super) refused: Vec<Refused>,
    /// Since when a head is coming.
    pub(super) head_since: Option<Instant>,
    /// Since when the client takes nothing.
    pub(super) blocked_since: Option<Instant>,
}

impl State {
    fn read(&mut self, frames: &mut Frames, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match frames.next(&mut bytes) {
                Some(Seen::Begun(head)) => match head.kind {
                    DATA => self.floods.content(),
                    HEADERS => {
                        self.in_block = true;
                        if head.stream > self.last_opened {
                            self.last_opened = head.stream;
                            self.unjudged.push(head.stream);
                            self.floods.opened();
                        }
                    }
                    CONTINUATION => {}
                    SETTINGS => self.control(SETTINGS_WEIGHT),
                    _ => self.control(1),
                },
                Some(Seen::Ended(head, _)) if head.ends_block() => {
                    self.in_block = false;
                    let began = self.head_since.take();
                    self.slow_head = began.map(|at| (head.stream, at)).or(self.slow_head);
                }
                Some(Seen::Ended(..)) | None => {}
            }
        }
        if self.in_block && self.head_since.is_none() {
            self.head_since = Some(clock::now());
        }
        if self.unjudged.len() > MAX_UNJUDGED {
            self.limit = Some(Limit::Resets);
        }
    }

    fn control(&mut self, weight: u32) {
        let limit = self.floods.control(weight, clock::now);
        self.limit = self.limit.or(limit);
    }

    fn written(&mut self, frames: &mut Frames, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match frames.next(&mut bytes) {
                Some(Seen::Begun(head)) if head.kind == DATA => self.floods.content(),
                Some(Seen::Ended(head, code)) if !self.unjudged.is_empty() => {
                    let refused = match head.kind {
                        HEADERS => Refused::TooLarge,
                        RST_STREAM => Refused::Reset(code),
                        _ => continue,
                    };
                    self.refuse(head.stream, refused);
                }
                Some(Seen::Begun(_) | Seen::Ended(..)) | None => {}
            }
        }
    }

    fn refuse(&mut self, stream: u32, refused: Refused) {
        if let Some(place) = self.unjudged.iter().position(|one| *one == stream) {
            self.unjudged.remove(place);
            self.refused.push(refused);
            self.limit = self.limit.or_else(|| self.floods.reset(clock::now));
        }
    }
}

impl<IO: AsyncRead + Unpin> Core<IO> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.state.limit.is_some() {
            // The task around the library looks at the limit next, and ends the connection.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            let some = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..some]);
            self.ahead.advance(some);
        }
        let fresh = &buf.filled()[before..];
        self.state.eof |= fresh.is_empty() && buf.remaining() > 0;
        self.state.read(&mut self.from_client, fresh);
        Poll::Ready(Ok(()))
    }
}

impl<IO> Core<IO> {
    /// Keeps account of a write's outcome.
    fn written(&mut self, slices: &[io::IoSlice<'_>], outcome: &Poll<io::Result<usize>>) {
        match outcome {
            Poll::Pending => {
                self.state.blocked_since.get_or_insert_with(clock::now);
            }
            Poll::Ready(Ok(bytes)) => {
                self.state.blocked_since = None;
                let mut left = *bytes;
                for slice in slices {
                    let some = slice.len().min(left);
                    self.state.written(&mut self.to_client, &slice[..some]);
                    left -= some;
                }
            }
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.lock().poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut core = self.0.lock();
        let outcome = Pin::new(&mut core.io).poll_write(cx, bytes);
        core.written(&[io::IoSlice::new(bytes)], &outcome);
        outcome
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut core = self.0.lock();
        let outcome = Pin::new(&mut core.io).poll_write_vectored(cx, slices);
        core.written(slices, &outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_flush(cx)
    }

    /// The end of the connection is ours to shape: see [`super::connection`].
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
