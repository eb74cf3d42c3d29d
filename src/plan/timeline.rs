//! How long a request can take at worst under its policies, step by step: the wait for a seat, each
//! connection and try, the waits between them, and where the request timeout cuts all that short.

use std::time::Duration;

use super::Policies;
use crate::policy::outcome::Class;
use crate::policy::{backoff, retry};

/// The steps of a request that goes as badly as its policies allow, up to the head of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Every step as it would be without a request timeout, in order; tries beyond [`SHOWN_TRIES`] are
    /// counted in `sum` only.
    pub steps: Vec<Step>,
    /// The tries in all.
    pub tries: u32,
    /// The class of failure whose rule takes longest; `None`: the retry block's own rule, or no retries.
    pub class: Option<Class>,
    /// All steps together; `None`: one of them has no limit.
    pub sum: Option<Duration>,
    /// What the request timeout cuts; `None`: nothing.
    pub cut: Option<Cut>,
    /// The longest a client waits for the head of its answer; `None`: for ever.
    pub total: Option<Duration>,
    /// A wait may become as long as this where the upstream asks for it by `retry-after`.
    pub retry_after: Option<Duration>,
}

/// Tries whose steps are listed one by one.
pub const SHOWN_TRIES: u32 = 20;

/// One step of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub kind: Kind,
    /// When it begins at the latest; `None`: a step before it has no limit.
    pub begins: Option<Duration>,
    /// How long it may take; `None`: no limit of its own.
    pub takes: Option<Duration>,
}

impl Step {
    /// When it ends at the latest, if anything but the request timeout bounds it.
    pub fn ends(&self) -> Option<Duration> {
        add(self.begins, self.takes)
    }
}

/// What is done in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Waiting for a seat of the bulkhead.
    Queue,
    /// Making a connection for the try of that number, from 1.
    Connect(u32),
    /// The try of that number, from sending to the head of the answer.
    Try(u32),
    /// Waiting before the try of that number, from 2.
    Backoff(u32),
}

/// Where the request timeout ends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The request timeout.
    pub at: Duration,
    /// The step that is under way then; those after it are never reached. At the number of `steps`: a
    /// step that is not listed.
    pub step: usize,
}

/// The worst case of a route's policies. `repeatable`: the request may be sent twice; another is tried
/// again only where nothing of it was sent.
pub fn worst(policies: &Policies, repeatable: bool) -> Timeline {
    let Some(retry) = policies.retry.as_deref() else {
        return of(policies, None, repeatable);
    };
    let own = Rule {
        class: None,
        tries: retry.max_attempts,
        backoff: retry.backoff,
    };
    let rules = class_rules(retry).map(|(class, rule)| Rule {
        class: Some(class),
        tries: rule.max_attempts,
        backoff: rule.backoff,
    });
    let mut longest = of(policies, Some(own), repeatable);
    for rule in rules {
        let timeline = of(policies, Some(rule), repeatable);
        let longer = (timeline.sum.is_none(), timeline.sum, timeline.tries)
            > (longest.sum.is_none(), longest.sum, longest.tries);
        if longer {
            longest = timeline;
        }
    }
    longest
}

/// The rules that classes of failure have of their own.
pub fn class_rules(retry: &retry::Settings) -> impl Iterator<Item = (Class, retry::ClassRule)> {
    let by_class = &retry.by_class;
    [
        (Class::Transient, by_class.transient),
        (Class::Timeout, by_class.timeout),
        (Class::RateLimited, by_class.rate_limited),
        (Class::Unavailable, by_class.unavailable),
    ]
    .into_iter()
    .filter_map(|(class, rule)| Some((class, rule?)))
}

/// How often, and with which waits, when every try fails alike.
#[derive(Debug, Clone, Copy)]
struct Rule {
    class: Option<Class>,
    tries: u32,
    backoff: backoff::Settings,
}

