//! A proxy in memory: bytes of a client go in, those of one endpoint too, and all that comes out is kept.
//! The clock is paused, so that timeouts take no time.

use std::collections::VecDeque;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use mamparo::app::listener_settings;
use mamparo::config;
use mamparo::live::wire::{Dialer, Pipe};
use mamparo::proxy::Proxy;
use mamparo::server::connection;
use mamparo::server::door::Door;
use mamparo::telemetry::Telemetry;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Runtime;

use super::strict::{self, Begin, Message};
use super::text;

/// Bytes that fit into a pipe.
const ROOM: usize = 64 * 1024;

/// What the endpoint does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Play {
    /// Reads all of it and answers with these bytes; the connection stays.
    Answer(Vec<u8>),
    /// Reads all of it, answers with these bytes in such parts, and closes.
    Last(Vec<u8>, u8),
    /// Reads so many bytes of it, or all, and closes.
    Drop(usize),
}

/// What has come to the endpoint.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Requests that came to their end, in the order of their ends.
    pub(crate) whole: Vec<Message>,
    /// Requests that did not: their heads and as much of their bodies as came.
    pub(crate) parts: Vec<Message>,
    /// What was no request at all.
    pub(crate) wrong: Vec<(&'static str, String)>,
}

/// The endpoint's script.
#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Play>,
    seen: Seen,
}

/// A proxy before one endpoint.
pub(crate) struct Stage {
    runtime: Runtime,
    proxy: Arc<Proxy>,
    door: Arc<Door<Proxy>>,
    script: Arc<Mutex<Script>>,
}

// After a failure nothing of it is used again.
impl RefUnwindSafe for Stage {}

impl Stage {
    /// A proxy with these lines in its upstream's block, and a listener of that role.
    pub(crate) fn new(role: &str, upstream: &str) -> Self {
        Self::speaking("http1", role, upstream)
    }

