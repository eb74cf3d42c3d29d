//! Interim answers (1xx) and `expect: 100-continue`. The test speaks for both the client and the
//! upstream, so that the order of what passes between them is certain.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{Client, Head, Http2, PATIENCE, Proxy};

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

    #[track_caller]
    fn body(&mut self, length: usize) -> String {
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the body comes");
        String::from_utf8(body).unwrap()
    }

    /// Whether no byte comes within that time; an end may come.
    fn hears_nothing_for(&mut self, time: Duration) -> bool {
        self.0.get_ref().set_read_timeout(Some(time)).unwrap();
        let heard = self.0.read(&mut [0]);
        self.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        !matches!(heard, Ok(1..))
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

const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const EXPECTING: &str =
    "PUT /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
const SOON: Duration = Duration::from_millis(100);
const RETRY: &str = "retry: { on: [503], backoff: { base: 0s }, budget: off }";

/// An upstream, the proxy and a client that has asked whether it may send its body; and what the
/// upstream sees of it.
fn expecting(policies: &str) -> (Upstream, Proxy, Client, Peer) {
    let upstream = Upstream::new();
    let proxy = Proxy::to(&[upstream.address()], policies);
    let mut client = proxy.client();
    client.send(EXPECTING);
    let mut peer = upstream.accept();
    let head = peer.head();
    assert_eq!(head.header("expect").as_deref(), Some("100-continue"));
    (upstream, proxy, client, peer)
}

/// Rule 21.
#[test]
fn fault_022_the_upstream_decides_when_the_body_is_sent() {
    let (_upstream, _proxy, mut client, mut peer) = expecting("");
    assert!(
        client.hears_nothing_for(SOON),
        "nobody has said that it may"
    );
    peer.send(GO_ON);
    assert_eq!(client.head().line, "HTTP/1.1 100 Continue");
    assert!(peer.hears_nothing_for(SOON), "the body is not there yet");
    client.send("hello");
    assert_eq!(peer.body(5), "hello");
    peer.send(FINE);
    let answer = client.answer();
    assert_eq!((answer.text().as_str(), answer.interim.len()), ("fine", 0));
    // Both connections are good for another.
    client.send(EXPECTING);
    peer.head();
    peer.send(GO_ON);
    assert_eq!(client.head().line, "HTTP/1.1 100 Continue");
    peer.send(HINTS);
    assert_eq!(client.head().line, "HTTP/1.1 103 Early Hints");
    client.send("again");
    assert_eq!(peer.body(5), "again");
    peer.send(FINE);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn fault_022_a_final_answer_instead_comes_without_the_body_and_ends_the_connection() {
    let (_upstream, proxy, mut client, mut peer) = expecting("");
    peer.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (413, "no"));
    assert!(answer.interim.is_empty(), "its body was asked for");
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
    assert!(client.is_closed());
    assert!(peer.hears_nothing_for(SOON), "an empty body was sent");
    let line = proxy.only_line();
    assert_eq!(
        (&line["status"], &line["bytes_in"]),
        (&413.into(), &0.into())
    );
}

#[test]
fn fault_022_an_upstream_that_does_not_answer_the_question_gets_the_body_after_a_second() {
    let began = Instant::now();
    let (_upstream, _proxy, mut client, mut peer) = expecting("timeouts: { try: 300ms }");
    assert_eq!(client.head().line, "HTTP/1.1 100 Continue");
    assert!(began.elapsed() >= Duration::from_secs(1));
    client.send("hello");
    assert_eq!(peer.body(5), "hello", "the try's time counts from here");
    peer.send(FINE);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn fault_022_where_time_is_short_the_body_is_sent_in_time() {
    let (_upstream, _proxy, mut client, mut peer) = expecting("timeouts: { request: 950ms }");
    assert_eq!(client.head().line, "HTTP/1.1 100 Continue");
    client.send("hello");
    assert_eq!(peer.body(5), "hello");
    peer.send(FINE);
    assert_eq!(client.answer().status, 200);
}

/// A client may send its body without waiting; the upstream is asked still.
#[test]
fn fault_022_a_body_that_comes_unasked_waits_for_the_upstream() {
    let (_upstream, _proxy, mut client, mut peer) = expecting("");
    client.send("hello");
    assert!(peer.hears_nothing_for(SOON));
    peer.send(GO_ON);
    assert_eq!(peer.body(5), "hello");
    peer.send(FINE);
    let answer = client.answer();
    assert_eq!(answer.status, 200);
}

#[test]
fn fault_022_each_try_asks_again() {
    let (upstream, _proxy, mut client, mut peer) = expecting(RETRY);
    peer.send("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    // No byte of the body has moved, so that another try can be made even so.
    let mut peer = upstream.accept();
    let head = peer.head();
    assert_eq!(head.header("expect").as_deref(), Some("100-continue"));
    assert_eq!(head.header("x-mamparo-attempt").as_deref(), Some("2"));
    assert!(client.hears_nothing_for(SOON));
    peer.send(GO_ON);
    assert_eq!(client.head().line, "HTTP/1.1 100 Continue");
    client.send("hello");
    assert_eq!(peer.body(5), "hello");
    peer.send("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    // The body is kept now, and is not sent before this try was told to.
    peer.head();
    assert!(peer.hears_nothing_for(SOON));
    peer.send(GO_ON);
    assert_eq!(peer.body(5), "hello");
    peer.send(FINE);
    let answer = client.answer();
    assert_eq!((answer.status, answer.interim), (200, vec![]));
}

#[test]
fn fault_022_http_1_0_and_requests_without_a_body_ask_nothing() {
    for request in [
        "PUT /x HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nhello",
        "PUT /x HTTP/1.0\r\nhost: a\r\nexpect: miracles\r\ncontent-length: 5\r\n\r\nhello",
        "GET /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
    ] {
        let upstream = Upstream::new();
        let proxy = Proxy::to(&[upstream.address()], "");
        let mut client = proxy.client();
        client.send(request);
        let mut peer = upstream.accept();
        assert_eq!(peer.head().header("expect"), None, "{request}");
        peer.send(FINE);
        let answer = client.answer();
        assert_eq!((answer.status, answer.interim), (200, vec![]));
    }
}

#[test]
fn fault_022_and_049_clients_of_http_2_are_asked_and_told_alike() {
    let upstream = Upstream::new();
    let proxy = Proxy::to(&[upstream.address()], "");
    let mut client = Http2::connect(proxy.listener("outbound"));
    let mut asked = client.begin("POST", "/", &["expect: 100-continue"]);
    let mut peer = upstream.accept();
    let head = peer.head();
    assert_eq!(head.header("expect").as_deref(), Some("100-continue"));
    peer.send(HINTS);
    let hints = client.interim(&mut asked);
    assert_eq!((hints.status().as_u16(), hints.headers().len()), (103, 1));
    peer.send(GO_ON);
    assert_eq!(client.interim(&mut asked).status(), 100);
    asked.body.send_data("hello".into(), true).unwrap();
    assert_eq!(
        peer.body("5\r\nhello\r\n0\r\n\r\n".len()),
        "5\r\nhello\r\n0\r\n\r\n"
    );
    peer.send(FINE);
    assert_eq!(client.answer(asked).body, b"fine");
    // A refusal comes without the body.
    let asked = client.begin("POST", "/", &["expect: 100-continue"]);
    peer.head();
    peer.send("HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno");
    let answer = client.answer(asked);
    assert_eq!((answer.status, &*answer.body), (403, &b"no"[..]));
    assert_eq!(
        client
            .request("POST", "/", &["expect: miracles"], b"")
            .status,
        417
    );
}

/// HTTP/1.1 to one proxy, HTTP/2 to the next, and HTTP/1.1 again.
#[test]
fn fault_022_and_049_the_answers_pass_through_http_2() {
    let upstream = Upstream::new();
    let second = Proxy::to(&[upstream.address()], "");
    let first = Proxy::to(&[second.listener("outbound")], "protocol: http2");
    let mut client = first.client();
    client.send(EXPECTING);
    let mut peer = upstream.accept();
    for round in 0..2 {
        assert_eq!(
            peer.head().header("expect").as_deref(),
            Some("100-continue")
        );
        peer.send(HINTS);
        let head = client.head();
        assert_eq!(head.line, "HTTP/1.1 103 Early Hints");
        assert_eq!(head.header("link").as_deref(), Some("</a>; rel=preload"));
        assert!(client.hears_nothing_for(SOON), "the body is not wanted yet");
        peer.send(GO_ON);
        assert_eq!(client.head().line, "HTTP/1.1 100 Continue");
        client.send("hello");
        assert_eq!(peer.body(5), "hello");
        peer.send(FINE);
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.interim.len()), ("fine", 0));
        if round == 0 {
            client.send(EXPECTING);
        }
    } // Its connection to the second lives on, with a task of its own.
    first.abandon();
    second.abandon();
}
