//! The task of an HTTP/2 connection, on the worker that opened it: it opens the connection, lets it read
//! and write, asks now and then whether the other end lives, and ends when nobody needs it any more.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::uri::Scheme;
use tokio::time::sleep_until;

use super::pool::StreamPool;
use super::pulse::Pulse;
use super::shared::Shared;
use super::watched::{Seen, Watched};
use crate::clock;
use crate::live::age::after;
use crate::live::http1::connection::Http1;
use crate::live::roster::Endpoint;
use crate::live::slots::{Slot, Slots};
use crate::live::tls::TlsFailure;
use crate::live::wire::{Dialer, Wire};
use crate::plan::Protocol;

/// Bytes of an answer that are taken before its client takes them.
const STREAM_WINDOW: u32 = 256 * 1024;
/// One slow client must not keep the answers of the others back, so only streams have a limit.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Bytes of the head of an answer.
const MAX_HEAD: u32 = 256 * 1024;
/// Streams that we have reset and whose last frames may still come.
const REMEMBERED_RESETS: usize = 1_000;
/// Stands for "the other end has not told yet". No limit at all is one more.
const UNTOLD: usize = usize::MAX - 1;
/// How long the other end has for its part of the goodbye.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// The least time between two looks.
const SHORTEST: Duration = Duration::from_millis(1);

type Http2 = client::Connection<Watched, Bytes>;

/// How connections are opened on behalf of those who wait.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    pub(super) dialer: Dialer,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) protocol: Protocol,
    pub(super) slots: Arc<Slots>,
    pub(super) max_connections: Option<usize>,
    pub(super) connect_timeout: Option<Duration>,
}

/// What became of a connection that was dialled.
enum Opened {
    Http1(Wire),
    Http2(Box<Ready>),
}

/// A connection whose first settings have come.
struct Ready {
    sender: SendRequest<Bytes>,
    connection: Http2,
    seen: Arc<Seen>,
    scheme: Scheme,
}

/// Opens a connection for those who wait in line, and drives it to its end.
pub(super) async fn open(
    pool: Arc<StreamPool>,
    name: u64,
    worker: usize,
    opener: Opener,
    slot: Slot,
) {
    let opened = match opener.connect_timeout {
        Some(timeout) => tokio::time::timeout(timeout, dial(&opener)).await.ok(),
        None => Some(dial(&opener).await),
    };
    match opened {
        None => pool.not_opened(name, worker, None),
        Some(Err(error)) => pool.not_opened(name, worker, Some(&error)),
        Some(Ok(Opened::Http1(wire))) => {
            pool.opened_http1(name, worker, Http1::over(wire, slot));
            // Those who still wait need connections of their own.
            opener.slots.nudge();
        }
        Some(Ok(Opened::Http2(ready))) => {
            let Ready {
                sender,
                connection,
                seen,
                scheme,
            } = *ready;
            let limit = connection.max_concurrent_send_streams();
            let shared = Shared::new(sender, Arc::clone(&seen), scheme, worker, &opener.slots);
            if !pool.opened(name, &shared, limit) {
                return;
            }
            let driver = Driver {
                pool: Arc::downgrade(&pool),
                shared: Arc::downgrade(&shared),
                seen,
                limit,
                retired: false,
                released: None,
            };
            drop((pool, shared, opener));
            driver.run(connection).await;
            // The slot is free when the socket is closed, not before.
            drop(slot);
        }
    }
}

async fn dial(opener: &Opener) -> io::Result<Opened> {
    let endpoint = &opener.endpoint;
    let secured = endpoint.secured.as_ref();
    let dialling = opener.dialer.dial(&endpoint.address, secured, false);
    let wire = dialling.await?;
    // Under TLS it has been agreed upon; else it is known.
    if opener.protocol != Protocol::Http2 && !wire.is_http2() {
        return Ok(Opened::Http1(wire));
    }
    let scheme = wire.scheme();
    let (watched, seen) = Watched::new(wire);
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        // Answers to requests that were given up count here; a busy connection must not end by that.
        .max_local_error_reset_streams(None)
        .initial_max_send_streams(UNTOLD);
    let failed = |error: h2::Error| {
        // The library keeps no more of an error than its text.
        let (Some(refusal), Some(secured)) = (seen.refusal(), &endpoint.secured) else {
            return no_http2(error);
        };
        let sentence = refusal.sentence(&endpoint.label, secured.has_identity());
        TlsFailure::error(sentence)
    };
    let (sender, mut connection) = builder.handshake(watched).await.map_err(failed)?;
    // Its first settings say how many streams it takes; that they come says that it speaks HTTP/2.
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(error))),
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        Poll::Pending if connection.max_concurrent_send_streams() != UNTOLD => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok(Opened::Http2(Box::new(Ready {
        sender,
        connection,
        seen,
        scheme,
    })))
}

