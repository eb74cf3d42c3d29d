//! The streams of one connection that are with us, by number.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Response;
use http_body::Body;

use super::board::{Bell, Board};
use super::stream::{End, Stream};
use crate::proxy::client::Client;
use crate::server::deadline::NEVER;

/// All streams of a connection, and room for those that were.
pub(super) struct Streams<F, B> {
    board: Arc<Board>,
    places: Vec<Place<F, B>>,
    free: Vec<u32>,
}

struct Place<F, B> {
    stream: Stream<F, B>,
    bell: Bell,
    waker: Waker,
    taken: bool,
}

impl<F, B> Streams<F, B> {
    pub(super) fn new(board: &Arc<Board>) -> Self {
        Self {
            board: Arc::clone(board),
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Begins a stream: `handle` gives the future of its answer. Gives its number.
    pub(super) fn begin(
        &mut self,
        connection: &Client,
        began: u64,
        stall: Duration,
        respond: SendResponse<Bytes>,
        head_only: bool,
        handle: impl FnOnce(Arc<Client>) -> F,
    ) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| self.add(connection));
        if let Some(place) = self.places.get_mut(number as usize) {
            place.taken = true;
            let client = place.stream.client(connection, began, stall);
            let future = handle(Arc::clone(client));
            place.stream.begin(future, respond, head_only);
        }
        number
    }

    /// The stream's request is a CONNECT, and this is what its client sends.
    pub(super) fn keep(&mut self, number: u32, receive: RecvStream) {
        if let Some(place) = self.places.get_mut(number as usize) {
            place.stream.keep(receive);
        }
    }

    fn add(&mut self, connection: &Client) -> u32 {
        let number = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let bell = self.board.bell(number);
        let waker = bell.waker();
        self.places.push(Place {
            stream: Stream::new(connection.for_stream()),
            bell,
            waker,
            taken: false,
        });
        number
    }

    /// The earliest deadline of those that wait for their client.
    pub(super) fn deadline(&self) -> u64 {
        let deadlines = self.places.iter().map(|place| place.stream.deadline());
        deadlines.min().unwrap_or(NEVER)
    }

    /// The longest that one of the clients may refuse to take bytes.
    pub(super) fn stall(&self) -> Option<Duration> {
        let taken = self.places.iter().filter(|place| place.taken);
        taken.map(|place| place.stream.stall()).max()
    }

    /// Resets those whose client has taken nothing until its deadline; gives whether there were any.
    pub(super) fn cut_stalled(&mut self, now: u64) -> bool {
        let before = self.free.len();
        for (number, place) in (0..).zip(&mut self.places) {
            if place.taken && place.stream.deadline() <= now {
                place.stream.reset(h2::Reason::CANCEL);
                place.stream.free();
                place.taken = false;
                self.free.push(number);
            }
        }
        self.free.len() > before
    }

    /// Drops all of them where they stand.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.free.clear();
    }
}

impl<F, B> Streams<F, B>
where
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes>,
{
    /// The connection has ended: tunnels see it, and are told of as far as they came. `cut`: since the
    /// drain's time is over.
    pub(super) fn end_tunnels(&mut self, cut: bool) {
        for place in &mut self.places {
            if place.taken && place.stream.is_tunnel(cut) {
                let _ = place.stream.poll(&mut Context::from_waker(&place.waker));
            }
        }
    }

    /// Lets a stream go on. When it has ended, its place is free; `panicked` gives the answer for a
    /// handler that has panicked. Gives its deadline otherwise.
    pub(super) fn poll(
        &mut self,
        number: u32,
        panicked: impl FnOnce(&Client) -> Response<Bytes>,
    ) -> Polled {
        let Some(place) = self.places.get_mut(number as usize) else {
            return Polled::Nothing;
        };
        place.bell.heard();
        if !place.taken {
            return Polled::Nothing;
        }
        let Poll::Ready(end) = place.stream.poll(&mut Context::from_waker(&place.waker)) else {
            return Polled::Waits(place.stream.deadline());
        };
        let age = match end {
            End::Reset => Some(place.stream.age()),
            End::Panicked => {
                place.stream.answer(panicked);
                None
            }
            End::Answered | End::BrokenOff => None,
        };
        place.stream.free();
        place.taken = false;
        self.free.push(number);
        age.map_or(Polled::Ended, Polled::Reset)
    }
}

/// What came of looking at a stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Polled {
    /// There is no such stream any more.
    Nothing,
    /// It goes on; until when the client must take a byte of it.
    Waits(u64),
    /// It has ended.
    Ended,
    /// It was reset at this age.
    Reset(Duration),
}
