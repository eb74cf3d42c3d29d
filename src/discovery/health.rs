//! Active health checks: one task for each endpoint of an upstream that has a check. They come and go with
//! the endpoints, use connections of their own, and take no part in bulkhead, budget, breaker or the
//! metrics of requests (rule 54). What they show goes to the upstream's roster, which decides.

mod ask;
mod grpc;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::clock;
use crate::live::roster::Endpoint;
use crate::live::upstream::Upstream;
use crate::policy::health::{Fault, Settings, Standing, Turn};
use crate::proxy::{Proxy, message};
use crate::telemetry::events::Kind;

/// The checks of the running configuration. Dropped, they end.
#[derive(Debug, Default)]
pub struct Checks {
    followed: Mutex<HashMap<Arc<str>, Followed>>,
}

/// One upstream that is followed.
#[derive(Debug)]
struct Followed {
    upstream: Arc<Upstream>,
    _task: Task,
}

/// A task that ends with its handle.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Checks {
    /// Follows the upstreams of the generation that runs now, on the current runtime. Those that stay are
    /// not touched: they notice by themselves how they are to be checked from now on.
    pub fn follow(&self, proxy: &Arc<Proxy>) {
        let site = proxy.site();
        let mut followed = self.followed.lock();
        followed.retain(|name, one| {
            let same = |upstream: &Arc<Upstream>| Arc::ptr_eq(upstream, &one.upstream);
            site.snapshot.upstream(name).is_some_and(same)
        });
        for upstream in site.snapshot.upstreams() {
            let known = followed.contains_key(upstream.name());
            if known || upstream.settings().health_check.is_none() {
                continue;
            }
            let following = follow(Arc::clone(proxy), Arc::clone(upstream));
            let one = Followed {
                upstream: Arc::clone(upstream),
                _task: Task(tokio::spawn(following)),
            };
            followed.insert(Arc::clone(upstream.name()), one);
        }
    }
}

/// The check of one endpoint, as it was begun.
struct Checked {
    endpoint: Arc<Endpoint>,
    settings: Arc<Settings>,
    _task: Task,
}

/// Checks the endpoints of an upstream, whichever they are, for as long as it is polled.
async fn follow(proxy: Arc<Proxy>, upstream: Arc<Upstream>) {
    let mut checked: HashMap<u64, Checked> = HashMap::new();
    loop {
        match upstream.roster().to_check() {
            None => checked.clear(),
            Some((settings, endpoints)) => {
                let there = endpoints.iter().map(|one| (one.key, one));
                let there: HashMap<u64, &Arc<Endpoint>> = there.collect();
                checked.retain(|key, one| {
                    let stays = |other: &&Arc<Endpoint>| Arc::ptr_eq(other, &one.endpoint);
                    *one.settings == *settings && there.get(key).is_some_and(stays)
                });
                for endpoint in endpoints {
                    checked.entry(endpoint.key).or_insert_with(|| {
                        let upstream = Arc::clone(&upstream);
                        let check = Check {
                            proxy: Arc::clone(&proxy),
                            upstream,
                            endpoint: Arc::clone(&endpoint),
                            settings: Arc::clone(&settings),
                        };
                        Checked {
                            endpoint,
                            settings: Arc::clone(&settings),
                            _task: Task(tokio::spawn(check.run())),
                        }
                    });
                }
            }
        }
        upstream.roster().changed().await;
    }
}

/// What the check of one endpoint needs.
struct Check {
    proxy: Arc<Proxy>,
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    settings: Arc<Settings>,
}

impl Check {
    /// Checks again and again.
    async fn run(self) {
        let first = clock::now() + self.settings.first_pause(fastrand::f64());
        let roster = self.upstream.roster();
        roster.plan_first_check(&self.endpoint, first);
        let mut next = first;
        loop {
            tokio::time::sleep_until(next.into()).await;
            let began = clock::now();
            let seen = self.ask().await;
            let turn = seen.and_then(|seen| self.note(seen));
            next = self.plan(began);
            if let Some(turn) = turn {
                self.tell(&turn, next);
            }
        }
    }

    /// `None`: it could not be asked.
    async fn ask(&self) -> Option<Result<(), Fault>> {
        let protocol = self.upstream.settings().protocol;
        let question = &self.settings.question;
        let asked = ask::ask(self.proxy.dialer(), &self.endpoint, protocol, question);
        let timeout = self.settings.timeout;
        // Boxed: large.
        let answered = tokio::time::timeout(timeout, Box::pin(asked)).await;
        answered.unwrap_or(Some(Err(Fault::TimedOut(timeout))))
    }

    /// Everyone but the log learns what was seen.
    fn note(&self, seen: Result<(), Fault>) -> Option<Turn> {
        let (upstream, endpoint) = (self.upstream.name(), &*self.endpoint.label);
        let meters = self.proxy.telemetry.metrics().upstream(upstream);
        meters.health_checked(seen.is_ok());
        if let Err(fault) = &seen {
            let question = &self.settings.question;
            tracing::debug!(%upstream, endpoint, "health check {question} {fault}");
        }
        let roster = self.upstream.roster();
        roster.checked(&self.endpoint, &self.settings, seen)
    }

    /// When the next check begins, after one that began then.
    fn plan(&self, began: Instant) -> Instant {
        let (roster, chance) = (self.upstream.roster(), fastrand::f64());
        let next = roster.plan_next_check(&self.endpoint, &self.settings, began, chance);
        // Where the endpoint has gone, this task is about to be ended.
        next.unwrap_or(began + self.settings.interval)
    }

    fn tell(&self, turn: &Turn, next: Instant) {
        let (upstream, endpoint) = (self.upstream.name(), &*self.endpoint.label);
        let next_in = next.saturating_duration_since(clock::now());
        let sentence = message::health_turned(turn.to, turn.verdict.as_ref(), next_in);
        match turn.to {
            Standing::Unhealthy => tracing::warn!(%upstream, endpoint, "{sentence}"),
            Standing::Healthy | Standing::Unchecked => {
                tracing::info!(%upstream, endpoint, "{sentence}");
            }
        }
        let events = self.proxy.telemetry.events();
        events.note_endpoint(clock::date(), Kind::Health, upstream, endpoint, sentence);
    }
}
