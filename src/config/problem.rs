//! What is wrong with a configuration, said so that it can be put right without the manual.

use std::fmt;

use super::origin::Place;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` when it is no place in a file.
    pub place: Option<Place>,
    /// Which setting, such as `upstreams.payments.retry`; empty for the whole file.
    pub path: String,
    /// A sentence.
    pub message: String,
    /// What to do about it, such as `did you mean …?`.
    pub help: Option<String>,
    /// The line of the file, without its end.
    pub source_line: Option<String>,
}

/// Characters of a line that are shown; longer lines are cut around the place.
const SHOWN: usize = 100;

/// Characters shown before the place in a line that is cut.
const BEFORE: usize = 40;

impl fmt::Display for Problem {
    /// `file:line:column: path: sentence`, the line with a caret, `help: …`; no line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let (Some(place), Some(line)) = (&self.place, &self.source_line) {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            let (shown, indent) = excerpt(line, place.column);
            write!(f, "\n {number} | {shown}\n {margin} | {indent}^")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n   = help: {help}")?;
        }
        Ok(())
    }
}

/// The part of a line around a column, and the blanks that bring a caret below it.
fn excerpt(line: &str, column: usize) -> (String, String) {
    let length = line.chars().count();
    let target = column.saturating_sub(1).min(length);
    let skipped = if length > SHOWN {
        target.saturating_sub(BEFORE)
    } else {
        0
    };
    let mut shown: String = line
        .chars()
        .skip(skipped)
        .take(SHOWN)
        .map(printable)
        .collect();
    if skipped + SHOWN < length {
        shown.push('…');
    }
    let mut indent = " ".repeat(target - skipped);
    if skipped > 0 {
        shown.insert(0, '…');
        indent.push(' ');
    }
    (shown, indent)
}

/// A file may hold anything; a terminal must not be steered by it. Tabs take one column, as they are counted.
fn printable(character: char) -> char {
    if character == '\t' {
        ' '
    } else if character.is_control() {
        '\u{fffd}'
    } else {
        character
    }
}

/// Everything that is wrong; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    /// All of them, then their number; no line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}\n")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem."),
            count => write!(f, "{count} problems."),
        }
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(column: usize, line: &str) -> Problem {
        Problem {
            place: Some(Place {
                file: "a.yaml".into(),
                line: 12,
                column,
            }),
            path: "runtime.drain".into(),
            message: "expected a duration".into(),
            help: Some("did you mean `30s`?".into()),
            source_line: Some(line.into()),
        }
    }

    #[test]
    fn a_problem_shows_its_place() {
        let shown = problem(10, "  drain: soon").to_string();
        let expected = "a.yaml:12:10: runtime.drain: expected a duration\n 12 |   drain: soon\n    |          ^\n   = help: did you mean `30s`?";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let (shown, indent) = excerpt(&line, 501);
        assert_eq!(shown.chars().count(), SHOWN + 2);
        assert_eq!(shown.chars().nth(indent.chars().count()), Some('X'));
    }

    #[test]
    fn a_place_behind_the_line_is_its_end() {
        assert_eq!(excerpt("ab", 9), ("ab".into(), "  ".into()));
    }

    #[test]
    fn controls_do_not_reach_the_terminal() {
        assert_eq!(excerpt("\u{1b}[31m\tx", 1).0, "\u{fffd}[31m x");
    }

    #[test]
    fn problems_are_counted() {
        let all = Problems(vec![problem(1, "x"), problem(2, "y")]);
        assert!(all.to_string().ends_with("2 problems."));
        assert!(
            Problems(vec![problem(1, "x")])
                .to_string()
                .ends_with("1 problem.")
        );
    }
}
