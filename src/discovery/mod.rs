//! Where endpoints come from that are not written as addresses: names and records of the DNS, services of
//! Kubernetes. Each source has one task, shared by the upstreams that name it; what it finds is told to
//! them through its [`Feed`]. All of this runs on the control thread: a request never waits for it.

mod dns;
pub mod feed;
pub mod health;
mod kubernetes;
mod paths;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::live::snapshot::Snapshot;
use crate::plan::cluster::Cluster;
use crate::plan::{Address, Plan};
use crate::telemetry::Telemetry;
use feed::{Audience, Feed, Reading};

/// Every source of the running configuration.
#[derive(Debug)]
pub struct Discovery {
    running: Mutex<HashMap<Address, Running>>,
    dns: Arc<dns::Dns>,
    watches: Mutex<Arc<kubernetes::Watches>>,
    telemetry: Arc<Telemetry>,
}

/// A source that is followed; its task ends with this.
#[derive(Debug)]
struct Running {
    feed: Arc<Feed>,
    task: Option<JoinHandle<()>>,
}

impl Discovery {
    /// Follows nothing yet.
    pub fn new(telemetry: &Arc<Telemetry>) -> Arc<Self> {
        Arc::new(Self {
            running: Mutex::default(),
            dns: Arc::default(),
            watches: Mutex::new(kubernetes::Watches::new(&Cluster::default())),
            telemetry: Arc::clone(telemetry),
        })
    }

    /// Follows the sources of this generation from now on: those that are new are asked at once, those
    /// that are gone no more. To be called within the runtime of the control thread, for each generation.
    pub fn follow(&self, snapshot: &Snapshot) {
        self.dns.use_servers(&snapshot.plan.runtime.dns_servers);
        let mut wanted = audiences(snapshot);
        let mut running = self.running.lock();
        let other_cluster = self.use_cluster(&snapshot.plan.runtime.kubernetes);
        running.retain(|source, _| {
            let moved = other_cluster && matches!(source, Address::Kubernetes { .. });
            wanted.contains_key(source) && !moved
        });
        for (source, running) in running.iter() {
            running
                .feed
                .serve(wanted.remove(source).unwrap_or_default());
        }
        for (source, audience) in wanted {
            let feed = Feed::new(source.clone(), audience, &self.telemetry);
            let task = self.start(&feed);
            running.insert(source, Running { feed, task });
        }
    }

    fn start(&self, feed: &Arc<Feed>) -> Option<JoinHandle<()>> {
        match feed.source() {
            Address::Name { .. } | Address::Srv { .. } => {
                let (feed, dns) = (Arc::clone(feed), Arc::clone(&self.dns));
                Some(tokio::spawn(dns::follow(feed, dns)))
            }
            Address::Kubernetes { .. } => {
                let (feed, watches) = (Arc::clone(feed), Arc::clone(&self.watches.lock()));
                Some(tokio::spawn(kubernetes::follow(feed, watches)))
            }
            Address::Ip(_) | Address::Unix(_) => None,
        }
    }

    /// Whether it is another cluster than before.
    fn use_cluster(&self, cluster: &Cluster) -> bool {
        let mut watches = self.watches.lock();
        let other = watches.cluster() != cluster;
        if other {
            *watches = kubernetes::Watches::new(cluster);
        }
        other
    }

    /// Waits until every source has been asked once, but no longer than this (rule 86).
    pub async fn first_answers(&self, within: Duration) {
        let feeds: Vec<Arc<Feed>> = {
            let running = self.running.lock();
            running.values().map(|one| Arc::clone(&one.feed)).collect()
        };
        let all = async {
            for feed in feeds {
                feed.asked().await;
            }
        };
        // Who has not answered by then does so later.
        let _ = tokio::time::timeout(within, all).await;
    }

    /// What each source has said last.
    pub fn readings(&self) -> Vec<Reading> {
        let running = self.running.lock();
        let mut readings: Vec<_> = running.values().map(|one| one.feed.reading()).collect();
        readings.sort_by(|one, other| one.source.cmp(&other.source));
        readings
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The sources of a generation, each with the upstreams that name it.
fn audiences(snapshot: &Snapshot) -> HashMap<Address, Vec<Audience>> {
    let leading_back = leading_back(&snapshot.plan);
    let mut wanted: HashMap<Address, Vec<Audience>> = HashMap::new();
    for upstream in snapshot.upstreams() {
        for source in upstream.sources() {
            let listeners = leading_back.get(upstream.name()).cloned();
            wanted.entry(source).or_default().push(Audience {
                upstream: Arc::clone(upstream),
                listeners: listeners.unwrap_or_default(),
            });
        }
    }
    wanted
}

/// The listeners that send requests to an upstream, by its name: an endpoint that is one of them would send
/// them round in circles.
fn leading_back(plan: &Plan) -> HashMap<Arc<str>, Vec<SocketAddr>> {
    let mut found: HashMap<Arc<str>, Vec<SocketAddr>> = HashMap::new();
    for listener in &plan.listeners {
        let Some(address) = listener.address.ip().filter(|one| one.port() != 0) else {
            continue;
        };
        for route in &listener.routes {
            let listeners = found.entry(Arc::clone(&route.upstream.name)).or_default();
            if listeners.last() != Some(&address) {
                listeners.push(address);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
