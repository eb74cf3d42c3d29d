//! A timer for time limits that are set with every request and hardly ever reached. The runtime's own
//! timers are taken up and put away each time; this one stays where it is while limits move on.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::time::{Sleep, sleep_until};

/// Waits for one limit at a time. It belongs to a connection's task, so the lock never waits.
#[derive(Debug, Default)]
pub(super) struct Timer {
    /// It may be set for an earlier limit, which does not count any more; never for a later one.
    set: Mutex<Option<Set>>,
}

/// A timer that is set.
#[derive(Debug)]
struct Set {
    sleep: Pin<Box<Sleep>>,
    /// Whom it wakes.
    waker: Waker,
}

/// A limit was reached.
#[derive(Debug)]
pub(super) struct Late;

impl Timer {
    /// What the future brings, where it is ready before `until`.
    pub(super) async fn limit<F: Future>(
        &self,
        future: F,
        until: Instant,
    ) -> Result<F::Output, Late> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(until, cx).map(|()| Err(Late)),
        })
        .await
    }

    fn poll(&self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let until = until.into();
        let mut set = self.set.lock();
        // Mostly it is set from the request before: then the runtime need not be told again.
        if let Some(Set { sleep, waker }) = &*set
            && sleep.deadline() <= until
            && waker.will_wake(cx.waker())
            && !sleep.is_elapsed()
        {
            return Poll::Pending;
        }
        let Set { sleep, waker } = set.get_or_insert_with(|| Set {
            sleep: Box::pin(sleep_until(until)),
            waker: cx.waker().clone(),
        });
        waker.clone_from(cx.waker());
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds until a limit of so many seconds is reached.
    async fn reached(timer: &Timer, seconds: u32) -> f64 {
        let began = clock::now();
        let late = timer.limit(pending::<()>(), began + SECOND * seconds);
        assert!(late.await.is_err());
        clock::now().duration_since(began).as_secs_f64().round()
    }

    #[tokio::test(start_paused = true)]
    async fn each_limit_counts_for_itself_whatever_the_timer_was_set_for() {
        let timer = Timer::default();
        let soon = timer.limit(async { 7 }, clock::now());
        assert_eq!(soon.await.ok(), Some(7), "what is ready is never late");
        // Later than the one before, earlier, and after the timer has rung unheard.
        for seconds in [2, 5, 1, 3] {
            assert_eq!(reached(&timer, seconds).await, f64::from(seconds));
        }
        let until = clock::now() + SECOND * 4;
        let quick = timer.limit(tokio::time::sleep(SECOND), until);
        assert!(quick.await.is_ok());
        assert_eq!(reached(&timer, 1).await, 1.0, "before the other rings");
        assert_eq!(reached(&timer, 9).await, 9.0, "the other rings meanwhile");
        tokio::time::sleep(SECOND * 20).await;
        assert_eq!(reached(&timer, 2).await, 2.0);
    }
}
