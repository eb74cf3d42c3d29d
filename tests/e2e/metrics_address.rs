//! `admin.metrics_address`: metrics and probes where others can reach them, and nothing else there.

use mamparo::app::{self, Options};
use mamparo::config;

use crate::support::{Client, Upstream};

fn yaml(upstream: &Upstream, metrics: &str) -> String {
    format!(
        "admin: {{ address: \"127.0.0.1:0\", metrics_address: \"{metrics}\" }}\n\
         access_log: {{ destination: off }}\n\
         listeners: {{ l: {{ address: \"127.0.0.1:0\", upstream: u }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    )
}

#[test]
pub(super) fn readings_are_served_and_nothing_can_be_changed() {
    let upstream = Upstream::always(200);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mamparo.yaml");
    std::fs::write(&file, yaml(&upstream, "127.0.0.1:0")).unwrap();
    let loaded = config::load(std::slice::from_ref(&file), &|_| None).unwrap();
    let options = Options {
        paths: vec![file.clone()],
        ..Options::default()
    };
    let running = app::start(loaded, options).unwrap();
    let at = running.metrics_address().unwrap();
    assert_ne!(Some(at), running.admin_address());
    for (path, wanted) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/", 404),
        ("/healthz", 404),
        ("/api/v1/status", 404),
        ("/api/v1/config", 404),
    ] {
        let answer = Client::connect(at).get_from_admin(path);
        assert_eq!(answer.status, wanted, "{path}");
    }
    for path in ["/api/v1/quit", "/api/v1/drain", "/api/v1/reload"] {
        let answer = Client::connect(at).ask_admin("POST", path, "");
        assert_eq!(answer.status, 404, "{path}");
    }
    // It stays where it is: a reload that moves it is refused, and says so.
    std::fs::write(&file, yaml(&upstream, "127.0.0.1:1")).unwrap();
    let told = running.reload().unwrap().problems;
    assert!(
        told[0].starts_with("admin.metrics_address: cannot change while the process runs"),
        "{told:?}"
    );
    let answer = Client::connect(at).get_from_admin("/readyz");
    assert_eq!(answer.status, 200);
}

#[test]
fn an_address_that_is_taken_is_a_sentence() {
    let upstream = Upstream::always(200);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let loaded = config::parse("test.yaml", &yaml(&upstream, &address), &|_| None).unwrap();
    let error = app::start(loaded, Options::default()).err().unwrap();
    let told = format!("metrics and probes cannot be served on {address}: ");
    assert!(error.to_string().starts_with(&told), "{error}");
}
