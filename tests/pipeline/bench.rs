//! The bench: a proxy under a configuration, clients before it, scripted endpoints behind it, and what
//! there is to read of its state.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mamparo::app::listener_settings;
use mamparo::config;
use mamparo::live::roster::BreakerReading;
use mamparo::live::upstream::Upstream;
use mamparo::live::wire::{Dialer, Pipe};
use mamparo::policy::breaker::{Forced, State};
use mamparo::proxy::Proxy;
use mamparo::server::connection;
use mamparo::server::door::Door;
use mamparo::telemetry::Telemetry;
use mamparo::telemetry::readings::Readings;
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::message::{Head, Reader};

/// Lets so many milliseconds pass.
pub(crate) async fn ms(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Milliseconds since then. Time passes in whole ones only.
#[expect(clippy::disallowed_methods, reason = "the paused clock of the test")]
pub(crate) fn since(began: Instant) -> u64 {
    let passed = Instant::now() - began;
    u64::try_from(passed.as_millis()).expect("not for ever")
}

/// A configuration with one listener, `out`, of role outbound, and one upstream, `u`, at the endpoints
/// 1 to `endpoints`. `policies` are lines of the upstream's block.
pub(crate) fn yaml(endpoints: u8, policies: &str) -> String {
    let addresses: Vec<String> = (1..=endpoints).map(|n| address(n).to_string()).collect();
    let addresses = addresses.join("\", \"");
    let mut text = format!(
        "service: test\nruntime: {{ workers: 1 }}\naccess_log: {{ destination: off }}\nlisteners:\n  \
         out: {{ address: 127.0.0.1:8080, role: outbound, upstream: u }}\n\
         upstreams:\n  u:\n    endpoints: [\"{addresses}\"]\n"
    );
    for line in policies.lines() {
        text += &format!("    {}\n", line.trim_start());
    }
    text
}

fn address(endpoint: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, endpoint)), 80)
}

/// A proxy with everything around it.
pub(crate) struct Bench {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) door: Arc<Door<Proxy>>,
    endpoints: Arc<Mutex<HashMap<SocketAddr, Arc<Endpoint>>>>,
    began: Instant,
    generation: Mutex<u64>,
}

impl Bench {
    pub(crate) fn new(text: &str) -> Self {
        let endpoints: Arc<Mutex<HashMap<SocketAddr, Arc<Endpoint>>>> = Arc::default();
        let known = Arc::clone(&endpoints);
        let dialer = Dialer::Memory(Arc::new(move |address| {
            let endpoint = Arc::clone(known.lock().entry(address).or_insert_with(|| {
                panic!("nobody told endpoint {address} what to do");
            }));
            Box::pin(async move {
                let stream = endpoint.dial().await?;
                Ok(Box::new(stream) as Box<dyn Pipe>)
            })
        }));
        let bench = Self::over(text, dialer, endpoints);
        (1..=9).for_each(|number| drop(bench.endpoint(number)));
        bench
    }

    /// With endpoints that are reached in another way.
    pub(crate) fn with(text: &str, dialer: Dialer) -> Self {
        Self::over(text, dialer, Arc::default())
    }

    #[expect(clippy::disallowed_methods, reason = "the paused clock of the test")]
    fn over(
        text: &str,
        dialer: Dialer,
        endpoints: Arc<Mutex<HashMap<SocketAddr, Arc<Endpoint>>>>,
    ) -> Self {
        // Chance is the same in each run.
        fastrand::seed(1);
        let began = Instant::now();
        let plan = plan(text);
        let listener = plan.listeners[0].clone();
        let settings = listener_settings(&listener);
        let proxy = Proxy::new(plan, Arc::new(Telemetry::default()), dialer);
        let door = Door::new(listener.name, listener.role, settings, Arc::clone(&proxy));
        Self {
            proxy,
            door,
            endpoints,
            began,
            generation: Mutex::new(1),
        }
    }

