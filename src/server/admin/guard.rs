//! Who may change something, and which browser may read. The admin interface has no password: it listens
//! on loopback, and a browser on the same machine reaches it as well. So a page from elsewhere must not be
//! able to make the browser send an order (cross-site requests), nor pretend to be us under its own name,
//! to order or to read (DNS rebinding).

use http::header::{self, HeaderName};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use crate::telemetry::foreign::shown;

/// What browsers send and a page cannot leave out. To a name in plaintext they say neither `origin` nor
/// `sec-fetch-site` with a GET, so these alone would not show the pages that this is about.
const OF_BROWSERS: [HeaderName; 4] = [
    header::ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    header::REFERER,
    header::ACCEPT_LANGUAGE,
];

/// Nothing where what is asked for may be read, else why not and what to do. Programs may use any name,
/// a browser only one that no page from elsewhere can have.
pub(super) fn reading(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    if !is_browser(headers) {
        return None;
    }
    let name = match host(uri, headers) {
        Some(host) if is_ours(host.host()) => return None,
        Some(host) => format!("the name '{}'", shown(host.host(), 100)),
        None => "no valid name".to_owned(),
    };
    Some(format!(
        "a browser is answered under an IP address or 'localhost' only, not under {name}: a page from \
         elsewhere could read this under a name of its own (DNS rebinding). Open it by its IP address, or \
         forward its port (kubectl port-forward, ssh -L) and open it at http://localhost:PORT/. Programs \
         such as curl and Prometheus may use any name"
    ))
}

/// Whether it looks like a browser's. One too many costs a program a sentence, one too few is a hole.
fn is_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT);
    OF_BROWSERS.iter().any(|name| headers.contains_key(name))
        || agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
}

/// Nothing where the request may change something, else why not.
pub(super) fn change(request: &Parts) -> Option<String> {
    let Some(host) = host(&request.uri, &request.headers) else {
        return Some(
            "a change needs one valid 'host' header, so that a page from elsewhere cannot send it"
                .into(),
        );
    };
    if !is_ours(host.host()) {
        return Some(format!(
            "a change is taken under an IP address or 'localhost' only, not under the name '{}': \
             a page of that name could send it (DNS rebinding)",
            shown(host.host(), 100)
        ));
    }
    cross_site(&request.headers, &host)
}

/// The host that the client meant: an absolute target goes before the header.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(authority) = uri.authority() {
        return Some(authority.clone());
    }
    let value = only(headers, &header::HOST)??;
    value.parse().ok()
}

/// `None` where the header stands there twice or is no text, `Some(None)` where it is absent.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h str>> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some(value), None) => value.to_str().ok().map(Some),
        (Some(_), Some(_)) => None,
    }
}

/// A name that no one else can have: browsers ask no server for those of `localhost`.
fn is_ours(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let bare = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(host);
    let (_, top) = host.rsplit_once('.').unwrap_or_default();
    bare.parse::<std::net::IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || top.eq_ignore_ascii_case("localhost")
}

/// Browsers say where a request comes from; other clients send neither header.
fn cross_site(headers: &HeaderMap, host: &Authority) -> Option<String> {
    let refused = |what: &str| {
        Some(format!(
            "a change from another site is refused ({what}); send it with a program, or from the status page"
        ))
    };
    match only(headers, &HeaderName::from_static("sec-fetch-site")) {
        Some(None | Some("same-origin" | "none")) => {}
        Some(Some(other)) => return refused(&format!("sec-fetch-site: {other}")),
        None => return refused("more than one sec-fetch-site"),
    }
    match only(headers, &header::ORIGIN) {
        Some(None) => None,
        Some(Some(origin)) if is_same(origin, host) => None,
        Some(Some(origin)) => refused(&format!("origin: {origin}")),
        None => refused("more than one origin"),
    }
}

fn is_same(origin: &str, host: &Authority) -> bool {
    origin
        .strip_prefix("http://")
        .is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str()))
}
