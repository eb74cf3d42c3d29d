//! The HTTP/2 connections to one endpoint and who may open a stream on which. A request that finds no
//! free stream waits in line, and leaves it when nobody waits for it any longer; connections are opened
//! on behalf of the line, by tasks of their own, as many as the line needs and the limit allows.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::driver::{self, Opener};
use super::shared::Shared;
use super::state::{Entry, Gone, Handed, Opening, State, Waiter};
use crate::clock;
use crate::live::age::after;
use crate::live::http1::connection::Http1;
use crate::live::tls::TlsFailure;
use crate::plan;

/// Streams that a connection is expected to have before the first one has told.
const EXPECTED_STREAMS: usize = 100;
/// Connections of one worker without a single stream that are held at most: another is not better.
const MOST_WITHOUT_STREAMS: usize = 2;

/// The HTTP/2 connections to one endpoint.
#[derive(Debug)]
pub struct StreamPool {
    state: Mutex<State>,
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
    pub(super) pool: Arc<StreamPool>,
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
    if let Some(failure) = TlsFailure::behind(error) {
        return io::Error::other(failure.clone());
    }
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
