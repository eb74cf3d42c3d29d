//! The endpoints of one upstream with what was learnt of each: breaker, penalty, requests in flight.
//! One lock, held for the time of one decision. An [`Admission`] is the right to one try.

mod checks;
mod picked;
mod places;
mod readings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::http1::connection::Http1;
use super::http2::StreamPool;
use super::pool::Pool;
use super::tls::Secured;
use crate::plan::{self, SocketAddress};
use crate::policy::balance::{self, Candidate, Penalty, Picked};
use crate::policy::breaker::{
    self, Breaker, Cause, Forced, Gate, Observation, Peers, State, Ticket, Transition, WhenAllOpen,
};
use crate::policy::health::{self, Health, Standing};
use crate::policy::outcome::Outcome;

pub use checks::Unhealthy;
pub use readings::{BreakerReading, HealthReading, Reading};

/// One address of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddress,
    /// The address as text, for logs, metrics and messages.
    pub label: Arc<str>,
    /// What `host` says where a request names none.
    pub host: Arc<str>,
    /// A stable hash of the address.
    pub key: u64,
    /// How it is spoken to under TLS; `None`: it is not.
    pub secured: Option<Secured>,
    /// Its idle connections of HTTP/1.1.
    pub pool: Pool<Box<Http1>>,
    /// Its connections of HTTP/2.
    pub streams: Arc<StreamPool>,
}

/// A place for an endpoint, as the configuration and the names say now.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Where it is.
    pub address: SocketAddress,
    /// Its share of the traffic; 0: it gets requests only where no other can take them.
    pub weight: u32,
    /// How it is spoken to under TLS; `None`: it is not.
    pub secured: Option<Secured>,
}

impl From<(SocketAddress, u32)> for Place {
    fn from((address, weight): (SocketAddress, u32)) -> Self {
        Self {
            address,
            weight,
            secured: None,
        }
    }
}

#[derive(Debug)]
struct Member {
    endpoint: Arc<Endpoint>,
    /// The endpoint's, without a look at it: every choice goes by the keys of all.
    key: u64,
    weight: u32,
    breaker: Breaker,
    penalty: Penalty,
    in_flight: u32,
    /// It has left the upstream; its last requests still run.
    leaving: bool,
    /// What its checks showed; `None`: it is not checked.
    health: Option<Health>,
}

#[derive(Debug, Default)]
struct Members {
    list: Vec<Member>,
    memory: balance::Memory,
    /// How they are checked; `None`: they are not.
    check: Option<Arc<health::Settings>>,
    /// Room for a choice: the candidates, and the members that they are.
    candidates: Vec<Candidate>,
    indexes: Vec<usize>,
}

/// In which order endpoints are asked, until there is one that may be: by what is known of them, and
/// whether only those that the request has not tried yet (rules 28, 53).
const CHOICE: [(Rank, bool); 6] = [
    (Rank::Named, true),
    (Rank::Named, false),
    (Rank::Kept, true),
    (Rank::Kept, false),
    (Rank::Unchecked, true),
    (Rank::Unchecked, false),
];

/// What is known of an endpoint, as far as it matters for when it is asked; the earlier ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nothing is against it.
    Named,
    /// It works as far as is known, but its source names it no more (rule 68).
    Kept,
    /// It has not been checked yet.
    Unchecked,
}

/// The endpoints of one upstream.
#[derive(Debug)]
pub struct Roster {
    members: Mutex<Members>,
    /// Where the endpoints are, as it was said last.
    placed: Mutex<Vec<Place>>,
    workers: usize,
    /// Told when there are other endpoints, or they are checked in another way.
    changed: Notify,
}

/// A breaker that moved, for metrics, logs and the page.
#[derive(Debug, Clone)]
pub struct Move {
    /// Which endpoint's.
    pub endpoint: Arc<str>,
    /// From where to where.
    pub transition: Transition,
    /// Why, where it opened.
    pub cause: Option<Cause>,
    /// Until the next probe, where it opened.
    pub retry_in: Option<Duration>,
}

