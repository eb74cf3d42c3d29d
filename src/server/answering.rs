//! The proxy as what answers the requests of a listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};

use super::handler::Handler;
use super::transport::Transport;
use crate::clock;
use crate::live::received::ReceivedBody;
use crate::proxy::body::AnswerBody;
use crate::proxy::client::Client;
use crate::proxy::tunnel::Close;
use crate::proxy::{Proxy, Reason, handle, pass, refuse};
use crate::telemetry::limits::Limit;

impl Handler for Proxy {
    type Body = AnswerBody;

    fn passes<B>(&self, client: &Client, request: &Request<B>) -> bool {
        pass::passes(self, client, request)
    }

    fn pass<IO: Transport>(
        self: &Arc<Self>,
        client: &Client,
        io: &mut IO,
        early: &[u8],
        cut: impl Future<Output = ()> + Send,
    ) -> impl Future<Output = Close> + Send {
        pass::pass(self, client, io, early, cut)
    }

    fn handle(
        self: &Arc<Self>,
        client: &Arc<Client>,
        request: Request<ReceivedBody>,
    ) -> impl Future<Output = Response<AnswerBody>> + Send {
        handle::handle(self, client, request)
    }

    fn refuse(
        self: &Arc<Self>,
        client: &Client,
        reason: Reason,
        detail: &str,
        started: Instant,
    ) -> Option<Vec<u8>> {
        Some(refuse::refuse(self, client, reason, detail, started))
    }

    fn refusal(
        self: &Arc<Self>,
        client: &Client,
        reason: Reason,
        detail: &str,
        started: Instant,
    ) -> Response<Bytes> {
        refuse::refusal(self, client, reason, detail, started)
    }

    fn limited(self: &Arc<Self>, listener: &Arc<str>, peer: Option<SocketAddr>, limit: Limit) {
        self.telemetry.limited(listener, peer, limit, clock::now());
    }
}
