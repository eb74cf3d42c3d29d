//! What feeds hand on to upstreams, and when.

use super::*;
use crate::live::upstream::{Found, Upstream};
use crate::plan::samples;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn found(ports: &[u16]) -> Vec<Found> {
    ports.iter().map(|port| address(*port).into()).collect()
}

fn source() -> Address {
    Address::Srv {
        name: "_http._tcp.a.test".into(),
    }
}

fn upstream(name: &str) -> Arc<Upstream> {
    Upstream::new(&Arc::new(samples::upstream(name, [source()])), 1)
}

fn before(upstream: &Arc<Upstream>, listeners: &[u16]) -> Audience {
    Audience {
        name: Arc::clone(upstream.name()),
        upstream: Some(Arc::clone(upstream)),
        listeners: listeners.iter().copied().map(address).collect(),
    }
}

fn ports(upstream: &Upstream) -> Vec<u16> {
    let endpoints = upstream.roster().endpoints();
    let ports = endpoints.iter().map(|one| one.address.ip().unwrap().port());
    ports.collect()
}

#[test]
fn each_upstream_is_told_and_one_that_comes_later_at_once() {
    let (a, b) = (upstream("a"), upstream("b"));
    let telemetry = Arc::<Telemetry>::default();
    let feed = Feed::new(source(), vec![before(&a, &[])], &telemetry);
    feed.found(found(&[2, 1]), None);
    assert_eq!((ports(&a), ports(&b)), (vec![1, 2], vec![]));
    feed.serve(vec![before(&a, &[]), before(&b, &[])]);
    assert_eq!((ports(&a), ports(&b)), (vec![1, 2], vec![1, 2]));
    feed.found(found(&[3]), None);
    assert_eq!((ports(&a), ports(&b)), (vec![3], vec![3]));
    feed.found(found(&[3]), None);
    let updates = feed.reading().updates;
    assert_eq!((updates.changed, updates.same, updates.failed), (2, 1, 0));
}

/// Fault 60: what would lead requests round in circles is left out where it would.
#[test]
fn fault_060_an_address_of_our_own_is_left_out() {
    let (a, b) = (upstream("a"), upstream("b"));
    let telemetry = Arc::<Telemetry>::default();
    let audience = vec![before(&a, &[80, 81]), before(&b, &[])];
    let feed = Feed::new(source(), audience, &telemetry);
    feed.found(found(&[80, 90]), None);
    assert_eq!((ports(&a), ports(&b)), (vec![90], vec![80, 90]));
    feed.found(found(&[81]), None);
    assert_eq!((ports(&a), ports(&b)), (vec![], vec![81]));
}

#[test]
fn problems_are_told_when_they_begin_and_end() {
    let a = upstream("a");
    let telemetry = Arc::<Telemetry>::default();
    let feed = Feed::new(source(), vec![before(&a, &[])], &telemetry);
    let told = || telemetry.events().recent().len();
    feed.failed("SERVFAIL", None);
    feed.failed("SERVFAIL", None);
    feed.left(vec![], None);
    assert_eq!(told(), 1);
    assert_eq!(feed.reading().problem.as_deref(), Some("SERVFAIL"));
    feed.found(found(&[1]), None);
    assert_eq!((told(), feed.reading().problem), (2, None));
    feed.failed("NXDOMAIN", None);
    assert_eq!((told(), ports(&a)), (3, vec![1]));
    feed.left(vec![], None);
    assert_eq!((told(), ports(&a)), (4, vec![]));
    let text = telemetry.events().recent().pop().unwrap().text;
    assert!(
        text.contains("given up") && text.contains("NXDOMAIN"),
        "{text}"
    );
    let reading = feed.reading();
    assert_eq!((reading.addresses, reading.updates.failed), (0, 3));
    assert!(
        reading
            .answered
            .is_some_and(|(at, _)| at <= crate::clock::now())
    );
}

#[test]
fn a_reload_does_not_forget_why_there_is_nothing() {
    let (a, b) = (upstream("a"), upstream("b"));
    let telemetry = Arc::<Telemetry>::default();
    let feed = Feed::new(source(), vec![before(&a, &[])], &telemetry);
    let serve = || feed.serve(vec![before(&a, &[]), before(&b, &[])]);
    let both = || {
        (
            a.problem().unwrap_or_default(),
            b.problem().unwrap_or_default(),
        )
    };
    let say = |both: (String, String), why: &str| both.0.ends_with(why) && both.1.ends_with(why);
    // It has never been found.
    feed.failed("SERVFAIL", None);
    serve();
    assert!(say(both(), "SERVFAIL"), "{:?}", both());
    feed.found(vec![], None);
    feed.nothing("it has no endpoint");
    serve();
    assert!(say(both(), "it has no endpoint"), "{:?}", both());
    feed.failed("REFUSED", None);
    serve();
    assert!(say(both(), "REFUSED"), "{:?}", both());
    feed.found(found(&[1]), None);
    serve();
    assert_eq!((a.problem(), b.problem()), (None, None));
    feed.failed("SERVFAIL", None);
    feed.found(found(&[1]), None);
    assert_eq!(
        (a.problem(), b.problem()),
        (None, None),
        "also where nothing changed"
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_answers_are_waited_for_but_not_for_ever() {
    let telemetry = Arc::<Telemetry>::default();
    let discovery = Discovery::new(&telemetry);
    let feed = Feed::new(source(), vec![], &telemetry);
    let running = Running {
        feed: Arc::clone(&feed),
        task: None,
    };
    discovery.running.lock().insert(source(), running);
    let began = crate::clock::now();
    let within = Duration::from_secs(2);
    let late = discovery.first_answers(within).await;
    assert_eq!(crate::clock::now() - began, within);
    assert_eq!(late, ["srv _http._tcp.a.test"]);
    feed.failed("SERVFAIL", None);
    assert!(discovery.first_answers(within).await.is_empty());
    assert_eq!(crate::clock::now() - began, within);
}
