//! The composition root: a configuration becomes a running process, and a running process ends in
//! order. Everything but the requests themselves runs on one control thread.

mod admin_sockets;
mod certificates;
mod chores;
mod collector;
mod doors;
mod drain;
mod gauges;
mod past;
mod service_manager;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::config::{self, Loaded, Problems};
use crate::discovery::Discovery;
use crate::discovery::health::Checks;
use crate::live::snapshot::Snapshot;
use crate::live::wire::Dialer;
use crate::plan::{Plan, SocketAddress};
use crate::policy::breaker::Forced;
use crate::proxy::Proxy;
use crate::reload::maker::yield_to_workers;
use crate::reload::{self, Reloader, Steps};
use crate::server::admin::{Control, Force, ForceError, Readiness, ReloadOrder};
use crate::server::listener::BindError;
use crate::server::status::{LastReload, Status};
use crate::server::worker::Workers;
use crate::telemetry::Telemetry;
use crate::telemetry::events::Kind;
use crate::telemetry::exposition::Format;
use crate::telemetry::history::History;
use crate::telemetry::log::LogLevel;
use crate::tls::Vault;
use admin_sockets::AdminSockets;
use doors::Doors;
pub use doors::settings as listener_settings;

/// How long the sources of endpoints may take, at the start and at a reload, before requests are served
/// without them (rule 86).
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

/// How a process is started beside its configuration.
#[derive(Default)]
pub struct Options {
    /// The files and folders that the configuration came from; they are watched. Empty: nothing is
    /// watched, and a reload reads nothing.
    pub paths: Vec<PathBuf>,
    /// The log's level at run time; `None`: it cannot be changed.
    pub log_level: Option<LogLevel>,
    /// How connections to endpoints are made.
    pub dialer: Dialer,
}

/// Why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("{0}")]
    Listener(BindError),
    /// The admin interface's address cannot be bound.
    #[error(
        "the admin interface cannot listen on {address}: {source}; choose another admin.address, or set MAMPARO_ADMIN_ADDRESS"
    )]
    Admin {
        /// The address.
        address: SocketAddress,
        /// What the system says.
        source: std::io::Error,
    },
    /// The address for metrics and probes cannot be bound.
    #[error(
        "metrics and probes cannot be served on {address}: {source}; choose another admin.metrics_address, or set MAMPARO_METRICS_ADDRESS"
    )]
    Metrics {
        /// The address.
        address: SocketAddress,
        /// What the system says.
        source: std::io::Error,
    },
    /// The access log cannot be opened.
    #[error("the access log cannot be written: {0}")]
    AccessLog(std::io::Error),
    /// The system gives no threads or descriptors.
    #[error("the process cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// What is told to the control thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// End in order: what SIGTERM asks for. A second time: end at once.
    Terminate,
}

/// What the parts on the control thread share.
struct Shared {
    proxy: Arc<Proxy>,
    discovery: Arc<Discovery>,
    workers: Arc<Workers>,
    doors: Doors,
    checks: Checks,
    last_reload: reload::Last,
    effective: ArcSwap<config::Effective>,
    started: Instant,
    started_at: SystemTime,
    phase: drain::Phase,
    history: History,
    /// Held while a configuration is made the running one, which is not done on the control thread.
    changing: Mutex<()>,
    orders: mpsc::UnboundedSender<Order>,
}

/// A running process.
pub struct Running {
    shared: Arc<Shared>,
    admin: SocketAddress,
    metrics: Option<SocketAddress>,
    reloads: mpsc::Sender<ReloadOrder>,
    control: Option<JoinHandle<()>>,
}

/// Starts everything: returns when every listener accepts and the admin interface answers.
///
/// # Errors
/// What is in the way; nothing is left running then.
pub fn start(loaded: Loaded, options: Options) -> Result<Running, StartError> {
    let (tell, told) = std::sync::mpsc::channel();
    let control = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_start(yield_to_workers)
                .build();
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(control(loaded, options, tell));
                    // What is being read or written must not hold up the end.
                    runtime.shutdown_timeout(Duration::from_millis(100));
                }
                Err(error) => drop(tell.send(Err(error.into()))),
            }
        })?;
    let started = told.recv().map_err(std::io::Error::other)?;
    let Started {
        shared,
        admin,
        metrics,
        reloads,
    } = started?;
    Ok(Running {
        shared,
        admin,
        metrics,
        reloads,
        control: Some(control),
    })
}

