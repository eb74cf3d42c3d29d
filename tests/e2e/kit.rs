//! The tools themselves: a request passes, what is seen of it agrees, and a leak is noticed.

use crate::support::{BlackHole, Client, Program, Proxy, Refused, Reply, Upstream};

#[test]
fn a_request_passes_and_is_told_of() {
    let upstream = Upstream::always(Reply::new(200).header("x-from: upstream").body("hello"));
    let proxy = Proxy::before(&upstream, "bulkhead: {}");
    let answer = proxy.request("GET", "/a?b=c", &["x-to: upstream"], b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.header("x-from").as_deref(), Some("upstream"));
    let received = upstream.last();
    assert_eq!(received.target, "/a?b=c");
    assert_eq!(received.header("x-to").as_deref(), Some("upstream"));
    proxy.expect_metric("mamparo_requests_total", &[("outcome", "upstream")], 1.0);
    let line = proxy.only_line();
    assert_eq!(line["path"], "/a");
    assert_eq!(line["status"], 200);
}

#[test]
fn a_connection_is_kept_on_both_sides() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!((upstream.count(), upstream.connections()), (3, 1));
}

#[test]
#[should_panic(expected = "left behind: Some(\"a client's connection\")")]
fn what_is_left_behind_is_noticed() {
    let upstream = Upstream::always(200);
    let mut proxy = Proxy::before(&upstream, "");
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    proxy.assert_quiet();
}

#[test]
fn an_address_refuses_and_another_swallows() {
    let (refused, hole) = (Refused::new(), BlackHole::new());
    let proxy = Proxy::to(&[refused.address], "");
    assert_eq!(proxy.get("/").reason().as_deref(), Some("connect_failure"));
    let proxy = Proxy::to(&[hole.address], "timeouts: { connect: 50ms }");
    assert_eq!(proxy.get("/").reason().as_deref(), Some("connect_timeout"));
}

#[test]
fn the_real_program_runs() {
    let upstream = Upstream::always(200);
    let yaml = format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\n\
         listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    );
    let mut program = Program::run(&yaml);
    assert_eq!(
        Client::connect(program.listener("outbound"))
            .get("/")
            .status,
        200
    );
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}
