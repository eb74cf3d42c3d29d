//! What nobody thought of: inputs by chance against the parts that read what strangers send.
//!
//! `cargo test --test fuzz` tries each target for a second, its corpus first (`__fuzz__/*/corpus`). To try
//! one for long, guided by the code that its inputs reach:
//!
//! ```sh
//! cargo install cargo-bolero
//! cargo +nightly bolero test -T 1h request::fuzz_requests
//! ```
//!
//! What it finds it puts beside the corpus, into `crashes`, from where it is tried first from then on. Without a
//! nightly compiler chance alone is left: `BOLERO_RANDOM_TEST_TIME_MS=3600000 cargo test --test fuzz requests`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

mod answer;
mod config;
mod http2;
mod replay;
mod request;
mod stage;
mod strict;
mod text;
