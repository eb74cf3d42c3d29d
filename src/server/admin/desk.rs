//! The admin interface as what answers the requests of a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};

use super::answer;
use super::feed::{self, Content, Feed, Wire};
use super::{HEAD_TIMEOUT, Offer};
use super::{guard, handle};
use crate::live::http1::fields;
use crate::live::received::ReceivedBody;
use crate::proxy::client::Client;
use crate::proxy::{Protocol, Reason, Role};
use crate::server::door::{Door, Settings};
use crate::server::handler::Handler;
use crate::telemetry::limits::Limit;

/// Bytes of a request's head, and its lines.
const MAX_HEAD: usize = 16 * 1024;
const MAX_LINES: usize = 100;

/// Answers the requests of one connection to the admin interface.
pub(super) struct Desk {
    feed: Arc<Feed>,
    wire: Arc<Wire>,
    offer: Offer,
}

impl Desk {
    /// The door of one connection, which ends it when it drains.
    pub(super) fn door(feed: Arc<Feed>, wire: Arc<Wire>, offer: Offer) -> Arc<Door<Self>> {
        let settings = Settings {
            header_timeout: HEAD_TIMEOUT,
            idle_timeout: HEAD_TIMEOUT,
            header_size: MAX_HEAD,
            max_headers: MAX_LINES,
            protocol: Protocol::Http1,
            max_streams: 1,
            max_connections: None,
            redirected: None,
        };
        Door::new(
            "admin".into(),
            Role::Inbound,
            settings,
            Arc::new(Self { feed, wire, offer }),
        )
    }
}

impl Handler for Desk {
    type Body = Content;

    async fn handle(
        self: &Arc<Self>,
        _: &Arc<Client>,
        request: Request<ReceivedBody>,
    ) -> Response<Content> {
        let is_stream = request.method() == Method::GET && request.uri().path() == feed::PATH;
        if is_stream
            && self.offer == Offer::Everything
            && guard::reading(request.uri(), request.headers()).is_none()
        {
            return self.feed.open(&self.wire);
        }
        let answer = handle::handle(request, self.feed.control(), self.offer).await;
        answer.map(Full::new).map(Either::Left)
    }

    fn refuse(
        self: &Arc<Self>,
        client: &Client,
        reason: Reason,
        detail: &str,
        started: Instant,
    ) -> Option<Vec<u8>> {
        let answer = self.refusal(client, reason, detail, started);
        let status = answer.status();
        let words = status.canonical_reason().unwrap_or_default();
        let mut bytes = format!("HTTP/1.1 {} {words}\r\n", status.as_str()).into_bytes();
        fields::append(answer.headers(), &mut bytes);
        let length = answer.body().len();
        bytes.extend(format!("content-length: {length}\r\nconnection: close\r\n\r\n").bytes());
        bytes.extend_from_slice(answer.body());
        Some(bytes)
    }

    fn refusal(
        self: &Arc<Self>,
        _: &Client,
        reason: Reason,
        detail: &str,
        _: Instant,
    ) -> Response<Bytes> {
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::BAD_REQUEST);
        answer::refusal(status, detail, &[])
    }

    fn limited(self: &Arc<Self>, _: &Arc<str>, _: Option<SocketAddr>, _: Limit) {}
}
