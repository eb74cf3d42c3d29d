use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::plan::{
    Address, ErrorFormat, HostPattern, Keep, LogDestination, PathPattern, Policies, Role, Route,
    ValuePattern,
};
use crate::policy::{backoff, balance, breaker, budget, bulkhead, rate_limit, retry, timeout};

fn none(_: &str) -> Option<String> {
    None
}

fn right(text: &str) -> Loaded {
    parse("test.yaml", text, &none)
        .map_err(|problems| problems.to_string())
        .unwrap()
}

fn wrong(text: &str) -> String {
    parse("test.yaml", text, &none).unwrap_err().to_string()
}

fn value<'a>(loaded: &'a Loaded, path: &str) -> &'a str {
    loaded
        .effective
        .get(path)
        .map_or("absent", |entry| &entry.value)
}

fn origin(loaded: &Loaded, path: &str) -> String {
    loaded
        .effective
        .get(path)
        .map(|entry| entry.origin.to_string())
        .unwrap_or_default()
}

fn route(loaded: &Loaded, index: usize) -> &Route {
    &loaded.plan.listeners[0].routes[index]
}

/// A listener with routes to `a`, the route's own keys given, and the upstream `a` with these keys.
fn with(upstream: &str, route: &str) -> String {
    format!(
        "listeners:\n  in: {{ address: '127.0.0.1:0', routes: [{{ upstream: a{route} }}] }}\n\
         upstreams:\n  a: {{ endpoints: [a:1]{upstream} }}\n"
    )
}

#[test]
fn the_example_is_right_and_short() {
    let text = include_str!("../../config/example.yaml");
    let loaded = right(text);
    assert_eq!(loaded.plan.listeners.len(), 1);
    assert!(text.lines().count() <= 15);
    assert_eq!(value(&loaded, "upstreams.payments.retry.max_attempts"), "3");
    assert_eq!(
        value(&loaded, "listeners.outbound.routes[0].timeouts.try"),
        "500ms"
    );
    assert_eq!(crate::config::lint::lint(&loaded), []);
}

#[test]
fn blocks_that_are_present_have_the_defaults_of_the_policies() {
    let all = ", timeouts: {}, retry: {}, circuit_breaker: {}, bulkhead: {}, rate_limit: {}";
    let loaded = right(&with(all, ""));
    let policies = &route(&loaded, 0).policies;
    let seconds = Duration::from_secs;
    let expected = timeout::Settings {
        connect: Some(seconds(1)),
        request: Some(seconds(15)),
        per_try: None,
        idle: Some(seconds(300)),
    };
    assert_eq!(policies.timeouts, expected);
    assert_eq!(policies.retry.as_deref(), Some(&retry::Settings::default()));
    assert_eq!(
        policies.circuit_breaker.as_deref(),
        Some(&breaker::Settings::default())
    );
    assert_eq!(policies.bulkhead, Some(bulkhead::Settings::default()));
    assert_eq!(
        policies.rate_limit,
        Some(rate_limit::Settings {
            per_second: 100.0,
            burst: 20.0
        })
    );
    assert!(!route(&loaded, 0).own_rate_limit);
}

#[test]
fn blocks_that_are_absent_are_off() {
    let loaded = right(&with("", ""));
    let Policies {
        timeouts,
        retry,
        circuit_breaker,
        bulkhead,
        rate_limit,
        fallback,
    } = &route(&loaded, 0).policies;
    assert_eq!(*timeouts, timeout::Settings::default());
    assert!(
        retry.is_none() && circuit_breaker.is_none() && bulkhead.is_none() && rate_limit.is_none()
    );
    assert!(fallback.is_empty());
    assert_eq!(value(&loaded, "listeners.in.routes[0].retry"), "off");
    assert_eq!(origin(&loaded, "listeners.in.routes[0].retry"), "default");
    let listener = &loaded.plan.listeners[0];
    assert_eq!(
        (listener.header_timeout, listener.idle_timeout),
        (Duration::from_secs(10), Duration::from_secs(60))
    );
    assert_eq!(
        (
            listener.header_size,
            listener.max_headers,
            listener.body_size
        ),
        (65_536, 100, None)
    );
    let pool = &loaded.plan.upstreams[0].pool;
    assert_eq!(
        (
            pool.idle_timeout,
            pool.max_idle,
            pool.max_requests_per_connection
        ),
        (Duration::from_secs(4), 256, None)
    );
    assert_eq!(loaded.plan.admin.to_string(), "127.0.0.1:9901");
}

