//! The rules of the house that a compiler does not check: which layer may import which, what it must
//! not name, how files begin, how long they get. Each rule has a test that plants a violation.

#![allow(
    clippy::unwrap_used,
    reason = "a failure to read the sources is a failed test"
)]

#[path = "architecture/reader.rs"]
mod reader;

use std::path::{Path, PathBuf};

use reader::Source;

/// What a layer may import from the others, and what it must not name.
struct Layer {
    name: &'static str,
    may_import: Imports,
    must_not_name: &'static [&'static str],
}

enum Imports {
    Only(&'static [&'static str]),
    Everything,
}

use Imports::{Everything, Only};

const LAYERS: &[Layer] = &[
    Layer {
        name: "policy",
        may_import: Only(&[]),
        must_not_name: &[
            "tokio",
            "hyper",
            "http",
            "serde",
            "tracing",
            "parking_lot",
            "Mutex",
            "RwLock",
            "Atomic*",
            "async",
        ],
    },
    Layer {
        name: "plan",
        may_import: Only(&["policy"]),
        must_not_name: &["tokio", "hyper", "serde"],
    },
    Layer {
        name: "tls",
        may_import: Only(&["clock", "plan"]),
        must_not_name: &["tokio", "hyper", "tracing", "prometheus"],
    },
    Layer {
        name: "config",
        // A certificate that cannot be used is a mistake in the configuration, found by whoever uses it.
        may_import: Only(&["plan", "policy", "tls"]),
        must_not_name: &["tokio", "hyper"],
    },
    Layer {
        name: "clock",
        may_import: Only(&[]),
        must_not_name: &["hyper", "tracing", "prometheus"],
    },
    Layer {
        name: "live",
        may_import: Only(&["clock", "plan", "policy", "tls"]),
        // HTTP/1.1 on the way of a request is ours.
        must_not_name: &["tracing", "prometheus", "hyper"],
    },
    Layer {
        name: "telemetry",
        // The access log dates its lines, and its writer looks after its file once a second.
        may_import: Only(&["clock", "policy", "plan"]),
        must_not_name: &["hyper"],
    },
    Layer {
        name: "proxy",
        may_import: Only(&["clock", "live", "plan", "policy", "telemetry", "tls"]),
        must_not_name: &["hyper"],
    },
    Layer {
        name: "errand",
        may_import: Only(&["live", "tls"]),
        must_not_name: &["tracing", "prometheus"],
    },
    Layer {
        name: "discovery",
        // It finds what the proxy sends to, and tells of it; what is to be found comes with the plan.
        may_import: Only(&[
            "clock",
            "errand",
            "live",
            "plan",
            "policy",
            "proxy",
            "telemetry",
            "tls",
        ]),
        must_not_name: &["prometheus"],
    },
    Layer {
        name: "server",
        may_import: Only(&["clock", "live", "proxy", "telemetry", "tls"]),
        must_not_name: &["hyper"],
    },
    Layer {
        name: "app",
        may_import: Everything,
        must_not_name: &[],
    },
    Layer {
        name: "reload",
        may_import: Everything,
        must_not_name: &[],
    },
    Layer {
        name: "cli",
        may_import: Everything,
        must_not_name: &[],
    },
    Layer {
        name: "main",
        may_import: Everything,
        must_not_name: &[],
    },
    Layer {
        name: "lib",
        may_import: Everything,
        must_not_name: &[],
    },
];

/// Crates that `policy` may use: none but the standard library.
const STANDARD: &[&str] = &["std", "core", "alloc", "crate", "super", "self"];

/// Lines of code in a file, without comments, blank lines and tests.
const LONGEST_FILE: usize = 500;

const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];

/// Everything that is wrong with one file; `path` is relative to `src`.
fn faults(path: &Path, text: &str) -> Vec<String> {
    let source = Source::read(path, text);
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(format!("src/{}: {text}", path.display()));
    if !text.starts_with("//!") {
        fault("does not open with `//!`: say what the file is for".into());
    }
    if source.lines_of_code > LONGEST_FILE {
        fault(format!(
            "has {} lines of code, more than {LONGEST_FILE}: split it",
            source.lines_of_code
        ));
    }
    for name in source
        .modules
        .iter()
        .filter(|name| EMPTY_NAMES.contains(&name.as_str()))
    {
        fault(format!(
            "`{name}` says nothing about what is inside: name the thing"
        ));
    }
    match LAYERS.iter().find(|layer| layer.name == source.layer()) {
        None => fault(format!(
            "`{}` has no row in the table of layers",
            source.layer()
        )),
        Some(layer) => layer_faults(layer, &source).into_iter().for_each(fault),
    }
    faults
}

