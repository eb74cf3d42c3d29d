//! From nodes to settings: the table says what each key may hold, and everything that is wrong is told
//! at once.

use std::sync::Arc;

use super::kind::{Block, Complaint, Kind, Preset};
use super::node::{Content, Node, Scalar, Style};
use super::origin::{Origin, Place};
use super::path::Path;
use super::report::Report;
use super::setting::{Fields, Setting, Value};
use super::suggest;
use super::text;
use super::units;

/// Reads the keys of a block.
pub(super) fn block(
    node: &Node,
    block: &'static Block,
    path: Path<'_>,
    report: &mut Report,
) -> Option<Fields> {
    let Content::Map(entries) = &node.content else {
        mismatch(node, &Kind::Block(block), path, report);
        return None;
    };
    let mut fields = Fields::default();
    for (key, value) in entries {
        let path = Path::Key(&path, &key.text);
        match block.key(&key.text) {
            Some(known) => {
                let setting = if let Kind::Later(sentence) = known.kind {
                    report.add(Some(&key.place), &path.to_string(), sentence);
                    Setting::broken(Origin::Written(key.place.clone()))
                } else {
                    read(value, &known.kind, path, report)
                };
                fields.0.push((known.name, setting));
            }
            None => unknown_key(&key.text, &key.place, block, path, report),
        }
    }
    missing_keys(node, block, &fields, path, report);
    Some(fields)
}

/// Reports keys that must be there. What replaces them in a later release was refused already.
fn missing_keys(
    node: &Node,
    block: &'static Block,
    fields: &Fields,
    path: Path<'_>,
    report: &mut Report,
) {
    if block
        .keys()
        .any(|key| matches!(key.kind, Kind::Later(_)) && !fields.lacks(key.name))
    {
        return;
    }
    for key in block.keys().filter(|key| fields.lacks(key.name)) {
        if let Preset::Required { example } = key.preset {
            let help = format!("such as `{}: {example}`", key.name);
            report.add_with_help(
                Some(&node.place),
                &Path::Key(&path, key.name).to_string(),
                format!("the key `{}` is missing", key.name),
                help,
            );
        }
    }
}

/// Reads a value.
pub(super) fn read(
    node: &Node,
    kind: &'static Kind,
    path: Path<'_>,
    report: &mut Report,
) -> Setting {
    let origin = origin(node);
    let value = match (kind, &node.content) {
        (Kind::Or(words, inner), Content::Scalar(scalar)) if scalar.style != Style::Broken => {
            match words.iter().find(|word| **word == scalar.text) {
                Some(word) => Some(Value::Word(word)),
                None => return or_kind(node, scalar, kind, inner, path, report),
            }
        }
        (Kind::Or(_, inner), _) if takes_blocks(inner) => return read(node, inner, path, report),
        (_, Content::Scalar(scalar)) if scalar.style == Style::Broken => None,
        (Kind::Either(Kind::Word(words), _), Content::Scalar(scalar)) => {
            let word = words.iter().find(|word| **word == scalar.text);
            if word.is_none() {
                let meant =
                    suggest::nearest(&scalar.text, words.iter().copied()).map(str::to_owned);
                mismatch_meaning(node, kind, meant, path, report);
            }
            word.map(|word| Value::Word(word))
        }
        (Kind::Either(single, _), Content::Scalar(_)) => return read(node, single, path, report),
        (Kind::Either(_, other), _) if fits(other, &node.content) => {
            return read(node, other, path, report);
        }
        (Kind::Switch(_), Content::Scalar(scalar)) if scalar.text == "off" => {
            Some(Value::Word("off"))
        }
        (Kind::Block(inner) | Kind::Switch(inner), Content::Map(_)) => {
            block(node, inner, path, report).map(|fields| Value::Block(Arc::new(fields)))
        }
        (Kind::Named(inner), Content::Map(entries)) => {
            let named = entries.iter().map(|(key, value)| {
                let path = Path::Key(&path, &key.text);
                if let Err(complaint) = (text::NAME.check)(&key.text) {
                    complain(Some(&key.place), path, complaint, report);
                }
                (
                    text::shared(&key.text),
                    read_block(value, inner, path, report),
                )
            });
            Some(Value::Map(named.collect()))
        }
        (Kind::Map(of, names), Content::Map(entries)) => {
            let values = entries.iter().map(|(key, value)| {
                let path = Path::Key(&path, &key.text);
                if let Err(complaint) = (names.check)(&key.text) {
                    complain(Some(&key.place), path, complaint, report);
                }
                (text::shared(&key.text), read(value, of, path, report))
            });
            Some(Value::Map(values.collect()))
        }
        (Kind::List { of, min }, Content::List(items)) => {
            if items.len() < *min {
                report.add(
                    Some(&node.place),
                    &path.to_string(),
                    "the list is empty: it needs at least one entry",
                );
            }
            let items = items
                .iter()
                .enumerate()
                .map(|(index, item)| read(item, of, Path::Index(&path, index), report));
            Some(Value::List(Arc::new(items.collect())))
        }
        (_, Content::Scalar(scalar)) if !scalar.is_nothing() => {
            scalar_value(node, scalar, kind, path, report)
        }
        _ => {
            mismatch(node, kind, path, report);
            None
        }
    };
    Setting {
        value: value.unwrap_or(Value::Broken),
        origin,
    }
}

