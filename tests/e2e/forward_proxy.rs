//! An outbound listener as the proxy that clients are told to use: whole URLs, and CONNECT.

use std::net::SocketAddr;

use crate::support::{Answer, BlackHole, Far, Proxy, Refused, Reply, Socket, Upstream, eventually};

/// A proxy with a route for `shop.internal` and these policies, and further routes before it.
fn proxy(endpoints: &[SocketAddr], routes: &str, policies: &str) -> Proxy {
    let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
    let policies: String = policies
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    Proxy::start(&format!(
        "listeners:\n  \
           outbound:\n    address: \"127.0.0.1:0\"\n    routes:\n{routes}\
         \x20     - {{ name: shop, match: {{ host: shop.internal }}, upstream: u }}\n  \
           inbound: {{ address: \"127.0.0.1:0\", role: inbound, upstream: u }}\n\
         upstreams:\n  u:\n    endpoints: [{}]\n{policies}",
        endpoints.join(", ")
    ))
}

fn send(proxy: &Proxy, listener: &str, head: &str) -> Answer {
    let mut client = crate::support::Client::connect(proxy.listener(listener));
    client.send(format!("{head}\r\n\r\n")).answer()
}

#[test]
fn fault_015_a_url_says_where_the_request_goes_and_wins_over_host() {
    let upstream = Upstream::always(200);
    let proxy = proxy(&[upstream.address()], "", "");
    for (target, host) in [
        ("http://shop.internal/a?b=c", "shop.internal"),
        ("http://shop.internal/a?b=c", "evil.internal"),
        ("HTTP://SHOP.internal:80/a?b=c", "other"),
    ] {
        let head = format!(
            "GET {target} HTTP/1.1\r\nhost: {host}\r\nproxy-connection: keep-alive\r\n\
             proxy-authorization: Basic YTpi"
        );
        assert_eq!(
            send(&proxy, "outbound", &head).status,
            200,
            "{target} {host}"
        );
        let last = upstream.last();
        assert_eq!(last.target, "/a?b=c");
        let named = last.header("host").unwrap();
        assert!(
            target
                .to_ascii_lowercase()
                .starts_with(&format!("http://{}/", named.to_ascii_lowercase())),
            "{named}"
        );
        assert_eq!(last.header("proxy-connection"), None);
        assert_eq!(last.header("proxy-authorization"), None);
    }
    let head = "GET http://shop.internal?b=c HTTP/1.1\r\nhost: shop.internal";
    assert_eq!(send(&proxy, "outbound", head).status, 200);
    assert_eq!(upstream.last().target, "/?b=c");
    // Elsewhere a URL beside another host is suspicious.
    let head = "GET http://shop.internal/ HTTP/1.1\r\nhost: evil.internal";
    let answer = send(&proxy, "inbound", head);
    assert_eq!(answer.reason().as_deref(), Some("bad_request"));
    // No route, no way.
    let head = "GET http://elsewhere.internal/ HTTP/1.1\r\nhost: shop.internal";
    assert_eq!(
        send(&proxy, "outbound", head).reason().as_deref(),
        Some("no_route")
    );
    assert_eq!(upstream.count(), 4);
}

#[test]
fn a_url_with_https_does_not_go_on_in_the_clear() {
    let upstream = Upstream::always(200);
    let proxy = proxy(&[upstream.address()], "", "");
    let head = "GET https://shop.internal/ HTTP/1.1\r\nhost: shop.internal";
    let answer = send(&proxy, "outbound", head);
    assert_eq!(answer.reason().as_deref(), Some("bad_request"));
    assert!(answer.text().contains("CONNECT"), "{}", answer.text());
    assert_eq!(upstream.count(), 0);
}

#[test]
fn fault_016_connect_is_a_tunnel_where_a_route_names_the_host() {
    let far = Far::new();
    let proxy = proxy(&[far.address()], "", "bulkhead: {}\ncircuit_breaker: {}");
    let mut client = Socket::connect(proxy.listener("outbound"));
    // What is said before the answer is not lost.
    client.send("CONNECT shop.internal:443 HTTP/1.1\r\nhost: shop.internal:443\r\n\r\nhello");
    let mut endpoint = far.accept();
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"));
    endpoint.expect("hello");
    endpoint.send("and back");
    client.expect("and back");
    let upstream = proxy.upstream("u");
    assert_eq!(upstream.bulkhead.unwrap().in_flight, 1);
    assert_eq!(upstream.connections.active, 1);
    client.half_close();
    endpoint.expect_end();
    endpoint.send("last");
    drop(endpoint);
    client.expect("last");
    client.expect_end();
    let line = proxy.only_line();
    assert_eq!(line["method"], "CONNECT");
    assert_eq!(line["status"], 200);
    assert_eq!(line["route"], "shop");
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&5.into(), &12.into())
    );
    proxy.expect_metric("mamparo_requests_total", &[("code", "2xx")], 1.0);
    proxy.expect_metric("mamparo_attempts_total", &[("outcome", "success")], 1.0);
}