fn layer_faults(layer: &Layer, source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let name = layer.name;
    for (line, target) in &source.imports {
        let known = LAYERS.iter().any(|other| other.name == target);
        let allowed = match layer.may_import {
            Everything => true,
            Only(layers) => target == name || layers.contains(&target.as_str()),
        };
        if known && !allowed {
            faults.push(format!("line {line}: `{name}` must not import `{target}`"));
        }
    }
    for (line, word) in &source.words {
        if layer
            .must_not_name
            .iter()
            .any(|banned| names(banned, word, &source.crates))
        {
            faults.push(format!("line {line}: `{name}` must not name `{word}`"));
        }
    }
    if name == "policy" {
        for (line, used) in &source.uses {
            let own_type = used.starts_with(char::is_uppercase);
            let own_module = source.modules.contains(used);
            if !own_type && !own_module && !STANDARD.contains(&used.as_str()) {
                faults.push(format!(
                    "line {line}: `policy` uses nothing but std, and not `{used}`"
                ));
            }
        }
    }
    faults.dedup();
    faults
}

/// Whether a word is the banned one. A crate's name also stands for its family (`hyper_util`), and counts
/// only where it is a path's beginning: a variable may be called `http`.
fn names(banned: &str, word: &str, crates: &[String]) -> bool {
    if let Some(family) = banned.strip_suffix('*') {
        return word.starts_with(family);
    }
    let keyword_or_type = banned == "async" || banned.starts_with(char::is_uppercase);
    if keyword_or_type {
        return word == banned;
    }
    let in_family = word == banned
        || word
            .strip_prefix(banned)
            .is_some_and(|rest| rest.starts_with('_'));
    in_family && crates.iter().any(|used| used == word)
}

/// Every Rust file below `src` that is not a test, by its path relative to `src`.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    let tests: Vec<PathBuf> = files
        .iter()
        .flat_map(|(path, text)| Source::read(path, text).test_modules)
        .collect();
    files.retain(|(path, _)| {
        !tests
            .iter()
            .any(|module| path.starts_with(module) || path.with_extension("") == *module)
    });
    files.sort();
    files
}

#[test]
fn the_sources_keep_to_the_layers_and_the_house_rules() {
    let files = sources();
    assert!(files.len() > 15, "only {} files were read", files.len());
    let faults: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| faults(path, text))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// What is wrong with a file of that content.
fn planted(path: &str, text: &str) -> String {
    faults(Path::new(path), text).join("\n")
}

#[test]
fn a_planted_import_of_a_forbidden_layer_is_found() {
    for (path, code, fault) in [
        (
            "proxy/handle.rs",
            "use crate::config::Loaded;",
            "`proxy` must not import `config`",
        ),
        (
            "server/mod.rs",
            "fn f() { crate::config::load() }",
            "`server` must not import `config`",
        ),
        (
            "live/pool.rs",
            "use crate::{clock, telemetry::report};",
            "`live` must not import `telemetry`",
        ),
        (
            "live/router.rs",
            "use super::super::proxy;",
            "`live` must not import `proxy`",
        ),
        (
            "live/mod.rs",
            "use super::{plan, server as s};",
            "`live` must not import `server`",
        ),
        (
            "live/a/b.rs",
            "mod c { use super::super::super::super::app; }",
            "`live` must not import `app`",
        ),
        (
            "policy/retry.rs",
            "use crate::plan::Plan;",
            "`policy` must not import `plan`",
        ),
        (
            "plan.rs",
            "use crate::config;",
            "`plan` must not import `config`",
        ),
        (
            "plan/timeline.rs",
            "use super::super::clock;",
            "`plan` must not import `clock`",
        ),
        (
            "telemetry/report.rs",
            "use crate::live::Snapshot;",
            "`telemetry` must not import `live`",
        ),
        (
            "config/lint.rs",
            "type A = crate::live::Snapshot;",
            "`config` must not import `live`",
        ),
    ] {
        let found = planted(path, &format!("//! x\n{code}\n"));
        assert_eq!(found, format!("src/{path}: line 2: {fault}"));
    }
}

