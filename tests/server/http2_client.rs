//! A client of a door that speaks HTTP/2.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request};
use mamparo::server::connection::serve;
use mamparo::server::door::Door;
use tokio::task::JoinHandle;

use crate::fake::{Fake, door, settings};

pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
    pub(crate) task: JoinHandle<()>,
    pub(crate) door: Arc<Door<Fake>>,
    pub(crate) began: Instant,
}

impl Client {
    pub(crate) async fn new() -> Self {
        Self::to(&door(settings())).await
    }

    pub(crate) async fn to(door: &Arc<Door<Fake>>) -> Self {
        Self::with(door, &h2::client::Builder::new()).await
    }

    pub(crate) async fn with(door: &Arc<Door<Fake>>, builder: &h2::client::Builder) -> Self {
        let began = mamparo::clock::now();
        let (io, theirs) = tokio::io::duplex(64 * 1024);
        let task = tokio::spawn({
            let door = Arc::clone(door);
            async move { serve(theirs, &door, None, 0).await }
        });
        let (requests, connection) = builder.handshake(io).await.unwrap();
        Self {
            requests: requests.ready().await.unwrap(),
            connection: tokio::spawn(connection),
            task,
            door: Arc::clone(door),
            began,
        }
    }

    pub(crate) fn begin(&mut self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        let end = request.method() != Method::POST && request.method() != Method::PUT;
        self.requests.send_request(request, end).unwrap()
    }

    /// A request without a body.
    pub(crate) fn send(&mut self, request: Request<()>) -> ResponseFuture {
        self.requests.send_request(request, true).unwrap().0
    }

    pub(crate) fn fake(&self) -> &Arc<Fake> {
        self.door.handler()
    }

    pub(crate) fn serving(&self) -> usize {
        self.fake().serving.load(SeqCst)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        mamparo::clock::now() - self.began
    }

    /// Drops the connection where it stands.
    pub(crate) fn close(&self) {
        self.connection.abort();
    }
}

pub(crate) fn request(method: Method, path: &str) -> Request<()> {
    let builder = Request::builder().method(method);
    builder.uri(format!("http://a{path}")).body(()).unwrap()
}

pub(crate) fn get(path: &str) -> Request<()> {
    request(Method::GET, path)
}

/// Status, headers, body and trailers.
pub(crate) async fn answer(response: ResponseFuture) -> (u16, HeaderMap, Bytes, Option<HeaderMap>) {
    let (head, mut stream) = response.await.unwrap().into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await.unwrap();
    (head.status.as_u16(), head.headers, body.into(), trailers)
}

pub(crate) async fn body_of(mut stream: RecvStream) -> Result<Bytes, h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(body.into())
}
