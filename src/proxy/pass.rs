//! What a redirected connection is that we do not serve: bytes between the client and where it was
//! going. No policy, no retry, nothing looked at; counted, ended when nothing moves for long, and cut
//! at the end of a drain.

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::HOST;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Proxy;
use super::client::Client;
use super::handle::path_of;
use super::tunnel::{Close, End, carry};
use crate::live::line::Line;
use crate::live::relay::Relay;
use crate::live::router::Wanted;
use crate::plan::{SocketAddress, Unmatched};
use crate::telemetry::meters::ListenerMeters;

/// How long no byte may move. As long as idle connections of databases are kept, mostly.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// How long the connection to where the client was going may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The connections that are passed on now: our port, and where they go. One that comes back to us is
/// known by them.
#[derive(Debug, Default)]
pub struct Passing(Mutex<HashSet<(u16, SocketAddr)>>);

/// Whether no route matches the request of a redirected client, and the listener lets such pass. Routes
/// alone decide, so that a request of another's is not refused for what we think of it.
pub fn passes<B>(proxy: &Proxy, client: &Client, request: &Request<B>) -> bool {
    let site = proxy.site();
    let Some(listener) = site.listener(&client.listener) else {
        return false;
    };
    let uri = request.uri();
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => {
            let host = request.headers().get(HOST);
            host.and_then(|host| host.to_str().ok())
        }
    };
    let wanted = Wanted {
        host,
        method: request.method().as_str(),
        path: path_of(uri),
        query: uri.query(),
        headers: request.headers(),
    };
    listener.plan.unmatched == Unmatched::Pass
        && listener
            .by_host
            .find(&listener.plan.routes, &wanted)
            .is_none()
}

/// Passes the client's connection on to where it was going, with the bytes that came already, until both
/// ends have ended.
pub async fn pass<IO>(
    proxy: &Arc<Proxy>,
    client: &Client,
    io: &mut IO,
    early: &[u8],
    cut: impl Future<Output = ()>,
) -> Close
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (Some(to), Some(peer)) = (client.destination(), client.peer) else {
        return Close::Break;
    };
    let listener = &*client.listener;
    let comes_from_us = proxy.passing.0.lock().contains(&(peer.port(), to));
    if comes_from_us {
        tracing::warn!(
            listener, %peer, destination = %to,
            "a connection that was passed on has come back: its redirection has to leave out what this \
             process sends (iptables -m owner); it is refused"
        );
        return Close::Break;
    }
    let destination = SocketAddress::Ip(to);
    let opening = Line::open(&proxy.dialer, &destination, None);
    let line = match tokio::time::timeout(CONNECT_WITHIN, opening).await {
        Ok(Ok(line)) => line,
        Ok(Err(error)) => {
            tracing::debug!(listener, %peer, destination = %to, "cannot be passed on: {error}");
            return Close::Break;
        }
        Err(_) => {
            tracing::debug!(listener, %peer, destination = %to, "cannot be passed on: no answer within {CONNECT_WITHIN:?}");
            return Close::Break;
        }
    };
    let key = line.local_port().map(|port| (port, to));
    let _known = Known::enter(&proxy.passing, key);
    let meters = proxy.telemetry.metrics().listener(&client.listener);
    let _counted = Counted::enter(meters);
    let mut relay = Relay::new(io, early, line);
    let end = carry(&mut relay, Some(IDLE), cut).await;
    let (up, down) = relay.bytes();
    tracing::debug!(listener, %peer, destination = %to, up, down, "passed on, and ended");
    match end {
        End::Closed | End::Idle(_) => Close::Clean,
        End::Broken(_) | End::Cut => {
            relay.break_off();
            Close::Break
        }
    }
}

/// Makes a connection known while it stands.
struct Known<'a> {
    passing: &'a Passing,
    key: Option<(u16, SocketAddr)>,
}

impl<'a> Known<'a> {
    fn enter(passing: &'a Passing, key: Option<(u16, SocketAddr)>) -> Self {
        passing.0.lock().extend(key);
        Self { passing, key }
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.passing.0.lock().remove(&key);
        }
    }
}

/// Counts a connection that is passed on.
struct Counted(Arc<ListenerMeters>);

impl Counted {
    fn enter(meters: Arc<ListenerMeters>) -> Self {
        meters.passed.add_one();
        Self(meters)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.passed_ended.add_one();
    }
}
