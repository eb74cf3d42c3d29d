//! The keys of the export of spans.

use super::super::kind::{Block, Kind};
use super::super::text;
use super::{TIME, TIME_OR_ZERO, block, key, required};

/// A share of all, from nothing on.
const SHARE_OR_NONE: Kind = Kind::Share {
    zero: true,
    max: 1.0,
};

pub(super) static TRACING: Block = block(
    "tracing",
    &[
        required(
            "otlp",
            Kind::Text(&text::COLLECTOR),
            "http://127.0.0.1:4318",
            "The collector, which takes protobuf over HTTP, or over HTTPS where the system trusts it (SSL_CERT_FILE names another file of authorities). Without a path: /v1/traces.",
        ),
        key(
            "headers",
            Kind::Map(&Kind::Text(&text::VALUE), &text::HEADER_NAME),
            "{}",
            "Headers that go with the spans, such as an API key from the environment. No output shows their values.",
        ),
        key(
            "timeout",
            TIME,
            "10s",
            "How long the collector may take over one batch.",
        ),
        key(
            "keep",
            Kind::Block(&KEEP_TRACES),
            "{}",
            "Whose spans are exported, decided when a request has ended. Where several shares apply, the largest holds.",
        ),
    ],
);

static KEEP_TRACES: Block = block(
    "keep_traces",
    &[
        key(
            "failed",
            SHARE_OR_NONE,
            "100%",
            "Of those that failed, were retried, or were answered by a fallback, whatever their caller decided.",
        ),
        key(
            "slower_than",
            Kind::Or(&["none"], &TIME_OR_ZERO),
            "1s",
            "All whose answer's head takes this long, whatever their caller decided.",
        ),
        key(
            "rest",
            SHARE_OR_NONE,
            "10%",
            "Of all others, but none whose caller says in `traceparent` that it does not keep the trace. The trace's id decides, so that all who keep such a share keep the same traces.",
        ),
    ],
);
