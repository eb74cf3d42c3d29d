//! Connections from clients, in memory and with a paused clock, before a stand-in for the proxy; in
//! `sockets`, the little that needs real ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

mod draining;
mod fake;
mod frames;
mod framing;
mod http2;
mod http2_client;
mod http2_faults;
mod leaving;
mod sockets;
mod timing;
mod tls;
