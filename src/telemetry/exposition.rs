//! The answer to a scrape, in the Prometheus text format, version 0.0.4, or in OpenMetrics, which also has
//! room for traces as examples: what was counted and what was read is written as it comes. With ten thousand routes that is 20 MB: a tree of families, samples and
//! labels before it took ten times the text's memory.

use std::fmt;
use std::sync::Arc;

use prometheus::proto::MetricType;

use super::examples::{Example, Examples};
use super::histogram::{BOUNDS, Spread};
use super::meters::UpstreamMeters;
use super::metrics::{Metrics, Scraped};
use super::process::Process;
use super::readings::{Readings, UpstreamReading};
use super::table::{self, Metric};
use crate::policy::breaker::State;

/// How a scrape is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// What a scraper names that can read OpenMetrics.
    pub const OPEN_METRICS: &str = "application/openmetrics-text";
    /// What a scraper names that can read the other.
    pub const TEXT: &str = "text/plain";

    /// The content type of the answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// Everything, as one scrape reads it. Each call counts as a scrape for the series of what a
    /// reload has removed (rule 87).
    pub fn render(&self, readings: &Readings) -> String {
        self.render_as(readings, Format::Text)
    }

    /// The same in that format.
    pub fn render_as(&self, readings: &Readings, format: Format) -> String {
        let mut families = Families::new(format);
        let handles = self.scraped();
        add_requests(&mut families, &handles);
        let overhead = self.overhead.read();
        families.of(&table::OVERHEAD).spread(&[], &overhead);
        add_tries(&mut families, &handles.upstreams);
        add_events(&mut families, &handles.upstreams);
        add_gauges(&mut families, &readings.upstreams);
        add_discovery(&mut families, readings);
        add_tls(&mut families, readings);
        self.add_configuration(&mut families, readings);
        add_process(&mut families, &Process::read());
        families.text()
    }

    fn add_configuration(&self, families: &mut Families, readings: &Readings) {
        let mut reloads = families.of(&table::CONFIG_RELOADS);
        reloads.count(&["applied"], self.reloads_applied.get());
        reloads.count(&["refused"], self.reloads_refused.get());
        let ok = u64::from(readings.last_reload_ok);
        for (metric, count) in [
            (&table::CONFIG_LAST_RELOAD_SUCCESS, ok),
            (&table::CONFIG_GENERATION, readings.generation),
            (&table::ACCESS_LOG_DROPPED, self.access_log_dropped.get()),
        ] {
            families.of(metric).count(&[], count);
        }
        let mut spans = families.of(&table::SPANS);
        for (result, count) in self.spans.read() {
            spans.count(&[result], count);
        }
        let version = env!("CARGO_PKG_VERSION");
        families.of(&table::BUILD_INFO).count(&[version], 1);
    }
}

fn add_requests(families: &mut Families, handles: &Scraped) {
    let mut requests = families.of(&table::REQUESTS);
    for one in &handles.listeners {
        for (outcome, code, count) in one.unrouted.read() {
            requests.count(&[one.name(), "", "", outcome.name(), code], count);
        }
    }
    for one in &handles.routes {
        let upstream = one.upstream().name();
        for (outcome, code, count) in one.requests.read_of_route() {
            let labels = [one.listener(), one.route(), upstream, outcome.name(), code];
            requests.count(&labels, count);
        }
    }
    let mut exceeded = families.of(&table::LIMIT_EXCEEDED);
    for one in &handles.listeners {
        for (limit, count) in one.exceeded.read() {
            exceeded.count(&[one.name(), limit.name()], count);
        }
    }
    let passed = |one: &super::meters::ListenerMeters| one.passed.get();
    let mut all = families.of(&table::PASSED);
    for one in &handles.listeners {
        all.count(&[one.name()], passed(one));
    }
    let mut open = families.of(&table::PASSING);
    for one in &handles.listeners {
        // Read first, so that none has ended that is not counted yet.
        let ended = one.passed_ended.get();
        open.count(&[one.name()], passed(one).saturating_sub(ended));
    }
    let mut durations = families.of(&table::REQUEST_DURATION);
    for one in &handles.passages {
        let labels = [one.route(), one.upstream()].map(|label| &**label);
        durations.exemplified(&labels, &one.duration.read(), &one.examples);
    }
    let mut failures = families.of(&table::FAILURES);
    for one in &handles.passages {
        for (reason, count) in one.failures() {
            failures.count(&[one.route(), one.upstream(), reason.name()], count);
        }
    }
}

