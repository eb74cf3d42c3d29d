//! A connection of HTTP/1.1 to an endpoint. It has no task of its own: whoever waits for an answer or
//! its body drives it, so that nothing is left behind when the request ends, and nobody has to be woken
//! between the two.
//!
//! Between requests it holds no memory for bytes: what comes is read onto the stack, and copied once it
//! is known how much it is.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::answer::{self, Framing};
use super::body::{Decoder, Piece};
use super::encoder::Encoder;
use super::output::Output;
use super::{Malformed, request};
use crate::live::age::Age;
use crate::live::connection::{SendError, cause_of};
use crate::live::inbox::Part;
use crate::live::interim::{Head, Interim};
use crate::live::line::Line;
use crate::live::pool::Idle;
use crate::live::received::ReceiveError;
use crate::live::request_body::{Held, TryBody};
use crate::live::request_head::RequestHead;
use crate::live::roster::Endpoint;
use crate::live::slots::{Slot, Slots};
use crate::live::wire::{Dialer, Wire};
use crate::{clock, plan, tls};

/// Bytes that the head of an answer may have.
const MAX_HEAD: usize = 400 * 1024;

/// Bytes before an answer, heads of interim ones (1xx) included; with more it is a protocol error.
const MAX_BEFORE_ANSWER: usize = 1024 * 1024;

/// Bytes of a head that comes in pieces up to which it is parsed at each, to see early what is none.
const EAGER: usize = 2048;

/// Bytes that are read onto the stack.
const SCRATCH: usize = 8 * 1024;

/// Bytes that are read at once of a long body, at most.
const MOST_AT_ONCE: usize = 64 * 1024;

/// An open connection.
pub struct Http1 {
    wire: Wire,
    /// What has come and is not taken yet.
    input: BytesMut,
    output: Output,
    /// A byte of the current request has left us: that none has is the only proof that it was not sent.
    begun: bool,
    /// What was written has to be flushed.
    unflushed: bool,
    /// The request's body, up to its end.
    upload: Option<Upload>,
    /// The answer's body.
    decoder: Decoder,
    /// A request was sent, and the head of its answer has not come.
    awaits_head: bool,
    /// Bytes that are worth reading at once; 0: what the stack has room for.
    bulk: usize,
    requests: u64,
    keep_alive: Option<Duration>,
    /// No other request may follow.
    spent: bool,
    age: Age,
    // The last one: the slot is free when the socket is closed, not before.
    slot: Slot,
}

/// A request's body on its way.
#[derive(Debug)]
struct Upload {
    body: TryBody,
    encoder: Encoder,
}

/// Why a request's body did not get to its end.
#[derive(Debug)]
enum UploadFailed {
    /// The client did not send it all.
    Body,
    /// The endpoint takes no more.
    Wire(io::Error),
}

/// A request whose answer is waited for.
struct Waiting<'a> {
    method: Method,
    interim: &'a Interim,
    held: Option<Held>,
    /// Bytes that have come since it was sent.
    came: usize,
    /// Bytes of an incomplete head that were looked through.
    seen: usize,
}

/// Why there is no answer.
enum NoAnswer {
    /// The request's body broke off.
    Upload,
    Wire(io::Error),
    /// The endpoint has closed the connection.
    Closed,
    Malformed(Malformed),
    /// What comes has no end.
    TooMuch,
}

impl Http1 {
    /// Opens a connection in the slot.
    ///
    /// # Errors
    /// What the system says of the attempt, or a [`crate::live::tls::TlsFailure`].
    pub async fn open(dialer: &Dialer, endpoint: &Endpoint, slot: Slot) -> io::Result<Box<Self>> {
        let secured = endpoint.secured.as_ref();
        let wire = dialer.dial(&endpoint.address, secured, true).await?;
        Ok(Self::over(wire, slot))
    }

    /// Speaks HTTP/1.1 over these bytes.
    pub(in crate::live) fn over(wire: Wire, slot: Slot) -> Box<Self> {
        Box::new(Self {
            wire,
            input: BytesMut::new(),
            output: Output::default(),
            begun: false,
            unflushed: false,
            upload: None,
            decoder: Decoder::Empty,
            awaits_head: false,
            bulk: 0,
            requests: 0,
            keep_alive: None,
            spent: false,
            age: Age::begin(clock::now()),
            slot,
        })
    }

