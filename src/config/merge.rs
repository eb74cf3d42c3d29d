//! Making settings complete: files into one, `defaults` into upstreams, upstreams into routes, and the
//! compiled defaults into what is still absent.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::keys::{self, OF_UPSTREAMS, POLICIES};
use super::kind::{Block, Kind, Preset};
use super::node::{self, Content, Key, Node, join_open};
use super::origin::Origin;
use super::path::Path;
use super::read;
use super::report::Report;
use super::setting::{Fields, Setting, Value, has_written};

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
    let defaults = root
        .block("defaults")
        .map(|outer| legacy(outer, OF_UPSTREAMS, "defaults"));
    let mut upstreams: HashMap<Arc<str>, Legacy> = HashMap::new();
    if let Some(Setting {
        value: Value::Map(entries),
        ..
    }) = root.get_mut("upstreams")
    {
        for (name, setting) in entries {
            if let Some(fields) = setting.block_mut() {
                if let Some(defaults) = &defaults {
                    inherit_policies(fields, defaults);
                }
                let legacy = legacy(fields, POLICIES, "upstream");
                upstreams.insert(Arc::clone(name), legacy);
            }
        }
    }
    root.visit_routes(|routes| {
        for route in routes.iter_mut().filter_map(Setting::block_mut) {
            if let Some(upstream) = route.text("upstream").and_then(|name| upstreams.get(name)) {
                inherit_policies(route, upstream);
            }
        }
    });
}

