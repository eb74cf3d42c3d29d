//! What a decision about another try went by, for whoever asks why: worked out only where a try has
//! failed, by the same rules and the same chance as the decision.

use std::time::{Duration, Instant};

use super::{Attempt, Methods, Pushback, Settings};
use crate::policy::budget::Budget;

/// The figures of one decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Tries so far.
    pub made: u32,
    /// Tries in all, for failures of that class.
    pub max_attempts: u32,
    /// What was left of the request's time; `None`: no limit.
    pub time_left: Option<Duration>,
    /// The wait before another try.
    pub wait: Wait,
    /// The longest `retry-after` that is waited for.
    pub max_retry_after: Duration,
    /// Tokens of the retry budget after the decision, and what its window allows in all; `None`: there
    /// is no budget.
    pub tokens: Option<(f32, f32)>,
    /// Whether an `idempotency-key` makes any method one that may be sent twice.
    pub keys_count: bool,
    /// Bytes of a request's body that are kept for another try.
    pub max_body: usize,
}

/// How long a wait was asked for, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// By the backoff.
    Backoff(Duration),
    /// By the answer's `retry-after`.
    RetryAfter(Duration),
    /// By the answer's `grpc-retry-pushback-ms`.
    Pushback(Duration),
    /// For ever, by the same.
    Never,
}

impl Settings {
    /// What [`Self::decide`] has just gone by, asked with the same arguments and after it.
    pub fn figures(&self, a: &Attempt, budget: &mut Budget, now: Instant, chance: f64) -> Figures {
        let rule = self.rule_for(a.ending);
        let backoff = || Wait::Backoff(rule.backoff.wait(a.made, chance));
        let pushback = a.pushback.filter(|_| self.respect_retry_after);
        let asked = a.retry_after.filter(|_| self.respect_retry_after);
        let wait = match (pushback, asked) {
            (Some(Pushback::After(wait)), _) => Wait::Pushback(wait),
            (Some(Pushback::Never), _) => Wait::Never,
            (None, Some(asked)) if asked > Duration::ZERO => Wait::RetryAfter(asked),
            (None, _) => backoff(),
        };
        let tokens = self.budget.as_ref().map(|settings| {
            let (tokens, limit) = budget.reading(settings, now);
            (tokens as f32, limit as f32)
        });
        Figures {
            made: a.made,
            max_attempts: rule.max_attempts,
            time_left: a.time_left,
            wait,
            max_retry_after: self.max_retry_after,
            tokens,
            keys_count: matches!(self.methods, Methods::Idempotent),
            max_body: self.max_body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::outcome::{Ending, Sent};
    use crate::policy::retry::{Decision, Why};

    fn attempt(made: u32, left: u64) -> Attempt {
        Attempt {
            made,
            ending: Ending::Answered(503),
            sent: Sent::Answered,
            repeatable: true,
            replayable: true,
            time_left: Some(Duration::from_millis(left)),
            retry_after: None,
            pushback: None,
        }
    }

    #[test]
    fn the_figures_are_those_that_decided() {
        let settings = Settings::default();
        let (mut budget, now) = (Budget::new(), crate::clock::now());
        let a = attempt(1, 500);
        let Decision::Again { wait } = settings.decide(&a, &mut budget, now, 0.5) else {
            panic!("there is time, and the budget is full");
        };
        let figures = settings.figures(&a, &mut budget, now, 0.5);
        assert_eq!(figures.wait, Wait::Backoff(wait));
        assert_eq!((figures.made, figures.max_attempts), (1, 3));
        assert_eq!(figures.tokens, Some((29.0, 30.0)), "one is spent");
    }

    #[test]
    fn rule_24_who_asked_for_the_wait_is_told() {
        let settings = Settings::default();
        let (mut budget, now) = (Budget::new(), crate::clock::now());
        let hour = Duration::from_secs(3600);
        let mut a = attempt(1, 9_000);
        a.retry_after = Some(hour);
        let decision = settings.decide(&a, &mut budget, now, 0.0);
        assert_eq!(decision, Decision::Denied(Why::Deadline));
        let wait = |a: &Attempt, budget: &mut Budget| settings.figures(a, budget, now, 0.0).wait;
        assert_eq!(wait(&a, &mut budget), Wait::RetryAfter(hour));
        a.pushback = Some(Pushback::Never);
        assert_eq!(wait(&a, &mut budget), Wait::Never);
        a.pushback = Some(Pushback::After(hour));
        assert_eq!(wait(&a, &mut budget), Wait::Pushback(hour));
    }
}