    /// See [`crate::live::connection::Connection::send`].
    pub(in crate::live) async fn send(
        &mut self,
        head: RequestHead<'_>,
        body: TryBody,
        interim: &Interim,
    ) -> Result<Response<()>, Box<SendError>> {
        if self.requests > 0 && !self.is_alive() {
            return Err(Box::new(SendError {
                unsent: Some(body),
                nothing_written: true,
                ..SendError::stream("the idle connection has ended".to_owned())
            }));
        }
        let mut waiting = self.begin(head, body, interim);
        let result = poll_fn(|cx| self.poll_answer(cx, &mut waiting)).await;
        result.map_err(|why| {
            self.spent = true;
            Box::new(SendError {
                nothing_written: !self.begun,
                ..why.told()
            })
        })
    }

    fn begin<'a>(
        &mut self,
        head: RequestHead<'_>,
        body: TryBody,
        interim: &'a Interim,
    ) -> Waiting<'a> {
        self.requests += 1;
        self.begun = false;
        self.awaits_head = true;
        let (held, left) = (body.held(), body.size_hint().exact());
        let to = self.output.bytes();
        let encoder = request::head(head, left, to);
        self.upload = (!encoder.is_done()).then_some(Upload { body, encoder });
        Waiting {
            method: head.method.clone(),
            interim,
            held,
            came: 0,
            seen: 0,
        }
    }

    /// Sends the request and waits for the head of its answer.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
    ) -> Poll<Result<Response<()>, NoAnswer>> {
        loop {
            let refused = match self.poll_upload(cx) {
                Poll::Ready(Err(UploadFailed::Body)) => return Poll::Ready(Err(NoAnswer::Upload)),
                // It may have said why before it closed.
                Poll::Ready(Err(UploadFailed::Wire(error))) => Some(error),
                Poll::Ready(Ok(())) | Poll::Pending => None,
            };
            match (self.poll_head(cx, waiting), refused) {
                (Poll::Ready(Ok(Some(head))), _) if is_final(head.status()) => {
                    return Poll::Ready(self.answered(head, &waiting.method));
                }
                // A body that an interim answer lets go of is sent in the next round.
                (Poll::Ready(Ok(Some(head))), _) => waiting.pass_on(head),
                (Poll::Ready(Ok(None)), _) => {}
                (_, Some(error)) => return Poll::Ready(Err(NoAnswer::Wire(error))),
                (Poll::Ready(Err(why)), None) => return Poll::Ready(Err(why)),
                (Poll::Pending, None) => return Poll::Pending,
            }
        }
    }

    /// A head, interim or final, or no more than a part of one.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
    ) -> Poll<Result<Option<Response<()>>, NoAnswer>> {
        if self.input.len() > waiting.seen {
            return Poll::Ready(self.take_head(waiting));
        }
        if waiting.came > MAX_BEFORE_ANSWER {
            return Poll::Ready(Err(NoAnswer::TooMuch));
        }
        if !self.input.is_empty() {
            let filled = ready!(self.poll_fill(cx));
            return Poll::Ready(waiting.count(filled).map(|()| None));
        }
        // Nearly always all of the head comes at once.
        let mut space = [const { MaybeUninit::uninit() }; SCRATCH];
        let mut buffer = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut self.wire).poll_read(cx, &mut buffer));
        let fresh = buffer.filled();
        waiting.count(read.map(|()| fresh.len()))?;
        let input = &mut self.input;
        *input = BytesMut::from(fresh);
        let parsed = answer::parse(fresh, |length| input.split_to(length).freeze());
        let head = parsed.map_err(NoAnswer::Malformed)?;
        if head.is_none() {
            waiting.seen = self.input.len();
        }
        Poll::Ready(Ok(head.map(|(head, _)| head)))
    }

    /// The head that stands first in what has come.
    fn take_head(&mut self, waiting: &mut Waiting<'_>) -> Result<Option<Response<()>>, NoAnswer> {
        let input = &self.input;
        let seen = std::mem::replace(&mut waiting.seen, input.len());
        if input.len() > EAGER && answer::length_by_lines(input, seen).is_none() {
            let too_much = input.len() > MAX_HEAD;
            return if too_much {
                Err(NoAnswer::TooMuch)
            } else {
                Ok(None)
            };
        }
        let copy = |length| Bytes::copy_from_slice(&input[..length]);
        let parsed = answer::parse(input, copy).map_err(NoAnswer::Malformed)?;
        Ok(parsed.map(|(head, length)| {
            self.input.advance(length);
            waiting.seen = 0;
            head
        }))
    }

    fn answered(&mut self, head: Response<()>, method: &Method) -> Result<Response<()>, NoAnswer> {
        let framing = answer::framing(&head, method).map_err(NoAnswer::Malformed)?;
        let Framing { body, keeps_alive } = framing;
        self.awaits_head = false;
        self.spent |= !keeps_alive;
        self.decoder = body;
        self.let_go_of_memory();
        Ok(head)
    }

    /// Sends what is to be sent of the request. Ready when that is all.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadFailed>> {
        if self.is_sent() {
            return Poll::Ready(Ok(()));
        }
        let outcome = self.poll_parts(cx);
        if let Poll::Ready(Err(_)) = outcome {
            (self.upload, self.output) = (None, Output::default());
            (self.unflushed, self.spent) = (false, true);
        }
        outcome
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadFailed>> {
        loop {
            let starved = self.poll_body(cx)?.is_pending();
            while !self.output.is_empty() {
                let written = ready!(self.output.poll_write(&mut self.wire, cx));
                written.map_err(UploadFailed::Wire)?;
                (self.begun, self.unflushed) = (true, true);
            }
            if self.unflushed {
                let flushed = ready!(Pin::new(&mut self.wire).poll_flush(cx));
                flushed.map_err(UploadFailed::Wire)?;
                self.unflushed = false;
            }
            if starved {
                return Poll::Pending;
            }
            if self.is_sent() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes of the request's body what is there, as far as there is room. Pending: nothing is there.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadFailed>> {
        while let Some(Upload { body, encoder }) = &mut self.upload
            && !self.output.is_full()
        {
            let part = ready!(Pin::new(&mut *body).poll_frame(cx));
            let part = part.transpose().map_err(|_| UploadFailed::Body)?;
            let framed = match part.map(Frame::into_data) {
                Some(Ok(data)) => encoder.part(data, &mut self.output),
                Some(Err(trailers)) => {
                    let done = encoder.end(trailers.trailers_ref(), &mut self.output);
                    self.upload = None;
                    done
                }
                None => {
                    let done = encoder.end(None, &mut self.output);
                    self.upload = None;
                    done
                }
            };
            framed.map_err(|_| UploadFailed::Body)?;
            self.upload.take_if(|upload| upload.encoder.is_done());
        }
        Poll::Ready(Ok(()))
    }

    fn is_sent(&self) -> bool {
        self.upload.is_none() && self.output.is_empty() && !self.unflushed
    }

    /// The next part of the answer's body; sends of the request's meanwhile what is still to come.
    pub(in crate::live) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        if let Poll::Ready(Err(UploadFailed::Body)) = self.poll_upload(cx) {
            let sentence = "the request's body broke off";
            return Poll::Ready(Some(Err(self.broken(io::Error::other(sentence)))));
        }
        loop {
            match self.decoder.next(&mut self.input) {
                Ok(Piece::More) => {}
                Ok(Piece::Data(data)) => {
                    self.let_go_of_memory();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::End(trailers)) => {
                    self.let_go_of_memory();
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Err(malformed) => {
                    self.spent = true;
                    return Poll::Ready(Some(Err(malformed.into())));
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if matches!(self.decoder, Decoder::UntilEnd) => {
                    self.decoder = Decoder::Empty;
                    return Poll::Ready(None);
                }
                Ok(0) => {
                    let sentence = "the connection ended before the body did";
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, sentence);
                    return Poll::Ready(Some(Err(self.broken(error))));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broken(error)))),
            }
        }
    }

    fn broken(&mut self, error: io::Error) -> ReceiveError {
        self.spent = true;
        ReceiveError::Broken(error)
    }

    /// Reads more, and gives how much; 0: the endpoint has closed its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (room, bytes) = if self.bulk == 0 {
            let mut space = [const { MaybeUninit::uninit() }; SCRATCH];
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.wire).poll_read(cx, &mut buffer))?;
            self.input.extend_from_slice(buffer.filled());
            (SCRATCH, buffer.filled().len())
        } else {
            self.input.reserve(self.bulk);
            let reading = pin!(self.wire.read_buf(&mut self.input));
            (self.bulk, ready!(reading.poll(cx))?)
        };
        if bytes >= room {
            self.bulk = (room * 2).min(MOST_AT_ONCE);
        }
        Poll::Ready(Ok(bytes))
    }

    /// An idle connection needs no room for bytes.
    fn let_go_of_memory(&mut self) {
        if self.decoder.is_end() && self.input.is_empty() {
            self.input = BytesMut::new();
            self.bulk = 0;
        }
    }

    /// Whether no part of the answer's body follows.
    pub(in crate::live) fn is_end_stream(&self) -> bool {
        self.decoder.is_end()
    }

    /// How much of the answer's body follows.
    pub(in crate::live) fn size_hint(&self) -> SizeHint {
        let known = self.decoder.left();
        known.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Sends what is left of the request while nobody waits for the answer. Ready when that is all.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReceiveError>> {
        self.poll_upload(cx).map(|sent| match sent {
            Err(UploadFailed::Body) => {
                Err(self.broken(io::Error::other("the request's body broke off")))
            }
            // The answer may come to its end all the same.
            Ok(()) | Err(UploadFailed::Wire(_)) => Ok(()),
        })
    }

    /// Requests sent so far, the current one included.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// No other request may follow the current one.
    pub(in crate::live) fn retire(&mut self) {
        self.spent = true;
    }

    /// Remembers for how long the endpoint said that it keeps an idle connection.
    pub(in crate::live) fn learn_keep_alive(&mut self, timeout: Option<Duration>) {
        self.keep_alive = timeout;
    }

    /// The bytes below HTTP.
    pub(in crate::live) fn into_line(self) -> Line {
        Line {
            wire: self.wire,
            early: self.input.freeze(),
            _slot: Some(self.slot),
        }
    }

    /// When it is too old for another request; `None`: never.
    pub(in crate::live) fn ends(&self, settings: &plan::Pool) -> Option<Instant> {
        self.age.ends(settings)
    }

    /// Whether the last exchange is complete in both directions and another may follow.
    pub fn is_reusable(&self) -> bool {
        !self.spent
            && !self.awaits_head
            && self.decoder.is_end()
            && self.is_sent()
            && self.input.is_empty()
    }
}

