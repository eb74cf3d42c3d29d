//! One look at each header of a request, for all that is to be known of them before the first try.
//! Asking the map for one name takes as long as looking at several headers.

use http::header::HeaderValue;
use http::request::Parts;

use super::framing::{self, Refusal};
use super::grpc;
use super::headers::Found;

/// What a request's headers say of how it is to be treated.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    /// The host that it is for.
    pub host: Option<&'a HeaderValue>,
    /// Its `content-length`; 2^64 - 1 where it is more than a number holds.
    pub length: Option<u64>,
    /// Whether its body comes in chunks.
    pub chunked: bool,
    /// Whether it is a call of gRPC.
    pub is_call: bool,
    /// What its client says of the time that it leaves us.
    pub timeout: Option<&'a HeaderValue>,
    /// Bytes of its header lines as they were on the wire, to within white space.
    pub size: usize,
    /// Which of those are there that matter on the way.
    pub found: Found,
}

impl<'a> Fields<'a> {
    /// Looks at each header. No allocation.
    ///
    /// # Errors
    /// A header that no request to be forwarded may have; see [`framing::check`].
    pub fn read(parts: &'a Parts) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        for (name, value) in &parts.headers {
            fields.size += name.as_str().len() + value.len() + ": \r\n".len();
            fields.found.note(name);
            match name.as_str() {
                "host" => framing::host(&mut fields, value)?,
                "content-length" => framing::content_length(&mut fields, value)?,
                "transfer-encoding" => framing::transfer_encoding(&mut fields, value)?,
                "expect" => framing::expect(parts.version, value)?,
                "content-type" => fields.is_call |= grpc::is_call(value),
                "x-mamparo-timeout-ms" => _ = fields.timeout.get_or_insert(value),
                _ => {}
            }
        }
        Ok(fields)
    }
}
