//! What an operator may write: it is read without a panic, and whatever is wrong is told with a place that
//! is in the file.

use mamparo::config::{self, diff, lint};

use super::chance;
use super::text;

#[rustfmt::skip]
const PIECES: &[&[u8]] = &[
    b"listeners:\n  out:\n    address: 127.0.0.1:8080\n    upstream: u\nupstreams:\n  u:\n    endpoints: [127.0.0.1:1]\n",
    b"listeners:\n", b"upstreams:\n", b"defaults:\n", b"  u:\n", b"    endpoints: [\"127.0.0.1:1\", a:2]\n", b"service: s\n",
    b"admin: { address: 127.0.0.1:9901 }\n", b"runtime: { workers: 2, drain: 1s, max_connections: 10 }\n",
    b"errors: { format: problem, documentation_url: http://a/{error_code} }\n", b"access_log: { destination: ./a, keep: all }\n",
    b"tracing: { otlp: http://a:4317, headers: { b: c }, keep: { rest: 1% } }\n",
    b"explain: { keep: 9, slower_than: 1s }\n", b"explain: off\n",
    b"  out:\n    address: 127.0.0.1:80\n", b"    routes:\n", b"      - match: { path_prefix: /a }\n        upstream: u\n",
    b"      - upstream: u\n", b"    upstream: u\n", b"    protocol: http2\n", b"    tls: { cert: a, key: b }\n", b"    tls: {}\n",
    b"    original_dst: true\n", b"    unmatched: pass\n", b"    limits: { header_size: 8KiB, headers: 5, streams: 1 }\n",
    b"    timeouts: { connect: 1s, request: 2s, try: 500ms, idle: 1m }\n", b"    retry: {}\n", b"    retry: off\n",
    b"    retry:\n      on: [5xx, reset, unavailable]\n", b"      max_attempts: 3\n", b"      backoff: { base: 1ms, max: 1s }\n",
    b"      budget: off\n", b"      by_class: { transient: { max_attempts: 2 } }\n", b"    circuit_breaker: {}\n",
    b"    circuit_breaker: { failure_rate: 50%, min_requests: 2 }\n", b"    bulkhead: { max_in_flight: 2 }\n",
    b"    rate_limit: { per_second: 1 }\n", b"    fallback:\n      - on: any\n        respond: { status: 200, body: '{}' }\n",
    b"    pool: { idle_timeout: 4s, max_connection_age: 1m }\n", b"    balance: { hash: { header: x-a } }\n", b"    critical: yes\n",
    b"    balance: random\n", b"        rewrite: { path_prefix: /, host: h }\n", b"        match: { headers: { x: { regex: '[' } } }\n",
    b"        match: { methods: [GET], query: { a: '1' }, path_regex: '/.*' }\n", b"https://a", b"unix:/a", b"*.internal",
    b"${A}", b"${B:-x}", b"${", b"}", b"&a ", b"*a", b"<<: *a\n", b"!!str ", b"!x ", b"%YAML 1.2\n", b"---\n", b"...\n", b"? ", b"- ", b": ",
    b"'", b"\"", b"\"\\u0000\"", b"|\n  a\n", b">-\n", b"{", b"[", b"]", b", ", b"#", b"\n", b"\n  ", b"\n    ", b"\t", b"\r\n", b"\0", b"\x1b",
    b"\xc3\xa9", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"0", b"-1", b"1.5", b"1e9", b"99999999999999999999", b"250ms", b"1h30m", b"30", b"64KiB",
    b"1XB", b"20%", b"101%", b"none", b"off", b"auto", b"true", b"null", b"~", b"[]", b"{}", b"127.0.0.1:0", b"[::1]:80", b"localhost", b":80",
    b"a.b-c_d", b"rtry: {}\n", b"listner:\n", b"    timeouts: { requst: 1s }\n",
];

#[test]
fn fuzz_configurations() {
    let target = |input: &[u8]| {
        let text = text::spell(input, PIECES);
        let text = String::from_utf8_lossy(&text);
        // It would read files that chance names.
        if text.contains("body_file") {
            return;
        }
        let environment = |name: &str| (name == "A").then(|| "1s".to_owned());
        match config::parse("fuzz.yaml", &text, &environment) {
            Ok(loaded) => {
                let mut told: Vec<_> = lint::lint(&loaded)
                    .into_iter()
                    .map(|lint| (lint.to_string(), lint.place))
                    .collect();
                told.extend(
                    loaded
                        .warnings
                        .iter()
                        .map(|one| (one.to_string(), one.place.clone())),
                );
                for (told, place) in told {
                    let place = place.unwrap_or_else(|| panic!("no place: {told}"));
                    assert_inside(&place, &text, &told);
                }
                assert_eq!(diff::diff(&loaded.effective, &loaded.effective), []);
                config::effective::to_json(&loaded.effective);
            }
            Err(problems) => {
                assert!(!problems.0.is_empty(), "refused without a word: {text:?}");
                for problem in &problems.0 {
                    let told = problem.to_string();
                    match &problem.place {
                        Some(place) => assert_inside(place, &text, &told),
                        None => assert!(told.ends_with("put these right first"), "{told}"),
                    }
                }
            }
        }
    };
    chance::fixed(300, 120, target);
    bolero::check!()
        .with_iterations(chance::iterations())
        .for_each(target);
}

#[track_caller]
fn assert_inside(place: &config::Place, text: &str, told: &str) {
    assert_eq!(&*place.file, "fuzz.yaml");
    // The end of a text is a place too.
    let text = text.replace("\r\n", "\n");
    let line = text.split(['\n', '\r']).nth(place.line - 1);
    let line = line.unwrap_or_else(|| panic!("no such line: {told}"));
    assert!(
        place.column <= line.chars().count() + 1,
        "no such column: {told}"
    );
    assert!(place.column > 0);
}
