//! What can go wrong on our own side (section F of the faults), as far as requests are concerned.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use mamparo::live::wire::Dialer;

use crate::faults_told::{expect_all_told, expect_told};
use crate::support::{
    Acceptor, BlackHole, Client, Gate, Head, PATIENCE, Program, Proxy, Reply, Upstream, eventually,
    until, value_of,
};

/// The configuration of a program before that endpoint.
fn program_yaml(endpoint: SocketAddr, policies: &str) -> String {
    let policies: String = policies
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\nruntime: {{ workers: 2, drain: 10s }}\n\
         access_log: {{ destination: stdout }}\n\
         listeners:\n  outbound: {{ address: \"127.0.0.1:0\", upstream: u }}\n\
         upstreams:\n  u:\n    endpoints: [\"{endpoint}\"]\n{policies}"
    )
}

fn metric(program: &Program, name: &str, labels: &[(&str, &str)]) -> f64 {
    value_of(
        &Client::connect(program.admin()).get("/metrics").text(),
        name,
        labels,
    )
}

/// A program is told to end while this request is at that stage; the request must still be answered
/// with that status, and the program end well.
#[track_caller]
fn ends_in_order(
    endpoint: SocketAddr,
    policies: &str,
    stage: impl Fn(&Program) -> bool,
    status: u16,
) {
    let mut program = Program::run(&program_yaml(endpoint, policies));
    let mut client = Client::connect(program.listener("outbound"));
    client.request("GET", "/", &[], b"");
    eventually("the request is at the stage", || stage(&program));
    program.signal("TERM");
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.complete),
        (status, true),
        "{answer:?}"
    );
    assert!(client.is_closed());
    assert_eq!(program.wait().code(), Some(0), "{}", program.stderr());
}

#[test]
fn fault_069_the_end_while_a_connection_is_made() {
    let hole = BlackHole::new();
    let connecting =
        |program: &Program| metric(program, "mamparo_connections", &[("state", "active")]) == 1.0;
    ends_in_order(
        hole.address,
        "timeouts: { connect: 500ms }",
        connecting,
        504,
    );
}

#[test]
fn fault_069_the_end_in_backoff() {
    let upstream = Upstream::script([503, 200]);
    let tried = |_: &Program| upstream.count() == 1;
    let policies = "retry: { backoff: { base: 500ms, max: 500ms, jitter: none } }";
    ends_in_order(upstream.address(), policies, tried, 200);
}

#[test]
fn fault_069_the_end_in_the_body() {
    let slow = Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        .dripping(Duration::from_millis(5));
    let upstream = Upstream::always(slow.then_keep());
    ends_in_order(upstream.address(), "", |_| upstream.count() == 1, 200);
}

