//! Which endpoints serve, given what the API says: a pure function.
//!
//! - Those that are ready; where none is, those that are about to end and still serve.
//! - One address is one endpoint, in however many slices it is: while slices are rearranged, it may be in
//!   two of them. Of a pod with addresses of both families, that of IPv4 counts.
//! - At most [`MOST`]: a share that is drawn by chance and differs from process to process, so that each
//!   endpoint has its users.
//! - Those that are meant for our zone, or else located in it, get [`LOCAL_WEIGHT`] times the weight of
//!   the others, if they are at least half as many as an even share of the zones would be: so none of them
//!   gets more than twice its share. The others stay, for when breakers of ours are open.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::objects::{Endpoint, Port, Slice, State};
use crate::live::upstream::Found;
use crate::policy::balance;

/// The most endpoints that are used.
pub(super) const MOST: usize = 1_000;

/// What an endpoint of our zone weighs against one of another.
const LOCAL_WEIGHT: u32 = 100;

/// Ports that a remark lists.
const LISTED: usize = 10;

/// The slices of a service by name.
pub(super) type Slices = BTreeMap<Box<str>, Arc<Slice>>;

/// What is wanted of a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The name or number of the port; empty: the only one.
    pub(super) port: &'a str,
    /// Our own zone.
    pub(super) zone: Option<&'a str>,
    /// What the share is drawn with where there are too many.
    pub(super) seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// The endpoints in use, in the order of their addresses.
    pub(super) found: Vec<Found>,
    /// How many of them are preferred for our zone.
    pub(super) local: usize,
    /// What an operator should hear of; mostly nothing.
    pub(super) remarks: Vec<Remark>,
}

/// What an operator should hear of once, for as long as it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remark {
    /// By this it is known again: the numbers in the sentence change with every pod.
    pub(super) about: About,
    /// A sentence without a full stop.
    pub(super) text: String,
}

/// What a remark is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    /// There is no slice.
    NoSlice,
    /// Addresses of that type.
    Foreign(Box<str>),
    /// Endpoints without an address that can be read.
    Unreadable,
    /// A port that is not there.
    Port,
    /// Several ports, and none was named.
    Ports,
    /// No endpoint is ready.
    NoneReady,
    /// No endpoint is ready, and those that end are used.
    Draining,
    /// There are too many.
    TooMany,
}

/// Which endpoints of these slices are to be used.
pub(super) fn serving(slices: &Slices, wanted: Wanted<'_>) -> Choice {
    let mut remarks = Vec::new();
    if slices.is_empty() {
        remarks.push(Remark {
            about: About::NoSlice,
            text:
                "it has no EndpointSlice: is there a service of that name, and has it a selector?"
                    .to_owned(),
        });
    }
    left_out(slices, &mut remarks);
    let all = merged(slices, wanted.port, &mut remarks);
    let mut used = best(all, &mut remarks);
    bound(&mut used, wanted.seed, &mut remarks);
    used.sort_unstable_by_key(|one| one.0);
    let local = wanted.zone.map_or_else(Vec::new, |zone| local(&used, zone));
    let weight = |place: usize| match local.get(place) {
        Some(true) => LOCAL_WEIGHT,
        Some(false) | None => 1,
    };
    Choice {
        local: local.iter().filter(|local| **local).count(),
        found: used
            .iter()
            .enumerate()
            .map(|(place, (address, _))| Found {
                weight: weight(place),
                ..(*address).into()
            })
            .collect(),
        remarks,
    }
}

type Candidate<'a> = (SocketAddr, &'a Endpoint);

/// Tells of what is in the slices and cannot be used.
fn left_out(slices: &Slices, remarks: &mut Vec<Remark>) {
    let foreign: BTreeSet<&str> = slices
        .values()
        .filter_map(|slice| slice.foreign.as_deref())
        .collect();
    for kind in foreign {
        let text = format!(
            "its endpoints of the address type `{kind}` are left out: only IPv4 and IPv6 are used; \
             name such hosts themselves in `endpoints`"
        );
        let about = About::Foreign(kind.into());
        remarks.push(Remark { about, text });
    }
    let local = slices.values().filter(|slice| slice.foreign.is_none());
    let unusable: usize = local.map(|slice| slice.unusable).sum();
    if unusable > 0 {
        remarks.push(Remark {
            about: About::Unreadable,
            text: format!(
                "{unusable} of its endpoints have no address that can be read, and are left out"
            ),
        });
    }
}

/// Every address once, as its best slice has it.
fn merged<'a>(slices: &'a Slices, port: &str, remarks: &mut Vec<Remark>) -> Vec<Candidate<'a>> {
    let usable = || slices.values().filter(|slice| slice.foreign.is_none());
    let only = port.is_empty().then(|| only_name(usable(), remarks));
    let mut merged: HashMap<SocketAddr, &Endpoint> = HashMap::new();
    let mut with_endpoints = false;
    for slice in usable() {
        with_endpoints |= !slice.endpoints.is_empty();
        let number = match &only {
            Some(Some(name)) => number_of(&slice.ports, |port| port.name == *name, None),
            Some(None) => None,
            None => number_by(&slice.ports, port),
        };
        let Some(number) = number else { continue };
        for endpoint in &slice.endpoints {
            let known = merged
                .entry(SocketAddr::new(endpoint.address, number))
                .or_insert(endpoint);
            if known.state < endpoint.state {
                *known = endpoint;
            }
        }
    }
    if merged.is_empty() && with_endpoints && !port.is_empty() {
        remarks.push(Remark {
            about: About::Port,
            text: format!(
                "no endpoint of it has the port `{port}`; {} (a number is the port at the pods, which \
                 the service calls targetPort)",
                listed(usable())
            ),
        });
    }
    one_family(&mut merged);
    merged.into_iter().collect()
}

