//! HTTP/2 to an endpoint: many requests share a connection, each has a stream of its own. A connection
//! is driven by a task of its own, on the worker that opened it.
//!
//! ```text
//! Upstream::lease ──► Turn (a stream is free)  ──► Turn::send ──► the head of an answer
//!                └──► Queued (none is)         ──► Turn, or a connection of HTTP/1.1
//! ```
//!
//! How many streams a connection has is its endpoint's word (`MAX_CONCURRENT_STREAMS`), and may change
//! at any time. A request that finds none free waits, or a connection more is opened for it where the
//! limit of connections lets us: that there is none is no error by itself. While all that may be open
//! are full it waits as long as it would for a connection.

mod driver;
mod gather;
mod head;
mod pool;
mod pulse;
mod pump;
mod shared;
mod state;
mod watched;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::Reason;
use h2::client::ResponseFuture;
use http::{HeaderMap, Response, StatusCode};
use http_body::SizeHint;
use tokio::task::AbortHandle;

pub use pool::StreamPool;

use self::driver::Opener;
use self::pool::{Asked, Given, Growth, InLine, Place};
use self::pump::Pump;
use super::connection::{Connection, SendError, cause_of};
use super::inbox::Part;
use super::interim::{self, Interim};
use super::received::{ReceiveError, StreamBody};
use super::request_body::{Held, TryBody};
use super::request_head::RequestHead;
use super::roster::{Endpoint, Roster};
use super::slots::Slots;
use super::upstream::Full;
use super::wire::Dialer;
use crate::clock;
use crate::plan;

/// Bytes of the heads of interim answers (1xx) before an answer; with more it is a protocol error.
const MAX_INTERIM: usize = 1024 * 1024;
/// What an interim answer costs beside its headers.
const EACH_INTERIM: usize = 64;

/// One request's turn on a connection: the right to one stream.
#[derive(Debug)]
pub struct Turn {
    /// The rest of the request's body, where its answer came first.
    upload: Option<Upload>,
    /// The answer's body.
    body: Option<StreamBody>,
    place: Place,
}

/// A task that ends with the stream that it sends on.
#[derive(Debug)]
struct Upload(AbortHandle);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A place in the line for a stream at one endpoint.
#[derive(Debug)]
pub struct Queued {
    line: InLine,
    opener: Opener,
    roster: Arc<Roster>,
    worker: usize,
    idle_timeout: Duration,
    at_limit: bool,
}

/// A connection that was waited for.
#[derive(Debug)]
pub struct Obtained {
    /// The connection.
    pub connection: Connection,
    /// It was opened for this request, or this is the first request on it.
    pub opened: bool,
    /// It was there before the request.
    pub reused: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NotObtained {
    /// It could not be made.
    Failed(io::Error),
    /// The endpoint speaks HTTP/1.1, and every connection that may be open is in use.
    Full(Full),
}

/// What a request for a stream is made with.
pub(super) struct Asking<'a> {
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) settings: &'a plan::Upstream,
    pub(super) worker: usize,
    pub(super) slots: &'a Arc<Slots>,
    pub(super) roster: &'a Arc<Roster>,
    pub(super) dialer: &'a Dialer,
}

/// A stream that is free now, or a place in the line.
pub(super) fn ask(asking: &Asking<'_>) -> Result<Turn, Box<Queued>> {
    let Asking {
        endpoint,
        settings,
        worker,
        ..
    } = *asking;
    let line = match endpoint.streams.ask(&settings.pool, worker, clock::now()) {
        Asked::Stream(place) => return Ok(Turn::new(place)),
        Asked::InLine(line) => line,
    };
    let opener = Opener {
        dialer: asking.dialer.clone(),
        endpoint: Arc::clone(endpoint),
        protocol: settings.protocol,
        slots: Arc::clone(asking.slots),
        max_connections: settings.max_connections,
        connect_timeout: settings.policies.timeouts.connect,
    };
    Err(Box::new(Queued {
        line,
        opener,
        roster: Arc::clone(asking.roster),
        worker,
        idle_timeout: settings.pool.idle_timeout,
        at_limit: false,
    }))
}