fn of(policies: &Policies, rule: Option<Rule>, repeatable: bool) -> Timeline {
    let timeouts = policies.timeouts;
    let tries = rule.map_or(1, |rule| rule.tries.max(1));
    let mut line = Line::default();
    if let Some(bulkhead) = policies.bulkhead
        && bulkhead.max_in_flight.is_some()
        && bulkhead.max_queue > 0
    {
        line.push(Kind::Queue, Some(bulkhead.queue_timeout), true);
    }
    for number in 1..=tries {
        let listed = number <= SHOWN_TRIES;
        if number > 1 {
            let wait = rule.map_or(Duration::ZERO, |rule| rule.backoff.longest(number - 1));
            line.push(Kind::Backoff(number), Some(wait), listed);
        }
        line.push(Kind::Connect(number), timeouts.connect, listed);
        if repeatable || number == tries {
            line.push(Kind::Try(number), timeouts.per_try, listed);
        }
        if line.end.is_none() && !listed {
            break;
        }
    }
    let cut = cut(&line, timeouts.request);
    let waits_as_told = policies.retry.as_deref().filter(|_| tries > 1);
    Timeline {
        tries,
        class: rule.and_then(|rule| rule.class),
        sum: line.end,
        cut,
        total: cut.map(|cut| cut.at).or(line.end),
        retry_after: waits_as_told
            .filter(|retry| retry.respect_retry_after)
            .map(|retry| retry.max_retry_after),
        steps: line.steps,
    }
}

/// A request timeout that is as long as all the steps cuts nothing.
fn cut(line: &Line, request: Option<Duration>) -> Option<Cut> {
    let at = request?;
    if line.end.is_some_and(|end| end <= at) {
        return None;
    }
    let under_way = |step: &Step| step.ends().is_none_or(|end| end > at);
    let step = line.steps.iter().position(under_way);
    Some(Cut {
        at,
        step: step.unwrap_or(line.steps.len()),
    })
}

/// Steps one after the other.
struct Line {
    steps: Vec<Step>,
    end: Option<Duration>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            end: Some(Duration::ZERO),
        }
    }
}

impl Line {
    fn push(&mut self, kind: Kind, takes: Option<Duration>, listed: bool) {
        if listed {
            self.steps.push(Step {
                kind,
                begins: self.end,
                takes,
            });
        }
        self.end = add(self.end, takes);
    }
}

/// A time as people say it: `25ms`, `6.075s`, `1m30s`.
pub fn shown(time: Duration) -> String {
    let (whole, nanos) = (time.as_secs(), time.subsec_nanos());
    if nanos == 0 && whole >= 60 {
        let parts = [
            (whole / 3600, "h"),
            (whole / 60 % 60, "m"),
            (whole % 60, "s"),
        ];
        let parts = parts.iter().filter(|(number, _)| *number > 0);
        return parts
            .map(|(number, unit)| format!("{number}{unit}"))
            .collect();
    }
    if whole == 0 && nanos > 0 {
        return format!("{}ms", f64::from(nanos) / 1e6);
    }
    let fraction = format!("{nanos:09}");
    match fraction.trim_end_matches('0') {
        "" => format!("{whole}s"),
        fraction => format!("{whole}.{fraction}s"),
    }
}