struct Started {
    shared: Arc<Shared>,
    admin: SocketAddress,
    metrics: Option<SocketAddress>,
    reloads: mpsc::Sender<ReloadOrder>,
}

/// The control thread, from begin to end.
async fn control(
    loaded: Loaded,
    options: Options,
    tell: std::sync::mpsc::Sender<Result<Started, StartError>>,
) {
    let (orders, mut ordered) = mpsc::unbounded_channel();
    let (reloads, reload_orders) = mpsc::channel(64);
    let (shared, sockets) = match assemble(&loaded, &options, orders).await {
        Ok(assembled) => assembled,
        Err(error) => return drop(tell.send(Err(error))),
    };
    let control = Arc::new(admin_control(&shared, reloads.clone(), options.log_level));
    let (admin, metrics) = match sockets.serve(&control) {
        Ok(addresses) => addresses,
        Err(error) => return drop(tell.send(Err(error.into()))),
    };
    let collector = collector::start(&shared.proxy);
    let reloader = reloader(&shared, loaded, options.paths);
    tokio::spawn(chores::run(Arc::clone(&shared.proxy), reloader.maker()));
    tokio::spawn(reloader.run(reload_orders));
    tokio::spawn(past::keep(Arc::clone(&shared)));
    let started = Started {
        shared: Arc::clone(&shared),
        admin,
        metrics,
        reloads,
    };
    if tell.send(Ok(started)).is_err() {
        return;
    }
    service_manager::ready(&shared.doors.status(false));
    // Every sender gone means that whoever started us has: that ends it like an order.
    let _ = ordered.recv().await;
    let until = clock::now() + shared.proxy.site().snapshot.plan.runtime.drain;
    drain::end(&shared, &mut ordered).await;
    shared.workers.shutdown(Duration::from_secs(2));
    collector.end(until).await;
    shared.proxy.telemetry.close();
}

async fn assemble(
    loaded: &Loaded,
    options: &Options,
    orders: mpsc::UnboundedSender<Order>,
) -> Result<(Arc<Shared>, AdminSockets), StartError> {
    let plan = &loaded.plan;
    let sockets = AdminSockets::bind(plan)?;
    let doors = Doors::bind(plan).map_err(StartError::Listener)?;
    let telemetry = Telemetry::default();
    telemetry
        .log_requests(&plan.access_log)
        .map_err(StartError::AccessLog)?;
    telemetry
        .spans()
        .follow(plan.tracing.as_ref(), &plan.service);
    let vault = Arc::<Vault>::default();
    vault.install(&loaded.certificates);
    certificates::warn_of_expiry(loaded, None);
    let (telemetry, dialer) = (Arc::new(telemetry), options.dialer.clone());
    let proxy = Proxy::with_vault(plan.clone(), telemetry, dialer, vault);
    let discovery = Discovery::new(&proxy.telemetry);
    discovery.follow(&proxy.site().snapshot);
    discovery.first_answers(FIRST_ANSWERS).await;
    let workers = Arc::new(Workers::start(plan.runtime.workers.get())?);
    let shared = Arc::new(Shared {
        doors,
        checks: Checks::default(),
        proxy,
        discovery,
        workers,
        last_reload: reload::Last::default(),
        effective: ArcSwap::from_pointee(loaded.effective.clone()),
        started: clock::now(),
        started_at: clock::date(),
        phase: drain::Phase::default(),
        history: History::default(),
        changing: Mutex::default(),
        orders,
    });
    shared.checks.follow(&shared.proxy);
    shared.doors.open(plan, &shared.proxy, &shared.workers)?;
    let service = &plan.service;
    let text = format!(
        "started beside '{service}', version {}",
        env!("CARGO_PKG_VERSION")
    );
    let files = options.paths.iter().map(|path| path.display().to_string());
    let configuration =
        Some(files.collect::<Vec<_>>().join(", ")).filter(|files| !files.is_empty());
    tracing::info!(
        configuration = configuration.as_deref(),
        workers = plan.runtime.workers.get(),
        "{text}"
    );
    shared
        .proxy
        .telemetry
        .events()
        .note(clock::date(), Kind::Process, text);
    Ok((shared, sockets))
}

