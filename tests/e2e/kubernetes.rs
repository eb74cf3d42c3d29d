//! Services of Kubernetes as endpoints: what the API says is what requests go to, and whatever the API
//! does wrong, they go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::cluster::{endpoint, slice, slice_of};
use crate::support::tls::{Authority, Files, provider};
use crate::support::{Client, Cluster, Pod, Process, Program, Proxy, Upstream, eventually};

/// One listener before the service of the cluster.
fn before(cluster: &Cluster, port: &str, more: &str) -> String {
    format!(
        "{}listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams:\n  u:\n    balance: round_robin\n    endpoints: [{{ kubernetes: {{ service: payments, \
         namespace: shop{port} }} }}]\n",
        cluster.runtime(more)
    )
}

fn start(cluster: &Cluster) -> Proxy {
    Proxy::start(&before(cluster, ", port: http", ""))
}

/// The endpoints that requests may go to, in order.
fn endpoints(proxy: &Proxy) -> Vec<String> {
    let upstream = proxy.upstream("u");
    let mut addresses: Vec<String> = upstream
        .endpoints
        .into_iter()
        .filter(|one| !one.draining)
        .map(|one| one.address)
        .collect();
    addresses.sort();
    addresses
}

fn addresses<const N: usize>(servers: [&Upstream; N]) -> Vec<String> {
    let mut addresses: Vec<String> = servers
        .iter()
        .map(|one| one.address().to_string())
        .collect();
    addresses.sort();
    addresses
}

#[track_caller]
fn expect<const N: usize>(proxy: &Proxy, servers: [&Upstream; N]) {
    let expected = addresses(servers);
    let mut last = Vec::new();
    eventually(&format!("the endpoints are {expected:?}"), || {
        last = endpoints(proxy);
        last == expected
    });
}

/// Whether something was noted whose text has all of these.
fn noted(proxy: &Proxy, parts: &[&str]) -> bool {
    let events = proxy.status().events;
    events
        .iter()
        .any(|event| parts.iter().all(|part| event.text.contains(part)))
}

#[test]
pub(crate) fn its_endpoints_are_there_from_the_first_request_on_and_followed() {
    let cluster = Cluster::start();
    let (a, b) = (Upstream::always(200), Upstream::always(200));
    cluster.set("a", slice_of(a.address(), Pod::Ready));
    let proxy = start(&cluster);
    assert_eq!(proxy.get("/").status, 200, "the first request");
    cluster.set("b", slice_of(b.address(), Pod::Ready));
    expect(&proxy, [&a, &b]);
    let before = (a.count(), b.count());
    for _ in 0..6 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!((a.count() - before.0, b.count() - before.1), (3, 3));
    // Who is about to end gets nothing new, and its idle connections are closed.
    cluster.set("a", slice_of(a.address(), Pod::Terminating));
    expect(&proxy, [&b]);
    eventually("idle connections are closed", || a.open_connections() == 0);
    // Where nobody else is left, who still serves is better than nobody.
    cluster.set("b", slice_of(b.address(), Pod::NotReady));
    expect(&proxy, [&a]);
    assert_eq!(proxy.get("/").status, 200);
    // And what the API says to be empty is empty: it is the authority.
    cluster.delete("a");
    expect(&proxy, []);
    let answer = proxy.get("/");
    let told = "Upstream 'u' has no endpoint: kubernetes:shop/payments:http: none of its endpoints is ready, of 1";
    assert!(answer.text().contains(told), "{}", answer.text());
    assert_eq!(
        (answer.status, answer.json()["context"]["reason"].as_str()),
        (503, Some("no_endpoint"))
    );
    assert_eq!(
        cluster.count("list"),
        1,
        "everything else came by the watch"
    );
}

#[test]
pub(crate) fn a_service_of_many_slices_comes_in_pages() {
    let cluster = Cluster::start();
    let servers: Vec<Upstream> = (0..5).map(|_| Upstream::always(200)).collect();
    for (number, server) in servers.iter().enumerate() {
        cluster.set(
            &format!("s{number}"),
            slice_of(server.address(), Pod::Ready),
        );
    }
    cluster.behave(|manners| manners.page = Some(2));
    let proxy = start(&cluster);
    assert_eq!(endpoints(&proxy).len(), 5);
    assert_eq!(cluster.count("list"), 3);
    assert!(cluster.asked()[1].query.contains("&limit=50&continue=10"));
}

