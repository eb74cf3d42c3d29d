//! The listeners of the running configuration: bound at the start, changed by a reload without touching
//! those that stay, drained when they are gone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::live::snapshot::Snapshot;
use crate::plan::{self, Plan, Role, SocketAddress};
use crate::proxy::Proxy;
use crate::server::door::{Door, Settings};
use crate::server::limit::ConnectionLimit;
use crate::server::listener::{BindError, Bound, Listener};
use crate::server::status;
use crate::server::worker::Workers;
use crate::telemetry::readings::HandshakeReading;
use crate::tls::Vault;

/// In so many steps it is found out whether a time passes without a connection.
const QUIET_STEPS: u32 = 10;

/// Every listener of the process.
pub(super) struct Doors {
    limit: Arc<ConnectionLimit>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Bound, but not yet accepting.
    bound: Vec<(Arc<str>, Bound)>,
    open: Vec<Open>,
    /// Gone from the configuration; their connections are being drained.
    leaving: Vec<(Arc<Door<Proxy>>, SocketAddress)>,
}

/// Bound for a configuration that is about to run.
pub(super) struct NewSockets(Vec<(Arc<str>, Bound)>);

/// One listener of the running configuration.
struct Open {
    door: Arc<Door<Proxy>>,
    /// As it is configured; port 0 stands for any.
    configured: SocketAddress,
    address: SocketAddress,
    role: Role,
    listener: Option<Listener>,
}

impl Doors {
    /// Binds every listener of the plan; none accepts yet.
    pub(super) fn bind(plan: &Plan) -> Result<Self, BindError> {
        let bound = plan.listeners.iter().map(|listener| {
            let name = &listener.name;
            Bound::bind(Arc::clone(name), &listener.address).map(|bound| (Arc::clone(name), bound))
        });
        let bound = bound.collect::<Result<_, _>>()?;
        let limit = ConnectionLimit::new(plan.runtime.max_connections);
        Ok(Self {
            limit,
            inner: Mutex::new(Inner {
                bound,
                ..Inner::default()
            }),
        })
    }

    /// Begins to accept where [`Self::bind`] has bound.
    pub(super) fn open(
        &self,
        plan: &Plan,
        proxy: &Arc<Proxy>,
        workers: &Arc<Workers>,
    ) -> std::io::Result<()> {
        let mut inner = self.inner.lock();
        for (name, bound) in std::mem::take(&mut inner.bound) {
            let Some(listener) = plan.listeners.iter().find(|one| one.name == name) else {
                continue;
            };
            let open = self.accept(listener, bound, proxy, workers)?;
            inner.open.push(open);
        }
        Ok(())
    }

    fn accept(
        &self,
        plan: &plan::Listener,
        bound: Bound,
        proxy: &Arc<Proxy>,
        workers: &Arc<Workers>,
    ) -> std::io::Result<Open> {
        let address = bound.address().clone();
        let door = Door::new(
            Arc::clone(&plan.name),
            plan.role,
            settings(plan),
            Arc::clone(proxy),
        );
        secure(&door, plan, proxy.vault())?;
        let listener = bound.serve(&door, workers, &self.limit)?;
        let tls = plan.tls.is_some();
        tracing::info!(listener = &*plan.name, %address, tls, "listening");
        let listener = Some(listener);
        Ok(Open {
            door,
            configured: plan.address.clone(),
            address,
            role: plan.role,
            listener,
        })
    }

    /// Binds the listeners of this plan that are new; none accepts yet.
    pub(super) fn bind_new(&self, plan: &Plan) -> Result<NewSockets, Vec<String>> {
        let inner = self.inner.lock();
        let (mut bound, mut problems) = (Vec::new(), Vec::new());
        for listener in &plan.listeners {
            if inner.open.iter().any(|open| open.is(listener)) {
                continue;
            }
            match Bound::bind(Arc::clone(&listener.name), &listener.address) {
                Ok(socket) => bound.push((Arc::clone(&listener.name), socket)),
                Err(error) => problems.push(inner.why_not(listener, &error)),
            }
        }
        if problems.is_empty() {
            Ok(NewSockets(bound))
        } else {
            Err(problems)
        }
    }

