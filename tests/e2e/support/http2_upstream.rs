//! An upstream that speaks HTTP/2, in plaintext or under TLS with what ALPN gives, and counts what it
//! sees.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::authority::Identity;

/// The upstream; it ends when it is dropped.
pub(crate) struct Http2Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Counts>,
    _runtime: Runtime,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicUsize,
    pub(crate) open: AtomicUsize,
    /// The most connections, and the most requests on one connection, that were open at a time.
    pub(crate) most_open: AtomicUsize,
    pub(crate) most_streams: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    /// Connections on which HTTP/1.1 was agreed.
    pub(crate) http1: AtomicUsize,
}

/// How it behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    pub(crate) streams: u32,
    pub(crate) takes: Duration,
}

impl Http2Upstream {
    pub(crate) fn plain(manners: Manners) -> Self {
        Self::start(manners, None)
    }

    /// Offers these protocols by ALPN.
    pub(crate) fn tls(manners: Manners, identity: &Identity, alpn: &[&[u8]]) -> Self {
        let chain = CertificateDer::pem_file_iter(&identity.cert).unwrap();
        let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
        let provider = super::tls::provider();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self::start(manners, Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn start(manners: Manners, tls: Option<TlsAcceptor>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Counts> = Arc::default();
        let counts = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, tls) = (Arc::clone(&counts), tls.clone());
                tokio::spawn(async move {
                    seen.accepted.fetch_add(1, SeqCst);
                    let open = seen.open.fetch_add(1, SeqCst) + 1;
                    seen.most_open.fetch_max(open, SeqCst);
                    match tls {
                        None => serve(stream, manners, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                                    serve(stream, manners, &seen).await;
                                } else {
                                    serve_http1(stream, &seen).await;
                                }
                            }
                        }
                    }
                    seen.open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self {
            address,
            seen,
            _runtime: runtime,
        }
    }
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, manners: Manners, seen: &Arc<Counts>) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(manners.streams);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else {
        return;
    };
    let streams = Arc::new(AtomicUsize::new(0));
    while let Some(Ok((asked, reply))) = connection.accept().await {
        let now = streams.fetch_add(1, SeqCst) + 1;
        seen.most_streams.fetch_max(now, SeqCst);
        seen.requests.fetch_add(1, SeqCst);
        let streams = Arc::clone(&streams);
        tokio::spawn(async move {
            tokio::time::sleep(manners.takes).await;
            streams.fetch_sub(1, SeqCst);
            echo(asked, reply).await;
        });
    }
}

/// Answers with the body and the trailers of the request.
async fn echo(asked: Request<RecvStream>, mut reply: SendResponse<Bytes>) -> Option<()> {
    let version = format!("{:?}", asked.version());
    let authority = asked.uri().authority().map(ToString::to_string);
    let scheme = asked.uri().scheme_str().unwrap_or_default().to_owned();
    let head = Response::builder()
        .header("x-version", version)
        .header("x-authority", authority.unwrap_or_default())
        .header("x-scheme", scheme);
    let mut back = reply.send_response(head.body(()).ok()?, false).ok()?;
    let mut body = asked.into_body();
    while let Some(part) = body.data().await {
        let part = part.ok()?;
        body.flow_control().release_capacity(part.len()).ok()?;
        back.send_data(part, false).ok()?;
    }
    match body.trailers().await.ok()? {
        Some(trailers) => back.send_trailers(trailers).ok(),
        None => back.send_data(Bytes::new(), true).ok(),
    }
}

/// Answers every head on the connection.
async fn serve_http1(mut io: impl AsyncRead + AsyncWrite + Unpin, seen: &Arc<Counts>) {
    seen.http1.fetch_add(1, SeqCst);
    let mut bytes = Vec::new();
    let mut some = [0; 4096];
    while let Ok(1..) = io
        .read(&mut some)
        .await
        .inspect(|read| bytes.extend_from_slice(&some[..*read]))
    {
        while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            bytes.drain(..end + 4);
            seen.requests.fetch_add(1, SeqCst);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-version: HTTP/1.1\r\n\r\nok";
            if io.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}
