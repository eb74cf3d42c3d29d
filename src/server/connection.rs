//! One client's connection: the HTTP library over the `Wire`, the deadlines of a slow client, the
//! drain, and an end that does not cost the client its last answer.
//!
//! Beside the library's own future a connection has one timer and one drain signal. Neither is
//! touched while requests come and go: the deadlines are numbers that the wire keeps, and the timer
//! is set again when it fires, or when a deadline comes to lie before it.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Sleep;

use super::alarm::Alarm;
use super::door::{Door, Entered, Phase, Settings};
use super::exchange::{Answer, Exchange, Exchanging, NEVER, Stage};
use super::handler::Handler;
use super::http2;
use super::redirected::{Kept, SERVER_FIRST};
use super::transport::Transport;
use super::wire::{Parts, Shared, Times, Wire, nanos, since};
use crate::clock;
use crate::live::received::ReceivedBody;
use crate::proxy::client::Client;
use crate::proxy::tunnel::{Close, Handover, Tunnel};
use crate::proxy::{Protocol, Reason, Unmatched};

/// After an answer that ends the connection, so long and so many bytes the client may go on sending.
/// Closed at once, the connection would be reset and the answer lost on its way.
pub(super) const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// How long a client that comes during a drain may take over its request's head. It comes with one in
/// hand; if it does not, it must not hold the drain up.
pub(super) const LATECOMER: Duration = Duration::from_secs(1);

/// Timers have no finer grain: a millisecond.
const LEAST_PERIOD: u64 = 1_000_000;

/// The HTTP library's own number of headers; it takes more only at the price of an allocation for
/// each request.
const LIBRARY_HEADERS: usize = 100;

/// Serves one connection of that door to its end. `worker` is the worker that it runs on, for the
/// handler.
pub async fn serve<IO, H>(io: IO, door: &Arc<Door<H>>, peer: Option<SocketAddr>, worker: usize)
where
    IO: Transport,
    H: Handler,
{
    serve_entered(io, door.enter(), peer, worker).await;
}

/// As [`serve`], for a connection that is counted already.
pub(super) async fn serve_entered<IO, H>(
    io: IO,
    door: Entered<H>,
    peer: Option<SocketAddr>,
    worker: usize,
) where
    IO: Transport,
    H: Handler,
{
    let settings = door.settings();
    let client = Client::new(
        peer,
        Arc::clone(door.name()),
        worker,
        clock::now(),
        settings.idle_timeout,
    );
    let client = client.encrypted(io.is_encrypted());
    if io.agreed().unwrap_or(settings.protocol) == Protocol::Http2 {
        serve_http2(io, BytesMut::new(), &door, &client, &settings).await;
    } else {
        serve_http1(io, &door, client, &settings).await;
    }
}

/// As [`serve_entered`], for a client that was redirected on its way to that address.
pub(super) async fn serve_redirected<IO, H>(
    io: IO,
    door: Entered<H>,
    peer: SocketAddr,
    to: SocketAddr,
    worker: usize,
) where
    IO: Transport,
    H: Handler,
{
    let settings = door.settings();
    let listener = Arc::clone(door.name());
    let (now, stall) = (clock::now(), settings.idle_timeout);
    let client = Client::new(Some(peer), listener, worker, now, stall).redirected(to);
    if settings.protocol == Protocol::Http2 && settings.redirected != Some(Unmatched::Pass) {
        serve_http2(io, BytesMut::new(), &door, &client, &settings).await;
    } else {
        serve_http1(io, &door, client, &settings).await;
    }
}

/// Boxed, since its state is larger than that of the other version.
async fn serve_http2<IO, H>(
    io: IO,
    ahead: BytesMut,
    door: &Entered<H>,
    client: &Client,
    settings: &Settings,
) where
    IO: Transport,
    H: Handler,
{
    Box::pin(http2::connection::serve(io, ahead, door, client, settings)).await;
}

