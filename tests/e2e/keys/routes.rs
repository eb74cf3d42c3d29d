//! `routes`: which requests take one, and what it changes on the way.

use crate::support::{Proxy, Upstream};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("route.name", name),
    ("route.match", path),
    ("route.upstream", upstream),
    ("route.rewrite", rewrite_path_prefix),
    ("match.host", host),
    ("match.path", path),
    ("match.path_prefix", path_prefix),
    ("match.path_regex", path_regex),
    ("match.methods", methods),
    ("match.headers", headers),
    ("match.query", query),
    ("pattern.present", headers),
    ("pattern.regex", headers),
    ("rewrite.path_prefix", rewrite_path_prefix),
    ("rewrite.host", rewrite_host),
];

/// A listener with this one route to an upstream that answers with what it received.
#[track_caller]
fn with(route: &str) -> (Proxy, Upstream) {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    \
         routes: [{{ {route}, upstream: u }}]\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    ));
    (proxy, upstream)
}

/// Whether a request with this first line and these headers finds the route.
#[track_caller]
fn matches(proxy: &Proxy, line: &str, headers: &str) -> bool {
    let bytes = format!("{line} HTTP/1.1\r\n{headers}\r\n");
    let answer = proxy.send(bytes);
    match answer.status {
        200 => true,
        404 => false,
        _ => panic!("{answer:?}"),
    }
}

#[track_caller]
fn check(matcher: &str, cases: &[(&str, &str, bool)]) {
    let (proxy, _upstream) = with(&format!("match: {matcher}"));
    for (line, headers, expected) in cases {
        let host = if headers.to_ascii_lowercase().contains("host:") {
            String::new()
        } else {
            "host: a\r\n".to_owned()
        };
        let found = matches(&proxy, line, &(host + headers));
        assert_eq!(found, *expected, "{matcher}: {line} {headers:?}");
    }
}

#[test]
fn name() {
    let (proxy, _upstream) = with("name: charges");
    assert_eq!(proxy.get("/").status, 200);
    proxy.expect_metric("mamparo_requests_total", &[("route", "charges")], 1.0);
    assert_eq!(proxy.only_line()["route"], "charges");
}

#[test]
fn host() {
    check(
        "{ host: payments.internal }",
        &[
            ("GET /", "host: payments.internal\r\n", true),
            ("GET /", "host: Payments.Internal:8080\r\n", true),
            ("GET /", "host: a.payments.internal\r\n", false),
            ("GET /", "host: payments\r\n", false),
            (
                "GET http://payments.internal/",
                "host: payments.internal\r\n",
                true,
            ),
        ],
    );
    check(
        "{ host: \"*.internal\" }",
        &[
            ("GET /", "host: a.internal\r\n", true),
            ("GET /", "host: a.b.internal\r\n", true),
            ("GET /", "host: internal\r\n", false),
            ("GET /", "host: a.internal.com\r\n", false),
        ],
    );
}

#[test]
fn path() {
    check(
        "{ path: /v1/charges }",
        &[
            ("GET /v1/charges", "", true),
            ("GET /v1/charges?a=b", "", true),
            ("GET /v1/charges/", "", false),
            ("GET /V1/charges", "", false),
            ("GET /v1/x/../charges", "", false),
        ],
    );
}

#[test]
fn path_prefix() {
    check(
        "{ path_prefix: /v1 }",
        &[
            ("GET /v1", "", true),
            ("GET /v1/", "", true),
            ("GET /v1/a/b", "", true),
            ("GET /v10", "", false),
            ("GET /", "", false),
        ],
    );
}

#[test]
fn path_regex() {
    check(
        "{ path_regex: \"/v[0-9]+/charges\" }",
        &[
            ("GET /v12/charges", "", true),
            ("GET /v12/charges/1", "", false),
            ("GET /a/v1/charges", "", false),
        ],
    );
}

#[test]
fn methods() {
    check(
        "{ methods: [GET, PURGE] }",
        &[
            ("GET /", "", true),
            ("PURGE /", "", true),
            ("DELETE /", "", false),
            ("get /", "", false),
        ],
    );
}

