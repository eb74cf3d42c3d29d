//! One client's connection: which version of HTTP it speaks, and an end that does not cost the client its
//! last answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::door::{Door, Entered, Settings};
use super::handler::Handler;
use super::transport::Transport;
use super::{http1, http2};
use crate::clock;
use crate::proxy::client::Client;
use crate::proxy::{Protocol, Unmatched};

/// After an answer that ends the connection, so long and so many bytes the client may go on sending.
/// Closed at once, the connection would be reset and the answer lost on its way.
pub(super) const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// How long a client that comes during a drain may take over its request's head. It comes with one in
/// hand; if it does not, it must not hold the drain up.
pub(super) const LATECOMER: Duration = Duration::from_secs(1);

/// Serves one connection of that door to its end. `worker` is the worker that it runs on, for the
/// handler.
pub async fn serve<IO, H>(io: IO, door: &Arc<Door<H>>, peer: Option<SocketAddr>, worker: usize)
where
    IO: Transport,
    H: Handler,
{
    serve_entered(io, door.enter(), peer, worker).await;
}

/// As [`serve`], for a connection that is counted already.
pub(super) async fn serve_entered<IO, H>(
    io: IO,
    door: Entered<H>,
    peer: Option<SocketAddr>,
    worker: usize,
) where
    IO: Transport,
    H: Handler,
{
    let settings = door.settings();
    let client = Client::new(
        peer,
        Arc::clone(door.name()),
        worker,
        clock::now(),
        settings.idle_timeout,
    );
    let client = client.encrypted(io.is_encrypted());
    if io.agreed().unwrap_or(settings.protocol) == Protocol::Http2 {
        serve_http2(io, BytesMut::new(), &door, &client, &settings).await;
    } else {
        serve_http1(io, &door, client, &settings).await;
    }
}

/// As [`serve_entered`], for a client that was redirected on its way to that address.
pub(super) async fn serve_redirected<IO, H>(
    io: IO,
    door: Entered<H>,
    peer: SocketAddr,
    to: SocketAddr,
    worker: usize,
) where
    IO: Transport,
    H: Handler,
{
    let settings = door.settings();
    let listener = Arc::clone(door.name());
    let (now, stall) = (clock::now(), settings.idle_timeout);
    let client = Client::new(Some(peer), listener, worker, now, stall).redirected(to);
    if settings.protocol == Protocol::Http2 && settings.redirected != Some(Unmatched::Pass) {
        serve_http2(io, BytesMut::new(), &door, &client, &settings).await;
    } else {
        serve_http1(io, &door, client, &settings).await;
    }
}

/// Boxed, since its state is larger than that of the other version.
async fn serve_http2<IO, H>(
    io: IO,
    ahead: BytesMut,
    door: &Entered<H>,
    client: &Client,
    settings: &Settings,
) where
    IO: Transport,
    H: Handler,
{
    Box::pin(http2::connection::serve(io, ahead, door, client, settings)).await;
}

/// Serves HTTP/1.1, and hands over to the other version if the client begins with its preface, and may.
async fn serve_http1<IO, H>(io: IO, door: &Entered<H>, client: Client, settings: &Settings)
where
    IO: Transport,
    H: Handler,
{
    let client = Arc::new(client);
    if let Some((io, ahead)) = http1::serve(io, door, &client, settings).await {
        serve_http2(io, ahead, door, &client, settings).await;
    }
}

/// Ends a connection in order: with `bytes` if there are any, and where it `linger`s after what its
/// client still sends.
pub(super) async fn end_with<IO: Transport>(mut io: IO, bytes: Option<Vec<u8>>, linger: bool) {
    let ending = async {
        if let Some(bytes) = bytes {
            io.write_all(&bytes).await?;
        }
        io.shutdown().await?;
        let mut left = if linger { LINGER_BYTES } else { 0 };
        // Not part of the connection: it would have room for it all its life.
        let mut buffer = vec![0; 2048];
        while left > 0 {
            match io.read(&mut buffer).await? {
                0 => break,
                bytes => left = left.saturating_sub(bytes),
            }
        }
        io::Result::Ok(())
    };
    // A client that breaks the connection now has no interest in its end.
    let _ = tokio::time::timeout(LINGER, ending).await;
}
