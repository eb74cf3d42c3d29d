//! What a key may hold. The tables in [`super::keys`] are made of these; the reader, the JSON Schema and
//! the reference all follow the one table, so that they cannot differ.

use super::suggest;
use super::units;

/// A key: its name, what it holds, what holds when it is absent, and what the manual says.
#[derive(Debug)]
pub(super) struct Key {
    /// The word in the file.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
    /// What holds when it is absent.
    pub(super) preset: Preset,
    /// The manual's sentence.
    pub(super) doc: &'static str,
}

/// What holds when a key is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preset {
    /// It must be there.
    Required {
        /// What could be written, as YAML on one line.
        example: &'static str,
    },
    /// Nothing holds; in the reference the example is shown.
    Absent {
        /// What could be written, as YAML on one line.
        example: &'static str,
    },
    /// This value, as YAML on one line.
    Value(&'static str),
}

/// A block of keys.
#[derive(Debug)]
pub(super) struct Block {
    /// What it is called in the schema.
    pub(super) name: &'static str,
    /// Its keys, in reading order.
    pub(super) keys: &'static [Key],
    /// Keys that it shares with other blocks; they come last.
    pub(super) shared: &'static [Key],
}

impl Block {
    /// All its keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Key> + Clone {
        self.keys.iter().chain(self.shared)
    }

    /// The key of a name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

/// A text with rules of its own.
#[derive(Debug)]
pub(super) struct Text {
    /// What it is, with an example: "an address such as `127.0.0.1:8080`".
    pub(super) what: &'static str,
    /// A regular expression for editors; it may accept more than `check`.
    pub(super) pattern: &'static str,
    /// Says what is wrong with a text.
    pub(super) check: fn(&str) -> Result<(), Complaint>,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// A sentence.
    pub(super) message: String,
    /// What to do about it.
    pub(super) help: Option<String>,
}

impl Complaint {
    /// A complaint without advice.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    /// A complaint that knows what was meant.
    pub(super) fn meant(message: impl Into<String>, meant: &str) -> Self {
        Self {
            message: message.into(),
            help: Some(format!("did you mean `{meant}`?")),
        }
    }
}

/// What a key holds.
#[derive(Debug)]
pub(super) enum Kind {
    /// A time, at least so many milliseconds.
    Duration {
        /// The shortest, in milliseconds.
        min_ms: u64,
    },
    /// Bytes.
    Size {
        /// The fewest.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A share, above `above` or equal to it when it is zero and `zero` is set.
    Share {
        /// Whether nothing at all is a share too.
        zero: bool,
        /// The largest, 1 for 100 %.
        max: f64,
    },
    /// A whole number.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A number.
    Number {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text.
    Text(&'static Text),
    /// One of these words, or else the kind.
    Or(&'static [&'static str], &'static Kind),
    /// Values in order, at least so many.
    List {
        /// What each is.
        of: &'static Kind,
        /// The fewest.
        min: usize,
    },
    /// Values by keys that the user names.
    Map(&'static Kind, &'static Text),
    /// A block; when absent, its defaults hold.
    Block(&'static Block),
    /// A block that can be switched off with `off`.
    Switch(&'static Block),
    /// Blocks by names that the user gives.
    Named(&'static Block),
    /// The first when it is written as a single value, the second when it is a list or a block.
    Either(&'static Kind, &'static Kind),
    /// Not to be set here, or not there yet, with the sentence that says so.
    Later(&'static str),
}

impl Kind {
    /// The words that are accepted as they are, and what else is, as a sentence says it.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Duration { .. } => "a duration such as 250ms, 30s or 5m".to_owned(),
            Self::Size { .. } => "a size such as 512B, 64KiB or 1MiB".to_owned(),
            Self::Share { .. } => "a share such as 20%".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max } => {
                format!(
                    "a number from {} to {}",
                    units::write_number(*min),
                    units::write_number(*max)
                )
            }
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Word(words) => suggest::one_of(words),
            Self::Text(text) => text.what.to_owned(),
            Self::Or(words, kind) => format!("{} or {}", kind.expected(), suggest::one_of(words)),
            Self::List { .. } => "a list".to_owned(),
            Self::Map(..) | Self::Block(_) => "a block of keys".to_owned(),
            Self::Switch(_) => "a block of keys or `off`".to_owned(),
            Self::Named(_) => "a block with a name for each entry".to_owned(),
            Self::Either(single, other) => format!("{} or {}", single.expected(), other.expected()),
            Self::Later(sentence) => (*sentence).to_owned(),
        }
    }

    /// The block whose keys may stand below a key of this kind.
    pub(super) fn block(&self) -> Option<&'static Block> {
        match self {
            Self::Block(block) | Self::Switch(block) | Self::Named(block) => Some(block),
            Self::Or(_, kind)
            | Self::Either(_, kind)
            | Self::List { of: kind, .. }
            | Self::Map(kind, _) => kind.block(),
            Self::Duration { .. }
            | Self::Size { .. }
            | Self::Share { .. }
            | Self::Count { .. }
            | Self::Number { .. }
            | Self::Bool
            | Self::Word(_)
            | Self::Text(_)
            | Self::Later(_) => None,
        }
    }
}
