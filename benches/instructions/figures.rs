//! The figures that are kept from one change to the next, and what is said of new ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What one request costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

/// The kept figures, by case, and the compiler that made the program that they were counted of.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    compiler: String,
    figures: BTreeMap<String, Figure>,
}

/// Share by which the instructions may differ: with the same compiler, and with another one.
const TOLERANCE: f64 = 0.05;
const OTHER_COMPILER: f64 = 0.15;

/// Allocations that there may be more or fewer. They hardly depend on the compiler.
const ALLOCATIONS: f64 = 0.5;

const RENEW: &str = "benches/instructions/run --renew";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("figures.txt")
}

impl Kept {
    pub(crate) fn read() -> Result<Self, String> {
        let path = path();
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| format!("{}: {error}; {RENEW}", path.display()))?;
        let mut kept = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let wrong = || format!("{}: not understood: {line}", path.display());
            if let Some(compiler) = line.strip_prefix("compiler: ") {
                compiler.clone_into(&mut kept.compiler);
                continue;
            }
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            let mut number = || words.next()?.parse().ok();
            let (instructions, allocations) = number().zip(number()).ok_or_else(wrong)?;
            let figure = Figure {
                instructions,
                allocations,
            };
            kept.figures.insert(name.to_owned(), figure);
        }
        Ok(kept)
    }

    pub(crate) fn compiler(&self) -> &str {
        &self.compiler
    }

    pub(crate) fn get(&self, name: &str) -> Option<Figure> {
        self.figures.get(name).copied()
    }

    /// What there is to say of a new figure, by a program that `compiler` made.
    pub(crate) fn judge(&self, name: &str, new: Figure, compiler: &str) -> Verdict {
        let Some(kept) = self.get(name) else {
            return Verdict::Fails(format!("{name} has no kept figure. Keep one: {RENEW}"));
        };
        let is_same = self.compiler == compiler;
        let tolerance = if is_same { TOLERANCE } else { OTHER_COMPILER };
        let share = new.instructions / kept.instructions - 1.0;
        let more = new.allocations - kept.allocations;
        if share.abs() <= tolerance && more.abs() <= ALLOCATIONS {
            return Verdict::Holds;
        }
        let is_better = share <= tolerance && more <= ALLOCATIONS;
        let advice = match is_better {
            true => "That is better: keep it, so that it stays",
            false => "If that is meant and worth it, keep it",
        };
        let sentence = format!(
            "{name}: {:.0} instructions per request, kept are {:.0} ({:+.1} %, {:.0} % are allowed); \
             {:.1} allocations, kept are {:.1} ({more:+.1}, {ALLOCATIONS} is allowed). {advice}: {RENEW}",
            new.instructions,
            kept.instructions,
            share * 100.0,
            tolerance * 100.0,
            new.allocations,
            kept.allocations
        );
        // Nobody here has done anything for what another compiler does better.
        if is_better && !is_same {
            return Verdict::Told(sentence);
        }
        Verdict::Fails(sentence)
    }
}

/// What becomes of a new figure.
pub(crate) enum Verdict {
    Holds,
    /// Nothing is wrong, but somebody should know.
    Told(String),
    Fails(String),
}

/// Keeps these figures from now on.
pub(crate) fn keep(compiler: &str, figures: &[(String, Figure)]) -> std::io::Result<()> {
    let mut text = format!(
        "# What one request costs: instructions and allocations. Written by `{RENEW}`.\ncompiler: {compiler}\n\n"
    );
    for (name, figure) in figures {
        let _ = writeln!(
            text,
            "{name:28} {:>7.0} {:>6.1}",
            figure.instructions, figure.allocations
        );
    }
    std::fs::write(path(), text)
}
