//! What concerns the whole process: its name, its admin interface, its threads, its errors, its log.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::proxy::single;
use crate::support::{
    Client, DnsServer, Gate, Program, Proxy, Refused, Reply, Says, Upstream, eventually,
};

use super::Keys;
use crate::metrics_address::readings_are_served_and_nothing_can_be_changed as only_readings_are_served;

pub(super) const KEYS: Keys = &[
    ("service", service),
    ("admin", admin_address),
    ("admin.address", admin_address),
    ("admin.metrics_address", only_readings_are_served),
    ("runtime", workers),
    ("runtime.workers", workers),
    ("runtime.drain", drain),
    ("runtime.max_connections", max_connections),
    ("runtime.dns", dns_servers),
    ("dns.servers", dns_servers),
    ("errors", errors),
    ("errors.format", errors),
    ("errors.documentation_url", errors),
    ("access_log", access_log_keep),
    ("access_log.destination", access_log_destination),
    ("access_log.keep", access_log_keep),
    ("explain", explain_keep),
    ("explain.keep", explain_keep),
    ("explain.slower_than", explain_slower_than),
];

/// A block before the usual listener and upstream.
#[track_caller]
fn with(block: &str, endpoint: SocketAddr) -> Proxy {
    Proxy::start(&format!("{block}\n{}", single(&[endpoint], "")))
}

#[test]
fn service() {
    let refusing = Refused::new();
    let proxy = with("service: orders", refusing.address);
    assert_eq!(proxy.get("/").json()["service_name"], "orders");
    assert_eq!(proxy.status().process.service, "orders");
}

#[test]
fn admin_address() {
    let upstream = Upstream::always(200);
    let proxy = with("admin: { address: \"[::1]:0\" }", upstream.address());
    let address = proxy.running().admin_address().unwrap();
    assert!(address.is_ipv6() && address.port() != 0);
    assert_eq!(proxy.admin("GET", "/livez", "").status, 200);
    // The environment has the last word.
    let yaml = format!(
        "admin: {{ address: \"127.0.0.1:1\" }}\n{}",
        single(&[upstream.address()], "")
    );
    let program = Program::run_with(&yaml, &[], |command| {
        command.env("MAMPARO_ADMIN_ADDRESS", "127.0.0.1:0");
    });
    assert_ne!(program.admin().port(), 1);
}

#[test]
fn workers() {
    let upstream = Upstream::always(200);
    for count in [1, 3] {
        let block = format!("runtime: {{ workers: {count} }}");
        let proxy = with(&block, upstream.address());
        assert_eq!(proxy.status().process.workers.len(), count);
        let clients: Vec<Client> = (0..2 * count).map(|_| proxy.client()).collect();
        eventually("each has its share", || {
            let workers = proxy.status().process.workers;
            workers.iter().all(|worker| worker.connections == 2)
        });
        drop(clients);
    }
}

#[test]
fn drain() {
    for (drain, answered) in [("10s", true), ("100ms", false)] {
        let gate = Gate::default();
        let upstream = Upstream::always(Reply::new(200).when(&gate));
        let block = format!("runtime: {{ workers: 1, drain: {drain} }}");
        let proxy = with(&block, upstream.address());
        let mut client = proxy.client();
        client.request("GET", "/", &[], b"");
        upstream.wait_for(1);
        let began = Instant::now();
        let admin = proxy.running().admin_address().unwrap();
        let ending = std::thread::spawn(move || proxy.shutdown());
        if answered {
            eventually("it drains", || {
                let status = Client::connect(admin).get_from_admin("/api/v1/status");
                status.text().contains("draining: requests in flight")
            });
            gate.open();
        }
        let took = ending.join().unwrap();
        assert!(took < Duration::from_secs(10), "{took:?}");
        match client.try_answer("GET") {
            Ok(answer) => {
                assert!(answered);
                assert_eq!(answer.status, 200);
                // Rule 85: and no other request on this connection.
                assert_eq!(answer.header("connection").as_deref(), Some("close"));
            }
            Err(broken) => assert!(!answered, "{broken:?} after {:?}", began.elapsed()),
        }
        assert!(client.is_closed());
    }
}

