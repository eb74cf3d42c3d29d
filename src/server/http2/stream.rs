//! One stream: the handler's future for its request, then the sending of the answer, as fast as the
//! client takes it, or a tunnel. Its parts are used again by a later stream of the connection.

use std::future::poll_fn;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode, response};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;

use super::channel::Channel;
use super::head;
use crate::proxy::client::Client;
use crate::proxy::tunnel::{Handover, Tunnel};
use crate::server::deadline::{NEVER, nanos, since};

/// Bytes of an answer that room is asked for at once.
const MOST: usize = 16 * 1024;

/// One stream, or room for one.
pub(super) struct Stream<F, B> {
    stage: Pin<Box<Stage<F, B>>>,
    /// The client, as this request sees it.
    client: Arc<Client>,
    respond: Option<SendResponse<Bytes>>,
    sending: Option<SendStream<Bytes>>,
    head_only: bool,
    /// What the client has not taken yet of the body's last piece.
    rest: Bytes,
    /// Bytes that there is room for, as far as we know.
    room: usize,
    /// Until when the client must take a byte, nanoseconds after the connection was accepted.
    deadline: u64,
    /// What of a CONNECT is there for its tunnel.
    connect: Option<Box<Connect>>,
}

/// A request for a tunnel, or the tunnel itself.
struct Connect {
    /// What the client sends; the tunnel has it when it stands.
    receive: Option<RecvStream>,
    /// The drain's time is over.
    cut: Arc<AtomicBool>,
}

/// A tunnel to its end; whether its client has reset the stream.
type Tunnelling = Pin<Box<dyn Future<Output = bool> + Send>>;

