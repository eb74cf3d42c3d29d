//! What the next generation takes over.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;
use crate::clock;
use crate::plan::{Address, Listener, Route, samples};
use crate::policy::rate_limit;

fn upstream(name: &str, endpoint: u8) -> Arc<plan::Upstream> {
    let address = Address::Ip(SocketAddr::from(([10, 0, 0, endpoint], 80)));
    Arc::new(samples::upstream(name, [address]))
}

/// A route with a bucket of its own.
fn route(name: &str, upstream: &Arc<plan::Upstream>, burst: f64) -> Route {
    let per_second = 1.0;
    Route {
        name: name.into(),
        matcher: plan::Match::default(),
        upstream: Arc::clone(upstream),
        rewrite: plan::Rewrite::default(),
        policies: plan::Policies {
            rate_limit: Some(rate_limit::Settings { per_second, burst }),
            ..plan::Policies::default()
        },
        own_rate_limit: true,
    }
}

fn plan(upstreams: Vec<Arc<plan::Upstream>>, routes: Vec<Route>) -> Arc<Plan> {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    Arc::new(Plan {
        service: "s".into(),
        admin: address.into(),
        metrics: None,
        runtime: plan::Runtime {
            workers: NonZeroUsize::MIN,
            drain: Duration::ZERO,
            max_connections: 1,
            dns_servers: Vec::new(),
            kubernetes: Default::default(),
        },
        errors: plan::Errors {
            format: plan::ErrorFormat::Contract,
            documentation_url: None,
        },
        access_log: plan::AccessLog {
            destination: None,
            keep: plan::Keep::All,
        },
        tracing: None,
        explain: None,
        listeners: vec![Listener {
            name: "in".into(),
            address: address.into(),
            role: plan::Role::Inbound,
            protocol: crate::plan::Protocol::Auto,
            tls: None,
            original_dst: false,
            unmatched: crate::plan::Unmatched::Refuse,
            max_connections: None,
            max_streams: 100,
            header_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            header_size: 1,
            max_headers: 1,
            body_size: None,
            routes,
        }],
        upstreams,
    })
}

fn bucket<'a>(snapshot: &'a Snapshot, route: &str) -> Option<&'a SharedBucket> {
    snapshot.bucket(&"in".into(), &route.into())
}

#[test]
fn rule_81_what_has_the_same_name_keeps_its_memory_and_the_rest_goes() {
    let now = clock::now();
    let (a, b) = (upstream("a", 1), upstream("b", 2));
    let routes = vec![route("r", &a, 3.0), route("gone", &b, 3.0)];
    let first = Snapshot::first(plan(vec![a, b], routes), Arc::default(), now);
    assert_eq!(first.generation, 1);
    let settings = rate_limit::Settings {
        per_second: 1.0,
        burst: 3.0,
    };
    for _ in 0..3 {
        let bucket = bucket(&first, "r").expect("its own");
        bucket.lock().take(&settings, now).expect("a token");
    }
    let moved = upstream("a", 9);
    let routes = vec![route("r", &moved, 9.0), route("new", &moved, 9.0)];
    let second = first.next(
        plan(vec![Arc::clone(&moved), upstream("c", 3)], routes),
        now,
    );
    assert_eq!(second.generation, 2);
    let same = |name: &str| match (first.upstream(name), second.upstream(name)) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, _) | (_, None) => false,
    };
    assert!(same("a"));
    assert!(second.upstream("b").is_none() && second.upstream("c").is_some());
    assert_eq!(second.upstreams().count(), 2);
    let endpoints = second.upstream("a").expect("it").roster().endpoints();
    assert_eq!(
        &*endpoints[0].label, "10.0.0.9:80",
        "under the new settings"
    );
    assert_eq!(endpoints.len(), 1);
    // The bucket is the same, and as empty; a new one is full; one whose route is gone is gone.
    let tokens = |snapshot: &Snapshot, route: &str| {
        let bucket = bucket(snapshot, route)?;
        Some(bucket.lock().tokens(&settings, now))
    };
    assert_eq!(tokens(&second, "r"), Some(0.0));
    assert_eq!(tokens(&second, "new"), Some(3.0));
    assert_eq!(tokens(&second, "gone"), None);
    // The one before still has all that it had: requests finish under it (rule 82).
    assert!(first.upstream("b").is_some() && tokens(&first, "gone").is_some());
}

#[test]
fn an_upstream_that_was_gone_for_a_generation_begins_anew() {
    let now = clock::now();
    let first = Snapshot::first(
        plan(vec![upstream("a", 1)], Vec::new()),
        Arc::default(),
        now,
    );
    let second = first.next(plan(Vec::new(), Vec::new()), now);
    let third = second.next(plan(vec![upstream("a", 1)], Vec::new()), now);
    let [old, new] = [&first, &third].map(|one| one.upstream("a").expect("it"));
    assert!(!Arc::ptr_eq(old, new));
    assert_eq!(third.generation, 3);
}
