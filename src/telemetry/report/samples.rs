//! Reports for the tests of what is made from them: plain ones, and random ones in any number.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock;
use crate::telemetry::metrics::Metrics;

/// A name as the configuration has it.
pub(crate) fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// A request without tries that went as it ended.
pub(crate) fn report(
    listener: Arc<ListenerMeters>,
    route: Option<Arc<RouteMeters>>,
    outcome: Outcome,
    status: u16,
) -> Report {
    Report {
        started: clock::now(),
        generation: 1,
        place: route.map_or(Place::Unrouted(listener), Place::Routed),
        peer: Some(([127, 0, 0, 1], 40_000).into()),
        target: Some(target("/v1/charges?card=4111", "payments.internal")),
        rewritten: None,
        asked: false,
        request_id: http::HeaderValue::from_static("r-1"),
        trace: TraceContext::begin(),
        time_limit: None,
        queued_at: None,
        queued: Duration::ZERO,
        backoff: Duration::ZERO,
        tries: SmallVec::new(),
        denied: None,
        halted: None,
        moves: Vec::new(),
        reason: None,
        detail: None,
        fallback: None,
        fell_back: None,
        outcome,
        status,
        grpc_status: None,
        head_at: Some(Duration::from_millis(1)),
        received: 0,
        sent: 64,
        tunnel: false,
        broken: false,
    }
}

/// A GET of that target from that host.
pub(crate) fn target(uri: &str, host: &str) -> Target {
    Target {
        method: http::Method::GET,
        uri: uri.parse().unwrap(),
        host: Some(http::HeaderValue::from_bytes(host.as_bytes()).unwrap()),
        scheme: "http",
        version: http::Version::HTTP_11,
    }
}

/// A try on a new connection that took so long and ended so.
pub(crate) fn attempt(took: Duration, ending: Ending) -> Try {
    Try {
        endpoint: name("127.0.0.1:9001"),
        started: Duration::ZERO,
        waited: Duration::ZERO,
        took,
        ending,
        sent: match ending {
            Ending::Answered(_) | Ending::Grpc { .. } => Sent::Answered,
            Ending::Failed(_) => Sent::Unanswered,
        },
        reused: false,
        connected: Some(Duration::from_micros(300)),
        tls: false,
        picked: Picked::ONLY,
        hashed_by: None,
        detail: None,
        next: None,
        outcome: match ending.status() {
            Some(..500) => outcome::Outcome::Success,
            Some(_) | None => outcome::Outcome::Failure,
        },
        span_id: 0xb7ad_6b71_6920_3331,
    }
}

/// A source of random reports, always the same ones for a seed.
pub(crate) struct Telling<'a> {
    metrics: &'a Metrics,
    seed: u64,
    listeners: Vec<Arc<ListenerMeters>>,
    routes: Vec<Option<Arc<RouteMeters>>>,
}

impl<'a> Telling<'a> {
    pub(crate) fn new(metrics: &'a Metrics, seed: u64) -> Self {
        let names = ["inbound", "outbound"].map(name);
        let mut routes = vec![None];
        for listener in &names {
            for (route, upstream) in [
                ("charges", "payments"),
                ("all", "payments"),
                ("all", "mail"),
            ] {
                routes.push(Some(metrics.route(listener, &name(route), &name(upstream))));
            }
        }
        Self {
            metrics,
            seed,
            listeners: names.iter().map(|name| metrics.listener(name)).collect(),
            routes,
        }
    }

    /// Tells so many; returns them.
    pub(crate) fn tell(&self, count: usize) -> Vec<Report> {
        let mut chance = fastrand::Rng::with_seed(self.seed);
        let mut told = Vec::new();
        for _ in 0..count {
            let report = self.random(&mut chance);
            let took = Duration::from_micros(chance.u64(..90_000_000));
            self.metrics.count(&report, report.started + took);
            told.push(report);
        }
        told
    }

    fn random(&self, chance: &mut fastrand::Rng) -> Report {
        let listener = self.listeners[chance.usize(..self.listeners.len())].clone();
        let route = self.routes[chance.usize(..self.routes.len())].clone();
        let outcome = Outcome::ALL[chance.usize(..Outcome::ALL.len())];
        let status = [200, 204, 302, 404, 429, 499, 500, 503][chance.usize(..8)];
        let mut report = report(listener, route, outcome, status);
        let is_failure = chance.bool();
        report.reason = is_failure.then(|| Reason::ALL[chance.usize(..Reason::ALL.len())]);
        if report.place.labels().route.is_some() {
            for _ in 0..chance.usize(..4) {
                let took = Duration::from_micros(chance.u64(..20_000));
                report.tries.push(attempt(took, random_ending(chance)));
            }
            report.denied = chance
                .bool()
                .then(|| Why::ALL[chance.usize(..Why::ALL.len())]);
        }
        report.fallback = (outcome == Outcome::Fallback).then_some(FallbackKind::Respond);
        report.head_at = chance
            .bool()
            .then(|| Duration::from_micros(chance.u64(..50_000)));
        let target = format!("/{:x}", chance.u64(..));
        report.target = Some(self::target(&target, "payments.internal"));
        report
    }
}

fn random_ending(chance: &mut fastrand::Rng) -> Ending {
    match chance.bool() {
        true => Ending::Answered([200, 304, 404, 429, 500, 503, 504][chance.usize(..7)]),
        false => Ending::Failed(Reason::ALL[chance.usize(..Reason::ALL.len())]),
    }
}
