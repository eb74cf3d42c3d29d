//! The API of a Kubernetes cluster, as far as EndpointSlices go: lists in pages, watches with bookmarks,
//! versions that expire, and every way to fail that a test asks for. A thread for each connection.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::acceptor::Acceptor;
use super::message::Head;

/// The only namespace and service that it knows.
const NAMESPACE: &str = "shop";
const SERVICE: &str = "payments";

/// How often a watch looks whether its client is still there.
const LOOKS_EVERY: Duration = Duration::from_millis(10);

/// A running API. Dropped, it closes everything.
pub(crate) struct Cluster {
    acceptor: Acceptor,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    news: Condvar,
    watches: AtomicUsize,
    stopping: AtomicBool,
}

/// What there is, and what happened.
#[derive(Default)]
struct World {
    version: u64,
    slices: BTreeMap<String, Value>,
    /// Lines that watches tell, those with a version to watches that begin before it.
    history: Vec<(Option<u64>, String)>,
    /// What is older is forgotten.
    compacted: u64,
    /// Counts up when every open watch is to break off.
    cut: u64,
    manners: Manners,
    asked: Vec<Asked>,
}

/// How it treats those who ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// Only this token is accepted.
    pub(crate) token: Option<String>,
    /// The verb that it forbids: `list` or `watch`.
    pub(crate) forbids: Option<&'static str>,
    /// Slices in a page, whatever was asked for.
    pub(crate) page: Option<usize>,
    /// How long each answer takes.
    pub(crate) slow: Duration,
    /// It closes connections without a word.
    pub(crate) down: bool,
    /// That a version is too old, it says as the status of a watch, and not within one.
    pub(crate) gone_as_status: bool,
}

/// A request that it received.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// `list` or `watch`.
    pub(crate) verb: &'static str,
    /// The parameters of the query, as they came.
    pub(crate) query: String,
    /// What was shown.
    pub(crate) authorization: Option<String>,
}

/// How a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pod {
    Ready,
    /// About to end, and still serving.
    Terminating,
    NotReady,
}

impl Pod {
    fn conditions(self) -> Value {
        let (ready, serving, terminating) = match self {
            Self::Ready => (true, true, false),
            Self::Terminating => (false, true, true),
            Self::NotReady => (false, false, false),
        };
        json!({ "ready": ready, "serving": serving, "terminating": terminating })
    }
}

/// The endpoints and ports of a slice, as the API writes them.
pub(crate) fn slice(ports: &[(&str, u16)], pods: &[(&str, Pod)]) -> Value {
    let pods: Vec<Value> = pods
        .iter()
        .map(|(address, pod)| endpoint(address, *pod))
        .collect();
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port)| json!({ "name": name, "port": port, "protocol": "TCP", "appProtocol": "http" }))
        .collect();
    json!({ "addressType": "IPv4", "endpoints": pods, "ports": ports })
}

/// The slice of one server, whose port is called `http`.
pub(crate) fn slice_of(server: SocketAddr, pod: Pod) -> Value {
    slice(
        &[("http", server.port())],
        &[(&server.ip().to_string(), pod)],
    )
}

/// One endpoint of a slice.
pub(crate) fn endpoint(address: &str, pod: Pod) -> Value {
    json!({
        "addresses": [address],
        "conditions": pod.conditions(),
        "nodeName": "node-1",
        "targetRef": { "kind": "Pod", "namespace": NAMESPACE, "name": format!("pod-{address}") },
    })
}

