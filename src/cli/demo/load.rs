//! The clients of the demo: a few that ask at a steady pace, and a crowd that can be let loose. What
//! they see is counted here, apart from what the proxy counts, so that the two can be compared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the clients of one upstream have seen.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests that have ended, in whatever way.
    requests: AtomicU64,
    /// Answered by the upstream, without an error.
    fine: AtomicU64,
    /// The upstream's own error, passed on.
    passed_on: AtomicU64,
    /// Those among the fine ones that needed more than one try.
    saved: AtomicU64,
    /// Answered by a fallback.
    fallback: AtomicU64,
    /// Refused because the bulkhead was full.
    refused: AtomicU64,
    /// The proxy's other errors, and broken connections.
    failed: AtomicU64,
}

/// A tally at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) fine: u64,
    pub(super) passed_on: u64,
    pub(super) saved: u64,
    pub(super) fallback: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
}

impl Tally {
    pub(super) fn read(&self) -> Seen {
        Seen {
            requests: self.requests.load(Relaxed),
            fine: self.fine.load(Relaxed),
            passed_on: self.passed_on.load(Relaxed),
            saved: self.saved.load(Relaxed),
            fallback: self.fallback.load(Relaxed),
            refused: self.refused.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    fn count(&self, answer: Option<(u16, &HeaderMap)>) {
        match answer {
            Some((_, headers)) if headers.contains_key("x-mamparo-fallback") => &self.fallback,
            Some((_, headers)) if is_bulkhead(headers) => &self.refused,
            Some((200..=399, headers)) => {
                if headers.contains_key("x-mamparo-attempts") {
                    self.saved.fetch_add(1, Relaxed);
                }
                &self.fine
            }
            Some((_, headers)) if headers.contains_key("x-mamparo-reason") => &self.failed,
            Some(_) => &self.passed_on,
            None => &self.failed,
        }
        .fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }
}

impl Seen {
    /// What has come since then.
    pub(super) const fn since(self, then: Self) -> Self {
        Self {
            requests: self.requests - then.requests,
            fine: self.fine - then.fine,
            passed_on: self.passed_on - then.passed_on,
            saved: self.saved - then.saved,
            fallback: self.fallback - then.fallback,
            refused: self.refused - then.refused,
            failed: self.failed - then.failed,
        }
    }
}

fn is_bulkhead(headers: &HeaderMap) -> bool {
    headers
        .get("x-mamparo-reason")
        .is_some_and(|reason| reason == "too_many_in_flight" || reason == "queue_timeout")
}

/// A group of clients that ask for one path.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) path: &'static str,
    pub(super) clients: usize,
    /// The mean pause of each client between two requests.
    pub(super) pause: Duration,
}

/// Clients that can be switched on and off together.
#[derive(Debug)]
pub(super) struct Load {
    on: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Load {
    /// The clients of a group; they wait until they are switched on.
    pub(super) fn new(proxy: SocketAddr, group: &Group, tally: &Arc<Tally>) -> Self {
        let (on, gate) = watch::channel(false);
        let mut clients = JoinSet::new();
        for _ in 0..group.clients {
            let client = Client {
                proxy,
                path: group.path,
                connection: None,
            };
            clients.spawn(client.run(group.pause, gate.clone(), Arc::clone(tally)));
        }
        Self { on, clients }
    }

    pub(super) fn switch(&self, on: bool) {
        self.on.send_replace(on);
    }

    /// Ends every client when its request has ended.
    pub(super) async fn stop(self) {
        let Self { on, mut clients } = self;
        on.send_replace(false);
        drop(on);
        while clients.join_next().await.is_some() {}
    }
}

struct Client {
    proxy: SocketAddr,
    path: &'static str,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    async fn run(mut self, pause: Duration, mut gate: watch::Receiver<bool>, tally: Arc<Tally>) {
        // An error of the gate says that the load is over.
        while gate.wait_for(|on| *on).await.is_ok() {
            match self.ask().await {
                Ok((status, headers)) => tally.count(Some((status, &headers))),
                Err(_broken) => {
                    self.connection = None;
                    tally.count(None);
                }
            }
            // Clients that all ask at once would be a wave, not a load.
            let pause = pause.mul_f64(0.5 + fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _over = gate.wait_for(|_| false) => return,
            }
        }
    }

    /// Asks once and reads the answer to its end.
    async fn ask(&mut self) -> Result<(u16, HeaderMap), Box<dyn std::error::Error + Send + Sync>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        // The proxy may have ended an idle connection in the meantime.
        if connection.ready().await.is_err() {
            connection = self.connect().await?;
        }
        let request = Request::get(self.path)
            .header("host", "demo.internal")
            .body(Empty::new())?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        body.collect().await?;
        self.connection = Some(connection);
        Ok((head.status.as_u16(), head.headers))
    }

    async fn connect(
        &self,
    ) -> Result<SendRequest<Empty<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_counted_in_one_place() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_static(value));
            headers
        };
        let tally = Tally::default();
        tally.count(Some((200, &HeaderMap::new())));
        tally.count(Some((200, &with("x-mamparo-attempts", "2"))));
        tally.count(Some((200, &with("x-mamparo-fallback", "respond"))));
        tally.count(Some((503, &with("x-mamparo-reason", "queue_timeout"))));
        tally.count(Some((503, &with("x-mamparo-reason", "breaker_open"))));
        tally.count(Some((503, &HeaderMap::new())));
        tally.count(None);
        let seen = tally.read();
        let expected = Seen {
            requests: 7,
            fine: 2,
            passed_on: 1,
            saved: 1,
            fallback: 1,
            refused: 1,
            failed: 2,
        };
        assert_eq!(seen, expected);
        assert_eq!(
            seen.fine + seen.passed_on + seen.fallback + seen.refused + seen.failed,
            seen.requests
        );
    }
}
