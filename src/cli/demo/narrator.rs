//! What the demo says: only what the running proxy's status and the answers of its clients show.

use std::collections::HashMap;

use super::load::Seen;
use crate::server::status::{Circuit, Endpoint, Status, Upstream};

/// What the clients have seen, by upstream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clients {
    pub(super) catalog: Seen,
    pub(super) stock: Seen,
    pub(super) recommendations: Seen,
}

/// Tells what changes. It is shown the state every now and then and answers with lines.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    breakers: HashMap<String, (Circuit, u32)>,
    /// At the beginning of the scene.
    scene: Clients,
    retries_at_scene: u64,
    /// What has been told in this scene.
    told: Told,
    /// The most that was seen in flight and queued in this scene.
    peak: (usize, usize),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    saved: u64,
    refused: u64,
    fallback: u64,
}

impl Narrator {
    /// A scene begins: numbers count from here.
    pub(super) fn begin(&mut self, status: &Status, clients: Clients) {
        self.scene = clients;
        self.retries_at_scene = retries(status);
        self.told = Told::default();
        self.peak = (0, 0);
    }

    /// Breakers that have changed. To be called often: what lies between two calls is not seen.
    pub(super) fn breakers(&mut self, status: &Status) -> Vec<String> {
        if let Some(bulkhead) = status.upstreams.iter().find_map(|one| one.bulkhead) {
            self.peak.0 = self.peak.0.max(bulkhead.in_flight);
            self.peak.1 = self.peak.1.max(bulkhead.queued);
        }
        let mut lines = Vec::new();
        for upstream in &status.upstreams {
            for endpoint in &upstream.endpoints {
                let now = (endpoint.state, endpoint.opened_in_a_row);
                let before = self.breakers.insert(endpoint.address.clone(), now);
                lines.extend(before.and_then(|before| breaker(upstream, endpoint, before)));
            }
        }
        lines
    }

    /// What has been counted since the scene began, where it has grown. To be called every second.
    pub(super) fn counts(&mut self, status: &Status, clients: Clients) -> Vec<String> {
        let catalog = clients.catalog.since(self.scene.catalog);
        let stock = clients.stock.since(self.scene.stock);
        let recommendations = clients.recommendations.since(self.scene.recommendations);
        let mut lines = Vec::new();
        if catalog.saved > self.told.saved {
            lines.push(format!(
                "retry: {} more tries saved {} of {} requests for 'catalog'; clients saw {}",
                retries(status).saturating_sub(self.retries_at_scene),
                catalog.saved,
                catalog.requests,
                errors(catalog.passed_on + catalog.failed),
            ));
        }
        if stock.refused > self.told.refused {
            lines.push(self.bulkhead_full(stock, status));
        }
        if recommendations.fallback > self.told.fallback {
            lines.push(format!(
                "fallback: answered {} of {} requests for 'recommendations' with an empty list, in time; clients saw {}",
                recommendations.fallback,
                recommendations.requests,
                errors(recommendations.passed_on + recommendations.failed),
            ));
        }
        self.told = Told {
            saved: catalog.saved,
            refused: stock.refused,
            fallback: recommendations.fallback,
        };
        lines
    }

    fn bulkhead_full(&self, stock: Seen, status: &Status) -> String {
        let limits = status.upstreams.iter().find_map(|one| one.bulkhead);
        let (limit, max_queue) =
            limits.map_or((0, 0), |one| (one.limit.unwrap_or(0), one.max_queue));
        format!(
            "bulkhead full: up to {} of {limit} seats taken and {} of {max_queue} waiting; refused {} of {} requests for 'stock' at once, answered {}",
            self.peak.0, self.peak.1, stock.refused, stock.requests, stock.fine,
        )
    }
}

fn retries(status: &Status) -> u64 {
    status
        .upstreams
        .iter()
        .map(|upstream| upstream.totals.retries)
        .sum()
}

fn errors(count: u64) -> String {
    match count {
        0 => "no error".into(),
        1 => "1 error".into(),
        count => format!("{count} errors"),
    }
}