fn no_http2(error: h2::Error) -> io::Error {
    let text = format!("it does not speak HTTP/2: {error}");
    error
        .into_io()
        .unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text))
}

struct Driver {
    pool: Weak<StreamPool>,
    shared: Weak<Shared>,
    seen: Arc<Seen>,
    /// Streams that the other end allowed when it was last looked at.
    limit: usize,
    /// It takes no more requests.
    retired: bool,
    /// Since when nobody needs it any more.
    released: Option<Instant>,
}

/// What a driver stops for.
enum Event {
    Ended,
    /// The other end allows another number of streams.
    Limit(usize),
    /// The other end takes no new streams.
    GoingAway,
    /// Somebody doubts that the other end lives.
    Doubted,
    /// Nobody needs it any more; it is saying goodbye.
    Released,
    Time,
}

impl Driver {
    async fn run(mut self, mut connection: Http2) {
        let seen = Arc::clone(&self.seen);
        let mut pulse = Pulse::new(connection.ping_pong(), seen.read(), clock::now());
        let mut timer = pin!(sleep_until(clock::now().into()));
        loop {
            let mut doubt = pin!(seen.doubt.notified());
            let event = poll_fn(|cx| {
                if Pin::new(&mut connection).poll(cx).is_ready() {
                    return Poll::Ready(Event::Ended);
                }
                pulse.feel(seen.read());
                if let Some(event) = self.change(connection.max_concurrent_send_streams()) {
                    return Poll::Ready(event);
                }
                if doubt.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Doubted);
                }
                timer.as_mut().poll(cx).map(|()| Event::Time)
            })
            .await;
            let now = clock::now();
            match event {
                Event::Ended => break,
                Event::Limit(limit) => self.limit_changed(limit),
                Event::GoingAway => self.retire(),
                Event::Doubted => pulse.doubt(now),
                Event::Released => self.released = Some(now),
                Event::Time => {}
            }
            match self.next_look(&mut pulse, now) {
                Some(at) => timer.as_mut().reset(at.into()),
                None => break,
            }
        }
        self.retire();
    }

    /// What has changed since the connection was looked at last.
    fn change(&self, limit: usize) -> Option<Event> {
        if limit != self.limit {
            Some(Event::Limit(limit))
        } else if !self.retired && self.seen.is_going_away() {
            Some(Event::GoingAway)
        } else if self.released.is_none() && self.shared.strong_count() == 0 {
            Some(Event::Released)
        } else {
            None
        }
    }

    /// When to look again; `None`: the other end is dead, or has had its time to say goodbye.
    fn next_look(&mut self, pulse: &mut Pulse, now: Instant) -> Option<Instant> {
        let mut next = after(now, Duration::MAX);
        if let Some(since) = self.released {
            next = since + CLOSE_WITHIN;
            if now >= next {
                return None;
            }
        }
        if !self.retired {
            let outlook = match self.both() {
                (Some(pool), Some(shared)) => pool.look(&shared, now),
                (_, _) => None,
            };
            match outlook {
                Some(outlook) => {
                    next = next.min(outlook.look_again);
                    pulse.every(outlook.ping_interval);
                }
                None => self.retired = true,
            }
        }
        if pulse.has_stopped(now) {
            let interval = pulse.interval().unwrap_or_default();
            let why = format!("no answer to a ping within {interval:?} (ping_interval)");
            self.seen.end(why);
            return None;
        }
        if pulse.is_weak(now) {
            // It may only be slow: what runs on it goes on, but nothing new begins there.
            self.retire();
        }
        // Not at once again: nothing would have changed.
        Some(next.min(pulse.next(now)).max(now + SHORTEST))
    }

    fn limit_changed(&mut self, limit: usize) {
        self.limit = limit;
        if let (Some(pool), Some(shared)) = self.both() {
            pool.limit_changed(&shared, limit);
        }
    }

    fn both(&self) -> (Option<Arc<StreamPool>>, Option<Arc<Shared>>) {
        (self.pool.upgrade(), self.shared.upgrade())
    }

    /// No other request begins on it.
    fn retire(&mut self) {
        self.retired = true;
        if let (Some(pool), Some(shared)) = self.both() {
            pool.retire(&shared);
        }
    }
}
