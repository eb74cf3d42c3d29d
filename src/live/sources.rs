//! What the sources of an upstream's endpoints have said last: names, records and services stand for
//! addresses that come and go. Who asks them is not known here.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::plan::{Address, Endpoint};

/// One address that a source says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Found {
    /// Where it is.
    pub address: SocketAddr,
    /// Its share of what its source gets, relative to the source's others; 1 where the source has no such
    /// thing. 0: it is kept, with all that was learnt of it, and gets requests only where no other can.
    pub weight: u32,
    /// The name that its certificate must have, where that is another than the source's own.
    pub host: Option<Arc<str>>,
}

impl From<SocketAddr> for Found {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            weight: 1,
            host: None,
        }
    }
}

/// What each source has said last; the good set is kept when one says nothing (rule 68).
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<Said>);

#[derive(Debug)]
struct Said {
    source: Address,
    found: Vec<Found>,
    /// Whether it has ever answered, be it that it stands for nothing.
    answered: bool,
    /// Why it could not be found out what it stands for, the last time; `None`: it could.
    problem: Option<Arc<str>>,
}

impl Sources {
    /// Forgets what is none of these endpoints.
    pub(super) fn retain(&mut self, endpoints: &[Endpoint]) {
        let is_there = |said: &Said| endpoints.iter().any(|one| one.address == said.source);
        self.0.retain(is_there);
    }

    /// Whether each source among these endpoints has answered.
    pub(super) fn have_answered(&self, endpoints: &[Endpoint]) -> bool {
        let sources = endpoints.iter().map(|endpoint| &endpoint.address);
        let mut sources = sources.filter(|address| address.is_source());
        sources.all(|source| {
            let mut said = self.0.iter();
            said.any(|said| said.answered && said.source == *source)
        })
    }

    /// What a source has said last.
    pub(super) fn said(&self, source: &Address) -> &[Found] {
        let said = self.0.iter().find(|said| said.source == *source);
        said.map_or(&[], |said| &said.found)
    }

    /// A source says these; whether it said something else before.
    pub(super) fn found(&mut self, source: &Address, mut found: Vec<Found>) -> bool {
        // Of an address that is said twice, the greater weight counts.
        found.sort_unstable_by_key(|one| (one.address, u32::MAX - one.weight));
        found.dedup_by_key(|one| one.address);
        let known = self.0.iter_mut().find(|said| said.source == *source);
        match known {
            Some(said) => {
                said.problem = None;
                let is_first = !std::mem::replace(&mut said.answered, true);
                let changed = is_first || said.found != found;
                said.found = found;
                changed
            }
            None => {
                self.0.push(Said {
                    source: source.clone(),
                    found,
                    answered: true,
                    problem: None,
                });
                true
            }
        }
    }

    /// It could not be found out what a source stands for: what it said stays. Whether this is news.
    pub(super) fn not_found(&mut self, source: &Address, problem: &str) -> bool {
        let known = self.0.iter_mut().find(|said| said.source == *source);
        match known {
            Some(said) => said.problem.replace(problem.into()).is_none(),
            None => {
                self.0.push(Said {
                    source: source.clone(),
                    found: Vec::new(),
                    answered: false,
                    problem: Some(problem.into()),
                });
                true
            }
        }
    }

    /// A source says that it stands for nothing, and why: what it said stays until it is taken away.
    /// Whether this is its first answer.
    pub(super) fn nothing(&mut self, source: &Address, why: &str) -> bool {
        self.not_found(source, why);
        let known = self.0.iter_mut().find(|said| said.source == *source);
        known.is_some_and(|said| !std::mem::replace(&mut said.answered, true))
    }

    /// The first source that it could not be found out of what it stands for, and why.
    pub(super) fn problem(&self) -> Option<String> {
        let mut said = self.0.iter();
        said.find_map(|said| Some(format!("{}: {}", said.source, said.problem.as_ref()?)))
    }
}
