//! Step 6: one try, or as many as the policies allow. What a try ended in is judged once, and breaker,
//! budget and balance learn the same from it.

use std::mem::{replace, take};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{self, PathAndQuery, Uri};
use http::{HeaderMap, Method, Response, Version, response};
use http_body::Body;
use smallvec::SmallVec;

use super::attempt::{Attempt, Attempted};
use super::body::{AnswerBody, Stream, WholeCall};
use super::handle::{Deadline, Exchange, Failed, Way};
use super::head::Head;
use super::headers::{self, Found, Onward};
use super::message::{self, Tried};
use super::site::RouteSite;
use super::told::{Shown, Told};
use super::tunnel::{Handover, Opened, Tunnel};
use super::unavailable;
use super::upgrade;
use crate::clock;
use crate::live::received::ReceivedBody;
use crate::live::request_body::{Broken, RequestBody};
use crate::live::roster::Wish;
use crate::live::router;
use crate::live::seats::Seat;
use crate::plan::{self, Role};
use crate::policy::balance;
use crate::policy::breaker::{self, Observation};
use crate::policy::outcome::{Ending, Outcome, Reason};
use crate::policy::retry;
use crate::telemetry::report::Halted;

/// Bytes of a failed answer that are kept while another try is made, to be passed on if that one
/// brings none.
const KEPT_ANSWER: usize = 64 * 1024;

/// Bytes of a request's body that are kept where nothing is retried: a pooled connection may turn out
/// to be closed when the body has been read, but no byte has left us.
const KEPT_UNSENT: usize = 16 * 1024;

/// How long the rest of a failed answer is waited for before another try is made without it.
const KEEP_WITHIN: Duration = Duration::from_millis(100);

/// What the tries ended in: an answer.
pub(super) struct Ended {
    /// What the last try ended in, for the fallbacks. It may have failed: then the answer is the last
    /// real one before it (rule 31).
    pub(super) ending: Ending,
    pub(super) answer: Answer,
}

/// The answer that the tries ended in: its head, and its body.
pub(super) enum Answer {
    /// Its body is still coming.
    Stream(Box<Stream>),
    /// Kept from an earlier try.
    Kept(Box<Kept>),
    /// It opens a tunnel.
    Opened(Box<Opened>),
}

/// An answer of an earlier try.
pub(super) struct Kept {
    head: response::Parts,
    ending: Ending,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Ended {
    /// An answer of our own, without a try.
    pub(super) fn here((head, body): (response::Parts, Bytes)) -> Self {
        let ending = Ending::Answered(head.status.as_u16());
        let kept = Kept {
            head,
            ending,
            body,
            trailers: None,
        };
        let answer = Answer::Kept(Box::new(kept));
        Self { ending, answer }
    }
}

impl Answer {
    pub(super) fn head(&mut self) -> &mut response::Parts {
        match self {
            Self::Stream(stream) => stream.head(),
            Self::Kept(kept) => &mut kept.head,
            Self::Opened(opened) => &mut opened.head,
        }
    }

    pub(super) fn status(&self) -> u16 {
        let status = match self {
            Self::Stream(stream) => stream.status(),
            Self::Kept(kept) => kept.head.status,
            Self::Opened(opened) => opened.head.status,
        };
        status.as_u16()
    }

    /// What the try ended in that brought it, where that is not the last.
    pub(super) fn ending(&self) -> Option<Ending> {
        match self {
            Self::Stream(_) | Self::Opened(_) => None,
            Self::Kept(kept) => Some(kept.ending),
        }
    }

    /// Whether it opens a tunnel.
    pub(super) fn opens_tunnel(&self) -> bool {
        matches!(self, Self::Opened(_))
    }

    /// With this head, to be handed to the server.
    pub(super) fn into_response(
        self,
        mut head: response::Parts,
        mut told: Told,
        seat: Option<Seat>,
    ) -> Response<AnswerBody> {
        let body = match self {
            Self::Stream(stream) => AnswerBody::stream(stream, told, seat),
            Self::Kept(kept) => match kept.trailers {
                None => AnswerBody::bytes(kept.body, told, seat),
                trailers => {
                    let messages = kept.body;
                    AnswerBody::call(WholeCall { messages, trailers }, told, seat)
                }
            },
            Self::Opened(opened) => {
                told.report().tunnel = true;
                // What follows has no length (RFC 9110 section 8.6), whatever the endpoint says.
                head.headers.remove(CONTENT_LENGTH);
                head.headers.remove(TRANSFER_ENCODING);
                let tunnel = Tunnel::new(opened.line, told, seat, opened.idle);
                let mut response = Response::from_parts(head, AnswerBody::none());
                response.extensions_mut().insert(Handover::new(tunnel));
                return response;
            }
        };
        Response::from_parts(head, body)
    }
}

/// What does not change from try to try.
pub(super) struct Passage<'a> {
    pub(super) route: &'a Arc<RouteSite>,
    pub(super) head: Head,
    /// Whether the head says what host it is for.
    pub(super) names_host: bool,
    /// The protocols that it asks to switch to.
    pub(super) upgrade: Option<Box<HeaderValue>>,
    /// It asks for a tunnel to the endpoint itself.
    pub(super) connect: bool,
    pub(super) body: Option<RequestBody>,
    /// When the request's time is over, and how long that is.
    pub(super) deadline: Option<Deadline>,
    pub(super) body_limit: Option<u64>,
    hash: Option<u64>,
    pub(super) repeatable: bool,
}