    /// The endpoint of that number; it answers 200 until told otherwise.
    pub(crate) fn endpoint(&self, number: u8) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock();
        let endpoint = endpoints.entry(address(number));
        Arc::clone(endpoint.or_insert_with(|| Endpoint::new(self.began)))
    }

    /// Milliseconds since the bench was set up.
    pub(crate) fn now(&self) -> u64 {
        since(self.began)
    }

    /// Lets the time come.
    pub(crate) async fn until(&self, millis: u64) {
        tokio::time::sleep_until(self.began + Duration::from_millis(millis)).await;
    }

    /// Runs another configuration from now on.
    pub(crate) fn reload(&self, text: &str) {
        let generation = self.proxy.reload(plan(text));
        let mut expected = self.generation.lock();
        *expected += 1;
        assert_eq!(generation, *expected, "each reload is a generation");
    }

    /// A client's connection.
    pub(crate) fn client(&self) -> Client {
        self.client_with_room(64 * 1024)
    }

    /// A client's connection with room for so many bytes in each direction.
    pub(crate) fn client_with_room(&self, room: usize) -> Client {
        let (ours, theirs) = duplex(room);
        let door = Arc::clone(&self.door);
        let served = tokio::spawn(async move { connection::serve(theirs, &door, None, 0).await });
        let (reading, writing) = split(ours);
        Client {
            reader: Reader::new(reading),
            writing,
            served,
            began: self.began,
        }
    }

    /// Sends a request, given by its method and target, over a connection of its own.
    pub(crate) async fn get(&self, line: &str) -> Answer {
        self.client().ask(line, &[], "").await
    }

    /// The same beside the test; the client leaves when the handle is aborted.
    pub(crate) fn start(&self, line: &str) -> JoinHandle<Answer> {
        self.start_with(line, &[], "")
    }

    /// With headers and a body.
    pub(crate) fn start_with(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> JoinHandle<Answer> {
        let mut client = self.client();
        let text = request(line, headers, body);
        tokio::spawn(async move {
            client.write(&text).await;
            client.answer(text.starts_with("HEAD ")).await
        })
    }

    /// The memory of upstream `u`.
    pub(crate) fn upstream(&self) -> Arc<Upstream> {
        let site = self.proxy.site();
        Arc::clone(site.snapshot.upstream("u").expect("upstream u"))
    }

    /// Requests that have a seat, and that wait for one.
    pub(crate) fn seats(&self) -> (usize, usize) {
        let upstream = self.upstream();
        (upstream.seats().in_flight(), upstream.seats().queued())
    }

    /// Connections that are open, and idle ones among them.
    pub(crate) fn slots(&self) -> (usize, usize) {
        let upstream = self.upstream();
        (upstream.slots().open(), upstream.slots().idle())
    }

    /// The breaker of an endpoint, under the settings of now.
    pub(crate) fn breaker(&self, endpoint: u8) -> BreakerReading {
        let settings = self.proxy.site().breaker_settings("u").expect("a breaker");
        let now = self.clock();
        let readings = self.upstream().roster().readings(Some(&settings), now);
        let label = address(endpoint).to_string();
        let mut readings = readings.into_iter();
        let reading = readings.find(|one| *one.endpoint == *label);
        reading.expect("that endpoint").breaker.expect("a breaker")
    }

    pub(crate) fn state(&self, endpoint: u8) -> State {
        self.breaker(endpoint).state
    }

    /// Puts the operator's hand on a breaker, or lifts it.
    pub(crate) fn force(&self, endpoint: u8, forced: Option<Forced>) {
        let upstream = self.upstream();
        let forced = upstream
            .roster()
            .force(&address(endpoint).to_string(), forced, self.clock());
        forced.expect("that endpoint");
    }

    /// Retries that the budget would pay for now.
    pub(crate) fn tokens(&self) -> f64 {
        let upstream = self.upstream();
        let retry = upstream.settings().policies.retry.clone().expect("retries");
        let budget = retry.budget.expect("a budget");
        upstream.budget_tokens(&budget, self.clock()).0
    }

    /// The present.
    pub(crate) fn clock(&self) -> std::time::Instant {
        mamparo::clock::now()
    }

    /// The sum of a metric's samples that carry all of these labels, `name="value"` each.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.proxy.telemetry.metrics().render(&Readings::default());
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_it = rest.starts_with(['{', ' ']);
            let meant = is_it && labels.iter().all(|label| rest.contains(label));
            meant.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        samples.sum()
    }

    /// Requests that have ended so.
    pub(crate) fn ended(&self, outcome: &str) -> f64 {
        let label = format!("outcome=\"{outcome}\"");
        self.metric("mamparo_requests_total", &[&label])
    }

    /// Asserts that nothing is left behind: no seat, no waiter, no try, no busy connection, no kept
    /// body, no client's connection; and that `requests` were counted, each once (rule 88).
    pub(crate) async fn settle(&self, requests: u32) {
        // A client's connection lingers for a second, for the client's sake.
        ms(1_500).await;
        assert_eq!(self.door.open(), 0, "clients' connections left");
        let upstreams: Vec<_> = self.proxy.site().snapshot.upstreams().cloned().collect();
        for upstream in upstreams {
            let seats = upstream.seats();
            let left = (seats.in_flight(), seats.queued());
            assert_eq!(left, (0, 0), "seats taken, requests waiting");
            let slots = upstream.slots();
            assert_eq!(slots.open(), slots.idle(), "connections open and idle");
            for reading in upstream.roster().readings(None, self.clock()) {
                assert_eq!(reading.in_flight, 0, "tries at {}", reading.endpoint);
            }
        }
        assert_eq!(self.proxy.memory().used(), 0, "bytes kept for another try");
        let counted = self.metric("mamparo_requests_total", &[]);
        assert_eq!(counted, f64::from(requests), "requests counted");
    }
}

