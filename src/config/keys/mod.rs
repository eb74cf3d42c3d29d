//! Every key of the configuration: its name, what it holds, its default and what the manual says of it.
//! Nothing else in the program knows the set of keys or their defaults.

mod health;
mod kubernetes;
mod listeners;
mod policies;
mod tracing;

use super::kind::{Block, Key, Kind, Preset};
use super::text;

use listeners::LISTENER;
pub(super) use policies::{OF_UPSTREAMS, POLICIES};
use tracing::TRACING;

/// A share of all, above nothing.
const SHARE: Kind = Kind::Share {
    zero: false,
    max: 1.0,
};
/// A whole number from one on.
const AT_LEAST_ONE: Kind = Kind::Count {
    min: 1,
    max: 1_000_000,
};
/// A time that is not nothing.
const TIME: Kind = Kind::Duration { min_ms: 1 };
/// A time that may be nothing.
const TIME_OR_ZERO: Kind = Kind::Duration { min_ms: 0 };

const PROTOCOLS: Kind = Kind::Word(&["auto", "http1", "http2"]);

/// A key with a default.
const fn key(name: &'static str, kind: Kind, preset: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        preset: Preset::Value(preset),
        doc,
    }
}

/// A key that may be absent.
const fn optional(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        preset: Preset::Absent { example },
        doc,
    }
}

/// A key that must be there.
const fn required(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        preset: Preset::Required { example },
        doc,
    }
}

/// A block of its own keys.
const fn block(name: &'static str, keys: &'static [Key]) -> Block {
    Block {
        name,
        keys,
        shared: &[],
    }
}

/// The whole file.
pub(super) static ROOT: Block = block(
    "config",
    &[
        optional(
            "service",
            Kind::Text(&text::ONE_LINE),
            "orders",
            "The service that mamparo stands beside, as errors and logs name it. Default: the host name.",
        ),
        key(
            "admin",
            Kind::Block(&ADMIN),
            "{}",
            "The admin interface: health, metrics, status page.",
        ),
        key(
            "runtime",
            Kind::Block(&RUNTIME),
            "{}",
            "What concerns the process.",
        ),
        key(
            "errors",
            Kind::Block(&ERRORS),
            "{}",
            "How answers look that mamparo makes itself.",
        ),
        key(
            "access_log",
            Kind::Block(&ACCESS_LOG),
            "{}",
            "A line for each request.",
        ),
        key(
            "explain",
            Kind::Switch(&EXPLAIN),
            "{}",
            "Requests that failed, were retried, slow, or answered by a fallback are kept in memory with all that happened to them, as are those with x-mamparo-explain: 1 that come by an outbound listener. GET /api/v1/explain and `mamparo explain --id` show them. off: none.",
        ),
        optional(
            "tracing",
            Kind::Block(&TRACING),
            "{ otlp: http://127.0.0.1:4318, headers: { x-tenant: acme }, timeout: 10s, keep: { failed: 100%, slower_than: 1s, rest: 10% } }",
            "Spans of requests and of their tries, sent to a collector in OTLP over HTTP. Absent: trace context is passed on, and nothing is exported.",
        ),
        required(
            "listeners",
            Kind::Named(&LISTENER),
            "{ outbound: { address: 127.0.0.1:8080, upstream: payments } }",
            "Where requests come in, by name.",
        ),
        key(
            "defaults",
            Kind::Block(&DEFAULTS),
            "{}",
            "Any policy block of an upstream. Every upstream inherits it key by key; a list replaces a list.",
        ),
        key(
            "upstreams",
            Kind::Named(&UPSTREAM),
            "{}",
            "Where requests go, by name.",
        ),
    ],
);

static ADMIN: Block = block(
    "admin",
    &[
        key(
            "address",
            Kind::Text(&text::LISTEN_ADDRESS),
            "127.0.0.1:9901",
            "Where it listens; the environment's MAMPARO_ADMIN_ADDRESS overrides it. Not changed by a reload.",
        ),
        optional(
            "metrics_address",
            Kind::Text(&text::LISTEN_ADDRESS),
            "0.0.0.0:9902",
            "Where /metrics, /livez and /readyz are served once more, and nothing else: for a Prometheus and a kubelet\n\
             that are not on this host. The environment's MAMPARO_METRICS_ADDRESS overrides it. Not changed by a reload.",
        ),
    ],
);

