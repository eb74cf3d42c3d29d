//! What nobody thought of: inputs by chance against the parts that read what strangers send.
//!
//! `cargo test --test fuzz` has the same inputs at each run: those that were kept (`__fuzz__/*/corpus`), and
//! some of a fixed seed. To try one target for long with ever new ones, guided by the code that they reach:
//!
//! ```sh
//! cargo install cargo-bolero
//! ASAN_OPTIONS=detect_leaks=0 cargo +nightly bolero test -T 1h request::fuzz_requests
//! ```
//!
//! (What it takes for leaks at the end are buffers that are in use, of which it knows only the beginning.)
//!
//! What it finds it puts beside the corpus, into `crashes`, from where it is tried first from then on; put right,
//! it moves to the corpus under a name of its own. Inputs that reach new code are added to the corpus by
//! themselves: few of them are worth keeping. Without a nightly compiler chance alone is left:
//! `BOLERO_RANDOM_TEST_TIME_MS=3600000 cargo test --test fuzz requests`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

mod answer;
mod chance;
mod config;
mod http2;
mod manifest;
mod replay;
mod request;
mod stage;
mod strict;
mod text;
