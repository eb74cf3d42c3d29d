//! The sentences of our own answers: what happened, to which upstream, with the numbers that decided
//! it, and what comes next. They are read by somebody who was just woken up.

use std::fmt::{self, Display};
use std::time::Duration;

use crate::live::roster::Move;
use crate::policy::breaker::State;
use crate::policy::health::{Standing, Verdict};
use crate::policy::outcome::Reason;
use crate::policy::timeout;

/// Where a request's last try went, and how many there were.
#[derive(Debug, Clone, Copy)]
pub struct Tried<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// The endpoint of the last try.
    pub endpoint: &'a str,
    /// Tries that were made, the last included.
    pub tries: u32,
}

impl Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tries {
            0 | 1 => write!(f, "1 try, on {}", self.endpoint),
            tries => write!(f, "{tries} tries, the last on {}", self.endpoint),
        }
    }
}

/// A measured time, as exact as a reader needs it: `41 ms`, `12 s`; never rounded down.
struct About(Duration);

impl Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_nanos() {
            below if below <= 999_000_000 => write!(f, "{} ms", below.div_ceil(1_000_000)),
            above => match above.div_ceil(100_000_000) {
                tenths if tenths % 10 == 0 || tenths > 1000 => {
                    write!(f, "{} s", tenths.div_ceil(10))
                }
                tenths => write!(f, "{}.{} s", tenths / 10, tenths % 10),
            },
        }
    }
}

/// `no_route`: the path is given without its query.
pub fn no_route(listener: &str, method: &str, host: Option<&str>, path: &str) -> String {
    let host = host.unwrap_or("");
    format!("No route of listener '{listener}' matches {method} {host}{path}.")
}

/// `bad_request`, with status 405.
pub fn no_connect(listener: &str, host: Option<&str>) -> String {
    let host = host.unwrap_or("");
    format!(
        "No route of listener '{listener}' offers CONNECT to {host}: one that does names that host, or \
         CONNECT among its methods."
    )
}

/// `bad_request`: a URL with `https`.
pub fn https_in_the_clear(upstream: &str) -> String {
    format!(
        "The target begins with https, but the endpoints of upstream '{upstream}' are not all reached \
         over TLS: ask with CONNECT, or give them https:// in the configuration."
    )
}

/// `bad_request`, with status 501: the endpoint speaks only HTTP/2.
pub fn no_upgrade(upstream: &str, protocols: &str) -> String {
    format!(
        "A connection cannot be upgraded to '{protocols}' here: the endpoints of upstream '{upstream}' \
         speak HTTP/2, which has no upgrades."
    )
}

/// `bad_request`, with status 508.
pub fn request_loop(listener: &str) -> String {
    format!(
        "The request has come by listener '{listener}' before: what it is sent to sends it back here."
    )
}

/// `bad_request`: `problem` is a part of a sentence, such as "it has two host headers".
pub fn bad_request(problem: &dyn Display) -> String {
    format!("The request was not forwarded: {problem}.")
}

/// `header_too_large`.
pub fn header_too_large(listener: &str, header_size: usize, headers: usize) -> String {
    format!(
        "The request's head is over the limits of listener '{listener}': \
         {header_size} bytes and {headers} headers."
    )
}

/// `body_too_large`.
pub fn body_too_large(listener: &str, body_size: u64) -> String {
    format!("The request's body is over the limit of listener '{listener}': {body_size} bytes.")
}

/// `header_timeout`.
pub fn header_timeout(listener: &str, timeout: Duration) -> String {
    format!(
        "The request's head was not complete within {timeout:?}, \
         the header timeout of listener '{listener}'."
    )
}

/// `rate_limited`.
pub fn rate_limited(
    upstream: &str,
    per_second: f64,
    burst: f64,
    retry_after: Option<Duration>,
) -> String {
    let next = retry_after.map(|wait| format!(" in {}", About(wait)));
    let next = next.as_deref().unwrap_or(" later");
    format!(
        "The rate limit of upstream '{upstream}' is reached: \
         {per_second} requests per second, {burst} at once; try again{next}."
    )
}

/// `too_many_in_flight`.
pub fn too_many_in_flight(
    upstream: &str,
    in_flight: usize,
    limit: usize,
    queued: usize,
    max_queue: usize,
) -> String {
    format!(
        "Upstream '{upstream}' has {in_flight} of {limit} requests in flight \
         and {queued} of {max_queue} waiting; try again later."
    )
}

/// `queue_timeout`.
pub fn queue_timeout(upstream: &str, timeout: Duration, limit: usize) -> String {
    format!(
        "No place at upstream '{upstream}' became free within {timeout:?} (queue timeout): \
         all {limit} requests that it may have in flight went on; try again later."
    )
}

/// `too_many_connections`.
pub fn too_many_connections(upstream: &str, limit: usize) -> String {
    format!(
        "Upstream '{upstream}' has {limit} of {limit} connections, and each is in use; try again later."
    )
}

/// `too_many_connections`, where it is this process or its system that is at its limit.
pub fn no_socket(upstream: &str, cause: &dyn Display) -> String {
    format!(
        "No connection to upstream '{upstream}' can be opened from here: {cause}. \
         The process may need a higher limit of open files (ulimit -n); try again later."
    )
}