impl Queued {
    /// Waits for a stream. Dropping the future keeps the place, dropping `self` leaves the line.
    ///
    /// # Errors
    /// What the system says of the attempt to open a connection.
    pub async fn connection(&mut self) -> Result<Obtained, NotObtained> {
        let slots = Arc::clone(&self.opener.slots);
        loop {
            // What becomes free from here on is told.
            let mut freed = pin!(slots.freed());
            freed.as_mut().enable();
            self.at_limit = false;
            match self.line.grow(&self.opener) {
                Growth::Enough | Growth::Opening => {}
                Growth::AtLimit if self.line.pool.is_http1() => {
                    if let Some(obtained) = self.as_http1()? {
                        return Ok(obtained);
                    }
                    continue;
                }
                Growth::AtLimit => {
                    self.at_limit = true;
                    if let Some(place) = self.line.pool.take_any(clock::now()) {
                        return Ok(Obtained::stream(place));
                    }
                    self.ask_others_for_room();
                }
            }
            let bell = &mut self.line.bell;
            let given = tokio::select! {
                biased;
                given = bell => given.ok(),
                () = freed => continue,
            };
            return match given {
                Some(Given::Stream(place)) => Ok(Obtained::stream(place)),
                Some(Given::Http1(connection)) => Ok(Obtained {
                    connection: Connection::Http1(connection),
                    opened: true,
                    reused: false,
                }),
                Some(Given::Failed(error)) => Err(NotObtained::Failed(error)),
                // Not met: the pool lives as long as its line.
                None => Err(NotObtained::Failed(io::ErrorKind::NotConnected.into())),
            };
        }
    }

    /// Whether it waits because no other connection may be opened.
    pub fn at_limit(&self) -> Option<usize> {
        self.opener.max_connections.filter(|_| self.at_limit)
    }

    /// At the limit, connections of HTTP/1.1 are not waited for: an idle one of any worker's, else the
    /// place of one that is idle at another endpoint.
    fn as_http1(&self) -> Result<Option<Obtained>, NotObtained> {
        let (endpoint, now) = (&self.opener.endpoint, clock::now());
        let idle = endpoint.pool.take_any(self.worker, self.idle_timeout, now);
        if let Some(connection) = idle {
            return Ok(Some(Obtained {
                connection: Connection::Http1(connection),
                opened: false,
                reused: true,
            }));
        }
        if self.roster.close_one_idle(endpoint, self.worker, now) {
            return Ok(None);
        }
        let limit = self.opener.max_connections.unwrap_or(usize::MAX);
        Err(NotObtained::Full(Full { limit }))
    }

    fn ask_others_for_room(&self) {
        if self.line.pool.may_ask_for_room() {
            let endpoints = self.roster.endpoints();
            let mut others = endpoints
                .iter()
                .filter(|other| other.key != self.opener.endpoint.key);
            others.any(|other| other.streams.close_one_idle());
        }
    }
}

impl Obtained {
    fn stream(place: Place) -> Self {
        Self {
            opened: place.first,
            reused: place.reused,
            connection: Connection::Http2(Box::new(Turn::new(place))),
        }
    }
}

impl Turn {
    fn new(place: Place) -> Self {
        Self {
            upload: None,
            body: None,
            place,
        }
    }

    /// No other request may begin on the connection.
    pub(super) fn retire(&self) {
        self.place.retire();
    }

