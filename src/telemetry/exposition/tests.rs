//! The text for a scrape is read back by a checker of our own and compared with what was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use prometheus::proto::MetricType;

use super::*;
use crate::policy::outcome::{Ending, Reason};
use crate::telemetry::handles::SCRAPES;
use crate::telemetry::readings::{
    CertificateReading, DiscoveryReading, EndpointReading, HandshakeReading,
};
use crate::telemetry::report::{Outcome, Report, samples};

fn readings() -> Readings {
    let endpoint = |address: &str, breaker, draining| EndpointReading {
        address: address.into(),
        breaker,
        unhealthy: false,
        draining,
    };
    let unhealthy = EndpointReading {
        unhealthy: true,
        ..endpoint("127.0.0.1:9005", Some(State::Open), false)
    };
    Readings {
        generation: 3,
        last_reload_ok: true,
        upstreams: vec![UpstreamReading {
            name: "payments".into(),
            retry_budget_tokens: Some(12.5),
            in_flight: 7,
            queued: 1,
            limit: Some(100),
            idle: 4,
            active: 7,
            endpoints: vec![
                endpoint("127.0.0.1:9001", Some(State::Closed), false),
                endpoint("127.0.0.1:9002", Some(State::Open), false),
                endpoint("127.0.0.1:9003", Some(State::HalfOpen), false),
                endpoint("[::1]:9004", None, true),
                unhealthy,
            ],
        }],
        handshakes: vec![HandshakeReading {
            listener: "in".into(),
            why: "no_certificate",
            count: 3,
        }],
        certificates: vec![CertificateReading {
            listener: "in".into(),
            upstream: "".into(),
            file: "/etc/tls/tls.crt".into(),
            expires: 1_800_000_000,
        }],
        discovery: vec![DiscoveryReading {
            upstream: "payments".into(),
            source: "payments:80".into(),
            updates: [("changed", 1), ("same", 2), ("failed", 0)],
        }],
    }
}

type Labels = BTreeMap<String, String>;

/// The samples of a text by metric, name and labels. Panics where the text breaks a rule of the format.
fn read(text: &str) -> BTreeMap<String, Vec<(String, Labels, f64)>> {
    let mut families: BTreeMap<String, Vec<(String, Labels, f64)>> = BTreeMap::new();
    let mut current = String::new();
    let mut series = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            current = help.split_once(' ').unwrap().0.to_owned();
            let before = families.insert(current.clone(), Vec::new());
            assert!(before.is_none(), "{current} appears twice");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind.split_once(' ').unwrap().0, current);
            continue;
        }
        let (id, value) = line.rsplit_once(' ').unwrap();
        assert!(series.insert(id.to_owned()), "{id} appears twice");
        let (name, labels) = match id.split_once('{') {
            Some((name, labels)) => (name, read_labels(labels.strip_suffix('}').unwrap())),
            None => (id, Labels::new()),
        };
        assert!(name.starts_with(&current), "{name} stands under {current}");
        let sample = (name.to_owned(), labels, value.parse().unwrap());
        families.get_mut(&current).unwrap().push(sample);
    }
    families
}

