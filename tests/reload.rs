//! Reloads of a running process, with real sockets and requests under way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what cannot be set up is a failed test"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use mamparo::app::{self, Options, Running};
use mamparo::server::status::{Circuit, LastReload, ReloadResult};
use mamparo::{clock, config};

const BOUND: Duration = Duration::from_secs(20);

/// A process with its configuration in a file.
struct Process {
    _folder: tempfile::TempDir,
    file: PathBuf,
    running: Running,
}

impl Process {
    fn start(yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mamparo.yaml");
        std::fs::write(&file, yaml).unwrap();
        let paths = vec![file.clone()];
        let loaded = match config::load(&paths, &|_| None) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}"),
        };
        let options = Options {
            paths,
            ..Options::default()
        };
        Self {
            _folder: folder,
            file,
            running: app::start(loaded, options).unwrap(),
        }
    }

    /// Saves the file as an editor does and waits until something has come of it.
    fn reload(&self, yaml: &str) -> LastReload {
        let before = self.running.status().last_reload;
        let new = self.file.with_extension("new");
        std::fs::write(&new, yaml).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
        wait_until("the file was read", || {
            self.running.status().last_reload != before
        });
        self.running.status().last_reload.unwrap()
    }

    fn get(&self, path: &str) -> String {
        get(self.running.listener_address("main").unwrap(), path).unwrap()
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(BOUND))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// An upstream that answers each request with a status after a while, one request a connection.
fn upstream(status: u16, after: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = [0; 4096];
                if stream.read(&mut request).unwrap_or(0) > 0 {
                    thread::sleep(after);
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
                    );
                }
            });
        }
    });
    address
}

fn yaml(listeners: &str, upstreams: &str) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}\nruntime: {{ workers: 1, drain: 5s }}\naccess_log: {{ destination: off }}\nlisteners:\n{listeners}\nupstreams:\n{upstreams}\n"
    )
}

