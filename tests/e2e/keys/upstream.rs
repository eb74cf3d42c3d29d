//! `upstreams`: where requests go, over which connections.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::support::{
    Client, Gate, Http2Upstream, Manners, Proxy, Refused, Reply, Upstream, eventually,
};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("upstreams", endpoints),
    ("upstream.endpoints", endpoints),
    ("upstream.protocol", protocol),
    ("upstream.critical", critical),
    ("upstream.balance", balance),
    ("upstream.pool", max_idle),
    ("endpoint.address", weight),
    ("endpoint.weight", weight),
    ("endpoint.srv", crate::names::targets_of_a_record),
    ("balance.hash", balance_hash),
    ("hash.header", balance_hash),
    ("pool.idle_timeout", idle_timeout),
    ("pool.max_idle", max_idle),
    (
        "pool.max_requests_per_connection",
        max_requests_per_connection,
    ),
    ("pool.max_connection_age", max_connection_age),
    ("pool.ping_interval", ping_interval),
];

/// One listener before one upstream that is written like this.
fn before(upstream: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ {upstream} }} }}\n"
    ))
}

#[test]
fn endpoints() {
    let (a, b) = (Upstream::always(200), Upstream::always(200));
    let proxy = before(&format!(
        "endpoints: [\"{}\", \"http://{}\"], balance: round_robin",
        a.address(),
        b.address()
    ));
    for _ in 0..6 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!((a.count(), b.count()), (3, 3));
    let seen: BTreeSet<String> = proxy
        .upstream("u")
        .endpoints
        .into_iter()
        .map(|one| one.address)
        .collect();
    let expected = [&a, &b].map(|one| one.address().to_string());
    assert_eq!(seen, expected.into());
}

/// Names are resolved when the process starts; each address is an endpoint.
#[test]
fn a_name_is_resolved() {
    let upstream = Upstream::always(200);
    let proxy = before(&format!("endpoints: [\"localhost:{}\"]", upstream.port()));
    // Where the name also stands for ::1, that endpoint refuses.
    eventually("the name leads to the upstream", || {
        proxy.get("/").status == 200
    });
    let endpoints = proxy.upstream("u").endpoints;
    let expected = upstream.address().to_string();
    assert!(
        endpoints.iter().any(|one| one.address == expected),
        "{endpoints:?}"
    );
    assert!(upstream.last().header("host").is_some());
}

/// Fault 59: a name that does not resolve takes nothing from the rest.
#[test]
fn fault_059_a_name_that_does_not_resolve_beside_one_that_does() {
    let upstream = Upstream::always(200);
    let proxy = before(&format!(
        "endpoints: [\"does-not-exist.invalid:80\", \"{}\"]",
        upstream.address()
    ));
    for _ in 0..4 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(proxy.upstream("u").endpoints.len(), 1);
}

#[test]
fn protocol() {
    let upstream = Upstream::echo();
    for protocol in ["auto", "http1"] {
        let address = upstream.address();
        let proxy = before(&format!("endpoints: [\"{address}\"], protocol: {protocol}"));
        assert!(proxy.get("/").text().starts_with("GET / HTTP/1.1\n"));
    }
}

#[test]
fn critical() {
    let refusing = Refused::new();
    for (critical, status) in [(false, 200), (true, 503)] {
        let proxy = before(&format!(
            "endpoints: [\"{}\"], critical: {critical}, \
             circuit_breaker: {{ consecutive_failures: 1 }}",
            refusing.address
        ));
        assert_eq!(
            proxy.admin("GET", "/healthz", "").status,
            200,
            "not yet open"
        );
        proxy.get("/");
        let answer = proxy.admin("GET", "/healthz", "");
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.text().contains("u"),
            critical || answer.text().contains("u")
        );
        assert_eq!(proxy.admin("GET", "/readyz", "").status, 200, "rule 86");
    }
}

fn count(upstreams: &[Upstream]) -> Vec<usize> {
    upstreams.iter().map(Upstream::count).collect()
}

