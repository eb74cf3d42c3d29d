//! When something is sent: what has come for the other connections of a worker is read first, and what goes
//! to endpoints is sent before what goes to clients.
//!
//! So under load a worker sends to the same peer many times in a row. A peer that gets its bytes one at a
//! time falls asleep in between, and to wake it on another core is the dearest part of a small send: a
//! seventh of a request's processor time, with 64 connections. A worker with nothing else to do sends at once.

use std::future::poll_fn;
use std::task::{Context, Poll};

/// What is sent together, by how often those who are ready to run go first.
#[derive(Debug, Clone, Copy)]
pub struct Group(u8);

impl Group {
    /// What may be sent at once.
    pub const NONE: Self = Self(0);

    /// Requests.
    const TO_ENDPOINTS: Self = Self(1);

    /// Answers.
    pub const TO_CLIENTS: Self = Self(2);

    /// Ready when the others have had their turns. Nobody has to wake the task.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        // It is run again behind all that is ready now.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Waits until it is the turn of what goes to endpoints.
pub async fn to_endpoints() {
    let mut group = Group::TO_ENDPOINTS;
    poll_fn(|cx| group.poll_turn(cx)).await;
}
