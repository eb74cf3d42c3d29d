//! Reading a configuration: YAML as written becomes a [`Plan`], or a list of everything that is wrong
//! with it, each with its place.

pub mod diff;
pub mod effective;
pub mod lint;
pub mod origin;
pub mod problem;
pub mod secrets;

use std::path::PathBuf;

use crate::plan::Plan;

pub use origin::{Effective, Entry, Origin, Place};
pub use problem::{Problem, Problems};

/// A configuration that is right.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it means.
    pub plan: Plan,
    /// Every setting, and who set it.
    pub effective: Effective,
    /// What is odd about it, but does not keep it from running.
    pub warnings: Vec<Problem>,
    /// The files that it was read from, those of `body_file` included, in the order of reading.
    pub sources: Vec<PathBuf>,
    /// A hash of the content of all of them: equal content, equal hash, within one build.
    pub hash: u64,
}