#[test]
pub(crate) fn of_more_than_a_thousand_endpoints_a_thousand_are_used() {
    let cluster = Cluster::start();
    // It answers to every address of this machine.
    let server = Upstream::script_at("0.0.0.0:0", [200]);
    for third in 0..12 {
        let pods: Vec<String> = (1..=100)
            .map(|last| format!("127.0.{third}.{last}"))
            .collect();
        let pods: Vec<(&str, Pod)> = pods.iter().map(|pod| (pod.as_str(), Pod::Ready)).collect();
        let name = format!("s{third}");
        cluster.set(&name, slice(&[("http", server.port())], &pods));
    }
    let proxy = start(&cluster);
    assert_eq!(endpoints(&proxy).len(), 1_000);
    assert!(noted(
        &proxy,
        &["it has 1200 endpoints; 1000 of them, drawn by chance, are used"]
    ));
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    for third in 1..12 {
        cluster.delete(&format!("s{third}"));
    }
    eventually("those that are left are used", || {
        endpoints(&proxy).len() == 100
    });
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
pub(crate) fn one_watch_serves_every_upstream_of_a_service_and_ends_with_the_last() {
    let cluster = Cluster::start();
    let (web, metrics) = (Upstream::always(200), Upstream::always(204));
    let ports = [("http", web.port()), ("metrics", metrics.port())];
    cluster.set("a", slice(&ports, &[("127.0.0.1", Pod::Ready)]));
    let of = |port: &str| {
        format!(
            "{{ endpoints: [{{ kubernetes: {{ service: payments, namespace: shop, port: {port} }} }}] }}"
        )
    };
    let proxy = Proxy::start(&format!(
        "{}listeners:\n  web: {{ address: \"127.0.0.1:0\", upstream: web }}\n  \
         metrics: {{ address: \"127.0.0.1:0\", upstream: metrics }}\n  more: {{ address: \"127.0.0.1:0\", upstream: more }}\n\
         upstreams:\n  web: {}\n  metrics: {}\n  more: {}\n",
        cluster.runtime(""),
        of("http"),
        of("metrics"),
        of("http"),
    ));
    let get = |listener: &str| Client::connect(proxy.listener(listener)).get("/").status;
    assert_eq!((get("web"), get("metrics"), get("more")), (200, 204, 200));
    eventually("it is watched", || cluster.watches() == 1);
    assert_eq!((cluster.count("list"), cluster.count("watch")), (1, 1));
    assert!(proxy.shutdown() < Duration::from_secs(5));
    eventually("nobody watches", || cluster.watches() == 0);
}

#[test]
pub(crate) fn a_port_is_meant_by_number_or_alone_and_one_that_is_not_there_is_told() {
    let cluster = Cluster::start();
    let server = Upstream::always(200);
    cluster.set("a", slice_of(server.address(), Pod::Ready));
    for port in [format!(", port: {}", server.port()), String::new()] {
        let proxy = Proxy::start(&before(&cluster, &port, ""));
        assert_eq!(proxy.get("/").status, 200, "{port}");
    }
    let proxy = Proxy::start(&before(&cluster, ", port: grpc", ""));
    let there = format!("there is http ({})", server.port());
    let answer = proxy.get("/");
    assert!(
        answer.status == 503 && answer.text().contains(&there),
        "{}",
        answer.text()
    );
    assert!(noted(
        &proxy,
        &[
            "kubernetes:shop/payments:grpc",
            "no endpoint of it has the port `grpc`",
            &there
        ]
    ));
}

#[test]
pub(crate) fn a_watch_that_breaks_off_goes_on_where_it_was() {
    let cluster = Cluster::start();
    let (a, b) = (Upstream::always(200), Upstream::always(200));
    cluster.set("a", slice_of(a.address(), Pod::Ready));
    let proxy = start(&cluster);
    eventually("it is watched", || cluster.watches() == 1);
    cluster.cut_watches();
    cluster.set("b", slice_of(b.address(), Pod::Ready));
    expect(&proxy, [&a, &b]);
    assert_eq!(cluster.count("list"), 1, "nothing is listed for that");
}

#[test]
pub(crate) fn bookmarks_keep_a_watch_from_getting_too_old() {
    let cluster = Cluster::start();
    let (a, b) = (Upstream::always(200), Upstream::always(200));
    cluster.set("a", slice_of(a.address(), Pod::Ready));
    let proxy = start(&cluster);
    eventually("it is watched", || cluster.watches() == 1);
    cluster.compact();
    cluster.bookmark();
    // So that the bookmark was read.
    cluster.set("b", slice_of(b.address(), Pod::Ready));
    expect(&proxy, [&a, &b]);
    cluster.delete("b");
    expect(&proxy, [&a]);
    cluster.compact();
    cluster.bookmark();
    std::thread::sleep(Duration::from_millis(100));
    cluster.cut_watches();
    eventually("it is watched again", || cluster.count("watch") == 2);
    cluster.set("b", slice_of(b.address(), Pod::Ready));
    expect(&proxy, [&a, &b]);
    assert_eq!(cluster.count("list"), 1, "the bookmark was new enough");
}

/// What happened while a watch could not tell of it is found by listing again, and so is what went.
#[test]
pub(crate) fn a_version_that_is_too_old_leads_to_a_new_list() {
    for gone_as_status in [true, false] {
        let cluster = Cluster::start();
        let (a, b) = (Upstream::always(200), Upstream::always(200));
        cluster.behave(|manners| manners.gone_as_status = gone_as_status);
        cluster.set("a", slice_of(a.address(), Pod::Ready));
        let proxy = start(&cluster);
        eventually("it is watched", || cluster.watches() == 1);
        cluster.behave(|manners| manners.down = true);
        cluster.cut_watches();
        cluster.delete("a");
        cluster.set("b", slice_of(b.address(), Pod::Ready));
        cluster.compact();
        eventually("it is told", || {
            noted(&proxy, &["kubernetes:shop/payments:http is not found"])
        });
        assert_eq!(proxy.get("/").status, 200, "by what was known");
        cluster.behave(|manners| manners.down = false);
        expect(&proxy, [&b]);
        assert_eq!(cluster.count("list"), 2);
        cluster.set("a", slice_of(a.address(), Pod::Ready));
        expect(&proxy, [&a, &b]);
        assert_eq!(cluster.count("list"), 2, "and from there it is watched");
    }
}

#[test]
pub(crate) fn rule_68_while_the_api_is_down_what_it_said_stays() {
    let cluster = Cluster::start();
    let a = Upstream::always(200);
    cluster.set("a", slice_of(a.address(), Pod::Ready));
    let proxy = start(&cluster);
    eventually("it is watched", || cluster.watches() == 1);
    cluster.behave(|manners| manners.down = true);
    cluster.cut_watches();
    eventually("it is told", || {
        noted(&proxy, &["is not found", "gave no answer"])
    });
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    let failed = [
        ("upstream", "u"),
        ("source", "kubernetes:shop/payments:http"),
        ("result", "failed"),
    ];
    assert!(proxy.metric("mamparo_discovery_updates_total", &failed) >= 1.0);
    cluster.behave(|manners| manners.down = false);
    eventually("it is found again", || noted(&proxy, &["is found again"]));
}

#[test]
pub(crate) fn rule_86_the_start_does_not_wait_for_an_api_that_takes_too_long() {
    let cluster = Cluster::start();
    let a = Upstream::always(200);
    cluster.set("a", slice_of(a.address(), Pod::Ready));
    cluster.behave(|manners| manners.slow = Duration::from_secs(4));
    let began = Instant::now();
    let proxy = start(&cluster);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_millis(3_900),
        "{took:?}"
    );
    assert_eq!(proxy.get("/").status, 503);
    expect(&proxy, [&a]);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
pub(crate) fn garbage_takes_nothing_away_and_leads_to_a_new_list() {
    for garbage in [
        "nonsense",
        "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":7}}}",
    ] {
        let cluster = Cluster::start();
        let (a, b) = (Upstream::always(200), Upstream::always(200));
        cluster.set("a", slice_of(a.address(), Pod::Ready));
        let proxy = start(&cluster);
        eventually("it is watched", || cluster.watches() == 1);
        cluster.say(garbage);
        eventually("it is told", || {
            noted(&proxy, &["a watch told what cannot be understood"])
        });
        assert_eq!(proxy.get("/").status, 200);
        cluster.set("b", slice_of(b.address(), Pod::Ready));
        expect(&proxy, [&a, &b]);
        assert_eq!(cluster.count("list"), 2);
    }
}

