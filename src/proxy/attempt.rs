//! One try: a connection, the request on it, and the head of an answer or what came instead.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use http::{Response, StatusCode, Version, response};
use http_body::Body;

use super::body::{Link, Stream};
use super::handle::{Exchange, Failed};
use super::limits::Late;
use super::site::RouteSite;
use super::told::Begins;
use super::tries::{Answer, Ended, Passage};
use super::tunnel::Opened;
use super::{framing, grpc, headers, message, upgrade};
use crate::clock;
use crate::live::connection::{Connection, SendError};
use crate::live::group;
use crate::live::http1::connection::Http1;
use crate::live::http2::{NotObtained, Queued};
use crate::live::line::Line;
use crate::live::request_body::TryBody;
use crate::live::roster::{Admission, Endpoint, Move};
use crate::live::slots::Slot;
use crate::live::tls::TlsFailure;
use crate::live::upstream::Lease;
use crate::policy::balance;
use crate::policy::breaker::Observation;
use crate::policy::outcome::{Ending, Reason, Sent};
use crate::policy::retry::Pushback;
use crate::policy::timeout;

/// The right to one try.
pub(super) struct Attempt {
    admission: Admission,
    waited: Duration,
    began: Instant,
}

/// What a try ended in.
pub(super) struct Attempted {
    pub(super) ending: Ending,
    pub(super) sent: Sent,
    pub(super) reused: bool,
    /// What the system or the parser said of a failure.
    pub(super) detail: Option<String>,
    /// It failed, but not by the endpoint's fault.
    pub(super) blameless: bool,
    pub(super) answer: Option<Box<Stream>>,
    /// It opened a tunnel.
    pub(super) opened: Option<Box<Opened>>,
}

