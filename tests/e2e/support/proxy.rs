//! The proxy in this process, with what there is to see of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mamparo::app::{self, Options, Running};
use mamparo::config;
use mamparo::live::wire::Dialer;
use mamparo::server::status::{Endpoint, Status, Window};
use serde_json::Value;
use tempfile::TempDir;

use super::answer::Answer;
use super::client::Client;
use super::metrics::value_of;
use super::upstream::Upstream;
use super::wait::until;

/// A running proxy. Dropped, it checks that nothing was left behind, unless [`Self::abandon`] was
/// called: so declare it before the clients.
pub(crate) struct Proxy {
    running: Option<Running>,
    folder: TempDir,
    /// Tasks alive before the first client.
    tasks: usize,
    /// An idle connection to an upstream has a task: it may be of HTTP/2.
    idle_have_tasks: bool,
    logged: bool,
    checked: bool,
}

impl Proxy {
    /// Runs a configuration. Blocks that it does not write are added: an admin port that the system
    /// chooses, two workers, an access log in a file.
    #[track_caller]
    pub(crate) fn start(yaml: &str) -> Self {
        Self::start_with(yaml, Options::default())
    }

    /// The same with connections made by a function.
    #[track_caller]
    pub(crate) fn dialing(yaml: &str, dialer: Dialer) -> Self {
        let options = Options {
            dialer,
            ..Options::default()
        };
        Self::start_with(yaml, options)
    }

    #[track_caller]
    fn start_with(yaml: &str, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = complete(yaml, &folder.path().join("access.log"));
        let loaded = config::parse("test.yaml", &text, &|_| None)
            .unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let running = app::start(loaded, options).unwrap_or_else(|error| panic!("{error}"));
        let tasks = tasks(&running.status());
        Self {
            running: Some(running),
            folder,
            tasks,
            idle_have_tasks: ["protocol: http2", "https://", "tls:"]
                .iter()
                .any(|sign| yaml.contains(sign)),
            logged: !yaml.lines().any(|line| line.starts_with("access_log:")),
            checked: false,
        }
    }

    /// One listener `outbound` before one upstream `u`, under these policies (YAML lines).
    #[track_caller]
    pub(crate) fn before(upstream: &Upstream, policies: &str) -> Self {
        Self::to(&[upstream.address()], policies)
    }

    /// The same before several endpoints, which need not be there.
    #[track_caller]
    pub(crate) fn to(endpoints: &[SocketAddr], policies: &str) -> Self {
        Self::start(&single(endpoints, policies))
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().expect("it has not ended")
    }

