//! YAML as a tree of nodes, each with its place. The parser's events are read one by one with a stack of
//! our own, so that no file, however nested or repetitive, costs more than its bounds.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag, options};

use super::environment::{self, Environment};
use super::origin::Place;
use super::report::{Report, lines};

/// Blocks and lists inside each other.
const MAX_DEPTH: usize = 32;
/// Values in a file, with aliases counted as what they stand for.
const MAX_NODES: usize = 200_000;
/// Aliases in a file.
const MAX_ALIASES: usize = 1_000;

/// Entries of a block that are looked through faster than they are hashed.
const FEW: usize = 16;

/// A value in the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it is; for a block or list that belongs to a key, where the key is.
    pub(super) place: Place,
    /// What it holds.
    pub(super) content: Content,
    /// Values in it, itself included.
    size: usize,
}

/// What a value holds.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Text, not yet read as anything.
    Scalar(Scalar),
    /// Values in order.
    List(Vec<Node>),
    /// Values by key; no key is there twice.
    Map(Vec<(Key, Node)>),
}

/// Text of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    /// The text, variables replaced.
    pub(super) text: String,
    /// How it is written.
    pub(super) style: Style,
}

/// How a text is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes: a number, a word, or nothing.
    Plain,
    /// In quotes or as a block: text, whatever it looks like.
    Quoted,
    /// With variables: text or number, as is needed. With the variables' names, where any was set.
    Replaced(Option<Box<str>>),
    /// With variables that could not be replaced; the report says why.
    Broken,
}

impl Scalar {
    /// Whether nothing is written, in one of YAML's ways.
    pub(super) fn is_nothing(&self) -> bool {
        match self.style {
            Style::Plain => matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            Style::Quoted | Style::Broken => false,
            Style::Replaced(_) => self.text.is_empty(),
        }
    }
}

/// A key of a block.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its text.
    pub(super) text: String,
    /// Where it is.
    pub(super) place: Place,
}

/// Reads a document. `None`: there is none, and the report says why.
pub(super) fn parse(
    file: &Arc<str>,
    text: &str,
    environment: &Environment<'_>,
    report: &mut Report,
) -> Option<Node> {
    let limits = options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        file: Arc::clone(file),
        text,
        end: OnceCell::new(),
        environment,
        report,
        stack: Vec::new(),
        anchors: HashMap::new(),
        documents: 0,
        aliases: 0,
        nodes: 0,
        root: None,
    };
    for event in Parser::new_from_str_with_options(text, limits) {
        let more = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => builder.not_yaml(&error),
        };
        more?;
    }
    builder.root
}

/// A block or list that is not complete.
enum Open {
    List {
        place: Place,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        place: Place,
        anchor: usize,
        entries: Vec<(Key, Node)>,
        many: HashMap<String, usize>,
        key: Option<Key>,
    },
}

/// The key of a block's entries that is this text. Few entries are looked through one by one; `many` is the
/// place of each where there are more, and catches up with them here.
fn known<'e>(
    key: &str,
    entries: &'e [(Key, Node)],
    many: &mut HashMap<String, usize>,
) -> Option<&'e Key> {
    if entries.len() <= FEW {
        let mut keys = entries.iter().map(|(known, _)| known);
        return keys.find(|known| known.text == key);
    }
    for (index, (known, _)) in entries.iter().enumerate().skip(many.len()) {
        many.insert(known.text.clone(), index);
    }
    let (known, _) = entries.get(*many.get(key)?)?;
    Some(known)
}

/// Line and column, both from 0, behind the last character that is no white space.
fn end_of(text: &str) -> (usize, usize) {
    let written = lines(text)
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .last();
    let end = |(number, line): (usize, &str)| (number, line.trim_end().chars().count());
    written.map_or((0, 0), end)
}

