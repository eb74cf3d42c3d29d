//! The life of one request.

pub mod answer;
pub mod client;
pub mod framing;
pub mod message;
pub mod retry_after;

/// The words that the server shares with the requests that it hands over.
pub use crate::{plan::Role, policy::outcome::Reason};
