//! What concerns Kubernetes: a service as an endpoint, and where the API is.

use super::super::kind::{Block, Kind};
use super::super::text;
use super::{block, optional, required};

/// A service, as an endpoint.
pub(super) static SERVICE: Block = block(
    "kubernetes",
    &[
        required(
            "service",
            Kind::Text(&text::KUBERNETES_NAME),
            "payments",
            "The name of the service.",
        ),
        optional(
            "namespace",
            Kind::Text(&text::KUBERNETES_NAME),
            "shop",
            "Its namespace. Default: that of this pod; outside of a cluster, `default`.",
        ),
        optional(
            "port",
            Kind::Text(&text::KUBERNETES_PORT),
            "http",
            "The name of its port, or the number at the pods (what the service calls targetPort). Default: the only one.",
        ),
    ],
);

/// Where the API is.
pub(super) static API: Block = block(
    "kubernetes_api",
    &[
        optional(
            "api",
            Kind::Text(&text::KUBERNETES_API),
            "https://10.0.0.1:6443",
            "Where the API is; http://127.0.0.1:8001 for `kubectl proxy`. Default: where a pod's environment says.",
        ),
        optional(
            "token_file",
            Kind::Text(&text::ANY),
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            "The file with our token, read anew for each request. Default: that of the pod's service account; none where `api` is set.",
        ),
        optional(
            "ca",
            Kind::Text(&text::ANY),
            "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
            "Who signs the certificate of the API, PEM. Default: that of the pod's service account; whom the system trusts where `api` is set.",
        ),
        optional(
            "zone",
            Kind::Text(&text::ONE_LINE),
            "eu-central-1a",
            "The zone that we are in; the environment's MAMPARO_ZONE overrides it. Endpoints that are meant for it (hints), or located in it,\n\
             get 100 times the weight of the others, unless they are fewer than half of an even share of the zones.",
        ),
    ],
);