/// `breaker_open`: `cause` is why the breaker that probes next is open, "5 consecutive failures".
pub fn breaker_open(
    upstream: &str,
    cause: Option<&dyn Display>,
    next_probe: Option<Duration>,
) -> String {
    let mut message = format!("The circuit of upstream '{upstream}' is open");
    if let Some(cause) = cause {
        message.push_str(&format!(": {cause}"));
    }
    match next_probe {
        Some(Duration::ZERO) => message.push_str("; probes are under way."),
        Some(wait) => message.push_str(&format!("; next probe in {}.", About(wait))),
        None => message.push('.'),
    }
    message
}

/// `no_endpoint`: `cause` says why, "payments.example.com:80: there is no such name".
pub fn no_endpoint(upstream: &str, cause: Option<&dyn Display>) -> String {
    match cause {
        Some(cause) => format!("Upstream '{upstream}' has no endpoint: {cause}."),
        None => format!("Upstream '{upstream}' has no endpoint."),
    }
}

/// `no_endpoint`, where every endpoint is unhealthy: what is known of the one that is checked next.
pub fn unhealthy(
    upstream: &str,
    endpoint: &str,
    verdict: Option<&Verdict>,
    next: Option<Duration>,
) -> String {
    let mut message = format!("Every endpoint of upstream '{upstream}' is unhealthy.");
    if let Some(verdict) = verdict {
        let when = next.map(|wait| format!(" in {}", About(wait)));
        let when = when.unwrap_or_default();
        message.push_str(&format!(" Checked next{when}: {endpoint}, {verdict}."));
    }
    message
}

/// What checks made of an endpoint, for the log and the events; `verdict` says why it is unhealthy.
pub fn health_turned(to: Standing, verdict: Option<&Verdict>, next: Duration) -> String {
    match (to, verdict) {
        (Standing::Unhealthy, Some(verdict)) => {
            format!("unhealthy: {verdict}; next in {}", About(next))
        }
        (Standing::Unhealthy, None) => "unhealthy".to_owned(),
        (Standing::Healthy, _) => "healthy: its health checks succeed".to_owned(),
        (Standing::Unchecked, _) => "not checked yet".to_owned(),
    }
}

/// `draining`.
pub fn draining(service: &str) -> String {
    format!("The proxy of '{service}' is shutting down and takes no new requests.")
}

/// `draining`, where a request was cut: for the log only.
pub const fn cut() -> &'static str {
    "the drain time was over"
}

/// `connect_failure`.
pub fn connect_failure(tried: Tried<'_>, cause: &dyn Display) -> String {
    let upstream = tried.upstream;
    format!("No connection to upstream '{upstream}': {cause} ({tried}).")
}

/// `connect_timeout`.
pub fn connect_timeout(tried: Tried<'_>, timeout: Duration) -> String {
    let upstream = tried.upstream;
    format!("No connection to upstream '{upstream}' within {timeout:?} (connect timeout): {tried}.")
}

/// `tls_failure`.
pub fn tls_failure(tried: Tried<'_>, cause: &dyn Display) -> String {
    let upstream = tried.upstream;
    format!("The TLS handshake with upstream '{upstream}' failed: {cause} ({tried}).")
}

/// `reset`.
pub fn reset(tried: Tried<'_>, cause: &dyn Display) -> String {
    let upstream = tried.upstream;
    format!("Upstream '{upstream}' ended the connection before it answered: {cause} ({tried}).")
}

/// `protocol_error`.
pub fn protocol_error(tried: Tried<'_>, cause: &dyn Display) -> String {
    let upstream = tried.upstream;
    format!("Upstream '{upstream}' did not answer in valid HTTP: {cause} ({tried}).")
}

/// `try_timeout`.
pub fn try_timeout(tried: Tried<'_>, timeout: Duration) -> String {
    let upstream = tried.upstream;
    format!("No answer from upstream '{upstream}' within {timeout:?} (try timeout): {tried}.")
}

/// `request_timeout`: `tried` is `None` where the time was over before the first try.
pub fn request_timeout(upstream: &str, timeout: Duration, tried: Option<Tried<'_>>) -> String {
    let start =
        format!("No answer from upstream '{upstream}' within {timeout:?} (request timeout)");
    match tried {
        Some(tried) => format!("{start}: {tried}."),
        None => format!("{start}: it waited for a place and was never sent."),
    }
}

/// `request_timeout`, where the client says that none of its time is left.
pub fn no_time(upstream: &str, header: &str) -> String {
    format!(
        "The client leaves no time for an answer from upstream '{upstream}' \
         ({header} is 0): the request was never sent."
    )
}

/// Why a try ended while its request was sent; a part of a sentence.
pub fn upstream_takes_nothing(idle: Option<Duration>) -> String {
    let idle = idle.unwrap_or_default();
    format!("it took no byte of the request's body for {idle:?} (idle timeout)")
}

/// Why a request's time was over in a try that no endpoint is to be blamed for; a part of a sentence.
pub const fn client_still_sends() -> &'static str {
    "the client had not sent all of its request"
}

