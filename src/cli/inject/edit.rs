//! Changes of a text: lines and values that are put between what is there. Everything else stays as it is
//! written, to the last comment.

use super::document::{Content, Entry, Node};

/// A piece of YAML to put in: a map in block style that begins in the first column, each line ended.
#[derive(Debug, Clone)]
pub(super) struct Fragment(pub(super) String);

impl Fragment {
    /// As an item of a list.
    fn item(&self) -> String {
        let mut lines = String::new();
        for (index, line) in self.0.lines().enumerate() {
            lines.push_str(if index == 0 { "- " } else { "  " });
            lines.push_str(line);
            lines.push('\n');
        }
        lines
    }

    /// As what belongs to a key.
    pub(super) fn below(&self, key: &str) -> Self {
        Self(format!("{key}:\n{}", indented(&self.0, 2, "\n")))
    }

    /// In braces.
    pub(super) fn json(&self) -> String {
        // Our own text: that it is YAML is tested.
        let documents = super::document::read("", &self.0).unwrap_or_default();
        let map = documents.first().map(Node::to_json).unwrap_or_default();
        map.to_string()
    }

    /// What stands between the braces.
    fn json_entries(&self) -> String {
        let json = self.json();
        let inner = json
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        inner.unwrap_or_default().to_owned()
    }
}

/// Where a text has no place for a line of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoPlace {
    /// The line, from 1, and the column, from 0.
    pub(super) at: (usize, usize),
}

#[derive(Debug)]
struct Change {
    start: usize,
    end: usize,
    with: String,
    /// Whether it belongs to the line above: nothing may come between them.
    above: bool,
}

/// Changes that are collected, then made at once.
#[derive(Debug)]
pub(super) struct Edits<'t> {
    text: &'t str,
    newline: &'static str,
    changes: Vec<Change>,
}

impl<'t> Edits<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Self {
            text,
            newline,
            changes: Vec::new(),
        }
    }

    /// The text with every change.
    pub(super) fn finish(mut self) -> String {
        // Stable: what was put in the same place stays in its order.
        self.changes
            .sort_by_key(|change| (change.start, !change.above));
        let mut text = String::with_capacity(self.text.len() * 2);
        let mut done = 0;
        for change in &self.changes {
            text.push_str(self.text.get(done..change.start).unwrap_or_default());
            text.push_str(&change.with);
            done = change.end;
        }
        text.push_str(self.text.get(done..).unwrap_or_default());
        text
    }

    /// Puts an item into the list of a key of this map: as the first one, or as the only one of a new
    /// list before another key. `dash` is how far a new list's dashes stand right of their key.
    pub(super) fn add_first(
        &mut self,
        map: &Node,
        key: &str,
        before: &Entry,
        dash: usize,
        item: &Fragment,
    ) -> Result<(), NoPlace> {
        let Some(entry) = map.entry(key) else {
            let lines = format!("{key}:\n{}", indented(&item.item(), dash, "\n"));
            let json = format!("\"{key}\": [{}]", item.json());
            return self.add_before(map, before, &lines, &json);
        };
        let list = &entry.value;
        if list.is_empty() {
            let lines = indented(&item.item(), dash, "\n");
            self.fill(map, entry, &lines, &format!("[{}]", item.json()));
        } else if list.is_flow() {
            self.put(list.start + 1, format!("{}, ", item.json()));
        } else if matches!(list.content, Content::List { .. }) {
            self.lines_below(entry.key.start, list.column, &item.item());
        } else {
            return Err(NoPlace::at(list));
        }
        Ok(())
    }

    /// Puts entries into the map that belongs to a key of this map; makes it where there is none.
    pub(super) fn add_entries(
        &mut self,
        map: &Node,
        key: &str,
        before: &Entry,
        entries: &Fragment,
    ) -> Result<(), NoPlace> {
        let Some(entry) = map.entry(key) else {
            let lines = format!("{key}:\n{}", indented(&entries.0, 2, "\n"));
            let json = format!("\"{key}\": {}", entries.json());
            return self.add_before(map, before, &lines, &json);
        };
        match entry.value.entries().first() {
            Some(first) => {
                self.add_before(&entry.value, first, &entries.0, &entries.json_entries())
            }
            None if entry.value.is_empty() => {
                self.fill(map, entry, &indented(&entries.0, 2, "\n"), &entries.json());
                Ok(())
            }
            None => Err(NoPlace::at(&entry.value)),
        }
    }

    /// Puts entries into a map before one that it has.
    pub(super) fn add_before(
        &mut self,
        map: &Node,
        before: &Entry,
        lines: &str,
        json: &str,
    ) -> Result<(), NoPlace> {
        if map.is_flow() {
            self.put(map.start + 1, format!("{json}, "));
            return Ok(());
        }
        let key = &before.key;
        let mut line = self.line_of(key.start);
        let indent = self.text.get(line..key.start).unwrap_or("?");
        if !indent.bytes().all(|byte| byte == b' ') {
            return Err(NoPlace::at(key));
        }
        // What is said of that entry stays with it. A comment that stands further right could be a line
        // of a text above.
        while let Some(above) = self.line_above(line)
            && self.text.get(above..line).is_some_and(|comment| {
                let said = comment.trim_start_matches(' ');
                said.starts_with('#') && comment.len() - said.len() == indent.len()
            })
        {
            line = above;
        }
        let text = indented(lines, indent.len(), self.newline);
        self.put(line, text);
        Ok(())
    }

    /// Gives a key that has nothing its value.
    fn fill(&mut self, map: &Node, entry: &Entry, lines: &str, json: &str) {
        let (key, value) = (&entry.key, &entry.value);
        let (mut start, end) = (value.start, value.end);
        if map.is_flow() {
            return self.change(start, end, json.to_owned());
        }
        let lines = indented(lines, key.column, self.newline);
        // Where nothing is written there may be a comment.
        if start == end || value.text() == Some("") {
            return self.lines_below(key.start, 0, &lines);
        }
        let before = self.text.get(..start).unwrap_or_default();
        start = before.trim_end_matches(' ').len();
        let lines = lines.trim_end();
        self.change(start, end, format!("{}{lines}", self.newline));
    }

    /// Puts lines below the line that a byte stands in.
    fn lines_below(&mut self, at: usize, column: usize, lines: &str) {
        let rest = self.text.get(at..).unwrap_or_default();
        let next = rest.find('\n').map(|end| at + end + 1);
        let at = next.unwrap_or(self.text.len());
        let mut with = indented(lines, column, self.newline);
        if next.is_none() {
            with.insert_str(0, self.newline);
        }
        self.changes.push(Change {
            start: at,
            end: at,
            with,
            above: true,
        });
    }

    fn put(&mut self, at: usize, with: String) {
        self.change(at, at, with);
    }

    fn change(&mut self, start: usize, end: usize, with: String) {
        let above = false;
        self.changes.push(Change {
            start,
            end,
            with,
            above,
        });
    }

    /// Where the line begins that a byte stands in.
    fn line_of(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before.rfind('\n').map_or(0, |end| end + 1)
    }

    /// Where the line above the one that begins here begins.
    fn line_above(&self, line: usize) -> Option<usize> {
        Some(self.line_of(line.checked_sub(1)?))
    }
}

impl NoPlace {
    const fn at(node: &Node) -> Self {
        Self {
            at: (node.line, node.column),
        }
    }
}

/// The lines, moved to the right.
fn indented(lines: &str, column: usize, newline: &str) -> String {
    let mut text = String::new();
    for line in lines.lines() {
        text.push_str(&" ".repeat(column));
        text.push_str(line);
        text.push_str(newline);
    }
    text
}
