//! The worst-case timeline as text: one line a step, with a bar that shows its share of the time.

use std::time::Duration;

use super::line;
use crate::plan::timeline::{Kind, SHOWN_TRIES, Step, Timeline, shown};

/// Columns of a bar.
const WIDTH: usize = 40;

pub(super) fn write(text: &mut String, timeline: &Timeline) {
    let total = timeline.total.map_or("without end".to_owned(), shown);
    line(
        text,
        format_args!("\n  worst case until the head of the answer: {total}"),
    );
    let reached = timeline
        .cut
        .map_or(timeline.steps.len(), |cut| cut.step + 1);
    for step in timeline.steps.iter().take(reached) {
        row(
            text,
            step.begins,
            &label(step.kind),
            step.takes,
            &bar(step, timeline),
        );
    }
    if timeline.tries > SHOWN_TRIES && reached > timeline.steps.len() {
        line(
            text,
            format_args!("    … and so on, {} tries in all", timeline.tries),
        );
    }
    if let Some(cut) = timeline.cut {
        let during = timeline.steps.get(cut.step).map(|step| label(step.kind));
        let during = during.unwrap_or_else(|| "a later try".to_owned());
        line(
            text,
            format_args!(
                "    {:>8}  the request timeout ends it during {during}",
                shown(cut.at)
            ),
        );
    }
    notes(text, timeline, reached);
}

fn notes(text: &mut String, timeline: &Timeline, reached: usize) {
    if let Some(cut) = timeline.cut
        && let Some(sum) = timeline.sum
    {
        let (sum, at) = (shown(sum), shown(cut.at));
        line(
            text,
            format_args!("  All steps together would take {sum}; the request timeout is {at}."),
        );
    }
    let is_try = |step: &&Step| matches!(step.kind, Kind::Try(_));
    let tries = timeline.steps.iter().take(reached).filter(is_try).count();
    let endless = timeline
        .steps
        .iter()
        .take(reached)
        .any(|step| step.takes.is_none());
    if endless && timeline.tries > 1 {
        line(
            text,
            format_args!(
                "  A step without a limit of its own may use up all the time: then the other tries never happen ({tries} of {}).",
                timeline.tries
            ),
        );
    }
    if let Some(class) = timeline.class {
        line(
            text,
            format_args!(
                "  This is for failures of class {}, whose rule takes longest.",
                class.name()
            ),
        );
    }
    if let Some(longest) = timeline.retry_after {
        let longest = shown(longest);
        line(
            text,
            format_args!(
                "  A backoff becomes as long as the upstream's retry-after asks, up to {longest}."
            ),
        );
    }
}

fn row(
    text: &mut String,
    begins: Option<Duration>,
    label: &str,
    takes: Option<Duration>,
    bar: &str,
) {
    let begins = begins.map_or("later".to_owned(), shown);
    let takes = takes.map_or("no limit".to_owned(), shown);
    line(
        text,
        format_args!("    {begins:>8}  {label:<11} {takes:>8}  |{bar:<WIDTH$}|"),
    );
}

fn label(kind: Kind) -> String {
    match kind {
        Kind::Queue => "queue".to_owned(),
        Kind::Connect(number) => format!("connect {number}"),
        Kind::Try(number) => format!("try {number}"),
        Kind::Backoff(number) => format!("backoff {}", number - 1),
    }
}

/// The step's place within the whole time; at least one column, so that no step is left out.
fn bar(step: &Step, timeline: &Timeline) -> String {
    let (Some(begins), Some(whole)) = (step.begins, timeline.total) else {
        return String::new();
    };
    let column = |time: Duration| {
        let share = time.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE);
        // At most the width, so that the cast keeps it.
        (share.clamp(0.0, 1.0) * WIDTH as f64).round() as usize
    };
    let start = column(begins).min(WIDTH - 1);
    let end = step.ends().map_or(WIDTH, column).max(start + 1);
    format!("{}{}", " ".repeat(start), "#".repeat(end - start))
}