fn breaker(upstream: &Upstream, endpoint: &Endpoint, before: (Circuit, u32)) -> Option<String> {
    let address = &endpoint.address;
    let next = endpoint.next_probe_ms.map_or(String::new(), |ms| {
        format!("; next probe in {}.{} s", ms / 1000, ms % 1000 / 100)
    });
    let why = endpoint.reason.as_deref().unwrap_or("no reason given");
    let (was, opened) = before;
    match (was, endpoint.state) {
        (Circuit::Open | Circuit::HalfOpen, Circuit::Open) if endpoint.opened_in_a_row > opened => {
            Some(format!(
                "breaker of {address} is open again, {} times in a row: {why}{next}",
                endpoint.opened_in_a_row
            ))
        }
        (Circuit::Closed, Circuit::Open) => Some(format!(
            "breaker of {address} opened: {why}{next}. The other endpoints of '{}' take its share",
            upstream.name
        )),
        (Circuit::Closed | Circuit::Open, Circuit::HalfOpen) => Some(format!(
            "breaker of {address} is half-open: a few probes find out whether it works"
        )),
        (Circuit::Open | Circuit::HalfOpen, Circuit::Closed) => Some(format!(
            "breaker of {address} closed: its probes succeeded, it takes its share again"
        )),
        (Circuit::Closed, Circuit::Closed)
        | (Circuit::Open | Circuit::HalfOpen, Circuit::Open)
        | (Circuit::HalfOpen, Circuit::HalfOpen) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::status::{Bulkhead, Totals};

    fn status(state: Circuit, opened: u32, retries: u64) -> Status {
        let endpoint = Endpoint {
            address: "127.0.0.1:9002".into(),
            state,
            reason: Some("5 consecutive failures".into()),
            next_probe_ms: Some(3_140),
            opened_in_a_row: opened,
            ..Endpoint::default()
        };
        Status {
            upstreams: vec![Upstream {
                name: "catalog".into(),
                endpoints: vec![endpoint],
                bulkhead: Some(Bulkhead {
                    in_flight: 4,
                    queued: 2,
                    limit: Some(4),
                    max_queue: 4,
                }),
                totals: Totals {
                    retries,
                    ..Totals::default()
                },
                ..Upstream::default()
            }],
            ..Status::default()
        }
    }

    #[test]
    fn each_change_of_a_breaker_is_told_once_with_its_reason() {
        let mut narrator = Narrator::default();
        for (state, opened, says) in [
            (Circuit::Closed, 0, None),
            (
                Circuit::Open,
                1,
                Some("opened: 5 consecutive failures; next probe in 3.1 s"),
            ),
            (Circuit::Open, 1, None),
            (Circuit::HalfOpen, 1, Some("half-open")),
            (Circuit::Open, 2, Some("open again, 2 times in a row")),
            (Circuit::Open, 3, Some("open again, 3 times in a row")),
            (Circuit::Closed, 3, Some("closed: its probes succeeded")),
        ] {
            let lines = narrator.breakers(&status(state, opened, 0));
            assert_eq!(lines.len(), usize::from(says.is_some()), "{lines:?}");
            if let Some(says) = says {
                assert!(lines[0].contains(says), "{lines:?}");
            }
        }
    }

    #[test]
    fn numbers_count_from_the_beginning_of_the_scene_and_are_not_repeated() {
        let mut narrator = Narrator::default();
        let mut clients = Clients::default();
        clients.catalog.saved = 3;
        clients.catalog.requests = 50;
        narrator.begin(&status(Circuit::Closed, 0, 4), clients);
        assert!(
            narrator
                .counts(&status(Circuit::Closed, 0, 4), clients)
                .is_empty()
        );
        clients.catalog.saved = 10;
        clients.catalog.requests = 150;
        let now = status(Circuit::Closed, 0, 12);
        narrator.breakers(&now);
        assert_eq!(
            narrator.counts(&now, clients),
            ["retry: 8 more tries saved 7 of 100 requests for 'catalog'; clients saw no error"]
        );
        assert!(narrator.counts(&now, clients).is_empty());
        clients.stock.refused = 20;
        clients.stock.requests = 30;
        clients.stock.fine = 10;
        clients.recommendations.fallback = 2;
        clients.recommendations.requests = 2;
        let lines = narrator.counts(&now, clients);
        assert_eq!(
            lines[0],
            "bulkhead full: up to 4 of 4 seats taken and 2 of 4 waiting; refused 20 of 30 requests for 'stock' at once, answered 10"
        );
        assert!(
            lines[1].starts_with("fallback: answered 2 of 2"),
            "{lines:?}"
        );
    }
}
