//! The end in order, with listeners of both roles.

use std::net::TcpStream;

use crate::support::{Client, Gate, Program, Reply, Upstream, eventually};

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
    assert_eq!(program.wait().code(), Some(0));
}
