//! The memory of one upstream. It is found again by name at every reload, so that breakers, budget,
//! seats and connections outlive the settings they run under (rule 81).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::connection::Connection;
use super::http2::{self, Asking, Queued};
use super::roster::{Endpoint, Move, Place, Roster};
use super::seats::Seats;
use super::slots::{Slot, Slots};
use super::tls::Secured;
use super::wire::Dialer;
use crate::plan::{self, Address, Protocol, SocketAddress};
use crate::policy::budget::{self, Budget};
use crate::policy::rate_limit::{self, Bucket};
use crate::tls::Vault;

/// One upstream's memory.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    settings: ArcSwap<plan::Upstream>,
    roster: Arc<Roster>,
    seats: Arc<Seats>,
    slots: Arc<Slots>,
    budget: Mutex<Budget>,
    bucket: Mutex<Option<Bucket>>,
    /// What was read for TLS.
    vault: Arc<Vault>,
    /// What names resolved to last; the good set is kept when they do not (rule 68).
    resolved: Mutex<Vec<Resolved>>,
}

/// What a name resolved to last.
#[derive(Debug)]
struct Resolved {
    name: Address,
    addresses: Vec<SocketAddr>,
    /// The last attempt failed.
    failing: bool,
}

/// Why a request got no connection from the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Connections that may be open.
    pub limit: usize,
}

/// A connection of the pool, or the right to open one.
#[derive(Debug)]
pub enum Lease {
    /// Idle until now.
    Pooled(Connection),
    /// To be opened in this slot.
    New(Slot),
    /// To be waited for.
    Queued(Box<Queued>),
}

impl Upstream {
    /// An upstream without memory; pools get a shard for each of so many workers.
    pub fn new(settings: &Arc<plan::Upstream>, workers: usize) -> Arc<Self> {
        Self::with_vault(settings, workers, Arc::default())
    }

    /// The same with what was read for TLS.
    pub fn with_vault(
        settings: &Arc<plan::Upstream>,
        workers: usize,
        vault: Arc<Vault>,
    ) -> Arc<Self> {
        let upstream = Self {
            name: Arc::clone(&settings.name),
            settings: ArcSwap::new(Arc::clone(settings)),
            roster: Roster::new(workers),
            seats: Arc::default(),
            slots: Arc::default(),
            budget: Mutex::new(Budget::new()),
            bucket: Mutex::new(None),
            vault,
            resolved: Mutex::default(),
        };
        upstream.configure(settings);
        Arc::new(upstream)
    }

    /// Runs under these settings from now on; memory stays.
    pub fn configure(&self, settings: &Arc<plan::Upstream>) {
        self.settings.store(Arc::clone(settings));
        self.resolved.lock().retain(|known| {
            settings
                .endpoints
                .iter()
                .any(|endpoint| endpoint.address == known.name)
        });
        self.refresh();
    }

    /// Other certificates may be in use now: new connections are made with them, and those that were
    /// made with others serve no new requests.
    pub fn renew(&self) {
        self.refresh();
    }

    /// Its key in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it runs under now. A request goes by its own snapshot instead.
    pub fn settings(&self) -> Arc<plan::Upstream> {
        self.settings.load_full()
    }

