//! Instructions and allocations per request, which unlike times hardly depend on the machine and its load:
//!
//! ```sh
//! benches/instructions/run                    # compares with the kept figures; fails where one is off
//! benches/instructions/run --renew            # keeps the new ones
//! benches/instructions/run get64_every        # only the cases with that in their names
//! ```
//!
//! It needs valgrind. A case is this program again, under callgrind, with requests through the whole proxy in
//! memory; what the first ones cost is taken off, since they make the connections. The kernel's part and that
//! of tokio's sockets is not in it. For what a case consists of:
//!
//! ```sh
//! benches/instructions/run get64_every
//! callgrind_annotate target/instructions/get64_every_policy.out
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong here is a failed bench"
)]

mod callgrind;
mod cases;
mod client;
mod endpoint;
mod figures;
mod frames;
mod pipe;
mod stage;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use cases::Case;
use figures::{Figure, Kept, Verdict};
use stage::Stage;

/// A case is counted with so many requests, and with so many: the difference is what the ones between cost, when
/// connections are made and buffers have grown to what they need.
const FEW: u32 = 200;
const MANY: u32 = 1200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match *arguments {
        ["--play", name, requests] => play(name, requests),
        ["--renew"] => renew(),
        [] => compare(""),
        [part] => compare(part),
        _ => Err("one argument at most: --renew, or a part of the cases' names".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Has so many requests of a case answered; under callgrind.
fn play(name: &str, requests: &str) -> Result<(), String> {
    let case = cases::all().into_iter().find(|case| case.name == name);
    let stage = Stage::new(&case.ok_or("no such case")?);
    counted_by_callgrind(&stage, requests.parse().map_err(|_| "how many?")?);
    let answer = stage.answer();
    let is_ok = answer.starts_with(b"HTTP/1.1 200 ") || answer.starts_with(&[0, 0]);
    assert!(is_ok, "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Callgrind counts what runs within it, and knows it by its name.
#[inline(never)]
fn counted_by_callgrind(stage: &Stage, requests: u32) {
    stage.ask(requests);
}

/// Counts a case.
fn count(case: &Case) -> Result<Figure, String> {
    let out = out(case).map_err(|error| error.to_string())?;
    let cost = |requests: u32| {
        let arguments = ["--play", &case.name, &requests.to_string()];
        callgrind::count("counted_by_callgrind", &arguments, &out)
    };
    let (few, many) = (cost(FEW)?, cost(MANY)?);
    let each = |few: u64, many: u64| (many - few) as f64 / f64::from(MANY - FEW);
    Ok(Figure {
        instructions: each(few.instructions, many.instructions),
        allocations: each(few.allocations, many.allocations),
    })
}

/// Where callgrind writes: beside the folder that this program was built into.
fn out(case: &Case) -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).unwrap_or(&program);
    let folder = target.join("instructions");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{}.out", case.name)))
}

fn renew() -> Result<(), String> {
    let mut figures = Vec::new();
    for case in cases::all() {
        let figure = count(&case)?;
        println!(
            "{:28} {:>7.0} {:>6.1}",
            case.name, figure.instructions, figure.allocations
        );
        figures.push((case.name, figure));
    }
    figures::keep(&compiler(), &figures).map_err(|error| error.to_string())
}

fn compare(part: &str) -> Result<(), String> {
    let kept = Kept::read()?;
    let compiler = compiler();
    println!("{compiler}; the kept figures are of {}", kept.compiler());
    println!(
        "{:28} {:>12} {:>8} {:>12}",
        "", "instructions", "", "allocations"
    );
    let (mut told, mut wrong) = (Vec::new(), Vec::new());
    for case in cases::all().iter().filter(|case| case.name.contains(part)) {
        let new = count(case)?;
        let share = kept
            .get(&case.name)
            .map_or(0.0, |kept| new.instructions / kept.instructions - 1.0);
        println!(
            "{:28} {:>12.0} {:>+6.1} % {:>12.1}",
            case.name,
            new.instructions,
            share * 100.0,
            new.allocations
        );
        match kept.judge(&case.name, new, &compiler) {
            Verdict::Holds => {}
            Verdict::Told(sentence) => told.push(sentence),
            Verdict::Fails(sentence) => wrong.push(sentence),
        }
    }
    told.iter().for_each(|sentence| println!("{sentence}"));
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// Which compiler this is made with, as far as that is known.
fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output();
    let text = version.map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".to_owned())
}