/// Breakers that moved in one decision; mostly none.
pub type Moves = SmallVec<[Move; 1]>;

/// What a choice of an endpoint depends on.
#[derive(Debug)]
pub struct Wish<'a> {
    /// The route's breaker settings; `None`: off.
    pub breaker: Option<&'a Arc<breaker::Settings>>,
    /// How to choose.
    pub balance: &'a balance::Settings,
    /// The hash of what `balance: hash` goes by.
    pub hash: Option<u64>,
    /// Keys of endpoints that this request has tried already: others are preferred (rule 28).
    pub tried: &'a [u64],
}

/// Why no endpoint may be tried.
#[derive(Debug)]
pub enum Refusal {
    /// There is none.
    NoEndpoint,
    /// Every one is unhealthy by its checks.
    Unhealthy(Box<Unhealthy>),
    /// The breaker of every one that may be healthy is open.
    BreakerOpen {
        /// Why the one that will be probed first is open.
        cause: Option<Cause>,
        /// Until then; zero where probes are under way, `None` where no time is known.
        retry_in: Option<Duration>,
    },
}

/// The right to one try at one endpoint. Settled once; dropped, it says "learnt nothing" (rule 38).
#[derive(Debug)]
pub struct Admission {
    roster: Arc<Roster>,
    endpoint: Arc<Endpoint>,
    /// Where it was among the members.
    at: usize,
    settings: Option<Arc<breaker::Settings>>,
    ticket: Option<Ticket>,
    picked: Picked,
    open: bool,
}