impl Cluster {
    /// A cluster without any slice.
    pub(crate) fn start() -> Self {
        let shared = Arc::<Shared>::default();
        shared.world().version = 1_000;
        let to = Arc::clone(&shared);
        let acceptor = Acceptor::start("127.0.0.1:0", move |stream| {
            let shared = Arc::clone(&to);
            move || {
                let _ = serve(&stream, &shared);
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { acceptor, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    /// The `runtime` block that leads to it, with more keys of `kubernetes`.
    pub(crate) fn runtime(&self, more: &str) -> String {
        let api = self.address();
        format!(
            "runtime: {{ workers: 2, drain: 1s, kubernetes: {{ api: \"http://{api}\"{more} }} }}\n"
        )
    }

    /// Puts a slice there, or in the place of the one of that name.
    pub(crate) fn set(&self, name: &str, mut slice: Value) {
        let mut world = self.shared.world();
        world.version += 1;
        let version = world.version;
        slice["apiVersion"] = json!("discovery.k8s.io/v1");
        slice["kind"] = json!("EndpointSlice");
        slice["metadata"] = json!({
            "name": name,
            "namespace": NAMESPACE,
            "uid": format!("uid-of-{name}"),
            "resourceVersion": version.to_string(),
            "labels": { "kubernetes.io/service-name": SERVICE },
            "managedFields": [{ "manager": "kube-controller-manager", "operation": "Update" }],
        });
        let kind = match world.slices.insert(name.to_owned(), slice.clone()) {
            None => "ADDED",
            Some(_) => "MODIFIED",
        };
        world.tell(Some(version), kind, &slice);
        self.shared.news.notify_all();
    }

    /// Removes a slice.
    pub(crate) fn delete(&self, name: &str) {
        let mut world = self.shared.world();
        let mut slice = world.slices.remove(name).expect("it is there");
        world.version += 1;
        let version = world.version;
        slice["metadata"]["resourceVersion"] = json!(version.to_string());
        world.tell(Some(version), "DELETED", &slice);
        self.shared.news.notify_all();
    }

    /// Something else has happened in the cluster, and each watch is told how far it is.
    pub(crate) fn bookmark(&self) {
        let mut world = self.shared.world();
        world.version += 1;
        let object = json!({
            "kind": "EndpointSlice",
            "metadata": { "resourceVersion": world.version.to_string() },
        });
        world.tell(None, "BOOKMARK", &object);
        self.shared.news.notify_all();
    }

    /// Forgets what has happened: who has not seen it has to list again.
    pub(crate) fn compact(&self) {
        let mut world = self.shared.world();
        world.version += 1;
        world.compacted = world.version;
    }

    /// Breaks off every watch.
    pub(crate) fn cut_watches(&self) {
        self.shared.world().cut += 1;
        self.shared.news.notify_all();
    }

    /// Has every watch tell this line.
    pub(crate) fn say(&self, line: &str) {
        self.shared
            .world()
            .history
            .push((None, format!("{line}\n")));
        self.shared.news.notify_all();
    }

    /// Treats those who ask otherwise from now on.
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.shared.world().manners);
    }

    /// What was asked of it.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.world().asked.clone()
    }

    /// How often that verb was asked for.
    pub(crate) fn count(&self, verb: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|one| one.verb == verb).count()
    }

    /// Watches that are open now.
    pub(crate) fn watches(&self) -> usize {
        self.shared.watches.load(SeqCst)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shared.stopping.store(true, SeqCst);
        self.shared.news.notify_all();
    }
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl World {
    fn tell(&mut self, version: Option<u64>, kind: &str, object: &Value) {
        let line = json!({ "type": kind, "object": object });
        self.history.push((version, format!("{line}\n")));
    }
}

/// Answers one connection's requests.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(head) = Head::read(&mut reader)? {
        let target = head.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let parameters: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), decoded(value)))
            .collect();
        let watch = parameters.get("watch").is_some_and(|watch| watch == "true");
        let verb = if watch { "watch" } else { "list" };
        let authorization = head.header("authorization");
        let manners = {
            let mut world = shared.world();
            world.asked.push(Asked {
                verb,
                query: query.to_owned(),
                authorization: authorization.clone(),
            });
            world.manners.clone()
        };
        if manners.down {
            return Ok(());
        }
        std::thread::sleep(manners.slow);
        let shown = authorization.as_deref().unwrap_or_default();
        let allowed = manners
            .token
            .is_none_or(|token| shown == format!("Bearer {token}"));
        let service = parameters.get("labelSelector").map(String::as_str);
        let refused = if !allowed {
            Some((401, "Unauthorized".to_owned()))
        } else if path != format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices")
            || service != Some(&format!("kubernetes.io/service-name={SERVICE}"))
        {
            Some((
                404,
                "the server could not find the requested resource".to_owned(),
            ))
        } else if manners.forbids == Some(verb) {
            let message = format!(
                "endpointslices.discovery.k8s.io is forbidden: User \"system:serviceaccount:{NAMESPACE}:default\" \
                 cannot {verb} resource \"endpointslices\" in API group \"discovery.k8s.io\" in the namespace \"{NAMESPACE}\""
            );
            Some((403, message))
        } else {
            None
        };
        match refused {
            Some((code, message)) => refuse(stream, code, &message)?,
            None if watch => return tell(stream, &parameters, shared),
            None => list(stream, &parameters, shared)?,
        }
    }
    Ok(())
}

