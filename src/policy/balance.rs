//! Which endpoint a request goes to, among those that may be used.
//!
//! Shares follow the weights, and a weight follows its ramp, so that an endpoint that has come back
//! is not given its full share at once (rule 52).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outcome::Outcome;

mod picked;

pub use picked::{How, Pick, Picked};

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Settings {
    /// The less loaded of two chosen by chance.
    #[default]
    LeastRequest,
    /// Each in turn, by weight.
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// By the hash of a header (lower-case name); by chance where it is absent.
    Hash {
        /// The header's name.
        header: Arc<str>,
    },
}

/// An endpoint that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Requests in flight.
    pub load: u32,
    /// Its configured weight times the share that its ramp allows; 0: only where no other can be chosen.
    pub weight: f64,
    /// A stable [`hash`] of its address.
    pub key: u64,
    /// What [`Penalty::value`] says: how much its load counts for more, as a share of it.
    pub penalty: f64,
}

impl Candidate {
    /// The load for its weight, with `more` requests. An endpoint that fails fast has little in
    /// flight and would attract requests; its failures count as load (rule 49).
    fn apparent(&self, more: f64) -> f64 {
        let load = (f64::from(self.load) + 1.0) * (1.0 + self.penalty) - 1.0;
        (load + more) / self.weight
    }
}

impl Settings {
    /// The chosen candidate, and why; `None` where there is none. `chance` is 0 to below 1, each;
    /// `hash` is that of the header's value, where the request has the header.
    pub fn pick(
        &self,
        memory: &mut Memory,
        candidates: &[Candidate],
        chance: [f64; 2],
        hash: Option<u64>,
    ) -> Option<Pick> {
        if candidates.len() < 2 {
            let only = Pick {
                place: 0,
                how: How::Only,
            };
            return (!candidates.is_empty()).then_some(only);
        }
        let (place, how) = match (self, hash) {
            (Self::LeastRequest, _) => {
                let (place, other) = least_request(candidates, chance);
                let (load, other) = (candidates[place].load, candidates[other].load);
                (place, How::LessLoaded { load, other })
            }
            (Self::RoundRobin, _) => (memory.next(candidates), How::Turn),
            (Self::Hash { .. }, Some(hash)) => (rendezvous(candidates, hash), How::Hash),
            (Self::Random | Self::Hash { .. }, _) => {
                (by_weight(candidates, chance[0], None), How::Chance)
            }
        };
        Some(Pick { place, how })
    }
}

/// Two different ones by weight. The second takes the request only if with it, it would be no more
/// loaded for its weight than the first is already. So with equal weights the one with fewer requests
/// wins; and where the loads are alike, the weights alone decide. (If the lower load always won, an
/// endpoint of weight 1 beside one of weight 2 would get nothing at all while traffic is low.)
/// The chosen one comes first.
fn least_request(candidates: &[Candidate], chance: [f64; 2]) -> (usize, usize) {
    let first = by_weight(candidates, chance[0], None);
    let second = by_weight(candidates, chance[1], Some(first));
    if candidates[second].apparent(1.0) <= candidates[first].apparent(0.0) {
        (second, first)
    } else {
        (first, second)
    }
}

/// One by weight, but not `without`.
fn by_weight(candidates: &[Candidate], chance: f64, without: Option<usize>) -> usize {
    let others = || {
        let all = candidates.iter().enumerate();
        all.filter(move |(place, _)| Some(*place) != without)
    };
    let mut left = chance * others().map(|(_, candidate)| candidate.weight).sum::<f64>();
    let mut chosen = 0;
    for (place, candidate) in others() {
        chosen = place;
        left -= candidate.weight;
        if left < 0.0 {
            break;
        }
    }
    chosen
}

/// Weighted rendezvous hashing: each endpoint draws a number from its key and the request's hash, and
/// the best wins. When an endpoint goes, only its own requests move; when one comes, only to it.
fn rendezvous(candidates: &[Candidate], hash: u64) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (place, candidate) in candidates.iter().enumerate() {
        // Above 0 and below 1: 53 bits, each value in the middle of its step.
        let drawn = (mix(candidate.key ^ mix(hash)) >> 12) as f64 + 0.5;
        let score = candidate.weight / -(drawn / (1_u64 << 52) as f64).ln();
        if score > best.1 {
            best = (place, score);
        }
    }
    best.0
}

/// A hash that is the same in every process and version: FNV-1a, well mixed.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