impl Attempt {
    pub(super) fn new(admission: Admission, waited: Duration, began: Instant) -> Self {
        Self {
            admission,
            waited,
            began,
        }
    }

    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        self.admission.endpoint()
    }

    /// As it is told of when it begins.
    pub(super) fn begins<'a>(&'a self, balance: &'a balance::Settings) -> Begins<'a> {
        Begins {
            endpoint: self.endpoint(),
            picked: self.admission.picked(),
            hashed_by: match balance {
                balance::Settings::Hash { header } => Some(header),
                balance::Settings::LeastRequest
                | balance::Settings::RoundRobin
                | balance::Settings::Random => None,
            },
            began: self.began,
            waited: self.waited,
        }
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
        passage: &mut Passage<'_>,
        number: u32,
    ) -> Result<Attempted, Failed> {
        let route = passage.route;
        let timeouts = &route.plan.policies.timeouts;
        let mut unsent: Option<Box<SendError>> = None;
        let mut now = self.began;
        if passage.connect {
            // Boxed, since few requests come to this.
            return Box::pin(self.open_line(exchange, passage)).await;
        }
        loop {
            let lease = self.lease(exchange, passage, now)?;
            let (mut connection, reused) = match lease {
                Lease::Pooled(connection) => (connection, true),
                Lease::New(slot) => match self.connect(exchange, passage, slot).await? {
                    Ok(connection) => {
                        now = self.connected(exchange);
                        (connection, false)
                    }
                    Err(attempted) => return Ok(attempted),
                },
                Lease::Queued(queued) => match self.wait_in_line(passage, queued).await? {
                    Ok((connection, reused)) => {
                        now = self.connected(exchange);
                        (connection, reused)
                    }
                    Err(attempted) => return Ok(attempted),
                },
            };
            // Before anything is looked at that could have changed meanwhile. The streams of a connection
            // are a group already.
            if !exchange.client.is_stream() {
                group::to_endpoints().await;
            }
            let body = match unsent.take().and_then(|error| error.unsent) {
                Some(body) => body,
                None => match self.prepare(exchange, passage, number, now) {
                    Some(body) => body,
                    None => return Ok(Attempted::body_is_gone(reused)),
                },
            };
            if passage.upgrade.is_some() {
                // No other request can follow.
                connection.retire();
            }
            exchange.told.sending();
            let result = {
                let client = exchange.client;
                let sending = pin!(connection.send(passage.head.lend(), body, client.interim()));
                passage.to_answer(sending, client, now).await
            };
            let result = match result {
                Ok(result) => result,
                Err(Late::ClientSendsNothing) => {
                    let message = message::client_sends_nothing(timeouts.idle);
                    return Err(Failed::new(Reason::ClientGone, message));
                }
                Err(late) => return Ok(Attempted::late(late, timeouts, reused)),
            };
            match result {
                Ok(answer) => {
                    let mut attempted =
                        self.answered(exchange, passage, answer, connection, reused);
                    if let Some(call) = &exchange.call {
                        // In a box, so that other requests do not carry it along.
                        Box::pin(grpc::judge(call, passage, &mut attempted, now)).await;
                    }
                    return Ok(attempted);
                }
                // The endpoint closed an idle connection just now, and not a byte left us: another
                // connection is taken, which costs nothing and is no try (rule 16). This ends, since
                // each round uses up a pooled connection, and a new one is not `reused`. One that was
                // overtaken waits in line, within the request's time.
                Err(error) if reused && error.nothing_written || error.overtaken => {
                    unsent = Some(error);
                    now = clock::now();
                }
                Err(error) => return Ok(self.broken(*error, reused)),
            }
        }
    }

    /// Its connection had to be waited for, and stands now, which is returned.
    fn connected(&self, exchange: &Exchange<'_>) -> Instant {
        let now = clock::now();
        exchange
            .told
            .connected(now.saturating_duration_since(self.began));
        now
    }

    /// A line to the endpoint, for CONNECT. Nothing of the pool can be one.
    async fn open_line(
        &self,
        exchange: &Exchange<'_>,
        passage: &Passage<'_>,
    ) -> Result<Attempted, Failed> {
        let RouteSite { upstream, plan, .. } = &**passage.route;
        let worker = exchange.client.worker;
        let slot = upstream.lease_slot(self.endpoint(), &plan.upstream, worker, self.began);
        let slot = slot.map_err(|full| too_many_connections(upstream.name(), full.limit))?;
        let dialer = &exchange.proxy.dialer;
        let opening = Line::open(dialer, &self.endpoint().address, Some(slot));
        let line = match passage.to_connect(pin!(opening)).await {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return self.not_connected(passage, &error),
            Err(late) => return Ok(Attempted::not_in_time(late)),
        };
        self.connected(exchange);
        passage.route.meters.upstream().connections_opened.add_one();
        let (head, ()) = Response::new(()).into_parts();
        let idle = plan.policies.timeouts.idle;
        Ok(Attempted::opened(Opened { head, line, idle }, false))
    }

    fn lease(
        &self,
        exchange: &Exchange<'_>,
        passage: &Passage<'_>,
        now: Instant,
    ) -> Result<Lease, Failed> {
        let upstream = &passage.route.upstream;
        let settings = &passage.route.plan.upstream;
        let worker = exchange.client.worker;
        let dialer = &exchange.proxy.dialer;
        // A switched protocol takes over the connection.
        let alone = passage.upgrade.is_some();
        let lease = upstream.lease(self.endpoint(), settings, dialer, worker, alone, now);
        lease.map_err(|full| too_many_connections(upstream.name(), full.limit))
    }

    /// Waits for a stream of HTTP/2 as long as a connection may take; boxed, since it is rare.
    async fn wait_in_line(
        &self,
        passage: &Passage<'_>,
        mut queued: Box<Queued>,
    ) -> Result<Result<(Connection, bool), Attempted>, Failed> {
        let obtained = passage.to_connect(Box::pin(queued.connection())).await;
        let upstream = passage.route.upstream.name();
        match obtained {
            Ok(Ok(obtained)) => {
                if obtained.opened {
                    passage.route.meters.upstream().connections_opened.add_one();
                }
                Ok(Ok((obtained.connection, obtained.reused)))
            }
            Ok(Err(NotObtained::Failed(error))) => self.not_connected(passage, &error).map(Err),
            Ok(Err(NotObtained::Full(full))) => Err(too_many_connections(upstream, full.limit)),
            Err(late) => {
                let Some(limit) = queued.at_limit() else {
                    return Ok(Err(Attempted::not_in_time(late)));
                };
                match late {
                    // Our own limit kept it waiting, so nothing is said about the endpoint.
                    Late::Connect => Err(too_many_connections(upstream, limit)),
                    Late::Try
                    | Late::Request { .. }
                    | Late::UpstreamTakesNothing
                    | Late::ClientSendsNothing => Ok(Err(Attempted {
                        blameless: true,
                        ..Attempted::not_in_time(late)
                    })),
                }
            }
        }
    }

    async fn connect(
        &self,
        exchange: &Exchange<'_>,
        passage: &Passage<'_>,
        slot: Slot,
    ) -> Result<Result<Connection, Attempted>, Failed> {
        let opening = Http1::open(&exchange.proxy.dialer, self.endpoint(), slot);
        match passage.to_connect(opening).await {
            Ok(Ok(connection)) => {
                passage.route.meters.upstream().connections_opened.add_one();
                Ok(Ok(Connection::Http1(connection)))
            }
            Ok(Err(error)) => self.not_connected(passage, &error).map(Err),
            Err(late) => Ok(Err(Attempted::not_in_time(late))),
        }
    }

    fn not_connected(&self, passage: &Passage<'_>, error: &io::Error) -> Result<Attempted, Failed> {
        if is_ours(error) {
            let message = message::no_socket(passage.route.upstream.name(), error);
            return Err(full(message));
        }
        let tls = TlsFailure::behind(error);
        if let (Some(wanted), true) = (&passage.upgrade, tls.is_some_and(|tls| tls.is_no_protocol))
        {
            return Err(upgrade::impossible(passage.route.upstream.name(), wanted));
        }
        let reason = match tls {
            Some(_) => Reason::TlsFailure,
            None => Reason::ConnectFailure,
        };
        Ok(Attempted::failed(
            reason,
            Sent::NotSent,
            false,
            error.to_string(),
        ))
    }

    /// Makes the head what this try sends, and gives the body; `None`: its first bytes are gone.
    fn prepare(
        &self,
        exchange: &Exchange<'_>,
        passage: &mut Passage<'_>,
        number: u32,
        now: Instant,
    ) -> Option<TryBody> {
        let body = match &passage.body {
            Some(body) => body.for_try()?,
            None => TryBody::empty(),
        };
        let left = passage.deadline.map(|end| end.left(now));
        // From a client of HTTP/2; HTTP/1.1 would take a GET without it for one without a body.
        let chunked = body.size_hint().exact().is_none()
            && !passage.head.headers.contains_key(TRANSFER_ENCODING);
        if let Some(call) = &exchange.call {
            call.for_try(&mut passage.head.headers, number, now);
        }
        let ours = passage.head.begin_try();
        headers::for_try(ours, number, exchange.told.traceparent(), left);
        if chunked {
            ours.push((TRANSFER_ENCODING, HeaderValue::from_static("chunked")));
        }
        if !passage.names_host
            && let Ok(host) = HeaderValue::from_str(&self.endpoint().host)
        {
            ours.push((HOST, host));
        }
        Some(body)
    }

    fn answered(
        &self,
        exchange: &Exchange<'_>,
        passage: &Passage<'_>,
        answer: Response<()>,
        mut connection: Connection,
        reused: bool,
    ) -> Attempted {
        let (head, ()) = answer.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Self::switched(passage, head, connection, reused);
        }
        let fields = match framing::check_answer(&head) {
            Ok(fields) => fields,
            Err(problem) => {
                let detail = problem.to_owned();
                return Attempted::failed(Reason::ProtocolError, Sent::Unanswered, reused, detail);
            }
        };
        connection.learn_keep_alive(fields.keep_alive.and_then(headers::keep_alive_of));
        if head.version < Version::HTTP_11 {
            // It would be spoken to in HTTP/1.0 from now on, which has no chunked bodies.
            connection.retire();
        }
        if passage.upload().is_some_and(|upload| !upload.complete) {
            connection = connection.driven_apart();
        }
        let link = Link {
            connection: Some(connection),
            route: Arc::clone(passage.route),
            endpoint: Arc::clone(self.endpoint()),
            worker: exchange.client.worker,
        };
        let idle = passage.route.plan.policies.timeouts.idle;
        let ending = Ending::Answered(head.status.as_u16());
        let stream = Stream::new(head, link, idle, passage.body.clone());
        Attempted {
            ending,
            sent: Sent::Answered,
            reused,
            detail: None,
            blameless: false,
            answer: Some(Box::new(stream)),
            opened: None,
        }
    }

    fn broken(&self, error: SendError, reused: bool) -> Attempted {
        let endpoint = self.endpoint();
        if let (Some(refusal), Some(secured), false) = (error.refusal, &endpoint.secured, reused) {
            let sentence = refusal.sentence(&endpoint.label, secured.has_identity());
            return Attempted::failed(Reason::TlsFailure, Sent::NotSent, reused, sentence);
        }
        let reason = if error.invalid_answer {
            Reason::ProtocolError
        } else {
            Reason::Reset
        };
        let sent = if error.nothing_written || error.refused {
            Sent::NotSent
        } else {
            Sent::Unanswered
        };
        Attempted::failed(reason, sent, reused, error.cause)
    }

    /// The endpoint speaks another protocol from here on.
    fn switched(
        passage: &Passage<'_>,
        head: response::Parts,
        connection: Connection,
        reused: bool,
    ) -> Attempted {
        let line = upgrade::granted(&head, passage.upgrade.as_deref()).and_then(|()| {
            let line = connection.into_line();
            line.ok_or("the connection broke as its protocol was switched")
        });
        let line = match line {
            Ok(line) => line,
            Err(wrong) => {
                let detail = wrong.to_owned();
                return Attempted::failed(Reason::ProtocolError, Sent::Unanswered, reused, detail);
            }
        };
        let idle = passage.route.plan.policies.timeouts.idle;
        Attempted::opened(Opened { head, line, idle }, reused)
    }
}

