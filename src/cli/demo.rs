//! `mamparo demo`: everything in one process with no file and no network. Flaky services on loopback,
//! the proxy in front of them, clients, and the status page. What is told comes from the running proxy's
//! status and from its clients; nothing is made up.

mod load;
mod narrator;
mod stage;
mod story;
mod summary;
mod upstream;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::duration;
use crate::clock;
use crate::config::Problems;
use narrator::Narrator;
use stage::Stage;
use story::{Act, Scene};

/// How often the proxy's state is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often numbers are told.
const COUNT: Duration = Duration::from_secs(1);

/// What `mamparo demo` takes.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// End after this time, such as 30s; without it the demo goes on until Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::some)]
    pub duration: Option<Duration>,
}

/// Why the demo could not be shown.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// Its own configuration is wrong.
    #[error("{0}")]
    Config(Problems),
    /// The proxy did not start.
    #[error("{0}")]
    Start(#[from] crate::app::StartError),
    /// The system gives no sockets or threads, or nobody listens to what is told.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Shows the demo until its time is over or Ctrl-C. Exit code 0, or 1 where it could not be shown.
pub fn run(demo: &Demo) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let shown = match runtime {
        Ok(runtime) => runtime.block_on(show(demo)),
        Err(error) => Err(error.into()),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever has stopped reading, `head` say, has seen enough.
        Err(DemoError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            crate::telemetry::log::line(&format!("the demo cannot be shown: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn show(demo: &Demo) -> Result<(), DemoError> {
    let mut stage = Stage::build()?;
    let mut teller = Teller::new();
    teller.paragraph(&stage.introduction())?;
    let told = tell(demo, &stage, &mut teller).await;
    stage.close_the_doors().await;
    told?;
    let lines = stage.reckoning().await;
    teller.paragraph(&format!("\n{}", summary::table(&lines)))?;
    stage.end().await;
    Ok(())
}

/// Plays and tells until it is over.
async fn tell(demo: &Demo, stage: &Stage, teller: &mut Teller) -> io::Result<()> {
    let mut narrator = Narrator::default();
    let mut tick = tokio::time::interval(LOOK);
    let mut stop = std::pin::pin!(interrupted());
    let (mut before, mut counted) = (None, Duration::ZERO);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = &mut stop => return teller.line("Interrupted."),
        }
        let elapsed = teller.elapsed();
        if demo.duration.is_some_and(|duration| elapsed >= duration) {
            return Ok(());
        }
        let status = stage.status();
        for line in narrator.breakers(&status) {
            teller.line(&line)?;
        }
        let scenes = story::due(before, elapsed);
        before = Some(elapsed);
        if !scenes.is_empty() || elapsed >= counted + COUNT {
            counted = elapsed;
            for line in narrator.counts(&status, stage.clients()) {
                teller.line(&line)?;
            }
        }
        for (_, scene) in scenes {
            stage.act(scene.act);
            narrator.begin(&status, stage.clients());
            teller.scene(&scene)?;
        }
        if status.process.draining {
            return teller.line("The proxy was told to end.");
        }
    }
}

/// Ctrl-C, or SIGTERM.
async fn interrupted() {
    let Ok(mut terminated) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

/// Writes lines with the time since the beginning.
struct Teller {
    began: Instant,
    out: io::Stdout,
    bold: bool,
}

impl Teller {
    fn new() -> Self {
        let out = io::stdout();
        let bold = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            began: clock::now(),
            out,
            bold,
        }
    }

    fn elapsed(&self) -> Duration {
        clock::now().saturating_duration_since(self.began)
    }

    fn paragraph(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        let seconds = self.elapsed().as_secs_f64();
        self.paragraph(&format!("{seconds:>6.1} s    {text}"))
    }

    fn scene(&mut self, scene: &Scene) -> io::Result<()> {
        let seconds = self.elapsed().as_secs_f64();
        let (on, off) = if self.bold {
            ("\u{1b}[1m", "\u{1b}[0m")
        } else {
            ("", "")
        };
        let sign = match scene.act {
            Act::Calm | Act::Revive | Act::CrowdLeaves | Act::Recover => '+',
            Act::Flaky | Act::Kill | Act::Crowd | Act::Hang => '!',
        };
        self.paragraph(&format!("{seconds:>6.1} s  {on}{sign} {}{off}", scene.says))
    }
}
