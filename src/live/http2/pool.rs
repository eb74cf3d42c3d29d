//! The HTTP/2 connections to one endpoint and who may open a stream on which. A request that finds no
//! free stream waits in line, and leaves it when nobody waits for it any longer; connections are opened
//! on behalf of the line, by tasks of their own, as many as the line needs and the limit allows.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::Scheme;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::driver::{self, Opener};
use super::frames::Seen;
use crate::clock;
use crate::live::age::{Age, after};
use crate::live::connection::Http1;
use crate::live::slots::Slots;
use crate::plan;

/// Streams that a connection is expected to have before the first one has told.
const EXPECTED_STREAMS: usize = 100;
/// Requests after which a connection is replaced at the latest: the ids of its streams are finite.
const MOST_REQUESTS: u64 = 1 << 29;
/// Connections of one worker without a single stream that are held at most: another is not better.
const MOST_WITHOUT_STREAMS: usize = 2;

/// The HTTP/2 connections to one endpoint.
#[derive(Debug)]
pub struct StreamPool {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: Vec<Entry>,
    opening: Vec<Opening>,
    line: VecDeque<Waiter>,
    /// The next name of a waiter or an opening.
    next: u64,
    /// Streams that the connection opened last has; 1 where it was one of HTTP/1.1.
    streams: usize,
    /// The endpoint spoke HTTP/1.1 when it was last asked.
    is_http1: bool,
    /// Another endpoint was asked to give its place.
    asked_for_room: bool,
    settings: plan::Pool,
}

/// A connection that takes requests.
#[derive(Debug)]
struct Entry {
    shared: Arc<Shared>,
    /// Streams that requests hold.
    active: usize,
    /// Streams that the other end allows.
    limit: usize,
    requests: u64,
    /// Since when it is idle, and counted so.
    idle_since: Option<Instant>,
}

#[derive(Debug)]
struct Opening {
    name: u64,
    worker: usize,
    task: AbortHandle,
}

#[derive(Debug)]
struct Waiter {
    name: u64,
    worker: usize,
    bell: oneshot::Sender<Given>,
}

/// What those who use a connection share. When the last of them and the pool have let go of it, the
/// connection says goodbye and closes.
pub(super) struct Shared {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) seen: Arc<Seen>,
    pub(super) scheme: Scheme,
    worker: usize,
    age: Age,
    slots: Arc<Slots>,
}

/// What came of waiting in line.
#[derive(Debug)]
pub(super) enum Given {
    /// A stream.
    Stream(Place),
    /// A connection of its own: the endpoint speaks HTTP/1.1.
    Http1(Box<Http1>),
    /// The connection could not be made.
    Failed(io::Error),
}

/// The right to one stream; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    pool: Arc<StreamPool>,
    pub(super) shared: Arc<Shared>,
    /// Whether it is the first on its connection.
    pub(super) first: bool,
    /// Whether the connection was there before the request.
    pub(super) reused: bool,
}

/// What a request gets that asks for a stream.
#[derive(Debug)]
pub(super) enum Asked {
    /// A stream.
    Stream(Place),
    /// A place in the line.
    InLine(InLine),
}

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
pub(super) struct InLine {
    pub(super) pool: Arc<StreamPool>,
    worker: usize,
    name: u64,
    pub(super) bell: oneshot::Receiver<Given>,
}

/// What was done for the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// Nothing: what is under way will do, or another connection would not help.
    Enough,
    /// A connection is being opened.
    Opening,
    /// It needs a connection, but no other may be opened.
    AtLimit,
}

/// What is ahead of a connection that takes requests.
#[derive(Debug)]
pub(super) struct Outlook {
    /// When its time may have come.
    pub(super) look_again: Instant,
    /// How often it is to be asked whether it lives.
    pub(super) ping_interval: Option<Duration>,
}

type Handed = SmallVec<[(oneshot::Sender<Given>, Given); 1]>;

impl Default for StreamPool {
    fn default() -> Self {
        let settings = plan::Pool {
            idle_timeout: Duration::MAX,
            max_idle: usize::MAX,
            max_requests_per_connection: None,
            max_connection_age: None,
            ping_interval: None,
        };
        Self {
            state: Mutex::new(State {
                open: Vec::new(),
                opening: Vec::new(),
                line: VecDeque::new(),
                next: 0,
                streams: EXPECTED_STREAMS,
                is_http1: false,
                asked_for_room: false,
                settings,
            }),
        }
    }
}

