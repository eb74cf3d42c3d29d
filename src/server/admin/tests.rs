//! The admin interface over real sockets, before a stand-in for the rest of the process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::handle::PATHS;
use super::*;
use crate::server::socket::Listening;
use crate::server::status::{Circuit, Endpoint, ReloadResult, Upstream};

/// What the stand-in was asked to do.
#[derive(Default)]
struct Seen {
    drains: AtomicUsize,
    quits: AtomicUsize,
    forced: Mutex<Vec<String>>,
}

struct Admin {
    address: SocketAddr,
    seen: Arc<Seen>,
    _server: tokio::task::JoinHandle<()>,
}

fn upstream(name: &str, critical: bool, states: &[Circuit]) -> Upstream {
    Upstream {
        name: name.into(),
        critical,
        circuit: Circuit::of(states.iter().copied()),
        endpoints: states
            .iter()
            .enumerate()
            .map(|(index, state)| Endpoint {
                address: format!("127.0.0.1:{}", 9000 + index),
                state: *state,
                reason: (*state == Circuit::Open).then(|| "5 consecutive failures".into()),
                ..Endpoint::default()
            })
            .collect(),
        ..Upstream::default()
    }
}

fn control(
    seen: &Arc<Seen>,
    status: Status,
    readiness: Readiness,
    reload: mpsc::Sender<ReloadOrder>,
) -> Control {
    let (drains, quits, forces) = (Arc::clone(seen), Arc::clone(seen), Arc::clone(seen));
    Control {
        telemetry: Arc::default(),
        status: Box::new(move || status.clone()),
        metrics: Box::new(|_| "# HELP mamparo_build_info x\n".repeat(400)),
        config: Box::new(|| r#"{"service":"orders"}"#.into()),
        readiness: Box::new(move || readiness),
        reload,
        drain: Box::new(move || {
            drains.drains.fetch_add(1, Ordering::Relaxed);
        }),
        quit: Box::new(move || {
            quits.quits.fetch_add(1, Ordering::Relaxed);
        }),
        force: Box::new(move |upstream, endpoint, force| match upstream {
            "pay ments" | "plain" => {
                let line = format!("{upstream} {endpoint} {}", force.name());
                forces.forced.lock().push(line);
                Ok(())
            }
            "without" => Err(ForceError::NoBreaker),
            "other" => Err(ForceError::UnknownEndpoint(vec!["127.0.0.1:1".into()])),
            _unknown => Err(ForceError::UnknownUpstream(vec!["plain".into()])),
        }),
        log_level: Box::new(|level| match level {
            "debug" => Ok("debug".into()),
            other => Err(format!("'{other}' is no log level")),
        }),
    }
}

async fn admin_with(
    status: Status,
    readiness: Readiness,
    reload: mpsc::Sender<ReloadOrder>,
) -> Admin {
    offering(Offer::Everything, status, readiness, reload).await
}

async fn offering(
    offer: Offer,
    status: Status,
    readiness: Readiness,
    reload: mpsc::Sender<ReloadOrder>,
) -> Admin {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listening = Listening::bind(&any.into()).unwrap();
    let address = listening.address().ip().unwrap();
    let listener = listening.accepting().unwrap();
    let seen = Arc::new(Seen::default());
    let control = Arc::new(control(&seen, status, readiness, reload));
    Admin {
        address,
        seen,
        _server: tokio::spawn(serve(listener, control, offer)),
    }
}

async fn admin() -> Admin {
    admin_with(Status::default(), Readiness::Ready, mpsc::channel(1).0).await
}

impl Admin {
    /// Sends the text as it is and reads until the other side ends.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The other side may answer and close before everything is written.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let host = if headers.contains("host:") {
            String::new()
        } else {
            format!("host: {}\r\n", self.address)
        };
        let length = body.len();
        self.raw(
            format!(
                "{method} {path} HTTP/1.1\r\n{host}{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .as_bytes(),
        )
        .await
    }
}

fn status_of(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no status in {answer:?}"))
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn json_of(answer: &str) -> serde_json::Value {
    serde_json::from_str(body_of(answer)).unwrap()
}

#[tokio::test]
async fn a_scraper_that_would_rather_have_open_metrics_gets_it() {
    let admin = admin().await;
    let open = "application/openmetrics-text; version=1.0.0";
    for (accept, content_type) in [
        // As Prometheus asks.
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            open,
        ),
        ("application/openmetrics-text", open),
        (
            "application/openmetrics-text;q=0.1,text/plain",
            "text/plain; version=0.0.4",
        ),
        ("*/*", "text/plain; version=0.0.4"),
    ] {
        let header = format!("accept: {accept}\r\n");
        let answer = admin.ask("GET", "/metrics", &header, "").await;
        let wanted = format!("content-type: {content_type}");
        assert!(answer.contains(&wanted), "{accept}: {answer}");
    }
}

