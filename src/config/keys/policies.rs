//! The policy blocks, which `defaults`, upstreams and routes share.

use super::super::kind::{Block, Key, Kind, Preset};
use super::super::text;
use super::health::HEALTH_CHECK;
use super::{AT_LEAST_ONE, SHARE, TIME, TIME_OR_ZERO, block, key, optional, required};
use crate::policy::grpc::Code;

pub(super) const OR_NONE: &[&str] = &["none"];

/// A policy: off while it is absent.
const fn policy(name: &'static str, block: &'static Block, doc: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Switch(block),
        preset: Preset::Value("off"),
        doc,
    }
}

/// What upstreams inherit from `defaults`: how their endpoints are checked, and then the policies in the
/// order of a request's life.
pub(in crate::config) static OF_UPSTREAMS: &[Key] = &[
    policy(
        "health_check",
        &HEALTH_CHECK,
        "Endpoints are asked whether they work, over connections of their own. One that does not is left out, whatever its breaker says; a success closes no breaker.\n\
         While no endpoint has answered yet, requests go to those that were not found unhealthy. When all are unhealthy, requests are refused with no_endpoint, or sent anyway (circuit_breaker.when_all_open).\n\
         Not in a route.",
    ),
    policy("timeouts", &TIMEOUTS, "How long things may take."),
    policy("retry", &RETRY, "Trying again."),
    policy(
        "circuit_breaker",
        &CIRCUIT_BREAKER,
        "When an endpoint is left alone. One breaker per endpoint; the upstream's circuit is open when every endpoint's is.",
    ),
    policy(
        "bulkhead",
        &BULKHEAD,
        "How many requests may be under way at once, in the whole process, exact.",
    ),
    policy(
        "rate_limit",
        &RATE_LIMIT,
        "How many requests may come in a time: a token bucket. A route that sets it has its own.",
    ),
    Key {
        name: "fallback",
        kind: Kind::Or(
            &["off"],
            &Kind::List {
                of: &Kind::Block(&FALLBACK),
                min: 0,
            },
        ),
        preset: Preset::Value("[]"),
        doc: "What answers in place of a failure. In order; the first whose `on` holds.",
    },
];

/// Those that a route may set again.
pub(in crate::config) static POLICIES: &[Key] = OF_UPSTREAMS.split_at(1).1;

static TIMEOUTS: Block = block(
    "timeouts",
    &[
        key(
            "connect",
            Kind::Or(OR_NONE, &TIME),
            "1s",
            "Name and TCP of a new connection.",
        ),
        key(
            "request",
            Kind::Or(OR_NONE, &TIME),
            "15s",
            "From the first byte of the request to the head of the answer: queue, tries and backoffs included.",
        ),
        key(
            "try",
            Kind::Or(OR_NONE, &TIME),
            "none",
            "One try, from sending to the head of the answer.",
        ),
        key(
            "idle",
            Kind::Or(OR_NONE, &TIME),
            "5m",
            "No byte of body in either direction.",
        ),
    ],
);

static RETRY: Block = block(
    "retry",
    &[
        key(
            "max_attempts",
            ATTEMPTS,
            "3",
            "Tries in all; the first counts.",
        ),
        key(
            "on",
            Kind::List {
                of: &Kind::Text(&text::RETRY_CONDITION),
                min: 0,
            },
            "[connect_failure, reset, timeout, 502, 503, 504]",
            "What is worth another try: reasons, statuses, 5xx, retry_after, or what a gRPC call ended with, such as unavailable. A gRPC call is a POST: see methods.",
        ),
        key(
            "methods",
            Kind::Either(
                &Kind::Word(&["idempotent", "all"]),
                &Kind::List {
                    of: &Kind::Text(&text::METHOD),
                    min: 1,
                },
            ),
            "idempotent",
            "idempotent (GET HEAD OPTIONS TRACE PUT DELETE, and any with an Idempotency-Key) | all | a list.",
        ),
        key(
            "backoff",
            Kind::Block(&BACKOFF),
            "{}",
            "How long to wait before the next try.",
        ),
        key(
            "budget",
            Kind::Switch(&BUDGET),
            "{}",
            "The share of traffic that may be retries. off: no bound.",
        ),
        key(
            "respect_retry_after",
            Kind::Bool,
            "true",
            "Whether the upstream's retry-after sets the wait.",
        ),
        key(
            "max_retry_after",
            TIME_OR_ZERO,
            "10s",
            "A longer one ends the tries at once, and the answer is passed on.",
        ),
        key(
            "max_body",
            Kind::Size {
                min: 0,
                max: 64 << 20,
            },
            "64KiB",
            "Request bytes that are kept for another try.",
        ),
        key(
            "by_class",
            Kind::Block(&BY_CLASS),
            "{}",
            "Rules of their own for classes of failure; what they do not set is as above.",
        ),
    ],
);