/// The name of the only port; `None`: there are several, or none.
fn only_name<'a>(
    slices: impl Iterator<Item = &'a Arc<Slice>> + Clone,
    remarks: &mut Vec<Remark>,
) -> Option<Box<str>> {
    let ports = slices.clone().flat_map(|slice| &slice.ports);
    let names: BTreeSet<&str> = ports.map(|port| &*port.name).collect();
    if names.len() > 1 {
        remarks.push(Remark {
            about: About::Ports,
            text: format!(
                "it has several ports, and `port` does not say which is meant; {}",
                listed(slices)
            ),
        });
        return None;
    }
    names.first().map(|name| (*name).into())
}

/// The number of the port that is wanted by its name, or by its number.
fn number_by(ports: &[Port], wanted: &str) -> Option<u16> {
    let as_number: Option<u16> = wanted.parse().ok();
    number_of(ports, |port| *port.name == *wanted, as_number).or_else(|| {
        let number = as_number?;
        let is_it = |port: &Port| port.number.is_none_or(|known| known == number);
        number_of(ports, is_it, as_number)
    })
}

/// The number of the port that it is; `any` where the slice says that every number will do.
fn number_of(ports: &[Port], is_it: impl Fn(&Port) -> bool, any: Option<u16>) -> Option<u16> {
    ports.iter().find(|port| is_it(port))?.number.or(any)
}

/// What ports there are, as a sentence says it.
fn listed<'a>(slices: impl Iterator<Item = &'a Arc<Slice>>) -> String {
    let ports: BTreeSet<String> = slices
        .flat_map(|slice| &slice.ports)
        .map(|port| match (&*port.name, port.number) {
            ("", Some(number)) => number.to_string(),
            (name, Some(number)) => format!("{name} ({number})"),
            (name, None) => name.to_owned(),
        })
        .collect();
    if ports.is_empty() {
        return "there is none of TCP".to_owned();
    }
    let more = if ports.len() > LISTED { ", …" } else { "" };
    let first: Vec<String> = ports.into_iter().take(LISTED).collect();
    format!("there is {}{more}", first.join(", "))
}

/// A pod with an address of each family is one endpoint, and not two.
fn one_family(merged: &mut HashMap<SocketAddr, &Endpoint>) {
    if !merged.keys().any(SocketAddr::is_ipv6) {
        return;
    }
    let best_of_v4: HashMap<Arc<str>, State> = merged
        .values()
        .filter(|endpoint| endpoint.address.is_ipv4())
        .filter_map(|endpoint| Some((endpoint.pod.clone()?, endpoint.state)))
        .collect();
    merged.retain(|_, endpoint| {
        let twin = endpoint.pod.as_ref().and_then(|pod| best_of_v4.get(pod));
        matches!(endpoint.address, IpAddr::V4(_))
            || twin.is_none_or(|state| *state < endpoint.state)
    });
}

/// Those that are ready; where none is, those that still serve.
fn best<'a>(all: Vec<Candidate<'a>>, remarks: &mut Vec<Remark>) -> Vec<Candidate<'a>> {
    let of = |state: State| -> Vec<Candidate<'a>> {
        let all = all.iter().copied();
        all.filter(|(_, endpoint)| endpoint.state == state)
            .collect()
    };
    let ready = of(State::Ready);
    if !ready.is_empty() || all.is_empty() {
        return ready;
    }
    let draining = of(State::Draining);
    let text = format!("none of its endpoints is ready, of {}", all.len());
    remarks.push(match draining.len() {
        0 => Remark {
            about: About::NoneReady,
            text,
        },
        some => Remark {
            about: About::Draining,
            text: format!("{text}; {some} that are about to end still serve, and are used"),
        },
    });
    draining
}

/// Keeps a share that is drawn by chance where there are too many; the same one each time.
fn bound(used: &mut Vec<Candidate<'_>>, seed: u64, remarks: &mut Vec<Remark>) {
    if used.len() <= MOST {
        return;
    }
    remarks.push(Remark {
        about: About::TooMany,
        text: format!(
            "it has {} endpoints; {MOST} of them, drawn by chance, are used",
            used.len()
        ),
    });
    used.sort_by_cached_key(|(address, _)| balance::hash(format!("{seed} {address}").as_bytes()));
    used.truncate(MOST);
}

/// Which are preferred for our zone; empty: none is, since none, all or too few are of it.
fn local(used: &[Candidate<'_>], own: &str) -> Vec<bool> {
    let hinted = used.iter().all(|(_, one)| !one.for_zones.is_empty());
    let is_local = |one: &Endpoint| {
        if hinted {
            one.for_zones.iter().any(|zone| **zone == *own)
        } else {
            one.zone.as_deref() == Some(own)
        }
    };
    let local: Vec<bool> = used.iter().map(|(_, one)| is_local(one)).collect();
    let count = local.iter().filter(|local| **local).count();
    let zones = used.iter().filter_map(|(_, one)| one.zone.as_deref());
    let zones = zones.chain([own]).collect::<HashSet<_>>().len();
    // At least half of an even share: count >= used / zones / 2.
    let enough = count * zones * 2 >= used.len();
    if count == 0 || count == used.len() || !enough {
        return Vec::new();
    }
    local
}

#[cfg(test)]
mod tests;
