//! The line that is written for a request: one JSON object, told at the end of its answer, with the
//! list of its tries (rule 89). A path is written without its query; no other header than the host and
//! the ids is written at all.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::policy::outcome::{Ending, Reason};
use crate::policy::retry::Why;
use crate::telemetry::json::{self, Object};
use crate::telemetry::report::{Outcome, Report, Try, without_user};
use crate::telemetry::trace::write_hex;

/// Adds the line of a request that ended at `now`, at the date `since_epoch`.
pub fn write(to: &mut Vec<u8>, report: &Report, now: Instant, since_epoch: Duration) {
    let mut line = Object::begin(to);
    let time = line.member("time");
    time.push(b'"');
    json::date(time, since_epoch);
    time.push(b'"');
    place(&mut line, report);
    result(&mut line, report);
    times(&mut line, report, now);
    identity(&mut line, report);
    if !report.tries.is_empty() {
        tries(line.member("tries"), &report.tries);
    }
    line.end();
    to.push(b'\n');
}

/// Where it came in and where it was to go.
fn place(line: &mut Object<'_>, report: &Report) {
    let labels = report.place.labels();
    line.text("listener", &*labels.listener);
    if let Some(route) = &labels.route {
        line.text("route", &*route.name);
        line.text("upstream", &*route.upstream);
    }
    // A request that was under way as the log was switched on has not kept it.
    let Some(target) = &report.target else {
        return;
    };
    line.text("method", target.method.as_str());
    let path = target.uri.path();
    if !path.is_empty() {
        line.text("path", path);
    }
    if let Some(host) = &target.host {
        line.text("host", without_user(host.as_bytes()));
    }
}

/// What came of it.
fn result(line: &mut Object<'_>, report: &Report) {
    line.number("status", u64::from(report.status));
    if let Some(code) = report.grpc_status {
        line.plain("grpc_status", code.name());
    }
    line.plain("outcome", report.outcome.name());
    if let Some(reason) = report.reason {
        line.plain("reason", reason.name());
    }
    if let Some(class) = report.class() {
        line.plain("class", class.name());
    }
    if let Some(fallback) = report.fallback {
        line.plain("fallback", fallback.name());
    }
    if let Some(why) = report.denied {
        line.plain("retry_denied", why.name());
    }
    if let Some(detail) = &report.detail {
        line.text("detail", &**detail);
    }
    flags(line, report);
}

/// The same in Envoy's response flags, since people search for them.
fn flags(line: &mut Object<'_>, report: &Report) {
    let exhausted = report.denied == Some(Why::Attempts);
    // Envoy's flag is for a connection that the upstream has ended, not for one that a drain cut.
    let ours = report.reason == Some(Reason::Draining) || report.outcome == Outcome::ClientGone;
    let broken = report.broken && !ours;
    let all = [
        report.reason.and_then(flag),
        exhausted.then_some("URX"),
        broken.then_some("UC"),
    ];
    let mut before: Option<&str> = None;
    for flag in all.into_iter().flatten() {
        match before {
            None => line.member("flags").push(b'"'),
            Some(before) if before == flag => continue,
            Some(_) => line.value().push(b','),
        }
        line.value().extend_from_slice(flag.as_bytes());
        before = Some(flag);
    }
    if before.is_some() {
        line.value().push(b'"');
    }
}

/// Envoy's flag for a reason; `None` where it has none.
const fn flag(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NoRoute => Some("NR"),
        Reason::BadRequest | Reason::HeaderTooLarge => Some("DPE"),
        Reason::RateLimited => Some("RL"),
        Reason::TooManyInFlight | Reason::QueueTimeout | Reason::TooManyConnections => Some("UO"),
        Reason::BreakerOpen | Reason::NoEndpoint => Some("UH"),
        Reason::ConnectFailure | Reason::ConnectTimeout | Reason::TlsFailure => Some("UF"),
        Reason::Reset => Some("UC"),
        Reason::ProtocolError => Some("UPE"),
        Reason::TryTimeout | Reason::RequestTimeout => Some("UT"),
        Reason::ClientGone => Some("DC"),
        Reason::BodyTooLarge | Reason::HeaderTimeout | Reason::Draining | Reason::Internal => None,
    }
}