#[tokio::test]
async fn every_readable_path_answers_and_ignores_its_query() {
    let admin = admin().await;
    for (path, content_type) in [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/page.svg", "image/svg+xml"),
        ("/livez", "text/plain"),
        ("/readyz", "text/plain"),
        ("/healthz", "application/json"),
        ("/metrics", "text/plain; version=0.0.4"),
        ("/page/upstreams.js", "text/javascript"),
        ("/api/v1/status", "application/json"),
        ("/api/v1/config", "application/json"),
        ("/api/v1/explain", "application/json"),
    ] {
        let answer = admin.ask("GET", &format!("{path}?a=%zz"), "", "").await;
        assert_eq!(status_of(&answer), 200, "{path}: {answer}");
        let wanted = format!("content-type: {content_type}");
        assert!(answer.contains(&wanted), "{path}: {answer}");
        let head = admin.ask("HEAD", path, "", "").await;
        assert_eq!(status_of(&head), 200, "{path}");
        assert_eq!(body_of(&head), "", "{path}");
    }
}

#[tokio::test]
async fn readiness_follows_the_process_and_not_its_upstreams() {
    let status = Status {
        upstreams: vec![upstream("payments", true, &[Circuit::Open])],
        ..Status::default()
    };
    for (readiness, wanted) in [
        (Readiness::Starting, 503),
        (Readiness::Ready, 200),
        (Readiness::Draining, 503),
    ] {
        let admin = admin_with(status.clone(), readiness, mpsc::channel(1).0).await;
        let answer = admin.ask("GET", "/readyz", "", "").await;
        assert_eq!(status_of(&answer), wanted, "{readiness:?}");
        assert_eq!(status_of(&admin.ask("GET", "/livez", "", "").await), 200);
    }
}