impl StreamPool {
    /// A stream on a connection of this worker's, or a place in the line.
    pub(super) fn ask(
        self: &Arc<Self>,
        settings: &plan::Pool,
        worker: usize,
        now: Instant,
    ) -> Asked {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        if state.settings != *settings {
            state.settings = settings.clone();
        }
        if let Some(place) = state.take(self, Some(worker), now, &mut gone) {
            return Asked::Stream(place);
        }
        let name = state.name();
        let (ring, bell) = oneshot::channel();
        let waiter = Waiter {
            name,
            worker,
            bell: ring,
        };
        state.line.push_back(waiter);
        Asked::InLine(InLine {
            pool: Arc::clone(self),
            worker,
            name,
            bell,
        })
    }

    /// Opens a connection for the worker's part of the line, where it needs one.
    pub(super) fn grow(self: &Arc<Self>, worker: usize, opener: &Opener) -> Growth {
        let mut state = self.state.lock();
        let waiting = state.line.iter().filter(|one| one.worker == worker).count();
        let opening = state
            .opening
            .iter()
            .filter(|one| one.worker == worker)
            .count();
        let each = state.streams.max(1);
        let own = |entry: &&Entry| entry.shared.worker == worker && entry.limit == 0;
        let without = state.open.iter().filter(own).count();
        if waiting <= opening.saturating_mul(each) || without >= MOST_WITHOUT_STREAMS {
            return Growth::Enough;
        }
        let Some(slot) = opener.slots.take(opener.max_connections) else {
            return Growth::AtLimit;
        };
        let name = state.name();
        let task = driver::open(Arc::clone(self), name, worker, opener.clone(), slot);
        let task = tokio::spawn(task).abort_handle();
        state.opening.push(Opening { name, worker, task });
        state.asked_for_room = false;
        Growth::Opening
    }

    /// A stream on a connection of any worker's, for one who waits in line and can have no other.
    pub(super) fn take_any(self: &Arc<Self>, now: Instant) -> Option<Place> {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        state.take(self, None, now, &mut gone)
    }

    /// Whether the endpoint spoke HTTP/1.1 when it was last asked.
    pub(super) fn is_http1(&self) -> bool {
        self.state.lock().is_http1
    }

