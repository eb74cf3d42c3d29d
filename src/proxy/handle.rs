//! READ THIS FIRST: what happens to a request, from top to bottom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode, Uri, Version};

use super::body::AnswerBody;
use super::client::Client;
use super::fields::Fields;
use super::grpc::{self, Call};
use super::headers::Found;
use super::max_forwards::{self, Verdict};
use super::site::{ListenerSite, RouteSite, Site};
use super::told::Told;
use super::tries::Ended;
use super::{Proxy, framing, headers, message};
use crate::clock;
use crate::live::received::ReceivedBody;
use crate::live::router::Wanted;
use crate::live::seats::{RouteName, Seat, Seating};
use crate::plan::Role;
use crate::policy::outcome::Reason;
use crate::policy::timeout::shorter;
use crate::telemetry::report::{Place, Report, Target};
use crate::telemetry::trace::Identity;

/// Answers one request, whatever happens to it.
pub fn handle(
    proxy: &Arc<Proxy>,
    client: &Arc<Client>,
    request: Request<ReceivedBody>,
) -> impl Future<Output = Response<AnswerBody>> {
    // Taken apart out here, since the future would hold the whole beside its parts.
    let (mut head, body) = request.into_parts();
    async move {
        // 1: the snapshot is loaded once: a request lives under one configuration from begin to end.
        let site = proxy.site();
        let (mut exchange, way, asked);
        {
            // Borrowed from the head, and over before anything is waited for.
            let fields = Fields::read(&head);
            exchange = Exchange::begin(proxy, client, &site, &head, &fields);
            way = exchange.find_way(&head, &fields);
            asked = Asked::of(&head, &fields);
        }
        let ended = match way {
            Ok(way) => exchange.serve(&way, &mut head, body).await,
            Err(failed) => Err(failed),
        };
        if ended.is_err() && exchange.call.is_none() {
            // Refused before anybody looked: its client reads gRPC only all the same.
            exchange.call = Call::of(&head, exchange.started);
        }
        exchange.finish(ended, &asked)
    }
}

/// What of a request is still needed when its head has gone to the upstream.
pub(super) struct Asked {
    pub(super) accept: Option<HeaderValue>,
    pub(super) head_only: bool,
}

impl Asked {
    fn of(head: &Parts, fields: &Fields<'_>) -> Self {
        Self {
            accept: fields.accept.cloned(),
            head_only: head.method == Method::HEAD,
        }
    }
}

/// Why a request fails, and what there is to say about it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
    /// Where it is not the reason's own.
    pub(super) status: Option<StatusCode>,
}

impl Failed {
    pub(super) fn new(reason: Reason, message: String) -> Self {
        Self {
            reason,
            message,
            retry_after: None,
            status: None,
        }
    }

    fn later(reason: Reason, message: String, retry_after: Option<Duration>) -> Self {
        Self {
            reason,
            message,
            retry_after,
            status: None,
        }
    }
}

/// When a request's time is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// The whole time that it had.
    pub(super) whole: Duration,
}

impl Deadline {
    /// What is left of it.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }
}

/// One request on its way, with what it holds.
pub(super) struct Exchange<'a> {
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) client: &'a Client,
    pub(super) site: &'a Site,
    pub(super) started: Instant,
    pub(super) told: Told,
    /// What is to be known of a gRPC call; `None` for other requests.
    pub(super) call: Option<Box<Call>>,
    pub(super) listener: Option<&'a ListenerSite>,
    pub(super) route: Option<&'a Arc<RouteSite>>,
    pub(super) seat: Option<Seat>,
}

/// Where a request goes, and how.
pub(super) struct Way<'a> {
    pub(super) listener: &'a ListenerSite,
    pub(super) route: &'a Arc<RouteSite>,
    pub(super) deadline: Option<Deadline>,
    /// Which headers that matter on the way it has.
    pub(super) found: Found,
}

impl<'a> Exchange<'a> {
    fn begin(
        proxy: &'a Arc<Proxy>,
        client: &'a Client,
        site: &'a Site,
        head: &Parts,
        fields: &Fields<'_>,
    ) -> Self {
        let listener = site.listener(&client.listener);
        let meters = listener.map_or_else(
            || proxy.telemetry.metrics().listener(&client.listener),
            |listener| Arc::clone(&listener.meters),
        );
        let trusted = listener.is_some_and(|listener| listener.plan.role == Role::Outbound);
        let mut report = Report::begin(
            client.began(),
            site.snapshot.generation,
            meters,
            client.peer,
            Identity::of(&fields.claims),
            proxy.telemetry.wants_targets().then(|| Target {
                method: head.method.clone(),
                uri: head.uri.clone(),
                host: fields.host.cloned(),
                scheme: client.scheme(),
                version: head.version,
            }),
        );
        report.asked = trusted && fields.explain;
        let started = report.started;
        let told = Told::new(proxy, report);
        Self {
            proxy,
            client,
            site,
            started,
            told,
            call: None,
            listener,
            route: None,
            seat: None,
        }
    }

