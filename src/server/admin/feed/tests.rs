//! Streams over pipes in memory, under a paused clock.

use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::{Offer, Readiness, serve_stream};
use super::*;
use crate::server::status::{Event, History};
use crate::telemetry::Telemetry;
use crate::telemetry::events::Kind;

/// A feed of a process of which little is known.
struct Stage {
    feed: Arc<Feed>,
    telemetry: Arc<Telemetry>,
    /// Readings that were made.
    made: Arc<AtomicUsize>,
    /// What `until` of the history is, in steps.
    points: Arc<AtomicUsize>,
    running: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// `padding`: bytes of the status beside the rest.
fn stage(padding: usize) -> Stage {
    let (telemetry, made) = (Arc::<Telemetry>::default(), Arc::<AtomicUsize>::default());
    let points = Arc::<AtomicUsize>::default();
    let (told, counted, point) = (
        Arc::clone(&telemetry),
        Arc::clone(&made),
        Arc::clone(&points),
    );
    let status = move || {
        counted.fetch_add(1, Relaxed);
        let history = History {
            until: Some(point.load(Relaxed).to_string()),
            ..History::default()
        };
        Status {
            at: "x".repeat(padding),
            events: told.events().recent(),
            history: Some(history),
            ..Status::default()
        }
    };
    let control = Control {
        telemetry: Arc::clone(&telemetry),
        status: Box::new(status),
        metrics: Box::new(|_| String::new()),
        config: Box::new(String::new),
        readiness: Box::new(|| Readiness::Ready),
        reload: mpsc::channel(1).0,
        drain: Box::new(|| {}),
        quit: Box::new(|| {}),
        force: Box::new(|_, _, _| Ok(())),
        log_level: Box::new(|level| Ok(level.to_owned())),
    };
    let feed = Feed::new(Arc::new(control));
    Stage {
        running: tokio::spawn(Arc::clone(&feed).run()),
        feed,
        telemetry,
        made,
        points,
    }
}

impl Stage {
    fn made(&self) -> usize {
        self.made.load(Relaxed)
    }

    fn note(&self, text: &str) {
        self.telemetry
            .events()
            .note(clock::date(), Kind::Breaker, text);
    }

    fn readers(&self) -> usize {
        self.feed.is_wanted();
        self.feed.state.lock().readers.len()
    }

    /// A client that has asked; its connection takes so many bytes.
    async fn client(&self, room: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(room);
        tokio::spawn(serve_stream(
            theirs,
            Arc::clone(&self.feed),
            Offer::Everything,
        ));
        let mut client = Client {
            stream: ours,
            text: String::new(),
        };
        let request = b"GET /api/v1/stream HTTP/1.1\r\nhost: x\r\n\r\n";
        client.stream.write_all(request).await.unwrap();
        client
    }
}

struct Client {
    stream: DuplexStream,
    text: String,
}

impl Client {
    /// Reads for so long; `false`: the stream has ended.
    async fn read_for(&mut self, time: Duration) -> bool {
        let mut buffer = vec![0; 16 * 1024];
        let reading = async {
            loop {
                match self.stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => self.text += &String::from_utf8_lossy(&buffer[..bytes]),
                }
            }
        };
        timeout(time, reading).await.is_err()
    }

