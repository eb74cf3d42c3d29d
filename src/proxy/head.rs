//! The head of a request on its way to the upstream: each try sends one of its own.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

use super::headers::ADDED;

/// What the heads of all tries are made from.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) target: Uri,
    /// As they came, until the first try takes them: mostly it is the only one.
    headers: Option<HeaderMap>,
    /// The same lines for any further try. A list is copied for a fraction of what a map costs.
    lines: Vec<(HeaderName, HeaderValue)>,
}

impl Head {
    pub(super) fn new(method: Method, target: Uri, headers: HeaderMap) -> Self {
        let lines = headers.iter();
        let lines = lines.map(|(name, value)| (name.clone(), value.clone()));
        Self {
            method,
            target,
            lines: lines.collect(),
            headers: Some(headers),
        }
    }

    /// The headers as they came, for one try to make its own of.
    pub(super) fn headers(&mut self) -> HeaderMap {
        self.headers.take().unwrap_or_else(|| {
            let mut headers = HeaderMap::with_capacity(self.lines.len() + ADDED);
            for (name, value) in &self.lines {
                headers.append(name.clone(), value.clone());
            }
            headers
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_22_every_try_begins_with_the_headers_that_came() {
        let mut came = HeaderMap::new();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            came.append(name, HeaderValue::from_static(value));
        }
        let mut head = Head::new(Method::GET, Uri::default(), came.clone());
        for _ in 0..3 {
            let mut headers = head.headers();
            assert_eq!(headers, came);
            headers.clear();
        }
    }
}
