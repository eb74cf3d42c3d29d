//! `mamparo run`: the proxy itself, until SIGTERM.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::BAD_CONFIG;
use crate::app::{self, Options, Running};
use crate::clock;
use crate::config::{self, Loaded, Problems};
use crate::telemetry::log::{self, Form};

/// What `mamparo run` takes.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Files or folders of YAML [default: ./mamparo.yaml, then /etc/mamparo/]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub config: Vec<PathBuf>,
    /// What the log tells: off, error, warn, info, debug, or directives by module
    #[arg(long, env = "MAMPARO_LOG", value_name = "LEVEL", default_value = log::DEFAULT_LEVEL)]
    pub log: String,
}

/// Runs until it is told to end. 0 after a clean drain, 1 on a runtime failure, 2 on a bad
/// configuration.
pub fn run(args: Run) -> ExitCode {
    let paths = if args.config.is_empty() {
        config::default_paths()
    } else {
        args.config
    };
    serve(&args.log, paths.clone(), || {
        config::load(&paths, &app::environment)
    })
}

/// Runs what is loaded; `paths` are watched, where there are any.
pub(super) fn serve(
    log_level: &str,
    paths: Vec<PathBuf>,
    load: impl FnOnce() -> Result<Loaded, Problems>,
) -> ExitCode {
    let log_level = match log::start(log_level, Form::of_stderr(), clock::date) {
        Ok(log_level) => log_level,
        Err(problem) => {
            log::line(&format!("mamparo: {problem}"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(problems) => {
            log::line(&problems.to_string());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let options = Options {
        paths,
        log_level: Some(log_level),
        ..Options::default()
    };
    // Before the start, so that no signal finds the process without a handler.
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(problem) => {
            tracing::error!("signals cannot be received: {problem}");
            return ExitCode::FAILURE;
        }
    };
    match app::start(loaded, options) {
        Ok(running) => {
            signals.act_on(&running);
            if running.wait() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(problem) => {
            tracing::error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// What signals do: SIGTERM and SIGINT end it in order, twice at once; SIGHUP reads the files again and
/// opens the access log anew.
struct Acts {
    terminate: Box<dyn Fn() + Send>,
    reload: Box<dyn Fn() + Send>,
}

/// A thread that waits for signals.
struct Signals {
    acts: oneshot::Sender<Acts>,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (term, interrupt, hangup) = {
            let _entered = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            )
        };
        let (acts, given) = oneshot::channel();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                runtime.block_on(async move {
                    // An error means that the start has failed: nothing is left to be told.
                    if let Ok(acts) = given.await {
                        wait_for_signals(term, interrupt, hangup, acts).await;
                    }
                });
            })?;
        Ok(Self { acts })
    }

    fn act_on(self, running: &Running) {
        let terminate = running.terminator();
        let reload = running.reloader();
        let acts = Acts {
            terminate: Box::new(terminate),
            reload: Box::new(reload),
        };
        // The thread waits for nothing else.
        let _ = self.acts.send(acts);
    }
}

async fn wait_for_signals(mut term: Signal, mut interrupt: Signal, mut hangup: Signal, acts: Acts) {
    let mut ends = Ends::default();
    loop {
        tokio::select! {
            _ = term.recv() => if ends.is_new(clock::now()) { (acts.terminate)() },
            _ = interrupt.recv() => if ends.is_new(clock::now()) { (acts.terminate)() },
            _ = hangup.recv() => (acts.reload)(),
        }
    }
}

/// Two signals closer than this are one order: `timeout`, among others, sends its signal to the process
/// and to its group, and a drain must not end at once by that.
const ECHO: Duration = Duration::from_millis(200);

/// The orders to end.
#[derive(Debug, Default)]
struct Ends {
    last: Option<Instant>,
}

impl Ends {
    /// Whether a signal at `now` is an order of its own.
    fn is_new(&mut self, now: Instant) -> bool {
        let before = self.last.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) >= ECHO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_069_an_echo_of_a_signal_is_no_second_order() {
        let start = clock::now();
        let mut ends = Ends::default();
        for (at, is_new) in [
            (0, true),
            (1, false),
            (150, false),
            (340, false),
            (540, true),
        ] {
            let now = start + Duration::from_millis(at);
            assert_eq!(ends.is_new(now), is_new, "{at} ms");
        }
    }
}