/// As [`read`], for a block that is known to be one.
fn read_block(node: &Node, inner: &'static Block, path: Path<'_>, report: &mut Report) -> Setting {
    let fields = block(node, inner, path, report);
    let value = fields.map_or(Value::Broken, |fields| Value::Block(Arc::new(fields)));
    Setting {
        value,
        origin: origin(node),
    }
}

/// A scalar that is none of the words: the other kind, or a word mistyped.
fn or_kind(
    node: &Node,
    scalar: &Scalar,
    kind: &'static Kind,
    inner: &'static Kind,
    path: Path<'_>,
    report: &mut Report,
) -> Setting {
    let Kind::Or(words, _) = kind else {
        return read(node, inner, path, report);
    };
    if takes_blocks(inner) || scalar.is_nothing() {
        mismatch(node, kind, path, report);
        return Setting::broken(origin(node));
    }
    let meant = suggest::nearest(&scalar.text, words.iter().copied());
    let looks_like_word = !scalar.text.starts_with(|c: char| c.is_ascii_digit());
    match (inner, meant) {
        (Kind::Text(_), _) => read(node, inner, path, report),
        _ if looks_like_word => {
            mismatch_meaning(node, kind, meant.map(str::to_owned), path, report);
            Setting::broken(origin(node))
        }
        _ => read(node, inner, path, report),
    }
}

fn takes_blocks(kind: &Kind) -> bool {
    matches!(kind, Kind::List { .. } | Kind::Block(_))
}

fn fits(kind: &Kind, content: &Content) -> bool {
    match content {
        Content::List(_) => matches!(kind, Kind::List { .. }),
        Content::Map(_) => matches!(kind, Kind::Block(_) | Kind::Map(..)),
        Content::Scalar(_) => false,
    }
}

/// Who set a value that is in the file.
fn origin(node: &Node) -> Origin {
    match &node.content {
        Content::Scalar(Scalar {
            style: Style::Replaced(Some(name)),
            ..
        }) => Origin::Environment {
            name: name.clone(),
            place: Some(node.place.clone()),
        },
        Content::Scalar(_) | Content::List(_) | Content::Map(_) => {
            Origin::Written(node.place.clone())
        }
    }
}

