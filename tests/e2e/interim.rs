//! Interim answers (1xx) and `expect: 100-continue`. The test speaks for both the client and the
//! upstream, so that the order of what passes between them is certain.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::support::{Head, PATIENCE, Proxy};

/// An upstream that does nothing by itself.
struct Upstream(TcpListener);

impl Upstream {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    #[track_caller]
    fn accept(&self) -> Peer {
        let (stream, _) = self.0.accept().expect("a connection comes");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer(BufReader::new(stream))
    }
}

/// The proxy, seen from the upstream.
struct Peer(BufReader<TcpStream>);

impl Peer {
    #[track_caller]
    fn head(&mut self) -> Head {
        Head::read(&mut self.0).unwrap().expect("a request comes")
    }

    #[track_caller]
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nconnection: x-mine\r\n\
                     x-mine: 1\r\nkeep-alive: timeout=9\r\n\r\n";
const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

#[test]
fn fault_049_an_interim_answer_reaches_the_client_before_the_final_one_is_there() {
    let upstream = Upstream::new();
    let proxy = Proxy::to(&[upstream.address()], "");
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    let mut peer = upstream.accept();
    for number in 0..2 {
        if number > 0 {
            client.request("GET", "/", &[], b"");
        }
        peer.head();
        for _ in 0..2 {
            peer.send(HINTS);
            let head = client.head();
            assert_eq!(head.line, "HTTP/1.1 103 Early Hints");
            let link = ("link".to_owned(), "</a>; rel=preload".to_owned());
            assert_eq!(head.headers, [link], "only what is meant for the client");
        }
        peer.send(FINE);
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.interim.len()), ("fine", 0));
    }
}

#[test]
fn fault_049_interim_answers_that_come_with_the_final_one_stay_before_it() {
    let upstream = Upstream::new();
    let proxy = Proxy::to(&[upstream.address()], "");
    let mut client = proxy.client();
    client.request("GET", "/", &[], b"");
    let mut peer = upstream.accept();
    peer.head();
    peer.send([HINTS, HINTS, FINE].concat());
    let answer = client.answer();
    assert_eq!((answer.status, answer.interim), (200, vec![103, 103]));
    client.request("GET", "/", &[], b"");
    peer.head();
    peer.send(FINE);
    assert_eq!(client.answer().interim, [0; 0]);
}

#[test]
fn fault_049_http_1_0_knows_no_interim_answers() {
    let upstream = Upstream::new();
    let proxy = Proxy::to(&[upstream.address()], "");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let mut peer = upstream.accept();
    peer.head();
    peer.send(HINTS);
    peer.send(FINE);
    let answer = client.answer();
    assert_eq!((answer.status, answer.interim), (200, vec![]));
}
