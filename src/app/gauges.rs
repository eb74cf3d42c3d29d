//! What there is to see of the running state, read at the moment somebody looks.

use std::time::Instant;

use super::Shared;
use crate::clock;
use crate::discovery::feed;
use crate::live::roster::Reading;
use crate::live::upstream::Upstream;
use crate::policy::breaker::{Cause, State};
use crate::policy::health::Standing;
use crate::proxy::site::Site;
use crate::reload;
use crate::server::admin::Readiness;
use crate::server::status::{self, Circuit, Status};
use crate::telemetry::events::stamp;
use crate::telemetry::exposition::Format;
use crate::telemetry::readings::{DiscoveryReading, EndpointReading, Readings, UpstreamReading};
use crate::telemetry::sums::Sum;

impl Shared {
    /// Everything that the page shows.
    pub(super) fn status(&self) -> Status {
        let (site, now) = (self.proxy.site(), clock::now());
        let telemetry = &self.proxy.telemetry;
        let names = site
            .snapshot
            .plan
            .upstreams
            .iter()
            .map(|upstream| &upstream.name);
        let upstreams = names
            .clone()
            .filter_map(|name| site.snapshot.upstream(name));
        let sums = telemetry.metrics().sums();
        let sources = self.discovery.readings();
        let mut status = Status {
            at: stamp(clock::date()),
            process: self.process(&site, now),
            listeners: self.doors.status(self.phase.draining()),
            upstreams: upstreams
                .map(|upstream| {
                    let totals = sums.get(upstream.name()).map(totals).unwrap_or_default();
                    let mut status = upstream_status(&site, upstream, totals, self, now);
                    status.sources = sources_status(&sources, &status.name, now);
                    status
                })
                .collect(),
            totals: totals(&sums.total()),
            replay: status::Replay {
                bytes_used: self.proxy.memory().used(),
                bytes_limit: self.proxy.memory().limit(),
            },
            certificates: self.certificates(),
            last_reload: self.last_reload.lock().clone(),
            events: telemetry.events().recent(),
            history: Some(self.history.shown(names)),
            ..Status::default()
        };
        status.judge(telemetry.explain());
        status
    }

    /// The text of a scrape.
    pub(super) fn metrics(&self, format: Format) -> String {
        let (site, now) = (self.proxy.site(), clock::now());
        let readings = Readings {
            generation: site.snapshot.generation,
            last_reload_ok: reload::last_succeeded(&self.last_reload),
            upstreams: site
                .snapshot
                .upstreams()
                .map(|upstream| upstream_reading(&site, upstream, now))
                .collect(),
            handshakes: self.doors.failed_handshakes(),
            certificates: self.certificate_readings(),
            discovery: discovery_readings(&self.discovery.readings()),
        };
        self.proxy.telemetry.metrics().render_as(&readings, format)
    }

    fn process(&self, site: &Site, now: Instant) -> status::Process {
        let uptime = now.saturating_duration_since(self.started);
        let loads = self
            .workers
            .tasks()
            .into_iter()
            .zip(self.workers.connections());
        status::Process {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            service: site.snapshot.plan.service.to_string(),
            started_at: stamp(self.started_at),
            uptime_ms: millis(uptime),
            generation: site.snapshot.generation,
            draining: self.readiness() == Readiness::Draining,
            ready: self.readiness() == Readiness::Ready,
            workers: loads
                .enumerate()
                .map(|(id, (tasks, connections))| status::Worker {
                    id,
                    tasks,
                    connections,
                })
                .collect(),
        }
    }
}

fn upstream_status(
    site: &Site,
    upstream: &Upstream,
    totals: status::Totals,
    shared: &Shared,
    now: Instant,
) -> status::Upstream {
    let settings = upstream.settings();
    let breaker = site.breaker_settings(upstream.name());
    let readings = upstream.roster().readings(breaker.as_deref(), now);
    let slots = upstream.slots();
    let meters = shared.proxy.telemetry.metrics().upstream(upstream.name());
    let budget = settings
        .policies
        .retry
        .as_ref()
        .and_then(|retry| retry.budget);
    let staying = readings.iter().filter(|reading| !reading.leaving);
    status::Upstream {
        name: upstream.name().to_string(),
        critical: settings.critical,
        circuit: Circuit::of(staying.map(circuit)),
        endpoints: readings
            .iter()
            .map(|reading| endpoint_status(reading, now))
            .collect(),
        bulkhead: settings.policies.bulkhead.map(|bulkhead| status::Bulkhead {
            in_flight: upstream.seats().in_flight(),
            queued: upstream.seats().queued(),
            limit: bulkhead.max_in_flight,
            max_queue: bulkhead.max_queue,
        }),
        connections: status::Connections {
            idle: slots.idle(),
            active: slots.open().saturating_sub(slots.idle()),
            limit: settings.max_connections,
            opened: meters.connections_opened.get(),
        },
        retry_budget: budget.map(|budget| {
            let (tokens, limit) = upstream.budget_tokens(&budget, now);
            status::RetryBudget {
                tokens,
                limit: Some(limit),
            }
        }),
        rate_limit: settings.policies.rate_limit.map(|limit| status::RateLimit {
            tokens: upstream.rate_tokens(&limit, now),
            burst: limit.burst,
            per_second: limit.per_second,
        }),
        totals,
        ..status::Upstream::default()
    }
}