#[test]
fn inheritance_goes_key_by_key_from_defaults_to_upstream_to_route() {
    let text = format!(
        "defaults: {{ retry: {{ max_attempts: 5, max_body: 1KiB, backoff: {{ base: 10ms, max: 3s }} }} }}\n{}",
        with(
            ", retry: { max_body: 2KiB, backoff: { base: 20ms } }",
            ", retry: { backoff: { jitter: none } }"
        )
    );
    let loaded = right(&text);
    let own = loaded.plan.upstreams[0].policies.retry.clone().unwrap();
    let merged = route(&loaded, 0).policies.retry.clone().unwrap();
    assert_eq!(
        (own.max_attempts, own.max_body, own.backoff.jitter),
        (5, 2_048, backoff::Jitter::Full)
    );
    assert_eq!(
        (merged.max_attempts, merged.max_body, merged.backoff.jitter),
        (5, 2_048, backoff::Jitter::None)
    );
    assert_eq!(
        (merged.backoff.base, merged.backoff.max),
        (Duration::from_millis(20), Duration::from_secs(3))
    );
    let path = |key: &str| origin(&loaded, &format!("listeners.in.routes[0].retry.{key}"));
    assert_eq!(path("max_attempts"), "test.yaml:1:36 (from defaults)");
    assert_eq!(path("max_body"), "test.yaml:5:45 (from upstream)");
    assert_eq!(path("backoff.jitter"), "test.yaml:3:85");
    assert_eq!(path("backoff.kind"), "default");
    assert_eq!(value(&loaded, "defaults.retry.max_attempts"), "absent");
}

#[test]
fn off_switches_an_inherited_block_off_and_a_block_switches_it_on_again() {
    let defaults =
        "defaults: { retry: { max_attempts: 5 }, fallback: [{ on: [any], respond: {} }] }\n";
    let off_at_upstream = right(&format!(
        "{defaults}{}",
        with(", retry: off, fallback: off", "")
    ));
    assert!(route(&off_at_upstream, 0).policies.retry.is_none());
    assert!(route(&off_at_upstream, 0).policies.fallback.is_empty());
    assert_eq!(
        origin(&off_at_upstream, "upstreams.a.retry"),
        "test.yaml:5:33"
    );
    let off_at_route = right(&format!(
        "{defaults}{}",
        with("", ", retry: off, fallback: []")
    ));
    assert!(
        route(&off_at_route, 0).policies.retry.is_none()
            && route(&off_at_route, 0).policies.fallback.is_empty()
    );
    assert_eq!(
        off_at_route.plan.upstreams[0]
            .policies
            .retry
            .as_ref()
            .unwrap()
            .max_attempts,
        5
    );
    let on_again = right(&format!(
        "{defaults}{}",
        with(", retry: off", ", retry: {}")
    ));
    assert_eq!(
        route(&on_again, 0)
            .policies
            .retry
            .as_ref()
            .unwrap()
            .max_attempts,
        3
    );
}

#[test]
fn rules_for_a_class_have_the_values_around_them_where_they_set_none() {
    let text = with(
        ", retry: { max_attempts: 5, backoff: { base: 10ms }, by_class: { timeout: { max_attempts: 2 } } }",
        ", retry: { max_attempts: 6, by_class: { rate_limited: { backoff: { max: 7s } } } }",
    );
    let by_class = route(&right(&text), 0)
        .policies
        .retry
        .as_ref()
        .unwrap()
        .by_class;
    let (timeout, limited) = (by_class.timeout.unwrap(), by_class.rate_limited.unwrap());
    assert_eq!(
        (timeout.max_attempts, timeout.backoff.base),
        (2, Duration::from_millis(10))
    );
    assert_eq!(
        (limited.max_attempts, limited.backoff.base),
        (6, Duration::from_millis(10))
    );
    assert_eq!(
        (limited.backoff.max, timeout.backoff.max),
        (Duration::from_secs(7), Duration::from_secs(1))
    );
    assert_eq!((by_class.transient, by_class.unavailable), (None, None));
}

