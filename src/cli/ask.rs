//! The client of the admin interface, for the commands that look at a process that runs. One question, one
//! answer, within a time, over the network or a socket in the file system. No runtime is started for it:
//! a probe is run every few seconds, and should cost no more than it must.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::clock;
use crate::config::ADMIN_ADDRESS;
use crate::plan::address::UNIX_SCHEME;

/// Where the admin interface is, unless somebody says otherwise.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9901";

/// Bytes of an answer: more than the status of ten thousand endpoints.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// How long a question may take at most: no clock counts to what can be written.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Fields that the head of an answer may have.
const MAX_FIELDS: usize = 64;

/// Which process is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct AdminArgs {
    /// The admin interface of the process: HOST:PORT, or unix:/PATH
    #[arg(long, env = ADMIN_ADDRESS, value_name = "ADDRESS", default_value = DEFAULT_ADMIN)]
    pub admin: AdminAddress,
}

/// Where an admin interface is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// On the network: an address or a name, and a port.
    Network(String),
    /// In the file system.
    Unix(PathBuf),
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix(UNIX_SCHEME) {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!(
                    "the path of a socket is absolute, such as {UNIX_SCHEME}/run/mamparo/admin.sock"
                ))
            };
        }
        // As it is copied from a browser.
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        match bare
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()))
        {
            Some((host, Ok(1..))) if !host.is_empty() && !host.contains('/') => {
                Ok(Self::Network(bare.to_owned()))
            }
            Some((_, Ok(0))) => Err(
                "port 0 stands for any port: name the one that was chosen, which \
                                     is in the log at 'admin listening'"
                    .to_owned(),
            ),
            Some(_) | None => Err(format!(
                "write it as HOST:PORT, such as {DEFAULT_ADMIN}, or as {UNIX_SCHEME}/PATH"
            )),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "{UNIX_SCHEME}{}", path.display()),
        }
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body; what is no UTF-8 in it is replaced.
    pub body: String,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The connection could not be made.
    #[error(
        "nobody answers at {admin}: {source}; is mamparo running, and is this its admin.address? \
         Name another with --admin or {ADMIN_ADDRESS}"
    )]
    Unreachable {
        /// Who was asked.
        admin: AdminAddress,
        /// What the system says.
        source: io::Error,
    },
    /// The time was over first.
    #[error(
        "no answer from {admin} within {within:?}: it is overloaded or stopped, or it is not mamparo"
    )]
    TooSlow {
        /// Who was asked.
        admin: AdminAddress,
        /// How long it had.
        within: Duration,
    },
    /// The connection broke, or what came is no answer.
    #[error(
        "no answer from {admin}: {why}; is this its admin.address, and not that of a listener?"
    )]
    Broken {
        /// Who was asked.
        admin: AdminAddress,
        /// What is wrong with it.
        why: String,
    },
}

/// Asks the admin interface one thing and waits for the whole answer.
///
/// `method` and `path` are sent as they are; `accept` is the kind of content that is wanted, where it
/// matters. `within` bounds everything, from looking up the name to the last byte.
///
/// # Errors
/// Why there is no answer, for whoever typed the command. An answer with a status that is no success is
/// no error.
pub fn ask(
    admin: &AdminAddress,
    method: &str,
    path: &str,
    accept: Option<&str>,
    within: Duration,
) -> Result<Reply, AskError> {
    let within = within.min(LONGEST);
    let time = Time {
        end: clock::now() + within,
    };
    let explained = |source: io::Error, broken: fn(&AdminAddress, io::Error) -> AskError| {
        if matches!(source.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) {
            let admin = admin.clone();
            AskError::TooSlow { admin, within }
        } else {
            broken(admin, source)
        }
    };
    let socket = connect(admin, &time).map_err(|source| {
        explained(source, |admin, source| AskError::Unreachable {
            admin: admin.clone(),
            source,
        })
    })?;
    // Of the first version: the answer then ends with the connection, and is never in chunks.
    let accept = accept.map_or_else(String::new, |kind| format!("accept: {kind}\r\n"));
    let length = if matches!(method, "GET" | "HEAD") {
        ""
    } else {
        "content-length: 0\r\n"
    };
    let question = format!("{method} {path} HTTP/1.0\r\nhost: localhost\r\n{accept}{length}\r\n");
    let answer = exchange(&socket, question.as_bytes(), &time).map_err(|source| {
        explained(source, |admin, source| AskError::Broken {
            admin: admin.clone(),
            why: source.to_string(),
        })
    })?;
    read(&answer).map_err(|why| AskError::Broken {
        admin: admin.clone(),
        why,
    })
}

/// The time that a question has.
struct Time {
    end: Instant,
}

impl Time {
    /// What is left of it.
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

fn connect(admin: &AdminAddress, time: &Time) -> io::Result<Socket> {
    let addresses = match admin {
        AdminAddress::Unix(path) => return connect_to(Domain::UNIX, &SockAddr::unix(path)?, time),
        AdminAddress::Network(address) => looked_up(address, time)?,
    };
    let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match connect_to(Domain::for_address(address), &address.into(), time) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// What a name stands for. The system's search for it knows no bound, so it runs on a thread of its own,
/// which is left alone when the time is over.
fn looked_up(address: &str, time: &Time) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let address = address.to_owned();
    in_time(time, move || Ok(address.to_socket_addrs()?.collect()))
}

/// What this gives, if it does so in time.
fn in_time<T: Send + 'static>(
    time: &Time,
    give: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (given, taken) = mpsc::sync_channel(1);
    thread::Builder::new().spawn(move || given.send(give()))?;
    taken
        .recv_timeout(time.left()?)
        .unwrap_or_else(|_late| Err(ErrorKind::TimedOut.into()))
}

fn connect_to(domain: Domain, address: &SockAddr, time: &Time) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.connect_timeout(address, time.left()?)?;
    Ok(socket)
}

/// Sends the question and reads to the end of the connection.
fn exchange(mut socket: &Socket, question: &[u8], time: &Time) -> io::Result<Vec<u8>> {
    socket.set_write_timeout(Some(time.left()?))?;
    socket.write_all(question)?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        socket.set_read_timeout(Some(time.left()?))?;
        match socket.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() as u64 > MAX_ANSWER {
            return Err(io::Error::other("the answer is longer than 64 MiB"));
        }
    }
}

/// Reads a whole answer, or says what is wrong with it.
fn read(answer: &[u8]) -> Result<Reply, String> {
    if answer.is_empty() {
        return Err("the connection was closed at once".into());
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = head.parse(answer) else {
        return Err("what came back is no HTTP".into());
    };
    let status = head.code.unwrap_or_default();
    let body = &answer[length..];
    let announced = head
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"))
        .and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
    if let Some(announced) = announced.filter(|announced| *announced > body.len()) {
        return Err(format!(
            "the answer broke off after {} of {announced} bytes",
            body.len()
        ));
    }
    Ok(Reply {
        status,
        body: String::from_utf8_lossy(body).into_owned(),
    })
}

#[cfg(test)]
mod tests;