#[test]
pub(crate) fn what_the_role_lacks_is_said() {
    for verb in ["list", "watch"] {
        let cluster = Cluster::start();
        let a = Upstream::always(200);
        cluster.set("a", slice_of(a.address(), Pod::Ready));
        cluster.behave(|manners| manners.forbids = Some(verb));
        let proxy = start(&cluster);
        let rule =
            "{ apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch] }";
        let forbids = format!("forbids to {verb} EndpointSlices in the namespace `shop` (403)");
        eventually("it is told", || {
            noted(
                &proxy,
                &[&forbids, rule, "system:serviceaccount:shop:default"],
            )
        });
        cluster.behave(|manners| manners.forbids = None);
        expect(&proxy, [&a]);
        eventually("it is watched", || cluster.watches() == 1);
    }
}

#[test]
pub(crate) fn a_token_that_was_renewed_is_shown_from_then_on() {
    let cluster = Cluster::start();
    let (a, b) = (Upstream::always(200), Upstream::always(200));
    let files = Files::new();
    let token = files.put("token", "first\n");
    cluster.set("a", slice_of(a.address(), Pod::Ready));
    cluster.behave(|manners| manners.token = Some("first".into()));
    let more = format!(", token_file: {}", token.display());
    let proxy = Proxy::start(&before(&cluster, ", port: http", &more));
    expect(&proxy, [&a]);
    files.put("token", "second\n");
    cluster.behave(|manners| manners.token = Some("second".into()));
    eventually("it is watched", || cluster.watches() == 1);
    cluster.cut_watches();
    cluster.set("b", slice_of(b.address(), Pod::Ready));
    expect(&proxy, [&a, &b]);
    assert_eq!(cluster.count("list"), 1);
    let shown = cluster.asked().pop().unwrap().authorization;
    assert_eq!(shown.as_deref(), Some("Bearer second"));
    // Who is refused says which token it is, and not what is in it.
    files.put("token", "third\n");
    cluster.cut_watches();
    let file = token.display().to_string();
    eventually("it is told", || {
        noted(&proxy, &["does not accept the token", &file])
    });
    assert!(
        !proxy
            .admin("GET", "/api/v1/status", "")
            .text()
            .contains("third")
    );
}

