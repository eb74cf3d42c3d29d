//! A configuration as it is written, read but not yet complete: values with their origins.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::origin::{Listed, Origin, Place};
use super::units;

/// A value and who set it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    /// The value.
    pub(super) value: Value,
    /// Who set it; for a block, who opened it.
    pub(super) origin: Origin,
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// It could not be read, and the report says why. What depends on it is not judged.
    Broken,
    /// One of a set of words, `none` and `off` among them.
    Word(&'static str),
    /// A time.
    Duration(Duration),
    /// Bytes.
    Size(u64),
    /// A share, 1 for 100 %.
    Share(f64),
    /// A whole number.
    Count(u64),
    /// A number.
    Number(f64),
    /// A truth.
    Bool(bool),
    /// A text.
    Text(Arc<str>),
    /// Values in order.
    List(Arc<Vec<Setting>>),
    /// Values by the keys of the table; shared by all that inherit it, so that ten thousand routes of one
    /// upstream hold its policies once.
    Block(Arc<Fields>),
    /// Values by keys or names that the user chose, in the order of the file.
    Map(Vec<(Arc<str>, Setting)>),
}

/// The values of a block, in the order of the table once it is complete.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Fields(pub(super) Vec<(&'static str, Setting)>);

impl Setting {
    /// Values in order.
    pub(super) fn of_list(items: Vec<Self>, origin: Origin) -> Self {
        Self {
            value: Value::List(Arc::new(items)),
            origin,
        }
    }

    /// A value that could not be read.
    pub(super) fn broken(origin: Origin) -> Self {
        Self {
            value: Value::Broken,
            origin,
        }
    }

    /// Where it is written.
    pub(super) fn place(&self) -> Option<&Place> {
        self.origin.place()
    }

    /// Who set it; a list with a value from the environment is told as from there.
    fn told_origin(&self) -> &Origin {
        let from_environment = |item: &&Setting| matches!(item.origin, Origin::Environment { .. });
        self.list()
            .and_then(|items| items.iter().find(from_environment))
            .map_or(&self.origin, |item| &item.origin)
    }

    /// Its keys, where it is a block.
    pub(super) fn block(&self) -> Option<&Fields> {
        if let Value::Block(fields) = &self.value {
            Some(fields)
        } else {
            None
        }
    }

    /// Its keys, to be changed; for this holder alone, where others share them.
    pub(super) fn block_mut(&mut self) -> Option<&mut Fields> {
        if let Value::Block(fields) = &mut self.value {
            Some(Arc::make_mut(fields))
        } else {
            None
        }
    }

    /// Its values, where it is a list.
    pub(super) fn list(&self) -> Option<&[Setting]> {
        if let Value::List(items) = &self.value {
            Some(items)
        } else {
            None
        }
    }
}

