//! A connection to an endpoint as one request has it: one of HTTP/1.1 for itself, or its turn on one of
//! HTTP/2.
//!
//! One of HTTP/1.1 is driven by the task of the request that uses it: no task of its own, so that
//! nothing is left behind when the request ends, and nobody has to be woken between the two. Built on
//! `hyper::client::conn`, which sends what it is given once and never again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::{AbortHandle, unconstrained};

use super::age::Age;
use super::http2::Turn;
use super::interim::Interim;
use super::line::Line;
use super::pool::Idle;
use super::received::ReceivedBody;
use super::request_body::{Held, TryBody};
use super::roster::Endpoint;
use super::slots::{Slot, Slots};
use super::wire::{Dialer, Traffic, Wire};
use crate::tls::{self, Refusal};
use crate::{clock, plan};

/// Bytes before an answer, heads of interim ones (1xx) included; with more it is a protocol error.
const MAX_BEFORE_ANSWER: u64 = 1024 * 1024;

/// An open connection, as far as one request has it.
#[derive(Debug)]
pub enum Connection {
    /// All of it.
    Http1(Box<Http1>),
    /// One stream.
    Http2(Box<Turn>),
}

/// An open connection of HTTP/1.1.
pub struct Http1 {
    sender: http1::SendRequest<TryBody>,
    driver: Option<http1::Connection<TokioIo<Wire>, TryBody>>,
    /// Set when it is driven by a task of its own.
    task: Option<Task>,
    upgrade: Upgrade,
    traffic: Traffic,
    requests: u64,
    keep_alive: Option<Duration>,
    spent: bool,
    age: Age,
    slot: Arc<Slot>,
}

/// Whether the protocol of a connection may be switched by the current request.
enum Upgrade {
    /// It was not asked for.
    No,
    /// It was; the connection is kept when it has ended for HTTP.
    Asked,
    /// It has ended for HTTP.
    Ended(Box<http1::Connection<TokioIo<Wire>, TryBody>>),
}

/// A task that ends when its connection is no longer wanted.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How sending a request ended without an answer.
#[derive(Debug)]
pub struct SendError {
    /// The request, where it was never started.
    pub unsent: Option<Request<TryBody>>,
    /// Whether no byte of it left us, or the endpoint said that it does not act on it as it takes no
    /// more on that connection.
    pub nothing_written: bool,
    /// Whether the endpoint refused it, without acting on it.
    pub refused: bool,
    /// Whether that was because it had just allowed fewer requests at a time: it only has to wait.
    pub overtaken: bool,
    /// Whether the upstream sent what is no valid answer, rather than nothing.
    pub invalid_answer: bool,
    /// The endpoint refused the TLS handshake after all; then it has not looked at the request.
    pub refusal: Option<Refusal>,
    /// What went wrong, for the log.
    pub cause: String,
}

impl Connection {
    /// Sends one request and waits for the head of its answer. Interim answers before it are passed on;
    /// `100 Continue` lets go of a body that is held back. The connection must be fresh or
    /// [`Self::is_reusable`].
    ///
    /// # Errors
    /// How far the request got, and what ended it.
    pub async fn send(
        &mut self,
        request: Request<TryBody>,
        interim: &Interim,
    ) -> Result<Response<ReceivedBody>, Box<SendError>> {
        match self {
            Self::Http1(connection) => connection.send(request, interim).await,
            // Boxed, so that it does not make every other request's future larger.
            Self::Http2(turn) => Box::pin(turn.send(request, interim)).await,
        }
    }

    /// No other request may follow the current one, or begin beside it.
    pub fn retire(&mut self) {
        match self {
            Self::Http1(connection) => connection.spent = true,
            Self::Http2(turn) => turn.retire(),
        }
    }

    /// The current request asks for another protocol: see [`Self::into_line`]. To be called before it is
    /// sent; no other request can follow it. HTTP/2 has no such thing.
    pub fn ask_for_upgrade(&mut self) {
        match self {
            Self::Http1(connection) => connection.ask_for_upgrade(),
            Self::Http2(_) => {}
        }
    }

