//! Upstreams: endpoints, balance, pool.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::origin::Place;
use super::super::setting::{Fields, Setting, Value};
use super::super::text;
use super::{Context, policies};
use crate::plan::{Address, Endpoint, Pool, Protocol, Upstream};
use crate::policy::balance;

/// Makes an upstream.
pub(super) fn compile(
    name: &Arc<str>,
    fields: &Fields,
    path: &str,
    context: &mut Context<'_>,
) -> Option<Upstream> {
    let endpoints = endpoints(fields, path, context);
    let policies = policies::compile(fields, path, context);
    let pool = fields.block("pool")?;
    Some(Upstream {
        name: Arc::clone(name),
        endpoints: endpoints?,
        protocol: Protocol::Auto,
        tls: None,
        critical: fields.bool("critical")?,
        balance: balance(fields)?,
        pool: Pool {
            idle_timeout: pool.duration("idle_timeout")?,
            max_idle: pool.integer("max_idle")?,
            max_requests_per_connection: pool
                .or_none("max_requests_per_connection", Fields::integer)?,
            max_connection_age: None,
            ping_interval: None,
        },
        max_connections: match fields.block("bulkhead") {
            Some(bulkhead) => bulkhead.or_none("max_connections", Fields::integer)?,
            None => None,
        },
        policies: policies?,
    })
}

fn balance(fields: &Fields) -> Option<balance::Settings> {
    if let Some(block) = fields.block("balance") {
        let header = block
            .block("hash")?
            .text("header")?
            .to_ascii_lowercase()
            .into_boxed_str();
        return Some(balance::Settings::Hash { header });
    }
    Some(match fields.word("balance")? {
        "round_robin" => balance::Settings::RoundRobin,
        "random" => balance::Settings::Random,
        _ => balance::Settings::LeastRequest,
    })
}

fn endpoints(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<Vec<Endpoint>> {
    let mut seen: HashMap<Address, Option<Place>> = HashMap::new();
    let mut endpoints = Vec::new();
    let mut complete = true;
    for (index, setting) in fields.list("endpoints")?.iter().enumerate() {
        let Some((endpoint, place)) = endpoint(setting) else {
            complete = false;
            continue;
        };
        if let Some(first) = seen.get(&endpoint.address) {
            let at = first
                .as_ref()
                .map(|first| format!(" at {first}"))
                .unwrap_or_default();
            let message = format!("the endpoint {} is already there{at}", endpoint.address);
            let help = "to send it more traffic, give it a `weight`";
            context.report.add_with_help(
                place,
                &format!("{path}.endpoints[{index}]"),
                message,
                help,
            );
        }
        seen.insert(endpoint.address.clone(), place.cloned());
        endpoints.push(endpoint);
    }
    complete.then_some(endpoints)
}

fn endpoint(setting: &Setting) -> Option<(Endpoint, Option<&Place>)> {
    let (address, weight, place) = match (&setting.value, setting.block()) {
        (Value::Text(address), _) => (address, 1, setting.place()),
        (_, Some(fields)) => (
            fields.text("address")?,
            fields.integer("weight")?,
            fields.place("address"),
        ),
        (_, None) => return None,
    };
    Some((
        Endpoint {
            address: text::endpoint(address).ok()?,
            tls: false,
            weight,
        },
        place,
    ))
}
