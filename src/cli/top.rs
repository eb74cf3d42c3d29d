//! `mamparo top`: the operator's page in a terminal. It asks for the status again and again, and draws
//! what is wrong first.

mod places;
mod screen;
mod table;
mod view;
mod words;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::ask::{AdminArgs, ask};
use super::duration;
use screen::Screen;
use view::{Seen, Style};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Columns of a snapshot that is no terminal's: as many as it needs.
const PLAIN_WIDTH: usize = 160;

/// What `mamparo top` takes.
#[derive(Debug, Args)]
#[command(after_help = "`q` or Ctrl-C ends it.")]
pub struct Top {
    #[command(flatten)]
    admin: AdminArgs,
    /// How often it is drawn anew, at least 100ms
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::some)]
    interval: Duration,
    /// Print it once and end, as without a terminal
    #[arg(long)]
    once: bool,
}

/// Shows the state until `q` or Ctrl-C. Exit code 0, or 1 where there is no answer, or no terminal.
pub fn run(top: &Top) -> ExitCode {
    if top.once || !std::io::stdout().is_terminal() {
        return match status(&top.admin) {
            Ok(status) => {
                let seen = Seen {
                    status: &status,
                    before: None,
                };
                super::print(&view::draw(&seen, PLAIN_WIDTH, usize::MAX, Style::Plain))
            }
            Err(problem) => failed(&problem),
        };
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let shown = match runtime {
        Ok(runtime) => {
            let shown = runtime.block_on(show(top));
            // A question that is under way is not waited for.
            runtime.shutdown_background();
            shown
        }
        Err(error) => Err(error.to_string()),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&problem),
    }
}

fn failed(problem: &str) -> ExitCode {
    eprintln!("mamparo: {problem}");
    ExitCode::FAILURE
}

fn status(admin: &AdminArgs) -> Result<Value, String> {
    let reply = ask(
        &admin.admin,
        "GET",
        "/api/v1/status",
        Some("application/json"),
        WITHIN,
    )
    .map_err(|error| error.to_string())?;
    if reply.status != 200 {
        return Err(format!(
            "GET /api/v1/status was answered with {}: is that mamparo's admin interface?",
            reply.status
        ));
    }
    serde_json::from_str(&reply.body)
        .map_err(|error| format!("the answer to GET /api/v1/status is no JSON: {error}"))
}

/// Draws until it is told to end. Without an answer at first it ends; one that stays away later is told
/// above what was seen last.
async fn show(top: &Top) -> Result<(), String> {
    let mut seen = asked(&top.admin).await?;
    let mut before = None;
    let mut problem: Option<String> = None;
    let mut screen = Screen::take().map_err(|error| format!("no terminal: {error}"))?;
    let mut keys = screen.keys();
    let stop = stopped().map_err(|error| error.to_string())?;
    let mut stop = std::pin::pin!(stop);
    let interval = top.interval.max(Duration::from_millis(100));
    loop {
        let (width, height) = screen.size();
        let now = Seen {
            status: &seen,
            before: before.as_ref(),
        };
        let style = screen.style();
        let mut text = view::draw(&now, width, height, style);
        if let Some(problem) = &problem {
            text = view::with_problem(&text, problem, width, style);
        }
        screen.draw(&text).map_err(|error| error.to_string())?;
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = ends(&mut keys) => return Ok(()),
            () = &mut stop => return Ok(()),
        }
        let answer = tokio::select! {
            answer = asked(&top.admin) => answer,
            () = ends(&mut keys) => return Ok(()),
            () = &mut stop => return Ok(()),
        };
        match answer {
            Ok(status) => {
                before = Some(std::mem::replace(&mut seen, status));
                problem = None;
            }
            Err(sentence) => problem = Some(sentence),
        }
    }
}

async fn asked(admin: &AdminArgs) -> Result<Value, String> {
    let admin = admin.clone();
    tokio::task::spawn_blocking(move || status(&admin))
        .await
        .map_err(|error| error.to_string())?
}

/// Until `q` is pressed.
async fn ends(keys: &mut mpsc::Receiver<u8>) {
    while let Some(key) = keys.recv().await {
        if matches!(key, b'q' | b'Q') {
            return;
        }
    }
    // No key will come any more.
    std::future::pending().await
}

/// Ctrl-C, SIGTERM, or the end of the terminal.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = hung_up.recv() => {}
            _ = interrupted.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests;
