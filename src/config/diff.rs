//! What a reload changes: the difference of two effective configurations, as an operator would tell it.
//!
//! Routes are known by their name and weighted endpoints by their address, so that one that is inserted
//! does not make all that follow it look changed. A block that comes or goes is one line. A route that only
//! inherits a change of its upstream is not told again, and what all upstreams inherit from `defaults` is
//! told once, as a change of `defaults`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use super::origin::segments;
use super::secrets::shown;
use super::{Effective, Entry, Origin};

/// Settings of a block that are written out; the rest is counted.
const SHOWN_SETTINGS: usize = 8;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// Which setting or block; in the new configuration, unless it is gone from there.
    pub path: String,
    /// What it was; `None`: it is new.
    pub old: Option<Content>,
    /// What it is now; `None`: it is gone.
    pub new: Option<Content>,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// A setting's value, secrets removed.
    Value(String),
    /// A block or list; its settings that somebody wrote there, relative to it, secrets removed.
    Block(Vec<(String, String)>),
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = match self {
            Self::Value(value) => return f.write_str(value),
            Self::Block(settings) if settings.is_empty() => return f.write_str("{}"),
            Self::Block(settings) => settings,
        };
        let mut separator = "{ ";
        for (path, value) in settings.iter().take(SHOWN_SETTINGS) {
            write!(f, "{separator}{path}: {value}")?;
            separator = ", ";
        }
        match settings.len().saturating_sub(SHOWN_SETTINGS) {
            0 => f.write_str(" }"),
            more => write!(f, ", and {more} more }}"),
        }
    }
}

impl fmt::Display for Change {
    /// `path: old -> new`, `+ path: new`, or `- path: old`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{path}: {old} -> {new}"),
            (None, Some(new)) => write!(f, "+ {path}: {new}"),
            (Some(old), None) => write!(f, "- {path}: {old}"),
            (None, None) => write!(f, "{path}"),
        }
    }
}

/// What is different in `new`, in the order of reading: first what is changed or gone, then what is new.
pub fn diff(old: &Effective, new: &Effective) -> Vec<Change> {
    let (old, new) = Effective::compared(old, new);
    let (old, new) = (Side::of(&old), Side::of(&new));
    let mut changes = Vec::new();
    let mut told = HashSet::new();
    for item in &old.items {
        let change = match new.find(&item.key) {
            Some(other) if other.entry.value == item.entry.value => None,
            Some(other) => Some((item.key.as_str(), other.path.clone())),
            None => Some(old.outermost_not_in(item, &new)),
        };
        if let Some((key, path)) = change
            && told.insert(key.to_owned())
        {
            changes.push(Difference::at(key, path, &old, &new));
        }
    }
    for item in new
        .items
        .iter()
        .filter(|item| old.find(&item.key).is_none())
    {
        let (key, path) = new.outermost_not_in(item, &old);
        if told.insert(key.to_owned()) {
            changes.push(Difference::at(key, path, &old, &new));
        }
    }
    let by_key: HashMap<&str, &Difference> = changes
        .iter()
        .map(|change| (change.key.as_str(), change))
        .collect();
    let mut kept: Vec<Change> = Vec::new();
    let mut told = HashSet::new();
    for difference in &changes {
        if difference.is_repetition(&by_key, &old, &new) {
            continue;
        }
        let change = difference.as_change_of_defaults(&old, &new);
        let change = change.unwrap_or_else(|| difference.change.clone());
        if told.insert(change.clone()) {
            kept.push(change);
        }
    }
    kept.extend(reordered(&old, &new));
    kept
}

/// A change, with the key that is the same on both sides.
struct Difference {
    key: String,
    change: Change,
}

impl Difference {
    fn at(key: &str, path: String, old: &Side<'_>, new: &Side<'_>) -> Self {
        let change = Change {
            path,
            old: old.content(key, is_written),
            new: new.content(key, is_written),
        };
        Self {
            key: key.to_owned(),
            change,
        }
    }

    /// The change as one of `defaults`, where an upstream only inherits it from there.
    fn as_change_of_defaults(&self, old: &Side<'_>, new: &Side<'_>) -> Option<Change> {
        let mut parts = segments(&self.key);
        let (Some("upstreams"), Some(name)) = (parts.next(), parts.next()) else {
            return None;
        };
        let rest = self.key.strip_prefix(&format!("upstreams.{name}."))?;
        let inherits = new.inherits_from_defaults(&self.key)
            || !new.has_written(&self.key) && old.inherits_from_defaults(&self.key);
        if !inherits || new.has_written(&self.key) || old.has_written(&self.key) {
            return None;
        }
        let set = |origin: &Origin| is_written(origin) || is_from_defaults(origin);
        let (old, new) = (old.content(&self.key, set), new.content(&self.key, set));
        let path = format!("defaults.{rest}");
        Some(Change { path, old, new })
    }

