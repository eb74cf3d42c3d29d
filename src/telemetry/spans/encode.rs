//! A request's spans in the encoding of OTLP: one SERVER span for the request, one CLIENT span for each
//! try, under OpenTelemetry's names for HTTP and gRPC; what those have no name for is under `mamparo.`.
//! A path is written without its query, and no header but the host and the ids.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::uri::Authority;

use crate::plan::address::UNIX_SCHEME;
use crate::policy::grpc::Code;
use crate::policy::outcome::{Ending, Reason};
use crate::telemetry::protobuf::Message;
use crate::telemetry::report::{Outcome, Report, Target, Try};

/// Bytes of one text; what is longer is cut.
const LONGEST: usize = 4096;

/// Fields of the messages of OTLP, by message.
mod field {
    pub(super) const SCOPE_SPANS: u8 = 2;
    pub(super) const TRACE_ID: u8 = 1;
    pub(super) const SPAN_ID: u8 = 2;
    pub(super) const PARENT_SPAN_ID: u8 = 4;
    pub(super) const NAME: u8 = 5;
    pub(super) const KIND: u8 = 6;
    pub(super) const START: u8 = 7;
    pub(super) const END: u8 = 8;
    pub(super) const ATTRIBUTES: u8 = 9;
    pub(super) const EVENTS: u8 = 11;
    pub(super) const STATUS: u8 = 15;
    pub(super) const FLAGS: u8 = 16;
    pub(super) const EVENT_TIME: u8 = 1;
    pub(super) const EVENT_NAME: u8 = 2;
    pub(super) const EVENT_ATTRIBUTES: u8 = 3;
    pub(super) const STATUS_MESSAGE: u8 = 2;
    pub(super) const STATUS_CODE: u8 = 3;
    pub(super) const KEY: u8 = 1;
    pub(super) const VALUE: u8 = 2;
    pub(super) const TEXT: u8 = 1;
    pub(super) const TRUTH: u8 = 2;
    pub(super) const INTEGER: u8 = 3;
    pub(super) const DOUBLE: u8 = 4;
}

const KIND_SERVER: u64 = 2;
const KIND_CLIENT: u64 = 3;
const STATUS_ERROR: u64 = 2;
/// The flags that say whether a span's parent is in another process: that this is known, and that it is.
const PARENT_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// Methods with names of their own; any other one is `_OTHER`.
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
];

/// The date of a moment, by which that of every other moment is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    pub(super) now: Instant,
    pub(super) since_epoch: Duration,
}

impl Anchor {
    /// The date of a moment that is past, in nanoseconds since 1970.
    fn date(&self, at: Instant) -> u64 {
        let ago = self.now.saturating_duration_since(at);
        u64::try_from(self.since_epoch.saturating_sub(ago).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How many spans a request has.
pub(super) fn count(report: &Report) -> usize {
    1 + report.tries.len()
}

/// Writes the spans of a request that ended at `ended`, as fields of a message `ScopeSpans`.
pub(super) fn spans(to: &mut Vec<u8>, report: &Report, ended: Instant, anchor: &Anchor) {
    let request = Request {
        report,
        ended,
        anchor,
        call: Call::of(report),
    };
    let mut all = Message::new(to);
    all.message(field::SCOPE_SPANS, |span| request.server(span));
    for (index, one) in report.tries.iter().enumerate() {
        all.message(field::SCOPE_SPANS, |span| request.client(span, index, one));
    }
}

/// A call of gRPC, by its path.
#[derive(Clone, Copy)]
struct Call<'a> {
    service: &'a str,
    method: &'a str,
}

impl<'a> Call<'a> {
    fn of(report: &'a Report) -> Option<Self> {
        let ended_so = |one: &Try| matches!(one.ending, Ending::Grpc { .. });
        let is_call = report.grpc_status.is_some() || report.tries.iter().any(ended_so);
        let path = report.target.as_ref().filter(|_| is_call)?.uri.path();
        let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
        Some(Self { service, method })
    }
}

/// One request whose spans are written.
struct Request<'a> {
    report: &'a Report,
    ended: Instant,
    anchor: &'a Anchor,
    call: Option<Call<'a>>,
}

impl Request<'_> {
    fn server(&self, span: &mut Message<'_>) {
        let report = self.report;
        let trace = &report.trace;
        self.identity(span, trace.span_id, trace.parent, trace.parent.is_some());
        span.number(field::KIND, KIND_SERVER);
        self.times(span, report.started, self.ended);
        let route = report.place.labels().route.as_ref();
        let route = route.map(|route| &*route.name);
        span.bytes(field::NAME, cut(&self.name(route)));
        self.asked(span);
        let mut to = Attributes::of(span);
        if let Some(route) = route {
            to.text("http.route", route);
        }
        // That status nobody gets.
        if report.status != Reason::ClientGone.status() {
            to.number("http.response.status_code", i64::from(report.status));
        }
        if let Some(code) = report.grpc_status {
            to.number("rpc.grpc.status_code", code as i64);
        }
        self.told(&mut to);
        self.waits(span);
        self.server_status(span);
    }

