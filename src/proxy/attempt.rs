//! One try: a connection, the request on it, and the head of an answer or what came instead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderValue};
use http::{Request, Response, response};
use hyper::body::Incoming;

use super::body::{Link, Stream};
use super::handle::{Exchange, Failed};
use super::tries::Passage;
use super::{headers, message};
use crate::clock;
use crate::live::connection::{Connection, SendError};
use crate::live::request_body::{RequestBody, TryBody};
use crate::live::roster::{Admission, Endpoint, Move};
use crate::live::slots::Slot;
use crate::live::upstream::Lease;
use crate::policy::breaker::Observation;
use crate::policy::outcome::{Ending, Reason, Sent};

/// The right to one try.
pub(super) struct Attempt {
    admission: Admission,
    waited: Duration,
}

/// What a try ended in.
pub(super) struct Attempted {
    pub(super) ending: Ending,
    pub(super) sent: Sent,
    pub(super) reused: bool,
    /// What the system or the parser said of a failure.
    pub(super) detail: Option<String>,
    pub(super) answer: Option<Answered>,
}

/// The head of an answer, and the connection that its body comes over.
pub(super) struct Answered {
    pub(super) head: response::Parts,
    stream: Stream,
}

impl Answered {
    pub(super) fn into_parts(self) -> (response::Parts, Stream) {
        (self.head, self.stream)
    }
}

/// A time limit and the reason that it stands for.
#[derive(Clone, Copy)]
struct Limit {
    until: Instant,
    reason: Reason,
}

impl Attempt {
    pub(super) fn new(admission: Admission, waited: Duration) -> Self {
        Self { admission, waited }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        self.admission.endpoint()
    }