#[test]
fn fault_016_connect_is_refused_where_no_route_offers_it() {
    let upstream = Upstream::always(200);
    let routes = "      - { name: deep, match: { path_prefix: /v1 }, upstream: u }\n";
    let proxy = proxy(&[upstream.address()], routes, "");
    for (listener, target) in [
        ("outbound", "elsewhere.internal:443"),
        ("inbound", "shop.internal:443"),
    ] {
        let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}");
        let answer = send(&proxy, listener, &head);
        assert_eq!(answer.status, 405, "{listener}");
        assert_eq!(answer.reason().as_deref(), Some("bad_request"));
    }
    for head in [
        "CONNECT shop.internal HTTP/1.1\r\nhost: shop.internal",
        "CONNECT http://shop.internal/ HTTP/1.1\r\nhost: shop.internal",
        "CONNECT shop.internal:443 HTTP/1.1\r\nhost: shop.internal\r\ncontent-length: 3",
    ] {
        let answer = send(&proxy, "outbound", head);
        assert_eq!(answer.status, 400, "{head}");
    }
    assert_eq!(upstream.connections(), 0);
    // A route for everything does not mean CONNECT, one that names the method does.
    let catch_all = Proxy::before(&upstream, "");
    let head = "CONNECT any.internal:80 HTTP/1.1\r\nhost: any.internal:80";
    assert_eq!(send(&catch_all, "outbound", head).status, 405);
    let yaml = format!(
        "listeners:\n  outbound:\n    address: \"127.0.0.1:0\"\n    routes:\n      \
         - {{ match: {{ methods: [CONNECT] }}, upstream: u }}\n\
         upstreams:\n  u: {{ endpoints: [\"{}\"] }}\n",
        upstream.address()
    );
    let named = Proxy::start(&yaml);
    let mut client = Socket::connect(named.listener("outbound"));
    client.send("CONNECT any.internal:80 HTTP/1.1\r\nhost: any.internal:80\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client.send("GET /inside HTTP/1.1\r\nhost: any.internal\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    assert_eq!(upstream.last().target, "/inside");
}

#[test]
fn connects_are_tried_again_under_the_policies_of_the_route() {
    let (refused, far) = (Refused::new(), Far::new());
    let policies = "retry: { backoff: { base: 1ms } }\ncircuit_breaker: { consecutive_failures: 1 }\n\
                    balance: round_robin\nbulkhead: { max_connections: 1 }";
    let proxy = proxy(&[refused.address, far.address()], "", policies);
    let ask = "CONNECT shop.internal:443 HTTP/1.1\r\nhost: shop.internal:443\r\n\r\n";
    let mut client = Socket::connect(proxy.listener("outbound"));
    client.send(ask);
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    let endpoint = far.accept();
    let answer = send(&proxy, "outbound", ask.trim_end());
    assert_eq!(answer.reason().as_deref(), Some("too_many_connections"));
    drop((client, endpoint));
    eventually("its place is free", || {
        proxy.upstream("u").connections.active == 0
    });
    // The other endpoint's breaker is open by now, or opens at the first try.
    let mut client = Socket::connect(proxy.listener("outbound"));
    client.send(ask);
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    drop(far.accept());
    client.expect_end();
}

#[test]
fn an_endpoint_that_is_not_reached_in_time_is_told() {
    let hole = BlackHole::new();
    let proxy = proxy(&[hole.address], "", "timeouts: { connect: 50ms }");
    let head = "CONNECT shop.internal:443 HTTP/1.1\r\nhost: shop.internal:443";
    let answer = send(&proxy, "outbound", head);
    assert_eq!(answer.status, 504);
    assert_eq!(answer.reason().as_deref(), Some("connect_timeout"));
}

#[test]
fn an_idle_connection_gives_its_place_to_a_tunnel() {
    let upstream = Upstream::always(200);
    let proxy = proxy(
        &[upstream.address()],
        "",
        "bulkhead: { max_connections: 1 }",
    );
    let head = "GET / HTTP/1.1\r\nhost: shop.internal";
    assert_eq!(send(&proxy, "outbound", head).status, 200);
    eventually("the connection is idle", || {
        proxy.upstream("u").connections.idle == 1
    });
    let mut client = Socket::connect(proxy.listener("outbound"));
    client.send("CONNECT shop.internal:80 HTTP/1.1\r\nhost: shop.internal:80\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    let connections = proxy.upstream("u").connections;
    assert_eq!((connections.idle, connections.active), (0, 1));
}

#[test]
fn a_request_that_comes_back_is_a_loop() {
    let upstream = Upstream::always(Reply::new(200));
    let proxy = proxy(&[upstream.address()], "", "");
    let head = "GET / HTTP/1.1\r\nhost: shop.internal";
    assert_eq!(send(&proxy, "outbound", head).status, 200);
    let via = upstream.last().header("via").unwrap();
    let again = format!("{head}\r\nvia: 1.0 edge, {via}");
    let answer = send(&proxy, "outbound", &again);
    assert_eq!(answer.status, 508);
    assert_eq!(answer.reason().as_deref(), Some("bad_request"));
    // From the outbound listener to the inbound one of the same process is no loop.
    assert_eq!(send(&proxy, "inbound", &again).status, 200);
    assert_eq!(upstream.count(), 2);
}