impl Passage<'_> {
    /// Whether the request can be sent again as it was. Not while its body is still on its way and
    /// there is an answer: that answer is what the client gets (rule 20). A body that nobody has asked
    /// the client for is not on its way.
    pub(super) fn replayable(&self, attempted: &Attempted) -> bool {
        let Some(body) = &self.body else {
            return true;
        };
        let upload = body.upload();
        let early = attempted.answer.is_some() && !upload.complete && !upload.untouched;
        !early && body.unkept().is_none()
    }
}

impl Exchange<'_> {
    pub(super) async fn try_all(
        &mut self,
        way: &Way<'_>,
        head: &mut Parts,
        body: ReceivedBody,
    ) -> Result<Ended, Failed> {
        let Way {
            listener,
            route,
            deadline,
            mut found,
        } = *way;
        let policies = &route.plan.policies;
        let retry = policies.retry.as_deref();
        let repeatable = retry.is_some_and(|retry| {
            let methods = &retry.methods;
            methods.allow(head.method.as_str(), found.idempotency_key)
        });
        let hash = hash_of(&route.plan.upstream.balance, head);
        let max_kept = retry.map_or(KEPT_UNSENT, |retry| retry.max_body);
        let memory = &self.proxy.memory;
        let body_limit = listener.plan.body_size;
        let body =
            (!body.is_end_stream()).then(|| RequestBody::new(body, body_limit, max_kept, memory));
        // The upstream decides whether the body is wanted; HTTP/1.0 knows no such question (rule 21).
        if let Some(body) = body.as_ref().filter(|_| found.expect)
            && head.version >= Version::HTTP_11
        {
            body.hold_back();
            found.expect = false;
        }
        let now = clock::now();
        if let Some(settings) = retry.and_then(|retry| retry.budget.as_ref()) {
            route
                .upstream
                .with_budget(|budget| budget.deposit(settings, now));
        }
        let upgrade = if found.upgrade {
            upgrade::possible(upgrade::wanted(head, body.is_some()), &route.plan.upstream)?
        } else {
            None
        };
        let names_host = found.host || head.uri.authority().is_some() || route.host.is_some();
        let head = self.onward(way, found, upgrade.as_deref(), head);
        let report = self.told.report();
        if route.plan.rewrite.path_prefix.is_some() && report.target.is_some() {
            report.rewritten = Some(head.target.path().into());
        }
        let mut passage = Passage {
            route,
            names_host,
            connect: head.method == Method::CONNECT,
            head,
            upgrade,
            body,
            deadline,
            body_limit,
            hash,
            repeatable,
        };
        let ended = self.try_until_done(&mut passage, retry, now).await;
        if let Some(body) = &passage.body {
            self.told.report().received = body.progress().0;
        }
        ended
    }

    /// The head that came in, as far as all tries share it.
    fn onward(
        &self,
        way: &Way<'_>,
        found: Found,
        upgrade: Option<&HeaderValue>,
        head: &mut Parts,
    ) -> Head {
        if let Some(authority) = head.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(HOST, host);
        }
        let to = Onward {
            trusted: way.listener.plan.role == Role::Outbound,
            forwarded_for: self.client.forwarded_for(),
            scheme: self.client.scheme(),
            found,
            upgrade,
            host: way.route.host.as_ref(),
            via: way.listener.via.entry(head.version),
            request_id: self.told.request_id(),
            trace: self.told.trace(),
        };
        let ours = headers::onward(&mut head.headers, &to);
        let target = onward_target(take(&mut head.uri), &way.route.plan);
        Head::new(head.method.clone(), target, take(&mut head.headers), ours)
    }

    async fn try_until_done(
        &mut self,
        passage: &mut Passage<'_>,
        retry: Option<&retry::Settings>,
        mut now: Instant,
    ) -> Result<Ended, Failed> {
        let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
        let mut kept: Option<Ended> = None;
        let mut waited = Duration::ZERO;
        loop {
            // A breaker that opened between two tries must not hide the last real answer.
            let attempt = match self.admit(passage, &tried, waited, now) {
                Ok(attempt) => attempt,
                Err(failed) => return self.or_kept(failed, kept),
            };
            tried.push(attempt.endpoint().key);
            let attempted = match self.attempt(passage, attempt).await {
                Ok(attempted) => attempted,
                Err(failed) => return self.or_kept(failed, kept),
            };
            let attempted = match attempted.into_opened() {
                Ok(opened) => return Ok(opened),
                Err(attempted) => attempted,
            };
            let Some(wait) = self.wait_for_another(passage, retry, &attempted) else {
                return self.settle_for(passage, attempted, kept).await;
            };
            let failed_at = clock::now();
            let until = failed_at + wait;
            if let Some(answer) = self.keep(passage, attempted, until).await {
                kept = Some(answer);
            }
            // The rest of the failed answer may have taken longer than the wait; that time is not ours.
            let kept_for = clock::now().saturating_duration_since(failed_at);
            tokio::time::sleep_until(until.into()).await;
            self.told.report().backoff += wait.max(kept_for);
            waited = wait;
            now = clock::now();
        }
    }

    /// An endpoint whose breaker admits, by the balance of the upstream.
    fn admit(
        &mut self,
        passage: &Passage<'_>,
        tried: &[u64],
        waited: Duration,
        now: Instant,
    ) -> Result<Attempt, Failed> {
        let upstream = &passage.route.upstream;
        let wish = Wish {
            breaker: passage.route.plan.policies.circuit_breaker.as_ref(),
            balance: &passage.route.plan.upstream.balance,
            hash: passage.hash,
            tried,
        };
        let chance = [fastrand::f64(), fastrand::f64()];
        let (picked, moves) = upstream.roster().pick(&wish, now, chance);
        self.told.moved(upstream.name(), &moves, now);
        match picked {
            Ok(admission) => Ok(Attempt::new(admission, waited, now)),
            Err(refusal) => Err(unavailable::failed(upstream, refusal)),
        }
    }

    /// Makes the try and tells everyone who learns from it.
    ///
    /// # Errors
    /// A failure of ours or the client's, which no other try can mend.
    async fn attempt(
        &mut self,
        passage: &mut Passage<'_>,
        attempt: Attempt,
    ) -> Result<Attempted, Failed> {
        let number = u32::try_from(self.told.report().tries.len() + 1).unwrap_or(u32::MAX);
        let began = attempt.began();
        self.told
            .try_begins(&attempt.begins(&passage.route.plan.upstream.balance));
        let tried = match attempt.run(self, passage, number).await {
            Ok(tried) => tried,
            Err(failed) => {
                if failed.reason == Reason::TooManyConnections {
                    self.told.forget_try();
                }
                return Err(failed);
            }
        };
        let broken = passage.body.as_ref().and_then(RequestBody::broken);
        if let (Ending::Failed(_), Some(broken)) = (tried.ending, broken) {
            return Err(self.blame_client(broken, passage.body_limit));
        }
        let now = clock::now();
        let took = now.saturating_duration_since(began);
        let settings = passage.route.plan.policies.circuit_breaker.as_deref();
        let outcome = if tried.blameless {
            Outcome::Ignored
        } else {
            breaker::is_failure(settings, tried.ending)
        };
        let shown = Shown {
            took,
            ending: tried.ending,
            sent: tried.sent,
            reused: tried.reused,
            outcome,
            detail: tried.detail.as_deref().map(Into::into),
        };
        self.told.end_try(shown);
        if let Some(moved) = attempt.settle(Observation { outcome, took }, now) {
            let upstream = passage.route.upstream.name();
            self.told.moved_one(upstream, &moved, now);
        }
        Ok(tried)
    }

    fn blame_client(&self, broken: Broken, limit: Option<u64>) -> Failed {
        match broken {
            Broken::TooLarge => {
                let limit = limit.unwrap_or_default();
                let message = message::body_too_large(&self.client.listener, limit);
                Failed::new(Reason::BodyTooLarge, message)
            }
            Broken::Malformed => {
                let message = message::bad_request(&"its body is not framed as announced");
                Failed::new(Reason::BadRequest, message)
            }
            Broken::ClientGone => {
                let elapsed = clock::now().saturating_duration_since(self.started);
                Failed::new(Reason::ClientGone, message::client_gone(elapsed))
            }
        }
    }

    /// Keeps a failed answer for the case that no better one comes, and gives its connection back, so
    /// that the next try can have it.
    async fn keep(
        &self,
        passage: &Passage<'_>,
        attempted: Attempted,
        until: Instant,
    ) -> Option<Ended> {
        let ending = attempted.ending;
        let mut stream = attempted.answer?;
        let head = take_head(stream.head());
        // The next try must not lose the time that was left for it.
        let latest = passage.deadline.map(|end| end.at - retry::SHORTEST_TRY);
        let longer = clock::now() + KEEP_WITHIN;
        let patience = until.max(latest.map_or(longer, |latest| longer.min(latest)));
        let collected = stream.collect(KEPT_ANSWER);
        let (body, trailers) = tokio::time::timeout_at(patience.into(), collected)
            .await
            .ok()??;
        let kept = Kept {
            head,
            ending,
            body,
            // Of other answers they are not kept: a length is what their bodies end by.
            trailers: trailers.filter(|_| matches!(ending, Ending::Grpc { .. })),
        };
        let answer = Answer::Kept(Box::new(kept));
        Some(Ended { ending, answer })
    }

    /// No other try is made: the answer is what there is.
    async fn settle_for(
        &mut self,
        passage: &Passage<'_>,
        attempted: Attempted,
        kept: Option<Ended>,
    ) -> Result<Ended, Failed> {
        let ending = attempted.ending;
        let Some(mut stream) = attempted.answer else {
            let kept = kept.map(|kept| Ended { ending, ..kept });
            return kept.ok_or_else(|| self.failed(passage, ending, attempted.detail));
        };
        stream.prefetch();
        let answer = Answer::Stream(stream);
        Ok(Ended { ending, answer })
    }

    /// No try could be made: the answer of an earlier one, if there is one.
    fn or_kept(&mut self, failed: Failed, kept: Option<Ended>) -> Result<Ended, Failed> {
        let ending = Ending::Failed(failed.reason);
        match (failed.reason, kept) {
            // A client that has gone, or sent what is no request, is not answered with old news.
            (Reason::ClientGone | Reason::BadRequest | Reason::BodyTooLarge, _) | (_, None) => {
                Err(failed)
            }
            (_, Some(kept)) => {
                self.told.report().halted = Some(Box::new(Halted {
                    at: clock::now().saturating_duration_since(self.started),
                    reason: failed.reason,
                    message: failed.message.into(),
                }));
                Ok(Ended { ending, ..kept })
            }
        }
    }

    fn failed(&mut self, passage: &Passage<'_>, ending: Ending, detail: Option<String>) -> Failed {
        let reason = match ending {
            Ending::Failed(reason) => reason,
            // Not met: an answered try has its answer.
            Ending::Answered(_) | Ending::Grpc { .. } => Reason::Internal,
        };
        let tries = &self.told.report().tries;
        let tried = Tried {
            upstream: passage.route.upstream.name(),
            endpoint: tries.last().map_or("", |last| &last.endpoint),
            tries: u32::try_from(tries.len()).unwrap_or(u32::MAX),
        };
        let timeouts = &passage.route.plan.policies.timeouts;
        let message = message::failed_try(
            reason,
            tried,
            timeouts,
            passage.deadline.map(|d| d.whole),
            detail.as_deref(),
        );
        Failed::new(reason, message)
    }
}

