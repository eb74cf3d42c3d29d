//! The bytes to and from an endpoint: a TCP connection, or an in-memory one in tests. It counts them:
//! that nothing left us is the only proof that a request was not sent.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::gather::{SPACE, gather};

/// How connections to endpoints are made.
#[derive(Clone, Default)]
pub enum Dialer {
    /// Over the network.
    #[default]
    Tcp,
    /// In memory, for tests without sockets.
    Memory(Arc<dyn Fn(SocketAddr) -> Dialing + Send + Sync>),
}

/// A connection in memory that is being made; it may take its time, or fail.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Pipe>>> + Send>>;

/// A connection in memory.
pub trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Pipe for T {}

impl Dialer {
    /// Opens a connection.
    ///
    /// # Errors
    /// What the system says of the attempt.
    pub(super) async fn dial(&self, address: SocketAddr) -> io::Result<Wire> {
        let stream = match self {
            Self::Tcp => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Self::Memory(open) => Stream::Memory(open(address).await?),
        };
        Ok(Wire {
            stream,
            traffic: Traffic::default(),
        })
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Tcp",
            Self::Memory(_) => "Memory",
        })
    }
}

/// How many bytes went over one connection. Only the connection's own task adds to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic(Arc<[AtomicU64; 2]>);

impl Traffic {
    /// Bytes that have left us so far.
    pub(super) fn written(&self) -> u64 {
        self.0[0].load(Ordering::Relaxed)
    }

    /// Bytes that have come so far.
    pub(super) fn read(&self) -> u64 {
        self.0[1].load(Ordering::Relaxed)
    }

    fn add_written(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            let sum = self.written() + *bytes as u64;
            self.0[0].store(sum, Ordering::Relaxed);
        }
    }

    fn add_read(&self, bytes: usize) {
        self.0[1].store(self.read() + bytes as u64, Ordering::Relaxed);
    }
}

enum Stream {
    Tcp(TcpStream),
    Memory(Box<dyn Pipe>),
}

/// One connection's bytes.
pub(super) struct Wire {
    stream: Stream,
    traffic: Traffic,
}

impl Wire {
    /// The counts of bytes, which stay readable when the wire is given away.
    pub(super) fn traffic(&self) -> Traffic {
        self.traffic.clone()
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
        let result = match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        };
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
        let result = match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
        };
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
        let result = match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        this.traffic.add_written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