/// Serves HTTP/1.1, and hands over to the other version if the client begins with its preface, and may.
async fn serve_http1<IO, H>(io: IO, door: &Entered<H>, client: Client, settings: &Settings)
where
    IO: Transport,
    H: Handler,
{
    let late = door.closing();
    let patience = if late { LATECOMER } else { Duration::MAX };
    let times = Times {
        header: nanos(settings.header_timeout.min(patience)),
        idle: nanos(settings.idle_timeout),
    };
    let may_pass = client.destination().is_some() && settings.redirected == Some(Unmatched::Pass);
    let silence = if may_pass {
        SERVER_FIRST
    } else {
        Duration::MAX
    };
    let served = Arc::new(Served {
        door: Arc::clone(door),
        client: Arc::new(client),
        exchange: Exchange::new(times.header.min(nanos(silence))),
        tunnel: Mutex::default(),
        passes: AtomicBool::new(false),
    });
    let mut wire = Wire::new(io, settings, times, Arc::clone(&served));
    if may_pass {
        wire = wire.keeping(settings.protocol != Protocol::Http1);
    }
    let service = service_fn(|request: Request<Incoming>| {
        let served = Arc::clone(&served);
        served
            .exchange
            .set_old(request.version() < Version::HTTP_11);
        served.exchange.enter(Stage::Serving, NEVER);
        async move {
            if served.client.is_unrouted() {
                if may_pass && served.door.handler().passes(&served.client, &request) {
                    served.passes.store(true, Relaxed);
                    return Err(Aborted::Passed);
                }
                served.client.set_routed(true);
            }
            let request = request.map(ReceivedBody::Http1);
            let mut answer = {
                // Pinned here, since it is large and would be moved into the guard.
                let handled = pin!(served.door.handler().handle(&served.client, request));
                served.exchange.guard(handled).await?
            };
            if !answer.extensions().is_empty()
                && let Some(handover) = answer.extensions_mut().remove::<Handover>()
            {
                *served.tunnel.lock() = handover.take();
                return Ok(answer.map(|body| Answer::new(body, served)));
            }
            // A drain may not have come to this connection's own attention yet. And what is missing of
            // a request that is answered already is not waited for (rule 20): unless it is said, the
            // client would lose its next request to the end of the connection. And a client without chunks
            // learns only by that end where an answer of unknown length ends.
            let endless = || answer.body().size_hint().exact().is_none();
            if served.door.closing()
                || !served.exchange.is_whole()
                || served.exchange.is_old() && endless()
            {
                let headers = answer.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Aborted>(answer.map(|body| Answer::new(body, served)))
        }
    });
    let ours = wire.handle();
    let mut library = builder(settings).serve_connection(TokioIo::new(wire), service);
    let end = run(&mut library, &ours, &served, times, late).await;
    drop(library);
    let Some(mut parts) = ours.into_parts() else {
        return;
    };
    if let Some(kept) = parts.kept.take()
        && served.is_to_be_passed(&end, &kept)
    {
        return pass_on(&served, parts, kept.into_bytes()).await;
    }
    if let Some(ahead) = parts.http2 {
        return serve_http2(parts.io, ahead, door, &served.client, settings).await;
    }
    let tunnel = served.tunnel.lock().take();
    if let (End::Library(Ok(())), Some(tunnel)) = (&end, tunnel) {
        return tunnel_through(tunnel, parts, door).await;
    }
    let refusal = refusal(&end, &served, parts.fault);
    let bytes = refusal.and_then(|(reason, detail)| {
        let client = &served.client;
        served
            .door
            .handler()
            .refuse(client, reason, &detail, client.began())
    });
    close(parts.io, &end, &served.exchange, bytes, parts.eof).await;
}

/// Passes a redirected connection on to where it was going, with all that came of it.
async fn pass_on<IO: Transport, H: Handler>(
    served: &Served<H>,
    parts: Parts<IO>,
    mut early: BytesMut,
) {
    let Parts { mut io, carry, .. } = parts;
    early.extend_from_slice(&carry);
    let (handler, cut) = (served.door.handler(), served.door.reached(Phase::Cut));
    // Boxed, since few connections come to this.
    let passing = Box::pin(handler.pass(&served.client, &mut io, &early, cut));
    if passing.await == Close::Break {
        io.break_off();
    }
}

/// Serves a connection that speaks HTTP no more. It has until the end of a drain.
async fn tunnel_through<IO: Transport, H: Handler>(
    tunnel: Box<Tunnel>,
    parts: Parts<IO>,
    door: &Door<H>,
) {
    let Parts { mut io, carry, .. } = parts;
    // Boxed, since few connections come to this.
    let running = Box::pin(tunnel.run(&mut io, &carry, door.reached(Phase::Cut)));
    if running.await == Close::Break {
        io.break_off();
    }
}

fn builder(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Who leaves is told by the wire.
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(settings.header_size.saturating_add(1).max(8192));
    if settings.max_headers > LIBRARY_HEADERS {
        builder.max_headers(settings.max_headers);
    }
    builder
}

/// What the parts of one connection share.
struct Served<H> {
    door: Arc<Door<H>>,
    client: Arc<Client>,
    exchange: Exchange,
    /// The answer opened it: it begins when the HTTP library is done.
    tunnel: Mutex<Option<Box<Tunnel>>>,
    /// No route matches the request of this redirected client.
    passes: AtomicBool,
}

impl<H> Served<H> {
    /// Whether a redirected connection that has ended so goes on to where it was going.
    fn is_to_be_passed(&self, end: &End, kept: &Kept) -> bool {
        self.passes.load(Relaxed)
            || kept.is_no_http()
                && match end {
                    End::Library(ended) => ended.is_err() || kept.is_other(),
                    // It waits for the server to speak, or for its own next word.
                    End::Idle => !self.door.closing(),
                    End::HeaderTimeout => true,
                    End::Gone | End::Stalled | End::Cut => false,
                }
    }
}

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
enum Aborted {
    #[error(transparent)]
    Panicked(#[from] super::exchange::Panicked),
    #[error("the connection is passed on")]
    Passed,
}

impl<H> Exchanging for Served<H> {
    fn exchange(&self) -> &Exchange {
        &self.exchange
    }
}

impl<H> Shared for Served<H> {
    fn client(&self) -> &Client {
        &self.client
    }
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The HTTP library is done, well or not.
    Library(hyper::Result<()>),
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
}

/// Runs the connection until it ends. `late`: it was accepted during a drain.
async fn run<IO, H, L>(
    library: &mut L,
    wire: &Wire<IO, Served<H>>,
    served: &Served<H>,
    times: Times,
    late: bool,
) -> End
where
    IO: Transport,
    L: Library,
{
    let door = &served.door;
    let mut timer = pin!(sleep_until(&served.client, times.header));
    let mut signal = pin!(door.reached(Phase::Draining));
    let mut state = Watch {
        alarm: Alarm::default(),
        phase: Phase::Open,
        told: false,
        armed: times.header,
        period: times.header.min(times.idle).max(LEAST_PERIOD),
    };
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(outcome) = Pin::new(&mut *library).poll(cx) {
                return Poll::Ready(End::Library(outcome));
            }
            if served.exchange.stage() == Stage::Serving {
                if served.client.interim().is_waiting()
                    && let Poll::Ready(Err(_)) = wire.poll_interim(cx)
                {
                    return Poll::Ready(End::Gone);
                }
                if wire.poll_gone(cx).is_ready() {
                    return Poll::Ready(End::Gone);
                }
            }
            if let Some(waker) = state.alarm.rang(cx) {
                let cx = &mut Context::from_waker(&waker);
                while state.phase != Phase::Cut && signal.as_mut().poll(cx).is_ready() {
                    if state.phase == Phase::Draining || door.phase() == Phase::Cut {
                        return Poll::Ready(End::Cut);
                    }
                    state.phase = Phase::Draining;
                    signal.set(door.reached(Phase::Cut));
                }
                if let Poll::Ready(end) = state.poll_timer(&mut timer, served, cx) {
                    return Poll::Ready(end);
                }
            }
            if served.exchange.deadline() < state.armed {
                let waker = state.alarm.waker(cx);
                state.arm(&mut timer, &served.client, served.exchange.deadline());
                let cx = &mut Context::from_waker(&waker);
                if let Poll::Ready(end) = state.poll_timer(&mut timer, served, cx) {
                    return Poll::Ready(end);
                }
            }
            if state.phase == Phase::Open || state.told {
                return Poll::Pending;
            }
            match served.exchange.stage() {
                // Closed without a word, it could not tell whether its request was taken (rule 84).
                Stage::Idle if late => return Poll::Pending,
                Stage::Idle => return Poll::Ready(End::Idle),
                // It will be told when the request is complete: the library would drop the head.
                Stage::Head => return Poll::Pending,
                Stage::Serving | Stage::Answered => {
                    library.end_after_this_answer();
                    state.told = true;
                }
            }
        }
    })
    .await
}