#[test]
fn a_rate_limit_is_the_routes_own_where_the_route_writes_one() {
    let own =
        |upstream, own| right(&with(upstream, own)).plan.listeners[0].routes[0].own_rate_limit;
    assert!(own(", rate_limit: {}", ", rate_limit: { burst: 5 }"));
    assert!(own("", ", rate_limit: {}"));
    assert!(!own(", rate_limit: {}", ""));
    assert!(!own(", rate_limit: {}", ", rate_limit: off"));
}

#[test]
fn routes_without_a_name_have_their_upstreams() {
    let text = "listeners:\n  in: { address: '127.0.0.1:0', routes: [{ upstream: a }, { upstream: b }, { name: x, upstream: a }, { upstream: a }] }\nupstreams: { a: { endpoints: [a:1] }, b: { endpoints: [b:1] } }\n";
    let loaded = right(text);
    let names: Vec<_> = loaded.plan.listeners[0]
        .routes
        .iter()
        .map(|route| route.name.to_string())
        .collect();
    assert_eq!(names, ["a", "b", "x", "a.2"]);
    assert_eq!(origin(&loaded, "listeners.in.routes[3].name"), "default");
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let loaded = right(include_str!("tests/everything.yaml"));
    let plan = &loaded.plan;
    assert_eq!(
        (
            &*plan.service,
            plan.runtime.workers.get(),
            plan.runtime.drain
        ),
        ("42", 3, Duration::from_secs(90))
    );
    assert_eq!(plan.errors.format, ErrorFormat::Problem);
    assert_eq!(
        plan.errors.documentation_url.as_deref(),
        Some("https://docs.example.com/{error_code}")
    );
    assert_eq!(
        plan.access_log.destination,
        Some(LogDestination::File("/tmp/access.log".into()))
    );
    assert_eq!(plan.access_log.keep, Keep::Failures);
    let tracing = plan.tracing.as_ref().unwrap();
    assert_eq!(
        tracing.collector.to_string(),
        "https://otel.example.com/custom"
    );
    assert_eq!(&*tracing.headers[0].0, "x-tenant");
    assert_eq!(&*tracing.headers[1].1.0, "Bearer abc");
    assert!(!format!("{tracing:?}").contains("acme"));
    let keep = tracing.keep;
    assert_eq!(
        (tracing.timeout, keep.failed, keep.slower_than, keep.rest),
        (Duration::from_secs(3), 0.5, None, 0.0)
    );
    let explain = plan.explain.unwrap();
    assert_eq!(
        (explain.keep, explain.slower_than),
        (7, Duration::from_millis(250))
    );
    assert_eq!(plan.listeners[1].role, Role::Inbound);
    assert_eq!(
        (plan.listeners[0].header_size, plan.listeners[0].body_size),
        (8_192, Some(1_000_000))
    );

    let charges = route(&loaded, 0);
    assert_eq!(
        charges.matcher.host,
        Some(HostPattern::Suffix(".internal".into()))
    );
    assert!(
        matches!(&charges.matcher.path, PathPattern::Prefix(prefix) if &**prefix == "/v1/charges")
    );
    assert_eq!(charges.matcher.headers.len(), 5);
    assert!(
        matches!(&charges.matcher.headers[0], (name, ValuePattern::Exact(value)) if &**name == "x-tenant" && &**value == "acme")
    );
    assert!(matches!(
        charges.matcher.headers[1].1,
        ValuePattern::Present
    ));
    let ValuePattern::Regex(version) = &charges.matcher.headers[2].1 else {
        panic!("no expression")
    };
    assert!(version.is_match("12") && !version.is_match("v12"));
    assert_eq!(
        (
            charges.rewrite.path_prefix.as_deref(),
            charges.rewrite.host.as_deref()
        ),
        (Some("/"), Some("payments.prod:8080"))
    );
    assert_eq!(
        (
            charges.policies.timeouts.idle,
            charges.policies.timeouts.per_try
        ),
        (None, Some(Duration::from_secs(1)))
    );
    assert!(
        charges.policies.retry.is_none()
            && charges.policies.fallback.is_empty()
            && charges.own_rate_limit
    );
    let bulkhead = charges.policies.bulkhead.unwrap();
    assert_eq!(
        (
            bulkhead.max_in_flight,
            bulkhead.max_queue,
            bulkhead.queue_timeout
        ),
        (None, 7, Duration::from_millis(50))
    );
    assert!(
        matches!(&route(&loaded, 1).matcher.path, PathPattern::Exact(path) if &**path == "/health")
    );
    assert!(
        matches!(&route(&loaded, 2).matcher.path, PathPattern::Regex(path) if path.is_match("/v1/x") && !path.is_match("/a/v1"))
    );
    assert!(route(&loaded, 3).policies.circuit_breaker.is_none());

    let payments = &plan.upstreams[0];
    let addresses: Vec<_> = payments
        .endpoints
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect();
    assert_eq!(
        addresses,
        [
            "127.0.0.1:9001",
            "payments.internal:9001",
            "payments:80",
            "[::1]:9002",
            "127.0.0.1:9002",
            "srv _http._tcp.payments.internal",
            "kubernetes:shop/payments:8080"
        ]
    );
    assert_eq!(payments.endpoints[4].weight, 2);
    assert_eq!(payments.endpoints[5].weight, 3);
    assert_eq!(payments.endpoints[6].weight, 4);
    let cluster = &plan.runtime.kubernetes;
    let api = cluster.api.as_ref().unwrap().to_string();
    assert_eq!(
        (api.as_str(), cluster.zone.as_deref()),
        ("https://[fd00::1]:6443", Some("a"))
    );
    let files = [&cluster.token_file, &cluster.ca].map(|file| file.as_deref().unwrap());
    assert_eq!(files, ["/token", "/ca.crt"].map(std::path::Path::new));
    let servers: Vec<_> = plan
        .runtime
        .dns_servers
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(servers, ["[::1]:53", "127.0.0.1:5353"]);
    assert!(matches!(
        payments.endpoints[1].address,
        Address::Name { port: 9001, .. }
    ));
    assert_eq!(
        payments.balance,
        balance::Settings::Hash {
            header: "x-user-id".into()
        }
    );
    assert!(payments.critical);
    assert_eq!(
        (payments.max_connections, payments.pool.max_idle),
        (Some(20), 0)
    );
    let breaker = payments.policies.circuit_breaker.clone().unwrap();
    assert_eq!(
        (
            breaker.consecutive_failures,
            breaker.failure_rate,
            breaker.slow_rate
        ),
        (None, Some(0.125), Some(0.5))
    );
    assert!(
        breaker.ignore.contains(503)
            && breaker.ignore.contains(599)
            && !breaker.ignore.contains(404)
    );
    assert_eq!(breaker.when_all_open, breaker::WhenAllOpen::SendAnyway);
    let fallback = &payments.policies.fallback[0];
    assert_eq!(
        (fallback.respond.status, &*fallback.respond.body),
        (200, b"{}".as_slice())
    );
    assert_eq!(&*fallback.respond.headers[0].0, "content-type");

    let orders = &plan.upstreams[1];
    assert_eq!(orders.balance, balance::Settings::RoundRobin);
    assert!(orders.policies.fallback.is_empty());
    let retry = orders.policies.retry.clone().unwrap();
    assert_eq!(
        (
            retry.max_attempts,
            retry.budget,
            retry.respect_retry_after,
            retry.max_body
        ),
        (4, None, false, 0)
    );
    assert_eq!(
        retry.methods,
        retry::Methods::List(["GET".into(), "PURGE".into()].into())
    );
    assert!(
        !retry.on.retry_after && !retry.on.statuses.contains(503),
        "a list replaces a list"
    );
    let limited = retry.by_class.rate_limited.unwrap();
    assert_eq!(
        (limited.max_attempts, limited.backoff.kind),
        (2, backoff::Kind::Fixed)
    );
    assert_eq!(limited.backoff.base, Duration::from_secs(1));
}

