//! The keys of listeners and their routes.

use super::super::kind::{Block, Key, Kind, Preset};
use super::super::text;
use super::policies::POLICIES;
use super::{AT_LEAST_ONE, PROTOCOLS, TIME, block, key, optional, required};

pub(super) static LISTENER: Block = block(
    "listener",
    &[
        required(
            "address",
            Kind::Text(&text::LISTEN_ADDRESS),
            "127.0.0.1:8080",
            "127.0.0.1:8080 or [::1]:8080; port 0 lets the system choose.",
        ),
        key(
            "role",
            Kind::Word(&["outbound", "inbound"]),
            "outbound",
            "outbound: our service calls others through it, and its control headers are trusted.\n\
             inbound: others call our service through it; x-mamparo-* control headers are stripped, and it is drained first.",
        ),
        key(
            "protocol",
            PROTOCOLS,
            "auto",
            "auto (what the client begins with, or agrees on by ALPN) | http1 | http2 (in plaintext with prior knowledge).",
        ),
        optional(
            "tls",
            Kind::Block(&LISTENER_TLS),
            "{ cert: tls.crt, key: tls.key, client_ca: ca.crt }",
            "Clients come under TLS. Files are watched.",
        ),
        key(
            "original_dst",
            Kind::Bool,
            "false",
            "true: connections were redirected here by iptables; the system knows where they were going.",
        ),
        key(
            "unmatched",
            Kind::Word(&["refuse", "pass"]),
            "refuse",
            "What becomes of a redirected request that no route matches: refuse (no_route) | pass (it goes where it was going, untouched; needs `original_dst`).",
        ),
        key(
            "timeouts",
            Kind::Block(&LISTENER_TIMEOUTS),
            "{}",
            "Against slow clients.",
        ),
        key(
            "limits",
            Kind::Block(&LIMITS),
            "{}",
            "Against large requests.",
        ),
        optional(
            "upstream",
            Kind::Text(&text::NAME),
            "payments",
            "The only upstream. A listener has either this or `routes`.",
        ),
        optional(
            "routes",
            Kind::List {
                of: &Kind::Block(&ROUTE),
                min: 1,
            },
            "[{ upstream: payments }]",
            "The first route that matches wins.",
        ),
    ],
);

static LISTENER_TLS: Block = block(
    "listener_tls",
    &[
        required(
            "cert",
            Kind::Text(&text::ANY),
            "tls.crt",
            "The certificate with its chain, PEM.",
        ),
        required("key", Kind::Text(&text::ANY), "tls.key", "Its key, PEM."),
        optional(
            "client_ca",
            Kind::Text(&text::ANY),
            "ca.crt",
            "Who signs the clients' certificates, PEM. Given, every client needs one.",
        ),
    ],
);

static LISTENER_TIMEOUTS: Block = block(
    "listener_timeouts",
    &[
        key(
            "header",
            TIME,
            "10s",
            "How long a client may take over the head of a request.",
        ),
        key(
            "idle",
            TIME,
            "60s",
            "How long a client's connection may lie idle between requests.",
        ),
    ],
);

static LIMITS: Block = block(
    "limits",
    &[
        key(
            "header_size",
            Kind::Size {
                min: 8 << 10,
                max: 16 << 20,
            },
            "64KiB",
            "Bytes of a request's head.",
        ),
        key(
            "headers",
            Kind::Count {
                min: 1,
                max: 10_000,
            },
            "100",
            "Header lines of a request.",
        ),
        key(
            "body_size",
            Kind::Or(
                &["none"],
                &Kind::Size {
                    min: 1,
                    max: u64::MAX,
                },
            ),
            "none",
            "Bytes of a request's body.",
        ),
        key(
            "connections",
            Kind::Or(&["none"], &AT_LEAST_ONE),
            "none",
            "Open connections from clients, beside the process's runtime.max_connections.",
        ),
        key(
            "streams",
            AT_LEAST_ONE,
            "100",
            "Requests at a time on one HTTP/2 connection.",
        ),
    ],
);

static ROUTE: Block = Block {
    name: "route",
    keys: &[
        optional(
            "name",
            Kind::Text(&text::NAME),
            "charges",
            "The label in metrics and logs. Default: the upstream's name, then upstream.2, upstream.3 …",
        ),
        key(
            "match",
            Kind::Block(&MATCH),
            "{}",
            "What a request must have: all that is given. Nothing given matches everything.",
        ),
        required(
            "upstream",
            Kind::Text(&text::NAME),
            "payments",
            "Where the request goes.",
        ),
        key(
            "rewrite",
            Kind::Block(&REWRITE),
            "{}",
            "What is changed on the way.",
        ),
        Key {
            name: "health_check",
            kind: Kind::Later(
                "endpoints are checked for the whole upstream, whatever the route: set `health_check` at the upstream",
            ),
            preset: Preset::Absent { example: "" },
            doc: "",
        },
    ],
    shared: POLICIES,
};

static MATCH: Block = block(
    "match",
    &[
        optional(
            "host",
            Kind::Text(&text::HOST_PATTERN),
            "payments.internal",
            "The host without its port, or *.internal for all below.",
        ),
        optional(
            "path",
            Kind::Text(&text::PATH),
            "/v1/charges",
            "The whole path. At most one of path, path_prefix, path_regex.",
        ),
        optional(
            "path_prefix",
            Kind::Text(&text::PATH),
            "/v1/charges",
            "The path or what lies below it, by whole segments.",
        ),
        optional(
            "path_regex",
            Kind::Text(&text::REGEX),
            "/v[0-9]+/charges",
            "An expression that matches the whole path.",
        ),
        key(
            "methods",
            Kind::List {
                of: &Kind::Text(&text::METHOD),
                min: 0,
            },
            "[]",
            "Any of these; none given is any method.",
        ),
        key(
            "headers",
            Kind::Map(&VALUE_PATTERN, &text::HEADER_NAME),
            "{}",
            "Headers by name: a value, or { present: true }, or { regex: … } for the whole value.",
        ),
        key(
            "query",
            Kind::Map(&VALUE_PATTERN, &text::PARAMETER),
            "{}",
            "Query parameters by name, in the same three forms.",
        ),
    ],
);

const VALUE_PATTERN: Kind = Kind::Either(&Kind::Text(&text::VALUE), &Kind::Block(&PATTERN));

static PATTERN: Block = block(
    "pattern",
    &[
        optional(
            "present",
            Kind::Bool,
            "true",
            "Any value, even an empty one.",
        ),
        optional(
            "regex",
            Kind::Text(&text::REGEX),
            "[a-z]+",
            "An expression that matches the whole value.",
        ),
    ],
);

static REWRITE: Block = block(
    "rewrite",
    &[
        optional(
            "path_prefix",
            Kind::Text(&text::PATH),
            "/",
            "Takes the place of the `path_prefix` that matched.",
        ),
        optional(
            "host",
            Kind::Text(&text::HOST_VALUE),
            "payments.prod",
            "Takes the place of the `host` header.",
        ),
    ],
);
