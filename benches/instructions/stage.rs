//! A whole proxy without sockets: the server's connection, every layer below it, and endpoints that answer from
//! memory. The clock is paused and goes on by 100 µs with each request, so that every run is the same and the
//! windows of the policies turn as they do at 10 000 requests a second.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use mamparo::live::wire::{Dialer, Pipe};
use mamparo::proxy::Proxy;
use mamparo::server::connection;
use mamparo::server::door::Door;
use mamparo::telemetry::Telemetry;
use mamparo::{app, config};
use tokio::runtime::Runtime;

use crate::cases::{Asks, Case};
use crate::client::{Client, Speaks};
use crate::endpoint::{Endpoint, Script};
use crate::frames::Frames;

const STEP: Duration = Duration::from_micros(100);

const GET: &str = "GET /64 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// What a browser says beside it, and a service that one signs in to.
const ASKED_TOO: &str = "\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
    Accept: application/json, text/plain, */*\r\n\
    Accept-Language: en-GB,en;q=0.8,es;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://shop.example/orders?page=2\r\n\
    Origin: https://shop.example\r\n\
    Cookie: session=5f0c2a9e6d4b4f0a8a3c7b1e9d2f6a10; theme=dark\r\n\
    Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
    Cache-Control: no-cache\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Sec-Fetch-Mode: cors\r\n\
    X-Tenant: north\r\n";

const ANSWERED_TOO: &str = "\
    Cache-Control: private, max-age=0\r\n\
    ETag: \"5f0c2a9e6d4b4f0a\"\r\n\
    Last-Modified: Sat, 21 Nov 2026 17:30:00 GMT\r\n\
    Vary: Accept-Encoding, Origin\r\n\
    Access-Control-Allow-Origin: https://shop.example\r\n\
    Strict-Transport-Security: max-age=63072000\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Runtime: 0.004\r\n";

/// The last bytes of every body, so that its end is seen by them alone.
const LAST: &[u8] = b"the end\n";

/// A proxy, one client before it, three endpoints behind it.
pub(crate) struct Stage {
    runtime: Runtime,
    client: Client,
}

impl Stage {
    pub(crate) fn new(case: &Case) -> Self {
        // Chance is the same in each run.
        fastrand::seed(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let client = Client::new(match case.asks {
            Asks::Get64 => Speaks::Http1 {
                request: GET.into(),
                ending: LAST,
            },
            Asks::Get64ManyHeaders => Speaks::Http1 {
                request: with_more(GET.into(), ASKED_TOO),
                ending: LAST,
            },
            Asks::Post4k => Speaks::Http1 {
                request: post(),
                ending: LAST,
            },
            Asks::Get64Http2 => Speaks::Http2(Frames::default()),
        });
        let entered = runtime.enter();
        let door = door(case, dialer(case));
        let theirs = client.clone();
        tokio::spawn(async move { connection::serve(theirs, &door, None, 0).await });
        drop(entered);
        Self { runtime, client }
    }

    /// Has so many requests answered, one after the other.
    pub(crate) fn ask(&self, requests: u32) {
        self.runtime.block_on(async {
            for _ in 0..requests {
                tokio::time::advance(STEP).await;
                self.client.ask().await;
            }
        });
    }

    /// The last answer's bytes.
    pub(crate) fn answer(&self) -> Vec<u8> {
        self.client.answer()
    }
}

fn door(case: &Case, dialer: Dialer) -> Arc<Door<Proxy>> {
    let text = yaml(case);
    let plan = match config::parse("instructions.yaml", &text, &|_| None) {
        Ok(loaded) => loaded.plan,
        Err(problems) => panic!("{problems}\n{text}"),
    };
    let telemetry = Telemetry::default();
    telemetry.log_requests(&plan.access_log).unwrap();
    let listener = plan.listeners[0].clone();
    let settings = app::listener_settings(&listener);
    let proxy = Proxy::new(plan, Arc::new(telemetry), dialer);
    Door::new(listener.name, listener.role, settings, proxy)
}

fn yaml(case: &Case) -> String {
    let log = if case.access_log { "/dev/null" } else { "off" };
    let mut text = format!(
        "service: bench\nruntime: {{ workers: 1 }}\naccess_log: {{ destination: {log} }}\n\
         listeners:\n  outbound: {{ address: 127.0.0.1:8080, upstream: origin }}\nupstreams:\n  origin:\n    \
         endpoints: [\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\"]\n    balance: round_robin\n"
    );
    for line in case.policies.lines() {
        text += &format!("    {line}\n");
    }
    text
}

fn dialer(case: &Case) -> Dialer {
    let ok = match case.asks {
        Asks::Get64ManyHeaders => with_more(answer("200 OK"), ANSWERED_TOO),
        Asks::Get64 | Asks::Get64Http2 | Asks::Post4k => answer("200 OK"),
    };
    let script = Arc::new(Script {
        ending: match case.asks {
            Asks::Get64 | Asks::Get64ManyHeaders | Asks::Get64Http2 => b"\r\n\r\n",
            Asks::Post4k => LAST,
        },
        answers: match case.retried {
            true => vec![answer("503 Service Unavailable"), ok],
            false => vec![ok],
        },
        answered: AtomicUsize::new(0),
    });
    Dialer::Memory(Arc::new(move |_| {
        let endpoint = Endpoint::new(&script);
        Box::pin(async move { Ok(Box::new(endpoint) as Box<dyn Pipe>) })
    }))
}

/// What nginx answers, with 64 bytes.
fn answer(status: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 09:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: 64\r\nConnection: keep-alive\r\n\r\n"
    );
    with_body(head, 64)
}

fn post() -> Vec<u8> {
    let head = "POST /4k HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/octet-stream\r\n\
                Idempotency-Key: 4bf92f35\r\nContent-Length: 4096\r\n\r\n";
    with_body(head.to_owned(), 4096)
}

/// The same message with these lines behind its first one.
fn with_more(mut bytes: Vec<u8>, lines: &str) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
    bytes.splice(first..first, lines.bytes());
    bytes
}

fn with_body(head: String, length: usize) -> Vec<u8> {
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + length - LAST.len(), b'x');
    bytes.extend_from_slice(LAST);
    bytes
}
