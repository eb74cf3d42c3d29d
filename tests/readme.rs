//! What the README says is what the code does: its configurations can run, its tables are those of the
//! code, its examples are what a running process gives.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what cannot be read or set up is a failed test"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use clap::CommandFactory;
use mamparo::app::{self, Options};
use mamparo::cli::Arguments;
use mamparo::config::{self, lint::lint};
use mamparo::policy::breaker::is_failure;
use mamparo::policy::grpc::Code;
use mamparo::policy::outcome::{Class, Ending, Outcome, Reason, Sent};
use mamparo::policy::retry::Why;
use mamparo::telemetry::table;
use serde_json::Value;

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let text = read("README.md");
    let fence = format!("```{language}\n");
    let parts = text.split(&fence).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

/// The text below a heading, up to the next one of its kind or above.
fn section(heading: &str) -> String {
    let text = read("README.md");
    let (_, rest) = text
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("the README has no heading {heading}"));
    let ends = ["\n### ", "\n## "].iter().filter_map(|end| rest.find(end));
    rest[..ends.min().unwrap_or(rest.len())].to_owned()
}

/// The cells of the rows of a section's tables, headings left out.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let section = section(heading);
    let mut rows = Vec::new();
    let mut in_body = false;
    for line in section.lines() {
        if !line.starts_with('|') {
            in_body = false;
        } else if line.starts_with("| ---") {
            in_body = true;
        } else if in_body {
            let cells = line.trim_matches('|').split('|');
            rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn column(rows: &[Vec<String>], index: usize) -> Vec<String> {
    rows.iter().map(|row| row[index].replace('`', "")).collect()
}

#[test]
fn its_configurations_can_run_and_do_not_lint() {
    let blocks = blocks("yaml");
    assert_eq!(blocks[0], read("config/example.yaml"));
    assert!(blocks.len() > 1);
    for block in blocks {
        let loaded = config::parse("README.md", &block, &|_| None)
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert_eq!(lint(&loaded), [], "{block}");
    }
}

#[test]
fn its_files_are_there() {
    let text = read("README.md");
    let links = text.split("](").skip(1);
    let links = links.map(|rest| rest.split(')').next().unwrap());
    let named = ["src/proxy/handle.rs", ".ci/run", "benches/peers/run"];
    for file in links.chain(named) {
        assert!(text.contains(file), "{file}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        assert!(path.is_file(), "{file}");
    }
}

#[test]
fn its_reasons_are_all_of_them() {
    let reasons = Reason::ALL.map(|reason| {
        let breaker = if reason.blames_endpoint() {
            "failure"
        } else {
            "nothing"
        };
        [
            format!("`{}`", reason.name()),
            reason.status().to_string(),
            format!("`{}`", reason.error_code()),
            reason.class().name().to_owned(),
            breaker.to_owned(),
        ]
    });
    let rows = rows("### Failure reasons");
    let told: Vec<&[String]> = rows.iter().map(|row| &row[..5]).collect();
    assert_eq!(told, reasons);
    let section = section("### Failure reasons");
    for class in Class::ALL {
        assert!(section.contains(class.name()), "{}", class.name());
    }
}

#[test]
fn its_codes_of_grpc_are_all_of_them() {
    let codes = Code::ALL.map(|code| {
        let ending = Ending::Grpc { status: 200, code };
        let breaker = match is_failure(None, ending) {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Ignored => "nothing",
        };
        [
            format!("`{}`", code.name()),
            code.http_status().to_string(),
            breaker.to_owned(),
            ending.class().map_or("", Class::name).to_owned(),
        ]
    });
    let rows = rows("### gRPC");
    let told: Vec<&[String]> = rows.iter().map(|row| &row[..4]).collect();
    assert_eq!(told, codes);
    let section = section("### gRPC");
    let said = section.split_once("Our own answers").expect("them").1;
    let said = said
        .split("\n- ")
        .next()
        .expect("a point")
        .replace("\n  ", " ");
    for reason in Reason::ALL {
        // Each is in the list of its code, or is one of the rest.
        let code = Code::of_reason(reason);
        let named = said.contains(&format!("`{}`", reason.name()));
        let rest = matches!(code, Code::Unavailable | Code::Cancelled);
        let told_otherwise = ["header_too_large", "body_too_large", "header_timeout"];
        assert!(
            named != rest || told_otherwise.contains(&reason.name()),
            "{}",
            reason.name()
        );
    }
}

#[test]
fn its_words_for_tries_are_all_of_them() {
    let sent = [
        Sent::NotSent,
        Sent::Unanswered,
        Sent::Answered,
        Sent::Committed,
    ];
    assert_eq!(
        column(&rows("### Was it sent?"), 0),
        sent.map(|sent| sent.name().to_owned())
    );
    let words = quoted(&section("### Was it sent?"));
    for why in Why::ALL {
        assert!(words.iter().any(|word| word == why.name()), "{why:?}");
    }
}

#[test]
fn its_metrics_are_all_of_them() {
    let is_ours = |metric: &&&table::Metric| metric.name.starts_with("mamparo_");
    let ours: Vec<_> = table::ALL.iter().filter(is_ours).collect();
    let process = table::ALL.iter().filter(|metric| !is_ours(metric));
    let ours: Vec<[String; 3]> = ours
        .iter()
        .map(|metric| {
            [
                metric.name.to_owned(),
                format!("{:?}", metric.kind).to_lowercase(),
                metric.labels.join(" "),
            ]
        })
        .collect();
    let rows = rows("### Metrics");
    let told: Vec<[String; 3]> = rows
        .iter()
        .map(|row| [0, 1, 2].map(|index| row[index].replace('`', "")))
        .collect();
    assert_eq!(told, ours);
    let words = quoted(&section("### Metrics"));
    let told: BTreeSet<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| word.starts_with("process_"))
        .collect();
    assert_eq!(told, process.map(|metric| metric.name).collect());
}

#[test]
fn its_lints_are_all_of_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/lint");
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let found = text.split("id: \"").skip(1);
        ids.extend(found.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    assert!(!ids.is_empty());
    let told = column(&rows("### Lints"), 0);
    assert_eq!(told.len(), ids.len());
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), ids);
}

