//! Handshakes with clients. Each is made on the worker that will serve the connection, so that accepting
//! goes on meanwhile, and within the listener's `header` timeout (fault 64).

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{self, LATECOMER};
use super::door::{Entered, Phase};
use super::handler::Handler;
use super::transport::Transport;
use crate::clock;
use crate::proxy::client::Client;
use crate::proxy::{Protocol, Reason};
use crate::tls::{self, Server, Why};

/// Bytes that a connection keeps at most while its client does not take them: two records. More would
/// save no time, and slow clients are many.
const MAX_UNSENT: usize = 32 * 1024;

/// What every TLS connection begins with: a record of a handshake.
const HANDSHAKE_RECORD: u8 = 22;

/// A client's connection under TLS. Boxed, since it is large and moved about.
pub(super) struct Encrypted<IO>(Box<TlsStream<IO>>);

impl<IO: Transport> Transport for Encrypted<IO> {
    fn break_off(&self) {
        // Nothing says that the connection ends in order (close_notify), and the socket is reset.
        self.0.get_ref().0.break_off();
    }

    fn is_encrypted(&self) -> bool {
        true
    }

    fn agreed(&self) -> Option<Protocol> {
        match self.0.get_ref().1.alpn_protocol()? {
            b"h2" => Some(Protocol::Http2),
            _ => Some(Protocol::Http1),
        }
    }
}

impl<IO: Transport> AsyncRead for Encrypted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl<IO: Transport> AsyncWrite for Encrypted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

/// Serves one connection of a listener under TLS to its end, the handshake included.
pub async fn serve<IO, H>(
    io: IO,
    server: &Arc<Server>,
    door: &Arc<super::door::Door<H>>,
    peer: Option<SocketAddr>,
    worker: usize,
) where
    IO: Transport,
    H: Handler,
{
    serve_entered(io, server, door.enter(), peer, worker).await;
}

/// As [`serve`], for a connection that is counted already.
pub(super) async fn serve_entered<IO, H>(
    io: IO,
    server: &Arc<Server>,
    door: Entered<H>,
    peer: Option<SocketAddr>,
    worker: usize,
) where
    IO: Transport,
    H: Handler,
{
    let limit = door.settings().header_timeout;
    let ended = {
        let shaking = pin!(shake_hands(io, server));
        tokio::select! {
            ended = shaking => ended,
            () = tokio::time::sleep(limit) => Err(Failed::at(Why::Timeout, format!(
                "the TLS handshake was not done within the listener's header timeout of {limit:?}"
            ))),
            // Who has not begun to ask must not hold the drain up.
            () = drained(&door) => return,
        }
    };
    match ended {
        Ok(Shaken::Encrypted(io)) => connection::serve_entered(io, door, peer, worker).await,
        Ok(Shaken::Plain(io)) => {
            door.handshakes().failed(Why::NotTls);
            refuse_plain(io, &door, peer, worker).await;
        }
        Ok(Shaken::Silent) => {}
        Err(Failed { why, sentence }) => {
            door.handshakes().tell(door.name(), peer, why, &sentence);
        }
    }
}

async fn drained<H>(door: &Entered<H>) {
    door.reached(Phase::Draining).await;
    tokio::time::sleep(LATECOMER).await;
}

/// How a connection began.
enum Shaken<IO> {
    /// As it should.
    Encrypted(Encrypted<IO>),
    /// Without TLS.
    Plain(IO),
    /// With nothing: it was closed again, as probes do.
    Silent,
}

/// No handshake came about.
struct Failed {
    why: Why,
    sentence: String,
}

impl Failed {
    const fn at(why: Why, sentence: String) -> Self {
        Self { why, sentence }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let (why, sentence) = tls::whose_fault(&error);
        Self { why, sentence }
    }
}

async fn shake_hands<IO: Transport>(mut io: IO, server: &Server) -> Result<Shaken<IO>, Failed> {
    // The head of the first record, looked at so that plain HTTP can be answered.
    let mut head = [0; 5];
    let count = io.read(&mut head).await.unwrap_or_default();
    match head[..count].first() {
        None => return Ok(Shaken::Silent),
        Some(&HANDSHAKE_RECORD) => {}
        Some(_) => return Ok(Shaken::Plain(io)),
    }
    let acceptor = TlsAcceptor::from(Arc::clone(server.config()));
    let accepting = acceptor.accept_with(io, |connection| {
        connection.set_buffer_limit(Some(MAX_UNSENT));
        // A few bytes always fit.
        let _ = connection.read_tls(&mut &head[..count]);
    });
    // Boxed: large, and gone when the connection stands.
    let stream = Box::pin(accepting).await?;
    Ok(Shaken::Encrypted(Encrypted(Box::new(stream))))
}

/// Plain HTTP on a TLS port is answered in plain HTTP: its client understands nothing else (fault 17).
async fn refuse_plain<IO: Transport, H: Handler>(
    io: IO,
    door: &Entered<H>,
    peer: Option<SocketAddr>,
    worker: usize,
) {
    let idle = door.settings().idle_timeout;
    let client = Client::new(peer, Arc::clone(door.name()), worker, clock::now(), idle);
    let sentence = "The listener speaks TLS, but the request came without: use https.";
    let bytes = door
        .handler()
        .refuse(&client, Reason::BadRequest, sentence, client.began());
    connection::end_with(io, bytes, true).await;
}

/// Handshakes that failed on one listener: counted all, told now and then, so that a flood of them does
/// not fill the log.
#[derive(Debug, Default)]
pub struct Handshakes {
    failures: [std::sync::atomic::AtomicU64; Why::ALL.len()],
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<std::time::Instant>,
    untold: u64,
}

/// The log has one line of failed handshakes in this time.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

impl Handshakes {
    /// How many have failed so far, for each reason.
    pub fn failures(&self) -> impl Iterator<Item = (Why, u64)> + '_ {
        let counts = self.failures.iter();
        let load =
            |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
        Why::ALL.into_iter().zip(counts.map(load))
    }

    fn failed(&self, why: Why) {
        if let Some(count) = self.failures.get(why as usize) {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn tell(&self, listener: &str, peer: Option<SocketAddr>, why: Why, sentence: &str) {
        self.failed(why);
        let untold = {
            let (mut told, now) = (self.told.lock(), clock::now());
            let soon = |last| now.saturating_duration_since(last) < BETWEEN_LINES;
            if told.last.is_some_and(soon) {
                told.untold += 1;
                return;
            }
            told.last = Some(now);
            std::mem::take(&mut told.untold)
        };
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        let why = why.name();
        tracing::warn!(
            listener,
            peer,
            why,
            untold,
            "TLS handshake failed: {sentence}"
        );
    }
}
