//! The matcher against examples, and against a naive one that decodes and copies as it likes.

use http::{HeaderName, HeaderValue};
use regex::Regex;

use super::*;
use crate::plan::{Policies, Rewrite, samples};

fn anchored(expression: &str) -> Regex {
    Regex::new(&format!("^(?:{expression})$")).unwrap()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

/// A GET of `target` without headers.
fn matches(matcher: &Match, host: Option<&str>, target: &str) -> bool {
    mismatch(matcher, host, target, &[]).is_none()
}

fn mismatch(
    matcher: &Match,
    host: Option<&str>,
    target: &str,
    lines: &[(&str, &str)],
) -> Option<String> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let headers = &headers(lines);
    let wanted = Wanted {
        host,
        method: "GET",
        path,
        query,
        headers,
    };
    why_not(matcher, &wanted).map(|mismatch| mismatch.to_string())
}

fn with_path(path: PathPattern) -> Match {
    Match {
        path,
        ..Match::default()
    }
}

fn with_host(host: HostPattern) -> Match {
    Match {
        host: Some(host),
        ..Match::default()
    }
}

fn with_query(name: &str, pattern: ValuePattern) -> Match {
    Match {
        query: vec![(name.into(), pattern)],
        ..Match::default()
    }
}

fn route(matcher: Match, replacement: Option<&str>) -> Route {
    Route {
        name: "payments".into(),
        matcher,
        upstream: Arc::new(samples::upstream("payments", [])),
        rewrite: Rewrite {
            path_prefix: replacement.map(Into::into),
            host: None,
        },
        policies: Policies::default(),
        own_rate_limit: false,
    }
}

#[test]
fn a_match_without_conditions_holds_for_everything() {
    assert!(matches(&Match::default(), None, "*"));
    assert!(matches(&Match::default(), Some("a"), "/x?y=1"));
}

#[test]
fn the_host_is_compared_without_port_case_and_final_dot() {
    let exact = with_host(HostPattern::Exact("payments.internal".into()));
    for host in [
        "payments.internal",
        "PayMents.Internal",
        "payments.internal:8080",
        "payments.internal.",
        "payments.internal.:80",
        "payments.internal:",
    ] {
        assert!(matches(&exact, Some(host), "/"), "{host}");
    }
    for host in [
        "payments",
        "payments.internal..",
        "x.payments.internal",
        "payments.internal:x",
        "",
    ] {
        assert!(!matches(&exact, Some(host), "/"), "{host}");
    }
    assert!(!matches(&exact, None, "/"));

    let address = with_host(HostPattern::Exact("[::1]".into()));
    assert!(matches(&address, Some("[::1]"), "/") && matches(&address, Some("[::1]:80"), "/"));
    assert!(!matches(&address, Some("[::2]:80"), "/"));
}

#[test]
fn a_host_suffix_holds_for_every_name_below_it_and_not_for_itself() {
    let suffix = with_host(HostPattern::Suffix(".internal".into()));
    for host in ["a.internal", "a.b.INTERNAL", "a.internal.:1"] {
        assert!(matches(&suffix, Some(host), "/"), "{host}");
    }
    for host in [
        ".internal",
        "internal",
        "a.internals",
        "xinternal",
        "a.internal.com",
    ] {
        assert!(!matches(&suffix, Some(host), "/"), "{host}");
    }
}

#[test]
fn a_prefix_holds_by_whole_segments() {
    let prefix = with_path(PathPattern::Prefix("/a".into()));
    for path in ["/a", "/a/", "/a/b", "/a?x=/b"] {
        assert!(matches(&prefix, None, path), "{path}");
    }
    for path in ["/ab", "/", "/b/a", "/A", "*", ""] {
        assert!(!matches(&prefix, None, path), "{path}");
    }
    let root = with_path(PathPattern::Prefix("/".into()));
    assert!(matches(&root, None, "/") && matches(&root, None, "/x") && !matches(&root, None, "*"));
}

#[test]
fn fault_014_the_path_is_matched_as_it_was_sent() {
    let prefix = with_path(PathPattern::Prefix("/a/b".into()));
    for path in [
        "/a%2Fb",
        "/a%2fb/c",
        "/a/./b",
        "/a/x/../b",
        "//a/b",
        "/%61/b",
        "/a//b",
    ] {
        assert!(!matches(&prefix, None, path), "{path}");
    }
    assert!(matches(&prefix, None, "/a/b/../../c"));
    let route = route(with_path(PathPattern::Prefix("/a".into())), Some("/x"));
    assert_eq!(
        rewritten_path(&route, "/a/../%2F/b").as_deref(),
        Some("/x/../%2F/b")
    );
}