/// What a block leaves to those within it: these keys as they have them. Made once, and shared.
type Legacy = Vec<(&'static str, Setting)>;

fn legacy(outer: &Fields, keys: &'static [super::kind::Key], from: &'static str) -> Legacy {
    let written = keys
        .iter()
        .filter_map(|key| Some((key.name, outer.get(key.name)?)));
    written
        .map(|(key, setting)| (key, inherited(setting, from)))
        .collect()
}

fn inherit_policies(inner: &mut Fields, outer: &Legacy) {
    for (key, inherited) in outer {
        match inner.get_mut(key) {
            Some(inner) => merge(inner, inherited),
            None => inner.0.push((key, inherited.clone())),
        }
    }
}

/// A block takes what it lacks from the outer one; anything else replaces.
fn merge(inner: &mut Setting, outer: &Setting) {
    if let (Some(inner), Some(outer)) = (inner.block_mut(), outer.block()) {
        for (key, setting) in &outer.0 {
            match inner.get_mut(key) {
                Some(inner) => merge(inner, setting),
                None => inner.0.push((key, setting.clone())),
            }
        }
    }
}

/// The setting as its heir has it. What was inherited already looks the same to every heir, and is shared.
fn inherited(setting: &Setting, from: &'static str) -> Setting {
    if !has_written(setting) {
        return setting.clone();
    }
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
        Value::Block(fields) => Value::Block(Arc::new(Fields(
            fields
                .0
                .iter()
                .map(|(key, inner)| (*key, inherited(inner, from)))
                .collect(),
        ))),
        Value::List(items) => Value::List(Arc::new(
            items.iter().map(|item| inherited(item, from)).collect(),
        )),
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
    complete_fields(fields, block, &mut Completed::default());
}

/// What is shared and complete: by the address of what it was, which is kept so that nothing else can be
/// there, and by its table. Without this, ten thousand routes would hold ten thousand copies of what they
/// all inherit.
#[derive(Default)]
struct Completed {
    blocks: BeforeAndAfter<Fields>,
    lists: BeforeAndAfter<Vec<Setting>>,
}

type BeforeAndAfter<T> = HashMap<(*const T, &'static str), [Arc<T>; 2]>;

fn complete_fields(fields: &mut Fields, block: &'static Block, completed: &mut Completed) {
    let presets = BY_BLOCK.get(block.name).map_or(&[][..], Vec::as_slice);
    let mut complete = Vec::with_capacity(presets.len());
    for (key, preset) in block.keys().zip(presets) {
        let Some(mut setting) = fields.take(key.name).or_else(|| preset.clone()) else {
            continue;
        };
        complete_value(&mut setting, &key.kind, completed);
        complete.push((key.name, setting));
    }
    complete.shrink_to_fit();
    fields.0 = complete;
    if block.name == "retry" {
        complete_classes(fields);
    }
}

fn complete_block(fields: &mut Arc<Fields>, block: &'static Block, completed: &mut Completed) {
    if let Some(alone) = Arc::get_mut(fields) {
        return complete_fields(alone, block, completed);
    }
    let key = (Arc::as_ptr(fields), block.name);
    if let Some([_, complete]) = completed.blocks.get(&key) {
        *fields = Arc::clone(complete);
        return;
    }
    let before = Arc::clone(fields);
    complete_fields(Arc::make_mut(fields), block, completed);
    let after = Arc::clone(fields);
    completed.blocks.insert(key, [before, after]);
}

/// As [`complete_block`], for a list whose elements may be blocks.
fn complete_list(
    items: &mut Arc<Vec<Setting>>,
    of: &'static Kind,
    block: &'static Block,
    completed: &mut Completed,
) {
    let all = |items: &mut Vec<Setting>, completed: &mut Completed| {
        for item in items {
            complete_value(item, of, completed);
        }
    };
    if let Some(alone) = Arc::get_mut(items) {
        return all(alone, completed);
    }
    let key = (Arc::as_ptr(items), block.name);
    if let Some([_, complete]) = completed.lists.get(&key) {
        *items = Arc::clone(complete);
        return;
    }
    let before = Arc::clone(items);
    all(Arc::make_mut(items), completed);
    let after = Arc::clone(items);
    completed.lists.insert(key, [before, after]);
}

fn complete_value(setting: &mut Setting, kind: &'static Kind, completed: &mut Completed) {
    match (&mut setting.value, kind) {
        (_, Kind::Or(_, inner)) => complete_value(setting, inner, completed),
        (Value::Block(_), Kind::Either(_, inner)) => complete_value(setting, inner, completed),
        (Value::Block(fields), Kind::Block(inner) | Kind::Switch(inner)) => {
            complete_block(fields, inner, completed);
        }
        (Value::List(items), Kind::List { of, .. }) => {
            // Of anything but blocks, a list is complete as it stands.
            if let Some(block) = of.block() {
                complete_list(items, of, block, completed);
            }
        }
        (Value::Map(entries), Kind::Map(of, _)) => entries
            .iter_mut()
            .for_each(|(_, value)| complete_value(value, of, completed)),
        (Value::Map(entries), Kind::Named(inner)) => {
            for (_, setting) in entries {
                if let Value::Block(fields) = &mut setting.value {
                    complete_block(fields, inner, completed);
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
    let Some(classes) = retry.get_mut("by_class").and_then(Setting::block_mut) else {
        return;
    };
    for rule in classes
        .0
        .iter_mut()
        .filter_map(|(_, class)| class.block_mut())
    {
        for (key, outer) in [("max_attempts", &attempts), ("backoff", &backoff)] {
            match (rule.get_mut(key), outer) {
                (Some(inner), Some(outer)) => merge(inner, outer),
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

/// The same by block, one for each key in the table's order: a large configuration has a million that are
/// absent.
static BY_BLOCK: LazyLock<HashMap<&'static str, Vec<Option<Setting>>>> = LazyLock::new(|| {
    let mut blocks = HashMap::new();
    collect_blocks(&keys::ROOT, &mut blocks);
    blocks
});

fn collect_blocks(block: &'static Block, blocks: &mut HashMap<&'static str, Vec<Option<Setting>>>) {
    let presets = block.keys().map(|key| preset(key.name, block));
    blocks.insert(block.name, presets.collect());
    for inner in block.keys().filter_map(|key| key.kind.block()) {
        collect_blocks(inner, blocks);
    }
}

fn collect(
    block: &'static Block,
    presets: &mut HashMap<(&'static str, &'static str), Setting>,
    report: &mut Report,
) {
    for key in block.keys() {
        if let Preset::Value(text) = key.preset
            && let Some(node) = node::parse(&Arc::from("default"), text, &|_| None, report)
        {
            let mut setting = read::read(&node, &key.kind, Path::Key(&Path::Top, key.name), report);
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
        Arc::make_mut(items).iter_mut().for_each(forget_places);
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

    fn visit(block: &'static Block, blocks: &mut Vec<&'static Block>) {
        blocks.push(block);
        for inner in block.keys().filter_map(|key| key.kind.block()) {
            visit(inner, blocks);
        }
    }

    #[test]
    fn each_block_has_its_own_defaults_key_by_key() {
        let mut blocks = Vec::new();
        visit(&keys::ROOT, &mut blocks);
        for block in blocks {
            let presets: Vec<_> = block.keys().map(|key| preset(key.name, block)).collect();
            assert_eq!(BY_BLOCK[block.name], presets, "{}", block.name);
        }
    }
}
