//! A lint about where spans go.

use super::super::Loaded;
use super::Lint;

/// Where collectors take gRPC, by convention.
const GRPC_PORT: u16 = 4317;

/// The port at which a collector would not understand us.
pub(super) fn lint(loaded: &Loaded) -> Option<Lint> {
    let tracing = loaded.plan.tracing.as_ref()?;
    let path = "tracing.otlp".to_owned();
    (tracing.collector.port == GRPC_PORT).then(|| Lint {
        id: "collector-port-of-grpc",
        place: loaded.effective.place_of(&path).cloned(),
        path,
        message: format!(
            "at port {GRPC_PORT} collectors take gRPC, by convention; mamparo sends protobuf over HTTP"
        ),
        help: Some("the port for that is 4318".to_owned()),
    })
}
