//! The head of a request on its way to the upstream: each try lends it to a connection.

use std::mem::take;

use http::header::HeaderMap;
use http::{Method, Uri};

use crate::live::http1::maps;
use crate::live::request_head::{Line, RequestHead};

/// What the heads of all tries are made from.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) target: Uri,
    /// What goes on of the client's headers.
    pub(super) headers: HeaderMap,
    /// Our own: those of all tries, then those of one.
    ours: Vec<Line>,
    of_all_tries: usize,
}

impl Head {
    /// `ours` are the same for each try.
    pub(super) fn new(method: Method, target: Uri, headers: HeaderMap, ours: Vec<Line>) -> Self {
        Self {
            method,
            target,
            headers,
            of_all_tries: ours.len(),
            ours,
        }
    }

    /// Begins a try: its own lines are to follow, those of the one before are forgotten.
    pub(super) fn begin_try(&mut self) -> &mut Vec<Line> {
        self.ours.truncate(self.of_all_tries);
        &mut self.ours
    }

    /// As the try that has begun sends it.
    pub(super) fn lend(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            target: &self.target,
            headers: &self.headers,
            ours: &self.ours,
        }
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        maps::give_back(take(&mut self.headers));
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn rule_22_every_try_begins_with_the_same_headers() {
        let line = |name| (HeaderName::from_static(name), HeaderValue::from_static("1"));
        let mut came = HeaderMap::new();
        came.extend([line("a")]);
        let ours = vec![line("b")];
        let mut head = Head::new(Method::GET, Uri::default(), came.clone(), ours);
        for name in ["c", "d"] {
            head.begin_try().push(line(name));
            let lent = head.lend();
            assert_eq!(*lent.headers, came);
            assert_eq!(lent.ours, [line("b"), line(name)]);
        }
    }
}