/// `client_gone`, where the client is still connected but sends no more of its request.
pub fn client_sends_nothing(idle: Option<Duration>) -> String {
    let idle = idle.unwrap_or_default();
    format!("The client sent no byte of its request's body for {idle:?} (idle timeout).")
}

/// The sentence of a try that brought no answer and was the last. `whole` is the request's time.
pub fn failed_try(
    reason: Reason,
    tried: Tried<'_>,
    timeouts: &timeout::Settings,
    whole: Option<Duration>,
    detail: Option<&str>,
) -> String {
    if let (Reason::TryTimeout, Some(detail)) = (reason, detail) {
        let upstream = tried.upstream;
        return format!("No answer from upstream '{upstream}': {detail} ({tried}).");
    }
    if let (Reason::RequestTimeout, Some(whole), Some(detail)) = (reason, whole, detail) {
        let upstream = tried.upstream;
        return format!(
            "No answer from upstream '{upstream}' within {whole:?} (request timeout): {detail} ({tried})."
        );
    }
    let detail: &dyn Display = &detail.unwrap_or("the connection broke");
    match (reason, timeouts.connect, timeouts.per_try, whole) {
        (Reason::ConnectTimeout, Some(limit), _, _) => connect_timeout(tried, limit),
        (Reason::TryTimeout, _, Some(limit), _) => try_timeout(tried, limit),
        (Reason::RequestTimeout, _, _, Some(whole)) => {
            request_timeout(tried.upstream, whole, Some(tried))
        }
        (Reason::ConnectFailure, ..) => connect_failure(tried, detail),
        (Reason::TlsFailure, ..) => tls_failure(tried, detail),
        (Reason::ProtocolError, ..) => protocol_error(tried, detail),
        (Reason::Reset, ..) => reset(tried, detail),
        _ => internal(),
    }
}

/// A breaker that moved, for the log and the page.
pub fn breaker_moved(moved: &Move) -> String {
    let next = moved
        .retry_in
        .map(|wait| format!("; next probe in {}", About(wait)));
    let next = next.unwrap_or_default();
    match (moved.transition.to, &moved.cause) {
        (State::Open, Some(cause)) => format!("breaker opened: {cause}{next}"),
        (State::Open, None) => format!("breaker opened{next}"),
        (State::HalfOpen, _) => "breaker half-open: probing".to_owned(),
        // By itself it never closes without probes.
        (State::Closed, _) if moved.transition.from == State::Open => {
            "breaker closed by the operator".to_owned()
        }
        (State::Closed, _) => "breaker closed: the endpoint answers again".to_owned(),
    }
}

/// `client_gone`, for the log only.
pub fn client_gone(elapsed: Duration) -> String {
    format!(
        "The client left after {} without its answer.",
        About(elapsed)
    )
}

/// `internal`.
pub fn internal() -> String {
    "The proxy failed while it handled this request; its log has the details.".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TRIED: Tried<'_> = Tried {
        upstream: "payments",
        endpoint: "127.0.0.1:9001",
        tries: 2,
    };

    #[test]
    fn the_numbers_that_decided_it_are_in_the_sentence() {
        let cause: &dyn Display = &"5 consecutive failures";
        for (message, expected) in [
            (
                breaker_open("payments", Some(cause), Some(12 * SECOND)),
                "The circuit of upstream 'payments' is open: 5 consecutive failures; next probe in 12 s.",
            ),
            (
                breaker_open("payments", None, Some(Duration::ZERO)),
                "The circuit of upstream 'payments' is open; probes are under way.",
            ),
            (
                too_many_in_flight("payments", 100, 100, 0, 0),
                "Upstream 'payments' has 100 of 100 requests in flight and 0 of 0 waiting; try again later.",
            ),
            (
                request_timeout("payments", 15 * SECOND, Some(TRIED)),
                "No answer from upstream 'payments' within 15s (request timeout): 2 tries, the last on 127.0.0.1:9001.",
            ),
            (
                connect_failure(Tried { tries: 1, ..TRIED }, &"connection refused"),
                "No connection to upstream 'payments': connection refused (1 try, on 127.0.0.1:9001).",
            ),
            (
                rate_limited("payments", 100.0, 20.0, Some(Duration::from_micros(1500))),
                "The rate limit of upstream 'payments' is reached: 100 requests per second, 20 at once; try again in 2 ms.",
            ),
            (
                no_route("outbound", "GET", Some("payments.internal"), "/v1"),
                "No route of listener 'outbound' matches GET payments.internal/v1.",
            ),
        ] {
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn a_wait_is_never_rounded_down() {
        for (wait, expected) in [
            (Duration::from_nanos(1), "1 ms"),
            (Duration::from_millis(999), "999 ms"),
            (Duration::from_micros(999_001), "1 s"),
            (Duration::from_millis(1001), "1.1 s"),
            (Duration::from_millis(30_650), "30.7 s"),
            (Duration::from_secs(31), "31 s"),
            (Duration::from_millis(100_100), "101 s"),
        ] {
            assert_eq!(About(wait).to_string(), expected);
        }
    }
}
