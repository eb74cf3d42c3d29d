//! A small HTTP server on loopback that behaves as it is told: the services of the demo.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Longer than any time limit of the demo.
const FOREVER: Duration = Duration::from_secs(60);

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mode {
    /// It answers.
    Healthy,
    /// It answers this share of its requests with 503.
    Failing(f64),
    /// It takes requests and never answers.
    Hanging,
    /// It is not there: connections are refused, those that stood are cut.
    Dead,
}

/// One server. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    received: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

/// What each connection of a server knows.
struct Service {
    name: &'static str,
    mode: watch::Receiver<Mode>,
    received: Arc<AtomicU64>,
    /// How long an answer takes.
    takes: Duration,
    /// How many it can work on at once.
    capacity: Semaphore,
}

impl Server {
    /// A healthy server on a free port: each answer takes so long, and so many are made at once.
    pub(super) fn start(name: &'static str, takes: Duration, capacity: usize) -> io::Result<Self> {
        // Bound and never listening, it keeps the port ours while the server is dead.
        let keeper = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = keeper.local_addr()?;
        let (mode, follow) = watch::channel(Mode::Healthy);
        let received = Arc::new(AtomicU64::new(0));
        let service = Arc::new(Service {
            name,
            mode: follow.clone(),
            received: Arc::clone(&received),
            takes,
            capacity: Semaphore::new(capacity),
        });
        let first = socket(address)?.listen(1024)?;
        let task = tokio::spawn(async move {
            run(address, first, follow, service).await;
            drop(keeper);
        });
        Ok(Self {
            address,
            mode,
            received,
            task,
        })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it behaves like this.
    pub(super) fn behave(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Requests that have reached it.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Alternates between listening and being dead, until the server is dropped.
async fn run(
    address: SocketAddr,
    first: TcpListener,
    mut mode: watch::Receiver<Mode>,
    service: Arc<Service>,
) {
    let mut listener = Some(first);
    loop {
        let listening = match listener.take() {
            Some(listener) => Ok(listener),
            None => socket(address).and_then(|socket| socket.listen(1024)),
        };
        // The port is kept, so it cannot have been taken; without it the server stays dead.
        let Ok(listening) = listening else { return };
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listening.accept() => if let Ok((stream, _peer)) = accepted {
                    connections.spawn(connection(stream, Arc::clone(&service)));
                },
                _ended = connections.join_next(), if !connections.is_empty() => {}
                died = mode.wait_for(|mode| *mode == Mode::Dead) => {
                    if died.is_err() { return; }
                    break;
                }
            }
        }
        // Both go at once, as when a process is killed.
        drop((listening, connections));
        if mode.wait_for(|mode| *mode != Mode::Dead).await.is_err() {
            return;
        }
    }
}

async fn connection(stream: TcpStream, service: Arc<Service>) {
    let answer = service_fn(move |_request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer().await) }
    });
    // Whatever breaks a connection of the demo is part of the show.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

impl Service {
    async fn answer(&self) -> Response<Full<Bytes>> {
        self.received.fetch_add(1, Ordering::Relaxed);
        let mode = *self.mode.borrow();
        match mode {
            Mode::Hanging => tokio::time::sleep(FOREVER).await,
            Mode::Failing(share) if fastrand::f64() < share => {
                return text(StatusCode::SERVICE_UNAVAILABLE, "{\"error\":\"flaky\"}\n");
            }
            Mode::Healthy | Mode::Failing(_) | Mode::Dead => {}
        }
        // The semaphore is never closed.
        let _working = self.capacity.acquire().await;
        tokio::time::sleep(self.takes).await;
        text(StatusCode::OK, &format!("{{\"from\":\"{}\"}}\n", self.name))
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(server: &Server) -> io::Result<String> {
        let mut stream = TcpStream::connect(server.address()).await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_server_behaves_as_it_is_told_and_comes_back_on_its_port() {
        let server = Server::start("catalog", Duration::ZERO, 1).unwrap();
        assert!(ask(&server).await.unwrap().contains("200 OK"));
        server.behave(Mode::Failing(1.0));
        assert!(ask(&server).await.unwrap().contains("503"));
        server.behave(Mode::Dead);
        tokio::time::timeout(Duration::from_secs(10), async {
            while !matches!(ask(&server).await, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        server.behave(Mode::Healthy);
        tokio::time::timeout(Duration::from_secs(10), async {
            while ask(&server).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(server.received() >= 3);
    }

    #[tokio::test]
    async fn a_hanging_server_never_answers() {
        let server = Server::start("slow", Duration::ZERO, 1).unwrap();
        server.behave(Mode::Hanging);
        let waited = tokio::time::timeout(Duration::from_millis(100), ask(&server)).await;
        assert!(waited.is_err());
        assert_eq!(server.received(), 1);
    }
}
