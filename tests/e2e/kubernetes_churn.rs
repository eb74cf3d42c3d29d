//! A thousand changes of a service's endpoints under load: pods come, end and go as they do in a cluster,
//! over watches that break off and versions that expire, and no request fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::support::cluster::slice_of;
use crate::support::{Client, Cluster, Pod, Proxy, Upstream, eventually};

/// Pods that come and go beside each other.
const SLOTS: usize = 40;
/// Changes in all.
const CHANGES: usize = 1_000;
/// How long a pod that is about to end still serves; in a cluster, seconds.
const STILL_SERVES: Duration = Duration::from_secs(1);
/// Changes between two faults of the API.
const FAULTS_EVERY: usize = 150;

/// Counts changes, and does something to the API now and then.
struct Churn<'a> {
    cluster: Cluster,
    proxy: &'a Proxy,
    changes: AtomicUsize,
}

impl Churn<'_> {
    fn change(&self, change: impl FnOnce(&Cluster)) {
        change(&self.cluster);
        let count = self.changes.fetch_add(1, SeqCst) + 1;
        if count.is_multiple_of(FAULTS_EVERY) {
            match count / FAULTS_EVERY % 3 {
                0 => self.cluster.compact(),
                1 => self.cluster.bookmark(),
                _ => (),
            }
            self.cluster.cut_watches();
        }
    }

    fn is_over(&self) -> bool {
        self.changes.load(SeqCst) >= CHANGES
    }

    /// The pod ends, on a busy machine not before the proxy has let go of it.
    fn end(&self, server: Upstream) {
        thread::sleep(STILL_SERVES);
        let address = server.address().to_string();
        let mut looks = 0..100;
        while looks.next().is_some() {
            let endpoints = self.proxy.upstream("u").endpoints;
            let mut used = endpoints.iter().filter(|one| one.address == address);
            if used.all(|one| one.draining && one.in_flight == 0) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// One pod after the other, each in a slice of its own, until there were enough changes.
    fn pods(&self, slot: usize, rng: &mut fastrand::Rng) {
        let mut number = 0;
        while !self.is_over() {
            number += 1;
            let server = Upstream::always(200);
            let (address, name) = (server.address(), format!("slot-{slot}-{number}"));
            self.change(|api| api.set(&name, slice_of(address, Pod::NotReady)));
            self.change(|api| api.set(&name, slice_of(address, Pod::Ready)));
            thread::sleep(Duration::from_millis(rng.u64(50..300)));
            if rng.bool() {
                // Slices are rearranged: for a while the pod is in two of them.
                let other = format!("{name}-moved");
                self.change(|api| api.set(&other, slice_of(address, Pod::Ready)));
                self.change(|api| api.delete(&name));
                thread::sleep(Duration::from_millis(rng.u64(0..50)));
                self.change(|api| api.set(&other, slice_of(address, Pod::Terminating)));
                self.end(server);
                self.change(|api| api.delete(&other));
            } else {
                self.change(|api| api.set(&name, slice_of(address, Pod::Terminating)));
                self.end(server);
                self.change(|api| api.delete(&name));
            }
        }
    }
}

#[test]
fn rule_68_a_thousand_changes_fail_no_request() {
    let cluster = Cluster::start();
    // One that stays, so that there is always one that could have served.
    let steady = Upstream::always(200);
    cluster.set("steady", slice_of(steady.address(), Pod::Ready));
    let yaml = format!(
        "{}listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [{{ kubernetes: {{ service: payments, namespace: shop, port: http }} }}] }} }}\n",
        cluster.runtime("")
    );
    let proxy = Proxy::start(&yaml);
    let churn = Churn {
        cluster,
        proxy: &proxy,
        changes: AtomicUsize::new(0),
    };
    let (done, to) = (Arc::new(AtomicBool::new(false)), proxy.listener("outbound"));
    let (tell, told) = channel();
    let served = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (done, tell) = (Arc::clone(&done), tell.clone());
                scope.spawn(move || {
                    let mut client = Client::connect(to);
                    let mut served = 0_usize;
                    while !done.load(SeqCst) {
                        let answer = client.get("/");
                        if answer.status == 200 {
                            served += 1;
                        } else {
                            let _ = tell.send(answer.text());
                        }
                    }
                    served
                })
            })
            .collect();
        thread::scope(|scope| {
            for slot in 0..SLOTS {
                let churn = &churn;
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(slot as u64);
                    thread::sleep(Duration::from_millis(rng.u64(0..1_000)));
                    churn.pods(slot, &mut rng);
                });
            }
        });
        done.store(true, SeqCst);
        let served = clients.into_iter().map(|client| client.join().unwrap());
        served.sum::<usize>()
    });
    drop(tell);
    let failed: Vec<String> = told.iter().collect();
    let changes = churn.changes.load(SeqCst);
    assert!(
        changes >= CHANGES && served > 500,
        "{changes} changes, {served} served"
    );
    assert!(
        failed.is_empty(),
        "{} of {served} failed: {:?}",
        failed.len(),
        &failed[..failed.len().min(3)]
    );
    // What stays at the end is what the API says at the end, and no other endpoint is kept for ever.
    eventually("only one is left", || {
        let endpoints = proxy.upstream("u").endpoints;
        endpoints.len() == 1 && endpoints[0].address == steady.address().to_string()
    });
    assert!(churn.cluster.count("list") >= 2, "a version had expired");
}
