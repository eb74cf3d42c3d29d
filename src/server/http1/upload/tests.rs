use std::pin::Pin;
use std::task::Waker;

use http_body::Body;

use super::*;
use crate::live::http1::chunked::Chunked;

fn asleep() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn chunked() -> Decoder {
    Decoder::Chunked(Box::new(Chunked::strict(1024, 10)))
}

fn take_in(upload: &mut Upload, bytes: &str) -> String {
    let mut buffer = BytesMut::from(bytes);
    upload.take_in(&mut buffer);
    String::from_utf8(buffer.to_vec()).unwrap()
}

/// The next part, or what became of it.
fn next(upload: &mut Upload, body: &mut ReceivedBody) -> String {
    loop {
        match Pin::new(&mut *body).poll_frame(&mut asleep()) {
            Poll::Ready(None) => return "over".to_owned(),
            Poll::Ready(Some(Err(error))) => return error.to_string(),
            Poll::Ready(Some(Ok(frame))) => {
                return match frame.into_data() {
                    Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
                    Err(frame) => format!("{:?}", frame.into_trailers().unwrap()),
                };
            }
            Poll::Pending => match upload.deliver(&mut asleep()) {
                Wish::Bytes => return "wants".to_owned(),
                Wish::Continue => return "asks".to_owned(),
                Wish::Nothing | Wish::Over | Wish::Dropped => {}
            },
        }
    }
}

#[test]
fn what_came_with_the_head_is_there_at_once_and_its_end_is_known() {
    let (mut upload, mut body) = Upload::new(Decoder::Length(5), false);
    assert_eq!(take_in(&mut upload, "helloGET"), "GET");
    assert!(upload.is_whole());
    upload.begin();
    assert!(!upload.is_read(), "all is delivered");
    assert_eq!(next(&mut upload, &mut body), "hello");
    assert!(body.is_end_stream());
}

#[test]
fn a_body_that_came_whole_is_taken_at_once_in_memory_of_its_own() {
    let whole = |text: &str, left, expects| {
        let mut buffer = BytesMut::from(text);
        let at = buffer.as_ptr();
        let body = take_whole(&left, expects, &mut buffer);
        let is_copied = body.as_ref().is_some_and(|body| body.as_ptr() != at);
        let rest = String::from_utf8(buffer.to_vec()).unwrap();
        (body, rest, is_copied)
    };
    let hello = || Some(Bytes::from_static(b"hello"));
    let five = || Decoder::Length(5);
    let alone = whole("hello", five(), false);
    assert_eq!(alone, (hello(), String::new(), false));
    let followed = whole("helloGET", five(), false);
    assert_eq!(followed, (hello(), "GET".to_owned(), true));
    for (text, left, expects) in [
        ("hell", five(), false),
        ("", five(), false),
        ("hello", five(), true),
        ("GET", Decoder::Length(0), false),
        ("GET", Decoder::Empty, false),
        ("0\r\n\r\n", chunked(), false),
    ] {
        let (body, rest, _) = whole(text, left, expects);
        assert_eq!((body, rest), (None, text.to_owned()));
    }
}

#[test]
fn what_is_missing_is_asked_for_when_it_is_wanted() {
    let (mut upload, mut body) = Upload::new(Decoder::Length(7), false);
    assert!(upload.is_due());
    take_in(&mut upload, "abc");
    upload.begin();
    assert!(!upload.is_due() && !upload.is_whole());
    assert_eq!(upload.deliver(&mut asleep()), Wish::Nothing);
    assert_eq!(next(&mut upload, &mut body), "abc");
    assert_eq!(next(&mut upload, &mut body), "wants");
    take_in(&mut upload, "defg");
    assert_eq!(next(&mut upload, &mut body), "defg");
    assert_eq!(next(&mut upload, &mut body), "over");
}