#[test]
fn its_commands_and_their_options_are_all_of_them() {
    let command = Arguments::command();
    let commands: Vec<_> = command.get_subcommands().collect();
    let rows = rows("### Commands");
    let names: BTreeSet<String> = commands
        .iter()
        .map(|command| format!("mamparo {}", command.get_name()))
        .collect();
    assert_eq!(column(&rows, 0).into_iter().collect::<BTreeSet<_>>(), names);
    for command in commands {
        let name = format!("`mamparo {}`", command.get_name());
        let row = rows.iter().find(|row| row[0] == name).unwrap();
        let words = row[1].replace(['`', '/'], " ");
        let told: BTreeSet<&str> = words
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"))
            .map(|word| word.trim_end_matches(|c: char| !c.is_ascii_lowercase()))
            .collect();
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        let options = options.filter(|option| !["help", "version"].contains(option));
        assert_eq!(told, options.collect(), "{name}");
    }
}

/// The rows of the configuration's table, and the blocks of the schema that they tell of.
const BLOCKS: [(&str, &str); 30] = [
    ("top level", ""),
    ("admin", "admin"),
    ("runtime", "runtime"),
    ("its dns", "dns"),
    ("its API of kubernetes", "kubernetes_api"),
    ("errors", "errors"),
    ("access_log", "access_log"),
    ("explain", "explain"),
    ("tracing", "tracing"),
    ("its keep", "keep_traces"),
    ("listeners.NAME", "listener"),
    ("its tls", "listener_tls"),
    ("its timeouts", "listener_timeouts"),
    ("its limits", "limits"),
    ("a route", "route"),
    ("its match", "match"),
    ("its rewrite", "rewrite"),
    ("upstreams.NAME", "upstream"),
    ("its upstream tls", "upstream_tls"),
    ("an endpoint", "endpoint"),
    ("its kubernetes", "kubernetes"),
    ("pool", "pool"),
    ("health_check", "health_check"),
    ("timeouts", "timeouts"),
    ("retry", "retry"),
    ("its backoff", "backoff"),
    ("its budget", "budget"),
    ("its by_class", "by_class"),
    ("circuit_breaker", "circuit_breaker"),
    ("bulkhead", "bulkhead"),
];
const MORE_BLOCKS: [(&str, &str); 3] = [
    ("rate_limit", "rate_limit"),
    ("fallback, each", "fallback"),
    ("its respond", "respond"),
];

