//! Every key of the configuration has a test that shows what it does.
//!
//! Each file below lists its keys as `(block.key, test)`; a block is named as in the JSON Schema, where
//! upstreams, routes and `defaults` share the policy blocks. A key that no list names fails the test
//! here, and so does a name that the schema does not know.

mod bulkhead;
mod circuit_breaker;
mod fallback;
mod health_check;
mod inherit;
mod kubernetes;
mod listener;
mod process;
mod retry;
mod routes;
mod timeouts;
mod tls;
mod tracing;
mod upstream;

use std::collections::BTreeSet;

/// Keys with the test of each.
type Keys = &'static [(&'static str, fn())];

const ALL: [Keys; 14] = [
    bulkhead::KEYS,
    circuit_breaker::KEYS,
    fallback::KEYS,
    health_check::KEYS,
    inherit::KEYS,
    kubernetes::KEYS,
    listener::KEYS,
    process::KEYS,
    retry::KEYS,
    routes::KEYS,
    timeouts::KEYS,
    tls::KEYS,
    tracing::KEYS,
    upstream::KEYS,
];

/// `block.key` for each key of the schema; those of the file itself have no block.
fn of_the_schema() -> BTreeSet<String> {
    let schema = mamparo::config::schema();
    let mut keys: BTreeSet<String> = properties(&schema).collect();
    for (block, definition) in schema["$defs"].as_object().unwrap() {
        keys.extend(properties(definition).map(|key| format!("{block}.{key}")));
    }
    keys
}

fn properties(of: &serde_json::Value) -> impl Iterator<Item = String> {
    let properties = of["properties"].as_object().into_iter();
    properties.flat_map(|all| all.keys().cloned())
}

#[test]
fn every_key_has_a_test() {
    let tested: BTreeSet<String> = ALL
        .iter()
        .flat_map(|keys| keys.iter().map(|(key, _)| (*key).to_owned()))
        .collect();
    let known = of_the_schema();
    let untested: Vec<_> = known.difference(&tested).collect();
    let unknown: Vec<_> = tested.difference(&known).collect();
    assert!(untested.is_empty(), "keys without a test: {untested:#?}");
    assert!(
        unknown.is_empty(),
        "tests of keys that are not there: {unknown:#?}"
    );
}
