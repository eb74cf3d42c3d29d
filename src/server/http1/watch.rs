//! What a connection looks after beside its requests: the deadlines of a slow client, and the drain.
//!
//! It has one timer and one drain signal. Neither is touched while requests come and go: the deadlines are
//! numbers, and the timer is set again when it fires, or when a deadline comes to lie before it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::Sleep;

use super::connection::{Connection, End, Stage};
use crate::live::received::ReceivedBody;
use crate::proxy::client::Client;
use crate::server::alarm::Alarm;
use crate::server::deadline::{NEVER, since};
use crate::server::door::Phase;
use crate::server::handler::Handler;
use crate::server::transport::Transport;

/// Timers have no finer grain: a millisecond.
const LEAST_PERIOD: u64 = 1_000_000;

/// What a connection looks after.
struct Watch {
    alarm: Alarm,
    phase: Phase,
    /// When the timer fires, nanoseconds after the connection was accepted.
    armed: u64,
    /// The timer fires at least so often while requests are served, so that no deadline that is set
    /// meanwhile lies before it.
    period: u64,
}

impl<IO, H, M, F> Connection<'_, IO, H, M, F>
where
    IO: Transport,
    H: Handler,
    M: Fn(Request<ReceivedBody>) -> F,
    F: Future<Output = Response<H::Body>>,
{
    /// Runs it to its end. `late`: it was accepted during a drain.
    pub(super) async fn run(&mut self, late: bool) -> End {
        let door = self.door;
        let mut timer = pin!(sleep_until(self.client, self.times.first));
        let mut signal = pin!(door.reached(Phase::Draining));
        let mut watch = Watch {
            alarm: Alarm::default(),
            phase: Phase::Open,
            armed: self.times.first,
            period: self.times.header.min(self.times.idle).max(LEAST_PERIOD),
        };
        poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll(cx) {
                return Poll::Ready(end);
            }
            if let Some(waker) = watch.alarm.rang(cx) {
                let cx = &mut Context::from_waker(&waker);
                while watch.phase != Phase::Cut && signal.as_mut().poll(cx).is_ready() {
                    if watch.phase == Phase::Draining || door.phase() == Phase::Cut {
                        return Poll::Ready(End::Cut);
                    }
                    watch.phase = Phase::Draining;
                    self.draining = true;
                    signal.set(door.reached(Phase::Cut));
                }
                if let Poll::Ready(end) = watch.poll_timer(&mut timer, self, cx) {
                    return Poll::Ready(end);
                }
            }
            if self.deadline < watch.armed {
                let waker = watch.alarm.waker(cx);
                watch.arm(&mut timer, self.client, self.deadline);
                let cx = &mut Context::from_waker(&waker);
                if let Poll::Ready(end) = watch.poll_timer(&mut timer, self, cx) {
                    return Poll::Ready(end);
                }
            }
            // Closed without a word, one that came during the drain could not tell whether its request was
            // taken (rule 84).
            if self.draining && self.stage == Stage::Idle && !late {
                return Poll::Ready(End::Idle);
            }
            Poll::Pending
        })
        .await
    }
}

impl Watch {
    fn arm(&mut self, timer: &mut Pin<&mut Sleep>, client: &Client, at: u64) {
        self.armed = at;
        let at = client.accepted() + Duration::from_nanos(at);
        timer.as_mut().reset(tokio::time::Instant::from_std(at));
    }

    fn poll_timer<IO, H, M, F>(
        &mut self,
        timer: &mut Pin<&mut Sleep>,
        connection: &mut Connection<'_, IO, H, M, F>,
        cx: &mut Context<'_>,
    ) -> Poll<End>
    where
        IO: Transport,
        H: Handler,
        M: Fn(Request<ReceivedBody>) -> F,
        F: Future<Output = Response<H::Body>>,
    {
        while timer.as_mut().poll(cx).is_ready() {
            let now = since(connection.client);
            let deadline = connection.deadline;
            if deadline <= now {
                return Poll::Ready(match connection.stage {
                    Stage::Idle => End::Idle,
                    Stage::Head => End::HeaderTimeout,
                    Stage::Serving | Stage::Answered => End::Stalled,
                });
            }
            if connection.stage == Stage::Idle {
                connection.release();
            }
            let next = match deadline {
                NEVER => now.saturating_add(self.period),
                deadline => deadline,
            };
            self.arm(timer, connection.client, next);
        }
        Poll::Pending
    }
}

fn sleep_until(client: &Client, at: u64) -> Sleep {
    let at = client.accepted() + Duration::from_nanos(at);
    tokio::time::sleep_until(tokio::time::Instant::from_std(at))
}
