//! The configurations of `config/examples/`, run by the real program, with traffic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{
    Authority, Client, GrpcService, Http2, Program, Proxy, Refused, Reply, Upstream, eventually,
    grpc_message as message, program,
};

/// The program under that example, with these variables. Its listeners get ports from the system.
#[track_caller]
fn run(name: &str, variables: &[(&str, String)]) -> Program {
    let text = std::fs::read_to_string(format!("config/examples/{name}.yaml")).unwrap();
    let mut yaml = "admin: { address: 127.0.0.1:0 }\naccess_log: { destination: off }\n".to_owned();
    for line in text.lines() {
        let line = match line.split_once("address: ") {
            Some((indent, _)) if indent.trim().is_empty() => {
                format!("{indent}address: 127.0.0.1:0")
            }
            Some(_) | None => line.to_owned(),
        };
        yaml += &(line + "\n");
    }
    Program::run_with(&yaml, &[], |command| {
        for (name, value) in variables {
            command.env(name, value);
        }
    })
}

const CALL: [&str; 3] = [
    "content-type: application/grpc",
    "te: trailers",
    "grpc-timeout: 1500m",
];

#[test]
fn grpc() {
    let service = GrpcService::start(|path, number| match (path, number) {
        ("/shop.Catalog/Search", _) => 13,
        (_, 0) => 14,
        _ => 0,
    });
    let program = run("grpc", &[("CATALOG", service.address().to_string())]);
    let mut client = Http2::connect(program.listener("outbound"));
    let keyed = [&CALL[..], &["idempotency-key: 1"]].concat();
    let answer = client.request("POST", "/shop.Catalog/Get", &keyed, &message(b"a"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, message(b"a"));
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(answer.header("x-mamparo-attempts"), Some("2"));
    let calls = service.calls();
    for (_, headers) in &calls {
        // What is left of the client's time, and not the second and a half that it had.
        let timeout = headers["grpc-timeout"].to_str().unwrap();
        let left = timeout.trim_end_matches(char::is_alphabetic);
        assert!(
            timeout.ends_with('m') || timeout.ends_with('u'),
            "{timeout}"
        );
        assert!(left.len() <= 8 && timeout != "1500m", "{timeout}");
    }
    assert_eq!(calls.len(), 2);
    // The service breaks, and search goes on with nothing found.
    let answer = client.request("POST", "/shop.Catalog/Search", &CALL, &message(b"a"));
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(answer.body, message(b""));
    assert_eq!(answer.header("x-mamparo-fallback"), Some("respond"));
    // No route: an answer in the words of gRPC.
    let answer = client.request("POST", "/shop.Basket/Get", &CALL, &message(b"a"));
    assert_eq!(
        (answer.status, answer.header("grpc-status")),
        (200, Some("12"))
    );
}

#[test]
fn mtls() {
    let authority = Authority::new();
    let own = authority.sign("payments.internal");
    let folder = own.cert.parent().unwrap();
    std::fs::copy(&own.cert, folder.join("tls.crt")).unwrap();
    std::fs::copy(&own.key, folder.join("tls.key")).unwrap();
    let (payments, ourselves) = (Upstream::echo(), Upstream::always(201));
    // Payments has such a sidecar too.
    let variables = |ours: SocketAddr, payments: String| {
        [
            ("CERTIFICATES", folder.display().to_string()),
            ("OURSELVES", ours.to_string()),
            ("PAYMENTS", payments),
        ]
    };
    let theirs = run(
        "mtls",
        &variables(payments.address(), "127.0.0.1:1".to_owned()),
    );
    let beside_payments = theirs.listener("inbound").to_string();
    let ours = run("mtls", &variables(ourselves.address(), beside_payments));
    let answer = Client::connect(ours.listener("outbound")).get("/charges");
    assert_eq!(answer.status, 200);
    assert_eq!(payments.last().target, "/charges");
    // Whoever shows no certificate of the authority's is not let in.
    let ca = authority.certificate();
    let tls = format!(
        "tls: {{ ca: {}, server_name: payments.internal }}",
        ca.display()
    );
    let stranger = Proxy::to(&[ours.listener("inbound")], &tls);
    assert_eq!(stranger.get("/").status, 502);
    assert_eq!(ourselves.count(), 0);
}

#[test]
fn forward_proxy() {
    let (payments, search) = (Upstream::always(200), Upstream::always(201));
    let variables = [
        ("PAYMENTS", payments.address().to_string()),
        ("SEARCH", search.address().to_string()),
    ];
    let program = run("forward-proxy", &variables);
    let ask = |listener: &str, target: &str, host: &str| {
        let mut client = Client::connect(program.listener(listener));
        client.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        client.answer().status
    };
    // A client with HTTP_PROXY sends whole URLs, and never asks a name server.
    let url = "http://payments.internal/v1/charges?a=b";
    assert_eq!(ask("proxy", url, "payments.internal"), 200);
    assert_eq!(payments.last().target, "/v1/charges?a=b");
    assert_eq!(
        ask("proxy", "http://eu.search.internal/", "eu.search.internal"),
        201
    );
    // Only what a route matches is reachable.
    assert_eq!(
        ask("proxy", "http://admin.internal/", "admin.internal"),
        404
    );
    // A client that is redirected knows of nothing.
    assert_eq!(ask("transparent", "/v1/charges", "payments.internal"), 200);
}

#[test]
fn slow_dependency() {
    let slow = Upstream::always(Reply::new(200).after_ms(3_000));
    let program = run(
        "slow-dependency",
        &[("RECOMMENDATIONS", slow.address().to_string())],
    );
    let mut client = Client::connect(program.listener("outbound"));
    let begin = Instant::now();
    for _ in 0..5 {
        let answer = client.get("/for/ada");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), r#"{"recommendations": []}"#);
        assert_eq!(
            answer.header("x-mamparo-fallback").as_deref(),
            Some("respond")
        );
    }
    // Five shoppers of a service that takes three seconds: nobody has waited for it once.
    assert!(begin.elapsed() < Duration::from_secs(3));
    // By now it is not even asked.
    eventually("the breaker has opened", || {
        client.get("/").reason().as_deref() == Some("breaker_open")
    });
    let asked = slow.count();
    assert_eq!(client.get("/for/ada").status, 200);
    assert_eq!(slow.count(), asked);
}

