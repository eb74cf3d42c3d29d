//! One question to one endpoint, over a connection that is made for it and ends with it.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{Method, Request, Response, Uri, Version, request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::grpc;
use crate::errand::{Driven, Line};
use crate::live::connection::cause_of;
use crate::live::roster::Endpoint;
use crate::live::wire::{Dialer, Pipe};
use crate::plan::{Protocol, SocketAddress};
use crate::policy::grpc::Code;
use crate::policy::health::{Fault, Kind, Question};
use crate::policy::outcome::StatusSet;
use crate::proxy::attempt::is_ours;

/// Whom endpoints see in their logs.
const NAME: &str = concat!("mamparo/", env!("CARGO_PKG_VERSION"), " (health check)");
/// After an answer, bytes of its body that are read and how long that and the end of the connection may
/// take: else the endpoint would see a connection that broke, and log it.
const REST: usize = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// Asks once. It takes as long as it takes; whoever does not want to wait any more drops it. `None`: it
/// could not be asked, for want of something on our side, and that says nothing about it.
pub(super) async fn ask(
    dialer: &Dialer,
    endpoint: &Endpoint,
    protocol: Protocol,
    question: &Question,
) -> Option<Result<(), Fault>> {
    match asked(dialer, endpoint, protocol, question).await {
        Ok(answered) => Some(answered),
        Err(error) if is_ours(&error) => None,
        Err(error) => Some(Err(Fault::NoConnection(error.to_string().into()))),
    }
}

/// # Errors
/// There is no connection to ask over.
async fn asked(
    dialer: &Dialer,
    endpoint: &Endpoint,
    protocol: Protocol,
    question: &Question,
) -> io::Result<Result<(), Fault>> {
    let address = address(&endpoint.address, question.port);
    let secured = endpoint.secured.as_ref();
    if question.kind == Kind::Tcp {
        // What is said over the connection, TLS included, is not asked for.
        let _opened = dialer.errand(&address, None, true).await?;
        return Ok(Ok(()));
    }
    let (io, agreed) = dialer.errand(&address, secured, false).await?;
    let target = Target {
        scheme: if secured.is_some() { "https" } else { "http" },
        host: host(endpoint, &address, question),
    };
    // In plaintext it has to be known.
    let http2 = agreed || (secured.is_none() && protocol == Protocol::Http2);
    Ok(match &question.kind {
        Kind::Http { path, expect } if http2 => by_http2(io, &target, path, expect).await,
        Kind::Http { path, expect } => by_http1(io, &target, path, expect).await,
        Kind::Grpc { service } if agreed || secured.is_none() => {
            by_grpc(io, &target, service).await
        }
        Kind::Grpc { .. } => Err(Fault::Broken("it does not agree to HTTP/2 (ALPN)".into())),
        // Answered above.
        Kind::Tcp => Ok(()),
    })
}

/// What is asked for, beside the path.
struct Target {
    scheme: &'static str,
    host: Arc<str>,
}

impl Target {
    fn uri(&self, path: &str) -> Result<Uri, Fault> {
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(&*self.host)
            .path_and_query(path);
        uri.build().map_err(|error| broken(&error))
    }
}

/// Where the endpoint is asked.
fn address(address: &SocketAddress, port: Option<u16>) -> SocketAddress {
    let mut address = address.clone();
    if let (SocketAddress::Ip(address), Some(port)) = (&mut address, port) {
        address.set_port(port);
    }
    address
}

/// What the endpoint is called: what the configuration says, else its name under TLS, else its address.
fn host(endpoint: &Endpoint, address: &SocketAddress, question: &Question) -> Arc<str> {
    if let Some(host) = &question.host {
        return Arc::clone(host);
    }
    let name = endpoint.secured.as_ref().and_then(|secured| secured.host());
    match (name, address.ip().map(|address| address.port())) {
        (Some(name), None | Some(443)) => name.into(),
        (Some(name), Some(port)) => format!("{name}:{port}").into(),
        (None, _) => match address {
            SocketAddress::Ip(address) => address.to_string().into(),
            SocketAddress::Unix(_) => Arc::clone(&endpoint.host),
        },
    }
}

