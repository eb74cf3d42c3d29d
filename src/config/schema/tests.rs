use std::sync::LazyLock;

use super::*;
use crate::config::node::{self, Content, Node, Style};
use crate::config::report::Report;
use crate::config::units;

/// A document as an editor sees it: YAML 1.2's core types, nothing replaced.
fn as_json(node: &Node) -> Json {
    match &node.content {
        Content::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, value)| (key.text.clone(), as_json(value)))
                .collect(),
        ),
        Content::List(items) => items.iter().map(as_json).collect(),
        Content::Scalar(scalar) if scalar.is_nothing() => Json::Null,
        Content::Scalar(scalar) => match (scalar.text.as_str(), &scalar.style) {
            ("true", Style::Plain) => json!(true),
            ("false", Style::Plain) => json!(false),
            (text, Style::Plain) => match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(number), _) => json!(number),
                (_, Ok(number)) if units::parse_number(text.trim_start_matches('-')).is_some() => {
                    json!(number)
                }
                _ => json!(text),
            },
            (text, _) => json!(text),
        },
    }
}

fn document(text: &str) -> Json {
    // Escaped, so that it stays as it is written.
    let text = text.replace("${", "$${");
    let mut report = Report::default();
    as_json(&node::parse(&"document".into(), &text, &|_| None, &mut report).unwrap())
}

fn errors(text: &str) -> Vec<String> {
    static VALIDATOR: LazyLock<jsonschema::Validator> =
        LazyLock::new(|| jsonschema::validator_for(&schema()).unwrap());
    VALIDATOR
        .iter_errors(&document(text))
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn the_schema_is_a_schema() {
    assert!(jsonschema::meta::is_valid(&schema()));
}

#[test]
fn schema_and_parser_agree_on_what_is_right() {
    let examples = [
        include_str!("../../../config/example.yaml"),
        include_str!("../../../config/reference.yaml"),
        include_str!("../tests/everything.yaml"),
    ];
    for example in examples {
        assert_eq!(errors(example), [""; 0]);
        let parsed = crate::config::parse("example.yaml", example, &|_| None);
        assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
    }
}

/// One mistake each, in the block that stands for `…`.
const WRONG: &[&str] = &[
    "unknown: 1",
    "service: { a: b }",
    "admin: 127.0.0.1:9901",
    "admin: { address: 8080 }",
    "admin: { adress: 127.0.0.1:9901 }",
    "runtime: { workers: all }",
    "runtime: { workers: 0 }",
    "runtime: { drain: 30 }",
    "runtime: { drain: soon }",
    "runtime: { drain: -1s }",
    "runtime: { max_connections: many }",
    "runtime: { max_connections: 2.5 }",
    "runtime: { max_connections: '5' }",
    "runtime: { dns: { servers: [] } }",
    "runtime: { dns: { servers: [dns.example.com] } }",
    "runtime: { kubernetes: { api: 10.0.0.1 } }",
    "runtime: { kubernetes: { namespace: shop } }",
    "errors: { format: json }",
    "errors: { documentation_url: docs }",
    "access_log: { destination: stdou }",
    "access_log: { keep: [all] }",
    "explain: on",
    "explain: { keep: 0 }",
    "explain: { slower_than: slow }",
    "tracing: {}",
    "tracing: { otlp: 127.0.0.1:4318 }",
    "tracing: { otlp: http://a, keep: { rest: 0.1 } }",
    "tracing: { otlp: http://a, headers: { 'a b': c } }",
    "defaults: { retry: true }",
    "defaults: { retry: { max_attempts: 0 } }",
    "defaults: { retry: { max_attempts: 101 } }",
    "defaults: { retry: { on: 503 } }",
    "defaults: { retry: { methods: [get] } }",
    "defaults: { retry: { methods: none } }",
    "defaults: { retry: { max_body: 64K } }",
    "defaults: { retry: { respect_retry_after: yes } }",
    "defaults: { retry: { budget: { ratio: 0.2 } } }",
    "defaults: { retry: { budget: none } }",
    "defaults: { retry: { by_class: { permanent: {} } } }",
    "defaults: { timeouts: { request: 5 } }",
    "defaults: { timeouts: 5s }",
    "defaults: { circuit_breaker: { failure_rate: 50 } }",
    "defaults: { circuit_breaker: { ignore: [6xx] } }",
    "defaults: { circuit_breaker: { when_all_open: fail } }",
    "defaults: { bulkhead: { max_in_flight: 0 } }",
    "defaults: { rate_limit: { per_second: fast } }",
    "defaults: { fallback: { on: [any], respond: {} } }",
    "defaults: { fallback: [{ respond: {} }] }",
    "defaults: { fallback: [{ on: [any] }] }",
    "defaults: { fallback: [{ on: [], respond: {} }] }",
    "defaults: { fallback: [{ on: [any], cache: {} }] }",
    "defaults: { fallback: [{ on: [any], respond: { status: 100 } }] }",
];

#[test]
fn schema_and_parser_agree_on_what_is_wrong() {
    let right = "listeners: { a: { address: '127.0.0.1:0', upstream: a } }\nupstreams: { a: { endpoints: [a:1] } }\n";
    assert_eq!(errors(right), [""; 0]);
    for wrong in WRONG {
        let text = format!("{right}{wrong}\n");
        assert!(!errors(&text).is_empty(), "the schema accepts {wrong}");
        assert!(
            crate::config::parse("wrong.yaml", &text, &|_| None).is_err(),
            "the parser accepts {wrong}"
        );
    }
    let without_listeners = "upstreams: { a: { endpoints: [a:1] } }\n";
    assert!(!errors(without_listeners).is_empty());
    for listener in [
        "{}",
        "{ address: a, upstream: 'b c' }",
        "{ address: '127.0.0.1:1', routes: [] }",
        "{ address: '127.0.0.1:1', routes: [{}] }",
        "{ address: '127.0.0.1:1', upstream: a, tls: {} }",
    ] {
        let text = format!("listeners: {{ a: {listener} }}\n{without_listeners}");
        assert!(!errors(&text).is_empty(), "the schema accepts {listener}");
        assert!(
            crate::config::parse("wrong.yaml", &text, &|_| None).is_err(),
            "the parser accepts {listener}"
        );
    }
}

/// Every value of a document, by its JSON pointer.
fn pointers(value: &Json, at: &str, found: &mut Vec<String>) {
    let mut below = |key: &str, inner: &Json| {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        pointers(inner, &at, found);
        found.push(at);
    };
    if let Some(map) = value.as_object() {
        map.iter().for_each(|(key, inner)| below(key, inner));
    }
    if let Some(list) = value.as_array() {
        list.iter()
            .enumerate()
            .for_each(|(index, inner)| below(&index.to_string(), inner));
    }
}

/// Fault 67: each key with a wrong type, and an unknown key in each block.
#[test]
fn fault_067_every_key_with_a_wrong_type_is_refused_by_both() {
    let right = document(include_str!("../tests/everything.yaml"));
    let mut all = Vec::new();
    pointers(&right, "", &mut all);
    assert!(all.len() > 150, "{}", all.len());
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for pointer in all {
        for wrong in [json!([[]]), json!({ "no such key": [] })] {
            let mut document = right.clone();
            *document.pointer_mut(&pointer).unwrap() = wrong;
            assert!(
                !validator.is_valid(&document),
                "the schema accepts {pointer}"
            );
            let parsed = crate::config::parse("wrong.yaml", &document.to_string(), &|_| None);
            let problems = parsed.expect_err(&pointer);
            assert!(
                problems.0.iter().all(|problem| problem.place.is_some()),
                "{problems}"
            );
        }
    }
}