    /// What the client asked for, where, and from where.
    fn asked(&self, span: &mut Message<'_>) {
        let mut to = Attributes::of(span);
        self.called(&mut to);
        if let Some(target) = &self.report.target {
            to.text("url.scheme", target.scheme);
            let path = target.uri.path();
            if !path.is_empty() {
                to.text("url.path", path);
            }
            to.text("network.protocol.version", version(target));
            if let Some(authority) = authority(target) {
                to.text("server.address", bare(authority.host()));
                let default = if target.scheme == "https" { 443 } else { 80 };
                let port = authority.port_u16().unwrap_or(default);
                to.number("server.port", i64::from(port));
            }
        }
        if let Some(peer) = self.report.peer {
            let ip = peer.ip().to_string();
            to.text("client.address", &ip);
            to.text("network.peer.address", &ip);
            to.number("network.peer.port", i64::from(peer.port()));
        }
    }

    /// The method, and what a call of gRPC calls.
    fn called(&self, to: &mut Attributes<'_, '_>) {
        match self.method() {
            Some(method) if METHODS.contains(&method) => to.text("http.request.method", method),
            Some(method) => {
                to.text("http.request.method", "_OTHER");
                to.text("http.request.method_original", method);
            }
            None => to.text("http.request.method", "_OTHER"),
        }
        if let Some(call) = self.call {
            to.text("rpc.system", "grpc");
            to.text("rpc.service", call.service);
            to.text("rpc.method", call.method);
        }
    }

    /// What a try asked its endpoint for, without a query, since one may hold secrets.
    fn url(&self, to: &mut Attributes<'_, '_>, scheme: &str, endpoint: &str) {
        let Some(target) = &self.report.target else {
            return;
        };
        if !endpoint.starts_with(UNIX_SCHEME) {
            let path = self.report.rewritten.as_deref();
            let path = path.unwrap_or_else(|| target.uri.path());
            to.text("url.full", format!("{scheme}://{endpoint}{path}"));
        }
    }

    /// What we alone know.
    fn told(&self, to: &mut Attributes<'_, '_>) {
        let report = self.report;
        let labels = report.place.labels();
        to.text("mamparo.listener", &labels.listener);
        if let Some(route) = &labels.route {
            to.text("mamparo.upstream", &route.upstream);
        }
        to.text("mamparo.outcome", report.outcome.name());
        if let Some(reason) = report.reason {
            to.text("mamparo.reason", reason.name());
        }
        if let Some(fallback) = report.fallback {
            to.text("mamparo.fallback", fallback.name());
        }
        if let Some(why) = report.denied {
            to.text("mamparo.retry.denied", why.name());
        }
        if let Ok(id) = report.request_id.to_str() {
            to.text("mamparo.request_id", id);
        }
        let generation = i64::try_from(report.generation).unwrap_or(i64::MAX);
        to.number("mamparo.generation", generation);
    }

    /// The waits, as events where they began.
    fn waits(&self, span: &mut Message<'_>) {
        let report = self.report;
        let mut wait = |name: &str, began: Duration, wait: Duration, attempt: usize| {
            span.message(field::EVENTS, |event| {
                let at = report.started + began;
                event.fixed64(field::EVENT_TIME, self.anchor.date(at));
                event.bytes(field::EVENT_NAME, name);
                let mut to = Attributes::new(event, field::EVENT_ATTRIBUTES);
                to.double("mamparo.wait_ms", wait.as_micros() as f64 / 1e3);
                if attempt > 0 {
                    to.number("mamparo.attempt", attempt as i64);
                }
            });
        };
        if let Some(began) = report.queued_at {
            wait("mamparo.queue", began, report.queued, 0);
        }
        for (index, one) in report.tries.iter().enumerate() {
            if !one.waited.is_zero() {
                let began = one.started.saturating_sub(one.waited);
                wait("mamparo.backoff", began, one.waited, index + 1);
            }
        }
    }

