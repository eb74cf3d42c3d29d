//! A changed file, SIGHUP or an order becomes the next generation, or the old one stays and it is said
//! why. Whatever is wrong with the new files, the process goes on as it was.

pub mod maker;
pub mod watch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::clock;
use crate::config::diff::diff;
use crate::config::{Loaded, Problems};
use crate::plan::{Plan, SocketAddress};
use crate::server::admin::ReloadOrder;
use crate::server::status::{LastReload, ReloadResult};
use crate::telemetry::Telemetry;
use crate::telemetry::events::{Kind, stamp};
use maker::Maker;
use watch::Watch;

/// Lines of a diff that are kept and logged; the rest is counted.
const MAX_CHANGES: usize = 100;

/// Reads and validates the files; blocking.
pub type Load = dyn Fn() -> Result<Loaded, Problems> + Send + Sync;

/// Makes a configuration the running one; gives the sources of its endpoints that have not answered in time.
/// An error, such as an address that is in use, must have changed nothing.
pub type Apply = dyn FnMut(&Loaded) -> Result<Vec<String>, Vec<String>> + Send;

/// Takes in the certificates of a configuration that is the running one otherwise.
pub type Renew = dyn FnMut(&Loaded) + Send;

/// The steps of a reload that are done elsewhere.
pub struct Steps {
    /// Reads and validates the files.
    pub load: Arc<Load>,
    /// Takes in certificates that may have changed.
    pub renew: Box<Renew>,
    /// Makes a configuration the running one.
    pub apply: Box<Apply>,
}

/// The last attempt to reload; `None` before the first. Shared with the status and the metrics.
pub type Last = Arc<Mutex<Option<LastReload>>>;

/// What came of the last attempt, for the metric: true before the first one.
pub fn last_succeeded(last: &Last) -> bool {
    last.lock()
        .as_ref()
        .is_none_or(|reload| reload.result != ReloadResult::Refused)
}

/// Makes new generations from changed files.
pub struct Reloader {
    load: Arc<Load>,
    changer: Arc<Mutex<Changer>>,
    generation: u64,
    watch: Watch,
    maker: Maker,
    last: Last,
    telemetry: Arc<Telemetry>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader")
            .field("generation", &self.generation)
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

/// Puts configurations to use. That takes a while where they are large, and is done on a thread of its own:
/// new connections are accepted on the control thread.
struct Changer {
    renew: Box<Renew>,
    apply: Box<Apply>,
    running: Loaded,
}

/// What has come of a configuration.
struct Judged {
    result: ReloadResult,
    problems: Vec<String>,
    changes: Vec<String>,
    /// Sources of its endpoints that have not answered in time.
    late: Vec<String>,
}

/// Who wants a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// An operator or SIGHUP: there is always an answer.
    ByOrder,
    /// A file that may have changed: nothing is said where nothing has come of it.
    ByFiles,
}

impl Reloader {
    /// Watches the files named by `paths`, from which `running` was read; it runs as generation 1.
    pub fn new(
        paths: Vec<PathBuf>,
        steps: Steps,
        running: Loaded,
        last: Last,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self {
            watch: Watch::new(paths, &running.sources),
            load: steps.load,
            changer: Arc::new(Mutex::new(Changer {
                renew: steps.renew,
                apply: steps.apply,
                running,
            })),
            generation: 1,
            maker: Maker::default(),
            last,
            telemetry,
        }
    }

    /// The thread on which generations are built, for what else concerns them.
    pub fn maker(&self) -> Maker {
        self.maker.clone()
    }

