//! The answer to a scrape, in the Prometheus text format, version 0.0.4: what was counted and what was
//! read become metric families of the `prometheus` crate, and its encoder writes and escapes them.
//!
//! The crate's registry is not used: it gathers from collectors that own what they tell, while the
//! gauges are read for one scrape, and it would keep a second list of names beside the table.

use std::sync::Arc;

use prometheus::TextEncoder;
use prometheus::proto::{self, MetricFamily};

use super::histogram::{BOUNDS, Spread};
use super::meters::{Requests, UpstreamMeters};
use super::metrics::{Metrics, Scraped};
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
        let mut families = Families::default();
        let handles = self.scraped();
        add_requests(&mut families, &handles);
        let overhead = self.overhead.read();
        families.of(&table::OVERHEAD).spread(&[], &overhead);
        add_tries(&mut families, &handles.upstreams);
        add_events(&mut families, &handles.upstreams);
        add_gauges(&mut families, &readings.upstreams);
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
        let version = env!("CARGO_PKG_VERSION");
        families.of(&table::BUILD_INFO).count(&[version], 1);
    }
}

fn add_requests(families: &mut Families, handles: &Scraped) {
    let mut requests = families.of(&table::REQUESTS);
    let mut add = |[listener, route, upstream]: [&str; 3], counts: &Requests| {
        for (outcome, code, count) in counts.read() {
            requests.count(&[listener, route, upstream, outcome.name(), code], count);
        }
    };
    for one in &handles.listeners {
        add([one.name(), "", ""], &one.unrouted);
    }
    for one in &handles.routes {
        let upstream = one.upstream().name();
        add([one.listener(), one.route(), upstream], &one.requests);
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
        durations.spread(&[one.route(), one.upstream()], &one.duration.read());
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

/// The metrics that were read so far, each once.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    /// Begins a metric.
    fn of<'a>(&'a mut self, metric: &'a Metric) -> Samples<'a> {
        let mut family = MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(metric.kind);
        let family = self.0.push_mut(family);
        Samples { metric, family }
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

    fn text(mut self) -> String {
        // The encoder takes a metric without a sample for a mistake.
        self.0.retain(|family| !family.get_metric().is_empty());
        let mut text = String::new();
        if let Err(error) = TextEncoder.encode_utf8(&self.0, &mut text) {
            tracing::error!(%error, "the metrics could not be written; this scrape lacks some");
        }
        text
    }
}

/// A metric to which samples are added. The values of the labels are in the order of the table.
struct Samples<'a> {
    metric: &'a Metric,
    family: &'a mut MetricFamily,
}

impl Samples<'_> {
    fn count(&mut self, labels: &[&str], count: u64) {
        self.number(labels, count as f64);
    }

    fn number(&mut self, labels: &[&str], number: f64) {
        let sample = self.add(labels);
        // The encoder reads the one that the metric's kind names.
        let (mut counter, mut gauge) = (proto::Counter::default(), proto::Gauge::default());
        counter.set_value(number);
        gauge.set_value(number);
        sample.set_counter(counter);
        sample.set_gauge(gauge);
    }

    fn spread(&mut self, labels: &[&str], spread: &Spread) {
        let mut count = 0;
        // The last bucket has no bound; the encoder makes it from the count.
        let buckets = BOUNDS.iter().zip(spread.buckets).map(|(bound, own)| {
            count += own;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e9);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(spread.buckets.iter().sum());
        histogram.set_sample_sum(spread.sum as f64 / 1e9);
        self.add(labels).set_histogram(histogram);
    }

    fn add(&mut self, labels: &[&str]) -> &mut proto::Metric {
        let Metric {
            name,
            labels: names,
            ..
        } = self.metric;
        debug_assert_eq!(names.len(), labels.len(), "{name}");
        let labels = names.iter().zip(labels).map(|(name, value)| {
            let mut label = proto::LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value((*value).to_owned());
            label
        });
        let sample = proto::Metric::from_label(labels.collect());
        self.family.mut_metric().push_mut(sample)
    }
}

#[cfg(test)]
mod tests;
