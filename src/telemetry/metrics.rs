//! Every metric's state. Handles are got by their labels when a snapshot is built; on the path there
//! is only counting. Gauges are not kept here but read from what runs when they are asked for, so
//! that they cannot drift (rule 87).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::examples::Example;
use super::handles::Handles;
use super::histogram::{Counter, Histogram};
use super::meters::{ListenerMeters, Passage, RouteMeters, UpstreamMeters};
use super::report::{Place, Report};
use super::spans::Counts;
use super::sums::Sums;
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
    /// Apart from the others, which are many: a request whose listener goes over a limit, or is not of the
    /// configuration any more, looks for a handle, and must not wait for a scrape of ten thousand routes.
    listeners: Mutex<Handles<Arc<str>, ListenerMeters>>,
    handles: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    routes: Handles<[Arc<str>; 3], RouteMeters>,
    passages: Handles<[Arc<str>; 2], Passage>,
    upstreams: Handles<Arc<str>, UpstreamMeters>,
    /// What handles have counted that are forgotten.
    forgotten: Sums,
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
        if let Some(known) = self.listeners.lock().known(name) {
            return known;
        }
        let nowhere = Arc::from("");
        // Got before the other lock is taken: who looks for a known listener does not wait for this one.
        let nowhere = self.handles.lock().passage(&nowhere, &nowhere);
        let make = || ListenerMeters::new(name.clone(), nowhere);
        self.listeners.lock().get(name.clone(), make)
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

    /// Every handle, for one more scrape; it reads them without the locks (fault 73).
    pub(super) fn scraped(&self) -> Scraped {
        let mut tables = self.handles.lock();
        let Tables {
            routes,
            passages,
            upstreams,
            forgotten,
        } = &mut *tables;
        let scraped = Scraped {
            listeners: self
                .listeners
                .lock()
                .scraped(|one| add_listener(forgotten, one)),
            routes: routes.scraped(|one| add_route(forgotten, one)),
            passages: passages.scraped(|one| add_passage(forgotten, one)),
            upstreams: upstreams.scraped(|one| add_upstream(forgotten, one)),
        };
        forgotten.bury(|name| !upstreams.has(name));
        scraped
    }

    /// What has been counted since the start, by upstream and in all. The handles are read without the lock.
    pub fn sums(&self) -> Sums {
        let tables = self.handles.lock();
        let mut sums = tables.forgotten.clone();
        let (listeners, routes) = (self.listeners.lock().all(), tables.routes.all());
        let (passages, upstreams) = (tables.passages.all(), tables.upstreams.all());
        drop(tables);
        listeners
            .iter()
            .for_each(|one| add_listener(&mut sums, one));
        routes.iter().for_each(|one| add_route(&mut sums, one));
        passages.iter().for_each(|one| add_passage(&mut sums, one));
        upstreams
            .iter()
            .for_each(|one| add_upstream(&mut sums, one));
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

/// What found no route has no upstream, but counts in all.
fn add_listener(sums: &mut Sums, one: &ListenerMeters) {
    let nowhere = one.nowhere().upstream();
    sums.of(nowhere).add_requests(one.unrouted.read());
}

fn add_route(sums: &mut Sums, one: &RouteMeters) {
    let sum = sums.of(one.upstream().name());
    sum.add_requests(one.requests.read());
}

fn add_passage(sums: &mut Sums, one: &Passage) {
    let sum = sums.of(one.upstream());
    sum.add_durations(&one.duration.read().buckets);
}

fn add_upstream(sums: &mut Sums, one: &UpstreamMeters) {
    let retries = one.retries().map(|(_, count)| count);
    sums.of(one.name()).retries += retries.sum::<u64>();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_073_a_request_that_looks_for_its_listener_does_not_wait_for_a_scrape() {
        let metrics = Metrics::default();
        let name = Arc::from("in");
        let known = metrics.listener(&name);
        let scraping = metrics.handles.lock();
        std::thread::scope(|scope| {
            let (found, is_found) = std::sync::mpsc::channel();
            let (metrics, name) = (&metrics, &name);
            scope.spawn(move || found.send(metrics.listener(name)));
            let found = is_found.recv_timeout(Duration::from_secs(10));
            drop(scraping);
            assert!(found.is_ok_and(|found| Arc::ptr_eq(&found, &known)));
        });
    }
}