fn three() -> (Vec<Upstream>, String) {
    let upstreams: Vec<Upstream> = (0..3).map(|_| Upstream::always(200)).collect();
    let addresses: Vec<String> = upstreams
        .iter()
        .map(|one| format!("\"{}\"", one.address()))
        .collect();
    let endpoints = format!("endpoints: [{}]", addresses.join(", "));
    (upstreams, endpoints)
}

#[test]
fn balance() {
    let (upstreams, endpoints) = three();
    let proxy = before(&format!("{endpoints}, balance: round_robin"));
    for _ in 0..12 {
        proxy.get("/");
    }
    assert_eq!(count(&upstreams), [4, 4, 4]);
    for kind in ["random", "least_request"] {
        let (upstreams, endpoints) = three();
        let proxy = before(&format!("{endpoints}, balance: {kind}"));
        for _ in 0..60 {
            proxy.get("/");
        }
        let counts = count(&upstreams);
        assert!(counts.iter().all(|count| *count >= 5), "{kind} {counts:?}");
    }
}

/// Fault 51: a slow endpoint gets less, and one that fails fast does not attract the load (rule 49).
#[test]
fn fault_051_least_request_avoids_the_slow_and_the_failing() {
    let gate = Gate::default();
    let (slow, quick) = (
        Upstream::always(Reply::new(200).when(&gate)),
        Upstream::always(200),
    );
    let proxy = Proxy::to(&[slow.address(), quick.address()], "");
    let mut waiting: Vec<Client> = Vec::new();
    while slow.count() < 2 {
        let before = quick.count() + slow.count();
        let mut client = proxy.client();
        client.request("GET", "/", &[], b"");
        eventually("one of them has it", || {
            quick.count() + slow.count() > before
        });
        waiting.push(client);
    }
    let stuck = slow.count();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(
        slow.count(),
        stuck,
        "nothing more for the one with requests in flight"
    );
    gate.open();
    for client in &mut waiting {
        assert_eq!(client.answer().status, 200);
    }
    drop(waiting);
    drop(proxy);

    let (failing, well) = (Upstream::always(503), Upstream::always(200));
    let proxy = Proxy::to(&[failing.address(), well.address()], "");
    for _ in 0..60 {
        proxy.get("/");
    }
    assert!(failing.count() < well.count(), "{} of 60", failing.count());
}

#[test]
fn balance_hash() {
    let (upstreams, endpoints) = three();
    let proxy = before(&format!(
        "{endpoints}, balance: {{ hash: {{ header: x-user }} }}"
    ));
    let mut places = BTreeSet::new();
    for user in 0..12 {
        let before = count(&upstreams);
        for _ in 0..3 {
            proxy.request("GET", "/", &[&format!("X-User: {user}")], b"");
        }
        let place = count(&upstreams)
            .iter()
            .zip(&before)
            .position(|(after, before)| after - before == 3);
        places.insert(place.expect("one user stays with one endpoint"));
    }
    assert!(places.len() > 1, "and not all with the same");
}

#[test]
fn weight() {
    let (light, heavy) = (Upstream::always(200), Upstream::always(200));
    let proxy = before(&format!(
        "balance: round_robin, endpoints: [{{ address: \"{}\", weight: 1 }}, \
         {{ address: \"{}\", weight: 3 }}]",
        light.address(),
        heavy.address()
    ));
    for _ in 0..40 {
        proxy.get("/");
    }
    assert_eq!((light.count(), heavy.count()), (10, 30));
}

#[test]
fn idle_timeout() {
    let upstream = Upstream::always(200);
    let address = upstream.address();
    let proxy = before(&format!(
        "endpoints: [\"{address}\"], pool: {{ idle_timeout: 400ms }}"
    ));
    proxy.get("/");
    proxy.expect_metric("mamparo_connections", &[("state", "idle")], 1.0);
    std::thread::sleep(Duration::from_millis(450));
    // It is closed by whoever looks first, at the latest by the next sweep.
    proxy.get("/");
    assert_eq!(upstream.connections(), 2, "too old to be used");
    eventually("it is closed", || upstream.open_connections() <= 1);
    eventually("the last is swept", || upstream.open_connections() == 0);
}