fn add_tries(families: &mut Families, upstreams: &[Arc<UpstreamMeters>]) {
    families.by_upstream(&table::ATTEMPTS, upstreams, UpstreamMeters::attempts);
    let mut durations = families.of(&table::ATTEMPT_DURATION);
    for one in upstreams {
        durations.spread(&[one.name()], &one.attempt_duration.read());
    }
    families.by_upstream(&table::RETRIES, upstreams, UpstreamMeters::retries);
    let denied = UpstreamMeters::retries_denied;
    families.by_upstream(&table::RETRIES_DENIED, upstreams, denied);
}

fn add_events(families: &mut Families, upstreams: &[Arc<UpstreamMeters>]) {
    let transitions = UpstreamMeters::breaker_transitions;
    families.by_upstream(&table::BREAKER_TRANSITIONS, upstreams, transitions);
    let checks = UpstreamMeters::health_checks;
    families.by_upstream(&table::HEALTH_CHECKS, upstreams, checks);
    let refused = UpstreamMeters::bulkhead_refused;
    families.by_upstream(&table::BULKHEAD_REFUSED, upstreams, refused);
    let mut opened = families.of(&table::CONNECTIONS_OPENED);
    for one in upstreams {
        opened.count(&[one.name()], one.connections_opened.get());
    }
    let mut fallbacks = families.of(&table::FALLBACKS);
    for one in upstreams {
        for (kind, cause, count) in one.fallbacks() {
            fallbacks.count(&[one.name(), kind.name(), cause], count);
        }
    }
}

fn add_gauges(families: &mut Families, upstreams: &[UpstreamReading]) {
    let mut by_upstream = |metric: &Metric, read: fn(&UpstreamReading) -> Option<f64>| {
        let mut gauge = families.of(metric);
        for one in upstreams {
            if let Some(value) = read(one) {
                gauge.number(&[&one.name], value);
            }
        }
    };
    by_upstream(&table::RETRY_BUDGET_TOKENS, |one| one.retry_budget_tokens);
    by_upstream(&table::BULKHEAD_IN_FLIGHT, |one| Some(one.in_flight as f64));
    by_upstream(&table::BULKHEAD_QUEUED, |one| Some(one.queued as f64));
    by_upstream(&table::BULKHEAD_LIMIT, |one| Some(one.limit? as f64));
    let mut breakers = families.of(&table::BREAKER_STATE);
    for one in upstreams {
        for endpoint in &one.endpoints {
            if let Some(state) = endpoint.breaker {
                breakers.count(&[&one.name, &endpoint.address], breaker_value(state));
            }
        }
    }
    let mut connections = families.of(&table::CONNECTIONS);
    for one in upstreams {
        connections.number(&[&one.name, "idle"], one.idle as f64);
        connections.number(&[&one.name, "active"], one.active as f64);
    }
    let mut endpoints = families.of(&table::ENDPOINTS);
    for one in upstreams {
        for (state, count) in one.endpoints_by_state() {
            endpoints.number(&[&one.name, state], count as f64);
        }
    }
}

fn add_discovery(families: &mut Families, readings: &Readings) {
    let mut updates = families.of(&table::DISCOVERY_UPDATES);
    for one in &readings.discovery {
        for (result, count) in one.updates {
            updates.count(&[&one.upstream, &one.source, result], count);
        }
    }
}