#[test]
fn flapping_pod() {
    let steady = [Upstream::always(200), Upstream::always(200)];
    let flapping = Upstream::always(503);
    let variables = [
        ("INVENTORY_1", steady[0].address().to_string()),
        ("INVENTORY_2", flapping.address().to_string()),
        ("INVENTORY_3", steady[1].address().to_string()),
    ];
    let program = run("flapping-pod", &variables);
    let mut client = Client::connect(program.listener("outbound"));
    for _ in 0..60 {
        assert_eq!(client.get("/stock/1").status, 200);
    }
    // Its failures count as load, and with the third it is left alone: it has not had its twenty.
    assert!((1..=3).contains(&flapping.count()), "{}", flapping.count());
}

#[test]
fn payment_post() {
    let payments = Upstream::with(|number, request| match number {
        0 | 1 => Reply::close(),
        _ => Reply::new(200).body(format!("charged by {}", request.method)),
    });
    let program = run(
        "payment-post",
        &[("PAYMENTS", payments.address().to_string())],
    );
    let mut client = Client::connect(program.listener("outbound"));
    // It may have been made: nobody makes it again.
    let answer = client
        .request("POST", "/v1/charges", &[], b"amount=5")
        .answer();
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (502, Some("reset"))
    );
    assert_eq!(payments.count(), 1);
    // With a key the provider knows it again.
    let keyed = ["idempotency-key: 7"];
    let answer = client
        .request("POST", "/v1/charges", &keyed, b"amount=5")
        .answer();
    assert_eq!(answer.text(), "charged by POST");
    assert_eq!(payments.count(), 3);
    // Nothing has left us where nobody listens: the caller is told so.
    let nobody = Refused::new();
    let program = run("payment-post", &[("PAYMENTS", nobody.address.to_string())]);
    let mut client = Client::connect(program.listener("outbound"));
    let answer = client
        .request("POST", "/v1/charges", &[], b"amount=5")
        .answer();
    assert_eq!(answer.reason().as_deref(), Some("connect_failure"));
    assert_eq!(answer.json()["context"]["attempts"], 2);
}

#[test]
fn cache_like_fallback() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prices.json");
    std::fs::write(&file, r#"{"tea": 3}"#).unwrap();
    let nobody = Refused::new();
    let variables = [
        ("PRICES", nobody.address.to_string()),
        ("PRICES_FILE", file.display().to_string()),
    ];
    let program = run("cache-like-fallback", &variables);
    let mut client = Client::connect(program.listener("outbound"));
    let answer = client.get("/prices");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, r#"{"tea": 3}"#)
    );
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    // The next list is what the next fallback answers with.
    std::fs::write(&file, r#"{"tea": 4}"#).unwrap();
    eventually("the new list", || {
        client.get("/prices").text() == r#"{"tea": 4}"#
    });
    // A price that may be out of date is not made up.
    assert_ne!(client.get("/prices/tea").status, 200);
}

fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_example_is_run() {
    let run = [
        "cache-like-fallback.yaml",
        "flapping-pod.yaml",
        "forward-proxy.yaml",
        "grpc.yaml",
        "mtls.yaml",
        "payment-post.yaml",
        "slow-dependency.yaml",
    ];
    assert_eq!(names("config/examples"), run);
    assert_eq!(
        names("config"),
        ["example.yaml", "examples", "reference.yaml"]
    );
}

#[test]
fn no_example_has_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    for name in names("config/examples") {
        // Certificates and lists are not part of them; and gRPC's relies on a header that only some clients send,
        // which is what its warning is about.
        if ["mtls.yaml", "cache-like-fallback.yaml", "grpc.yaml"].contains(&&*name) {
            continue;
        }
        let path = format!("config/examples/{name}");
        let checked = program::output(&["check", "--strict", &path]);
        assert!(checked.status.success(), "{name}: {checked:?}");
    }
    let list = folder.path().join("prices.json");
    std::fs::write(list, "{}").unwrap();
    let there = folder.path().join("cache-like-fallback.yaml");
    std::fs::copy("config/examples/cache-like-fallback.yaml", &there).unwrap();
    let checked = program::output(&["check", "--strict", there.to_str().unwrap()]);
    assert!(checked.status.success(), "{checked:?}");
}
