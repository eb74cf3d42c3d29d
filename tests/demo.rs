//! The demo's whole story, once, as a user sees it: the real program, real sockets, real time.

#![allow(clippy::unwrap_used, reason = "what cannot be read is a failed test")]

use std::process::Command;

/// The numbers in a line.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[test]
fn within_thirty_seconds_the_demo_shows_every_policy_and_its_counts_agree() {
    let output = Command::new(env!("CARGO_BIN_EXE_mamparo"))
        .args(["demo", "--for", "30s"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{text}");
    let line = |what: &str| {
        let found = text.lines().find(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("nobody said '{what}':\n{text}"))
    };
    for shown in [
        "retry: ",
        "opened: 5 consecutive failures; next probe in ",
        "open again, 2 times in a row: a probe failed",
        "closed: its probes succeeded",
        "bulkhead full: up to 4 of 4 seats taken",
        "fallback: answered ",
        "Reconciled: every request was counted once",
    ] {
        line(shown);
    }
    // upstream, asked, counted, answered, fallback, refused, failed, retries, received
    let stock = numbers(line("stock  "));
    let [asked, counted, answered, 0, refused, 0, 0, received] = stock[..] else {
        panic!("{stock:?}")
    };
    assert_eq!((asked, answered), (counted, received), "{stock:?}");
    assert!(refused > 50, "{stock:?}");
    let catalog = numbers(line("catalog  "));
    let [asked, _, answered, 0, 0, 0, retries, _] = catalog[..] else {
        panic!("{catalog:?}")
    };
    assert_eq!(asked, answered, "retries saved every request: {catalog:?}");
    assert!(retries > 0, "{catalog:?}");
    let fallbacks = numbers(line("recommendations  "))[3];
    assert!(fallbacks > 0);
}

#[test]
fn whoever_stops_reading_ends_the_demo_without_a_complaint() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let mut demo = Command::new(env!("CARGO_BIN_EXE_mamparo"))
        .arg("demo")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut lines = BufReader::new(demo.stdout.take().unwrap());
    lines.read_line(&mut first).unwrap();
    assert!(first.starts_with("mamparo demo"), "{first}");
    drop(lines);
    let output = demo.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
