//! Policies are inherited key by key: from `defaults` by an upstream, from an upstream by a route.

use crate::support::{Client, Gate, Proxy, Reply, Upstream};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("defaults", defaults),
    ("defaults.timeouts", defaults),
    ("defaults.retry", defaults),
    ("defaults.circuit_breaker", defaults),
    ("defaults.bulkhead", defaults),
    ("defaults.rate_limit", defaults),
    ("defaults.fallback", defaults),
    ("upstream.timeouts", an_upstream_overrides),
    ("upstream.retry", an_upstream_overrides),
    ("upstream.circuit_breaker", an_upstream_overrides),
    ("upstream.bulkhead", an_upstream_overrides),
    ("upstream.rate_limit", an_upstream_overrides),
    ("upstream.fallback", an_upstream_overrides),
    ("route.timeouts", a_route_has_limits_of_its_own),
    ("route.retry", a_route_overrides),
    ("route.circuit_breaker", a_route_has_limits_of_its_own),
    ("route.bulkhead", a_route_without_seats),
    ("route.rate_limit", a_route_has_limits_of_its_own),
    ("route.fallback", a_route_overrides),
];

/// What can be seen of each policy that works as [`POLICIES`] say.
const WORKING: Seen = Seen {
    timeout_ms: Some(700),
    tries: 2,
    breaker: true,
    seats: Some(7),
    burst: Some(9.0),
    fallback: true,
};

const POLICIES: [(&str, &str); 6] = [
    ("timeouts", "{ request: 700ms }"),
    (
        "retry",
        "{ max_attempts: 2, backoff: { base: 0s }, budget: off }",
    ),
    ("circuit_breaker", "{ consecutive_failures: 50 }"),
    ("bulkhead", "{ max_in_flight: 7 }"),
    ("rate_limit", "{ per_second: 0.001, burst: 9 }"),
    ("fallback", "[{ on: [503], respond: { status: 203 } }]"),
];

#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    timeout_ms: Option<u64>,
    tries: usize,
    breaker: bool,
    seats: Option<usize>,
    burst: Option<f64>,
    fallback: bool,
}

/// The policies as YAML in flow style.
fn flow() -> String {
    POLICIES
        .map(|(name, text)| format!("{name}: {text}"))
        .join(", ")
}

/// Sends one request to an upstream that answers 503, and looks at everything.
#[track_caller]
fn look(proxy: &Proxy, upstream: &Upstream) -> Seen {
    let before = upstream.count();
    let answer = proxy.get("/");
    let left = upstream.last().header("x-mamparo-timeout-ms");
    let left: Option<u64> = left.map(|left| left.parse().unwrap());
    let state = proxy.upstream("u");
    Seen {
        timeout_ms: left.map(|left| if left <= 700 { 700 } else { left }),
        tries: upstream.count() - before,
        breaker: state.endpoints[0].window.is_some(),
        seats: state.bulkhead.and_then(|bulkhead| bulkhead.limit),
        burst: state.rate_limit.map(|limit| limit.burst),
        fallback: answer.status == 203,
    }
}

/// The same as it is seen with one policy off.
fn without(policy: &str) -> Seen {
    let mut seen = WORKING;
    match policy {
        "timeouts" => seen.timeout_ms = None,
        "retry" => seen.tries = 1,
        "circuit_breaker" => seen.breaker = false,
        "bulkhead" => seen.seats = None,
        "rate_limit" => seen.burst = None,
        "fallback" => seen.fallback = false,
        other => panic!("{other}"),
    }
    seen
}

fn yaml(upstream: &Upstream, defaults: &str, policies: &str) -> String {
    format!(
        "defaults: {{ {defaults} }}\n\
         listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], {policies} }} }}\n",
        upstream.address()
    )
}

#[test]
fn defaults() {
    let upstream = Upstream::always(503);
    let proxy = Proxy::start(&yaml(&upstream, &flow(), "critical: false"));
    assert_eq!(look(&proxy, &upstream), WORKING);
    // Absent is off: nothing limits traffic silently.
    let proxy = Proxy::start(&yaml(&upstream, "", "critical: false"));
    let nothing = Seen {
        timeout_ms: None,
        tries: 1,
        breaker: false,
        seats: None,
        burst: None,
        fallback: false,
    };
    assert_eq!(look(&proxy, &upstream), nothing);
}