    /// Sends one request and waits for the head of its answer. What of its body is still to come then
    /// goes on by itself. Dropping the future gives the stream up.
    pub(super) async fn send(
        &mut self,
        head: RequestHead<'_>,
        body: TryBody,
        interim: &Interim,
    ) -> Result<Response<()>, Box<SendError>> {
        let shared = Arc::clone(&self.place.shared);
        let ends = http_body::Body::is_end_stream(&body);
        let held = body.held();
        let request = head::onward(head.to_parts(), shared.scheme.clone(), ());
        let sent = shared.sender.clone().send_request(request, ends);
        let (answer, stream) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                // It has ended, or said goodbye. In no case does another request begin on it, so that
                // trying again comes to an end.
                self.retire();
                return Err(Box::new(self.error(&error, u32::MAX)));
            }
        };
        let id = stream.stream_id().as_u32();
        let watch = Watch::begin(&self.place);
        let mut sending = Sending {
            answer,
            pump: (!ends).then(|| Pump::new(stream, body)),
            held,
            interim,
            interim_bytes: 0,
        };
        let result = poll_fn(|cx| sending.poll(cx)).await;
        watch.done();
        let answer = result.map_err(|failed| Box::new(self.failed(failed, id)))?;
        self.upload = sending.pump.map(|pump| {
            let rest = async move {
                // That it broke off, the body of the answer tells.
                let _ = pump.await;
            };
            Upload(tokio::spawn(rest).abort_handle())
        });
        let (head, stream) = answer.into_parts();
        self.body = Some(StreamBody::new(stream, &head.headers));
        Ok(Response::from_parts(head, ()))
    }

    /// The next part of the answer's body.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        match &mut self.body {
            Some(body) => body.poll_frame(cx).map_err(ReceiveError::Http2),
            None => Poll::Ready(None),
        }
    }

    /// Whether no part of the answer's body follows.
    pub(super) fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(StreamBody::is_end_stream)
    }

    /// How much of the answer's body follows.
    pub(super) fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(none, StreamBody::size_hint)
    }

    fn failed(&self, failed: SendFailed, id: u32) -> SendError {
        match failed {
            SendFailed::Broken => SendError::stream("the request's body broke off".to_owned()),
            SendFailed::Endless => SendError {
                invalid_answer: true,
                ..SendError::stream(format!(
                    "over {MAX_INTERIM} bytes of interim answers came, but no head of an answer"
                ))
            },
            SendFailed::Switched => SendError {
                invalid_answer: true,
                ..SendError::stream("status 101, which HTTP/2 has not".to_owned())
            },
            SendFailed::Http2(error) => self.error(&error, id),
        }
    }

    /// How far a stream got that ended by this error.
    fn error(&self, error: &h2::Error, id: u32) -> SendError {
        let seen = &self.place.shared.seen;
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        let cause = match seen.ended_by_us() {
            Some(why) => why.to_owned(),
            None => cause_of(error),
        };
        SendError {
            nothing_written: seen.is_untouched(id),
            refused,
            // The limit was lowered while the request was on its way.
            overtaken: refused && self.place.is_over_limit(),
            invalid_answer: error.is_library(),
            ..SendError::stream(cause)
        }
    }
}

/// How sending ended without an answer.
enum SendFailed {
    Http2(h2::Error),
    /// The request's body broke off.
    Broken,
    /// Interim answers came without end.
    Endless,
    /// An answer that HTTP/2 has not came.
    Switched,
}

/// A request that is being sent, and its answer being waited for.
struct Sending<'a> {
    answer: ResponseFuture,
    pump: Option<Pump>,
    held: Option<Held>,
    interim: &'a Interim,
    interim_bytes: usize,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<h2::RecvStream>, SendFailed>> {
        if let Some(pump) = &mut self.pump
            && let Poll::Ready(pumped) = Pin::new(pump).poll(cx)
        {
            self.pump = None;
            if pumped.is_err() {
                return Poll::Ready(Err(SendFailed::Broken));
            }
        }
        loop {
            match self.answer.poll_informational(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => break,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(SendFailed::Http2(error))),
                Poll::Ready(Some(Ok(head))) => {
                    let (head, ()) = head.into_parts();
                    if let Err(failed) = self.pass_on(head.status, head.headers) {
                        return Poll::Ready(Err(failed));
                    }
                }
            }
        }
        Pin::new(&mut self.answer)
            .poll(cx)
            .map_err(SendFailed::Http2)
    }

    fn pass_on(&mut self, status: StatusCode, headers: HeaderMap) -> Result<(), SendFailed> {
        let bytes = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        self.interim_bytes += EACH_INTERIM + bytes.sum::<usize>();
        if self.interim_bytes > MAX_INTERIM {
            return Err(SendFailed::Endless);
        }
        let Some(head) = interim::Head::received(status, headers) else {
            return Err(SendFailed::Switched);
        };
        if status == StatusCode::CONTINUE
            && let Some(held) = &self.held
        {
            held.let_go();
        }
        self.interim.pass(head);
        Ok(())
    }
}

/// Notices that a request is given up without a byte from the endpoint since it was sent: then it is
/// asked whether it lives, so that not every request has to find out for itself.
struct Watch<'a> {
    place: &'a Place,
    read: u64,
    over: bool,
}

impl<'a> Watch<'a> {
    fn begin(place: &'a Place) -> Self {
        let read = place.shared.seen.read();
        Self {
            place,
            read,
            over: false,
        }
    }

    fn done(mut self) {
        self.over = true;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let seen = &self.place.shared.seen;
        if !self.over && seen.read() == self.read {
            seen.doubt.notify_one();
        }
    }
}
