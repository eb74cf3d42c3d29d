//! Clients that leave, half or whole, and connections that end with something unread.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{Talk, about, door, get, settings, settle};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn fault_043_a_half_close_with_the_request_is_answered() {
    for pause in [0, 1, 19] {
        let mut talk = Talk::new();
        talk.get(&["/after/5000"]).await;
        tokio::time::sleep(pause * MS).await;
        talk.io.shutdown().await.unwrap();
        assert!(
            talk.rest().await.ends_with("answer to /after/5000"),
            "{pause}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault_043_pipelined_requests_before_a_half_close_are_all_answered() {
    let mut talk = Talk::new();
    talk.get(&["/after/100", "/after/200", "/after/300"]).await;
    talk.io.shutdown().await.unwrap();
    let rest = talk.rest().await;
    assert_eq!(rest.matches("answer to").count(), 3, "{rest}");
    about(talk.elapsed(), 600 * MS);
    assert!(rest.ends_with("answer to /after/300"));
}

#[tokio::test(start_paused = true)]
async fn fault_041_a_client_that_leaves_later_ends_the_work_at_once() {
    for path in ["/never", "/silent"] {
        let mut talk = Talk::new();
        talk.get(&[path]).await;
        tokio::time::sleep(25 * MS).await;
        assert_eq!(talk.serving(), 1, "{path}");
        talk.io.shutdown().await.unwrap();
        settle().await;
        assert_eq!(talk.serving(), 0, "{path}");
        assert!(talk.task.is_finished(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_041_a_client_that_leaves_behind_pipelined_requests_ends_the_work_at_once() {
    let mut talk = Talk::new();
    talk.get(&["/never", "/", "/"]).await;
    tokio::time::sleep(25 * MS).await;
    drop(talk.io);
    settle().await;
    assert_eq!(
        talk.door
            .handler()
            .serving
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
    assert!(talk.task.is_finished());
    assert_eq!(talk.door.handler().seen.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn fault_041_a_body_that_came_with_its_request_does_not_hide_that_the_client_leaves() {
    // The last two are held unread by the handler, as in a queue.
    for request in [
        "POST /never HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
        "POST /held HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
        "POST /held HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut talk = Talk::new();
        talk.send(request).await;
        tokio::time::sleep(25 * MS).await;
        assert_eq!(talk.serving(), 1, "{request}");
        talk.io.shutdown().await.unwrap();
        settle().await;
        assert_eq!(talk.serving(), 0, "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_019_a_body_that_ends_early_is_an_error_for_the_handler() {
    for request in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut talk = Talk::new();
        talk.send(request).await;
        talk.io.shutdown().await.unwrap();
        talk.rest().await;
        let seen = talk.fake().seen.lock().clone();
        assert_eq!((seen.len(), seen[0].body.is_none()), (1, true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_ends_early_is_closed_without_a_word() {
    let mut talk = Talk::new();
    talk.send("GET / HT").await;
    talk.io.shutdown().await.unwrap();
    assert_eq!(talk.rest().await, "");
    assert!(talk.fake().refused.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn fault_020_pipelined_requests_are_answered_in_order() {
    let mut talk = Talk::new();
    let paths: Vec<_> = (0..50).map(|n| format!("/after/{}", 50 - n)).collect();
    let all: Vec<_> = paths.iter().map(|path| get(path)).collect();
    talk.send(all.concat()).await;
    let rest = talk.rest().await;
    // No answer waits for anything but the one before it; then the connection lies idle.
    about(
        talk.elapsed(),
        (1..=50).sum::<u32>() * MS + Duration::from_secs(60),
    );
    let answers: Vec<_> = rest.split("answer to ").skip(1).collect();
    assert_eq!(answers.len(), 50);
    for (path, answer) in paths.iter().zip(answers) {
        assert!(answer.starts_with(path), "{path}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_020_a_refused_request_does_not_spoil_the_answer_before_it() {
    // The answer before it does not fit the pipe, so it is still being written when the client has
    // long sent what will be refused.
    for bad in [
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/9\r\n\r\n",
        "\0",
    ] {
        let door = door(settings());
        let mut talk = Talk::through(&door, 4096);
        talk.send(get("/big") + bad).await;
        settle().await;
        let mut bytes = Vec::new();
        talk.io.read_to_end(&mut bytes).await.unwrap();
        let body = bytes.iter().filter(|byte| **byte == b'x').count();
        assert_eq!(body, 64 * 1024 * 1024);
        let tail = String::from_utf8_lossy(&bytes[bytes.len() - 400..]).into_owned();
        assert!(tail.contains("HTTP/1.1 400 refused"), "{tail}");
        assert_eq!(tail.matches("HTTP/1.1 4").count(), 1, "{tail}");
        assert_eq!(talk.fake().refused.lock().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_delivered_although_the_body_goes_on() {
    let door = door(settings());
    let mut talk = Talk::through(&door, 4096);
    talk.send("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    let chunk = [0; 1024];
    // Up to 64 KiB are taken and thrown away.
    for _ in 0..32 {
        talk.send(chunk).await;
    }
    let rest = talk.rest().await;
    assert!(rest.ends_with("early"), "{rest}");
    assert_eq!(rest.matches("HTTP/1.1").count(), 1);
    // It does not go on for ever.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(talk.task.is_finished());
    assert!(talk.io.write_all(&chunk).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_has_no_clean_end() {
    let mut talk = Talk::new();
    talk.get(&["/broken"]).await;
    let rest = talk.rest().await;
    assert!(
        rest.contains("xxxxxxxxxx") && !rest.contains("\r\n0\r\n"),
        "{rest}"
    );
    settle().await;
    assert_eq!(talk.serving(), 0);
}

#[tokio::test(start_paused = true)]
async fn rule_20_an_answer_before_the_end_of_its_request_is_the_connections_last() {
    // The next request comes with the rest of this one, or after it.
    for pause in [Duration::ZERO, MS] {
        let mut talk = Talk::new();
        talk.send("POST /both HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello")
            .await;
        let answer = talk.some().await;
        assert!(
            answer.contains("connection: close") && answer.ends_with("both"),
            "{answer}"
        );
        talk.send("world").await;
        tokio::time::sleep(pause).await;
        // The connection may be gone already; the answer has said so.
        let _ = talk.io.write_all(get("/after/1").as_bytes()).await;
        assert_eq!(talk.rest().await, "");
        settle().await;
        assert_eq!(talk.serving(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_043_a_half_close_with_a_pipelined_request_is_one_too() {
    let mut talk = Talk::new();
    talk.get(&["/after/100"]).await;
    tokio::time::sleep(50 * MS).await;
    talk.get(&["/after/1"]).await;
    talk.io.shutdown().await.unwrap();
    assert!(talk.rest().await.ends_with("answer to /after/1"));
}

#[tokio::test(start_paused = true)]
async fn fault_043_an_answer_that_is_complete_is_written_out_in_any_case() {
    let mut talk = Talk::through(&door(settings()), 4096);
    talk.get(&["/large"]).await;
    tokio::time::sleep(25 * MS).await;
    talk.io.shutdown().await.unwrap();
    settle().await;
    let rest = talk.rest().await;
    assert_eq!(
        rest.bytes().filter(|byte| *byte == b'x').count(),
        1024 * 1024
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sends_ahead_is_bounded() {
    let mut talk = Talk::through(&door(settings()), 4096);
    talk.get(&["/never"]).await;
    let mut sent = 0;
    let ahead = get("/");
    while tokio::time::timeout(MS, talk.io.write_all(ahead.as_bytes()))
        .await
        .is_ok()
    {
        sent += ahead.len();
    }
    assert!((16 * 1024..32 * 1024).contains(&sent), "{sent}");
}
