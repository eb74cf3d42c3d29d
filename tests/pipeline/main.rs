//! The pipeline as a whole, without sockets and without waiting: the client's side is a pipe in memory
//! into the server's connection, the upstream's side are scripted endpoints, and the clock is tokio's,
//! paused. So every time is exact to the millisecond, and pairs of policies can be put together at the
//! very moment where they meet.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::large_futures,
    reason = "what goes wrong here is a failed test"
)]

mod bench;
mod breaker_reloads;
mod calls;
mod calls_http2;
mod endpoint;
mod explain;
mod fallbacks;
mod health;
mod http2_goaway;
mod http2_messages;
mod http2_peer;
mod http2_streams;
mod http2_walk;
mod message;
mod pairs;
mod pairs_of_limits;
mod reloads;
mod retries;
mod time;
mod time_of_bodies;
mod walk;
