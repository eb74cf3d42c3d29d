//! `mamparo probe`: what a health check or a script learns of a process that runs, by exit code and one line.

use std::net::TcpListener;

use crate::support::program::output;
use crate::support::{Client, Program, Upstream, eventually};

/// Exit code, and what was printed.
fn probe(admin: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let all: Vec<&str> = ["probe", "--admin", admin]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    let out = output(&all);
    let text = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8(text).unwrap())
}

fn yaml(admin: &str, endpoint: &str) -> String {
    format!(
        "admin: {{ address: \"{admin}\" }}\n\
         runtime: {{ workers: 1, drain: 5s }}\n\
         access_log: {{ destination: off }}\n\
         listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{endpoint}\"], critical: true, \
         circuit_breaker: {{ consecutive_failures: 1 }} }} }}\n"
    )
}

#[test]
fn ready_alive_and_healthy() {
    let upstream = Upstream::always(200);
    let program = Program::run(&yaml("127.0.0.1:0", &upstream.address().to_string()));
    let admin = program.admin().to_string();
    for (arguments, line) in [
        (&[][..], "ready\n"),
        (&["--live"], "live\n"),
        (&["--deep"], "ok\n"),
    ] {
        assert_eq!(
            probe(&admin, arguments),
            (Some(0), line.to_owned()),
            "{arguments:?}"
        );
    }
    // It takes no new work any more, but it lives.
    Client::connect(program.admin()).post_to_admin("/api/v1/drain");
    let (code, told) = probe(&admin, &[]);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("draining") && told.lines().count() == 1,
        "{told}"
    );
    assert_eq!(probe(&admin, &["--live"]).0, Some(0));
}

#[test]
fn it_waits_for_what_is_not_there_yet() {
    let upstream = Upstream::always(200);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = free.local_addr().unwrap().to_string();
    drop(free);
    let began = std::time::Instant::now();
    assert_eq!(probe(&admin, &["--wait", "300ms"]).0, Some(1));
    assert!(began.elapsed() >= std::time::Duration::from_millis(300));
    let at = admin.clone();
    let waiting = std::thread::spawn(move || probe(&at, &["--wait", "60s"]));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!waiting.is_finished());
    let _program = Program::run(&yaml(&admin, &upstream.address().to_string()));
    assert_eq!(waiting.join().unwrap(), (Some(0), "ready\n".to_owned()));
}

#[test]
fn the_deep_one_names_the_critical_upstream_that_is_away() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let program = Program::run(&yaml("127.0.0.1:0", &nobody.to_string()));
    let admin = program.admin().to_string();
    assert_eq!(
        Client::connect(program.listener("outbound"))
            .get("/")
            .status,
        502
    );
    eventually("its breaker is open", || {
        probe(&admin, &["--deep"]).0 == Some(1)
    });
    let (_, told) = probe(&admin, &["--deep"]);
    let endpoint = format!("{nobody}, its breaker is open: 1 failure");
    for words in ["u: no endpoint is available", &endpoint] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(told.lines().count(), 1, "{told}");
    // Readiness never depends on upstreams.
    assert_eq!(probe(&admin, &[]).0, Some(0));
}

#[test]
fn a_process_that_is_stopped_is_not_waited_for() {
    let upstream = Upstream::always(200);
    let program = Program::run(&yaml("127.0.0.1:0", &upstream.address().to_string()));
    let admin = program.admin().to_string();
    program.signal("STOP");
    let (code, told) = probe(&admin, &["--timeout", "100ms"]);
    program.signal("CONT");
    assert_eq!(code, Some(1));
    assert!(
        told.contains("within 100ms") && told.lines().count() == 1,
        "{told}"
    );
}

#[test]
fn nobody_there_is_1_and_a_wrong_command_line_2() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, told) = probe(&nobody.to_string(), &[]);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("nobody answers at") && told.lines().count() == 1,
        "{told}"
    );
    assert_eq!(probe("9901", &[]).0, Some(2));
    assert_eq!(probe("127.0.0.1:9901", &["--live", "--deep"]).0, Some(2));
}
