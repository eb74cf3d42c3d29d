//! The memory of one upstream. It is found again by name at every reload, so that breakers, budget,
//! seats and connections outlive the settings they run under (rule 81).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::connection::Connection;
use super::http2::{self, Asking, Queued};
use super::roster::{Endpoint, Move, Place, Roster};
use super::seats::Seats;
use super::slots::{Slot, Slots};
pub use super::sources::Found;
use super::sources::Sources;
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
    /// What the sources of its endpoints have said last.
    sources: Mutex<Sources>,
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
            sources: Mutex::default(),
        };
        upstream.configure(settings);
        Arc::new(upstream)
    }

    /// Runs under these settings from now on; memory stays.
    pub fn configure(&self, settings: &Arc<plan::Upstream>) {
        self.settings.store(Arc::clone(settings));
        self.roster.check_by(settings.health_check.as_ref());
        self.sources.lock().retain(&settings.endpoints);
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
        self.with_budget(|budget| budget.reading(settings, now))
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

    /// A source stands for these addresses now; whether that changed anything. Endpoints that stay keep
    /// what was learnt of them, those that are gone finish what they have (rules 68, 81).
    pub fn found(&self, source: &Address, found: Vec<Found>) -> bool {
        let changed = self.sources.lock().found(source, found);
        if changed {
            self.refresh();
        }
        changed
    }

    /// It could not be found out what a source stands for: the last good set stays (rule 68). Whether
    /// this is news.
    pub fn not_found(&self, source: &Address, problem: &str) -> bool {
        self.sources.lock().not_found(source, problem)
    }

    /// A source says that it stands for nothing, and why. The last good set stays until it is taken away
    /// by [`found`](Self::found); what was there before the source was named goes.
    pub fn nothing(&self, source: &Address, why: &str) {
        let is_first = self.sources.lock().nothing(source, why);
        if is_first {
            self.refresh();
        }
    }

    /// Why one of its sources stands for nothing, in words: `payments:80: there is no such name`.
    pub fn problem(&self) -> Option<String> {
        self.sources.lock().problem()
    }

    fn refresh(&self) {
        // Under the lock, so that of two at a time the later one has the later settings.
        let sources = self.sources.lock();
        let settings = self.settings.load();
        let client = self.vault.client(&settings);
        let mut places: Vec<Place> = Vec::new();
        let mut known: HashMap<SocketAddress, usize> = HashMap::new();
        let mut add = |address: SocketAddress, weight: u32, secured: Option<Secured>| {
            let index = *known.entry(address.clone()).or_insert(places.len());
            let place = Place {
                address,
                weight,
                secured,
            };
            match places.get_mut(index) {
                None => places.push(place),
                // One source only keeps it; another one names it.
                Some(kept) if kept.weight == 0 => *kept = place,
                Some(_) => {}
            }
        };
        for endpoint in &settings.endpoints {
            let secured = |named: &Address| {
                let secured = || Secured::new(client.clone(), named);
                endpoint.tls.then(secured)
            };
            match &endpoint.address {
                at @ Address::Ip(address) => add((*address).into(), endpoint.weight, secured(at)),
                at @ Address::Unix(path) => {
                    let address = SocketAddress::Unix(Arc::clone(path));
                    add(address, endpoint.weight, secured(at));
                }
                source @ (Address::Name { .. }
                | Address::Srv { .. }
                | Address::Kubernetes { .. }) => {
                    for found in sources.said(source) {
                        let named = found.host.as_ref().map(|host| Address::Name {
                            host: Arc::clone(host),
                            port: found.address.port(),
                        });
                        let weight = endpoint.weight.saturating_mul(found.weight);
                        let secured = secured(named.as_ref().unwrap_or(source));
                        add(found.address.into(), weight, secured);
                    }
                }
            }
        }
        // A reload may have put a source in the place of what was there: until it has answered, requests
        // are served by that rather than by nobody.
        if places.is_empty() && !sources.have_answered(&settings.endpoints) {
            return;
        }
        self.roster.set(&places);
    }
}

#[cfg(test)]
mod tests;