fn plan(text: &str) -> mamparo::plan::Plan {
    match config::parse("test.yaml", text, &|_| None) {
        Ok(loaded) => loaded.plan,
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

/// A request's bytes.
pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nhost: u\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text += &format!("content-length: {}\r\n", body.len());
    }
    text + "\r\n" + body
}

/// A client; dropping it is leaving.
pub(crate) struct Client {
    reader: Reader<ReadHalf<DuplexStream>>,
    writing: WriteHalf<DuplexStream>,
    pub(crate) served: JoinHandle<()>,
    began: Instant,
}

impl Client {
    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.write(&request(line, headers, body)).await;
        self.answer(line.starts_with("HEAD ")).await
    }

    pub(crate) async fn write(&mut self, text: &str) {
        // A proxy that has closed already tells so by its answer.
        let _ = self.writing.write_all(text.as_bytes()).await;
    }

    /// The next answer; panics where the connection ends before its head.
    pub(crate) async fn answer(&mut self, head_only: bool) -> Answer {
        let head = self.head().await.expect("the head of an answer");
        let at = since(self.began);
        let none = head_only || matches!(head.second(), "204" | "304");
        let (body, complete) = match none {
            true => (Vec::new(), true),
            false => self.reader.body(&head, false).await,
        };
        Answer {
            status: head.second().parse().expect("a status"),
            head,
            body: String::from_utf8(body).expect("text"),
            complete,
            at,
            done: since(self.began),
        }
    }

    /// The head of the next answer; `None` where the connection ends before it.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        let patience = Duration::from_secs(24 * 3600);
        let head = tokio::time::timeout(patience, self.reader.head()).await;
        head.expect("an answer within a day")
    }

    /// The next chunk of a body; `None` where the connection ends before it.
    pub(crate) async fn chunk(&mut self) -> Option<String> {
        let chunk = self.reader.chunk().await?;
        Some(String::from_utf8(chunk).expect("text"))
    }

    /// Reads to the end of the connection; gives when that was.
    pub(crate) async fn end(&mut self) -> u64 {
        self.reader.end().await;
        since(self.began)
    }
}

/// What a client got.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: String,
    /// Whether the body came to its end.
    pub(crate) complete: bool,
    /// When the head was there.
    pub(crate) at: u64,
    /// When the body was there.
    pub(crate) done: u64,
}

impl Answer {
    /// Our reason, where we answered.
    pub(crate) fn reason(&self) -> &str {
        self.head.get("x-mamparo-reason").unwrap_or("")
    }

    /// What matters most: status, reason, and when.
    pub(crate) fn short(&self) -> (u16, &str, u64) {
        (self.status, self.reason(), self.at)
    }
}