#[test]
fn the_words_of_settings_are_understood() {
    let loaded = right(&with(
        ", balance: random, retry: { methods: all, on: [], backoff: { jitter: equal, kind: linear }, budget: { ratio: 0%, min_per_second: 0.5 } }",
        "",
    ));
    let upstream = &loaded.plan.upstreams[0];
    assert_eq!(upstream.balance, balance::Settings::Random);
    let retry = upstream.policies.retry.clone().unwrap();
    assert_eq!(
        (
            retry.methods.clone(),
            retry.backoff.jitter,
            retry.backoff.kind
        ),
        (
            retry::Methods::All,
            backoff::Jitter::Equal,
            backoff::Kind::Linear
        )
    );
    assert_eq!(
        retry.budget,
        Some(budget::Settings {
            ratio: 0.0,
            min_per_second: 0.5,
            window: Duration::from_secs(10)
        })
    );
    for (text, destination) in [
        ("off", None),
        ("stderr", Some(LogDestination::Stderr)),
        ("stdout", Some(LogDestination::Stdout)),
    ] {
        let loaded = right(&format!(
            "access_log: {{ destination: {text} }}\n{}",
            with("", "")
        ));
        assert_eq!(loaded.plan.access_log.destination, destination);
    }
}

fn environment(values: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    let values: HashMap<String, String> = values
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    move |name| values.get(name).cloned()
}

