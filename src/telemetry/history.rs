//! What led here: for the last five minutes, every five seconds, how many requests each upstream got,
//! how many failed, and how long they took. It is made from differences of the counters and histograms
//! that are there already, so that whoever opens the page sees more than the moment.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;

use super::events::stamp;
use super::histogram::quantile;
use super::sums::{Buckets, Sum, Sums};

/// The time that one point stands for.
pub const EVERY: Duration = Duration::from_secs(5);
/// Points that are kept of each upstream: five minutes.
pub const POINTS: usize = 60;
/// Upstreams whose points are kept: of more, the busiest.
pub const KEPT: usize = 100;

/// How much busier another upstream must be before it takes the place of one that is kept.
const CLEARLY_BUSIER: f64 = 1.25;
/// What is left of how busy an upstream was, point by point: a minute ago counts for little.
const FADING: f64 = 0.8;

/// Hundredths are enough, and keep the JSON short.
fn millis(nanoseconds: Option<f64>) -> Option<f32> {
    nanoseconds.map(|nanoseconds| ((nanoseconds / 1e4).round() / 100.0) as f32)
}

/// What happened in one step of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Point {
    requests: u64,
    failures: u64,
    fallbacks: u64,
    retries: u64,
    p50_ms: Option<f32>,
    p99_ms: Option<f32>,
}

impl Point {
    /// What has come since `before`.
    fn between(before: &Sum, now: &Sum) -> Self {
        // Sums only grow, but that of an upstream that was removed and has come back begins anew.
        let nothing = Sum::default();
        let anew = now.requests < before.requests || now.retries < before.retries;
        let before = if anew { &nothing } else { before };
        let durations: Buckets = std::array::from_fn(|index| {
            now.durations[index].saturating_sub(before.durations[index])
        });
        Self {
            requests: now.requests - before.requests,
            failures: now.failures.saturating_sub(before.failures),
            fallbacks: now.fallbacks.saturating_sub(before.fallbacks),
            retries: now.retries - before.retries,
            p50_ms: millis(quantile(&durations, 0.5)),
            p99_ms: millis(quantile(&durations, 0.99)),
        }
    }
}

/// The points of one upstream, or of all together.
#[derive(Debug, Default)]
struct Row {
    /// What was counted at the last point.
    before: Sum,
    /// How busy it was lately.
    busy: f64,
    /// Its points, oldest first; `None`: they are not kept.
    points: Option<VecDeque<Point>>,
}

impl Row {
    fn take(&mut self, sum: Sum) -> Point {
        let point = Point::between(&self.before, &sum);
        self.busy = self.busy * FADING + point.requests as f64;
        self.before = sum;
        point
    }

    fn keep(&mut self, point: Point) {
        let points = self.points.get_or_insert_default();
        if points.len() == POINTS {
            points.pop_front();
        }
        points.push_back(point);
    }

    fn rank(&self) -> f64 {
        match self.points {
            Some(_) => self.busy * CLEARLY_BUSIER,
            None => self.busy,
        }
    }
}

/// The ring of points; one for the whole process.
#[derive(Debug, Default)]
pub struct History(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    /// When the last point was taken; `None`: never, so there is nothing to compare with.
    at: Option<SystemTime>,
    total: Row,
    rows: HashMap<Arc<str>, Row>,
}

impl History {
    /// Takes one more point: what has come since the last call, which was [`EVERY`] ago. The first call
    /// gives no point.
    pub fn take(&self, sums: Sums, at: SystemTime) {
        let mut rows = self.0.lock();
        let first = rows.at.replace(at).is_none();
        let total = rows.total.take(sums.total());
        rows.rows.retain(|name, _| sums.0.contains_key(name));
        let mut taken = Vec::with_capacity(sums.0.len());
        for (name, sum) in sums.0 {
            if !name.is_empty() {
                let point = rows.rows.entry(Arc::clone(&name)).or_default().take(sum);
                taken.push((name, point));
            }
        }
        if first {
            return;
        }
        rows.total.keep(total);
        rows.choose(&mut taken);
        for (name, point) in taken {
            if let Some(row) = rows.rows.get_mut(&name) {
                row.keep(point);
            }
        }
    }

    /// The points of these upstreams, as JSON shows them.
    pub fn shown<'a>(&self, upstreams: impl Iterator<Item = &'a Arc<str>>) -> Shown {
        let rows = self.0.lock();
        let mut count = 0;
        let of = upstreams.inspect(|_| count += 1).filter_map(|name| {
            let points = rows.rows.get(name)?.points.as_ref()?;
            Some((name.to_string(), Series::of(points)))
        });
        let upstreams: BTreeMap<_, _> = of.collect();
        let kept = if count > KEPT {
            format!("the busiest {KEPT} of {count} upstreams")
        } else {
            "every upstream".to_owned()
        };
        Shown {
            every_ms: EVERY.as_secs() * 1000,
            points: POINTS,
            until: rows.at.map(stamp),
            kept,
            total: rows.total.points.as_ref().map(Series::of),
            upstreams,
        }
    }
}

impl Rows {
    /// Leaves only those whose points are kept, and lets go of the points of the others.
    fn choose(&mut self, taken: &mut Vec<(Arc<str>, Point)>) {
        if taken.len() <= KEPT {
            return;
        }
        let rank = |name: &Arc<str>| self.rows.get(name).map_or(0.0, Row::rank);
        taken.sort_by_cached_key(|(name, _)| std::cmp::Reverse(rank(name).to_bits()));
        for (name, _) in taken.drain(KEPT..) {
            if let Some(row) = self.rows.get_mut(&name) {
                row.points = None;
            }
        }
    }
}

/// The last minutes, as JSON shows them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Shown {
    /// The time that a point stands for, in milliseconds.
    pub every_ms: u64,
    /// Points of a series at most.
    pub points: usize,
    /// When the newest point was taken; `null`: there is none yet.
    pub until: Option<String>,
    /// Whose points are kept, in words: of very many upstreams only the busiest.
    pub kept: String,
    /// All requests, also those that found no route; `null` before the first point.
    pub total: Option<Series>,
    /// By upstream.
    pub upstreams: BTreeMap<String, Series>,
}

/// The points of one upstream, oldest first. The newest of all series are of the same moment; one that is
/// shorter began later.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Series {
    /// Requests that have ended.
    pub requests: Vec<u64>,
    /// Those among them that failed as their client saw it: refused, failed, or a 5xx.
    pub failures: Vec<u64>,
    /// Those that a fallback answered.
    pub fallbacks: Vec<u64>,
    /// Tries after the first.
    pub retries: Vec<u64>,
    /// The time that half of them did not pass, in milliseconds; `null`: there were none.
    pub p50_ms: Vec<Option<f32>>,
    /// The time that 99 of 100 did not pass.
    pub p99_ms: Vec<Option<f32>>,
}

impl Series {
    fn of(points: &VecDeque<Point>) -> Self {
        fn all<T>(points: &VecDeque<Point>, read: fn(&Point) -> T) -> Vec<T> {
            points.iter().map(read).collect()
        }
        Self {
            requests: all(points, |point| point.requests),
            failures: all(points, |point| point.failures),
            fallbacks: all(points, |point| point.fallbacks),
            retries: all(points, |point| point.retries),
            p50_ms: all(points, |point| point.p50_ms),
            p99_ms: all(points, |point| point.p99_ms),
        }
    }
}

#[cfg(test)]
mod tests;
