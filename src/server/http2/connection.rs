//! One client's connection: the library, the streams, the deadlines of a slow client, the drain, and an
//! end that the client can read.

use std::future::poll_fn;
use std::mem::take;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason as Code, RecvStream};
use http::{Method, Request, Response};
use tokio::task::coop::has_budget_remaining;
use tokio::time::Sleep;

use super::board::{Bell, Board};
use super::floods::SOON;
use super::head::received;
use super::streams::{Polled, Streams};
use super::wire::{Judged, Refused, Wire};
use crate::clock;
use crate::live::received::ReceivedBody;
use crate::proxy::Reason;
use crate::proxy::client::Client;
use crate::proxy::told;
use crate::server::connection::{LATECOMER, LINGER, end_with};
use crate::server::deadline::{NEVER, nanos, since};
use crate::server::door::{Entered, Phase, Settings};
use crate::server::handler::Handler;
use crate::server::transport::Transport;
use crate::telemetry::limits::Limit;

/// Bytes of requests' bodies that a client may send ahead, on one stream and on all.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of one answer that wait for the socket.
const SEND_BUFFER: usize = 64 * 1024;

/// What HTTP/2 counts for each header beside its bytes (RFC 9113 section 6.5.2).
const HEADER_OVERHEAD: usize = 32;

/// Times that the task looks at its board before others of the worker have their turn.
const ROUNDS: usize = 8;

/// The library's number on the board, and the clock's.
const LIBRARY: u32 = u32::MAX;
const CLOCK: u32 = u32::MAX - 1;

/// Serves one connection to its end. `ahead` are bytes of it that have been read already; `client` is
/// what its requests share.
pub(in crate::server) async fn serve<IO, H>(
    io: IO,
    ahead: BytesMut,
    door: &Entered<H>,
    client: &Client,
    settings: &Settings,
) where
    IO: Transport,
    H: Handler,
{
    let wire = Wire::new(io, ahead, settings.max_streams);
    let handler = door.handler();
    let handle = |request: Request<ReceivedBody>, client: Arc<Client>| async move {
        handler.handle(&client, request).await
    };
    let mut session = Session::new(wire.handle(), door, client, settings, handle);
    let end = session.run().await;
    session.say_goodbye(&end).await;
    drop(session);
    tell(handler, client, &end, &wire.goodbye());
    if let Some((io, eof)) = wire.into_parts() {
        close(io, &end, eof).await;
    }
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The library is done, well or not; its last frame is written.
    Library(Result<(), h2::Error>),
    /// The client has gone over a limit.
    Flood(Limit),
    /// A head took too long.
    HeaderTimeout,
    /// No stream was open for too long, or the listener drains.
    Idle,
    /// The client took no byte of what was written to it for too long.
    Stalled,
    /// The drain's deadline is over.
    Cut,
}

/// The library, and what of a connection is looked after beside it.
struct Session<'a, IO, H: Handler, F, M> {
    library: Library<IO>,
    wire: Wire<IO>,
    door: &'a Entered<H>,
    client: &'a Client,
    handle: M,
    streams: Streams<F, H::Body>,
    board: Arc<Board>,
    /// Numbers that were taken from the board.
    numbers: Vec<u32>,
    library_bell: Bell,
    library_waker: Waker,
    clock: Clock,
    header: Duration,
    idle: Duration,
    /// Until when the connection may be without a stream, nanoseconds after it was accepted.
    quiet_until: u64,
    late: bool,
    phase: Phase,
}

enum Library<IO> {
    Handshake(Handshake<Wire<IO>, Bytes>),
    Open(Connection<Wire<IO>, Bytes>),
}

/// One timer for all deadlines of the connection. It may fire too early, never too late.
struct Clock {
    sleep: Pin<Box<Sleep>>,
    /// When it fires, nanoseconds after the connection was accepted.
    armed: u64,
    bell: Bell,
    waker: Waker,
}

