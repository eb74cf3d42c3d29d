//! The body of an answer on its way to the client. It holds what the request holds, seat, connection
//! and report, to the last byte, and lets go of them whichever way it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::framing;
use super::grpc;
use super::site::RouteSite;
use super::told::Told;
use crate::clock;
use crate::live::connection::{Connection, cause_of};
use crate::live::inbox;
use crate::live::received::ReceiveError;
use crate::live::request_body::{Broken, RequestBody};
use crate::live::roster::Endpoint;
use crate::live::seats::Seat;
use crate::live::trailers;
use crate::policy::breaker;
use crate::policy::grpc::Code;
use crate::policy::outcome::{self, Ending, Reason};
use crate::telemetry::report::Outcome;

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    source: Source,
    told: Option<Told>,
    seat: Option<Seat>,
}

#[derive(Debug)]
enum Source {
    /// Ours, or kept from a try before.
    Bytes(Bytes),
    /// The same for a gRPC call, which ends with trailers.
    Call(Box<WholeCall>),
    /// As it comes from the upstream.
    Stream(Box<Stream>),
    /// Nothing more to come.
    Done,
}

/// An upstream's answer: the head, and the body with the connection that it comes over. It is passed
/// on through many hands, so it is made in one place and stays there.
#[derive(Debug)]
pub struct Stream {
    head: response::Parts,
    /// A part that was there with the head, so that both go to the client in one write; or the news
    /// that no more will come.
    first: Option<Received>,
    /// No more will come, though the body does not know it by itself.
    over: bool,
    call: Option<OpenCall>,
    link: Link,
    idle: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    rearm: bool,
    upload: Option<RequestBody>,
}

/// An answer to a gRPC call that is there already.
#[derive(Debug)]
pub struct WholeCall {
    /// The messages, as they are on the wire.
    pub messages: Bytes,
    /// What follows them.
    pub trailers: Option<HeaderMap>,
}

/// A gRPC call whose answer has begun, and whose end is not known yet.
#[derive(Debug, Clone, Copy)]
struct OpenCall {
    /// Whether trailers reach the client.
    takes_trailers: bool,
    /// What the upstream's reset of the stream means.
    reset: Option<Code>,
}

/// A part of an upstream's body as it is received.
type Received = inbox::Part;

/// A part of an upstream's body, or why none will come.
type Part = Result<Frame<Bytes>, (Reason, String)>;

/// What an upstream's connection goes back to when its body is complete.
#[derive(Debug)]
pub struct Link {
    /// The connection; gone when it was given back or has to be closed.
    pub connection: Option<Connection>,
    /// Whose upstream it is, and what the upstream runs under for this request.
    pub route: Arc<RouteSite>,
    /// Where it goes.
    pub endpoint: Arc<Endpoint>,
    /// Which worker's shard it goes to.
    pub worker: usize,
}

/// The error that cuts the client's connection: the answer cannot be completed.
#[derive(Debug, thiserror::Error)]
#[error("the answer's body broke off: {0}")]
pub struct BrokenOff(String);

impl AnswerBody {
    /// Bytes that are there already.
    pub fn bytes(bytes: Bytes, told: Told, seat: Option<Seat>) -> Self {
        Self::begin(Source::Bytes(bytes), told, seat)
    }

    /// A gRPC call's answer that is there already.
    pub(super) fn call(call: WholeCall, told: Told, seat: Option<Seat>) -> Self {
        Self::begin(Source::Call(Box::new(call)), told, seat)
    }

    /// An upstream's body.
    pub fn stream(stream: Box<Stream>, told: Told, seat: Option<Seat>) -> Self {
        Self::begin(Source::Stream(stream), told, seat)
    }

    /// No body, and nothing to be told of when it has ended.
    pub fn none() -> Self {
        Self {
            source: Source::Done,
            told: None,
            seat: None,
        }
    }

    /// A body without a byte is never asked for one: it is complete from the start.
    fn begin(source: Source, told: Told, seat: Option<Seat>) -> Self {
        let mut body = Self {
            source,
            told: Some(told),
            seat,
        };
        if body.is_end_stream() {
            body.complete();
        }
        body
    }

    /// The last byte is on its way: everything is let go.
    fn complete(&mut self) {
        self.judge_call(None);
        let now = clock::now();
        if let Source::Stream(stream) = std::mem::replace(&mut self.source, Source::Done) {
            stream.link.give_back(now);
        }
        self.seat = None;
        if let Some(told) = self.told.take() {
            told.complete(now);
        }
    }

    fn break_off(&mut self, reason: Reason, detail: String) -> BrokenOff {
        if let Source::Stream(stream) = std::mem::replace(&mut self.source, Source::Done)
            && reason.blames_endpoint()
            && let (Some(told), Some(moved)) = (&mut self.told, stream.link.broke_off())
        {
            told.moved_one(stream.link.route.upstream.name(), &moved, clock::now());
        }
        self.seat = None;
        if let Some(mut told) = self.told.take() {
            let report = told.report();
            report.broken = true;
            if reason == Reason::ClientGone {
                report.outcome = Outcome::ClientGone;
            }
            report.reason = Some(reason);
            report.detail = Some(detail.clone().into());
            told.complete(clock::now());
        }
        BrokenOff(detail)
    }