/// How a value is got from a block. `None`: it is absent or broken, and where that matters the report
/// says so already.
impl Fields {
    /// Visits the routes of each listener, in a whole configuration.
    pub(super) fn visit_routes(&mut self, mut visit: impl FnMut(&mut [Setting])) {
        let Some(Value::Map(listeners)) = self.get_mut("listeners").map(|one| &mut one.value)
        else {
            return;
        };
        for (_, listener) in listeners {
            let routes = listener
                .block_mut()
                .and_then(|fields| fields.get_mut("routes"));
            if let Some(Value::List(routes)) = routes.map(|one| &mut one.value) {
                visit(Arc::make_mut(routes).as_mut_slice());
            }
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.0
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, setting)| setting)
    }

    /// The value of a key, to be changed.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Setting> {
        self.0
            .iter_mut()
            .find(|(name, _)| *name == key)
            .map(|(_, setting)| setting)
    }

    /// The value of a key, put there when it is absent; nobody wrote it then.
    pub(super) fn get_or_insert(
        &mut self,
        key: &'static str,
        value: impl FnOnce() -> Value,
    ) -> &mut Setting {
        let index = self
            .0
            .iter()
            .position(|(name, _)| *name == key)
            .unwrap_or_else(|| {
                self.0.push((
                    key,
                    Setting {
                        value: value(),
                        origin: Origin::Auto,
                    },
                ));
                self.0.len() - 1
            });
        &mut self.0[index].1
    }

    /// Takes a key out of what is taken apart: the order of the others is lost.
    pub(super) fn take(&mut self, key: &str) -> Option<Setting> {
        let index = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: &str) -> Option<Setting> {
        let index = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.remove(index).1)
    }

    /// Where the value of a key is written.
    pub(super) fn place(&self, key: &str) -> Option<&Place> {
        self.get(key)?.place()
    }

    /// Whether a key is absent.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.get(key).is_none()
    }

    /// A block below this one.
    pub(super) fn block(&self, key: &str) -> Option<&Fields> {
        self.get(key)?.block()
    }

    /// A list.
    pub(super) fn list(&self, key: &str) -> Option<&[Setting]> {
        self.get(key)?.list()
    }

    /// Values by names of the user's.
    pub(super) fn map(&self, key: &str) -> Option<&[(Arc<str>, Setting)]> {
        if let Value::Map(entries) = &self.get(key)?.value {
            Some(entries)
        } else {
            None
        }
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Option<&Arc<str>> {
        if let Value::Text(text) = &self.get(key)?.value {
            Some(text)
        } else {
            None
        }
    }

    /// A word of the table.
    pub(super) fn word(&self, key: &str) -> Option<&'static str> {
        if let Value::Word(word) = &self.get(key)?.value {
            Some(word)
        } else {
            None
        }
    }

    /// A time.
    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        if let Value::Duration(duration) = &self.get(key)?.value {
            Some(*duration)
        } else {
            None
        }
    }

    /// Bytes or a whole number.
    pub(super) fn integer<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        if let Value::Size(number) | Value::Count(number) = &self.get(key)?.value {
            T::try_from(*number).ok()
        } else {
            None
        }
    }

    /// A share or a number.
    pub(super) fn real(&self, key: &str) -> Option<f64> {
        if let Value::Share(number) | Value::Number(number) = &self.get(key)?.value {
            Some(*number)
        } else {
            None
        }
    }

    /// A truth.
    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        if let Value::Bool(truth) = &self.get(key)?.value {
            Some(*truth)
        } else {
            None
        }
    }

    /// `Some(None)` for `none` and `off`; else as `read` finds it.
    pub(super) fn or_none<'a, T>(
        &'a self,
        key: &str,
        read: impl Fn(&'a Self, &str) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.word(key) {
            Some("none" | "off") => Some(None),
            Some(_) | None => read(self, key).map(Some),
        }
    }
}

impl fmt::Display for Value {
    /// As it would be written on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("?"),
            Self::Word(word) => f.write_str(word),
            Self::Duration(duration) => f.write_str(&units::write_duration(*duration)),
            Self::Size(bytes) => f.write_str(&units::write_size(*bytes)),
            Self::Share(share) => f.write_str(&units::write_share(*share)),
            Self::Count(count) => count.fmt(f),
            Self::Number(number) => f.write_str(&units::write_number(*number)),
            Self::Bool(truth) => truth.fmt(f),
            Self::Text(text) => write_text(text, f),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", item.value)?;
                }
                f.write_str("]")
            }
            Self::Block(fields) => {
                write_entries(fields.0.iter().map(|(key, setting)| (*key, setting)), f)
            }
            Self::Map(entries) => {
                write_entries(entries.iter().map(|(key, setting)| (&**key, setting)), f)
            }
        }
    }
}

fn write_entries<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Setting)>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let mut separator = "{ ";
    for (key, setting) in entries {
        f.write_str(separator)?;
        write_text(key, f)?;
        write!(f, ": {}", setting.value)?;
        separator = ", ";
    }
    f.write_str(if separator == "{ " { "{}" } else { " }" })
}

/// Writes a text so that YAML reads it back as this text, also inside of brackets.
fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./:*+@%=~^$()|".contains(c);
    let plain = text.chars().all(safe)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._".contains(c))
        && !text.ends_with(':')
        && !matches!(text, "null" | "Null" | "NULL" | "~");
    if plain {
        return f.write_str(text);
    }
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// Where the setting at a path is written itself.
pub(super) fn place_at<'a>(whole: &'a Fields, path: &str) -> Option<&'a Place> {
    let setting = fields_at(whole, path)?;
    setting.told_origin().place().or(setting.place())
}

