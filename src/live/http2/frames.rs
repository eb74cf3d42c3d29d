//! The bytes of an HTTP/2 connection, looked at on their way. What the protocol's library does not tell
//! is read off the heads of the frames: how far the other end will go by its GOAWAY, and which streams
//! of ours have begun to leave us. Both decide whether a request may be sent again (rules 15, 67).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::live::wire::{Traffic, Wire};
use crate::tls::{self, Refusal};

/// A frame's head: length in three bytes, kind, flags, and the stream's id in four.
const HEAD: usize = 9;
const HEADERS: u8 = 0x1;
const GOAWAY: u8 = 0x7;
/// Bytes that a client sends before its first frame.
const PREFACE: usize = 24;
/// Stands for "no GOAWAY": above every id.
const NONE: u32 = u32::MAX;

/// What was seen on one connection.
#[derive(Debug)]
pub(super) struct Seen {
    traffic: Traffic,
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
    fn new(traffic: Traffic) -> Self {
        Self {
            traffic,
            last_stream: AtomicU32::new(NONE),
            opened: AtomicU32::new(0),
            ended_by_us: OnceLock::new(),
            refusal: OnceLock::new(),
            doubt: Notify::new(),
        }
    }

    /// Bytes that have come so far.
    pub(super) fn read(&self) -> u64 {
        self.traffic.read()
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

/// Goes through the frames in a stream of bytes.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    have: usize,
    /// Bytes of the payload that are still to come.
    payload: usize,
    /// The first bytes of the payload that are wanted, and how many there are.
    wanted: [u8; 4],
    got: usize,
}

impl Frames {
    fn after(preface: usize) -> Self {
        Self {
            payload: preface,
            ..Self::default()
        }
    }

    /// Tells of each frame: its kind, its stream and, where they are of a GOAWAY, its first four bytes.
    fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(u8, u32, Option<u32>)) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let taken = self.payload.min(bytes.len());
                self.take_wanted(&bytes[..taken], &mut tell);
                self.payload -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                self.have = 0;
                self.got = 0;
                let [a, b, c, kind, ..] = self.head;
                self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
                tell(kind, self.stream(), None);
            }
        }
    }

    fn stream(&self) -> u32 {
        let [.., a, b, c, d] = self.head;
        u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff
    }

    fn take_wanted(&mut self, payload: &[u8], tell: &mut impl FnMut(u8, u32, Option<u32>)) {
        if self.head[3] != GOAWAY || self.got == self.wanted.len() {
            return;
        }
        let taken = (self.wanted.len() - self.got).min(payload.len());
        self.wanted[self.got..self.got + taken].copy_from_slice(&payload[..taken]);
        self.got += taken;
        if self.got == self.wanted.len() {
            let id = u32::from_be_bytes(self.wanted) & 0x7fff_ffff;
            tell(GOAWAY, self.stream(), Some(id));
        }
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
        let seen = Arc::new(Seen::new(wire.traffic().clone()));
        let watched = Self {
            wire,
            seen: Arc::clone(&seen),
            incoming: Frames::default(),
            outgoing: Frames::after(PREFACE),
        };
        (watched, seen)
    }

    fn note_read(&mut self, bytes: &[u8]) {
        let seen = &self.seen;
        self.incoming.pass(bytes, |_, _, goes_to| {
            if let Some(last) = goes_to {
                seen.last_stream.fetch_min(last, Ordering::AcqRel);
            }
        });
    }

    fn note_written<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>, mut written: usize) {
        let seen = &self.seen;
        for part in parts {
            let taken = written.min(part.len());
            self.outgoing.pass(&part[..taken], |kind, stream, _| {
                if kind == HEADERS {
                    seen.opened.fetch_max(stream, Ordering::AcqRel);
                }
            });
            written -= taken;
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
        let result = Pin::new(&mut this.wire).poll_write_vectored(cx, bufs);
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

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn frames_are_told_whichever_way_their_bytes_come() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, &[7; 18]));
        bytes.extend(frame(HEADERS, 3, b"GOAWAY"));
        bytes.extend(frame(0, 3, &[]));
        bytes.extend(frame(GOAWAY, 0, &[0x80, 0, 1, 5, 0, 0, 0, 0, 9, 9]));
        bytes.extend(frame(HEADERS, 7, &[1]));
        let told = vec![
            (4, 0, None),
            (HEADERS, 3, None),
            (0, 3, None),
            (GOAWAY, 0, None),
            (GOAWAY, 0, Some(261)),
            (HEADERS, 7, None),
        ];
        for step in [1, 2, 5, 9, 10, bytes.len()] {
            let mut frames = Frames::after(PREFACE);
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                frames.pass(piece, |kind, stream, last| seen.push((kind, stream, last)));
            }
            assert_eq!(seen, told, "{step} bytes at a time");
        }
    }

    #[test]
    fn rule_67_a_stream_is_untouched_until_its_head_leaves_and_where_the_goaway_says_so() {
        let seen = Seen::new(Traffic::default());
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