static RUNTIME: Block = block(
    "runtime",
    &[
        key(
            "workers",
            Kind::Or(&["auto"], &Kind::Count { min: 1, max: 1_024 }),
            "auto",
            "Threads that serve requests. auto: the cgroup's CPU quota, else the cores. Not changed by a reload.",
        ),
        key(
            "drain",
            TIME_OR_ZERO,
            "30s",
            "How long requests in flight have after SIGTERM, and our service to end: outbound listeners go on until it has had no connection to them for 2 s.",
        ),
        key(
            "max_connections",
            AT_LEAST_ONE,
            "10000",
            "Connections from clients, in the whole process.",
        ),
        key("dns", Kind::Block(&DNS), "{}", "How names are resolved."),
        key(
            "kubernetes",
            Kind::Block(&kubernetes::API),
            "{}",
            "Where the API of Kubernetes is, for endpoints that are its services. In a pod, nothing of it needs to be set.",
        ),
    ],
);

static DNS: Block = block(
    "dns",
    &[optional(
        "servers",
        Kind::List {
            of: &Kind::Text(&text::DNS_SERVER),
            min: 1,
        },
        "[10.0.0.2, 127.0.0.1:5353]",
        "The servers that are asked, with their port where it is not 53. Default: those of the system, in /etc/resolv.conf.\n\
         Its search domains, and /etc/hosts, hold in any case.",
    )],
);

static ERRORS: Block = block(
    "errors",
    &[
        key(
            "format",
            Kind::Word(&["contract", "problem"]),
            "contract",
            "contract | problem (RFC 9457). A client that accepts application/problem+json always gets the latter.",
        ),
        optional(
            "documentation_url",
            Kind::Text(&text::URL),
            "https://docs.example.com/errors/{error_code}",
            "A link in each error; {error_code} is replaced.",
        ),
    ],
);

static ACCESS_LOG: Block = block(
    "access_log",
    &[
        key(
            "destination",
            Kind::Or(&["stdout", "stderr", "off"], &Kind::Text(&text::FILE)),
            "stdout",
            "stdout | stderr | off | a file, with at least one slash: ./access.log",
        ),
        key(
            "keep",
            Kind::Word(&["all", "failures"]),
            "all",
            "all | failures: those that failed, were retried, or were answered by a fallback.",
        ),
    ],
);

static EXPLAIN: Block = block(
    "explain",
    &[
        key(
            "keep",
            Kind::Count {
                min: 1,
                max: 10_000,
            },
            "256",
            "How many, within 1 MiB in all; the newest ones.",
        ),
        key(
            "slower_than",
            TIME,
            "1s",
            "A request is slow where the head of its answer takes this long.",
        ),
    ],
);

static DEFAULTS: Block = Block {
    name: "defaults",
    keys: &[],
    shared: OF_UPSTREAMS,
};

static UPSTREAM: Block = Block {
    name: "upstream",
    keys: &[
        required(
            "endpoints",
            Kind::List {
                of: &ENDPOINT,
                min: 1,
            },
            "[127.0.0.1:9001, { address: 127.0.0.1:9002, weight: 2 }]",
            "Addresses or names: 127.0.0.1:9001, payments:9001, https://payments.example.com, { address: 127.0.0.1:9002, weight: 2 },\n\
             or records that say the ports, too: { srv: _http._tcp.payments.example.com }, or services of Kubernetes:\n\
             { kubernetes: { service: payments, namespace: shop, port: http } }. Every address that is found is an endpoint.\n\
             Names are asked for again when their answers expire (1 s to 5 min), never while a request waits. An address that is\n\
             missing from an answer gets no new requests and is kept for one more answer, at least 10 s. When a name cannot be\n\
             resolved, the last known addresses are kept; when there is no such name any more, for 5 min.",
        ),
        key(
            "protocol",
            PROTOCOLS,
            "auto",
            "auto (HTTP/1.1; under TLS what both sides agree on by ALPN) | http1 | http2 (also in plaintext, with prior knowledge).",
        ),
        optional(
            "tls",
            Kind::Block(&UPSTREAM_TLS),
            "{ ca: ca.crt, cert: client.crt, key: client.key, server_name: payments.example.com }",
            "How endpoints are spoken to under TLS. Given, even empty, it makes every endpoint without a scheme one under TLS.\n\
             https:// does the same for one endpoint, and needs no block. Files are watched.",
        ),
        key(
            "critical",
            Kind::Bool,
            "false",
            "true: the deep health check /healthz depends on it.",
        ),
        key(
            "balance",
            Kind::Either(
                &Kind::Word(&["least_request", "round_robin", "random"]),
                &Kind::Block(&BALANCE),
            ),
            "least_request",
            "least_request | round_robin | random | { hash: { header: x-user-id } }. The first takes the less loaded of two, and failures of late count as load.",
        ),
        key("pool", Kind::Block(&POOL), "{}", "Idle connections."),
    ],
    shared: OF_UPSTREAMS,
};

