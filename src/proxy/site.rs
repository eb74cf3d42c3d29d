//! One generation as the pipeline sees it: everything that can be worked out once is worked out here,
//! so that a request only follows references.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;

use super::answer::Voice;
use super::via::Via;
use crate::live::router::ByHost;
use crate::live::snapshot::{SharedBucket, Snapshot};
use crate::live::upstream::Upstream;
use crate::plan::{self, Plan};
use crate::policy::breaker;
use crate::telemetry::Telemetry;
use crate::telemetry::meters::{ListenerMeters, RouteMeters};
use crate::tls::Vault;

/// One generation.
#[derive(Debug)]
pub struct Site {
    /// The plan and the memory behind it.
    pub snapshot: Snapshot,
    /// How our own answers look.
    pub voice: Voice,
    /// A number that other processes do not have.
    process: u64,
    listeners: Vec<ListenerSite>,
    /// The breaker settings of upstreams, by name.
    breakers: HashMap<Arc<str>, Arc<breaker::Settings>>,
}

/// One listener of a generation.
#[derive(Debug)]
pub struct ListenerSite {
    /// Its part of the plan.
    pub plan: plan::Listener,
    /// Its handle for counting.
    pub meters: Arc<ListenerMeters>,
    /// What it calls itself in `via`.
    pub via: Via,
    /// Whether any of them depends on the host that a request is for.
    pub routes_by_host: bool,
    /// Where the routes for each host are.
    pub by_host: ByHost,
    /// What belongs to each of the plan's routes, in their order.
    pub routes: Vec<Arc<RouteSite>>,
}

/// One route of a generation.
#[derive(Debug)]
pub struct RouteSite {
    /// Its part of the plan.
    pub plan: plan::Route,
    /// The upstream's memory.
    pub upstream: Arc<Upstream>,
    /// Its handle for counting.
    pub meters: Arc<RouteMeters>,
    /// The bucket of a rate limit of its own; the upstream's otherwise.
    pub bucket: Option<SharedBucket>,
    /// What takes the place of `host`.
    pub host: Option<HeaderValue>,
}

impl Site {
    /// The first generation.
    pub fn first(plan: Plan, telemetry: &Telemetry, vault: Arc<Vault>, now: Instant) -> Self {
        let snapshot = Snapshot::first(Arc::new(plan), vault, now);
        Self::build(snapshot, telemetry, fastrand::u64(..), None)
    }

    /// The generation after this one; memory stays.
    pub fn next(&self, plan: Plan, telemetry: &Telemetry, now: Instant) -> Self {
        let snapshot = self.snapshot.next(Arc::new(plan), now);
        Self::build(snapshot, telemetry, self.process, Some(self))
    }

    /// The listener of that name.
    pub fn listener(&self, name: &Arc<str>) -> Option<&ListenerSite> {
        self.listeners
            .iter()
            .find(|listener| listener.plan.name == *name)
    }

    /// The breaker settings that hold for an upstream: its own, else those of the first route that has
    /// some.
    pub fn breaker_settings(&self, upstream: &str) -> Option<Arc<breaker::Settings>> {
        self.breakers.get(upstream).cloned()
    }

    fn build(
        snapshot: Snapshot,
        telemetry: &Telemetry,
        process: u64,
        previous: Option<&Self>,
    ) -> Self {
        let plan = &snapshot.plan;
        let listeners = plan.listeners.iter().map(|listener| {
            let known = Known::of(previous.and_then(|site| site.listener(&listener.name)));
            let routes = listener.routes.iter();
            ListenerSite {
                meters: telemetry.metrics().listener(&listener.name),
                via: Via::new(process, &listener.name),
                routes_by_host: routes.clone().any(|route| route.matcher.host.is_some()),
                by_host: ByHost::of(&listener.routes),
                routes: routes
                    .filter_map(|route| route_site(&snapshot, listener, route, &known, telemetry))
                    .map(Arc::new)
                    .collect(),
                plan: listener.clone(),
            }
        });
        let listeners = listeners.collect();
        let voice = Voice::new(Arc::clone(&plan.service), plan.errors.clone());
        Self {
            voice,
            process,
            listeners,
            breakers: breakers(plan),
            snapshot,
        }
    }
}

/// The handles for counting of a listener's routes in the generation before, by route and upstream. The table
/// of all handles is behind a lock that requests which go wrong take too, and who builds a generation may
/// be interrupted for long while he holds it: what is known already is not looked up there.
struct Known<'a>(HashMap<[&'a str; 2], &'a Arc<RouteMeters>>);

impl<'a> Known<'a> {
    fn of(listener: Option<&'a ListenerSite>) -> Self {
        let routes = listener.map_or(&[][..], |listener| listener.routes.as_slice());
        let labels = |route: &'a RouteSite| [&*route.plan.name, &*route.plan.upstream.name];
        let known = routes.iter().map(|route| (labels(route), &route.meters));
        Self(known.collect())
    }

    fn meters(&self, route: &plan::Route) -> Option<Arc<RouteMeters>> {
        let labels: [&str; 2] = [&route.name, &route.upstream.name];
        self.0.get(&labels).map(|meters| Arc::clone(meters))
    }
}

fn breakers(plan: &Plan) -> HashMap<Arc<str>, Arc<breaker::Settings>> {
    let own = plan
        .upstreams
        .iter()
        .map(|upstream| (&upstream.name, &upstream.policies));
    let routes = plan.listeners.iter().flat_map(|listener| &listener.routes);
    let routed = routes.map(|route| (&route.upstream.name, &route.policies));
    let mut breakers = HashMap::new();
    for (upstream, policies) in own.chain(routed) {
        if let Some(settings) = &policies.circuit_breaker {
            breakers
                .entry(Arc::clone(upstream))
                .or_insert_with(|| Arc::clone(settings));
        }
    }
    breakers
}

/// `None` is not met: a plan's routes go to upstreams of the same plan.
fn route_site(
    snapshot: &Snapshot,
    listener: &plan::Listener,
    route: &plan::Route,
    known: &Known<'_>,
    telemetry: &Telemetry,
) -> Option<RouteSite> {
    let upstream = snapshot.upstream(&route.upstream.name)?;
    let meters = known.meters(route).unwrap_or_else(|| {
        let metrics = telemetry.metrics();
        metrics.route(&listener.name, &route.name, &route.upstream.name)
    });
    let bucket = if route.own_rate_limit {
        snapshot.bucket(&listener.name, &route.name).cloned()
    } else {
        None
    };
    let host = route
        .rewrite
        .host
        .as_deref()
        .and_then(|host| HeaderValue::from_str(host).ok());
    let upstream = Arc::clone(upstream);
    Some(RouteSite {
        plan: route.clone(),
        upstream,
        meters,
        bucket,
        host,
    })
}
