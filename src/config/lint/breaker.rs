//! Lints about circuit breakers: triggers that never fire, and times that do not fit.

use super::{Found, Subject};
use crate::plan::timeline::shown;
use crate::plan::{Route, Upstream};
use crate::policy::breaker::Settings;

/// What can come to an upstream at most, where rate limits bound it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Supply {
    per_second: f64,
    burst: f64,
    tries: u32,
}

/// The most that the routes to an upstream let through together; `None`: one of them has no limit. The
/// routes that inherit the upstream's limit share one bucket.
pub(super) fn supply(upstream: &Upstream, routes: &[&Route]) -> Option<Supply> {
    let mut buckets = Vec::new();
    let mut tries = 1;
    for route in routes {
        let bucket = route.policies.rate_limit?;
        if route.own_rate_limit {
            buckets.push(bucket);
        }
        tries = tries.max(
            route
                .policies
                .retry
                .as_deref()
                .map_or(1, |retry| retry.max_attempts),
        );
    }
    if routes.iter().any(|route| !route.own_rate_limit) {
        buckets.push(upstream.policies.rate_limit?);
    }
    Some(Supply {
        per_second: buckets.iter().map(|bucket| bucket.per_second).sum(),
        burst: buckets.iter().map(|bucket| bucket.burst).sum(),
        tries,
    })
}

pub(super) fn lints(subject: &Subject<'_>) -> Vec<Found> {
    let Some(breaker) = subject.policies.circuit_breaker.as_deref() else {
        return Vec::new();
    };
    [
        slow_call(subject, breaker),
        min_requests(subject, breaker),
        max_open(subject.upstream, breaker),
        open_for(subject, breaker),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A call that takes as long as a try may is a timeout, and never a slow call.
fn slow_call(subject: &Subject<'_>, breaker: &Settings) -> Option<Found> {
    let slow_call = breaker.slow_call?;
    let (limit, name) = limit_of_a_try(subject)?;
    if slow_call < limit {
        return None;
    }
    Some(Found {
        id: "slow-call-not-below-try-timeout",
        setting: "circuit_breaker.slow_call".into(),
        message: format!(
            "slow_call {} ≥ {name} timeout {}: such a call has failed by its timeout before it counts as slow",
            shown(slow_call),
            shown(limit)
        ),
        help: "set `slow_call` to a time at which calls still end, well below the timeout",
    })
}

fn min_requests(subject: &Subject<'_>, breaker: &Settings) -> Option<Found> {
    let takes_rates = breaker.failure_rate.is_some()
        || breaker.slow_rate.is_some()
        || breaker.peer_deviation.is_some();
    let supply = subject.supply.filter(|_| takes_rates)?;
    let requests = (supply.per_second * breaker.window.as_secs_f64() + supply.burst).floor();
    let calls = requests * f64::from(supply.tries);
    if calls >= f64::from(breaker.min_requests) {
        return None;
    }
    let tries = match supply.tries {
        1 => String::new(),
        tries => format!(", × {tries} tries = {calls} calls"),
    };
    Some(Found {
        id: "min-requests-not-reachable",
        setting: "circuit_breaker.min_requests".into(),
        message: format!(
            "rate_limit {}/s × window {} + burst {} = {requests} requests{tries} < min_requests {}: no rate is ever taken",
            supply.per_second,
            shown(breaker.window),
            supply.burst,
            breaker.min_requests
        ),
        help: "lower `min_requests` or lengthen `window`; `consecutive_failures` works all the same",
    })
}

/// Rule 43. A single endpoint may open in any case; how many a name stands for is not known here.
fn max_open(upstream: &Upstream, breaker: &Settings) -> Option<Found> {
    let endpoints = upstream.endpoints.len();
    if endpoints < 2
        || upstream
            .endpoints
            .iter()
            .any(|endpoint| endpoint.address.is_source())
    {
        return None;
    }
    let share = breaker.max_open * f64::from(u32::try_from(endpoints).unwrap_or(u32::MAX));
    // A share such as 33.333 % of three is meant as one; what is written has few digits.
    if share >= 0.999 {
        return None;
    }
    Some(Found {
        id: "max-open-rounds-to-zero",
        setting: "circuit_breaker.max_open".into(),
        message: format!(
            "max_open {}% of {endpoints} endpoints = {share:.2}, which rounds to zero: one may open all the same",
            (breaker.max_open * 1e4).round() / 1e2
        ),
        help: "at least 100% / the number of endpoints says what happens",
    })
}

/// Without a try timeout a probe may last as long as the request: that is the rule for small
/// configurations, and no lint.
fn open_for(subject: &Subject<'_>, breaker: &Settings) -> Option<Found> {
    let per_try = subject.policies.timeouts.per_try?;
    if breaker.open_for >= per_try {
        return None;
    }
    Some(Found {
        id: "open-for-below-probe",
        setting: "circuit_breaker.open_for".into(),
        message: format!(
            "open_for {} < try timeout {}: one probe of a hanging endpoint takes longer than the rest that the breaker gives it",
            shown(breaker.open_for),
            shown(per_try)
        ),
        help: "raise `open_for`, or lower `timeouts.try`",
    })
}

/// How long one try may take, and which timeout says so.
fn limit_of_a_try(subject: &Subject<'_>) -> Option<(std::time::Duration, &'static str)> {
    let timeouts = subject.policies.timeouts;
    match (timeouts.per_try, timeouts.request) {
        (Some(per_try), Some(request)) if per_try > request => Some((request, "request")),
        (Some(per_try), _) => Some((per_try, "try")),
        (None, Some(request)) => Some((request, "request")),
        (None, None) => None,
    }
}
