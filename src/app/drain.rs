//! The end in order: readiness fails at once, `inbound` is drained first, `outbound` goes on until our
//! service has gone or the time is over (rules 84, 85).
//!
//! ```text
//!            SIGTERM           + 1 s                 ⅔ of drain            drain
//! inbound    answers say close   closes, is drained                        what is left is cut
//! outbound   ─────────────────── answers say close ─ connections end ───── what is left is cut
//!            └─ until no connection has been open for 2 s, once inbound is drained
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::doors::Doors;
use super::{Order, Shared, service_manager};
use crate::clock;
use crate::plan::Role;
use crate::telemetry::events::Kind;

/// How long an inbound listener still accepts after SIGTERM: others learn only little by little that
/// this one is not ready any more.
const LATECOMERS: Duration = Duration::from_secs(1);

/// Our service has gone when it has had no connection to us for so long, and in any case no longer than
/// [`QUIET_SHARE`] of the drain: an application that opens one for each call has none in between. In a
/// pod whose sidecars end after the application this is all that there is to wait for.
const QUIET: Duration = Duration::from_secs(2);
const QUIET_SHARE: u32 = 5;

/// Whether the end has begun.
#[derive(Debug, Default)]
pub(super) struct Phase(watch::Sender<bool>);

impl Phase {
    /// Whether it has.
    pub(super) fn draining(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it has.
    pub(super) async fn begun(&self) {
        // It ends with this alone, which is here.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

/// Drains; a second order ends it at once.
pub(super) async fn end(shared: &Arc<Shared>, orders: &mut UnboundedReceiver<Order>) {
    shared.phase.0.send_replace(true);
    // A reload that is under way opens listeners yet; one that comes later is refused.
    // It is waited for elsewhere, since this thread serves the metrics and probes meanwhile.
    let changing = Arc::clone(shared);
    let _ = tokio::task::spawn_blocking(move || drop(changing.changing.lock())).await;
    let limit = shared.proxy.site().snapshot.plan.runtime.drain;
    let text = format!("draining: requests in flight have {limit:?}");
    tracing::info!("{text}");
    service_manager::stopping(&text);
    shared
        .proxy
        .telemetry
        .events()
        .note(clock::date(), Kind::Drain, text);
    let (cut, why) = tokio::select! {
        cut = drain(shared, limit) => (cut, "the drain time is over"),
        _ = orders.recv() => (shared.doors.cut().await, "told twice to end"),
    };
    match cut {
        0 => tracing::info!("drained: every request was answered"),
        connections => tracing::warn!(connections, "{why}: connections were cut"),
    }
}

/// The number of connections that had to be cut.
async fn drain(shared: &Arc<Shared>, limit: Duration) -> usize {
    let deadline = clock::now() + limit;
    let left = || deadline.saturating_duration_since(clock::now());
    let doors = &shared.doors;
    let going = async {
        let cut = drain_inbound(doors, left).await;
        // Its answers say so, and its listener stays open: the next call comes over another connection.
        doors.announce(Role::Outbound);
        if doors.any(Role::Outbound) {
            let quiet = QUIET.min(limit / QUIET_SHARE);
            let gone = doors.quiet(Role::Outbound, quiet);
            let _ = tokio::time::timeout(left(), gone).await;
        }
        cut
    };
    let cut = tokio::select! {
        cut = going => cut,
        // Time is running out for connections that say nothing of their own accord.
        never = part(doors, limit * 2 / 3) => match never {},
    };
    doors.close(Role::Outbound).await;
    cut + doors.drain(Role::Outbound, left()).await
}

async fn drain_inbound(doors: &Doors, left: impl Fn() -> Duration) -> usize {
    if !doors.any(Role::Inbound) {
        return 0;
    }
    // Idle connections stay open meanwhile: whoever does not know yet may be about to use one.
    doors.announce(Role::Inbound);
    tokio::time::sleep(LATECOMERS.min(left())).await;
    doors.close(Role::Inbound).await;
    doors.drain(Role::Inbound, left()).await
}

/// After that time the connections of our service end as soon as nothing is under way on them.
async fn part(doors: &Doors, after: Duration) -> Infallible {
    tokio::time::sleep(after).await;
    doors.begin_drain(Role::Outbound);
    std::future::pending().await
}
