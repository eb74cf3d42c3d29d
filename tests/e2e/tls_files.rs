//! Files of certificates: at start, in `check`, and while the program runs.

use std::net::SocketAddr;
use std::process::Output;

use super::support::program::output;
use super::support::tls::{Authority, Files, Setup, TlsUpstream};
use super::support::{Client, Program, Upstream, eventually, value_of};

fn under_tls(files: &Files, client_ca: bool, endpoint: &str) -> String {
    let folder = files.folder().display();
    let client_ca = if client_ca {
        format!(", client_ca: {folder}/clients.crt")
    } else {
        String::new()
    };
    let ca = if endpoint.starts_with("https") {
        format!(", tls: {{ ca: {folder}/ca.crt }}")
    } else {
        String::new()
    };
    format!(
        "admin: {{ address: '127.0.0.1:0' }}
access_log: {{ destination: off }}
listeners:
  in:
    address: '127.0.0.1:0'
    upstream: u
    tls: {{ cert: {folder}/tls.crt, key: {folder}/tls.key{client_ca} }}
upstreams: {{ u: {{ endpoints: ['{endpoint}']{ca} }} }}
"
    )
}

fn check(files: &Files, yaml: &str) -> (Option<i32>, String) {
    let path = files.put("mamparo.yaml", yaml);
    let Output { status, stdout, .. } = output(&["check", path.to_str().unwrap()]);
    (status.code(), String::from_utf8(stdout).unwrap())
}

/// The serial number of what a listener shows: its certificate as it is.
fn shown(setup: &Setup, to: SocketAddr) -> Vec<u8> {
    let mut client = setup.connect(to).unwrap();
    let chain = client.session().peer_certificates().unwrap();
    chain[0].to_vec()
}

fn status(program: &Program) -> serde_json::Value {
    Client::connect(program.admin())
        .get_from_admin("/api/v1/status")
        .json()
}

#[test]
fn fault_063_a_bad_pair_is_a_mistake_in_the_configuration() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let yaml = under_tls(&files, false, "127.0.0.1:1");
    let (code, text) = check(&files, &yaml);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("mamparo.yaml:7:18: listeners.in.tls.cert: "),
        "{text}"
    );
    assert!(text.contains("cannot be read: it does not exist"), "{text}");
    let (one, other) = (
        authority.issue(&["localhost"]),
        authority.issue(&["localhost"]),
    );
    files.put("tls.crt", &one.cert);
    files.put("tls.key", &other.key);
    let (code, text) = check(&files, &yaml);
    assert_eq!(code, Some(2));
    assert!(text.contains("listeners.in.tls.key: "), "{text}");
    assert!(
        text.contains("is not the key of the certificate in"),
        "{text}"
    );
    files.put("tls.key", &one.key);
    files.put("tls.crt", &one.cert[..one.cert.len() / 2]);
    let (code, text) = check(&files, &yaml);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("ends in the midst of a certificate"),
        "{text}"
    );
    files.put("tls.crt", "nothing of the kind\n");
    assert!(check(&files, &yaml).1.contains("holds no certificate"));
    files.put_pair("tls", &one);
    let (code, text) = check(&files, &yaml);
    assert_eq!(code, Some(0), "{text}");
}

/// A certificate and its key of 1024 bits, self-signed until the year 2126.
const WEAK: &str = include_str!("support/weak-rsa-1024.pem");

#[test]
fn fault_061_a_weak_key_and_empty_files_are_spelt_out_by_check_and_at_run_time() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let good = authority.issue(&["localhost"]);
    let (cert, key) = (&*good.cert, &*good.key);
    let chain_without_an_end = cert.replace("-----BEGIN CERTIFICATE-----\n", "");
    let cases = [
        (
            WEAK,
            WEAK,
            "tls.key holds an RSA key of 1024 bits, which is too weak; it takes 2048 at least",
        ),
        ("", key, "tls.crt is empty"),
        ("\n\n", key, "tls.crt is empty"),
        (cert, "", "tls.key is empty"),
        (key, key, "tls.crt holds no certificate"),
        (cert, cert, "tls.key holds no private key"),
        (&chain_without_an_end, key, "tls.crt "),
    ];
    let upstream = Upstream::always(200);
    let yaml = under_tls(&files, false, &upstream.address().to_string());
    for (cert, key, sentence) in &cases {
        files.put("tls.crt", cert);
        files.put("tls.key", key);
        let (code, text) = check(&files, &yaml);
        assert_eq!(code, Some(2), "{sentence}: {text}");
        assert!(text.contains(sentence), "{text}");
    }
    // An authority's file likewise, on either side.
    files.put_pair("tls", &good);
    files.put("clients.crt", "");
    files.put("ca.crt", " ");
    let (code, text) = check(&files, &under_tls(&files, true, "https://localhost"));
    assert_eq!(code, Some(2));
    assert!(text.contains("listeners.in.tls.client_ca: "), "{text}");
    assert!(text.contains("clients.crt is empty"), "{text}");
    assert!(text.contains("upstreams.u.tls.ca: "), "{text}");
    assert!(text.contains("ca.crt is empty"), "{text}");

    // While it runs, each of them leaves the pair that is in use, and says why.
    let program = Program::run(&yaml);
    let (to, setup) = (program.listener("in"), Setup::trusting(&authority));
    let before = shown(&setup, to);
    for (cert, key, sentence) in &cases {
        files.put("tls.crt", cert);
        files.put("tls.key", key);
        eventually("it is told of", || {
            let problem = status(&program)["certificates"][0]["problem"].to_string();
            problem.contains(sentence)
        });
        assert_eq!(shown(&setup, to), before);
    }
    let metrics = Client::connect(program.admin()).get_from_admin("/metrics");
    assert_eq!(metrics.status, 200);
}

