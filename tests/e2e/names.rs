//! Endpoints by names of the DNS: asked for by the time that answers hold, kept where none comes, and never
//! on the way of a request.

use std::time::{Duration, Instant};

use mamparo::server::status::{Endpoint, Source};

use crate::support::{DnsServer, Proxy, Says, Upstream, eventually};

/// One listener before one upstream with these endpoints, whose names this server knows.
fn before(dns: &DnsServer, endpoints: &str) -> Proxy {
    Proxy::start(&configuration(dns, endpoints))
}

fn configuration(dns: &DnsServer, endpoints: &str) -> String {
    format!(
        "runtime: {{ workers: 2, drain: 1s, dns: {{ servers: [\"{}\"] }} }}\n\
         listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [{endpoints}], balance: round_robin }} }}\n",
        dns.address()
    )
}

fn source(proxy: &Proxy) -> Source {
    proxy.upstream("u").sources.swap_remove(0)
}

fn endpoints(proxy: &Proxy) -> Vec<(String, u32)> {
    let endpoints = proxy.upstream("u").endpoints.into_iter();
    let mut all: Vec<_> = endpoints
        .map(|one: Endpoint| (one.address, one.weight))
        .collect();
    all.sort();
    all
}

fn at(upstream: &Upstream, weight: u32) -> (String, u32) {
    (upstream.address().to_string(), weight)
}

#[test]
fn fault_059_a_name_that_resolves_only_later() {
    let (upstream, dns) = (Upstream::always(200), DnsServer::start());
    let began = Instant::now();
    let proxy = before(&dns, &format!("\"app.test:{}\"", upstream.port()));
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "it is answered: no"
    );
    assert_eq!(proxy.admin("GET", "/readyz", "").status, 200);
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (503, Some("no_endpoint"))
    );
    let why = format!("'u' has no endpoint: app.test:{}: ", upstream.port());
    let text = answer.text();
    assert!(text.contains(&why) && text.contains("NXDOMAIN"), "{text}");
    let problem = source(&proxy).problem;
    assert!(problem.is_some_and(|text| text.contains("NXDOMAIN")));
    dns.says("app.test", Says::found(60, &["127.0.0.1"]));
    eventually("it resolves", || proxy.get("/").status == 200);
    let source = source(&proxy);
    assert_eq!((source.problem, source.addresses), (None, 1));
    let next = source.next_ms.expect("it is asked again");
    assert!((50_000..=60_000).contains(&next), "{next}");
}

/// Rule 86: a server that does not answer holds up the start for two seconds, and no longer.
#[test]
fn fault_059_a_server_that_is_silent_at_the_start() {
    let (upstream, dns) = (Upstream::always(200), DnsServer::start());
    dns.says("app.test", Says::Silence);
    let began = Instant::now();
    let proxy = before(&dns, &format!("\"app.test:{}\"", upstream.port()));
    let took = began.elapsed();
    let within = Duration::from_millis(1900)..Duration::from_secs(4);
    assert!(within.contains(&took), "{took:?}");
    assert_eq!(proxy.get("/").reason().as_deref(), Some("no_endpoint"));
}

/// Fault 60: of two servers, one is silent.
#[test]
fn fault_060_one_of_two_servers_is_enough() {
    let upstream = Upstream::always(200);
    for silent in [0, 1] {
        let servers = [DnsServer::start(), DnsServer::start()];
        for server in &servers {
            server.says("app.test", Says::found(60, &["127.0.0.1"]));
        }
        servers[silent].says("app.test", Says::Silence);
        let [first, second] = servers.each_ref().map(DnsServer::address);
        let yaml = configuration(&servers[0], &format!("\"app.test:{}\"", upstream.port()));
        let both = format!("\"{first}\", \"{second}\"");
        let proxy = Proxy::start(&yaml.replace(&format!("\"{first}\""), &both));
        eventually("the other one answers", || proxy.get("/").status == 200);
    }
}

/// Whatever comes in the place of a good answer, the addresses of before serve on (rule 68).
#[track_caller]
fn keeps(says: Says, problem: &str) {
    let (upstream, dns) = (Upstream::always(200), DnsServer::start());
    dns.says("app.test", Says::found(0, &["127.0.0.1"]));
    let proxy = before(&dns, &format!("\"app.test:{}\"", upstream.port()));
    assert_eq!(proxy.get("/").status, 200);
    dns.says("app.test", says);
    eventually("the problem is told", || {
        source(&proxy)
            .problem
            .is_some_and(|text| text.contains(problem))
    });
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(endpoints(&proxy), [at(&upstream, 1)]);
    let failed = [("upstream", "u"), ("result", "failed")];
    assert!(proxy.metric("mamparo_discovery_updates_total", &failed) >= 1.0);
    let text = proxy.admin("GET", "/api/v1/status", "").text();
    assert!(text.contains("the last known address is kept"), "{text}");
}

#[test]
fn fault_060_servfail_keeps_the_last_good_addresses() {
    keeps(Says::Code(2), "Server Failure");
}

#[test]
fn fault_060_refused_keeps_the_last_good_addresses() {
    keeps(Says::Code(5), "Refused");
}

#[test]
fn fault_060_nxdomain_keeps_the_last_good_addresses() {
    keeps(Says::Code(3), "NXDOMAIN");
}

#[test]
fn fault_060_an_empty_answer_keeps_the_last_good_addresses() {
    keeps(Says::Code(0), "nothing behind the name");
}

#[test]
fn fault_060_silence_keeps_the_last_good_addresses() {
    keeps(Says::Silence, "");
}

