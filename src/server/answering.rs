//! The proxy as what answers the requests of a listener.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};

use super::handler::Handler;
use crate::live::received::ReceivedBody;
use crate::proxy::body::AnswerBody;
use crate::proxy::client::Client;
use crate::proxy::{Proxy, Reason, handle, refuse};

impl Handler for Proxy {
    type Body = AnswerBody;

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
}