/// Reads a text as what the kind asks for.
fn scalar_value(
    node: &Node,
    scalar: &Scalar,
    kind: &'static Kind,
    path: Path<'_>,
    report: &mut Report,
) -> Option<Value> {
    let text = scalar.text.as_str();
    let number_allowed = scalar.style != Style::Quoted;
    let within = |holds: bool, value: Value| {
        if holds {
            Ok(value)
        } else {
            Err(out_of_range(kind, text))
        }
    };
    let read = match kind {
        Kind::Duration { min_ms } => match units::parse_duration(text) {
            Some(time) => within(
                time.as_micros() >= u128::from(*min_ms) * 1_000,
                Value::Duration(time),
            ),
            None => Err(not_read(kind, node, units::suggest_duration(text))),
        },
        Kind::Size { min, max } => match units::parse_size(text) {
            Some(bytes) => within((*min..=*max).contains(&bytes), Value::Size(bytes)),
            None => Err(not_read(kind, node, units::suggest_size(text))),
        },
        Kind::Share { zero, max } => match units::parse_share(text) {
            Some(share) => within(share <= *max && (*zero || share > 0.0), Value::Share(share)),
            None => Err(not_read(kind, node, units::suggest_share(text))),
        },
        Kind::Count { min, max } => match text.parse::<u64>() {
            Ok(count) if number_allowed => {
                within((*min..=*max).contains(&count), Value::Count(count))
            }
            _ if number_allowed && units::parse_number(text.trim_start_matches('-')).is_some() => {
                Err(out_of_range(kind, text))
            }
            parsed => Err(not_read(
                kind,
                node,
                parsed.ok().map(|count| count.to_string()),
            )),
        },
        Kind::Number { min, max } => match units::parse_number(text) {
            Some(number) if number_allowed => {
                within(number >= *min && number <= *max, Value::Number(number))
            }
            _ if number_allowed && units::parse_number(text.trim_start_matches('-')).is_some() => {
                Err(out_of_range(kind, text))
            }
            parsed => Err(not_read(kind, node, parsed.map(units::write_number))),
        },
        Kind::Bool => match text {
            "true" if number_allowed => Ok(Value::Bool(true)),
            "false" if number_allowed => Ok(Value::Bool(false)),
            "yes" | "on" | "True" | "TRUE" | "true" => {
                Err(not_read(kind, node, Some("true".to_owned())))
            }
            "no" | "off" | "False" | "FALSE" | "false" => {
                Err(not_read(kind, node, Some("false".to_owned())))
            }
            _ => Err(not_read(kind, node, None)),
        },
        Kind::Word(words) => word(words, text, kind, node),
        Kind::Text(rules) => (rules.check)(text).map(|()| Value::Text(text::shared(text))),
        Kind::List { .. } => Err(not_read(kind, node, Some(format!("[{text}]")))),
        Kind::Or(..)
        | Kind::Map(..)
        | Kind::Block(_)
        | Kind::Switch(_)
        | Kind::Named(_)
        | Kind::Either(..)
        | Kind::Later(_) => Err(not_read(kind, node, None)),
    };
    read.map_err(|complaint| complain(Some(&node.place), path, complaint, report))
        .ok()
}

