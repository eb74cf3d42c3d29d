//! The configurations of `config/`, run by the real program, with traffic.

use std::net::SocketAddr;

use crate::support::{
    Authority, Client, GrpcService, Http2, Program, Proxy, Upstream, grpc_message as message,
};

/// The program under that example, with these variables. Its listeners get ports from the system.
#[track_caller]
fn run(name: &str, variables: &[(&str, String)]) -> Program {
    let text = std::fs::read_to_string(format!("config/{name}.yaml")).unwrap();
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
fn every_example_is_run() {
    let mut names: Vec<String> = std::fs::read_dir("config")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let run = [
        "example.yaml",
        "forward-proxy.yaml",
        "grpc.yaml",
        "mtls.yaml",
        "reference.yaml",
    ];
    assert_eq!(names, run);
}