async fn by_http1(
    io: Box<dyn Pipe>,
    target: &Target,
    path: &str,
    expect: &StatusSet,
) -> Result<(), Fault> {
    let request = Request::get(path)
        .header(HOST, &*target.host)
        .header(USER_AGENT, NAME)
        .header(CONNECTION, "close");
    let request = request.body(Full::default());
    let request = request.map_err(|error| broken(&error))?;
    let mut line = Line::over(io).await.map_err(|error| fault(&error))?;
    let answered = line.ask(request).await;
    let (head, body) = answered.map_err(|error| fault(&error))?.into_parts();
    linger(async move {
        read(body).await;
        line.end().await;
    });
    judge(head.status.as_u16(), expect)
}

/// Reads what follows, to its end or as far as it is worth it.
async fn read(mut body: Incoming) {
    let mut left = REST;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(bytes) else {
            return;
        };
        left = less;
    }
}

async fn by_http2(
    io: Box<dyn Pipe>,
    target: &Target,
    path: &str,
    expect: &StatusSet,
) -> Result<(), Fault> {
    let head = head(Method::GET, target.uri(path)?);
    let (answer, connection) = exchange(io, head, None).await?;
    let (head, mut body) = answer.into_parts();
    linger(async move {
        receive(&mut body, REST).await;
        drop(body);
        connection.end().await;
    });
    judge(head.status.as_u16(), expect)
}

async fn by_grpc(io: Box<dyn Pipe>, target: &Target, service: &str) -> Result<(), Fault> {
    let head = head(Method::POST, target.uri(grpc::PATH)?)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers");
    let message = grpc::request(service);
    let (answer, connection) = exchange(io, head, Some(message)).await?;
    let (head, mut body) = answer.into_parts();
    let message = receive(&mut body, grpc::LONGEST).await;
    let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    linger(async move {
        drop(body);
        connection.end().await;
    });
    let status = head.status.as_u16();
    if status != 200 {
        return Err(Fault::Answered(status));
    }
    match grpc::ended(&head.headers).or_else(|| grpc::ended(&trailers)) {
        Some(Code::Ok) => grpc::judge(&message),
        Some(code) => Err(Fault::Failed(code)),
        None => Err(Fault::Broken("no grpc-status came".into())),
    }
}

fn head(method: Method, uri: Uri) -> request::Builder {
    Request::builder()
        .method(method)
        .uri(uri)
        .version(Version::HTTP_2)
        .header(USER_AGENT, NAME)
}

/// Sends one request over HTTP/2 and waits for the head of its answer.
async fn exchange(
    io: Box<dyn Pipe>,
    head: request::Builder,
    body: Option<Bytes>,
) -> Result<(Response<RecvStream>, Driven), Fault> {
    let request = head.body(()).map_err(|error| broken(&error))?;
    let made = h2::client::handshake(io).await;
    let (sender, connection) = made.map_err(|error| fault(&error))?;
    let connection = Driven::spawn(connection);
    let asked = async {
        let mut sender = sender.ready().await?;
        let (answer, mut stream) = sender.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(body, true)?;
        }
        answer.await
    };
    let answered: Result<_, h2::Error> = asked.await;
    let answer = answered.map_err(|error| fault(&error))?;
    Ok((answer, connection))
}

/// What comes of a body, up to so many bytes.
async fn receive(body: &mut RecvStream, most: usize) -> BytesMut {
    let mut received = BytesMut::new();
    while let Some(Ok(bytes)) = body.data().await {
        if received.len() + bytes.len() > most {
            break;
        }
        let _ = body.flow_control().release_capacity(bytes.len());
        received.extend_from_slice(&bytes);
    }
    received
}

/// Does it beside the check, which has its answer; but not for long.
fn linger(rest: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(tokio::time::timeout(LINGER, rest));
}

fn judge(status: u16, expect: &StatusSet) -> Result<(), Fault> {
    if expect.contains(status) {
        Ok(())
    } else {
        Err(Fault::Answered(status))
    }
}

fn fault(error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::Broken(cause_of(error).into())
}

fn broken(error: &dyn Display) -> Fault {
    Fault::Broken(error.to_string().into())
}