#[test]
fn fault_069_the_end_in_the_queue() {
    let gate = Gate::default();
    let upstream = Upstream::always(Reply::new(200).when(&gate));
    let policies = "bulkhead: { max_in_flight: 1, max_queue: 1, queue_timeout: 10s }";
    let mut program = Program::run(&program_yaml(upstream.address(), policies));
    let mut clients = [0; 2].map(|_| Client::connect(program.listener("outbound")));
    for client in &mut clients {
        client.request("GET", "/", &[], b"");
    }
    eventually("one waits", || {
        metric(&program, "mamparo_bulkhead_queued", &[]) == 1.0
    });
    program.signal("TERM");
    eventually("draining", || program.stderr().contains("draining"));
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn fault_069_told_twice_it_ends_at_once() {
    let upstream = Upstream::always(Reply::stall());
    let mut program = Program::run(&program_yaml(upstream.address(), ""));
    let mut client = Client::connect(program.listener("outbound"));
    client.request("GET", "/", &[], b"");
    upstream.wait_for(1);
    let began = Instant::now();
    program.signal("TERM");
    eventually("draining", || program.stderr().contains("draining"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(program.is_running(), "a request is in flight");
    program.signal("TERM");
    program.wait();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(client.is_closed());
}

#[test]
fn fault_068_and_069_a_storm_of_reloads_under_load_loses_no_request() {
    let upstream = Upstream::always(200);
    let policies = "bulkhead: { max_in_flight: 50 }\nretry: {}\ncircuit_breaker: {}";
    let mut program = Program::run(&program_yaml(upstream.address(), policies));
    let address = program.listener("outbound");
    let config = program.config();
    let good = program_yaml(upstream.address(), policies);
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    (0..300)
                        .map(|_| client.get("/").status)
                        .filter(|status| *status != 200)
                        .count()
                })
            })
            .collect();
        for turn in 0..60 {
            // Garbage, half a file, no file, another limit, the first one again.
            let text = match turn % 5 {
                0 => "}}}".to_owned(),
                1 => good[..good.len() / 2].to_owned(),
                2 => good.replace(
                    "max_in_flight: 50",
                    &format!("max_in_flight: {}", 20 + turn),
                ),
                3 => String::new(),
                _ => good.clone(),
            };
            std::fs::write(&config, text).unwrap();
            program.signal("HUP");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::write(&config, &good).unwrap();
        for thread in load {
            assert_eq!(thread.join().unwrap(), 0, "requests that failed");
        }
    });
    eventually("the good file runs", || {
        metric(&program, "mamparo_config_last_reload_success", &[]) == 1.0
    });
    assert!(
        metric(
            &program,
            "mamparo_config_reloads_total",
            &[("result", "refused")]
        ) > 0.0
    );
    assert_eq!(metric(&program, "mamparo_requests_total", &[]), 1200.0);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn fault_068_a_reload_that_removes_the_upstream_of_a_request_in_flight() {
    let gate = Gate::default();
    let (old, new) = (
        Upstream::always(Reply::new(200).body("old").when(&gate)),
        Upstream::always(Reply::new(200).body("new")),
    );
    let policies = "bulkhead: { max_in_flight: 1 }\ncircuit_breaker: {}";
    let program = Program::run(&program_yaml(old.address(), policies));
    let mut client = Client::connect(program.listener("outbound"));
    client.request("GET", "/", &[], b"");
    old.wait_for(1);
    let next = program_yaml(new.address(), "")
        .replace("  u:", "  v:")
        .replace("upstream: u", "upstream: v");
    std::fs::write(program.config(), next).unwrap();
    program.signal("HUP");
    eventually("reloaded", || {
        metric(&program, "mamparo_config_generation", &[]) >= 2.0
    });
    assert_eq!(
        Client::connect(program.listener("outbound"))
            .get("/")
            .text(),
        "new"
    );
    gate.open();
    assert_eq!(client.answer().text(), "old");
    eventually("its connections are closed", || old.open_connections() == 0);
}

#[test]
fn fault_070_out_of_descriptors_accepting_pauses_and_what_is_there_is_served() {
    let upstream = Upstream::always(200);
    let mut program = Program::run(&program_yaml(
        upstream.address(),
        "circuit_breaker: { consecutive_failures: 2, min_requests: 2 }\nretry: {}",
    ));
    let address = program.listener("outbound");
    let mut first = Client::connect(address);
    assert_eq!(first.get("/").status, 200);
    let files = std::fs::read_dir(format!("/proc/{}/fd", program.id()))
        .unwrap()
        .count();
    let limit = |files: usize| {
        let nofile = format!("--nofile={files}:4096");
        let pid = format!("--pid={}", program.id());
        Command::new("prlimit")
            .args([pid, nofile])
            .status()
            .is_ok_and(|status| status.success())
    };
    if !limit(files + 10) {
        // No such tool here: nothing to be seen.
        return;
    }
    let waiting: Vec<Client> = (0..30).map(|_| Client::connect(address)).collect();
    until(|| {
        program
            .stderr()
            .contains("cannot accept connections")
            .then_some(())
    })
    .expect("it is said");
    for _ in 0..20 {
        assert_eq!(first.get("/").status, 200, "what is there is served");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Probes and metrics get through even so, with connections that are kept and with new ones.
    let mut probes = Vec::new();
    for _ in 0..20 {
        let mut probe = Client::connect(program.admin());
        assert_eq!(probe.get_from_admin("/readyz").status, 200);
        probes.push(probe);
    }
    assert_eq!(probes.pop().unwrap().get_from_admin("/metrics").status, 200);
    drop(probes);
    // Nor is it the endpoint's fault that no connection to it can be opened.
    assert!(limit(8));
    upstream.close_connections();
    eventually("closed", || upstream.open_connections() == 0);
    for _ in 0..5 {
        let answer = first.get("/");
        let reason = answer.reason();
        assert_eq!(
            (answer.status, reason.as_deref()),
            (503, Some("too_many_connections"))
        );
    }
    assert_eq!(
        program
            .stderr()
            .matches("cannot accept connections")
            .count(),
        1,
        "said once"
    );
    drop(waiting);
    assert!(limit(4096));
    assert_eq!(Client::connect(address).get("/").status, 200);
    assert_eq!(
        metric(&program, "mamparo_circuit_breaker_transitions_total", &[]),
        0.0
    );
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn fault_071_the_standard_output_is_closed_and_traffic_goes_on() {
    let upstream = Upstream::always(200);
    let (reader, writer) = std::io::pipe().unwrap();
    let yaml = program_yaml(upstream.address(), "");
    let mut program = Program::run_with(&yaml, &[], |command| {
        command.stdout(Stdio::from(writer));
    });
    drop(reader);
    let mut client = Client::connect(program.listener("outbound"));
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(metric(&program, "mamparo_requests_total", &[]), 200.0);
    program.signal("PIPE");
    assert_eq!(client.get("/").status, 200);
    drop(client);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn fault_073_many_scrapers_and_one_that_never_reads() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(&upstream, "circuit_breaker: {}\nretry: {}\nbulkhead: {}");
    let admin = proxy.running().admin_address().expect("on the network");
    let listener = proxy.listener("outbound");
    let mut deaf: Vec<Client> = (0..10).map(|_| Client::connect(admin)).collect();
    for client in &mut deaf {
        for _ in 0..50 {
            let _ = client.try_send("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(move || {
                let answer = Client::connect(admin).get("/metrics");
                assert!(answer.status == 200 && answer.complete && answer.text().ends_with('\n'));
            });
        }
        let mut client = Client::connect(listener);
        for _ in 0..300 {
            assert_eq!(client.get("/").status, 200);
        }
    });
    drop(deaf);
    expect_all_told(&proxy, 300, "upstream", None);
}

