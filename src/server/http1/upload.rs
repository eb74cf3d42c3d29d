//! A request's body on its way from the connection to whoever reads it. It is read from the socket when
//! it is wanted; what has come already is taken apart at once, so that its end is known.

use std::collections::VecDeque;
use std::io;
use std::mem::take;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use crate::live::http1::body::{Decoder, Piece};
use crate::live::inbox::{Feed, Part, inbox};
use crate::live::received::{ReceiveError, ReceivedBody};

/// Pieces up to this size are put together: chunks may be tiny.
const SMALL: usize = 1024;

/// One request's body.
pub(super) struct Upload {
    decoder: Decoder,
    /// `None`: nobody reads it any more.
    feed: Option<Feed>,
    /// What has come and was not taken yet.
    next: Option<Bytes>,
    more: VecDeque<Bytes>,
    trailers: Option<Box<HeaderMap>>,
    failed: Option<ReceiveError>,
    /// Its last byte has come.
    whole: bool,
    /// Some of it has come.
    begun: bool,
    /// The client waits to be told to send it.
    expects: bool,
}

/// What a body needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// More bytes: somebody waits for them.
    Bytes,
    /// That its client is told to send it.
    Continue,
    /// Nothing now.
    Nothing,
    /// Nothing any more: all is delivered, or it has broken off.
    Over,
    /// Nobody wants it.
    Dropped,
}

/// Takes a body that has come with its head, as most do: nobody has to be waited for. `None`: there is none,
/// or more of it is to come.
pub(super) fn take_whole(body: &Decoder, expects: bool, buffer: &mut BytesMut) -> Option<Bytes> {
    let Decoder::Length(length) = *body else {
        return None;
    };
    let length = usize::try_from(length).ok()?;
    if expects || length == 0 || length > buffer.len() {
        return None;
    }
    if length == buffer.capacity() {
        return Some(take(buffer).freeze());
    }
    // Kept for another try it would hold on to all that was read with it.
    let whole = Bytes::copy_from_slice(&buffer[..length]);
    buffer.advance(length);
    Some(whole)
}

impl Upload {
    /// A body, and what the handler gets of it. `expects`: its client waits to be told to send it.
    pub(super) fn new(decoder: Decoder, expects: bool) -> (Self, ReceivedBody) {
        let (feed, inbox) = inbox(decoder.left());
        let upload = Self {
            decoder,
            feed: Some(feed),
            next: None,
            more: VecDeque::new(),
            trailers: None,
            failed: None,
            whole: false,
            begun: false,
            expects,
        };
        (upload, ReceivedBody::Inbox(inbox))
    }

    /// Whether its last byte has come.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether nothing of it has come, and its client does not wait before it sends.
    pub(super) const fn is_due(&self) -> bool {
        !self.begun && !self.expects && self.feed.is_some()
    }

    /// Whether somebody still reads it.
    pub(super) const fn is_read(&self) -> bool {
        self.feed.is_some()
    }

    /// Bytes that are still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.decoder.left()
    }

    /// Takes from the buffer what belongs to the body.
    pub(super) fn take_in(&mut self, buffer: &mut BytesMut) {
        while !self.whole && self.failed.is_none() {
            self.begun |= !buffer.is_empty();
            match self.decoder.next(buffer) {
                Ok(Piece::Data(data)) => {
                    self.push(data);
                    // So that the last part can be told to be the last.
                    self.whole = self.decoder.is_end();
                }
                Ok(Piece::More) => return,
                Ok(Piece::End(trailers)) => {
                    self.trailers = trailers.map(Box::new);
                    self.whole = true;
                }
                Err(malformed) => self.failed = Some(malformed.into()),
            }
        }
    }

    /// No more comes: the client has ended, or the connection is broken.
    pub(super) fn break_off(&mut self, error: io::Error) {
        if !self.whole && self.failed.is_none() {
            self.failed = Some(error.into());
        }
    }

    fn push(&mut self, data: Bytes) {
        if self.feed.is_none() {
            return;
        }
        let last = self.more.back_mut().or(self.next.as_mut());
        match last {
            None => self.next = Some(data),
            Some(last) if last.len() + data.len() <= SMALL => {
                *last = joined(take(last), &data);
            }
            Some(_) => self.more.push_back(data),
        }
    }

    fn pop(&mut self) -> Option<Part> {
        if let Some(data) = self.next.take() {
            self.next = self.more.pop_front();
            return Some(Ok(Frame::data(data)));
        }
        if let Some(trailers) = self.trailers.take() {
            return Some(Ok(Frame::trailers(*trailers)));
        }
        self.failed.take().map(Err)
    }

    /// Whether nothing is left to be delivered, now or later.
    fn is_delivered(&self) -> bool {
        self.next.is_none() && self.trailers.is_none() && self.failed.is_none() && self.whole
    }

    /// Delivers what came with the head, before anybody asks for it.
    pub(super) fn begin(&mut self) {
        if !self.expects && self.next.is_some() {
            self.put();
        }
    }

    fn put(&mut self) -> Wish {
        let (Some(part), Some(feed)) = (self.pop(), &self.feed) else {
            return Wish::Bytes;
        };
        let over = part.is_err() || self.is_delivered();
        feed.put(part, over);
        if !over {
            return Wish::Nothing;
        }
        self.feed = None;
        Wish::Over
    }

    /// Delivers what was asked for, if it is there.
    pub(super) fn deliver(&mut self, cx: &mut Context<'_>) -> Wish {
        loop {
            let Some(feed) = &self.feed else {
                return Wish::Dropped;
            };
            match feed.poll_wanted(cx) {
                Poll::Pending => return Wish::Nothing,
                Poll::Ready(false) => {
                    self.feed = None;
                    (self.next, self.trailers) = (None, None);
                    self.more = VecDeque::new();
                    return Wish::Dropped;
                }
                Poll::Ready(true) if self.expects => {
                    self.expects = false;
                    return Wish::Continue;
                }
                Poll::Ready(true) if self.is_delivered() => {
                    feed.end();
                    self.feed = None;
                    return Wish::Over;
                }
                Poll::Ready(true) => {
                    let wish = self.put();
                    // Otherwise once more, to be woken when the next part is wanted.
                    if wish != Wish::Nothing {
                        return wish;
                    }
                }
            }
        }
    }
}

/// Both pieces in one.
fn joined(first: Bytes, second: &[u8]) -> Bytes {
    let mut both = match first.try_into_mut() {
        Ok(first) if first.capacity() - first.len() >= second.len() => first,
        Ok(first) => copied(&first),
        Err(first) => copied(&first),
    };
    both.extend_from_slice(second);
    both.freeze()
}

fn copied(first: &[u8]) -> BytesMut {
    let mut both = BytesMut::with_capacity(SMALL);
    both.extend_from_slice(first);
    both
}

#[cfg(test)]
mod tests;
