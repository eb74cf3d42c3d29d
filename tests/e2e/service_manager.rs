//! What a service manager hears: the real program beside a real socket, as systemd gives it to a unit of
//! `Type=notify`.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::{Client, Gate, Program, Reply, Upstream};

fn yaml(upstream: &Upstream) -> String {
    format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\n\
         runtime: {{ workers: 1, drain: 20s }}\n\
         access_log: {{ destination: off }}\n\
         listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    )
}

/// The next message, as lines.
fn heard(manager: &UnixDatagram) -> Vec<String> {
    let mut words = [0; 512];
    let count = manager.recv(&mut words).expect("a message");
    let text = std::str::from_utf8(&words[..count]).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn it_hears_when_the_process_is_ready_and_when_it_begins_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();

    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let mut program = Program::run_with(&yaml(&upstream), &[], |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let ready = heard(&manager);
    assert_eq!(ready[0], "READY=1");
    assert!(
        ready[1].starts_with("STATUS=") && ready[1].contains("listener"),
        "{ready:?}"
    );
    // What waits for it may use it from this moment on.
    let mut client = Client::connect(program.listener("outbound"));
    assert_eq!(
        Client::connect(program.admin())
            .get_from_admin("/readyz")
            .status,
        200
    );
    client.request("GET", "/", &[], b"");
    upstream.wait_for(1);

    program.signal("TERM");
    let stopping = heard(&manager);
    assert_eq!(stopping[0], "STOPPING=1");
    assert!(stopping[1].contains("20s"), "{stopping:?}");
    // It is told before the work ends, not after.
    gate.open();
    assert_eq!(client.answer().status, 200);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_manager_that_is_not_there_stops_nothing() {
    let upstream = Upstream::always(200);
    let program = Program::run_with(&yaml(&upstream), &[], |command| {
        command.env("NOTIFY_SOCKET", "/nonexistent/notify");
    });
    assert_eq!(
        Client::connect(program.listener("outbound"))
            .get("/")
            .status,
        200
    );
    assert!(
        program
            .stderr()
            .contains("the service manager was not told 'READY=1'"),
        "{}",
        program.stderr()
    );
}