/// Where the time went, and the bytes.
fn times(line: &mut Object<'_>, report: &Report, now: Instant) {
    let total = now.saturating_duration_since(report.started);
    line.milliseconds("duration_ms", total);
    if !report.queued.is_zero() {
        line.milliseconds("queue_ms", report.queued);
    }
    if !report.backoff.is_zero() {
        line.milliseconds("backoff_ms", report.backoff);
    }
    if let Some(head_at) = report.head_at {
        line.milliseconds("ttfb_ms", head_at);
    }
    if let Some(overhead) = report.overhead() {
        line.milliseconds("overhead_ms", overhead);
    }
    line.number("bytes_in", report.received);
    line.number("bytes_out", report.sent);
}

/// Whose it is.
fn identity(line: &mut Object<'_>, report: &Report) {
    if let Some(peer) = report.peer {
        let client = line.member("client");
        client.push(b'"');
        address(client, peer);
        client.push(b'"');
    }
    line.text("request_id", &report.request_id);
    let mut id = [0; 32];
    write_hex(&mut id, report.trace.trace_id.to_be_bytes());
    line.plain("trace_id", id);
    write_hex(&mut id[..16], report.trace.span_id.to_be_bytes());
    line.plain("span_id", &id[..16]);
    line.number("generation", report.generation);
}

/// Writes an address with its port. Nearly all are IPv4, and a formatter costs more than the rest of the
/// line.
fn address(to: &mut Vec<u8>, address: SocketAddr) {
    let SocketAddr::V4(address) = address else {
        // Writing to a vector cannot fail.
        let _ = write!(to, "{address}");
        return;
    };
    for (byte, mark) in address.ip().octets().into_iter().zip(*b"...:") {
        json::number(to, u64::from(byte));
        to.push(mark);
    }
    json::number(to, u64::from(address.port()));
}