#[test]
fn an_expression_must_match_the_path_whole() {
    let regex = with_path(PathPattern::Regex(anchored("/users/[0-9]+|/me")));
    assert!(matches(&regex, None, "/users/7") && matches(&regex, None, "/me"));
    assert!(!matches(&regex, None, "/users/7/x") && !matches(&regex, None, "/x/me"));
}

#[test]
fn any_line_of_a_header_may_have_the_value() {
    let with = |pattern| Match {
        headers: vec![("x-tenant".into(), pattern)],
        ..Match::default()
    };
    let exact = with(ValuePattern::Exact("acme".into()));
    assert_eq!(
        mismatch(
            &exact,
            None,
            "/",
            &[("x-tenant", "b"), ("x-tenant", "acme")]
        ),
        None
    );
    assert_eq!(
        mismatch(&exact, None, "/", &[("x-tenant", "ACME")]).as_deref(),
        Some("header `x-tenant` is not `acme`")
    );
    assert_eq!(
        mismatch(&exact, None, "/", &[]).as_deref(),
        Some("header `x-tenant` is absent")
    );
    assert_eq!(
        mismatch(&with(ValuePattern::Present), None, "/", &[("x-tenant", "")]),
        None
    );
    let regex = with(ValuePattern::Regex(anchored("a.*")));
    assert_eq!(mismatch(&regex, None, "/", &[("x-tenant", "acme")]), None);
    assert!(mismatch(&regex, None, "/", &[("x-tenant", "xa")]).is_some());
}

#[test]
fn a_secret_that_a_route_asks_for_is_not_told() {
    let matcher = Match {
        headers: vec![(
            "authorization".into(),
            ValuePattern::Exact("Bearer s3cr3t".into()),
        )],
        ..Match::default()
    };
    let told = mismatch(&matcher, None, "/", &[("authorization", "Bearer guess")]).unwrap();
    assert_eq!(told, "header `authorization` is not (hidden)");
}

#[test]
fn parameters_are_decoded_for_the_comparison_only() {
    let exact = with_query("a b", ValuePattern::Exact("1&2=é".into()));
    for target in [
        "/?a+b=1%262%3D%C3%A9",
        "/?x&a%20b=1%262=%c3%a9",
        "/?a+b=no&a+b=1%262=é",
    ] {
        assert!(matches(&exact, None, target), "{target}");
    }
    for target in [
        "/",
        "/?",
        "/?a+b",
        "/?a+b=1&2=é",
        "/?ab=1%262%3D%C3%A9",
        "/?a%2bb=1%262=é",
    ] {
        assert!(!matches(&exact, None, target), "{target}");
    }
    let broken = with_query("q", ValuePattern::Exact("100%".into()));
    assert!(matches(&broken, None, "/?q=100%") && matches(&broken, None, "/?q=100%25"));
    let present = with_query("preview", ValuePattern::Present);
    assert!(matches(&present, None, "/?preview") && matches(&present, None, "/?preview=0"));
    assert!(!matches(&present, None, "/?previews=1"));
    let regex = with_query("q", ValuePattern::Regex(anchored("[a-z ]+")));
    assert!(matches(&regex, None, "/?q=a+%62") && !matches(&regex, None, "/?q=%FF"));
}

#[test]
fn the_first_route_that_matches_wins_and_the_method_keeps_its_case() {
    let write = Match {
        methods: vec!["POST".into(), "PUT".into()],
        ..Match::default()
    };
    let routes = [
        route(write, None),
        route(Match::default(), None),
        route(Match::default(), None),
    ];
    let headers = HeaderMap::new();
    let by = |method| Wanted {
        host: None,
        method,
        path: "/",
        query: None,
        headers: &headers,
    };
    assert_eq!(find(&routes, &by("PUT")), Some(0));
    assert_eq!(find(&routes, &by("put")), Some(1));
    assert_eq!(find(&routes[..1], &by("GET")), None);
    assert_eq!(
        why_not(&routes[0].matcher, &by("GET")).unwrap().to_string(),
        "method is GET, not POST or PUT"
    );
}

