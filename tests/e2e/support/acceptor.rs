//! A thread that accepts connections, each of which is served by a thread of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

/// Dropped, it accepts no more, and its address is free again.
pub(crate) struct Acceptor {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Listens there; `take` says how a connection is served.
    pub(crate) fn start<S: FnOnce() + Send + 'static>(
        address: &str,
        take: impl Fn(TcpStream) -> S + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().unwrap();
        let stopping = Arc::<AtomicBool>::default();
        let stop = Arc::clone(&stopping);
        let accepting = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stop.load(SeqCst) {
                    return;
                }
                let _ = stream.set_nodelay(true);
                std::thread::spawn(take(stream));
            }
        });
        Self {
            address,
            stopping,
            accepting: Some(accepting),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more.
    pub(crate) fn stop(&mut self) {
        self.stopping.store(true, SeqCst);
        if let Some(accepting) = self.accepting.take() {
            let _ = TcpStream::connect(self.address);
            let _ = accepting.join();
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop();
    }
}
