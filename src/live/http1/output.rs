//! What is to be written to a connection. Heads and small parts are copied together and go out in one
//! plain write; a large part is written from where it is, in one system call with what is around it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Bytes of a body's part up to which it is copied: that costs less than a second slice.
const COPIED: usize = 2048;

/// Bytes that are put together before they have to be written.
const FULL: usize = 16 * 1024;

/// Memory that is kept for what comes next.
const KEPT: usize = 1024;

/// What is to be written. Empty, it holds on to hardly any memory.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// So many of them are written already.
    written: usize,
    /// A large part, behind the bytes.
    piece: Bytes,
    /// What frames it, behind it.
    tail: &'static [u8],
}

impl Output {
    /// Heads and small things are appended here, while it is not [`Self::is_full`].
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a part of a body, and behind it what frames it, while it is not [`Self::is_full`].
    pub fn piece(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPIED {
            self.bytes.extend_from_slice(&data);
            self.bytes.extend_from_slice(tail);
        } else {
            (self.piece, self.tail) = (data, tail);
        }
    }

    /// Whether something has to be written before more may be appended.
    pub fn is_full(&self) -> bool {
        !self.piece.is_empty() || !self.tail.is_empty() || self.bytes.len() >= FULL
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.piece.is_empty() && self.tail.is_empty()
    }

    /// Writes once, and gives the number of bytes, which is 0 only if there was nothing to write.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let bytes = &self.bytes[self.written..];
        let io = Pin::new(io);
        let outcome = if self.piece.is_empty() && self.tail.is_empty() {
            io.poll_write(cx, bytes)
        } else {
            let slices = [bytes, &self.piece, self.tail].map(IoSlice::new);
            let first = slices.iter().take_while(|slice| slice.is_empty()).count();
            io.poll_write_vectored(cx, &slices[first..])
        };
        let written = ready!(outcome)?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, written: usize) {
        let bytes = written.min(self.bytes.len() - self.written);
        self.written += bytes;
        if self.written == self.bytes.len() {
            self.written = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
        }
        let behind = written - bytes;
        let piece = behind.min(self.piece.len());
        self.piece.advance(piece);
        self.tail = self.tail.get(behind - piece..).unwrap_or_default();
        if self.piece.is_empty() {
            // It would hold on to all that was read with it.
            self.piece = Bytes::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes of each write.
    struct Narrow {
        room: usize,
        seen: Vec<u8>,
        writes: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let some = this.room.min(bytes.len());
            this.seen.extend_from_slice(&bytes[..some]);
            this.writes += 1;
            Poll::Ready(Ok(some))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            assert!(!slices[0].is_empty());
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn written(output: &mut Output, room: usize) -> Narrow {
        let (seen, writes) = (Vec::new(), 0);
        let mut to = Narrow { room, seen, writes };
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            match output.poll_write(&mut to, cx) {
                Poll::Ready(Ok(0)) => return to,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) | Poll::Pending => panic!("it takes everything"),
            }
        }
    }

    #[test]
    fn a_head_and_a_small_body_are_one_write_and_a_large_one_is_not_copied() {
        let mut output = Output::default();
        output.bytes().extend_from_slice(b"head ");
        output.piece(Bytes::from_static(b"small"), b"\r\n");
        assert!(!output.is_full());
        let to = written(&mut output, usize::MAX);
        assert_eq!((to.seen, to.writes), (b"head small\r\n".to_vec(), 1));
        let large = vec![7; COPIED + 1];
        output.bytes().extend_from_slice(b"head ");
        output.piece(large.clone().into(), b"\r\n");
        assert!(output.is_full());
        let to = written(&mut output, usize::MAX);
        assert_eq!(to.seen, [&b"head "[..], &large, b"\r\n"].concat());
        assert_eq!((to.writes, output.is_empty()), (1, true));
    }

    #[test]
    fn nothing_is_lost_or_doubled_however_little_is_taken() {
        for room in [1, 2, 3, 7, 1000] {
            let mut output = Output::default();
            let large: Vec<u8> = (0..COPIED + 100).map(|n| (n % 251) as u8).collect();
            output.bytes().extend_from_slice(b"abc");
            output.piece(large.clone().into(), b"tail");
            let to = written(&mut output, room);
            assert_eq!(to.seen, [&b"abc"[..], &large, b"tail"].concat(), "{room}");
            assert!(output.is_empty() && !output.is_full());
        }
    }
}
