//! Writing to a client: the answer's head and body, as fast as the client takes them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use http_body::Body;

use super::answer::{self, Part, Size};
use super::connection::{Connection, Work, Working};
use crate::live::group::Group;
use crate::live::http1::encoder::WrongLength;
use crate::live::http1::maps;
use crate::live::received::ReceivedBody;
use crate::proxy::tunnel::Handover;
use crate::server::deadline::{NEVER, nanos};
use crate::server::handler::Handler;
use crate::server::transport::Transport;

impl<IO, H, M, F> Connection<'_, IO, H, M, F>
where
    IO: Transport,
    H: Handler,
    M: Fn(Request<ReceivedBody>) -> F,
    F: Future<Output = Response<H::Body>>,
{
    /// Appends the answer's head.
    pub(super) fn begin_answer(&mut self, answer: Response<H::Body>) {
        let (mut head, body) = answer.into_parts();
        let mut closing = false;
        if !head.extensions.is_empty()
            && let Some(handover) = head.extensions.remove::<Handover>()
        {
            self.tunnel = handover.take();
        } else {
            // A drain may not have come to this connection's own attention yet. And what is missing of a
            // request that is answered already is not waited for (rule 20): unless it is said, the client
            // would lose its next request to the end of the connection.
            closing = self.door.closing() || !self.is_whole();
        }
        self.group = Group::TO_CLIENTS;
        let (size, now) = (Size::of(&body), self.instant());
        let to = self.output.bytes();
        let appended = answer::append_head(&head, size, &self.asked, closing, now, to);
        maps::give_back(head.headers);
        match appended {
            Ok((framing, last)) => {
                (self.framing, self.last) = (framing, last);
                if let Some(work) = &mut self.work {
                    work.set(Work::Answering { body });
                }
            }
            Err(answer::BadLength) => {
                self.broken = true;
                self.set_free();
            }
        }
    }

    /// Sends the answer's body. Ready when it is complete; `false`: it broke off.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if self.output.is_full() {
                ready!(self.poll_write(cx))?;
                continue;
            }
            if self.broken || self.framing.is_done() {
                return Poll::Ready(Ok(!self.broken));
            }
            let Some(Working::Answering { body }) = self.working() else {
                return Poll::Ready(Ok(true));
            };
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let mut body = body;
                let polled = body.as_mut().poll_frame(cx);
                polled.map(|frame| (frame, body.is_end_stream()))
            }));
            let Ok(polled) = polled else {
                return Poll::Ready(Ok(false));
            };
            let (frame, end) = ready!(polled);
            let part = match frame {
                None => return Poll::Ready(Ok(self.append_end(None))),
                Some(Err(_)) => return Poll::Ready(Ok(false)),
                Some(Ok(frame)) => answer::part(frame),
            };
            match part {
                Part::Data(data) => match self.framing.append(data, end, &mut self.output) {
                    Ok(false) => {}
                    Ok(true) => return Poll::Ready(Ok(true)),
                    Err(WrongLength) => return Poll::Ready(Ok(false)),
                },
                Part::Trailers(trailers) => {
                    return Poll::Ready(Ok(self.append_end(Some(trailers))));
                }
                Part::Other => {}
            }
        }
    }

    /// Appends the end of the body; `false`: it has not come to its end.
    fn append_end(&mut self, trailers: Option<HeaderMap>) -> bool {
        let ended = self.framing.append_end(trailers, &mut self.output);
        ended.is_ok()
    }

    /// Writes what there is, down to the socket.
    pub(super) fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            ready!(self.poll_write(cx))?;
        }
        if self.unflushed {
            let flushed = Pin::new(&mut self.io).poll_flush(cx);
            if flushed.is_pending() {
                // Under TLS what the client does not take may wait here, all of it written.
                self.block();
            }
            ready!(flushed)?;
            self.unflushed = false;
            self.unblock();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.group.poll_turn(cx));
        let outcome = self.output.poll_write(&mut self.io, cx);
        match &outcome {
            Poll::Pending => self.block(),
            Poll::Ready(Ok(bytes)) => {
                self.client.add_progress(*bytes);
                self.unflushed = true;
                self.unblock();
            }
            Poll::Ready(Err(_)) => {}
        }
        outcome.map_ok(drop)
    }

    /// The client does not take what is written: it has its time for that.
    fn block(&mut self) {
        if !self.blocked {
            self.blocked = true;
            let stall = nanos(self.client.stall());
            self.deadline = self.now().saturating_add(stall);
        }
    }

    fn unblock(&mut self) {
        if self.blocked {
            self.blocked = false;
            self.deadline = NEVER;
        }
    }
}