impl Clock {
    /// Sees to it that it fires at that time at the latest.
    fn arm(&mut self, at: u64, accepted: Instant) {
        if at < self.armed {
            self.armed = at;
            let at = accepted + Duration::from_nanos(at);
            self.sleep.as_mut().reset(at.into());
            self.bell.ring();
        }
    }

    fn poll(&mut self) -> Poll<()> {
        self.bell.heard();
        let fired = self
            .sleep
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
        if fired.is_ready() {
            if self.armed == NEVER {
                return Poll::Pending;
            }
            self.armed = NEVER;
        }
        fired
    }
}

fn builder(settings: &Settings) -> Builder {
    let overhead = settings.max_headers.saturating_mul(HEADER_OVERHEAD);
    let list = settings.header_size.saturating_add(overhead);
    let streams = settings.max_streams;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(streams as usize);
    builder
}

impl<'a, IO, H, F, M> Session<'a, IO, H, F, M>
where
    IO: Transport,
    H: Handler,
    F: Future<Output = Response<H::Body>>,
    M: Fn(Request<ReceivedBody>, Arc<Client>) -> F,
{
    fn new(
        wire: Wire<IO>,
        door: &'a Entered<H>,
        client: &'a Client,
        settings: &Settings,
        handle: M,
    ) -> Self {
        let late = door.closing();
        let patience = if late { LATECOMER } else { Duration::MAX };
        let quiet_until = nanos(settings.header_timeout.min(patience));
        let board = Arc::new(Board::default());
        let (library_bell, bell) = (board.bell(LIBRARY), board.bell(CLOCK));
        library_bell.ring();
        bell.ring();
        let first = client.accepted() + Duration::from_nanos(quiet_until);
        Self {
            library: Library::Handshake(builder(settings).handshake(wire.handle())),
            wire,
            door,
            client,
            handle,
            streams: Streams::new(&board),
            board,
            numbers: Vec::new(),
            library_waker: library_bell.waker(),
            library_bell,
            clock: Clock {
                sleep: Box::pin(tokio::time::sleep_until(first.into())),
                armed: quiet_until,
                waker: bell.waker(),
                bell,
            },
            header: settings.header_timeout,
            idle: settings.idle_timeout,
            quiet_until,
            late,
            phase: Phase::Open,
        }
    }

    async fn run(&mut self) -> End {
        let door = self.door;
        let mut signal = pin!(door.reached(Phase::Draining));
        poll_fn(|cx| {
            self.board.attend(cx.waker());
            for _ in 0..ROUNDS {
                let mut numbers = take(&mut self.numbers);
                if !self.board.take(&mut numbers) {
                    self.numbers = numbers;
                    return Poll::Pending;
                }
                let (mut library, mut clock) = (false, false);
                for number in numbers.drain(..) {
                    match number {
                        LIBRARY => library = true,
                        CLOCK => clock = true,
                        // Streams first: what they send leaves in one write.
                        stream => self.poll_stream(stream),
                    }
                }
                self.numbers = numbers;
                if library && let Poll::Ready(end) = self.poll_library() {
                    return Poll::Ready(end);
                }
                if clock {
                    let waker = self.clock.waker.clone();
                    let cx = &mut Context::from_waker(&waker);
                    while self.phase != Phase::Cut && signal.as_mut().poll(cx).is_ready() {
                        if self.phase == Phase::Draining || door.phase() == Phase::Cut {
                            return Poll::Ready(End::Cut);
                        }
                        signal.set(door.reached(Phase::Cut));
                        if self.drain().is_ready() {
                            return Poll::Ready(End::Idle);
                        }
                    }
                    if let Poll::Ready(end) = self.poll_clock() {
                        return Poll::Ready(end);
                    }
                }
                if !has_budget_remaining() {
                    break;
                }
            }
            self.board.leave();
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// The listener drains: no more requests after those that are on their way.
    fn drain(&mut self) -> Poll<()> {
        self.phase = Phase::Draining;
        match &mut self.library {
            Library::Handshake(_) if !self.late => return Poll::Ready(()),
            Library::Handshake(_) => {}
            Library::Open(connection) => {
                connection.graceful_shutdown();
                self.library_bell.ring();
            }
        }
        if self.streams.open() == 0 {
            self.rest();
        }
        Poll::Pending
    }

    /// No stream is open now.
    fn rest(&mut self) {
        let patience = match self.phase {
            Phase::Open => self.idle,
            Phase::Draining | Phase::Cut => LATECOMER,
        };
        self.quiet_until = since(self.client).saturating_add(nanos(patience));
        self.clock.arm(self.quiet_until, self.client.accepted());
    }

    fn poll_stream(&mut self, number: u32) {
        let handler = self.door.handler();
        let panicked = |client: &Client| {
            let sentence = "The handler has panicked.";
            handler.refusal(client, Reason::Internal, sentence, client.began())
        };
        match self.streams.poll(number, panicked) {
            Polled::Nothing => return,
            Polled::Waits(deadline) => {
                self.clock.arm(deadline, self.client.accepted());
                return;
            }
            Polled::Ended => {}
            Polled::Reset(age) => {
                if age < SOON {
                    self.wire.reset_soon();
                }
            }
        }
        if self.streams.open() == 0 {
            self.rest();
        }
    }

    fn poll_library(&mut self) -> Poll<End> {
        self.library_bell.heard();
        let waker = self.library_waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let mut now = None;
        loop {
            match &mut self.library {
                Library::Handshake(handshake) => match Pin::new(handshake).poll(cx) {
                    Poll::Ready(Ok(mut connection)) => {
                        if self.phase != Phase::Open {
                            connection.graceful_shutdown();
                        }
                        self.library = Library::Open(connection);
                        self.rest();
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(End::Library(Err(error))),
                    Poll::Pending => break,
                },
                Library::Open(connection) => match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let now = *now.get_or_insert_with(|| since(self.client));
                        self.accept(request, respond, now);
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(End::Library(Err(error))),
                    Poll::Ready(None) => return Poll::Ready(End::Library(Ok(()))),
                    Poll::Pending => break,
                },
            }
        }
        self.look()
    }

    fn accept(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>, now: u64) {
        let judged = self.wire.judged(respond.stream_id().as_u32());
        let Judged::Handed(began) = judged else {
            return;
        };
        let began = began.map_or(now, |at| self.nanos_at(at));
        let head_only = request.method() == Method::HEAD;
        let (request, connect) = received(request);
        let Self {
            handle,
            client,
            idle,
            ..
        } = self;
        let number = self
            .streams
            .begin(client, began, *idle, respond, head_only, |client| {
                handle(request, client)
            });
        if let Some(connect) = connect {
            self.streams.keep(number, connect);
        }
        self.quiet_until = NEVER;
        self.poll_stream(number);
    }

    /// What the wire has seen of the client.
    fn look(&mut self) -> Poll<End> {
        let seen = self.wire.look();
        for refused in seen.refused {
            refused.tell(self.door.handler(), self.client);
        }
        if let Some(limit) = seen.limit {
            return Poll::Ready(End::Flood(limit));
        }
        if let Some(head) = seen.head_since {
            let until = self.nanos_at(head).saturating_add(nanos(self.header));
            self.clock.arm(until, self.client.accepted());
        }
        if let Some(blocked) = seen.blocked_since {
            let until = self.nanos_at(blocked).saturating_add(nanos(self.stall()));
            self.clock.arm(until, self.client.accepted());
        }
        Poll::Pending
    }

    fn poll_clock(&mut self) -> Poll<End> {
        while self.clock.poll().is_ready() {
            let now = since(self.client);
            let seen = self.wire.look();
            let head = seen.head_since.map_or(NEVER, |head| {
                self.nanos_at(head).saturating_add(nanos(self.header))
            });
            let blocked = seen.blocked_since.map_or(NEVER, |blocked| {
                self.nanos_at(blocked).saturating_add(nanos(self.stall()))
            });
            if head <= now {
                return Poll::Ready(End::HeaderTimeout);
            }
            if blocked <= now {
                return Poll::Ready(End::Stalled);
            }
            if self.quiet_until <= now {
                return Poll::Ready(End::Idle);
            }
            if self.streams.cut_stalled(now) {
                self.library_bell.ring();
                if self.streams.open() == 0 {
                    self.rest();
                }
            }
            let next = head.min(blocked).min(self.quiet_until);
            let next = next.min(self.streams.deadline());
            self.clock.arm(next, self.client.accepted());
        }
        Poll::Pending
    }

    /// How long the client may take nothing of what is written: as long as the most patient of its
    /// requests allows.
    fn stall(&self) -> Duration {
        self.streams.stall().unwrap_or(self.idle)
    }

    fn nanos_at(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.client.accepted()))
    }

    /// Ends the streams, and tells the client why, if it does not know.
    async fn say_goodbye(&mut self, end: &End) {
        let cut = matches!(end, End::Cut);
        self.streams.end_tunnels(cut);
        told::drop_requests(cut, || self.streams.clear());
        let code = match end {
            End::Flood(_) | End::HeaderTimeout => Code::ENHANCE_YOUR_CALM,
            End::Idle => Code::NO_ERROR,
            End::Library(_) | End::Stalled | End::Cut => return,
        };
        if let Library::Open(connection) = &mut self.library {
            connection.abrupt_shutdown(code);
            let closed = poll_fn(|cx| connection.poll_closed(cx));
            // A client that takes nothing is not told.
            let _ = tokio::time::timeout(LINGER, closed).await;
        }
    }
}

impl Refused {
    fn tell<H: Handler>(self, handler: &Arc<H>, client: &Client) {
        let (reason, sentence) = match self {
            Self::TooLarge => (
                Reason::HeaderTooLarge,
                "The head of the request is larger than what was announced.",
            ),
            Self::Reset(code) if Code::from(code) == Code::REFUSED_STREAM => {
                return handler.limited(&client.listener, client.peer, Limit::Streams);
            }
            Self::Reset(_) => (Reason::BadRequest, "The head of the request is malformed."),
        };
        // The library has answered already.
        drop(handler.refusal(client, reason, sentence, clock::now()));
    }
}

/// Tells of an end that is the client's fault.
fn tell<H: Handler>(handler: &Arc<H>, client: &Client, end: &End, goodbye: &[u8]) {
    let (reason, sentence) = match end {
        End::Flood(limit) => return handler.limited(&client.listener, client.peer, *limit),
        End::HeaderTimeout => (
            Reason::HeaderTimeout,
            "The head of the request did not come within the listener's header timeout.".to_owned(),
        ),
        End::Library(Err(error)) if error.is_library() => match limit_of(error, goodbye) {
            Some(limit) => return handler.limited(&client.listener, client.peer, limit),
            None => (
                Reason::BadRequest,
                format!("The connection does not keep to HTTP/2: {error}."),
            ),
        },
        End::Library(_) | End::Idle | End::Stalled | End::Cut => return,
    };
    drop(handler.refusal(client, reason, &sentence, clock::now()));
}

/// Which of the library's own limits the client has gone over. Only the last frame has words for them.
fn limit_of(error: &h2::Error, goodbye: &[u8]) -> Option<Limit> {
    if error.reason() != Some(Code::ENHANCE_YOUR_CALM) {
        return None;
    }
    Some(match goodbye {
        b"too_many_continuations" | b"header_list_way_too_large" => Limit::HeaderBlock,
        b"too_many_data_frames" => Limit::DataFrames,
        _ => Limit::Resets,
    })
}

/// Ends the connection so that the client can read what it was sent, and sees a break where its answers
/// broke off.
async fn close<IO: Transport>(io: IO, end: &End, eof: bool) {
    match end {
        End::Stalled | End::Cut => return io.break_off(),
        End::Library(Err(error)) if error.is_io() => return,
        End::Library(_) | End::Flood(_) | End::HeaderTimeout | End::Idle => {}
    }
    end_with(io, None, !eof).await;
}
