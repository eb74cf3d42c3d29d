//! Reading from a client: heads, bodies as they are wanted, and whether the client is still there.
//!
//! A FIN alone does not say whether a client has gone: one that calls `shutdown(SHUT_WR)` after its request
//! still wants the answer, one that calls `close` does not. But a half-close is part of sending the request
//! and comes with it, while a client that gives up does so after a while. So a FIN within [`HALF_CLOSE`] of
//! the last byte is a half-close, a later one means that the client has gone. Mistaken for a half-close, a
//! client that has gone costs one answer; its reset of our first bytes ends the connection.
//!
//! A client that leaves while bytes of its request's body still have to be read is noticed when the handler
//! reads on: a FIN behind unread bytes cannot be seen.

use std::io;
use std::mem::{MaybeUninit, take};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, ReadBuf};

use super::connection::{Connection, End, Stage};
use super::head::{self, Fault, Head, TOO_LARGE};
use super::upload::Wish;
use crate::live::frames::PREFACE;
use crate::live::received::ReceivedBody;
use crate::proxy::Reason;
use crate::server::handler::Handler;
use crate::server::transport::Transport;

/// A FIN that comes so soon after a request's last byte belongs to the request.
const HALF_CLOSE: Duration = Duration::from_millis(20);

/// Bytes of later requests that are taken in while one is served. Then reading pauses, and the client's
/// leaving is not seen until the answer is written.
const MAX_CARRY: usize = 16 * 1024;

/// Bytes that are read at once without memory of their own.
const READ: usize = 8 * 1024;

/// Bytes of a large body that are read at once, at most.
const MAX_READ: usize = 64 * 1024;

/// Bytes of a head up to which it is looked at whenever more of it comes; later, only with whole lines.
const SHORT: usize = 1024;

/// Bytes of the first line of what a client of HTTP/2 begins with.
const PREFACE_LINE: usize = "PRI * HTTP/2.0\r\n".len();

/// A redirected client speaks another protocol.
const NO_HTTP: Fault = (
    Reason::BadRequest,
    "The connection does not begin with a request.",
);

