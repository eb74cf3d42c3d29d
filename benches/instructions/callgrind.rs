//! Runs a case under callgrind, and reads what that has counted.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// What one case has cost, for all of its requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) instructions: u64,
    /// Calls of malloc and of its kin.
    pub(crate) allocations: u64,
}

/// Functions of the C library that allocate.
const ALLOCATES: &[&str] = &[
    "malloc",
    "calloc",
    "realloc",
    "aligned_alloc",
    "memalign",
    "posix_memalign",
];

/// Runs this very program again, under callgrind, with these arguments; counted is what runs within the
/// function of that name. What callgrind has to tell is kept in `out`.
pub(crate) fn count(function: &str, arguments: &[&str], out: &Path) -> Result<Cost, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut file = OsString::from("--callgrind-out-file=");
    file.push(out);
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect=*{function}*"))
        .arg(file)
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}; apt-get install valgrind"))?;
    if !run.status.success() {
        let told = String::from_utf8_lossy(&run.stderr);
        return Err(format!("valgrind: {}: {told}", run.status));
    }
    let text =
        std::fs::read_to_string(out).map_err(|error| format!("{}: {error}", out.display()))?;
    read(&text).ok_or_else(|| format!("{}: no counts were found", out.display()))
}

/// Reads callgrind's format: `fn=(ID) NAME` begins what a function has cost, `cfn=(ID) NAME` and `calls=COUNT …`
/// are its calls of another; a name stands only where its number is used first.
fn read(text: &str) -> Option<Cost> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut cost = Cost::default();
    let (mut caller, mut callee) = ("", "");
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=').or_else(|| line.split_once(": ")) else {
            continue;
        };
        match key {
            "fn" => caller = name(&mut names, value),
            "cfn" => callee = name(&mut names, value),
            // Some of them call each other.
            "calls" if ALLOCATES.contains(&callee) && !ALLOCATES.contains(&caller) => {
                cost.allocations += value.split(' ').next()?.parse::<u64>().ok()?;
            }
            "totals" => cost.instructions = value.trim().parse().ok()?,
            _ => {}
        }
    }
    (cost.instructions > 0).then_some(cost)
}

fn name<'a>(names: &mut HashMap<&'a str, &'a str>, value: &'a str) -> &'a str {
    match value.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(value).copied().unwrap_or_default(),
    }
}