/// What kubelet does: files are links to links into a folder that is swapped as a whole.
#[test]
fn fault_063_a_mounted_secret_is_swapped_by_its_data_link() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let generation = |number: u32| {
        let folder = files.path(&format!("..2026_11_{number:02}"));
        std::fs::create_dir(&folder).unwrap();
        let pair = authority.issue(&["localhost"]);
        std::fs::write(folder.join("tls.crt"), &pair.cert).unwrap();
        std::fs::write(folder.join("tls.key"), &pair.key).unwrap();
        folder
    };
    let point_to = |folder: &std::path::Path| {
        let fresh = files.path("..data_tmp");
        std::os::unix::fs::symlink(folder.file_name().unwrap(), &fresh).unwrap();
        std::fs::rename(fresh, files.path("..data")).unwrap();
    };
    let mut before = generation(1);
    point_to(&before);
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), files.path(name)).unwrap();
    }
    let upstream = Upstream::always(200);
    let endpoint = upstream.address().to_string();
    let program = Program::run(&under_tls(&files, false, &endpoint));
    let (to, mut setup) = (program.listener("in"), Setup::trusting(&authority));
    // A resumed session shows what it was begun with.
    setup.0.resumption = rustls::client::Resumption::disabled();
    let mut open = setup.connect(to).unwrap();
    let mut showing = shown(&setup, to);
    // Again and again: what is watched is gone after each swap.
    let began = std::time::Instant::now();
    for number in 2..5 {
        let folder = generation(number);
        point_to(&folder);
        std::fs::remove_dir_all(&before).unwrap();
        eventually("the new one is shown", || shown(&setup, to) != showing);
        showing = shown(&setup, to);
        assert_eq!(open.get("/").unwrap().status, 200);
        before = folder;
    }
    // The watch has told of it, not the poll of every 10 s: two swaps followed right after one.
    assert!(began.elapsed() < std::time::Duration::from_secs(18));
    let problem = &status(&program)["certificates"][0]["problem"];
    assert!(problem.is_null(), "{problem}");
    assert!(
        !program.stderr().contains("were not swapped"),
        "{}",
        program.stderr()
    );
}

#[test]
fn a_certificate_that_expires_soon_is_told_of_by_check() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    files.put_pair("tls", &authority.issue_between(&["localhost"], 2000, 2001));
    let yaml = under_tls(&files, false, "127.0.0.1:1");
    let (code, text) = check(&files, &yaml);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("expired on 2001-01-01 [certificate-expires-soon]"),
        "{text}"
    );
}

