//! The watch against an API in memory that does what its script says, under a paused clock.

use std::collections::VecDeque;
use std::path::Path;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch::Receiver;

use super::*;
use crate::live::wire::{Dialer, Pipe};
use crate::plan::cluster::{Api, Cluster};

/// What the API does with one request.
struct Act {
    status: u16,
    headers: &'static str,
    /// Parts of the body, each so many milliseconds after the one before.
    parts: Vec<(u64, String)>,
    then: Then,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// The body ends.
    End,
    /// The connection breaks off.
    Break,
    /// Nothing more comes.
    Hang,
}

fn act(status: u16, body: impl Into<String>) -> Act {
    Act {
        status,
        headers: "",
        parts: vec![(0, body.into())],
        then: Then::End,
    }
}

/// A list of slices, each a name with the last byte of its only address.
fn list(version: &str, slices: &[(&str, u8)]) -> Act {
    page(version, "", slices)
}

fn page(version: &str, next: &str, slices: &[(&str, u8)]) -> Act {
    let slices: Vec<String> = slices
        .iter()
        .map(|(name, byte)| slice(version, name, *byte))
        .collect();
    let items = slices.join(",");
    act(
        200,
        format!(
            r#"{{"kind":"EndpointSliceList","metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{items}]}}"#
        ),
    )
}

fn slice(version: &str, name: &str, byte: u8) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","resourceVersion":"{version}"}},"addressType":"IPv4","endpoints":[{{"addresses":["10.0.0.{byte}"]}}],"ports":[{{"name":"http","port":80}}]}}"#
    )
}

fn event(kind: &str, version: &str, name: &str, byte: u8) -> String {
    format!(
        "{{\"type\":\"{kind}\",\"object\":{}}}\n",
        slice(version, name, byte)
    )
}

fn bookmark(version: &str) -> String {
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{version}\"}}}}}}\n"
    )
}

/// A watch that tells these lines, each so many milliseconds after the one before.
fn watching(parts: &[(u64, String)], then: Then) -> Act {
    Act {
        status: 200,
        headers: "",
        parts: parts.to_vec(),
        then,
    }
}

/// What was asked for: milliseconds since the begin, and the query without the part that never changes.
type Asked = Arc<Mutex<Vec<(u64, String)>>>;

struct Bench {
    look: Receiver<Seen>,
    asked: Asked,
    began: Instant,
}

impl Bench {
    /// A watch of an API that plays this script, and then refuses connections.
    fn new(script: impl IntoIterator<Item = Act>) -> Self {
        let script: Arc<Mutex<VecDeque<Act>>> = Arc::new(Mutex::new(script.into_iter().collect()));
        let asked = Asked::default();
        let began = clock::now();
        let to = Arc::clone(&asked);
        let dialer = Dialer::Memory(Arc::new(move |_| {
            let next = script.lock().pop_front();
            let asked = Arc::clone(&to);
            Box::pin(async move {
                let Some(act) = next else {
                    asked.lock().push((ms(began), "refused".into()));
                    return Err(std::io::ErrorKind::ConnectionRefused.into());
                };
                let (ours, theirs) = duplex(1 << 16);
                tokio::spawn(play(theirs, act, asked, began));
                let pipe: Box<dyn Pipe> = Box::new(ours);
                Ok(pipe)
            })
        }));
        let cluster = Cluster {
            api: Some(Api {
                tls: false,
                host: "10.0.0.9".into(),
                port: 80,
                path: "".into(),
            }),
            ..Cluster::default()
        };
        let access = Access::of(&cluster, Path::new("/"), &|_| None, dialer).unwrap();
        let (seen, look) = tokio::sync::watch::channel(Seen::default());
        let watch = Watch {
            service: Service {
                namespace: "shop".into(),
                name: "payments".into(),
            },
            access,
            pace: Pace {
                watch: 300..301,
                ..Pace::default()
            },
            seen: Arc::new(seen),
        };
        tokio::spawn(watch.run());
        Self { look, asked, began }
    }