    fn count(&self, event: &str) -> usize {
        self.text.matches(&format!("event: {event}\n")).count()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_status_comes_at_once_and_then_every_second() {
    let stage = stage(10);
    let mut client = stage.client(1 << 16).await;
    client.read_for(Duration::from_millis(50)).await;
    assert_eq!((client.count("status"), client.count("history")), (1, 1));
    let head = client.text.to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(
        head.contains("content-type: text/event-stream\r\n"),
        "{head}"
    );
    assert!(head.contains("cache-control: no-store\r\n"), "{head}");
    assert!(!client.text.contains("\"history\""), "an event of its own");
    client.read_for(3 * SECOND).await;
    assert_eq!((client.count("status"), client.count("history")), (4, 1));
    stage.points.store(1, Relaxed);
    client.read_for(SECOND).await;
    assert_eq!((client.count("status"), client.count("history")), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_while_nobody_listens() {
    let stage = stage(10);
    stage.note("before");
    sleep(10 * SECOND).await;
    assert_eq!(stage.made(), 0);
    let mut client = stage.client(1 << 16).await;
    client.read_for(SECOND / 2).await;
    assert_eq!(client.count("note"), 0, "what was before is in the status");
    drop(client);
    sleep(2 * SECOND).await;
    let made = stage.made();
    stage.note("while nobody listens");
    sleep(20 * SECOND).await;
    assert_eq!(stage.made(), made);
    assert!(stage.feed.state.lock().latest.is_none(), "nothing is kept");
    let mut client = stage.client(1 << 16).await;
    client.read_for(SECOND / 2).await;
    assert_eq!(client.count("status"), 1, "and it begins again at once");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_made_once_for_all_streams() {
    let stage = stage(10);
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(stage.client(1 << 16).await);
        sleep(Duration::from_millis(10)).await;
    }
    sleep(3 * SECOND).await;
    for client in &mut clients {
        client.read_for(Duration::from_millis(1)).await;
        assert!(client.count("status") >= 4, "{}", client.text);
        assert_eq!(client.count("history"), 1);
    }
    assert!(stage.made() <= 5, "{}", stage.made());
}

#[tokio::test(start_paused = true)]
async fn an_event_is_told_within_200_ms_and_many_are_told_together() {
    let stage = stage(10);
    let mut client = stage.client(1 << 16).await;
    client.read_for(SECOND / 2).await;
    let made = stage.made();
    stage.note("opened");
    client.read_for(Duration::from_millis(200)).await;
    assert_eq!((client.count("status"), client.count("note")), (2, 1));
    assert!(
        client.text.contains("id: 1\ndata: {\"number\":1,"),
        "{}",
        client.text
    );
    assert_eq!(stage.made(), made + 1);
    for _ in 0..10 {
        for _ in 0..10 {
            stage.note("flapping");
        }
        client.read_for(Duration::from_millis(10)).await;
    }
    client.read_for(Duration::from_millis(200)).await;
    assert_eq!(client.count("note"), 101, "none is missing");
    assert!(stage.made() <= made + 4, "{} readings", stage.made() - made);
    stage.telemetry.events().touch();
    let before = stage.made();
    client.read_for(Duration::from_millis(200)).await;
    assert_eq!(stage.made(), before + 1, "a change that is no event");
}

#[tokio::test(start_paused = true)]
async fn one_stream_too_many_is_told_so_until_another_ends() {
    let stage = stage(10);
    let mut clients = Vec::new();
    for _ in 0..MAX_STREAMS {
        clients.push(stage.client(1 << 16).await);
        sleep(Duration::from_millis(1)).await;
    }
    let mut refused = stage.client(1 << 16).await;
    refused.read_for(SECOND / 10).await;
    assert!(
        refused.text.starts_with("HTTP/1.1 503 "),
        "{}",
        refused.text
    );
    assert!(
        refused.text.contains("16 streams are open"),
        "{}",
        refused.text
    );
    clients.pop();
    sleep(SECOND / 10).await;
    let mut next = stage.client(1 << 16).await;
    next.read_for(SECOND / 10).await;
    assert!(next.text.starts_with("HTTP/1.1 200 "), "{}", next.text);
    drop((clients, next));
    sleep(SECOND / 10).await;
    assert_eq!(stage.readers(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_is_cut_and_the_others_miss_nothing() {
    let stage = stage(100_000);
    let mut stuck = stage.client(1 << 10).await;
    let mut reader = stage.client(1 << 16).await;
    reader.read_for(3 * SECOND).await;
    assert_eq!(stage.readers(), 2);
    reader.read_for(27 * SECOND).await;
    assert_eq!(stage.readers(), 1);
    assert!(reader.count("status") >= 30, "{}", reader.count("status"));
    assert!(!stuck.read_for(SECOND).await, "its connection has ended");
    let left = stuck.text.len();
    assert!(left < 10_000, "{left} bytes had waited for it");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_only_slow_does_not_keep_a_place_for_ever() {
    let stage = stage(100_000);
    let mut slow = stage.client(1 << 10).await;
    let mut byte = [0; 1];
    for _ in 0..40 {
        sleep(SECOND).await;
        if slow.stream.read_exact(&mut byte).await.is_err() {
            break;
        }
    }
    assert_eq!(stage.readers(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_lives_longer_than_other_connections() {
    let stage = stage(10);
    let mut client = stage.client(1 << 16).await;
    assert!(client.read_for(600 * SECOND).await, "it has not ended");
    assert!(client.count("status") >= 600, "{}", client.count("status"));
}

#[test]
fn an_event_is_one_line_of_json_with_its_number() {
    let note = Event {
        number: 7,
        at: "now".into(),
        kind: Kind::Drain,
        upstream: None,
        endpoint: None,
        text: "two\nlines".into(),
    };
    let text = String::from_utf8(event("note", Some(7), &note).unwrap()).unwrap();
    let wanted = "event: note\nid: 7\ndata: {\"number\":7,\"at\":\"now\",\"kind\":\"drain\",\"upstream\":null,\
                  \"endpoint\":null,\"text\":\"two\\nlines\"}\n\n";
    assert_eq!(text, wanted);
}
