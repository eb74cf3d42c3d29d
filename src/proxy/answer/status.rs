//! What failed, in the words of others: the error types that RFC 9209 registers, and titles.

use http::HeaderValue;

use crate::policy::outcome::Reason;

/// Bytes of the message that the header repeats.
const MAX_DETAILS: usize = 256;

/// The value of `proxy-status`.
pub(super) fn proxy_status(reason: Reason, message: &str) -> HeaderValue {
    let mut text = format!("mamparo; error={}; details=\"", error_type(reason));
    for character in message.chars().take(MAX_DETAILS) {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            // A structured field's string is of visible ASCII.
            _ => text.push('?'),
        }
    }
    text.push('"');
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("mamparo"))
}

/// The registered type that says the most about a reason.
const fn error_type(reason: Reason) -> &'static str {
    match reason {
        Reason::NoRoute => "destination_not_found",
        Reason::BadRequest
        | Reason::HeaderTooLarge
        | Reason::BodyTooLarge
        | Reason::HeaderTimeout => "http_request_error",
        // Refused by a policy, and not forwarded.
        Reason::RateLimited | Reason::TooManyInFlight | Reason::QueueTimeout => {
            "http_request_denied"
        }
        Reason::TooManyConnections => "connection_limit_reached",
        Reason::BreakerOpen | Reason::NoEndpoint => "destination_unavailable",
        Reason::Draining | Reason::ClientGone => "proxy_internal_response",
        Reason::ConnectFailure => "connection_refused",
        Reason::ConnectTimeout => "connection_timeout",
        Reason::TlsFailure => "tls_protocol_error",
        Reason::Reset => "connection_terminated",
        Reason::ProtocolError => "http_protocol_error",
        Reason::TryTimeout | Reason::RequestTimeout => "http_response_timeout",
        Reason::Internal => "proxy_internal_error",
    }
}

/// The title of the problem, the same each time that it occurs.
pub(super) const fn title(reason: Reason) -> &'static str {
    match reason {
        Reason::NoRoute => "No route matches",
        Reason::BadRequest => "Bad request",
        Reason::HeaderTooLarge => "Request head too large",
        Reason::BodyTooLarge => "Request body too large",
        Reason::HeaderTimeout => "Request head too slow",
        Reason::RateLimited => "Rate limit exceeded",
        Reason::TooManyInFlight => "Too many requests in flight",
        Reason::QueueTimeout => "Waited too long for a place",
        Reason::TooManyConnections => "Too many connections",
        Reason::BreakerOpen => "Circuit breaker open",
        Reason::NoEndpoint => "No endpoint",
        Reason::Draining => "Shutting down",
        Reason::ConnectFailure => "Connection failed",
        Reason::ConnectTimeout => "Connection timed out",
        Reason::TlsFailure => "TLS handshake failed",
        Reason::Reset => "Connection reset",
        Reason::ProtocolError => "Invalid answer from upstream",
        Reason::TryTimeout => "Try timed out",
        Reason::RequestTimeout => "Request timed out",
        Reason::ClientGone => "Client gone",
        Reason::Internal => "Internal error",
    }
}
