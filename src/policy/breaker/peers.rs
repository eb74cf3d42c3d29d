//! What one endpoint knows of the others: how well they do, how many of them may be open.

/// With fewer endpoints than this, itself included, none is compared with its peers.
pub const ENOUGH_ENDPOINTS: usize = 5;

/// Peers that are all alike have next to no deviation, and a single error would lie many deviations
/// below them; so the deviation counts as at least one percentage point (rule 46).
const LEAST_DEVIATION: f64 = 0.01;

/// An endpoint that is less than five percentage points below the mean is left in peace, whatever
/// the deviation (rule 46).
const LEAST_DISTANCE: f64 = 0.05;

/// The success rates of an endpoint's peers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peers {
    mean: f64,
    deviation: f64,
}

impl Peers {
    /// From `(successes, requests)` of each *other* endpoint of the upstream that has enough
    /// requests, as [`Breaker::success_rate`](super::Breaker::success_rate) tells them. `None`
    /// where they are too few to compare with: fewer than four, which makes five with the one that
    /// asks.
    ///
    /// The endpoint itself is left out, since it would draw the mean down and widen the deviation:
    /// of five endpoints, one that fails every request would lie no more than two deviations below.
    pub fn of(others: impl IntoIterator<Item = (u32, u32)>) -> Option<Self> {
        let (mut count, mut sum, mut squares) = (0_u32, 0.0, 0.0);
        for (successes, requests) in others.into_iter().filter(|(_, requests)| *requests > 0) {
            let rate = f64::from(successes) / f64::from(requests);
            count += 1;
            sum += rate;
            squares += rate * rate;
        }
        let enough = count as usize + 1 >= ENOUGH_ENDPOINTS;
        let mean = sum / f64::from(count);
        let variance = squares / f64::from(count) - mean * mean;
        enough.then(|| Self {
            mean,
            deviation: variance.max(0.0).sqrt(),
        })
    }

    /// Their mean success rate, 0 to 1.
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// The standard deviation of their success rates, 0 to 1.
    pub const fn deviation(&self) -> f64 {
        self.deviation
    }

    /// Whether a success rate lies more than `deviations` standard deviations below the mean.
    pub(super) fn outdo(&self, success_rate: f64, deviations: f64) -> bool {
        let distance = deviations * self.deviation.max(LEAST_DEVIATION);
        success_rate < self.mean - distance.max(LEAST_DISTANCE)
    }
}

/// Whether one more of `endpoints` may open, where `open` are open or half-open already. `max_open`
/// is the share that may be, 0 to 1; at least one may, so a single endpoint may too; but never the
/// last one of several unless `max_open` is 1 (rules 43 and 44).
pub fn may_open(open: usize, endpoints: usize, max_open: f64) -> bool {
    if endpoints < 2 {
        return true;
    }
    // Of 100 endpoints, 29 % are 28.999999999999996 in floating point and 29 to everyone else.
    let share = (endpoints as f64 * max_open + 1e-9).floor() as usize;
    let is_last = open + 1 >= endpoints;
    open < share.max(1) && (!is_last || max_open >= 1.0)
}
