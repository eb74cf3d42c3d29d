//! Every metric's state. Handles are got by their labels when a snapshot is built; on the path there
//! is only counting. Gauges are not kept here but read from what runs when they are asked for, so
//! that they cannot drift (rule 87).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::examples::Example;
use super::handles::Handles;
use super::histogram::{Counter, Histogram};
use super::history::Sums;
use super::meters::{ListenerMeters, Passage, Requests, RouteMeters, UpstreamMeters};
use super::report::{Outcome, Place, Report};
use super::spans::Counts;
use crate::clock;

/// Every counter and histogram of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// What we added to requests ourselves.
    pub overhead: Histogram,
    /// Configurations that were applied while running.
    pub reloads_applied: Counter,
    /// Configurations that were refused while running.
    pub reloads_refused: Counter,
    /// Access lines that could not be written.
    pub access_log_dropped: Arc<Counter>,
    /// What became of spans.
    pub spans: Arc<Counts>,
    handles: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    listeners: Handles<Arc<str>, ListenerMeters>,
    routes: Handles<[Arc<str>; 3], RouteMeters>,
    passages: Handles<[Arc<str>; 2], Passage>,
    upstreams: Handles<Arc<str>, UpstreamMeters>,
}

/// Every handle that one scrape reads, by label.
pub(super) struct Scraped {
    pub(super) listeners: Vec<Arc<ListenerMeters>>,
    pub(super) routes: Vec<Arc<RouteMeters>>,
    pub(super) passages: Vec<Arc<Passage>>,
    pub(super) upstreams: Vec<Arc<UpstreamMeters>>,
}

impl Metrics {
    /// The handle of a listener.
    pub fn listener(&self, name: &Arc<str>) -> Arc<ListenerMeters> {
        let mut tables = self.handles.lock();
        let nowhere = tables.passage(&Arc::from(""), &Arc::from(""));
        let make = || ListenerMeters::new(name.clone(), nowhere);
        tables.listeners.get(name.clone(), make)
    }

    /// The handle of a listener's route to an upstream.
    pub fn route(
        &self,
        listener: &Arc<str>,
        route: &Arc<str>,
        upstream: &Arc<str>,
    ) -> Arc<RouteMeters> {
        let mut tables = self.handles.lock();
        let passage = tables.passage(route, upstream);
        let meters = tables.upstream(upstream);
        let labels = [listener, route, upstream].map(Arc::clone);
        let make = || RouteMeters::new(listener.clone(), passage, meters);
        tables.routes.get(labels, make)
    }

    /// The handle of an upstream.
    pub fn upstream(&self, name: &Arc<str>) -> Arc<UpstreamMeters> {
        self.handles.lock().upstream(name)
    }

    /// Every handle, for one more scrape; it reads them without the lock, for which requests that go
    /// wrong wait too (fault 73).
    pub(super) fn scraped(&self) -> Scraped {
        let mut tables = self.handles.lock();
        Scraped {
            listeners: tables.listeners.scraped(),
            routes: tables.routes.scraped(),
            passages: tables.passages.scraped(),
            upstreams: tables.upstreams.scraped(),
        }
    }

    /// What has been counted so far, by upstream and in all. The handles are read without the lock.
    pub fn sums(&self) -> Sums {
        let tables = self.handles.lock();
        let (listeners, routes) = (tables.listeners.all(), tables.routes.all());
        let (passages, upstreams) = (tables.passages.all(), tables.upstreams.all());
        drop(tables);
        let nowhere = Arc::from("");
        let mut sums = Sums::default();
        for one in &routes {
            sums.of(one.upstream().name())
                .add_requests(one.requests.read());
        }
        for one in &passages {
            sums.of(one.upstream())
                .add_durations(&one.duration.read().buckets);
        }
        for one in &upstreams {
            let retries = one.retries().map(|(_, count)| count).sum();
            sums.of(one.name()).add_retries(retries);
        }
        // What found no route has no upstream, but counts in all.
        for one in &listeners {
            sums.of(&nowhere).add_requests(one.unrouted.read());
        }
        sums
    }