#[test]
fn an_upstream_overrides() {
    let upstream = Upstream::always(503);
    let proxy = Proxy::start(&yaml(&upstream, "", &flow()));
    assert_eq!(look(&proxy, &upstream), WORKING);
    for (policy, _) in POLICIES {
        let proxy = Proxy::start(&yaml(&upstream, &flow(), &format!("{policy}: off")));
        assert_eq!(look(&proxy, &upstream), without(policy), "{policy}: off");
    }
    // Key by key: the rest of the block stays.
    let proxy = Proxy::start(&yaml(&upstream, &flow(), "retry: { max_attempts: 4 }"));
    let expected = Seen {
        tries: 4,
        ..WORKING
    };
    assert_eq!(look(&proxy, &upstream), expected);
    proxy.expect_metric("mamparo_retries_denied_total", &[("why", "attempts")], 1.0);
}

/// Sends one request over the route `/r`, and one past it; gives tries and status of both.
#[track_caller]
fn over_and_past(route: &str, policies: &str) -> [(usize, u16); 2] {
    let upstream = Upstream::always(503);
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    routes:\n      \
         - {{ match: {{ path: /r }}, upstream: u, {route} }}\n      - {{ upstream: u }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], {policies} }} }}\n",
        upstream.address()
    ));
    ["/r", "/"].map(|path| {
        let before = upstream.count();
        let status = proxy.get(path).status;
        (upstream.count() - before, status)
    })
}

#[test]
fn a_route_overrides() {
    let retry = "retry: { max_attempts: 2, backoff: { base: 0s }, budget: off }";
    assert_eq!(
        over_and_past("retry: { max_attempts: 3 }", retry),
        [(3, 503), (2, 503)]
    );
    assert_eq!(over_and_past("retry: off", retry), [(1, 503), (2, 503)]);
    let fallback = "fallback: [{ on: [503], respond: { status: 203 } }]";
    assert_eq!(
        over_and_past(fallback, "critical: false"),
        [(1, 203), (1, 503)]
    );
    assert_eq!(
        over_and_past("fallback: off", fallback),
        [(1, 503), (1, 203)]
    );
}

/// A route's own rate limit is not used up by the others, nor does it use up theirs; its own time,
/// breaker and seats are its own too.
#[test]
fn a_route_has_limits_of_its_own() {
    let upstream = Upstream::always(503);
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    routes:\n      \
         - {{ match: {{ path: /r }}, upstream: u, timeouts: {{ request: 700ms }}, \
             circuit_breaker: off, rate_limit: {{ burst: 2 }} }}\n      - {{ upstream: u }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], circuit_breaker: {{ consecutive_failures: 1 }}, \
         rate_limit: {{ per_second: 0.001, burst: 3 }} }} }}\n",
        upstream.address()
    ));
    assert_eq!(proxy.get("/").status, 503);
    assert_eq!(proxy.get("/").reason().as_deref(), Some("breaker_open"));
    // The route asks no breaker.
    for _ in 0..2 {
        assert_eq!(proxy.get("/r").reason(), None);
    }
    let left = upstream.last().header("x-mamparo-timeout-ms").unwrap();
    assert!(left.parse::<u64>().unwrap() <= 700);
    assert_eq!(proxy.get("/r").reason().as_deref(), Some("rate_limited"));
    assert_eq!(
        proxy.get("/").reason().as_deref(),
        Some("breaker_open"),
        "the third of three"
    );
    assert_eq!(proxy.get("/").reason().as_deref(), Some("rate_limited"));
}

#[test]
fn a_route_without_seats() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    routes:\n      \
         - {{ match: {{ path: /r }}, upstream: u, bulkhead: off }}\n      - {{ upstream: u }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], bulkhead: {{ max_in_flight: 1 }} }} }}\n",
        upstream.address()
    ));
    let mut waiting: Vec<Client> = ["/", "/r", "/r"]
        .iter()
        .enumerate()
        .map(|(before, path)| {
            let mut client = proxy.client();
            client.request("GET", path, &[], b"");
            upstream.wait_for(before + 1);
            client
        })
        .collect();
    assert_eq!(
        proxy.get("/").reason().as_deref(),
        Some("too_many_in_flight")
    );
    gate.open();
    for client in &mut waiting {
        assert_eq!(client.answer().status, 200);
    }
}
