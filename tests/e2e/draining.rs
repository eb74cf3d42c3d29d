//! The end in order, with listeners of both roles.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Client, Gate, Http2, Program, Reply, Upstream, eventually};

/// Only outbound; our service has gone when it has had no connection for a fifth of the drain.
fn outbound(upstream: &Upstream, drain: &str) -> Program {
    Program::run(&format!(
        "admin: {{ address: \"127.0.0.1:0\" }}
runtime: {{ workers: 1, drain: {drain} }}
access_log: {{ destination: off }}
listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}
upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}
",
        upstream.address()
    ))
}

/// Rule 84: an application that opens a connection for each call has none in between.
#[test]
fn rule_084_outbound_goes_on_between_two_calls_over_connections_of_their_own() {
    let upstream = Upstream::always(200);
    let mut program = outbound(&upstream, "10s");
    let address = program.listener("outbound");
    let began = Instant::now();
    program.signal("TERM");
    eventually("it drains", || program.stderr().contains("draining"));
    let mut last = began;
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(600));
        last = Instant::now();
        let mut client = Client::connect(address);
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
        assert!(client.is_closed());
    }
    assert_eq!(program.wait().code(), Some(0));
    let took = last.elapsed();
    assert!(took > Duration::from_millis(1_900), "{took:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{took:?}");
    assert_eq!(upstream.count(), 4);
}

/// Rules 84 and 85: an idle connection is a sign of life, and is not taken away from under a call.
#[test]
fn rule_084_outbound_goes_on_while_our_service_keeps_a_connection() {
    let upstream = Upstream::always(200);
    let mut program = outbound(&upstream, "9s");
    let mut kept = Client::connect(program.listener("outbound"));
    assert_eq!(kept.get("/before").status, 200);
    program.signal("TERM");
    eventually("it drains", || program.stderr().contains("draining"));
    std::thread::sleep(Duration::from_millis(2_500));
    let answer = kept.get("/much-later");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
    assert!(kept.is_closed());
    assert_eq!(program.wait().code(), Some(0));
}

/// A connection on which nothing is asked any more does not use up the drain.
#[test]
fn rule_085_an_idle_connection_is_closed_before_the_drain_is_over() {
    let upstream = Upstream::always(200);
    let mut program = outbound(&upstream, "3s");
    let mut kept = Client::connect(program.listener("outbound"));
    // One in the backlog would be no sign of life yet.
    assert_eq!(kept.get("/").status, 200);
    let began = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_900), "{took:?}");
    eventually("it did not have to be cut", || {
        program.stderr().contains("every request was answered")
    });
    drop(kept);
}

/// Rule 84: others may still come for a moment, then `inbound` is closed and drained, while our service,
/// which is at work for them, can call others through `outbound` to the end.
#[test]
fn rule_084_inbound_is_drained_first_and_outbound_goes_on() {
    let gate = Gate::default();
    let ours = Upstream::always(Reply::new(200).when(&gate));
    let others = Upstream::always(204);
    let mut program = Program::run(&format!(
        "admin: {{ address: \"127.0.0.1:0\" }}
runtime: {{ workers: 1, drain: 30s }}
access_log: {{ destination: off }}
listeners:
  inbound: {{ address: \"127.0.0.1:0\", role: inbound, upstream: ours }}
  outbound: {{ address: \"127.0.0.1:0\", upstream: others }}
upstreams:
  ours: {{ endpoints: [\"{}\"] }}
  others: {{ endpoints: [\"{}\"] }}
",
        ours.address(),
        others.address()
    ));
    let (inbound, outbound) = (program.listener("inbound"), program.listener("outbound"));
    let mut early = Client::connect(inbound);
    early.request("GET", "/early", &[], b"");
    ours.wait_for(1);
    let mut kept = Client::connect(outbound);
    assert_eq!(kept.get("/before").status, 204);
    program.signal("TERM");
    eventually("it drains", || program.stderr().contains("draining"));
    let mut late = Client::connect(inbound);
    late.request("GET", "/late", &[], b"");
    ours.wait_for(2);
    eventually("inbound is closed", || TcpStream::connect(inbound).is_err());
    assert_eq!(
        kept.get("/while").status,
        204,
        "on the connection of before"
    );
    assert_eq!(Client::connect(outbound).get("/new").status, 204);
    assert!(program.is_running());
    gate.open();
    for client in [&mut early, &mut late] {
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert!(client.is_closed(), "it takes no other request");
    }
    // Our service has gone.
    drop(kept);
    assert_eq!(program.wait().code(), Some(0));
}

/// Rule 85: what is cut when the time is over was not given up by its client, and its access line says so.
#[test]
fn rule_085_what_is_cut_is_not_said_to_have_left() {
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc";
    let upstream = Upstream::with(move |_, asked| match &*asked.target {
        "/begun" => Reply::raw(begun).then_stall(),
        _ => Reply::stall(),
    });
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mut program = Program::run(&format!(
        "admin: {{ address: \"127.0.0.1:0\" }}
runtime: {{ workers: 1, drain: 500ms }}
access_log: {{ destination: {} }}
listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}
upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}
",
        log.display(),
        upstream.address()
    ));
    let address = program.listener("outbound");
    let (mut begun, mut waiting) = (Client::connect(address), Client::connect(address));
    begun.request("GET", "/begun", &[], b"");
    waiting.request("GET", "/waiting", &[], b"");
    let mut over_http2 = Http2::connect(address);
    let _asked = over_http2.begin("GET", "/over-http2", &[]);
    upstream.wait_for(3);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(program.stderr().contains("the drain time is over"));
    let lines = std::fs::read_to_string(log).unwrap();
    let mut told: Vec<_> = lines
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            ["path", "status", "outcome", "reason", "detail"].map(|key| line[key].to_string())
        })
        .collect();
    told.sort();
    let cut = ["\"draining\"", "\"the drain time was over\""];
    let line = |path, status, outcome| [path, status, outcome, cut[0], cut[1]].map(str::to_owned);
    assert_eq!(
        told,
        [
            line("\"/begun\"", "200", "\"upstream\""),
            line("\"/over-http2\"", "503", "\"failed\""),
            line("\"/waiting\"", "503", "\"failed\""),
        ]
    );
}
