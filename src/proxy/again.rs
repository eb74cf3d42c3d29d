//! Whether a try that has ended is made again. What was decided is written down with its figures where
//! the try has failed, for whoever asks later.

use std::time::Duration;

use super::attempt::Attempted;
use super::handle::Exchange;
use super::retry_after;
use super::tries::Passage;
use crate::clock;
use crate::policy::outcome::Outcome;
use crate::policy::retry::{self, Decision};
use crate::telemetry::report::{Next, Try};

impl Exchange<'_> {
    /// How long to wait before another try; `None`: there is none.
    pub(super) fn wait_for_another(
        &mut self,
        passage: &Passage<'_>,
        retry: Option<&retry::Settings>,
        attempted: &Attempted,
    ) -> Option<Duration> {
        let wanted = retry.filter(|retry| retry.on.may_want(attempted.ending));
        let went_well = |last: &Try| last.outcome == Outcome::Success;
        if wanted.is_none() && self.told.report().tries.last().is_none_or(went_well) {
            return None;
        }
        self.write_down(passage, retry, wanted, attempted)
    }

    /// Apart, since few tries come to this.
    #[cold]
    fn write_down(
        &mut self,
        passage: &Passage<'_>,
        retry: Option<&retry::Settings>,
        wanted: Option<&retry::Settings>,
        attempted: &Attempted,
    ) -> Option<Duration> {
        let next = match (retry, wanted) {
            (_, Some(retry)) => self.decide(passage, retry, attempted),
            (Some(_), None) => Next::Unlisted,
            (None, None) => Next::NoPolicy,
        };
        let report = self.told.report();
        let wait = match next {
            Next::Granted { wait, .. } => Some(wait),
            Next::Denied { why, .. } => {
                report.denied = Some(why);
                None
            }
            Next::Unlisted | Next::NoPolicy => None,
        };
        if let Some(last) = report.tries.last_mut() {
            last.next = Some(Box::new(next));
        }
        wait
    }

    fn decide(
        &mut self,
        passage: &Passage<'_>,
        retry: &retry::Settings,
        attempted: &Attempted,
    ) -> Next {
        let now = clock::now();
        let made = u32::try_from(self.told.report().tries.len()).unwrap_or(u32::MAX);
        let attempt = retry::Attempt {
            made,
            ending: attempted.ending,
            sent: attempted.sent,
            repeatable: passage.repeatable,
            replayable: passage.replayable(attempted),
            time_left: passage.deadline.map(|end| end.left(now)),
            retry_after: attempted
                .answer
                .as_ref()
                .and_then(|answer| retry_after::retry_after(answer.headers(), clock::date())),
            pushback: attempted.pushback(),
        };
        let chance = fastrand::f64();
        passage.route.upstream.with_budget(|budget| {
            let decision = retry.decide(&attempt, budget, now, chance);
            let mut figures = || retry.figures(&attempt, budget, now, chance);
            match decision {
                Decision::Again { wait } => Next::Granted {
                    wait,
                    figures: figures(),
                },
                Decision::Denied(why) => Next::Denied {
                    why,
                    figures: figures(),
                },
                Decision::Final => Next::Unlisted,
            }
        })
    }
}