#[test]
fn values_come_from_the_environment_before_they_have_a_type() {
    let text = with(
        ", retry: { max_attempts: \"${N:-7}\", max_body: \"${BODY}\" }, timeouts: { request: \"${REQUEST:-2}s\" }",
        "",
    );
    let loaded = parse("test.yaml", &text, &environment(&[("BODY", "2KiB")])).unwrap();
    let retry = loaded.plan.upstreams[0].policies.retry.clone().unwrap();
    assert_eq!((retry.max_attempts, retry.max_body), (7, 2_048));
    assert_eq!(
        loaded.plan.upstreams[0].policies.timeouts.request,
        Some(Duration::from_secs(2))
    );
    assert_eq!(
        origin(&loaded, "upstreams.a.retry.max_body"),
        "test.yaml:4:70 (from $BODY)"
    );
    assert_eq!(
        origin(&loaded, "upstreams.a.retry.max_attempts"),
        "test.yaml:4:49"
    );
    let place = origin(&loaded, "listeners.in.routes[0].retry.max_body");
    assert_eq!(place, "test.yaml:4:70 (from $BODY)");
}

#[test]
fn a_variable_cannot_add_to_the_structure() {
    let text = with("", "").replace("a:1", "\"${ENDPOINT}\"");
    let evil = environment(&[("ENDPOINT", "a:1]\n    retry: {}\n    x: [")]);
    let problems = parse("test.yaml", &text, &evil).unwrap_err();
    assert_eq!(problems.0.len(), 1, "{problems}");
    let service = format!("service: ${{SERVICE}}\n{}", with("", ""));
    let null = parse("test.yaml", &service, &environment(&[("SERVICE", "null")])).unwrap();
    assert_eq!(&*null.plan.service, "null");
}

#[test]
fn a_list_with_a_value_from_the_environment_is_told_as_from_there() {
    let text = with("", "").replace("a:1", "\"${ENDPOINT}\"");
    let loaded = parse("test.yaml", &text, &environment(&[("ENDPOINT", "a:1")])).unwrap();
    assert_eq!(
        origin(&loaded, "upstreams.a.endpoints"),
        "test.yaml:4:20 (from $ENDPOINT)"
    );
}

