//! The keys of active health checks.

use super::super::kind::{Block, Kind};
use super::super::text;
use super::policies::OR_NONE;
use super::{TIME, block, key, optional};

pub(super) static HEALTH_CHECK: Block = block(
    "health_check",
    &[
        key(
            "kind",
            Kind::Word(&["http", "grpc", "tcp"]),
            "http",
            "http: a GET | grpc: the standard's grpc.health.v1.Health/Check | tcp: a connection that is made and closed.",
        ),
        key("path", Kind::Text(&text::PATH), "/", "http: the path."),
        key(
            "expect",
            Kind::List {
                of: &Kind::Text(&text::STATUS),
                min: 1,
            },
            "[2xx]",
            "http: the statuses that are a success.",
        ),
        optional(
            "service",
            Kind::Text(&text::ONE_LINE),
            "shop.Cart",
            "grpc: the service that is asked about. Default: the whole server.",
        ),
        key(
            "interval",
            TIME,
            "10s",
            "From one check of an endpoint to the next, give or take a tenth by chance. Until its first success: every second, if that is less.",
        ),
        key("timeout", TIME, "1s", "How long a check may take."),
        key(
            "healthy_after",
            CHECKS,
            "2",
            "Successes in a row after which an unhealthy endpoint is used again. The first of a new one counts at once.",
        ),
        key(
            "unhealthy_after",
            CHECKS,
            "3",
            "Failures in a row after which an endpoint is left out.",
        ),
        key(
            "port",
            Kind::Or(
                OR_NONE,
                &Kind::Count {
                    min: 1,
                    max: 65_535,
                },
            ),
            "none",
            "Another port of the endpoint's host. none: the endpoint's own.",
        ),
        optional(
            "host",
            Kind::Text(&text::HOST_VALUE),
            "payments.internal",
            "What the check names as its host. Default: under TLS the name in the certificate, else the endpoint's address.",
        ),
    ],
);

const CHECKS: Kind = Kind::Count { min: 1, max: 1_000 };
