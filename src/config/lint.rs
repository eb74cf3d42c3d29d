//! What is allowed but hardly meant: settings that cannot act together, and names that nothing reaches.
//! `mamparo check` tells of them with the arithmetic shown; nothing here keeps a configuration from
//! running.
//!
//! A lint that holds for a whole upstream is told once, at the upstream (or at `defaults`, where the value
//! stands there), not for each route that inherits it. Blocks with their defaults never lint.

mod breaker;
mod certificates;
mod fallback;
mod grpc;
mod routes;
mod times;
mod tracing;

use std::fmt;

use super::{Effective, Loaded, Origin, Place};
use crate::plan::{Listener, Match, Policies, Route, Upstream};

/// Something that is allowed but hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// What kind it is; stable, in kebab-case.
    pub id: &'static str,
    /// Where it is written, or the nearest block around it.
    pub place: Option<Place>,
    /// The setting, such as `upstreams.payments.retry.max_attempts`.
    pub path: String,
    /// One sentence, with the numbers.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Lint {
    /// `file:line:column: path: sentence [id]`, `help: …`; no line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}: {} [{}]", self.path, self.message, self.id)?;
        match &self.help {
            Some(help) => write!(f, "\n   = help: {help}"),
            None => Ok(()),
        }
    }
}

/// A lint whose setting is told relative to the upstream or the route.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    id: &'static str,
    /// The setting below the upstream's or the route's own path; empty for the block itself.
    setting: String,
    message: String,
    help: &'static str,
}

/// What a lint of policies looks at.
struct Subject<'a> {
    policies: &'a Policies,
    /// What the route asks for; `None`: the policies are looked at as the upstream's own.
    matcher: Option<&'a Match>,
    upstream: &'a Upstream,
    /// What can come to the upstream at most; `None`: no limit.
    supply: Option<breaker::Supply>,
}

/// Everything about a configuration that is allowed but hardly meant, in the order of the file where its
/// places are known.
pub fn lint(loaded: &Loaded) -> Vec<Lint> {
    let plan = &loaded.plan;
    let mut lints = Lints {
        effective: &loaded.effective,
        lints: Vec::new(),
        likewise: Vec::new(),
    };
    for upstream in &plan.upstreams {
        let routes = routes_to(&plan.listeners, upstream);
        upstream_lints(&mut lints, upstream, &routes);
    }
    for listener in &plan.listeners {
        for (index, found) in routes::shadowed(&listener.routes) {
            lints.of_route(&route_path(listener, index), found);
        }
        for (index, route) in listener.routes.iter().enumerate() {
            if let Some(found) = routes::streaming(route) {
                lints.of_route(&route_path(listener, index), found);
            }
        }
    }
    lints.lints.extend(certificates::lints(loaded));
    lints.lints.extend(tracing::lints(loaded));
    lints.finish()
}

fn upstream_lints(lints: &mut Lints<'_>, upstream: &Upstream, routes: &[(String, &Route)]) {
    if routes.is_empty() {
        lints.of_upstream(upstream, routes::unused(upstream));
        return;
    }
    if let Some(found) = times::pool(&upstream.pool) {
        lints.of_upstream(upstream, found);
    }
    let only: Vec<&Route> = routes.iter().map(|(_, route)| *route).collect();
    let supply = breaker::supply(upstream, &only);
    let subject = |policies, matcher| Subject {
        policies,
        matcher,
        upstream,
        supply,
    };
    let own = policy_lints(&subject(&upstream.policies, None));
    let mut told = vec![false; own.len()];
    for (path, route) in routes {
        for found in policy_lints(&subject(&route.policies, Some(&route.matcher))) {
            match own.iter().position(|own| *own == found) {
                None => lints.of_route(path, found),
                Some(index) if told[index] => {}
                Some(index) => {
                    told[index] = true;
                    lints.of_upstream(upstream, found);
                }
            }
        }
    }
}

fn policy_lints(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    found.extend(times::try_not_below_request(subject.policies));
    found.extend(times::tries_exceed_request(subject.policies));
    found.extend(times::queue_not_below_request(subject.policies));
    found.extend(times::retry_without_budget(subject.policies));
    found.extend(times::unsafe_method_retried(subject));
    found.extend(times::retry_after_ignored(subject.policies));
    found.extend(breaker::lints(subject));
    found.extend(fallback::lints(&subject.policies.fallback));
    found.extend(grpc::lints(subject));
    found
}

/// The routes that lead to an upstream, with their paths.
fn routes_to<'a>(listeners: &'a [Listener], upstream: &Upstream) -> Vec<(String, &'a Route)> {
    let mut routes = Vec::new();
    for listener in listeners {
        for (index, route) in listener.routes.iter().enumerate() {
            if route.upstream.name == upstream.name {
                routes.push((route_path(listener, index), route));
            }
        }
    }
    routes
}

fn route_path(listener: &Listener, index: usize) -> String {
    format!("listeners.{}.routes[{index}]", listener.name)
}

struct Lints<'a> {
    effective: &'a Effective,
    lints: Vec<Lint>,
    /// For each lint, the upstreams beside its own that inherit the same from `defaults`.
    likewise: Vec<Vec<String>>,
}

impl Lints<'_> {
    fn of_upstream(&mut self, upstream: &Upstream, found: Found) {
        let path = below(&format!("upstreams.{}", upstream.name), &found.setting);
        let place = self.effective.place_of(&path).cloned();
        // Two upstreams have a place in common only where both inherit it from `defaults`.
        if place.is_some() {
            let same = |lint: &Lint| {
                lint.id == found.id && lint.place == place && lint.message == found.message
            };
            let told = self.lints.iter().position(same);
            if let Some(likewise) = told.and_then(|index| self.likewise.get_mut(index)) {
                likewise.push(format!("`{}`", upstream.name));
                return;
            }
        }
        self.push(path, place, found);
    }

    /// A value that is not written at the route is told where the route stands: there is what makes it
    /// wrong.
    fn of_route(&mut self, route: &str, found: Found) {
        let path = below(route, &found.setting);
        let origin = self.effective.get(&path).map(|entry| &entry.origin);
        let place = match origin {
            Some(Origin::Written(place)) => Some(place),
            Some(_) | None => self.effective.place_of(route),
        };
        self.push(path, place.cloned(), found);
    }

    fn push(&mut self, path: String, place: Option<Place>, found: Found) {
        self.lints.push(Lint {
            id: found.id,
            place,
            path,
            message: found.message,
            help: Some(found.help.to_owned()),
        });
        self.likewise.push(Vec::new());
    }

    fn finish(self) -> Vec<Lint> {
        let mut lints = self.lints;
        for (lint, likewise) in lints.iter_mut().zip(self.likewise) {
            match likewise.as_slice() {
                [] => {}
                [one] => lint.message += &format!(" (likewise upstream {one})"),
                more => lint.message += &format!(" (likewise upstreams {})", more.join(", ")),
            }
        }
        lints.sort_by_key(|lint| {
            lint.place
                .as_ref()
                .map(|place| (place.file.clone(), place.line))
        });
        lints
    }
}

fn below(path: &str, setting: &str) -> String {
    if setting.is_empty() {
        path.to_owned()
    } else {
        format!("{path}.{setting}")
    }
}

#[cfg(test)]
mod tests;