    /// Makes this plan the running one, with what [`Self::bind_new`] has bound for it; `finish` is done to
    /// the new generation before requests run under it.
    pub(super) fn change(
        &self,
        plan: &Plan,
        NewSockets(bound): NewSockets,
        proxy: &Arc<Proxy>,
        workers: &Arc<Workers>,
        finish: impl FnOnce(&Snapshot),
    ) {
        // Not under the lock: scrapes and probes would wait for it.
        proxy.reload_with(plan.clone(), finish);
        let mut inner = self.inner.lock();
        self.limit.set_max(plan.runtime.max_connections);
        let (stay, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.open)
            .into_iter()
            .partition(|open| plan.listeners.iter().any(|listener| open.is(listener)));
        inner.open = stay;
        for open in &mut inner.open {
            let Some(listener) = plan.listeners.iter().find(|listener| open.is(listener)) else {
                continue;
            };
            open.door.set_settings(settings(listener));
            if let Err(error) = secure(&open.door, listener, proxy.vault()) {
                tracing::error!(listener = &*listener.name, "{error}");
            }
            open.role = listener.role;
        }
        for open in gone {
            tracing::info!(listener = &**open.door.name(), address = %open.address, "listener drained: it is gone from the configuration");
            inner
                .leaving
                .push((Arc::clone(&open.door), open.address.clone()));
            tokio::spawn(leave(open, plan.runtime.drain));
        }
        for (name, socket) in bound {
            let Some(listener) = plan.listeners.iter().find(|one| one.name == name) else {
                continue;
            };
            match self.accept(listener, socket, proxy, workers) {
                Ok(open) => inner.open.push(open),
                Err(error) => tracing::error!(listener = &*listener.name, "cannot accept: {error}"),
            }
        }
        inner.leaving.retain(|(door, _)| door.open() > 0);
    }

    /// New connections are shown what the vault holds now.
    pub(super) fn renew(&self, plan: &Plan, vault: &Vault) {
        for open in &self.inner.lock().open {
            let listener = plan.listeners.iter().find(|listener| open.is(listener));
            if let Some(listener) = listener
                && let Err(error) = secure(&open.door, listener, vault)
            {
                tracing::error!(listener = &*listener.name, "{error}");
            }
        }
    }

    /// Handshakes that failed, by listener and reason.
    pub(super) fn failed_handshakes(&self) -> Vec<HandshakeReading> {
        let inner = self.inner.lock();
        let encrypted = inner.open.iter().filter(|open| open.door.tls().is_some());
        let readings = encrypted.flat_map(|open| {
            let failures = open.door.handshakes().failures();
            failures.map(|(why, count)| HandshakeReading {
                listener: Arc::clone(open.door.name()),
                why: why.name(),
                count,
            })
        });
        readings.collect()
    }

    /// The address that a listener is bound to.
    pub(super) fn address(&self, name: &str) -> Option<SocketAddress> {
        let inner = self.inner.lock();
        inner
            .open
            .iter()
            .find(|open| &**open.door.name() == name)
            .map(|open| open.address.clone())
    }

    /// Whether there is a listener of that role.
    pub(super) fn any(&self, role: Role) -> bool {
        self.inner.lock().open.iter().any(|open| open.role == role)
    }

    /// Answers to that role say from now on that their connection ends with them.
    pub(super) fn announce(&self, role: Role) {
        self.of(role).iter().for_each(|door| door.announce_drain());
    }

    /// Returns when no connection of that role has been open for so long.
    pub(super) async fn quiet(&self, role: Role, quiet: Duration) {
        let doors = self.of(role);
        let came = || doors.iter().map(|door| door.came()).sum::<usize>();
        let mut steps = 0;
        while steps < QUIET_STEPS {
            for door in &doors {
                door.empty().await;
            }
            let before = came();
            tokio::time::sleep(quiet / QUIET_STEPS).await;
            steps = if came() == before { steps + 1 } else { 0 };
        }
    }

    /// Connections of that role end after the request that they have begun.
    pub(super) fn begin_drain(&self, role: Role) {
        self.of(role).iter().for_each(|door| door.begin_drain());
    }

