//! The client's end of a connection in memory: it sends the same request whenever it is told to, and sees when
//! its answer is whole. What it does costs next to nothing, since it is counted with the rest.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mamparo::server::transport::Transport;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::Frames;
use crate::pipe::{read_some, take_all};

/// How it puts its request, and sees the end of an answer.
pub(crate) enum Speaks {
    /// The request's bytes, and those that every answer ends with.
    Http1 {
        request: Vec<u8>,
        ending: &'static [u8],
    },
    Http2(Frames),
}

/// A client. Its copies are the same one.
#[derive(Clone)]
pub(crate) struct Client(Arc<Mutex<Exchange>>);

struct Exchange {
    speaks: Speaks,
    /// What it sends, and how much of it was read.
    request: Vec<u8>,
    read: usize,
    /// What has come of the current answer.
    answer: Vec<u8>,
    whole: bool,
    /// Who waits for the next request, and who for its answer.
    reader: Option<Waker>,
    asker: Option<Waker>,
}

impl Client {
    pub(crate) fn new(speaks: Speaks) -> Self {
        Self(Arc::new(Mutex::new(Exchange {
            speaks,
            request: Vec::new(),
            read: 0,
            answer: Vec::new(),
            whole: false,
            reader: None,
            asker: None,
        })))
    }

    /// Sends a request, and waits for all of its answer.
    pub(crate) async fn ask(&self) {
        {
            let exchange = &mut *self.0.lock();
            exchange.request.clear();
            match &mut exchange.speaks {
                Speaks::Http1 { request, .. } => exchange.request.extend_from_slice(request),
                Speaks::Http2(frames) => frames.write_request(&mut exchange.request),
            }
            (exchange.read, exchange.whole) = (0, false);
            exchange.answer.clear();
            if let Some(reader) = exchange.reader.take() {
                reader.wake();
            }
        }
        std::future::poll_fn(|cx| {
            let mut exchange = self.0.lock();
            if exchange.whole {
                return Poll::Ready(());
            }
            exchange.asker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The last answer's bytes.
    pub(crate) fn answer(&self) -> Vec<u8> {
        self.0.lock().answer.clone()
    }
}

impl Exchange {
    fn look(&mut self) {
        self.whole = match &mut self.speaks {
            Speaks::Http1 { ending, .. } => self.answer.ends_with(ending),
            Speaks::Http2(frames) => frames.is_answered(&self.answer),
        };
        if self.whole
            && let Some(asker) = self.asker.take()
        {
            asker.wake();
        }
    }
}

impl Transport for Client {}

impl AsyncRead for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let exchange = &mut *self.0.lock();
        if read_some(&exchange.request, &mut exchange.read, buf) {
            return Poll::Ready(Ok(()));
        }
        exchange.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let exchange = &mut *self.0.lock();
        let taken = take_all(slices, &mut exchange.answer);
        exchange.look();
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
