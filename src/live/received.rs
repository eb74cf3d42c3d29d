//! A body as it comes from the other end of a connection, in whichever version of HTTP: a request's
//! from the client, an answer's from the upstream.

use std::io;
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use super::http1::Malformed;
use super::inbox::Inbox;

/// A body that comes from the other end.
#[derive(Debug)]
pub enum ReceivedBody {
    /// There is none.
    Empty,
    /// All of it, in memory of its own; nothing once it is taken.
    Whole(Bytes),
    /// Over HTTP/1.1, put there by whoever reads the connection.
    Inbox(Inbox),
    /// Over a stream of HTTP/2.
    Http2(StreamBody),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// What came over HTTP/1.1 is no valid body.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The connection broke, or ended before the body did.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// Over a stream of HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl ReceiveError {
    /// The error code of HTTP/2 with which the other end reset the stream.
    pub fn reset_code(&self) -> Option<u32> {
        match self {
            Self::Http2(error) if error.is_reset() && error.is_remote() => {
                error.reason().map(u32::from)
            }
            Self::Malformed(_) | Self::Broken(_) | Self::Http2(_) => None,
        }
    }

    /// Whether what came was wrong, rather than missing.
    pub fn is_malformed(&self) -> bool {
        match self {
            Self::Malformed(_) => true,
            Self::Broken(_) => false,
            // What the other end says of us is no fault of its body.
            Self::Http2(error) => !error.is_remote() && error.reason().is_some(),
        }
    }
}

/// The body of one HTTP/2 stream. The other end may send more as what came is taken (flow control).
#[derive(Debug)]
pub struct StreamBody {
    stream: h2::RecvStream,
    /// Bytes that are still to come, where the head said how many.
    left: Option<u64>,
    data_done: bool,
}

impl StreamBody {
    /// The body that follows a head with these headers.
    pub fn new(stream: h2::RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(header::CONTENT_LENGTH);
        Self {
            left: length.and_then(|length| length.to_str().ok()?.parse().ok()),
            stream,
            data_done: false,
        }
    }

    /// The next part of it.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // What is asked for here is passed on at once, so that the window can move.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    let bytes = data.len() as u64;
                    self.left = self.left.map(|left| left.saturating_sub(bytes));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // Whatever the reason: a body that ends so has not come to its end. Where it had, the
                // reset says that the other end wants no more of our part, and is not told here.
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_done = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(
            trailers
                .transpose()
                .map(|trailers| trailers.map(Frame::trailers)),
        )
    }

    /// Whether no part of it follows.
    pub(super) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// How much of it follows.
    pub(super) fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        Poll::Ready(match self.get_mut() {
            Self::Empty => None,
            Self::Whole(bytes) if bytes.is_empty() => None,
            Self::Whole(bytes) => Some(Ok(Frame::data(take(bytes)))),
            Self::Inbox(inbox) => return inbox.poll_frame(cx),
            Self::Http2(body) => ready!(body.poll_frame(cx)).map(|frame| Ok(frame?)),
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Inbox(inbox) => inbox.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Inbox(inbox) => inbox.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
