//! A service of Kubernetes as an endpoint, and the cluster that it is in.

use std::net::IpAddr;

use super::super::setting::Fields;
use super::super::text;
use super::{Context, policies};
use crate::plan::Address;
use crate::plan::cluster::{Api, Cluster};

/// The service that an endpoint's block names.
pub(super) fn service(fields: &Fields) -> Option<Address> {
    Some(Address::Kubernetes {
        namespace: fields.text("namespace")?.clone(),
        service: fields.text("service")?.clone(),
        port: if fields.lacks("port") {
            "".into()
        } else {
            fields.text("port")?.clone()
        },
    })
}

/// The cluster of the process.
pub(super) fn cluster(fields: &Fields, context: &mut Context<'_>) -> Option<Cluster> {
    let file = |key| Some(policies::beside_config(fields.text(key)?, fields.get(key)?));
    let api = match fields.text("api") {
        Some(text) => Some(text::api(text).ok()?),
        None if fields.lacks("api") => None,
        None => return None,
    };
    let shows_token = api.as_ref().is_some_and(|api| !api.tls && !is_here(api));
    if shows_token && !fields.lacks("token_file") {
        context.report.add_with_help(
            fields.place("token_file"),
            "runtime.kubernetes.token_file",
            "the token would be sent in plaintext, since `api` begins with `http://`",
            "write `https://`, or speak to a `kubectl proxy` on this host, which needs no token",
        );
    }
    Some(Cluster {
        api,
        token_file: file("token_file"),
        ca: file("ca"),
        zone: fields.text("zone").cloned(),
    })
}

/// Whether it is on this host.
fn is_here(api: &Api) -> bool {
    match api.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => &*api.host == "localhost",
    }
}