fn word(words: &[&'static str], text: &str, kind: &Kind, node: &Node) -> Result<Value, Complaint> {
    match words.iter().find(|word| **word == text) {
        Some(word) => Ok(Value::Word(word)),
        None => Err(not_read(
            kind,
            node,
            suggest::nearest(text, words.iter().copied()).map(str::to_owned),
        )),
    }
}

fn not_read(kind: &Kind, node: &Node, meant: Option<String>) -> Complaint {
    let message = format!("expected {}, found {}", kind.expected(), found(node));
    if let (true, Content::Scalar(scalar)) = (takes_off(kind), &node.content) {
        let help = match scalar.text.as_str() {
            "false" => {
                "did you mean `off`? A tool that reads YAML 1.1, such as Helm, makes `false` of an unquoted `off`"
            }
            "no" | "none" | "disabled" | "disable" => "did you mean `off`?",
            _ if is_list(kind) => "each entry of a list begins with `- `",
            _ if scalar.is_nothing() => {
                "leave the key out, or write `{}` for a block with its defaults"
            }
            _ => "write `{}` for a block with its defaults",
        };
        return Complaint {
            message,
            help: Some(help.to_owned()),
        };
    }
    match meant {
        Some(meant) => Complaint::meant(message, &meant),
        None => Complaint::new(message),
    }
}

fn is_list(kind: &Kind) -> bool {
    if let Kind::Or(_, inner) = kind {
        return is_list(inner);
    }
    matches!(kind, Kind::List { .. })
}

fn takes_off(kind: &Kind) -> bool {
    if let Kind::Or(words, inner) = kind {
        return words.contains(&"off") && takes_blocks(inner);
    }
    matches!(kind, Kind::Switch(_))
}

/// What is said of a value that can be read, but not be.
fn out_of_range(kind: &Kind, text: &str) -> Complaint {
    let message = match kind {
        Kind::Duration { min_ms } => format!("`{text}` is too short: at least {min_ms}ms"),
        Kind::Size { min, max: u64::MAX } => format!(
            "`{text}` is too small: at least {}",
            units::write_size(*min)
        ),
        Kind::Size { min, max } => {
            format!(
                "`{text}` is out of range: from {} to {}",
                units::write_size(*min),
                units::write_size(*max)
            )
        }
        Kind::Share { zero, max } => {
            let least = if *zero { "from 0%" } else { "above 0%" };
            format!(
                "`{text}` is out of range: {least} to {}",
                units::write_share(*max)
            )
        }
        Kind::Count { .. }
        | Kind::Number { .. }
        | Kind::Bool
        | Kind::Word(_)
        | Kind::Text(_)
        | Kind::Or(..)
        | Kind::List { .. }
        | Kind::Map(..)
        | Kind::Block(_)
        | Kind::Switch(_)
        | Kind::Named(_)
        | Kind::Either(..)
        | Kind::Later(_) => format!("`{text}` is out of range: {}", kind.expected()),
    };
    Complaint::new(message)
}

/// What a node is, as a sentence says it.
fn found(node: &Node) -> String {
    match &node.content {
        Content::Scalar(scalar) if scalar.is_nothing() => "nothing".to_owned(),
        Content::Scalar(scalar) => {
            let shown: String = scalar.text.chars().take(60).collect();
            let dots = if shown.len() < scalar.text.len() {
                "…"
            } else {
                ""
            };
            let quoted = if scalar.style == Style::Quoted {
                "the text "
            } else {
                ""
            };
            let origin = match &scalar.style {
                Style::Replaced(Some(name)) => format!(", from the environment's {name}"),
                Style::Replaced(None) | Style::Plain | Style::Quoted | Style::Broken => {
                    String::new()
                }
            };
            format!("{quoted}`{}{dots}`{origin}", shown.escape_debug())
        }
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "a block of keys".to_owned(),
    }
}

fn mismatch(node: &Node, kind: &Kind, path: Path<'_>, report: &mut Report) {
    mismatch_meaning(node, kind, None, path, report);
}

fn mismatch_meaning(
    node: &Node,
    kind: &Kind,
    meant: Option<String>,
    path: Path<'_>,
    report: &mut Report,
) {
    let mut complaint = not_read(kind, node, meant);
    let nothing = matches!(&node.content, Content::Scalar(scalar) if scalar.is_nothing());
    if nothing && !takes_off(kind) {
        let help = if matches!(kind, Kind::Block(_)) {
            "leave the key out, or write `{}` for a block with its defaults"
        } else {
            "leave the key out, or give it a value"
        };
        complaint.help = Some(help.to_owned());
    }
    if matches!((&node.content, kind), (Content::Map(_), Kind::List { .. })) {
        complaint.help = Some("each entry of a list begins with `- `".to_owned());
    }
    if let (Content::Scalar(scalar), Kind::List { .. }, false) = (&node.content, kind, nothing) {
        complaint = Complaint::meant(complaint.message, &format!("[{}]", scalar.text));
    }
    complain(Some(&node.place), path, complaint, report);
}

fn complain(place: Option<&Place>, path: Path<'_>, complaint: Complaint, report: &mut Report) {
    let path = path.to_string();
    match complaint.help {
        Some(help) => report.add_with_help(place, &path, complaint.message, help),
        None => report.add(place, &path, complaint.message),
    }
}

fn unknown_key(
    name: &str,
    place: &Place,
    block: &'static Block,
    path: Path<'_>,
    report: &mut Report,
) {
    let known: Vec<&str> = block
        .keys()
        .filter(|key| !matches!(key.kind, Kind::Later(_)))
        .map(|key| key.name)
        .collect();
    let message = format!("the key `{name}` is unknown here");
    let help = if name == "<<" {
        "merge keys are not part of YAML 1.2; `defaults` is inherited by every upstream".to_owned()
    } else if let Some(near) = suggest::nearest(name, known.iter().copied()) {
        format!("did you mean `{near}`?")
    } else if let Some(inside) = block.keys().find(|key| {
        key.kind
            .block()
            .is_some_and(|inner| inner.key(name).is_some())
    }) {
        format!("`{name}` belongs in `{}`", inside.name)
    } else {
        format!("known here: {}", known.join(", "))
    };
    report.add_with_help(Some(place), &path.to_string(), message, help);
}
