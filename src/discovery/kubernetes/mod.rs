//! Services of Kubernetes: their endpoints are what the API says of them in their EndpointSlices
//! (discovery.k8s.io/v1), by list and watch. No service's own address is used: a request goes to a pod.
//!
//! The API is the authority: where it says that there is no endpoint, there is none. Where it does not
//! answer, what it said last stays (rule 68).

mod access;
mod lines;
mod objects;
mod pace;
mod refusal;
mod serving;
mod watch;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch::{Receiver, Sender};

use super::feed::Feed;
use crate::live::wire::Dialer;
use crate::plan::Address;
use crate::plan::cluster::Cluster;
use access::Access;
use pace::Pace;
use serving::{Remark, Wanted, serving};
use watch::{Seen, Service, Watch};

/// The watches of one cluster: one for each service, whoever looks at it.
#[derive(Debug)]
pub(super) struct Watches {
    cluster: Cluster,
    /// What is drawn of services that are too large, see [`serving`].
    seed: u64,
    running: Mutex<HashMap<Service, Weak<Sender<Seen>>>>,
}

impl Watches {
    /// Watches nothing yet.
    pub(super) fn new(cluster: &Cluster) -> Arc<Self> {
        Arc::new(Self {
            cluster: cluster.clone(),
            seed: fastrand::u64(..),
            running: Mutex::default(),
        })
    }

    /// The cluster whose services these are.
    pub(super) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What is known of a service, from now on. It is watched for as long as somebody has such a thing.
    ///
    /// # Errors
    /// A sentence: it is not known where the API is.
    fn look_at(&self, service: Service) -> Result<Receiver<Seen>, String> {
        let mut running = self.running.lock();
        running.retain(|_, seen| seen.upgrade().is_some_and(|seen| !seen.is_closed()));
        if let Some(seen) = running.get(&service).and_then(Weak::upgrade) {
            let mut look = seen.subscribe();
            // Whoever comes later is told at once what is known already.
            look.mark_changed();
            return Ok(look);
        }
        let environment = |name: &str| std::env::var(name).ok();
        let folder = Path::new(access::SERVICE_ACCOUNT);
        let access = Access::of(&self.cluster, folder, &environment, Dialer::System)?;
        let (seen, look) = tokio::sync::watch::channel(Seen::default());
        let seen = Arc::new(seen);
        running.insert(service.clone(), Arc::downgrade(&seen));
        let watch = Watch {
            service,
            access,
            pace: Pace::default(),
            seen,
        };
        tokio::spawn(watch.run());
        Ok(look)
    }
}

/// After so long, a watch is begun anew that has ended although somebody looked.
const BEGIN_ANEW: Duration = Duration::from_secs(1);

/// Tells a feed what its service stands for, for as long as it is polled.
pub(super) async fn follow(feed: Arc<Feed>, watches: Arc<Watches>) {
    let Address::Kubernetes {
        namespace,
        service,
        port,
    } = feed.source()
    else {
        return;
    };
    let service = Service {
        namespace: Arc::clone(namespace),
        name: Arc::clone(service),
    };
    let wanted = Wanted {
        port,
        zone: watches.cluster.zone.as_deref(),
        seed: watches.seed,
    };
    let mut remarks = Vec::new();
    loop {
        let mut look = match watches.look_at(service.clone()) {
            Ok(look) => look,
            // What it lacks does not change while the process runs.
            Err(problem) => return feed.failed(&problem, None),
        };
        while look.changed().await.is_ok() {
            let seen = look.borrow_and_update().clone();
            tell(&feed, &seen, wanted, &mut remarks);
        }
        // A mistake of ours has ended the watch; nobody else would.
        tracing::error!(%service, "the watch of a Kubernetes service has ended; it is begun anew");
        tokio::time::sleep(BEGIN_ANEW).await;
    }
}

/// Tells what is seen. A remark is made once, until it no longer holds.
fn tell(feed: &Feed, seen: &Seen, wanted: Wanted<'_>, remarks: &mut Vec<Remark>) {
    if let Some(failure) = &seen.problem {
        return feed.failed(&failure.text, Some(failure.again));
    }
    let Some(slices) = &seen.slices else { return };
    let choice = serving(slices, wanted);
    tracing::debug!(
        source = %feed.source(),
        endpoints = choice.found.len(),
        of_our_zone = choice.local,
        "EndpointSlices read"
    );
    let is_told = |new: &Remark| remarks.iter().any(|one| one.about == new.about);
    for remark in choice.remarks.iter().filter(|one| !is_told(one)) {
        feed.remark(&remark.text);
    }
    *remarks = choice.remarks;
    let is_nothing = choice.found.is_empty();
    feed.found(choice.found, None);
    if is_nothing {
        let why = remarks.first().map(|remark| &*remark.text);
        feed.nothing(why.unwrap_or("it has no endpoint"));
    }
}

#[cfg(test)]
mod tests;
