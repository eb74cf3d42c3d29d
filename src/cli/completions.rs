//! `mamparo completions SHELL`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// What `completions` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell to complete in.
    shell: Shell,
}

/// Prints the completions.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut super::Arguments::command(),
        "mamparo",
        &mut script,
    );
    super::print(&String::from_utf8_lossy(&script))
}
