//! Endpoints by names of the DNS: each name is asked for again by the time that its answer holds, for as
//! long as an upstream names it.

mod answer;
mod asking;
mod holding;
mod names;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::feed::Feed;
use crate::clock;
use answer::Answer;
use asking::Asker;
use holding::Holding;

/// Where the system says whom to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Whom to ask for names: as the configuration says, else as the system does, whose file is read again when
/// it has changed.
#[derive(Debug)]
pub(super) struct Dns {
    servers: watch::Sender<Vec<SocketAddr>>,
    asker: Mutex<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    asker: Arc<Asker>,
    servers: Vec<SocketAddr>,
    /// When the system's file was changed.
    changed: Option<SystemTime>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: watch::Sender::new(Vec::new()),
            asker: Mutex::default(),
        }
    }
}

impl Dns {
    /// These servers are asked from now on, and every name is asked for anew where they are others than
    /// before. None: those of the system.
    pub(super) fn use_servers(&self, servers: &[SocketAddr]) {
        self.servers.send_if_modified(|used| {
            let others = used != servers;
            if others {
                *used = servers.to_vec();
            }
            others
        });
    }

    fn asker(&self) -> Arc<Asker> {
        let servers = self.servers.borrow().clone();
        let changed = std::fs::metadata(RESOLV_CONF).and_then(|file| file.modified());
        let changed = changed.ok();
        let mut made = self.asker.lock();
        if let Some(made) = &*made
            && made.servers == servers
            && made.changed == changed
        {
            return Arc::clone(&made.asker);
        }
        let asker = Arc::new(Asker::new(&servers));
        *made = Some(Made {
            asker: Arc::clone(&asker),
            servers,
            changed,
        });
        asker
    }
}

/// Follows one name. It ends only by being dropped.
pub(super) async fn follow(feed: Arc<Feed>, dns: Arc<Dns>) {
    let mut holding = Holding::default();
    let mut servers = dns.servers.subscribe();
    let mut beyond_told = false;
    loop {
        if holding.is_due(clock::now()) {
            // Boxed: large, and rare.
            let answer = Box::pin(dns.asker().ask(feed.source())).await;
            tracing::debug!(source = %feed.source(), ?answer, "answer");
            let answer = holding.believed(answer);
            let problem = answer.problem();
            let is_denied = matches!(answer, Answer::Nothing { .. });
            let now = clock::now();
            let beyond = holding.learn(now, answer, fastrand::f64());
            match problem {
                None => feed.found(holding.found(), holding.wakes()),
                Some(problem) if is_denied => feed.denied(&problem, holding.wakes()),
                Some(problem) => feed.failed(&problem, holding.wakes()),
            }
            if beyond > 0 && !std::mem::replace(&mut beyond_told, true) {
                let most = holding::MOST;
                feed.remark(&format!(
                    "it stands for more than {most} addresses: those beyond are left out"
                ));
            }
        }
        holding.settle(clock::now());
        feed.left(holding.found(), holding.next());
        let Some(wakes) = holding.wakes() else {
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep_until(wakes.into()) => (),
            Ok(()) = servers.changed() => holding.ask_now(),
        }
    }
}