#[test]
fn fault_063_a_swap_takes_effect_for_new_connections_and_a_bad_one_changes_nothing() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let first = authority.issue(&["localhost"]);
    files.put_pair("tls", &first);
    let upstream = Upstream::always(200);
    let endpoint = upstream.address().to_string();
    let program = Program::run(&under_tls(&files, false, &endpoint));
    let (to, setup) = (program.listener("in"), Setup::trusting(&authority));
    let mut open = setup.connect(to).unwrap();
    assert_eq!(open.get("/").unwrap().status, 200);
    let before = shown(&setup, to);

    // The key of another certificate.
    let second = authority.issue_between(&["localhost"], 2000, 2090);
    files.put("tls.key", &second.key);
    eventually("it is told of", || {
        let status = status(&program);
        let problem = &status["certificates"][0]["problem"];
        problem
            .as_str()
            .is_some_and(|text| text.contains("is not the key"))
    });
    assert_eq!(shown(&setup, to), before);
    eventually("it is logged", || {
        program.stderr().contains("the old ones stay in use")
    });
    eventually("it is an event", || {
        let events = status(&program)["events"].to_string();
        events.contains("were not swapped")
    });

    // A file that is gone.
    std::fs::remove_file(files.path("tls.crt")).unwrap();
    eventually("it is told of", || {
        status(&program)["certificates"]
            .to_string()
            .contains("does not exist")
    });
    assert_eq!(shown(&setup, to), before);

    // One that is cut off.
    files.put("tls.crt", &second.cert[..second.cert.len() / 2]);
    eventually("it is told of", || {
        status(&program)["certificates"]
            .to_string()
            .contains("in the midst")
    });
    assert_eq!(shown(&setup, to), before);

    // The whole pair.
    files.put("tls.crt", &second.cert);
    eventually("it is in use", || shown(&setup, to) != before);
    assert_eq!(
        status(&program)["certificates"][0]["problem"],
        serde_json::Value::Null
    );
    let metrics = Client::connect(program.admin())
        .get_from_admin("/metrics")
        .text();
    let path = files.path("tls.crt");
    let labels = [("listener", "in"), ("file", path.to_str().unwrap())];
    // The 1st of January 2090.
    let expiry = value_of(&metrics, "mamparo_certificate_expiry_seconds", &labels);
    assert!((expiry - 3_786_912_000.0).abs() < 1.0, "{expiry}");
    // What was open goes on.
    assert_eq!(open.get("/").unwrap().status, 200);
}

#[test]
fn fault_062_clients_of_an_authority_that_is_trusted_no_more_are_refused() {
    let (authority, old, new) = (
        Authority::new("ca"),
        Authority::new("old"),
        Authority::new("new"),
    );
    let files = Files::new();
    files.put_pair("tls", &authority.issue(&["localhost"]));
    files.put("clients.crt", &old.pem());
    let upstream = Upstream::always(200);
    let endpoint = upstream.address().to_string();
    let program = Program::run(&under_tls(&files, true, &endpoint));
    let to = program.listener("in");
    let client = Setup::showing(&authority, &old.issue(&["client"]));
    assert_eq!(client.get(to, "/").unwrap().status, 200);
    // Resumed, it shows no certificate again.
    let mut resumed = client.connect(to).unwrap();
    assert_eq!(resumed.get("/").unwrap().status, 200);
    assert_eq!(
        resumed.session().handshake_kind(),
        Some(rustls::HandshakeKind::Resumed)
    );
    files.put("clients.crt", &new.pem());
    eventually("the old ones are refused, sessions or not", || {
        client.get(to, "/").is_err()
    });
    let other = Setup::showing(&authority, &new.issue(&["client"]));
    assert_eq!(other.get(to, "/").unwrap().status, 200);
    // Who was in may stay.
    assert_eq!(resumed.get("/").unwrap().status, 200);
}

#[test]
fn rule_69_connections_made_under_an_older_authority_serve_no_new_requests() {
    let (authority, other, files) = (Authority::new("ca"), Authority::new("other"), Files::new());
    let pair = authority.issue(&["localhost", "127.0.0.1"]);
    files.put_pair("tls", &pair);
    files.put("ca.crt", &authority.pem());
    let upstream = TlsUpstream::start(&pair);
    let endpoint = format!("https://{}", upstream.address);
    let program = Program::run(&under_tls(&files, false, &endpoint));
    let (to, setup) = (program.listener("in"), Setup::trusting(&authority));
    let mut client = setup.connect(to).unwrap();
    assert_eq!(client.get("/").unwrap().status, 200);
    assert_eq!(client.get("/").unwrap().status, 200);
    assert_eq!(upstream.connections(), 1);
    files.put("ca.crt", &other.pem());
    eventually("it is not trusted any more", || {
        client.get("/").unwrap().reason().as_deref() == Some("tls_failure")
    });
    files.put("ca.crt", &authority.pem());
    eventually("it is trusted again", || {
        client.get("/").unwrap().status == 200
    });
}

#[test]
fn a_pair_that_was_never_there_refuses_the_reload_and_says_why() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    files.put_pair("tls", &authority.issue(&["localhost"]));
    let upstream = Upstream::always(200);
    let endpoint = upstream.address().to_string();
    let yaml = under_tls(&files, false, &endpoint);
    let program = Program::run(&yaml);
    let missing = yaml.replace("tls.crt", "other.crt");
    std::fs::write(program.config(), missing).unwrap();
    eventually("it is refused", || {
        let reload = &status(&program)["last_reload"];
        reload["result"] == "refused" && reload.to_string().contains("other.crt")
    });
    let setup = Setup::trusting(&authority);
    assert_eq!(setup.get(program.listener("in"), "/").unwrap().status, 200);
}
