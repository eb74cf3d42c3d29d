//! One request to the admin interface, from its path to its answer. The query is ignored.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;
use tokio::sync::oneshot;

use super::answer::{self, Answer};
use super::{Control, Force, ForceError, Offer, Readiness, explain, feed, guard, page};
use crate::live::received::ReceivedBody;
use crate::proxy::answer::prefers;
use crate::server::status::{Circuit, Endpoint, ReloadResult, Upstream};
use crate::telemetry::exposition::Format;
use crate::telemetry::foreign::shown;

/// Bytes of a request's body.
const MAX_BODY: usize = 64 * 1024;
/// How long a client may take over its request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reload may take before its client is told to look at the status instead.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Every path with its methods, for whoever has asked for another one.
pub(super) const PATHS: [(&str, &str); 16] = [
    ("GET", "/"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/api/v1/status"),
    ("GET", feed::PATH),
    ("GET", "/api/v1/config"),
    ("GET", "/api/v1/explain"),
    ("GET", "/api/v1/explain/{request_id}"),
    ("POST", "/api/v1/reload"),
    ("POST", "/api/v1/drain"),
    ("POST", "/api/v1/quit"),
    (
        "POST",
        "/api/v1/upstreams/{name}/endpoints/{address}/breaker",
    ),
    ("PUT", "/api/v1/log-level"),
    ("GET", "/page.js, /page.css, /page.svg, /page/…"),
];

/// What a path stands for.
enum Target {
    File(&'static page::File),
    Live,
    Ready,
    Health,
    Metrics,
    Status,
    /// Only its head: the stream itself does not come here.
    Stream,
    Config,
    /// Every request that is kept, or the one with that id.
    Explain(Option<String>),
    Reload,
    Drain,
    Quit,
    Breaker {
        upstream: String,
        endpoint: String,
    },
    LogLevel,
}

impl Target {
    /// The target of a path; `None` where there is no such path.
    fn of(path: &str) -> Option<Self> {
        if let Some(file) = page::FILES.iter().find(|file| file.path == path) {
            return Some(Self::File(file));
        }
        Some(match path {
            "/livez" => Self::Live,
            "/readyz" => Self::Ready,
            "/healthz" => Self::Health,
            "/metrics" => Self::Metrics,
            "/api/v1/status" => Self::Status,
            feed::PATH => Self::Stream,
            "/api/v1/config" => Self::Config,
            "/api/v1/explain" => Self::Explain(None),
            "/api/v1/reload" => Self::Reload,
            "/api/v1/drain" => Self::Drain,
            "/api/v1/quit" => Self::Quit,
            "/api/v1/log-level" => Self::LogLevel,
            other => match other.strip_prefix("/api/v1/explain/") {
                // An id may well have a slash in it.
                Some(id) => Self::Explain(Some(percent_decoded(id)?)),
                None => return Self::breaker(other),
            },
        })
    }

    fn breaker(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/api/v1/upstreams/")?;
        let (upstream, rest) = rest.split_once("/endpoints/")?;
        let endpoint = rest.strip_suffix("/breaker")?;
        // Of the names only a socket's path has slashes, and those may come encoded or not.
        let one = |name: &str| !name.is_empty() && !name.contains('/');
        if !one(upstream) || !(one(endpoint) || endpoint.starts_with("unix:/")) {
            return None;
        }
        Some(Self::Breaker {
            upstream: percent_decoded(upstream)?,
            endpoint: percent_decoded(endpoint)?,
        })
    }

    /// The value of `allow`.
    const fn allow(&self) -> &'static str {
        match self {
            Self::File(_)
            | Self::Live
            | Self::Ready
            | Self::Health
            | Self::Metrics
            | Self::Status
            | Self::Stream
            | Self::Config
            | Self::Explain(_) => "GET, HEAD",
            Self::Reload | Self::Drain | Self::Quit | Self::Breaker { .. } => "POST",
            Self::LogLevel => "PUT",
        }
    }

    fn allows(&self, method: &Method) -> bool {
        self.allow()
            .split(", ")
            .any(|allowed| allowed == method.as_str())
    }

    /// Whether a stranger would learn something. Of the probes they would not, and services that watch
    /// from afar often say that they are a browser.
    const fn tells_something(&self) -> bool {
        !matches!(self, Self::Live | Self::Ready)
    }

    /// Whether it changes something.
    fn is_change(&self) -> bool {
        self.allow() != "GET, HEAD"
    }
}

/// Whether a path of [`PATHS`] is offered.
fn is_offered(path: &str, offer: Offer) -> bool {
    match offer {
        Offer::Everything => true,
        Offer::Readings => ["/livez", "/readyz", "/metrics"].contains(&path),
    }
}

/// Answers one request.
pub(super) async fn handle(
    request: Request<ReceivedBody>,
    control: &Arc<Control>,
    offer: Offer,
) -> Answer {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let Some(target) = Target::of(path).filter(|_| is_offered(path, offer)) else {
        return unknown_path(&parts, offer);
    };
    if !target.allows(&parts.method) {
        return wrong_method(&parts, &target);
    }
    if target.is_change()
        && let Some(why) = guard::change(&parts)
    {
        tracing::warn!(path = parts.uri.path(), %why, "refused a change through the admin interface");
        return answer::refusal(StatusCode::FORBIDDEN, why, &[]);
    }
    if target.tells_something()
        && let Some(why) = guard::reading(&parts.uri, &parts.headers)
    {
        tracing::warn!(path = parts.uri.path(), %why, "refused a browser at the admin interface");
        // A person may have just typed the address of the page.
        return match matches!(target, Target::File(_)) {
            true => answer::text(StatusCode::FORBIDDEN, format!("mamparo: {why}.\n")),
            false => answer::refusal(StatusCode::FORBIDDEN, why, &[]),
        };
    }
    match target {
        Target::File(file) => answer::typed(StatusCode::OK, file.content_type, file.body),
        Target::Live => answer::text(StatusCode::OK, "live\n"),
        Target::Ready => ready((control.readiness)()),
        Target::Health => aside(control, |control| health(&(control.status)().upstreams)).await,
        Target::Metrics => {
            let accept = parts.headers.get(header::ACCEPT);
            let open =
                accept.is_some_and(|accept| prefers(accept, Format::OPEN_METRICS, Format::TEXT));
            let answer: fn(&Control) -> Answer = match open {
                true => |control| metrics(control, Format::OpenMetrics),
                false => |control| metrics(control, Format::Text),
            };
            aside(control, answer).await
        }
        Target::Status => {
            aside(control, |control| {
                answer::json(StatusCode::OK, &(control.status)())
            })
            .await
        }
        Target::Stream => answer::typed(StatusCode::OK, feed::CONTENT_TYPE, Bytes::new()),
        Target::Config => {
            aside(control, |control| {
                answer::json_text(StatusCode::OK, (control.config)())
            })
            .await
        }
        Target::Explain(id) => {
            let as_text = explain::wants_text(&parts.headers);
            aside(control, move |control| {
                explain::answer(control.telemetry.explain(), id.as_deref(), as_text)
            })
            .await
        }
        Target::Reload => reload(control).await,
        Target::Drain => {
            (control.drain)();
            answer::json(StatusCode::ACCEPTED, &json!({"draining": true}))
        }
        Target::Quit => {
            (control.quit)();
            answer::json(StatusCode::ACCEPTED, &json!({"quitting": true}))
        }
        Target::Breaker { upstream, endpoint } => {
            breaker(control, &upstream, &endpoint, body).await
        }
        Target::LogLevel => log_level(control, body).await,
    }
}

/// An answer that may take long, on a thread of its own: new connections are accepted on this one.
async fn aside(
    control: &Arc<Control>,
    answer: impl FnOnce(&Control) -> Answer + Send + 'static,
) -> Answer {
    let control = Arc::clone(control);
    match tokio::task::spawn_blocking(move || answer(&control)).await {
        Ok(answer) => answer,
        Err(error) => answer::refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), &[]),
    }
}