fn series(proxy: &Proxy) -> BTreeSet<String> {
    let text = proxy.metrics();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| series.to_owned())
        .collect()
}

#[test]
fn fault_075_labels_do_not_grow_with_the_traffic() {
    let upstream = Upstream::with(|_, _| Reply::new(200).then_keep());
    let proxy = Proxy::start(&format!(
        "access_log: {{ destination: off }}\n\
         listeners:\n  outbound:\n    address: \"127.0.0.1:0\"\n    routes: [{{ match: {{ path_prefix: /a }}, upstream: u }}]\n\
         upstreams:\n  u: {{ endpoints: [\"{}\"], circuit_breaker: {{}}, retry: {{}}, bulkhead: {{}}, rate_limit: {{ per_second: 1000000, burst: 1000000 }} }}\n",
        upstream.address()
    ));
    let ask = |number: usize| {
        let mut client = proxy.client();
        for n in number..number + 1250 {
            let path = if n % 2 == 0 { "a" } else { "b" };
            let request = format!(
                "M{n} /{path}/{n}?q={n} HTTP/1.1\r\nhost: h{n}.example\r\nx-request-id: {n}\r\n\r\n"
            );
            let status = client.send(request).answer().status;
            assert_eq!(status, if n % 2 == 0 { 200 } else { 404 });
        }
    };
    let mut first = proxy.client();
    for path in ["/a", "/b"] {
        first.get(path);
    }
    drop(first);
    eventually("counted", || {
        proxy.metric("mamparo_requests_total", &[]) == 2.0
    });
    let before = series(&proxy);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let ask = &ask;
            scope.spawn(move || ask(thread * 1250));
        }
    });
    proxy.expect_metric("mamparo_requests_total", &[], 10_002.0);
    let after = series(&proxy);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:#?}");
}

#[test]
fn fault_076_a_panic_in_a_request_is_that_requests_alone() {
    let calls = Arc::new(AtomicUsize::new(0));
    let dialer = {
        let calls = Arc::clone(&calls);
        Dialer::Memory(Arc::new(move |_| {
            assert!(calls.fetch_add(1, SeqCst) != 1, "on purpose");
            Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) })
        }))
    };
    let proxy = Proxy::dialing(
        "listeners:\n  outbound: { address: \"127.0.0.1:0\", upstream: u }\n\
         upstreams:\n  u: { endpoints: [\"127.0.0.1:1\"], bulkhead: { max_in_flight: 1, max_connections: 1 }, circuit_breaker: {} }\n",
        dialer,
    );
    assert_eq!(proxy.get("/").reason().as_deref(), Some("connect_failure"));
    let mut client = proxy.client();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let headers = ["x-request-id: r-7", parent.as_str()];
    let answer = client.request("GET", "/", &headers, b"").answer();
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (500, Some("internal")),
        "{answer:?}"
    );
    assert_eq!(answer.header("x-request-id").as_deref(), Some("r-7"));
    assert_eq!(answer.json()["trace_id"], trace);
    assert!(client.is_closed());
    // The only seat and the only connection are there for the next one.
    assert_eq!(proxy.get("/").reason().as_deref(), Some("connect_failure"));
    proxy.expect_metric("mamparo_failures_total", &[("reason", "internal")], 1.0);
    let line = proxy.line_for("internal", 3);
    assert_eq!(
        (&line["status"], &line["request_id"]),
        (&500.into(), &"r-7".into())
    );
    crate::faults_told::expect_learnt(&proxy, 2, 2);
}

