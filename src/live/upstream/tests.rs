//! Where a request's connection comes from, what becomes of it, and what names resolve to.

use std::collections::HashMap;
use std::net::SocketAddr;

use parking_lot::Mutex as Lock;
use tokio::io::{DuplexStream, duplex};

use super::super::http1::connection::Http1;
use super::super::wire::{Dialer, Pipe};
use super::*;
use crate::plan::samples;

const LIMIT: Duration = Duration::from_secs(4);

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn ip(number: u8) -> plan::Endpoint {
    plan::Endpoint {
        address: Address::Ip(address(number)),
        tls: false,
        weight: 1,
    }
}

fn name(host: &str) -> Address {
    Address::Name {
        host: host.into(),
        port: 80,
    }
}

fn settings(endpoints: Vec<plan::Endpoint>, connections: Option<usize>) -> Arc<plan::Upstream> {
    let sample = samples::upstream("u", []);
    Arc::new(plan::Upstream {
        endpoints,
        max_connections: connections,
        pool: plan::Pool {
            idle_timeout: LIMIT,
            ..sample.pool.clone()
        },
        ..sample
    })
}

/// An upstream with two workers, and the other ends of its connections.
struct Bench {
    settings: Arc<plan::Upstream>,
    upstream: Arc<Upstream>,
    dialer: Dialer,
    peers: Arc<Lock<Vec<(SocketAddr, DuplexStream)>>>,
}

impl Bench {
    fn new(endpoints: u8, connections: Option<usize>) -> Self {
        let settings = settings((1..=endpoints).map(ip).collect(), connections);
        let peers: Arc<Lock<Vec<(SocketAddr, DuplexStream)>>> = Arc::default();
        let dialled = Arc::clone(&peers);
        let dialer = Dialer::Memory(Arc::new(move |address| {
            let (ours, theirs) = duplex(64);
            dialled.lock().push((address, theirs));
            Box::pin(async move { Ok(Box::new(ours) as Box<dyn Pipe>) })
        }));
        Self {
            upstream: Upstream::new(&settings, 2),
            settings,
            dialer,
            peers,
        }
    }

    fn endpoint(&self, number: u8) -> Arc<Endpoint> {
        let endpoints = self.upstream.roster().endpoints();
        let mut endpoints = endpoints.into_iter();
        let found = endpoints.find(|one| one.address == address(number).into());
        found.expect("that endpoint")
    }

    fn lease(&self, endpoint: u8, worker: usize, now: Instant) -> Result<Lease, Full> {
        let endpoint = self.endpoint(endpoint);
        let dialer = &self.dialer;
        self.upstream
            .lease(&endpoint, &self.settings, dialer, worker, false, now)
    }

    async fn open(&self, endpoint: u8, slot: Slot) -> Connection {
        let endpoint = self.endpoint(endpoint);
        let opened = Http1::open(&self.dialer, &endpoint, slot);
        Connection::Http1(opened.await.expect("a connection"))
    }

    /// A new connection; there has to be room for it.
    async fn new_one(&self, endpoint: u8, worker: usize) -> Connection {
        match self.lease(endpoint, worker, crate::clock::now()) {
            Ok(Lease::New(slot)) => self.open(endpoint, slot).await,
            other @ (Ok(Lease::Pooled(_) | Lease::Queued(_)) | Err(_)) => panic!("{other:?}"),
        }
    }

    fn keep(&self, endpoint: u8, connection: Connection, worker: usize, now: Instant) {
        let pool = &self.settings.pool;
        let endpoint = self.endpoint(endpoint);
        self.upstream.keep(&endpoint, connection, pool, worker, now);
    }

    fn slots(&self) -> (usize, usize) {
        (self.upstream.slots().open(), self.upstream.slots().idle())
    }
}

fn is_pooled(lease: &Result<Lease, Full>) -> bool {
    matches!(lease, Ok(Lease::Pooled(_)))
}

fn is_new(lease: &Result<Lease, Full>) -> bool {
    matches!(lease, Ok(Lease::New(_)))
}

#[tokio::test]
async fn a_connection_comes_from_the_own_shard_or_is_new_or_comes_from_elsewhere() {
    let now = crate::clock::now();
    let bench = Bench::new(2, Some(2));
    let first = bench.new_one(1, 0).await;
    bench.keep(1, first, 0, now);
    // Another worker opens its own while it may, though one lies idle here.
    let second = bench.lease(1, 1, now);
    assert!(is_new(&second));
    // At the limit it takes what there is.
    let third = bench.lease(1, 1, now);
    assert!(is_pooled(&third));
    assert_eq!(bench.slots(), (2, 0));
    assert!(matches!(bench.lease(1, 0, now), Err(Full { limit: 2 })));
    assert!(matches!(bench.lease(2, 0, now), Err(Full { limit: 2 })));
    drop((second, third));
    assert_eq!(bench.slots(), (0, 0));
}

