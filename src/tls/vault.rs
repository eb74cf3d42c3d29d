//! Everything that was read from files for TLS, by the settings that name the files. A reading that
//! fails leaves what was there (fault 63), one set of files does not hold up another.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enums are those of rustls and the standard library, and grow"
)]

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::client::Client;
use super::facts::{SOON, Validity, date, weak_key};
use super::pem::{FileProblem, PemFile};
use super::provider;
use super::server::Server;
use crate::clock;
use crate::plan::{ListenerTls, Plan, Protocol, UpstreamTls};

/// What files are read for: equal settings share what was made of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Slot {
    /// A listener's.
    Server(ListenerTls, Protocol),
    /// An upstream's.
    Client(UpstreamTls, Protocol),
}

/// Who uses a slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum User {
    /// The listener of that name.
    Listener(Arc<str>),
    /// The upstream of that name.
    Upstream(Arc<str>),
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "listener '{name}'"),
            Self::Upstream(name) => write!(f, "upstream '{name}'"),
        }
    }
}

/// What was made of a slot's files.
#[derive(Debug, Clone)]
enum Made {
    Server(Arc<Server>),
    Client(Arc<Client>),
}

#[derive(Debug, Clone)]
struct Part {
    user: User,
    slot: Slot,
    outcome: Result<(Made, Notes), FileProblem>,
}

/// What one reading of all files came to.
#[derive(Debug, Clone, Default)]
pub struct Material {
    parts: Arc<Vec<Part>>,
    /// When they were read; `None`: nothing was.
    at: Option<SystemTime>,
}

/// A certificate that has expired, or will soon.
#[derive(Debug, Clone)]
pub struct Expiring {
    /// Who uses it.
    pub user: User,
    /// The setting that names its file.
    pub setting: &'static str,
    /// Its file.
    pub file: PathBuf,
    /// Its last day.
    pub date: String,
    /// What is left; zero: it has expired.
    pub left: Duration,
}

impl Material {
    /// The certificates that had expired when they were read, or expire within two weeks of it.
    pub fn expiring(&self) -> impl Iterator<Item = Expiring> {
        let at = self.at.unwrap_or(SystemTime::UNIX_EPOCH);
        let read = self
            .parts
            .iter()
            .filter_map(|part| Some((&part.user, part.outcome.as_ref().ok()?)));
        read.flat_map(move |(user, (_, notes))| {
            let soon = notes
                .files
                .iter()
                .filter(move |file| file.2.left(at) < SOON);
            soon.map(move |(setting, file, validity)| Expiring {
                user: user.clone(),
                setting,
                file: file.clone(),
                date: date(validity.not_after),
                left: validity.left(at),
            })
        })
    }

    /// What is wrong, and for whom.
    pub fn problems(&self) -> impl Iterator<Item = (&User, &FileProblem)> {
        let parts = self.parts.iter();
        parts.filter_map(|part| Some((&part.user, part.outcome.as_ref().err()?)))
    }

    /// The files that the settings name, whether they could be read or not.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self
            .parts
            .iter()
            .flat_map(|part| part.slot.files())
            .collect();
        files.sort();
        files.dedup();
        files
    }
}

/// What is noted beside what is made.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    hash: u64,
    files: Vec<(&'static str, PathBuf, Validity)>,
}

impl Notes {
    pub(super) fn hash(&mut self, bytes: &[u8]) {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.hash);
        hasher.write(bytes);
        self.hash = hasher.finish();
    }

    pub(super) fn validity(&mut self, file: &PemFile<'_>, validity: Option<Validity>) {
        let (setting, path) = file.named();
        let validity = validity.map(|validity| (setting, path.to_owned(), validity));
        self.files.extend(validity);
    }
}

impl Slot {
    /// The slot of a listener; `None`: it is plaintext.
    pub fn of_listener(listener: &crate::plan::Listener) -> Option<Self> {
        let tls = listener.tls.as_deref()?;
        Some(Self::Server(tls.clone(), listener.protocol))
    }

