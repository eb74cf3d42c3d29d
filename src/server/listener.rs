//! Where connections come in: a bound socket, and the loop that accepts from it. Runs on the control
//! runtime; the connections are served by the workers.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::door::Door;
use super::episode::Episode;
use super::handler::Handler;
use super::limit::ConnectionLimit;
use super::socket::{Accepting, Listening};
use super::worker::Workers;
use crate::clock;
use crate::proxy::SocketAddress;
use crate::telemetry::limits::Limit;

/// After an error that does not pass by itself, accepting pauses so long, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A bound socket of a listener; nothing is accepted yet, clients wait in the backlog.
#[derive(Debug)]
pub struct Bound {
    name: Arc<str>,
    socket: Listening,
}

/// A listener whose address cannot be bound.
#[derive(Debug)]
pub struct BindError {
    name: Arc<str>,
    address: SocketAddress,
    source: io::Error,
}

impl Bound {
    /// Binds the listener of that name. Port 0 stands for any free one.
    ///
    /// # Errors
    /// A sentence that names the listener and the address, and what to do.
    pub fn bind(name: Arc<str>, address: &SocketAddress) -> Result<Self, BindError> {
        match Listening::bind(address) {
            Ok(socket) => Ok(Self { name, socket }),
            Err(source) => Err(BindError {
                name,
                address: address.clone(),
                source,
            }),
        }
    }

    /// The address that it is bound to, with the port that the system chose.
    pub const fn address(&self) -> &SocketAddress {
        self.socket.address()
    }

    /// Begins to accept, on the current runtime, and hands the connections to the workers.
    ///
    /// # Errors
    /// The runtime has no room for the socket.
    pub fn serve<H: Handler>(
        self,
        door: &Arc<Door<H>>,
        workers: &Arc<Workers>,
        limit: &Arc<ConnectionLimit>,
    ) -> io::Result<Listener> {
        let address = self.address().clone();
        let socket = self.socket.accepting()?;
        let accepting = accept(
            self.name,
            socket,
            Arc::clone(door),
            Arc::clone(workers),
            Arc::clone(limit),
        );
        Ok(Listener {
            address,
            accepting: tokio::spawn(accepting),
        })
    }
}

/// A listener that accepts. Dropped, it stops.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddress,
    accepting: JoinHandle<()>,
}

impl Listener {
    /// The address that it is bound to.
    pub const fn address(&self) -> &SocketAddress {
        &self.address
    }

    /// Stops accepting and gives the address free. Connections that were accepted are not touched;
    /// those in the backlog are reset by the system.
    pub async fn close(mut self) {
        self.accepting.abort();
        // The socket is closed when the task has been dropped.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept<H: Handler>(
    name: Arc<str>,
    socket: Accepting,
    door: Arc<Door<H>>,
    workers: Arc<Workers>,
    limit: Arc<ConnectionLimit>,
) {
    let mut pause = FIRST_PAUSE;
    let mut episode = Episode::default();
    loop {
        match socket.accept().await {
            Ok(accepted) => {
                pause = FIRST_PAUSE;
                if episode.well(clock::now) {
                    tracing::info!(listener = &*name, "accepting connections again");
                }
                let max = door.settings().max_connections;
                if max.is_some_and(|max| door.open() >= max) {
                    // Closed at once: those that are open may stay for long, and a client that is told
                    // can go elsewhere.
                    let client = accepted.peer();
                    door.handler().limited(&name, client, Limit::Connections);
                    continue;
                }
                // At the limit this one waits here and the others in the backlog.
                let place = limit.place().await;
                workers.hand(accepted, &door, Some(place));
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if episode.trouble(clock::now()) {
                    tracing::warn!(
                        listener = &*name,
                        "cannot accept connections: {error}; {}new ones wait in the backlog until \
                         it passes",
                        advice(&error)
                    );
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Whether the error is that of the connection that would have been accepted; the next one may fare
/// better at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(EMFILE) => {
            "raise the process's limit of open files (ulimit -n, LimitNOFILE) or lower \
                         runtime.max_connections; "
        }
        Some(ENFILE) => "the system's limit of open files is reached (fs.file-max); ",
        _ => "",
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            address,
            source,
        } = self;
        write!(f, "listener '{name}' cannot listen on {address}: ")?;
        let advice = if address.ip().is_none() {
            return source.fmt(f);
        } else if source.kind() == io::ErrorKind::AddrInUse {
            "the address is in use by another program or another listener; stop that one, or choose \
             another port"
        } else if source.kind() == io::ErrorKind::PermissionDenied {
            "not permitted; a port below 1024 needs the capability CAP_NET_BIND_SERVICE, so grant it \
             or choose a port from 1024 up"
        } else if source.kind() == io::ErrorKind::AddrNotAvailable {
            "this machine has no such address; use one of its own, or 0.0.0.0 for all of them"
        } else {
            return source.fmt(f);
        };
        f.write_str(advice)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn fault_067_an_address_that_cannot_be_bound_is_a_sentence() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        let first = Bound::bind("first".into(), &any).expect("a free port");
        let error = Bound::bind("second".into(), first.address()).expect_err("in use");
        let sentence = error.to_string();
        assert!(sentence.contains("listener 'second'"), "{sentence}");
        assert!(
            sentence.contains(&first.address().to_string()),
            "{sentence}"
        );
        assert!(sentence.contains("in use"), "{sentence}");
        // 192.0.2.0/24 is reserved for documentation.
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0)).into();
        let error = Bound::bind("third".into(), &foreign).expect_err("not ours");
        assert!(error.to_string().contains("no such address"), "{error}");
    }

    #[test]
    fn fault_070_the_want_of_descriptors_concerns_all_and_is_told_with_advice() {
        let full = io::Error::from_raw_os_error(EMFILE);
        assert!(!concerns_one_connection(&full) && advice(&full).contains("ulimit"));
    }
}
