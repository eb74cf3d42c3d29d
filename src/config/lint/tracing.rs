//! Lints about where spans go.

use std::net::IpAddr;

use super::super::Loaded;
use super::Lint;
use crate::plan::tracing::Collector;

/// Where collectors take gRPC, by convention.
const GRPC_PORT: u16 = 4317;

/// What is odd about where spans go.
pub(super) fn lints(loaded: &Loaded) -> impl Iterator<Item = Lint> {
    [port_of_grpc(loaded), headers_in_plaintext(loaded)]
        .into_iter()
        .flatten()
}

/// The port at which a collector would not understand us.
fn port_of_grpc(loaded: &Loaded) -> Option<Lint> {
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

/// Headers, mostly tokens, that everybody on the way to the collector could read.
fn headers_in_plaintext(loaded: &Loaded) -> Option<Lint> {
    let tracing = loaded.plan.tracing.as_ref()?;
    let collector = &tracing.collector;
    if tracing.headers.is_empty() || collector.tls || is_here(collector) {
        return None;
    }
    let path = "tracing.headers".to_owned();
    Some(Lint {
        id: "collector-headers-in-plaintext",
        place: loaded.effective.place_of(&path).cloned(),
        path,
        message: format!(
            "they go to {collector} without TLS: whoever is on the way can read what they say, tokens included"
        ),
        help: Some(
            "name the collector with https://, or one on this host that passes spans on".to_owned(),
        ),
    })
}

/// Whether it is on this host.
fn is_here(collector: &Collector) -> bool {
    match collector.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => collector.host.eq_ignore_ascii_case("localhost"),
    }
}
