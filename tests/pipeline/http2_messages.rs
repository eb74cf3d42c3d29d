//! Requests and answers of HTTP/1.1 clients as an endpoint of HTTP/2 has them: heads, bodies in both
//! directions, trailers, early answers, interim ones.

use std::future::Future;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::task::JoinHandle;

use super::bench::{ms, request};
use super::http2_goaway::http2;
use super::http2_peer::*;

type Asked = Request<RecvStream>;
type Reply = SendResponse<Bytes>;

/// Accepts one connection and meets every request on it.
fn serve<F>(
    net: &Net,
    builder: h2::server::Builder,
    meet: impl Fn(Asked, Reply) -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let net = net.clone();
    tokio::spawn(async move {
        let io = net.raw().await;
        let mut connection = builder.handshake(io).await.unwrap();
        while let Some(Ok((asked, reply))) = connection.accept().await {
            tokio::spawn(meet(asked, reply));
        }
    })
}

fn builder() -> h2::server::Builder {
    h2::server::Builder::new()
}

async fn whole(body: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        bytes.extend_from_slice(&part);
    }
    (bytes, body.trailers().await.unwrap())
}

fn answer(reply: &mut Reply, status: u16) -> SendStream<Bytes> {
    let head = Response::builder().status(status).body(()).unwrap();
    reply.send_response(head, false).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_head_of_http_1_is_one_of_http_2_with_nothing_of_its_connection() {
    let net = Net::default();
    let bench = net.bench(&http2(""));
    let _served = serve(&net, builder(), |asked, mut reply| async move {
        let mut text = format!("{} {}\n", asked.method(), asked.uri());
        for (name, value) in asked.headers() {
            text += &format!("{name}: {}\n", value.to_str().unwrap());
        }
        answer(&mut reply, 200)
            .send_data(text.into(), true)
            .unwrap();
    });
    let headers = [
        ("connection", "keep-alive, x-mine"),
        ("keep-alive", "timeout=5"),
        ("x-mine", "1"),
        ("proxy-connection", "close"),
        ("te", "trailers, deflate"),
        ("cookie", "a=1; b=2"),
        ("x-stays", "yes"),
    ];
    let text = bench
        .client()
        .ask("GET /a/b?c=%20d", &headers, "")
        .await
        .body;
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.remove(0), "GET http://u/a/b?c=%20d");
    let names: Vec<_> = lines
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    for gone in [
        "host",
        "connection",
        "keep-alive",
        "x-mine",
        "proxy-connection",
        "transfer-encoding",
    ] {
        assert!(!names.contains(&gone), "{gone} in {text}");
    }
    for kept in [
        "te: trailers",
        "cookie: a=1; b=2",
        "x-stays: yes",
        "x-forwarded-host: u",
    ] {
        assert!(lines.contains(&kept), "{kept} not in {text}");
    }
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn bodies_and_trailers_go_both_ways_whatever_their_length() {
    let net = Net::default();
    let bench = net.bench(&http2(""));
    // A window far smaller than the body, both ways.
    let mut small = builder();
    small
        .initial_window_size(1_000)
        .initial_connection_window_size(70_000);
    let _served = serve(&net, small, |asked, mut reply| async move {
        let length = asked.headers().get("content-length").cloned();
        let (bytes, trailers) = whole(&mut asked.into_body()).await;
        let mut head = Response::builder().status(200);
        if let Some(length) = length {
            head = head.header("content-length", length);
        }
        let mut body = reply.send_response(head.body(()).unwrap(), false).unwrap();
        body.send_data(bytes.into(), trailers.is_none()).unwrap();
        if let Some(trailers) = trailers {
            body.send_trailers(trailers).unwrap();
        }
    });
    for length in [1, 999, 1_000, 1_001, 65_535, 65_536, 300_000] {
        let body = "x".repeat(length);
        let answer = bench.client().ask("POST /", &[], &body).await;
        assert_eq!((answer.status, answer.complete), (200, true));
        assert!(answer.body == body, "{length} bytes");
        assert_eq!(
            answer.head.get("content-length"),
            Some(length.to_string().as_str())
        );
        // The same in chunks, with a trailer.
        let mut client = bench.client();
        let head = "POST / HTTP/1.1\r\nhost: u\r\nte: trailers\r\nconnection: te\r\n\
                    transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
        let text = format!("{head}{length:x}\r\n{body}\r\n0\r\nx-sum: {length}\r\n\r\n");
        client.write(&text).await;
        let answer = client.answer(false).await;
        assert_eq!((answer.status, answer.complete), (200, true));
        assert!(answer.body == body, "{length} bytes in chunks");
        assert_eq!(answer.head.get("transfer-encoding"), Some("chunked"));
    }
    bench.settle(14).await;
}

#[tokio::test(start_paused = true)]
async fn head_and_statuses_without_a_body_have_none() {
    let net = Net::default();
    let bench = net.bench(&http2(""));
    let _served = serve(&net, builder(), |asked, mut reply| async move {
        let status = asked
            .uri()
            .path()
            .trim_start_matches('/')
            .parse::<u16>()
            .unwrap();
        let mut head = Response::builder().status(status);
        if asked.method() == "HEAD" {
            head = head.header("content-length", "5");
        }
        reply.send_response(head.body(()).unwrap(), true).unwrap();
    });
    let mut client = bench.client();
    let answer = client.ask("HEAD /200", &[], "").await;
    assert_eq!(
        (answer.status, answer.head.get("content-length")),
        (200, Some("5"))
    );
    for status in [200, 204, 304] {
        let answer = client.ask(&format!("GET /{status}"), &[], "").await;
        assert_eq!(
            (answer.status, answer.body.as_str(), answer.complete),
            (status, "", true)
        );
    }
    drop(client);
    bench.settle(4).await;
}

#[tokio::test(start_paused = true)]
async fn fault_048_an_early_answer_is_passed_on_and_the_rest_of_the_body_is_given_up() {
    for reset in [None, Some(Reason::NO_ERROR)] {
        let net = Net::default();
        let bench = net.bench(&http2("retry: {}"));
        let _served = serve(&net, builder(), move |asked, mut reply| async move {
            ms(10).await;
            let mut body = answer(&mut reply, 413);
            body.send_data("too much".into(), true).unwrap();
            if let Some(reset) = reset {
                ms(1).await;
                reply.send_reset(reset);
            }
            drop(asked);
        });
        let mut client = bench.client();
        client
            .write("POST / HTTP/1.1\r\nhost: u\r\ncontent-length: 1000000\r\n\r\nsome")
            .await;
        let answer = client.answer(false).await;
        assert_eq!(
            (answer.status, answer.body.as_str(), answer.complete),
            (413, "too much", true)
        );
        drop(client);
        assert_eq!(net.dialled(), 1);
        bench.settle(1).await;
        assert_eq!(bench.slots(), (1, 1), "the connection is as good as before");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exchange_in_both_directions_at_once_is_not_held_back() {
    let net = Net::default();
    let bench = net.bench(&http2("timeouts: { request: 1s }"));
    let _served = serve(&net, builder(), |asked, mut reply| async move {
        let mut back = answer(&mut reply, 200);
        let mut body = asked.into_body();
        while let Some(part) = body.data().await {
            let part = part.unwrap();
            body.flow_control().release_capacity(part.len()).unwrap();
            back.send_data(part, false).unwrap();
        }
        back.send_data(Bytes::new(), true).unwrap();
    });
    let mut client = bench.client();
    client
        .write("POST / HTTP/1.1\r\nhost: u\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let head = client.head().await.unwrap();
    assert_eq!(head.second(), "200");
    // Far longer than the request's time: that ended with the head.
    for number in 0..5 {
        ms(700).await;
        client.write(&format!("1\r\n{number}\r\n")).await;
        assert_eq!(
            client.chunk().await.as_deref(),
            Some(number.to_string().as_str())
        );
    }
    client.write("0\r\n\r\n").await;
    assert_eq!(client.chunk().await.as_deref(), Some(""));
    drop(client);
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_049_interim_answers_pass_and_endless_ones_end() {
    for (count, answered) in [(100, 200), (20_000, 502)] {
        let net = Net::default();
        let bench = net.bench(&http2(""));
        let _served = serve(&net, builder(), move |_asked, mut reply| async move {
            for _ in 0..count {
                let head = Response::builder().status(StatusCode::EARLY_HINTS);
                if reply.send_informational(head.body(()).unwrap()).is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            answer(&mut reply, 200)
                .send_data("fine".into(), true)
                .unwrap();
        });
        let mut client = bench.client();
        client.write(&request("GET /", &[], "")).await;
        let mut interim = 0;
        let status = loop {
            let head = client.head().await.unwrap();
            match head.second() {
                "103" => interim += 1,
                other => break other.parse::<u16>().unwrap(),
            }
        };
        assert_eq!(status, answered);
        assert!(interim > 0, "some of {count} pass");
        drop(client);
        bench.settle(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn fault_047_a_body_shorter_than_announced_is_broken() {
    let net = Net::default();
    let bench = net.bench(&http2("circuit_breaker: {}"));
    let asked = bench.start("GET /");
    let mut peer = net.accept(None).await;
    let id = peer.request().await;
    // `content-length: 9` without an index.
    let head = [OK, &[0x0f, 0x0d, 1, b'9']].concat();
    peer.send(HEADERS, END_HEADERS, id, &head).await;
    peer.send(DATA, 0, id, b"1234").await;
    ms(1).await;
    peer.send(DATA, END_STREAM, id, b"5678").await;
    let answer = asked.await.unwrap();
    assert_eq!((answer.status, answer.complete), (200, false));
    drop(peer);
    let counts = bench.breaker(1).counts;
    assert_eq!(
        (counts.requests, counts.failures),
        (2, 1),
        "the head and the body"
    );
    bench.settle(1).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_none_is_a_protocol_error() {
    // No status; a header of one connection; a head after the end.
    let heads: [&[u8]; 2] = [
        &[0x40, 1, b'x', 1, b'y'],
        &[
            0x88, 0x40, 10, b'c', b'o', b'n', b'n', b'e', b'c', b't', b'i', b'o', b'n', 1, b'y',
        ],
    ];
    for head in heads {
        let net = Net::default();
        let bench = net.bench(&http2(""));
        let asked = bench.start("POST /");
        let mut peer = net.accept(None).await;
        let id = peer.request().await;
        peer.send(HEADERS, END_HEADERS | END_STREAM, id, head).await;
        let served = tokio::spawn(peer.serve(0));
        let answer = asked.await.unwrap();
        assert_eq!((answer.status, answer.reason()), (502, "protocol_error"));
        served.abort();
        bench.settle(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn fault_040_a_client_that_takes_nothing_holds_nobody_else_back() {
    let net = Net::default();
    let bench = net.bench(&http2("timeouts: { idle: 60s }"));
    let _served = serve(&net, builder(), |asked, mut reply| async move {
        let mut body = answer(&mut reply, 200);
        let length = if asked.uri().path() == "/large" {
            8 * 1024 * 1024
        } else {
            100_000
        };
        body.send_data(vec![b'x'; length].into(), true).unwrap();
    });
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = bench.client_with_room(1_000);
        client.write(&request("GET /large", &[], "")).await;
        slow.push(client);
    }
    ms(1_000).await;
    let quick = bench.get("GET /small").await;
    assert_eq!((quick.short(), quick.done), ((200, "", 1_000), 1_000));
    assert_eq!(quick.body.len(), 100_000);
    assert_eq!(net.dialled(), 1);
    drop(slow);
    bench.settle(21).await;
}
