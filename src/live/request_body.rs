//! The body of a request on its way to the upstream: streamed as it comes, and kept beside that for
//! another try while it is small enough. Never collected before the first try (rule 19).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::received::ReceivedBody;
use super::trailers;
use crate::clock;

/// The bytes of request bodies that are kept for another try, whole process.
#[derive(Debug)]
pub struct ReplayMemory {
    used: AtomicUsize,
    limit: usize,
}

impl ReplayMemory {
    /// Room for so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// Bytes kept now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be kept.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn reserve(&self, bytes: usize) -> bool {
        self.used
            .try_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// Why a request's body broke off before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It is over the listener's limit.
    TooLarge,
    /// The client sent what is no valid body.
    Malformed,
    /// The client left.
    ClientGone,
}

/// Why a body cannot be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unkept {
    /// It is longer than `retry.max_body`.
    MaxBody,
    /// The memory for all kept bodies is used up.
    Memory,
}

/// One request's body, shared by its tries.
#[derive(Debug, Clone)]
pub struct RequestBody {
    shared: Arc<Mutex<Source>>,
}

#[derive(Debug)]
struct Source {
    incoming: ReceivedBody,
    total: Option<u64>,
    received: u64,
    limit: Option<u64>,
    ended: bool,
    trailers: Option<HeaderMap>,
    broken: Option<Broken>,
    kept: Kept,
    max_kept: usize,
    unkept: Option<Unkept>,
    memory: Arc<ReplayMemory>,
    moved: Instant,
    starved: bool,
    /// The client asked to be told before it sends the body.
    expects: bool,
    hold: Hold,
}

/// What has come of a body, for the next try.
#[derive(Debug)]
enum Kept {
    /// Copied, not shared: a chunk of one byte would hold on to the whole buffer that it was read into.
    Copied(Vec<u8>),
    /// Shared: it is in memory of its own.
    Whole(Bytes),
}

impl Kept {
    fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Whole(bytes) => bytes.len(),
        }
    }

    /// What is behind so many bytes.
    fn behind(&self, next: usize) -> Option<Bytes> {
        if next >= self.len() {
            return None;
        }
        Some(match self {
            Self::Copied(bytes) => Bytes::copy_from_slice(&bytes[next..]),
            Self::Whole(bytes) => bytes.slice(next..),
        })
    }
}

/// Whether a try has its body yet.
#[derive(Debug)]
enum Hold {
    /// It has.
    No,
    /// The upstream has not said `100 Continue`. Who wanted to read meanwhile is woken when it has.
    Back(Option<Waker>),
}

impl RequestBody {
    /// The body as it comes from the client; `max_kept` bytes are kept, `limit` may come at all.
    pub fn new(
        incoming: ReceivedBody,
        limit: Option<u64>,
        max_kept: usize,
        memory: &Arc<ReplayMemory>,
    ) -> Self {
        let source = Source {
            total: incoming.size_hint().exact(),
            ended: incoming.is_end_stream(),
            incoming,
            received: 0,
            limit,
            trailers: None,
            broken: None,
            kept: Kept::Copied(Vec::new()),
            max_kept,
            unkept: None,
            memory: Arc::clone(memory),
            moved: clock::now(),
            starved: false,
            expects: false,
            hold: Hold::No,
        };
        Self {
            shared: Arc::new(Mutex::new(source)),
        }
    }

    /// From now on each try's body is held back until it is let go of (`expect: 100-continue`).
    pub fn hold_back(&self) {
        self.shared.lock().expects = true;
    }

    /// Lets go of the body of the try that is under way, if it is held back; gives whether it was.
    pub fn let_go(&self) -> bool {
        self.shared.lock().let_go()
    }

    /// The body for one try, from its first byte. Meant to be called when no other try reads it.
    /// `None`: its first bytes have been read and were not kept. Another try would send the rest as if
    /// it were the whole.
    pub fn for_try(&self) -> Option<TryBody> {
        let mut source = self.shared.lock();
        if source.expects {
            source.hold = Hold::Back(None);
        }
        source.unkept.is_none().then(|| TryBody {
            shared: Some(Arc::clone(&self.shared)),
            next: 0,
            delivered: 0,
            total: source.total,
            held: source.expects,
        })
    }

    /// `None` while it can be sent again from its first byte.
    pub fn unkept(&self) -> Option<Unkept> {
        self.shared.lock().unkept
    }

    /// Why it broke off, if it did.
    pub fn broken(&self) -> Option<Broken> {
        self.shared.lock().broken
    }

    /// Bytes that came from the client, and whether they were all.
    pub fn progress(&self) -> (u64, bool) {
        let source = self.shared.lock();
        (source.received, source.ended)
    }

    /// How the upload stands.
    pub fn upload(&self) -> Upload {
        let source = self.shared.lock();
        let held = matches!(source.hold, Hold::Back(_));
        Upload {
            complete: source.ended,
            moved: source.moved,
            starved: source.starved,
            untouched: held && source.received == 0,
            held,
        }
    }
}

/// A try's body that is held back until the upstream asks for it.
#[derive(Debug)]
pub struct Held(Arc<Mutex<Source>>);

