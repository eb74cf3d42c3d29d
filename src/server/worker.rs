//! The threads that serve connections. Each has a runtime of its own and no work is stolen between
//! them: a connection stays where it was put, with the worker that had the fewest.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::connection::{serve_entered, serve_redirected};
use super::door::{Door, Entered};
use super::handler::Handler;
use super::limit::Place;
use super::redirected::original_destination;
use super::socket::Accepted;
use super::tls;
use super::transport::Transport;
use crate::clock;

/// The worker threads.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    threads: Mutex<Threads>,
}

#[derive(Debug)]
struct Threads {
    running: Vec<Thread>,
    /// Gets a message from each thread that has ended.
    ended: mpsc::Receiver<()>,
}

#[derive(Debug)]
struct Thread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` threads, `worker-0` and on; at least one.
    ///
    /// # Errors
    /// The system gives no more threads or descriptors. Those that were started are stopped again.
    pub fn start(count: usize) -> io::Result<Self> {
        let (sender, ended) = mpsc::channel();
        let started = (0..count.max(1))
            .map(|index| start(index, sender.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        let (workers, running) = started.into_iter().unzip();
        Ok(Self {
            workers,
            threads: Mutex::new(Threads { running, ended }),
        })
    }

    /// The runtime of each worker, for work that belongs on its thread.
    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.workers.iter().map(|worker| &worker.handle)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// The tasks that are alive on each worker.
    pub fn tasks(&self) -> Vec<usize> {
        let alive = |handle: &Handle| handle.metrics().num_alive_tasks();
        self.handles().map(alive).collect()
    }

    /// The open connections from clients of each worker.
    pub fn connections(&self) -> Vec<usize> {
        let open = |worker: &Worker| worker.connections.load(SeqCst);
        self.workers.iter().map(open).collect()
    }

    /// Gives a connection, in non-blocking mode, to the worker with the fewest. It counts at once,
    /// for the worker and for the door, until it has ended. `place` is kept as long.
    pub fn hand<H: Handler>(&self, socket: Accepted, door: &Arc<Door<H>>, place: Option<Place>) {
        let fewest = self
            .workers
            .iter()
            .enumerate()
            .min_by_key(|(_, worker)| worker.connections.load(SeqCst));
        let Some((index, worker)) = fewest else {
            return;
        };
        let counted = Counted::new(&worker.connections);
        let entered = door.enter();
        worker.handle.spawn(async move {
            let _held = (counted, place);
            if let Err(error) = serve(socket, entered, index).await {
                tracing::warn!("connection dropped: {error}");
            }
        });
    }

    /// Stops the threads; what still runs on them is dropped. Waits for them, together at most
    /// `bound`, and gives whether all have ended. To be called from another thread than theirs.
    pub fn shutdown(&self, bound: Duration) -> bool {
        let deadline = clock::now() + bound;
        let mut threads = self.threads.lock();
        let mut stopped = Vec::with_capacity(self.workers.len());
        for Thread { stop, thread } in threads.running.drain(..) {
            // A thread that has ended by itself does not listen any more.
            let _ = stop.send(());
            stopped.push(thread);
        }
        for _ in &stopped {
            let left = deadline.saturating_duration_since(clock::now());
            if threads.ended.recv_timeout(left).is_err() {
                return false;
            }
        }
        stopped.into_iter().all(|thread| thread.join().is_ok())
    }
}

async fn serve<H: Handler>(socket: Accepted, door: Entered<H>, worker: usize) -> io::Result<()> {
    match socket {
        Accepted::Tcp(socket, peer) => {
            let socket = tokio::net::TcpStream::from_std(socket)?;
            // Without it a small answer waits for the client's acknowledgement.
            let _ = socket.set_nodelay(true);
            // What comes under TLS is for us, whoever it was sent to.
            let redirected = door.settings().redirected.is_some() && door.tls().is_none();
            match redirected.then(|| original_destination(&socket)).flatten() {
                Some(to) => serve_redirected(socket, door, peer, to, worker).await,
                None => begin(socket, door, Some(peer), worker).await,
            }
        }
        Accepted::Unix(socket) => {
            let socket = tokio::net::UnixStream::from_std(socket)?;
            begin(socket, door, None, worker).await;
        }
    }
    Ok(())
}

async fn begin<IO: Transport, H: Handler>(
    io: IO,
    door: Entered<H>,
    peer: Option<SocketAddr>,
    worker: usize,
) {
    match door.tls() {
        None => serve_entered(io, door, peer, worker).await,
        // Boxed: plain connections need not have room for it.
        Some(server) => Box::pin(tls::serve_entered(io, &server, door, peer, worker)).await,
    }
}

/// Tasks that run before it is looked for what has come: as many as make groups of what is sent, see
/// [`crate::live::group`].
const EVENT_INTERVAL: u32 = 256;

fn start(index: usize, ended: mpsc::Sender<()>) -> io::Result<(Worker, Thread)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(EVENT_INTERVAL)
        .build()?;
    let worker = Worker {
        handle: runtime.handle().clone(),
        connections: Arc::default(),
    };
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let _told = Ended(ended);
            // Also ends when the sender is dropped.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
    Ok((worker, Thread { stop, thread }))
}

/// Tells that its thread has ended, even by a panic.
struct Ended(mpsc::Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// One open connection of a worker; counted until dropped, whatever ends its task.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, SeqCst);
        Self(Arc::clone(connections))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_task_leaves_its_worker_alive() {
        let workers = Workers::start(2).expect("threads");
        let handle = workers.handles().next().expect("a worker");
        drop(handle.spawn(async { panic!("on purpose") }));
        let name = handle.spawn(async { std::thread::current().name().map(str::to_owned) });
        let (sender, receiver) = mpsc::channel();
        handle.spawn(async move { sender.send(name.await.expect("no panic")) });
        assert_eq!(receiver.recv().expect("alive").as_deref(), Some("worker-0"));
        assert_eq!(workers.connections(), [0, 0]);
        assert!(workers.shutdown(Duration::from_secs(5)));
    }

    #[test]
    fn a_worker_that_hangs_does_not_hold_up_the_end() {
        let workers = Workers::start(1).expect("threads");
        let (release, held) = mpsc::channel::<()>();
        let (sender, runs) = mpsc::channel();
        let handle = workers.handles().next().expect("a worker");
        handle.spawn(async move {
            let _ = sender.send(());
            held.recv()
        });
        runs.recv().expect("it runs");
        assert!(!workers.shutdown(Duration::from_millis(50)));
        drop(release);
    }
}