    /// The bytes below HTTP, after an answer with status 101. `None`: it was not asked for, or the
    /// connection has broken.
    pub fn into_line(self) -> Option<Line> {
        match self {
            Self::Http1(connection) => connection.into_line(),
            Self::Http2(_) => None,
        }
    }

    /// From now on a task of its own drives the connection: see [`Http1::drive_apart`]. One of HTTP/2
    /// always has one.
    pub fn drive_apart(&mut self) {
        match self {
            Self::Http1(connection) => connection.drive_apart(),
            Self::Http2(_) => {}
        }
    }

    /// Whether a task of its own drives it.
    pub fn is_driven_apart(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.task.is_some(),
            Self::Http2(_) => true,
        }
    }

    /// Remembers for how long the endpoint said that it keeps an idle connection. HTTP/2 has no such
    /// word.
    pub fn learn_keep_alive(&mut self, timeout: Option<Duration>) {
        match self {
            Self::Http1(connection) => connection.keep_alive = timeout,
            Self::Http2(_) => {}
        }
    }

    /// Whether the last exchange is complete in both directions and another may follow. A stream of
    /// HTTP/2 is given back in any case.
    pub fn is_reusable(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_reusable(),
            Self::Http2(_) => true,
        }
    }

    /// Lets the connection read and write. To be called by whoever waits for a body's next part.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Http1(connection) => connection.drive(cx),
            Self::Http2(_) => {}
        }
    }
}

impl Http1 {
    /// Opens a connection in the slot.
    ///
    /// # Errors
    /// What the system says of the attempt, or a [`super::tls::TlsFailure`].
    pub async fn open(dialer: &Dialer, endpoint: &Endpoint, slot: Slot) -> io::Result<Box<Self>> {
        let secured = endpoint.secured.as_ref();
        let wire = dialer.dial(&endpoint.address, secured, true).await?;
        Self::over(wire, slot).await
    }