#[test]
fn the_admin_address_can_come_from_the_environment() {
    let text = format!("admin: {{ address: 127.0.0.1:1 }}\n{}", with("", ""));
    let loaded = parse(
        "test.yaml",
        &text,
        &environment(&[(ADMIN_ADDRESS, "127.0.0.1:2")]),
    )
    .unwrap();
    assert_eq!(loaded.plan.admin.to_string(), "127.0.0.1:2");
    assert_eq!(
        origin(&loaded, "admin.address"),
        "from $MAMPARO_ADMIN_ADDRESS"
    );
    let problems = parse("test.yaml", &text, &environment(&[(ADMIN_ADDRESS, "9901")]))
        .unwrap_err()
        .to_string();
    let expected = "admin.address: `9901` is no address to listen on: it needs an IP address and a port, in the environment's MAMPARO_ADMIN_ADDRESS";
    assert!(problems.starts_with(expected), "{problems}");
    let problems = parse(
        "test.yaml",
        &with("", ""),
        &environment(&[(ADMIN_ADDRESS, "x")]),
    )
    .unwrap_err();
    assert_eq!(problems.0.len(), 1);
}

#[test]
fn the_address_for_metrics_is_none_or_the_files_or_the_environments() {
    let told = |text: &str, values: &[(&str, &str)]| {
        let loaded = parse("test.yaml", text, &environment(values)).unwrap();
        loaded.plan.metrics.map(|address| address.to_string())
    };
    let text = format!(
        "admin: {{ metrics_address: 127.0.0.1:1 }}\n{}",
        with("", "")
    );
    assert_eq!(told(&with("", ""), &[]), None);
    assert_eq!(told(&text, &[]).unwrap(), "127.0.0.1:1");
    let values = [(METRICS_ADDRESS, "0.0.0.0:9902")];
    assert_eq!(told(&text, &values).unwrap(), "0.0.0.0:9902");
    assert_eq!(told(&with("", ""), &values).unwrap(), "0.0.0.0:9902");
    let values = environment(&[(METRICS_ADDRESS, "9902")]);
    let problems = parse("test.yaml", &text, &values).unwrap_err().to_string();
    assert!(
        problems.starts_with("admin.metrics_address: "),
        "{problems}"
    );
    let text = "admin: { address: '127.0.0.1:1', metrics_address: '0.0.0.0:1' }\nlisteners:\n  a: { address: '127.0.0.1:2', upstream: a }\nupstreams: { a: { endpoints: [a:1] } }\n";
    let told = wrong(text);
    assert!(
        told.contains(
            "admin.metrics_address: 0.0.0.0:1 is taken: the admin interface listens on 127.0.0.1:1"
        ),
        "{told}"
    );
}

#[test]
fn the_service_is_the_host_where_no_one_says_otherwise() {
    let loaded = parse(
        "test.yaml",
        &with("", ""),
        &environment(&[("HOSTNAME", "pod-7")]),
    )
    .unwrap();
    assert_eq!(
        (&*loaded.plan.service, origin(&loaded, "service").as_str()),
        ("pod-7", "auto")
    );
    assert!(!right(&with("", "")).plan.service.is_empty());
    assert_eq!(origin(&right(&with("", "")), "runtime.workers"), "auto");
}

#[test]
fn everything_wrong_is_told_at_once() {
    let text = "runtime:\n  drian: 5s\n  drain: 5\nlisteners:\n  a: { address: 1, upstream: pay, roles: inbound }\nupstreams:\n  payments: { endpoints: [], retry: { max_attempts: 0, backoff: { base: 5s } } }\n";
    let problems = parse("bad.yaml", text, &none).unwrap_err();
    assert_eq!(problems.0.len(), 8, "{problems}");
    let lines: Vec<_> = problems
        .0
        .iter()
        .filter_map(|problem| problem.place.as_ref())
        .map(|place| place.line)
        .collect();
    assert_eq!(lines, [2, 3, 5, 5, 5, 7, 7, 7]);
}

#[test]
fn an_inherited_mistake_is_told_once() {
    let text = format!(
        "defaults: {{ circuit_breaker: {{ open_for: 1h }} }}\n{}  b: {{ endpoints: [b:1] }}\n",
        with("", "")
    );
    assert!(wrong(&text).ends_with("\n1 problem."), "{}", wrong(&text));
}