struct Builder<'a> {
    file: Arc<str>,
    text: &'a str,
    /// Where the text ends; few files need it.
    end: OnceCell<(usize, usize)>,
    environment: &'a Environment<'a>,
    report: &'a mut Report,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    documents: usize,
    aliases: usize,
    nodes: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    /// Takes an event. `None`: reading ends here, and the report says why.
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let place = self.place(span.start.line(), span.start.col());
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.stop(
                        &place,
                        "a second document begins here; a file holds one",
                        Some("remove the line `---`, or use two files"),
                    );
                }
                Some(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let place = match text.is_empty() {
                    true => self.place_of_nothing(&span),
                    false => place,
                };
                self.refuse_tag(tag.as_deref(), &place)?;
                let is_key = matches!(self.stack.last(), Some(Open::Map { key: None, .. }));
                let scalar = self.scalar(text.into_owned(), style, is_key, &place);
                self.complete(
                    Node {
                        place,
                        content: Content::Scalar(scalar),
                        size: 1,
                    },
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place)?;
                self.stack.push(Open::List {
                    place,
                    anchor,
                    items: Vec::new(),
                });
                self.within_depth()
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place)?;
                self.stack.push(Open::Map {
                    place,
                    anchor,
                    entries: Vec::new(),
                    many: HashMap::new(),
                    key: None,
                });
                self.within_depth()
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => self.alias(id, &place),
            Event::UnresolvedAlias(_) => self.stop(&place, NO_ANCHOR, None),
            // The parser's enum is open; what is left carries no values.
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Anchor(..) | _ => {
                Some(())
            }
        }
    }

    fn place(&self, line: usize, column: usize) -> Place {
        Place {
            file: Arc::clone(&self.file),
            line,
            column: column + 1,
        }
    }

    /// Where a value is missing. At the end of a file the parser finds that out only behind it.
    fn place_of_nothing(&self, span: &Span) -> Place {
        let found = (span.start.line() - 1, span.start.col());
        let (line, column) = found.min(*self.end.get_or_init(|| end_of(self.text)));
        self.place(line + 1, column)
    }

    fn stop(&mut self, place: &Place, message: &str, help: Option<&str>) -> Option<()> {
        match help {
            Some(help) => self.report.add_with_help(Some(place), "", message, help),
            None => self.report.add(Some(place), "", message),
        }
        None
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, place: &Place) -> Option<()> {
        match tag {
            Some(_) => self.stop(
                place,
                "tags such as `!!str` have no meaning here",
                Some("remove it; quotes make a text of anything"),
            ),
            None => Some(()),
        }
    }

    fn within_depth(&mut self) -> Option<()> {
        if self.stack.len() <= MAX_DEPTH {
            return Some(());
        }
        let place = match self.stack.last() {
            Some(Open::List { place, .. } | Open::Map { place, .. }) => place.clone(),
            None => self.place(1, 0),
        };
        self.stop(&place, TOO_DEEP, None)
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, is_key: bool, place: &Place) -> Scalar {
        let style = if style == ScalarStyle::Plain {
            Style::Plain
        } else {
            Style::Quoted
        };
        if is_key {
            return Scalar { text, style };
        }
        match environment::replace(&text, self.environment) {
            Ok(None) => Scalar { text, style },
            Ok(Some(replaced)) => Scalar {
                text: replaced.text,
                style: Style::Replaced(replaced.names),
            },
            Err(message) => {
                let path = self.path();
                self.report.add_with_help(
                    Some(place),
                    &path,
                    message,
                    "write `${NAME:-default}` for a default, `$${` for `${` itself",
                );
                Scalar {
                    text,
                    style: Style::Broken,
                }
            }
        }
    }

    /// The path of the value that is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.stack {
            match open {
                Open::List { items, .. } => path.push_str(&format!("[{}]", items.len())),
                Open::Map { key: Some(key), .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.text);
                }
                Open::Map { key: None, .. } => {}
            }
        }
        path
    }

    fn close(&mut self) -> Option<()> {
        let (place, anchor, content) = match self.stack.pop()? {
            Open::List {
                place,
                anchor,
                items,
            } => (place, anchor, Content::List(items)),
            Open::Map {
                place,
                anchor,
                entries,
                ..
            } => (place, anchor, Content::Map(entries)),
        };
        let size = 1 + match &content {
            Content::Scalar(_) => 0,
            Content::List(items) => items.iter().map(|node| node.size).sum::<usize>(),
            Content::Map(entries) => entries.iter().map(|(_, node)| node.size).sum(),
        };
        // Its values were counted as they came; only the block itself is new.
        self.complete(
            Node {
                place,
                content,
                size,
            },
            anchor,
        )
    }

    fn alias(&mut self, id: usize, place: &Place) -> Option<()> {
        self.aliases += 1;
        let Some(node) = self.anchors.get(&id) else {
            return self.stop(
                place,
                "this alias stands inside of what it stands for",
                None,
            );
        };
        if self.aliases > MAX_ALIASES || self.nodes + node.size > MAX_NODES {
            return self.stop(
                place,
                "aliases make this file too large",
                Some("`defaults` and folders of several files say the same with less"),
            );
        }
        self.nodes += node.size - 1;
        let node = node.clone();
        self.complete(node, 0)
    }

    /// Puts a complete value where it belongs.
    fn complete(&mut self, mut node: Node, anchor: usize) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let place = node.place;
            return self.stop(
                &place,
                &format!("more than {MAX_NODES} values in one file"),
                None,
            );
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map {
                key: slot @ None, ..
            }) => match node.content {
                Content::Scalar(scalar) => {
                    *slot = Some(Key {
                        text: scalar.text,
                        place: node.place,
                    })
                }
                Content::List(_) | Content::Map(_) => {
                    return self.stop(
                        &node.place,
                        "a key must be a word, not a list or a block",
                        Some("a value that begins with `{` or `[` needs quotes"),
                    );
                }
            },
            Some(Open::Map {
                key, entries, many, ..
            }) => {
                let Some(key) = key.take() else {
                    return Some(());
                };
                if !matches!(node.content, Content::Scalar(_)) {
                    node.place = key.place.clone();
                }
                if let Some(first) = known(&key.text, entries, many) {
                    let first = &first.place;
                    let message = format!("the key `{}` is already set at {first}", key.text);
                    let path = join_open(&self.path(), &key.text);
                    self.report.add_with_help(
                        Some(&key.place),
                        &path,
                        message,
                        "remove one of the two",
                    );
                } else {
                    entries.push((key, node));
                }
            }
        }
        Some(())
    }

    fn not_yaml(&mut self, error: &ScanError) -> Option<()> {
        let mark = error.marker();
        let place = self.place(mark.line().max(1), mark.col());
        match TOLD.iter().find(|(kind, ..)| kind == error.kind()) {
            Some((_, message, help)) => self.stop(&place, message, *help),
            None => self.stop(&place, &format!("this is not YAML: {}", error.info()), None),
        }
    }
}