impl Waiting<'_> {
    /// Passes an interim answer on. After `100 Continue` the body is sent, and reading it tells the
    /// client to send it.
    fn pass_on(&mut self, head: Response<()>) {
        let (head, ()) = head.into_parts();
        if head.status == StatusCode::CONTINUE
            && let Some(held) = &self.held
        {
            held.let_go();
        }
        if let Some(head) = Head::received(head.status, head.headers) {
            self.interim.pass(head);
        }
    }

    fn count(&mut self, read: io::Result<usize>) -> Result<(), NoAnswer> {
        match read {
            Ok(0) => Err(NoAnswer::Closed),
            Ok(bytes) => {
                self.came += bytes;
                Ok(())
            }
            Err(error) => Err(NoAnswer::Wire(error)),
        }
    }
}

impl NoAnswer {
    /// As the request is told.
    fn told(self) -> SendError {
        let (invalid_answer, refusal, cause) = match self {
            Self::Upload => (false, None, "the request's body broke off".to_owned()),
            Self::Wire(error) => (false, tls::refusal_of(&error), cause_of(&error)),
            Self::Closed => {
                let sentence = "the endpoint closed the connection without an answer";
                (false, None, sentence.to_owned())
            }
            Self::Malformed(malformed) => (true, None, malformed.to_string()),
            Self::TooMuch => {
                let sentence =
                    format!("over {MAX_HEAD} bytes came, but no complete head of an answer");
                (true, None, sentence)
            }
        };
        SendError {
            invalid_answer,
            refusal,
            ..SendError::stream(cause)
        }
    }
}

/// Whether no other answer follows one with this status.
fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// For polls that nobody has to be woken for.
fn asleep() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl std::fmt::Debug for Http1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http1")
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

impl Idle for Box<Http1> {
    fn is_ready(&self) -> bool {
        self.is_reusable()
    }

    fn is_alive(&mut self) -> bool {
        Http1::is_alive(self)
    }

    fn keep_alive(&self) -> Option<Duration> {
        self.keep_alive
    }

    fn slots(&self) -> &Slots {
        self.slot.slots()
    }
}

impl Http1 {
    /// Whether it can be used for a request. Nobody waits for it now, so nobody needs to be woken;
    /// whoever uses it polls it again.
    fn is_alive(&mut self) -> bool {
        let mut space = [MaybeUninit::uninit(); 1];
        let mut buffer = ReadBuf::uninit(&mut space);
        let read = Pin::new(&mut self.wire).poll_read(&mut asleep(), &mut buffer);
        // Not a byte may come unasked, and no end.
        self.spent |= read.is_ready();
        self.is_reusable()
    }
}

#[cfg(test)]
mod tests;