#[test]
pub(crate) fn the_api_is_spoken_to_under_tls_and_must_be_who_it_says() {
    let cluster = Cluster::start();
    let a = Upstream::always(200);
    cluster.set("a", slice_of(a.address(), Pod::Ready));
    let (authority, stranger) = (Authority::new("cluster"), Authority::new("stranger"));
    let files = Files::new();
    let api = under_tls(&authority, cluster.address());
    let yaml = |ca: &Authority, name: &str| {
        let ca = files.put(name, &ca.pem());
        let plain = format!("http://{}", cluster.address());
        let yaml = before(&cluster, ", port: http", &format!(", ca: {}", ca.display()));
        yaml.replace(&plain, &format!("https://localhost:{}", api.port()))
    };
    let proxy = Proxy::start(&yaml(&authority, "ca.crt"));
    assert_eq!(proxy.get("/").status, 200);
    let proxy = Proxy::start(&yaml(&stranger, "other.crt"));
    assert_eq!(proxy.get("/").status, 503);
    assert!(noted(
        &proxy,
        &["is not found: the certificate of https://localhost:"]
    ));
}

/// What a pod's environment says, and the files of a service account that are elsewhere.
#[test]
fn a_pod_is_told_where_its_api_is() {
    let cluster = Cluster::start();
    let (near, far) = (Upstream::always(201), Upstream::always(202));
    for (server, zone) in [(&near, "a"), (&far, "b")] {
        let mut slice = slice_of(server.address(), Pod::Ready);
        slice["endpoints"][0]["zone"] = zone.into();
        cluster.set(zone, slice);
    }
    cluster.behave(|manners| manners.token = Some("of the pod".into()));
    let (authority, files) = (Authority::new("cluster"), Files::new());
    let (ca, token) = (
        files.put("ca.crt", &authority.pem()),
        files.put("token", "of the pod"),
    );
    let api = under_tls(&authority, cluster.address());
    let plain = format!("api: \"http://{}\"", cluster.address());
    let account = format!("token_file: {}, ca: {}", token.display(), ca.display());
    let yaml = before(&cluster, ", port: http", "").replace(&plain, &account);
    let program = Program::run_with(
        &format!("admin: {{ address: \"127.0.0.1:0\" }}\n{yaml}"),
        &[],
        |pod| {
            pod.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
            pod.env("KUBERNETES_SERVICE_PORT", api.port().to_string());
            pod.env("MAMPARO_ZONE", "b");
        },
    );
    let mut client = Client::connect(program.listener("outbound"));
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 202, "in our zone");
    }
}