    /// The same with clients of that protocol.
    pub(crate) fn speaking(protocol: &str, role: &str, upstream: &str) -> Self {
        let text = format!(
            "service: fuzz\nruntime: {{ workers: 1 }}\naccess_log: {{ destination: off }}\n\
             listeners:\n  in: {{ address: 127.0.0.1:8080, role: {role}, protocol: {protocol}, upstream: u }}\n\
             upstreams:\n  u:\n    endpoints: [\"10.0.0.1:80\"]\n    {upstream}\n"
        );
        let plan = match config::parse("fuzz.yaml", &text, &|_| None) {
            Ok(loaded) => loaded.plan,
            Err(problems) => panic!("{problems}"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let dialer = Dialer::Memory(Arc::new({
            let script = Arc::clone(&script);
            move |_| {
                let (ours, theirs) = duplex(ROOM);
                tokio::spawn(serve(theirs, Arc::clone(&script)));
                Box::pin(async move { Ok(Box::new(ours) as Box<dyn Pipe>) })
            }
        }));
        let listener = plan.listeners[0].clone();
        let settings = listener_settings(&listener);
        let entered = runtime.enter();
        let proxy = Proxy::new(plan, Arc::new(Telemetry::default()), dialer);
        drop(entered);
        let door = Door::new(listener.name, listener.role, settings, Arc::clone(&proxy));
        Self {
            runtime,
            proxy,
            door,
            script,
        }
    }

    /// Sends a client's bytes in such parts, then the end of its side; gives all that came back, and what
    /// the endpoint saw. Nothing may be left of it afterwards.
    pub(crate) fn run(&self, bytes: &[u8], letter: u8, plays: Vec<Play>) -> (Vec<u8>, Seen) {
        // Chance is the same in each run.
        fastrand::seed(1);
        self.runtime.block_on(async {
            self.script.lock().next = plays.into();
            let (client, theirs) = duplex(ROOM);
            let door = Arc::clone(&self.door);
            let served =
                tokio::spawn(async move { connection::serve(theirs, &door, None, 0).await });
            let (mut reading, mut writing) = tokio::io::split(client);
            let send = async {
                for part in text::split(bytes, letter) {
                    if writing.write_all(part).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                let _ = writing.shutdown().await;
            };
            let mut back = Vec::new();
            let ((), read) = tokio::join!(send, reading.read_to_end(&mut back));
            read.unwrap();
            served.await.unwrap();
            // By now the connection to the endpoint has been idle for too long.
            tokio::time::sleep(Duration::from_secs(20)).await;
            self.assert_nothing_left();
            (back, std::mem::take(&mut self.script.lock().seen))
        })
    }

    fn assert_nothing_left(&self) {
        assert_eq!(self.door.open(), 0, "clients' connections left");
        let site = self.proxy.site();
        let upstream = site.snapshot.upstream("u").unwrap();
        let seats = upstream.seats();
        assert_eq!((seats.in_flight(), seats.queued()), (0, 0), "seats left");
        let slots = upstream.slots();
        assert_eq!(slots.open(), slots.idle(), "connections in use");
        for reading in upstream.roster().readings(None, mamparo::clock::now()) {
            assert_eq!(reading.in_flight, 0, "tries left");
        }
        assert_eq!(self.proxy.memory().used(), 0, "bytes kept");
    }
}

/// Plays the endpoint's part on one connection.
async fn serve(mut io: DuplexStream, script: Arc<Mutex<Script>>) {
    let mut bytes = Vec::new();
    loop {
        // What is played is what the script says when a request comes.
        let mut first = [0];
        if bytes.is_empty() {
            match io.read(&mut first).await {
                Ok(1) => bytes.push(first[0]),
                _ => return,
            }
        }
        let play = script.lock().next.front().cloned();
        let limit = match &play {
            Some(Play::Drop(limit)) => *limit,
            Some(Play::Answer(_) | Play::Last(..)) | None => usize::MAX,
        };
        let Some(used) = read_request(&mut io, &mut bytes, limit, &script).await else {
            return;
        };
        bytes.drain(..used);
        script.lock().next.pop_front();
        match play {
            None => {
                let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if io.write_all(ok).await.is_err() {
                    return;
                }
            }
            Some(Play::Answer(answer)) => {
                if io.write_all(&answer).await.is_err() {
                    return;
                }
            }
            Some(Play::Last(answer, letter)) => {
                for part in text::split(&answer, letter) {
                    if io.write_all(part).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                return;
            }
            Some(Play::Drop(_)) => return,
        }
    }
}

/// Reads up to the end of a request, and gives its length; `None`: it did not come to its end, or has come
/// to the limit before.
async fn read_request(
    io: &mut DuplexStream,
    bytes: &mut Vec<u8>,
    limit: usize,
    script: &Mutex<Script>,
) -> Option<usize> {
    let mut asked = false;
    loop {
        let begin = strict::request(bytes);
        if let Begin::Part(Some(head)) = &begin
            && head.has("expect")
            && !asked
        {
            asked = true;
            io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        match begin {
            Begin::Whole(message, used) if bytes.len() <= limit => {
                script.lock().seen.whole.push(*message);
                return Some(used);
            }
            Begin::Wrong(why) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                script.lock().seen.wrong.push((why, text));
                return None;
            }
            Begin::Whole(..) | Begin::Part(_) => {}
        }
        let mut some = [0; 4096];
        let room = some.len().min(limit.saturating_sub(bytes.len()));
        let read = match room {
            0 => 0,
            room => io.read(&mut some[..room]).await.unwrap_or(0),
        };
        if read == 0 {
            if let Begin::Part(Some(part)) = strict::request(bytes) {
                script.lock().seen.parts.push(*part);
            }
            if room == 0 {
                script.lock().next.pop_front();
            }
            return None;
        }
        bytes.extend_from_slice(&some[..read]);
    }
}
