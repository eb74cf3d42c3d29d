//! The same as text, for a terminal.

use std::fmt::Write as _;

use super::{Line, Story};
use crate::telemetry::foreign::harmless;

/// A kept request with all its steps; ends with a line end.
pub fn story(story: &Story) -> String {
    let line = &story.line;
    let mut text = format!("{}\n\n", harmless(&story.summary));
    let mut row = |name: &str, value: &str| {
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "  {name:<10}  {}", harmless(value));
    };
    row("request id", &line.request_id);
    row("trace id", &line.trace_id);
    row("began", &line.at);
    if let Some(host) = &story.host {
        row("host", host);
    }
    row("kept for", &line.kept_for.join(", "));
    text.push('\n');
    for step in &story.steps {
        let at = format!("{:.2}", step.at_ms);
        let said = harmless(&step.text);
        let _ = writeln!(text, "  {at:>10} ms  {:<8}  {said}", step.kind);
    }
    text
}

/// The kept requests, a line for each, newest first; ends with a line end.
pub fn list(lines: &[Line]) -> String {
    if lines.is_empty() {
        return "No request is kept: none has failed, was retried, slow or answered by a fallback.\n"
            .to_owned();
    }
    let mut text = String::new();
    for line in lines {
        let route = line.route.as_deref().unwrap_or("-");
        let method = line.method.as_deref().unwrap_or("-");
        let path = harmless(line.path.as_deref().unwrap_or("-"));
        let _ = writeln!(
            text,
            "{}  {:<36}  {:>3} {:<18}  {:>9.1} ms  {} {}  {route} {method} {path}  ({})",
            line.at,
            line.request_id,
            line.status,
            line.reason.unwrap_or(line.outcome),
            line.took_ms,
            line.tries,
            if line.tries == 1 { "try" } else { "tries" },
            line.kept_for.join(", "),
        );
    }
    text
}