    /// Whether another endpoint should be asked for room: once for each connection that is opened.
    pub(super) fn may_ask_for_room(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().asked_for_room, true)
    }

    /// Closes an idle connection, so that its place can be used elsewhere; whether there was one. It is
    /// free when the connection has closed.
    pub fn close_one_idle(&self) -> bool {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        let idle = state
            .open
            .iter()
            .position(|entry| entry.idle_since.is_some());
        if let Some(index) = idle {
            state.retire(index, &mut gone);
        }
        idle.is_some()
    }

    /// No connection takes another request; they close when their last one is done.
    pub fn retire_all(&self) {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        while !state.open.is_empty() {
            state.retire(0, &mut gone);
        }
    }

    /// Closes what has been idle or open for longer than it may.
    pub fn sweep(&self, settings: &plan::Pool, now: Instant) {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        if state.open.is_empty() {
            return;
        }
        state.settings = settings.clone();
        let mut index = 0;
        while index < state.open.len() {
            if state.is_over(index, now) {
                state.retire(index, &mut gone);
            } else {
                index += 1;
            }
        }
    }

    /// A connection was opened; the first in line get its streams.
    pub(super) fn opened(
        self: &Arc<Self>,
        opening: u64,
        shared: &Arc<Shared>,
        limit: usize,
    ) -> bool {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        if !state.forget_opening(opening) {
            return false;
        }
        state.streams = limit;
        state.is_http1 = false;
        state.open.push(Entry {
            shared: Arc::clone(shared),
            active: 0,
            limit,
            requests: 0,
            idle_since: None,
        });
        let mut handed = state.serve(self, shared, &mut gone);
        for (_, given) in &mut handed {
            if let Given::Stream(place) = given {
                place.reused = false;
            }
        }
        state.rest(shared, clock::now(), &mut gone);
        drop(state);
        hand_out(handed);
        // Those who still wait may need another one.
        shared.slots.nudge();
        true
    }

    /// The endpoint turned out to speak HTTP/1.1: the first of the worker's who waits gets the
    /// connection, nobody else can.
    pub(super) fn opened_http1(&self, opening: u64, worker: usize, connection: Box<Http1>) {
        let mut state = self.state.lock();
        if !state.forget_opening(opening) {
            return;
        }
        state.streams = 1;
        state.is_http1 = true;
        let first = state.line.iter().position(|one| one.worker == worker);
        let first = first.and_then(|index| state.line.remove(index));
        drop(state);
        if let Some(waiter) = first {
            hand_out([(waiter.bell, Given::Http1(connection))]);
        }
    }

    /// A connection could not be made: those for whom it was to be are told. `None`: it took too long,
    /// which each of them knows for itself.
    pub(super) fn not_opened(&self, opening: u64, worker: usize, error: Option<&io::Error>) {
        let mut handed = Handed::new();
        let mut state = self.state.lock();
        if !state.forget_opening(opening) {
            return;
        }
        if let Some(error) = error {
            for _ in 0..state.streams.max(1) {
                let first = state.line.iter().position(|one| one.worker == worker);
                let Some(waiter) = first.and_then(|index| state.line.remove(index)) else {
                    break;
                };
                handed.push((waiter.bell, Given::Failed(again(error))));
            }
        }
        drop(state);
        hand_out(handed);
    }

    /// The other end allows another number of streams now.
    pub(super) fn limit_changed(self: &Arc<Self>, shared: &Arc<Shared>, limit: usize) {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        state.streams = limit;
        let Some(index) = state.find(shared) else {
            return;
        };
        state.open[index].limit = limit;
        let handed = state.serve(self, shared, &mut gone);
        drop(state);
        hand_out(handed);
        shared.slots.nudge();
    }

    /// The connection takes no other request.
    pub(super) fn retire(&self, shared: &Arc<Shared>) {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        if let Some(index) = state.find(shared) {
            state.retire(index, &mut gone);
        }
        drop(state);
        shared.slots.nudge();
    }

    /// Looks at a connection whose time may have come; `None`: it is not one for new requests any more.
    pub(super) fn look(&self, shared: &Arc<Shared>, now: Instant) -> Option<Outlook> {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        let index = state.find(shared)?;
        if state.is_over(index, now) {
            state.retire(index, &mut gone);
            return None;
        }
        let idle_since = state.open[index].idle_since.unwrap_or(now);
        let idle_until = after(idle_since, state.settings.idle_timeout);
        let ends = shared.age.ends(&state.settings);
        Some(Outlook {
            look_again: ends.map_or(idle_until, |end| end.min(idle_until)),
            ping_interval: state.settings.ping_interval,
        })
    }

    /// Whether more streams are held than the other end allows now.
    pub(super) fn is_over_limit(&self, shared: &Arc<Shared>) -> bool {
        let state = self.state.lock();
        let entry = state.find(shared).map(|index| &state.open[index]);
        entry.is_some_and(|entry| entry.active > entry.limit)
    }

    fn release(self: &Arc<Self>, shared: &Arc<Shared>) {
        let mut gone = Gone::new();
        let mut state = self.state.lock();
        let Some(index) = state.find(shared) else {
            return;
        };
        state.open[index].active -= 1;
        let handed = state.serve(self, shared, &mut gone);
        state.rest(shared, clock::now(), &mut gone);
        drop(state);
        hand_out(handed);
    }

    fn leave(&self, name: u64, worker: usize) {
        let mut aborted: SmallVec<[Opening; 1]> = SmallVec::new();
        let mut state = self.state.lock();
        state.line.retain(|one| one.name != name);
        if !state.line.iter().any(|one| one.worker == worker) {
            // Nobody waits for what is being opened.
            let idle = state.opening.extract_if(.., |one| one.worker == worker);
            aborted.extend(idle);
        }
        drop(state);
        for opening in aborted {
            opening.task.abort();
        }
    }
}

/// Connections that were let go of under the lock, to be dropped behind it.
type Gone = SmallVec<[Arc<Shared>; 1]>;

impl State {
    fn name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn find(&self, shared: &Arc<Shared>) -> Option<usize> {
        self.open
            .iter()
            .position(|entry| Arc::ptr_eq(&entry.shared, shared))
    }

    fn forget_opening(&mut self, name: u64) -> bool {
        let index = self.opening.iter().position(|one| one.name == name);
        index.map(|index| self.opening.swap_remove(index)).is_some()
    }

    /// A stream of the first connection that has one: the others can become idle and close.
    fn take(
        &mut self,
        pool: &Arc<StreamPool>,
        worker: Option<usize>,
        now: Instant,
        gone: &mut Gone,
    ) -> Option<Place> {
        let mut index = 0;
        while index < self.open.len() {
            let entry = &self.open[index];
            if worker.is_some_and(|worker| worker != entry.shared.worker)
                || entry.active >= entry.limit
            {
                index += 1;
            } else if self.is_over(index, now) || entry.shared.seen.is_going_away() {
                self.retire(index, gone);
            } else {
                return Some(self.hold(index, pool, gone));
            }
        }
        None
    }

