//! The real program: its exit codes, its signals, what it reads from the environment, and its reloads.

use std::process::Output;
use std::time::Duration;

use crate::support::program::{PROGRAM, output};
use crate::support::{Client, Gate, Program, Reply, Upstream, eventually};

/// A configuration with ports that the system chooses.
fn yaml(upstream: &Upstream, policies: &str) -> String {
    format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\n\
         runtime: {{ workers: 1, drain: 5s }}\n\
         access_log: {{ destination: off }}\n\
         listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], {policies} }} }}\n",
        upstream.address()
    )
}

fn status(program: &Program) -> serde_json::Value {
    Client::connect(program.admin())
        .get_from_admin("/api/v1/status")
        .json()
}

/// Runs `mamparo check` or so on a file with this text.
fn on_file(arguments: &[&str], text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mamparo.yaml");
    std::fs::write(&path, text).unwrap();
    let mut all = arguments.to_vec();
    all.push(path.to_str().unwrap());
    output(&all)
}

#[test]
fn exit_codes() {
    let upstream = Upstream::always(200);
    let fine = yaml(&upstream, "critical: false");
    let odd = yaml(&upstream, "retry: { budget: off }");
    let wrong = fine.replace("critical", "critcal");
    for (arguments, text, code) in [
        (&["check"][..], &fine, 0),
        (&["check"], &odd, 0),
        (&["check", "--strict"], &odd, 1),
        (&["check"], &wrong, 2),
        (&["run", "--config"], &wrong, 2),
    ] {
        let out = on_file(arguments, text);
        let told = String::from_utf8_lossy(&out.stderr) + String::from_utf8_lossy(&out.stdout);
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {told}");
        if code == 2 {
            assert!(told.contains("mamparo.yaml:5:"), "{told}");
            assert!(told.contains("critical"), "did you mean: {told}");
        }
    }
    assert_eq!(
        output(&["run", "--config", "/nonexistent/file"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(output(&["schema"]).status.code(), Some(0));
}

/// Fault 80: a port that is taken ends the start with 1 and says which.
#[test]
fn fault_080_a_taken_port() {
    let upstream = Upstream::always(200);
    let taken = upstream.address().to_string();
    let text = yaml(&upstream, "critical: false");
    for from in [
        "admin: { address: \"127.0.0.1:0\" }",
        "outbound: { address: \"127.0.0.1:0\"",
    ] {
        let text = text.replace(from, &from.replace("127.0.0.1:0", &taken));
        let out = on_file(&["run", "--config"], &text);
        let told = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{told}");
        assert!(told.contains(&taken), "{told}");
    }
}

#[test]
fn rule_084_sigterm_lets_what_is_in_flight_finish() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let mut program = Program::run(&yaml(&upstream, "critical: false"));
    let mut client = Client::connect(program.listener("outbound"));
    client.request("GET", "/", &[], b"");
    upstream.wait_for(1);
    program.signal("TERM");
    eventually("readiness fails at once", || {
        Client::connect(program.admin())
            .get_from_admin("/readyz")
            .status
            == 503
    });
    assert!(program.is_running());
    // Outbound goes on: our service may still need others.
    let mut late = Client::connect(program.listener("outbound"));
    late.request("GET", "/", &[], b"");
    upstream.wait_for(2);
    gate.open();
    assert_eq!(client.answer().status, 200);
    assert_eq!(late.answer().status, 200);
    assert_eq!(program.wait().code(), Some(0));
}

/// Fault 69: a second signal ends it at once.
#[test]
fn fault_069_sigterm_twice() {
    let upstream = Upstream::always(Reply::stall());
    let mut program = Program::run(&yaml(&upstream, "critical: false"));
    let mut client = Client::connect(program.listener("outbound"));
    client.request("GET", "/", &[], b"");
    upstream.wait_for(1);
    program.signal("TERM");
    eventually("it drains", || program.stderr().contains("draining"));
    // An echo of the same signal within a moment is not a second order.
    std::thread::sleep(Duration::from_millis(1100));
    assert!(program.is_running());
    program.signal("TERM");
    assert!(program.wait().code().is_some());
    assert!(client.try_answer("GET").is_err());
}

#[test]
fn variables_of_the_environment() {
    let upstream = Upstream::always(200);
    let text = yaml(&upstream, "critical: false").replace(
        &format!("\"{}\"", upstream.address()),
        "\"${TESTED_UPSTREAM}\"",
    );
    let address = upstream.address().to_string();
    let program = Program::run_with(&text, &[], |command| {
        command.env("TESTED_UPSTREAM", &address);
    });
    assert_eq!(
        Client::connect(program.listener("outbound"))
            .get("/")
            .status,
        200
    );
    let out = on_file(&["check"], &text);
    assert_eq!(
        out.status.code(),
        Some(2),
        "it is not set, and has no default"
    );
    let with_default = text.replace("UPSTREAM}", &format!("UPSTREAM:-{address}}}"));
    assert_eq!(on_file(&["check"], &with_default).status.code(), Some(0));
}

/// Rule 81: a changed file takes effect, by itself or by SIGHUP; connections and memory stay.
#[test]
fn rule_081_a_reload_keeps_connections_and_what_was_learnt() {
    let upstream = Upstream::script([500, 500, 200]);
    let before = yaml(&upstream, "circuit_breaker: { consecutive_failures: 9 }");
    let program = Program::run(&before);
    let mut client = Client::connect(program.listener("outbound"));
    for _ in 0..2 {
        assert_eq!(client.get("/").status, 500);
    }
    let after = before.replace("failures: 9", "failures: 8") + "service: renamed\n";
    std::fs::write(program.config(), after).unwrap();
    program.signal("HUP");
    eventually("the new one runs", || {
        status(&program)["process"]["generation"] == 2
    });
    assert_eq!(client.get("/").status, 200, "on the same connection");
    let status = status(&program);
    assert_eq!(status["process"]["service"], "renamed");
    assert_eq!(
        status["upstreams"][0]["endpoints"][0]["window"]["failures"],
        2
    );
    assert_eq!(upstream.connections(), 1);
}

/// Rule 83, fault 68: garbage is refused, said so, and what ran goes on.
#[test]
fn fault_068_a_reload_with_garbage() {
    let upstream = Upstream::always(200);
    let text = yaml(&upstream, "critical: false");
    let program = Program::run(&text);
    let admin = program.admin();
    for garbage in ["", "listeners: [", "nonsense: 1\n", "\u{0}\u{1}"] {
        std::fs::write(program.config(), garbage).unwrap();
        let answer = Client::connect(admin).post_to_admin("/api/v1/reload");
        assert_eq!(answer.status, 422, "{garbage:?}: {}", answer.text());
        assert!(answer.text().contains("mamparo.yaml"), "{}", answer.text());
        assert_eq!(
            Client::connect(program.listener("outbound"))
                .get("/")
                .status,
            200
        );
    }
    let metrics = Client::connect(admin).get_from_admin("/metrics").text();
    let value = |name: &str| crate::support::value_of(&metrics, name, &[]);
    assert_eq!(value("mamparo_config_last_reload_success"), 0.0);
    assert_eq!(value("mamparo_config_generation"), 1.0);
    std::fs::write(program.config(), text + "service: mended\n").unwrap();
    let answer = Client::connect(admin).post_to_admin("/api/v1/reload");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn the_file_is_watched() {
    let upstream = Upstream::always(200);
    let text = yaml(&upstream, "critical: false");
    let program = Program::run(&text);
    std::fs::write(
        program.config(),
        text.replace("critical: false", "rate_limit: { burst: 7 }"),
    )
    .unwrap();
    eventually("the change is seen", || {
        status(&program)["upstreams"][0]["rate_limit"]["burst"] == 7.0
    });
}

/// What an operator reads with `explain` is what a request meets.
#[test]
fn explain_names_the_route_and_the_settings() {
    let upstream = Upstream::always(200);
    let text = yaml(
        &upstream,
        "retry: { max_attempts: 4 }, timeouts: { request: 2s }",
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mamparo.yaml");
    std::fs::write(&path, text).unwrap();
    let out = output(&[
        "explain",
        "--config",
        path.to_str().unwrap(),
        "GET",
        "http://service/",
    ]);
    let told = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{told}");
    for word in ["outbound", "max_attempts", "4", "2s"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn the_program_is_the_one_that_was_built() {
    let out = output(&["--version"]);
    let told = String::from_utf8_lossy(&out.stdout);
    assert_eq!(
        told.trim(),
        format!("mamparo {}", env!("CARGO_PKG_VERSION")),
        "{PROGRAM}"
    );
}

#[test]
fn dev_prints_no_configuration_that_could_not_run() {
    for (to, code, said) in [
        (
            "http://127.0.0.1:3000",
            0,
            "endpoints: [\"http://127.0.0.1:3000\"]",
        ),
        ("3000", 2, "did you mean `127.0.0.1:3000`?"),
    ] {
        let out = output(&["dev", "--to", to, "--print-config"]);
        let told = if code == 0 { &out.stdout } else { &out.stderr };
        let told = String::from_utf8_lossy(told);
        assert_eq!(out.status.code(), Some(code), "{told}");
        assert!(told.contains(said), "{told}");
        assert_eq!(out.stdout.is_empty(), code != 0);
    }
}
