//! A body on its way from whoever reads a connection to whoever wants it. One part at a time, and only
//! when it is asked for: what nobody takes stays with the sender. Both ends mostly run in one task; but
//! either may be in another, and then wakes the other.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::received::ReceiveError;

/// A part of a body, or why it broke off.
pub type Part = Result<Frame<Bytes>, ReceiveError>;

/// The end where parts are put in.
#[derive(Debug)]
pub struct Feed(Arc<Mutex<State>>);

/// The end where parts are taken out.
#[derive(Debug)]
pub struct Inbox(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    part: Option<Part>,
    /// Nothing follows the part.
    over: bool,
    /// The connection has ended before the body did.
    broken: bool,
    /// The reader waits for a part.
    wanted: bool,
    /// The reader has gone.
    dropped: bool,
    /// Bytes that are still to be taken, where that is known.
    left: Option<u64>,
    reader: Option<Waker>,
    feeder: Option<Waker>,
}

/// Both ends for a body of so many bytes.
pub fn inbox(left: Option<u64>) -> (Feed, Inbox) {
    let state = Arc::new(Mutex::new(State {
        part: None,
        over: false,
        broken: false,
        wanted: false,
        dropped: false,
        left,
        reader: None,
        feeder: None,
    }));
    (Feed(Arc::clone(&state)), Inbox(state))
}

impl Feed {
    /// Whether the reader waits for a part.
    pub fn is_wanted(&self) -> bool {
        self.0.lock().wanted
    }

    /// Waits until the reader wants a part; `false`: it has gone.
    pub fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.lock();
        if state.dropped || state.wanted {
            return Poll::Ready(!state.dropped);
        }
        state.feeder = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Gives the reader a part, which it wanted; `then_over`: nothing follows.
    pub fn put(&self, part: Part, then_over: bool) {
        let mut state = self.0.lock();
        state.part = Some(part);
        state.over = then_over;
        state.wanted = false;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Nothing follows.
    pub fn end(&self) {
        let mut state = self.0.lock();
        state.over = true;
        state.wanted = false;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether all was put in.
    pub fn is_over(&self) -> bool {
        self.0.lock().over
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.over {
            return;
        }
        state.broken = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Inbox {
    /// The next part; `None`: nothing follows.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        let mut state = self.0.lock();
        if let Some(part) = state.part.take() {
            let data = part.as_ref().ok().and_then(Frame::data_ref);
            let bytes = data.map_or(0, Bytes::len) as u64;
            state.left = state.left.map(|left| left.saturating_sub(bytes));
            return Poll::Ready(Some(part));
        }
        if state.over {
            return Poll::Ready(None);
        }
        if state.broken {
            // What was put in came first.
            state.over = true;
            let gone = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection has ended");
            return Poll::Ready(Some(Err(ReceiveError::Broken(gone))));
        }
        state.wanted = true;
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        let feeder = state.feeder.take();
        drop(state);
        if let Some(feeder) = feeder {
            feeder.wake();
        }
        Poll::Pending
    }

    /// Whether it is known that nothing follows.
    pub fn is_end_stream(&self) -> bool {
        let state = self.0.lock();
        state.part.is_none() && state.over
    }

    /// How many bytes follow, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        let state = self.0.lock();
        let known = state.left;
        known.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.dropped = true;
        let feeder = state.feeder.take();
        drop(state);
        if let Some(feeder) = feeder {
            feeder.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asleep() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn data(text: &'static str) -> Part {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn taken(inbox: &mut Inbox) -> String {
        match inbox.poll_frame(&mut asleep()) {
            Poll::Pending => "wait".to_owned(),
            Poll::Ready(None) => "over".to_owned(),
            Poll::Ready(Some(Ok(frame))) => {
                String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
            }
            Poll::Ready(Some(Err(error))) => error.to_string(),
        }
    }

    #[test]
    fn a_part_is_asked_for_before_it_is_put_in() {
        let (feed, mut inbox) = inbox(Some(3));
        assert!(feed.poll_wanted(&mut asleep()).is_pending());
        assert_eq!(taken(&mut inbox), "wait");
        assert_eq!(feed.poll_wanted(&mut asleep()), Poll::Ready(true));
        feed.put(data("ab"), false);
        assert!(!feed.is_wanted() && !inbox.is_end_stream());
        assert_eq!(taken(&mut inbox), "ab");
        assert_eq!(inbox.size_hint().exact(), Some(1));
        assert_eq!(taken(&mut inbox), "wait");
        feed.put(data("c"), true);
        assert_eq!(
            (taken(&mut inbox), taken(&mut inbox)),
            ("c".into(), "over".into())
        );
        assert!(inbox.is_end_stream());
        drop(inbox);
        assert_eq!(feed.poll_wanted(&mut asleep()), Poll::Ready(false));
    }

    #[test]
    fn a_feed_that_is_dropped_before_the_end_breaks_the_body_off() {
        let (feed, mut one) = inbox(None);
        assert_eq!(taken(&mut one), "wait");
        drop(feed);
        assert_eq!(taken(&mut one), "the connection has ended");
        assert_eq!(taken(&mut one), "over");
        let (feed, mut one) = inbox(None);
        feed.put(data("ab"), false);
        drop(feed);
        assert_eq!(taken(&mut one), "ab");
        assert_eq!(taken(&mut one), "the connection has ended");
        assert_eq!(taken(&mut one), "over");
        let (feed, mut one) = inbox(None);
        feed.end();
        drop(feed);
        assert_eq!(taken(&mut one), "over");
    }
}