fn reloader(shared: &Arc<Shared>, loaded: Loaded, paths: Vec<PathBuf>) -> Reloader {
    let from = paths.clone();
    let proxy = Arc::clone(&shared.proxy);
    let before = Mutex::new(loaded.clone());
    let load = move || -> Result<Loaded, Problems> {
        // So that the next one can have their memory.
        proxy.forget_retired();
        let mut before = before.lock();
        if !from.is_empty() {
            *before = config::load_after(&before, &from, &environment)?;
        }
        Ok(before.clone())
    };
    let to = Arc::clone(shared);
    let renew = move |read: &Loaded| to.renew_certificates(read);
    let to = Arc::clone(shared);
    let apply = move |next: &Loaded| {
        let _changing = to.changing.lock();
        if to.phase.draining() {
            return Err(vec![
                "this process is draining and about to end; it takes no other configuration"
                    .to_owned(),
            ]);
        }
        let missing = to.missing_certificates(next);
        if !missing.is_empty() {
            return Err(missing);
        }
        let sockets = to.doors.bind_new(&next.plan)?;
        let telemetry = &to.proxy.telemetry;
        telemetry
            .log_requests(&next.plan.access_log)
            .map_err(|error| {
                vec![format!(
                    "access_log.destination: cannot be written: {error}"
                )]
            })?;
        // From here on nothing can go wrong.
        let late = to.ask_sources(&next.plan);
        to.renew_certificates(next);
        let (proxy, workers) = (&to.proxy, &to.workers);
        let follow = |next: &Snapshot| to.discovery.follow(next);
        to.doors.change(&next.plan, sockets, proxy, workers, follow);
        telemetry
            .spans()
            .follow(next.plan.tracing.as_ref(), &next.plan.service);
        to.proxy.vault().retain(&next.certificates);
        to.checks.follow(&to.proxy);
        to.effective.store(Arc::new(next.effective.clone()));
        Ok(late)
    };
    let steps = Steps {
        load: Arc::new(load),
        renew: Box::new(renew),
        apply: Box::new(apply),
    };
    let telemetry = Arc::clone(&shared.proxy.telemetry);
    Reloader::new(
        paths,
        steps,
        loaded,
        Arc::clone(&shared.last_reload),
        telemetry,
    )
}

/// A variable of the environment, for `${NAME}` in a configuration.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn admin_control(
    shared: &Arc<Shared>,
    reload: mpsc::Sender<ReloadOrder>,
    log_level: Option<LogLevel>,
) -> Control {
    let [status, metrics, config, readiness, drain, quit, force] =
        std::array::from_fn(|_| Arc::clone(shared));
    Control {
        telemetry: Arc::clone(&shared.proxy.telemetry),
        status: Box::new(move || status.status()),
        metrics: Box::new(move |format| metrics.metrics(format)),
        config: Box::new(move || config::effective::to_json(&config.effective.load()).to_string()),
        readiness: Box::new(move || readiness.readiness()),
        reload,
        drain: Box::new(move || drain.refuse_new_work()),
        quit: Box::new(move || quit.terminate()),
        force: Box::new(move |upstream, endpoint, to| force.force(upstream, endpoint, to)),
        log_level: Box::new(move |level| match &log_level {
            Some(log) => log.set(level),
            None => Err("the log level of this process is fixed".to_owned()),
        }),
    }
}

impl Shared {
    /// Asks the sources of a plan that is about to run, while the generation before serves, and waits for
    /// their first answers as the start does (rule 86), unless the process ends meanwhile. Gives those that
    /// have not answered. Not to be called on the control thread, which carries what is waited for.
    fn ask_sources(&self, next: &Plan) -> Vec<String> {
        self.discovery.prepare(next, &self.proxy.site().snapshot);
        let answers = async {
            tokio::select! {
                late = self.discovery.first_answers(FIRST_ANSWERS) => late,
                () = self.phase.begun() => Vec::new(),
            }
        };
        tokio::runtime::Handle::current().block_on(answers)
    }

    fn readiness(&self) -> Readiness {
        if self.phase.draining() || self.proxy.refuses_new_requests() {
            Readiness::Draining
        } else {
            Readiness::Ready
        }
    }

