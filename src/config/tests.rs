use super::*;

fn none(_: &str) -> Option<String> {
    None
}

const EXAMPLE: &str = include_str!("../../config/example.yaml");

#[test]
fn the_example_is_right() {
    let loaded = parse("example.yaml", EXAMPLE, &none)
        .map_err(|problems| problems.to_string())
        .unwrap();
    assert_eq!(loaded.plan.listeners.len(), 1);
    let effective = |path| loaded.effective.get(path).map(|entry| entry.value.as_str());
    assert_eq!(
        effective("upstreams.payments.retry.max_attempts"),
        Some("3")
    );
    assert_eq!(
        effective("listeners.outbound.routes[0].timeouts.try"),
        Some("500ms")
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let text = "runtime:\n  drian: 5s\n  drain: 5\nlisteners:\n  a: { address: 1, upstream: pay, roles: inbound }\nupstreams:\n  payments: { endpoints: [], retry: { max_attempts: 0, backoff: { base: 5s } } }\n";
    let problems = parse("bad.yaml", text, &none).unwrap_err();
    assert_eq!(problems.0.len(), 8, "{problems}");
}
