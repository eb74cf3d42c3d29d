//! Sends spans to the collector, batch after batch, on the control thread. Whatever the collector does,
//! no request waits for it: what it does not take in time is counted and forgotten.

mod link;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::clock;
use crate::proxy::Proxy;
use crate::telemetry::Telemetry;
use crate::telemetry::foreign::shown;
use crate::telemetry::spans::{Batch, Exporter};
use link::{Failure, Link};

/// How often one batch is sent at most.
const TRIES: u32 = 3;
/// The wait before the second time, at most; it doubles.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait that a collector can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Bytes of its own words that are repeated.
const MAX_WHY: usize = 300;
/// How long the last spans have at the end of the process, at least and at most.
const LAST_SPANS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(2)];

/// The task that sends.
pub(super) struct Collector {
    telemetry: Arc<Telemetry>,
    task: JoinHandle<()>,
}

/// Begins to send.
pub(super) fn start(proxy: &Arc<Proxy>) -> Collector {
    let telemetry = Arc::clone(&proxy.telemetry);
    let sender = Sender {
        telemetry: Arc::clone(&telemetry),
        link: None,
        losses: Losses::default(),
    };
    let task = tokio::spawn(sender.run());
    Collector { telemetry, task }
}

impl Collector {
    /// Sends what waits, and ends: at that time, but two seconds from now at the latest.
    pub(super) async fn end(self, until: Instant) {
        let [least, most] = LAST_SPANS;
        let left = until.saturating_duration_since(clock::now());
        let left = left.clamp(least, most);
        let abort = self.task.abort_handle();
        self.telemetry.spans().close();
        if tokio::time::timeout(left, self.task).await.is_err() {
            abort.abort();
            tracing::warn!(
                "The collector did not take the last spans within {left:?}; they are lost."
            );
        }
    }
}

/// What sends, and how that went lately.
struct Sender {
    telemetry: Arc<Telemetry>,
    link: Option<Link>,
    losses: Losses,
}

/// Which losses have been told.
#[derive(Debug, Default)]
struct Losses {
    /// Spans that had been lost when the last batch came through that nothing was wrong with. Some are
    /// counted before anybody knows that there is trouble.
    before: u64,
    /// Whether there is trouble, which is told once.
    told: bool,
}

impl Losses {
    /// There is trouble; whether that is news.
    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }

    /// A batch came through, with so many spans lost since the start. Where that ends trouble, gives how
    /// many it has cost.
    fn end(&mut self, lost: u64) -> Option<u64> {
        let before = std::mem::replace(&mut self.before, lost);
        std::mem::take(&mut self.told).then_some(lost - before)
    }
}

impl Sender {
    async fn run(mut self) {
        let telemetry = Arc::clone(&self.telemetry);
        while let Some(batch) = telemetry.spans().next().await {
            self.deliver(&batch).await;
        }
    }

    fn spans(&self) -> &Exporter {
        self.telemetry.spans()
    }

    /// Sends a batch, again where that makes sense, and counts what became of it.
    async fn deliver(&mut self, batch: &Batch) {
        for number in 1..=TRIES {
            let failure = match link::post(&mut self.link, batch).await {
                Ok(answer) => return self.taken(batch, &answer),
                Err(failure) => failure,
            };
            self.in_trouble(batch, failure.why());
            let wait = match failure {
                Failure::Final(_) => break,
                Failure::Passing { retry_after, .. } => wait_before(number, retry_after),
            };
            if number == TRIES || self.spans().is_closed() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // What is left has one chance.
                () = self.spans().until_closed() => {}
            }
        }
        self.spans().counts().failed.add(batch.spans);
    }

    /// The collector took the batch, or most of it.
    fn taken(&mut self, batch: &Batch, answer: &[u8]) {
        let counts = self.spans().counts();
        let (refused, why) = crate::telemetry::spans::refused(answer).unwrap_or_default();
        let refused = refused.min(batch.spans);
        // Read before it is asked whether more came than fit: what is lost in between is of the next batch.
        let lost = counts.lost();
        counts.exported.add(batch.spans - refused);
        counts.dropped.add(refused);
        if refused > 0 {
            let why = shown(&why, MAX_WHY);
            let why = format!("it refused {refused} of {} spans: {why}", batch.spans);
            self.in_trouble(batch, &why);
        } else if self.spans().has_overflowed() {
            self.in_trouble(batch, "more spans come than it takes");
        } else if let Some(lost) = self.losses.end(lost) {
            tracing::info!(
                collector = %batch.settings.collector,
                "The collector takes spans again; {lost} were lost."
            );
        }
    }

    /// Told once for each time that it begins.
    fn in_trouble(&mut self, batch: &Batch, why: &str) {
        if self.losses.begin() {
            tracing::warn!(
                collector = %batch.settings.collector,
                "Spans are lost: {why}. Requests go on; mamparo_spans_total counts the spans."
            );
        }
    }
}

/// The wait before the next time: by chance, and as long as the collector asks for.
fn wait_before(number: u32, retry_after: Option<Duration>) -> Duration {
    let longest = BACKOFF * 2_u32.pow(number - 1);
    let wait = longest.mul_f64(fastrand::f64());
    let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    wait.max(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_trouble_has_cost_is_told_with_what_was_lost_before_it_was_known() {
        let mut losses = Losses::default();
        assert_eq!(losses.end(0), None);
        // Seven had no room, which the batch after them shows; five more fail with the next one.
        assert!(losses.begin());
        assert!(!losses.begin(), "told once");
        assert_eq!(losses.end(12), Some(12));
        assert_eq!(losses.end(12), None);
        assert!(losses.begin());
        assert_eq!(losses.end(15), Some(3));
        assert!(losses.begin(), "one try in vain, and the next one succeeds");
        assert_eq!(losses.end(15), Some(0));
    }
}