fn unknown_path(parts: &Parts, offer: Offer) -> Answer {
    let offered = PATHS.iter().filter(|(_, path)| is_offered(path, offer));
    let paths: Vec<String> = offered
        .map(|(method, path)| format!("{method} {path}"))
        .collect();
    answer::refusal(
        StatusCode::NOT_FOUND,
        format!("there is nothing at '{}'", shown(parts.uri.path(), 200)),
        &[("paths", json!(paths))],
    )
}

fn wrong_method(parts: &Parts, target: &Target) -> Answer {
    let allow = target.allow();
    let mut answer = answer::refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "'{}' takes {allow}, not {}",
            shown(parts.uri.path(), 200),
            shown(parts.method.as_str(), 20)
        ),
        &[],
    );
    answer
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static(allow));
    answer
}

fn metrics(control: &Control, format: Format) -> Answer {
    let text = (control.metrics)(format);
    answer::typed(StatusCode::OK, format.content_type(), text)
}

fn ready(readiness: Readiness) -> Answer {
    match readiness {
        Readiness::Ready => answer::text(StatusCode::OK, "ready\n"),
        Readiness::Starting => answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting: not every listener is bound yet\n",
        ),
        Readiness::Draining => answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining: new work should go elsewhere\n",
        ),
    }
}

/// Deep: whether everything that the service cannot do without can be reached.
fn health(upstreams: &[Upstream]) -> Answer {
    let unavailable: Vec<serde_json::Value> = upstreams
        .iter()
        .filter(|upstream| upstream.critical)
        .filter_map(|upstream| {
            let why = why_unavailable(upstream)?;
            Some(json!({"upstream": upstream.name, "reason": why}))
        })
        .collect();
    let (status, word) = if unavailable.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    answer::json(status, &json!({"status": word, "unavailable": unavailable}))
}