    /// Counts a request that ended at `now`.
    pub fn count(&self, report: &Report, now: Instant) {
        let total = duration(report, now);
        match &report.place {
            Place::Routed(route) => route.count(report, total),
            Place::Unrouted(listener) => listener.count(report, total),
            Place::Counted(_) => return,
        }
        if let Some(overhead) = report.overhead() {
            self.overhead.observe(overhead);
        }
    }
}

impl Metrics {
    /// Keeps the trace of a request that ended at `now` as an example of how long such take.
    pub fn exemplify(&self, report: &Report, now: Instant) {
        let nanoseconds = duration(report, now).as_nanos();
        let passage = match &report.place {
            Place::Routed(route) => route.passage(),
            Place::Unrouted(listener) => listener.nowhere(),
            Place::Counted(_) => return,
        };
        passage.examples.keep(Example {
            trace_id: report.trace.trace_id,
            nanoseconds: u64::try_from(nanoseconds).unwrap_or(u64::MAX),
            at: clock::since_epoch(),
        });
    }
}

/// How long a request took, as the histogram has it.
fn duration(report: &Report, now: Instant) -> Duration {
    match report.head_at {
        // How long a tunnel stands says nothing about how fast its endpoint is.
        Some(head_at) if report.tunnel => head_at,
        _ => now.saturating_duration_since(report.started),
    }
}

/// What has been counted since the start, in short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that have ended.
    pub requests: u64,
    /// Those among them that we refused or that failed.
    pub failures: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Requests that a fallback answered.
    pub fallbacks: u64,
}

impl Totals {
    fn add(&mut self, requests: &Requests) {
        for (outcome, _, count) in requests.read() {
            self.requests += count;
            match outcome {
                Outcome::Refused | Outcome::Failed => self.failures += count,
                Outcome::Fallback => self.fallbacks += count,
                Outcome::Upstream | Outcome::ClientGone => (),
            }
        }
    }
}

impl Metrics {
    /// The sums over each upstream's routes, by its name: of all at once, since there may be a thousand
    /// upstreams with ten thousand routes.
    pub fn totals_by_upstream(&self) -> HashMap<Arc<str>, Totals> {
        let tables = self.handles.lock();
        let (routes, upstreams) = (tables.routes.all(), tables.upstreams.all());
        // It is asked for every second while somebody looks, and requests that go wrong wait for the lock.
        drop(tables);
        let mut totals: HashMap<Arc<str>, Totals> = HashMap::new();
        for route in &routes {
            let name = route.upstream().name();
            totals
                .entry(Arc::clone(name))
                .or_default()
                .add(&route.requests);
        }
        for meters in &upstreams {
            let retries = meters.retries().map(|(_, count)| count);
            let totals = totals.entry(Arc::clone(meters.name())).or_default();
            totals.retries += retries.sum::<u64>();
        }
        totals
    }

    /// The sums over an upstream's routes, or over everything where none is named.
    pub fn totals(&self, upstream: Option<&str>) -> Totals {
        let tables = self.handles.lock();
        let mut totals = Totals::default();
        let is_meant = |name: &str| upstream.is_none_or(|upstream| upstream == name);
        for route in tables.routes.iter() {
            if is_meant(route.upstream().name()) {
                totals.add(&route.requests);
            }
        }
        if upstream.is_none() {
            let listeners = tables.listeners.iter();
            listeners.for_each(|listener| totals.add(&listener.unrouted));
        }
        for meters in tables.upstreams.iter().filter(|one| is_meant(one.name())) {
            totals.retries += meters.retries().map(|(_, count)| count).sum::<u64>();
        }
        totals
    }
}

impl Tables {
    fn passage(&mut self, route: &Arc<str>, upstream: &Arc<str>) -> Arc<Passage> {
        let make = || Passage::new(route.clone(), upstream.clone());
        self.passages.get([route.clone(), upstream.clone()], make)
    }

    fn upstream(&mut self, name: &Arc<str>) -> Arc<UpstreamMeters> {
        let make = || UpstreamMeters::new(name.clone());
        self.upstreams.get(name.clone(), make)
    }
}
