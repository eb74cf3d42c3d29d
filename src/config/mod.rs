//! Reading a configuration: YAML as written becomes a [`Plan`], or a list of everything that is wrong
//! with it, each with its place.
//!
//! The way of a file: `source` reads it, `node` makes a tree of places and values, `read` compares the
//! tree with the table in `keys` and makes settings, `merge` lets them inherit and adds the defaults,
//! `compile` judges how they go together and makes the plan.

mod beside;
mod compile;
pub mod diff;
pub mod effective;
mod environment;
mod keys;
mod kind;
pub mod lint;
mod merge;
mod node;
pub mod origin;
mod path;
pub mod problem;
mod read;
#[cfg(test)]
mod reference;
mod report;
mod schema;
pub mod secrets;
mod setting;
mod source;
mod suggest;
mod surroundings;
mod text;
mod units;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;

use crate::plan::Plan;
use crate::tls;
use compile::Context;
use node::{Content, Node};
use path::Path;
use report::Report;
use setting::{Fields, Setting, Value};
use source::{Contents, Source};

pub use origin::{Effective, Entry, Origin, Place};
pub use problem::{Problem, Problems};
pub use schema::schema;
pub use source::default_paths;
pub use surroundings::ZONE;

/// The environment variable that overrides `admin.address`.
pub const ADMIN_ADDRESS: &str = "MAMPARO_ADMIN_ADDRESS";
/// The environment variable that overrides `admin.metrics_address`.
pub const METRICS_ADDRESS: &str = "MAMPARO_METRICS_ADDRESS";

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
    /// A hash of the content of all of them but the files of certificates: equal content, equal hash,
    /// within one build.
    pub hash: u64,
    /// What was read of the files of certificates, which are among the sources.
    pub certificates: tls::Material,
}

/// What files of certificates that cannot be used are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certificates {
    /// Problems like any other: the configuration cannot run.
    MustBeGood,
    /// For whoever still has what was read of them before.
    MayBeBad,
}

/// Reads the configuration that files and folders hold together.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    paths: &[PathBuf],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    load_with(paths, environment, Certificates::MustBeGood)
}

/// As [`load`], for a process that runs: files of certificates that cannot be used are no problems.
/// What is wrong with them is in [`Loaded::certificates`], for whoever kept what they held before.
///
/// # Errors
/// Everything else that is wrong with it.
pub fn load_again(
    paths: &[PathBuf],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    load_with(paths, environment, Certificates::MayBeBad)
}

/// As [`load_again`]; where the files still hold what `before` was made of, it is that once more, with
/// the files of certificates read anew. To make a large configuration takes a hundred times as long as to
/// read its files.
///
/// # Errors
/// Everything else that is wrong with it.
pub fn load_after(
    before: &Loaded,
    paths: &[PathBuf],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    if !is_still(before, paths) {
        return load_again(paths, environment);
    }
    let mut again = before.clone();
    again.certificates = tls::read(&before.plan);
    Ok(again)
}

/// Whether the files that the paths name, and those that they name in turn, hold what they held.
fn is_still(before: &Loaded, paths: &[PathBuf]) -> bool {
    let (mut contents, mut report) = (Contents::default(), Report::default());
    source::read(paths, &mut contents, &mut report);
    let Some(named) = before.sources.strip_prefix(contents.files.as_slice()) else {
        return false;
    };
    let certificates = before.certificates.files();
    for file in named.strip_suffix(certificates.as_slice()).unwrap_or(named) {
        match source::read_bounded(file, compile::MAX_BODY) {
            Ok(bytes) => contents.add(Some(file.clone()), &bytes),
            Err(_) => return false,
        }
    }
    report.is_empty() && contents.hash() == before.hash
}

fn load_with(
    paths: &[PathBuf],
    environment: &dyn Fn(&str) -> Option<String>,
    certificates: Certificates,
) -> Result<Loaded, Problems> {
    let mut report = Report::default();
    let mut contents = Contents::default();
    if paths.is_empty() {
        report.add(None, "", "no configuration is named");
    }
    let sources = source::read(paths, &mut contents, &mut report);
    if !report.is_empty() {
        return Err(report.refuse());
    }
    compile_sources(sources, contents, report, environment, certificates)
}

/// Reads a configuration that is one document in memory; `name` stands for the file in places.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(
    name: &str,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let mut contents = Contents::default();
    contents.add(None, text.as_bytes());
    let source = Source {
        name: name.into(),
        text: text.to_owned(),
    };
    let certificates = Certificates::MustBeGood;
    let report = Report::default();
    compile_sources(vec![source], contents, report, environment, certificates)
}