    fn hold(&mut self, index: usize, pool: &Arc<StreamPool>, gone: &mut Gone) -> Place {
        let entry = &mut self.open[index];
        entry.active += 1;
        entry.requests += 1;
        if entry.idle_since.take().is_some() {
            entry.shared.slots.wake();
        }
        let place = Place {
            pool: Arc::clone(pool),
            shared: Arc::clone(&entry.shared),
            first: entry.requests == 1,
            reused: true,
        };
        let most = self.settings.max_requests_per_connection;
        if entry.requests >= most.unwrap_or(MOST_REQUESTS).min(MOST_REQUESTS) {
            self.retire(index, gone);
        }
        place
    }

    /// Gives the free streams of a connection to those who wait: to the first in line, but not to one
    /// of another worker for whom a connection is being opened.
    fn serve(&mut self, pool: &Arc<StreamPool>, shared: &Arc<Shared>, gone: &mut Gone) -> Handed {
        let mut handed = Handed::new();
        while let Some(index) = self.find(shared) {
            let entry = &self.open[index];
            if self.line.is_empty() || entry.active >= entry.limit {
                break;
            }
            let first = self.line.iter().position(|one| {
                let is_served = |opening: &Opening| opening.worker == one.worker;
                one.worker == shared.worker || !self.opening.iter().any(is_served)
            });
            let Some(waiter) = first.and_then(|first| self.line.remove(first)) else {
                break;
            };
            let place = self.hold(index, pool, gone);
            handed.push((waiter.bell, Given::Stream(place)));
        }
        handed
    }

    /// A connection without a stream is idle from now on, or closes where enough are.
    fn rest(&mut self, shared: &Arc<Shared>, now: Instant, gone: &mut Gone) {
        let Some(index) = self.find(shared) else {
            return;
        };
        let entry = &mut self.open[index];
        if entry.active > 0 || entry.idle_since.is_some() {
            return;
        }
        if entry.shared.slots.rest(self.settings.max_idle) {
            entry.idle_since = Some(now);
        } else {
            self.retire(index, gone);
        }
    }

    /// Whether a connection has been idle or open for as long as it may.
    fn is_over(&self, index: usize, now: Instant) -> bool {
        let entry = &self.open[index];
        let idle = entry.idle_since;
        let is_idle = |since| now.saturating_duration_since(since) >= self.settings.idle_timeout;
        let ends = entry.shared.age.ends(&self.settings);
        idle.is_some_and(is_idle) || ends.is_some_and(|end| now >= end)
    }

    fn retire(&mut self, index: usize, gone: &mut Gone) {
        let entry = self.open.remove(index);
        if entry.idle_since.is_some() {
            entry.shared.slots.wake();
        }
        gone.push(entry.shared);
    }
}

impl Shared {
    pub(super) fn new(
        sender: SendRequest<Bytes>,
        seen: Arc<Seen>,
        scheme: Scheme,
        worker: usize,
        slots: &Arc<Slots>,
    ) -> Arc<Self> {
        Arc::new(Self {
            sender,
            seen,
            scheme,
            worker,
            age: Age::begin(clock::now()),
            slots: Arc::clone(slots),
        })
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// Its connection takes no other request.
    pub(super) fn retire(&self) {
        self.pool.retire(&self.shared);
    }

    /// Whether more streams of its connection are held than the other end allows now.
    pub(super) fn is_over_limit(&self) -> bool {
        self.pool.is_over_limit(&self.shared)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.release(&self.shared);
    }
}

impl InLine {
    /// Opens a connection, where this worker's part of the line needs one.
    pub(super) fn grow(&self, opener: &Opener) -> Growth {
        self.pool.grow(self.worker, opener)
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        // A stream that came at the very moment of giving up goes on to the next with the bell.
        self.pool.leave(self.name, self.worker);
    }
}

impl Drop for StreamPool {
    fn drop(&mut self) {
        self.retire_all();
    }
}

/// Outside the lock: what nobody takes any more is given back at once.
fn hand_out(handed: impl IntoIterator<Item = (oneshot::Sender<Given>, Given)>) {
    for (bell, given) in handed {
        let _ = bell.send(given);
    }
}

/// The same error once more, for another who waited for the same.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
