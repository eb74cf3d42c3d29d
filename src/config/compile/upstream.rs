//! Upstreams: endpoints, balance, pool.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::keys::WHAT_AN_ENDPOINT_IS;
use super::super::origin::Place;
use super::super::setting::{Fields, Setting, Value};
use super::super::suggest;
use super::super::text::{self, Scheme};
use super::listener::protocol;
use super::{Context, health, kubernetes, policies};
use crate::plan::{Address, Endpoint, Pool, Upstream, UpstreamTls};
use crate::policy::balance;

/// Makes an upstream.
pub(super) fn compile(
    name: &Arc<str>,
    fields: &Fields,
    path: &str,
    context: &mut Context<'_>,
) -> Option<Upstream> {
    let endpoints = endpoints(fields, path, context);
    let tls = tls(fields, path, context);
    let health_check = health::compile(fields, endpoints.as_deref(), path, context);
    let policies = policies::compile(fields, path, context);
    let pool = fields.block("pool")?;
    Some(Upstream {
        name: Arc::clone(name),
        endpoints: endpoints?,
        protocol: protocol(fields)?,
        tls: tls?,
        critical: fields.bool("critical")?,
        balance: balance(fields)?,
        pool: Pool {
            idle_timeout: pool.duration("idle_timeout")?,
            max_idle: pool.integer("max_idle")?,
            max_requests_per_connection: pool
                .or_none("max_requests_per_connection", Fields::integer)?,
            max_connection_age: pool.or_none("max_connection_age", Fields::duration)?,
            ping_interval: pool.or_none("ping_interval", Fields::duration)?,
        },
        max_connections: match fields.block("bulkhead") {
            Some(bulkhead) => bulkhead.or_none("max_connections", Fields::integer)?,
            None => None,
        },
        health_check: health_check?,
        policies: policies?,
    })
}

fn tls(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<Option<Arc<UpstreamTls>>> {
    if fields.lacks("tls") {
        return Some(None);
    }
    let tls = fields.block("tls")?;
    let file = |key| Some(policies::beside_config(tls.text(key)?, tls.get(key)?));
    let identity = match (file("cert"), file("key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (cert, _) => {
            let (given, missing) = if cert.is_some() {
                ("cert", "key")
            } else {
                ("key", "cert")
            };
            let message = format!("`{given}` is given without `{missing}`: each needs the other");
            let path = format!("{path}.tls.{given}");
            context.report.add(tls.place(given), &path, message);
            return None;
        }
    };
    Some(Some(Arc::new(UpstreamTls {
        ca: file("ca"),
        identity,
        server_name: tls.text("server_name").cloned(),
    })))
}

fn balance(fields: &Fields) -> Option<balance::Settings> {
    if let Some(block) = fields.block("balance") {
        let header = block
            .block("hash")?
            .text("header")?
            .to_ascii_lowercase()
            .into();
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
    let under_tls = !fields.lacks("tls");
    for (index, setting) in fields.list("endpoints")?.iter().enumerate() {
        let path_of_it = format!("{path}.endpoints[{index}]");
        let Some((mut endpoint, scheme, place)) = endpoint(setting, &path_of_it, context) else {
            complete = false;
            continue;
        };
        endpoint.tls = scheme == Scheme::Https || (scheme == Scheme::None && under_tls);
        if scheme == Scheme::Http && under_tls {
            context.report.add_with_help(
                place,
                &path_of_it,
                "`http://` says plaintext, but the upstream has a `tls` block",
                "write `https://`, or no scheme at all",
            );
        }
        if let Some(first) = seen.get(&endpoint.address) {
            let at = first
                .as_ref()
                .map(|first| format!(" at {first}"))
                .unwrap_or_default();
            let message = format!("the endpoint {} is already there{at}", endpoint.address);
            let help = "to send it more traffic, give it a `weight`";
            context
                .report
                .add_with_help(place, &path_of_it, message, help);
        }
        seen.insert(endpoint.address.clone(), place.cloned());
        endpoints.push(endpoint);
    }
    complete.then_some(endpoints)
}

fn endpoint<'a>(
    setting: &'a Setting,
    path: &str,
    context: &mut Context<'_>,
) -> Option<(Endpoint, Scheme, Option<&'a Place>)> {
    let (what, weight, place) = match (&setting.value, setting.block()) {
        (Value::Text(address), _) => (text::endpoint(address), 1, setting.place()),
        (_, Some(fields)) => {
            let given: Vec<&str> = WHAT_AN_ENDPOINT_IS
                .into_iter()
                .filter(|key| !fields.lacks(key))
                .collect();
            let what = match given[..] {
                ["srv"] => text::srv(fields.text("srv")?).map(|srv| (srv, Scheme::None)),
                ["kubernetes"] => Ok((
                    kubernetes::service(fields.block("kubernetes")?)?,
                    Scheme::None,
                )),
                [_] => text::endpoint(fields.text("address")?),
                [] => {
                    let message = format!(
                        "an endpoint needs {}",
                        suggest::one_of(&WHAT_AN_ENDPOINT_IS)
                    );
                    context.report.add(setting.place(), path, message);
                    return None;
                }
                [_, second, ..] => {
                    let message = format!(
                        "{} are given: an endpoint is one of them",
                        suggest::one_of(&given).replace(" or ", " and ")
                    );
                    context.report.add(fields.place(second), path, message);
                    return None;
                }
            };
            let place = given.first().and_then(|key| fields.place(key));
            (what, fields.integer("weight")?, place)
        }
        (_, None) => return None,
    };
    let (address, scheme) = what.ok()?;
    Some((
        Endpoint {
            address,
            tls: false,
            weight,
        },
        scheme,
        place,
    ))
}