    /// The body breaks off. A gRPC call can say so: its client is told how it ended, after all messages
    /// that came.
    fn break_off_with(
        &mut self,
        reason: Reason,
        detail: String,
    ) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        let call = match &mut self.source {
            Source::Stream(stream) => stream.call.take(),
            Source::Bytes(_) | Source::Call(_) | Source::Done => None,
        };
        let code = call.map(|call| call.reset.unwrap_or(Code::of_reason(reason)));
        if let (Some(told), Some(_)) = (&mut self.told, code) {
            told.report().grpc_status = code;
        }
        let error = self.break_off(reason, detail);
        let Some(code) = code.filter(|_| call.is_some_and(|call| call.takes_trailers)) else {
            return Some(Err(error));
        };
        let mut trailers = HeaderMap::new();
        grpc::end(&mut trailers, code, error.to_string().as_bytes());
        Some(Ok(Frame::trailers(trailers)))
    }

    /// A gRPC call whose answer is passed on has ended: one more thing to learn about the endpoint.
    fn judge_call(&mut self, trailers: Option<&HeaderMap>) {
        let Source::Stream(stream) = &mut self.source else {
            return;
        };
        if stream.call.take().is_none() {
            return;
        }
        let code = grpc::code_of(trailers, &HeaderMap::new());
        let ending = Ending::Grpc { status: 200, code };
        let settings = stream.link.route.plan.policies.circuit_breaker.as_deref();
        let outcome = breaker::is_failure(settings, ending);
        let Some(told) = &mut self.told else { return };
        let report = told.report();
        report.grpc_status = Some(code);
        if let Some(last) = report.tries.last_mut() {
            (last.ending, last.outcome) = (ending, outcome);
        }
        if outcome == outcome::Outcome::Failure
            && let Some(moved) = stream.link.broke_off()
        {
            let upstream = stream.link.route.upstream.name();
            told.moved_one(upstream, &moved, clock::now());
        }
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        match (&mut self.told, frame.data_ref()) {
            (Some(told), Some(data)) => told.report().sent += data.len() as u64,
            _ => self.judge_call(frame.trailers_ref()),
        }
    }
}

impl Stream {
    /// The body of an answer that came over the link. `upload` is the request's body, which may still
    /// be on its way.
    pub fn new(
        head: response::Parts,
        link: Link,
        idle: Option<Duration>,
        upload: Option<RequestBody>,
    ) -> Self {
        Self {
            head,
            first: None,
            over: false,
            call: None,
            link,
            idle,
            timer: None,
            rearm: false,
            upload,
        }
    }

    /// The head of the answer.
    pub fn head(&mut self) -> &mut response::Parts {
        &mut self.head
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The headers of the answer.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Waits for the first part of the body, and keeps it to be passed on.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.first.is_none() && !self.is_over() {
            match ready!(self.poll_incoming(cx)) {
                // An empty part says nothing yet.
                Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(part) => self.first = Some(part),
                None => self.over = true,
            }
        }
        Poll::Ready(())
    }

    /// Why the body broke off, if that is what came first.
    pub(super) fn broke_off_first(&mut self) -> Option<(Reason, String)> {
        let first = self.first.take_if(|first| first.is_err())?;
        self.part(first).err()
    }

    /// The trailers, if they are what came first.
    pub(super) fn first_trailers(&self) -> Option<&HeaderMap> {
        self.first.as_ref()?.as_ref().ok()?.trailers_ref()
    }

    /// It is a gRPC call's, whose end will tell how it went.
    pub(super) fn judge_at_end(&mut self, takes_trailers: bool) {
        self.call = Some(OpenCall {
            takes_trailers,
            reset: None,
        });
    }

    /// Takes the first part of the body where it came together with the head. Never waits for it.
    pub fn prefetch(&mut self) {
        if self.first.is_some() || self.is_over() {
            return;
        }
        // Whoever takes the body from here asks again, so nobody has to be woken.
        let asleep = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(Some(part)) = self.poll_incoming(asleep) {
            self.first = Some(part);
        }
    }

    /// Reads the whole body, if it comes within `limit` bytes; gives the connection back. `None`: it is
    /// longer, or it broke off. The trailers stand beside it.
    pub async fn collect(mut self: Box<Self>, limit: usize) -> Option<(Bytes, Option<HeaderMap>)> {
        let mut collected = Vec::new();
        let mut trailers = None;
        let complete = std::future::poll_fn(|cx| {
            loop {
                match ready!(self.poll_part(cx)) {
                    None => return Poll::Ready(true),
                    Some(Err(_)) => return Poll::Ready(false),
                    Some(Ok(frame)) => {
                        trailers = frame.trailers_ref().cloned();
                        let data = frame.data_ref().map_or(&[][..], |data| data);
                        if collected.len() + data.len() > limit {
                            return Poll::Ready(false);
                        }
                        collected.extend_from_slice(data);
                    }
                }
            }
        })
        .await;
        if complete {
            self.link.give_back(clock::now());
        }
        complete.then(|| (collected.into(), trailers))
    }

