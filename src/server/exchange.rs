//! Where a connection stands between a request and its answer. The wire below the HTTP library, the
//! service above it and the task around it share this; all of them run in one task, so the atomics
//! are plain loads and stores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// Where a connection stands.
///
/// ```text
///         first byte        head complete         answer's body      written out and
///                                                 handed over        request read
/// Idle ─────────────▶ Head ──────────────▶ Serving ────────▶ Answered ─────────────▶ Idle
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Between requests.
    Idle = 0,
    /// A head has begun.
    Head = 1,
    /// A request is with the handler, or its answer's body is being sent.
    Serving = 2,
    /// The answer is complete, but not yet written out, or the request not yet read.
    Answered = 3,
}

impl Stage {
    /// Whether an answer is due or under way. Only then may the HTTP library write: what it writes at
    /// other times is an error answer of its own making.
    pub(super) const fn is_busy(self) -> bool {
        matches!(self, Self::Serving | Self::Answered)
    }
}

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// Where one connection stands, and until when it may.
#[derive(Debug)]
pub(super) struct Exchange {
    stage: AtomicU8,
    /// Nanoseconds after the connection was accepted.
    deadline: AtomicU64,
    panicked: AtomicBool,
    old: AtomicBool,
    whole: AtomicBool,
    flush: AtomicBool,
}

impl Exchange {
    pub(super) const fn new(deadline: u64) -> Self {
        Self {
            stage: AtomicU8::new(Stage::Idle as u8),
            deadline: AtomicU64::new(deadline),
            panicked: AtomicBool::new(false),
            old: AtomicBool::new(false),
            whole: AtomicBool::new(false),
            flush: AtomicBool::new(false),
        }
    }

    /// The answer's body waits until all before it has been written out.
    pub(super) fn await_flush(&self) {
        self.flush.store(true, Relaxed);
    }

    /// All has been written out; gives whether the answer's body waits for that.
    pub(super) fn flushed(&self) -> bool {
        self.flush.load(Relaxed) && self.flush.swap(false, Relaxed)
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Idle,
            1 => Stage::Head,
            2 => Stage::Serving,
            _ => Stage::Answered,
        }
    }

    /// When the connection is to be looked after; [`NEVER`] while a request is being served.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline.load(Relaxed)
    }

    pub(super) fn set_deadline(&self, deadline: u64) {
        self.deadline.store(deadline, Relaxed);
    }

    pub(super) fn enter(&self, stage: Stage, deadline: u64) {
        self.stage.store(stage as u8, Relaxed);
        self.set_deadline(deadline);
    }

    /// Whether the handler has panicked before its answer began.
    pub(super) fn panicked(&self) -> bool {
        self.panicked.load(Relaxed)
    }

    /// Whether the current request is older than HTTP/1.1: then the end of the connection may be the
    /// only end that its answer has.
    pub(super) fn is_old(&self) -> bool {
        self.old.load(Relaxed)
    }

    pub(super) fn set_old(&self, old: bool) {
        self.old.store(old, Relaxed);
    }

    /// Whether the last byte of the current request has come.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Relaxed)
    }

    pub(super) fn set_whole(&self, whole: bool) {
        self.whole.store(whole, Relaxed);
    }

    /// Runs the handler's future; a panic becomes an error that ends the connection.
    pub(super) const fn guard<F: Future>(&self, future: F) -> Guarded<'_, F> {
        Guarded {
            exchange: self,
            future,
        }
    }
}

/// The handler has panicked.
#[derive(Debug, thiserror::Error)]
#[error("the handler has panicked")]
pub(super) struct Panicked;

pin_project! {
    /// See [`Exchange::guard`].
    pub(super) struct Guarded<'a, F> {
        exchange: &'a Exchange,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Guarded<'_, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // What the panic leaves behind is never looked at again: the connection ends with it.
        match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_told_by_the_panic_hook) => {
                this.exchange.panicked.store(true, Relaxed);
                Poll::Ready(Err(Panicked))
            }
        }
    }
}

/// What leads to the connection's exchange.
pub(super) trait Exchanging {
    fn exchange(&self) -> &Exchange;
}

pin_project! {
    /// An answer's body; the HTTP library drops it when it has taken the last byte.
    pub(super) struct Answer<B, S>
    where
        B: Body,
        S: Exchanging,
    {
        #[pin]
        body: B,
        served: Arc<S>,
        // The body has broken off, and what came before it is being written out.
        broken: Option<B::Error>,
    }

    impl<B, S> PinnedDrop for Answer<B, S>
    where
        B: Body,
        S: Exchanging,
    {
        fn drop(this: Pin<&mut Self>) {
            let exchange = this.served.exchange();
            if exchange.stage() == Stage::Serving {
                exchange.stage.store(Stage::Answered as u8, Relaxed);
            }
        }
    }
}

impl<B: Body, S: Exchanging> Answer<B, S> {
    pub(super) const fn new(body: B, served: Arc<S>) -> Self {
        Self {
            body,
            served,
            broken: None,
        }
    }
}

impl<B: Body, S: Exchanging> Body for Answer<B, S> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let part = ready!(this.body.poll_frame(cx));
        Poll::Ready(match part {
            Some(Err(error)) => {
                // At an error the library drops what it has not written yet: a head, or the part before
                // the break. The wire wakes us when it has.
                *this.broken = Some(error);
                this.served.exchange().await_flush();
                return Poll::Pending;
            }
            part => part,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
