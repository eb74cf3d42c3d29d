//! TLS without its bytes: certificates and keys are read from their files, judged, and made into
//! settings of rustls; what goes wrong is said in an operator's words. Sockets are elsewhere: clients'
//! in [`crate::server`], endpoints' in [`crate::live`].

mod client;
mod explain;
mod facts;
mod pem;
mod server;
mod vault;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub use client::Client;
pub use explain::{Refusal, Why, failure_with, is_no_protocol, refusal_of, whose_fault};
pub use facts::Validity;
pub use pem::FileProblem;
pub use server::Server;
pub use vault::{Changed, Expiring, Material, Slot, User, Vault, read, users};

/// What encrypts.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs::default_provider;
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use rustls::crypto::ring::default_provider;
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    compile_error!("one of the features `aws-lc-rs` and `ring` is needed");
    PROVIDER.get_or_init(|| Arc::new(default_provider()))
}

/// Makes the keys that session tickets are sealed with; they change by themselves.
fn ticketer() -> Result<Arc<dyn rustls::server::ProducesTickets>, rustls::Error> {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs::Ticketer;
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use rustls::crypto::ring::Ticketer;
    Ticketer::new()
}

/// Whether listeners offer HTTP/2 where their `protocol` is `auto`.
const SERVES_HTTP2: bool = true;
/// Whether endpoints are offered HTTP/2 where their upstream's `protocol` is `auto`.
const SPEAKS_HTTP2: bool = true;

/// What ALPN calls HTTP/2.
pub const H2: &[u8] = b"h2";
/// What ALPN calls HTTP/1.1.
pub const HTTP1: &[u8] = b"http/1.1";

/// What is offered or taken by ALPN for a configured protocol, the preferred first.
fn alpn(protocol: crate::plan::Protocol, offers_http2: bool) -> Vec<Vec<u8>> {
    use crate::plan::Protocol;
    match protocol {
        Protocol::Auto if offers_http2 => vec![H2.to_vec(), HTTP1.to_vec()],
        Protocol::Auto | Protocol::Http1 => vec![HTTP1.to_vec()],
        Protocol::Http2 => vec![H2.to_vec()],
    }
}
