//! The client's end of a tunnel over a stream of HTTP/2 (RFC 9113 section 8.5): what it sends comes in
//! DATA, what it is sent goes in DATA, an end of either way is END_STREAM. Nothing is taken from the
//! client before the other end wants it, and no more is sent than the client has room for: beside the
//! stream's windows it holds one frame at most.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::tunnel::Close;

/// Both ways of the stream.
pub(super) struct Channel {
    receive: RecvStream,
    send: SendStream<Bytes>,
    /// What was received, and not yet read.
    fresh: Bytes,
    /// The client knows that nothing more comes.
    ended: bool,
    /// The client has reset the stream, or its connection is gone.
    left: bool,
}

impl Channel {
    pub(super) fn new(receive: RecvStream, send: SendStream<Bytes>) -> Self {
        Self {
            receive,
            send,
            fresh: Bytes::new(),
            ended: false,
            left: false,
        }
    }

    /// Ends the stream. Gives whether the client had done so before, by a reset.
    pub(super) fn close(mut self, close: Close) -> bool {
        match close {
            // It fails where the client has left.
            Close::Clean if !self.ended => _ = self.send.send_data(Bytes::new(), true),
            Close::Clean => {}
            Close::Break => self.send.send_reset(Reason::CONNECT_ERROR),
        }
        self.left
    }

    fn lost(&mut self, error: h2::Error) -> io::Error {
        self.left = true;
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.fresh.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                Some(Ok(data)) => this.fresh = data,
                Some(Err(error)) => return Poll::Ready(Err(this.lost(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = this.fresh.len().min(into.remaining());
        into.put_slice(&this.fresh[..taken]);
        this.fresh.advance(taken);
        // The window moves by what the other end has room for. It fails where nobody sends any more.
        let _ = this.receive.flow_control().release_capacity(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(bytes.len());
        let mut room = this.send.capacity();
        while room == 0 {
            room = match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                Some(Err(error)) => return Poll::Ready(Err(this.lost(error))),
                None => {
                    this.left = true;
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            };
        }
        let sent = room.min(bytes.len());
        let data = Bytes::copy_from_slice(&bytes[..sent]);
        Poll::Ready(match this.send.send_data(data, false) {
            Ok(()) => Ok(sent),
            Err(error) => Err(this.lost(error)),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes what the library has.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(Ok(()));
        }
        this.ended = true;
        Poll::Ready(match this.send.send_data(Bytes::new(), true) {
            Ok(()) => Ok(()),
            Err(error) => Err(this.lost(error)),
        })
    }
}
