//! Why requests failed lately, of those that are kept.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use crate::proxy::Reason;
use crate::telemetry::explain::Recorder;

/// How long a failure counts among the reasons.
const LATELY: Duration = Duration::from_secs(60);

/// Why requests failed lately, by upstream, as far as they are kept.
pub(super) struct Reasons(HashMap<String, HashMap<String, usize>>);

impl Reasons {
    pub(super) fn of(kept: &Recorder) -> Self {
        let recent = kept.recent();
        let newest = recent.first().map(|one| one.ended);
        let mut all: HashMap<String, HashMap<String, usize>> = HashMap::new();
        for one in &recent {
            let report = &one.report;
            let is_late = newest.and_then(|newest| newest.duration_since(one.ended).ok());
            let failed = one.kept_for.names().any(|why| why == "failed");
            let left = report.reason == Some(Reason::ClientGone);
            if let Some(route) = &report.place.labels().route
                && failed
                && !left
                && is_late.is_none_or(|age| age < LATELY)
            {
                let why = match (report.reason, report.grpc_status) {
                    (Some(reason), _) => reason.name().to_owned(),
                    (None, Some(code)) => format!("gRPC {}", code.name()),
                    (None, None) => format!("status {}", report.status),
                };
                let of_upstream = all.entry(route.upstream.to_string()).or_default();
                *of_upstream.entry(why).or_default() += 1;
            }
        }
        Self(all)
    }

    /// The two most frequent ones; empty: none is known.
    pub(super) fn of_upstream(&self, name: &str) -> String {
        let mut counts: Vec<_> = self.0.get(name).into_iter().flatten().collect();
        counts.sort_by_key(|(why, count)| (Reverse(**count), why.as_str()));
        let whys: Vec<_> = counts.iter().take(2).map(|(why, _)| why.as_str()).collect();
        whys.join(" and ")
    }
}
