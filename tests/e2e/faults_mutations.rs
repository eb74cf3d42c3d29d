//! Bytes that were valid once and have been changed by chance, from clients and from upstreams. Whatever
//! they are by now: no panic, as many requests at the upstream as answers to the client, and no answer
//! for another request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::support::{Answer, Proxy, Reply, Upstream, until};

const PARTS: [&str; 24] = [
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "0",
    "5",
    "-",
    "+",
    "\u{b}",
    "\x7f",
    "content-length: 5\r\n",
    "content-length: 0\r\n",
    "transfer-encoding: chunked\r\n",
    "host: b\r\n",
    "0\r\n\r\n",
    "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    "HTTP/1.1 200 OK\r\n",
    "connection: close\r\n",
];

/// Changes a few places: bytes that go, come, or stand twice.
fn mutate(random: &mut fastrand::Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..12)).min(bytes.len());
        match random.u8(..5) {
            0 => drop(bytes.drain(at..end)),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let part = PARTS[random.usize(..PARTS.len())].bytes();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

const REQUESTS: [&str; 5] = [
    "GET /a HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n",
    "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "GET http://a/a HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\nx: y\r\n\r\n",
];

/// The answers to these bytes and an end; `None` where not all of them are taken.
fn statuses(proxy: &Proxy, bytes: &[u8]) -> Option<Vec<u16>> {
    let mut client = proxy.client();
    client.try_send(bytes).ok()?;
    client.half_close();
    // Answers to HEAD cannot be told apart here, but no mutation makes one.
    let answers = std::iter::from_fn(|| client.try_answer("GET").ok());
    let statuses = answers.map(|answer| {
        assert_ne!(answer.reason().as_deref(), Some("internal"));
        answer.status
    });
    Some(statuses.collect())
}

#[test]
fn fault_011_requests_that_were_changed_by_chance() {
    let upstream = Upstream::always(200);
    let proxy = Proxy::before(
        &upstream,
        "bulkhead: {}\ncircuit_breaker: {}\ntimeouts: { idle: 500ms }",
    );
    let mut random = fastrand::Rng::with_seed(11);
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..1500 {
        let one = REQUESTS[random.usize(..REQUESTS.len())];
        let bytes = mutate(&mut random, [one, REQUESTS[1]].concat().as_bytes());
        let shown = String::from_utf8_lossy(&bytes);
        // On a busy machine the end may come so late that the client is taken for gone: then once more.
        let judged = until(|| {
            let before = upstream.count();
            let Some(statuses) = statuses(&proxy, &bytes) else {
                return Some((Vec::new(), Vec::new()));
            };
            let seen = upstream.received().split_off(before);
            let complete = seen.iter().filter(|request| request.complete).count();
            (complete <= statuses.len()).then_some((statuses, seen))
        });
        let (statuses, seen) =
            judged.unwrap_or_else(|| panic!("more requests than answers: {shown:?}"));
        let good = statuses.iter().filter(|status| **status == 200).count();
        passed += good;
        refused += statuses.len() - good;
        for request in &seen {
            let both = request.header("content-length").is_some() && request.head.is_chunked();
            let hosts = request
                .header("host")
                .map_or(0, |host| host.split('|').count());
            assert!(!both && hosts == 1, "{request:?} of {shown:?}");
        }
    }
    assert!(
        passed > 300 && refused > 300,
        "{passed} passed, {refused} refused"
    );
    assert_eq!(
        proxy.metric("mamparo_failures_total", &[("reason", "internal")]),
        0.0
    );
    assert_eq!(proxy.endpoint().window.unwrap().failures, 0);
}

const ANSWERS: [&str; 4] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\nHTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
    "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello",
];

#[test]
fn fault_025_answers_that_were_changed_by_chance() {
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = {
        let asked = Arc::clone(&asked);
        Upstream::with(move |_, request| match request.target.as_str() {
            "/clean" => Reply::new(200).body(request.header("x-id").unwrap_or_default()),
            _ => {
                let mut random = fastrand::Rng::with_seed(asked.load(SeqCst) as u64);
                let answer = ANSWERS[random.usize(..ANSWERS.len())];
                Reply::raw(mutate(&mut random, answer.as_bytes())).then_keep()
            }
        })
    };
    let policies = "bulkhead: { max_connections: 4 }\ntimeouts: { try: 30ms, idle: 30ms }";
    let proxy = Proxy::before(&upstream, policies);
    let (mut passed, mut refused) = (0, 0);
    for number in 0..600 {
        asked.store(number, SeqCst);
        match proxy
            .client()
            .request("GET", "/changed", &[], b"")
            .try_answer("GET")
        {
            Ok(answer) if answer.reason().is_none() => passed += 1,
            Ok(answer) => {
                assert_ne!(answer.reason().as_deref(), Some("internal"));
                refused += 1;
            }
            Err(_) => refused += 1,
        }
        let id = format!("x-id: {number}");
        let clean = || proxy.request("POST", "/clean", &[&id], b"");
        // The times are short for the others' sake; on a busy machine this one may be late too.
        let in_time = |answer: &Answer| answer.reason().as_deref() != Some("try_timeout");
        let answer = until(|| Some(clean()).filter(in_time)).expect("an answer in time");
        assert_eq!((answer.status, answer.text()), (200, number.to_string()));
    }
    assert!(
        passed > 100 && refused > 100,
        "{passed} passed, {refused} refused"
    );
    assert_eq!(
        proxy.metric("mamparo_failures_total", &[("reason", "internal")]),
        0.0
    );
}
