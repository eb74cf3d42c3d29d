//! An endpoint in memory: once a request is whole, an answer is on its way, and whoever waits for it is woken, as
//! by a socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pipe::{read_some, take_all};

/// What all connections to endpoints do.
pub(crate) struct Script {
    /// The bytes that every request ends with.
    pub(crate) ending: &'static [u8],
    /// The answers, one after the other and then again.
    pub(crate) answers: Vec<Vec<u8>>,
    pub(crate) answered: AtomicUsize,
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A request is awaited, or a part of it has come.
    Asked,
    /// The answer is on its way.
    Sent,
    /// The answer can be read.
    Here,
}

/// One connection to an endpoint.
pub(crate) struct Endpoint {
    script: Arc<Script>,
    stage: Stage,
    request: Vec<u8>,
    /// Which answer it is, and how much of it was read.
    answer: usize,
    read: usize,
    reader: Option<Waker>,
}

impl Endpoint {
    pub(crate) fn new(script: &Arc<Script>) -> Self {
        Self {
            script: Arc::clone(script),
            stage: Stage::Asked,
            request: Vec::new(),
            answer: 0,
            read: 0,
            reader: None,
        }
    }
}

impl AsyncRead for Endpoint {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.stage {
            Stage::Asked => this.reader = Some(cx.waker().clone()),
            // Not yet, but in the worker's next turn.
            Stage::Sent => {
                this.stage = Stage::Here;
                cx.waker().wake_by_ref();
            }
            Stage::Here => {
                let answer = &this.script.answers[this.answer];
                read_some(answer, &mut this.read, buf);
                if this.read == answer.len() {
                    (this.stage, this.read) = (Stage::Asked, 0);
                }
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }
}

impl AsyncWrite for Endpoint {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let taken = take_all(slices, &mut this.request);
        if this.request.ends_with(this.script.ending) {
            this.request.clear();
            let count = this.script.answered.fetch_add(1, Relaxed);
            this.answer = count % this.script.answers.len();
            this.stage = Stage::Sent;
            if let Some(reader) = this.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