/// What is said of the parser's errors that operators meet, and what to do about them.
const TOLD: [(ErrorKind, &str, Option<&str>); 11] = [
    (
        ErrorKind::InvalidQuotedScalarIndent,
        "this is not YAML: this line is inside of a quoted text",
        Some("is a quote further up not closed?"),
    ),
    (
        ErrorKind::MappingValueNotAllowed,
        "this is not YAML: a key cannot stand here",
        Some("is the `:` missing on the line above, or this line indented too far?"),
    ),
    (
        ErrorKind::ExpectedBlockMappingKey,
        "this is not YAML: this line belongs to none of the blocks above",
        Some("keys of one block begin in the same column"),
    ),
    (ErrorKind::RecursionLimitExceeded, TOO_DEEP, None),
    (ErrorKind::TabNotAllowed, TAB, BLANKS),
    (ErrorKind::TabInBlockIndentation, TAB, BLANKS),
    (ErrorKind::TabInIndentation, TAB, BLANKS),
    (
        ErrorKind::UnknownAnchor,
        NO_ANCHOR,
        Some("a text that begins with `*`, such as `*.internal`, needs quotes"),
    ),
    (
        ErrorKind::DirectiveDisallowed,
        "YAML directives have no meaning here",
        None,
    ),
    (
        ErrorKind::InvalidSimpleKey,
        "this is not YAML: a key without its `:`",
        COLON,
    ),
    (
        ErrorKind::SimpleKeyExpected,
        "this is not YAML: a key without its `:`",
        COLON,
    ),
];
const TAB: &str = "YAML is indented with blanks, and here is a tab";
const BLANKS: Option<&str> = Some("replace the tab by blanks");
const NO_ANCHOR: &str = "this alias has no anchor before it";
const COLON: Option<&str> = Some("a key is followed by `:` and a blank");
/// What is said about a file that is nested too deeply, whoever finds it.
const TOO_DEEP: &str = "more than 32 blocks and lists inside each other";

/// A path and a key below it.
pub(super) fn join_open(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests;