    /// Whether the block that this one inherits from changes alike, and nothing is written here.
    fn is_repetition(&self, by_key: &HashMap<&str, &Self>, old: &Side<'_>, new: &Side<'_>) -> bool {
        let outer = new
            .inherited_from(&self.key)
            .or_else(|| old.inherited_from(&self.key));
        let Some(outer) = outer.and_then(|outer| by_key.get(outer.as_str())) else {
            return false;
        };
        let alike = |ours: &Option<Content>, theirs: &Option<Content>| match (ours, theirs) {
            (Some(Content::Value(ours)), Some(Content::Value(theirs))) => ours == theirs,
            (Some(Content::Block(written)), Some(Content::Block(_))) => written.is_empty(),
            (None, None) => true,
            (Some(_) | None, _) => false,
        };
        !new.is_written(&self.key)
            && alike(&self.change.old, &outer.change.old)
            && alike(&self.change.new, &outer.change.new)
    }
}

/// One configuration, with keys that are comparable between two.
struct Side<'a> {
    items: Vec<Item<'a>>,
    by_key: HashMap<String, usize>,
    /// Every key, and every block around one, with the range of items in which all of its own are.
    present: HashMap<String, Range<usize>>,
    /// For each list whose elements have names: the elements' keys in order.
    lists: Vec<(String, Vec<String>)>,
}

struct Item<'a> {
    /// The path with names in place of indices.
    key: String,
    path: String,
    entry: &'a Entry,
}

impl<'a> Side<'a> {
    fn of(effective: &'a Effective) -> Self {
        let mut side = Self {
            items: Vec::new(),
            by_key: HashMap::new(),
            present: HashMap::new(),
            lists: Vec::new(),
        };
        let mut names = Names::default();
        for (path, entry) in effective.iter() {
            let key = names.key(effective, path);
            let index = side.items.len();
            for around in around(&key) {
                match side.present.get_mut(around) {
                    Some(range) => range.end = index + 1,
                    None => {
                        side.present.insert(around.to_owned(), index..index + 1);
                    }
                }
            }
            side.by_key.insert(key.clone(), index);
            side.items.push(Item {
                key,
                path: path.to_owned(),
                entry,
            });
        }
        side.lists = names.lists;
        side
    }