#[test]
fn a_prefix_is_replaced_by_whole_segments_and_the_query_stays() {
    for (prefix, replacement, from, to) in [
        (
            "/v1/charges",
            "/",
            "/v1/charges/7?x=/v1/charges",
            "/7?x=/v1/charges",
        ),
        ("/v1/charges", "/", "/v1/charges", "/"),
        ("/v1/charges", "/", "/v1/charges?x=1", "/?x=1"),
        (
            "/v1/charges",
            "/",
            "/v1/charges//evil.example",
            "/evil.example",
        ),
        ("/v1", "/api", "/v1", "/api"),
        ("/v1", "/api", "/v1/", "/api/"),
        ("/v1", "/api/", "/v1/a", "/api/a"),
        ("/v1", "/api", "/v1//a", "/api/a"),
        ("/v1", "/api", "/v1/a//b", "/api/a//b"),
        ("/", "/api", "/", "/api/"),
        ("/", "/api/", "/a?", "/api/a?"),
        ("/", "/", "/a", "/a"),
    ] {
        let route = route(
            with_path(PathPattern::Prefix(prefix.into())),
            Some(replacement),
        );
        assert_eq!(
            rewritten_path(&route, from).as_deref(),
            Some(to),
            "{prefix} {from}"
        );
    }
    let route = |path, replacement| route(with_path(path), replacement);
    assert_eq!(
        rewritten_path(&route(PathPattern::Any, Some("/api")), "/a").as_deref(),
        Some("/api/a")
    );
    assert_eq!(
        rewritten_path(&route(PathPattern::Any, Some("/api")), "*"),
        None
    );
    assert_eq!(
        rewritten_path(&route(PathPattern::Prefix("/a".into()), None), "/a"),
        None
    );
    assert_eq!(
        rewritten_path(&route(PathPattern::Exact("/a".into()), Some("/b")), "/a"),
        None
    );
}

/// What the matcher means, said without care for time or memory.
fn naive(matcher: &Match, wanted: &Wanted<'_>) -> bool {
    let host = wanted.host.map(|host| {
        let without_port = match host.rfind(':') {
            Some(colon) if host[colon + 1..].chars().all(|c| c.is_ascii_digit()) => &host[..colon],
            _ => host,
        };
        let lower = without_port.to_lowercase();
        lower.strip_suffix('.').map(str::to_owned).unwrap_or(lower)
    });
    let host_holds = match (&matcher.host, &host) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(HostPattern::Exact(exact)), Some(host)) => **exact == **host,
        (Some(HostPattern::Suffix(suffix)), Some(host)) => {
            host.ends_with(&**suffix) && host.len() > suffix.len()
        }
    };
    let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let path_holds = match &matcher.path {
        PathPattern::Any => true,
        PathPattern::Exact(exact) => **exact == *wanted.path,
        PathPattern::Prefix(prefix) if **prefix == *"/" => wanted.path.starts_with('/'),
        PathPattern::Prefix(prefix) => segments(wanted.path).starts_with(&segments(prefix)),
        PathPattern::Regex(regex) => regex
            .find(wanted.path)
            .is_some_and(|found| found.as_str() == wanted.path),
    };
    let method_holds = matcher.methods.is_empty()
        || matcher
            .methods
            .iter()
            .any(|method| method.to_string() == wanted.method);
    let holds = |pattern: &ValuePattern, value: &[u8]| match pattern {
        ValuePattern::Present => true,
        ValuePattern::Exact(exact) => exact.as_bytes() == value,
        ValuePattern::Regex(regex) => {
            String::from_utf8(value.to_vec()).is_ok_and(|value| regex.is_match(&value))
        }
    };
    let headers_hold = matcher.headers.iter().all(|(name, pattern)| {
        let mut lines = wanted.headers.iter();
        lines.any(|(found, value)| found.as_str() == &**name && holds(pattern, value.as_bytes()))
    });
    let parameters: Vec<(Vec<u8>, Vec<u8>)> = wanted
        .query
        .unwrap_or("")
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (naively_decoded(name), naively_decoded(value))
        })
        .collect();
    let query_holds = matcher.query.iter().all(|(name, pattern)| {
        let mut parameters = parameters.iter();
        parameters.any(|(found, value)| found == name.as_bytes() && holds(pattern, value))
    });
    host_holds && path_holds && method_holds && headers_hold && query_holds
}

fn naively_decoded(text: &str) -> Vec<u8> {
    let spaced = text.replace('+', " ");
    let mut bytes = Vec::new();
    let mut index = 0;
    while index < spaced.len() {
        let code = spaced
            .get(index + 1..index + 3)
            .filter(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()));
        match (spaced.as_bytes()[index], code) {
            (b'%', Some(code)) => {
                bytes.push(u8::from_str_radix(code, 16).unwrap());
                index += 3;
            }
            (byte, _) => {
                bytes.push(byte);
                index += 1;
            }
        }
    }
    bytes
}

