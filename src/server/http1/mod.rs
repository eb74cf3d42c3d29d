//! HTTP/1.1 with clients: a connection of our own, which owns the socket and polls the handler.

mod answer;
mod connection;
mod date;
mod head;
mod read;
mod upload;
mod watch;
mod write;

use std::sync::Arc;

use bytes::BytesMut;

use self::connection::{Connection, End, Parts, Times};
use super::connection::{LATECOMER, end_with};
use super::deadline::nanos;
use super::door::{Door, Entered, Phase, Settings};
use super::handler::Handler;
use super::redirected::{Kept, SERVER_FIRST};
use super::transport::Transport;
use crate::proxy::client::Client;
use crate::proxy::told;
use crate::proxy::tunnel::{Close, Tunnel};
use crate::proxy::{Reason, Unmatched};

/// Serves a connection to its end; unless its client turns out to speak HTTP/2: then gives it back, with
/// all that has come of it.
pub(super) async fn serve<IO, H>(
    io: IO,
    door: &Entered<H>,
    client: &Arc<Client>,
    settings: &Settings,
) -> Option<(IO, BytesMut)>
where
    IO: Transport,
    H: Handler,
{
    let late = door.closing();
    let patience = if late {
        LATECOMER
    } else {
        settings.header_timeout
    };
    let header = settings.header_timeout.min(patience);
    let may_pass = client.destination().is_some() && settings.redirected == Some(Unmatched::Pass);
    let first = if may_pass {
        header.min(SERVER_FIRST)
    } else {
        header
    };
    let times = Times {
        header: nanos(header),
        idle: nanos(settings.idle_timeout),
        first: nanos(first),
    };
    let handler = door.handler();
    let handle = |request| handler.handle(client, request);
    let mut connection = Connection::new(io, door, client, settings, times, handle);
    if may_pass {
        connection = connection.keeping();
    }
    let end = connection.run(late).await;
    let cut = matches!(end, End::Cut);
    let mut parts = told::drop_requests(cut, || connection.into_parts());
    if let Some(kept) = parts.kept.take()
        && is_to_be_passed(&end, &kept, door)
    {
        pass_on(parts.io, kept.into_bytes(), door, client).await;
        return None;
    }
    if let End::Http2 = end {
        return Some((parts.io, parts.buffer));
    }
    if let End::Tunnel(tunnel) = end {
        tunnel_through(tunnel, parts, door).await;
        return None;
    }
    let bytes = refusal(&end)
        .and_then(|(reason, detail)| handler.refuse(client, reason, detail, client.began()));
    let closing = closing(&end, &parts, bytes.is_some());
    drop(end);
    match closing {
        Closing::Orderly { linger } => end_with(parts.io, bytes, linger).await,
        Closing::Break => parts.io.break_off(),
        Closing::Silent => {}
    }
    None
}

/// Whether a redirected connection that has ended so goes on to where it was going.
fn is_to_be_passed<H>(end: &End, kept: &Kept, door: &Door<H>) -> bool {
    match end {
        End::Passed => true,
        // It waits for the server to speak, or for its own next word.
        End::Idle => kept.is_no_http() && !door.closing(),
        End::Refused(_)
        | End::Incomplete
        | End::Failed
        | End::Panicked
        | End::BrokenOff
        | End::HeaderTimeout => kept.is_no_http(),
        End::Done | End::Http2 | End::Tunnel(_) | End::Gone | End::Stalled | End::Cut => false,
    }
}

/// Passes a redirected connection on to where it was going, with all that came of it.
async fn pass_on<IO: Transport, H: Handler>(
    mut io: IO,
    early: BytesMut,
    door: &Door<H>,
    client: &Client,
) {
    let cut = door.reached(Phase::Cut);
    // Boxed, since few connections come to this.
    let passing = Box::pin(door.handler().pass(client, &mut io, &early, cut));
    if passing.await == Close::Break {
        io.break_off();
    }
}

/// Serves a connection that speaks HTTP no more. It has until the end of a drain.
async fn tunnel_through<IO: Transport, H: Handler>(
    tunnel: Box<Tunnel>,
    parts: Parts<IO>,
    door: &Door<H>,
) {
    let Parts { mut io, buffer, .. } = parts;
    // Boxed, since few connections come to this.
    let running = Box::pin(tunnel.run(&mut io, &buffer, door.reached(Phase::Cut)));
    if running.await == Close::Break {
        io.break_off();
    }
}

/// What a client is told whose connection ends without an answer.
const fn refusal(end: &End) -> Option<(Reason, &'static str)> {
    Some(match end {
        End::Refused(fault) => *fault,
        End::HeaderTimeout => (
            Reason::HeaderTimeout,
            "The head of the request did not come within the listener's header timeout.",
        ),
        End::Panicked => (Reason::Internal, "The handler has panicked."),
        End::Done
        | End::Incomplete
        | End::BrokenOff
        | End::Failed
        | End::Gone
        | End::Idle
        | End::Stalled
        | End::Cut
        | End::Passed
        | End::Http2
        | End::Tunnel(_) => return None,
    })
}

/// How a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// So that the client can read what it was sent; where it may still send, after that.
    Orderly { linger: bool },
    /// So that the client sees a break.
    Break,
    /// There is nobody left.
    Silent,
}

/// How the connection is closed. The client can read what it was sent, and sees a break where its answer
/// broke off.
const fn closing<IO>(end: &End, parts: &Parts<IO>, answered: bool) -> Closing {
    let linger = match end {
        // Without a length the client could take the break for the answer's end.
        End::BrokenOff if parts.old => return Closing::Break,
        End::Done | End::BrokenOff | End::Panicked => !parts.eof,
        End::Refused(_) => answered && !parts.eof,
        End::HeaderTimeout => true,
        End::Incomplete | End::Failed | End::Idle => false,
        End::Stalled | End::Cut => return Closing::Break,
        End::Gone | End::Passed | End::Http2 | End::Tunnel(_) => return Closing::Silent,
    };
    Closing::Orderly { linger }
}
