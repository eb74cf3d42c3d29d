//! Reloads that name a source of endpoints which was not asked before: it is asked while the generation of
//! before serves, as the listeners wait for first answers at the start (rule 86).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, DnsServer, Process, Says, Upstream};

/// How long the name server takes for an answer.
const SLOW: Duration = Duration::from_millis(300);

fn configuration(dns: &DnsServer, upstream: &str, endpoints: &str) -> String {
    format!(
        "runtime: {{ workers: 2, drain: 5s, dns: {{ servers: [\"{}\"] }} }}\n\
         listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: {upstream} }} }}\n\
         upstreams: {{ {upstream}: {{ endpoints: [{endpoints}], circuit_breaker: {{ max_open: 100% }} }} }}\n",
        dns.address()
    )
}

fn slow(dns: &DnsServer, name: &str) {
    let says = Says::found(60, &["127.0.0.1"]);
    dns.says(name, Says::Late(SLOW, Box::new(says)));
}

/// Reloads under the load of four clients; gives how many requests were served, and the texts of the others.
fn under_load(process: &Process, yaml: &str) -> (usize, Vec<String>) {
    let to = process.running.listener_address("outbound").unwrap();
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut failed = Vec::new();
    thread::scope(|scope| {
        let load = || {
            let (mut client, mut failed) = (Client::connect(to), Vec::new());
            while !done.load(SeqCst) {
                let answer = client.get("/");
                if answer.status == 200 {
                    served.fetch_add(1, SeqCst);
                } else {
                    failed.push(answer.text());
                }
            }
            failed
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        process.reload(yaml);
        // Some more under the new generation.
        thread::sleep(Duration::from_millis(50));
        done.store(true, SeqCst);
        failed.extend(clients.into_iter().flat_map(|one| one.join().unwrap()));
    });
    (served.into_inner(), failed)
}

fn labels(process: &Process, upstream: &str) -> Vec<(String, Option<String>)> {
    let status = process.running.status();
    let mut all = status.upstreams.into_iter();
    let found = all.find(|one| one.name == upstream).unwrap();
    let endpoints = found.endpoints.into_iter();
    endpoints.map(|one| (one.address, one.forced)).collect()
}

#[test]
fn rule_86_a_reload_to_another_upstream_behind_a_slow_name_fails_no_request() {
    let dns = DnsServer::start();
    let (a, b) = (Upstream::always(200), Upstream::always(200));
    slow(&dns, "app.test");
    let process = Process::start(&configuration(&dns, "u", &format!("\"{}\"", a.address())));
    let named = format!("\"app.test:{}\"", b.port());
    let (served, failed) = under_load(&process, &configuration(&dns, "v", &named));
    assert!(served > 20, "{served}");
    assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed[0]);
    assert!(b.count() > 0);
    assert_eq!(labels(&process, "v"), [(b.address().to_string(), None)]);
}

#[test]
fn rule_81_an_endpoint_that_a_reload_gives_to_a_name_keeps_what_was_learnt_of_it() {
    let dns = DnsServer::start();
    let (a, b) = (Upstream::always(200), Upstream::always(200));
    slow(&dns, "app.test");
    let fixed = format!("\"{}\", \"{}\"", a.address(), b.address());
    let process = Process::start(&configuration(&dns, "u", &fixed));
    let admin = process.running.admin_address().unwrap();
    let path = format!("/api/v1/upstreams/u/endpoints/{}/breaker", b.address());
    let forced = Client::connect(admin).ask_admin("POST", &path, "{\"force\":\"open\"}");
    assert_eq!(forced.status, 200, "{}", forced.text());
    let expected = [
        (a.address().to_string(), None),
        (b.address().to_string(), Some("open".to_owned())),
    ];
    assert_eq!(labels(&process, "u"), expected);
    let named = format!("\"{}\", \"app.test:{}\"", a.address(), b.port());
    let (_, failed) = under_load(&process, &configuration(&dns, "u", &named));
    assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed[0]);
    assert_eq!(labels(&process, "u"), expected);
    assert_eq!(b.count(), 0);
}

#[test]
fn rule_86_a_silent_source_holds_up_a_reload_for_a_time_and_it_is_told() {
    let dns = DnsServer::start();
    let a = Upstream::always(200);
    dns.says("app.test", Says::Silence);
    let process = Process::start(&configuration(&dns, "u", &format!("\"{}\"", a.address())));
    let silent = configuration(&dns, "v", "\"app.test:80\"");
    let took = process.reload_meanwhile(&silent, || {
        let status = process.get();
        let waiting = process.running.status().process.generation == 1;
        assert!(status == 200 || !waiting, "{status}");
    });
    let within = Duration::from_millis(1900)..Duration::from_secs(5);
    assert!(within.contains(&took), "{took:?}");
    assert_eq!(process.get(), 503);
    let events = process.running.status().events;
    let told = |words: &str| events.iter().any(|event| event.text.contains(words));
    assert!(told("generation 2, "), "{events:?}");
    assert!(told("; no answer yet from app.test:80"), "{events:?}");
    assert!(told("app.test:80 has not answered within 2s"), "{events:?}");
}

/// Rule 84: nobody waits for first answers when the process is about to end.
#[test]
fn the_end_does_not_wait_for_a_silent_source_of_a_reload() {
    let dns = DnsServer::start();
    let a = Upstream::always(200);
    dns.says("app.test", Says::Silence);
    let yaml = configuration(&dns, "u", &format!("\"{}\"", a.address()));
    let process = Process::start(&yaml.replace("drain: 5s", "drain: 100ms"));
    let silent = configuration(&dns, "v", "\"app.test:80\"");
    let ended = thread::scope(|scope| {
        let ended = scope.spawn(|| {
            crate::support::eventually("the source is asked", || !dns.asked("app.test").is_empty());
            let began = Instant::now();
            process.running.terminate();
            let left = || {
                let status = process.running.status();
                status
                    .events
                    .iter()
                    .any(|one| one.text.starts_with("draining"))
            };
            crate::support::eventually("it drains", left);
            began.elapsed()
        });
        process.reload_unless_ended(&silent);
        ended.join().unwrap()
    });
    assert!(ended < Duration::from_secs(1), "{ended:?}");
}
