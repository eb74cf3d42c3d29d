//! The end in order: readiness fails at once, `inbound` is drained first, `outbound` goes on until what
//! is in flight is done or the time is over (rules 84, 85).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::{Order, Shared, service_manager};
use crate::clock;
use crate::plan::Role;
use crate::telemetry::events::Kind;

/// How long an inbound listener still accepts after SIGTERM: others learn only little by little that
/// this one is not ready any more.
const LATECOMERS: Duration = Duration::from_secs(1);

/// Whether the end has begun.
#[derive(Debug, Default)]
pub(super) struct Phase(AtomicBool);

impl Phase {
    /// Whether it has.
    pub(super) fn draining(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Drains; a second order ends it at once.
pub(super) async fn end(shared: &Arc<Shared>, orders: &mut UnboundedReceiver<Order>) {
    shared.phase.0.store(true, Ordering::Relaxed);
    // A reload that is under way opens listeners yet; one that comes later is refused.
    drop(shared.changing.lock());
    let limit = shared.proxy.site().snapshot.plan.runtime.drain;
    let text = format!("draining: requests in flight have {limit:?}");
    tracing::info!("{text}");
    service_manager::stopping(&text);
    shared
        .proxy
        .telemetry
        .events()
        .note(clock::date(), Kind::Drain, text);
    let drained = tokio::select! {
        cut = drain(shared, limit) => cut,
        _ = orders.recv() => {
            tracing::warn!("told twice: ending at once");
            shared.doors.cut().await
        }
    };
    match drained {
        0 => tracing::info!("drained: every request was answered"),
        cut => tracing::warn!(
            connections = cut,
            "the drain time is over: connections were cut"
        ),
    }
}

/// The number of connections that had to be cut.
async fn drain(shared: &Arc<Shared>, limit: Duration) -> usize {
    let deadline = clock::now() + limit;
    let left = || deadline.saturating_duration_since(clock::now());
    let doors = &shared.doors;
    let mut cut = 0;
    if doors.any(Role::Inbound) {
        let late = LATECOMERS.min(left());
        doors.begin_drain(Role::Inbound);
        tokio::time::sleep(late).await;
        doors.close(Role::Inbound).await;
        cut += doors.drain(Role::Inbound, left()).await;
    }
    // Their listeners stay open to the end: our service may still need others.
    cut += doors.drain(Role::Outbound, left()).await;
    doors.close(Role::Outbound).await;
    cut
}
