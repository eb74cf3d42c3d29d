//! The last minutes of each upstream, point by point, whether somebody looks or not.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use super::Shared;
use crate::clock;
use crate::telemetry::history;

/// Takes a point every [`history::EVERY`], for as long as it is polled.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(history::EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let shared = Arc::clone(&shared);
        // With ten thousand routes it takes a few milliseconds: not on this thread, which accepts probes.
        let taken = tokio::task::spawn_blocking(move || {
            let sums = shared.proxy.telemetry.metrics().sums();
            shared.history.take(sums, clock::date());
        });
        if let Err(error) = taken.await {
            tracing::warn!(%error, "a point of the history is missing");
        }
    }
}
