//! Keeping up with one service: its EndpointSlices are listed, then watched from there.
//!
//! ```text
//! list ──ok──► watch ──ended, broke off, silent──► watch, from where it had come to
//!  ▲ │           │ │
//!  │ └─failed    │ └─failed──► watch, after a wait
//!  └─────────────┴─too old (410), or not understood
//! ```
//!
//! Whatever fails, what was told last stays (rule 68). Failures in a row are waited out, each for longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch::Sender;

use super::access::{Access, Answer};
use super::lines::{Cut, Lines, whole};
use super::objects::{Page, Slice, Status, Told, Version};
use super::pace::Pace;
use super::refusal::{Problem, Verb, refusal, shortened};
use super::serving::Slices;
use crate::clock;

/// Slices that are asked for at a time. Those of one service have a hundred endpoints each, or fewer.
const PAGE: usize = 50;
/// Bytes of a page.
const LONGEST_PAGE: usize = 32 << 20;
/// Bytes of a line of a watch.
const LONGEST_LINE: usize = 4 << 20;
/// Bytes that are read of a refusal.
const LONGEST_REFUSAL: usize = 64 << 10;
/// Slices of one service that are kept.
const MOST_SLICES: usize = 1_000;
/// Pages of one list: an API that gives more goes round in circles.
const MOST_PAGES: usize = MOST_SLICES;

/// A service of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Service {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is known of a service.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Its slices; `None`: the API has not told them yet.
    pub(super) slices: Option<Arc<Slices>>,
    /// Why the API tells nothing now.
    pub(super) problem: Option<Failure>,
}

/// Why the API tells nothing.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// A sentence without a full stop.
    pub(super) text: Arc<str>,
    /// When it is asked again.
    pub(super) again: Instant,
}

/// One watch.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) service: Service,
    pub(super) access: Access,
    pub(super) pace: Pace,
    pub(super) seen: Arc<Sender<Seen>>,
}

/// What was told so far, and how far that is.
#[derive(Debug)]
struct Known {
    slices: Slices,
    version: Version,
}

impl Known {
    fn advance(&mut self, version: Version) {
        // Each object has one; without it, a watch would begin anywhere.
        if !version.is_empty() {
            self.version = version;
        }
    }
}

/// How a watch ended.
#[derive(Debug)]
enum End {
    /// As it does now and then: it goes on from where it had come to.
    Over,
    /// It did not come about, or what was told cannot be gone on from.
    Failed(Problem),
    /// What came cannot be understood, so that something may be missing: everything is listed again.
    Lost(Problem),
}

impl Watch {
    /// Keeps up for as long as somebody looks.
    pub(super) async fn run(self) {
        tokio::select! {
            biased;
            () = self.seen.closed() => (),
            () = self.keep_up() => (),
        }
    }

