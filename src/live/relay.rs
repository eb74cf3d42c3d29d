//! Carries bytes between a client and a line, both ways at once. Each way stops reading while its other
//! end takes nothing (back-pressure), keeps at most [`MOST_KEPT`] bytes meanwhile and none while nothing
//! moves, and passes an end on as an end: the other way goes on.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::line::Line;

/// Bytes that are kept for an end that does not take them.
pub const MOST_KEPT: usize = 16 * 1024;

/// The two ends, and what is on its way between them.
#[derive(Debug)]
pub struct Relay<N> {
    near: N,
    line: Line,
    up: Way,
    down: Way,
    moved: bool,
}

/// Why a relay ended before both ends had.
#[derive(Debug)]
pub enum Broken {
    /// The client's connection broke.
    Near(io::Error),
    /// The endpoint's connection broke.
    Far(io::Error),
}

/// One way.
#[derive(Debug, Default)]
struct Way {
    /// Read, and not yet written.
    kept: BytesMut,
    /// What was written has to be flushed.
    unflushed: bool,
    /// Its reading end has ended.
    ended: bool,
    /// The other end knows.
    done: bool,
    bytes: u64,
}

/// What went wrong on one way.
enum Fault {
    Read(io::Error),
    Write(io::Error),
}

impl<N: AsyncRead + AsyncWrite + Unpin> Relay<N> {
    /// Between a client, which has sent these bytes already, and a line.
    pub fn new(near: N, early: &[u8], mut line: Line) -> Self {
        let (mut up, mut down) = (Way::default(), Way::default());
        up.kept.extend_from_slice(early);
        let from_far: Bytes = std::mem::take(&mut line.early);
        down.kept.extend_from_slice(&from_far);
        Self {
            near,
            line,
            up,
            down,
            moved: false,
        }
    }

    /// Carries what can be carried now. Ready when both ends have ended.
    ///
    /// # Errors
    /// Which end broke.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Self {
            near,
            line,
            up,
            down,
            moved,
        } = self;
        let far = &mut line.wire;
        let upwards = up.poll(near, far, moved, cx).map_err(|fault| match fault {
            Fault::Read(error) => Broken::Near(error),
            Fault::Write(error) => Broken::Far(error),
        })?;
        let downwards = down
            .poll(far, near, moved, cx)
            .map_err(|fault| match fault {
                Fault::Read(error) => Broken::Far(error),
                Fault::Write(error) => Broken::Near(error),
            })?;
        ready!(upwards);
        downwards.map(Ok)
    }

    /// Whether a byte or an end moved since it was asked last.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}

impl<N> Relay<N> {
    /// Bytes that went to the endpoint, and to the client.
    pub fn bytes(&self) -> (u64, u64) {
        (self.up.bytes, self.down.bytes)
    }

    /// The endpoint is to see a break, not an end.
    pub fn break_off(&self) {
        self.line.wire.break_off();
    }
}

impl Way {
    fn poll<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.kept.is_empty() {
                let written = ready!(write(to, &self.kept, cx)).map_err(Fault::Write)?;
                self.kept.advance(written);
                self.wrote(written, moved);
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Fault::Write)?;
                self.done = true;
                *moved = true;
                return Poll::Ready(Ok(()));
            }
            // A way that rests keeps no space.
            self.kept = BytesMut::new();
            let mut space = [const { MaybeUninit::uninit() }; MOST_KEPT];
            let mut read = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *from).poll_read(cx, &mut read) {
                Poll::Ready(result) => result.map_err(Fault::Read)?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Fault::Write)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let fresh = read.filled();
            if fresh.is_empty() {
                self.ended = true;
                continue;
            }
            match write(to, fresh, cx) {
                Poll::Ready(written) => {
                    let written = written.map_err(Fault::Write)?;
                    self.kept.extend_from_slice(&fresh[written..]);
                    self.wrote(written, moved);
                }
                Poll::Pending => {
                    self.kept.extend_from_slice(fresh);
                    *moved = true;
                }
            }
        }
    }

    fn wrote(&mut self, bytes: usize, moved: &mut bool) {
        self.bytes += bytes as u64;
        self.unflushed = true;
        *moved = true;
    }
}

fn write<W: AsyncWrite + Unpin>(
    to: &mut W,
    bytes: &[u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    Poll::Ready(match ready!(Pin::new(to).poll_write(cx, bytes)) {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::wire::{Dialer, Dialing};
    use super::*;

    /// A relay with the other ends of both sides; each pipe holds 1 KiB.
    async fn relay(early: &[u8]) -> (Relay<DuplexStream>, DuplexStream, DuplexStream) {
        let (client, near) = duplex(1024);
        let (endpoint, far) = duplex(1024);
        let far = Mutex::new(Some(far));
        let dial = move |_: SocketAddr| -> Dialing {
            let far = far.lock().take().expect("dialled once");
            Box::pin(async move { Ok(Box::new(far) as _) })
        };
        let address = SocketAddr::from(([10, 0, 0, 1], 80)).into();
        let dialer = Dialer::Memory(Arc::new(dial));
        let line = Line::open(&dialer, &address, None).await.expect("a line");
        (Relay::new(near, early, line), client, endpoint)
    }

    async fn run(mut relay: Relay<DuplexStream>) -> (Result<(), Broken>, (u64, u64)) {
        let ended = std::future::poll_fn(|cx| relay.poll(cx)).await;
        (ended, relay.bytes())
    }

    #[tokio::test]
    async fn bytes_go_both_ways_the_early_ones_first_and_an_end_is_passed_on() {
        let (relay, mut client, mut endpoint) = relay(b"early ").await;
        let running = tokio::spawn(run(relay));
        client.write_all(b"up").await.expect("open");
        client.shutdown().await.expect("open");
        let mut seen = String::new();
        endpoint.read_to_string(&mut seen).await.expect("an end");
        assert_eq!(seen, "early up");
        // The client has ended, and still hears.
        endpoint.write_all(b"down").await.expect("open");
        drop(endpoint);
        let mut seen = String::new();
        client.read_to_string(&mut seen).await.expect("an end");
        assert_eq!(seen, "down");
        let (ended, bytes) = running.await.expect("no panic");
        assert!(ended.is_ok());
        assert_eq!(bytes, (8, 4));
    }

    #[tokio::test]
    async fn an_end_that_takes_nothing_stops_the_other_within_bounds() {
        let (mut relay, mut client, mut endpoint) = relay(b"").await;
        let sent = Arc::new(Mutex::new(0));
        let count = Arc::clone(&sent);
        let flood = tokio::spawn(async move {
            while client.write_all(&[7; 1024]).await.is_ok() {
                *count.lock() += 1024;
            }
        });
        for _ in 0..1000 {
            let poll = std::future::poll_fn(|cx| Poll::Ready(relay.poll(cx))).await;
            assert!(poll.is_pending());
            tokio::task::yield_now().await;
        }
        // One pipe to us, what we keep, and one pipe to the endpoint.
        let most = MOST_KEPT + 3 * 1024;
        assert!(*sent.lock() <= most, "{} bytes", sent.lock());
        let mut seen = vec![0; 100 * 1024];
        let running = tokio::spawn(run(relay));
        endpoint.read_exact(&mut seen).await.expect("they flow on");
        assert!(seen.iter().all(|byte| *byte == 7));
        flood.abort();
        drop(endpoint);
        let (ended, _) = running.await.expect("no panic");
        assert!(matches!(ended, Err(Broken::Far(_)) | Ok(())), "{ended:?}");
    }
}
