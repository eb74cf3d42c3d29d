//! End to end: the whole proxy between real sockets on ports that the system chooses, under the real
//! clock with short times. One binary; a file for each feature. Start with `support`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "all of this is test code, and the real clock is what it tests under"
)]

mod draining;
mod examples;
mod explain;
mod faults_answers;
mod faults_chaos;
mod faults_clients;
mod faults_framing;
mod faults_mutations;
mod faults_ourselves;
mod faults_reuse;
mod faults_told;
mod faults_upstreams;
mod forward_proxy;
mod grpc;
mod headers;
mod http2;
mod http2_tunnels;
mod http2_upstreams;
mod interim;
mod keys;
mod kit;
mod kubernetes;
mod kubernetes_churn;
mod metrics_address;
mod names;
mod new_sources;
mod probe;
mod program;
mod reasons;
mod requests;
mod service_manager;
mod support;
mod tls_clients;
mod tls_endpoints;
mod tls_files;
mod tls_tunnels;
mod traces;
mod tunnels;
mod unix_sockets;
