//! What the tests are built from: a [`Proxy`], a [`Client`] that speaks bytes, an [`Upstream`] that
//! does what its script says, and waits that end as soon as what they wait for is there.
//!
//! ```text
//! let upstream = Upstream::script([503, 503, 200]);
//! let proxy = Proxy::before(&upstream, "retry: { backoff: { base: 1ms } }");
//! let answer = proxy.get("/");
//! assert_eq!(answer.status, 200);
//! proxy.expect_metric("mamparo_retries_total", &[("upstream", "u")], 2.0);
//! // Dropped, the proxy checks that nothing was left behind.
//! ```
#![allow(
    dead_code,
    unused_imports,
    reason = "a kit; not every tool is in use at every moment"
)]

mod acceptor;
mod answer;
mod authority;
mod client;
pub(crate) mod cluster;
mod descriptors;
mod dns;
mod grpc;
mod http2;
mod http2_upstream;
mod message;
mod metrics;
mod places;
mod process;
pub(crate) mod program;
pub(crate) mod proxy;
mod reply;
mod socket;
mod spans;
pub(crate) mod tls;
mod upstream;
mod wait;

pub(crate) use acceptor::Acceptor;
pub(crate) use answer::Answer;
pub(crate) use authority::{Authority, Identity};
pub(crate) use client::{Broken, Client};
pub(crate) use cluster::{Cluster, Pod};
pub(crate) use descriptors::descriptors;
pub(crate) use dns::{DnsServer, Says};
pub(crate) use grpc::{GrpcService, message as grpc_message};
pub(crate) use http2::{Answer2, Http2, Tunnel2};
pub(crate) use http2_upstream::{Http2Upstream, Manners};
pub(crate) use message::{Head, Received};
pub(crate) use metrics::value_of;
pub(crate) use places::{BlackHole, Refused};
pub(crate) use process::Process;
pub(crate) use program::Program;
pub(crate) use proxy::Proxy;
pub(crate) use reply::{Gate, Reply};
pub(crate) use socket::{Far, Socket};
pub(crate) use spans::{Span, spans_at, spans_in};
pub(crate) use upstream::Upstream;
pub(crate) use wait::{PATIENCE, eventually, until};