fn sources_status(sources: &[feed::Reading], upstream: &str, now: Instant) -> Vec<status::Source> {
    let named = |source: &&feed::Reading| source.upstreams.iter().any(|one| **one == *upstream);
    let status = |source: &feed::Reading| status::Source {
        name: source.source.clone(),
        addresses: source.addresses,
        answered_at: source.answered.map(|(_, date)| stamp(date)),
        age_ms: source
            .answered
            .map(|(at, _)| millis(now.saturating_duration_since(at))),
        next_ms: source
            .next
            .map(|next| millis(next.saturating_duration_since(now))),
        problem: source.problem.clone(),
    };
    sources.iter().filter(named).map(status).collect()
}

fn discovery_readings(sources: &[feed::Reading]) -> Vec<DiscoveryReading> {
    let of_source = |source: &feed::Reading| {
        let (name, updates) = (source.source.clone(), source.updates);
        let upstreams = source.upstreams.clone().into_iter();
        upstreams.map(move |upstream| DiscoveryReading {
            upstream,
            source: name.clone(),
            updates: [
                ("changed", updates.changed),
                ("same", updates.same),
                ("failed", updates.failed),
            ],
        })
    };
    sources.iter().flat_map(of_source).collect()
}

fn stays_closed(cause: &Cause) -> String {
    format!("{cause} would open it, but max_open lets no more endpoints of the upstream open")
}

fn endpoint_status(reading: &Reading, now: Instant) -> status::Endpoint {
    let breaker = reading.breaker.as_ref();
    let open = breaker.filter(|breaker| breaker.state != State::Closed);
    status::Endpoint {
        address: reading.endpoint.to_string(),
        state: circuit(reading),
        reason: open
            .and_then(|breaker| breaker.cause.as_ref())
            .map(ToString::to_string)
            .or_else(|| Some(stays_closed(breaker?.held.as_ref()?))),
        since: breaker
            .and_then(|breaker| breaker.since)
            .and_then(|since| clock::date().checked_sub(now.saturating_duration_since(since)))
            .map(stamp),
        next_probe_ms: open.and_then(|breaker| breaker.retry_in).map(millis),
        opened_in_a_row: breaker.map_or(0, |breaker| breaker.opens_in_a_row),
        forced: breaker
            .and_then(|breaker| breaker.forced)
            .map(|by| by.name().to_owned()),
        in_flight: reading.in_flight as usize,
        window: breaker.map(|breaker| status::Window {
            total: u64::from(breaker.counts.requests),
            failures: u64::from(breaker.counts.failures),
            slow: u64::from(breaker.counts.slow),
            consecutive_failures: breaker.counts.consecutive_failures,
        }),
        weight: reading.weight,
        share: breaker.map_or(1.0, |breaker| breaker.share),
        draining: is_draining(reading),
        health: reading.health.as_ref().map(|health| status::Health {
            state: health.standing.name().to_owned(),
            reason: health.verdict.as_ref().map(ToString::to_string),
            next_check_ms: health.next_in.map(millis),
            passes_in_a_row: health.passes,
            failures_in_a_row: health.failures,
        }),
    }
}

/// Gone, or no more named by its source: it gets no new requests while there are others.
const fn is_draining(reading: &Reading) -> bool {
    reading.leaving || reading.weight == 0
}

fn circuit(reading: &Reading) -> Circuit {
    match reading.breaker.as_ref().map(|breaker| breaker.state) {
        None | Some(State::Closed) => Circuit::Closed,
        Some(State::Open) => Circuit::Open,
        Some(State::HalfOpen) => Circuit::HalfOpen,
    }
}

fn upstream_reading(site: &Site, upstream: &Upstream, now: Instant) -> UpstreamReading {
    let settings = upstream.settings();
    let breaker = site.breaker_settings(upstream.name());
    let budget = settings
        .policies
        .retry
        .as_ref()
        .and_then(|retry| retry.budget);
    let slots = upstream.slots();
    let endpoints = upstream.roster().readings(breaker.as_deref(), now);
    UpstreamReading {
        name: upstream.name().clone(),
        retry_budget_tokens: budget.map(|budget| upstream.budget_tokens(&budget, now).0),
        in_flight: upstream.seats().in_flight(),
        queued: upstream.seats().queued(),
        limit: settings
            .policies
            .bulkhead
            .and_then(|bulkhead| bulkhead.max_in_flight),
        idle: slots.idle(),
        active: slots.open().saturating_sub(slots.idle()),
        endpoints: endpoints
            .into_iter()
            .map(|reading| EndpointReading {
                draining: is_draining(&reading),
                address: reading.endpoint,
                breaker: reading.breaker.map(|breaker| breaker.state),
                unhealthy: reading
                    .health
                    .is_some_and(|health| health.standing == Standing::Unhealthy),
            })
            .collect(),
    }
}

fn totals(sum: &Sum) -> status::Totals {
    status::Totals {
        requests: sum.requests,
        failures: sum.refused_or_failed,
        retries: sum.retries,
        fallbacks: sum.fallbacks,
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
