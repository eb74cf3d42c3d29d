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

    /// Asks the sources of a generation that is about to run, while the one before serves; what this one's
    /// upstreams are to stand for is told them already. To be called within the runtime of the control
    /// thread, and [`follow`](Self::follow) after it.
    pub fn prepare(&self, next: &Plan, serving: &Snapshot) {
        let mut running = self.running.lock();
        let other_cluster = self.use_settings(next);
        running.retain(|source, _| !(other_cluster && is_of_cluster(source)));
        for (source, audience) in audiences(next, serving) {
            match running.get(&source) {
                Some(known) => known.feed.serve_also(audience),
                None => self.begin(&mut running, source, audience),
            }
        }
    }

    /// Follows the sources of this generation from now on: those that are new are asked at once, those
    /// that are gone no more. To be called within the runtime of the control thread, for each generation.
    pub fn follow(&self, snapshot: &Snapshot) {
        let mut wanted = audiences(&snapshot.plan, snapshot);
        let mut running = self.running.lock();
        let other_cluster = self.use_settings(&snapshot.plan);
        running.retain(|source, _| {
            wanted.contains_key(source) && !(other_cluster && is_of_cluster(source))
        });
        for (source, running) in running.iter() {
            running
                .feed
                .serve(wanted.remove(source).unwrap_or_default());
        }
        for (source, audience) in wanted {
            self.begin(&mut running, source, audience);
        }
    }

    fn begin(
        &self,
        running: &mut HashMap<Address, Running>,
        source: Address,
        audience: Vec<Audience>,
    ) {
        let feed = Feed::new(source.clone(), audience, &self.telemetry);
        let task = self.start(&feed);
        running.insert(source, Running { feed, task });
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

    /// Asks as this plan says from now on; whether it is another cluster than before.
    fn use_settings(&self, plan: &Plan) -> bool {
        self.dns.use_servers(&plan.runtime.dns_servers);
        let cluster = &plan.runtime.kubernetes;
        let mut watches = self.watches.lock();
        let other = watches.cluster() != cluster;
        if other {
            *watches = kubernetes::Watches::new(cluster);
        }
        other
    }

    /// Waits until every source has been asked once, but no longer than this (rule 86). Gives those that
    /// have not answered by then, and tells of them: nobody waits for them any longer.
    pub async fn first_answers(&self, within: Duration) -> Vec<String> {
        let feeds: Vec<Arc<Feed>> = {
            let running = self.running.lock();
            running.values().map(|one| Arc::clone(&one.feed)).collect()
        };
        let all = async {
            for feed in &feeds {
                feed.asked().await;
            }
        };
        let late = tokio::time::timeout(within, all).await.is_err();
        let late = feeds.iter().filter(|feed| late && !feed.was_asked());
        let mut late: Vec<String> = late.map(|feed| feed.is_late(within)).collect();
        late.sort();
        late
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

const fn is_of_cluster(source: &Address) -> bool {
    matches!(source, Address::Kubernetes { .. })
}

/// The sources of a plan, each with the upstreams that name it, as far as they are those of the snapshot.
fn audiences(plan: &Plan, snapshot: &Snapshot) -> HashMap<Address, Vec<Audience>> {
    let leading_back = leading_back(plan);
    let mut wanted: HashMap<Address, Vec<Audience>> = HashMap::new();
    for upstream in &plan.upstreams {
        let name = &upstream.name;
        for source in upstream.sources() {
            let listeners = leading_back.get(name).cloned();
            wanted.entry(source).or_default().push(Audience {
                name: Arc::clone(name),
                upstream: snapshot.upstream(name).cloned(),
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
