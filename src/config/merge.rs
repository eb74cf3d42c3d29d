//! Making settings complete: files into one, `defaults` into upstreams, upstreams into routes, and the
//! compiled defaults into what is still absent.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::keys::{self, POLICIES};
use super::kind::{Block, Kind, Preset};
use super::node::{self, Content, Key, Node, join_open};
use super::origin::Origin;
use super::read;
use super::report::Report;
use super::setting::{Fields, Setting, Value};

/// Puts the files of a configuration into one. What is written twice is reported with both places.
pub(super) fn files(roots: Vec<Node>, report: &mut Report) -> Option<Node> {
    let mut roots = roots.into_iter();
    let mut first = roots.next()?;
    for root in roots {
        merge_top(&mut first, root, report);
    }
    Some(first)
}

/// Keys of the file merge; below them, everything stands once.
fn merge_top(into: &mut Node, from: Node, report: &mut Report) {
    let (Content::Map(into), Content::Map(from)) = (&mut into.content, from.content) else {
        return;
    };
    for (key, node) in from {
        match into.iter_mut().find(|(other, _)| other.text == key.text) {
            None => into.push((key, node)),
            Some((first, existing)) => match (&mut existing.content, node.content) {
                (Content::Map(existing), Content::Map(more)) => {
                    merge_names(&key.text, existing, more, report)
                }
                _ => twice(&key.text, first, &key, report),
            },
        }
    }
}

fn merge_names(
    outer: &str,
    into: &mut Vec<(Key, Node)>,
    from: Vec<(Key, Node)>,
    report: &mut Report,
) {
    for (key, node) in from {
        match into.iter().find(|(other, _)| other.text == key.text) {
            None => into.push((key, node)),
            Some((first, _)) => twice(&join_open(outer, &key.text), first, &key, report),
        }
    }
}

fn twice(path: &str, first: &Key, second: &Key, report: &mut Report) {
    let message = format!("`{}` is already set at {}", second.text, first.place);
    report.add_with_help(
        Some(&second.place),
        path,
        message,
        "remove one of the two; files add to each other, none overrides another",
    );
}

/// Lets every upstream inherit from `defaults`, and every route from its upstream.
pub(super) fn inherit(root: &mut Fields) {
    let defaults = root.block("defaults").cloned().unwrap_or_default();
    let mut upstreams: HashMap<Arc<str>, Fields> = HashMap::new();
    if let Some(Setting {
        value: Value::Map(entries),
        ..
    }) = root.get_mut("upstreams")
    {
        for (name, setting) in entries {
            if let Value::Block(fields) = &mut setting.value {
                inherit_policies(fields, &defaults, "defaults");
                upstreams.insert(Arc::clone(name), fields.clone());
            }
        }
    }
    root.visit_routes(|routes| {
        for route in routes {
            let Value::Block(route) = &mut route.value else {
                continue;
            };
            if let Some(upstream) = route.text("upstream").and_then(|name| upstreams.get(name)) {
                inherit_policies(route, upstream, "upstream");
            }
        }
    });
}

fn inherit_policies(inner: &mut Fields, outer: &Fields, from: &'static str) {
    for key in POLICIES {
        let Some(outer) = outer.get(key.name) else {
            continue;
        };
        let inherited = inherited(outer, from);
        match inner.get_mut(key.name) {
            Some(inner) => merge(inner, inherited),
            None => inner.0.push((key.name, inherited)),
        }
    }
}

/// A block takes what it lacks from the outer one; anything else replaces.
fn merge(inner: &mut Setting, outer: Setting) {
    if let (Value::Block(inner), Value::Block(outer)) = (&mut inner.value, outer.value) {
        for (key, setting) in outer.0 {
            match inner.get_mut(key) {
                Some(inner) => merge(inner, setting),
                None => inner.0.push((key, setting)),
            }
        }
    }
}

/// The setting as its heir has it.
fn inherited(setting: &Setting, from: &'static str) -> Setting {
    let origin = match &setting.origin {
        Origin::Written(place) => Origin::Inherited {
            from,
            place: place.clone(),
        },
        other @ (Origin::Default
        | Origin::Inherited { .. }
        | Origin::Environment { .. }
        | Origin::Auto) => other.clone(),
    };
    let value = match &setting.value {
        Value::Block(fields) => Value::Block(Fields(
            fields
                .0
                .iter()
                .map(|(key, inner)| (*key, inherited(inner, from)))
                .collect(),
        )),
        Value::List(items) => Value::List(items.iter().map(|item| inherited(item, from)).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, inner)| (Arc::clone(key), inherited(inner, from)))
                .collect(),
        ),
        Value::Broken
        | Value::Word(_)
        | Value::Duration(_)
        | Value::Size(_)
        | Value::Share(_)
        | Value::Count(_)
        | Value::Number(_)
        | Value::Bool(_)
        | Value::Text(_) => setting.value.clone(),
    };
    Setting { value, origin }
}

