//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    mamparo::cli::run()
}