/// Fault 60: a time to live of nothing is one of a second; rule 68: never asked for by a request.
#[test]
fn fault_060_a_name_is_asked_for_by_its_time_to_live() {
    let (upstream, dns) = (Upstream::always(200), DnsServer::start());
    dns.says("fast.test", Says::found(0, &["127.0.0.1"]));
    dns.says("slow.test", Says::found(300, &["127.0.0.1"]));
    let port = upstream.port();
    let proxy = before(&dns, &format!("\"fast.test:{port}\", \"slow.test:{port}\""));
    eventually("the fast one is asked for three times", || {
        assert_eq!(proxy.get("/").status, 200);
        dns.asked("fast.test").len() >= 3
    });
    assert_eq!(dns.asked("slow.test").len(), 1);
    let asked = dns.asked("fast.test");
    for pair in asked.windows(2) {
        let between = pair[1] - pair[0];
        assert!(between >= Duration::from_millis(890), "{between:?}");
    }
}

/// Both upstreams name the same, which could be a container's: it is asked for once.
#[test]
fn a_name_that_two_upstreams_share_is_asked_for_once() {
    let (upstream, dns) = (Upstream::always(200), DnsServer::start());
    dns.says("my_app.test", Says::found(300, &["127.0.0.1"]));
    let endpoint = format!("\"my_app.test:{}\"", upstream.port());
    let more = format!("  v: {{ endpoints: [{endpoint}] }}\n");
    let yaml = configuration(&dns, &endpoint)
        .replace("upstreams: { u: {", "upstreams:\n  u: {")
        .replace("round_robin } }", "round_robin }");
    let proxy = Proxy::start(&(yaml + &more));
    for name in ["u", "v"] {
        assert_eq!(proxy.upstream(name).endpoints.len(), 1, "{name}");
    }
    assert_eq!(dns.asked("my_app.test").len(), 1);
}

/// An address that is missing from an answer gets no more requests, and those in flight are finished.
#[test]
fn an_address_that_is_missing_gets_no_more_requests() {
    let dns = DnsServer::start();
    let (a, b) = (Upstream::always(200), Upstream::always(200));
    let both = [(0, 0, a.port(), "h.test"), (0, 0, b.port(), "h.test")];
    dns.says("h.test", Says::found(1, &["127.0.0.1"]));
    dns.says("_http._tcp.app.test", Says::services(1, &both));
    let proxy = before(&dns, "{ srv: _http._tcp.app.test }");
    for _ in 0..4 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!((a.count(), b.count()), (2, 2));
    dns.says("_http._tcp.app.test", Says::services(1, &both[..1]));
    let mut expected = vec![at(&a, 1), at(&b, 0)];
    expected.sort();
    eventually("it is only kept", || endpoints(&proxy) == expected);
    for _ in 0..4 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!((a.count(), b.count()), (6, 2));
    let state = |state| [("upstream", "u"), ("state", state)];
    assert_eq!(proxy.metric("mamparo_endpoints", &state("available")), 1.0);
    assert_eq!(proxy.metric("mamparo_endpoints", &state("draining")), 1.0);
    // It is back, with all that is known of it.
    dns.says("_http._tcp.app.test", Says::services(1, &both));
    eventually("both are used", || {
        endpoints(&proxy).iter().all(|one| one.1 == 1)
    });
}

/// The lowest priority counts, with its weights and ports; a target that is gone leaves the others.
#[test]
pub(crate) fn targets_of_a_record() {
    let dns = DnsServer::start();
    let [a, b, c] = [(); 3].map(|()| Upstream::always(200));
    dns.says("h.test", Says::found(1, &["127.0.0.1"]));
    let services = [
        (10, 20, a.port(), "h.test"),
        (10, 10, b.port(), "h.test"),
        (20, 10, c.port(), "h.test"),
    ];
    dns.says("_http._tcp.app.test", Says::services(1, &services));
    let proxy = before(&dns, "{ srv: _http._tcp.app.test }");
    let mut expected = vec![at(&a, 2), at(&b, 1)];
    expected.sort();
    assert_eq!(endpoints(&proxy), expected);
    for _ in 0..6 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!((a.count(), b.count(), c.count()), (4, 2, 0));
    dns.says("_http._tcp.app.test", Says::services(1, &services[2..]));
    eventually("the other priority counts", || {
        proxy.get("/").status == 200 && c.count() > 0
    });
    assert_eq!(source(&proxy).name, "srv _http._tcp.app.test");
    // There is no such service (RFC 2782): what was there stays for a while.
    dns.says("_http._tcp.app.test", Says::services(1, &[(0, 0, 0, "")]));
    eventually("that is told", || {
        source(&proxy)
            .problem
            .is_some_and(|text| text.contains("no such service"))
    });
    assert_eq!(proxy.get("/").status, 200);
}

/// Rule 68: where the targets of the lowest priority cannot be found out, the next one's come to them.
#[test]
fn rule_68_a_target_that_cannot_be_found_out_stays_beside_its_backup() {
    let dns = DnsServer::start();
    let [a, b] = [(); 2].map(|()| Upstream::always(200));
    dns.says("a.test", Says::found(1, &["127.0.0.1"]));
    dns.says("b.test", Says::found(1, &["127.0.0.1"]));
    let services = [(10, 1, a.port(), "a.test"), (20, 1, b.port(), "b.test")];
    dns.says("_http._tcp.app.test", Says::services(1, &services));
    let proxy = before(&dns, "{ srv: _http._tcp.app.test }");
    assert_eq!(endpoints(&proxy), [at(&a, 1)]);
    dns.says("a.test", Says::Code(2));
    eventually("the other stands in", || {
        endpoints(&proxy).contains(&at(&b, 1))
    });
    assert!(endpoints(&proxy).contains(&at(&a, 1)));
}