static UPSTREAM_TLS: Block = block(
    "upstream_tls",
    &[
        optional(
            "ca",
            Kind::Text(&text::ANY),
            "ca.crt",
            "Who signs the endpoints' certificates, PEM. Default: whom the system trusts.",
        ),
        optional(
            "cert",
            Kind::Text(&text::ANY),
            "client.crt",
            "Our own certificate with its chain, PEM, for endpoints that ask for one.",
        ),
        optional("key", Kind::Text(&text::ANY), "client.key", "Its key, PEM."),
        optional(
            "server_name",
            Kind::Text(&text::HOST_VALUE),
            "payments.example.com",
            "The name that the endpoints' certificates must have. Default: the endpoint's own name or address.",
        ),
    ],
);

const ENDPOINT: Kind = Kind::Either(&Kind::Text(&text::ENDPOINT), &Kind::Block(&WEIGHTED));

/// The keys of an endpoint's block that say what it is. It has one of them.
pub(super) const WHAT_AN_ENDPOINT_IS: [&str; 3] = ["address", "srv", "kubernetes"];

static WEIGHTED: Block = block(
    "endpoint",
    &[
        optional(
            "address",
            Kind::Text(&text::ENDPOINT),
            "127.0.0.1:9002",
            "An address or name, as above. One of address, srv, kubernetes.",
        ),
        optional(
            "srv",
            Kind::Text(&text::SRV),
            "_http._tcp.payments.example.com",
            "The name of an SRV record. Its targets of the lowest priority are endpoints, with its weights. Under TLS, the certificate of\n\
             a target must have the target's name where that lies in the record's domain, else the domain's own.",
        ),
        optional(
            "kubernetes",
            Kind::Block(&kubernetes::SERVICE),
            "{ service: payments, namespace: shop, port: http }",
            "A service of Kubernetes. Its pods that are ready are endpoints, as the API says in its EndpointSlices, which the\n\
             service account has to be allowed to list and watch; where none is ready, those that end and still serve.",
        ),
        key(
            "weight",
            Kind::Count {
                min: 1,
                max: 10_000,
            },
            "1",
            "Its share of the traffic, relative to the others'.",
        ),
    ],
);

static BALANCE: Block = block(
    "balance",
    &[required(
        "hash",
        Kind::Block(&HASH),
        "{ header: x-user-id }",
        "Requests that agree in a header go to the same endpoint.",
    )],
);

static HASH: Block = block(
    "hash",
    &[required(
        "header",
        Kind::Text(&text::HEADER_NAME),
        "x-user-id",
        "The header's name.",
    )],
);

static POOL: Block = block(
    "pool",
    &[
        key(
            "idle_timeout",
            TIME,
            "4s",
            "How long a connection may lie idle. Keep it below the server's own keep-alive: node and uvicorn close after 5 s.",
        ),
        key(
            "max_idle",
            Kind::Count {
                min: 0,
                max: 1_000_000,
            },
            "256",
            "Idle connections, in the whole process.",
        ),
        key(
            "max_requests_per_connection",
            Kind::Or(&["none"], &AT_LEAST_ONE),
            "none",
            "Requests after which a connection is closed.",
        ),
        key(
            "max_connection_age",
            Kind::Or(&["none"], &TIME),
            "none",
            "The age at which a connection takes no more requests, less up to a tenth by chance. It spreads long-lived HTTP/2 connections over endpoints that were added.",
        ),
        key(
            "ping_interval",
            Kind::Or(&["none"], &TIME),
            "none",
            "How often an HTTP/2 connection is asked whether it lives; one that does not answer in that time is closed.",
        ),
    ],
);
