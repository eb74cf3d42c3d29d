//! YAML documents as trees that know where in the text each value stands, so that something can be put
//! between them without touching the rest.

use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StructureStyle, options};
use serde_json::Value;

use crate::config::{Place, Problem};

/// Blocks and lists inside each other; manifests have about a dozen.
const MAX_DEPTH: usize = 64;

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    /// Its first byte; of a list in block style the first dash.
    pub(super) start: usize,
    /// The byte behind its last one; of a block or list in block style behind its last value.
    pub(super) end: usize,
    /// The line of its first byte, from 1.
    pub(super) line: usize,
    /// The column of its first byte, from 0.
    pub(super) column: usize,
}

/// What a value holds.
#[derive(Debug)]
pub(super) enum Content {
    Scalar { text: String, plain: bool },
    Alias,
    Map { flow: bool, entries: Vec<Entry> },
    List { flow: bool, items: Vec<Node> },
}

/// A key and what belongs to it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Node,
    pub(super) value: Node,
}

impl Node {
    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            Content::Alias | Content::Map { .. } | Content::List { .. } => None,
        }
    }

    /// The entries of a map; of anything else none.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map { entries, .. } => entries,
            Content::Scalar { .. } | Content::Alias | Content::List { .. } => &[],
        }
    }

    /// The items of a list; of anything else none.
    pub(super) fn items(&self) -> &[Self] {
        match &self.content {
            Content::List { items, .. } => items,
            Content::Scalar { .. } | Content::Alias | Content::Map { .. } => &[],
        }
    }

    /// The entry of a key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        let mut entries = self.entries().iter();
        entries.find(|entry| entry.key.text() == Some(key))
    }

    /// What belongs to a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Whether it is written in braces or brackets.
    pub(super) fn is_flow(&self) -> bool {
        match &self.content {
            Content::Map { flow, .. } | Content::List { flow, .. } => *flow,
            Content::Scalar { .. } | Content::Alias => false,
        }
    }

    /// Whether nothing is in it: `null`, `{}`, `[]`, or nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        match &self.content {
            Content::Scalar { text, plain } => {
                *plain && ["", "~", "null", "Null", "NULL"].contains(&text.as_str())
            }
            Content::Map { entries, .. } => entries.is_empty(),
            Content::List { items, .. } => items.is_empty(),
            Content::Alias => false,
        }
    }

    /// The value as JSON; numbers and words as YAML's core schema reads them.
    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar { text, plain: true } => match text.as_str() {
                "" | "~" | "null" => Value::Null,
                "true" => true.into(),
                "false" => false.into(),
                other => other
                    .parse::<i64>()
                    .map_or_else(|_| other.into(), Value::from),
            },
            Content::Scalar { text, plain: false } => text.as_str().into(),
            Content::Alias => Value::Null,
            Content::List { items, .. } => items.iter().map(Self::to_json).collect(),
            Content::Map { entries, .. } => entries
                .iter()
                .map(|entry| {
                    let key = entry.key.text().unwrap_or_default().to_owned();
                    (key, entry.value.to_json())
                })
                .collect(),
        }
    }
}

/// Reads every document of a text.
///
/// # Errors
/// What keeps it from being YAML, with its place.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Node>, Box<Problem>> {
    let limits = options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut reader = Reader {
        file,
        text,
        events: Parser::new_from_str_with_options(text, limits),
    };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        if begins_value(&event) {
            documents.push(reader.node(event, span)?);
        }
    }
    Ok(documents)
}

/// A problem at a place of the text.
pub(super) fn problem(
    file: &str,
    text: &str,
    (line, column): (usize, usize),
    message: impl Into<String>,
    help: Option<&str>,
) -> Box<Problem> {
    let source_line = text.lines().nth(line.saturating_sub(1));
    Box::new(Problem {
        place: Some(Place {
            file: Arc::from(file),
            line,
            column: column + 1,
        }),
        path: String::new(),
        message: message.into(),
        help: help.map(str::to_owned),
        source_line: source_line.map(str::to_owned),
    })
}