impl Attempted {
    /// When a gRPC service wants the call again that ended so.
    pub(super) fn pushback(&self) -> Option<Pushback> {
        let ended = matches!(self.ending, Ending::Grpc { .. });
        self.answer
            .as_deref()
            .filter(|_| ended)
            .and_then(grpc::pushback)
    }

    /// What it ended in, where it opened a tunnel: that is final.
    pub(super) fn into_opened(mut self) -> Result<Ended, Self> {
        match self.opened.take() {
            Some(opened) => Ok(Ended {
                ending: self.ending,
                answer: Answer::Opened(opened),
            }),
            None => Err(self),
        }
    }

    fn failed(reason: Reason, sent: Sent, reused: bool, detail: String) -> Self {
        let ending = Ending::Failed(reason);
        Self {
            ending,
            sent,
            reused,
            detail: Some(detail),
            blameless: false,
            answer: None,
            opened: None,
        }
    }

    fn opened(opened: Opened, reused: bool) -> Self {
        Self {
            ending: Ending::Answered(opened.head.status.as_u16()),
            sent: Sent::Answered,
            reused,
            detail: None,
            blameless: false,
            answer: None,
            opened: Some(Box::new(opened)),
        }
    }

    /// Its connection was not made in time.
    fn not_in_time(late: Late) -> Self {
        let detail = "the connection was not made in time".to_owned();
        Self::failed(late.reason(), Sent::NotSent, false, detail)
    }