#[test]
fn it_agrees_with_a_naive_matcher_on_random_requests() {
    let mut chance = fastrand::Rng::with_seed(14);
    let mut matched = 0;
    for round in 0..6_000 {
        let matcher = random_match(&mut chance);
        let headers = random_headers(&mut chance);
        let host = pick(
            &mut chance,
            &[
                "", "a", "a.b", "A.b:80", "x.a.b", "a.b.", "x.a.b.:1", ".a.b", "[::1]:2",
            ],
        );
        let path = pick(
            &mut chance,
            &[
                "/", "/a", "/a/", "/a/b", "/ab", "/a//b", "*", "/a%2Fb", "", "/a/b/c",
            ],
        );
        let query = pick(
            &mut chance,
            &[
                "",
                "p",
                "p=",
                "p=1",
                "q&p=1&p=2",
                "p=%31",
                "%70=1",
                "p=+",
                "p=%2",
                "&&p==1",
                "p=%ff",
            ],
        );
        let wanted = Wanted {
            host: chance.bool().then_some(host),
            method: pick(&mut chance, &["GET", "POST", "get"]),
            path,
            query: chance.bool().then_some(query),
            headers: &headers,
        };
        let expected = naive(&matcher, &wanted);
        let mismatch = why_not(&matcher, &wanted);
        assert_eq!(
            mismatch.is_none(),
            expected,
            "round {round}: {matcher:?} {wanted:?} {mismatch:?}"
        );
        if let Some(mismatch) = mismatch {
            assert!(!mismatch.to_string().is_empty());
        }
        matched += usize::from(expected);
    }
    assert!(
        matched > 600,
        "only {matched} requests matched: the comparison says little"
    );
}

fn pick<'a>(chance: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[chance.usize(..from.len())]
}

fn random_match(chance: &mut fastrand::Rng) -> Match {
    let value = |chance: &mut fastrand::Rng| match chance.u8(..4) {
        0 => ValuePattern::Present,
        1 => ValuePattern::Regex(anchored(pick(chance, &["[0-9]+", ".*", " ?", "1|12"]))),
        _ => ValuePattern::Exact(pick(chance, &["", "1", "2", " ", "=1", "%2"]).into()),
    };
    let host = match chance.u8(..6) {
        0 => Some(HostPattern::Exact(
            pick(chance, &["a", "a.b", "[::1]"]).into(),
        )),
        1 => Some(HostPattern::Suffix(pick(chance, &[".a.b", ".b"]).into())),
        _ => None,
    };
    let path = match chance.u8(..6) {
        0 => PathPattern::Exact(pick(chance, &["/", "/a", "/a/"]).into()),
        1 | 2 => PathPattern::Prefix(pick(chance, &["/", "/a", "/a/b"]).into()),
        3 => PathPattern::Regex(anchored(pick(chance, &["/a.*", "/|/a", "/[^/]*"]))),
        _ => PathPattern::Any,
    };
    let mut matcher = Match {
        host,
        path,
        ..Match::default()
    };
    if chance.u8(..4) == 0 {
        matcher.methods = vec!["GET".into(), "PUT".into()];
    }
    if chance.u8(..4) == 0 {
        matcher.headers.push(("x-h".into(), value(chance)));
    }
    if chance.u8(..3) == 0 {
        matcher.query.push(("p".into(), value(chance)));
    }
    matcher
}

fn random_headers(chance: &mut fastrand::Rng) -> HeaderMap {
    let mut lines = Vec::new();
    for _ in 0..chance.u8(..3) {
        lines.push((
            pick(chance, &["x-h", "x-i"]),
            pick(chance, &["", "1", "2", "12"]),
        ));
    }
    headers(&lines)
}

#[test]
fn the_places_by_host_lead_to_the_first_route_that_matches() {
    let patterns = [
        None,
        Some(HostPattern::Exact("a.internal".into())),
        Some(HostPattern::Exact("b.internal".into())),
        Some(HostPattern::Suffix(".internal".into())),
    ];
    let paths = ["/", "/x", "/y"];
    let wanted_hosts = [
        None,
        Some("a.internal"),
        Some("A.Internal.:80"),
        Some("b.internal"),
        Some("c.internal"),
        Some("c"),
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let headers = HeaderMap::new();
    for _ in 0..300 {
        let matchers = (0..random.usize(0..12)).map(|_| Match {
            host: patterns[random.usize(..patterns.len())].clone(),
            path: PathPattern::Exact(paths[random.usize(..paths.len())].into()),
            ..Match::default()
        });
        let routes: Vec<Route> = matchers.map(|matcher| route(matcher, None)).collect();
        let places = ByHost::of(&routes);
        for (host, path) in wanted_hosts
            .iter()
            .flat_map(|host| paths.map(|path| (*host, path)))
        {
            let wanted = Wanted {
                host,
                method: "GET",
                path,
                query: None,
                headers: &headers,
            };
            assert_eq!(
                places.find(&routes, &wanted),
                find(&routes, &wanted),
                "{host:?} {path} {routes:?}"
            );
        }
    }
}