    fn find(&self, key: &str) -> Option<&Item<'a>> {
        self.by_key
            .get(key)
            .and_then(|index| self.items.get(*index))
    }

    /// The block that comes or goes with an item: the outermost around it that `other` has not. Where
    /// `other` has a mere value around it, such as `retry: off`, that is the one.
    fn outermost_not_in<'b>(&self, item: &'b Item<'_>, other: &Side<'_>) -> (&'b str, String) {
        let missing =
            |key: &&str| !other.present.contains_key(*key) || other.by_key.contains_key(*key);
        let key = around(&item.key).find(missing).unwrap_or(&item.key);
        let depth = segments(key).count();
        let path = around(&item.path)
            .nth(depth.saturating_sub(1))
            .unwrap_or(&item.path);
        (key, path.to_owned())
    }

    /// What stands at a key; of a block, the settings whose origin is one to `tell`.
    fn content(&self, key: &str, tell: impl Fn(&Origin) -> bool) -> Option<Content> {
        if let Some(item) = self.find(key) {
            return Some(Content::Value(
                shown(&item.path, &item.entry.value).into_owned(),
            ));
        }
        if !self.present.contains_key(key) {
            return None;
        }
        let depth = segments(key).count();
        let written = self.below(key).filter(|item| tell(&item.entry.origin));
        let settings = written.map(|item| {
            let start = around(&item.path)
                .nth(depth.saturating_sub(1))
                .map_or(0, str::len);
            let relative = item
                .path
                .get(start..)
                .unwrap_or_default()
                .trim_start_matches('.');
            (
                relative.to_owned(),
                shown(&item.path, &item.entry.value).into_owned(),
            )
        });
        Some(Content::Block(settings.collect()))
    }

    fn below(&self, key: &str) -> impl Iterator<Item = &Item<'a>> {
        let range = self.present.get(key).cloned().unwrap_or_default();
        let items = self.items.get(range).unwrap_or_default();
        items.iter().filter(move |item| {
            let rest = item.key.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    fn is_written(&self, key: &str) -> bool {
        self.find(key)
            .is_some_and(|item| is_written(&item.entry.origin))
    }

    fn has_written(&self, key: &str) -> bool {
        self.below(key).any(|item| is_written(&item.entry.origin))
    }

    fn inherits_from_defaults(&self, key: &str) -> bool {
        self.below(key)
            .any(|item| is_from_defaults(&item.entry.origin))
    }

    /// The key of its upstream that a setting of a route takes its value from where it has none of its own.
    fn inherited_from(&self, key: &str) -> Option<String> {
        let (route, rest) = key.split_once("].")?;
        if !route.starts_with("listeners.") || !route.contains(".routes[") {
            return None;
        }
        let upstream = self.find(&format!("{route}].upstream"))?;
        Some(format!("upstreams.{}.{rest}", upstream.entry.value))
    }
}

/// Whether somebody wrote the value at this very place.
fn is_written(origin: &Origin) -> bool {
    match origin {
        Origin::Written(_) | Origin::Environment { .. } => true,
        Origin::Default | Origin::Inherited { .. } | Origin::Auto => false,
    }
}

fn is_from_defaults(origin: &Origin) -> bool {
    matches!(
        origin,
        Origin::Inherited {
            from: "defaults",
            ..
        }
    )
}

/// The path itself last, and before it every block around it, from the outermost.
fn around(path: &str) -> impl Iterator<Item = &str> {
    let mut end = 0;
    segments(path).filter_map(move |segment| {
        let dot = usize::from(path.get(end..)?.starts_with('.'));
        end += dot + segment.len();
        path.get(..end)
    })
}

/// Names for the elements of lists that have one.
#[derive(Default)]
struct Names {
    keys: HashMap<String, String>,
    lists: Vec<(String, Vec<String>)>,
    /// The place of each list among them.
    places: HashMap<String, usize>,
    /// Each name that is given, behind its list.
    taken: HashSet<String>,
}

impl Names {
    /// The path with names in place of the indices of routes and endpoints.
    fn key(&mut self, effective: &Effective, path: &str) -> String {
        let mut key = String::new();
        for part in around(path) {
            let segment = segments(part).last().unwrap_or_default();
            let named = segment
                .starts_with('[')
                .then(|| self.name(effective, part, &key))
                .flatten();
            let segment = named.map_or(Cow::Borrowed(segment), Cow::Owned);
            if !key.is_empty() && !segment.starts_with('[') {
                key.push('.');
            }
            key.push_str(&segment);
        }
        key
    }

    /// `[name]` for an element of a list of routes or endpoints, by what it is known by.
    fn name(&mut self, effective: &Effective, element: &str, list: &str) -> Option<String> {
        if let Some(known) = self.keys.get(element) {
            return Some(known.clone());
        }
        let known_by: &[&str] = match segments(list).last()? {
            "routes" => &[".name", ".upstream"],
            "endpoints" => &[".address", ""],
            _ => return None,
        };
        let mut found = known_by
            .iter()
            .filter_map(|key| effective.get(&format!("{element}{key}")));
        let name = found.next()?.value.replace(['[', ']'], "");
        let place = self.places.get(list).copied().unwrap_or_else(|| {
            self.lists.push((list.to_owned(), Vec::new()));
            self.places.insert(list.to_owned(), self.lists.len() - 1);
            self.lists.len() - 1
        });
        let same = |number: usize| match number {
            1 => name.clone(),
            number => format!("{name}.{number}"),
        };
        let mut names = (1..).map(same);
        let unique = names.find(|name| self.taken.insert(format!("{list}[{name}]")))?;
        let segment = format!("[{unique}]");
        self.lists.get_mut(place)?.1.push(unique);
        self.keys.insert(element.to_owned(), segment.clone());
        Some(segment)
    }
}

/// Routes whose order among those that stay is another one: the first that matches wins.
fn reordered(old: &Side<'_>, new: &Side<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (list, after) in new
        .lists
        .iter()
        .filter(|(list, _)| list.ends_with(".routes"))
    {
        let Some((_, before)) = old.lists.iter().find(|(key, _)| key == list) else {
            continue;
        };
        let stay = |names: &[String], others: &[String]| -> Vec<String> {
            let others: HashSet<&String> = others.iter().collect();
            let staying = names.iter().filter(|name| others.contains(name));
            staying.cloned().collect()
        };
        let (before, after) = (stay(before, after), stay(after, before));
        if before != after {
            let order = |names: &[String]| Some(Content::Value(format!("[{}]", names.join(", "))));
            changes.push(Change {
                path: list.clone(),
                old: order(&before),
                new: order(&after),
            });
        }
    }
    changes
}

#[cfg(test)]
mod tests;