    /// Listeners of that role accept no more.
    pub(super) async fn close(&self, role: Role) {
        let listeners: Vec<Listener> = {
            let mut inner = self.inner.lock();
            let ours = inner.open.iter_mut().filter(|open| open.role == role);
            ours.filter_map(|open| open.listener.take()).collect()
        };
        for listener in listeners {
            listener.close().await;
        }
    }

    /// Drains the connections of that role; gives the number that had to be cut.
    pub(super) async fn drain(&self, role: Role, within: Duration) -> usize {
        let mut cut = tokio::task::JoinSet::new();
        for door in self.of(role) {
            cut.spawn(async move { door.drain(within).await });
        }
        let mut sum = 0;
        while let Some(one) = cut.join_next().await {
            sum += one.unwrap_or_default();
        }
        sum
    }

    /// Ends everything where it stands; gives the number of connections.
    pub(super) async fn cut(&self) -> usize {
        self.close(Role::Inbound).await;
        self.close(Role::Outbound).await;
        self.drain(Role::Inbound, Duration::ZERO).await
            + self.drain(Role::Outbound, Duration::ZERO).await
    }

    /// What there is to see of them.
    pub(super) fn status(&self, draining: bool) -> Vec<status::Listener> {
        let inner = self.inner.lock();
        let open = inner
            .open
            .iter()
            .map(|open| (&open.door, &open.address, open.role, draining));
        let leaving = inner
            .leaving
            .iter()
            .filter(|(door, _)| door.open() > 0)
            .map(|(door, address)| (door, address, door.role(), true));
        open.chain(leaving)
            .map(|(door, address, role, draining)| status::Listener {
                name: door.name().to_string(),
                role: role.name().to_owned(),
                address: address.to_string(),
                connections: door.open(),
                draining,
            })
            .collect()
    }

    fn of(&self, role: Role) -> Vec<Arc<Door<Proxy>>> {
        let inner = self.inner.lock();
        let ours = inner.open.iter().filter(|open| open.role == role);
        ours.map(|open| Arc::clone(&open.door)).collect()
    }
}

impl Inner {
    /// Why a listener of a reload cannot be bound. A new one is bound before an old one goes, so that a
    /// listener cannot be renamed where it stands.
    fn why_not(&self, listener: &plan::Listener, error: &BindError) -> String {
        let mut open = self.open.iter();
        match open.find(|open| open.address == listener.address) {
            Some(open) => format!(
                "listener '{}' cannot take {} over from listener '{}' while the process runs; keep the \
                 old name, choose another port, or restart",
                listener.name,
                listener.address,
                open.door.name()
            ),
            None => error.to_string(),
        }
    }
}

impl Open {
    fn is(&self, plan: &plan::Listener) -> bool {
        *self.door.name() == plan.name && self.configured == plan.address
    }
}

async fn leave(open: Open, within: Duration) {
    if let Some(listener) = open.listener {
        listener.close().await;
    }
    let cut = open.door.drain(within).await;
    if cut > 0 {
        let listener = &**open.door.name();
        tracing::warn!(
            listener,
            connections = cut,
            "the drain time is over: connections were cut"
        );
    }
}

/// Gives a door what it shows under TLS. One that has to have it is never left without.
fn secure(door: &Door<Proxy>, plan: &plan::Listener, vault: &Vault) -> std::io::Result<()> {
    let server = vault.server(plan);
    if plan.tls.is_some() && server.is_none() {
        let sentence = format!("listener '{}' has no certificate to show", plan.name);
        return Err(std::io::Error::other(sentence));
    }
    door.set_tls(server);
    Ok(())
}

/// What a listener allows its clients by its configuration.
pub fn settings(plan: &plan::Listener) -> Settings {
    Settings {
        header_timeout: plan.header_timeout,
        idle_timeout: plan.idle_timeout,
        header_size: plan.header_size,
        max_headers: plan.max_headers,
        protocol: plan.protocol,
        max_streams: plan.max_streams,
        max_connections: plan.max_connections,
        redirected: plan.original_dst.then_some(plan.unmatched),
    }
}