#[tokio::test]
async fn deep_health_names_the_critical_upstreams_without_an_endpoint() {
    use Circuit::{Closed, HalfOpen, Open};
    for (critical, states, wanted) in [
        (true, vec![Open, Open], 503),
        (true, vec![], 503),
        (true, vec![Open, Closed], 200),
        (true, vec![HalfOpen, Open], 200),
        (false, vec![Open, Open], 200),
    ] {
        let status = Status {
            upstreams: vec![upstream("payments", critical, &states)],
            ..Status::default()
        };
        let admin = admin_with(status, Readiness::Ready, mpsc::channel(1).0).await;
        let answer = admin.ask("GET", "/healthz", "", "").await;
        assert_eq!(status_of(&answer), wanted, "{critical} {states:?}");
        let listed = json_of(&answer)["unavailable"].as_array().unwrap().len();
        assert_eq!(listed, usize::from(wanted == 503));
        if states == [Open, Open] && critical {
            assert!(
                answer.contains("127.0.0.1:9001, its breaker is open: 5 consecutive failures"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn fault_074_unknown_paths_say_what_there_is_and_never_leave_the_list() {
    let admin = admin().await;
    for path in [
        "/nothing",
        "/api/v1/status/",
        "/../../etc/passwd",
        "/page.js/..",
        "/%2e%2e/page.js",
        "/api/v1/upstreams/a/endpoints/b",
        "/api/v1/upstreams/a/endpoints/b/breaker/c",
        "/api/v1/upstreams/%ff/endpoints/b/breaker",
        "/api/v1/upstreams/%4/endpoints/b/breaker",
        "/api/v1/upstreams/%+4/endpoints/b/breaker",
    ] {
        let answer = admin.ask("GET", path, "", "").await;
        assert_eq!(status_of(&answer), 404, "{path}: {answer}");
        let paths = json_of(&answer)["paths"].to_string();
        assert!(paths.contains("GET /healthz"), "{paths}");
    }
}

#[tokio::test]
async fn where_others_can_reach_it_only_readings_are_offered() {
    let reload = mpsc::channel(1).0;
    let admin = offering(
        Offer::Readings,
        Status::default(),
        Readiness::Draining,
        reload,
    )
    .await;
    for (path, wanted) in [("/livez", 200), ("/readyz", 503), ("/metrics", 200)] {
        let answer = admin.ask("GET", path, "", "").await;
        assert_eq!(status_of(&answer), wanted, "{path}: {answer}");
        assert_eq!(status_of(&admin.ask("POST", path, "", "").await), 405);
    }
    for (method, path) in PATHS {
        let first = path.split(',').next().unwrap();
        if ["/livez", "/readyz", "/metrics"].contains(&first) {
            continue;
        }
        let path = first.replace("{name}", "a").replace("{address}", "b");
        let answer = admin.ask(method, &path, "", r#"{"force":"open"}"#).await;
        assert_eq!(status_of(&answer), 404, "{method} {path}: {answer}");
        let told = json_of(&answer)["paths"].to_string();
        assert_eq!(told, r#"["GET /livez","GET /readyz","GET /metrics"]"#);
    }
    assert_eq!(admin.seen.drains.load(Ordering::Relaxed), 0);
    assert_eq!(admin.seen.quits.load(Ordering::Relaxed), 0);
    assert_eq!(*admin.seen.forced.lock(), [] as [&str; 0]);
}

#[tokio::test]
async fn fault_074_a_wrong_method_is_told_the_right_one() {
    let admin = admin().await;
    for (method, path, allow) in [
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("GET", "/api/v1/drain", "POST"),
        ("GET", "/api/v1/quit", "POST"),
        ("PUT", "/api/v1/reload", "POST"),
        ("OPTIONS", "/api/v1/reload", "POST"),
        ("POST", "/api/v1/log-level", "PUT"),
    ] {
        let answer = admin.ask(method, path, "", "").await;
        assert_eq!(status_of(&answer), 405, "{method} {path}");
        assert!(answer.contains(&format!("allow: {allow}\r\n")), "{answer}");
    }
    assert_eq!(admin.seen.drains.load(Ordering::Relaxed), 0);
    assert_eq!(admin.seen.quits.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn fault_074_a_query_of_a_mebibyte_is_refused() {
    let admin = admin().await;
    let request = format!(
        "GET /livez?{} HTTP/1.1\r\nhost: x\r\n\r\n",
        "q".repeat(1 << 20)
    );
    let answer = admin.raw(request.as_bytes()).await;
    assert!(
        answer.is_empty() || [414, 431].contains(&status_of(&answer)),
        "{answer}"
    );
    assert_eq!(status_of(&admin.ask("GET", "/livez", "", "").await), 200);
}

#[tokio::test]
async fn fault_074_what_is_no_request_is_told_so_and_ends_the_connection() {
    let admin = admin().await;
    for (bytes, wanted) in [
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ] {
        let answer = admin.raw(bytes.as_bytes()).await;
        assert_eq!(status_of(&answer), wanted, "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(json_of(&answer)["error"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn fault_074_a_browsers_request_from_another_site_changes_nothing() {
    let admin = admin().await;
    let own = admin.address.to_string();
    for headers in [
        "sec-fetch-site: cross-site\r\n".to_owned(),
        "sec-fetch-site: same-site\r\n".to_owned(),
        "sec-fetch-site: same-origin\r\nsec-fetch-site: none\r\n".to_owned(),
        "origin: http://evil.example\r\n".to_owned(),
        "origin: null\r\n".to_owned(),
        format!("origin: https://{own}\r\n"),
        format!("origin: http://{own}\r\norigin: http://{own}\r\n"),
        "host: evil.example:9901\r\n".to_owned(),
        "host: localhost.evil.example\r\n".to_owned(),
        "host: \r\n".to_owned(),
    ] {
        for path in ["/api/v1/quit", "/api/v1/drain"] {
            let answer = admin.ask("POST", path, &headers, "").await;
            assert_eq!(status_of(&answer), 403, "{headers}: {answer}");
        }
    }
    let nameless = admin
        .raw(b"POST /api/v1/quit HTTP/1.0\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(status_of(&nameless), 403);
    assert_eq!(admin.seen.drains.load(Ordering::Relaxed), 0);
    assert_eq!(admin.seen.quits.load(Ordering::Relaxed), 0);
}

/// A page under a name that leads here reads as if it were ours. Chromium sends with such a read neither
/// `origin` nor `sec-fetch-site`, and lets the page empty or leave out what is left here.
#[tokio::test]
async fn fault_074_a_browser_reads_nothing_under_a_name_that_others_can_have() {
    let admin = admin().await;
    let readings = ["/", "/page.js", "/metrics", "/healthz", "/api/v1/status"];
    for sign in [
        "user-agent: Mozilla/5.0 (X11; Linux x86_64)\r\naccept-language: en\r\n",
        "user-agent: curl/8\r\naccept-language: \r\n",
        "user-agent: Mozilla/5.0 (X11; Linux x86_64)\r\n",
        "sec-fetch-site: same-origin\r\n",
        "origin: http://evil.example\r\n",
        "referer: http://evil.example/\r\n",
    ] {
        for host in [
            "evil.example:9901",
            "orders-admin",
            "127.0.0.1.evil.example",
            "",
            "localhost.evil.example",
        ] {
            let headers = format!("host: {host}\r\n{sign}");
            for path in
                readings
                    .iter()
                    .chain(&["/api/v1/stream", "/api/v1/config", "/api/v1/explain/x"])
            {
                let answer = admin.ask("GET", path, &headers, "").await;
                assert_eq!(status_of(&answer), 403, "{path} {headers}: {answer}");
                assert!(answer.contains("http://localhost:PORT/"), "{answer}");
            }
            // Says nothing, and may be watched from afar.
            let answer = admin.ask("GET", "/livez", &headers, "").await;
            assert_eq!(status_of(&answer), 200, "{headers}: {answer}");
        }
        // Our page, also through a forwarded port.
        for host in [
            "localhost:40123",
            "127.0.0.1:9901",
            "[::1]:9901",
            "10.1.2.3",
            "x.localhost:1",
        ] {
            let headers = format!("host: {host}\r\n{sign}");
            for path in readings {
                let answer = admin.ask("GET", path, &headers, "").await;
                assert_eq!(status_of(&answer), 200, "{path} {headers}: {answer}");
            }
        }
    }
    // Programs use the name that they know.
    for path in readings {
        let headers = "host: orders-admin.shop.svc:9901\r\nuser-agent: Prometheus/3\r\naccept-encoding: gzip\r\n";
        let answer = admin.ask("GET", path, headers, "").await;
        assert_eq!(status_of(&answer), 200, "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_change_from_our_own_page_or_a_program_is_taken() {
    let admin = admin().await;
    let port = admin.address.port();
    for headers in [
        String::new(),
        format!("sec-fetch-site: same-origin\r\norigin: http://127.0.0.1:{port}\r\n"),
        format!("host: localhost:{port}\r\norigin: http://localhost:{port}\r\n"),
        "host: [::1]:9901\r\n".to_owned(),
        "sec-fetch-site: none\r\n".to_owned(),
    ] {
        let answer = admin.ask("POST", "/api/v1/drain", &headers, "").await;
        assert_eq!(status_of(&answer), 202, "{headers}: {answer}");
    }
    assert_eq!(admin.seen.drains.load(Ordering::Relaxed), 5);
    assert_eq!(
        status_of(&admin.ask("POST", "/api/v1/quit", "", "").await),
        202
    );
    assert_eq!(admin.seen.quits.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_reload_answers_with_what_came_of_it() {
    let (orders, mut taken) = mpsc::channel::<ReloadOrder>(4);
    tokio::spawn(async move {
        let results = [
            ReloadResult::Applied,
            ReloadResult::Unchanged,
            ReloadResult::Refused,
        ];
        for result in results {
            let problems = match result {
                ReloadResult::Refused => vec!["mamparo.yaml:3:1: unknown key".to_owned()],
                ReloadResult::Applied | ReloadResult::Unchanged => vec![],
            };
            let order = taken.recv().await.unwrap();
            let _ = order.send(LastReload {
                at: String::new(),
                result,
                generation: 2,
                problems,
                changes: vec![],
            });
        }
    });
    let admin = admin_with(Status::default(), Readiness::Ready, orders).await;
    for wanted in [200, 200, 422, 503] {
        let answer = admin.ask("POST", "/api/v1/reload", "", "").await;
        assert_eq!(status_of(&answer), wanted, "{answer}");
        assert_eq!(answer.contains("3:1: unknown key"), wanted == 422);
    }
}

#[tokio::test]
async fn a_breaker_is_set_by_the_decoded_names() {
    let admin = admin().await;
    let path = "/api/v1/upstreams/pay%20ments/endpoints/%5B::1%5D%3A9001/breaker";
    for force in ["open", "closed", "auto"] {
        let body = format!(r#"{{"force":"{force}"}}"#);
        let answer = admin.ask("POST", path, "", &body).await;
        assert_eq!(status_of(&answer), 200, "{answer}");
    }
    assert_eq!(
        *admin.seen.forced.lock(),
        [
            "pay ments [::1]:9001 open",
            "pay ments [::1]:9001 closed",
            "pay ments [::1]:9001 auto"
        ]
    );
    for (name, body, wanted) in [
        ("plain", "", 400),
        ("plain", "open", 400),
        ("plain", r#"{"force":"ajar"}"#, 400),
        ("plain", r#"{"force":1}"#, 400),
        ("nobody", r#"{"force":"open"}"#, 404),
        ("other", r#"{"force":"open"}"#, 404),
        ("without", r#"{"force":"open"}"#, 409),
    ] {
        let path = format!("/api/v1/upstreams/{name}/endpoints/a/breaker");
        let answer = admin.ask("POST", &path, "", body).await;
        assert_eq!(status_of(&answer), wanted, "{name} {body}: {answer}");
    }
}

#[tokio::test]
async fn the_log_level_comes_as_json_or_as_a_bare_word() {
    let admin = admin().await;
    for (body, wanted) in [
        (r#"{"level":"debug"}"#, 200),
        (r#""debug""#, 200),
        ("debug\n", 200),
        ("loud", 400),
        ("", 400),
        (r#"{"level":7}"#, 400),
    ] {
        let answer = admin.ask("PUT", "/api/v1/log-level", "", body).await;
        assert_eq!(status_of(&answer), wanted, "{body}: {answer}");
    }
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused() {
    let admin = admin().await;
    let body = "x".repeat(65 * 1024);
    let answer = admin.ask("PUT", "/api/v1/log-level", "", &body).await;
    assert_eq!(status_of(&answer), 413, "{answer}");
}

#[tokio::test]
async fn fault_073_clients_that_never_read_or_send_lock_no_probe_out() {
    let admin = admin().await;
    let mut held = Vec::new();
    for number in 0..3 * MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(admin.address).await.unwrap();
        if number % 2 == 0 {
            let request = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
            let _ = stream.write_all(request.as_bytes()).await;
        }
        held.push(stream);
    }
    let answer = admin.ask("GET", "/livez", "", "").await;
    assert_eq!(status_of(&answer), 200);
    // The oldest connections have been ended for the newest.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(HEAD_TIMEOUT / 2, held[1].read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the oldest connection is still open");
}

#[tokio::test]
async fn the_page_needs_nothing_from_outside_and_its_policy_says_so() {
    let admin = admin().await;
    let answer = admin.ask("GET", "/", "", "").await;
    assert!(
        answer.contains("content-security-policy: default-src 'none'; script-src 'self';"),
        "{answer}"
    );
    assert!(!answer.contains("unsafe-"), "{answer}");
    for file in page::FILES {
        for outside in ["http://", "https://", "//cdn", "@import"] {
            let allowed = file.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!allowed.contains(outside), "{}: {outside}", file.path);
        }
    }
    // Inline scripts, styles and handlers would be refused by that policy.
    let html = body_of(&answer);
    for inline in ["<style", " style=", " onclick=", "<script>", "javascript:"] {
        assert!(!html.contains(inline), "{inline}");
    }
    // Whoever looks sees how long certificates last.
    assert!(html.contains(r#"<section id="certificates""#), "{html}");
    for file in page::FILES.iter().filter(|file| file.path.ends_with(".js")) {
        // What comes from the status must never become markup.
        for sink in [
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "outerHTML",
            "eval(",
            "new Function",
        ] {
            assert!(!file.body.contains(sink), "{}: {sink}", file.path);
        }
        // And what a script imports is there.
        let imports = file.body.lines().filter(|line| line.starts_with("import "));
        for name in imports.filter_map(|line| line.split('/').next_back()) {
            let path = format!("/page/{}", name.trim_end_matches("';"));
            let known = page::FILES.iter().any(|file| file.path == path);
            assert!(known, "{} imports {path}", file.path);
        }
    }
    let posted = admin.ask("POST", "/api/v1/stream", "", "").await;
    assert_eq!(status_of(&posted), 405);
    assert_eq!(
        status_of(&admin.ask("HEAD", "/api/v1/stream", "", "").await),
        200
    );
}