fn read_labels(mut text: &str) -> Labels {
    let mut labels = Labels::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut rest = rest.chars();
        while let Some(character) = rest.next() {
            match character {
                '"' => break,
                '\\' => value.push(match rest.next().unwrap() {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        assert!(labels.insert(name.to_owned(), value).is_none());
        text = rest.as_str().trim_start_matches(',');
    }
    labels
}

fn sum(text: &str, family: &str) -> f64 {
    read(text)[family].iter().map(|(_, _, value)| value).sum()
}

#[test]
fn every_metric_of_the_table_is_written_with_its_labels_and_no_other() {
    let metrics = Metrics::default();
    samples::Telling::new(&metrics, 7).tell(500);
    let text = metrics.render(&readings());
    let families = read(&text);
    let names: BTreeSet<&str> = table::ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(
        families.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        names
    );
    for metric in table::ALL {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let kind = format!("# TYPE {} {kind}\n", metric.name);
        assert!(text.contains(&kind), "{}", metric.name);
        let expected: BTreeSet<&str> = metric.labels.iter().copied().collect();
        let samples = &families[metric.name];
        assert!(!samples.is_empty(), "{} has no sample", metric.name);
        for (name, labels, _) in samples {
            let mut found: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
            assert_eq!(found.remove("le"), name.ends_with("_bucket"), "{name}");
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn a_counters_name_ends_in_total_and_no_other_does() {
    for metric in table::ALL {
        let is_total = metric.name.ends_with("_total");
        assert_eq!(
            is_total,
            metric.kind == MetricType::COUNTER,
            "{}",
            metric.name
        );
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        assert!(!metric.help.contains(['\n', '\\']), "{}", metric.name);
    }
}

#[test]
fn rule_88_the_sum_of_all_requests_is_their_number() {
    let metrics = Metrics::default();
    let told = samples::Telling::new(&metrics, 88).tell(3000);
    let text = metrics.render(&readings());
    assert_eq!(sum(&text, "mamparo_requests_total"), 3000.0);
    let families = read(&text);
    let of = |family: &str, suffix: &str| -> f64 {
        let samples = families[family].iter();
        let named = samples.filter(|(name, _, _)| name.ends_with(suffix));
        named.map(|(_, _, value)| value).sum()
    };
    assert_eq!(of("mamparo_request_duration_seconds", "_count"), 3000.0);
    let count = |wanted: fn(&Report) -> usize| told.iter().map(wanted).sum::<usize>() as f64;
    let tries = count(|one| one.tries.len());
    assert_eq!(of("mamparo_attempts_total", ""), tries);
    assert_eq!(of("mamparo_attempt_duration_seconds", "_count"), tries);
    let retries = count(|one| one.tries.len().saturating_sub(1));
    assert_eq!(of("mamparo_retries_total", ""), retries);
    let failures = count(|one| usize::from(one.reason.is_some()));
    assert_eq!(of("mamparo_failures_total", ""), failures);
    let fallbacks =
        count(|one| usize::from(one.fallback.is_some() && one.place.labels().route.is_some()));
    assert_eq!(of("mamparo_fallbacks_total", ""), fallbacks);
    for outcome in Outcome::ALL {
        let samples = families["mamparo_requests_total"].iter();
        let counted: f64 = samples
            .filter(|(_, labels, _)| labels["outcome"] == outcome.name())
            .map(|(_, _, value)| value)
            .sum();
        let told = told.iter().filter(|one| one.outcome == outcome).count();
        assert_eq!(counted, told as f64, "{}", outcome.name());
    }
    assert_eq!(metrics.sums().total().requests, 3000);
    assert_eq!(metrics.sums().total().retries as f64, retries);
}

#[test]
fn the_buckets_of_a_histogram_only_rise_and_end_at_its_count() {
    let metrics = Metrics::default();
    samples::Telling::new(&metrics, 3).tell(400);
    let families = read(&metrics.render(&readings()));
    for metric in table::ALL
        .iter()
        .filter(|one| one.kind == MetricType::HISTOGRAM)
    {
        let mut last: BTreeMap<Labels, f64> = BTreeMap::new();
        for (name, labels, value) in &families[metric.name] {
            let mut labels = labels.clone();
            labels.remove("le");
            if name.ends_with("_bucket") {
                let before = last.insert(labels, *value).unwrap_or(0.0);
                assert!(before <= *value, "{name}");
            } else if name.ends_with("_count") {
                assert_eq!(last[&labels], *value, "{name}");
            }
        }
    }
}

#[test]
fn fault_075_labels_come_from_names_alone() {
    let metrics = Metrics::default();
    let telling = samples::Telling::new(&metrics, 75);
    telling.tell(2000);
    let first = read(&metrics.render(&readings()));
    telling.tell(2000);
    let second = read(&metrics.render(&readings()));
    let series = |families: &BTreeMap<String, Vec<(String, Labels, f64)>>| {
        families.values().map(Vec::len).sum::<usize>()
    };
    // The process's own numbers and every combination of the generator are there the first time.
    assert_eq!(series(&first), series(&second));
}

#[test]
fn the_errors_of_a_route_are_counted_from_nought() {
    let metrics = Metrics::default();
    let (listener, route) = (samples::name("out"), samples::name("charges"));
    let route = metrics.route(&listener, &route, &samples::name("payments"));
    let requests = |wanted: f64| -> BTreeSet<(String, String)> {
        let families = read(&metrics.render(&Readings::default()));
        let samples = families["mamparo_requests_total"].iter();
        samples
            .filter(|(_, _, value)| *value == wanted)
            .map(|(_, labels, _)| (labels["outcome"].clone(), labels["code"].clone()))
            .collect()
    };
    let combination = |outcome: Outcome, code: &str| (outcome.name().to_owned(), code.to_owned());
    let expected = [
        combination(Outcome::Upstream, "2xx"),
        combination(Outcome::Upstream, "5xx"),
        combination(Outcome::Refused, "5xx"),
        combination(Outcome::Failed, "5xx"),
    ];
    assert_eq!(requests(0.0), BTreeSet::from(expected));
    let report = samples::report(
        metrics.listener(&listener),
        Some(route),
        Outcome::Failed,
        502,
    );
    metrics.count(&report, report.started + Duration::from_millis(2));
    assert_eq!(
        requests(1.0),
        BTreeSet::from([combination(Outcome::Failed, "5xx")])
    );
    assert_eq!(requests(0.0).len(), 3, "none appears twice");
}

#[test]
fn two_listeners_with_the_same_route_share_its_duration() {
    let metrics = Metrics::default();
    let route = samples::name("charges");
    let upstream = samples::name("payments");
    let a = metrics.route(&samples::name("a"), &route, &upstream);
    let b = metrics.route(&samples::name("b"), &route, &upstream);
    let listener = metrics.listener(&samples::name("a"));
    for route in [a, b] {
        let report = samples::report(listener.clone(), Some(route), Outcome::Upstream, 200);
        metrics.count(&report, report.started + Duration::from_millis(2));
    }
    let text = metrics.render(&Readings::default());
    assert!(text.contains(
        "mamparo_request_duration_seconds_count{route=\"charges\",upstream=\"payments\"} 2\n"
    ));
    for listener in ["a", "b"] {
        let line = format!(
            "mamparo_requests_total{{listener=\"{listener}\",route=\"charges\",upstream=\"payments\",outcome=\"upstream\",code=\"2xx\"}} 1\n"
        );
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn an_upstreams_counters_are_there_from_the_start() {
    let metrics = Metrics::default();
    let held = metrics.upstream(&samples::name("payments"));
    let text = metrics.render(&Readings::default());
    for line in [
        "mamparo_attempts_total{upstream=\"payments\",outcome=\"failure\"} 0\n",
        "mamparo_retries_total{upstream=\"payments\",class=\"transient\"} 0\n",
        "mamparo_retries_denied_total{upstream=\"payments\",why=\"budget\"} 0\n",
        "mamparo_circuit_breaker_transitions_total{upstream=\"payments\",to=\"open\"} 0\n",
        "mamparo_bulkhead_refused_total{upstream=\"payments\",reason=\"queue_timeout\"} 0\n",
        "mamparo_connections_opened_total{upstream=\"payments\"} 0\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
    held.breaker_changed(State::Open);
    let text = metrics.render(&Readings::default());
    let line = "mamparo_circuit_breaker_transitions_total{upstream=\"payments\",to=\"open\"} 1\n";
    assert!(text.contains(line));
}

#[test]
fn rule_87_a_removed_route_is_still_scraped_for_a_while() {
    let metrics = Metrics::default();
    let (route, upstream) = (samples::name("old"), samples::name("gone"));
    let listener = metrics.listener(&samples::name("in"));
    let meters = metrics.route(listener.name(), &route, &upstream);
    let report = samples::report(listener, Some(meters), Outcome::Upstream, 200);
    metrics.count(&report, report.started);
    (0..3 * SCRAPES)
        .for_each(|_| assert!(metrics.render(&Readings::default()).contains("\"old\"")));
    drop(report);
    for scrape in 0..SCRAPES {
        let text = metrics.render(&Readings::default());
        assert!(text.contains("route=\"old\""), "scrape {scrape}");
    }
    // The route goes first, then what it held.
    (0..SCRAPES).for_each(|_| drop(metrics.render(&Readings::default())));
    assert!(!metrics.render(&Readings::default()).contains("\"gone\""));
}

#[test]
fn the_gauges_are_what_was_read() {
    let text = Metrics::default().render(&readings());
    for line in [
        "mamparo_retry_budget_tokens{upstream=\"payments\"} 12.5\n",
        "mamparo_bulkhead_in_flight{upstream=\"payments\"} 7\n",
        "mamparo_bulkhead_limit{upstream=\"payments\"} 100\n",
        "mamparo_circuit_breaker_state{upstream=\"payments\",endpoint=\"127.0.0.1:9002\"} 1\n",
        "mamparo_circuit_breaker_state{upstream=\"payments\",endpoint=\"127.0.0.1:9003\"} 2\n",
        "mamparo_endpoints{upstream=\"payments\",state=\"available\"} 2\n",
        "mamparo_endpoints{upstream=\"payments\",state=\"open\"} 1\n",
        "mamparo_endpoints{upstream=\"payments\",state=\"unhealthy\"} 1\n",
        "mamparo_endpoints{upstream=\"payments\",state=\"draining\"} 1\n",
        "mamparo_connections{upstream=\"payments\",state=\"idle\"} 4\n",
        "mamparo_config_generation 3\n",
        "mamparo_config_last_reload_success 1\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
    assert!(
        !text.contains("endpoint=\"[::1]:9004\""),
        "it has no breaker"
    );
}

#[test]
fn label_values_are_escaped() {
    let mut families = Families::new(Format::Text);
    let mut opened = families.of(&table::CONNECTIONS_OPENED);
    opened.count(&["a\"b\\c\nd"], 1);
    let line = "mamparo_connections_opened_total{upstream=\"a\\\"b\\\\c\\nd\"} 1\n";
    assert!(families.text().ends_with(line));
}

#[test]
fn the_labels_are_the_bounds_in_seconds() {
    let text = Metrics::default().render(&Readings::default());
    let bounds = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("mamparo_overhead_seconds_bucket{le=\"")?;
        rest.strip_suffix("\"} 0")
    });
    let expected = "0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 30 60 +Inf";
    assert_eq!(bounds.collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn what_has_no_sample_yet_is_left_out() {
    let text = Metrics::default().render(&Readings::default());
    let families = read(&text);
    assert!(
        families.values().all(|samples| !samples.is_empty()),
        "{text}"
    );
    assert!(!families.contains_key("mamparo_fallbacks_total"));
    assert_eq!(families["mamparo_config_reloads_total"].len(), 2);
}

#[test]
fn overhead_is_the_time_to_the_head_less_what_others_took() {
    let metrics = Metrics::default();
    let listener = metrics.listener(&samples::name("in"));
    let mut report = samples::report(listener, None, Outcome::Upstream, 200);
    report.tries.push(samples::attempt(
        Duration::from_millis(6),
        Ending::Answered(200),
    ));
    report.queued = Duration::from_millis(2);
    report.backoff = Duration::from_millis(1);
    report.head_at = Some(Duration::from_millis(10));
    assert_eq!(report.overhead(), Some(Duration::from_millis(1)));
    report.head_at = None;
    assert_eq!(report.overhead(), None);
    let now: Instant = report.started;
    metrics.count(&report, now);
    assert_eq!(metrics.overhead.read().sum, 0);
    assert_eq!(report.reason, None::<Reason>);
}

#[test]
fn fault_073_many_scrapes_at_once_stop_neither_each_other_nor_the_traffic() {
    let metrics = Metrics::default();
    let telling = samples::Telling::new(&metrics, 73);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| read(&metrics.render(&readings())));
        }
        for _ in 0..3 {
            scope.spawn(|| samples::Telling::new(&metrics, 73).tell(1000));
        }
    });
    telling.tell(1);
    assert_eq!(metrics.sums().total().requests, 3001);
}

#[test]
fn in_open_metrics_counters_have_short_names_and_buckets_have_examples() {
    let metrics = Metrics::default();
    let listener = metrics.listener(&samples::name("in"));
    let mut report = samples::report(listener, None, Outcome::Refused, 404);
    report.trace.trace_id = 0xabc;
    let ended = report.started + Duration::from_millis(700);
    metrics.count(&report, ended);
    metrics.exemplify(&report, ended);
    let text = metrics.render_as(&readings(), Format::OpenMetrics);
    for wanted in [
        "# TYPE mamparo_requests counter\nmamparo_requests_total{",
        "# TYPE mamparo_passed_connections_total unknown\n",
        "# TYPE mamparo_passed_connections gauge\n",
        "# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total ",
        "_bucket{route=\"\",upstream=\"\",le=\"0.5\"} 0\n",
        "_bucket{route=\"\",upstream=\"\",le=\"1.0\"} 1 # {trace_id=\"00000000000000000000000000000abc\"} 0.7 1",
        "_bucket{route=\"\",upstream=\"\",le=\"+Inf\"} 1\n",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n") && !text.contains("\n\n"));
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut names: Vec<_> = families.map(|line| line.split(' ').next()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each stands once");
    for metric in table::ALL {
        assert!(!metric.help.contains(['"', '\\', '\n']), "{}", metric.name);
    }
    let plain = metrics.render(&readings());
    assert!(!plain.contains("trace_id") && !plain.contains("EOF"));
}
