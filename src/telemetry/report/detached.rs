//! A report for keeping. While a request is under way its report shares the bytes of the request's head,
//! with every header in them, and holds the counters of its route; one that outlives the request must not
//! hold on to those, and must not grow with what a client sends.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Method};

use super::{Place, Report, Target, Try};
use crate::telemetry::foreign::shortened;

/// Bytes of a path that are kept.
const MAX_PATH: usize = 512;
/// Bytes of a host's name: no real one is longer.
const MAX_HOST: usize = 255;
/// Bytes of a method.
const MAX_METHOD: usize = 32;
/// Bytes of a sentence about a failure.
const MAX_DETAIL: usize = 512;

impl Report {
    /// The same with bytes of its own and names alone: without the query, and with what is long cut short.
    pub fn detached(&self) -> Self {
        let mut kept = self.clone();
        kept.place = Place::Counted(Arc::clone(self.place.labels()));
        kept.target = self.target.as_ref().map(Target::detached);
        kept.request_id = copied(&self.request_id);
        shorten(&mut kept.detail, MAX_DETAIL);
        shorten(&mut kept.rewritten, MAX_PATH);
        for one in &mut kept.tries {
            shorten(&mut one.detail, MAX_DETAIL);
        }
        if let Some(halted) = &mut kept.halted
            && halted.message.len() > MAX_DETAIL
        {
            halted.message = shortened(&halted.message, MAX_DETAIL).into();
        }
        kept
    }

    /// Bytes of memory that it takes once it is detached.
    pub fn weight(&self) -> usize {
        let target = self.target.as_ref().map_or(0, |target| {
            let host = target.host.as_ref().map_or(0, HeaderValue::len);
            target.uri.path().len() + host
        });
        let length = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
        let tries = self.tries.iter();
        let tries =
            tries.map(|one| length(&one.detail) + one.next.as_deref().map_or(0, size_of_val));
        let spilled = match self.tries.spilled() {
            true => self.tries.capacity() * size_of::<Try>(),
            false => 0,
        };
        let moves = self.moves.capacity() * size_of::<super::BreakerMove>();
        let halted = self.halted.as_ref();
        let halted = halted.map_or(0, |halted| size_of_val(&**halted) + halted.message.len());
        let own = self.request_id.len() + length(&self.detail) + length(&self.rewritten);
        let texts: usize = target + own + tries.sum::<usize>();
        size_of::<Self>() + texts + spilled + moves + halted
    }
}

impl Target {
    /// Its path and its host alone.
    fn detached(&self) -> Self {
        let method = self.method.as_str();
        let named = self.uri.authority().map(|authority| authority.as_str());
        let host = named.map(str::as_bytes);
        let host = host.or_else(|| self.host.as_ref().map(HeaderValue::as_bytes));
        let host = host.map(without_user);
        let host = host.map(|host| host.get(..MAX_HOST).unwrap_or(host));
        let path = shortened(self.uri.path(), MAX_PATH);
        let path = Bytes::copy_from_slice(path.as_bytes());
        Self {
            method: match method.get(..MAX_METHOD) {
                Some(cut) => Method::from_bytes(cut.as_bytes()).unwrap_or_default(),
                None => self.method.clone(),
            },
            // A CONNECT has no path.
            uri: PathAndQuery::from_maybe_shared(path).map_or_else(|_| Uri::default(), Uri::from),
            host: host.and_then(|host| HeaderValue::from_bytes(host).ok()),
            scheme: self.scheme,
            version: self.version,
        }
    }
}

/// A host without the user's name and password that a URL may have before it.
pub(crate) fn without_user(host: &[u8]) -> &[u8] {
    let at = host.iter().rposition(|byte| *byte == b'@');
    at.map_or(host, |at| &host[at + 1..])
}

fn copied(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn shorten(text: &mut Option<Box<str>>, most: usize) {
    if let Some(text) = text
        && text.len() > most
    {
        *text = shortened(text, most).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::report::{Outcome, samples};

    fn report() -> Report {
        let metrics = Metrics::default();
        let listener = metrics.listener(&samples::name("in"));
        samples::report(listener, None, Outcome::Refused, 404)
    }

    #[test]
    fn no_query_no_user_and_nothing_long_is_kept() {
        let long = "x".repeat(60_000);
        let mut report = report();
        report.target = Some(Target {
            method: Method::from_bytes(long.as_bytes()).unwrap(),
            ..samples::target(&format!("/v1/{long}?token=s3cr3t"), "user:s3cr3t@shop")
        });
        report.detail = Some("ü".repeat(30_000).into());
        let kept = report.detached();
        let target = kept.target.as_ref().unwrap();
        assert_eq!(target.uri.path().len(), MAX_PATH + '…'.len_utf8());
        assert!(target.uri.path().ends_with("xx…"));
        assert_eq!(target.uri.query(), None);
        assert_eq!(target.method.as_str().len(), MAX_METHOD);
        assert_eq!(target.host.as_ref().unwrap(), "shop");
        assert!(!format!("{kept:?}").contains("s3cr3t"));
        assert!(kept.weight() < 4_096, "{}", kept.weight());
    }

    #[test]
    fn what_is_short_stays_as_it_is() {
        for (uri, path) in [("/a%20b?c", "/a%20b"), ("*", "*"), ("http://h", "/")] {
            let mut report = report();
            report.target = Some(samples::target(uri, "shop:80"));
            let kept = report.detached().target.unwrap();
            assert_eq!((kept.uri.path(), kept.method), (path, Method::GET));
        }
        let mut tunnel = report();
        tunnel.target = Some(samples::target("shop:443", "shop"));
        let kept = tunnel.detached().target.unwrap();
        assert_eq!(kept.host.unwrap(), "shop:443");
    }
}
