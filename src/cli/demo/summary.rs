//! The table at the end of the demo: what the clients have seen beside what the proxy has counted.

use super::load::Seen;
use crate::server::status::Totals;

/// One upstream's line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) upstream: &'static str,
    /// What its clients have seen.
    pub(super) seen: Seen,
    /// What the proxy has counted for it.
    pub(super) counted: Totals,
    /// Requests that have reached its servers.
    pub(super) received: u64,
}

/// The table, and whether the two counts agree.
pub(super) fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:<16} {:>8} {:>8} {:>9} {:>9} {:>8} {:>7} {:>8} {:>9}\n",
        "upstream",
        "asked",
        "counted",
        "answered",
        "fallback",
        "refused",
        "failed",
        "retries",
        "received"
    );
    for line in lines {
        let Seen {
            requests,
            fine,
            passed_on,
            fallback,
            refused,
            failed,
            saved: _,
        } = line.seen;
        text += &format!(
            "{:<16} {requests:>8} {:>8} {:>9} {fallback:>9} {refused:>8} {failed:>7} {:>8} {:>9}\n",
            line.upstream,
            line.counted.requests,
            fine + passed_on,
            line.counted.retries,
            line.received,
        );
    }
    text + "(asked, answered, fallback, refused, failed: seen by the clients; counted, retries: by mamparo; received: by the servers)\n"
        + &verdict(lines)
}

/// Whether both have counted the same.
fn verdict(lines: &[Line]) -> String {
    let differences: Vec<String> = lines.iter().flat_map(differences).collect();
    if differences.is_empty() {
        return "Reconciled: every request was counted once, in one outcome, by both sides.\n"
            .into();
    }
    format!(
        "Not the same on both sides: {}. Requests that you sent yourself are counted by mamparo only.\n",
        differences.join("; ")
    )
}

fn differences(line: &Line) -> Vec<String> {
    let Line { seen, counted, .. } = line;
    [
        ("requests", seen.requests, counted.requests),
        ("failures", seen.refused + seen.failed, counted.failures),
        ("fallbacks", seen.fallback, counted.fallbacks),
    ]
    .into_iter()
    .filter(|(_, clients, proxy)| clients != proxy)
    .map(|(what, clients, proxy)| {
        format!(
            "{what} of '{}': {clients} seen by the clients, {proxy} counted by mamparo",
            line.upstream
        )
    })
    .collect()
}

/// Whether the proxy has counted at least what the clients have seen: a request is counted when its
/// last byte has gone, which may be a moment after the client has read it.
pub(super) fn is_settled(lines: &[Line]) -> bool {
    lines
        .iter()
        .all(|line| line.counted.requests >= line.seen.requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(counted: u64) -> Line {
        Line {
            upstream: "stock",
            seen: Seen {
                requests: 10,
                fine: 6,
                fallback: 1,
                refused: 2,
                failed: 1,
                ..Seen::default()
            },
            counted: Totals {
                requests: counted,
                failures: 3,
                retries: 4,
                fallbacks: 1,
            },
            received: 11,
        }
    }

    #[test]
    fn equal_counts_are_reconciled_and_others_are_named() {
        assert!(table(&[line(10)]).contains("Reconciled"));
        let other = table(&[line(10), line(12)]);
        assert!(
            other.contains("requests of 'stock': 10 seen by the clients, 12 counted"),
            "{other}"
        );
        assert!(!other.contains("Reconciled"));
        assert!(is_settled(&[line(12)]));
        assert!(!is_settled(&[line(9)]));
    }
}