/// What a connection looks after beside the HTTP library.
struct Watch {
    alarm: Alarm,
    phase: Phase,
    /// Whether the library knows of the drain.
    told: bool,
    /// When the timer fires, nanoseconds after the connection was accepted.
    armed: u64,
    /// The timer fires at least so often while requests are served, so that no deadline that is set
    /// meanwhile lies before it.
    period: u64,
}

impl Watch {
    fn arm(&mut self, timer: &mut Pin<&mut Sleep>, client: &Client, at: u64) {
        self.armed = at;
        let at = client.accepted() + Duration::from_nanos(at);
        timer.as_mut().reset(tokio::time::Instant::from_std(at));
    }

    fn poll_timer<H>(
        &mut self,
        timer: &mut Pin<&mut Sleep>,
        served: &Served<H>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        while timer.as_mut().poll(cx).is_ready() {
            let now = since(&served.client);
            let deadline = served.exchange.deadline();
            if deadline <= now {
                return Poll::Ready(match served.exchange.stage() {
                    Stage::Idle => End::Idle,
                    Stage::Head => End::HeaderTimeout,
                    Stage::Serving | Stage::Answered => End::Stalled,
                });
            }
            let next = match deadline {
                NEVER => now.saturating_add(self.period),
                deadline => deadline,
            };
            self.arm(timer, &served.client, next);
        }
        Poll::Pending
    }
}

