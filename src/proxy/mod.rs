//! The life of one request. Start with [`handle`].

mod again;
pub mod answer;
pub mod attempt;
pub mod body;
pub mod client;
pub mod fields;
mod finish;
pub mod framing;
pub mod grpc;
pub mod handle;
mod head;
pub mod headers;
pub mod limits;
mod max_forwards;
pub mod message;
pub mod pass;
pub mod refuse;
pub mod retry_after;
pub mod site;
mod timer;
pub mod told;
pub mod tries;
pub mod tunnel;
mod unavailable;
pub mod upgrade;
pub mod via;

/// The words that the server shares with the requests that it hands over.
pub use crate::plan::{Protocol, Role, SocketAddress, Unmatched};
pub use crate::policy::outcome::Reason;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock;
use crate::live::request_body::ReplayMemory;
use crate::live::roster::Move;
use crate::live::snapshot::Snapshot;
use crate::live::upstream::Upstream;
use crate::live::wire::Dialer;
use crate::plan::Plan;
use crate::policy::breaker::State;
use crate::telemetry::Telemetry;
use crate::telemetry::events::Kind;
use crate::tls::Vault;

/// Bytes of request bodies that are kept for another try, whole process. Above it bodies are streamed
/// and not tried again.
const REPLAY_MEMORY: usize = 64 * 1024 * 1024;

/// What all requests of the process share.
#[derive(Debug)]
pub struct Proxy {
    site: ArcSwap<site::Site>,
    /// Generations that requests may still run under.
    retired: Mutex<Vec<Arc<site::Site>>>,
    /// What is told of requests.
    pub telemetry: Arc<Telemetry>,
    dialer: Dialer,
    vault: Arc<Vault>,
    memory: Arc<ReplayMemory>,
    refusing: AtomicBool,
    passing: pass::Passing,
}

impl Proxy {
    /// Runs the first generation.
    pub fn new(plan: Plan, telemetry: Arc<Telemetry>, dialer: Dialer) -> Arc<Self> {
        Self::with_vault(plan, telemetry, dialer, Arc::default())
    }

    /// Runs the first generation with what was read for TLS.
    pub fn with_vault(
        plan: Plan,
        telemetry: Arc<Telemetry>,
        dialer: Dialer,
        vault: Arc<Vault>,
    ) -> Arc<Self> {
        telemetry.explain().configure(plan.explain.as_ref());
        let site = site::Site::first(plan, &telemetry, Arc::clone(&vault), clock::now());
        Arc::new(Self {
            site: ArcSwap::from_pointee(site),
            retired: Mutex::default(),
            telemetry,
            dialer,
            vault,
            memory: Arc::new(ReplayMemory::new(REPLAY_MEMORY)),
            refusing: AtomicBool::new(false),
            passing: pass::Passing::default(),
        })
    }

    /// The generation that new requests run under.
    pub fn site(&self) -> Arc<site::Site> {
        self.site.load_full()
    }

    /// New requests run under this plan from now on; those under way finish under theirs (rule 82).
    pub fn reload(&self, plan: Plan) -> u64 {
        self.reload_with(plan, |_| ())
    }

    /// The same; what has to be done before the first request runs under the new generation is done to it.
    pub fn reload_with(&self, plan: Plan, finish: impl FnOnce(&Snapshot)) -> u64 {
        self.telemetry.explain().configure(plan.explain.as_ref());
        let next = self.site.load().next(plan, &self.telemetry, clock::now());
        finish(&next.snapshot);
        let generation = next.snapshot.generation;
        let next = Arc::new(next);
        let old = self.site.swap(Arc::clone(&next));
        // What is gone closes its connections with its last request, which is not waited for here.
        let stays = |upstream: &Arc<Upstream>| next.snapshot.upstream(upstream.name()).is_some();
        if old.snapshot.upstreams().all(stays) {
            self.retired.lock().push(old);
        }
        generation
    }

    /// Forgets the generations that no request runs under any more. They are kept until then, since the
    /// last request of one would else take down ten thousand routes on its worker.
    pub fn forget_retired(&self) {
        let mut retired = self.retired.lock();
        let gone = retired.extract_if(.., |site| Arc::strong_count(site) == 1);
        let gone: Vec<_> = gone.collect();
        drop(retired);
        drop(gone);
    }

    /// Whether there are generations that could be forgotten.
    pub fn has_retired(&self) -> bool {
        !self.retired.lock().is_empty()
    }

    /// From now on new requests are refused with `draining`.
    pub fn refuse_new_requests(&self) {
        self.refusing.store(true, Ordering::Relaxed);
    }

    /// Whether new requests are refused.
    pub fn refuses_new_requests(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// How connections to endpoints are made.
    pub const fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// What was read for TLS.
    pub const fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The memory for bodies that are kept for another try.
    pub fn memory(&self) -> &ReplayMemory {
        &self.memory
    }

    /// Tells of a breaker that moved: metric, log, page.
    pub fn moved_one(&self, upstream: &Arc<str>, moved: &Move) {
        let to = moved.transition.to;
        self.telemetry
            .metrics()
            .upstream(upstream)
            .breaker_changed(to);
        let sentence = message::breaker_moved(moved);
        let endpoint = &*moved.endpoint;
        match to {
            State::Open => tracing::warn!(%upstream, endpoint, "{sentence}"),
            State::Closed | State::HalfOpen => tracing::info!(%upstream, endpoint, "{sentence}"),
        }
        self.telemetry.events().note_endpoint(
            clock::date(),
            Kind::Breaker,
            upstream,
            endpoint,
            sentence,
        );
    }
}