#[test]
fn small_chunks_are_put_together_and_trailers_come_last() {
    let (mut upload, mut body) = Upload::new(chunked(), false);
    let large = "x".repeat(SMALL);
    let bytes = format!("1\r\na\r\n2\r\nbc\r\n400\r\n{large}\r\n1\r\nd\r\n0\r\nx: y\r\n\r\nNEXT");
    assert_eq!(take_in(&mut upload, &bytes), "NEXT");
    assert!(upload.is_whole());
    upload.begin();
    assert_eq!(next(&mut upload, &mut body), "abc");
    assert_eq!(next(&mut upload, &mut body), large);
    assert_eq!(next(&mut upload, &mut body), "d");
    assert_eq!(next(&mut upload, &mut body), "{\"x\": \"y\"}");
    assert_eq!(next(&mut upload, &mut body), "over");
}

#[test]
fn many_small_chunks_are_copied_once() {
    let (mut upload, mut body) = Upload::new(chunked(), false);
    take_in(&mut upload, &"1\r\na\r\n".repeat(5 * SMALL));
    assert_eq!(1 + upload.more.len(), 5);
    take_in(&mut upload, "0\r\n\r\n");
    for _ in 0..5 {
        assert_eq!(next(&mut upload, &mut body), "a".repeat(SMALL));
    }
    assert_eq!(next(&mut upload, &mut body), "over");
}

#[test]
fn fault_006_what_is_malformed_is_told_behind_what_came_before_it() {
    let (mut upload, mut body) = Upload::new(chunked(), false);
    take_in(&mut upload, "1\r\na\r\nzz");
    assert!(!upload.is_whole());
    upload.begin();
    assert_eq!(next(&mut upload, &mut body), "a");
    assert_eq!(next(&mut upload, &mut body), "A chunk has no size.");
    assert_eq!(next(&mut upload, &mut body), "over");
    assert!(!upload.is_whole() && !upload.is_read());
}

#[test]
fn fault_019_an_end_before_the_end_breaks_the_body_off() {
    let (mut upload, mut body) = Upload::new(Decoder::Length(5), false);
    take_in(&mut upload, "abc");
    upload.break_off(io::ErrorKind::UnexpectedEof.into());
    assert_eq!(next(&mut upload, &mut body), "abc");
    let error = next(&mut upload, &mut body);
    assert_eq!(error, "unexpected end of file");
    // Where the connection ends in the middle, its reader learns of it too.
    let (mut upload, mut body) = Upload::new(Decoder::Length(5), false);
    take_in(&mut upload, "abc");
    upload.begin();
    drop(upload);
    let (mut none, _) = Upload::new(Decoder::Length(1), false);
    assert_eq!(next(&mut none, &mut body), "abc");
    assert_eq!(next(&mut none, &mut body), "the connection has ended");
}

#[test]
fn fault_022_a_client_that_waits_is_told_when_the_body_is_wanted() {
    let (mut upload, mut body) = Upload::new(Decoder::Length(5), true);
    // Some comes without waiting; it is told all the same.
    take_in(&mut upload, "he");
    upload.begin();
    assert!(!upload.is_due());
    assert_eq!(upload.deliver(&mut asleep()), Wish::Nothing);
    assert_eq!(next(&mut upload, &mut body), "asks");
    assert_eq!(next(&mut upload, &mut body), "he");
    assert_eq!(next(&mut upload, &mut body), "wants");
}

#[test]
fn a_body_that_nobody_wants_holds_nothing() {
    let (mut upload, body) = Upload::new(chunked(), false);
    take_in(&mut upload, "1\r\na\r\n");
    drop(body);
    assert_eq!(upload.deliver(&mut asleep()), Wish::Dropped);
    take_in(&mut upload, "1\r\nb\r\n0\r\n\r\n");
    assert!(upload.is_whole() && upload.next.is_none());
    assert_eq!(upload.deliver(&mut asleep()), Wish::Dropped);
}