fn add(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    Some(a?.saturating_add(b?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{bulkhead, timeout};

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn retry(max_attempts: u32) -> retry::Settings {
        retry::Settings {
            max_attempts,
            on: retry::Conditions::default(),
            methods: retry::Methods::Idempotent,
            backoff: backoff::Settings::default(),
            budget: None,
            respect_retry_after: true,
            max_retry_after: ms(10_000),
            max_body: 0,
            by_class: retry::ByClass::default(),
        }
    }

    fn policies(request: u64, per_try: Option<u64>, retry: Option<retry::Settings>) -> Policies {
        Policies {
            timeouts: timeout::Settings {
                connect: Some(ms(1000)),
                request: Some(ms(request)),
                per_try: per_try.map(ms),
                idle: None,
            },
            retry: retry.map(Arc::new),
            ..Policies::default()
        }
    }

    fn kinds(timeline: &Timeline) -> Vec<Kind> {
        timeline.steps.iter().map(|step| step.kind).collect()
    }

    #[test]
    fn times_read_as_people_say_them() {
        for (time, text) in [
            (ms(0), "0s"),
            (ms(25), "25ms"),
            (Duration::from_micros(12_500), "12.5ms"),
            (ms(6075), "6.075s"),
            (ms(2000), "2s"),
            (ms(60_000), "1m"),
            (ms(90_000), "1m30s"),
            (ms(3_600_000), "1h"),
            (ms(90_500), "90.5s"),
        ] {
            assert_eq!(shown(time), text);
        }
    }

    #[test]
    fn rule_5_queue_connections_and_backoffs_count() {
        let mut policies = policies(60_000, Some(2000), Some(retry(3)));
        policies.bulkhead = Some(bulkhead::Settings {
            max_queue: 1,
            ..bulkhead::Settings::default()
        });
        let timeline = worst(&policies, true);
        use Kind::{Backoff, Connect, Queue, Try};
        let expected = [
            Queue,
            Connect(1),
            Try(1),
            Backoff(2),
            Connect(2),
            Try(2),
            Backoff(3),
            Connect(3),
            Try(3),
        ];
        assert_eq!(kinds(&timeline), expected);
        assert_eq!(timeline.steps[6].begins, Some(ms(100 + 3000 + 25 + 3000)));
        assert_eq!(timeline.steps[6].takes, Some(ms(50)));
        assert_eq!(timeline.sum, Some(ms(100 + 9000 + 75)));
        assert_eq!((timeline.total, timeline.cut), (timeline.sum, None));
        assert_eq!(timeline.retry_after, Some(ms(10_000)));
    }

    #[test]
    fn rule_15_what_may_not_be_sent_twice_is_sent_in_the_last_try_at_worst() {
        let timeline = worst(&policies(60_000, Some(2000), Some(retry(2))), false);
        use Kind::{Backoff, Connect, Try};
        assert_eq!(
            kinds(&timeline),
            [Connect(1), Backoff(2), Connect(2), Try(2)]
        );
        assert_eq!(timeline.sum, Some(ms(1000 + 25 + 1000 + 2000)));
    }

    #[test]
    fn the_request_timeout_cuts_the_step_under_way() {
        let policies = |request| policies(request, Some(2000), Some(retry(2)));
        let sum = 2 * 3000 + 25;
        let exact = worst(&policies(sum), true);
        assert_eq!((exact.cut, exact.total), (None, Some(ms(sum))));
        let cut = |request| worst(&policies(request), true).cut.map(|cut| cut.step);
        assert_eq!(cut(sum - 1), Some(4), "the second try");
        assert_eq!(cut(3025), Some(3), "connecting for the second try");
        assert_eq!(cut(3000), Some(2), "the wait has just begun");
        assert_eq!(cut(500), Some(0));
        assert_eq!(worst(&policies(500), true).total, Some(ms(500)));
    }

    #[test]
    fn a_try_without_a_limit_may_use_up_all_the_time() {
        let timeline = worst(&policies(15_000, None, Some(retry(3))), true);
        assert_eq!(timeline.sum, None);
        assert_eq!(
            timeline.cut,
            Some(Cut {
                at: ms(15_000),
                step: 1
            })
        );
        assert_eq!(timeline.steps[1].begins, Some(ms(1000)));
        assert_eq!(timeline.steps[2].begins, None);

        let endless = worst(&Policies::default(), true);
        assert_eq!((endless.total, endless.cut), (None, None));
        assert_eq!(kinds(&endless), [Kind::Connect(1), Kind::Try(1)]);
        assert_eq!(endless.retry_after, None);
    }

    #[test]
    fn the_class_that_takes_longest_makes_the_worst_case() {
        let mut retry = retry(2);
        let rule = |max_attempts| {
            Some(retry::ClassRule {
                max_attempts,
                backoff: backoff::Settings::default(),
            })
        };
        retry.by_class.timeout = rule(1);
        retry.by_class.rate_limited = rule(4);
        let timeline = worst(&policies(60_000, Some(1000), Some(retry)), true);
        assert_eq!(
            (timeline.class, timeline.tries),
            (Some(Class::RateLimited), 4)
        );
        assert_eq!(timeline.sum, Some(ms(8000 + 25 + 50 + 100)));
    }

    #[test]
    fn many_tries_are_summed_but_not_listed() {
        let timeline = worst(&policies(5_000_000, Some(1000), Some(retry(1000))), true);
        let shown = usize::try_from(SHOWN_TRIES).unwrap();
        assert_eq!(timeline.steps.len(), 3 * shown - 1);
        let waits: u64 = (1..1000).map(|n| (25 << (n - 1).min(20)).min(1000)).sum();
        assert_eq!(timeline.sum, Some(ms(2_000_000 + waits)));
        let cut = worst(&policies(1_000_000, Some(1000), Some(retry(1000))), true).cut;
        assert_eq!(
            cut.unwrap().step,
            3 * shown - 1,
            "in a step that is not listed"
        );
        let endless = worst(&policies(1000, None, Some(retry(u32::MAX))), true);
        assert_eq!(endless.total, Some(ms(1000)));
    }
}