fn fields_at<'a>(fields: &'a Fields, path: &str) -> Option<&'a Setting> {
    let mut entries = fields.0.iter();
    entries.find_map(|(key, setting)| setting_at(setting, path.strip_prefix(key)?))
}

/// The setting at what is left of a path. A name may hold dots, so that it is the keys that say where one
/// ends.
fn setting_at<'a>(setting: &'a Setting, rest: &str) -> Option<&'a Setting> {
    if rest.is_empty() {
        return Some(setting);
    }
    match &setting.value {
        Value::Block(fields) => fields_at(fields, rest.strip_prefix('.')?),
        Value::Map(entries) => {
            let rest = rest.strip_prefix('.')?;
            let mut entries = entries.iter();
            entries.find_map(|(key, setting)| setting_at(setting, rest.strip_prefix(&**key)?))
        }
        Value::List(items) if has_blocks(items) => {
            let (index, rest) = rest.strip_prefix('[')?.split_once(']')?;
            setting_at(items.get(index.parse::<usize>().ok()?)?, rest)
        }
        Value::Broken
        | Value::Word(_)
        | Value::Duration(_)
        | Value::Size(_)
        | Value::Share(_)
        | Value::Count(_)
        | Value::Number(_)
        | Value::Bool(_)
        | Value::Text(_)
        | Value::List(_) => None,
    }
}

/// Every setting below `fields`, by path.
pub(super) fn list(fields: &Fields) -> Listed {
    let mut listed = Listed::default();
    for (key, setting) in &fields.0 {
        list_into(&mut listed, key.to_string(), setting);
    }
    listed
}

/// Adds a setting, or what is below it.
pub(super) fn list_into(listed: &mut Listed, path: String, setting: &Setting) {
    if let Some(place) = setting.place() {
        listed.insert_place(path.clone(), place.clone());
    }
    let below = any_below(setting, &path, |path, inner| {
        list_into(listed, path, inner);
        false
    });
    if below.is_none() {
        let value = setting.value.to_string();
        listed.insert(path, value, setting.told_origin().clone());
    }
}

/// Whether `is_met` holds for any of the settings right below one, which are given with their paths until it
/// does. `None`: nothing is below, as it is told as one value.
pub(super) fn any_below(
    setting: &Setting,
    path: &str,
    mut is_met: impl FnMut(String, &Setting) -> bool,
) -> Option<bool> {
    Some(match &setting.value {
        Value::Block(fields) => {
            let mut entries = fields.0.iter();
            entries.any(|(key, inner)| is_met(format!("{path}.{key}"), inner))
        }
        Value::Map(entries) => {
            let mut entries = entries.iter();
            entries.any(|(key, inner)| is_met(format!("{path}.{key}"), inner))
        }
        Value::List(items) if has_blocks(items) => {
            let mut items = items.iter().enumerate();
            items.any(|(index, inner)| is_met(format!("{path}[{index}]"), inner))
        }
        Value::Broken => false,
        Value::Word(_)
        | Value::Duration(_)
        | Value::Size(_)
        | Value::Share(_)
        | Value::Count(_)
        | Value::Number(_)
        | Value::Bool(_)
        | Value::Text(_)
        | Value::List(_) => return None,
    })
}

/// Whether a list is told element by element, and not as one value.
pub(super) fn has_blocks(items: &[Setting]) -> bool {
    items.iter().any(|item| item.block().is_some())
}

/// Whether anything of a setting is written at its own place.
pub(super) fn has_written(setting: &Setting) -> bool {
    let within = match &setting.value {
        Value::Block(fields) => fields.0.iter().any(|(_, inner)| has_written(inner)),
        Value::List(items) => items.iter().any(has_written),
        Value::Map(entries) => entries.iter().any(|(_, inner)| has_written(inner)),
        Value::Broken
        | Value::Word(_)
        | Value::Duration(_)
        | Value::Size(_)
        | Value::Share(_)
        | Value::Count(_)
        | Value::Number(_)
        | Value::Bool(_)
        | Value::Text(_) => false,
    };
    within
        || matches!(
            setting.origin,
            Origin::Written(_) | Origin::Environment { .. }
        )
}
