//! A connection of HTTP/1.1 whose answer has come before its request was complete. Nobody asks for more of
//! the answer while the client does not take it, and a client may well send its whole body before it
//! takes anything. So a task of its own drives the connection from there on, and no request follows.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use http_body::SizeHint;
use tokio::task::AbortHandle;

use super::connection::Http1;
use crate::live::inbox::{Feed, Inbox, Part, inbox};

/// What is left of an answer, while a task drives its connection.
#[derive(Debug)]
pub struct Apart {
    inbox: Inbox,
    // Dropped, it ends the connection.
    _task: Task,
}

/// A task that ends when its connection is no longer wanted.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Apart {
    /// Drives the connection to the end of its answer.
    pub(in crate::live) fn begin(mut connection: Box<Http1>) -> Self {
        let (feed, inbox) = inbox(connection.size_hint().exact());
        if connection.is_end_stream() {
            feed.end();
        }
        let driving = async move { poll_fn(|cx| drive(&mut connection, &feed, cx)).await };
        Self {
            inbox,
            _task: Task(tokio::spawn(driving).abort_handle()),
        }
    }

    /// The next part of the answer's body.
    pub(in crate::live) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        self.inbox.poll_frame(cx)
    }

    /// Whether no part of the answer's body follows.
    pub(in crate::live) fn is_end_stream(&self) -> bool {
        self.inbox.is_end_stream()
    }

    /// How much of the answer's body follows.
    pub(in crate::live) fn size_hint(&self) -> SizeHint {
        self.inbox.size_hint()
    }
}

/// Sends what comes of the request, and reads of the answer what is asked for.
fn drive(connection: &mut Http1, feed: &Feed, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        if let Poll::Ready(Err(error)) = connection.poll_rest(cx) {
            feed.put(Err(error), true);
            return Poll::Ready(());
        }
        if !ready!(feed.poll_wanted(cx)) {
            return Poll::Ready(());
        }
        match ready!(connection.poll_frame(cx)) {
            Some(part) => {
                let over = part.is_err() || connection.is_end_stream();
                feed.put(part, over);
            }
            None => feed.end(),
        }
    }
}
