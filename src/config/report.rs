//! Collects problems while a configuration is read, so that all are told at once.

use std::collections::HashSet;
use std::sync::Arc;

use super::origin::Place;
use super::problem::{Problem, Problems};
use super::secrets;

/// Problems that are shown; a file that is wrong throughout needs no more to be put right.
const SHOWN: usize = 100;

/// The problems found so far, and the texts that they are shown in.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    texts: Vec<(Arc<str>, String)>,
}

impl Report {
    /// Remembers a file's text, so that its lines can be shown.
    pub(super) fn add_text(&mut self, file: Arc<str>, text: String) {
        self.texts.push((file, text));
    }

    /// Adds a problem.
    pub(super) fn add(&mut self, place: Option<&Place>, path: &str, message: impl Into<String>) {
        self.push(place, path, message.into(), None);
    }

    /// Adds a problem with advice.
    pub(super) fn add_with_help(
        &mut self,
        place: Option<&Place>,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(place, path, message.into(), Some(help.into()));
    }

    /// Adds a problem that is complete but for the line of its place.
    pub(super) fn add_problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn push(&mut self, place: Option<&Place>, path: &str, message: String, help: Option<String>) {
        let problem = Problem {
            place: place.cloned(),
            path: path.to_owned(),
            message,
            help,
            source_line: None,
        };
        self.problems.push(problem);
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Problems found so far.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    /// The problems in the order of the files and their lines. An inherited value is a problem wherever
    /// it holds; it is told once.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let order = |place: &Option<Place>| {
            place.as_ref().map(|place| {
                let file = self.texts.iter().position(|(name, _)| *name == place.file);
                (file, place.line, place.column)
            })
        };
        self.problems.sort_by_key(|problem| order(&problem.place));
        let mut told = HashSet::new();
        self.problems.retain(|problem| {
            let key = (
                problem.place.as_ref().map(ToString::to_string),
                problem.message.clone(),
            );
            problem.place.is_none() || told.insert(key)
        });
        let more = self.problems.len().saturating_sub(SHOWN);
        self.problems.truncate(SHOWN);
        for problem in &mut self.problems {
            // Problems of a reload are in the log and on the page, too.
            problem.source_line = problem
                .place
                .as_ref()
                .and_then(|place| line_of(&self.texts, place))
                .filter(|line| !secrets::has_secret(&problem.path, line));
        }
        if more > 0 {
            let message = format!("{more} more are not shown; put these right first");
            self.problems.push(Problem {
                place: None,
                path: String::new(),
                message,
                help: None,
                source_line: None,
            });
        }
        self.problems
    }

    /// As [`Report::finish`], for a configuration that is refused.
    pub(super) fn refuse(self) -> Problems {
        Problems(self.finish())
    }
}

/// The text of a place's line.
fn line_of(texts: &[(Arc<str>, String)], place: &Place) -> Option<String> {
    let (_, text) = texts.iter().find(|(file, _)| *file == place.file)?;
    lines(text)
        .nth(place.line.checked_sub(1)?)
        .map(str::to_owned)
}

/// The lines of a text as YAML counts them: a carriage return alone ends one too.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let (line, after) = text.split_at(end);
        let end = if after.starts_with("\r\n") { 2 } else { 1 };
        rest = after.get(end..);
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize) -> Place {
        Place {
            file: "a".into(),
            line,
            column: 1,
        }
    }

    #[test]
    fn problems_come_in_order_once_and_with_their_line() {
        let mut report = Report::default();
        report.add_text("a".into(), "one\r\ntwo\nthree".into());
        report.add(Some(&place(3)), "x", "late");
        report.add(Some(&place(1)), "x", "early");
        report.add(Some(&place(1)), "inherited.x", "early");
        report.add(None, "", "nowhere");
        assert!(!report.is_empty());
        let problems = report.refuse().0;
        let told: Vec<_> = problems
            .iter()
            .map(|p| (p.message.as_str(), p.source_line.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("nowhere", None),
                ("early", Some("one")),
                ("late", Some("three"))
            ]
        );
    }

    #[test]
    fn lines_end_as_in_yaml() {
        let all = |text| lines(text).collect::<Vec<_>>();
        assert_eq!(all("a\nb\r\nc\rd\n\r"), ["a", "b", "c", "d", "", ""]);
        assert_eq!(all(""), [""]);
    }

    #[test]
    fn a_flood_is_cut() {
        let mut report = Report::default();
        for line in 0..250 {
            report.add(Some(&place(line)), "x", "wrong");
        }
        let problems = report.finish();
        assert_eq!(problems.len(), SHOWN + 1);
        assert_eq!(
            problems.last().unwrap().message,
            "150 more are not shown; put these right first"
        );
    }
}