impl<IO, H, M, F> Connection<'_, IO, H, M, F>
where
    IO: Transport,
    H: Handler,
    M: Fn(Request<ReceivedBody>) -> F,
    F: Future<Output = Response<H::Body>>,
{
    /// Reads the next request's head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Head>, End>> {
        if take(&mut self.pipelined)
            && let Some(head) = self.take_head()?
        {
            return Poll::Ready(Ok(head));
        }
        loop {
            if self.eof {
                return Poll::Ready(Err(match self.stage {
                    Stage::Head => End::Incomplete,
                    Stage::Idle | Stage::Serving | Stage::Answered => End::Done,
                }));
            }
            let mut space = [MaybeUninit::uninit(); READ];
            let mut fresh = ReadBuf::uninit(&mut space);
            if ready!(Pin::new(&mut self.io).poll_read(cx, &mut fresh)).is_err() {
                return Poll::Ready(Err(End::Failed));
            }
            let fresh = fresh.filled();
            if fresh.is_empty() {
                self.eof = true;
                continue;
            }
            self.came(fresh.len());
            if let Some(head) = self.take_fresh(fresh)? {
                return Poll::Ready(Ok(head));
            }
        }
    }

    /// Takes in bytes that came where a head is due.
    fn take_fresh(&mut self, fresh: &[u8]) -> Result<Option<Box<Head>>, End> {
        if let Some(kept) = &mut self.kept {
            let is_http = kept.look(fresh);
            kept.keep(fresh);
            if !is_http {
                return Err(End::Refused(NO_HTTP));
            }
        }
        if !self.buffer.is_empty() {
            self.buffer.extend_from_slice(fresh);
            let short = self.buffer.len() <= SHORT || self.buffer.len() > self.limits.size;
            if short || fresh.contains(&b'\n') {
                return self.take_head();
            }
            return Ok(None);
        }
        // Mostly a head comes in one piece, and nothing with it.
        match self.look(fresh) {
            Ok((taken, head)) => {
                self.buffer.extend_from_slice(&fresh[taken..]);
                Ok(head)
            }
            Err(end) => {
                self.buffer.extend_from_slice(fresh);
                Err(end)
            }
        }
    }

    /// Takes a head from the buffer, if it is complete.
    fn take_head(&mut self) -> Result<Option<Box<Head>>, End> {
        let mut buffer = take(&mut self.buffer);
        let looked = self.look(&buffer);
        if let Ok((taken, _)) = &looked {
            buffer.advance(*taken);
        }
        if !buffer.is_empty() {
            self.buffer = buffer;
        }
        looked.map(|(_, head)| head)
    }

    /// Looks at what came of a head; gives how many of the bytes are done with.
    fn look(&mut self, bytes: &[u8]) -> Result<(usize, Option<Box<Head>>), End> {
        let empty = head::empty_lines(bytes);
        self.empty += empty;
        let rest = &bytes[empty..];
        if self.empty > self.limits.size {
            return Err(End::Refused(TOO_LARGE));
        }
        if matches!(rest, [] | [b'\r']) {
            return Ok((empty, None));
        }
        if self.stage == Stage::Idle {
            let now = self.now();
            self.client.set_began(now);
            self.stage = Stage::Head;
            self.deadline = now.saturating_add(self.times.header);
        }
        if self.may_be_http2 && self.empty == 0 {
            let some = rest.len().min(PREFACE_LINE);
            if rest[..some] == PREFACE[..some] {
                return match some {
                    PREFACE_LINE => Err(End::Http2),
                    _ => Ok((0, None)),
                };
            }
        }
        let head = head::parse(rest, self.limits).map_err(End::Refused)?;
        let length = head.as_ref().map_or(rest.len(), |head| head.length);
        if self.empty + length > self.limits.size {
            return Err(End::Refused(TOO_LARGE));
        }
        let taken = head.as_ref().map_or(0, |head| head.length);
        Ok((empty + taken, head))
    }

    /// While a request is served: reads its body where it is wanted, and sees whether the client is still
    /// there. Keeps what it sends ahead.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while self.wants_to_read(cx) {
            let read = match self.poll_read(cx) {
                Poll::Ready(read) => read,
                Poll::Pending => return Ok(()),
            };
            match (read, &mut self.upload) {
                (Ok(0), Some(upload)) if !upload.is_whole() => {
                    self.eof = true;
                    upload.break_off(io::ErrorKind::UnexpectedEof.into());
                }
                (Err(error), Some(upload)) if !upload.is_whole() => {
                    self.eof = true;
                    upload.break_off(error);
                }
                (Ok(0), _) => {
                    self.eof = true;
                    let after = self.now().saturating_sub(self.last_byte);
                    if Duration::from_nanos(after) > HALF_CLOSE {
                        return Err(End::Gone);
                    }
                }
                (Err(_), _) => return Err(End::Gone),
                (Ok(bytes), upload) => {
                    if let Some(upload) = upload {
                        upload.take_in(&mut self.buffer);
                    }
                    self.came(bytes);
                }
            }
        }
        Ok(())
    }

    /// Delivers of the body what is wanted and there; gives whether to read on.
    fn wants_to_read(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(upload) = &mut self.upload else {
            return self.watches();
        };
        let (wish, is_whole) = (upload.deliver(cx), upload.is_whole());
        match wish {
            Wish::Over | Wish::Dropped if is_whole => {
                self.upload = None;
                self.watches()
            }
            Wish::Bytes => !self.eof,
            Wish::Continue => {
                self.append_continue();
                self.wants_to_read(cx)
            }
            Wish::Nothing if is_whole => self.watches(),
            Wish::Nothing => upload.is_due() && !self.eof,
            Wish::Over | Wish::Dropped => false,
        }
    }

    /// Whether to see if the client is still there.
    fn watches(&self) -> bool {
        self.stage == Stage::Serving && !self.eof && self.buffer.len() < MAX_CARRY
    }

    fn came(&mut self, bytes: usize) {
        self.client.add_progress(bytes);
        self.last_byte = self.now();
    }

    /// Reads behind the buffer.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let unfinished = self.upload.as_ref().filter(|upload| !upload.is_whole());
        let wanted = unfinished.map(|upload| upload.left().unwrap_or(u64::MAX));
        if self.room > 0
            && let Some(wanted) = wanted
        {
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            return self.poll_read_large(wanted.min(self.room), cx);
        }
        let mut space = [MaybeUninit::uninit(); READ];
        let mut fresh = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut fresh))?;
        let bytes = fresh.filled().len();
        self.buffer.extend_from_slice(fresh.filled());
        if bytes == READ && wanted.is_some() {
            self.room = 2 * READ;
        }
        Poll::Ready(Ok(bytes))
    }

    /// Reads so much of a large body at once, into memory of its own.
    fn poll_read_large(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.reserve(room);
        let read = {
            let mut limited = (&mut self.buffer).limit(room);
            let reading = pin!(self.io.read_buf(&mut limited));
            reading.poll(cx)
        };
        if read.is_pending() && self.buffer.is_empty() {
            // Who sends slowly holds little.
            self.buffer = BytesMut::new();
        }
        let bytes = ready!(read)?;
        if bytes == self.room {
            self.room = (2 * self.room).min(MAX_READ);
        } else if bytes < self.room / 2 {
            self.room = if self.room > 2 * READ {
                self.room / 2
            } else {
                0
            };
        }
        Poll::Ready(Ok(bytes))
    }

    /// Makes ready for the next request.
    pub(super) fn rest_reading(&mut self) {
        self.empty = 0;
        self.may_be_http2 = false;
        self.pipelined = !self.buffer.is_empty();
        if !self.pipelined {
            self.buffer = BytesMut::new();
        } else if self.room > 0 {
            // It would hold on to all that was read with it.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        self.room = 0;
        if let Some(kept) = &mut self.kept {
            kept.forget();
            kept.keep(&self.buffer);
            self.client.set_routed(false);
        }
    }
}