    async fn keep_up(&self) {
        let mut known: Option<Known> = None;
        let mut failures = 0;
        loop {
            let wait = match &mut known {
                None => match self.list().await {
                    Ok(listed) => {
                        self.publish(&listed);
                        known = Some(listed);
                        continue;
                    }
                    Err(problem) => {
                        failures += 1;
                        self.fail(&problem, failures)
                    }
                },
                Some(so_far) => {
                    let began = clock::now();
                    let from = so_far.version.clone();
                    let (end, told) = self.watch(so_far).await;
                    let settled = clock::now() - began >= self.pace.settled;
                    if settled || told && so_far.version != from {
                        failures = 0;
                    } else {
                        failures += 1;
                    }
                    match end {
                        End::Over => self.go_on(failures),
                        End::Failed(problem) if problem.expired => {
                            known = None;
                            self.go_on(failures)
                        }
                        End::Failed(problem) => {
                            failures = failures.max(1);
                            self.fail(&problem, failures)
                        }
                        End::Lost(problem) => {
                            known = None;
                            failures = failures.max(1);
                            self.fail(&problem, failures)
                        }
                    }
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// All slices as they are now.
    async fn list(&self) -> Result<Known, Problem> {
        let mut slices = Slices::new();
        let mut next: Option<Version> = None;
        let mut left_out = 0;
        for _ in 0..MOST_PAGES {
            let mut target = self.target();
            target.push_str(&format!("&limit={PAGE}"));
            if let Some(next) = &next {
                target.push_str("&continue=");
                escape(next, &mut target);
            }
            let answer = self.ask(&target, Verb::List).await?;
            let body = tokio::time::timeout(self.pace.page, whole(answer.body, LONGEST_PAGE));
            let body = match body.await {
                Ok(body) => body.map_err(|cut| format!("a list cannot be read: {cut}"))?,
                Err(_) => {
                    return Err(format!("a list took longer than {:?}", self.pace.page).into());
                }
            };
            let mut page = Page::read(&body)?;
            for slice in page.slices()? {
                left_out += usize::from(!add(&mut slices, slice));
            }
            next = page.metadata.next.filter(|next| !next.is_empty());
            if next.is_some() {
                continue;
            }
            let Some(version) = page.metadata.resource_version else {
                return Err("a list has no resourceVersion".to_owned().into());
            };
            if left_out > 0 {
                tracing::warn!(
                    service = %self.service,
                    "it has {left_out} EndpointSlices more than {MOST_SLICES}: they are left out"
                );
            }
            return Ok(Known { slices, version });
        }
        Err(format!("a list has more than {MOST_PAGES} pages").into())
    }

    /// Follows what changes; whether anything did.
    async fn watch(&self, known: &mut Known) -> (End, bool) {
        let seconds = fastrand::u64(self.pace.watch.clone());
        let mut target = self.target();
        target.push_str(&format!(
            "&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion="
        ));
        escape(&known.version, &mut target);
        let answer = match self.ask(&target, Verb::Watch).await {
            Ok(answer) => answer,
            Err(problem) => return (End::Failed(problem), false),
        };
        self.is_well();
        let mut told = false;
        let longest = Duration::from_secs(seconds) + self.pace.grace;
        let end = self.follow(answer, longest, known, &mut told).await;
        (end, told)
    }

    async fn follow(
        &self,
        answer: Answer,
        longest: Duration,
        known: &mut Known,
        told: &mut bool,
    ) -> End {
        let mut lines = Lines::new(answer.body, LONGEST_LINE);
        let mut silence = std::pin::pin!(tokio::time::sleep(longest));
        let mut changed = false;
        let end = loop {
            let line = tokio::select! {
                biased;
                line = lines.next() => line,
                // What came together is told together.
                () = std::future::ready(()), if changed => {
                    self.publish(known);
                    changed = false;
                    continue;
                }
                () = &mut silence => {
                    tracing::debug!(service = %self.service, "a watch that did not end in time is cut");
                    break End::Over;
                }
            };
            let line = match line {
                Ok(Some(line)) => line,
                Ok(None) => break End::Over,
                Err(cut @ (Cut::Broken(_) | Cut::Unfinished)) => {
                    tracing::debug!(service = %self.service, "a watch broke off: {cut}");
                    break End::Over;
                }
                Err(cut @ Cut::TooLong(_)) => {
                    break End::Lost(format!("an event cannot be read: {cut}").into());
                }
            };
            match Told::read(&line) {
                Ok(Some(Told::Is(version, slice))) => {
                    known.advance(version);
                    add(&mut known.slices, slice);
                    (changed, *told) = (true, true);
                }
                Ok(Some(Told::Gone(version, name))) => {
                    known.advance(version);
                    known.slices.remove(&name);
                    (changed, *told) = (true, true);
                }
                Ok(Some(Told::Bookmark(version))) => known.advance(version),
                Ok(Some(Told::Error(status))) => break failed(status),
                Ok(None) => (),
                Err(what) => {
                    let begin = shortened(&String::from_utf8_lossy(&line));
                    let text = format!("a watch told what cannot be understood: {what}: {begin}");
                    break End::Lost(text.into());
                }
            }
        };
        if changed {
            self.publish(known);
        }
        end
    }

    /// Asks, and turns what is no 200 into a problem.
    async fn ask(&self, target: &str, verb: Verb) -> Result<Answer, Problem> {
        let answer = self.access.get(target, &self.pace).await?;
        if answer.status == 200 {
            return Ok(answer);
        }
        let reading = whole(answer.body, LONGEST_REFUSAL);
        let body = tokio::time::timeout(self.pace.answer, reading).await;
        let status: Option<Status> = match &body {
            Ok(Ok(body)) => serde_json::from_slice(body).ok(),
            Ok(Err(_)) | Err(_) => None,
        };
        let said = status.and_then(|status| status.message);
        let namespace = &self.service.namespace;
        let mut problem = refusal(
            answer.status,
            said.as_deref(),
            verb,
            namespace,
            &self.access,
        );
        problem.retry_after = answer.retry_after;
        Err(problem)
    }

    /// What is asked for, without how.
    fn target(&self) -> String {
        let Service { namespace, name } = &self.service;
        format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3D{name}"
        )
    }

    fn publish(&self, known: &Known) {
        self.is_well();
        let slices = Arc::new(known.slices.clone());
        self.seen.send_modify(|seen| seen.slices = Some(slices));
    }

    /// The API answers, maybe again.
    fn is_well(&self) {
        let was_told = self.seen.borrow().problem.is_some();
        if was_told {
            self.seen.send_modify(|seen| seen.problem = None);
        }
    }

    /// Tells of a failure; gives how long to wait.
    fn fail(&self, problem: &Problem, failures: u32) -> Duration {
        let wait = self.pace.backoff.wait(failures, fastrand::f64());
        let asked = problem.retry_after.unwrap_or_default();
        let wait = wait.max(asked.min(self.pace.backoff.max));
        tracing::debug!(service = %self.service, ?wait, "{}", problem.text);
        let failure = Failure {
            text: problem.text.as_str().into(),
            again: clock::now() + wait,
        };
        self.seen.send_modify(|seen| seen.problem = Some(failure));
        wait
    }

    /// How long to wait where nothing is wrong: so long that those whose watches ended together do not
    /// come back together; and where it keeps happening without anything told, as after failures.
    fn go_on(&self, failures: u32) -> Duration {
        let backoff = &self.pace.backoff;
        match failures {
            0 | 1 => (backoff.base / 10).mul_f64(fastrand::f64()),
            more => backoff.wait(more - 1, fastrand::f64()),
        }
    }
}

fn failed(status: Status) -> End {
    let said = shortened(status.message.as_deref().unwrap_or("it says nothing more"));
    let code = status.code.unwrap_or_default();
    let mut problem = Problem::from(format!("a watch ended with an error ({code}): {said}"));
    // Where it says 410, there is nothing to be wrong about.
    problem.expired = code == 410;
    if problem.expired {
        End::Failed(problem)
    } else {
        End::Lost(problem)
    }
}

/// Whether there was room for it.
fn add(slices: &mut Slices, slice: Slice) -> bool {
    let room = slices.len() < MOST_SLICES || slices.contains_key(&slice.name);
    if room {
        slices.insert(slice.name.clone(), Arc::new(slice));
    }
    room
}

/// Writes a value of a query.
fn escape(value: &str, into: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests;