    /// Reloads whenever a file has changed or an order comes; never ends by itself. Orders that come
    /// while one reload is under way are answered together by the next, so that a storm of them costs
    /// two (fault 68).
    pub async fn run(mut self, mut orders: mpsc::Receiver<ReloadOrder>) {
        loop {
            let first = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => Some(order),
                    // Nobody can give orders any more; files still change.
                    None => { self.watch.changed().await; None }
                },
                () = self.watch.changed() => None,
            };
            let mut waiting: Vec<ReloadOrder> = first.into_iter().collect();
            while let Ok(order) = orders.try_recv() {
                waiting.push(order);
            }
            let asked = if waiting.is_empty() {
                Asked::ByFiles
            } else {
                Asked::ByOrder
            };
            let result = self.reload(asked).await;
            for order in waiting {
                // Whoever has given it up needs no answer.
                let _ = order.send(result.clone());
            }
        }
    }

    async fn reload(&mut self, asked: Asked) -> LastReload {
        // Before the reading: what changes from here on is a change again.
        self.watch.take_for_seen().await;
        let load = Arc::clone(&self.load);
        let read = self.maker.run(move || load()).await;
        self.watch.doubt_what_has_changed().await;
        let judged = match read {
            Ok(Ok(loaded)) => self.judge(loaded).await,
            Ok(Err(Problems(problems))) => refused(problems.iter().map(ToString::to_string)),
            Err(panicked) => refused([format!("reading the configuration failed: {panicked}")]),
        };
        let reload = LastReload {
            at: stamp(clock::date()),
            result: judged.result,
            generation: self.generation,
            problems: judged.problems,
            changes: judged.changes,
        };
        self.record(&reload, &judged.late, asked);
        reload
    }

    async fn judge(&mut self, loaded: Loaded) -> Judged {
        let (changer, sources) = (Arc::clone(&self.changer), loaded.sources.clone());
        let judged = self.maker.run(move || changer.lock().judge(loaded)).await;
        match judged {
            Ok(judged) => {
                if judged.result == ReloadResult::Applied {
                    self.watch.follow(&sources);
                    self.generation += 1;
                }
                judged
            }
            Err(panicked) => refused([format!("applying the configuration failed: {panicked}")]),
        }
    }

    /// Keeps and tells the result. What files alone have caused is told once only: the same problem is
    /// found again at every poll, since a missing file may come back at a place that is not watched.
    fn record(&mut self, reload: &LastReload, late: &[String], asked: Asked) {
        let before = self.last.lock().clone();
        let was_refused = before
            .as_ref()
            .is_some_and(|before| before.result == ReloadResult::Refused);
        let is_news = asked == Asked::ByOrder
            || match reload.result {
                ReloadResult::Applied => true,
                ReloadResult::Unchanged => was_refused,
                ReloadResult::Refused => {
                    before.is_none_or(|before| before.problems != reload.problems)
                }
            };
        self.watch
            .look_again(reload.result == ReloadResult::Refused);
        if is_news {
            self.tell(reload, late);
            *self.last.lock() = Some(reload.clone());
        }
    }

    fn tell(&self, reload: &LastReload, late: &[String]) {
        let metrics = self.telemetry.metrics();
        let generation = reload.generation;
        let text = match reload.result {
            ReloadResult::Applied => {
                metrics.reloads_applied.add_one();
                tracing::info!(
                    generation,
                    changes = reload.changes.len(),
                    "configuration applied{}",
                    without(late)
                );
                for change in &reload.changes {
                    tracing::info!(generation, "changed: {change}");
                }
                for warning in &self.changer.lock().running.warnings {
                    tracing::warn!("{warning}");
                }
                format!(
                    "configuration applied: generation {generation}, {}{}",
                    count(reload.changes.len(), "change"),
                    without(late)
                )
            }
            ReloadResult::Unchanged => {
                tracing::info!(generation, "the files say what already runs");
                format!("the files say what already runs (generation {generation})")
            }
            ReloadResult::Refused => {
                metrics.reloads_refused.add_one();
                for problem in &reload.problems {
                    tracing::error!("{problem}");
                }
                tracing::error!(
                    generation,
                    problems = reload.problems.len(),
                    "configuration refused; the old one still runs"
                );
                format!(
                    "configuration refused, {}; generation {generation} still runs",
                    count(reload.problems.len(), "problem")
                )
            }
        };
        self.telemetry
            .events()
            .note(clock::date(), Kind::Reload, text);
    }
}

impl Changer {
    fn judge(&mut self, loaded: Loaded) -> Judged {
        if loaded.hash == self.running.hash {
            (self.renew)(&loaded);
            return Judged::of(ReloadResult::Unchanged);
        }
        let fixed = fixed_at_start(&self.running.plan, &loaded.plan);
        if !fixed.is_empty() {
            return refused(fixed);
        }
        let late = match (self.apply)(&loaded) {
            Ok(late) => late,
            Err(problems) => return refused(problems),
        };
        let changes = diff(&self.running.effective, &loaded.effective);
        let changes = shortened(changes.iter().map(ToString::to_string).collect());
        self.running = loaded;
        Judged {
            changes,
            late,
            ..Judged::of(ReloadResult::Applied)
        }
    }
}

impl Judged {
    const fn of(result: ReloadResult) -> Self {
        Self {
            result,
            problems: Vec::new(),
            changes: Vec::new(),
            late: Vec::new(),
        }
    }
}

fn refused(problems: impl IntoIterator<Item = String>) -> Judged {
    Judged {
        problems: problems.into_iter().collect(),
        ..Judged::of(ReloadResult::Refused)
    }
}

/// What an applied configuration still runs without, as the end of a sentence.
fn without(late: &[String]) -> String {
    match late {
        [] => String::new(),
        late => format!("; no answer yet from {}", late.join(", ")),
    }
}

/// What a running process cannot change.
fn fixed_at_start(running: &Plan, wanted: &Plan) -> Vec<String> {
    let mut problems = Vec::new();
    if running.runtime.workers != wanted.runtime.workers {
        problems.push(format!(
            "runtime.workers: cannot change while the process runs ({} now, {} in the file); restart to change it",
            running.runtime.workers, wanted.runtime.workers
        ));
    }
    if running.admin != wanted.admin {
        problems.push(format!(
            "admin.address: cannot change while the process runs ({} now, {} in the file); restart to change it",
            running.admin, wanted.admin
        ));
    }
    if running.metrics != wanted.metrics {
        let told = |address: &Option<SocketAddress>| match address {
            Some(address) => address.to_string(),
            None => "none".to_owned(),
        };
        problems.push(format!(
            "admin.metrics_address: cannot change while the process runs ({} now, {} in the file); restart to change it",
            told(&running.metrics), told(&wanted.metrics)
        ));
    }
    problems
}

fn shortened(mut changes: Vec<String>) -> Vec<String> {
    let more = changes.len().saturating_sub(MAX_CHANGES);
    if more > 0 {
        changes.truncate(MAX_CHANGES);
        changes.push(format!("and {more} more"));
    }
    changes
}

fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}
