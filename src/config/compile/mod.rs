//! From complete settings to a [`Plan`]. Values are right by themselves here; what is judged is how they
//! go together. A part that returns `None` depends on something that the report already tells of.

mod health;
mod kubernetes;
mod listener;
mod loops;
mod policies;
mod tracing;
mod upstream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use super::report::Report;
use super::setting::{Fields, Setting, Value};
use super::source::Contents;
use super::text;
use crate::plan::{
    AccessLog, ErrorFormat, Errors, Explain, Keep, LogDestination, Plan, Runtime, Upstream,
};

pub(super) use listener::{name_routes, settle_routes};
pub(super) use loops::loops;
pub(super) use policies::{MAX_BODY, Made};

/// What compiling needs beside the settings.
pub(super) struct Context<'a> {
    /// Where problems go.
    pub(super) report: &'a mut Report,
    /// What was read; files of bodies are added.
    pub(super) contents: &'a mut Contents,
    /// Policies that were made already.
    pub(super) made: policies::Made,
}

/// Makes a plan of complete settings.
pub(super) fn plan(root: &Fields, context: &mut Context<'_>) -> Option<Plan> {
    let upstreams = upstreams(root, context);
    let listeners = listener::all(root, &upstreams, context);
    let tracing = tracing::compile(root, context);
    let (runtime, admin) = (root.block("runtime")?, root.block("admin")?);
    Some(Plan {
        service: root.text("service")?.clone(),
        admin: text::listen_address(admin.text("address")?).ok()?,
        metrics: match admin.lacks("metrics_address") {
            true => None,
            false => Some(text::listen_address(admin.text("metrics_address")?).ok()?),
        },
        runtime: Runtime {
            workers: NonZeroUsize::new(runtime.integer("workers")?)?,
            drain: runtime.duration("drain")?,
            max_connections: runtime.integer("max_connections")?,
            dns_servers: dns_servers(runtime.block("dns")?)?,
            kubernetes: kubernetes::cluster(runtime.block("kubernetes")?, context)?,
        },
        errors: errors(root.block("errors")?)?,
        access_log: access_log(root.block("access_log")?)?,
        explain: root.or_none("explain", explain)?,
        tracing: tracing?,
        listeners: listeners?,
        upstreams: upstreams.in_order,
    })
}

/// The upstreams that could be compiled, and the names of all that are written.
struct Upstreams {
    in_order: Vec<Arc<Upstream>>,
    by_name: HashMap<Arc<str>, Option<Arc<Upstream>>>,
}

fn upstreams(root: &Fields, context: &mut Context<'_>) -> Upstreams {
    let mut all = Upstreams {
        in_order: Vec::new(),
        by_name: HashMap::new(),
    };
    for (name, setting) in root.map("upstreams").unwrap_or_default() {
        let path = format!("upstreams.{name}");
        let compiled = setting
            .block()
            .and_then(|fields| upstream::compile(name, fields, &path, context))
            .map(Arc::new);
        all.in_order.extend(compiled.clone());
        all.by_name.insert(Arc::clone(name), compiled);
    }
    all
}

fn dns_servers(fields: &Fields) -> Option<Vec<SocketAddr>> {
    if fields.lacks("servers") {
        return Some(Vec::new());
    }
    let servers = fields.list("servers")?.iter();
    let server = |setting: &Setting| {
        let Value::Text(text) = &setting.value else {
            return None;
        };
        text::dns_server(text).ok()
    };
    servers.map(server).collect()
}

fn errors(fields: &Fields) -> Option<Errors> {
    Some(Errors {
        format: match fields.word("format")? {
            "problem" => ErrorFormat::Problem,
            _ => ErrorFormat::Contract,
        },
        documentation_url: fields.text("documentation_url").cloned(),
    })
}

fn explain(root: &Fields, key: &str) -> Option<Explain> {
    let fields = root.block(key)?;
    Some(Explain {
        keep: fields.integer("keep")?,
        slower_than: fields.duration("slower_than")?,
    })
}

fn access_log(fields: &Fields) -> Option<AccessLog> {
    let destination = match (fields.word("destination"), fields.text("destination")) {
        (Some("off"), _) => None,
        (Some("stderr"), _) => Some(LogDestination::Stderr),
        (Some(_), _) => Some(LogDestination::Stdout),
        (None, Some(file)) => Some(LogDestination::File(PathBuf::from(&**file))),
        (None, None) => return None,
    };
    let keep = match fields.word("keep")? {
        "failures" => Keep::Failures,
        _ => Keep::All,
    };
    Some(AccessLog { destination, keep })
}
