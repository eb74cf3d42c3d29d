//! A load that keeps its pace whatever the answers do, so that a slow answer is not measured once only.
//!
//! `steady ADDRESS PATH RATE CONNECTIONS SECONDS` sends RATE requests each second, evenly spaced, over so
//! many connections. Each request has a time at which it is due. It goes out then if a connection is free,
//! else as soon as one is; its latency counts from when it was due. (A load that waits for an answer
//! before it sends the next request leaves out those that would have had to wait: coordinated omission.)
//! The result is one line of JSON.
//!
//! One thread polls the sockets without ever sleeping: it needs a core of its own, and knows the time of
//! each answer to a few microseconds, which no timer of the system does.

#![allow(clippy::disallowed_methods, reason = "a load has a clock of its own")]

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long answers may still come after the last request was due.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, rate, connections, seconds] = arguments.as_slice() else {
        return Err("usage: steady ADDRESS PATH RATE CONNECTIONS SECONDS".into());
    };
    let mut load = Load::new(address.parse()?, path, connections.parse()?)?;
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    load.run(rate, (rate * seconds) as usize)?;
    println!("{}", load.result());
    Ok(())
}

/// One connection; it has at most one request under way.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    due: Instant,
}

impl Connection {
    /// Takes what has come; whether the answer is complete. Any status but 200 is an error.
    fn answered(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        self.received.extend_from_slice(&buffer[..count]);
        let Some(size) = answer_size(&self.received)? else {
            return Ok(false);
        };
        if self.received.len() > size {
            return Err(io::Error::other("more came than was asked for"));
        }
        let complete = self.received.len() == size;
        if complete {
            self.received.clear();
        }
        Ok(complete)
    }
}

/// Bytes of an answer with a length, head and body; none where its head is not complete yet.
fn answer_size(received: &[u8]) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(received).map_err(io::Error::other)? else {
        return Ok(None);
    };
    if answer.code != Some(200) {
        return Err(io::Error::other(format!("an answer of {:?}", answer.code)));
    }
    let length = answer
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| {
            std::str::from_utf8(header.value)
                .ok()?
                .parse::<usize>()
                .ok()
        });
    match length {
        Some(length) => Ok(Some(head + length)),
        None => Err(io::Error::other("an answer without a length")),
    }
}

/// The load and what it has measured.
#[derive(Debug)]
struct Load {
    connections: Vec<Connection>,
    request: Vec<u8>,
    /// From when a request was due to when its answer was complete.
    latencies: Vec<Duration>,
    /// From when a request was due to when it was sent: no connection was free, or we were slow.
    late: Vec<Duration>,
    /// Requests that were due and could not be sent, or were not answered, until we lost patience.
    unanswered: usize,
}

impl Load {
    fn new(address: SocketAddr, path: &str, connections: usize) -> io::Result<Self> {
        let connect = || {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Connection {
                stream,
                received: Vec::new(),
                due: Instant::now(),
            })
        };
        Ok(Self {
            connections: (0..connections)
                .map(|_| connect())
                .collect::<io::Result<_>>()?,
            request: format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes(),
            latencies: Vec::new(),
            late: Vec::new(),
            unanswered: 0,
        })
    }

    /// Sends `count` requests and waits for their answers.
    fn run(&mut self, rate: f64, count: usize) -> io::Result<()> {
        // The one that has been free the longest is used first, so that all are used alike.
        let mut free: VecDeque<usize> = (0..self.connections.len()).collect();
        let mut busy: Vec<usize> = Vec::new();
        let begin = Instant::now();
        let due = |number: usize| begin + Duration::from_secs_f64(number as f64 / rate);
        let end = due(count) + PATIENCE;
        let mut sent = 0;
        while self.latencies.len() < count {
            let mut now = Instant::now();
            if now > end {
                break;
            }
            while sent < count && due(sent) <= now {
                let Some(index) = free.pop_front() else {
                    break;
                };
                let connection = &mut self.connections[index];
                connection.due = due(sent);
                self.late.push(now - connection.due);
                // A request fits into the socket's buffer, or the machine is not fit for this.
                let written = connection.stream.write(&self.request)?;
                if written != self.request.len() {
                    return Err(io::Error::other("a request did not go out in one piece"));
                }
                busy.push(index);
                sent += 1;
                now = Instant::now();
            }
            self.collect(&mut busy, &mut free)?;
        }
        self.unanswered = count - self.latencies.len();
        Ok(())
    }

    /// Looks for answers on the connections that wait for one.
    fn collect(&mut self, busy: &mut Vec<usize>, free: &mut VecDeque<usize>) -> io::Result<()> {
        let mut place = 0;
        while let Some(&index) = busy.get(place) {
            let connection = &mut self.connections[index];
            if connection.answered()? {
                self.latencies.push(connection.due.elapsed());
                free.push_back(index);
                busy.swap_remove(place);
            } else {
                place += 1;
            }
        }
        Ok(())
    }

    /// What was measured, in microseconds.
    fn result(&mut self) -> serde_json::Value {
        self.latencies.sort_unstable();
        self.late.sort_unstable();
        serde_json::json!({
            "answered": self.latencies.len(),
            "unanswered": self.unanswered,
            "p50": percentile(&self.latencies, 0.50),
            "p99": percentile(&self.latencies, 0.99),
            "p999": percentile(&self.latencies, 0.999),
            "max": percentile(&self.latencies, 1.0),
            "late_p99": percentile(&self.late, 0.99),
        })
    }
}

/// The microseconds that so great a share of them does not exceed; none where there are none.
fn percentile(sorted: &[Duration], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = (last as f64 * share).round() as usize;
    sorted.get(place).map(|time| time.as_secs_f64() * 1e6)
}