/// Rule 65: the upstream's own word counts where it is shorter.
#[test]
fn rule_065_keep_alive_of_the_upstream() {
    let upstream = Upstream::always(Reply::new(200).header("keep-alive: timeout=1"));
    let proxy = Proxy::before(&upstream, "pool: { idle_timeout: 60s }");
    let mut client = proxy.client();
    client.get("/");
    assert_eq!(
        client.get("/").header("keep-alive"),
        None,
        "it is about another connection"
    );
    assert_eq!(upstream.connections(), 1);
    std::thread::sleep(Duration::from_millis(600));
    client.get("/");
    assert_eq!(upstream.connections(), 2);
    let upstream = Upstream::always(Reply::new(200).header("connection: close"));
    let proxy = Proxy::before(&upstream, "");
    for _ in 0..3 {
        assert_eq!(proxy.get("/").header("connection"), None);
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn max_idle() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "pool: { max_idle: 0 }");
    for _ in 0..3 {
        proxy.get("/");
    }
    assert_eq!(upstream.connections(), 3);
    eventually("none is kept", || upstream.open_connections() == 0);

    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let proxy = Proxy::before(&upstream, "pool: { max_idle: 2 }");
    let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.request("GET", "/", &[], b"");
    }
    upstream.wait_for(5);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    eventually("two are kept", || upstream.open_connections() == 2);
    proxy.expect_metric("mamparo_connections", &[("state", "idle")], 2.0);
}

#[test]
fn max_requests_per_connection() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "pool: { max_requests_per_connection: 2 }");
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 200);
    }
    let received = upstream.received();
    let connections: Vec<usize> = received.iter().map(|one| one.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1, 2]);
}

/// Fault 46: a connection that was closed while it lay idle costs no try, and no client sees it.
#[test]
fn fault_046_an_idle_connection_that_was_closed() {
    let upstream = Upstream::always(200);
    let policies = "retry: { budget: { ratio: 0%, min_per_second: 0 } }";
    let proxy = Proxy::before(&upstream, policies);
    for round in 1..=5 {
        let answer = proxy.request("POST", "/", &[], b"not idempotent");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-mamparo-attempts"), None);
        upstream.close_connections();
        assert_eq!(upstream.count(), round);
    }
    proxy.expect_metric("mamparo_retries_total", &[], 0.0);
}

#[test]
fn fault_052_a_restart() {
    let upstream = Upstream::always(200);
    let address: SocketAddr = upstream.address();
    let proxy = Proxy::before(&upstream, "retry: {}");
    let mut clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    drop(upstream);
    let upstream = Upstream::script_at(&address.to_string(), [200]);
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(upstream.count(), 8);
}

/// Rule 67, in both versions.
#[test]
fn max_connection_age() {
    let second = Http2Upstream::plain(Manners {
        streams: 100,
        takes: Duration::ZERO,
    });
    let first = Upstream::always(200);
    let pool = "pool: { max_connection_age: 2s, idle_timeout: 60s }";
    for (address, protocol) in [(first.address(), "http1"), (second.address, "http2")] {
        let proxy = Proxy::to(&[address], &format!("{pool}\nprotocol: {protocol}"));
        let mut client = proxy.client();
        for _ in 0..5 {
            assert_eq!(client.get("/").status, 200);
        }
        let upstream = [("upstream", "u")];
        proxy.expect_metric("mamparo_connections_opened_total", &upstream, 1.0);
        std::thread::sleep(Duration::from_millis(2_050));
        assert_eq!(client.get("/").status, 200);
        proxy.expect_metric("mamparo_connections_opened_total", &upstream, 2.0);
    }
}

/// An endpoint that speaks HTTP/2 and then falls silent.
#[test]
fn ping_interval() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let silent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Settings without a setting.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        let mut bytes = Vec::new();
        // However it ends.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    });
    let policies = "protocol: http2\npool: { ping_interval: 100ms }";
    let proxy = Proxy::to(&[address], policies);
    let answer = proxy.get("/");
    let reason = answer.reason();
    assert_eq!((answer.status, reason.as_deref()), (502, Some("reset")));
    let message = answer.json()["message"].to_string();
    assert!(
        message.contains("no answer to a ping within 100ms"),
        "{message}"
    );
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0];
    let bytes = silent.join().unwrap();
    assert!(bytes.windows(9).any(|head| head == ping), "it was asked");
}
