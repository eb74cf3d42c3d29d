//! Where each effective setting came from: the answer to "why is this 250 ms?".

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::beside;
use super::setting::{self, Fields};

/// A place in a file; line and column from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the compiled default.
    Default,
    /// The file, at the setting itself.
    Written(Place),
    /// A block further out, whose value holds here too.
    Inherited {
        /// `defaults` or `upstream`.
        from: &'static str,
        /// Where it is written there.
        place: Place,
    },
    /// An environment variable.
    Environment {
        /// The variable.
        name: Box<str>,
        /// Where the file names it; `None` when the variable overrides the file as a whole.
        place: Option<Place>,
    },
    /// Found out at the start, such as the workers from the cgroup.
    Auto,
}

impl Origin {
    /// The place in a file, where there is one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Written(place) | Self::Inherited { place, .. } => Some(place),
            Self::Environment { place, .. } => place.as_ref(),
            Self::Default | Self::Auto => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Written(place) => place.fmt(f),
            Self::Inherited { from, place } => write!(f, "{place} (from {from})"),
            Self::Environment {
                name,
                place: Some(place),
            } => write!(f, "{place} (from ${name})"),
            Self::Environment { name, place: None } => write!(f, "from ${name}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// One effective setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value in the notation of the configuration: `250ms`, `20%`, `none`.
    pub value: String,
    /// Who set it.
    pub origin: Origin,
}

/// Every effective setting by its path, in reading order: `runtime.drain`,
/// `upstreams.payments.retry.max_attempts`, `listeners.outbound.routes[0].retry.max_attempts`.
///
/// A block that is off has one entry, `off`, at its own path. Places of keys that have no value of
/// their own (a block, a list) are known to [`Effective::place_of`] without being settings.
///
/// A large configuration has half a million settings, and a process that runs it is seldom asked for them:
/// they are listed when somebody asks. Clones share what is listed.
#[derive(Debug, Clone, Default)]
pub struct Effective {
    /// What the settings are listed from; `None`: only from what was inserted.
    whole: Option<Arc<Fields>>,
    listed: Arc<OnceLock<Listed>>,
}

/// Settings by their paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    entries: Vec<(String, Entry)>,
    by_path: HashMap<String, usize>,
    places: HashMap<String, Place>,
}

impl Effective {
    /// The settings of a complete configuration.
    pub(super) fn of(whole: Fields) -> Self {
        Self {
            whole: Some(Arc::new(whole)),
            listed: Arc::default(),
        }
    }

    /// The same for whoever asks once, so that what is listed for him does not stay.
    pub(super) fn aside(&self) -> Self {
        match &self.whole {
            Some(whole) => Self {
                whole: Some(Arc::clone(whole)),
                listed: Arc::default(),
            },
            None => self.clone(),
        }
    }

    /// The settings of each that are not the same in the other, as far as both are whole. Of a block that
    /// is the same there is its first setting, which says that it is there and what it is called.
    pub(super) fn compared(one: &Self, other: &Self) -> (Self, Self) {
        match (&one.whole, &other.whole) {
            (Some(one), Some(other)) => (
                Self::from(beside::list_beside(one, other)),
                Self::from(beside::list_beside(other, one)),
            ),
            (Some(_) | None, _) => (one.aside(), other.aside()),
        }
    }

    fn listed(&self) -> &Listed {
        self.listed
            .get_or_init(|| self.whole.as_deref().map(setting::list).unwrap_or_default())
    }

    /// Adds a setting, or replaces the value of one that is there.
    pub fn insert(&mut self, path: impl Into<String>, value: impl Into<String>, origin: Origin) {
        self.change(|listed| listed.insert(path.into(), value.into(), origin));
    }

    /// Remembers where a key is written, whether or not it is a setting.
    pub fn insert_place(&mut self, path: impl Into<String>, place: Place) {
        self.change(|listed| listed.insert_place(path.into(), place));
    }

    /// From here on it is what is listed that counts.
    fn change(&mut self, change: impl FnOnce(&mut Listed)) {
        self.listed();
        self.whole = None;
        if let Some(listed) = Arc::make_mut(&mut self.listed).get_mut() {
            change(listed);
        }
    }