#[tokio::test]
async fn at_the_limit_an_idle_connection_to_another_endpoint_gives_its_place() {
    let now = crate::clock::now();
    let bench = Bench::new(2, Some(1));
    let first = bench.new_one(1, 0).await;
    bench.keep(1, first, 0, now);
    let other = bench.lease(2, 1, now);
    assert!(is_new(&other));
    assert_eq!(bench.slots(), (1, 0));
    assert!(matches!(bench.lease(1, 0, now), Err(Full { limit: 1 })));
}

#[tokio::test]
async fn fault_052_what_is_dead_or_expired_in_another_shard_takes_up_no_place() {
    let now = crate::clock::now();
    for (elsewhere, dead) in [(1, true), (1, false), (2, true), (2, false)] {
        let bench = Bench::new(2, Some(2));
        let two = [
            bench.new_one(elsewhere, 0).await,
            bench.new_one(elsewhere, 0).await,
        ];
        for one in two {
            bench.keep(elsewhere, one, 0, now);
        }
        assert_eq!(bench.slots(), (2, 2));
        let later = if dead { now } else { now + LIMIT };
        if dead {
            bench.peers.lock().clear();
        }
        let lease = bench.lease(1, 1, later);
        assert!(is_new(&lease), "{elsewhere} {dead}: {lease:?}");
        assert!(bench.slots().0 <= 2);
    }
}

#[tokio::test]
async fn a_connection_is_kept_only_while_it_may_be_used_again() {
    let now = crate::clock::now();
    let bench = Bench::new(1, None);
    let one = bench.new_one(1, 0).await;
    let spent = plan::Pool {
        max_requests_per_connection: Some(0),
        ..bench.settings.pool.clone()
    };
    let endpoint = bench.endpoint(1);
    bench.upstream.keep(&endpoint, one, &spent, 0, now);
    assert_eq!(bench.slots(), (0, 0));
    let full = plan::Pool {
        max_idle: 1,
        ..bench.settings.pool.clone()
    };
    for _ in 0..3 {
        let slot = bench.upstream.slots().take(None).expect("no limit");
        let one = bench.open(1, slot).await;
        bench.upstream.keep(&endpoint, one, &full, 0, now);
    }
    assert_eq!(bench.slots(), (1, 1));
    bench.upstream.sweep(now + LIMIT);
    assert_eq!(bench.slots(), (0, 0));
}

fn members(upstream: &Upstream) -> Vec<String> {
    let endpoints = upstream.roster().endpoints();
    endpoints.iter().map(|one| one.label.to_string()).collect()
}

fn found(numbers: &[u8]) -> Vec<Found> {
    numbers.iter().map(|one| address(*one).into()).collect()
}

fn at(address: &Address) -> plan::Endpoint {
    plan::Endpoint {
        address: address.clone(),
        tls: false,
        weight: 3,
    }
}

#[test]
fn rule_68_names_keep_their_last_good_addresses() {
    let (a, b) = (name("a"), name("b"));
    let endpoints = vec![ip(1), at(&a), at(&b), at(&a)];
    let upstream = Upstream::new(&settings(endpoints, None), 1);
    assert_eq!(upstream.settings().sources(), [a.clone(), b.clone()]);
    assert_eq!(members(&upstream), ["10.0.0.1:80"]);
    assert!(upstream.not_found(&a, "x"), "news");
    assert!(!upstream.not_found(&a, "x"), "no news any more");
    assert!(upstream.found(&a, found(&[3, 2, 3])), "news, and no double");
    assert_eq!(members(&upstream).len(), 3);
    assert!(!upstream.found(&a, found(&[2, 3])), "the same again");
    // An address that two names have is one endpoint, until neither has it.
    assert!(upstream.found(&b, found(&[3, 1])));
    assert_eq!(members(&upstream).len(), 3);
    assert!(upstream.not_found(&a, "x"));
    assert_eq!(members(&upstream).len(), 3, "the last good ones stay");
    assert!(!upstream.found(&a, found(&[2, 3])), "it is back, unchanged");
    assert!(upstream.not_found(&a, "x"), "news again");
    assert!(upstream.found(&a, found(&[4])));
    assert_eq!(
        members(&upstream),
        ["10.0.0.1:80", "10.0.0.3:80", "10.0.0.4:80"]
    );
    let weight = || upstream.roster().readings(None, crate::clock::now())[1].weight;
    assert_eq!(weight(), 3);
    let weighed = |weight| Found {
        weight,
        ..address(3).into()
    };
    assert!(upstream.found(&b, vec![weighed(5), weighed(7)]));
    assert_eq!(weight(), 21, "the endpoint's weight times the greater one");
    assert!(upstream.found(&b, found(&[3, 1])));
    // What one name only keeps, and another one names, is used.
    assert!(upstream.found(&a, vec![weighed(0), address(4).into()]));
    assert_eq!(weight(), 3);
    assert!(upstream.found(&a, found(&[4])));
    // A reload that keeps a name keeps what it resolved to; one that drops it forgets it.
    upstream.configure(&settings(vec![at(&a)], None));
    assert_eq!(members(&upstream), ["10.0.0.4:80"]);
    upstream.configure(&settings(vec![at(&a), at(&b)], None));
    assert_eq!(members(&upstream), ["10.0.0.4:80"], "b was forgotten");
}