    /// The backoff before it.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    pub(super) fn settle(self, seen: Observation, now: Instant) -> Option<Move> {
        self.admission.settle(seen, now, fastrand::f64())
    }

    /// Makes the try.
    ///
    /// # Errors
    /// No connection may be opened: a refusal of ours, which says nothing about the endpoint.
    pub(super) async fn run(
        &self,
        exchange: &Exchange<'_>,
        passage: &Passage<'_>,
        number: u32,
    ) -> Result<Attempted, Failed> {
        let mut unsent = None;
        loop {
            let lease = self.lease(exchange, passage)?;
            let reused = matches!(lease, Lease::Pooled(_));
            let mut connection = match lease {
                Lease::Pooled(connection) => connection,
                Lease::New(slot) => match self.connect(exchange, passage, slot).await {
                    Ok(connection) => connection,
                    Err((reason, detail)) => {
                        return Ok(Attempted::failed(reason, Sent::NotSent, reused, detail));
                    }
                },
            };
            let limit = self.limit(passage);
            let request = match unsent.take() {
                Some(request) => request,
                None => self.request(exchange, passage, number),
            };
            let sending = connection.send(request);
            let result = match limit {
                None => sending.await,
                Some(limit) => match tokio::time::timeout_at(limit.until.into(), sending).await {
                    Ok(result) => result,
                    Err(_) => return Ok(Attempted::late(limit.reason, reused)),
                },
            };
            match result {
                Ok(answer) => {
                    return Ok(self.answered(exchange, passage, answer, connection, reused));
                }
                // The endpoint closed an idle connection just now, and not a byte left us: another
                // connection is taken, which costs nothing and is no try (rule 16). This ends, since
                // each round uses up a pooled connection, and a new one is not `reused`.
                Err(error) if reused && error.nothing_written => unsent = error.unsent,
                Err(error) => return Ok(Attempted::broken(*error, reused)),
            }
        }
    }

    fn lease(&self, exchange: &Exchange<'_>, passage: &Passage<'_>) -> Result<Lease, Failed> {
        let upstream = &passage.route.upstream;
        let settings = &passage.route.plan.upstream;
        let worker = exchange.client.worker;
        upstream
            .lease(self.endpoint(), settings, worker, clock::now())
            .map_err(|full| {
                let message = message::too_many_connections(upstream.name(), full.limit);
                let mut failed = Failed::new(Reason::TooManyConnections, message);
                failed.retry_after = Some(Duration::from_secs(1));
                failed
            })
    }

    async fn connect(
        &self,
        exchange: &Exchange<'_>,
        passage: &Passage<'_>,
        slot: Slot,
    ) -> Result<Box<Connection>, (Reason, String)> {
        let timeout = passage.route.plan.policies.timeouts.connect;
        let limit = sooner(
            timeout.map(|timeout| (clock::now() + timeout, Reason::ConnectTimeout)),
            passage
                .deadline
                .map(|deadline| (deadline.at, Reason::RequestTimeout)),
        );
        let opening = Connection::open(&exchange.proxy.dialer, self.endpoint().address, slot);
        let opened = match limit {
            None => opening.await,
            Some(limit) => match tokio::time::timeout_at(limit.until.into(), opening).await {
                Ok(opened) => opened,
                Err(_) => return Err((limit.reason, "the connection was not made in time".into())),
            },
        };
        let connection = opened.map_err(|error| (Reason::ConnectFailure, error.to_string()))?;
        passage.route.meters.upstream().connections_opened.add_one();
        Ok(connection)
    }

    /// From sending to the head of the answer: the try's own time, within the request's.
    fn limit(&self, passage: &Passage<'_>) -> Option<Limit> {
        let timeout = passage.route.plan.policies.timeouts.per_try;
        sooner(
            timeout.map(|timeout| (clock::now() + timeout, Reason::TryTimeout)),
            passage
                .deadline
                .map(|deadline| (deadline.at, Reason::RequestTimeout)),
        )
    }

    fn request(
        &self,
        exchange: &Exchange<'_>,
        passage: &Passage<'_>,
        number: u32,
    ) -> Request<TryBody> {
        let head = passage.head;
        let body = passage
            .body
            .as_ref()
            .map_or_else(TryBody::empty, RequestBody::for_try);
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        let headers = request.headers_mut();
        if !headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(&self.endpoint().label)
        {
            headers.insert(HOST, host);
        }
        let left = passage.deadline.map(|end| end.left(clock::now()));
        headers::for_try(headers, number, exchange.told.trace(), left);
        request
    }

    fn answered(
        &self,
        exchange: &Exchange<'_>,
        passage: &Passage<'_>,
        answer: Response<Incoming>,
        mut connection: Box<Connection>,
        reused: bool,
    ) -> Attempted {
        let (head, incoming) = answer.into_parts();
        connection.learn_keep_alive(headers::keep_alive_of(&head.headers));
        let link = Link {
            connection: Some(connection),
            upstream: Arc::clone(&passage.route.upstream),
            endpoint: Arc::clone(self.endpoint()),
            settings: Arc::clone(&passage.route.plan.upstream),
            worker: exchange.client.worker,
            breaker: passage.route.plan.policies.circuit_breaker.clone(),
        };
        let idle = passage.route.plan.policies.timeouts.idle;
        let stream = Stream::new(incoming, link, idle, passage.body.clone());
        Attempted {
            ending: Ending::Answered(head.status.as_u16()),
            sent: Sent::Answered,
            reused,
            detail: None,
            answer: Some(Answered { head, stream }),
        }
    }
}

impl Attempted {
    fn failed(reason: Reason, sent: Sent, reused: bool, detail: String) -> Self {
        let ending = Ending::Failed(reason);
        Self {
            ending,
            sent,
            reused,
            detail: Some(detail),
            answer: None,
        }
    }

    fn late(reason: Reason, reused: bool) -> Self {
        let ending = Ending::Failed(reason);
        Self {
            ending,
            sent: Sent::Unanswered,
            reused,
            detail: None,
            answer: None,
        }
    }

    fn broken(error: SendError, reused: bool) -> Self {
        let reason = if error.invalid_answer {
            Reason::ProtocolError
        } else {
            Reason::Reset
        };
        let sent = if error.nothing_written {
            Sent::NotSent
        } else {
            Sent::Unanswered
        };
        Self::failed(reason, sent, reused, error.cause)
    }
}

fn sooner(a: Option<(Instant, Reason)>, b: Option<(Instant, Reason)>) -> Option<Limit> {
    let (until, reason) = match (a, b) {
        (Some(a), Some(b)) => {
            if a.0 <= b.0 {
                a
            } else {
                b
            }
        }
        (one, other) => one.or(other)?,
    };
    Some(Limit { until, reason })
}
