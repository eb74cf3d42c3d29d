//! The admin interface: probes, metrics, the status page, and the few things that an operator can do to
//! a running process. It has its own port and runs on the control thread, so that neither a busy worker
//! nor a stuck scraper can harm the other.

mod answer;
mod desk;
mod explain;
mod feed;
mod guard;
mod handle;
mod page;
mod reserve;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use self::desk::Desk;
use self::feed::{Feed, Wire};
use self::reserve::{RESERVED, Reserve, is_want_of_descriptors};
use super::episode::Episode;
use super::socket::{Accepted, Accepting};
use super::status::{LastReload, Status};
use super::transport::Transport;
use crate::clock;
use crate::telemetry::Telemetry;
use crate::telemetry::exposition::Format;

/// Connections that are served at once. One more ends the oldest, so that a probe always gets through.
pub const MAX_CONNECTIONS: usize = 64;
/// How long a client may take over a request's head, and idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection lives; then it is asked to end.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long an answer may still take when its connection has been asked to end.
const LINGER: Duration = Duration::from_secs(10);
/// A pause after a failed accept, so that a lack of file descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An order to reload; what came of it goes back through the channel.
pub type ReloadOrder = oneshot::Sender<LastReload>;

/// Sets a breaker: the names of the upstream and the endpoint, and to what.
pub type ForceBreaker = dyn Fn(&str, &str, Force) -> Result<(), ForceError> + Send + Sync;

/// Sets the log level; answers the level that holds now, or why the wanted one cannot.
pub type SetLogLevel = dyn Fn(&str) -> Result<String, String> + Send + Sync;

/// What the admin interface needs from the rest of the process. Everything must answer without waiting,
/// except for a reload.
pub struct Control {
    /// The state of everything, now.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// The metrics in that format.
    pub metrics: Box<dyn Fn(Format) -> String + Send + Sync>,
    /// The effective configuration as JSON, secrets removed, each value with its origin.
    pub config: Box<dyn Fn() -> String + Send + Sync>,
    /// What is told of requests: those that are kept with all their steps.
    pub telemetry: Arc<Telemetry>,
    /// Whether the process is configured and listening, and not draining.
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// Where orders to reload go.
    pub reload: mpsc::Sender<ReloadOrder>,
    /// Begins to turn new work away. Doing it twice is doing it once.
    pub drain: Box<dyn Fn() + Send + Sync>,
    /// Ends the process as SIGTERM does.
    pub quit: Box<dyn Fn() + Send + Sync>,
    /// Sets an endpoint's breaker by the names of its upstream and address.
    pub force: Box<ForceBreaker>,
    /// Sets the log level; answers what it is now, or why it cannot be that.
    pub log_level: Box<SetLogLevel>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// Whether the process wants requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not all listeners are bound yet.
    Starting,
    /// It does.
    Ready,
    /// It turns new work away.
    Draining,
}

/// What an operator sets a breaker to, for maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// No request passes.
    Open,
    /// Every request passes.
    Closed,
    /// It decides by itself again.
    Auto,
}

impl Force {
    /// The word in the request.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Auto => "auto",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Closed, Self::Auto]
            .into_iter()
            .find(|force| force.name() == name)
    }
}

/// Why a breaker cannot be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForceError {
    /// No upstream has this name; those that there are.
    UnknownUpstream(Vec<String>),
    /// The upstream has no such endpoint; those that it has.
    UnknownEndpoint(Vec<String>),
    /// The upstream has no `circuit_breaker`, and none of its routes has one.
    NoBreaker,
}

/// What a socket of the admin interface answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// All there is.
    Everything,
    /// Metrics and the two probes that a kubelet asks: nothing that tells of the configuration, and
    /// nothing that changes anything. It may listen where others can reach it.
    Readings,
}

