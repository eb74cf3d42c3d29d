//! Which results are failures of an endpoint.

use super::Settings;
use crate::policy::outcome::{Ending, Outcome};

/// What a try says about its endpoint: the one classifier, for breaker, balance and metrics (rules
/// 50 and 51). Without a breaker (`None`) it goes by the defaults.
///
/// Any answer shows that the endpoint works, but for a 5xx; 501 and 505 are about the request, and
/// those in `ignore` are said to be no failure. 429 speaks of load and says nothing. No answer is a
/// failure where the endpoint is to blame. A gRPC call ends as its code stands in HTTP: UNAVAILABLE,
/// DEADLINE_EXCEEDED, INTERNAL, UNKNOWN and DATA_LOSS are failures, RESOURCE_EXHAUSTED speaks of load.
pub fn is_failure(s: Option<&Settings>, ending: Ending) -> Outcome {
    let ignored = |status, code| {
        s.is_some_and(|s| s.ignore.contains(status) || s.ignore_codes.contains(code))
    };
    match ending {
        Ending::Grpc { status, code } if ignored(status, code) => Outcome::Success,
        // What the code says in HTTP's words.
        Ending::Grpc { status: 200, code } => {
            is_failure(None, Ending::Answered(code.http_status()))
        }
        Ending::Grpc { status, .. } => is_failure(s, Ending::Answered(status)),
        Ending::Answered(429) => Outcome::Ignored,
        Ending::Answered(..=499 | 501 | 505) => Outcome::Success,
        Ending::Answered(status) if s.is_some_and(|s| s.ignore.contains(status)) => {
            Outcome::Success
        }
        Ending::Answered(_) => Outcome::Failure,
        Ending::Failed(reason) if reason.blames_endpoint() => Outcome::Failure,
        Ending::Failed(_) => Outcome::Ignored,
    }
}
