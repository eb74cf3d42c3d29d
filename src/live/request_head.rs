//! The head of a request on its way to an endpoint. It is lent to a connection, not given: each try sends
//! what came from the client with a few lines of ours, and nothing is copied for the case that another try
//! has to be made. Our lines are a list, since a map asks for each name before it takes one.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, request};

/// A header of ours.
pub type Line = (HeaderName, HeaderValue);

/// The head of a request as one try sends it.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// What is asked for.
    pub target: &'a Uri,
    /// What goes on of the client's headers.
    pub headers: &'a HeaderMap,
    /// Our own. None of the client's has the name of one of them.
    pub ours: &'a [Line],
}

impl RequestHead<'_> {
    /// A copy of it with all headers in one map.
    pub(super) fn to_parts(self) -> request::Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = self.target.clone();
        parts.headers = self.headers.clone();
        parts.headers.extend(self.ours.iter().cloned());
        parts
    }
}