fn add_tls(families: &mut Families, readings: &Readings) {
    let mut failures = families.of(&table::TLS_HANDSHAKE_FAILURES);
    for one in &readings.handshakes {
        failures.count(&[&one.listener, one.why], one.count);
    }
    let mut expiry = families.of(&table::CERTIFICATE_EXPIRY);
    for one in &readings.certificates {
        expiry.number(
            &[&one.listener, &one.upstream, &one.file],
            one.expires as f64,
        );
    }
}

fn add_process(families: &mut Families, process: &Process) {
    let whole = |count: Option<u64>| count.map(|count| count as f64);
    for (metric, value) in [
        (&table::PROCESS_CPU, process.cpu_seconds),
        (&table::PROCESS_OPEN_FDS, whole(process.open_fds)),
        (&table::PROCESS_MAX_FDS, whole(process.max_fds)),
        (&table::PROCESS_RESIDENT, whole(process.resident_bytes)),
        (&table::PROCESS_VIRTUAL, whole(process.virtual_bytes)),
        (&table::PROCESS_START, process.start_seconds),
        (&table::PROCESS_THREADS, whole(process.threads)),
    ] {
        if let Some(value) = value {
            families.of(metric).number(&[], value);
        }
    }
}

const fn breaker_value(state: State) -> u64 {
    match state {
        State::Closed => 0,
        State::Open => 1,
        State::HalfOpen => 2,
    }
}

/// The metrics that were read so far, each once, as text.
struct Families {
    text: String,
    format: Format,
    /// The bounds of a histogram's buckets in seconds, and what stands for the last one's.
    bounds: Vec<String>,
}

impl Families {
    fn new(format: Format) -> Self {
        let bounds = BOUNDS.iter().map(|bound| match format {
            Format::Text => seconds(*bound).to_string(),
            // With a fraction always: one way to write each.
            Format::OpenMetrics => format!("{:?}", seconds(*bound)),
        });
        Self {
            text: String::new(),
            format,
            bounds: bounds.chain(["+Inf".to_owned()]).collect(),
        }
    }

    /// Begins a metric. What says of it what it is comes with its first sample: a metric without one is
    /// not told of.
    fn of<'a>(&'a mut self, metric: &'a Metric) -> Samples<'a> {
        Samples {
            metric,
            text: &mut self.text,
            format: self.format,
            bounds: &self.bounds,
            begun: false,
        }
    }

    fn text(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    /// A metric whose only label beside the upstream is from a closed list.
    fn by_upstream<'a, I: Iterator<Item = (&'static str, u64)>>(
        &mut self,
        metric: &Metric,
        upstreams: &'a [Arc<UpstreamMeters>],
        read: impl Fn(&'a UpstreamMeters) -> I,
    ) {
        let mut samples = self.of(metric);
        for one in upstreams {
            for (label, count) in read(one) {
                samples.count(&[one.name(), label], count);
            }
        }
    }
}

/// A metric to which samples are added. The values of the labels are in the order of the table.
struct Samples<'a> {
    metric: &'a Metric,
    text: &'a mut String,
    format: Format,
    bounds: &'a [String],
    begun: bool,
}

