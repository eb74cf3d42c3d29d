//! Addresses where nobody serves.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// An address that refuses connections, and is nobody else's meanwhile.
pub(crate) struct Refused {
    _bound: Socket,
    pub(crate) address: SocketAddr,
}

impl Refused {
    pub(crate) fn new() -> Self {
        let (bound, address) = bound();
        Self {
            _bound: bound,
            address,
        }
    }
}

/// An address where a connection is neither made nor refused: its backlog is full.
pub(crate) struct BlackHole {
    _listener: Socket,
    _full: Vec<TcpStream>,
    pub(crate) address: SocketAddr,
}

impl BlackHole {
    pub(crate) fn new() -> Self {
        let (listener, address) = bound();
        listener.listen(0).unwrap();
        let mut full = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            full.push(stream);
            assert!(full.len() < 64, "the backlog is never full");
        }
        Self {
            _listener: listener,
            _full: full,
            address,
        }
    }
}

fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}
