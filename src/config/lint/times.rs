//! Lints about times and retries: what cannot end within what is around it.

use std::time::Duration;

use super::{Found, Subject};
use crate::plan::timeline::{class_rules, shown};
use crate::plan::{Policies, Pool};
use crate::policy::outcome::Reason;
use crate::policy::{backoff, retry};

/// Backoffs that are written out one by one in a sentence.
const SHOWN_BACKOFFS: u32 = 4;

/// After how long node and uvicorn close an idle connection; gunicorn does after 2 s.
const COMMON_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Methods that RFC 9110 (9.2.2) allows to be sent twice.
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/// Rule 2: such a try timeout never acts.
pub(super) fn try_not_below_request(policies: &Policies) -> Option<Found> {
    let (per_try, request) = (policies.timeouts.per_try?, policies.timeouts.request?);
    let relation = match per_try.cmp(&request) {
        std::cmp::Ordering::Less => return None,
        std::cmp::Ordering::Equal => "=",
        std::cmp::Ordering::Greater => ">",
    };
    Some(Found {
        id: "try-timeout-not-below-request-timeout",
        setting: "timeouts.try".into(),
        message: format!(
            "try timeout {} {relation} request timeout {}: it never acts, and a first try that hangs leaves no time for another",
            shown(per_try),
            shown(request)
        ),
        help: "lower `timeouts.try`, raise `timeouts.request`, or leave `try` out",
    })
}

/// Rule 5: backoffs count against the request timeout.
pub(super) fn tries_exceed_request(policies: &Policies) -> Option<Found> {
    let (per_try, request) = (policies.timeouts.per_try?, policies.timeouts.request?);
    let retry = policies.retry.as_deref()?;
    if per_try >= request {
        return None;
    }
    let own = (None, retry.max_attempts, retry.backoff);
    let classes =
        class_rules(retry).map(|(class, rule)| (Some(class), rule.max_attempts, rule.backoff));
    let mut rules = std::iter::once(own).chain(classes);
    let (class, tries, backoff) = rules.find(|(_, tries, backoff)| {
        first_that_cannot_end(per_try, request, *tries, backoff).is_some()
    })?;
    let cut = first_that_cannot_end(per_try, request, tries, &backoff)?;
    let sum = sum_of(per_try, tries, &backoff);
    let setting = match class {
        None => "retry.max_attempts".to_owned(),
        Some(class) => format!("retry.by_class.{}.max_attempts", class.name()),
    };
    Some(Found {
        id: "tries-exceed-request-timeout",
        setting,
        message: format!(
            "{tries} tries × {} + {} = {} > request timeout {}: the {} try cannot end",
            shown(per_try),
            backoffs_in_words(tries, &backoff),
            shown(sum),
            shown(request),
            ordinal(cut),
        ),
        help: "fewer tries, a shorter `timeouts.try`, or a longer `timeouts.request`",
    })
}

/// The number of the first try that would end after the request timeout.
fn first_that_cannot_end(
    per_try: Duration,
    request: Duration,
    tries: u32,
    backoff: &backoff::Settings,
) -> Option<u32> {
    let mut end = Duration::ZERO;
    (1..=tries).find(|number| {
        if *number > 1 {
            end = end.saturating_add(backoff.longest(number - 1));
        }
        end = end.saturating_add(per_try);
        end > request
    })
}

fn sum_of(per_try: Duration, tries: u32, backoff: &backoff::Settings) -> Duration {
    (1..tries).fold(per_try.saturating_mul(tries), |sum, retry| {
        sum.saturating_add(backoff.longest(retry))
    })
}

fn backoffs_in_words(tries: u32, backoff: &backoff::Settings) -> String {
    let retries = tries.saturating_sub(1);
    if retries > SHOWN_BACKOFFS {
        let together = sum_of(Duration::ZERO, tries, backoff);
        return format!("{retries} backoffs of {} together", shown(together));
    }
    let waits: Vec<String> = (1..=retries)
        .map(|retry| shown(backoff.longest(retry)))
        .collect();
    let noun = if retries == 1 { "backoff" } else { "backoffs" };
    format!("{noun} {}", waits.join(" + "))
}

fn ordinal(number: u32) -> String {
    match number {
        1 => "first".to_owned(),
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        4 => "fourth".to_owned(),
        5 => "fifth".to_owned(),
        number => match number % 10 {
            1 if number % 100 != 11 => format!("{number}st"),
            2 if number % 100 != 12 => format!("{number}nd"),
            3 if number % 100 != 13 => format!("{number}rd"),
            _ => format!("{number}th"),
        },
    }
}