/// Reads each request whole, counts it, forgets its body, and answers 503 once it may.
fn forgetful(read: &Arc<AtomicUsize>, gate: &Gate) -> Acceptor {
    let (all, gate) = (Arc::clone(read), gate.clone());
    Acceptor::start("127.0.0.1:0", move |stream| {
        let (all, gate) = (Arc::clone(&all), gate.clone());
        move || {
            let mut reader = BufReader::with_capacity(1 << 18, &stream);
            while let Ok(Some(head)) = Head::read(&mut reader) {
                let length = head.length().unwrap_or(0) as u64;
                let read = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink());
                all.fetch_add(1, SeqCst);
                while !gate.is_open() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let answer = "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n";
                if read.is_err() || (&stream).write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }
    })
}

#[test]
fn fault_077_kept_bodies_have_a_bound_and_beyond_it_nothing_is_retried() {
    let policies = "retry: { max_attempts: 2, max_body: 8MiB, budget: off, backoff: { base: 1ms } }\n\
         timeouts: { request: 60s }\nbulkhead: {}";
    let (read, gate) = (Arc::<AtomicUsize>::default(), Gate::default());
    let upstream = forgetful(&read, &gate);
    let proxy = Proxy::to(&[upstream.address()], policies);
    let address = proxy.listener("outbound");
    let limit = proxy.status().replay.bytes_limit;
    let clients = limit / (8 << 20) + 4;
    let mut most = 0;
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    let patience = Some(6 * PATIENCE);
                    client.stream().set_read_timeout(patience).unwrap();
                    client.send(format!(
                        "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
                        8 << 20
                    ));
                    for _ in 0..8 {
                        client.send(vec![b'x'; 1 << 20]);
                    }
                    assert_eq!(client.answer().status, 503);
                })
            })
            .collect();
        // None is answered before each was sent whole.
        while !asking.iter().all(|thread| thread.is_finished()) {
            if read.load(SeqCst) >= clients {
                gate.open();
            }
            most = most.max(proxy.status().replay.bytes_used);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(most <= limit, "{most} of {limit} bytes");
    assert!(
        most > limit / 2,
        "{most} of {limit} bytes: it was never full"
    );
    let denied = proxy.metric("mamparo_retries_denied_total", &[("why", "body")]);
    let retried = proxy.metric("mamparo_retries_total", &[]);
    assert!(
        denied >= 4.0 && denied + retried == clients as f64,
        "{denied} + {retried}"
    );
    let said = proxy
        .logged(clients)
        .iter()
        .filter(|line| line["retry_denied"] == "body")
        .count();
    assert_eq!(said as f64, denied);
}

#[test]
fn fault_077_a_body_in_single_bytes_costs_what_it_is_long() {
    let gate = Gate::default();
    let upstream = Upstream::script([Reply::new(503).when(&gate), Reply::new(200)]);
    let proxy = Proxy::before(&upstream, "retry: { max_body: 64KiB }\nbulkhead: {}");
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send("1\r\nx\r\n".repeat(20_000) + "0\r\n\r\n");
    eventually("kept", || proxy.status().replay.bytes_used == 20_000);
    gate.open();
    assert_eq!(client.answer().status, 200);
    assert_eq!(upstream.last().body.len(), 20_000);
    assert!(upstream.last().complete);
}

#[test]
fn fault_078_a_thousand_connections_on_one_worker() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::start(&format!(
        "runtime: {{ workers: 1, drain: 1s }}\naccess_log: {{ destination: off }}\n\
         listeners:\n  outbound: {{ address: \"127.0.0.1:0\", upstream: u }}\n\
         upstreams:\n  u: {{ endpoints: [\"{}\"], bulkhead: {{ max_in_flight: 8, max_queue: 1000, queue_timeout: 20s }}, timeouts: {{ request: 30s }} }}\n",
        upstream.address()
    ));
    let mut clients: Vec<Client> = (0..1000).map(|_| proxy.client()).collect();
    for _ in 0..2 {
        for client in &mut clients {
            client.request("GET", "/", &[], b"");
        }
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
    }
    assert!(upstream.connections() <= 8, "{}", upstream.connections());
    proxy.expect_metric("mamparo_requests_total", &[("outcome", "upstream")], 2000.0);
}