    /// Where the listener listens.
    #[track_caller]
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        let address = self.running().listener_address(name);
        address.expect("the listener is configured")
    }

    /// A connection to the listener `outbound`.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.listener("outbound"))
    }

    /// Asks for a path over a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Answer {
        self.client().get(target)
    }

    /// Sends a request over a connection of its own; `headers` are lines `name: value`.
    #[track_caller]
    pub(crate) fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Answer {
        let mut client = self.client();
        client
            .request(method, target, headers, body)
            .answer_to(method)
    }

    /// Sends these bytes and reads one answer.
    #[track_caller]
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Answer {
        self.client().send(bytes).answer()
    }

    /// A request to the admin interface.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        let address = self.running().admin_address().expect("on the network");
        Client::connect(address).ask_admin(method, path, body)
    }

    pub(crate) fn status(&self) -> Status {
        self.running().status()
    }

    /// The state of an upstream.
    #[track_caller]
    pub(crate) fn upstream(&self, name: &str) -> mamparo::server::status::Upstream {
        let status = self.status();
        let found = status.upstreams.into_iter().find(|one| one.name == name);
        found.expect("the upstream is configured")
    }

    /// The state of the only endpoint of `u`.
    #[track_caller]
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.upstream("u").endpoints.swap_remove(0)
    }

    /// What the breaker of the only endpoint of `u` has counted.
    #[track_caller]
    pub(crate) fn window(&self) -> Window {
        self.endpoint().window.expect("the upstream has a breaker")
    }

    pub(crate) fn metrics(&self) -> String {
        self.running().metrics()
    }

    /// The sum of all series of that name with these labels, now.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        value_of(&self.metrics(), name, labels)
    }

    /// Waits until the sum of the series is that, since a request is counted just after its last byte.
    #[track_caller]
    pub(crate) fn expect_metric(&self, name: &str, labels: &[(&str, &str)], wanted: f64) {
        let same = |value: f64| (value - wanted).abs() < 1e-9;
        let found = until(|| same(self.metric(name, labels)).then_some(()));
        assert!(
            found.is_some(),
            "{name} {labels:?} is {}, not {wanted}",
            self.metric(name, labels)
        );
    }

    /// Waits for exactly so many lines of the access log, and gives them. Those of two workers may
    /// have changed places.
    #[track_caller]
    pub(crate) fn logged(&self, lines: usize) -> Vec<Value> {
        until(|| Some(self.log()).filter(|log| log.len() >= lines));
        let log = self.log();
        assert_eq!(log.len(), lines, "lines of the access log: {log:#?}");
        log
    }

    /// The only line of the access log.
    #[track_caller]
    pub(crate) fn only_line(&self) -> Value {
        self.logged(1).swap_remove(0)
    }

    /// The only line for that reason among exactly so many.
    #[track_caller]
    pub(crate) fn line_for(&self, reason: &str, lines: usize) -> Value {
        let mut found = self.logged(lines);
        found.retain(|line| line["reason"] == reason);
        assert_eq!(found.len(), 1, "lines for {reason}: {:#?}", self.log());
        found.swap_remove(0)
    }

    /// The access log so far.
    #[track_caller]
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).expect("a line is JSON"))
            .collect()
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    /// Sets a breaker of `u` by hand.
    #[track_caller]
    pub(crate) fn force(&self, endpoint: SocketAddr, to: &str) -> Answer {
        let path = format!("/api/v1/upstreams/u/endpoints/{endpoint}/breaker");
        self.admin("POST", &path, &format!("{{\"force\":\"{to}\"}}"))
    }

    /// Checks that soon nothing is left of the requests so far, once every client is gone: no seat, no connection in use, no task, no kept byte; and that each was told once.
    #[track_caller]
    pub(crate) fn assert_quiet(&mut self) {
        self.checked = true;
        let quiet = until(|| {
            left_behind(&self.status(), self.baseline())
                .is_none()
                .then_some(())
        });
        if quiet.is_none() {
            let left = left_behind(&self.status(), self.baseline());
            panic!("left behind: {left:?}\n{:#?}", self.status());
        }
        if !self.logged {
            return;
        }
        let counted = || self.metric("mamparo_requests_total", &[]) as usize;
        let lines = || {
            let log = std::fs::read(self.log_path()).unwrap_or_default();
            log.iter().filter(|byte| **byte == b'\n').count()
        };
        let told = until(|| (counted() == lines()).then_some(()));
        assert!(
            told.is_some(),
            "{} requests were counted, and the access log has {:#?}",
            counted(),
            self.log()
        );
    }

    /// Tasks that may be alive when nothing is under way.
    fn baseline(&self) -> usize {
        let status = self.status();
        let idle = status.upstreams.iter().map(|one| one.connections.idle);
        let idle = if self.idle_have_tasks { idle.sum() } else { 0 };
        self.tasks + idle
    }

    /// The test has left something behind on purpose.
    pub(crate) fn abandon(mut self) {
        self.checked = true;
    }

    /// Asks it to end in order and waits for that; gives how long it took. Nothing else is checked.
    #[track_caller]
    pub(crate) fn shutdown(mut self) -> Duration {
        self.checked = true;
        let began = Instant::now();
        let running = self.running.take().expect("it has not ended");
        assert!(running.shutdown(), "it ends without a panic");
        began.elapsed()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !self.checked && !std::thread::panicking() {
            self.assert_quiet();
        }
    }
}

/// A configuration with one listener `outbound`, one upstream `u`, these endpoints and policies.
pub(crate) fn single(endpoints: &[SocketAddr], policies: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
    let mut yaml = format!(
        "listeners:\n  outbound: {{ address: \"127.0.0.1:0\", upstream: u }}\n\
         upstreams:\n  u:\n    endpoints: [{}]\n",
        endpoints.join(", ")
    );
    for line in policies.lines() {
        yaml.push_str(&format!("    {line}\n"));
    }
    yaml
}

/// Adds the blocks that a test does not care about.
pub(crate) fn complete(yaml: &str, log: &std::path::Path) -> String {
    let blocks = [
        ("service", "service: tested".to_owned()),
        ("admin", "admin: { address: \"127.0.0.1:0\" }".to_owned()),
        ("runtime", "runtime: { workers: 2, drain: 1s }".to_owned()),
        (
            "access_log",
            format!("access_log: {{ destination: {} }}", log.display()),
        ),
    ];
    let mut text = String::new();
    for (key, block) in blocks {
        if !yaml
            .lines()
            .any(|line| line.starts_with(&format!("{key}:")))
        {
            text.push_str(&block);
            text.push('\n');
        }
    }
    text + yaml
}

fn tasks(status: &Status) -> usize {
    let workers = status.process.workers.iter();
    workers.map(|worker| worker.tasks).sum()
}

/// What is left of requests; `None` where nothing is.
fn left_behind(status: &Status, baseline: usize) -> Option<&'static str> {
    let upstreams = &status.upstreams;
    let mut bulkheads = upstreams.iter().filter_map(|one| one.bulkhead.as_ref());
    let mut endpoints = upstreams.iter().flat_map(|one| &one.endpoints);
    let checks = [
        (
            "a seat",
            bulkheads.any(|one| one.in_flight + one.queued > 0),
        ),
        (
            "a request at an endpoint",
            endpoints.any(|one| one.in_flight > 0),
        ),
        (
            "a connection to an upstream in use",
            upstreams.iter().any(|one| one.connections.active > 0),
        ),
        (
            "a client's connection",
            status.listeners.iter().any(|one| one.connections > 0),
        ),
        ("kept bytes of a request", status.replay.bytes_used > 0),
        ("a task", tasks(status) > baseline),
    ];
    checks
        .into_iter()
        .find_map(|(what, left)| left.then_some(what))
}