impl Roster {
    /// No endpoints yet; pools get a shard for each of so many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            members: Mutex::default(),
            placed: Mutex::default(),
            workers,
            changed: Notify::new(),
        })
    }

    /// Chooses an endpoint among those whose breaker admits, and takes the right to try it. Those that
    /// no check has told of yet are asked while no healthy one may be; unhealthy ones are not.
    ///
    /// # Errors
    /// Why there is none; breakers that moved on the way are told in any case.
    pub fn pick(
        self: &Arc<Self>,
        wish: &Wish<'_>,
        now: Instant,
        chance: [f64; 2],
    ) -> (Result<Admission, Refusal>, Moves) {
        let mut moves = Moves::new();
        let mut members = self.members.lock();
        let Members {
            list,
            memory,
            check,
            candidates,
            indexes,
        } = &mut *members;
        candidates.clear();
        indexes.clear();
        for (rank, fresh_only) in CHOICE {
            for (index, member) in list.iter_mut().enumerate() {
                let tried = wish.tried.contains(&member.key);
                if member.leaving || tried == fresh_only || member.rank() != Some(rank) {
                    continue;
                }
                if let Some(share) = member.share(wish.breaker, now, &mut moves) {
                    let mut candidate = member.candidate(share, now);
                    if rank == Rank::Kept {
                        // Among themselves they are alike.
                        candidate.weight = share;
                    }
                    candidates.push(candidate);
                    indexes.push(index);
                }
            }
            if !candidates.is_empty() {
                break;
            }
        }
        let anyway = candidates.is_empty()
            && wish
                .breaker
                .is_some_and(|settings| settings.when_all_open == WhenAllOpen::SendAnyway);
        if anyway {
            let lost = list.iter().all(Member::is_out);
            let staying = list.iter_mut().enumerate().filter(|(_, m)| !m.leaving);
            // One that a check has found dead is the last that is asked.
            for (index, member) in staying.filter(|(_, member)| lost || !member.is_out()) {
                candidates.push(member.candidate(1.0, now));
                indexes.push(index);
            }
        }
        let chosen = wish.balance.pick(memory, candidates, chance, wish.hash);
        let chosen = chosen.and_then(|pick| {
            let (at, candidate) = (*indexes.get(pick.place)?, candidates.get(pick.place)?);
            Some((at, pick.how, candidate.weight))
        });
        let Some((at, how, weight)) = chosen else {
            let check = check.as_deref();
            return (Err(refusal(list, check, wish.breaker, now)), moves);
        };
        let mut picked = picked::picked(list, at, candidates.len(), wish, how, anyway);
        let member = &mut list[at];
        let ticket = wish.breaker.map(|settings| {
            let ticket = member.breaker.admit(settings, now);
            ticket.unwrap_or_else(|| member.breaker.bypass())
        });
        picked.share = (weight / f64::from(member.weight.max(1))) as f32;
        picked.probe = ticket.as_ref().is_some_and(Ticket::is_probe);
        member.in_flight += 1;
        let admission = Admission {
            roster: Arc::clone(self),
            endpoint: Arc::clone(&member.endpoint),
            at,
            settings: wish.breaker.cloned(),
            ticket,
            picked,
            open: true,
        };
        (Ok(admission), moves)
    }

    /// Sets or lifts the operator's hand on the breaker of the endpoint with that label; `None` where
    /// there is none.
    pub fn force(&self, label: &str, forced: Option<Forced>, now: Instant) -> Option<Option<Move>> {
        let mut members = self.members.lock();
        let member = members
            .list
            .iter_mut()
            .find(|m| !m.leaving && *m.endpoint.label == *label)?;
        let transition = member.breaker.force(forced, now);
        Some(transition.map(|transition| member.moved(transition, now)))
    }

    /// Closes idle connections that have expired or were closed by their peer.
    pub fn sweep(&self, settings: &plan::Pool, now: Instant) {
        for endpoint in self.endpoints() {
            endpoint.pool.sweep(settings.idle_timeout, now);
            endpoint.streams.sweep(settings, now);
        }
    }

    /// An idle connection to an endpoint other than `not_to` is closed, so that its place can be used;
    /// whether there was one.
    pub fn close_one_idle(&self, not_to: &Endpoint, worker: usize, now: Instant) -> bool {
        let endpoints = self.endpoints();
        let mut others = endpoints.iter().filter(|other| other.key != not_to.key);
        others.any(|e| e.pool.take_any(worker, Duration::MAX, now).is_some())
    }

    /// The endpoints, those that are leaving included.
    pub fn endpoints(&self) -> SmallVec<[Arc<Endpoint>; 8]> {
        self.members
            .lock()
            .list
            .iter()
            .map(|member| Arc::clone(&member.endpoint))
            .collect()
    }

    fn give_back(
        &self,
        (at, key): (usize, u64),
        judge: Option<(Ticket, &breaker::Settings)>,
        seen: Option<(Observation, f64)>,
        now: Instant,
    ) -> Option<Move> {
        let mut members = self.members.lock();
        // Only a failure or a slow call can open a breaker: others need not look at the siblings.
        let settings = judge.as_ref().map(|(_, settings)| *settings);
        let settings = settings.filter(|settings| {
            let failed = seen.is_some_and(|(seen, _)| seen.outcome == Outcome::Failure);
            failed || settings.slow_rate.is_some()
        });
        let peers = settings.and_then(|settings| members.peers(key, settings, now));
        let may_open = settings.is_some_and(|settings| members.may_open(key, settings, now));
        let member = members.find_near(at, key)?;
        member.in_flight = member.in_flight.saturating_sub(1);
        if let Some((observation, _)) = &seen {
            member.penalty.record(now, observation.outcome);
        }
        let gone = member.leaving && member.in_flight == 0;
        let moved = match (judge, seen) {
            (Some((ticket, settings)), Some((observation, chance))) => member
                .breaker
                .settle(
                    settings,
                    now,
                    ticket,
                    observation,
                    may_open,
                    peers.as_ref(),
                    chance,
                )
                .map(|transition| member.moved(transition, now)),
            (Some((ticket, _)), None) => {
                member.breaker.release(ticket);
                None
            }
            (None, _) => None,
        };
        let gone = gone.then(|| members.take_gone());
        drop(members);
        for member in gone.into_iter().flatten() {
            member.endpoint.close_idle();
        }
        moved
    }

    /// An answer's body broke off after its head was judged: one more failing observation.
    pub fn late_failure(
        &self,
        key: u64,
        settings: &breaker::Settings,
        now: Instant,
        chance: f64,
    ) -> Option<Move> {
        let mut members = self.members.lock();
        let may_open = members.may_open(key, settings, now);
        let member = members.find_near(0, key)?;
        member.penalty.record(now, Outcome::Failure);
        let transition = member
            .breaker
            .late_failure(settings, now, may_open, chance)?;
        Some(member.moved(transition, now))
    }
}

