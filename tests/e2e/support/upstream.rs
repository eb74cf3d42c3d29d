//! A server that does what its script says, request by request, and remembers what it saw. A thread
//! for each connection.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::acceptor::Acceptor;
use super::message::{Body, Head, Received};
use super::reply::{At, End, Reply, Wait};
use super::wait::eventually;

/// A running server. Dropped, it closes everything.
pub(crate) struct Upstream {
    acceptor: Acceptor,
    shared: Arc<Shared>,
}

struct Shared {
    script: Script,
    /// Requests whose act has been taken from the script.
    taken: AtomicUsize,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
}

type Decide = dyn Fn(usize, &Received) -> Reply + Send + Sync;

enum Script {
    /// Request by request; the last one for all that follow.
    List(Vec<Reply>),
    With(Box<Decide>),
}

impl Upstream {
    /// Acts by a list, request by request over all connections; the last act is for all that follow.
    pub(crate) fn script<R: Into<Reply>>(script: impl IntoIterator<Item = R>) -> Self {
        Self::script_at("127.0.0.1:0", script)
    }

    /// The same on a fixed address.
    pub(crate) fn script_at<R: Into<Reply>>(
        address: &str,
        script: impl IntoIterator<Item = R>,
    ) -> Self {
        let list: Vec<Reply> = script.into_iter().map(Into::into).collect();
        assert!(!list.is_empty(), "a script has at least one act");
        Self::start(address, Script::List(list))
    }

    /// Does the same for every request.
    pub(crate) fn always(reply: impl Into<Reply>) -> Self {
        Self::script([reply.into()])
    }

    /// Answers with what it received.
    pub(crate) fn echo() -> Self {
        Self::always(Reply::echo())
    }

    /// Decides by the number of the request, from 0, and by its head.
    pub(crate) fn with(decide: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start("127.0.0.1:0", Script::With(Box::new(decide)))
    }

    fn start(address: &str, script: Script) -> Self {
        let shared = Arc::new(Shared {
            script,
            taken: AtomicUsize::new(0),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            streams: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let to = Arc::clone(&shared);
        let acceptor = Acceptor::start(address, move |stream| to.take(stream));
        Self { acceptor, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }

    /// Requests whose head was received, complete or not.
    pub(crate) fn count(&self) -> usize {
        self.shared.received().len()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Connections that are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    /// The requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received().clone()
    }

    /// The last request.
    #[track_caller]
    pub(crate) fn last(&self) -> Received {
        self.received().pop().expect("a request was received")
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub(crate) fn wait_for(&self, requests: usize) {
        eventually("the upstream received the request", || {
            self.count() >= requests
        });
    }

    /// Closes every connection that is open now, without a word.
    pub(crate) fn close_connections(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends it; the address is free again.
    pub(crate) fn stop(self) -> SocketAddr {
        self.address()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, SeqCst);
        self.acceptor.stop();
        self.close_connections();
    }
}

impl Shared {
    fn received(&self) -> MutexGuard<'_, Vec<Received>> {
        self.received.lock().unwrap()
    }

    /// Counts a connection, and serves it.
    fn take(self: &Arc<Self>, stream: TcpStream) -> impl FnOnce() + Send + use<> {
        let shared = Arc::clone(self);
        let number = shared.connections.fetch_add(1, SeqCst);
        shared.open.fetch_add(1, SeqCst);
        if let Ok(stream) = stream.try_clone() {
            shared.streams.lock().unwrap().push(stream);
        }
        move || {
            let end = serve(&stream, number, &shared).unwrap_or(End::Close);
            if end == End::Reset {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                forget(&shared, &stream);
                drop(stream);
            } else {
                let _ = stream.shutdown(Shutdown::Both);
                forget(&shared, &stream);
            }
            shared.open.fetch_sub(1, SeqCst);
        }
    }

    /// The next act, if it does not wait for a request.
    fn act_on_accept(&self) -> Option<Reply> {
        let Script::List(list) = &self.script else {
            return None;
        };
        let next = self.taken.load(SeqCst).min(list.len() - 1);
        if list[next].at != At::Accepted {
            return None;
        }
        self.taken.fetch_add(1, SeqCst);
        Some(list[next].clone())
    }

    fn act_on(&self, received: &Received) -> Reply {
        let number = self.taken.fetch_add(1, SeqCst);
        match &self.script {
            Script::List(list) => list[number.min(list.len() - 1)].clone(),
            Script::With(decide) => decide(number, received),
        }
    }
}

/// Drops the other handle of the stream, so that dropping this one ends the connection.
fn forget(shared: &Shared, stream: &TcpStream) {
    let peer = stream.peer_addr().ok();
    let mut streams = shared.streams.lock().unwrap();
    streams.retain(|one| peer.is_some() && one.peer_addr().ok() != peer);
}

/// Serves one connection to its end.
fn serve(stream: &TcpStream, number: usize, shared: &Shared) -> io::Result<End> {
    if let Some(act) = shared.act_on_accept() {
        return act_out(&act, stream, &Received::default(), shared);
    }
    let mut reader = BufReader::new(stream);
    while let Some(head) = Head::read(&mut reader)? {
        let mut received = Received::new(head, number);
        let framing = received.framing();
        let act = shared.act_on(&received);
        let index = {
            let mut all = shared.received();
            all.push(received.clone());
            all.len() - 1
        };
        if act.at == At::Request {
            read_body(&mut reader, &mut received, framing, shared, index);
            if !received.complete {
                return Ok(End::Close);
            }
        }
        match act_out(&act, stream, &received, shared)? {
            End::Keep => (),
            end @ (End::Close | End::Reset | End::Stall) => return Ok(end),
        }
        if act.at == At::Head {
            read_body(&mut reader, &mut received, framing, shared, index);
            if !received.complete {
                return Ok(End::Close);
            }
        }
    }
    Ok(End::Close)
}

fn read_body(
    reader: &mut BufReader<&TcpStream>,
    received: &mut Received,
    framing: super::message::Framing,
    shared: &Shared,
    index: usize,
) {
    let body = Body::read(reader, framing);
    received.body = body.bytes;
    received.trailers = body.trailers;
    received.complete = body.complete;
    shared.received()[index] = received.clone();
}

fn act_out(
    act: &Reply,
    mut stream: &TcpStream,
    received: &Received,
    shared: &Shared,
) -> io::Result<End> {
    for wait in &act.waits {
        match wait {
            Wait::Time(time) => std::thread::sleep(*time),
            Wait::Gate(gate) => {
                while !gate.is_open() && !shared.stopping.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
    let bytes = act.bytes(received);
    match act.drip {
        None => stream.write_all(&bytes)?,
        Some(pause) => {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            let head = end.filter(|_| act.whole_head).map_or(0, |end| end + 4);
            stream.write_all(&bytes[..head])?;
            for byte in &bytes[head..] {
                stream.write_all(&[*byte])?;
                std::thread::sleep(pause);
            }
        }
    }
    if act.end == End::Stall {
        // Until the peer, or the end of the server, closes it.
        while stream.read(&mut [0; 1024])? > 0 {}
    }
    Ok(act.end)
}
