//! HTTP/1.1 as bytes (RFC 9112), for both ends of the proxy: fields, bodies, and what is to be written.
//! Heads are taken apart by `httparse`; what is around them is here, since everything that two parties
//! may read differently is decided by it.

pub mod answer;
pub mod apart;
pub mod body;
pub mod chunked;
pub mod connection;
pub mod decimal;
pub mod encoder;
pub mod fields;
pub mod maps;
pub mod output;
pub mod request;

/// What is wrong with bytes that came: a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

pub(crate) const fn bad<T>(sentence: &'static str) -> Result<T, Malformed> {
    Err(Malformed(sentence))
}