fn status(code: u16, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code,
    })
}

fn refuse(mut stream: &TcpStream, code: u16, message: &str) -> io::Result<()> {
    let body = status(code, message).to_string();
    answer(&mut stream, code, &body)
}

fn answer(stream: &mut &TcpStream, code: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {code} Told\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())
}

fn list(
    mut stream: &TcpStream,
    parameters: &BTreeMap<String, String>,
    shared: &Shared,
) -> io::Result<()> {
    let world = shared.world();
    let asked: usize = parameters
        .get("limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(500);
    let limit = world.manners.page.unwrap_or(asked);
    // `version/name`: what comes after this name, as of that version.
    let from = parameters
        .get("continue")
        .and_then(|next| next.split_once('/'));
    let version = from.map_or(world.version, |(version, _)| version.parse().unwrap());
    if version < world.compacted {
        drop(world);
        return refuse(stream, 410, "The provided continue parameter is too old");
    }
    let after = from.map_or("", |(_, name)| name);
    let rest: Vec<(&String, &Value)> = world
        .slices
        .iter()
        .filter(|(name, _)| name.as_str() > after)
        .collect();
    let items: Vec<&Value> = rest.iter().take(limit).map(|(_, slice)| *slice).collect();
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if rest.len() > limit {
        metadata["continue"] = json!(format!("{version}/{}", rest[limit - 1].0));
        metadata["remainingItemCount"] = json!(rest.len() - limit);
    }
    let body = json!({
        "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata, "items": items,
    });
    let body = body.to_string();
    drop(world);
    answer(&mut stream, 200, &body)
}

/// A watch, to its end.
fn tell(
    mut stream: &TcpStream,
    parameters: &BTreeMap<String, String>,
    shared: &Shared,
) -> io::Result<()> {
    let number = |key: &str| {
        parameters
            .get(key)
            .and_then(|text| text.parse::<u64>().ok())
    };
    let from = number("resourceVersion").expect("a watch begins somewhere");
    let seconds = number("timeoutSeconds").expect("a watch has an end");
    assert_eq!(
        parameters.get("allowWatchBookmarks").map(String::as_str),
        Some("true")
    );
    let (mut next, cut) = {
        let world = shared.world();
        if from < world.compacted && world.manners.gone_as_status {
            drop(world);
            return refuse(stream, 410, "too old resource version");
        }
        let later = |version: &Option<u64>| version.is_some_and(|version| version > from);
        let next = world.history.iter().position(|(version, _)| later(version));
        (next.unwrap_or(world.history.len()), world.cut)
    };
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    if from < shared.world().compacted {
        let line = json!({ "type": "ERROR", "object": status(410, "too old resource version") });
        stream.write_all(&chunk(&format!("{line}\n")))?;
        return stream.write_all(b"0\r\n\r\n");
    }
    let _open = Open::new(&shared.watches);
    let end = Instant::now() + Duration::from_secs(seconds);
    stream.set_read_timeout(Some(Duration::from_millis(1)))?;
    loop {
        let lines: Vec<String> = {
            let world = shared.world();
            let wait = |world: &mut World| {
                next >= world.history.len() && world.cut == cut && !shared.stopping.load(SeqCst)
            };
            let (world, _) = shared
                .news
                .wait_timeout_while(world, LOOKS_EVERY, wait)
                .unwrap();
            if world.cut != cut || shared.stopping.load(SeqCst) {
                return Ok(());
            }
            world.history[next..]
                .iter()
                .map(|(_, line)| line.clone())
                .collect()
        };
        next += lines.len();
        for line in &lines {
            stream.write_all(&chunk(line))?;
        }
        if Instant::now() >= end {
            return stream.write_all(b"0\r\n\r\n");
        }
        if lines.is_empty() && matches!(stream.read(&mut [0]), Ok(0)) {
            return Ok(());
        }
    }
}

/// Counts a watch for as long as it is open.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).unwrap();
                u8::from_str_radix(digits, 16).expect("two digits")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
