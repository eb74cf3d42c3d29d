//! What active health checks tell the endpoints, and what is told where they leave none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Endpoint, Member, Members, Refusal, Roster};
use crate::policy::health::{Fault, Health, Settings, Turn, Verdict};

/// Every endpoint is unhealthy: what is known of the one that is checked next.
#[derive(Debug, Clone)]
pub struct Unhealthy {
    /// Its address.
    pub endpoint: Arc<str>,
    /// Which check failed, and how.
    pub verdict: Option<Verdict>,
    /// Until it is checked; `None`: no check is planned.
    pub next_in: Option<Duration>,
    /// Until it can be healthy again at the earliest; `None`: no check is planned.
    pub recovers_in: Option<Duration>,
}

impl Roster {
    /// Endpoints are checked in this way from now on; `None`: they are not, and what checks showed is
    /// forgotten. Where they are asked something else, what was held against them does not count any
    /// more.
    pub fn check_by(&self, settings: Option<&Arc<Settings>>) {
        let mut members = self.members.lock();
        if members.check.as_deref() == settings.map(|settings| &**settings) {
            return;
        }
        let before = members.check.take();
        for member in &mut members.list {
            match (&mut member.health, settings) {
                (_, None) => member.health = None,
                (None, Some(_)) => member.health = Some(Health::new()),
                (Some(health), Some(settings)) => {
                    if before
                        .as_ref()
                        .is_none_or(|one| one.question != settings.question)
                    {
                        health.ask_anew();
                    }
                }
            }
        }
        members.check = settings.cloned();
        drop(members);
        self.changed.notify_one();
    }

    /// How the endpoints are checked, and which: those that are leaving are not. `None`: none is.
    pub fn to_check(&self) -> Option<(Arc<Settings>, Vec<Arc<Endpoint>>)> {
        let members = self.members.lock();
        let settings = Arc::clone(members.check.as_ref()?);
        let staying = members.list.iter().filter(|member| !member.leaving);
        let endpoints = staying.map(|member| Arc::clone(&member.endpoint));
        Some((settings, endpoints.collect()))
    }

    /// Returns when [`Self::to_check`] may say something else than when it was asked last. For one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The endpoint is checked then for the first time.
    pub fn plan_first_check(&self, endpoint: &Arc<Endpoint>, at: Instant) {
        self.with_health(endpoint, |health| health.plan(at));
    }

    /// When the endpoint is checked next, after a check that began then; `chance` is 0 to
    /// below 1. `None`: it is not there any more.
    pub fn plan_next_check(
        &self,
        endpoint: &Arc<Endpoint>,
        settings: &Settings,
        began: Instant,
        chance: f64,
    ) -> Option<Instant> {
        self.with_health(endpoint, |health| {
            let next = began + health.pause(settings, chance);
            health.plan(next);
            next
        })
    }

    /// A check of the endpoint, asked as `settings` say, showed that; what has changed by it.
    /// The answer to a question that is not asked any more changes nothing.
    pub fn checked(
        &self,
        endpoint: &Arc<Endpoint>,
        settings: &Settings,
        seen: Result<(), Fault>,
    ) -> Option<Turn> {
        let mut members = self.members.lock();
        let current = members.check.clone()?;
        if current.question != settings.question {
            return None;
        }
        members.health_of(endpoint)?.record(&current, seen)
    }

    fn with_health<T>(
        &self,
        endpoint: &Arc<Endpoint>,
        act: impl FnOnce(&mut Health) -> T,
    ) -> Option<T> {
        self.members.lock().health_of(endpoint).map(act)
    }
}

impl Members {
    /// What was there before at the same address, and is checked yet, says nothing about what is there now.
    fn health_of(&mut self, endpoint: &Arc<Endpoint>) -> Option<&mut Health> {
        let member = self.find_near(0, endpoint.key)?;
        let is_it = Arc::ptr_eq(&member.endpoint, endpoint);
        member.health.as_mut().filter(|_| is_it)
    }
}

/// Why there is no endpoint at all: there is none, or every one is unhealthy.
pub(super) fn refusal(list: &[Member], check: Option<&Settings>, now: Instant) -> Refusal {
    let staying = list.iter().filter(|member| !member.leaving);
    let checked = staying.filter_map(|member| Some((member, member.health.as_ref()?)));
    let soonest = checked.min_by_key(|(_, health)| health.next_in(now).unwrap_or(Duration::MAX));
    let Some((member, health)) = soonest else {
        return Refusal::NoEndpoint;
    };
    Refusal::Unhealthy(Box::new(Unhealthy {
        endpoint: Arc::clone(&member.endpoint.label),
        verdict: health.verdict().cloned(),
        next_in: health.next_in(now),
        recovers_in: check.and_then(|settings| health.recovers_in(settings, now)),
    }))
}
