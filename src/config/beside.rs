//! Two complete configurations beside each other: the settings in which they differ, for
//! [`super::diff`]. It looks at the trees, of which most is the same, or even the same memory: to list half a
//! million settings of each with their paths takes a hundred times as long.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::origin::Listed;
use super::setting::{Fields, Setting, Value, any_below, has_blocks, has_written, list_into};

/// What an element of a list is known by.
const KNOWN_BY: [&str; 3] = ["name", "upstream", "address"];

/// The settings of `mine` that `theirs` has not, or has with another value; around each of them what says
/// that its blocks are there and what they are called.
pub(super) fn list_beside(mine: &Fields, theirs: &Fields) -> Listed {
    let mut beside = Beside {
        upstreams: [mine, theirs].map(upstreams),
        ..Beside::default()
    };
    let all = mine
        .0
        .iter()
        .map(|(key, setting)| (*key, setting, theirs.get(key)));
    beside.list_block("", all);
    beside.listed
}

fn upstreams(whole: &Fields) -> HashMap<&str, &Fields> {
    let entries = whole.map("upstreams").unwrap_or_default().iter();
    entries
        .filter_map(|(name, setting)| Some((&**name, setting.block()?)))
        .collect()
}

#[derive(Default)]
struct Beside<'a> {
    /// Those of mine and of theirs, by name.
    upstreams: [HashMap<&'a str, &'a Fields>; 2],
    listed: Listed,
    /// Blocks that were found to be the same: many share one.
    same: HashSet<[*const Fields; 2]>,
}

impl Beside<'_> {
    fn list(&mut self, path: String, mine: &Setting, theirs: Option<&Setting>) {
        let Some(theirs) = theirs else {
            return list_into(&mut self.listed, path, mine);
        };
        match (&mine.value, &theirs.value) {
            (Value::Block(mine), Value::Block(theirs)) => {
                let all = mine.0.iter();
                self.list_block(
                    &path,
                    all.map(|(key, inner)| (*key, inner, theirs.get(key))),
                );
            }
            (Value::Map(mine), Value::Map(theirs)) => {
                let theirs: HashMap<&str, &Setting> =
                    theirs.iter().map(|(key, inner)| (&**key, inner)).collect();
                let all = mine.iter();
                let all = all.map(|(key, inner)| (&**key, inner, theirs.get(&**key).copied()));
                self.list_block(&path, all);
            }
            (Value::List(mine), Value::List(theirs)) if has_blocks(mine) => {
                self.list_elements(&path, mine, theirs);
            }
            _ => list_into(&mut self.listed, path, mine),
        }
    }

    /// Lists what differs of a block, given as keys with mine and theirs. Of the rest it takes one setting to
    /// say that the block is there; and one that is an element of a list has to be called something.
    fn list_block<'b>(
        &mut self,
        path: &str,
        all: impl Iterator<Item = (&'b str, &'b Setting, Option<&'b Setting>)>,
    ) {
        let mut is_there = false;
        for (key, mine, theirs) in all {
            let same = theirs.is_some_and(|theirs| self.are_same(mine, theirs));
            if same && is_there && !KNOWN_BY.contains(&key) {
                continue;
            }
            let path = if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            };
            if same {
                is_there |= self.list_first(path, mine);
            } else {
                self.list(path, mine, theirs);
            }
        }
    }

    /// As [`Self::list_block`], for the elements of a list. Where they have changed places or number, each
    /// has to be there; else only those that differ.
    fn list_elements(&mut self, path: &str, mine: &[Setting], theirs: &[Setting]) {
        let named: HashMap<&str, &Setting> = theirs
            .iter()
            .filter_map(|inner| Some((name(inner)?, inner)))
            .collect();
        let mut pairs = mine.iter().zip(theirs);
        let in_place = mine.len() == theirs.len()
            && pairs.all(|(mine, theirs)| name(mine).is_some() && name(mine) == name(theirs));
        for (index, inner) in mine.iter().enumerate() {
            let other = match name(inner) {
                Some(name) => named.get(name).copied(),
                None => theirs.get(index),
            };
            let nothing_new = other.is_some_and(|other| {
                self.are_same(inner, other) || self.differs_as_its_upstream(inner, other)
            });
            if nothing_new && in_place {
                continue;
            }
            let path = format!("{path}[{index}]");
            if nothing_new {
                self.list_first(path, inner);
            } else {
                self.list(path, inner, other);
            }
        }
    }

    /// Whether a route differs from itself only in what it inherits whole from an upstream, which differs
    /// alike: that is told of the upstream. Else a change of `defaults` would have every route listed.
    fn differs_as_its_upstream(&mut self, mine: &Setting, theirs: &Setting) -> bool {
        let (Some(mine), Some(theirs)) = (mine.block(), theirs.block()) else {
            return false;
        };
        let Some(upstream) = mine.text("upstream") else {
            return false;
        };
        let [of_mine, of_theirs] =
            [0, 1].map(|side| self.upstreams[side].get(&**upstream).copied());
        let (Some(of_mine), Some(of_theirs)) = (of_mine, of_theirs) else {
            return false;
        };
        let mut pairs = mine.0.iter().zip(&theirs.0);
        mine.0.len() == theirs.0.len()
            && pairs.all(|((key, mine), (other, theirs))| {
                key == other
                    && (self.are_same(mine, theirs)
                        || self.is_inherited(key, mine, of_mine)
                            && self.is_inherited(key, theirs, of_theirs))
            })
    }

    fn is_inherited(&mut self, key: &str, setting: &Setting, upstream: &Fields) -> bool {
        let outer = upstream.get(key);
        outer.is_some_and(|outer| self.are_same(setting, outer)) && !has_written(setting)
    }

    /// Lists the first setting that has a value; whether there is one.
    fn list_first(&mut self, path: String, setting: &Setting) -> bool {
        let below = any_below(setting, &path, |path, inner| self.list_first(path, inner));
        below.unwrap_or_else(|| {
            list_into(&mut self.listed, path, setting);
            true
        })
    }

    /// Whether two settings have the same values, whoever set them.
    fn are_same(&mut self, one: &Setting, other: &Setting) -> bool {
        match (&one.value, &other.value) {
            (Value::Block(one), Value::Block(other)) => {
                let pair = [Arc::as_ptr(one), Arc::as_ptr(other)];
                if Arc::ptr_eq(one, other) || self.same.contains(&pair) {
                    return true;
                }
                let mut pairs = one.0.iter().zip(&other.0);
                let same = one.0.len() == other.0.len()
                    && pairs
                        .all(|(one, other)| one.0 == other.0 && self.are_same(&one.1, &other.1));
                if same && Arc::strong_count(one) > 1 {
                    self.same.insert(pair);
                }
                same
            }
            (Value::List(one), Value::List(other)) => {
                let mut pairs = one.iter().zip(&**other);
                Arc::ptr_eq(one, other)
                    || one.len() == other.len()
                        && pairs.all(|(one, other)| self.are_same(one, other))
            }
            (Value::Map(one), Value::Map(other)) => {
                let mut pairs = one.iter().zip(other);
                one.len() == other.len()
                    && pairs.all(|(one, other)| one.0 == other.0 && self.are_same(&one.1, &other.1))
            }
            (one, other) => one == other,
        }
    }
}

/// What a block in a list is called, if anything.
fn name(setting: &Setting) -> Option<&str> {
    setting.block()?.text("name").map(|name| &**name)
}