fn sleep_until(client: &Client, at: u64) -> Sleep {
    let at = client.accepted() + Duration::from_nanos(at);
    tokio::time::sleep_until(tokio::time::Instant::from_std(at))
}

/// The HTTP library's connection, whatever its type parameters.
trait Library: Future<Output = hyper::Result<()>> + Unpin {
    fn end_after_this_answer(&mut self);
}

impl<I, S, B> Library for http1::Connection<I, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<super::handler::BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<super::handler::BoxError>,
{
    fn end_after_this_answer(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// What a head that never became a request is refused for.
fn refusal<H>(
    end: &End,
    served: &Served<H>,
    fault: Option<(Reason, &'static str)>,
) -> Option<(Reason, String)> {
    let error = match end {
        End::HeaderTimeout => {
            let sentence =
                "The head of the request did not come within the listener's header timeout.";
            return Some((Reason::HeaderTimeout, sentence.to_owned()));
        }
        End::Library(Err(error)) => Some(error),
        End::Library(Ok(())) => None,
        End::Gone | End::Idle | End::Stalled | End::Cut => return None,
    };
    if served.exchange.panicked() {
        return Some((Reason::Internal, "The handler has panicked.".to_owned()));
    }
    if served.exchange.stage().is_busy() {
        return None;
    }
    if let Some((reason, sentence)) = fault {
        return Some((reason, sentence.to_owned()));
    }
    let error = error.filter(|error| error.is_parse())?;
    let reason = if error.is_parse_too_large() {
        Reason::HeaderTooLarge
    } else {
        Reason::BadRequest
    };
    Some((
        reason,
        format!("The head of the request is malformed: {error}."),
    ))
}

/// Ends the connection: with `bytes` if there are any, and so that the client can read what it was
/// sent, and sees a break where its answer broke off.
async fn close<IO: Transport>(
    io: IO,
    end: &End,
    served: &Exchange,
    bytes: Option<Vec<u8>>,
    eof: bool,
) {
    let linger = match end {
        End::Library(_) if bytes.is_some() => !eof,
        End::Library(Ok(())) => !eof,
        // Our answer's body broke off. Without a length the client could take that for its end.
        End::Library(Err(error)) if error.is_user() && served.is_old() => return io.break_off(),
        End::Library(Err(error)) => error.is_user() && !eof,
        End::HeaderTimeout => true,
        End::Gone => return,
        End::Idle => false,
        End::Stalled | End::Cut => return io.break_off(),
    };
    end_with(io, bytes, linger).await;
}

/// Ends a connection in order: with `bytes` if there are any, and where it `linger`s after what its
/// client still sends.
pub(super) async fn end_with<IO: Transport>(mut io: IO, bytes: Option<Vec<u8>>, linger: bool) {
    let ending = async {
        if let Some(bytes) = bytes {
            io.write_all(&bytes).await?;
        }
        io.shutdown().await?;
        let mut left = if linger { LINGER_BYTES } else { 0 };
        let mut buffer = [0; 2048];
        while left > 0 {
            match io.read(&mut buffer).await? {
                0 => break,
                bytes => left = left.saturating_sub(bytes),
            }
        }
        io::Result::Ok(())
    };
    // A client that breaks the connection now has no interest in its end.
    let _ = tokio::time::timeout(LINGER, ending).await;
}
