//! The command line: one file for each command.

pub mod ask;
pub mod check;
pub mod completions;
pub mod demo;
pub mod dev;
mod duration;
pub mod explain;
pub mod inject;
pub mod probe;
pub mod run;
pub mod schema;
pub mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code for a configuration that is wrong.
pub const BAD_CONFIG: u8 = 2;

/// A resilience sidecar: timeouts, retries, circuit breakers, bulkheads and fallbacks for any service.
#[derive(Debug, Parser)]
#[command(
    name = "mamparo",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    Run(run::Run),
    /// Read, validate and lint a configuration without starting.
    Check(check::Arguments),
    /// Show everything in one process: flaky services, the proxy before them, clients, the status page.
    Demo(demo::Demo),
    /// Put good policies in front of one service under development, without a file.
    Dev(dev::Dev),
    /// Show what is wrong with a running process, its upstreams and events, in the terminal, live.
    Top(top::Top),
    /// Tell what would happen to a request at worst, or what became of one.
    Explain(explain::Explain),
    /// Ask a running process whether it is ready; the exit code answers: for health checks and scripts.
    Probe(probe::Probe),
    /// Put the sidecar into manifests for Kubernetes, and print them.
    Inject(inject::Inject),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Print completions for a shell.
    Completions(completions::Arguments),
}

/// Runs the command that the program was started with.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Inject(arguments) => inject::run(&arguments),
        Command::Schema => schema::run(),
        Command::Completions(arguments) => completions::run(&arguments),
    }
}

/// Writes to the standard output. A reader that has gone, such as `head`, is no failure.
fn print(text: &str) -> ExitCode {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("mamparo: cannot write: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
