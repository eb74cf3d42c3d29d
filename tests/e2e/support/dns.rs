//! A DNS server of a few lines: it says what it is told to, by UDP, and remembers what it was asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What is said of one name.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// Records with this time to live, in seconds.
    Found(u32, Vec<Record>),
    /// An answer without records, of this code: 0 the name is there, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    Code(u8),
    /// That, but only after so long; other names wait, too.
    Late(Duration, Box<Self>),
    /// No answer.
    Silence,
}

#[derive(Debug, Clone)]
pub(crate) enum Record {
    Address(IpAddr),
    /// Priority, weight, port, target.
    Service(u16, u16, u16, String),
}

impl Says {
    /// Addresses.
    pub(crate) fn found(ttl: u32, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|one| one.parse().unwrap());
        Self::Found(ttl, addresses.map(Record::Address).collect())
    }

    /// Targets: priority, weight, port, name.
    pub(crate) fn services(ttl: u32, services: &[(u16, u16, u16, &str)]) -> Self {
        let record = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            Record::Service(priority, weight, port, target.to_owned())
        };
        Self::Found(ttl, services.iter().map(record).collect())
    }
}

#[derive(Default)]
struct Shared {
    names: Mutex<HashMap<String, Says>>,
    asked: Mutex<Vec<(Instant, String, u16)>>,
    stopping: AtomicBool,
}

/// A running server. Names that it knows nothing of do not exist.
pub(crate) struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

impl DnsServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let wait = Duration::from_millis(50);
        socket.set_read_timeout(Some(wait)).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let to = Arc::clone(&shared);
        let serving = std::thread::spawn(move || serve(&socket, &to));
        Self {
            address,
            shared,
            serving: Some(serving),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is said of a name from now on.
    pub(crate) fn says(&self, name: &str, says: Says) {
        self.shared.names.lock().unwrap().insert(name.into(), says);
    }

    /// When it was asked for addresses of version 4 of a name, or for the record of that name.
    pub(crate) fn asked(&self, name: &str) -> Vec<Instant> {
        let asked = self.shared.asked.lock().unwrap();
        let same = asked.iter().filter(|one| one.1 == name && one.2 != AAAA);
        same.map(|one| one.0).collect()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, SeqCst);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut packet = [0; 1500];
    while !shared.stopping.load(SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else {
            continue;
        };
        let question = &packet[..length];
        let (name, end) = name_in(question);
        let what = u16::from_be_bytes([question[end], question[end + 1]]);
        let mut asked = shared.asked.lock().unwrap();
        asked.push((Instant::now(), name.clone(), what));
        drop(asked);
        let says = shared.names.lock().unwrap().get(&name).cloned();
        let says = match says {
            Some(Says::Late(after, says)) => {
                std::thread::sleep(after);
                Some(*says)
            }
            says => says,
        };
        let (code, ttl, records) = match says {
            None => (3, 0, vec![]),
            Some(Says::Code(code)) => (code, 0, vec![]),
            Some(Says::Found(ttl, records)) => (0, ttl, records),
            Some(Says::Silence | Says::Late(..)) => continue,
        };
        let records: Vec<(u16, Vec<u8>)> = records.iter().map(data).collect();
        let records: Vec<_> = records.iter().filter(|(kind, _)| *kind == what).collect();
        let mut answer = question[..2].to_vec();
        answer.extend([0x85, 0x80 | code, 0, 1, 0]);
        answer.push(u8::try_from(records.len()).unwrap());
        answer.extend([0, 0, 0, 0]);
        answer.extend(&question[12..end + 4]);
        for (kind, data) in records {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            answer.extend(data);
        }
        let _ = socket.send_to(&answer, from);
    }
}

/// The name of the question, in small letters, and where it ends.
fn name_in(question: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        let label = &question[at + 1..=at + length];
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length + 1;
    }
    (labels.join("."), at + 1)
}

fn data(record: &Record) -> (u16, Vec<u8>) {
    match record {
        Record::Address(IpAddr::V4(ip)) => (A, ip.octets().to_vec()),
        Record::Address(IpAddr::V6(ip)) => (AAAA, ip.octets().to_vec()),
        Record::Service(priority, weight, port, target) => {
            let numbers = [priority, weight, port].into_iter();
            let mut data: Vec<u8> = numbers.flat_map(|one| one.to_be_bytes()).collect();
            for label in target.split('.').filter(|label| !label.is_empty()) {
                data.push(u8::try_from(label.len()).unwrap());
                data.extend(label.as_bytes());
            }
            data.push(0);
            (SRV, data)
        }
    }
}