    /// The slot of an upstream; `None`: none of its endpoints is spoken to under TLS.
    pub fn of_upstream(upstream: &crate::plan::Upstream) -> Option<Self> {
        let any = upstream.endpoints.iter().any(|endpoint| endpoint.tls);
        let tls = upstream.tls.as_deref().cloned().unwrap_or_default();
        any.then_some(Self::Client(tls, upstream.protocol))
    }

    fn files(&self) -> Vec<PathBuf> {
        let (first, second, third) = match self {
            Self::Server(tls, _) => (Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()),
            Self::Client(tls, _) => {
                let identity = tls.identity.as_ref();
                (
                    tls.ca.as_ref(),
                    identity.map(|(cert, _)| cert),
                    identity.map(|(_, key)| key),
                )
            }
        };
        [first, second, third]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    fn make(&self) -> Result<(Made, Notes), FileProblem> {
        let mut notes = Notes::default();
        let made = match self {
            Self::Server(tls, protocol) => {
                Made::Server(Arc::new(Server::make(tls, *protocol, &mut notes)?))
            }
            Self::Client(tls, protocol) => {
                Made::Client(Arc::new(Client::make(tls, *protocol, &mut notes)?))
            }
        };
        Ok((made, notes))
    }
}

/// Everything of a plan that speaks TLS, and what it needs for that.
pub fn users(plan: &Plan) -> impl Iterator<Item = (User, Slot)> {
    let listeners = plan.listeners.iter().filter_map(|listener| {
        let user = User::Listener(Arc::clone(&listener.name));
        Some((user, Slot::of_listener(listener)?))
    });
    let upstreams = plan.upstreams.iter().filter_map(|upstream| {
        let user = User::Upstream(Arc::clone(&upstream.name));
        Some((user, Slot::of_upstream(upstream)?))
    });
    listeners.chain(upstreams)
}

/// Reads every file that a plan names for TLS; blocking.
pub fn read(plan: &Plan) -> Material {
    let mut parts: Vec<Part> = Vec::new();
    for (user, slot) in users(plan) {
        let known = parts.iter().find(|part| part.slot == slot);
        let outcome = known.map_or_else(|| slot.make(), |part| part.outcome.clone());
        parts.push(Part {
            user,
            slot,
            outcome,
        });
    }
    Material {
        parts: Arc::new(parts),
        at: Some(clock::date()),
    }
}

/// What to do about a weak key.
const BETTER_KEY: &str =
    "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 makes a better one";

/// A certificate with its key, and the certificate's file.
pub(super) fn identity<'a>(
    cert: &'a Path,
    key: &'a Path,
    notes: &mut Notes,
) -> Result<(CertifiedKey, PemFile<'a>), FileProblem> {
    let shown = PemFile::read("cert", cert)?;
    let secret = PemFile::read("key", key)?;
    notes.hash(shown.bytes());
    notes.hash(secret.bytes());
    let chain = shown.certificates()?;
    notes.validity(&shown, Validity::of_all(&chain, clock::date()));
    let weak = chain.first().and_then(weak_key);
    let pair = CertifiedKey::from_der(chain, secret.key()?, provider());
    let pair = pair.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => secret.problem(
            &format!("is not the key of the certificate in {}", cert.display()),
            Some("the two were made for each other or not at all; in a swap, both files change"),
        ),
        other => match weak {
            Some(weak) => secret.problem(&format!("holds {weak}"), Some(BETTER_KEY)),
            None => secret.problem(
                &format!("holds a key that cannot be used: {other}"),
                Some("RSA of 2048 bits or more, Ed25519, and the curves P-256, P-384 and P-521 can be"),
            ),
        },
    })?;
    Ok((pair, shown))
}

/// What has come of a reading for one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Other files than before are in use now.
    Swapped(User),
    /// The files cannot be used: what was read before stays.
    Kept(User, FileProblem),
    /// The files hold again what is in use.
    Recovered(User),
}