    fn terminate(&self) {
        // Nobody listens any more when it has ended already.
        let _ = self.orders.send(Order::Terminate);
    }

    fn refuse_new_work(&self) {
        if !self.proxy.refuses_new_requests() {
            self.proxy.refuse_new_requests();
            let text = "new requests are refused: drain was ordered";
            tracing::info!("{text}");
            self.proxy
                .telemetry
                .events()
                .note(clock::date(), Kind::Drain, text);
        }
    }

    /// Sets an operator's hand on a breaker, or lifts it.
    fn force(&self, upstream: &str, endpoint: &str, to: Force) -> Result<(), ForceError> {
        let site = self.proxy.site();
        let Some(found) = site.snapshot.upstream(upstream) else {
            let names = site
                .snapshot
                .upstreams()
                .map(|upstream| upstream.name().to_string());
            return Err(ForceError::UnknownUpstream(names.collect()));
        };
        if site.breaker_settings(upstream).is_none() {
            return Err(ForceError::NoBreaker);
        }
        let forced = match to {
            Force::Open => Some(Forced::Open),
            Force::Closed => Some(Forced::Closed),
            Force::Auto => None,
        };
        // However an address on the network is written.
        let ip: Option<SocketAddr> = endpoint.parse().ok();
        let label = ip.map_or_else(|| endpoint.to_owned(), |ip| ip.to_string());
        let moved = found.roster().force(&label, forced, clock::now());
        let Some(moved) = moved else {
            let endpoints = found.roster().endpoints();
            let labels = endpoints.iter().map(|endpoint| endpoint.label.to_string());
            return Err(ForceError::UnknownEndpoint(labels.collect()));
        };
        let text = format!("an operator set the breaker to {}", to.name());
        tracing::warn!(upstream, endpoint, "{text}");
        let events = self.proxy.telemetry.events();
        events.note_endpoint(clock::date(), Kind::Breaker, upstream, endpoint, text);
        if let Some(moved) = moved {
            self.proxy.moved_one(found.name(), &moved);
        }
        Ok(())
    }
}

impl Running {
    /// The address that a listener is bound to, with its real port; `None`: there is no such listener,
    /// or it is a socket in the file system.
    pub fn listener_address(&self, name: &str) -> Option<SocketAddr> {
        self.shared.doors.address(name)?.ip()
    }

    /// The address of the admin interface, with its real port; `None`: it is a socket in the file system.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.ip()
    }

    /// The address of metrics and probes alone, with its real port; `None`: there is none, or it is a
    /// socket in the file system.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.ip()
    }

    /// The state of everything, now: what `GET /api/v1/status` says.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// The metrics: what `GET /metrics` says. It counts as a scrape.
    pub fn metrics(&self) -> String {
        self.shared.metrics(Format::Text)
    }

    /// Reads the files again; says what came of it. `None`: the process is ending.
    pub fn reload(&self) -> Option<LastReload> {
        let (tell, told) = oneshot::channel();
        self.reloads.blocking_send(tell).ok()?;
        told.blocking_recv().ok()
    }

    /// Asks for a reload from a thread that must not wait, and opens the access log anew.
    pub fn reloader(&self) -> impl Fn() + Send + Sync + 'static {
        let (shared, reloads) = (Arc::clone(&self.shared), self.reloads.clone());
        move || {
            shared.proxy.telemetry.reopen();
            let (answer, _not_waited_for) = oneshot::channel();
            // A full queue means that a reload is about to happen anyway.
            let _ = reloads.try_send(answer);
        }
    }

    /// Asks the process to end in order; asked again, it ends at once. Returns at once.
    pub fn terminate(&self) {
        self.shared.terminate();
    }

    /// A handle that can ask for the end while another thread waits for it.
    pub fn terminator(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.terminate()
    }

    /// Waits for the end. `false`: the control thread has panicked.
    pub fn wait(mut self) -> bool {
        self.join()
    }

    /// Asks for the end and waits for it.
    pub fn shutdown(self) -> bool {
        self.terminate();
        self.wait()
    }

    fn join(&mut self) -> bool {
        self.control
            .take()
            .is_none_or(|control| control.join().is_ok())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.control.is_some() {
            // Twice: nobody waits for what is in flight.
            self.terminate();
            self.terminate();
            self.join();
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}
