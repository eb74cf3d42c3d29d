//! One look at each header of a request, for all that is to be known of them before the first try.
//! Asking the map for one name takes as long as looking at several headers.

use http::Version;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;

use super::framing::{self, Refusal};
use super::grpc;
use super::headers::Found;
use crate::telemetry::trace::Claims;

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
    /// Whether its client wants to know what becomes of it.
    pub explain: bool,
    /// What its client would rather read.
    pub accept: Option<&'a HeaderValue>,
    /// Whose it is.
    pub claims: Claims<'a>,
    /// Bytes of its header lines as they were on the wire, to within white space.
    pub size: usize,
    /// Which of those are there that matter on the way.
    pub found: Found,
    /// The first header of those that no request to be forwarded may have; see [`framing::check`].
    pub wrong: Option<Refusal>,
}

impl<'a> Fields<'a> {
    /// Looks at each header. No allocation.
    pub fn read(parts: &'a Parts) -> Self {
        let mut fields = Self::default();
        for (name, value) in &parts.headers {
            fields.size += name.as_str().len() + value.len() + ": \r\n".len();
            if let Err(wrong) = fields.note(parts.version, name, value) {
                fields.wrong.get_or_insert(wrong);
            }
        }
        fields
    }

    fn note(
        &mut self,
        version: Version,
        name: &HeaderName,
        value: &'a HeaderValue,
    ) -> Result<(), Refusal> {
        match name.as_str() {
            "host" => {
                self.found.host = true;
                return framing::host(self, value);
            }
            "content-length" => return framing::content_length(self, value),
            "transfer-encoding" => return framing::transfer_encoding(self, value),
            "accept" => _ = self.accept.get_or_insert(value),
            "content-type" => self.is_call |= grpc::is_call(value),
            "expect" => {
                self.found.note(name);
                return framing::expect(version, value);
            }
            "x-mamparo-timeout-ms" => {
                self.found.note(name);
                self.timeout.get_or_insert(value);
            }
            "x-mamparo-explain" => {
                self.found.note(name);
                self.explain |= value == "1";
            }
            other => {
                self.found.note(name);
                self.claims.note(other, value);
            }
        }
        Ok(())
    }
}