pin_project! {
    #[project = Staged]
    enum Stage<F, B> {
        /// No stream.
        Free,
        /// The request is with the handler.
        Handling { #[pin] future: F },
        /// The answer's body is being sent.
        Answering { #[pin] body: B },
        /// Bytes go both ways.
        Tunnelling { tunnel: Tunnelling },
    }
}

/// What a stream has ended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The whole answer is with the library.
    Answered,
    /// The client has reset the stream, or what it sent was against the protocol.
    Reset,
    /// The answer broke off, by the upstream's fault or ours.
    BrokenOff,
    /// The handler has panicked; there was no answer yet.
    Panicked,
}

impl<F, B> Stream<F, B> {
    pub(super) fn new(client: Client) -> Self {
        Self {
            stage: Box::pin(Stage::Free),
            client: Arc::new(client),
            respond: None,
            sending: None,
            head_only: false,
            rest: Bytes::new(),
            room: 0,
            deadline: NEVER,
            connect: None,
        }
    }

    /// The client for a new request. What an earlier one may still hold on to is left to it.
    pub(super) fn client(
        &mut self,
        connection: &Client,
        began: u64,
        stall: Duration,
    ) -> &Arc<Client> {
        if Arc::strong_count(&self.client) > 1 {
            self.client = Arc::new(connection.for_stream());
        }
        self.client.set_began(began);
        self.client.set_stall(stall);
        &self.client
    }

    pub(super) fn begin(&mut self, future: F, respond: SendResponse<Bytes>, head_only: bool) {
        self.stage.set(Stage::Handling { future });
        self.respond = Some(respond);
        self.head_only = head_only;
        self.deadline = NEVER;
    }

    /// The request that has begun is a CONNECT: what its client sends is kept for the tunnel.
    pub(super) fn keep(&mut self, receive: RecvStream) {
        self.connect = Some(Box::new(Connect {
            receive: Some(receive),
            cut: Arc::default(),
        }));
    }

    /// Whether it is a tunnel; `cut`: it is to end when it is polled, since the drain's time is over.
    pub(super) fn is_tunnel(&self, cut: bool) -> bool {
        if let Some(connect) = &self.connect {
            connect.cut.store(cut, Relaxed);
        }
        matches!(*self.stage, Stage::Tunnelling { .. })
    }

    /// Lets go of all that the stream held. What was not answered is thereby reset.
    pub(super) fn free(&mut self) {
        self.stage.set(Stage::Free);
        self.respond = None;
        self.sending = None;
        self.rest = Bytes::new();
        self.room = 0;
        self.deadline = NEVER;
        self.connect = None;
        if self.client.interim().is_waiting() {
            drop(self.client.interim().take());
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// When its request began, nanoseconds after the connection was accepted.
    pub(super) fn age(&self) -> Duration {
        crate::clock::now().saturating_duration_since(self.client.began())
    }

    /// How long its client may refuse to take bytes.
    pub(super) fn stall(&self) -> Duration {
        self.client.stall()
    }

    /// Ends it with an error.
    pub(super) fn reset(&mut self, reason: Reason) {
        if let Some(sending) = &mut self.sending {
            sending.send_reset(reason);
        } else if let Some(respond) = &mut self.respond {
            respond.send_reset(reason);
        }
    }

    /// Sends an answer that is complete already.
    pub(super) fn answer(&mut self, answer: impl FnOnce(&Client) -> Response<Bytes>) {
        let (mut head, bytes) = answer(&self.client).into_parts();
        head::ready(&mut head.headers);
        let bodiless = bytes.is_empty() || self.head_only;
        let Some(respond) = &mut self.respond else {
            return;
        };
        // It fails where the client has left; then there is nobody to answer.
        if let Ok(mut sending) = respond.send_response(Response::from_parts(head, ()), bodiless)
            && !bodiless
        {
            let _ = sending.send_data(bytes, true);
        }
    }
}

impl<F, B> Stream<F, B>
where
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes>,
{
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Staged::Handling { future } = self.stage.as_mut().project() {
            // What a panic leaves behind is dropped, not looked at.
            let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
            if self.client.interim().is_waiting() {
                self.send_interim();
            }
            match polled {
                Ok(Poll::Pending) => return self.poll_reset(cx).map(|()| End::Reset),
                Ok(Poll::Ready(answer)) => {
                    if let Some(end) = self.begin_answer(answer) {
                        return Poll::Ready(end);
                    }
                }
                Err(_told_by_the_panic_hook) => return Poll::Ready(End::Panicked),
            }
        }
        if let Staged::Tunnelling { tunnel } = self.stage.as_mut().project() {
            let polled = catch_unwind(AssertUnwindSafe(|| tunnel.as_mut().poll(cx)));
            return match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(true)) => Poll::Ready(End::Reset),
                Ok(Poll::Ready(false)) => Poll::Ready(End::Answered),
                Err(_told_by_the_panic_hook) => Poll::Ready(End::BrokenOff),
            };
        }
        let polled = catch_unwind(AssertUnwindSafe(|| self.poll_answering(cx)));
        polled.unwrap_or(Poll::Ready(End::BrokenOff))
    }

    /// Sends the interim answers that wait, before anything of the final one.
    fn send_interim(&mut self) {
        for interim in self.client.interim().take() {
            let mut head = Response::new(());
            *head.status_mut() = interim.status;
            *head.headers_mut() = interim.headers;
            head::clean(head.headers_mut());
            if let Some(respond) = &mut self.respond {
                // It fails where the client has left, which is seen elsewhere.
                let _ = respond.send_informational(head);
            }
        }
    }

    /// Ready when the stream has been reset, or the connection has ended.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sending) = &mut self.sending {
            sending.poll_reset(cx).map(drop)
        } else if let Some(respond) = &mut self.respond {
            respond.poll_reset(cx).map(drop)
        } else {
            Poll::Ready(())
        }
    }

    /// Sends the head; gives the end if there is no more to it.
    fn begin_answer(&mut self, answer: Response<B>) -> Option<End> {
        let (mut head, body) = answer.into_parts();
        head::ready(&mut head.headers);
        if !head.extensions.is_empty()
            && let Some(tunnel) = head.extensions.remove::<Handover>()
        {
            return self.begin_tunnel(head, tunnel.take()?);
        }
        let no_body = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        let bodiless = self.head_only || no_body.contains(&head.status) || body.is_end_stream();
        if !bodiless {
            head::tell_length(&mut head.headers, &body);
        }
        let head = Response::from_parts(head, ());
        let sent = self.respond.as_mut()?.send_response(head, bodiless);
        self.stage.set(Stage::Answering { body });
        match sent {
            Ok(_) if bodiless => Some(End::Answered),
            Ok(sending) => {
                self.sending = Some(sending);
                None
            }
            Err(_) => {
                self.tell_refusal();
                Some(End::Reset)
            }
        }
    }

    /// Sends the head, behind which the tunnel begins. Where the client has left, it ends there.
    fn begin_tunnel(&mut self, head: response::Parts, tunnel: Box<Tunnel>) -> Option<End> {
        let connect = self.connect.as_mut()?;
        let (receive, cut) = (connect.receive.take()?, Arc::clone(&connect.cut));
        let head = Response::from_parts(head, ());
        let Ok(send) = self.respond.as_mut()?.send_response(head, false) else {
            return Some(End::Reset);
        };
        let mut channel = Channel::new(receive, send);
        let tunnel = Box::pin(async move {
            let cut = poll_fn(|_| match cut.load(Relaxed) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            let close = tunnel.run(&mut channel, &[], cut).await;
            channel.close(close)
        });
        self.stage.set(Stage::Tunnelling { tunnel });
        None
    }

    /// A request's body that was against the protocol has reset the stream, and the handler refuses the
    /// request for it: nobody gets its answer, but it is what became of the request.
    fn tell_refusal(&mut self) {
        let asleep = &mut Context::from_waker(Waker::noop());
        let reset = self
            .respond
            .as_mut()
            .map(|respond| respond.poll_reset(asleep));
        if let Some(Poll::Ready(Ok(Reason::PROTOCOL_ERROR))) = reset
            && let Staged::Answering { body } = self.stage.as_mut().project()
        {
            let _ = body.poll_frame(asleep);
        }
    }

    fn poll_answering(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let Staged::Answering { body } = self.stage.as_mut().project() else {
                return Poll::Ready(End::Answered);
            };
            // The last byte is not asked for before there is room for it: what the request holds, it
            // holds until then. But whether there is more at all must not depend on room.
            let wanted = match self.rest.len() {
                0 => usize::try_from(body.size_hint().lower()).unwrap_or(MOST),
                rest => rest,
            };
            if wanted > 0 && self.room == 0 && !ready!(self.poll_room(wanted.min(MOST), cx)) {
                return Poll::Ready(End::Reset);
            }
            if !self.rest.is_empty() {
                if let Some(end) = self.send_piece() {
                    return Poll::Ready(end);
                }
                continue;
            }
            let Staged::Answering { mut body } = self.stage.as_mut().project() else {
                return Poll::Ready(End::Answered);
            };
            let Some(sending) = &mut self.sending else {
                return Poll::Ready(End::Answered);
            };
            match body.as_mut().poll_frame(cx) {
                Poll::Pending => {
                    // Others may need the connection's room meanwhile.
                    if take(&mut self.room) > 0 {
                        sending.reserve_capacity(0);
                    }
                    return self.poll_reset(cx).map(|()| End::Reset);
                }
                Poll::Ready(None) => {
                    let sent = sending.send_data(Bytes::new(), true);
                    return Poll::Ready(if sent.is_ok() {
                        End::Answered
                    } else {
                        End::Reset
                    });
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(end) = self.take(frame) {
                        return Poll::Ready(end);
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    sending.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(End::BrokenOff);
                }
            }
        }
    }

    /// Takes a part of the answer's body; trailers are its end.
    fn take(&mut self, frame: Frame<Bytes>) -> Option<End> {
        match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                None
            }
            Err(frame) => {
                let trailers = frame.into_trailers().ok()?;
                Some(self.send_trailers(trailers))
            }
        }
    }

    fn send_trailers(&mut self, mut trailers: HeaderMap) -> End {
        head::clean(&mut trailers);
        let sent = self
            .sending
            .as_mut()
            .map(|sending| sending.send_trailers(trailers));
        match sent {
            Some(Ok(())) => End::Answered,
            Some(Err(_)) | None => End::Reset,
        }
    }

    /// Sends as much of the piece as there is room for.
    fn send_piece(&mut self) -> Option<End> {
        let Staged::Answering { body } = self.stage.as_mut().project() else {
            return Some(End::Answered);
        };
        let piece = self.rest.split_to(self.room.min(self.rest.len()));
        self.room -= piece.len();
        let last = self.rest.is_empty() && body.is_end_stream();
        match self.sending.as_mut()?.send_data(piece, last) {
            Ok(()) => last.then_some(End::Answered),
            Err(_) => Some(End::Reset),
        }
    }

    /// Waits until the client takes some of so many bytes; `false`: it has left. While it takes none,
    /// its deadline runs.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(false);
        };
        sending.reserve_capacity(wanted);
        self.room = sending.capacity();
        if self.room == 0 {
            self.room = match sending.poll_capacity(cx) {
                Poll::Pending => {
                    if self.deadline == NEVER {
                        let stall = nanos(self.client.stall());
                        self.deadline = since(&self.client).saturating_add(stall);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(room))) => room,
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(false),
            };
        }
        self.deadline = NEVER;
        Poll::Ready(true)
    }
}
