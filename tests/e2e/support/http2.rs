//! A client that speaks HTTP/2 over one connection, for tests that are not asynchronous.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
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

/// A tunnel over a stream.
pub(crate) struct Tunnel2 {
    runtime: tokio::runtime::Handle,
    pub(crate) send: SendStream<Bytes>,
    receive: RecvStream,
    early: Bytes,
}

impl Tunnel2 {
    /// Sends these bytes; the library keeps those that there is no room for.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let data = Bytes::copy_from_slice(bytes);
        self.send.send_data(data, false).unwrap();
    }

    /// Bytes of so many that there is room for within that time.
    pub(crate) fn room(&mut self, wanted: usize, within: Duration) -> usize {
        let send = &mut self.send;
        send.reserve_capacity(wanted);
        if send.capacity() == 0 {
            let room = std::future::poll_fn(|cx| send.poll_capacity(cx));
            let room = async { timeout(within, room).await };
            let _ = self.runtime.block_on(room);
        }
        self.send.capacity()
    }

    pub(crate) fn end(&mut self) {
        self.send.send_data(Bytes::new(), true).unwrap();
    }

    /// The next bytes; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        if !self.early.is_empty() {
            return Ok(Some(std::mem::take(&mut self.early)));
        }
        loop {
            let receive = &mut self.receive;
            let next = async { timeout(PATIENCE, receive.data()).await.expect("in time") };
            let Some(bytes) = self.runtime.block_on(next).transpose()? else {
                return Ok(None);
            };
            // An end comes with a frame of its own, which is empty.
            if !bytes.is_empty() {
                let _ = self.receive.flow_control().release_capacity(bytes.len());
                return Ok(Some(bytes));
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: &[u8]) {
        let mut found = Vec::new();
        while found.len() < wanted.len() {
            let next = self.next().unwrap();
            found.extend_from_slice(&next.expect("more than that"));
        }
        self.early = found.split_off(wanted.len()).into();
        assert!(found == wanted, "{} bytes differ", found.len());
    }

    /// The other end says that it has no more to say.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.next().unwrap(), None);
    }

    /// The other end breaks the stream, or the connection; with which code, if it said so.
    #[track_caller]
    pub(crate) fn expect_break(&mut self) -> Option<Reason> {
        self.next().expect_err("a break").reason()
    }
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

    /// Asks for a tunnel, and has it.
    #[track_caller]
    pub(crate) fn tunnel(&mut self, to: &str) -> Tunnel2 {
        let request = Request::builder().method("CONNECT").uri(to);
        let request = request.body(()).unwrap();
        let (response, send) = self.requests.send_request(request, false).unwrap();
        let answer = async { timeout(PATIENCE, response).await.expect("in time") };
        let (head, receive) = self.runtime.block_on(answer).unwrap().into_parts();
        assert_eq!(head.status, 200);
        assert!(head.headers.get("content-length").is_none(), "{head:?}");
        Tunnel2 {
            runtime: self.runtime.handle().clone(),
            send,
            receive,
            early: Bytes::new(),
        }
    }

    /// Whether the server has offered CONNECT with another protocol.
    pub(crate) fn offers_extended_connect(&self) -> bool {
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Asks for a WebSocket by CONNECT.
    #[track_caller]
    pub(crate) fn extended_connect(&mut self) -> Result<Answer2, h2::Error> {
        let request = Request::builder().method("CONNECT");
        let request = request.uri("http://service/chat");
        let mut request = request.body(()).unwrap();
        let websocket = h2::ext::Protocol::from_static("websocket");
        request.extensions_mut().insert(websocket);
        let (response, body) = self.requests.send_request(request, false).unwrap();
        self.try_answer(Asked { response, body })
    }

    /// Takes a request back.
    pub(crate) fn cancel(&self, mut asked: Asked) {
        asked.body.send_reset(Reason::CANCEL);
        drop(asked);
    }
}
