//! How many files this process may have open.

use std::process::Command;
use std::sync::OnceLock;

/// Raises the limit of this process, which those that it starts inherit, as far as it goes, and gives it. Where
/// that cannot be done it is what it was.
pub(crate) fn descriptors() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let (_, hard) = limits();
        let wanted = format!("--nofile={hard}:{hard}");
        let id = std::process::id().to_string();
        let _ = Command::new("prlimit")
            .args(["--pid", &id, &wanted])
            .status();
        limits().0
    })
}

/// The soft and the hard limit.
fn limits() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let mut numbers = line
        .unwrap()
        .split_whitespace()
        .filter_map(|word| match word {
            "unlimited" => Some(1 << 20),
            word => word.parse().ok(),
        });
    (numbers.next().unwrap(), numbers.next().unwrap())
}
