//! Both ends of a tunnel: sockets that say and expect exactly what they are told.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::wait::PATIENCE;

/// An endpoint whose connections are taken by the test itself.
pub(crate) struct Far {
    pub(crate) listener: TcpListener,
}

/// A connection of it.
pub(crate) struct Socket {
    pub(crate) reader: BufReader<TcpStream>,
}

impl Far {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { listener }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) fn accept(&self) -> Socket {
        Socket::over(self.listener.accept().unwrap().0)
    }
}

impl Socket {
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            reader: BufReader::new(stream),
        }
    }

    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).unwrap())
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream().write_all(bytes.as_ref()).unwrap();
        self
    }

    /// A head up to the empty line.
    #[track_caller]
    pub(crate) fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.reader.read_line(&mut head).unwrap();
            assert!(read > 0, "an end within a head: {head:?}");
        }
        head
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: impl AsRef<[u8]>) {
        let mut found = vec![0; wanted.as_ref().len()];
        self.reader.read_exact(&mut found).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&found),
            String::from_utf8_lossy(wanted.as_ref())
        );
    }

    pub(crate) fn half_close(&self) {
        self.stream().shutdown(Shutdown::Write).unwrap();
    }

    /// Whether the other end closes without another byte, and as a clean end.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.reader.read(&mut [0]).unwrap(), 0);
    }

    /// The other end breaks the connection.
    #[track_caller]
    pub(crate) fn expect_break(&mut self) {
        let error = self.reader.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    pub(crate) fn reset(self) {
        let linger = socket2::SockRef::from(self.stream()).set_linger(Some(Duration::ZERO));
        linger.unwrap();
    }
}