    /// Whether nothing follows but the part that is kept, if one is.
    pub(super) fn is_over(&self) -> bool {
        self.over || self.link.is_end_stream()
    }

    fn is_end(&self) -> bool {
        self.first.is_none() && self.is_over()
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(self.part(first)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        match self.poll_incoming(cx) {
            Poll::Ready(Some(part)) => Poll::Ready(Some(self.part(part))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_idle(cx),
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        match &mut self.link.connection {
            Some(connection) => connection.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn part(&mut self, part: Received) -> Part {
        self.rearm = true;
        match part {
            Ok(mut frame) => {
                if let Some(fields) = frame.trailers_mut() {
                    trailers::clean(fields);
                }
                Ok(frame)
            }
            Err(error) => {
                if let Some(call) = &mut self.call {
                    call.reset = error.reset_code().map(Code::of_reset);
                }
                Err((self.why(&error), cause_of(&error)))
            }
        }
    }

    /// Why the body broke off: a request's body that breaks off takes the answer's with it.
    fn why(&self, error: &ReceiveError) -> Reason {
        match self.upload.as_ref().and_then(RequestBody::broken) {
            Some(Broken::TooLarge) => Reason::BodyTooLarge,
            Some(Broken::Malformed) => Reason::BadRequest,
            Some(Broken::ClientGone) => Reason::ClientGone,
            None => framing::broken_answer(error),
        }
    }

    /// The upstream sends nothing now: how long may that last?
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        let Some(idle) = self.idle else {
            return Poll::Pending;
        };
        let rearm = std::mem::take(&mut self.rearm);
        let timer = match &mut self.timer {
            Some(timer) => {
                if rearm {
                    timer.as_mut().reset(later(idle));
                }
                timer
            }
            None => self
                .timer
                .insert(Box::pin(tokio::time::sleep_until(later(idle)))),
        };
        while timer.as_mut().poll(cx).is_ready() {
            // The client may still upload: then the exchange is alive (rule 7).
            let alive = self.upload.as_ref().map(|body| body.upload().moved + idle);
            let Some(alive) = alive.filter(|alive| *alive > clock::now()) else {
                let sentence = format!("no byte of a body for {idle:?} (idle timeout)");
                return Poll::Ready(Some(Err((Reason::TryTimeout, sentence))));
            };
            timer.as_mut().reset(alive.into());
        }
        Poll::Pending
    }
}

fn later(wait: Duration) -> tokio::time::Instant {
    (clock::now() + wait).into()
}

impl Link {
    fn is_end_stream(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_none_or(Connection::is_end_stream)
    }

    /// Another request may have the connection, if it is fit for one.
    pub fn give_back(mut self, now: Instant) {
        if let Some(connection) = self.connection.take() {
            let RouteSite { upstream, plan, .. } = &*self.route;
            let pool = &plan.upstream.pool;
            upstream.keep(&self.endpoint, connection, pool, self.worker, now);
        }
    }

    fn broke_off(&self) -> Option<crate::live::roster::Move> {
        let settings = self.route.plan.policies.circuit_breaker.as_deref()?;
        self.route
            .upstream
            .body_broke_off(&self.endpoint, settings, clock::now(), fastrand::f64())
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let part = match &mut this.source {
            Source::Done => None,
            Source::Bytes(bytes) if bytes.is_empty() => None,
            Source::Bytes(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Source::Call(call) if !call.messages.is_empty() => {
                Some(Ok(Frame::data(std::mem::take(&mut call.messages))))
            }
            Source::Call(call) => call.trailers.take().map(Frame::trailers).map(Ok),
            Source::Stream(stream) => ready!(stream.poll_part(cx)),
        };
        Poll::Ready(match part {
            Some(Ok(frame)) => {
                this.count(&frame);
                // Behind trailers nothing comes, and not everybody asks for it.
                if frame.is_trailers() || this.is_end_stream() {
                    this.complete();
                }
                Some(Ok(frame))
            }
            Some(Err((reason, detail))) => this.break_off_with(reason, detail),
            None => {
                this.complete();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Done => true,
            Source::Bytes(bytes) => bytes.is_empty(),
            Source::Call(call) => call.messages.is_empty() && call.trailers.is_none(),
            Source::Stream(stream) => stream.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            Source::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Call(_) => SizeHint::default(),
            Source::Stream(stream) => stream.size_hint(),
        }
    }
}

impl Stream {
    fn size_hint(&self) -> SizeHint {
        if self.first_trailers().is_some() {
            // A length of 0 would be taken for the end.
            return SizeHint::default();
        }
        let ahead = self
            .first
            .as_ref()
            .and_then(|first| first.as_ref().ok()?.data_ref())
            .map_or(0, Bytes::len) as u64;
        let rest = self.link.connection.as_ref().map(Connection::size_hint);
        match rest.unwrap_or_else(|| SizeHint::with_exact(0)).exact() {
            Some(rest) => SizeHint::with_exact(ahead + rest),
            None => SizeHint::default(),
        }
    }
}
