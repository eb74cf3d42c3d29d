//! The connection to the collector: one, kept while it lasts.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::timeout;

use crate::errand::{Line, Server};
use crate::live::wire::Dialer;
use crate::plan::Tracing;
use crate::telemetry::spans::Batch;

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;
/// What the body is.
const PROTOBUF: &str = "application/x-protobuf";
/// Who we are.
const OURSELVES: &str = concat!("mamparo/", env!("CARGO_PKG_VERSION"));

/// A connection to the collector of these settings. Dropped, it is closed.
pub(super) struct Link {
    settings: Arc<Tracing>,
    line: Line,
}

/// Why the collector has not taken a batch.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may take it yet.
    Passing {
        why: String,
        /// The time that it asks for.
        retry_after: Option<Duration>,
    },
    /// It would not take it a second time either, or that would take too long.
    Final(String),
}

impl Failure {
    /// In words.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Passing { why, .. } | Self::Final(why) => why,
        }
    }

    fn passing(why: String) -> Self {
        let retry_after = None;
        Self::Passing { why, retry_after }
    }
}

/// Sends a batch; gives the body of the answer to one that was taken.
pub(super) async fn post(link: &mut Option<Link>, batch: &Batch) -> Result<Bytes, Failure> {
    let settings = &batch.settings;
    let is_open = |link: &Link| Arc::ptr_eq(&link.settings, settings) && !link.line.is_closed();
    // Taken out: one that is not put back is closed, whatever becomes of us.
    if let Some(open) = link.take().filter(is_open) {
        match exchange(open, batch).await {
            // An idle connection may have been closed just now: that is no failure.
            Err((Failure::Passing { .. }, Broken::Yes)) => {}
            Err((failure, _)) => return Err(failure),
            Ok((answer, open)) => {
                *link = Some(open);
                return Ok(answer);
            }
        }
    }
    let open = connect(settings).await.map_err(Failure::passing)?;
    let (answer, open) = exchange(open, batch)
        .await
        .map_err(|(failure, _)| failure)?;
    *link = Some(open);
    Ok(answer)
}

/// Whether a connection ended before an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Yes,
    No,
}

/// One request and its answer; the connection comes back if it can be used again.
async fn exchange(mut link: Link, batch: &Batch) -> Result<(Bytes, Link), (Failure, Broken)> {
    let request = request(batch);
    let broken = |error: &dyn Display| {
        let why = format!("the connection broke: {error}");
        (Failure::passing(why), Broken::Yes)
    };
    let exchanging = async {
        link.line.ready().await.map_err(|error| broken(&error))?;
        let answer = link.line.ask(request).await;
        let (head, body) = answer.map_err(|error| broken(&error))?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| broken(&error))?.to_bytes();
        judge(&Response::from_parts(head, ())).map_err(|failure| (failure, Broken::No))?;
        Ok(body)
    };
    match timeout(batch.settings.timeout, exchanging).await {
        Ok(answer) => answer.map(|answer| (answer, link)),
        Err(_elapsed) => {
            let why = format!("no answer within {:?}", batch.settings.timeout);
            Err((Failure::Final(why), Broken::No))
        }
    }
}

/// What a status says of the batch, as the protocol has it.
fn judge(answer: &Response<()>) -> Result<(), Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let why = format!("it answered {status}");
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let asked = answer.headers().get(RETRY_AFTER);
            let seconds = asked.and_then(|asked| asked.to_str().ok()?.trim().parse().ok());
            Failure::Passing {
                why,
                retry_after: seconds.map(Duration::from_secs),
            }
        }
        _ => Failure::Final(why),
    })
}

fn request(batch: &Batch) -> Request<Full<Bytes>> {
    let Tracing {
        collector, headers, ..
    } = &*batch.settings;
    let mut request = Request::new(Full::new(batch.body.clone()));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = collector.path.parse().unwrap_or_default();
    let to = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(&collector.authority) {
        to.insert(HOST, host);
    }
    to.insert(USER_AGENT, HeaderValue::from_static(OURSELVES));
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        // Both were found valid with the configuration.
        if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_bytes(value.0.as_bytes())) {
            value.set_sensitive(true);
            to.insert(name, value);
        }
    }
    to.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    request
}

async fn connect(settings: &Arc<Tracing>) -> Result<Link, String> {
    let collector = &settings.collector;
    let server = Server {
        host: &collector.host,
        port: collector.port,
        tls: collector.tls,
        ca: None,
        called: &collector.authority,
    };
    let pipe = server.connect(&Dialer::System, settings.timeout).await?;
    let line = Line::over(pipe).await;
    Ok(Link {
        settings: Arc::clone(settings),
        line: line.map_err(|error| error.to_string())?,
    })
}
