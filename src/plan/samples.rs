//! An upstream for tests.

use std::time::Duration;

use super::{Address, Endpoint, Policies, Pool, Protocol, Upstream};
use crate::policy::balance;

/// One without policies, at these addresses in plaintext.
pub(crate) fn upstream(name: &str, addresses: impl IntoIterator<Item = Address>) -> Upstream {
    let endpoint = |address| Endpoint {
        address,
        tls: false,
        weight: 1,
    };
    Upstream {
        name: name.into(),
        endpoints: addresses.into_iter().map(endpoint).collect(),
        protocol: Protocol::Auto,
        tls: None,
        critical: false,
        balance: balance::Settings::default(),
        pool: Pool {
            idle_timeout: Duration::from_secs(4),
            max_idle: 100,
            max_requests_per_connection: None,
            max_connection_age: None,
            ping_interval: None,
        },
        max_connections: None,
        health_check: None,
        policies: Policies::default(),
    }
}
