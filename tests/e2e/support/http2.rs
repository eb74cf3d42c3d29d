//! A client that speaks HTTP/2 over one connection, for tests that are not asynchronous.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::wait::PATIENCE;

/// One connection.
pub(crate) struct Http2 {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
}

/// A request on its way.
pub(crate) struct Asked {
    response: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
}

/// An answer, as far as it came.
#[derive(Debug)]
pub(crate) struct Answer2 {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
    /// `None`: the body came to its end.
    pub(crate) broken: Option<h2::Error>,
}

impl Answer2 {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.header("x-mamparo-reason")
    }
}

impl Http2 {
    #[track_caller]
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::connect_with(to, &h2::client::Builder::new())
    }

    #[track_caller]
    pub(crate) fn connect_with(to: SocketAddr, builder: &h2::client::Builder) -> Self {
        // A thread of its own drives the connection while the test waits for something else.
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let requests = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(to).await.expect("connects");
            let (requests, connection) = builder.handshake(stream).await.unwrap();
            tokio::spawn(connection);
            requests
        });
        Self { runtime, requests }
    }

    /// Sends a request; `headers` are lines `name: value`. A POST has a body, which is still to come.
    #[track_caller]
    pub(crate) fn begin(&mut self, method: &str, target: &str, headers: &[&str]) -> Asked {
        self.begin_head(method, target, headers, method == "POST")
    }

    /// Sends the head of a request; its body is still to come if it has one.
    #[track_caller]
    pub(crate) fn begin_head(
        &mut self,
        method: &str,
        target: &str,
        headers: &[&str],
        has_body: bool,
    ) -> Asked {
        let mut request = Request::builder().method(method);
        request = request.uri(format!("http://service{target}"));
        for line in headers {
            let (name, value) = line.split_once(": ").expect("name: value");
            request = request.header(name, value);
        }
        let request = request.body(()).unwrap();
        let requests = self.requests.clone();
        let ready = async { timeout(PATIENCE, requests.ready()).await };
        self.requests = self
            .runtime
            .block_on(ready)
            .expect("in time")
            .expect("open");
        let sent = self.requests.send_request(request, !has_body);
        let (response, body) = sent.unwrap();
        Asked { response, body }
    }

    /// The next interim answer.
    #[track_caller]
    pub(crate) fn interim(&self, asked: &mut Asked) -> Response<()> {
        let next = std::future::poll_fn(|cx| asked.response.poll_informational(cx));
        let next = async { timeout(PATIENCE, next).await.expect("in time") };
        let next = self.runtime.block_on(next);
        next.expect("an interim answer").expect("no error")
    }

    #[track_caller]
    pub(crate) fn answer(&self, asked: Asked) -> Answer2 {
        self.try_answer(asked)
            .unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// The answer, or why its head did not come.
    #[track_caller]
    pub(crate) fn try_answer(&self, asked: Asked) -> Result<Answer2, h2::Error> {
        let answer = async {
            let (head, mut stream) = asked.response.await?.into_parts();
            let (mut body, mut broken) = (Vec::new(), None);
            while let Some(data) = stream.data().await {
                match data {
                    Ok(data) => {
                        let _ = stream.flow_control().release_capacity(data.len());
                        body.extend_from_slice(&data);
                    }
                    Err(error) => {
                        broken = Some(error);
                        break;
                    }
                }
            }
            let trailers = if broken.is_none() {
                stream.trailers().await?
            } else {
                None
            };
            Ok(Answer2 {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
                trailers: trailers.unwrap_or_default(),
                broken,
            })
        };
        // Within the runtime, since the timer is made when it is polled first.
        let answer = async { timeout(PATIENCE, answer).await.expect("in time") };
        self.runtime.block_on(answer)
    }

    /// Sends a request with its body, and reads the answer.
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Answer2 {
        let mut asked = self.begin(method, target, headers);
        if method == "POST" {
            // It fails where the answer has come already.
            let _ = asked.body.send_data(Bytes::copy_from_slice(body), true);
        }
        self.answer(asked)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Answer2 {
        self.request("GET", target, &[], b"")
    }

    /// Asks for a tunnel.
    #[track_caller]
    pub(crate) fn connect_through(&mut self, to: &str) -> Answer2 {
        let request = Request::builder()
            .method("CONNECT")
            .uri(to)
            .body(())
            .unwrap();
        let (response, body) = self.requests.send_request(request, true).unwrap();
        self.answer(Asked { response, body })
    }

    /// Takes a request back.
    pub(crate) fn cancel(&self, mut asked: Asked) {
        asked.body.send_reset(Reason::CANCEL);
        drop(asked);
    }
}