impl Endpoint {
    pub(super) fn new(place: &Place, workers: usize) -> Arc<Self> {
        let label: Arc<str> = place.address.to_string().into();
        let host = match &place.address {
            SocketAddress::Ip(_) => Arc::clone(&label),
            SocketAddress::Unix(_) => "localhost".into(),
        };
        Arc::new(Self {
            address: place.address.clone(),
            host,
            key: balance::hash(label.as_bytes()),
            label,
            secured: place.secured.clone(),
            pool: Pool::new(workers),
            streams: Arc::default(),
        })
    }

    /// Its connections take no new requests; those that are idle are closed.
    fn close_idle(&self) {
        self.pool.clear();
        self.streams.retire_all();
    }
}

impl Members {
    /// Takes out those that have left and have no request any more: to be dropped without the lock.
    fn take_gone(&mut self) -> Vec<Member> {
        let is_gone = |member: &mut Member| member.leaving && member.in_flight == 0;
        self.list.extract_if(.., is_gone).collect()
    }

    /// The member of that key; mostly it is still where it was.
    fn find_near(&mut self, at: usize, key: u64) -> Option<&mut Member> {
        let is_it = |member: &Member| member.key == key;
        let at = match self.list.get(at) {
            Some(member) if is_it(member) => at,
            Some(_) | None => self.list.iter().position(is_it)?,
        };
        self.list.get_mut(at)
    }

    /// Whether this endpoint's breaker may open beside those that are open, or unhealthy, already.
    fn may_open(&self, key: u64, settings: &breaker::Settings, now: Instant) -> bool {
        let (open, endpoints) = self.open_beside(Some(key), settings, now);
        breaker::may_open(open, endpoints, settings.max_open)
    }

    /// How many endpoints but this one are open, or unhealthy, and how many there are with it.
    fn open_beside(
        &self,
        key: Option<u64>,
        settings: &breaker::Settings,
        now: Instant,
    ) -> (usize, usize) {
        let (mut open, mut endpoints) = (0, 0);
        for member in self.list.iter().filter(|member| member.is_named()) {
            endpoints += 1;
            open += usize::from(Some(member.key) != key && member.takes_nothing(settings, now));
        }
        (open, endpoints)
    }

    fn peers(&mut self, key: u64, settings: &breaker::Settings, now: Instant) -> Option<Peers> {
        settings.peer_deviation?;
        let others = self.list.iter_mut().filter(|m| !m.leaving && m.key != key);
        Peers::of(others.filter_map(|member| member.breaker.success_rate(settings, now)))
    }
}

impl Member {
    fn new(endpoint: Arc<Endpoint>, weight: u32) -> Self {
        Self {
            key: endpoint.key,
            endpoint,
            weight,
            breaker: Breaker::new(),
            penalty: Penalty::default(),
            in_flight: 0,
            leaving: false,
            health: None,
        }
    }

    /// What its checks make of it; one that is not checked counts as healthy.
    fn standing(&self) -> Standing {
        self.health
            .as_ref()
            .map_or(Standing::Healthy, Health::standing)
    }

    /// When it is asked; `None`: not at all.
    fn rank(&self) -> Option<Rank> {
        match (self.standing(), self.weight) {
            (Standing::Unhealthy, _) => None,
            (Standing::Healthy | Standing::Unchecked, 0) => Some(Rank::Kept),
            (Standing::Healthy, _) => Some(Rank::Named),
            (Standing::Unchecked, _) => Some(Rank::Unchecked),
        }
    }

