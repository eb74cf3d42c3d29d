//! Between the task that follows a source and the upstreams that name the source: what was found is handed
//! on to each of them, counted, and told in the log where it is news.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::paths::Paths;
use crate::clock;
use crate::live::upstream::{Found, Upstream};
use crate::plan::Address;
use crate::telemetry::Telemetry;
use crate::telemetry::events::Kind;

/// One upstream that names a source.
#[derive(Debug)]
pub struct Audience {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// Its memory; `None`: it is about to be.
    pub upstream: Option<Arc<Upstream>>,
    /// The listeners that send requests to it.
    pub listeners: Vec<SocketAddr>,
}

/// What is known of one source.
#[derive(Debug)]
pub struct Feed {
    source: Address,
    telemetry: Arc<Telemetry>,
    known: Mutex<Known>,
    asked: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Known {
    audience: Vec<Audience>,
    /// `None`: it has never said anything.
    found: Option<Vec<Found>>,
    answered: Option<(Instant, SystemTime)>,
    next: Option<Instant>,
    problem: Option<String>,
    /// Why it stands for nothing, where that is what it has said last.
    nothing: Option<String>,
    /// Upstreams that were told of an address that is a listener of ours.
    looped: BTreeSet<Arc<str>>,
    updates: Updates,
}

/// How often a source was asked, by what came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Updates {
    /// It stands for other addresses than before.
    pub changed: u64,
    /// It stands for the same.
    pub same: u64,
    /// It could not be found out.
    pub failed: u64,
}

/// What a source has said last, for the page and the metrics.
#[derive(Debug, Clone)]
pub struct Reading {
    /// As it is written in the configuration.
    pub source: String,
    /// The upstreams that name it.
    pub upstreams: Vec<Arc<str>>,
    /// The addresses that it stands for, those included that are only kept.
    pub addresses: usize,
    /// When it answered last.
    pub answered: Option<(Instant, SystemTime)>,
    /// When it is asked again, where that is known.
    pub next: Option<Instant>,
    /// Why it could not be found out what it stands for; `None`: it could.
    pub problem: Option<String>,
    /// How often it was asked.
    pub updates: Updates,
}

impl Feed {
    pub(super) fn new(
        source: Address,
        audience: Vec<Audience>,
        telemetry: &Arc<Telemetry>,
    ) -> Arc<Self> {
        Arc::new(Self {
            source,
            telemetry: Arc::clone(telemetry),
            known: Mutex::new(Known {
                audience,
                ..Known::default()
            }),
            asked: watch::Sender::new(false),
        })
    }

    /// What is followed.
    pub const fn source(&self) -> &Address {
        &self.source
    }

    /// These upstreams name it now; those that did not before are told at once what is known.
    pub(super) fn serve(&self, audience: Vec<Audience>) {
        let mut known = self.known.lock();
        known.audience = audience;
        self.hand_on(&mut known);
    }

    /// These upstreams are about to name it, too.
    pub(super) fn serve_also(&self, mut audience: Vec<Audience>) {
        let mut known = self.known.lock();
        let there: BTreeSet<&str> = known.audience.iter().map(|one| &*one.name).collect();
        audience.retain(|new| !there.contains(&*new.name));
        known.audience.append(&mut audience);
        self.hand_on(&mut known);
    }

    /// It answers: it stands for these addresses. `next`: when it is asked again, where that is known.
    pub fn found(&self, found: Vec<Found>, next: Option<Instant>) {
        let mut known = self.known.lock();
        let had_problem = known.problem.take().is_some();
        let said_nothing = known.nothing.take().is_some();
        let changed = self.change(&mut known, found);
        if !changed && (had_problem || said_nothing) {
            // They forget why it could not be found.
            self.hand_on(&mut known);
        }
        let updates = &mut known.updates;
        let count = if changed {
            &mut updates.changed
        } else {
            &mut updates.same
        };
        *count += 1;
        known.answered = Some((clock::now(), clock::date()));
        known.next = next;
        if had_problem {
            let text = format!("{} is found again", self.source);
            tracing::info!(source = %self.source, "{text}");
            self.note(&known, &text);
        }
        drop(known);
        if changed {
            // Whoever watches sees other endpoints at once.
            self.telemetry.events().touch();
        }
        self.asked.send_replace(true);
    }

    /// It could not be found out what it stands for: what it stood for stays. Told in the log when it
    /// begins.
    pub fn failed(&self, problem: &str, next: Option<Instant>) {
        self.in_vain(self.known.lock(), problem, next);
    }

    /// It answers that there is no such thing: what it stood for stays for as long as it is not said to have
    /// [left](Self::left). Told in the log when it begins.
    pub(super) fn denied(&self, problem: &str, next: Option<Instant>) {
        let mut known = self.known.lock();
        known.nothing = Some(problem.to_owned());
        self.in_vain(known, problem, next);
    }

    fn in_vain(&self, mut known: MutexGuard<'_, Known>, problem: &str, next: Option<Instant>) {
        known.updates.failed += 1;
        known.next = next;
        let is_news = known.problem.replace(problem.to_owned()).is_none();
        self.tell_why(&known);
        if is_news {
            let kept = match known.found.as_ref().map_or(0, Vec::len) {
                0 => "there is no endpoint".to_owned(),
                1 => "the last known address is kept".to_owned(),
                many => format!("the last known {many} addresses are kept"),
            };
            let text = format!(
                "{} is not found: {problem}; {kept}, and it is asked again",
                self.source
            );
            tracing::warn!(source = %self.source, upstreams = names(&known), "{text}");
            self.note(&known, &text);
        }
        drop(known);
        self.asked.send_replace(true);
    }