#[test]
fn fault_079_an_order_to_refuse_new_requests_lets_one_in_backoff_finish() {
    let upstream = Upstream::script([503, 200]);
    let proxy = Proxy::before(
        &upstream,
        "retry: { backoff: { base: 300ms, max: 300ms, jitter: none } }\nbulkhead: {}",
    );
    let (mut early, mut late) = (proxy.client(), proxy.client());
    early.request("GET", "/", &[], b"");
    upstream.wait_for(1);
    assert_eq!(proxy.admin("POST", "/api/v1/drain", "").status, 202);
    let answer = late.get("/");
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (503, Some("draining"))
    );
    assert_eq!(early.answer().status, 200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn fault_079_a_clients_own_huge_or_tiny_time_is_no_harm() {
    let upstream = Upstream::always(Reply::new(200).after_ms(30));
    let proxy = Proxy::before(
        &upstream,
        "timeouts: { request: none, idle: none, connect: none }\nbulkhead: {}",
    );
    for (value, status) in [
        ("18446744073709551615", 200),
        ("99999999999999999999999", 200),
        ("-1", 200),
        ("1e3", 200),
        ("", 200),
        ("0", 504),
    ] {
        let header = format!("x-mamparo-timeout-ms: {value}");
        let answer = proxy.request("GET", "/", &[&header], b"");
        assert_eq!(answer.status, status, "{value}: {answer:?}");
    }
}

#[test]
fn fault_054_overload_and_an_outage_in_short() {
    // 4 places of 5 ms: 800 requests a second at most. Offered: 30 clients, each 40 a second at most.
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let upstream = {
        let counts = Arc::clone(&counts);
        Upstream::with(move |_, _| {
            counts.0.fetch_add(1, SeqCst);
            if counts.1.load(SeqCst) == 1 {
                Reply::reset()
            } else {
                Reply::new(200).after_ms(5)
            }
        })
    };
    let policies = "bulkhead: { max_in_flight: 4, max_queue: 4, queue_timeout: 50ms }\nretry: {}\n\
         circuit_breaker: { consecutive_failures: 5, open_for: 100ms, max_open_for: 400ms, probes: 1 }";
    let proxy = Proxy::before(&upstream, policies);
    let address = proxy.listener("outbound");
    let (offered, good, hurt) = <(AtomicUsize, AtomicUsize, AtomicUsize)>::default();
    let over = AtomicBool::new(false);
    let mut windows = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !over.load(SeqCst) {
                    let next = Instant::now() + Duration::from_millis(25);
                    offered.fetch_add(1, SeqCst);
                    // How many are too many depends on how busy the machine is; the outage does not.
                    match client.get("/").reason().as_deref() {
                        None => good.fetch_add(1, SeqCst),
                        Some("too_many_in_flight" | "queue_timeout") => 0,
                        Some(_) => hurt.fetch_add(1, SeqCst),
                    };
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
        let window = || {
            let before = (good.load(SeqCst), hurt.load(SeqCst));
            std::thread::sleep(Duration::from_millis(800));
            (good.load(SeqCst) - before.0, hurt.load(SeqCst) - before.1)
        };
        windows.push(window());
        counts.1.store(1, SeqCst);
        windows.push(window());
        counts.1.store(0, SeqCst);
        // Within 5 s of the return.
        while windows.len() < 8 && windows[2..].last().is_none_or(|last| last.1 != 0) {
            windows.push(window());
        }
        over.store(true, SeqCst);
    });
    let (sent, offered) = (counts.0.load(SeqCst), offered.into_inner());
    assert!(
        sent as f64 <= 1.2 * offered as f64 + 30.0,
        "{sent} sent of {offered} offered"
    );
    let hurt = |window: usize| windows[window].1;
    let last = windows[windows.len() - 1];
    assert!(
        hurt(0) == 0 && hurt(1) > 0 && last.0 > 0 && last.1 == 0,
        "good and hurt by the outage, each 800 ms: {windows:?}"
    );
    proxy.expect_metric("mamparo_requests_total", &[], offered as f64);
}

#[test]
fn fault_072_what_a_request_is_told_to_have_taken_is_measured_not_computed_from_dates() {
    // The clock of dates is only read for dates: durations agree with a clock that does not step.
    let upstream = Upstream::always(Reply::new(200).after_ms(50));
    let proxy = Proxy::before(&upstream, "");
    let began = Instant::now();
    proxy.get("/");
    let took = began.elapsed().as_secs_f64() * 1000.0;
    let line = proxy.only_line();
    let told = line["duration_ms"].as_f64().unwrap();
    assert!((49.0..=took + 1.0).contains(&told), "{told} of {took}");
    expect_told(&proxy, "upstream", None);
}
