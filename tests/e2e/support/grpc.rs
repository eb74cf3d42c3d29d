//! A service of gRPC: it ends each call as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A message of gRPC: not compressed, and its length before it.
pub(crate) fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], bytes].concat()
}

/// The standard's method for health checks; where it ends well, the answer is that the service serves.
const CHECK: &str = "/grpc.health.v1.Health/Check";
const SERVING: &[u8] = &[8, 1];

/// A running service. It echoes the messages of calls that end well.
pub(crate) struct GrpcService {
    address: SocketAddr,
    calls: Calls,
    _runtime: Runtime,
}

/// What was called, with the headers.
type Calls = Arc<Mutex<Vec<(String, HeaderMap)>>>;

impl GrpcService {
    /// `ends` says with which status a call ends, by its path and its number among all, from 0.
    pub(crate) fn start(ends: impl Fn(&str, usize) -> u16 + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls::default();
        runtime.spawn(accept(listener, Arc::clone(&calls), Arc::new(ends)));
        Self {
            address,
            calls,
            _runtime: runtime,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<(String, HeaderMap)> {
        self.calls.lock().unwrap().clone()
    }
}

type Ends = Arc<dyn Fn(&str, usize) -> u16 + Send + Sync>;

async fn accept(listener: TcpListener, calls: Calls, ends: Ends) {
    while let Ok((stream, _)) = listener.accept().await {
        let (calls, ends) = (Arc::clone(&calls), Arc::clone(&ends));
        tokio::spawn(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                return;
            };
            while let Some(Ok((request, answer))) = connection.accept().await {
                let (head, body) = request.into_parts();
                let path = head.uri.path().to_owned();
                let number = {
                    let mut calls = calls.lock().unwrap();
                    calls.push((path.clone(), head.headers.clone()));
                    calls.len() - 1
                };
                let status = ends(&path, number);
                let request = Request::from_parts(head, body);
                tokio::spawn(end(request, answer, status));
            }
        });
    }
}

async fn end(request: Request<RecvStream>, mut answer: SendResponse<Bytes>, status: u16) {
    let is_check = request.uri().path() == CHECK;
    let head = Response::builder().header("content-type", "application/grpc");
    if status != 0 {
        let head = head.header("grpc-status", status).body(()).unwrap();
        let _ = answer.send_response(head, true);
        return;
    }
    let mut body = request.into_body();
    let mut received = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        received.extend_from_slice(&data);
    }
    let Ok(mut stream) = answer.send_response(head.body(()).unwrap(), false) else {
        return;
    };
    if is_check {
        received = message(SERVING);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    if stream.send_data(received.into(), false).is_ok() {
        let _ = stream.send_trailers(trailers);
    }
}