fn begins_value(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Scalar(..)
            | Event::Alias(..)
            | Event::UnresolvedAlias(..)
            | Event::SequenceStart(..)
            | Event::MappingStart(..)
    )
}

struct Reader<'a, E> {
    file: &'a str,
    text: &'a str,
    events: E,
}

impl<'a, E: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Reader<'a, E> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Box<Problem>> {
        let next = self.events.next().transpose();
        next.map_err(|error| self.not_yaml(&error))
    }

    /// The next value, or nothing where the list or map ends; then also where it does.
    fn value(&mut self) -> Result<Result<Node, usize>, Box<Problem>> {
        let Some((event, span)) = self.next()? else {
            return Ok(Err(self.text.len()));
        };
        if begins_value(&event) {
            return Ok(Ok(self.node(event, span)?));
        }
        Ok(Err(bytes(&span).1))
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Box<Problem>> {
        let (start, mut end) = bytes(&span);
        let content = if let Event::SequenceStart(style, ..) = event {
            let mut items = Vec::new();
            let last = self.items(&mut items)?;
            let flow = style == StructureStyle::Flow;
            end = if flow {
                last
            } else {
                items.last().map_or(start, |item: &Node| item.end)
            };
            Content::List { flow, items }
        } else if let Event::MappingStart(style, ..) = event {
            let mut values = Vec::new();
            let last = self.items(&mut values)?;
            let flow = style == StructureStyle::Flow;
            end = if flow {
                last
            } else {
                values.last().map_or(start, |item: &Node| item.end)
            };
            let entries = pairs(values);
            Content::Map { flow, entries }
        } else if let Event::Scalar(text, style, ..) = event {
            let plain = style == ScalarStyle::Plain;
            let text = text.into_owned();
            Content::Scalar { text, plain }
        } else {
            Content::Alias
        };
        let column = span.start.col();
        let back = match content {
            Content::List { flow: false, .. } => self.behind_dash(start),
            Content::List { .. }
            | Content::Map { .. }
            | Content::Scalar { .. }
            | Content::Alias => 0,
        };
        Ok(Node {
            content,
            start: start - back,
            end,
            line: span.start.line(),
            column: column.saturating_sub(back),
        })
    }

    /// How far a byte is behind the dash of its item. A list that begins in the column of its key is said
    /// to begin there.
    fn behind_dash(&self, start: usize) -> usize {
        let before = self.text.get(..start).unwrap_or_default();
        let dash = before.trim_end_matches(' ');
        match dash.ends_with('-')
            && !self
                .text
                .get(start..)
                .is_some_and(|at| at.starts_with("- "))
        {
            true => start + 1 - dash.len(),
            false => 0,
        }
    }

    /// Every value up to the end of the list or map; gives the byte behind it.
    fn items(&mut self, into: &mut Vec<Node>) -> Result<usize, Box<Problem>> {
        loop {
            match self.value()? {
                Ok(item) => into.push(item),
                Err(end) => return Ok(end),
            }
        }
    }

    fn not_yaml(&self, error: &ScanError) -> Box<Problem> {
        let mark = error.marker();
        let at = (mark.line().max(1), mark.col());
        // What people feed in most often that is no YAML.
        let help = self.text.contains("{{").then_some(
            "a template is no manifest yet: render it first, as in `helm template … | mamparo inject -f -`",
        );
        let message = format!("this is not YAML: {}", error.info());
        problem(self.file, self.text, at, message, help)
    }
}

/// Keys and values, which come one after another.
fn pairs(values: Vec<Node>) -> Vec<Entry> {
    let mut values = values.into_iter();
    let mut entries = Vec::new();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        entries.push(Entry { key, value });
    }
    entries
}

/// The first byte and the one behind the last; a parser of a text always knows them.
fn bytes(span: &Span) -> (usize, usize) {
    span.byte_range()
        .map_or((0, 0), |range| (range.start, range.end))
}