/// Every bit of the result depends on every bit of the input (the finalizer of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Whose turn it is. Turns are kept by key: endpoints that come, go or are left out for a time
/// disturb nobody else's.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    turns: Vec<Turn>,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    key: u64,
    /// How much is owed to it; grows by its weight with each choice, and falls by all weights when
    /// it is chosen.
    credit: f64,
}

impl Memory {
    /// Nobody had a turn.
    pub const fn new() -> Self {
        Self { turns: Vec::new() }
    }

    /// Smooth weighted round robin: weights 2 and 1 give a b a, not a a b.
    fn next(&mut self, candidates: &[Candidate]) -> usize {
        let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
        let mut best = (0, 0, f64::NEG_INFINITY);
        let mut near = 0;
        for (place, candidate) in candidates.iter().enumerate() {
            let at = self.turn_of(candidate.key, near);
            near = at + 1;
            // A credit of greater weights, from before a reload or a ramp, must not give many turns
            // in a row.
            let credit = self.turns[at].credit.clamp(-total, total) + candidate.weight;
            self.turns[at].credit = credit;
            if credit > best.2 {
                best = (place, at, credit);
            }
        }
        self.turns[best.1].credit -= total;
        self.forget(candidates);
        best.0
    }

    /// Where the turn of a key is kept, looked for from `near` on: the order seldom changes.
    fn turn_of(&mut self, key: u64, near: usize) -> usize {
        let near = near.min(self.turns.len());
        let (before, after) = self.turns.split_at(near);
        let is_it = |turn: &Turn| turn.key == key;
        let found = after.iter().position(is_it).map(|at| near + at);
        found
            .or_else(|| before.iter().position(is_it))
            .unwrap_or_else(|| {
                self.turns.push(Turn { key, credit: 0.0 });
                self.turns.len() - 1
            })
    }

    /// Endpoints that are gone are forgotten when they outnumber the others.
    fn forget(&mut self, candidates: &[Candidate]) {
        if self.turns.len() > 2 * candidates.len() + 16 {
            self.turns
                .retain(|turn| candidates.iter().any(|candidate| candidate.key == turn.key));
        }
    }
}

/// How fast an endpoint's past is forgotten: half of it in this time. Long enough that a failing
/// endpoint is avoided between two looks at it, short against the time that a breaker stays open.
const HALF_LIFE: Duration = Duration::from_secs(5);

/// How much a failure weighs against a success. One failure alone keeps an idle endpoint from being
/// preferred to an idle peer for two half-lives.
const FAILURE_WEIGHT: f64 = 4.0;

/// Tries that are remembered. At more, the older count for less; their shares stay.
const MOST: f32 = 128.0;

/// Time is only reckoned with in steps of this, so that most calls need no power of two.
const STEP: Duration = Duration::from_millis(100);

/// What an endpoint's recent failures add to its apparent load: 4 × failures / (successes + 1), each
/// forgotten with a half-life of 5 s. So an endpoint that fails one try in a hundred counts as 4 %
/// more loaded, and one that only fails as many times more as it has failed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Penalty {
    failures: f32,
    successes: f32,
    /// Until when the past has been forgotten.
    at: Option<Instant>,
}

impl Penalty {
    /// Without a past.
    pub const fn new() -> Self {
        Self {
            failures: 0.0,
            successes: 0.0,
            at: None,
        }
    }

    /// A try has ended.
    pub fn record(&mut self, now: Instant, outcome: Outcome) {
        self.forget(now);
        match outcome {
            Outcome::Success => self.successes += 1.0,
            Outcome::Failure => self.failures += 1.0,
            Outcome::Ignored => return,
        }
        let tries = self.failures + self.successes;
        if tries > MOST {
            self.failures *= MOST / tries;
            self.successes *= MOST / tries;
        }
    }

    /// How much its load counts for more, as a share of it; 0: it did not fail of late.
    pub fn value(&mut self, now: Instant) -> f64 {
        if self.failures == 0.0 {
            return 0.0;
        }
        self.forget(now);
        FAILURE_WEIGHT * f64::from(self.failures) / f64::from(self.successes + 1.0)
    }

    fn forget(&mut self, now: Instant) {
        let at = *self.at.get_or_insert(now);
        let elapsed = now.saturating_duration_since(at);
        if elapsed >= STEP {
            let kept = (-elapsed.as_secs_f32() / HALF_LIFE.as_secs_f32()).exp2();
            self.failures *= kept;
            self.successes *= kept;
            self.at = Some(now);
            // What is left of a failure of long ago is none.
            if self.failures < 0.01 {
                self.failures = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