const ATTEMPTS: Kind = Kind::Count { min: 1, max: 100 };

/// How long to wait between tries.
static BACKOFF: Block = block(
    "backoff",
    &[
        key(
            "kind",
            Kind::Word(&["exponential", "linear", "fixed"]),
            "exponential",
            "exponential | linear | fixed",
        ),
        key(
            "base",
            TIME_OR_ZERO,
            "25ms",
            "The first wait; then base×2, base×4 … (linear: base×2, base×3 …).",
        ),
        key("max", TIME_OR_ZERO, "1s", "The longest wait."),
        key(
            "jitter",
            Kind::Word(&["full", "equal", "none"]),
            "full",
            "full: from nothing to the wait | equal: from half of it | none",
        ),
    ],
);

/// A backoff whose absent keys are those of the block around it.
static CLASS_BACKOFF: Block = block(
    "class_backoff",
    &[
        optional(
            "kind",
            Kind::Word(&["exponential", "linear", "fixed"]),
            "exponential",
            "As in `retry.backoff`.",
        ),
        optional("base", TIME_OR_ZERO, "25ms", "As in `retry.backoff`."),
        optional("max", TIME_OR_ZERO, "1s", "As in `retry.backoff`."),
        optional(
            "jitter",
            Kind::Word(&["full", "equal", "none"]),
            "full",
            "As in `retry.backoff`.",
        ),
    ],
);

static CLASS_RULE: Block = block(
    "class_rule",
    &[
        optional(
            "max_attempts",
            ATTEMPTS,
            "2",
            "Tries in all. Default: the one above.",
        ),
        optional(
            "backoff",
            Kind::Block(&CLASS_BACKOFF),
            "{ base: 500ms }",
            "Default: the one above, key by key.",
        ),
    ],
);

static BY_CLASS: Block = block(
    "by_class",
    &[
        optional(
            "transient",
            Kind::Block(&CLASS_RULE),
            "{ max_attempts: 3 }",
            "Broken connections, 502, 503.",
        ),
        optional(
            "timeout",
            Kind::Block(&CLASS_RULE),
            "{ max_attempts: 2 }",
            "Our timeouts, 504.",
        ),
        optional(
            "rate_limited",
            Kind::Block(&CLASS_RULE),
            "{ backoff: { base: 1s, max: 5s } }",
            "429.",
        ),
        optional(
            "unavailable",
            Kind::Block(&CLASS_RULE),
            "{ max_attempts: 2 }",
            "Refused before it was sent.",
        ),
    ],
);

static BUDGET: Block = block(
    "budget",
    &[
        key(
            "ratio",
            Kind::Share {
                zero: true,
                max: 10.0,
            },
            "20%",
            "Retries per original request.",
        ),
        key(
            "min_per_second",
            Kind::Number {
                min: 0.0,
                max: 1_000_000.0,
            },
            "3",
            "Retries that are always allowed, so that low traffic can retry at all.",
        ),
        key(
            "window",
            TIME,
            "10s",
            "How long an original request counts.",
        ),
    ],
);

