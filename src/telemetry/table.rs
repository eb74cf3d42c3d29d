//! Every metric: its name, its kind, its labels and what it says. The text for a scrape is made from
//! these rows, so a name or a label exists in one place. Label values come from names in the
//! configuration and from closed lists, never from the traffic (rule 87, fault 75).

use prometheus::proto::MetricType;

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What its value means.
    pub kind: MetricType,
    /// The names of its labels, in the order of the values.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! table {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: $name,
                kind: MetricType::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// Every metric.
        pub const ALL: &[&Metric] = &[$(&$id),*];
    };
}

table! {
    REQUESTS: COUNTER "mamparo_requests_total" ["listener", "route", "upstream", "outcome", "code"]
        "Requests that have ended, each counted once, by outcome and class of the status sent.";
    REQUEST_DURATION: HISTOGRAM "mamparo_request_duration_seconds" ["route", "upstream"]
        "Time from the start of a request to the last byte of its answer.";
    OVERHEAD: HISTOGRAM "mamparo_overhead_seconds" []
        "What mamparo itself added up to the head of the answer: without tries, queue and backoff.";
    FAILURES: COUNTER "mamparo_failures_total" ["route", "upstream", "reason"]
        "Requests by their primary failure, before any fallback.";
    LIMIT_EXCEEDED: COUNTER "mamparo_limit_exceeded_total" ["listener", "limit"]
        "Connections and streams of clients that were refused or closed, by the limit that they went over.";
    PASSED: COUNTER "mamparo_passed_connections_total" ["listener"]
        "Redirected connections that no route was for, passed on untouched to where they were going.";
    PASSING: GAUGE "mamparo_passed_connections" ["listener"]
        "Those of them that are open now.";
    ATTEMPTS: COUNTER "mamparo_attempts_total" ["upstream", "outcome"]
        "Tries, by what the endpoint's breaker learnt from them.";
    ATTEMPT_DURATION: HISTOGRAM "mamparo_attempt_duration_seconds" ["upstream"]
        "Time from the start of a try to the head of its answer or to its failure.";
    RETRIES: COUNTER "mamparo_retries_total" ["upstream", "class"]
        "Tries after the first, by the class of the failure before them.";
    RETRIES_DENIED: COUNTER "mamparo_retries_denied_total" ["upstream", "why"]
        "Failed tries that were not made again, by what forbade it.";
    RETRY_BUDGET_TOKENS: GAUGE "mamparo_retry_budget_tokens" ["upstream"]
        "Retries that the budget would pay for now.";
    BREAKER_STATE: GAUGE "mamparo_circuit_breaker_state" ["upstream", "endpoint"]
        "State of an endpoint's circuit breaker: 0 closed, 1 open, 2 half-open.";
    BREAKER_TRANSITIONS: COUNTER "mamparo_circuit_breaker_transitions_total" ["upstream", "to"]
        "Changes of state of the endpoints' circuit breakers.";
    BULKHEAD_IN_FLIGHT: GAUGE "mamparo_bulkhead_in_flight" ["upstream"]
        "Requests that hold a seat.";
    BULKHEAD_QUEUED: GAUGE "mamparo_bulkhead_queued" ["upstream"]
        "Requests that wait for a seat.";
    BULKHEAD_LIMIT: GAUGE "mamparo_bulkhead_limit" ["upstream"]
        "Seats in all; absent where there is no limit.";
    BULKHEAD_REFUSED: COUNTER "mamparo_bulkhead_refused_total" ["upstream", "reason"]
        "Requests that the bulkhead refused.";
    CONNECTIONS: GAUGE "mamparo_connections" ["upstream", "state"]
        "Open connections to the upstream.";
    CONNECTIONS_OPENED: COUNTER "mamparo_connections_opened_total" ["upstream"]
        "Connections that were made to the upstream.";
    ENDPOINTS: GAUGE "mamparo_endpoints" ["upstream", "state"]
        "Endpoints of the upstream; a half-open one, and one that no health check has told of yet, is available.";
    DISCOVERY_UPDATES: COUNTER "mamparo_discovery_updates_total" ["upstream", "source", "result"]
        "Askings of what names, records and services stand for, by what came of them.";
    HEALTH_CHECKS: COUNTER "mamparo_health_checks_total" ["upstream", "result"]
        "Active health checks of the upstream's endpoints.";
    FALLBACKS: COUNTER "mamparo_fallbacks_total" ["upstream", "kind", "reason"]
        "Requests that a fallback answered, by the reason of the failure or the class of the status.";
    CONFIG_RELOADS: COUNTER "mamparo_config_reloads_total" ["result"]
        "Reloads of the configuration.";
    CONFIG_LAST_RELOAD_SUCCESS: GAUGE "mamparo_config_last_reload_success" []
        "Whether the last configuration that was read is the one that runs.";
    CONFIG_GENERATION: GAUGE "mamparo_config_generation" []
        "The generation of the configuration that runs; the first is 1.";
    ACCESS_LOG_DROPPED: COUNTER "mamparo_access_log_dropped_total" []
        "Access lines that could not be written.";
    SPANS: COUNTER "mamparo_spans_total" ["result"]
        "Spans for the collector, by what became of them.";
    TLS_HANDSHAKE_FAILURES: COUNTER "mamparo_tls_handshake_failures_total" ["listener", "why"]
        "Handshakes with clients that failed, by the reason.";
    CERTIFICATE_EXPIRY: GAUGE "mamparo_certificate_expiry_seconds" ["listener", "upstream", "file"]
        "When the first certificate in a file expires, in Unix time; what is left: this less time().";
    BUILD_INFO: GAUGE "mamparo_build_info" ["version"]
        "Always 1; the labels say which program this is.";
    PROCESS_CPU: COUNTER "process_cpu_seconds_total" []
        "Total user and system CPU time spent in seconds.";
    PROCESS_OPEN_FDS: GAUGE "process_open_fds" []
        "Number of open file descriptors.";
    PROCESS_MAX_FDS: GAUGE "process_max_fds" []
        "Maximum number of open file descriptors.";
    PROCESS_RESIDENT: GAUGE "process_resident_memory_bytes" []
        "Resident memory size in bytes.";
    PROCESS_VIRTUAL: GAUGE "process_virtual_memory_bytes" []
        "Virtual memory size in bytes.";
    PROCESS_START: GAUGE "process_start_time_seconds" []
        "Start time of the process since unix epoch in seconds.";
    PROCESS_THREADS: GAUGE "process_threads" []
        "Number of OS threads in the process.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What dashboards and alerts of others hold on to. A change here breaks them.
    const CONTRACT: [(&str, &str); 32] = [
        (
            "mamparo_requests_total",
            "listener route upstream outcome code",
        ),
        ("mamparo_request_duration_seconds", "route upstream"),
        ("mamparo_overhead_seconds", ""),
        ("mamparo_failures_total", "route upstream reason"),
        ("mamparo_limit_exceeded_total", "listener limit"),
        ("mamparo_passed_connections_total", "listener"),
        ("mamparo_passed_connections", "listener"),
        ("mamparo_attempts_total", "upstream outcome"),
        ("mamparo_attempt_duration_seconds", "upstream"),
        ("mamparo_retries_total", "upstream class"),
        ("mamparo_retries_denied_total", "upstream why"),
        ("mamparo_retry_budget_tokens", "upstream"),
        ("mamparo_circuit_breaker_state", "upstream endpoint"),
        ("mamparo_circuit_breaker_transitions_total", "upstream to"),
        ("mamparo_bulkhead_in_flight", "upstream"),
        ("mamparo_bulkhead_queued", "upstream"),
        ("mamparo_bulkhead_limit", "upstream"),
        ("mamparo_bulkhead_refused_total", "upstream reason"),
        ("mamparo_connections", "upstream state"),
        ("mamparo_connections_opened_total", "upstream"),
        ("mamparo_endpoints", "upstream state"),
        ("mamparo_discovery_updates_total", "upstream source result"),
        ("mamparo_health_checks_total", "upstream result"),
        ("mamparo_fallbacks_total", "upstream kind reason"),
        ("mamparo_config_reloads_total", "result"),
        ("mamparo_config_last_reload_success", ""),
        ("mamparo_config_generation", ""),
        ("mamparo_access_log_dropped_total", ""),
        ("mamparo_spans_total", "result"),
        ("mamparo_tls_handshake_failures_total", "listener why"),
        (
            "mamparo_certificate_expiry_seconds",
            "listener upstream file",
        ),
        ("mamparo_build_info", "version"),
    ];

    #[test]
    fn the_names_and_labels_that_others_hold_on_to_stay() {
        let ours = ALL
            .iter()
            .filter(|metric| !metric.name.starts_with("process_"));
        let ours: Vec<_> = ours
            .map(|metric| (metric.name, metric.labels.join(" ")))
            .collect();
        let contract: Vec<_> = CONTRACT
            .map(|(name, labels)| (name, labels.to_owned()))
            .into();
        assert_eq!(ours, contract);
    }
}
