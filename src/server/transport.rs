//! What a client's connection runs over.

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpStream, UnixStream};

use crate::proxy::Protocol;

/// A stream of bytes to a client: a socket, or a pipe in memory in tests.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the coming close a break: the other end is to see an error, not an end.
    fn break_off(&self) {}

    /// Whether nobody on the way can read or change the bytes.
    fn is_encrypted(&self) -> bool {
        false
    }

    /// The version of HTTP that both ends have agreed on, where they had a way to.
    fn agreed(&self) -> Option<Protocol> {
        None
    }
}

impl Transport for TcpStream {
    fn break_off(&self) {
        // With no time to linger the kernel discards what is unsent and sends a reset.
        let _ = socket2::SockRef::from(self).set_linger(Some(std::time::Duration::ZERO));
    }
}

/// Sockets in the file system know no reset: their break looks like an end.
impl Transport for UnixStream {}

impl Transport for DuplexStream {}