    /// A server's span is an error where the server is at fault, and never for what the client did.
    fn server_status(&self, span: &mut Message<'_>) {
        let report = self.report;
        let status = report.judged_status();
        if status < 500 && self.broken().is_none() {
            return;
        }
        let mut to = Attributes::of(span);
        match (report.reason, report.grpc_status) {
            (Some(reason), _) => to.text("error.type", reason.name()),
            (None, Some(code)) if status >= 500 => to.code("error.type", code),
            (None, _) if status >= 500 => to.digits("error.type", status),
            (None, _) => to.text("error.type", Reason::Reset.name()),
        }
        let message = report.detail.as_deref();
        error(span, message);
    }

    fn client(&self, span: &mut Message<'_>, index: usize, one: &Try) {
        let report = self.report;
        self.identity(span, one.span_id, Some(report.trace.span_id), false);
        span.number(field::KIND, KIND_CLIENT);
        let began = report.started + one.started;
        self.times(span, began, (began + one.took).min(self.ended));
        span.bytes(field::NAME, cut(&self.name(None)));
        let mut to = Attributes::of(span);
        self.called(&mut to);
        endpoint(&mut to, &one.endpoint);
        let scheme = if one.tls { "https" } else { "http" };
        to.text("url.scheme", scheme);
        self.url(&mut to, scheme, &one.endpoint);
        match one.ending {
            Ending::Answered(status) => {
                to.number("http.response.status_code", i64::from(status));
            }
            Ending::Grpc { status, code } => {
                to.number("http.response.status_code", i64::from(status));
                to.number("rpc.grpc.status_code", code as i64);
            }
            Ending::Failed(reason) => to.text("mamparo.reason", reason.name()),
        }
        if index > 0 {
            to.number("http.request.resend_count", index as i64);
        }
        if let Some(route) = &report.place.labels().route {
            to.text("mamparo.upstream", &route.upstream);
        }
        to.text("mamparo.outcome", one.outcome.name());
        to.text("mamparo.sent", one.sent.name());
        to.truth("mamparo.connection.reused", one.reused);
        let is_last = index + 1 == report.tries.len();
        // What a drain cuts is no failure of the endpoint.
        let is_theirs = |reason: &Reason| is_last && *reason != Reason::Draining;
        match self.broken().filter(is_theirs) {
            Some(reason) => {
                Attributes::of(span).text("error.type", reason.name());
                error(span, report.detail.as_deref());
            }
            None => client_status(span, one),
        }
    }

    /// Why the answer broke off, where it did and its client is not to blame.
    fn broken(&self) -> Option<Reason> {
        let report = self.report;
        let broken = report.broken && report.outcome != Outcome::ClientGone;
        broken.then(|| report.reason.unwrap_or(Reason::Reset))
    }

    /// The ids, and whose child it is.
    fn identity(&self, span: &mut Message<'_>, id: u64, parent: Option<u64>, is_remote: bool) {
        let trace = &self.report.trace;
        span.bytes(field::TRACE_ID, trace.trace_id.to_be_bytes());
        span.bytes(field::SPAN_ID, id.to_be_bytes());
        if let Some(parent) = parent {
            span.bytes(field::PARENT_SPAN_ID, parent.to_be_bytes());
        }
        let remote = if is_remote { PARENT_IS_REMOTE } else { 0 };
        let flags = u32::from(trace.flags) | PARENT_IS_KNOWN | remote;
        span.fixed32(field::FLAGS, flags);
    }

    fn times(&self, span: &mut Message<'_>, began: Instant, ended: Instant) {
        span.fixed64(field::START, self.anchor.date(began));
        span.fixed64(field::END, self.anchor.date(ended.max(began)));
    }

    /// The method, where the client's request had one.
    fn method(&self) -> Option<&str> {
        let target = self.report.target.as_ref()?;
        let method = target.method.as_str();
        // That stands for a request that never came to one.
        (method != "-").then_some(method)
    }

    /// What all spans of the kind are called: nothing of it comes from the traffic but a known method,
    /// and a call's name, which its service has given it.
    fn name(&self, route: Option<&str>) -> String {
        if let Some(call) = self.call {
            return format!("{}/{}", call.service, call.method);
        }
        let method = self.method().filter(|method| METHODS.contains(method));
        let mut name = method.unwrap_or("HTTP").to_owned();
        if let Some(route) = route {
            name.push(' ');
            name.push_str(route);
        }
        name
    }
}