fn why_unavailable(upstream: &Upstream) -> Option<String> {
    let mut endpoints = upstream
        .endpoints
        .iter()
        .filter(|endpoint| !endpoint.draining)
        .peekable();
    if endpoints.peek().is_none() {
        return Some("no endpoint: its names do not resolve".into());
    }
    let closed_to_us = endpoints
        .map(|endpoint| Some(format!("{}, {}", endpoint.address, why_closed(endpoint)?)))
        .collect::<Option<Vec<_>>>()?;
    Some(format!(
        "no endpoint is available ({})",
        closed_to_us.join("; ")
    ))
}

/// Why an endpoint gets no requests; `None`: it does.
fn why_closed(endpoint: &Endpoint) -> Option<String> {
    let health = endpoint.health.as_ref();
    let (what, why) = match health.filter(|health| health.state == "unhealthy") {
        Some(health) => ("its health check fails", &health.reason),
        None if endpoint.state == Circuit::Open => ("its breaker is open", &endpoint.reason),
        None => return None,
    };
    let why = why.as_deref().map(|why| format!(": {why}"));
    Some(format!("{what}{}", why.unwrap_or_default()))
}

async fn reload(control: &Control) -> Answer {
    let (order, result) = oneshot::channel();
    let asked = async {
        control.reload.send(order).await.ok()?;
        result.await.ok()
    };
    match tokio::time::timeout(RELOAD_TIMEOUT, asked).await {
        Ok(Some(reload)) => {
            let status = match reload.result {
                ReloadResult::Applied | ReloadResult::Unchanged => StatusCode::OK,
                ReloadResult::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            };
            answer::json(status, &reload)
        }
        Ok(None) => answer::refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "this process does not reload: it is about to end, or it runs without a file",
            &[],
        ),
        Err(_elapsed) => answer::refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "the reload has taken more than {} s and goes on; its result will be in /api/v1/status",
                RELOAD_TIMEOUT.as_secs()
            ),
            &[],
        ),
    }
}

async fn breaker(control: &Control, upstream: &str, endpoint: &str, body: ReceivedBody) -> Answer {
    let wanted = match read(body).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let force = serde_json::from_slice::<serde_json::Value>(&wanted)
        .ok()
        .and_then(|body| Force::from_name(body.get("force")?.as_str()?));
    let Some(force) = force else {
        return answer::refusal(
            StatusCode::BAD_REQUEST,
            r#"the body must be {"force":"open"}, {"force":"closed"} or {"force":"auto"}"#,
            &[],
        );
    };
    match (control.force)(upstream, endpoint, force) {
        Ok(()) => answer::json(
            StatusCode::OK,
            &json!({"upstream": upstream, "endpoint": endpoint, "force": force.name()}),
        ),
        Err(error) => cannot_force(upstream, endpoint, error),
    }
}

fn cannot_force(upstream: &str, endpoint: &str, error: ForceError) -> Answer {
    let (upstream, endpoint) = (shown(upstream, 100), shown(endpoint, 100));
    match error {
        ForceError::UnknownUpstream(known) => answer::refusal(
            StatusCode::NOT_FOUND,
            format!("there is no upstream '{upstream}'"),
            &[("upstreams", json!(known))],
        ),
        ForceError::UnknownEndpoint(known) => answer::refusal(
            StatusCode::NOT_FOUND,
            format!("upstream '{upstream}' has no endpoint '{endpoint}'"),
            &[("endpoints", json!(known))],
        ),
        ForceError::NoBreaker => answer::refusal(
            StatusCode::CONFLICT,
            format!("upstream '{upstream}' has no circuit_breaker that could be set"),
            &[],
        ),
    }
}

/// The level comes as `{"level":"debug"}` or as the bare word.
async fn log_level(control: &Control, body: ReceivedBody) -> Answer {
    let wanted = match read(body).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let level = match serde_json::from_slice::<serde_json::Value>(&wanted) {
        Ok(body) => body
            .get("level")
            .unwrap_or(&body)
            .as_str()
            .map(str::to_owned),
        Err(_no_json) => String::from_utf8(wanted.to_vec()).ok(),
    };
    let level = level.map(|level| level.trim().to_owned());
    let Some(level) = level.filter(|level| !level.is_empty()) else {
        return answer::refusal(
            StatusCode::BAD_REQUEST,
            r#"the body must be {"level":"debug"} or the bare word: off, error, warn, info, debug"#,
            &[],
        );
    };
    match (control.log_level)(&level) {
        Ok(level) => answer::json(StatusCode::OK, &json!({"level": level})),
        Err(why) => answer::refusal(StatusCode::BAD_REQUEST, why, &[]),
    }
}

/// The whole body, or the answer for whoever sends too much or takes too long. Boxed: it is the rare case.
async fn read(body: ReceivedBody) -> Result<Bytes, Box<Answer>> {
    let collected = Limited::new(body, MAX_BODY).collect();
    let refused = |status, why: &str| Err(Box::new(answer::refusal(status, why, &[])));
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 64 KiB",
        ),
        Ok(Err(_broken)) => refused(StatusCode::BAD_REQUEST, "the body broke off"),
        Err(_elapsed) => refused(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive within 10 s",
        ),
    }
}

/// A path segment without its percent signs; `None` where they are wrong or what they hide is no text.
fn percent_decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
