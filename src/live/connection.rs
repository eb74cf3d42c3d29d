//! A connection to an endpoint as one request has it: one of HTTP/1.1 for itself, or its turn on one of
//! HTTP/2. What is sent over it is sent once, and never again by itself.

use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use http_body::SizeHint;

use super::http1::apart::Apart;
use super::http1::connection::Http1;
use super::http2::Turn;
use super::inbox::Part;
use super::interim::Interim;
use super::line::Line;
use super::request_body::TryBody;
use super::request_head::RequestHead;
use crate::tls::Refusal;

/// An open connection, as far as one request has it.
#[derive(Debug)]
pub enum Connection {
    /// All of it, of HTTP/1.1.
    Http1(Box<Http1>),
    /// The same, driven by a task of its own.
    Apart(Apart),
    /// One stream of HTTP/2.
    Http2(Box<Turn>),
}

/// How sending a request ended without an answer.
#[derive(Debug)]
pub struct SendError {
    /// The request's body, where it was never started.
    pub unsent: Option<TryBody>,
    /// Whether no byte of it left us, or the endpoint said that it does not act on it as it takes no
    /// more on that connection.
    pub nothing_written: bool,
    /// Whether the endpoint refused it, without acting on it.
    pub refused: bool,
    /// Whether that was because it had just allowed fewer requests at a time: it only has to wait.
    pub overtaken: bool,
    /// Whether the upstream sent what is no valid answer, rather than nothing.
    pub invalid_answer: bool,
    /// The endpoint refused the TLS handshake after all; then it has not looked at the request.
    pub refusal: Option<Refusal>,
    /// What went wrong, for the log.
    pub cause: String,
}

impl Connection {
    /// Sends one request and waits for the head of its answer. Interim answers before it are passed on;
    /// `100 Continue` lets go of a body that is held back. The connection must be fresh, or from a pool.
    ///
    /// # Errors
    /// How far the request got, and what ended it.
    pub async fn send(
        &mut self,
        head: RequestHead<'_>,
        body: TryBody,
        interim: &Interim,
    ) -> Result<Response<()>, Box<SendError>> {
        match self {
            Self::Http1(connection) => connection.send(head, body, interim).await,
            // Boxed, so that it does not make every other request's future larger.
            Self::Http2(turn) => Box::pin(turn.send(head, body, interim)).await,
            // Not met: it has sent its last request.
            Self::Apart(_) => Err(Box::new(SendError {
                unsent: Some(body),
                nothing_written: true,
                ..SendError::stream("the connection takes no more requests".to_owned())
            })),
        }
    }

    /// The next part of the answer's body; `None`: nothing follows. Over HTTP/1.1 what is still to come
    /// of the request's body is sent meanwhile.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        match self {
            Self::Http1(connection) => connection.poll_frame(cx),
            Self::Apart(connection) => connection.poll_frame(cx),
            Self::Http2(turn) => turn.poll_frame(cx),
        }
    }

    /// Whether no part of the answer's body follows.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_end_stream(),
            Self::Apart(connection) => connection.is_end_stream(),
            Self::Http2(turn) => turn.is_end_stream(),
        }
    }

    /// How many bytes of the answer's body follow.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection) => connection.size_hint(),
            Self::Apart(connection) => connection.size_hint(),
            Self::Http2(turn) => turn.size_hint(),
        }
    }

    /// No other request may follow the current one, or begin beside it.
    pub fn retire(&mut self) {
        match self {
            Self::Http1(connection) => connection.retire(),
            Self::Apart(_) => {}
            Self::Http2(turn) => turn.retire(),
        }
    }

    /// The bytes below HTTP, after an answer with status 101; HTTP/2 has no such thing.
    pub fn into_line(self) -> Option<Line> {
        match self {
            Self::Http1(connection) => Some(connection.into_line()),
            Self::Apart(_) | Self::Http2(_) => None,
        }
    }

    /// From now on a task of its own drives the connection. For an answer that comes before the
    /// request's body is complete. A connection of HTTP/2 always has one.
    #[must_use]
    pub fn driven_apart(self) -> Self {
        match self {
            Self::Http1(connection) => Self::Apart(Apart::begin(connection)),
            Self::Apart(_) | Self::Http2(_) => self,
        }
    }

    /// Remembers for how long the endpoint said that it keeps an idle connection. HTTP/2 has no such
    /// word.
    pub fn learn_keep_alive(&mut self, timeout: Option<Duration>) {
        match self {
            Self::Http1(connection) => connection.learn_keep_alive(timeout),
            Self::Apart(_) | Self::Http2(_) => {}
        }
    }
}

impl SendError {
    /// The request was on its way, and no answer came.
    pub(super) fn stream(cause: String) -> Self {
        Self {
            unsent: None,
            nothing_written: false,
            refused: false,
            overtaken: false,
            invalid_answer: false,
            refusal: None,
            cause,
        }
    }
}

/// The error with what is behind it, in one line.
pub fn cause_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