    /// Its endpoints.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// Its seats.
    pub fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }

    /// Its connections.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Decides with the retry budget.
    pub fn with_budget<T>(&self, decide: impl FnOnce(&mut Budget) -> T) -> T {
        decide(&mut self.budget.lock())
    }

    /// Tokens of the retry budget and what its window allows in all.
    pub fn budget_tokens(&self, settings: &budget::Settings, now: Instant) -> (f64, f64) {
        self.with_budget(|budget| (budget.tokens(settings, now), budget.limit(settings, now)))
    }

    /// Takes a token of the upstream's rate limit.
    ///
    /// # Errors
    /// How long until the next token.
    pub fn take_token(
        &self,
        settings: &rate_limit::Settings,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut bucket = self.bucket.lock();
        bucket
            .get_or_insert_with(|| Bucket::new(settings, now))
            .take(settings, now)
    }

    /// Tokens of the upstream's rate limit now.
    pub fn rate_tokens(&self, settings: &rate_limit::Settings, now: Instant) -> f64 {
        let mut bucket = self.bucket.lock();
        bucket
            .get_or_insert_with(|| Bucket::new(settings, now))
            .tokens(settings, now)
    }

    /// A connection to the endpoint: the newest idle one of this worker, else a new one within the
    /// limit, else an idle one of any worker, else the place of one that is idle at another endpoint.
    /// Of HTTP/2: a stream on one of this worker's, or a place in the line; but not for a request that
    /// needs the connection `alone`, as far as there is a choice.
    ///
    /// # Errors
    /// Every connection that may be open is in use.
    pub fn lease(
        &self,
        endpoint: &Arc<Endpoint>,
        settings: &plan::Upstream,
        dialer: &Dialer,
        worker: usize,
        alone: bool,
        now: Instant,
    ) -> Result<Lease, Full> {
        let may_be_http2 = match settings.protocol {
            Protocol::Http2 => true,
            Protocol::Http1 => false,
            // Under TLS both ends agree on it; in plaintext it would have to be known.
            Protocol::Auto => endpoint.secured.is_some() && !alone,
        };
        let idle_timeout = settings.pool.idle_timeout;
        if let Some(connection) = endpoint.pool.take(worker, idle_timeout, now) {
            return Ok(Lease::Pooled(Connection::Http1(connection)));
        }
        if may_be_http2 {
            return Ok(self.lease_stream(endpoint, settings, dialer, worker));
        }
        if let Some(slot) = self.slots.take(settings.max_connections) {
            return Ok(Lease::New(slot));
        }
        if let Some(connection) = endpoint.pool.take_any(worker, idle_timeout, now) {
            return Ok(Lease::Pooled(Connection::Http1(connection)));
        }
        let limit = settings.max_connections.unwrap_or(usize::MAX);
        loop {
            // Looking for one that lives has closed those that were dead or had expired.
            if let Some(slot) = self.slots.take(Some(limit)) {
                return Ok(Lease::New(slot));
            }
            if !self.roster.close_one_idle(endpoint, worker, now) {
                let slot = self.slots.take(Some(limit));
                return slot.map(Lease::New).ok_or(Full { limit });
            }
        }
    }

    fn lease_stream(
        &self,
        endpoint: &Arc<Endpoint>,
        settings: &plan::Upstream,
        dialer: &Dialer,
        worker: usize,
    ) -> Lease {
        let asking = Asking {
            endpoint,
            settings,
            worker,
            slots: &self.slots,
            roster: &self.roster,
            dialer,
        };
        match http2::ask(&asking) {
            Ok(turn) => Lease::Pooled(Connection::Http2(Box::new(turn))),
            Err(queued) => Lease::Queued(queued),
        }
    }

    /// The right to open one more connection, for what no idle one can be. Where the limit is reached, an
    /// idle one is closed for it.
    ///
    /// # Errors
    /// Every connection that may be open is in use.
    pub fn lease_slot(
        &self,
        endpoint: &Endpoint,
        settings: &plan::Upstream,
        worker: usize,
        now: Instant,
    ) -> Result<Slot, Full> {
        let limit = settings.max_connections.unwrap_or(usize::MAX);
        loop {
            if let Some(slot) = self.slots.take(Some(limit)) {
                return Ok(slot);
            }
            let own = endpoint.pool.take_any(worker, Duration::MAX, now);
            if own.is_none() && !self.roster.close_one_idle(endpoint, worker, now) {
                return self.slots.take(Some(limit)).ok_or(Full { limit });
            }
        }
    }

    /// Keeps a connection for the next request, unless it has served all it may.
    pub fn keep(
        &self,
        endpoint: &Endpoint,
        connection: Connection,
        settings: &plan::Pool,
        worker: usize,
        now: Instant,
    ) {
        let connection = match connection {
            Connection::Http1(connection) => connection,
            // It takes no more, or knows by itself when it is idle.
            Connection::Apart(_) | Connection::Http2(_) => return,
        };
        let ends = connection.ends(settings);
        let old = ends.is_some_and(|end| now >= end);
        let spent = settings
            .max_requests_per_connection
            .is_some_and(|limit| connection.requests() >= limit);
        if !spent && !old && connection.is_reusable() {
            endpoint
                .pool
                .put(worker, connection, settings.max_idle, ends, now);
        }
    }

    /// Closes idle connections that have had their time.
    pub fn sweep(&self, now: Instant) {
        self.roster.sweep(&self.settings.load().pool, now);
    }

    /// An answer's body broke off: the endpoint's breaker learns of it.
    pub fn body_broke_off(
        &self,
        endpoint: &Endpoint,
        settings: &crate::policy::breaker::Settings,
        now: Instant,
        chance: f64,
    ) -> Option<Move> {
        self.roster
            .late_failure(endpoint.key, settings, now, chance)
    }

    /// The names among its endpoints, which have to be resolved.
    pub fn names(&self) -> Vec<Address> {
        let settings = self.settings.load();
        let addresses = settings.endpoints.iter().map(|endpoint| &endpoint.address);
        addresses
            .filter(|address| matches!(address, Address::Name { .. }))
            .cloned()
            .collect()
    }

    /// A name resolved to these addresses; whether that changed anything.
    pub fn resolved(&self, name: &Address, mut addresses: Vec<SocketAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        {
            let mut resolved = self.resolved.lock();
            let known = known(&mut resolved, name);
            let recovered = std::mem::replace(&mut known.failing, false);
            if known.addresses == addresses {
                return recovered;
            }
            known.addresses = addresses;
        }
        self.refresh();
        true
    }

    /// A name did not resolve: its addresses stay. Whether this is news.
    pub fn unresolved(&self, name: &Address) -> bool {
        let mut resolved = self.resolved.lock();
        !std::mem::replace(&mut known(&mut resolved, name).failing, true)
    }

    fn refresh(&self) {
        let settings = self.settings.load();
        let client = self.vault.client(&settings);
        let resolved = self.resolved.lock();
        let mut places: Vec<Place> = Vec::new();
        for endpoint in &settings.endpoints {
            let found: Vec<SocketAddress> = match &endpoint.address {
                Address::Ip(address) => vec![SocketAddress::Ip(*address)],
                Address::Unix(path) => vec![SocketAddress::Unix(Arc::clone(path))],
                name @ Address::Name { .. } => resolved
                    .iter()
                    .filter(|known| known.name == *name)
                    .flat_map(|known| known.addresses.iter().copied().map(SocketAddress::Ip))
                    .collect(),
            };
            let secured = || Secured::new(client.clone(), &endpoint.address);
            for address in found {
                if !places.iter().any(|known| known.address == address) {
                    places.push(Place {
                        address,
                        weight: endpoint.weight,
                        secured: endpoint.tls.then(secured),
                    });
                }
            }
        }
        self.roster.set(&places);
    }
}

fn known<'a>(resolved: &'a mut Vec<Resolved>, name: &Address) -> &'a mut Resolved {
    let index = resolved
        .iter()
        .position(|known| known.name == *name)
        .unwrap_or_else(|| {
            resolved.push(Resolved {
                name: name.clone(),
                addresses: Vec::new(),
                failing: false,
            });
            resolved.len() - 1
        });
    &mut resolved[index]
}

#[cfg(test)]
mod tests;
