//! One connection: a request's head, the handler's future for it, the answer, and again.
//!
//! ```text
//!         first byte        head complete         answer's body      written out and
//!                                                 complete           request read
//! Idle ─────────────▶ Head ──────────────▶ Serving ────────▶ Answered ─────────────▶ Idle
//! ```
//!
//! One task polls it, and it owns all that it needs. It takes one request at a time: bytes of the next one
//! wait until the answer has been written out, so that a refused request can never spoil the answer before
//! it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::{Request, Response};
use pin_project_lite::pin_project;

use super::answer::{self, Framing};
use super::head::{Asked, Fault, Head, Limits};
use super::upload::{self, Upload};
use crate::live::group::Group;
use crate::live::http1::output::Output;
use crate::live::received::ReceivedBody;
use crate::proxy::Protocol;
use crate::proxy::client::Client;
use crate::proxy::tunnel::Tunnel;
use crate::server::deadline::{NEVER, since};
use crate::server::door::{Entered, Settings};
use crate::server::handler::Handler;
use crate::server::redirected::Kept;
use crate::server::transport::Transport;

/// Requests that are served in one turn of the task, before others of the worker have theirs.
const ROUNDS: usize = 16;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Between requests.
    Idle,
    /// A head has begun.
    Head,
    /// A request is with the handler, or its answer's body is being sent.
    Serving,
    /// The answer is complete, but not yet written out, or the request not yet read.
    Answered,
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// After an answer that was its last, or between requests by the client.
    Done,
    /// What came is no request.
    Refused(Fault),
    /// The client has ended within a head.
    Incomplete,
    /// The handler has panicked; there was no answer yet.
    Panicked,
    /// The answer broke off.
    BrokenOff,
    /// It cannot be read or written any more.
    Failed,
    /// The client left while its answer was awaited or sent.
    Gone,
    /// A head took too long.
    HeaderTimeout,
    /// Nothing was under way: idle for too long, or its listener drains.
    Idle,
    /// The client took no byte of its answer for too long.
    Stalled,
    /// The drain's deadline is over.
    Cut,
    /// It goes on to where it was going.
    Passed,
    /// The client speaks HTTP/2.
    Http2,
    /// The answer has opened a tunnel.
    Tunnel(Box<Tunnel>),
}

/// What is left of a connection that has ended.
pub(super) struct Parts<IO> {
    pub(super) io: IO,
    /// What came and was not understood yet.
    pub(super) buffer: BytesMut,
    /// All that has come of the current request, where its connection may be passed on.
    pub(super) kept: Option<Box<Kept>>,
    /// The client's FIN has come.
    pub(super) eof: bool,
    /// The current request is older than HTTP/1.1.
    pub(super) old: bool,
}

/// The settings that it needs, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) header: u64,
    pub(super) idle: u64,
    /// How long it may be silent at first.
    pub(super) first: u64,
}

