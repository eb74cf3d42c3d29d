//! The bytes to and from an endpoint: a connection of the system, or an in-memory one in tests. It counts them:
//! that nothing left us is the only proof that a request was not sent.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::gather::{SPACE, gather};
use super::tls::Secured;
use crate::plan::SocketAddress;

/// How connections to endpoints are made.
#[derive(Clone, Default)]
pub enum Dialer {
    /// By the system.
    #[default]
    System,
    /// In memory, for tests without sockets.
    Memory(Arc<dyn Fn(SocketAddr) -> Dialing + Send + Sync>),
}

/// A connection in memory that is being made; it may take its time, or fail.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Pipe>>> + Send>>;

/// A connection in memory.
pub trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Pipe for T {}

impl Dialer {
    /// Opens a connection, and shakes hands where it is `secured`; HTTP/2 is not offered to those who
    /// need all of the connection (`alone`).
    ///
    /// # Errors
    /// What the system says of the attempt, or a [`super::tls::TlsFailure`].
    pub(super) async fn dial(
        &self,
        address: &SocketAddress,
        secured: Option<&Secured>,
        alone: bool,
    ) -> io::Result<Wire> {
        let plain = self.connect(address).await?;
        let stream = match secured {
            None => plain,
            // Boxed: large, and rare.
            Some(secured) => {
                let stream = Box::pin(secured.shake_hands(plain, address, alone)).await?;
                Stream::Tls(Box::new(stream))
            }
        };
        Ok(Wire {
            stream,
            traffic: Traffic::default(),
        })
    }

    async fn connect(&self, address: &SocketAddress) -> io::Result<Stream> {
        Ok(match (self, address) {
            (Self::System, SocketAddress::Ip(address)) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            (Self::System, SocketAddress::Unix(path)) => {
                Stream::Unix(UnixStream::connect(path).await?)
            }
            (Self::Memory(open), SocketAddress::Ip(address)) => {
                Stream::Memory(open(*address).await?)
            }
            (Self::Memory(_), SocketAddress::Unix(_)) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
        })
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Memory(_) => "Memory",
        })
    }
}

/// What is seen of one connection's bytes. Only the connection's own task adds to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    written: AtomicU64,
    read: AtomicU64,
}

impl Traffic {
    /// Bytes that have left us so far.
    pub(super) fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Bytes that have come so far.
    pub(super) fn read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    fn add_written(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            let sum = self.written() + *bytes as u64;
            self.0.written.store(sum, Ordering::Relaxed);
        }
    }

    fn add_read(&self, bytes: usize) {
        let sum = self.read() + bytes as u64;
        self.0.read.store(sum, Ordering::Relaxed);
    }
}

/// What bytes go over.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(Box<dyn Pipe>),
    /// One of the others, encrypted.
    Tls(Box<TlsStream<Self>>),
}

/// One connection's bytes.
pub(super) struct Wire {
    stream: Stream,
    traffic: Traffic,
}

impl Wire {
    /// The counts of bytes, which stay readable when the wire is given away.
    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Whether both ends have agreed on HTTP/2 while the connection was made.
    pub(super) fn is_http2(&self) -> bool {
        match self.stream {
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Memory(_) => false,
            Stream::Tls(ref stream) => super::tls::is_http2(stream),
        }
    }

    /// The scheme of what is asked for over it.
    pub(super) fn scheme(&self) -> Scheme {
        match self.stream {
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Memory(_) => Scheme::HTTP,
            Stream::Tls(_) => Scheme::HTTPS,
        }
    }
}

impl Stream {
    fn break_off(&self) {
        match self {
            Self::Tcp(stream) => {
                // With no time to linger the kernel discards what is unsent and sends a reset.
                let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
            Self::Tls(stream) => stream.get_ref().0.break_off(),
            Self::Unix(_) | Self::Memory(_) => {}
        }
    }
}

/// Calls the same method of whatever a stream is.
macro_rules! on {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::Memory($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        on!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl Wire {
    /// Makes the coming close a break: the other end is to see an error, not an end. Only TCP can.
    pub(super) fn break_off(&self) {
        self.stream.break_off();
    }

    /// Our own port, over TCP.
    pub(super) fn local_port(&self) -> Option<u16> {
        match &self.stream {
            Stream::Tcp(stream) => Some(stream.local_addr().ok()?.port()),
            Stream::Tls(_) | Stream::Unix(_) | Stream::Memory(_) => None,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.traffic.add_read(buf.filled().len() - before);
        result
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.traffic.add_written(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = bufs {
            return self.poll_write(cx, one);
        }
        let mut space = SPACE;
        if let Some(gathered) = gather(bufs, &mut space) {
            return self.poll_write(cx, gathered.filled());
        }
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.traffic.add_written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