impl Samples<'_> {
    fn count(&mut self, labels: &[&str], count: u64) {
        let labels = self.labels(labels);
        self.sample("", &labels, None, count);
    }

    fn number(&mut self, labels: &[&str], number: f64) {
        let labels = self.labels(labels);
        self.sample("", &labels, None, number);
    }

    fn spread(&mut self, labels: &[&str], spread: &Spread) {
        self.exemplified(labels, spread, &Examples::default());
    }

    /// A histogram with a trace for each bucket that one is known of, where the format has room for it.
    fn exemplified(&mut self, labels: &[&str], spread: &Spread, examples: &Examples) {
        let labels = self.labels(labels);
        let mut count = 0;
        for (bucket, (bound, own)) in self.bounds.iter().zip(spread.buckets).enumerate() {
            count += own;
            let example = match self.format {
                Format::Text => None,
                // None that is not counted yet.
                Format::OpenMetrics => examples.of(bucket).filter(|_| own > 0),
            };
            match example {
                None => self.sample("_bucket", &labels, Some(bound), count),
                Some(example) => {
                    let count = format_args!("{count} # {example}");
                    self.sample("_bucket", &labels, Some(bound), count);
                }
            }
        }
        self.sample("_sum", &labels, None, seconds(spread.sum));
        self.sample("_count", &labels, None, count);
    }

    /// The labels as they stand within the braces. A sample begins here: the first says what it is one of.
    fn labels(&mut self, values: &[&str]) -> String {
        let Metric {
            name,
            kind,
            labels: names,
            help,
        } = self.metric;
        debug_assert_eq!(names.len(), values.len(), "{name}");
        if !self.begun {
            self.begun = true;
            let (name, kind) = self.format.family(name, *kind);
            write(self.text, format_args!("# HELP {name} {help}\n"));
            write(self.text, format_args!("# TYPE {name} {kind}\n"));
        }
        let mut labels = String::new();
        for (name, value) in names.iter().zip(values) {
            let comma = if labels.is_empty() { "" } else { "," };
            let value = Escaped(value);
            write(&mut labels, format_args!("{comma}{name}=\"{value}\""));
        }
        labels
    }

    fn sample(&mut self, of: &str, labels: &str, bound: Option<&String>, value: impl fmt::Display) {
        let text = &mut *self.text;
        text.push_str(self.metric.name);
        text.push_str(of);
        let comma = if labels.is_empty() { "" } else { "," };
        match bound {
            Some(bound) => write(text, format_args!("{{{labels}{comma}le=\"{bound}\"}}")),
            None if labels.is_empty() => {}
            None => write(text, format_args!("{{{labels}}}")),
        }
        write(text, format_args!(" {value}\n"));
    }
}

impl Format {
    /// What a metric's samples stand under, and the word for its kind. In OpenMetrics a counter's name
    /// is without its suffix.
    fn family(self, name: &str, kind: MetricType) -> (&str, &'static str) {
        let short = name.strip_suffix("_total").unwrap_or(name);
        match (self, kind) {
            (_, MetricType::HISTOGRAM) => (name, "histogram"),
            (_, MetricType::GAUGE) => (name, "gauge"),
            (Self::Text, MetricType::COUNTER) => (name, "counter"),
            // No two can stand under one name, and a gauge has this one.
            (Self::OpenMetrics, MetricType::COUNTER) if short == table::PASSING.name => {
                (name, "unknown")
            }
            (Self::OpenMetrics, MetricType::COUNTER) => (short, "counter"),
            (Self::Text, MetricType::SUMMARY | MetricType::UNTYPED) => (name, "untyped"),
            (Self::OpenMetrics, MetricType::SUMMARY | MetricType::UNTYPED) => (name, "unknown"),
        }
    }
}

/// As one is written behind its bucket.
impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = seconds(self.nanoseconds);
        let at = self.at.as_millis();
        let (whole, rest) = (at / 1000, at % 1000);
        let id = self.trace_id;
        write!(f, "{{trace_id=\"{id:032x}\"}} {took} {whole}.{rest:03}")
    }
}

/// The value of a label within its quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['\\', '"', '\n']) {
            let plain = part.trim_end_matches(['\\', '"', '\n']);
            f.write_str(plain)?;
            match part.strip_prefix(plain) {
                Some("\n") => f.write_str("\\n")?,
                Some(special @ ("\\" | "\"")) => write!(f, "\\{special}")?,
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// Memory takes what is written.
fn write(text: &mut String, what: fmt::Arguments<'_>) {
    let _ = fmt::Write::write_fmt(text, what);
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests;