#[derive(Debug)]
struct Kept {
    made: Made,
    notes: Notes,
    problem: Option<FileProblem>,
}

/// What is in use.
#[derive(Debug, Default)]
pub struct Vault(Mutex<HashMap<Slot, Kept>>);

impl Vault {
    /// What could not be read and is not there from before: it cannot run.
    pub fn missing<'a>(&self, material: &'a Material) -> Vec<(&'a User, &'a FileProblem)> {
        let kept = self.0.lock();
        let parts = material
            .parts
            .iter()
            .filter(|part| !kept.contains_key(&part.slot));
        parts
            .filter_map(|part| Some((&part.user, part.outcome.as_ref().err()?)))
            .collect()
    }

    /// Takes in what could be read; gives what is news.
    pub fn install(&self, material: &Material) -> Vec<Changed> {
        let mut kept = self.0.lock();
        let mut changes: Vec<(&Slot, Changed)> = Vec::new();
        for Part {
            user,
            slot,
            outcome,
        } in material.parts.iter()
        {
            if changes.iter().any(|(told, _)| *told == slot) {
                // Its other users are told of by the first.
                continue;
            }
            let user = user.clone();
            let change = match (kept.get_mut(slot), outcome) {
                (None, Ok((made, notes))) => {
                    let (made, notes) = (made.clone(), notes.clone());
                    let problem = None;
                    let first = Kept {
                        made,
                        notes,
                        problem,
                    };
                    kept.insert(slot.clone(), first);
                    None
                }
                (None, Err(_)) => None,
                (Some(kept), Ok((_, notes))) if kept.notes.hash == notes.hash => {
                    kept.problem.take().map(|_| Changed::Recovered(user))
                }
                (Some(kept), Ok((made, notes))) => {
                    kept.made = made.following(&kept.made);
                    kept.notes = notes.clone();
                    kept.problem = None;
                    Some(Changed::Swapped(user))
                }
                (Some(kept), Err(problem)) => {
                    let before = kept.problem.replace(problem.clone());
                    let is_news = before.as_ref() != Some(problem);
                    is_news.then(|| Changed::Kept(user, problem.clone()))
                }
            };
            changes.extend(change.map(|change| (slot, change)));
        }
        changes.into_iter().map(|(_, change)| change).collect()
    }

    /// Forgets what a plan does not use.
    pub fn retain(&self, material: &Material) {
        self.0
            .lock()
            .retain(|slot, _| material.parts.iter().any(|part| part.slot == *slot));
    }

    /// What a listener shows now; `None`: it is plaintext.
    pub fn server(&self, listener: &crate::plan::Listener) -> Option<Arc<Server>> {
        match &self.0.lock().get(&Slot::of_listener(listener)?)?.made {
            Made::Server(server) => Some(Arc::clone(server)),
            Made::Client(_) => None,
        }
    }

    /// How an upstream's endpoints are spoken to under TLS now.
    pub fn client(&self, upstream: &crate::plan::Upstream) -> Option<Arc<Client>> {
        match &self.0.lock().get(&Slot::of_upstream(upstream)?)?.made {
            Made::Client(client) => Some(Arc::clone(client)),
            Made::Server(_) => None,
        }
    }

    /// Each file in use with its setting and validity, and what keeps a newer one from being used.
    pub fn state(&self, slot: &Slot) -> (Vec<(&'static str, PathBuf, Validity)>, Option<String>) {
        self.0
            .lock()
            .get(slot)
            .map_or_else(Default::default, |kept| {
                let problem = kept.problem.as_ref();
                let problem = problem.map(|problem| problem.message.clone());
                (kept.notes.files.clone(), problem)
            })
    }
}

impl Made {
    fn following(&self, before: &Self) -> Self {
        match (self, before) {
            (Self::Server(new), Self::Server(old)) => Self::Server(new.follow(old)),
            (Self::Server(_) | Self::Client(_), _) => self.clone(),
        }
    }
}