    /// Whether it counts among the endpoints: those that are only kept make up for none that opens.
    fn is_named(&self) -> bool {
        !self.leaving && self.weight > 0
    }

    /// Whether it gets no requests, or probes at most.
    fn takes_nothing(&self, settings: &breaker::Settings, now: Instant) -> bool {
        self.is_out() || self.breaker.state(settings, now) != State::Closed
    }

    /// Whether it gets no requests, whatever its breaker says.
    fn is_out(&self) -> bool {
        self.leaving || self.standing() == Standing::Unhealthy
    }

    /// The share of its traffic that the endpoint may have now; `None`: nothing.
    fn share(
        &mut self,
        settings: Option<&Arc<breaker::Settings>>,
        now: Instant,
        moves: &mut Moves,
    ) -> Option<f64> {
        let Some(settings) = settings else {
            return Some(1.0);
        };
        let (gate, transition) = self.breaker.gate(settings, now);
        if let Some(transition) = transition {
            moves.push(self.moved(transition, now));
        }
        match gate {
            Gate::Closed { share } => Some(share),
            Gate::Probing => {
                // Its probes decide now. With its old failures counted as load, a calm upstream's
                // balance would send it none for as long as they are remembered.
                self.penalty = Penalty::default();
                Some(1.0)
            }
            Gate::Shut => None,
        }
    }

    fn candidate(&mut self, share: f64, now: Instant) -> Candidate {
        Candidate {
            load: self.in_flight,
            weight: f64::from(self.weight) * share,
            key: self.key,
            penalty: self.penalty.value(now),
        }
    }

    fn moved(&self, transition: Transition, now: Instant) -> Move {
        let opened = transition.to == State::Open;
        Move {
            endpoint: Arc::clone(&self.endpoint.label),
            transition,
            cause: opened.then(|| self.breaker.cause().cloned()).flatten(),
            retry_in: opened.then(|| self.breaker.retry_in(now)).flatten(),
        }
    }
}

impl Admission {
    /// Where to try.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Why it was that one.
    pub fn picked(&self) -> Picked {
        self.picked
    }

    /// The route's breaker settings that it was given under.
    pub fn settings(&self) -> Option<&Arc<breaker::Settings>> {
        self.settings.as_ref()
    }

    /// Tells what came of the try.
    pub fn settle(mut self, seen: Observation, now: Instant, chance: f64) -> Option<Move> {
        self.open = false;
        self.give_back(Some((seen, chance)), now)
    }

    fn give_back(&mut self, seen: Option<(Observation, f64)>, now: Instant) -> Option<Move> {
        let judge = self.ticket.take().zip(self.settings.as_deref());
        let place = (self.at, self.endpoint.key);
        self.roster.give_back(place, judge, seen, now)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.open {
            self.give_back(None, crate::clock::now());
        }
    }
}

fn refusal(
    list: &[Member],
    check: Option<&health::Settings>,
    settings: Option<&Arc<breaker::Settings>>,
    now: Instant,
) -> Refusal {
    let next_probe = |member: &Member| {
        let state = settings.map(|settings| member.breaker.state(settings, now));
        match state {
            // Half-open, and no place is free: its probes are under way.
            Some(State::HalfOpen) => Some(Duration::ZERO),
            Some(State::Open | State::Closed) | None => member.breaker.retry_in(now),
        }
    };
    let soonest = list
        .iter()
        .filter(|member| !member.is_out())
        .min_by_key(|member| next_probe(member).unwrap_or(Duration::MAX));
    match soonest {
        None => checks::refusal(list, check, now),
        Some(member) => Refusal::BreakerOpen {
            cause: member.breaker.cause().cloned(),
            retry_in: next_probe(member),
        },
    }
}

#[cfg(test)]
mod tests;
