//! mamparo, a resilience sidecar: timeouts, retries, circuit breakers, bulkheads and fallbacks for any
//! service, from YAML.
//!
//! Modules in reading order: [`policy`] decides, [`plan`] says what the configuration means, [`config`]
//! reads it, [`live`] is what runs, [`proxy`] is the life of one request (start with `proxy::handle`),
//! [`telemetry`] tells of it, [`discovery`] finds where requests can go, [`server`] accepts, [`reload`] and
//! [`app`] put it together.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod discovery;
mod errand;
pub mod live;
pub mod plan;
pub mod policy;
pub mod proxy;
pub mod reload;
pub mod server;
pub mod telemetry;
pub mod tls;
