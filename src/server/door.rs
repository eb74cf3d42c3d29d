//! The live part of one listener: its settings, its open connections, and the signal that drains it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};

use super::tls::Handshakes;
use crate::proxy::{Protocol, Role, Unmatched};
use crate::tls::Server;

/// What a listener allows its clients. A reload replaces it for new connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a request's head may take, from its first byte; also how long a new connection may
    /// stay silent.
    pub header_timeout: Duration,
    /// How long a connection may lie idle between requests. It is also how long a client may refuse
    /// to take bytes of an answer, until the request says otherwise.
    pub idle_timeout: Duration,
    /// Bytes of a request's head.
    pub header_size: usize,
    /// Header lines of a request.
    pub max_headers: usize,
    /// Which versions of HTTP its clients may speak.
    pub protocol: Protocol,
    /// Requests at a time on one connection of HTTP/2.
    pub max_streams: u32,
    /// Its open connections; `None`: only the process's limit.
    pub max_connections: Option<usize>,
    /// What becomes of what no route matches, where its connections were redirected to it; `None`: they
    /// were not.
    pub redirected: Option<Unmatched>,
}

/// How far a door is on its way to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connections come and stay.
    Open,
    /// A connection ends after the request that it has begun; an idle one at once.
    Draining,
    /// A connection ends where it stands.
    Cut,
}

/// One listener's live part, with what answers its requests. It outlives its sockets: connections
/// that are drained hold on to it.
#[derive(Debug)]
pub struct Door<H> {
    name: Arc<str>,
    role: Role,
    handler: Arc<H>,
    settings: ArcSwap<Settings>,
    /// What it shows and asks for under TLS.
    tls: ArcSwapOption<Server>,
    handshakes: Handshakes,
    phase: watch::Sender<Phase>,
    /// Whether it is past [`Phase::Open`]; cheap enough to be asked for each answer.
    closing: AtomicBool,
    open: AtomicUsize,
    came: AtomicUsize,
    emptied: Notify,
}

impl<H> Door<H> {
    /// The door of the listener of that name.
    pub fn new(name: Arc<str>, role: Role, settings: Settings, handler: Arc<H>) -> Arc<Self> {
        Arc::new(Self {
            name,
            role,
            handler,
            settings: ArcSwap::from_pointee(settings),
            tls: ArcSwapOption::empty(),
            handshakes: Handshakes::default(),
            phase: watch::Sender::new(Phase::Open),
            closing: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            came: AtomicUsize::new(0),
            emptied: Notify::new(),
        })
    }

    /// The listener's name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whom it serves.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What answers its requests.
    pub const fn handler(&self) -> &Arc<H> {
        &self.handler
    }

    /// What new connections are allowed.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Sets what new connections are allowed; those that are open keep what they began with.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// What new connections are shown under TLS; `None`: it is plaintext.
    pub fn tls(&self) -> Option<Arc<Server>> {
        self.tls.load_full()
    }

    /// Sets what new connections are shown under TLS; those that are open are not touched.
    pub fn set_tls(&self, tls: Option<Arc<Server>>) {
        self.tls.store(tls);
    }

    /// The handshakes that failed.
    pub const fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    /// Its open connections.
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Connections that have come so far.
    pub fn came(&self) -> usize {
        self.came.load(SeqCst)
    }

    /// Its phase.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether it drains, or is beyond that.
    pub fn closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Answers of HTTP/1.1 say from now on that their connection ends with them. Nothing is closed by it:
    /// a client that does not know yet may be about to use an idle connection, and would lose its request.
    pub fn announce_drain(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Tells the connections to end: idle ones at once, the others after the request that they have
    /// begun. Returns at once; new connections are the listener's to refuse.
    pub fn begin_drain(&self) {
        self.closing.store(true, Relaxed);
        self.phase.send_if_modified(|phase| {
            let changed = *phase == Phase::Open;
            *phase = (*phase).max(Phase::Draining);
            changed
        });
    }

    /// Drains: returns when all connections have ended, or `deadline` from now, after which the rest
    /// is cut. Gives the number that was cut.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.begin_drain();
        if tokio::time::timeout(deadline, self.empty()).await.is_ok() {
            return 0;
        }
        let cut = self.open();
        self.phase.send_replace(Phase::Cut);
        // Each one has only to be polled once more; a worker that hangs must not hold us up.
        let soon = Duration::from_secs(1);
        let _ = tokio::time::timeout(soon, self.empty()).await;
        cut
    }

    /// Returns when no connection is open.
    pub async fn empty(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Returns when the door has come to that phase or beyond.
    pub(super) async fn reached(&self, phase: Phase) {
        // An error means that the sender is gone, but it is ours.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Counts one connection until what it gives is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Entered<H> {
        self.came.fetch_add(1, SeqCst);
        self.open.fetch_add(1, SeqCst);
        Entered(Arc::clone(self))
    }
}

/// One open connection of a door; counted until dropped.
#[derive(Debug)]
pub(super) struct Entered<H>(Arc<Door<H>>);

impl<H> std::ops::Deref for Entered<H> {
    type Target = Arc<Door<H>>;

    fn deref(&self) -> &Arc<Door<H>> {
        &self.0
    }
}

impl<H> Drop for Entered<H> {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, SeqCst) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Arc<Door<()>> {
        let settings = Settings {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            header_size: 65536,
            max_headers: 100,
            protocol: Protocol::Auto,
            max_streams: 100,
            max_connections: None,
            redirected: None,
        };
        Door::new("in".into(), Role::Inbound, settings, Arc::new(()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_with_the_last_connection() {
        let door = door();
        let entered = door.enter();
        let ends = tokio::spawn(async move {
            entered.reached(Phase::Draining).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        });
        assert_eq!(door.drain(Duration::from_secs(30)).await, 0);
        assert_eq!(door.open(), 0);
        ends.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_at_the_deadline_is_cut_and_counted() {
        let door = door();
        let entered = door.enter();
        let ends = tokio::spawn(async move { entered.reached(Phase::Cut).await });
        assert_eq!(door.drain(Duration::from_secs(30)).await, 1);
        assert_eq!(door.open(), 0);
        ends.await.expect("no panic");
    }
}
