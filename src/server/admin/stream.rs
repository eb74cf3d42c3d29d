//! The body of a stream: what the feed hands it, as it comes. It ends when the feed lets go of it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use super::feed::Wire;

/// One stream on one connection.
#[derive(Debug)]
pub(super) struct Stream {
    parts: mpsc::Receiver<Bytes>,
    wire: Arc<Wire>,
}

impl Stream {
    pub(super) const fn new(parts: mpsc::Receiver<Bytes>, wire: Arc<Wire>) -> Self {
        Self { parts, wire }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.poll_recv(cx);
        part.map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.wire.set_streaming(false);
    }
}