#[test]
fn anchors_and_aliases_work_within_bounds() {
    let text = "upstreams:\n  a: &a { endpoints: [a:1], retry: &r {} }\n  b: { endpoints: [b:1], retry: *r }\nlisteners:\n  in: { address: '127.0.0.1:0', upstream: b }\n";
    assert!(right(text).plan.upstreams[1].policies.retry.is_some());
}

#[test]
fn hashes_tell_contents_apart() {
    let hash = |text: &str| right(text).hash;
    assert_eq!(hash(&with("", "")), hash(&with("", "")));
    assert_ne!(hash(&with("", "")), hash(&with(", retry: {}", "")));
}

#[test]
fn port_0_is_no_clash() {
    let text = "admin: { address: '127.0.0.1:0' }\nlisteners:\n  a: { address: '127.0.0.1:0', upstream: a }\n  b: { address: '127.0.0.1:0', upstream: a }\nupstreams: { a: { endpoints: [a:1] } }\n";
    assert_eq!(right(text).plan.listeners.len(), 2);
}

#[test]
fn a_header_is_set_once_whatever_its_case() {
    let text = with(
        ", fallback: [{ on: [any], respond: { headers: { x-a: 1, X-A: 2, Connection: close } } }]",
        "",
    );
    let told = wrong(&text);
    assert!(
        told.contains("the header `x-a` is already set")
            && told.contains("mamparo sets `connection` itself"),
        "{told}"
    );
}

mod files;

/// Fault 66: whatever is done to a file, it is read or refused.
#[test]
fn fault_066_no_mutation_makes_it_panic() {
    let original = include_bytes!("tests/everything.yaml");
    let mut random = fastrand::Rng::with_seed(66);
    let pieces: [&[u8]; 12] = [
        b"{", b"}", b"[", b"]", b": ", b"- ", b"\n", b"*a", b"&a ", b"${X", b"\"", b"\t",
    ];
    let mut accepted = 0;
    for _ in 0..300 {
        let mut bytes = original.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..bytes.len());
            let end = (at + random.usize(0..20)).min(bytes.len());
            match random.u8(0..4) {
                0 => drop(bytes.drain(at..end)),
                1 => drop(bytes.splice(
                    at..at,
                    pieces[random.usize(0..pieces.len())].iter().copied(),
                )),
                2 => bytes[at] = random.u8(32..127),
                _ => {
                    let copy = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, copy));
                }
            }
        }
        match parse("mutated.yaml", &String::from_utf8_lossy(&bytes), &none) {
            Ok(_) => accepted += 1,
            Err(problems) => assert!(!problems.to_string().is_empty()),
        }
    }
    assert!((10..290).contains(&accepted), "{accepted}");
}

/// Ten thousand routes must not hold ten thousand copies of what they inherit.
#[test]
fn what_is_inherited_whole_is_made_once() {
    let loaded = right(
        "defaults: { retry: {}, circuit_breaker: {}, fallback: [{ on: any, respond: { status: 503 } }] }
listeners: { in: { address: '127.0.0.1:1', routes: [{ upstream: a }, { upstream: a, retry: { max_attempts: 7 } }, { upstream: b }] } }
upstreams: { a: { endpoints: [a:1] }, b: { endpoints: [b:1] } }",
    );
    let [whole, own, other] = [0, 1, 2].map(|index| &route(&loaded, index).policies);
    let upstream = &loaded.plan.upstreams[0].policies;
    for inherited in [whole, other, upstream] {
        let same = |a: &Policies, b: &Policies| {
            Arc::ptr_eq(a.retry.as_ref().unwrap(), b.retry.as_ref().unwrap())
                && Arc::ptr_eq(&a.fallback, &b.fallback)
        };
        assert!(same(inherited, whole));
        assert!(!same(inherited, own));
    }
    let attempts = |index: usize| format!("listeners.in.routes[{index}].retry.max_attempts");
    assert_eq!(
        (value(&loaded, &attempts(0)), value(&loaded, &attempts(1))),
        ("3", "7")
    );
}
