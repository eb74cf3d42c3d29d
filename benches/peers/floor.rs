//! The floor that a proxy on one thread stands on: it passes bytes on and looks at none of them.
//!
//! `floor LISTEN ORIGIN…` takes connections at LISTEN and gives each of them a connection of its own to one
//! of the origins, in turn. What it spends is what the system calls and the runtime cost for any proxy
//! that is made of them, so that what mamparo spends beyond it is what mamparo does.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Bytes that one read may take, for each direction of a connection.
const BUFFER: usize = 64 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let addresses: Vec<SocketAddr> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let Some((listen, origins)) = addresses.split_first().filter(|(_, rest)| !rest.is_empty())
    else {
        return Err("usage: floor LISTEN ORIGIN…, each an address with its port".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(serve(*listen, origins))?;
    Ok(())
}

/// Takes connections until the process is ended.
async fn serve(listen: SocketAddr, origins: &[SocketAddr]) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    for origin in origins.iter().cycle() {
        let (client, _) = listener.accept().await?;
        tokio::spawn(relay(client, *origin));
    }
    Ok(())
}

/// One client connection: what either side says goes to the other, until one of them has no more to say.
async fn relay(client: TcpStream, origin: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(origin).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    tokio::spawn(pass(from_client, to_upstream));
    pass(from_upstream, to_client).await
}

/// One direction.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}
