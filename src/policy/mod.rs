//! The policies: plain values. `now`, chance and settings come in, a decision goes out; no lock, no
//! log, no clock, no task. Memory belongs to an upstream and outlives its settings, which are the
//! route's and come in with each call, so that a reload changes them in place.

pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod condition;
pub mod fallback;
pub mod grpc;
pub mod health;
pub mod outcome;
pub mod rate_limit;
pub mod retry;
pub mod timeout;
pub mod window;
