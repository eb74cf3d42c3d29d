//! Doors that close (rules 84 and 85): idle connections end at once, begun requests are served.

use std::time::Duration;

use mamparo::server::door::Phase;

use crate::fake::{Talk, door, settings, settle};

#[tokio::test(start_paused = true)]
async fn idle_connections_end_at_once_and_those_that_serve_after_their_answer() {
    let door = door(settings());
    let (mut fresh, mut idle, mut busy) = (Talk::to(&door), Talk::to(&door), Talk::to(&door));
    idle.get(&["/"]).await;
    idle.some().await;
    busy.get(&["/after/3000", "/"]).await;
    settle().await;
    assert_eq!(door.open(), 3);
    let began = mamparo::clock::now();
    let drain = tokio::spawn({
        let door = door.clone();
        async move { door.drain(Duration::from_secs(30)).await }
    });
    assert_eq!(
        (fresh.rest().await, idle.rest().await),
        (String::new(), String::new())
    );
    assert_eq!(mamparo::clock::now(), began);
    let rest = busy.rest().await;
    assert!(rest.contains("connection: close"), "{rest}");
    assert!(
        rest.ends_with("answer to /after/3000"),
        "the next one is not served: {rest}"
    );
    drop(busy.io);
    assert_eq!(drain.await.unwrap(), 0);
    assert_eq!(door.open(), 0);
}

/// Rule 85: who does not know yet may be about to use an idle connection.
#[tokio::test(start_paused = true)]
async fn a_drain_that_is_announced_closes_nothing_and_ends_connections_with_their_next_answer() {
    let door = door(settings());
    let (mut fresh, mut idle) = (Talk::to(&door), Talk::to(&door));
    idle.get(&["/"]).await;
    idle.some().await;
    door.announce_drain();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((door.open(), door.phase()), (2, Phase::Open));
    for talk in [&mut fresh, &mut idle] {
        talk.get(&["/"]).await;
        let rest = talk.rest().await;
        assert!(rest.contains("connection: close"), "{rest}");
        assert!(rest.ends_with("answer to /"), "{rest}");
    }
    settle().await;
    assert_eq!(door.came(), 2);
}

/// An answer that is ready in the same turn in which its request was understood.
#[tokio::test(start_paused = true)]
async fn the_first_answer_of_a_drain_says_that_the_connection_ends() {
    let door = door(settings());
    let mut talk = Talk::to(&door);
    talk.send("GET / HTTP").await;
    settle().await;
    door.begin_drain();
    settle().await;
    talk.send("/1.1\r\nhost: a\r\n\r\n").await;
    let rest = talk.rest().await;
    assert!(rest.contains("connection: close"), "{rest}");
    assert!(rest.ends_with("answer to /"), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_has_begun_is_served() {
    let door = door(settings());
    let (mut fresh, mut used) = (Talk::to(&door), Talk::to(&door));
    used.get(&["/"]).await;
    used.some().await;
    fresh.send("GET /after/1 HTTP").await;
    used.send("GET /after/1 HTTP").await;
    settle().await;
    door.begin_drain();
    settle().await;
    for talk in [&mut fresh, &mut used] {
        talk.send("/1.1\r\nhost: a\r\n\r\n").await;
        let rest = talk.rest().await;
        assert!(rest.contains("connection: close"), "{rest}");
        assert!(rest.ends_with("answer to /after/1"), "{rest}");
    }
}

/// Others learn only little by little that this one drains.
#[tokio::test(start_paused = true)]
async fn rule_084_who_comes_during_a_drain_is_answered_once_and_does_not_hold_it_up() {
    let door = door(settings());
    door.begin_drain();
    let (mut late, mut silent) = (Talk::to(&door), Talk::to(&door));
    settle().await;
    late.get(&["/after/3000", "/"]).await;
    // A head that does not begin is closed without a word, as on an idle connection.
    assert_eq!(silent.rest().await, "");
    assert_eq!(silent.elapsed().as_secs(), 1);
    let rest = late.rest().await;
    assert!(rest.contains("connection: close"), "{rest}");
    assert!(rest.ends_with("answer to /after/3000"), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_deadline_is_cut() {
    let door = door(settings());
    let (mut never, mut head) = (Talk::to(&door), Talk::to(&door));
    never.get(&["/never"]).await;
    head.send("GET / HT").await;
    settle().await;
    let began = mamparo::clock::now();
    assert_eq!(door.drain(Duration::from_secs(5)).await, 2);
    assert_eq!((mamparo::clock::now() - began).as_secs(), 5);
    assert_eq!(
        (door.open(), never.serving(), door.phase()),
        (0, 0, Phase::Cut)
    );
    assert_eq!(
        (never.rest().await, head.rest().await),
        (String::new(), String::new())
    );
}

#[tokio::test(start_paused = true)]
async fn a_reload_concerns_new_connections() {
    let door = door(settings());
    let mut old = Talk::to(&door);
    settle().await;
    let mut settings = settings();
    settings.header_timeout = Duration::from_secs(1);
    door.set_settings(settings);
    let mut new = Talk::to(&door);
    assert_eq!(new.rest().await, "");
    assert_eq!(new.elapsed().as_secs(), 1);
    assert_eq!(old.rest().await, "");
    assert_eq!(old.elapsed().as_secs(), 10);
}
