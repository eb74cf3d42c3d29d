//! What answers requests, as the server sees it: the proxy, or a stand-in in tests.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

use super::transport::Transport;
use crate::live::received::ReceivedBody;
use crate::proxy::Reason;
use crate::proxy::client::Client;
use crate::proxy::tunnel::Close;
use crate::telemetry::limits::Limit;

/// What a body's error becomes on the way to the connection.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static;

    /// Answers one request. When the client leaves, the future and the body are dropped where they
    /// stand; guards inside must put things right. A request's body that is malformed gives an error
    /// (see [`crate::live::received::ReceiveError`]).
    fn handle(
        self: &Arc<Self>,
        client: &Arc<Client>,
        request: Request<ReceivedBody>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// A head that never became a request: `bad_request`, `header_too_large` or `header_timeout`. It
    /// is counted and logged here. Gives the bytes of a whole HTTP/1.1 answer with `connection:
    /// close`; `None`: the connection is closed without a word.
    ///
    /// Also called with `internal` after [`Handler::handle`] has panicked before its answer began;
    /// then the request's own guards have been dropped by the panic and have told of it already, and
    /// only the bytes are wanted.
    fn refuse(
        self: &Arc<Self>,
        client: &Client,
        reason: Reason,
        detail: &str,
        started: Instant,
    ) -> Option<Vec<u8>>;

    /// The same over HTTP/2, where the answer is not bytes but a head and a body. It is dropped where
    /// the client was told in another way.
    fn refusal(
        self: &Arc<Self>,
        client: &Client,
        reason: Reason,
        detail: &str,
        started: Instant,
    ) -> Response<Bytes>;

    /// Whether a redirected client's request goes on to where it was going, since no route matches it.
    fn passes<B>(&self, client: &Client, request: &Request<B>) -> bool {
        let _ = (client, request);
        false
    }

    /// Passes a redirected client's connection on to where it was going, with the bytes that came
    /// already, until it has ended or `cut` is ready. Gives how the client's end is to be closed.
    fn pass<IO: Transport>(
        self: &Arc<Self>,
        client: &Client,
        io: &mut IO,
        early: &[u8],
        cut: impl Future<Output = ()> + Send,
    ) -> impl Future<Output = Close> + Send {
        let _ = (client, io, early, cut);
        std::future::ready(Close::Break)
    }

    /// A client has gone over a limit of that listener. It is counted, and told in the log.
    fn limited(self: &Arc<Self>, listener: &Arc<str>, peer: Option<SocketAddr>, limit: Limit);
}