    /// Speaks HTTP/1.1 over these bytes.
    pub(super) async fn over(wire: Wire, slot: Slot) -> io::Result<Box<Self>> {
        let traffic = wire.traffic();
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(wire))
            .await
            .map_err(io::Error::other)?;
        let driver = Some(driver);
        Ok(Box::new(Self {
            sender,
            driver,
            task: None,
            upgrade: Upgrade::No,
            traffic,
            requests: 0,
            keep_alive: None,
            spent: false,
            age: Age::begin(clock::now()),
            slot: Arc::new(slot),
        }))
    }

    /// Sends one request and drives the connection until the head of the answer is there.
    async fn send(
        &mut self,
        request: Request<TryBody>,
        interim: &Interim,
    ) -> Result<Response<ReceivedBody>, Box<SendError>> {
        self.requests += 1;
        self.traffic.expect_answer();
        let held = request.body().held();
        let (written_before, read_before) = (self.traffic.written(), self.traffic.read());
        // Unconstrained, since nobody would wake a task that has used up its turn just here.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let mut sent = false;
        let result = poll_fn(|cx| {
            // Most answers come in one piece. Taken without a waker, such a one does not wake this very
            // task to run once more for nothing.
            if std::mem::replace(&mut sent, true) {
                self.drive(&mut asleep());
                let polled = answer.as_mut().poll(&mut asleep());
                if polled.is_ready() {
                    let flood = self.too_much_since(read_before);
                    return polled.map(|answer| if flood { Err(TooMuch) } else { Ok(answer) });
                }
            }
            loop {
                self.drive(cx);
                let polled = answer.as_mut().poll(&mut asleep());
                if self.too_much_since(read_before) {
                    return Poll::Ready(Err(TooMuch));
                }
                // A body that was let go of by an interim answer is asked for by the next round.
                if polled.is_ready() || !pass_on(&self.traffic, interim, held.as_ref()) {
                    return polled.map(Ok);
                }
            }
        });
        let result = result.await;
        pass_on(&self.traffic, interim, held.as_ref());
        let answered = result.map_err(|TooMuch| Box::new(SendError::no_end()))?;
        answered
            .map(|answer| answer.map(ReceivedBody::Http1))
            .map_err(|mut error| {
                let unsent = error.take_message();
                let error = error.into_error();
                Box::new(SendError {
                    nothing_written: unsent.is_some() || self.traffic.written() == written_before,
                    unsent,
                    refused: false,
                    overtaken: false,
                    refusal: tls::refusal_of(&error),
                    invalid_answer: error.is_parse() || error.is_parse_too_large(),
                    cause: cause_of(&error),
                })
            })
    }

    /// Whether more has come than a head. Of the body no more is read than fits into a buffer, which
    /// is far less.
    fn too_much_since(&self, read_before: u64) -> bool {
        self.traffic.read() - read_before > MAX_BEFORE_ANSWER
    }

    /// Requests sent so far, the current one included.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    fn ask_for_upgrade(&mut self) {
        self.upgrade = Upgrade::Asked;
        self.spent = true;
    }

    fn into_line(mut self: Box<Self>) -> Option<Line> {
        self.drive(&mut asleep());
        let driver = match std::mem::replace(&mut self.upgrade, Upgrade::No) {
            Upgrade::No => return None,
            Upgrade::Ended(driver) => *driver,
            Upgrade::Asked => self.driver.take()?,
        };
        let parts = driver.into_parts();
        Some(Line {
            wire: parts.io.into_inner(),
            early: parts.read_buf,
            _slot: Some(Arc::clone(&self.slot)),
        })
    }

    /// When it is too old for another request; `None`: never.
    pub(super) fn ends(&self, settings: &plan::Pool) -> Option<Instant> {
        self.age.ends(settings)
    }

    /// From now on a task of its own drives the connection. For an answer that comes before the
    /// request's body is complete: nobody asks for more of the answer while the client does not take
    /// it, and a client may well send its whole body before it takes anything. No request can follow.
    pub fn drive_apart(&mut self) {
        if let Some(driver) = self.driver.take() {
            // The slot is free when the socket is closed, not before.
            let slot = Arc::clone(&self.slot);
            let task = tokio::spawn(async move {
                // What went wrong is told to whoever waits for the answer's body.
                let _ = driver.await;
                drop(slot);
            });
            self.task = Some(Task(task.abort_handle()));
        }
    }

    /// Whether the last exchange is complete in both directions and another may follow.
    pub fn is_reusable(&self) -> bool {
        !self.spent && self.driver.is_some() && self.sender.is_ready()
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            // What went wrong is told to whoever waits for the answer or its body.
            let driver = self.driver.take();
            if let (Upgrade::Asked, Some(driver)) = (&self.upgrade, driver) {
                self.upgrade = Upgrade::Ended(Box::new(driver));
            }
        }
    }
}

/// Passes on the interim answers that have come, and gives whether there were any. After `100
/// Continue` the body is sent, and reading it tells the client to send it.
fn pass_on(traffic: &Traffic, interim: &Interim, held: Option<&Held>) -> bool {
    let Some(heads) = traffic.take_interim() else {
        return false;
    };
    for head in heads {
        if head.status == StatusCode::CONTINUE
            && let Some(held) = held
        {
            held.let_go();
        }
        interim.pass(head);
    }
    true
}

/// For polls that nobody has to be woken for.
fn asleep() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What came before the answer has no end.
struct TooMuch;

impl SendError {
    fn no_end() -> Self {
        Self {
            invalid_answer: true,
            ..Self::stream(format!(
                "over {MAX_BEFORE_ANSWER} bytes came, but no head of an answer"
            ))
        }
    }

    /// The request was on its way, and no answer came.
    pub(super) fn stream(cause: String) -> Self {
        Self {
            unsent: None,
            nothing_written: false,
            refused: false,
            overtaken: false,
            invalid_answer: false,
            refusal: None,
            cause,
        }
    }
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
        // Nobody waits for it now, so nobody needs to be woken; whoever takes it polls it again.
        self.drive(&mut asleep());
        self.is_reusable()
    }

    fn keep_alive(&self) -> Option<Duration> {
        self.keep_alive
    }

    fn slots(&self) -> &Slots {
        self.slot.slots()
    }
}

/// The error with what is behind it, in one line.
pub fn cause_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