/// A place that speaks TLS for another that does not.
fn under_tls(authority: &Authority, to: SocketAddr) -> SocketAddr {
    let pair = authority.issue(&["localhost", "127.0.0.1"]);
    let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut near = acceptor.accept(stream).await?;
                    let mut far = tokio::net::TcpStream::connect(to).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
    });
    address
}

/// As long as they can serve, requests stay in our zone.
#[test]
pub(crate) fn endpoints_of_our_zone_are_preferred_and_others_stand_in() {
    let cluster = Cluster::start();
    let (near, far) = (Upstream::always(200), Upstream::always(200));
    for (server, zone) in [(&near, "a"), (&far, "b")] {
        let mut pod = endpoint("127.0.0.1", Pod::Ready);
        pod["zone"] = zone.into();
        let mut slice = slice_of(server.address(), Pod::Ready);
        slice["endpoints"] = vec![pod].into();
        cluster.set(zone, slice);
    }
    let yaml = format!(
        "{}    circuit_breaker: {{}}\n",
        before(&cluster, ", port: http", ", zone: a")
    );
    let proxy = Proxy::start(&yaml);
    for _ in 0..100 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert!(near.count() >= 98, "{} of 100 stayed", near.count());
    proxy.force(near.address(), "open");
    let before = far.count();
    for _ in 0..5 {
        assert_eq!(proxy.get("/").status, 200);
    }
    assert_eq!(far.count() - before, 5);
}

#[test]
fn rule_81_a_reload_moves_to_another_cluster_and_leaves_the_last_one() {
    let (one, other) = (Cluster::start(), Cluster::start());
    let (a, b) = (Upstream::always(201), Upstream::always(202));
    one.set("a", slice_of(a.address(), Pod::Ready));
    other.set("b", slice_of(b.address(), Pod::Ready));
    let process = Process::start(&before(&one, ", port: http", ""));
    assert_eq!(process.get(), 201);
    eventually("it is watched", || one.watches() == 1);
    // The same again: nothing is asked anew.
    process.reload(&format!(
        "{}    critical: true\n",
        before(&one, ", port: http", "")
    ));
    assert_eq!(
        (process.get(), one.count("list"), one.watches()),
        (201, 1, 1)
    );
    // Until the other cluster has answered, requests go where they went.
    other.behave(|manners| manners.slow = Duration::from_millis(300));
    let elsewhere = before(&other, ", port: http", "");
    let mut served = Vec::new();
    process.reload_meanwhile(&elsewhere, || served.push(process.get()));
    assert!(served.is_sorted() && served[0] == 201, "{served:?}");
    assert_eq!(process.get(), 202);
    eventually("only it is watched", || {
        (one.watches(), other.watches()) == (0, 1)
    });
    // Without a service there is nothing to watch.
    let plain = before(&other, "", "").replace(
        "{ kubernetes: { service: payments, namespace: shop } }",
        &format!("\"{}\"", a.address()),
    );
    process.reload(&plain);
    assert_eq!(process.get(), 201);
    eventually("nobody watches", || other.watches() == 0);
}

#[test]
fn rule_81_a_reload_that_adds_a_port_of_a_watched_service_knows_its_endpoints() {
    let cluster = Cluster::start();
    let (web, metrics) = (Upstream::always(201), Upstream::always(202));
    let ports = [("http", web.port()), ("metrics", metrics.port())];
    cluster.set("a", slice(&ports, &[("127.0.0.1", Pod::Ready)]));
    let one = before(&cluster, ", port: http", "");
    let process = Process::start(&one);
    assert_eq!(process.get(), 201);
    eventually("it is watched", || cluster.watches() == 1);
    // No slice changes: what is known already has to do for the second port.
    let more = format!(
        "{}  more: {{ endpoints: [{{ kubernetes: {{ service: payments, namespace: shop, port: metrics }} }}] }}\n",
        one.replace(
            "{ outbound:",
            "{ more: { address: \"127.0.0.1:0\", upstream: more }, outbound:"
        )
    );
    process.reload(&more);
    let listener = process.running.listener_address("more").unwrap();
    eventually("its requests are answered", || {
        Client::connect(listener).get("/").status == 202
    });
    assert_eq!((cluster.count("list"), cluster.watches()), (1, 1));
}
