//! What is counted: each case is a configuration, a request, and what the endpoints answer.

/// The policies, each as it is turned on.
const POLICIES: &[(&str, &str)] = &[
    (
        "timeouts",
        "timeouts: { connect: 1s, request: 15s, try: 2s, idle: 5m }",
    ),
    ("retry", "retry: {}"),
    ("circuit_breaker", "circuit_breaker: {}"),
    (
        "bulkhead",
        "bulkhead: { max_in_flight: 1000, max_connections: 1000, max_queue: 100 }",
    ),
    (
        "rate_limit",
        "rate_limit: { per_second: 100000, burst: 1000 }",
    ),
    (
        "fallback",
        "fallback: [{ on: [any], respond: { status: 503, body: unavailable } }]",
    ),
];

/// What a client asks for, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// A GET that is answered with 64 bytes.
    Get64,
    /// The same with as many headers as browsers and services send, both ways.
    Get64ManyHeaders,
    /// The first over HTTP/2.
    Get64Http2,
    /// A POST with 4 KiB, kept for another try: it is idempotent by its key.
    Post4k,
}

/// One thing to count.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) asks: Asks,
    /// Lines of the upstream's block.
    pub(crate) policies: String,
    /// Access lines are written, to where they are forgotten.
    pub(crate) access_log: bool,
    /// Every first try is answered with 503.
    pub(crate) retried: bool,
}

/// All of them, in the order of the kept figures.
pub(crate) fn all() -> Vec<Case> {
    let every: Vec<_> = POLICIES.iter().map(|(_, lines)| *lines).collect();
    let every = every.join("\n");
    let case = |name: &str, policies: &str| Case {
        name: name.to_owned(),
        asks: Asks::Get64,
        policies: policies.to_owned(),
        access_log: false,
        retried: false,
    };
    let mut cases = vec![
        case("get64_every_policy", &every),
        case("get64_pass_through", ""),
    ];
    let each = POLICIES.iter();
    cases.extend(each.map(|(name, lines)| case(&format!("get64_only_{name}"), lines)));
    cases.push(Case {
        asks: Asks::Get64ManyHeaders,
        ..case("get64_many_headers", &every)
    });
    cases.push(Case {
        access_log: true,
        ..case("get64_access_log", &every)
    });
    cases.push(Case {
        asks: Asks::Post4k,
        ..case("post4k_kept_for_replay", &every)
    });
    // Half of the tries fail, and that must not open a breaker, nor be too much for the budget.
    let patient = every
        .replace(
            "circuit_breaker: {}",
            "circuit_breaker: { failure_rate: none }",
        )
        .replace("retry: {}", "retry: { budget: { ratio: 100% } }");
    cases.push(Case {
        retried: true,
        ..case("get64_retried_once", &patient)
    });
    cases.push(Case {
        asks: Asks::Get64Http2,
        ..case("get64_http2_in", &every)
    });
    cases
}