/// The whole request to a collector: a resource as [`super::resource`] wrote it, with spans as [`spans`] did.
pub(super) fn batch(resource: &[u8], spans: &[u8]) -> Vec<u8> {
    const RESOURCE_SPANS: u8 = 1;
    const OF_RESOURCE: u8 = 2;
    const SCOPE: u8 = 1;
    let mut scope = Vec::new();
    Message::new(&mut scope).message(SCOPE, |scope| {
        scope.bytes(1, env!("CARGO_PKG_NAME"));
        scope.bytes(2, env!("CARGO_PKG_VERSION"));
    });
    let mut to = Vec::with_capacity(resource.len() + scope.len() + spans.len() + 32);
    Message::new(&mut to).message(RESOURCE_SPANS, |all| {
        all.append(resource);
        all.message(OF_RESOURCE, |all| {
            all.append(&scope);
            all.append(spans);
        });
    });
    to
}

/// A message's attributes.
pub(super) struct Attributes<'m, 'a> {
    message: &'m mut Message<'a>,
    field: u8,
}

impl<'m, 'a> Attributes<'m, 'a> {
    /// Those in that field.
    pub(super) fn new(message: &'m mut Message<'a>, field: u8) -> Self {
        Self { message, field }
    }

    /// Those of a span.
    fn of(message: &'m mut Message<'a>) -> Self {
        Self::new(message, field::ATTRIBUTES)
    }

    pub(super) fn text(&mut self, key: &str, value: impl AsRef<str>) {
        let value = cut(value.as_ref());
        self.put(key, |any| any.bytes(field::TEXT, value));
    }

    pub(super) fn number(&mut self, key: &str, value: i64) {
        self.put(key, |any| any.integer(field::INTEGER, value));
    }

    fn double(&mut self, key: &str, value: f64) {
        self.put(key, |any| any.double(field::DOUBLE, value));
    }

    fn truth(&mut self, key: &str, value: bool) {
        self.put(key, |any| any.truth(field::TRUTH, value));
    }

    /// A code of gRPC by its name, in capitals as gRPC has it.
    fn code(&mut self, key: &str, code: Code) {
        self.text(key, code.name().to_ascii_uppercase());
    }

    /// A status as a text.
    fn digits(&mut self, key: &str, status: u16) {
        let mut text = String::new();
        // Memory takes what is written.
        let _ = write!(text, "{status}");
        self.text(key, text);
    }

    fn put(&mut self, key: &str, value: impl FnOnce(&mut Message<'_>)) {
        self.message.message(self.field, |pair| {
            pair.bytes(field::KEY, key);
            pair.message(field::VALUE, value);
        });
    }
}

/// A client's span is an error where it did not get what it asked for; a try that ends because its
/// client has gone is none.
fn client_status(span: &mut Message<'_>, one: &Try) {
    let mut to = Attributes::of(span);
    match (one.ending, one.ending.status()) {
        (Ending::Failed(Reason::ClientGone), _) => return,
        (Ending::Failed(reason), _) => to.text("error.type", reason.name()),
        (Ending::Grpc { status: 200, code }, Some(400..)) => to.code("error.type", code),
        (_, Some(status @ 400..)) => to.digits("error.type", status),
        (_, Some(_) | None) => return,
    }
    error(span, one.detail.as_deref());
}

fn error(span: &mut Message<'_>, message: Option<&str>) {
    span.message(field::STATUS, |status| {
        if let Some(message) = message {
            status.bytes(field::STATUS_MESSAGE, cut(message));
        }
        status.number(field::STATUS_CODE, STATUS_ERROR);
    });
}

/// Where a try went.
fn endpoint(to: &mut Attributes<'_, '_>, label: &str) {
    if let Some(path) = label.strip_prefix(UNIX_SCHEME) {
        to.text("server.address", path);
        to.text("network.transport", "unix");
        to.text("network.peer.address", path);
        return;
    }
    if let Ok(address) = label.parse::<SocketAddr>() {
        let (ip, port) = (address.ip().to_string(), i64::from(address.port()));
        to.text("server.address", &ip);
        to.number("server.port", port);
        to.text("network.peer.address", &ip);
        to.number("network.peer.port", port);
    } else if let Some((host, port)) = label.rsplit_once(':') {
        to.text("server.address", host);
        if let Ok(port) = port.parse::<u16>() {
            to.number("server.port", i64::from(port));
        }
    }
}

/// Whom a request is for, by its target or else by its `host`.
fn authority(target: &Target) -> Option<Authority> {
    if let Some(authority) = target.uri.authority() {
        return Some(authority.clone());
    }
    target.host.as_ref()?.as_bytes().try_into().ok()
}

/// An address of version 6 without its brackets.
fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

const fn version(target: &Target) -> &'static str {
    match target.version {
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

/// As much of a text as is written.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}