fn tries(to: &mut Vec<u8>, tries: &[Try]) {
    to.push(b'[');
    for (index, one) in tries.iter().enumerate() {
        if index > 0 {
            to.push(b',');
        }
        let mut object = Object::begin(to);
        object.text("endpoint", &*one.endpoint);
        match one.ending {
            Ending::Answered(status) => object.number("status", u64::from(status)),
            Ending::Grpc { status, code } => {
                object.number("status", u64::from(status));
                object.plain("grpc_status", code.name());
            }
            Ending::Failed(reason) => object.plain("reason", reason.name()),
        }
        object.milliseconds("duration_ms", one.took);
        if !one.waited.is_zero() {
            object.milliseconds("waited_ms", one.waited);
        }
        object.plain("sent", one.sent.name());
        object.truth("reused", one.reused);
        object.end();
    }
    to.push(b']');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::grpc::Code;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::report::{FallbackKind, Place, samples};

    fn read(report: &Report) -> Value {
        let mut line = Vec::new();
        let now = report.started + Duration::from_micros(41_900);
        write(
            &mut line,
            report,
            now,
            Duration::from_millis(1_700_000_000_123),
        );
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(!line.contains(&b'\n'));
        serde_json::from_slice(&line).unwrap()
    }

    fn plain() -> Report {
        let metrics = Metrics::default();
        let names = ["outbound", "charges", "payments"].map(samples::name);
        let listener = metrics.listener(&names[0]);
        let route = metrics.route(&names[0], &names[1], &names[2]);
        samples::report(listener, Some(route), Outcome::Upstream, 200)
    }

    #[test]
    fn rule_089_a_line_tells_the_whole_request_with_its_tries() {
        let mut report = plain();
        report.outcome = Outcome::Fallback;
        report.fallback = Some(FallbackKind::Respond);
        report.reason = Some(Reason::RequestTimeout);
        report.denied = Some(Why::Attempts);
        report.detail = Some("a \"detail\"".into());
        report.queued = Duration::from_millis(2);
        report.backoff = Duration::from_millis(25);
        report.head_at = Some(Duration::from_millis(40));
        report.trace = crate::telemetry::trace::TraceContext {
            trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span_id: 7,
            parent: None,
            flags: 1,
        };
        let first = samples::attempt(Duration::from_millis(3), Ending::Failed(Reason::Reset));
        let mut second = samples::attempt(Duration::from_millis(8), Ending::Answered(503));
        second.waited = Duration::from_millis(25);
        second.reused = true;
        report.tries.extend([first, second]);
        let expected = json!({
            "time": "2023-11-14T22:13:20.123Z",
            "listener": "outbound", "route": "charges", "upstream": "payments",
            "method": "GET", "path": "/v1/charges", "host": "payments.internal",
            "status": 200, "outcome": "fallback", "reason": "request_timeout", "class": "timeout",
            "fallback": "respond", "retry_denied": "attempts", "detail": "a \"detail\"",
            "flags": "UT,URX",
            "duration_ms": 41.9, "queue_ms": 2.0, "backoff_ms": 25.0, "ttfb_ms": 40.0,
            "overhead_ms": 2.0, "bytes_in": 0, "bytes_out": 64,
            "client": "127.0.0.1:40000", "request_id": "r-1",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "0000000000000007",
            "generation": 1,
            "tries": [
                { "endpoint": "127.0.0.1:9001", "reason": "reset", "duration_ms": 3.0,
                  "sent": "sent_unanswered", "reused": false },
                { "endpoint": "127.0.0.1:9001", "status": 503, "duration_ms": 8.0,
                  "waited_ms": 25.0, "sent": "answered", "reused": true },
            ],
        });
        assert_eq!(read(&report), expected);
    }

    #[test]
    fn rule_013_a_grpc_call_tells_its_code_beside_the_status() {
        let mut report = plain();
        report.grpc_status = Some(Code::Ok);
        let failed = Ending::Grpc {
            status: 200,
            code: Code::Unavailable,
        };
        let attempt = |ending| samples::attempt(Duration::from_millis(3), ending);
        report
            .tries
            .extend([attempt(failed), attempt(Ending::Answered(200))]);
        let line = read(&report);
        assert_eq!(
            (&line["status"], &line["grpc_status"]),
            (&json!(200), &json!("ok"))
        );
        assert_eq!(line["tries"][0]["grpc_status"], "unavailable");
        assert_eq!(line["tries"][0]["status"], 200);
        assert!(line["tries"][1].get("grpc_status").is_none());
    }

    #[test]
    fn what_there_is_not_is_left_out() {
        let mut report = plain();
        report.place = Place::Unrouted(Metrics::default().listener(&samples::name("outbound")));
        report.peer = None;
        report.target = None;
        report.head_at = None;
        let line = read(&report);
        for absent in [
            "route",
            "upstream",
            "method",
            "path",
            "host",
            "reason",
            "class",
            "fallback",
            "queue_ms",
            "backoff_ms",
            "ttfb_ms",
            "overhead_ms",
            "client",
            "flags",
            "tries",
            "retry_denied",
            "detail",
            "grpc_status",
        ] {
            assert!(line.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn no_query_and_no_hostile_header_gets_through_as_it_is() {
        let mut report = plain();
        let mut target = samples::target("http://user:secret@h/a%20b?token=secret", "h");
        target.host = Some(http::HeaderValue::from_bytes(b"a\"}\xff\t{").unwrap());
        report.target = Some(target);
        let line = read(&report);
        assert_eq!(line["path"], "/a%20b");
        assert_eq!(line["host"], "a\"}\u{fffd}\t{");
        assert!(!line.to_string().contains("secret"));
    }

    #[test]
    fn flags_stand_beside_the_reason_once_each() {
        for (reason, broken, flags) in [
            (Some(Reason::NoRoute), false, json!("NR")),
            (Some(Reason::Reset), true, json!("UC")),
            (None, true, json!("UC")),
            (Some(Reason::BreakerOpen), false, json!("UH")),
            (Some(Reason::Draining), false, Value::Null),
            (Some(Reason::Draining), true, Value::Null),
        ] {
            let mut report = plain();
            (report.reason, report.broken) = (reason, broken);
            assert_eq!(
                read(&report).get("flags").cloned().unwrap_or_default(),
                flags
            );
        }
        let mut gone = plain();
        (gone.outcome, gone.broken) = (Outcome::ClientGone, true);
        gone.reason = Some(Reason::ClientGone);
        assert_eq!(read(&gone)["flags"], "DC");
    }

    #[test]
    fn every_random_report_is_a_line_that_a_parser_reads() {
        let metrics = Metrics::default();
        for report in samples::Telling::new(&metrics, 9).tell(2000) {
            let line = read(&report);
            assert_eq!(line["outcome"], report.outcome.name());
            let tries = line
                .get("tries")
                .map_or(0, |tries| tries.as_array().unwrap().len());
            assert_eq!(tries, report.tries.len());
        }
    }
}