#[test]
fn what_was_there_serves_until_the_source_in_its_place_has_answered() {
    let (a, b) = (name("a"), name("b"));
    let upstream = Upstream::new(&settings(vec![ip(1)], None), 1);
    let to = |address: &Address| upstream.configure(&settings(vec![at(address)], None));
    to(&a);
    assert_eq!(members(&upstream), ["10.0.0.1:80"]);
    upstream.found(&a, found(&[2]));
    assert_eq!(members(&upstream), ["10.0.0.2:80"]);
    to(&b);
    assert_eq!(members(&upstream), ["10.0.0.2:80"]);
    assert!(upstream.not_found(&b, "SERVFAIL"));
    assert_eq!(members(&upstream), ["10.0.0.2:80"], "it is not known yet");
    assert_eq!(upstream.problem().as_deref(), Some("b:80: SERVFAIL"));
    upstream.nothing(&b, "NXDOMAIN");
    assert_eq!(members(&upstream), [""; 0], "there is nothing at b");
    assert_eq!(upstream.problem().as_deref(), Some("b:80: NXDOMAIN"));
    upstream.configure(&settings(vec![at(&a), ip(3)], None));
    assert_eq!(members(&upstream), ["10.0.0.3:80"], "enough to serve from");
}

#[tokio::test]
async fn walk_no_slot_is_lost_or_given_twice() {
    let mut rng = fastrand::Rng::with_seed(56);
    for round in 0..40 {
        let mut bench = Bench::new(3, Some(rng.usize(1..6)));
        let mut held: Vec<(u8, Connection)> = Vec::new();
        let mut opening: HashMap<usize, Slot> = HashMap::new();
        let mut now = crate::clock::now();
        for step in 0..200 {
            now += Duration::from_millis(rng.u64(..400));
            let (endpoint, worker) = (rng.u8(1..=3), rng.usize(..2));
            let limit = bench.settings.max_connections.unwrap_or(usize::MAX);
            match rng.usize(..12) {
                0..5 => match bench.lease(endpoint, worker, now) {
                    Ok(Lease::Pooled(connection)) => held.push((endpoint, connection)),
                    Ok(Lease::New(slot)) if rng.bool() => {
                        assert!(bench.slots().0 <= limit, "round {round}");
                        let opened = bench.open(endpoint, slot).await;
                        held.push((endpoint, opened));
                    }
                    Ok(Lease::New(slot)) => drop(opening.insert(step, slot)),
                    Ok(Lease::Queued(_)) => panic!("only HTTP/2 waits"),
                    Err(full) => {
                        assert_eq!(full.limit, limit);
                        let busy = held.len() + opening.len();
                        assert!(busy >= limit, "round {round}: {busy} of {limit} are busy");
                    }
                },
                5..8 if !held.is_empty() => {
                    let (endpoint, connection) = held.swap_remove(rng.usize(..held.len()));
                    bench.keep(endpoint, connection, worker, now);
                }
                8 if !held.is_empty() => drop(held.swap_remove(rng.usize(..held.len()))),
                9 => opening.clear(),
                10 => {
                    // Some peers close.
                    let mut peers = bench.peers.lock();
                    peers.retain(|_| rng.bool());
                }
                11 => {
                    let changed = settings((1..=3).map(ip).collect(), Some(rng.usize(1..6)));
                    bench.upstream.configure(&changed);
                    bench.settings = changed;
                }
                _ => bench.upstream.sweep(now),
            }
            let (open, idle) = bench.slots();
            assert_eq!(open, idle + held.len() + opening.len(), "round {round}");
        }
        drop((held, opening));
        bench.upstream.sweep(now + LIMIT);
        assert_eq!(bench.slots(), (0, 0), "round {round}");
    }
}