    /// Lets so much time pass since the begin, and gives what is seen then: names of slices with the
    /// last byte of their address, `?` while nothing is known, with ` !` while there is a problem.
    async fn at(&self, millis: u64) -> String {
        let passed = clock::now() - self.began;
        tokio::time::sleep(Duration::from_millis(millis).saturating_sub(passed)).await;
        let seen = self.look.borrow().clone();
        let mut text = match &seen.slices {
            None => "?".to_owned(),
            Some(slices) => {
                let all = slices.values();
                let all = all.map(|one| format!("{}{}", one.name, last_byte(one)));
                all.collect::<Vec<_>>().join(" ")
            }
        };
        if seen.problem.is_some() {
            text.push_str(" !");
        }
        text
    }

    fn problem(&self) -> String {
        let seen = self.look.borrow();
        seen.problem
            .as_ref()
            .map(|one| one.text.to_string())
            .unwrap_or_default()
    }

    /// What was asked for.
    fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .iter()
            .map(|(_, what)| what.clone())
            .collect()
    }

    /// When it was asked, in milliseconds since the begin.
    fn times(&self) -> Vec<u64> {
        self.asked.lock().iter().map(|(at, _)| *at).collect()
    }
}

fn last_byte(slice: &Slice) -> String {
    let first = slice.endpoints.first();
    first.map_or_else(String::new, |one| {
        one.address.to_string().replace("10.0.0.", "")
    })
}

fn ms(began: Instant) -> u64 {
    u64::try_from((clock::now() - began).as_millis()).unwrap()
}

const TARGET: &str = "GET /apis/discovery.k8s.io/v1/namespaces/shop/endpointslices\
                      ?labelSelector=kubernetes.io%2Fservice-name%3Dpayments&";

async fn play(mut stream: DuplexStream, act: Act, asked: Asked, began: Instant) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let query = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
    let query = query.strip_prefix(TARGET).unwrap_or(query);
    let query = query
        .replace(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion=",
            "watch ",
        )
        .replace("limit=50", "list");
    asked.lock().push((ms(began), query));
    let head = format!(
        "HTTP/1.1 {} X\r\n{}transfer-encoding: chunked\r\n\r\n",
        act.status, act.headers
    );
    let _ = stream.write_all(head.as_bytes()).await;
    for (wait, part) in &act.parts {
        tokio::time::sleep(Duration::from_millis(*wait)).await;
        let chunk = format!("{:x}\r\n{part}\r\n", part.len());
        if !part.is_empty() && stream.write_all(chunk.as_bytes()).await.is_err() {
            return;
        }
    }
    match act.then {
        Then::End => drop(stream.write_all(b"0\r\n\r\n").await),
        Then::Break => (),
        // Until the other end goes.
        Then::Hang => drop(stream.read_u8().await),
    }
}