/// Puts the compiled default at every key that is absent, and the keys in the table's order.
pub(super) fn complete(fields: &mut Fields, block: &'static Block) {
    let mut complete = Vec::with_capacity(fields.0.len());
    for key in block.keys() {
        let mut setting = match fields.remove(key.name) {
            Some(setting) => setting,
            None => match preset(key.name, block) {
                Some(preset) => preset,
                None => continue,
            },
        };
        complete_value(&mut setting, &key.kind);
        complete.push((key.name, setting));
    }
    fields.0 = complete;
    if block.name == "retry" {
        complete_classes(fields);
    }
}

fn complete_value(setting: &mut Setting, kind: &'static Kind) {
    match (&mut setting.value, kind) {
        (_, Kind::Or(_, inner)) => complete_value(setting, inner),
        (Value::Block(_), Kind::Either(_, inner)) => complete_value(setting, inner),
        (Value::Block(fields), Kind::Block(inner) | Kind::Switch(inner)) => complete(fields, inner),
        (Value::List(items), Kind::List { of, .. }) => {
            items.iter_mut().for_each(|item| complete_value(item, of))
        }
        (Value::Map(entries), Kind::Map(of, _)) => entries
            .iter_mut()
            .for_each(|(_, value)| complete_value(value, of)),
        (Value::Map(entries), Kind::Named(inner)) => {
            for (_, setting) in entries {
                if let Value::Block(fields) = &mut setting.value {
                    complete(fields, inner);
                }
            }
        }
        _ => {}
    }
}

/// A rule for a class has the block's own values where it sets none.
fn complete_classes(retry: &mut Fields) {
    let (attempts, backoff) = (
        retry.get("max_attempts").cloned(),
        retry.get("backoff").cloned(),
    );
    let Some(Value::Block(classes)) = retry.get_mut("by_class").map(|setting| &mut setting.value)
    else {
        return;
    };
    for (_, class) in &mut classes.0 {
        let Value::Block(rule) = &mut class.value else {
            continue;
        };
        for (key, outer) in [("max_attempts", &attempts), ("backoff", &backoff)] {
            match (rule.get_mut(key), outer) {
                (Some(inner), Some(outer)) => merge(inner, outer.clone()),
                (None, Some(outer)) => rule.0.push((key, outer.clone())),
                (_, None) => {}
            }
        }
    }
}

/// The compiled default of a key.
pub(super) fn preset(key: &'static str, block: &'static Block) -> Option<Setting> {
    PRESETS.get(&(block.name, key)).cloned()
}

/// Every compiled default, read once with the same reader as the file.
static PRESETS: LazyLock<HashMap<(&'static str, &'static str), Setting>> = LazyLock::new(|| {
    let mut presets = HashMap::new();
    let mut report = Report::default();
    collect(&keys::ROOT, &mut presets, &mut report);
    presets
});

fn collect(
    block: &'static Block,
    presets: &mut HashMap<(&'static str, &'static str), Setting>,
    report: &mut Report,
) {
    for key in block.keys() {
        if let Preset::Value(text) = key.preset
            && let Some(node) = node::parse(&Arc::from("default"), text, &|_| None, report)
        {
            let mut setting = read::read(&node, &key.kind, key.name, report);
            forget_places(&mut setting);
            presets.insert((block.name, key.name), setting);
        }
        if let Some(inner) = key.kind.block() {
            collect(inner, presets, report);
        }
    }
}

fn forget_places(setting: &mut Setting) {
    setting.origin = Origin::Default;
    if let Value::List(items) = &mut setting.value {
        items.iter_mut().for_each(forget_places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_of_the_table_can_be_read() {
        let mut report = Report::default();
        let mut presets = HashMap::new();
        collect(&keys::ROOT, &mut presets, &mut report);
        assert_eq!(report.finish(), []);
        assert!(presets.len() > 60, "{}", presets.len());
        assert!(
            presets
                .values()
                .all(|setting| setting.value != Value::Broken)
        );
    }
}