pin_project! {
    /// What is done about the current request.
    #[project = Working]
    pub(super) enum Work<F, B> {
        /// There is none.
        Free,
        /// It is with the handler.
        Handling { #[pin] future: F },
        /// The answer's body is being sent.
        Answering { #[pin] body: B },
    }
}

/// Where that is done.
pub(super) type Place<F, B> = Option<Pin<Box<Work<F, B>>>>;

/// One client's connection.
pub(super) struct Connection<'a, IO, H: Handler, M, F> {
    pub(super) io: IO,
    pub(super) door: &'a Entered<H>,
    pub(super) client: &'a Arc<Client>,
    handle: M,
    pub(super) limits: Limits,
    pub(super) times: Times,
    /// Where it stands, and until when it may, nanoseconds after it was accepted.
    pub(super) stage: Stage,
    pub(super) deadline: u64,
    /// Read, but not yet its turn; empty and without memory between requests.
    pub(super) buffer: BytesMut,
    /// Part of the next request is in the buffer, not looked at yet.
    pub(super) pipelined: bool,
    /// Bytes of empty lines before the current head.
    pub(super) empty: usize,
    /// Its client may begin with the preface of HTTP/2.
    pub(super) may_be_http2: bool,
    /// What has come of the current request, where its connection may be passed on.
    pub(super) kept: Option<Box<Kept>>,
    /// The client's FIN has come.
    pub(super) eof: bool,
    /// When the client's last byte came.
    pub(super) last_byte: u64,
    /// Bytes that the next read of a large body may bring.
    pub(super) room: usize,
    /// The body of the current request, until it is read and delivered.
    pub(super) upload: Option<Upload>,
    pub(super) asked: Asked,
    /// One place for all requests of the connection, as long as it is in use.
    pub(super) work: Place<F, H::Body>,
    pub(super) framing: Framing,
    /// The current answer is the last.
    pub(super) last: bool,
    /// The current answer has broken off.
    pub(super) broken: bool,
    pub(super) tunnel: Option<Box<Tunnel>>,
    pub(super) output: Output,
    /// When what is there may be written.
    pub(super) group: Group,
    /// Something was written and may wait below, under TLS.
    pub(super) unflushed: bool,
    /// The client does not take what is written.
    pub(super) blocked: bool,
    /// The listener drains: after the current request it ends.
    pub(super) draining: bool,
    /// The time of this turn, where somebody has asked for it.
    now: Option<u64>,
}

impl<'a, IO, H, M, F> Connection<'a, IO, H, M, F>
where
    IO: Transport,
    H: Handler,
    M: Fn(Request<ReceivedBody>) -> F,
    F: Future<Output = Response<H::Body>>,
{
    pub(super) fn new(
        io: IO,
        door: &'a Entered<H>,
        client: &'a Arc<Client>,
        settings: &Settings,
        times: Times,
        handle: M,
    ) -> Self {
        Self {
            io,
            door,
            client,
            handle,
            limits: Limits {
                size: settings.header_size,
                lines: settings.max_headers,
            },
            times,
            stage: Stage::Idle,
            deadline: times.first,
            buffer: BytesMut::new(),
            pipelined: false,
            empty: 0,
            may_be_http2: settings.protocol != Protocol::Http1,
            kept: None,
            eof: false,
            last_byte: 0,
            room: 0,
            upload: None,
            asked: Asked::default(),
            work: None,
            framing: Framing::NONE,
            last: false,
            broken: false,
            tunnel: None,
            output: Output::default(),
            group: Group::NONE,
            unflushed: false,
            blocked: false,
            draining: false,
            now: None,
        }
    }

    /// The same for a client whose connection may be passed on.
    pub(super) fn keeping(mut self) -> Self {
        self.kept = Some(Box::new(Kept::new(self.may_be_http2)));
        self
    }

    pub(super) fn into_parts(self) -> Parts<IO> {
        Parts {
            io: self.io,
            buffer: self.buffer,
            kept: self.kept,
            eof: self.eof,
            old: self.asked.old,
        }
    }

    /// Nanoseconds since it was accepted, looked up once a turn.
    pub(super) fn now(&mut self) -> u64 {
        let client = self.client;
        *self.now.get_or_insert_with(|| since(client))
    }

    /// The same as a time.
    pub(super) fn instant(&mut self) -> Instant {
        self.client.accepted() + Duration::from_nanos(self.now())
    }

    /// Goes on as far as it can.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.now = None;
        for _ in 0..ROUNDS {
            let outcome = match self.stage {
                Stage::Idle | Stage::Head => match ready!(self.poll_head(cx)) {
                    Ok(head) => self.begin(head),
                    Err(end) => Err(end),
                },
                Stage::Serving => ready!(self.poll_serving(cx)),
                Stage::Answered => ready!(self.poll_end(cx)),
            };
            if let Err(end) = outcome {
                return Poll::Ready(end);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Gives a request to the handler.
    fn begin(&mut self, head: Box<Head>) -> Result<(), End> {
        let Head {
            mut request,
            body,
            asked,
            expects,
            ..
        } = *head;
        self.asked = asked;
        if let Some(whole) = upload::take_whole(&body, expects, &mut self.buffer) {
            *request.body_mut() = ReceivedBody::Whole(whole);
        } else if !body.is_end() {
            let (mut upload, received) = Upload::new(body, expects);
            upload.take_in(&mut self.buffer);
            upload.begin();
            self.upload = Some(upload);
            *request.body_mut() = received;
        }
        if self.client.is_unrouted() {
            if self.kept.is_some() && self.door.handler().passes(self.client, &request) {
                return Err(End::Passed);
            }
            self.client.set_routed(true);
            if let Some(kept) = &mut self.kept {
                kept.forget();
            }
        }
        // Set where it will be: it is too large to be moved there.
        let work = self.work.get_or_insert_with(|| Box::pin(Work::Free));
        let future = (self.handle)(request);
        work.set(Work::Handling { future });
        (self.stage, self.deadline) = (Stage::Serving, NEVER);
        Ok(())
    }

    /// What is done about the current request.
    pub(super) fn working(&mut self) -> Option<Working<'_, F, H::Body>> {
        Some(self.work.as_mut()?.as_mut().project())
    }

    /// Lets go of what was done about the current request.
    pub(super) fn set_free(&mut self) {
        if let Some(work) = &mut self.work {
            work.set(Work::Free);
        }
    }

    /// Gives back what only requests need; it has been idle for a while.
    pub(super) fn release(&mut self) {
        self.work = None;
        self.output = Output::default();
    }

    /// Drives the handler, then the answer's body, until the answer is complete.
    fn poll_serving(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if let Some(Working::Handling { future }) = self.working() {
            // What a panic leaves behind is dropped, not looked at.
            let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
            if self.client.interim().is_waiting() {
                self.append_interim();
            }
            match polled {
                Ok(Poll::Pending) => return self.poll_waiting(cx),
                Ok(Poll::Ready(answer)) => self.begin_answer(answer),
                Err(_told_by_the_panic_hook) => return Poll::Ready(Err(End::Panicked)),
            }
        }
        match self.poll_body(cx) {
            Poll::Ready(Ok(whole)) => {
                self.set_free();
                self.broken = !whole;
                self.stage = Stage::Answered;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(End::Failed)),
            Poll::Pending => self.poll_waiting(cx),
        }
    }

    /// While the handler or the answer's body has nothing: looks after the request's body and the client.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if let Err(end) = self.pump(cx) {
            return Poll::Ready(Err(end));
        }
        match self.poll_out(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(Err(End::Failed)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// HTTP/1.0 knows no interim answers. And they are hints: who takes nothing gets none.
    #[cold]
    fn append_interim(&mut self) {
        let heads = self.client.interim().take();
        if !self.asked.old && !self.blocked {
            answer::append_interim(&heads, self.output.bytes());
        }
    }

    /// Tells the client to send the body that is wanted.
    pub(super) fn append_continue(&mut self) {
        if let Some(Working::Handling { .. }) = self.working() {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.output.bytes().extend_from_slice(go_on);
        }
    }

    /// Whether the last byte of the current request has come.
    pub(super) fn is_whole(&self) -> bool {
        self.upload.as_ref().is_none_or(Upload::is_whole)
    }

    /// Ends the exchange: the answer is written out, and the request read to its end where somebody still
    /// reads it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let written = self.poll_out(cx);
        if let Poll::Ready(Err(_)) = written {
            return Poll::Ready(Err(End::Failed));
        }
        let written = written.is_ready();
        if self.broken && written {
            // What came before the break has gone out.
            return Poll::Ready(Err(End::BrokenOff));
        }
        if self.upload.is_some()
            && let Err(end) = self.pump(cx)
        {
            return Poll::Ready(Err(end));
        }
        if !written || self.upload.as_ref().is_some_and(Upload::is_read) {
            return Poll::Pending;
        }
        if let Some(tunnel) = self.tunnel.take() {
            return Poll::Ready(Err(End::Tunnel(tunnel)));
        }
        if self.last || self.draining || self.upload.is_some() {
            return Poll::Ready(Err(End::Done));
        }
        self.rest();
        Poll::Ready(Ok(()))
    }

    /// Makes ready for the next request.
    fn rest(&mut self) {
        self.stage = Stage::Idle;
        self.deadline = self.now().saturating_add(self.times.idle);
        if self.client.interim().is_waiting() {
            drop(self.client.interim().take());
        }
        self.rest_reading();
    }
}
