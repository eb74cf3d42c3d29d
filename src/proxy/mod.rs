//! The life of one request.

pub mod answer;
pub mod message;
