//! Who may change something. The admin interface has no password: it listens on loopback, and a browser
//! on the same machine reaches it as well. So a page from elsewhere must not be able to make the browser
//! send an order (cross-site requests), nor pretend to be us under its own name (DNS rebinding).

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, header};

/// Nothing where the request may change something, else why not.
pub(super) fn refusal(request: &Parts) -> Option<String> {
    let Some(host) = host(request) else {
        return Some(
            "a change needs one valid 'host' header, so that a page from elsewhere cannot send it"
                .into(),
        );
    };
    if !is_ours(host.host()) {
        return Some(format!(
            "a change is taken under an IP address or 'localhost' only, not under the name '{}': \
             a page of that name could send it (DNS rebinding)",
            host.host()
        ));
    }
    cross_site(&request.headers, &host)
}

/// The host that the client meant: an absolute target goes before the header.
fn host(request: &Parts) -> Option<Authority> {
    if let Some(authority) = request.uri.authority() {
        return Some(authority.clone());
    }
    let value = only(&request.headers, &header::HOST)??;
    value.parse().ok()
}

/// `None` where the header stands there twice or is no text, `Some(None)` where it is absent.
fn only<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<Option<&'h str>> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some(value), None) => value.to_str().ok().map(Some),
        (Some(_), Some(_)) => None,
    }
}

/// A name that no one else can have.
fn is_ours(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let bare = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<std::net::IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

/// Browsers say where a request comes from; other clients send neither header.
fn cross_site(headers: &HeaderMap, host: &Authority) -> Option<String> {
    let refused = |what: &str| {
        Some(format!(
            "a change from another site is refused ({what}); send it with a program, or from the status page"
        ))
    };
    match only(headers, &header::HeaderName::from_static("sec-fetch-site")) {
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
