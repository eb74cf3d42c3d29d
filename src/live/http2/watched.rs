//! The bytes of an HTTP/2 connection, looked at on their way. What the protocol's library does not tell
//! is read off the heads of the frames: how far the other end will go by its GOAWAY, and which streams
//! of ours have begun to leave us. Both decide whether a request may be sent again (rules 15, 67).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::gather::{SPACE, gather};
use crate::live::frames::{self, Frames, GOAWAY, HEADERS};
use crate::live::wire::Wire;
use crate::tls::{self, Refusal};

/// Stands for "no GOAWAY": above every id.
const NONE: u32 = u32::MAX;

/// What was seen on one connection.
#[derive(Debug)]
pub(super) struct Seen {
    /// Bytes that have come; only the connection's own task adds to it.
    read: AtomicU64,
    /// The last stream that the other end will act on.
    last_stream: AtomicU32,
    /// The last stream of ours whose head has begun to leave us.
    opened: AtomicU32,
    /// What ended it, where we did.
    ended_by_us: OnceLock<String>,
    /// The endpoint refused the TLS handshake after all.
    refusal: OnceLock<Refusal>,
    /// Somebody doubts that the other end lives.
    pub(super) doubt: Notify,
}

impl Seen {
    fn new() -> Self {
        Self {
            read: AtomicU64::new(0),
            last_stream: AtomicU32::new(NONE),
            opened: AtomicU32::new(0),
            ended_by_us: OnceLock::new(),
            refusal: OnceLock::new(),
            doubt: Notify::new(),
        }
    }

    /// Bytes that have come so far.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether the other end takes no new streams.
    pub(super) fn is_going_away(&self) -> bool {
        self.last_stream.load(Ordering::Acquire) != NONE
    }

    /// Whether the other end cannot have acted on the stream: its head has not left us, or the other
    /// end said so.
    pub(super) fn is_untouched(&self, stream: u32) -> bool {
        stream > self.last_stream.load(Ordering::Acquire)
            || stream > self.opened.load(Ordering::Acquire)
    }

    /// Says why we end it.
    pub(super) fn end(&self, why: String) {
        let _ = self.ended_by_us.set(why);
    }

    /// How the endpoint refused the TLS handshake, if it did.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.get()
    }

    /// Why we ended it, if we did.
    pub(super) fn ended_by_us(&self) -> Option<&str> {
        self.ended_by_us.get().map(String::as_str)
    }
}

/// A connection's bytes with somebody who looks at them.
pub(super) struct Watched {
    wire: Wire,
    seen: Arc<Seen>,
    incoming: Frames,
    outgoing: Frames,
}

impl Watched {
    pub(super) fn new(wire: Wire) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::new());
        let watched = Self {
            wire,
            seen: Arc::clone(&seen),
            incoming: Frames::without_preface(),
            outgoing: Frames::after_preface(),
        };
        (watched, seen)
    }

    fn note_read(&mut self, mut bytes: &[u8]) {
        let sum = self.seen.read() + bytes.len() as u64;
        self.seen.read.store(sum, Ordering::Relaxed);
        while !bytes.is_empty() {
            if let Some(frames::Seen::Ended(head, last)) = self.incoming.next(&mut bytes)
                && head.kind == GOAWAY
            {
                let last = last & !(1 << 31);
                self.seen.last_stream.fetch_min(last, Ordering::AcqRel);
            }
        }
    }

    fn note_written<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>, mut written: usize) {
        for part in parts {
            let mut bytes = &part[..written.min(part.len())];
            written -= bytes.len();
            while !bytes.is_empty() {
                if let Some(frames::Seen::Begun(head)) = self.outgoing.next(&mut bytes)
                    && head.kind == HEADERS
                {
                    self.seen.opened.fetch_max(head.stream, Ordering::AcqRel);
                }
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.wire).poll_read(cx, buf);
        let after = buf.filled().len();
        if after > before {
            this.note_read(&buf.filled()[before..]);
        }
        if let Poll::Ready(Err(error)) = &result
            && let Some(refusal) = tls::refusal_of(error)
        {
            let _ = this.seen.refusal.set(refusal);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.wire).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = result {
            this.note_written(std::iter::once(buf), written);
        }
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wire = Pin::new(&mut this.wire);
        let mut space = SPACE;
        let result = match gather(bufs, &mut space) {
            Some(gathered) => wire.poll_write(cx, gathered.filled()),
            None => wire.poll_write_vectored(cx, bufs),
        };
        if let Poll::Ready(Ok(written)) = result {
            this.note_written(bufs.iter().map(|part| &**part), written);
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_67_a_stream_is_untouched_until_its_head_leaves_and_where_the_goaway_says_so() {
        let seen = Seen::new();
        assert!(seen.is_untouched(1), "nothing has left");
        seen.opened.store(5, Ordering::Relaxed);
        assert!(!seen.is_untouched(5));
        assert!(seen.is_untouched(7));
        assert!(!seen.is_going_away());
        seen.last_stream.store(3, Ordering::Relaxed);
        assert!(seen.is_going_away());
        assert!(!seen.is_untouched(3), "the other end may have acted on it");
        assert!(seen.is_untouched(5));
    }
}
