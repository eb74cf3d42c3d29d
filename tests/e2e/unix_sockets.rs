//! Sockets in the file system: for listeners, endpoints and the admin interface.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use mamparo::app::{self, Options};
use mamparo::config;

use crate::support::{Proxy, Upstream, eventually};

/// Serves requests that end their connection, with what came as the body, until it is asked for `/end`.
fn echo(path: &Path) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut head = String::new();
            let mut reader = BufReader::new(&stream);
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|n| n > 0) {}
            let length = head.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{head}"
            );
            let _ = (&stream).write_all(answer.as_bytes());
            if head.starts_with("GET /end ") {
                return;
            }
        }
    })
}

fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    let request = format!("{request}\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn requests_come_and_go_over_sockets_in_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let upstream = echo(&at("up.sock"));
    let yaml = format!(
        "admin: {{ address: \"unix:{admin}\" }}\n\
         listeners:\n  outbound: {{ address: \"unix:{front}\", upstream: u }}\n\
         upstreams:\n  u: {{ endpoints: [\"unix:{up}\"], bulkhead: {{}}, circuit_breaker: {{}} }}\n",
        admin = at("admin.sock").display(),
        front = at("front.sock").display(),
        up = at("up.sock").display(),
    );
    let mut proxy = Proxy::start(&yaml);
    for name in ["admin.sock", "front.sock"] {
        let found = std::fs::metadata(at(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o660, "{name}");
    }

    let answer = ask(&at("front.sock"), "GET /a HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("GET /a HTTP/1.1\r\n"), "{answer}");
    // A client without an address has none to tell of.
    assert!(!answer.contains("x-forwarded-for"), "{answer}");
    assert!(answer.contains("x-forwarded-proto: http"), "{answer}");

    let mut old = UnixStream::connect(at("front.sock")).unwrap();
    old.write_all(b"GET /old HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\r\nhost: localhost\r\n"), "{answer}");

    let label = format!("unix:{}", at("up.sock").display());
    assert_eq!(proxy.endpoint().address, label);
    let line = proxy.logged(2).swap_remove(0);
    assert_eq!(line["tries"][0]["endpoint"], label, "{line}");
    let state = "mamparo_circuit_breaker_state";
    let labels = [("upstream", "u"), ("endpoint", label.as_str())];
    proxy.expect_metric(state, &labels, 0.0);
    let listener = proxy.status().listeners.swap_remove(0);
    assert_eq!(
        listener.address,
        format!("unix:{}", at("front.sock").display())
    );

    // The path as it is, and with its slashes encoded.
    for (to, name) in [
        ("open", label.clone()),
        ("auto", label.replace('/', "%2F")),
        ("closed", label.replace('/', "%2f")),
    ] {
        let body = format!("{{\"force\":\"{to}\"}}");
        let order = format!(
            "POST /api/v1/upstreams/u/endpoints/{name}/breaker HTTP/1.1\r\ncontent-length: {}",
            body.len()
        );
        let mut stream = UnixStream::connect(at("admin.sock")).unwrap();
        let order = format!("{order}\r\nhost: localhost\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(order.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{name}: {answer}"
        );
        let forced = proxy.endpoint().forced;
        assert_eq!(forced.as_deref(), (to != "auto").then_some(to));
    }

    ask(&at("front.sock"), "GET /end HTTP/1.1");
    upstream.join().unwrap();
    let refused = ask(&at("front.sock"), "GET / HTTP/1.1");
    assert!(
        refused.contains("x-mamparo-reason: connect_failure"),
        "{refused}"
    );
    proxy.assert_quiet();
    proxy.shutdown();
    assert!(!at("admin.sock").exists() && !at("front.sock").exists());
}

#[test]
fn fault_067_a_file_in_the_place_of_a_socket_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    std::fs::write(&path, "mine").unwrap();
    let at = path.display();
    let upstreams = "upstreams: { u: { endpoints: [\"127.0.0.1:1\"] } }";
    for (yaml, told) in [
        (
            format!(
                "admin: {{ address: \"127.0.0.1:0\" }}\n\
                 listeners: {{ l: {{ address: \"unix:{at}\", upstream: u }} }}\n{upstreams}"
            ),
            format!("listener 'l' cannot listen on unix:{at}: there is a file that is no socket"),
        ),
        (
            format!(
                "admin: {{ address: \"unix:{at}\" }}\n\
                 listeners: {{ l: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n{upstreams}"
            ),
            format!("the admin interface cannot listen on unix:{at}: there is a file"),
        ),
    ] {
        let loaded = config::parse("test.yaml", &yaml, &|_| None).unwrap();
        let error = app::start(loaded, Options::default()).err().unwrap();
        assert!(error.to_string().starts_with(&told), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}

#[test]
fn two_listeners_at_one_path_and_a_loop_are_found_in_the_configuration() {
    let check = |listeners: &str, endpoint: &str| {
        let yaml = format!(
            "listeners:\n{listeners}\nupstreams: {{ u: {{ endpoints: [\"{endpoint}\"] }} }}\n"
        );
        config::parse("test.yaml", &yaml, &|_| None)
    };
    let one = "  a: { address: \"unix:/run/a.sock\", upstream: u }\n";
    let two = format!("{one}  b: {{ address: \"unix:/run/a.sock\", upstream: u }}\n");
    let told = check(&two, "b:1").err().unwrap().to_string();
    assert!(told.contains("unix:/run/a.sock is taken"), "{told}");
    let loaded = check(one, "unix:/run/a.sock").unwrap();
    let told = loaded.warnings[0].to_string();
    assert!(told.contains("round in circles"), "{told}");
}

#[test]
fn a_reload_moves_a_listener_to_another_path_and_back_to_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let upstream = Upstream::always(200);
    let file = at("mamparo.yaml");
    let write = |address: &str| {
        let yaml = format!(
            "admin: {{ address: \"127.0.0.1:0\" }}\naccess_log: {{ destination: off }}\n\
             listeners: {{ l: {{ address: \"{address}\", upstream: u }} }}\n\
             upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
            upstream.address()
        );
        std::fs::write(&file, yaml).unwrap();
    };
    let unix = |name: &str| format!("unix:{}", at(name).display());
    write(&unix("a.sock"));
    let loaded = config::load(std::slice::from_ref(&file), &|_| None).unwrap();
    let options = Options {
        paths: vec![file.clone()],
        ..Options::default()
    };
    let running = app::start(loaded, options).unwrap();
    assert!(ask(&at("a.sock"), "GET / HTTP/1.1").starts_with("HTTP/1.1 200"));
    write(&unix("b.sock"));
    let reload = running.reload().unwrap();
    assert!(
        reload
            .changes
            .iter()
            .any(|change| change.contains("b.sock")),
        "{reload:?}"
    );
    assert!(ask(&at("b.sock"), "GET / HTTP/1.1").starts_with("HTTP/1.1 200"));
    eventually("the old one is gone", || !at("a.sock").exists());
    write("127.0.0.1:0");
    running.reload().unwrap();
    eventually("this one too", || !at("b.sock").exists());
    assert!(running.listener_address("l").is_some());
}
