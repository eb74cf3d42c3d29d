//! `mamparo schema`: the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use crate::config;

/// Prints the schema.
pub fn run() -> ExitCode {
    super::print(&format!("{:#}\n", config::schema()))
}
