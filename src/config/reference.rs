//! `config/reference.yaml`: every key with its default and the manual's sentence, written from the table
//! and compared with the file. After a change to the table, run the tests once with
//! `MAMPARO_WRITE_REFERENCE=1`.

use super::keys;
use super::kind::{Block, Key, Kind, Preset};
use super::*;

const HEAD: &str = "\
# Every key of a configuration, at its default.
#
# A policy block that is absent is off; a block that is present, even empty (`retry: {}`), has the defaults
# shown. Values: durations 250ms 30s 5m, sizes 512B 64KiB 1MiB, shares 20%; `none` is no limit, `off`
# switches an inherited block off. `${NAME}` and `${NAME:-default}` in a value are replaced from the
# environment. A line that is commented out has no default and shows an example.
";

/// Columns of a comment.
const WIDTH: usize = 110;

fn write(block: &'static Block, indent: usize, out: &mut String) {
    for key in block
        .keys
        .iter()
        .filter(|key| !matches!(key.kind, Kind::Later(_)))
    {
        write_key(key, indent, out);
    }
    if block.shared.is_empty() {
        return;
    }
    if block.name == "upstream" {
        block
            .shared
            .iter()
            .for_each(|key| write_key(key, indent, out));
    } else if block.name == "route" {
        comment(
            "Any policy block of an upstream may be set again here, key by key.",
            indent,
            out,
        );
    }
}

fn write_key(key: &'static Key, indent: usize, out: &mut String) {
    if indent == 0 {
        out.push('\n');
    }
    let off = if matches!(key.kind, Kind::Switch(_)) && key.preset == Preset::Value("off") {
        " Off while it is absent."
    } else {
        ""
    };
    comment(&format!("{}{off}", key.doc), indent, out);
    let pad = " ".repeat(indent);
    let name = key.name;
    match (&key.kind, key.preset) {
        (Kind::Named(inner), _) => {
            let example = if name == "listeners" {
                "outbound"
            } else {
                "payments"
            };
            out.push_str(&format!("{pad}{name}:\n{pad}  {example}:\n"));
            write(inner, indent + 4, out);
        }
        (
            Kind::List {
                of: Kind::Block(inner),
                ..
            },
            Preset::Absent { .. },
        ) => {
            let mut item = String::new();
            write(inner, indent + 4, &mut item);
            out.push_str(&format!("{pad}{name}:\n{}", as_item(&item, indent + 2)));
        }
        (
            Kind::Or(
                _,
                Kind::List {
                    of: Kind::Block(inner),
                    ..
                },
            ),
            Preset::Value(preset),
        ) => {
            out.push_str(&format!("{pad}{name}: {preset}\n"));
            let mut item = String::new();
            write(inner, 4, &mut item);
            for line in as_item(&item, 2).lines() {
                out.push_str(&format!("{pad}#{line}\n"));
            }
        }
        (Kind::Block(inner) | Kind::Switch(inner), Preset::Value(_) | Preset::Required { .. })
            if !inner.keys.is_empty() =>
        {
            let empty = inner
                .keys
                .iter()
                .all(|key| matches!(key.preset, Preset::Absent { .. }));
            out.push_str(&format!("{pad}{name}:{}\n", if empty { " {}" } else { "" }));
            write(inner, indent + 2, out);
        }
        (_, Preset::Value(value) | Preset::Required { example: value }) => {
            out.push_str(&format!("{pad}{name}: {value}\n"))
        }
        (_, Preset::Absent { example }) => out.push_str(&format!("{pad}# {name}: {example}\n")),
    }
}

/// Puts the dash of a list's entry before its first line that is no comment.
fn as_item(text: &str, indent: usize) -> String {
    let dash = format!("{}- ", " ".repeat(indent));
    format!("{dash}{}", text.trim_start())
}

fn comment(text: &str, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    for paragraph in text.lines() {
        let mut line = format!("{pad}#");
        for word in paragraph.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                out.push_str(&format!("{line}\n"));
                line = format!("{pad}#");
            }
            line.push(' ');
            line.push_str(word);
        }
        out.push_str(&format!("{line}\n"));
    }
}

fn reference() -> String {
    let mut out = HEAD.to_owned();
    write(&keys::ROOT, 0, &mut out);
    out
}

#[test]
fn the_reference_is_what_the_table_says() {
    let written = reference();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/reference.yaml");
    if std::env::var_os("MAMPARO_WRITE_REFERENCE").is_some() {
        std::fs::write(file, &written).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(
        kept == written,
        "config/reference.yaml is not what the table says: write it anew, see this test's file"
    );
}

/// The paths of a plan in which every block is present and empty.
const BLANK: &str = "
listeners: { outbound: { address: 127.0.0.1:8080, routes: [{ upstream: payments }] } }
upstreams:
  payments:
    endpoints: [127.0.0.1:9001, { address: 127.0.0.1:9002, weight: 2 }]
    health_check: {}
    timeouts: {}
    retry: {}
    circuit_breaker: {}
    bulkhead: {}
    rate_limit: {}
";

#[test]
fn every_default_that_is_shown_is_the_compiled_one() {
    let none = |_: &str| None;
    let shown = parse("reference.yaml", &reference(), &none)
        .map_err(|problems| problems.to_string())
        .unwrap();
    let blank = parse("blank.yaml", BLANK, &none)
        .map_err(|problems| problems.to_string())
        .unwrap();
    let values = |loaded: &Loaded| -> Vec<(String, String)> {
        let all = loaded
            .effective
            .iter()
            .map(|(path, entry)| (path.to_owned(), entry.value.clone()));
        all.filter(|(path, _)| path != "service").collect()
    };
    let (shown, blank) = (values(&shown), values(&blank));
    for (shown, blank) in shown.iter().zip(&blank) {
        assert_eq!(shown, blank);
    }
    assert_eq!(shown.len(), blank.len());
}

#[test]
fn every_key_of_the_schema_is_in_the_reference() {
    fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(properties) = schema
            .get("properties")
            .and_then(|properties| properties.as_object())
        {
            found.extend(properties.keys().cloned());
        }
        let below = schema.as_object().into_iter().flat_map(|map| map.values());
        let listed = schema.as_array().into_iter().flatten();
        below.chain(listed).for_each(|value| keys(value, found));
    }
    let (mut found, reference) = (Vec::new(), reference());
    keys(&schema(), &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for key in found {
        assert!(reference.contains(&format!("{key}:")), "{key}");
    }
}
