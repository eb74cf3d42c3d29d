//! The JSON Schema of the configuration, from the same table that the reader follows.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Value as Json, json};

use super::keys;
use super::kind::{Block, Key, Kind, Preset, Text};
use super::merge;
use super::setting::{Setting, Value};

/// A whole number with a unit of time, as often as one likes.
const DURATION: &str = "^([0-9]+(\\.[0-9]+)?(d|h|m|s|ms|us))+$";
const SIZE: &str = "^[0-9]+(\\.[0-9]+)?(GiB|MiB|KiB|GB|MB|KB|B)?$";
const SHARE: &str = "^[0-9]+(\\.[0-9]+)?%$";

/// The schema, draft 2020-12.
pub fn schema() -> Json {
    let mut definitions = Map::new();
    let mut open = BTreeSet::new();
    let mut root = block(&keys::ROOT, &mut definitions, &mut open);
    definitions.insert("variable".into(), json!({ "type": "string", "pattern": "\\$\\{", "description": "A value from the environment." }));
    if let Json::Object(root) = &mut root {
        root.shift_insert(
            0,
            "$schema".into(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        root.shift_insert(1, "title".into(), json!("mamparo"));
        root.insert("$defs".into(), Json::Object(definitions));
    }
    root
}

fn block(
    block: &'static Block,
    definitions: &mut Map<String, Json>,
    open: &mut BTreeSet<&'static str>,
) -> Json {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in block
        .keys()
        .filter(|key| !matches!(key.kind, Kind::Later(_)))
    {
        properties.insert(key.name.into(), property(key, block, definitions, open));
        if matches!(key.preset, Preset::Required { .. }) {
            required.push(key.name);
        }
    }
    let mut schema = json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    if block.name == "endpoint" {
        let one = keys::WHAT_AN_ENDPOINT_IS.map(|key| json!({ "required": [key] }));
        schema["oneOf"] = one.into_iter().collect();
    }
    schema
}

fn property(
    key: &'static Key,
    within: &'static Block,
    definitions: &mut Map<String, Json>,
    open: &mut BTreeSet<&'static str>,
) -> Json {
    let mut schema = kind(&key.kind, definitions, open);
    if let Json::Object(schema) = &mut schema {
        schema.insert("description".into(), json!(key.doc));
        if let Some(preset) = merge::preset(key.name, within) {
            schema.insert("default".into(), plain(&preset));
        }
    }
    schema
}

/// A reference to a block's definition, which is made when it is met first.
fn reference(
    inner: &'static Block,
    definitions: &mut Map<String, Json>,
    open: &mut BTreeSet<&'static str>,
) -> Json {
    if open.insert(inner.name) {
        let definition = block(inner, definitions, open);
        definitions.insert(inner.name.into(), definition);
    }
    json!({ "$ref": format!("#/$defs/{}", inner.name) })
}

fn kind(
    of: &'static Kind,
    definitions: &mut Map<String, Json>,
    open: &mut BTreeSet<&'static str>,
) -> Json {
    match of {
        Kind::Duration { .. } => {
            or_variable(vec![json!({ "type": "string", "pattern": DURATION })])
        }
        Kind::Size { .. } => or_variable(vec![
            json!({ "type": "integer", "minimum": 0 }),
            json!({ "type": "string", "pattern": SIZE }),
        ]),
        Kind::Share { .. } => or_variable(vec![json!({ "type": "string", "pattern": SHARE })]),
        Kind::Count { min, max } => or_variable(vec![
            json!({ "type": "integer", "minimum": min, "maximum": max }),
        ]),
        Kind::Number { min, max } => or_variable(vec![
            json!({ "type": "number", "minimum": min, "maximum": max }),
        ]),
        Kind::Bool => or_variable(vec![json!({ "type": "boolean" })]),
        Kind::Word(words) => or_variable(vec![json!({ "enum": words })]),
        Kind::Text(rules) => text(rules),
        Kind::Or(words, inner) => {
            json!({ "anyOf": [{ "enum": words }, kind(inner, definitions, open)] })
        }
        Kind::List { of, min } => {
            json!({ "type": "array", "items": kind(of, definitions, open), "minItems": min })
        }
        Kind::Map(of, names) => json!({
            "type": "object",
            "propertyNames": { "pattern": names.pattern },
            "additionalProperties": kind(of, definitions, open),
        }),
        Kind::Block(inner) => reference(inner, definitions, open),
        Kind::Switch(inner) => {
            json!({ "anyOf": [{ "const": "off" }, reference(inner, definitions, open)] })
        }
        Kind::Named(inner) => json!({
            "type": "object",
            "propertyNames": { "pattern": super::text::NAME.pattern },
            "additionalProperties": reference(inner, definitions, open),
        }),
        Kind::Either(single, other) => {
            json!({ "anyOf": [kind(single, definitions, open), kind(other, definitions, open)] })
        }
        Kind::Later(_) => json!(false),
    }
}

fn or_variable(mut choices: Vec<Json>) -> Json {
    choices.push(json!({ "$ref": "#/$defs/variable" }));
    json!({ "anyOf": choices })
}

/// A text may be written without quotes, so that a number can be one too, unless its rules say no.
fn text(rules: &Text) -> Json {
    if rules.pattern.is_empty() {
        return json!({ "type": ["string", "number", "boolean"] });
    }
    let mut choices = vec![json!({ "type": "string", "pattern": rules.pattern })];
    let takes =
        |sample: &str| Regex::new(rules.pattern).is_ok_and(|pattern| pattern.is_match(sample));
    if takes("1") || takes("500") {
        choices.push(json!({ "type": "number" }));
    }
    or_variable(choices)
}

/// A default as JSON.
fn plain(setting: &Setting) -> Json {
    match &setting.value {
        Value::Count(count) => json!(count),
        Value::Number(number) => json!(number),
        Value::Bool(truth) => json!(truth),
        Value::Text(text) => json!(&**text),
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Block(fields) => Json::Object(
            fields
                .0
                .iter()
                .map(|(key, value)| ((*key).into(), plain(value)))
                .collect(),
        ),
        Value::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, value)| (key.to_string(), plain(value)))
                .collect(),
        ),
        Value::Broken | Value::Word(_) | Value::Duration(_) | Value::Size(_) | Value::Share(_) => {
            json!(setting.value.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