fn compile_sources(
    sources: Vec<Source>,
    mut contents: Contents,
    mut report: Report,
    environment: &dyn Fn(&str) -> Option<String>,
    certificates: Certificates,
) -> Result<Loaded, Problems> {
    let count = sources.len();
    let roots: Vec<Node> = sources
        .into_iter()
        .filter_map(|source| root_node(source, environment, &mut report))
        .collect();
    let whole = roots.len() == count;
    let root = merge::files(roots, &mut report).filter(|_| whole);
    let Some(mut root) =
        root.and_then(|root| read::block(&root, &keys::ROOT, Path::Top, &mut report))
    else {
        return Err(report.refuse());
    };
    compile::settle_routes(&mut root, &mut report);
    settle_surroundings(&mut root, environment, &mut report);
    merge::inherit(&mut root);
    merge::complete(&mut root, &keys::ROOT);
    settle_workers(&mut root);
    compile::name_routes(&mut root);
    // What it gave is in every upstream now; by itself it holds for nothing.
    root.remove("defaults");
    let plan = compile::plan(
        &root,
        &mut Context {
            report: &mut report,
            contents: &mut contents,
            made: compile::Made::default(),
        },
    );
    match plan {
        Some(plan) if report.is_empty() => {
            let effective = Effective::of(root);
            let read = tls::read(&plan);
            if certificates == Certificates::MustBeGood {
                for (user, problem) in read.problems() {
                    let problem = certificate_problem(&effective, user, problem);
                    report.add_problem(problem);
                }
            }
            if !report.is_empty() {
                return Err(report.refuse());
            }
            let mut sources = contents.files.clone();
            sources.extend(read.files());
            Ok(Loaded {
                warnings: compile::loops(&plan, &effective),
                plan,
                effective,
                hash: contents.hash(),
                sources,
                certificates: read,
            })
        }
        Some(_) => Err(report.refuse()),
        None => {
            if report.is_empty() {
                report.add(
                    None,
                    "",
                    "this cannot be understood, and mamparo does not know why: please report it",
                );
            }
            Err(report.refuse())
        }
    }
}

/// What is wrong with a file of certificates, at the setting that names the file.
pub fn certificate_problem(
    effective: &Effective,
    user: &tls::User,
    problem: &tls::FileProblem,
) -> Problem {
    let path = certificate_path(user, problem.setting);
    Problem {
        place: effective.place_of(&path).cloned(),
        path,
        message: problem.message.clone(),
        help: problem.help.map(str::to_owned),
        source_line: None,
    }
}

/// The setting that names a file of certificates.
fn certificate_path(user: &tls::User, setting: &str) -> String {
    match user {
        tls::User::Listener(name) => format!("listeners.{name}.tls.{setting}"),
        tls::User::Upstream(name) => format!("upstreams.{name}.tls.{setting}"),
    }
}

/// The block of keys that a file holds; a file without one is reported.
fn root_node(
    source: Source,
    environment: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Option<Node> {
    let Source { name, text } = source;
    let before = report.count();
    let node = node::parse(&name, &text, environment, report);
    let blank = |line: &str| line.is_empty() || line.starts_with('#') || line == "---";
    // Markers alone are no document either.
    let empty =
        text.lines().map(str::trim).all(blank) || node.is_none() && report.count() == before;
    report.add_text(Arc::clone(&name), text);
    if empty {
        let place = Place {
            file: name,
            line: 1,
            column: 1,
        };
        report.add_with_help(
            Some(&place),
            "",
            "the file is empty",
            "it needs at least `listeners` and `upstreams`",
        );
        return None;
    }
    let node = node?;
    match &node.content {
        Content::Map(_) => Some(node),
        Content::Scalar(_) | Content::List(_) => {
            let help = "it begins like `listeners:`, with its settings indented below";
            report.add_with_help(
                Some(&node.place),
                "",
                "this is no configuration: it has no keys",
                help,
            );
            None
        }
    }
}

/// Settings that come from around the process: addresses of the admin interface, the service's name, what a
/// pod is told.
fn settle_surroundings(
    root: &mut Fields,
    environment: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) {
    let overrides = [
        (ADMIN_ADDRESS, "address"),
        (METRICS_ADDRESS, "metrics_address"),
    ];
    for (name, key) in overrides {
        let Some(address) = environment(name).filter(|address| !address.is_empty()) else {
            continue;
        };
        let setting = address_from(name, key, &address, report);
        let admin = root.get_or_insert("admin", || Value::Block(Arc::default()));
        if let Some(admin) = admin.block_mut() {
            admin.remove(key);
            admin.0.push((key, setting));
        }
    }
    surroundings::settle_kubernetes(root, environment);
    root.get_or_insert("service", || Value::Text(host_name(environment).into()));
}

/// An address of the admin interface that the environment says.
fn address_from(name: &str, key: &str, address: &str, report: &mut Report) -> Setting {
    let origin = Origin::Environment {
        name: name.into(),
        place: None,
    };
    let mut setting = Setting {
        value: Value::Text(address.into()),
        origin,
    };
    if let Err(complaint) = text::listen_address(address) {
        let path = format!("admin.{key}");
        let message = format!("{}, in the environment's {name}", complaint.message);
        match complaint.help {
            Some(help) => report.add_with_help(None, &path, message, help),
            None => report.add(None, &path, message),
        }
        setting.value = Value::Broken;
    }
    setting
}

/// The name of this host; in a pod, that of the pod.
fn host_name(environment: &dyn Fn(&str) -> Option<String>) -> String {
    let file = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = environment("HOSTNAME")
        .filter(|name| !name.trim().is_empty())
        .or_else(file);
    name.map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// Puts a number in the place of `auto`.
fn settle_workers(root: &mut Fields) {
    let Some(runtime) = root.get_mut("runtime").and_then(Setting::block_mut) else {
        return;
    };
    let Some(workers) = runtime.get_mut("workers") else {
        return;
    };
    if workers.value == Value::Word("auto") {
        *workers = Setting {
            value: Value::Count(workers::available().get() as u64),
            origin: Origin::Auto,
        };
    }
}

#[cfg(test)]
mod tests;
