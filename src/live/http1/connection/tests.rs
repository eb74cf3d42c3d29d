//! Whom a connection wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::live::wire::Dialing;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn an_answer_in_one_piece_wakes_its_task_once() {
    let (ours, mut peer) = tokio::io::duplex(4096);
    let ours = Mutex::new(Some(ours));
    let dial = move |_| -> Dialing {
        let ours = ours.lock().take().expect("dialled once");
        Box::pin(async move { Ok(Box::new(ours) as _) })
    };
    let slot = Arc::new(Slots::default()).take(None).expect("no limit");
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let endpoint = crate::live::roster::Endpoint::new(&(address.into(), 1).into(), 1);
    let dialer = Dialer::Memory(Arc::new(dial));
    let opening = Http1::open(&dialer, &endpoint, slot);
    let mut connection = opening.await.expect("an open connection");

    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = &mut Context::from_waker(&waker);
    let interim = Interim::default();
    let mut sending = Box::pin(connection.send(Request::new(TryBody::empty()), &interim));
    assert!(sending.as_mut().poll(cx).is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    peer.write_all(bytes).await.expect("written");
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "by the first byte");
    let Poll::Ready(Ok(answer)) = sending.as_mut().poll(cx) else {
        panic!("the answer is there");
    };
    drop(sending);
    assert_eq!(answer.status(), StatusCode::OK);
    let part = connection.poll_frame(&mut asleep());
    assert!(matches!(part, Poll::Ready(Some(Ok(_)))));
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "and never by itself");
}
