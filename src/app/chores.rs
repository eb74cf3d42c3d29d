//! What has to be done now and then, off the path of requests: old connections are closed, generations
//! that nobody uses any more are forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::proxy::Proxy;
use crate::reload::maker::Maker;

/// How often idle connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Does the chores for as long as it is polled.
pub(super) async fn run(proxy: Arc<Proxy>, maker: Maker) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        sweep.tick().await;
        let site = proxy.site();
        site.snapshot
            .upstreams()
            .for_each(|upstream| upstream.sweep(clock::now()));
        drop(site);
        if proxy.has_retired() {
            // It takes a while where a generation is large; nobody waits for it.
            let proxy = Arc::clone(&proxy);
            drop(maker.run(move || proxy.forget_retired()));
        }
    }
}
