//! The answer to a scrape, in the Prometheus text format, version 0.0.4. It is written straight from
//! the counters: the format is three kinds of lines, and a library would build a tree of every label
//! first.

use std::fmt::{Display, Write};

use super::histogram::{BOUND_LABELS, Spread};
use super::meters::{ListenerMeters, Passage, Requests, RouteMeters, UpstreamMeters};
use super::metrics::{Metrics, Tables};
use super::process::Process;
use super::readings::{Readings, UpstreamReading};
use super::table::{self, Metric};
use crate::policy::breaker::State;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Metrics {
    /// Everything, as one scrape reads it. Each call counts as a scrape for the series of what a
    /// reload has removed (rule 87).
    pub fn render(&self, readings: &Readings) -> String {
        let mut text = Text(String::with_capacity(16 * 1024));
        let mut tables = self.handles.lock();
        write_requests(&mut text, &tables);
        text.family(&table::OVERHEAD);
        text.histogram(&table::OVERHEAD, &[], &self.overhead.read());
        let upstreams: Vec<&UpstreamMeters> = tables.upstreams.iter().collect();
        write_tries(&mut text, &upstreams);
        write_events(&mut text, &upstreams);
        drop(upstreams);
        tables.scraped();
        drop(tables);
        write_gauges(&mut text, readings);
        self.write_configuration(&mut text, readings);
        write_process(&mut text, &Process::read());
        text.0
    }

    fn write_configuration(&self, text: &mut Text, readings: &Readings) {
        text.family(&table::CONFIG_RELOADS);
        for (result, count) in [
            ("applied", self.reloads_applied.get()),
            ("refused", self.reloads_refused.get()),
        ] {
            text.sample(&table::CONFIG_RELOADS, &[result], count);
        }
        let ok = u8::from(readings.last_reload_ok);
        text.single(&table::CONFIG_LAST_RELOAD_SUCCESS, Some(ok));
        text.single(&table::CONFIG_GENERATION, Some(readings.generation));
        let dropped = self.access_log_dropped.get();
        text.single(&table::ACCESS_LOG_DROPPED, Some(dropped));
        text.family(&table::BUILD_INFO);
        text.sample(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
    }
}

fn write_requests(text: &mut Text, tables: &Tables) {
    let passages = || tables.passages.iter();
    text.family(&table::REQUESTS);
    let mut requests = |labels: [&str; 3], counts: &Requests| {
        let [listener, route, upstream] = labels;
        for (outcome, code, count) in counts.read() {
            let labels = [listener, route, upstream, outcome.name(), code];
            text.sample(&table::REQUESTS, &labels, count);
        }
    };
    for meters in tables.listeners.iter() {
        let ListenerMeters { unrouted, .. } = meters;
        requests([meters.name(), "", ""], unrouted);
    }
    for meters in tables.routes.iter() {
        let RouteMeters {
            requests: counts, ..
        } = meters;
        let upstream = meters.upstream().name();
        requests([meters.listener(), meters.route(), upstream], counts);
    }
    text.family(&table::REQUEST_DURATION);
    for passage in passages() {
        let labels = [&**passage.route(), &**passage.upstream()];
        let Passage { duration, .. } = passage;
        text.histogram(&table::REQUEST_DURATION, &labels, &duration.read());
    }
    text.family(&table::FAILURES);
    for passage in passages() {
        for (reason, count) in passage.failures() {
            let labels = [&**passage.route(), &**passage.upstream(), reason.name()];
            text.sample(&table::FAILURES, &labels, count);
        }
    }
}

fn write_tries(text: &mut Text, upstreams: &[&UpstreamMeters]) {
    text.family(&table::ATTEMPTS);
    for upstream in upstreams {
        for (outcome, count) in upstream.attempts() {
            text.sample(&table::ATTEMPTS, &[upstream.name(), outcome], count);
        }
    }
    text.family(&table::ATTEMPT_DURATION);
    for upstream in upstreams {
        let spread = upstream.attempt_duration.read();
        text.histogram(&table::ATTEMPT_DURATION, &[upstream.name()], &spread);
    }
    text.family(&table::RETRIES);
    for upstream in upstreams {
        for (class, count) in upstream.retries() {
            text.sample(&table::RETRIES, &[upstream.name(), class.name()], count);
        }
    }
    text.family(&table::RETRIES_DENIED);
    for upstream in upstreams {
        for (why, count) in upstream.retries_denied() {
            text.sample(
                &table::RETRIES_DENIED,
                &[upstream.name(), why.name()],
                count,
            );
        }
    }
}

fn write_events(text: &mut Text, upstreams: &[&UpstreamMeters]) {
    text.family(&table::BREAKER_TRANSITIONS);
    for upstream in upstreams {
        for (state, count) in upstream.breaker_transitions() {
            let labels = [&**upstream.name(), state.name()];
            text.sample(&table::BREAKER_TRANSITIONS, &labels, count);
        }
    }
    text.family(&table::BULKHEAD_REFUSED);
    for upstream in upstreams {
        for (reason, count) in upstream.bulkhead_refused() {
            let labels = [&**upstream.name(), reason.name()];
            text.sample(&table::BULKHEAD_REFUSED, &labels, count);
        }
    }
    text.family(&table::CONNECTIONS_OPENED);
    for upstream in upstreams {
        let count = upstream.connections_opened.get();
        text.sample(&table::CONNECTIONS_OPENED, &[upstream.name()], count);
    }
    text.family(&table::FALLBACKS);
    for upstream in upstreams {
        for (kind, cause, count) in upstream.fallbacks() {
            let labels = [&**upstream.name(), kind.name(), cause];
            text.sample(&table::FALLBACKS, &labels, count);
        }
    }
}

fn write_gauges(text: &mut Text, readings: &Readings) {
    let all = &readings.upstreams;
    let mut by_upstream = |metric: &Metric, read: fn(&UpstreamReading) -> Option<f64>| {
        text.family(metric);
        for upstream in all {
            if let Some(value) = read(upstream) {
                text.sample(metric, &[&upstream.name], value);
            }
        }
    };
    by_upstream(&table::RETRY_BUDGET_TOKENS, |one| one.retry_budget_tokens);
    by_upstream(&table::BULKHEAD_IN_FLIGHT, |one| Some(one.in_flight as f64));
    by_upstream(&table::BULKHEAD_QUEUED, |one| Some(one.queued as f64));
    by_upstream(&table::BULKHEAD_LIMIT, |one| {
        one.limit.map(|limit| limit as f64)
    });
    text.family(&table::BREAKER_STATE);
    for upstream in all {
        for endpoint in &upstream.endpoints {
            if let Some(state) = endpoint.breaker {
                let labels = [&*upstream.name, &*endpoint.address];
                text.sample(&table::BREAKER_STATE, &labels, breaker_value(state));
            }
        }
    }
    text.family(&table::CONNECTIONS);
    for upstream in all {
        for (state, count) in [("idle", upstream.idle), ("active", upstream.active)] {
            text.sample(&table::CONNECTIONS, &[&upstream.name, state], count);
        }
    }
    text.family(&table::ENDPOINTS);
    for upstream in all {
        for (state, count) in upstream.endpoints_by_state() {
            text.sample(&table::ENDPOINTS, &[&upstream.name, state], count);
        }
    }
}

fn write_process(text: &mut Text, process: &Process) {
    text.single(&table::PROCESS_CPU, process.cpu_seconds);
    text.single(&table::PROCESS_OPEN_FDS, process.open_fds);
    text.single(&table::PROCESS_MAX_FDS, process.max_fds);
    text.single(&table::PROCESS_RESIDENT, process.resident_bytes);
    text.single(&table::PROCESS_VIRTUAL, process.virtual_bytes);
    text.single(&table::PROCESS_START, process.start_seconds);
    text.single(&table::PROCESS_THREADS, process.threads);
}

const fn breaker_value(state: State) -> u8 {
    match state {
        State::Closed => 0,
        State::Open => 1,
        State::HalfOpen => 2,
    }
}

/// The text so far. Writing to a `String` cannot fail, so the results of `write!` are let go.
struct Text(String);

impl Text {
    /// The two lines before a metric's samples, which must follow it without another between them.
    fn family(&mut self, metric: &Metric) {
        let Metric { name, help, .. } = metric;
        let kind = metric.kind.name();
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A metric without labels; nothing where there is no value.
    fn single(&mut self, metric: &Metric, value: Option<impl Display>) {
        if let Some(value) = value {
            self.family(metric);
            self.sample(metric, &[], value);
        }
    }

    fn sample(&mut self, metric: &Metric, values: &[&str], value: impl Display) {
        self.line(metric, "", values, None, value);
    }

    fn histogram(&mut self, metric: &Metric, values: &[&str], spread: &Spread) {
        let mut count = 0;
        let bounds = BOUND_LABELS.into_iter().chain(["+Inf"]);
        for (bound, bucket) in bounds.zip(spread.buckets) {
            count += bucket;
            self.line(metric, "_bucket", values, Some(bound), count);
        }
        self.line(metric, "_sum", values, None, spread.sum as f64 / 1e9);
        self.line(metric, "_count", values, None, count);
    }

    fn line(
        &mut self,
        metric: &Metric,
        suffix: &str,
        values: &[&str],
        bound: Option<&str>,
        value: impl Display,
    ) {
        debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
        self.0.push_str(metric.name);
        self.0.push_str(suffix);
        let labels = metric.labels.iter().zip(values);
        let labels = labels.map(|(name, value)| (*name, *value));
        let mut opening = '{';
        for (name, value) in labels.chain(bound.map(|bound| ("le", bound))) {
            self.0.push(opening);
            opening = ',';
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.escaped(value);
            self.0.push('"');
        }
        if opening == ',' {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests;