impl Held {
    /// The upstream wants it.
    pub fn let_go(&self) {
        self.0.lock().let_go();
    }
}

/// How far a request's body has come from the client.
#[derive(Debug, Clone, Copy)]
pub struct Upload {
    /// Its last byte has come.
    pub complete: bool,
    /// When its last byte so far came.
    pub moved: Instant,
    /// Its client waits to be told to send it, and has not been.
    pub untouched: bool,
    /// The try that is under way does not have it yet.
    pub held: bool,
    starved: bool,
}

impl Upload {
    /// The upstream would take more, but the client has not sent it.
    pub fn waits_for_client(&self) -> bool {
        self.starved && !self.complete
    }
}

/// The place behind the last byte and the trailers, in a try's body.
const PAST_TRAILERS: usize = usize::MAX;

/// A body without bytes and the body of one try are the same type, so that connections have one type.
#[derive(Debug)]
pub struct TryBody {
    shared: Option<Arc<Mutex<Source>>>,
    next: usize,
    delivered: u64,
    total: Option<u64>,
    held: bool,
}

impl TryBody {
    /// No body.
    pub fn empty() -> Self {
        Self {
            shared: None,
            next: 0,
            delivered: 0,
            total: Some(0),
            held: false,
        }
    }

    /// What lets go of it, where it is held back until the upstream says `100 Continue`.
    pub fn held(&self) -> Option<Held> {
        let shared = self.shared.as_ref().filter(|_| self.held)?;
        Some(Held(Arc::clone(shared)))
    }
}

/// The error that ends a try whose request's body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the request's body broke off")]
pub struct BodyBroken;

impl Source {
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        next: &mut usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        if let Hold::Back(waiting) = &mut self.hold {
            *waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(rest) = self.kept.behind(*next) {
            *next = self.kept.len();
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        if self.broken.is_some() {
            return Poll::Ready(Some(Err(BodyBroken)));
        }
        if self.ended {
            let trailers = self.trailers.clone().filter(|_| *next != PAST_TRAILERS);
            *next = PAST_TRAILERS;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.starved = polled.is_pending();
        let frame = std::task::ready!(polled);
        self.moved = clock::now();
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(self.accept(frame, next)),
            Some(Err(error)) => {
                let malformed = error.is_malformed();
                self.broken = Some(if malformed {
                    Broken::Malformed
                } else {
                    Broken::ClientGone
                });
                Some(Err(BodyBroken))
            }
            None => {
                self.ended = true;
                *next = PAST_TRAILERS;
                None
            }
        })
    }

    fn accept(
        &mut self,
        frame: Frame<Bytes>,
        next: &mut usize,
    ) -> Result<Frame<Bytes>, BodyBroken> {
        match frame.into_data() {
            Ok(chunk) => {
                self.received += chunk.len() as u64;
                if self.limit.is_some_and(|limit| self.received > limit) {
                    self.broken = Some(Broken::TooLarge);
                    return Err(BodyBroken);
                }
                self.keep(&chunk, next);
                self.ended = self.incoming.is_end_stream();
                Ok(Frame::data(chunk))
            }
            Err(mut frame) => {
                self.ended = true;
                if let Some(fields) = frame.trailers_mut() {
                    trailers::clean(fields);
                }
                self.trailers = frame.trailers_ref().cloned();
                *next = PAST_TRAILERS;
                Ok(frame)
            }
        }
    }

    /// Keeps the chunk, or lets go of all that is kept: a body with a gap is of no use.
    fn keep(&mut self, chunk: &Bytes, next: &mut usize) {
        if self.unkept.is_some() {
            return;
        }
        if self.kept.len() + chunk.len() > self.max_kept {
            self.unkept = Some(Unkept::MaxBody);
        } else if !self.memory.reserve(chunk.len()) {
            self.unkept = Some(Unkept::Memory);
        }
        if self.unkept.is_some() {
            self.release();
            *next = 0;
        } else {
            if matches!(self.incoming, ReceivedBody::Whole(_)) {
                self.kept = Kept::Whole(chunk.clone());
            } else if let Kept::Copied(bytes) = &mut self.kept {
                bytes.extend_from_slice(chunk);
            }
            *next = self.kept.len();
        }
    }

    fn let_go(&mut self) -> bool {
        let Hold::Back(waiting) = std::mem::replace(&mut self.hold, Hold::No) else {
            return false;
        };
        // What is waited for changes now.
        self.moved = clock::now();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        true
    }

    fn release(&mut self) {
        let kept = std::mem::replace(&mut self.kept, Kept::Copied(Vec::new()));
        self.memory.release(kept.len());
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.release();
    }
}

impl Body for TryBody {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let this = self.get_mut();
        let Some(shared) = &this.shared else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(shared.lock().poll_next(cx, &mut this.next));
        if let Some(Ok(frame)) = &frame {
            this.delivered += frame.data_ref().map_or(0, |chunk| chunk.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.shared.is_none() || self.total == Some(self.delivered)
    }

    fn size_hint(&self) -> SizeHint {
        match self.total {
            Some(total) => SizeHint::with_exact(total.saturating_sub(self.delivered)),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