#[test]
fn its_keys_are_those_of_the_schema() {
    let schema = config::schema();
    let keys = |name: &str| -> Vec<String> {
        let block = match name {
            "" => &schema,
            name => &schema["$defs"][name],
        };
        let properties = block["properties"].as_object().unwrap();
        properties.keys().cloned().collect()
    };
    let policies = keys("defaults");
    let rows = rows("### Configuration");
    let expected: Vec<(String, Vec<String>)> = BLOCKS
        .iter()
        .chain(&MORE_BLOCKS)
        .map(|(row, block)| {
            let mut keys = keys(block);
            if ["route", "upstream"].contains(block) {
                keys.retain(|key| !policies.contains(key));
            }
            ((*row).to_owned(), keys)
        })
        .collect();
    let told: Vec<(String, Vec<String>)> = rows
        .iter()
        .map(|row| (row[0].replace('`', ""), quoted(&row[1])))
        .collect();
    assert_eq!(told, expected);
    for policy in policies {
        let row = rows
            .iter()
            .find(|row| row[0].starts_with(&format!("`{policy}`")));
        assert!(row.unwrap()[2].starts_with("policy: "), "{policy}");
    }
}

#[test]
fn its_headers_are_all_of_ours() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy");
    let mut ours = BTreeSet::new();
    for file in ["headers.rs", "answer.rs"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let found = text.split("from_static(\"x-mamparo-").skip(1);
        ours.extend(found.map(|rest| format!("x-mamparo-{}", rest.split('"').next().unwrap())));
    }
    assert!(!ours.is_empty());
    let told: BTreeSet<String> = column(&rows("### Headers"), 0)
        .into_iter()
        .filter(|name| name.starts_with("x-mamparo-"))
        .collect();
    assert_eq!(told, ours);
}

#[test]
fn the_changelog_has_this_version() {
    let version = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&version), "{version}");
}

/// Head and body of an answer.
fn get(address: SocketAddr, path: &str) -> (String, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), serde_json::from_str(body).unwrap())
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// Its admin paths, its error body and its fields of the access log, against a process that runs.
#[test]
fn its_examples_are_what_a_process_gives() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    // Nobody listens there any more.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let yaml = format!(
        "admin: {{ address: '127.0.0.1:0' }}\n\
         runtime: {{ workers: 1 }}\n\
         access_log: {{ destination: {} }}\n\
         listeners: {{ main: {{ address: '127.0.0.1:0', upstream: payments }} }}\n\
         upstreams: {{ payments: {{ endpoints: ['{}'], retry: {{ backoff: {{ base: 1ms }} }} }} }}\n",
        log.display(),
        nobody.unwrap()
    );
    let loaded = config::parse("memory.yaml", &yaml, &|_| None).unwrap();
    let running = app::start(loaded, Options::default()).unwrap();

    let (_, body) = get(running.admin_address().unwrap(), "/nothing-is-here");
    let paths: Vec<&str> = body["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap())
        .collect();
    let told = column(&rows("### Admin interface"), 0);
    assert_eq!(
        told.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        paths.iter().copied().collect::<BTreeSet<_>>()
    );

    let (head, body) = get(running.listener_address("main").unwrap(), "/");
    let told: Value = serde_json::from_str(&blocks("json")[0]).unwrap();
    assert_eq!(keys(&told), keys(&body));
    assert_eq!(keys(&told["context"]), keys(&body["context"]));
    for same in ["error_code", "status_code"] {
        assert_eq!(told[same], body[same]);
    }
    let headers = column(&rows("### Headers"), 0).join(", ");
    let plain = [
        "content-type",
        "content-length",
        "cache-control",
        "date",
        "connection",
    ];
    for line in head.lines().skip(1) {
        let name = line.split(':').next().unwrap();
        let known = plain.contains(&name) || headers.split(", ").any(|told| told == name);
        assert!(known, "{line}");
    }

    assert!(running.shutdown());
    let line = std::fs::read_to_string(log).unwrap();
    let line: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    let words = quoted(&section("### Logs")).join(" ");
    let words: BTreeSet<&str> = words.split_whitespace().collect();
    for object in [&line, &line["tries"][1]] {
        assert!(keys(object).is_subset(&words), "{object}");
    }
}
