//! What has been counted since the start, by upstream: for the page, and for the points of its history.
//! It never falls. What was removed has no series any more after some scrapes (rule 87), but what it has
//! counted stays in its upstream's sum; that of an upstream that is gone too stays in the total.

use std::collections::HashMap;
use std::sync::Arc;

use super::histogram::BOUNDS;
use super::report::Outcome;

/// Requests by how long they took.
pub(super) type Buckets = [u64; BOUNDS.len() + 1];

/// What has been counted since the start for one upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum {
    /// Requests that have ended.
    pub requests: u64,
    /// Those among them that failed as their client saw it: refused, failed, or a 5xx, whoever made it.
    pub failures: u64,
    /// Those among them that we refused or that failed.
    pub refused_or_failed: u64,
    /// Those that a fallback answered.
    pub fallbacks: u64,
    /// Tries after the first.
    pub retries: u64,
    pub(super) durations: Buckets,
}

impl Sum {
    /// Adds requests by outcome, class of status and number.
    pub(super) fn add_requests(
        &mut self,
        counts: impl Iterator<Item = (Outcome, &'static str, u64)>,
    ) {
        for (outcome, code, count) in counts {
            self.requests += count;
            let ours = matches!(outcome, Outcome::Refused | Outcome::Failed);
            if ours {
                self.refused_or_failed += count;
            }
            if ours || code == "5xx" && outcome != Outcome::ClientGone {
                self.failures += count;
            }
            if outcome == Outcome::Fallback {
                self.fallbacks += count;
            }
        }
    }

    /// Adds how long requests took.
    pub(super) fn add_durations(&mut self, buckets: &Buckets) {
        for (sum, count) in self.durations.iter_mut().zip(buckets) {
            *sum += count;
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.refused_or_failed += other.refused_or_failed;
        self.fallbacks += other.fallbacks;
        self.retries += other.retries;
        self.add_durations(&other.durations);
    }
}

/// What has been counted since the start, by upstream; the empty name stands for what has none.
#[derive(Debug, Clone, Default)]
pub struct Sums(pub(super) HashMap<Arc<str>, Sum>);

impl Sums {
    /// That of an upstream; `None`: nothing was ever counted for it.
    pub fn get(&self, name: &str) -> Option<&Sum> {
        self.0.get(name)
    }

    /// All together.
    pub fn total(&self) -> Sum {
        let mut total = Sum::default();
        self.0.values().for_each(|one| total.add(one));
        total
    }

    /// That of an upstream, to add to.
    pub(super) fn of(&mut self, name: &Arc<str>) -> &mut Sum {
        self.0.entry(Arc::clone(name)).or_default()
    }

    /// Has those that are gone count in the total alone.
    pub(super) fn bury(&mut self, is_gone: impl Fn(&Arc<str>) -> bool) {
        let mut gone = Sum::default();
        self.0.retain(|name, sum| {
            let stays = name.is_empty() || !is_gone(name);
            if !stays {
                gone.add(sum);
            }
            stays
        });
        if gone != Sum::default() {
            self.of(&Arc::from("")).add(&gone);
        }
    }
}
