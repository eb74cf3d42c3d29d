//! What has to be done now and then, off the path of requests: old connections are closed, names are
//! resolved again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::live::upstream::Upstream;
use crate::plan::Address;
use crate::proxy::Proxy;
use crate::reload::maker::Maker;

/// How often idle connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often names are resolved again. The system's resolver does not tell how long an answer holds.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// How long a name may take before the listeners open without it (rule 86).
pub(super) const AT_START: Duration = Duration::from_secs(2);
/// How long a name may take later.
pub(super) const AT_RUN_TIME: Duration = Duration::from_secs(5);

/// Does the chores for as long as it is polled.
pub(super) async fn run(proxy: Arc<Proxy>, maker: Maker) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    let mut resolve = tokio::time::interval(RESOLVE_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    resolve.set_missed_tick_behavior(MissedTickBehavior::Delay);
    resolve.reset();
    loop {
        tokio::select! {
            _ = sweep.tick() => {
                let site = proxy.site();
                site.snapshot.upstreams().for_each(|upstream| upstream.sweep(clock::now()));
                if proxy.has_retired() {
                    // It takes a while where a generation is large; nobody waits for it.
                    let proxy = Arc::clone(&proxy);
                    drop(maker.run(move || proxy.forget_retired()));
                }
            }
            _ = resolve.tick() => resolve_names(&proxy, AT_RUN_TIME).await,
        }
    }
}

/// Resolves every name of the running configuration; one that does not resolve keeps what it had
/// (rule 68).
pub(super) async fn resolve_names(proxy: &Proxy, within: Duration) {
    let site = proxy.site();
    let lookups = site.snapshot.upstreams().flat_map(|upstream| {
        upstream
            .names()
            .into_iter()
            .map(|name| (Arc::clone(upstream), name))
    });
    let mut tasks = tokio::task::JoinSet::new();
    for (upstream, name) in lookups {
        tasks.spawn(async move { resolve(&upstream, &name, within).await });
    }
    while tasks.join_next().await.is_some() {}
}

async fn resolve(upstream: &Upstream, name: &Address, within: Duration) {
    let Address::Name { host, port } = name else {
        return;
    };
    let found = tokio::time::timeout(within, tokio::net::lookup_host((&**host, *port))).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return tell(upstream, name, &error.to_string()),
        Err(_) => return tell(upstream, name, &format!("no answer within {within:?}")),
    };
    if addresses.is_empty() {
        return tell(upstream, name, "no address");
    }
    let count = addresses.len();
    if upstream.resolved(name, addresses) {
        tracing::info!(
            upstream = &**upstream.name(),
            name = &**host,
            count,
            "name resolved"
        );
    }
}

/// Told once for each time that it begins.
fn tell(upstream: &Upstream, name: &Address, problem: &str) {
    if upstream.unresolved(name) {
        tracing::warn!(
            upstream = &**upstream.name(),
            %name,
            "name does not resolve: {problem}; what it resolved to before is kept, and it is tried \
             again every {RESOLVE_EVERY:?}"
        );
    }
}