fn hang() -> Act {
    watching(&[], Then::Hang)
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_is_watched_from_there_on() {
    let events = [
        (1_000, event("ADDED", "11", "b", 2)),
        (1_000, event("MODIFIED", "12", "a", 3)),
        (1_000, event("DELETED", "13", "b", 2)),
    ];
    let bench = Bench::new([list("10", &[("a", 1)]), watching(&events, Then::Hang)]);
    assert_eq!(bench.at(500).await, "a1");
    assert_eq!(bench.at(1_500).await, "a1 b2");
    assert_eq!(bench.at(2_500).await, "a3 b2");
    assert_eq!(bench.at(3_500).await, "a3");
    assert_eq!(bench.asked(), ["list", "watch 10"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_in_pages_is_told_when_it_is_whole() {
    let mut slow = page("10", "", &[("c", 3)]);
    slow.parts[0].0 = 1_000;
    let pages = [page("10", "x/y=", &[("a", 1), ("b", 2)]), slow, hang()];
    let bench = Bench::new(pages);
    assert_eq!(bench.at(900).await, "?", "half of the truth is none");
    assert_eq!(bench.at(1_500).await, "a1 b2 c3");
    assert_eq!(
        bench.asked(),
        ["list", "list&continue=x%2Fy%3D", "watch 10"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_or_breaks_off_goes_on_from_its_last_version() {
    let bench = Bench::new([
        list("10", &[("a", 1)]),
        watching(&[(100, event("ADDED", "11", "b", 2))], Then::Break),
        watching(
            &[(100, event("ADDED", "12", "c", 3)), (100, bookmark("20"))],
            Then::End,
        ),
        watching(&[(100, "{\"type\":\"ADD".into())], Then::Break),
        hang(),
    ]);
    assert_eq!(bench.at(2_900).await, "a1 b2 c3");
    assert_eq!(
        bench.asked(),
        ["list", "watch 10", "watch 11", "watch 20", "watch 20"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_listed_again_whoever_says_so() {
    let error = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"message\":\"too old\"}}\n";
    let bench = Bench::new([
        list("10", &[("a", 1), ("b", 2)]),
        act(410, r#"{"kind":"Status","code":410}"#),
        // What went in between is gone at once.
        list("20", &[("b", 5)]),
        watching(&[(10_000, error.to_owned())], Then::End),
        list("30", &[("c", 6)]),
        hang(),
    ]);
    assert_eq!(
        bench.at(5_000).await,
        "b5",
        "without a wait, and without a problem"
    );
    assert_eq!(bench.at(15_000).await, "c6");
    assert_eq!(
        bench.asked(),
        ["list", "watch 10", "list", "watch 20", "list", "watch 30"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_is_told_and_everything_listed_again() {
    for garbage in [
        "nonsense\n".to_owned(),
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}\n".to_owned(),
        "{\"type\":\"ERROR\",\"object\":{\"code\":500,\"message\":\"etcd\"}}\n".to_owned(),
        "x".repeat(LONGEST_LINE + 1),
    ] {
        let bench = Bench::new([
            list("10", &[("a", 1)]),
            watching(
                &[(100, event("ADDED", "11", "b", 2)), (100, garbage)],
                Then::Hang,
            ),
            list("20", &[("c", 3)]),
            hang(),
        ]);
        assert_eq!(bench.at(400).await, "a1 b2 !", "what was told before stays");
        assert!(
            bench
                .problem()
                .starts_with("a watch ended with an error (500): etcd")
                || bench.problem().contains("cannot be understood")
                || bench.problem().contains("longer than 4194304 bytes"),
            "{}",
            bench.problem()
        );
        assert_eq!(bench.at(3_000).await, "c3");
        assert_eq!(bench.asked(), ["list", "watch 10", "list", "watch 20"]);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_68_while_the_api_fails_what_it_said_stays_and_waits_grow_to_half_a_minute() {
    let bench = Bench::new([
        list("10", &[("a", 1)]),
        watching(&[(6_000, bookmark("12"))], Then::End),
    ]);
    assert_eq!(bench.at(5_000).await, "a1");
    assert_eq!(bench.at(200_000).await, "a1 !");
    assert!(
        bench
            .problem()
            .contains("http://10.0.0.9:80 cannot be reached"),
        "{}",
        bench.problem()
    );
    let times = bench.times();
    assert!(bench.asked()[2..].iter().all(|what| what == "refused"));
    let waits: Vec<u64> = times
        .windows(2)
        .skip(2)
        .map(|two| two[1] - two[0])
        .collect();
    for (wait, longest) in waits
        .iter()
        .zip([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
    {
        assert!((longest / 2..=longest + 1).contains(wait), "{waits:?}");
    }
    assert!(waits.len() >= 8, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_asked_for_again_and_nothing_is_known_until_then() {
    let refused =
        r#"{"kind":"Status","message":"User \"u\" cannot list resource \"endpointslices\""}"#;
    let mut busy = act(429, "");
    busy.headers = "retry-after: 20\r\n";
    let mut cut = list("10", &[("a", 1)]);
    cut.then = Then::Break;
    cut.parts[0].1.truncate(90);
    let bench = Bench::new([
        act(403, refused),
        busy,
        act(200, "{}"),
        cut,
        list("10", &[]),
        hang(),
    ]);
    assert_eq!(bench.at(100).await, "? !");
    let problem = bench.problem();
    assert!(
        problem.contains("forbids to list")
            && problem.ends_with("cannot list resource \"endpointslices\""),
        "{problem}"
    );
    assert_eq!(bench.at(10_000).await, "? !");
    assert!(bench.problem().contains("too often (429)"));
    assert_eq!(bench.at(60_000).await, "", "it says that there is none");
    let times = bench.times();
    assert!((500..=1_001).contains(&(times[1] - times[0])), "{times:?}");
    assert!(
        (20_000..=20_001).contains(&(times[2] - times[1])),
        "as it wants: {times:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_api_that_says_nothing_is_not_waited_for_longer_than_its_time() {
    // It never answers the list; then it never ends it; then it never ends a watch.
    let mut endless = list("10", &[]);
    endless.then = Then::Hang;
    let (silent, asked) = (
        Bench::new([endless, list("10", &[("a", 1)]), hang(), hang()]),
        300_000,
    );
    assert_eq!(silent.at(29_000).await, "?");
    assert_eq!(silent.at(30_500).await, "? !");
    assert!(
        silent.problem().contains("took longer than 30s"),
        "{}",
        silent.problem()
    );
    assert_eq!(silent.at(32_000).await, "a1");
    let times = silent.times();
    assert_eq!(silent.at(times[2] + asked + 14_000).await, "a1");
    assert_eq!(silent.times().len(), 3, "the watch may take its time");
    assert_eq!(silent.at(times[2] + asked + 16_000).await, "a1");
    assert_eq!(silent.asked()[3], "watch 10", "it is cut, and begun again");
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_not_begun_without_end() {
    let empty = || watching(&[], Then::End);
    // One that tells what is known already is worth no more than one that tells nothing.
    let same = || watching(&[(0, event("MODIFIED", "10", "a", 1))], Then::End);
    let script = [
        list("10", &[("a", 1)]),
        empty(),
        same(),
        empty(),
        same(),
        empty(),
        same(),
        hang(),
    ];
    let bench = Bench::new(script);
    assert_eq!(bench.at(60_000).await, "a1");
    let times = bench.times();
    assert_eq!(times.len(), 8);
    assert!(
        times[2] - times[1] <= 101,
        "the first time may be by chance: {times:?}"
    );
    assert!(times[7] - times[6] >= 4_000, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn events_that_come_together_are_told_together() {
    let burst: String = (0..500_u32)
        .map(|number| event("MODIFIED", &number.to_string(), "a", (number % 250) as u8))
        .collect();
    let bench = Bench::new([list("10", &[]), watching(&[(1_000, burst)], Then::Hang)]);
    assert_eq!(bench.at(500).await, "");
    let mut look = bench.look.clone();
    look.mark_unchanged();
    let mut changes = 0;
    while tokio::time::timeout(Duration::from_secs(5), look.changed())
        .await
        .is_ok()
    {
        changes += 1;
    }
    assert_eq!(bench.at(10_000).await, "a249");
    assert!((1..50).contains(&changes), "{changes}");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_looks() {
    let bench = Bench::new([list("10", &[("a", 1)])]);
    assert_eq!(bench.at(100).await, "a1 !");
    let (asked, count) = (Arc::clone(&bench.asked), bench.asked().len());
    drop(bench);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(asked.lock().len(), count);
}

#[test]
fn more_slices_than_there_is_room_for_are_left_out() {
    let mut slices = Slices::new();
    let slice = |number: usize| Slice {
        name: number.to_string().into(),
        foreign: None,
        endpoints: Vec::new(),
        unusable: 0,
        ports: Vec::new(),
    };
    for number in 0..MOST_SLICES {
        assert!(add(&mut slices, slice(number)));
    }
    assert!(!add(&mut slices, slice(MOST_SLICES)));
    assert!(add(&mut slices, slice(7)), "one that is known may change");
    assert_eq!(slices.len(), MOST_SLICES);
}
