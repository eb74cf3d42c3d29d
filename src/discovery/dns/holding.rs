//! What is held of one name, and when it is asked for again. No clock and no sockets: answers and times come
//! in.
//!
//! ```text
//! found    each address in it is used; asked again after its time to live, 1 s to 5 min, up to a tenth earlier
//! missing  an address that is missing from an answer gets no new requests while there are others; it is kept
//!          for as long as the answer holds, at least 10 s, and then it is gone. So names whose answers rotate
//!          lose neither connections nor what was learnt of an address between two answers
//! failed   nothing changes; asked again after 1 s, then 2 s, 4 s … 30 s
//! nothing  nothing changes for 5 min, since that is how a mistake in a zone looks, too; then all are gone
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Answer, Stands};
use crate::live::upstream::Found;

/// Addresses of one name that are held at most.
pub(super) const MOST: usize = 256;
/// The shortest time between two answers.
const FLOOR: Duration = Duration::from_secs(1);
/// The longest.
const CEILING: Duration = Duration::from_secs(5 * 60);
/// The longest time that a failed or negative answer is left alone.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long an address is kept that is missing from an answer, at least.
const GRACE: Duration = Duration::from_secs(10);
/// How long the last good addresses are kept of a name that stands for nothing (rule 68).
const STALE: Duration = Duration::from_secs(5 * 60);
/// How much earlier than due a name may be asked for, so that many do not come due together.
const JITTER: f64 = 0.1;

/// What is held of one name.
#[derive(Debug, Default)]
pub(super) struct Holding {
    held: Vec<Held>,
    /// The complete name that this is held of.
    name: Arc<str>,
    /// When it is asked for; `None`: now.
    next: Option<Instant>,
    /// Failures and negative answers in a row.
    in_vain: u32,
    /// When the held addresses are given up, while answers say that there are none.
    stale_at: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    found: Found,
    /// Whose address it is.
    host: Arc<str>,
    /// Set while it is missing from the answers: until when it is kept.
    missing_until: Option<Instant>,
}

impl Holding {
    /// Whether it is time to ask.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// It is to be asked for at once.
    pub(super) fn ask_now(&mut self) {
        self.next = None;
    }

    /// When it is asked for; `None`: now.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// When there is something to do: it is to be asked for, or something held has had its time. `None`:
    /// now.
    pub(super) fn wakes(&self) -> Option<Instant> {
        let missing = self.held.iter().filter_map(|held| held.missing_until);
        let others = missing.chain(self.stale_at);
        self.next.map(|next| others.fold(next, Instant::min))
    }

    /// What counts of an answer. While it cannot be found out of one name, what is held of it does not give
    /// way to what another one stands for, which may be somebody else's.
    pub(super) fn believed(&self, answer: Answer) -> Answer {
        if let Answer::Found(Stands {
            name,
            doubt: Some(why),
            ..
        }) = &answer
            && !self.held.is_empty()
            && self.name != *name
        {
            return Answer::Failed { why: why.clone() };
        }
        answer
    }

    /// An answer has come; `chance` is 0 to below 1. How many addresses, or hosts that were
    /// not asked for them, were too many.
    pub(super) fn learn(&mut self, now: Instant, answer: Answer, chance: f64) -> usize {
        let mut beyond = 0;
        let wait = match answer {
            Answer::Found(Stands {
                name,
                doubt: _,
                found,
                ttl,
                silent,
                unasked,
            }) => {
                self.name = name;
                self.in_vain = 0;
                self.stale_at = None;
                let ttl = ttl.clamp(FLOOR, CEILING);
                let until = now + ttl.max(GRACE);
                for held in &mut self.held {
                    let address = held.found.address;
                    let is_there = found.iter().any(|(one, _)| one.address == address);
                    let is_open = silent
                        .iter()
                        .any(|(host, what)| *host == held.host && what.about(address.ip()));
                    if !is_there && !is_open {
                        held.missing_until.get_or_insert(until);
                    }
                }
                beyond = self.hold(found) + unasked;
                ttl
            }
            Answer::Nothing { ttl, .. } => {
                let wait = self.wait();
                if !self.held.is_empty() {
                    self.stale_at.get_or_insert(now + STALE);
                }
                ttl.map_or(wait, |ttl| ttl.clamp(FLOOR, LONGEST_WAIT))
            }
            Answer::Failed { .. } => {
                // Nothing is known: the name may be there again.
                self.stale_at = None;
                self.wait()
            }
        };
        self.next = Some(now + wait.mul_f64(1.0 - JITTER * chance));
        self.settle(now);
        beyond
    }

    /// What has had its time is gone.
    pub(super) fn settle(&mut self, now: Instant) {
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        if is_over(self.stale_at) {
            self.stale_at = None;
            self.held.clear();
        }
        self.held.retain(|held| !is_over(held.missing_until));
    }

    /// The addresses that are held; those with the weight 0 are only kept.
    pub(super) fn found(&self) -> Vec<Found> {
        let held = self.held.iter().map(|held| Found {
            weight: if held.missing_until.is_some() {
                0
            } else {
                held.found.weight
            },
            ..held.found.clone()
        });
        held.collect()
    }

    /// Takes what was found, those first that are held already, so that a name that stands for too many
    /// does not stand for others with each answer. How many were too many.
    fn hold(&mut self, mut found: Vec<(Found, Arc<str>)>) -> usize {
        found.sort_by_key(|(one, _)| one.address);
        found.dedup_by_key(|(one, _)| one.address);
        let is_held = |one: &Found| {
            let mut held = self.held.iter();
            held.any(|held| held.found.address == one.address)
        };
        found.sort_by_key(|(one, _)| !is_held(one));
        let beyond = found.len().saturating_sub(MOST);
        found.truncate(MOST);
        self.held.retain(|held| {
            let address = held.found.address;
            !found.iter().any(|(one, _)| one.address == address)
        });
        // Those that are only kept come last, and are the first to go.
        let kept = std::mem::take(&mut self.held);
        let taken = found.into_iter().map(|(found, host)| Held {
            found,
            host,
            missing_until: None,
        });
        self.held = taken.chain(kept).take(MOST).collect();
        beyond
    }

    /// How long to wait after one more time in vain.
    fn wait(&mut self) -> Duration {
        let times = self.in_vain.min(16);
        self.in_vain = times + 1;
        (FLOOR * 2_u32.pow(times)).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests;