/// Takes a head to be passed on; an empty one is left.
pub(super) fn take_head(head: &mut response::Parts) -> response::Parts {
    replace(head, Response::new(()).into_parts().0)
}

/// The target in the form that an origin server expects, with the route's rewrite.
fn onward_target(uri: Uri, route: &plan::Route) -> Uri {
    let path = uri.path_and_query();
    let target = path.map_or("/", PathAndQuery::as_str);
    let with_path;
    // A whole URL may have a query and no path, which stands for the root.
    let target = match target.starts_with('?') {
        true => {
            with_path = format!("/{target}");
            &with_path
        }
        false => target,
    };
    match router::rewritten_path(route, target) {
        Some(rewritten) => rewritten.parse().unwrap_or(uri),
        None if uri.authority().is_none() => uri,
        None if path.is_some_and(|path| path.as_str().starts_with('/')) => {
            let mut parts = uri::Parts::default();
            parts.path_and_query = path.cloned();
            Uri::from_parts(parts).unwrap_or(uri)
        }
        None => target.parse().unwrap_or(uri),
    }
}

fn hash_of(balance: &balance::Settings, head: &Parts) -> Option<u64> {
    let balance::Settings::Hash { header } = balance else {
        return None;
    };
    let value = head.headers.get(&**header)?;
    Some(balance::hash(value.as_bytes()))
}