#[test]
fn dns_servers() {
    let upstream = Upstream::always(200);
    let dns = DnsServer::start();
    dns.says("app.test", Says::found(60, &["127.0.0.1"]));
    let yaml = format!(
        "runtime: {{ workers: 1, dns: {{ servers: [\"{}\"] }} }}\n\
         listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"app.test:{}\"] }} }}\n",
        dns.address(),
        upstream.port()
    );
    let proxy = Proxy::start(&yaml);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn max_connections() {
    let upstream = Upstream::always(200);
    let block = "runtime: { workers: 2, max_connections: 2 }";
    let proxy = with(block, upstream.address());
    let mut clients: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    let mut third = proxy.client();
    third.request("GET", "/", &[], b"");
    assert!(third.hears_nothing_for(Duration::from_millis(150)));
    assert_eq!(
        clients[0].get("/").status,
        200,
        "those that are there are served"
    );
    clients.pop();
    assert_eq!(third.answer().status, 200);
}

#[test]
fn errors() {
    let refusing = Refused::new();
    let url = "documentation_url: \"https://docs.example.com/{error_code}\"";
    let proxy = with(&format!("errors: {{ {url} }}"), refusing.address);
    let answer = proxy.get("/");
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/json")
    );
    let url = "https://docs.example.com/UPSTREAM_CONNECT_FAILURE";
    assert_eq!(answer.json()["documentation_url"], url);
    let proxy = with("errors: { format: problem }", refusing.address);
    let answer = proxy.get("/");
    let content_type = answer.header("content-type");
    assert_eq!(content_type.as_deref(), Some("application/problem+json"));
}

#[test]
fn access_log_keep() {
    let upstream = Upstream::script([200, 404, 500, 200]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("failures.log");
    let block = format!(
        "access_log: {{ destination: {}, keep: failures }}",
        path.display()
    );
    let proxy = with(&block, upstream.address());
    for _ in 0..4 {
        proxy.get("/");
    }
    proxy.expect_metric("mamparo_requests_total", &[], 4.0);
    drop(proxy);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("\"status\":500"), "{text}");
}

#[test]
fn access_log_destination() {
    let upstream = Upstream::always(200);
    for (destination, to_stdout, to_stderr) in [("stdout", 1, 0), ("stderr", 0, 1), ("off", 0, 0)] {
        let yaml = format!(
            "admin: {{ address: \"127.0.0.1:0\" }}\naccess_log: {{ destination: {destination} }}\n{}",
            single(&[upstream.address()], "")
        );
        let file = Mutex::new(tempfile::NamedTempFile::new().unwrap());
        let stdout = file.lock().unwrap().reopen().unwrap();
        let mut program = Program::run_with(&yaml, &[], |command| {
            command.stdout(Stdio::from(stdout));
        });
        assert_eq!(
            Client::connect(program.listener("outbound"))
                .get("/logged")
                .status,
            200
        );
        program.signal("TERM");
        assert_eq!(program.wait().code(), Some(0));
        let stdout = std::fs::read_to_string(file.lock().unwrap().path()).unwrap();
        let count = |text: &str| text.matches("\"path\":\"/logged\"").count();
        assert_eq!(
            (count(&stdout), count(&program.stderr())),
            (to_stdout, to_stderr)
        );
    }
}

/// Requests that are kept.
fn kept(proxy: &Proxy) -> usize {
    let list = proxy.admin("GET", "/api/v1/explain", "").json();
    list["requests"].as_array().unwrap().len()
}

#[test]
fn explain_keep() {
    let upstream = Upstream::always(500);
    for (block, expected) in [("", 4), ("explain: {}", 4), ("explain: { keep: 2 }", 2)] {
        let proxy = with(block, upstream.address());
        (0..4).for_each(|_| assert_eq!(proxy.get("/").status, 500));
        eventually("they are told", || kept(&proxy) == expected);
    }
    let proxy = with("explain: off", upstream.address());
    assert_eq!(proxy.get("/").status, 500);
    let answer = proxy.admin("GET", "/api/v1/explain", "");
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("explain: off"), "{}", answer.text());
}

#[test]
fn explain_slower_than() {
    let upstream = Upstream::always(Reply::new(200).after(Duration::from_millis(60)));
    for (time, expected) in [("50ms", 1), ("10s", 0)] {
        let block = format!("explain: {{ slower_than: {time} }}");
        let proxy = with(&block, upstream.address());
        assert_eq!(proxy.get("/").status, 200);
        proxy.expect_metric("mamparo_requests_total", &[], 1.0);
        eventually("it is told", || kept(&proxy) == expected);
    }
}