/// Serves the admin interface, or the part of it that is offered, for as long as it is polled. Dropped,
/// it ends every connection.
pub async fn serve(listener: Accepting, control: Arc<Control>, offer: Offer) {
    let feed = Feed::new(control);
    let mut feeding = JoinSet::new();
    feeding.spawn(Arc::clone(&feed).run());
    let mut connections = Connections::default();
    let mut reserve = Reserve::default();
    reserve.fill();
    let mut episode = Episode::default();
    loop {
        connections.forget_ended();
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Its descriptor goes back to the reserve, before the traffic takes it.
            () = connections.one_ends() => {
                reserve.fill();
                continue;
            }
        };
        match accepted {
            Ok(accepted) => {
                episode.well(clock::now);
                connections.take(accepted, &feed, offer);
                reserve.fill();
            }
            // The system wants a descriptor even to say that nobody waits. So one is given up in time
            // for the next probe, and then one of those that hold on to theirs.
            Err(error) if reserve.give_up_one(&error) => {}
            Err(error) if is_want_of_descriptors(&error) && connections.are_many() => {
                connections.end_oldest();
                connections.one_ends().await;
            }
            Err(error) => {
                if episode.trouble(clock::now()) {
                    tracing::warn!(%error, "the admin interface cannot accept connections; it goes on trying");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections under way, oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
}

impl Connections {
    fn forget_ended(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.by_age.retain(|connection| !connection.is_finished());
    }

    /// Until one of them ends.
    async fn one_ends(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    fn are_many(&self) -> bool {
        self.by_age.len() > RESERVED / 2
    }

    fn end_oldest(&mut self) {
        if let Some(oldest) = self.by_age.pop_front() {
            oldest.abort();
        }
    }

    /// Serves one more. Fifty scrapers at once fit in; clients that only hold on to their connections
    /// lose the oldest of them instead of locking the probes out.
    fn take(&mut self, accepted: Accepted, feed: &Arc<Feed>, offer: Offer) {
        self.forget_ended();
        if self.by_age.len() >= MAX_CONNECTIONS {
            self.end_oldest();
            tracing::debug!(
                limit = MAX_CONNECTIONS,
                "the admin interface has ended its oldest connection for a new one"
            );
        }
        let serving = connection(accepted, Arc::clone(feed), offer);
        self.by_age.push_back(self.tasks.spawn(serving));
    }
}

async fn connection(accepted: Accepted, feed: Arc<Feed>, offer: Offer) {
    // Where the runtime has no room for the socket, it is closed.
    match accepted {
        Accepted::Tcp(stream, _) => {
            let Ok(stream) = TcpStream::from_std(stream) else {
                return;
            };
            // Without it a small answer may wait for the client's delayed acknowledgement. It cannot
            // fail on an open socket, and a closed one shows itself below.
            let _ = stream.set_nodelay(true);
            serve_stream(stream, feed, offer).await;
        }
        Accepted::Unix(stream) => {
            if let Ok(stream) = UnixStream::from_std(stream) {
                serve_stream(stream, feed, offer).await;
            }
        }
    }
}

async fn serve_stream(stream: impl Transport, feed: Arc<Feed>, offer: Offer) {
    let wire = Arc::<Wire>::default();
    let door = Desk::door(feed, Arc::clone(&wire), offer);
    let mut serving = std::pin::pin!(super::connection::serve(stream, &door, None, 0));
    tokio::select! {
        () = serving.as_mut() => return,
        () = wire.is_cut() => return,
        () = lifetime(&wire) => {}
    }
    door.begin_drain();
    // Whoever has not read its answer by now never will.
    let _ = tokio::time::timeout(LINGER, serving).await;
}

/// Until a connection has lived long enough. A stream lives as long as somebody reads it: there are only
/// so many.
async fn lifetime(wire: &Wire) {
    tokio::time::sleep(LIFETIME).await;
    while wire.is_streaming() {
        tokio::time::sleep(LIFETIME).await;
    }
}
