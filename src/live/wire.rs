//! The bytes to and from an endpoint: a connection of the system, or an in-memory one in tests.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

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
        Ok(match secured {
            None => plain,
            // Boxed: large, and rare.
            Some(secured) => {
                let stream = Box::pin(secured.shake_hands(plain, address, alone)).await?;
                Wire::Tls(Box::new(stream))
            }
        })
    }

    /// Opens a connection that belongs to no pool and counts for no limit, and shakes hands where it is
    /// `secured`. Also gives whether both ends have agreed on HTTP/2.
    ///
    /// # Errors
    /// What the system says of the attempt, or a [`super::tls::TlsFailure`].
    pub async fn errand(
        &self,
        address: &SocketAddress,
        secured: Option<&Secured>,
        alone: bool,
    ) -> io::Result<(Box<dyn Pipe>, bool)> {
        let wire = self.dial(address, secured, alone).await?;
        let is_http2 = wire.is_http2();
        Ok((Box::new(wire), is_http2))
    }

    async fn connect(&self, address: &SocketAddress) -> io::Result<Wire> {
        Ok(match (self, address) {
            (Self::System, SocketAddress::Ip(address)) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Wire::Tcp(stream)
            }
            (Self::System, SocketAddress::Unix(path)) => {
                Wire::Unix(UnixStream::connect(path).await?)
            }
            (Self::Memory(open), SocketAddress::Ip(address)) => Wire::Memory(open(*address).await?),
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

/// One connection's bytes, by what they go over.
pub(super) enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(Box<dyn Pipe>),
    /// One of the others, encrypted.
    Tls(Box<TlsStream<Self>>),
}

impl Wire {
    /// Whether both ends have agreed on HTTP/2 while the connection was made.
    pub(super) fn is_http2(&self) -> bool {
        match self {
            Wire::Tcp(_) | Wire::Unix(_) | Wire::Memory(_) => false,
            Wire::Tls(stream) => super::tls::is_http2(stream),
        }
    }

    /// The scheme of what is asked for over it.
    pub(super) fn scheme(&self) -> Scheme {
        match self {
            Wire::Tcp(_) | Wire::Unix(_) | Wire::Memory(_) => Scheme::HTTP,
            Wire::Tls(_) => Scheme::HTTPS,
        }
    }
}

/// Calls the same method of whatever a wire is.
macro_rules! on {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Wire::Tcp($inner) => $call,
            Wire::Unix($inner) => $call,
            Wire::Memory($inner) => $call,
            Wire::Tls($inner) => $call,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
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
        match self {
            Self::Tcp(stream) => {
                // With no time to linger the kernel discards what is unsent and sends a reset.
                let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
            Self::Tls(stream) => stream.get_ref().0.break_off(),
            Self::Unix(_) | Self::Memory(_) => {}
        }
    }

    /// Our own port, over TCP.
    pub(super) fn local_port(&self) -> Option<u16> {
        match self {
            Wire::Tcp(stream) => Some(stream.local_addr().ok()?.port()),
            Wire::Tls(_) | Wire::Unix(_) | Wire::Memory(_) => None,
        }
    }
}