    /// The setting at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.listed().get(path)
    }

    /// Every setting, in reading order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let entries = self.listed().entries.iter();
        entries.map(|(path, entry)| (path.as_str(), entry))
    }

    /// The settings at a path and below it, in reading order.
    pub fn with_prefix<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.iter()
            .filter(move |(candidate, _)| is_within(candidate, path))
    }

    /// Where a path is written, or else the nearest block around it that has a place.
    pub fn place_of(&self, path: &str) -> Option<&Place> {
        let place_at = |path: &str| match &self.whole {
            Some(whole) => setting::place_at(whole, path),
            None => self.listed().place_at(path),
        };
        let mut path = path;
        loop {
            if let Some(place) = place_at(path) {
                return Some(place);
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
    }
}

impl From<Listed> for Effective {
    fn from(listed: Listed) -> Self {
        Self {
            whole: None,
            listed: Arc::new(OnceLock::from(listed)),
        }
    }
}

impl Listed {
    /// Adds a setting, or replaces the value of one that is there.
    pub(super) fn insert(&mut self, path: String, value: String, origin: Origin) {
        let entry = Entry { value, origin };
        match self.by_path.get(&path) {
            Some(&index) => {
                if let Some(slot) = self.entries.get_mut(index) {
                    slot.1 = entry;
                }
            }
            None => {
                self.by_path.insert(path.clone(), self.entries.len());
                self.entries.push((path, entry));
            }
        }
    }

    /// Remembers where a key is written, whether or not it is a setting.
    pub(super) fn insert_place(&mut self, path: String, place: Place) {
        self.places.insert(path, place);
    }

    fn get(&self, path: &str) -> Option<&Entry> {
        let index = *self.by_path.get(path)?;
        self.entries.get(index).map(|(_, entry)| entry)
    }

    fn place_at(&self, path: &str) -> Option<&Place> {
        let own = self.get(path).and_then(|entry| entry.origin.place());
        own.or_else(|| self.places.get(path))
    }
}

/// The keys and indices of a path: `routes[0].retry` is `routes`, `[0]`, `retry`.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let end = match rest.strip_prefix('[') {
            Some(inner) => inner.find(']').map_or(rest.len(), |end| end + 2),
            None => rest.find(['.', '[']).unwrap_or(rest.len()),
        };
        let (segment, after) = rest.split_at(end);
        rest = after;
        (!segment.is_empty()).then_some(segment)
    })
}

/// Whether `path` is `outer` or lies below it.
fn is_within(path: &str, outer: &str) -> bool {
    match path.strip_prefix(outer) {
        Some(rest) => rest.is_empty() || outer.is_empty() || rest.starts_with(['.', '[']),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize) -> Place {
        Place {
            file: "a.yaml".into(),
            line,
            column: 3,
        }
    }

    #[test]
    fn settings_keep_their_order_and_the_last_value() {
        let mut effective = Effective::default();
        effective.insert("b", "1", Origin::Default);
        effective.insert("a", "2", Origin::Default);
        effective.insert("b", "3", Origin::Written(place(1)));
        let all: Vec<_> = effective
            .iter()
            .map(|(path, entry)| (path, entry.value.as_str()))
            .collect();
        assert_eq!(all, [("b", "3"), ("a", "2")]);
    }

    #[test]
    fn a_path_has_keys_and_indices() {
        let all = |path| segments(path).collect::<Vec<_>>();
        assert_eq!(all("a.b[0].c"), ["a", "b", "[0]", "c"]);
        assert_eq!(all("a[x.y][1]"), ["a", "[x.y]", "[1]"]);
        assert_eq!(all("a[0"), ["a", "[0"]);
        assert_eq!(all(""), [""; 0]);
    }

    #[test]
    fn a_prefix_ends_at_a_whole_key() {
        let mut effective = Effective::default();
        for path in [
            "upstreams.pay.retry",
            "upstreams.payments.retry",
            "upstreams.pay.endpoints[0]",
        ] {
            effective.insert(path, "x", Origin::Default);
        }
        let found: Vec<_> = effective
            .with_prefix("upstreams.pay")
            .map(|(path, _)| path)
            .collect();
        assert_eq!(found, ["upstreams.pay.retry", "upstreams.pay.endpoints[0]"]);
        assert_eq!(effective.with_prefix("").count(), 3);
    }

    #[test]
    fn a_default_is_placed_at_the_nearest_block() {
        let mut effective = Effective::default();
        effective.insert("upstreams.pay.retry.max_attempts", "3", Origin::Default);
        effective.insert(
            "upstreams.pay.retry.max_body",
            "1KiB",
            Origin::Written(place(9)),
        );
        effective.insert_place("upstreams.pay", place(2));
        assert_eq!(
            effective.place_of("upstreams.pay.retry.max_attempts"),
            Some(&place(2))
        );
        assert_eq!(
            effective.place_of("upstreams.pay.retry.max_body"),
            Some(&place(9))
        );
        assert_eq!(effective.place_of("listeners"), None);
    }

    #[test]
    fn origins_read_as_an_operator_would_say_them() {
        let inherited = Origin::Inherited {
            from: "defaults",
            place: place(4),
        };
        assert_eq!(inherited.to_string(), "a.yaml:4:3 (from defaults)");
        let environment = Origin::Environment {
            name: "N".into(),
            place: None,
        };
        assert_eq!(environment.to_string(), "from $N");
        assert_eq!(
            Origin::Environment {
                name: "N".into(),
                place: Some(place(1))
            }
            .to_string(),
            "a.yaml:1:3 (from $N)"
        );
        assert_eq!(Origin::Written(place(1)).to_string(), "a.yaml:1:3");
        assert_eq!(
            (Origin::Default.to_string(), Origin::Auto.to_string()),
            ("default".into(), "auto".into())
        );
        assert_eq!(Origin::Auto.place(), None);
    }
}
