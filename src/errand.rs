//! Requests of our own, beside those that we pass on: to a collector of traces, to the API of a cluster,
//! to an endpoint that is checked. Each has a connection to itself, which ends with whoever holds it.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::live::wire::{Dialer, Pipe};
use crate::tls;

/// How an open connection learns that the other end has gone without a word: asked after so long a
/// silence, again after each [`ASKED_EVERY`], given up after three that were not answered.
const ASKED_AFTER: Duration = Duration::from_secs(15);
const ASKED_EVERY: Duration = Duration::from_secs(5);

/// A server that is no endpoint.
pub(crate) struct Server<'a> {
    /// Its name or IP address, the latter without brackets.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Whether it is spoken to under TLS.
    pub(crate) tls: bool,
    /// The file with the authority that signs its certificate; without, one that the system trusts.
    pub(crate) ca: Option<&'a Path>,
    /// What errors call it.
    pub(crate) called: &'a (dyn Display + Sync),
}

impl Server<'_> {
    /// Opens a connection, and shakes hands under TLS, within that time.
    ///
    /// # Errors
    /// A sentence that names the server.
    pub(crate) async fn connect(
        &self,
        dialer: &Dialer,
        within: Duration,
    ) -> Result<Box<dyn Pipe>, String> {
        let called = self.called;
        match timeout(within, self.open(dialer)).await {
            Ok(opened) => opened,
            Err(_) => Err(format!("{called} was not reached within {within:?}")),
        }
    }

    async fn open(&self, dialer: &Dialer) -> Result<Box<dyn Pipe>, String> {
        let Self { host, called, .. } = self;
        let plain = self.dial(dialer).await;
        let plain = plain.map_err(|error| format!("{called} cannot be reached: {error}"))?;
        if !self.tls {
            return Ok(plain);
        }
        let client = tls::Client::for_authority(self.ca).map_err(|problem| problem.message)?;
        let name = ServerName::try_from((*host).to_owned());
        let name = name.map_err(|_| format!("`{host}` is no name of a server"))?;
        let connector = TlsConnector::from(Arc::clone(client.config()));
        match connector.connect(name, plain).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(tls::failure_with(&error, &called.to_string(), false)),
        }
    }

    async fn dial(&self, dialer: &Dialer) -> io::Result<Box<dyn Pipe>> {
        let place = (self.host, self.port);
        match dialer {
            Dialer::System => {
                let stream = TcpStream::connect(place).await?;
                stream.set_nodelay(true)?;
                let alive = TcpKeepalive::new().with_time(ASKED_AFTER);
                let alive = alive.with_interval(ASKED_EVERY).with_retries(3);
                SockRef::from(&stream).set_tcp_keepalive(&alive)?;
                Ok(Box::new(stream))
            }
            Dialer::Memory(open) => {
                let address: Option<SocketAddr> = tokio::net::lookup_host(place).await?.next();
                open(address.ok_or(io::ErrorKind::NotFound)?).await
            }
        }
    }
}

/// A connection over which one request after the other goes by HTTP/1.1. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Line {
    /// Held while answers come: a connection nobody can ask over any more might close.
    requests: SendRequest<Full<Bytes>>,
    driven: Driven,
}

impl Line {
    /// # Errors
    /// What is wrong with the connection.
    pub(crate) async fn over(pipe: Box<dyn Pipe>) -> hyper::Result<Self> {
        let (requests, connection) = http1::handshake(TokioIo::new(pipe)).await?;
        let driven = Driven::spawn(connection);
        Ok(Self { requests, driven })
    }

    /// Waits until the last answer is over; a new connection is ready from the start.
    ///
    /// # Errors
    /// The connection has ended.
    pub(crate) async fn ready(&mut self) -> hyper::Result<()> {
        self.requests.ready().await
    }

    /// Asks, and waits for the head of the answer.
    ///
    /// # Errors
    /// What is wrong with the connection, or with the answer.
    pub(crate) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.requests.send_request(request).await
    }

    /// Whether nothing can be asked over it any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Asks for nothing more, and waits until it has ended in order.
    pub(crate) async fn end(self) {
        drop(self.requests);
        self.driven.end().await;
    }
}

/// What moves the bytes of a connection. Dropped, it stops, and the connection is closed.
#[derive(Debug)]
pub(crate) struct Driven(JoinHandle<()>);

impl Driven {
    pub(crate) fn spawn(connection: impl Future<Output: Send> + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            // How it ends is seen by whoever waits for what it brings.
            let _ = connection.await;
        }))
    }

    /// Waits until the connection has ended by itself.
    pub(crate) async fn end(mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}
