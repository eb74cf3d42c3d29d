//! One generation of the configuration as it runs: the plan, and the memory of its upstreams taken over
//! from the generation before by name. Immutable; a request keeps the one that it began with (rule 82).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::seats::RouteName;
use super::upstream::Upstream;
use crate::plan::{self, Plan};
use crate::policy::bulkhead;
use crate::policy::rate_limit::Bucket;
use crate::tls::Vault;

/// A token bucket that requests share.
pub type SharedBucket = Arc<Mutex<Bucket>>;

/// One generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up from 1.
    pub generation: u64,
    /// What it runs.
    pub plan: Arc<Plan>,
    upstreams: HashMap<Arc<str>, Arc<Upstream>>,
    /// Buckets of routes that have a rate limit of their own, by listener and route.
    buckets: HashMap<(Arc<str>, Arc<str>), SharedBucket>,
    /// What was read for TLS.
    vault: Arc<Vault>,
}

impl Snapshot {
    /// The first generation.
    pub fn first(plan: Arc<Plan>, vault: Arc<Vault>, now: Instant) -> Self {
        Self::build(plan, 1, None, vault, now)
    }

    /// The generation after this one: what has the same name keeps its memory.
    pub fn next(&self, plan: Arc<Plan>, now: Instant) -> Self {
        let vault = Arc::clone(&self.vault);
        Self::build(plan, self.generation + 1, Some(self), vault, now)
    }

    fn build(
        plan: Arc<Plan>,
        generation: u64,
        previous: Option<&Self>,
        vault: Arc<Vault>,
        now: Instant,
    ) -> Self {
        let workers = plan.runtime.workers.get();
        let upstreams = plan.upstreams.iter().map(|settings| {
            let known = previous.and_then(|snapshot| snapshot.upstreams.get(&settings.name));
            let upstream = match known {
                Some(upstream) => {
                    upstream.configure(settings);
                    upstream.seats().configure(|name| bulkhead(&plan, name));
                    Arc::clone(upstream)
                }
                None => Upstream::with_vault(settings, workers, Arc::clone(&vault)),
            };
            (Arc::clone(&settings.name), upstream)
        });
        let upstreams = upstreams.collect();
        let mut buckets = HashMap::new();
        for (listener, route) in plan.listeners.iter().flat_map(own_buckets) {
            let Some(settings) = &route.policies.rate_limit else {
                continue;
            };
            let key = (listener, Arc::clone(&route.name));
            let known = previous.and_then(|snapshot| snapshot.buckets.get(&key));
            let bucket = known.map_or_else(
                || Arc::new(Mutex::new(Bucket::new(settings, now))),
                Arc::clone,
            );
            buckets.insert(key, bucket);
        }
        Self {
            generation,
            plan,
            upstreams,
            buckets,
            vault,
        }
    }

    /// The memory of an upstream.
    pub fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.get(name)
    }

    /// Every upstream, in no order.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> + Clone {
        self.upstreams.values()
    }

    /// The bucket of a route that has a rate limit of its own.
    pub fn bucket(&self, listener: &Arc<str>, route: &Arc<str>) -> Option<&SharedBucket> {
        self.buckets.get(&(Arc::clone(listener), Arc::clone(route)))
    }
}

/// What holds for the requests of a route that wait for a seat; without a bulkhead none has to.
fn bulkhead(plan: &Plan, name: &RouteName) -> Option<bulkhead::Settings> {
    let listener = plan
        .listeners
        .iter()
        .find(|one| one.name == name.listener)?;
    let route = listener.routes.iter().find(|one| one.name == name.route)?;
    Some(route.policies.bulkhead.unwrap_or(bulkhead::Settings {
        max_in_flight: None,
        ..bulkhead::Settings::default()
    }))
}

fn own_buckets(listener: &plan::Listener) -> impl Iterator<Item = (Arc<str>, &plan::Route)> {
    let own = listener.routes.iter().filter(|route| route.own_rate_limit);
    own.map(|route| (Arc::clone(&listener.name), route))
}

#[cfg(test)]
mod tests;