    fn late(late: Late, timeouts: &timeout::Settings, reused: bool) -> Self {
        let waits_for_client = true;
        let blameless = late == Late::Request { waits_for_client };
        let detail = match late {
            Late::UpstreamTakesNothing => Some(message::upstream_takes_nothing(timeouts.idle)),
            Late::Request { .. } if blameless => Some(message::client_still_sends().to_owned()),
            Late::Connect | Late::Try | Late::Request { .. } | Late::ClientSendsNothing => None,
        };
        Self {
            ending: Ending::Failed(late.reason()),
            sent: Sent::Unanswered,
            reused,
            detail,
            blameless,
            answer: None,
            opened: None,
        }
    }

    /// A connection broke while the request was handed to it, or said that it takes no more. Nobody has
    /// acted on it, but its body's first bytes were on their way and are not kept.
    fn body_is_gone(reused: bool) -> Self {
        let detail = "the connection ended before the request was acted on, and the first bytes of \
                      its body are not kept";
        let detail = detail.to_owned();
        Self::failed(Reason::Reset, Sent::NotSent, reused, detail)
    }
}

fn too_many_connections(upstream: &str, limit: usize) -> Failed {
    full(message::too_many_connections(upstream, limit))
}

/// There is no room for another connection.
fn full(message: String) -> Failed {
    let mut failed = Failed::new(Reason::TooManyConnections, message);
    failed.retry_after = Some(Duration::from_secs(1));
    failed
}

/// Whether a connection could not be made because of this process or its system: that says nothing
/// about the endpoint.
pub fn is_ours(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const EADDRNOTAVAIL: i32 = 99;
    const ENOBUFS: i32 = 105;
    let ours = [ENOMEM, ENFILE, EMFILE, EADDRNOTAVAIL, ENOBUFS];
    error
        .raw_os_error()
        .is_some_and(|number| ours.contains(&number))
}