#[test]
fn headers() {
    check(
        "{ headers: { x-tenant: acme, x-any: { present: true }, x-kind: { regex: \"[a-z]+\" } } }",
        &[
            ("GET /", "X-Tenant: acme\r\nx-any:\r\nx-kind: abc\r\n", true),
            ("GET /", "x-tenant: acme\r\nx-kind: abc\r\n", false),
            (
                "GET /",
                "x-tenant: acme\r\nx-any: 1\r\nx-kind: abc1\r\n",
                false,
            ),
            (
                "GET /",
                "x-tenant: other\r\nx-any: 1\r\nx-kind: abc\r\n",
                false,
            ),
            (
                "GET /",
                "x-tenant: other\r\nx-tenant: acme\r\nx-any: 1\r\nx-kind: abc\r\n",
                true,
            ),
        ],
    );
}

#[test]
fn query() {
    check(
        "{ query: { preview: \"1\", any: { present: true }, kind: { regex: \"[a-z]+\" } } }",
        &[
            ("GET /?preview=1&any&kind=abc", "", true),
            ("GET /?kind=ab%63&any=&preview=%31", "", true),
            ("GET /?preview=1&kind=abc", "", false),
            ("GET /?preview=2&any&kind=abc", "", false),
            ("GET /", "", false),
        ],
    );
}

/// The first route that matches wins.
#[test]
fn upstream() {
    let (a, b) = (Upstream::always(200), Upstream::always(201));
    let proxy = Proxy::start(&format!(
        "listeners:\n  outbound:\n    address: 127.0.0.1:0\n    routes:\n      \
         - {{ match: {{ path_prefix: /a }}, upstream: a }}\n      - {{ upstream: b }}\n      \
         - {{ match: {{ path: /c }}, upstream: a }}\n\
         upstreams: {{ a: {{ endpoints: [\"{}\"] }}, b: {{ endpoints: [\"{}\"] }} }}\n",
        a.address(),
        b.address()
    ));
    for (path, status) in [("/a", 200), ("/b", 201), ("/c", 201)] {
        assert_eq!(proxy.get(path).status, status, "{path}");
    }
}

#[test]
fn rewrite_path_prefix() {
    for (matcher, replacement, asked, received) in [
        ("path_prefix: /v1", "/", "/v1/charges?a=b", "/charges?a=b"),
        ("path_prefix: /v1", "/", "/v1", "/"),
        (
            "path_prefix: /v1",
            "/api/v2",
            "/v1/charges",
            "/api/v2/charges",
        ),
        ("path_prefix: /", "/api", "/x%2Fy/../z", "/api/x%2Fy/../z"),
    ] {
        let (proxy, upstream) = with(&format!(
            "match: {{ {matcher} }}, rewrite: {{ path_prefix: {replacement} }}"
        ));
        assert_eq!(proxy.get(asked).status, 200);
        assert_eq!(upstream.last().target, received);
    }
}

#[test]
fn rewrite_host() {
    let (proxy, upstream) = with("rewrite: { host: payments.prod }");
    assert_eq!(proxy.get("/").status, 200);
    let received = upstream.last();
    assert_eq!(received.header("host").as_deref(), Some("payments.prod"));
    assert_eq!(
        received.header("x-forwarded-host").as_deref(),
        Some("service")
    );
}

/// The target and the host reach the upstream as they came.
#[test]
fn nothing_is_rewritten_unasked() {
    let (proxy, upstream) = with("name: all");
    for target in ["/", "/a%2Fb/../c//d;e?f=%20&g", "/ü?x"] {
        proxy.get(target);
        assert_eq!(upstream.last().target, target);
        assert_eq!(upstream.last().header("host").as_deref(), Some("service"));
    }
    // Absolute form, as a client sends it that takes us for its proxy.
    proxy.send("GET http://other.host:81/a?b HTTP/1.1\r\nhost: other.host:81\r\n\r\n");
    assert_eq!(upstream.last().target, "/a?b");
    assert_eq!(
        upstream.last().header("host").as_deref(),
        Some("other.host:81")
    );
    let options = proxy.request("OPTIONS", "*", &[], b"");
    assert_eq!(
        (options.status, upstream.last().target.as_str()),
        (200, "*")
    );
}
