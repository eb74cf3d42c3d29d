//! What needs real sockets: workers, the accept loop, resets, and closing without losing an answer.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use mamparo::clock;
use mamparo::server::door::Door;
use mamparo::server::limit::ConnectionLimit;
use mamparo::server::listener::{Bound, Listener};
use mamparo::server::worker::Workers;
use tokio::runtime::Runtime;

use crate::fake::{Fake, door, get, settings};

/// A listener before two workers, with a control runtime of its own.
struct Running {
    control: Runtime,
    workers: Arc<Workers>,
    door: Arc<Door<Fake>>,
    limit: Arc<ConnectionLimit>,
    address: SocketAddr,
    listener: Option<Listener>,
}

impl Running {
    fn start(max_connections: usize) -> Self {
        let control = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let workers = Arc::new(Workers::start(2).unwrap());
        let door = door(settings());
        let limit = ConnectionLimit::new(max_connections);
        let bound =
            Bound::bind("in".into(), &SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = bound.address().ip().unwrap();
        let listener = control
            .block_on(async { bound.serve(&door, &workers, &limit) })
            .unwrap();
        Self {
            control,
            workers,
            door,
            limit,
            address,
            listener: Some(listener),
        }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket
    }

    fn fake(&self) -> &Arc<Fake> {
        self.door.handler()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        assert!(
            self.workers.shutdown(Duration::from_secs(10)),
            "a worker hangs"
        );
        assert_eq!((self.door.open(), self.limit.open()), (0, 0));
        assert_eq!(self.workers.connections(), [0, 0]);
    }
}

/// Waits until it holds; the tests' only way to wait for other threads.
fn until(what: &str, holds: impl Fn() -> bool) {
    let began = clock::now();
    while !holds() {
        assert!(
            clock::now() - began < Duration::from_secs(10),
            "{what} does not come"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn answer(socket: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let some = socket.read(&mut buffer).unwrap();
    String::from_utf8(buffer[..some].to_vec()).unwrap()
}

fn ask(socket: &mut TcpStream, path: &str) -> String {
    socket.write_all(get(path).as_bytes()).unwrap();
    answer(socket)
}

#[test]
fn connections_go_to_the_worker_with_the_fewest() {
    let running = Running::start(100);
    let mut sockets: Vec<_> = (0..8).map(|_| running.connect()).collect();
    for socket in &mut sockets {
        assert!(ask(socket, "/").ends_with("answer to /"));
    }
    assert_eq!(running.workers.connections(), [4, 4]);
    // An end on one side is made up for by the next ones.
    sockets.drain(..3);
    until("the end", || running.door.open() == 5);
    let mut more: Vec<_> = (0..3).map(|_| running.connect()).collect();
    for socket in &mut more {
        ask(socket, "/");
    }
    assert_eq!(running.workers.connections(), [4, 4]);
    assert!(running.workers.tasks().iter().all(|tasks| *tasks >= 4));
}

#[test]
fn fault_042_at_the_limit_new_connections_wait() {
    let running = Running::start(2);
    let (mut first, mut second) = (running.connect(), running.connect());
    ask(&mut first, "/");
    ask(&mut second, "/");
    let mut third = running.connect();
    third.write_all(get("/third").as_bytes()).unwrap();
    third
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    assert!(third.read(&mut [0; 1]).is_err(), "it waits");
    assert_eq!((running.limit.open(), running.door.open()), (2, 2));
    drop(first);
    third
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert!(answer(&mut third).ends_with("answer to /third"));
}

#[test]
fn fault_041_a_reset_ends_the_work_at_once() {
    let running = Running::start(100);
    let mut socket = running.connect();
    socket.write_all(get("/never").as_bytes()).unwrap();
    until("the request", || running.fake().serving.load(SeqCst) == 1);
    socket2::SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
    until("the end of the work", || {
        running.fake().serving.load(SeqCst) == 0
    });
    until("the end", || running.door.open() == 0);
}

#[test]
fn fault_041_and_043_a_close_ends_the_work_and_a_half_close_does_not() {
    let running = Running::start(100);
    let mut half = running.connect();
    half.write_all(get("/release").as_bytes()).unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    let mut gone = running.connect();
    gone.write_all(get("/never").as_bytes()).unwrap();
    until("the requests", || running.fake().serving.load(SeqCst) == 2);
    std::thread::sleep(Duration::from_millis(50));
    drop(gone);
    until("the end of the work", || {
        running.fake().serving.load(SeqCst) == 1
    });
    running.fake().release.notify_one();
    let mut rest = String::new();
    half.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("answer to /release"));
}

#[test]
fn a_refusal_and_an_early_answer_survive_what_the_client_goes_on_sending() {
    let running = Running::start(100);
    for head in [
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 40000\r\n\r\n",
    ] {
        let mut socket = running.connect();
        socket.write_all(head.as_bytes()).unwrap();
        for _ in 0..20 {
            socket.write_all(&[b'x'; 2000]).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut rest = String::new();
        socket.read_to_string(&mut rest).unwrap();
        assert!(rest.starts_with("HTTP/1.1 "), "{head}: {rest}");
    }
    until("the end", || running.door.open() == 0);
}

#[test]
fn a_broken_answer_to_an_old_client_is_a_reset() {
    let running = Running::start(100);
    let mut socket = running.connect();
    socket.write_all(b"GET /broken HTTP/1.0\r\n\r\n").unwrap();
    let error = socket
        .read_to_end(&mut Vec::new())
        .expect_err("no clean end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_closed_listener_gives_its_address_free_and_leaves_connections_alone() {
    let mut running = Running::start(100);
    let mut socket = running.connect();
    ask(&mut socket, "/");
    let listener = running.listener.take().unwrap();
    running.control.block_on(listener.close());
    assert!(TcpStream::connect(running.address).is_err());
    assert!(ask(&mut socket, "/still").ends_with("answer to /still"));
    let again = Bound::bind("in".into(), &running.address.into()).unwrap();
    let listener = running
        .control
        .block_on(async { again.serve(&running.door, &running.workers, &running.limit) });
    let mut other = running.connect();
    assert!(ask(&mut other, "/").ends_with("answer to /"));
    running.listener = Some(listener.unwrap());
}

#[test]
fn a_drain_over_sockets_ends_with_a_clean_close() {
    let running = Running::start(100);
    let (mut idle, mut busy) = (running.connect(), running.connect());
    ask(&mut idle, "/");
    busy.write_all(get("/release").as_bytes()).unwrap();
    until("the request", || running.fake().serving.load(SeqCst) == 1);
    let door = Arc::clone(&running.door);
    let drain = running
        .control
        .spawn(async move { door.drain(Duration::from_secs(10)).await });
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    running.fake().release.notify_one();
    let mut rest = String::new();
    busy.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("connection: close") && rest.ends_with("answer to /release"));
    drop(busy);
    assert_eq!(running.control.block_on(drain).unwrap(), 0);
}

/// Counts the lines of the log that contain a word.
#[derive(Clone, Default)]
struct Lines(Arc<parking_lot::Mutex<String>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Run by [`fault_070_without_file_descriptors_accepting_pauses`] in a process with few of them.
#[test]
#[ignore = "needs a process with 64 file descriptors"]
fn without_file_descriptors() {
    let mut stat = File::open("/proc/self/stat").unwrap();
    let log = Lines::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .init();
    let running = Running::start(1000);
    let mut first = running.connect();
    ask(&mut first, "/");
    // Each connection takes two descriptors, until there are none.
    let mut held = Vec::new();
    while let Ok(socket) = TcpStream::connect(running.address) {
        held.push(socket);
    }
    let told = || log.0.lock().matches("cannot accept connections").count();
    until("the end of descriptors", || told() > 0);
    let used = cpu_time(&mut stat);
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(50));
        assert!(ask(&mut first, "/first").ends_with("answer to /first"));
    }
    let used = cpu_time(&mut stat) - used;
    assert!(
        used <= 8,
        "a busy loop: {used} hundredths of a second of 50"
    );
    assert_eq!(told(), 1, "{}", log.0.lock());
    drop(held);
    until("the end of the others", || running.door.open() == 1);
    until("the good news", || {
        assert!(ask(&mut running.connect(), "/").ends_with("answer to /"));
        log.0.lock().contains("again")
    });
}

/// Hundredths of a second that this process has used; proc(5), fields 14 and 15 of stat.
fn cpu_time(stat: &mut File) -> u64 {
    let mut text = String::new();
    stat.rewind().unwrap();
    stat.read_to_string(&mut text).unwrap();
    let fields = text.rsplit(") ").next().unwrap().split(' ');
    fields
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum()
}

#[test]
fn fault_070_without_file_descriptors_accepting_pauses() {
    let this = std::env::current_exe().unwrap();
    let run = "ulimit -n 64 && exec \"$0\" --exact --ignored --nocapture sockets::without_file_descriptors";
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(run)
        .arg(this)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