#[test]
fn a_planted_name_that_a_layer_must_not_know_is_found() {
    for (path, code, word) in [
        ("policy/budget.rs", "use std::sync::Mutex;", "Mutex"),
        (
            "policy/budget.rs",
            "use std::sync::atomic::AtomicU64;",
            "AtomicU64",
        ),
        ("policy/budget.rs", "pub async fn f() {}", "async"),
        ("plan.rs", "#[derive(serde::Serialize)] struct A;", "serde"),
        (
            "config/compile.rs",
            "use hyper_util::rt::TokioIo;",
            "hyper_util",
        ),
        (
            "live/pool.rs",
            "fn f() { tracing::info!(\"x\") }",
            "tracing",
        ),
        ("live/pool.rs", "use prometheus::IntCounter;", "prometheus"),
        (
            "telemetry/metrics.rs",
            "fn f(r: &hyper::Request<()>) {}",
            "hyper",
        ),
    ] {
        let found = planted(path, &format!("//! x\n{code}\n"));
        assert!(
            found.contains(&format!("must not name `{word}`")),
            "{path}: {code}: {found}"
        );
    }
    let found = planted("policy/budget.rs", "//! x\nuse fastrand::Rng;\n");
    assert!(
        found.ends_with("`policy` uses nothing but std, and not `fastrand`"),
        "{found}"
    );
}

#[test]
fn a_planted_breach_of_a_house_rule_is_found() {
    assert!(planted("plan.rs", "use std::fmt;\n").contains("does not open with `//!`"));
    let long = format!("//! x\n{}", "fn f() {}\n".repeat(501));
    assert!(planted("app.rs", &long).contains("501 lines of code"));
    assert!(planted("proxy/utils.rs", "//! x\n").contains("`utils` says nothing"));
    assert!(planted("proxy/mod.rs", "//! x\nmod helpers;\n").contains("`helpers` says nothing"));
    assert!(planted("extra/mod.rs", "//! x\n").contains("`extra` has no row"));
}

#[test]
fn what_is_no_code_or_only_a_test_breaks_no_rule() {
    for (path, code) in [
        (
            "live/pool.rs",
            "// use crate::config;\n/* tracing::info!() /* crate::proxy */ */",
        ),
        (
            "live/pool.rs",
            "/// Not [`crate::config::Loaded`].\nfn f() {}",
        ),
        (
            "live/pool.rs",
            "const A: &str = \"crate::config \\\" tracing::x\";",
        ),
        (
            "live/pool.rs",
            "const A: &str = r#\"crate::config\"#; const B: char = '\"'; const C: u8 = b'\\'';",
        ),
        (
            "live/pool.rs",
            "fn f<'a>(a: &'a str) -> &'a str { a }\n#[cfg(test)]\nmod tests { use crate::config; }",
        ),
        (
            "live/pool.rs",
            "#[cfg(test)]\nuse crate::config;\nuse crate::plan;",
        ),
        (
            "live/pool.rs",
            "#[cfg(all(test, unix))]\n#[rustfmt::skip]\nfn f() { let a = [1; 2]; crate::config::x() }",
        ),
        ("policy/retry.rs", "fn f(http: u8) -> u8 { http }"),
        (
            "policy/retry.rs",
            "use super::outcome::Reason; use self::Reason::*; use crate::policy::budget;",
        ),
        ("live/mod.rs", "pub(crate) mod pool; pub(super) fn f() {}"),
        (
            "live/mod.rs",
            "mod inner { use super::pool; use super::super::plan; }",
        ),
    ] {
        assert_eq!(planted(path, &format!("//! x\n{code}\n")), "", "{code}");
    }
    let tested = format!(
        "//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n",
        "fn f() {}\n".repeat(900)
    );
    assert_eq!(planted("app.rs", &tested), "");
    let commented = format!("//! x\n{}", "// a comment\n\n".repeat(900));
    assert_eq!(planted("app.rs", &commented), "");
}

#[test]
fn files_that_only_tests_include_are_known_as_such() {
    let source = Source::read(
        Path::new("live/router.rs"),
        "//! x\n#[cfg(test)]\nmod tests;\nmod real;\n#[cfg(test)]\npub(crate) mod samples;",
    );
    let expected = ["live/router/tests", "live/router/samples"];
    assert_eq!(source.test_modules, expected.map(Path::new));
    let source = Source::read(
        Path::new("live/mod.rs"),
        "//! x\n#[cfg(test)]\nmod tests;\n",
    );
    assert_eq!(source.test_modules, [Path::new("live/tests")]);
    assert!(
        sources()
            .iter()
            .all(|(path, _)| !path.ends_with("router/tests.rs"))
    );
}
