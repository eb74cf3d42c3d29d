//! The body of a request on its way into a stream of HTTP/2, as fast as the other end takes it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

use super::head;
use crate::live::request_body::{BodyBroken, TryBody};

/// Sends one body. It ends when all of it is handed over, when the other end wants no more, or when it
/// breaks off: then the stream is reset.
pub(super) struct Pump {
    stream: SendStream<Bytes>,
    body: TryBody,
}

impl Pump {
    pub(super) fn new(stream: SendStream<Bytes>, body: TryBody) -> Self {
        Self { stream, body }
    }

    /// Waits until the other end takes bytes; `false`: it wants no more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        // One byte is asked for, so that the body is read only where it can go on.
        self.stream.reserve_capacity(1);
        while self.stream.capacity() == 0 {
            match std::task::ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
        // While the client is waited for, the other end may say that it wants no more.
        Poll::Ready(self.stream.poll_reset(cx).is_pending())
    }
}

impl Future for Pump {
    type Output = Result<(), BodyBroken>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BodyBroken>> {
        let this = self.get_mut();
        loop {
            if !std::task::ready!(this.poll_room(cx)) {
                return Poll::Ready(Ok(()));
            }
            let frame = match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(broken)) => {
                    this.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(broken));
                }
                None => {
                    let _ = this.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
            };
            // That the stream is no more, the answer's side tells.
            let sent = match frame.into_data() {
                Ok(data) => {
                    let ends = this.body.is_end_stream();
                    this.stream.send_data(data, ends).map(|()| ends)
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    head::strip(&mut trailers);
                    this.stream.send_trailers(trailers).map(|()| true)
                }
            };
            match sent {
                Ok(false) => {}
                Ok(true) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
