//! A waker that remembers that it rang. A connection's task is woken many times for each request;
//! its timer and its drain signal have nothing to say nearly always. Registered with this waker,
//! they are looked at only when one of them rang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Relaxed, Ordering::Release};
use std::task::{Context, Wake, Waker};

/// Remembers whether one of the futures that were polled with its waker wants to be polled again.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// The waker, and that of the task which it passes on to.
    ringing: Option<(Arc<Bell>, Waker)>,
}

#[derive(Debug)]
struct Bell {
    rang: AtomicBool,
    task: Waker,
}

impl Alarm {
    /// The waker to poll with, if one rang since the last call, or the task has a new waker.
    pub(super) fn rang(&mut self, cx: &Context<'_>) -> Option<Waker> {
        if let Some((bell, waker)) = &self.ringing
            && bell.task.will_wake(cx.waker())
        {
            let rang = bell.rang.load(Relaxed) && bell.rang.swap(false, AcqRel);
            return rang.then(|| waker.clone());
        }
        Some(self.renew(cx))
    }

    /// The waker to poll with, whether it rang or not.
    pub(super) fn waker(&mut self, cx: &Context<'_>) -> Waker {
        match &self.ringing {
            Some((_, waker)) => waker.clone(),
            None => self.renew(cx),
        }
    }

    fn renew(&mut self, cx: &Context<'_>) -> Waker {
        let bell = Arc::new(Bell {
            rang: AtomicBool::new(false),
            task: cx.waker().clone(),
        });
        let waker = Waker::from(Arc::clone(&bell));
        self.ringing = Some((bell, waker.clone()));
        waker
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Release);
        self.task.wake_by_ref();
    }
}