fn main_to(upstream: &str) -> String {
    format!("  main: {{ address: 127.0.0.1:0, role: outbound, upstream: {upstream} }}")
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let end = clock::now() + BOUND;
    while !holds() {
        assert!(clock::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn fault_068_a_request_under_way_outlives_its_upstreams_removal() {
    let slow = upstream(200, Duration::from_millis(500));
    let other = upstream(201, Duration::ZERO);
    let process = Process::start(&yaml(
        &main_to("slow"),
        &format!("  slow: {{ endpoints: [\"{slow}\"] }}"),
    ));
    let address = process.running.listener_address("main").unwrap();
    let under_way = thread::spawn(move || get(address, "/").unwrap());
    wait_until("the request is under way", || {
        let status = process.running.status();
        status.upstreams[0].endpoints[0].in_flight == 1
    });
    let last = process.reload(&yaml(
        &main_to("other"),
        &format!("  other: {{ endpoints: [\"{other}\"] }}"),
    ));
    assert_eq!(last.result, ReloadResult::Applied, "{last:?}");
    assert_eq!(last.generation, 2);
    assert!(process.get("/").starts_with("HTTP/1.1 201"));
    assert!(under_way.join().unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn rule_81_an_open_breaker_stays_open_and_keeps_its_reason() {
    let broken = upstream(503, Duration::ZERO);
    let with = |consecutive: u32| {
        yaml(
            &main_to("broken"),
            &format!(
                "  broken: {{ endpoints: [\"{broken}\"], circuit_breaker: {{ consecutive_failures: {consecutive} }} }}"
            ),
        )
    };
    let process = Process::start(&with(2));
    for _ in 0..2 {
        assert!(process.get("/").starts_with("HTTP/1.1 503"));
    }
    let before = process.running.status().upstreams.remove(0);
    assert_eq!(before.circuit, Circuit::Open);
    let last = process.reload(&with(9));
    assert_eq!(
        last.changes,
        ["upstreams.broken.circuit_breaker.consecutive_failures: 2 -> 9"]
    );
    let after = process.running.status().upstreams.remove(0);
    assert_eq!(after.circuit, Circuit::Open);
    assert_eq!(after.endpoints[0].reason, before.endpoints[0].reason);
}

#[test]
fn listeners_come_and_go_and_those_that_stay_keep_their_port() {
    let one = upstream(200, Duration::ZERO);
    let upstreams = format!("  one: {{ endpoints: [\"{one}\"] }}");
    let process = Process::start(&yaml(&main_to("one"), &upstreams));
    let main = process.running.listener_address("main").unwrap();
    let both = format!(
        "{}\n  second: {{ address: 127.0.0.1:0, role: inbound, upstream: one }}",
        main_to("one")
    );
    assert_eq!(
        process.reload(&yaml(&both, &upstreams)).result,
        ReloadResult::Applied
    );
    let second = process.running.listener_address("second").unwrap();
    assert!(get(second, "/").unwrap().starts_with("HTTP/1.1 200"));
    let last = process.reload(&yaml(&main_to("one"), &upstreams));
    assert_eq!(last.result, ReloadResult::Applied);
    wait_until("the second listener is closed", || {
        get(second, "/").is_err()
    });
    assert_eq!(process.running.listener_address("main"), Some(main));
    assert!(get(main, "/").unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn what_cannot_be_applied_changes_nothing() {
    let one = upstream(200, Duration::ZERO);
    let upstreams = format!("  one: {{ endpoints: [\"{one}\"] }}");
    let good = yaml(&main_to("one"), &upstreams);
    let process = Process::start(&good);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let listener = format!(
        "{}\n  second: {{ address: \"{taken}\", role: inbound, upstream: one }}",
        main_to("one")
    );
    let own = process.running.listener_address("main").unwrap();
    let renamed = format!("  second: {{ address: \"{own}\", role: inbound, upstream: one }}");
    for (wrong, says) in [
        (yaml(&listener, &upstreams), taken.to_string()),
        (
            yaml(&renamed, &upstreams),
            "from listener 'main' while the process runs".into(),
        ),
        (
            good.replace("workers: 1", "workers: 2"),
            "runtime.workers".into(),
        ),
        (good.replace("one }", "two }"), "two".into()),
        (good[..good.len() / 2].to_owned(), "mamparo.yaml".into()),
        (String::new(), "mamparo.yaml".into()),
    ] {
        let last = process.reload(&wrong);
        assert_eq!(last.result, ReloadResult::Refused, "{last:?}");
        assert!(
            last.problems.iter().any(|problem| problem.contains(&says)),
            "{last:?}"
        );
        assert_eq!(last.generation, 1);
        assert!(process.get("/").starts_with("HTTP/1.1 200"));
        assert!(
            process
                .running
                .metrics()
                .contains("mamparo_config_last_reload_success 0")
        );
    }
    assert_eq!(process.reload(&good).result, ReloadResult::Unchanged);
    assert!(
        process
            .running
            .metrics()
            .contains("mamparo_config_last_reload_success 1")
    );
}

#[test]
fn fault_068_a_reload_while_draining_is_refused() {
    let slow = upstream(200, Duration::from_secs(2));
    let good = yaml(
        &main_to("slow"),
        &format!("  slow: {{ endpoints: [\"{slow}\"] }}"),
    );
    let process = Process::start(&good);
    let address = process.running.listener_address("main").unwrap();
    let under_way = thread::spawn(move || get(address, "/").unwrap());
    wait_until("the request is under way", || {
        process.running.status().upstreams[0].endpoints[0].in_flight == 1
    });
    process.running.terminate();
    wait_until("draining", || process.running.status().process.draining);
    let last = process.reload(&good.replace("5s", "6s"));
    assert_eq!(last.result, ReloadResult::Refused);
    assert!(last.problems[0].contains("draining"), "{last:?}");
    assert!(under_way.join().unwrap().starts_with("HTTP/1.1 200"));
    assert!(process.running.wait());
}
