//! Why no endpoint may be tried, as a request's failure.

use std::fmt::Display;

use super::handle::Failed;
use super::message;
use crate::live::roster::Refusal;
use crate::live::upstream::Upstream;
use crate::policy::outcome::Reason;

/// The failure of a request that no endpoint of the upstream may be tried for.
pub(super) fn failed(upstream: &Upstream, refusal: Refusal) -> Failed {
    let name = upstream.name();
    match refusal {
        Refusal::NoEndpoint => {
            let cause = upstream.problem();
            let cause = cause.as_ref().map(|cause| cause as &dyn Display);
            Failed::new(Reason::NoEndpoint, message::no_endpoint(name, cause))
        }
        Refusal::Unhealthy(all) => {
            let verdict = all.verdict.as_ref();
            let message = message::unhealthy(name, &all.endpoint, verdict, all.next_in);
            let mut failed = Failed::new(Reason::NoEndpoint, message);
            failed.retry_after = all.recovers_in.filter(|wait| !wait.is_zero());
            failed
        }
        Refusal::BreakerOpen { cause, retry_in } => {
            let cause = cause.as_ref().map(|cause| cause as &dyn Display);
            let message = message::breaker_open(name, cause, retry_in);
            let mut failed = Failed::new(Reason::BreakerOpen, message);
            failed.retry_after = retry_in.filter(|wait| !wait.is_zero());
            failed
        }
    }
}
