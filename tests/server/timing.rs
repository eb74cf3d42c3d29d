//! Slow and idle clients: what is cut, when, and with what words.

use std::time::Duration;

use mamparo::proxy::Reason;

use crate::fake::{Talk, about, door, get, settings, settle};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn fault_038_a_connection_that_never_speaks_is_closed_without_a_word() {
    let mut talk = Talk::new();
    assert_eq!(talk.rest().await, "");
    about(talk.elapsed(), Duration::from_secs(10));
    assert!(talk.fake().refused.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn fault_038_a_head_of_a_byte_a_second_is_refused_at_the_header_timeout() {
    let mut talk = Talk::new();
    tokio::time::sleep(Duration::from_secs(4)).await;
    for byte in get("/").bytes().take(9) {
        talk.send([byte]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(talk.rest().await.starts_with("HTTP/1.1 408"));
    // The client keeps its side open, so the end is that of the lingering.
    about(talk.elapsed(), Duration::from_secs(14));
    assert_eq!(talk.fake().refused.lock()[0].0, Reason::HeaderTimeout);
    assert!(talk.fake().seen.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_without_a_word_after_the_idle_timeout() {
    let mut talk = Talk::new();
    talk.get(&["/after/3000"]).await;
    assert!(talk.rest().await.ends_with("answer to /after/3000"));
    about(talk.elapsed(), Duration::from_secs(63));
    assert!(talk.fake().refused.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_request_and_each_answer_starts_the_deadlines_anew() {
    let mut talk = Talk::new();
    for round in 0..20 {
        talk.get(&["/"]).await;
        assert!(talk.some().await.ends_with("answer to /"), "round {round}");
        tokio::time::sleep(Duration::from_secs(59)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_begins_in_an_idle_time_has_the_header_timeout_for_itself() {
    for idle in [1, 15, 30, 45, 59] {
        let mut talk = Talk::new();
        talk.get(&["/"]).await;
        talk.some().await;
        tokio::time::sleep(Duration::from_secs(idle)).await;
        talk.send("GET / HT").await;
        let before = talk.elapsed();
        assert!(talk.rest().await.starts_with("HTTP/1.1 408"));
        about(talk.elapsed() - before, Duration::from_secs(10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_served_has_no_deadline_here() {
    let mut talk = Talk::new();
    talk.get(&["/after/3600000"]).await;
    assert!(talk.rest().await.ends_with("answer to /after/3600000"));
    about(talk.elapsed(), Duration::from_secs(3660));
}

#[tokio::test(start_paused = true)]
async fn short_timeouts_and_long_ones_in_either_order() {
    for (header, idle) in [(100, 20), (20, 100)] {
        let mut settings = settings();
        settings.header_timeout = header * MS;
        settings.idle_timeout = idle * MS;
        let mut talk = Talk::to(&door(settings));
        talk.get(&["/after/1000"]).await;
        assert!(talk.rest().await.ends_with("answer to /after/1000"));
        about(talk.elapsed(), Duration::from_secs(1) + idle * MS);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_begins_with_its_first_byte() {
    let mut talk = Talk::new();
    tokio::time::sleep(Duration::from_secs(5)).await;
    talk.send("GET").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    talk.send(" / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    settle().await;
    let seen = talk.fake().seen.lock().clone();
    about(seen[0].began - talk.began, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn fault_040_a_client_that_stops_reading_holds_little_and_is_cut() {
    let door = door(settings());
    let mut talk = Talk::through(&door, 4096);
    talk.get(&["/big"]).await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(talk.serving(), 1, "back-pressure, not yet the end");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(talk.serving(), 0, "the answer is dropped where it stands");
    settle().await;
    assert!(talk.task.is_finished());
    assert_eq!(door.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn fault_040_a_client_that_reads_slowly_is_not_cut() {
    use tokio::io::AsyncReadExt;
    let door = door(settings());
    let mut talk = Talk::through(&door, 4096);
    talk.get(&["/big"]).await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let mut buffer = [0; 4096];
        assert!(talk.io.read(&mut buffer).await.unwrap() > 0);
    }
    assert_eq!(talk.serving(), 1);
}

#[tokio::test(start_paused = true)]
async fn fault_040_a_client_that_reads_again_is_not_cut_for_the_time_before() {
    use tokio::io::AsyncReadExt;
    let door = door(settings());
    let mut talk = Talk::through(&door, 4096);
    talk.get(&["/big-then-silent"]).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut buffer = [0; 4096];
    let quiet = Duration::from_millis(1);
    while tokio::time::timeout(quiet, talk.io.read(&mut buffer))
        .await
        .is_ok()
    {}
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(talk.serving(), 1, "it is the upstream that is silent");
}

#[tokio::test(start_paused = true)]
async fn fault_076_a_panic_before_the_answer_is_an_internal_error() {
    let mut talk = Talk::new();
    talk.get(&["/panic"]).await;
    assert!(talk.rest().await.starts_with("HTTP/1.1 500"));
    assert_eq!(talk.fake().refused.lock()[0].0, Reason::Internal);
    assert_eq!(talk.serving(), 0);
    settle().await;
    assert!(talk.task.await.is_ok(), "the task has not panicked");
}