    /// What it says is that it stands for nothing: requests are told why.
    pub(super) fn nothing(&self, why: &str) {
        let mut known = self.known.lock();
        known.nothing = Some(why.to_owned());
        self.tell_why(&known);
    }

    /// There is something odd about what it says.
    pub(super) fn remark(&self, what: &str) {
        let known = self.known.lock();
        let text = format!("{}: {what}", self.source);
        tracing::warn!(source = %self.source, upstreams = names(&known), "{text}");
        self.note(&known, &text);
    }

    /// Time has passed, and it stands for no more than these. It was not asked.
    pub fn left(&self, found: Vec<Found>, next: Option<Instant>) {
        let mut known = self.known.lock();
        known.next = next;
        let had_some = known.found.as_ref().is_some_and(|found| !found.is_empty());
        let gives_up = found.is_empty() && had_some;
        if !had_some {
            return;
        }
        if gives_up {
            let why = known.problem.as_deref().unwrap_or("it has no address");
            known.nothing = Some(why.to_owned());
        }
        self.change(&mut known, found);
        if gives_up {
            let why = known.nothing.as_deref().unwrap_or_default();
            let text = format!(
                "{} has stood for nothing for too long ({why}): its last known addresses are given up",
                self.source
            );
            tracing::warn!(source = %self.source, upstreams = names(&known), "{text}");
            self.note(&known, &text);
        }
    }

    /// What is told of it.
    pub(super) fn reading(&self) -> Reading {
        let known = self.known.lock();
        let upstreams = known.audience.iter().map(|one| Arc::clone(&one.name));
        Reading {
            source: self.source.to_string(),
            upstreams: upstreams.collect(),
            addresses: known.found.as_ref().map_or(0, Vec::len),
            answered: known.answered,
            next: known.next,
            problem: known.problem.clone(),
            updates: known.updates,
        }
    }

    /// Waits until it has been asked once.
    pub(super) async fn asked(&self) {
        // It ends with this feed alone, which is here.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// Whether it has been asked once.
    pub(super) fn was_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// It has not answered in time for those who wait; gives what it is.
    pub(super) fn is_late(&self, within: Duration) -> String {
        let text = format!(
            "{} has not answered within {within:?}, and is not waited for any longer: there is no endpoint \
             by it until it has",
            self.source
        );
        let known = self.known.lock();
        tracing::warn!(source = %self.source, upstreams = names(&known), "{text}");
        self.note(&known, &text);
        self.source.to_string()
    }

    /// Whether it stands for something else than before.
    fn change(&self, known: &mut Known, mut found: Vec<Found>) -> bool {
        found.sort_unstable_by_key(|one| one.address);
        if known.found.as_ref() == Some(&found) {
            return false;
        }
        let addresses = |found: &[Found]| -> BTreeSet<SocketAddr> {
            found.iter().map(|one| one.address).collect()
        };
        let used = |found: &[Found]| found.iter().filter(|one| one.weight > 0).count();
        let before = known.found.as_deref().unwrap_or_default();
        let (were, are) = (used(before), used(&found));
        let (before, now) = (addresses(before), addresses(&found));
        known.found = Some(found);
        let come = now.difference(&before).count();
        let gone = before.difference(&now).count();
        // Answers that rotate among the same addresses are no news.
        if come + gone > 0 || were != are {
            tracing::info!(
                source = %self.source,
                upstreams = names(known),
                addresses = are,
                kept = now.len() - are,
                come,
                gone,
                "endpoints found"
            );
        }
        self.hand_on(known);
        true
    }

    /// Tells each upstream all that is known: what it stands for, and why it could not be found out.
    fn hand_on(&self, known: &mut Known) {
        if let Some(found) = known.found.clone() {
            self.hand_on_found(known, &found);
        }
        self.tell_why(known);
    }

    /// Why it could not be found out what it stands for, or why that is nothing.
    fn tell_why(&self, known: &Known) {
        let Some(why) = known.problem.as_ref().or(known.nothing.as_ref()) else {
            return;
        };
        let audience = known.audience.iter();
        for upstream in audience.filter_map(|one| one.upstream.as_ref()) {
            if known.nothing.is_some() {
                upstream.nothing(&self.source, why);
            } else {
                upstream.not_found(&self.source, why);
            }
        }
    }

    /// Tells each upstream, without the addresses that would lead its requests back to it.
    fn hand_on_found(&self, known: &mut Known, found: &[Found]) {
        let paths = Paths::default();
        for one in &known.audience {
            let Some(upstream) = &one.upstream else {
                continue;
            };
            let (round, rest): (Vec<Found>, Vec<Found>) = found
                .iter()
                .cloned()
                .partition(|found| paths.lead_back(&one.listeners, found.address));
            upstream.found(&self.source, rest);
            let name = &one.name;
            let Some(first) = round.first() else {
                known.looped.remove(name);
                continue;
            };
            if known.looped.insert(Arc::clone(name)) {
                tracing::warn!(
                    upstream = &**name,
                    source = %self.source,
                    "{} is a listener of this process that sends requests to '{name}': it is left out, since \
                     they would go round in circles",
                    first.address
                );
            }
        }
    }

    fn note(&self, known: &Known, text: &str) {
        let source = self.source.to_string();
        for one in &known.audience {
            let events = self.telemetry.events();
            events.note_endpoint(clock::date(), Kind::Discovery, &one.name, &source, text);
        }
    }
}

fn names(known: &Known) -> String {
    let names = known.audience.iter().map(|one| &*one.name);
    names.collect::<Vec<_>>().join(", ")
}