    /// Steps 2 to 4: what the head alone decides.
    fn find_way(&mut self, head: &Parts, fields: &Fields<'_>) -> Result<Way<'a>, Failed> {
        let listener = self.check(head, fields)?;
        if fields.is_call {
            self.call = Call::of(head, self.started);
        }
        // 2: the route says which policies rule.
        let route = self.find_route(listener, head, fields.host)?;
        // 3: the clock runs since the first byte, so that every wait below counts.
        let deadline = self.deadline(listener, route, fields.timeout);
        self.told.report().time_limit = deadline.map(|deadline| deadline.whole);
        if deadline.is_some_and(|deadline| deadline.whole.is_zero()) {
            let header = match &self.call {
                Some(call) if call.timeout.is_some_and(|time| time.is_zero()) => &grpc::TIMEOUT,
                Some(_) | None => &headers::TIMEOUT_MS,
            };
            let message = message::no_time(route.upstream.name(), header.as_str());
            return Err(Failed::new(Reason::RequestTimeout, message));
        }
        // 4: the rate limit comes before the seat: a refusal must not hold one (rule 64).
        take_token(route)?;
        Ok(Way {
            listener,
            route,
            deadline,
            found: fields.found,
        })
    }

    /// Steps 5 and 6: everything else before an answer is chosen.
    async fn serve(
        &mut self,
        way: &Way<'a>,
        head: &mut Parts,
        body: ReceivedBody,
    ) -> Result<Ended, Failed> {
        // 5: the seat is above the tries: one request holds one, however often it is tried.
        self.seat = self.take_seat(way.route, way.deadline).await?;
        // 6: one try, or as many as the policies allow.
        if way.found.max_forwards
            && let Verdict::EndsHere(answer) = max_forwards::count(head)
        {
            return Ok(Ended::here(*answer));
        }
        self.try_all(way, head, body).await
    }

    /// What must not be forwarded is refused before anything is taken.
    fn check(&self, head: &Parts, fields: &Fields<'_>) -> Result<&'a ListenerSite, Failed> {
        let listener = self.listener.filter(|_| !self.proxy.refuses_new_requests());
        let Some(listener) = listener else {
            return Err(Failed::later(
                Reason::Draining,
                message::draining(&self.site.snapshot.plan.service),
                Some(Duration::from_secs(1)),
            ));
        };
        let is_forward_proxy = listener.plan.role == Role::Outbound;
        framing::check(head, fields, is_forward_proxy).map_err(|refusal| Failed {
            status: refusal.status,
            ..Failed::new(Reason::BadRequest, refusal.sentence.to_owned())
        })?;
        if fields.found.via && listener.via.is_in(&head.headers) {
            let message = message::request_loop(&listener.plan.name);
            return Err(Failed {
                status: Some(StatusCode::LOOP_DETECTED),
                ..Failed::new(Reason::BadRequest, message)
            });
        }
        let limit = listener.plan.header_size;
        let headers = listener.plan.max_headers;
        // The lines of HTTP/1.1 were counted before the parser; those of HTTP/2 have not been.
        if line_size(head) + fields.size > limit || head.headers.len() > headers {
            let message = message::header_too_large(&listener.plan.name, limit, headers);
            return Err(Failed::new(Reason::HeaderTooLarge, message));
        }
        match (listener.plan.body_size, fields.length) {
            (Some(limit), Some(length)) if length > limit => Err(Failed::new(
                Reason::BodyTooLarge,
                message::body_too_large(&listener.plan.name, limit),
            )),
            _ => Ok(listener),
        }
    }

    fn find_route(
        &mut self,
        listener: &'a ListenerSite,
        head: &Parts,
        host: Option<&HeaderValue>,
    ) -> Result<&'a Arc<RouteSite>, Failed> {
        let mut wanted = Wanted {
            host: listener
                .routes_by_host
                .then(|| host_of(head, host))
                .flatten(),
            method: head.method.as_str(),
            path: path_of(&head.uri),
            query: head.uri.query(),
            headers: &head.headers,
        };
        let found = listener.by_host.find(&listener.plan.routes, &wanted);
        let Some(route) = found.and_then(|index| listener.routes.get(index)) else {
            wanted.host = host_of(head, host);
            return Err(no_route(&listener.plan.name, &wanted));
        };
        if listener.plan.role == Role::Outbound
            && head.uri.scheme() == Some(&Scheme::HTTPS)
            && head.version <= Version::HTTP_11
            && !route.plan.upstream.endpoints.iter().all(|one| one.tls)
        {
            // What the client wants to be encrypted must not go on in the clear.
            let message = message::https_in_the_clear(route.upstream.name());
            return Err(Failed::new(Reason::BadRequest, message));
        }
        self.told.report().place = Place::Routed(Arc::clone(&route.meters));
        self.route = Some(route);
        Ok(route)
    }

    fn deadline(
        &self,
        listener: &ListenerSite,
        route: &RouteSite,
        asked: Option<&HeaderValue>,
    ) -> Option<Deadline> {
        let timeouts = &route.plan.policies.timeouts;
        // The server cuts a client that takes nothing: its body here is not asked for more then.
        self.client.set_stall(timeouts.idle.unwrap_or(NEVER));
        let asked = match listener.plan.role {
            Role::Outbound => {
                let call = self.call.as_ref().and_then(|call| call.timeout);
                shorter(asked.and_then(headers::timeout_of), call)
            }
            // One who is not trusted could make every try too late, and open the breaker so.
            Role::Inbound => None,
        };
        let whole = shorter(timeouts.request, asked)?;
        Some(Deadline {
            at: self.started + whole,
            whole,
        })
    }

    async fn take_seat(
        &mut self,
        route: &RouteSite,
        deadline: Option<Deadline>,
    ) -> Result<Option<Seat>, Failed> {
        let Some(settings) = &route.plan.policies.bulkhead else {
            return Ok(None);
        };
        let seats = route.upstream.seats();
        let name = || RouteName {
            listener: Arc::clone(&self.client.listener),
            route: Arc::clone(&route.plan.name),
        };
        let mut queued = match seats.enter(settings, name) {
            Seating::Seated(seat) => return Ok(Some(seat)),
            Seating::Refused => {
                let message = message::too_many_in_flight(
                    route.upstream.name(),
                    seats.in_flight(),
                    settings.max_in_flight.unwrap_or(usize::MAX),
                    seats.queued(),
                    settings.max_queue,
                );
                let again = Some(Duration::from_secs(1));
                return Err(Failed::later(Reason::TooManyInFlight, message, again));
            }
            Seating::Queued(queued) => queued,
        };
        let began = clock::now();
        self.told.report().queued_at = Some(began.saturating_duration_since(self.started));
        let patience = began + settings.queue_timeout;
        let first = deadline.filter(|deadline| deadline.at <= patience);
        let until = first.map_or(patience, |deadline| deadline.at);
        let seat = tokio::time::timeout_at(until.into(), queued.seat()).await;
        self.told.report().queued = clock::now().saturating_duration_since(began);
        if let Ok(Some(seat)) = seat {
            return Ok(Some(seat));
        }
        let upstream = route.upstream.name();
        match first {
            Some(deadline) => {
                let message = message::request_timeout(upstream, deadline.whole, None);
                Err(Failed::new(Reason::RequestTimeout, message))
            }
            None => {
                let limit = settings.max_in_flight.unwrap_or(usize::MAX);
                let message = message::queue_timeout(upstream, settings.queue_timeout, limit);
                let again = Some(Duration::from_secs(1));
                Err(Failed::later(Reason::QueueTimeout, message, again))
            }
        }
    }
}

/// A time that does not come.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

fn take_token(route: &RouteSite) -> Result<(), Failed> {
    let Some(settings) = &route.plan.policies.rate_limit else {
        return Ok(());
    };
    let now = clock::now();
    let taken = match &route.bucket {
        Some(bucket) => bucket.lock().take(settings, now),
        None => route.upstream.take_token(settings, now),
    };
    taken.map_err(|wait| {
        let message = message::rate_limited(
            route.upstream.name(),
            settings.per_second,
            settings.burst,
            Some(wait),
        );
        Failed::later(Reason::RateLimited, message, Some(wait))
    })
}

fn no_route(listener: &str, wanted: &Wanted<'_>) -> Failed {
    if wanted.method == "CONNECT" {
        let message = message::no_connect(listener, wanted.host);
        return Failed {
            status: Some(StatusCode::METHOD_NOT_ALLOWED),
            ..Failed::new(Reason::BadRequest, message)
        };
    }
    let message = message::no_route(listener, wanted.method, wanted.host, wanted.path);
    Failed::new(Reason::NoRoute, message)
}

/// The path that routes are chosen by. A CONNECT has none: that stands for the root.
pub(super) fn path_of(uri: &Uri) -> &str {
    match uri.path() {
        "" => "/",
        path => path,
    }
}

/// The host that a request is for: the target's where it has one, else the header's.
fn host_of<'a>(head: &'a Parts, host: Option<&'a HeaderValue>) -> Option<&'a str> {
    match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => host?.to_str().ok(),
    }
}

/// Bytes of a request line as it was on the wire, and of the line that ends the head.
fn line_size(head: &Parts) -> usize {
    let target = head
        .uri
        .path_and_query()
        .map_or(1, |target| target.as_str().len());
    head.method.as_str().len() + target + " HTTP/1.1\r\n ".len()
}
