//! Nanoseconds per policy decision.
#![allow(missing_docs)]

fn main() {}