static CIRCUIT_BREAKER: Block = block(
    "circuit_breaker",
    &[
        key(
            "consecutive_failures",
            Kind::Or(OR_NONE, &AT_LEAST_ONE),
            "5",
            "Failures in a row. `none` switches a trigger off.",
        ),
        key(
            "failure_rate",
            Kind::Or(OR_NONE, &SHARE),
            "50%",
            "Share of failures in the window, with at least `min_requests`.",
        ),
        key(
            "slow_rate",
            Kind::Or(OR_NONE, &SHARE),
            "none",
            "Share of calls slower than `slow_call`.",
        ),
        key(
            "slow_call",
            Kind::Or(OR_NONE, &TIME),
            "none",
            "From when on a call is slow.",
        ),
        key(
            "peer_deviation",
            Kind::Or(
                OR_NONE,
                &Kind::Number {
                    min: 0.1,
                    max: 10.0,
                },
            ),
            "none",
            "Standard deviations below the mean success rate of its peers (5 endpoints or more).",
        ),
        key("window", TIME, "30s", "How long a call counts."),
        key(
            "min_requests",
            AT_LEAST_ONE,
            "20",
            "Calls in the window below which no rate is taken.",
        ),
        key(
            "open_for",
            TIME,
            "30s",
            "How long it stays open; ×2 with each opening in a row, with jitter, up to `max_open_for`.",
        ),
        key(
            "max_open_for",
            TIME,
            "5m",
            "How long it stays open at most.",
        ),
        key(
            "probes",
            Kind::Count { min: 1, max: 1_000 },
            "3",
            "Half-open: so many calls at a time, so many successes to close.",
        ),
        key(
            "ramp",
            TIME_OR_ZERO,
            "0s",
            "After closing, the share of traffic grows to full in this time.",
        ),
        key(
            "max_open",
            SHARE,
            "50%",
            "Of the endpoints, how many may be open at once; at least one, and a single endpoint may open.",
        ),
        key(
            "when_all_open",
            Kind::Word(&["refuse", "send_anyway"]),
            "refuse",
            "refuse | send_anyway: what happens when every breaker is open, or every endpoint is unhealthy by its health checks.",
        ),
        key(
            "ignore",
            Kind::List {
                of: &Kind::Text(&text::IGNORABLE),
                min: 0,
            },
            "[]",
            "Statuses, such as 503 or 5xx, and gRPC codes, such as unknown, that are no failure. 1xx to 4xx, 501 and 505 are none anyway; of the codes only unavailable, deadline_exceeded, internal, unknown and data_loss are.",
        ),
    ],
);

static BULKHEAD: Block = block(
    "bulkhead",
    &[
        key(
            "max_in_flight",
            Kind::Or(OR_NONE, &AT_LEAST_ONE),
            "100",
            "Requests, until the last byte of the answer.",
        ),
        key(
            "max_connections",
            Kind::Or(OR_NONE, &AT_LEAST_ONE),
            "none",
            "Open connections to the upstream; not in a route. At the limit an idle one is taken, else the request is refused;\n\
             over HTTP/2 it waits for a stream as long as for a connection.",
        ),
        key(
            "max_queue",
            Kind::Count {
                min: 0,
                max: 1_000_000,
            },
            "0",
            "Requests waiting for a place.",
        ),
        key("queue_timeout", TIME, "100ms", "How long one may wait."),
    ],
);

static RATE_LIMIT: Block = block(
    "rate_limit",
    &[
        key(
            "per_second",
            Kind::Number {
                min: 0.001,
                max: 10_000_000.0,
            },
            "100",
            "Requests per second.",
        ),
        key(
            "burst",
            Kind::Number {
                min: 1.0,
                max: 10_000_000.0,
            },
            "20",
            "Requests that may come at once.",
        ),
    ],
);

static FALLBACK: Block = block(
    "fallback",
    &[
        required(
            "on",
            Kind::Either(
                &Kind::Word(&["any"]),
                &Kind::List {
                    of: &Kind::Text(&text::FALLBACK_CONDITION),
                    min: 1,
                },
            ),
            "[breaker_open, timeout, 5xx]",
            "Reasons, statuses, 5xx, what a gRPC call ended with, such as unavailable, or `any`.",
        ),
        required(
            "respond",
            Kind::Block(&RESPOND),
            "{ status: 503 }",
            "The answer.",
        ),
        later("upstream"),
        later("cache"),
        later("stale"),
    ],
);

const fn later(name: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Later(
            "this kind of fallback is not there yet: `respond` is the only one in this release",
        ),
        preset: Preset::Absent { example: "" },
        doc: "",
    }
}

static RESPOND: Block = block(
    "respond",
    &[
        optional(
            "grpc_status",
            Kind::Word(&Code::NAMES),
            "unavailable",
            "What a gRPC call ends with. An answer with it is for gRPC calls only, one without it for other requests only: list one of each where a route has both. With `ok` the body is the message, in protobuf's bytes and without a frame (none: a message with nothing set); else it is the words, and the status is not used.",
        ),
        key(
            "status",
            Kind::Count { min: 200, max: 599 },
            "200",
            "The status.",
        ),
        key(
            "headers",
            Kind::Map(&Kind::Text(&text::VALUE), &text::HEADER_NAME),
            "{}",
            "Headers by name.",
        ),
        optional(
            "body",
            Kind::Text(&text::ANY),
            "'{\"recommendations\": []}'",
            "The body. Default: none.",
        ),
        optional(
            "body_file",
            Kind::Text(&text::ANY),
            "fallback.json",
            "A file with the body, relative to this file's folder.",
        ),
    ],
);