/// A request that waits for its seat until its time is up is answered by the wrong reason.
pub(super) fn queue_not_below_request(policies: &Policies) -> Option<Found> {
    let (bulkhead, request) = (policies.bulkhead?, policies.timeouts.request?);
    let waits = bulkhead.max_in_flight.is_some() && bulkhead.max_queue > 0;
    if !waits || bulkhead.queue_timeout < request {
        return None;
    }
    Some(Found {
        id: "queue-timeout-not-below-request-timeout",
        setting: "bulkhead.queue_timeout".into(),
        message: format!(
            "queue_timeout {} ≥ request timeout {}: a request may spend all its time in the queue and is never sent",
            shown(bulkhead.queue_timeout),
            shown(request)
        ),
        help: "lower `bulkhead.queue_timeout` so that time is left for a try",
    })
}

/// Rule 29: without a budget, retries multiply the load of an upstream that is failing already.
pub(super) fn retry_without_budget(policies: &Policies) -> Option<Found> {
    let retry = policies.retry.as_deref()?;
    let tries = most_tries(retry);
    if retry.budget.is_some() || tries < 2 {
        return None;
    }
    Some(Found {
        id: "retry-without-budget",
        setting: "retry.budget".into(),
        message: format!(
            "{tries} tries without a budget: when the upstream fails it gets {tries} times the traffic"
        ),
        help: "remove `budget: off`; the default lets retries be 20% of the requests",
    })
}

/// RFC 9110 (9.2.2): what is not idempotent must not be sent twice, unless a key makes it so. A failure
/// before anything was sent does no harm.
pub(super) fn unsafe_method_retried(subject: &Subject<'_>) -> Option<Found> {
    let retry = subject.policies.retry.as_deref()?;
    let keyed = subject.matcher.is_some_and(|m| {
        m.headers
            .iter()
            .any(|(name, _)| **name == *"idempotency-key")
    });
    if keyed || most_tries(retry) < 2 || !retries_what_was_sent(&retry.on) {
        return None;
    }
    let on_route = |method: &&str| match subject.matcher {
        Some(matcher) if !matcher.methods.is_empty() => {
            matcher.methods.iter().any(|wanted| **wanted == **method)
        }
        Some(_) | None => true,
    };
    let retried: Vec<&str> = match &retry.methods {
        retry::Methods::Idempotent => return None,
        retry::Methods::All => vec!["POST", "PATCH"],
        retry::Methods::List(list) => list.iter().map(|method| &**method).collect(),
    };
    let mut unsafe_ones = retried
        .into_iter()
        .filter(|method| !IDEMPOTENT.contains(method));
    let method = unsafe_ones.find(on_route)?;
    Some(Found {
        id: "unsafe-method-retried",
        setting: "retry.methods".into(),
        message: format!(
            "{method} is tried again after the upstream may have acted on it, without an idempotency key: it may happen {} times",
            most_tries(retry)
        ),
        help: "use `methods: idempotent`, which tries POST again where it has an `idempotency-key`, or match on that header",
    })
}

/// Whether it retries anything but a connection that was never made.
fn retries_what_was_sent(on: &retry::Conditions) -> bool {
    let not_sent = [
        Reason::ConnectFailure,
        Reason::ConnectTimeout,
        Reason::TlsFailure,
    ];
    let not_sent = not_sent
        .iter()
        .fold(0, |bits, reason| bits | 1 << *reason as u8);
    on.reasons & !not_sent != 0 || !on.statuses.is_empty() || on.retry_after
}

/// Rule 24: a 429 says when to come back.
pub(super) fn retry_after_ignored(policies: &Policies) -> Option<Found> {
    let retry = policies.retry.as_deref()?;
    if !retry.on.statuses.contains(429) || retry.respect_retry_after || most_tries(retry) < 2 {
        return None;
    }
    Some(Found {
        id: "retry-after-ignored",
        setting: "retry.respect_retry_after".into(),
        message: format!(
            "429 is tried again after {} whatever its `retry-after` says: that prolongs the overload",
            shown(
                retry
                    .by_class
                    .rate_limited
                    .map_or(retry.backoff, |rule| rule.backoff)
                    .longest(1)
            )
        ),
        help: "leave `respect_retry_after` at true, or take 429 out of `on`",
    })
}

/// The tries of the rule that allows most.
fn most_tries(retry: &retry::Settings) -> u32 {
    class_rules(retry)
        .map(|(_, rule)| rule.max_attempts)
        .fold(retry.max_attempts, u32::max)
}

/// Rule 65: the pool must let go of a connection before the server does.
pub(super) fn pool(pool: &Pool) -> Option<Found> {
    if pool.idle_timeout < COMMON_KEEP_ALIVE {
        return None;
    }
    Some(Found {
        id: "pool-idle-timeout-above-keep-alive",
        setting: "pool.idle_timeout".into(),
        message: format!(
            "idle_timeout {} ≥ {}, after which node and uvicorn close an idle connection (gunicorn after 2s): requests may meet a connection that is just closing",
            shown(pool.idle_timeout),
            shown(COMMON_KEEP_ALIVE)
        ),
        help: "keep it below the server's keep-alive time; the default is 4s",
    })
}
