//! Listeners and routes.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::origin::{Origin, Place};
use super::super::report::Report;
use super::super::setting::{Fields, Setting, Value};
use super::super::suggest;
use super::super::text;
use super::{Context, Upstreams, policies};
use crate::plan::{
    Listener, ListenerTls, Match, PathPattern, Protocol, Rewrite, Role, Route, SocketAddress,
    Unmatched, ValuePattern,
};

/// Writes a listener's `upstream` as the one route that it stands for, and refuses what a route cannot
/// set. What a route itself sets is known here only, before it inherits.
pub(in crate::config) fn settle_routes(root: &mut Fields, report: &mut Report) {
    let Some(Setting {
        value: Value::Map(listeners),
        ..
    }) = root.get_mut("listeners")
    else {
        return;
    };
    for (name, listener) in listeners {
        let origin = listener.origin.clone();
        let Some(fields) = listener.block_mut() else {
            continue;
        };
        let path = format!("listeners.{name}");
        match (fields.get("upstream").cloned(), fields.lacks("routes")) {
            (Some(upstream), true) => {
                let origin = upstream.origin.clone();
                let route = Fields(vec![("upstream", upstream)]);
                let route = Setting {
                    value: Value::Block(Arc::new(route)),
                    origin: origin.clone(),
                };
                fields
                    .0
                    .push(("routes", Setting::of_list(vec![route], origin)));
                fields.remove("upstream");
            }
            (Some(upstream), false) => {
                let message = "both `upstream` and `routes` are given: `upstream` is short for one route to it";
                report.add(upstream.place(), &format!("{path}.upstream"), message);
            }
            (None, true) => {
                let help = "add `upstream: NAME`, or `routes` with one entry per kind of request";
                report.add_with_help(origin.place(), &path, "the listener has neither `upstream` nor `routes`, so that it has nowhere to send requests", help);
            }
            (None, false) => {}
        }
        refuse_connections(fields, &path, report);
    }
}

/// Connections belong to the upstream, whatever route they are used for.
fn refuse_connections(listener: &Fields, path: &str, report: &mut Report) {
    for (index, route) in listener
        .list("routes")
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let bulkhead = route.block().and_then(|route| route.block("bulkhead"));
        if let Some(setting) = bulkhead.and_then(|bulkhead| bulkhead.get("max_connections")) {
            let path = format!("{path}.routes[{index}].bulkhead.max_connections");
            report.add_with_help(
                setting.place(),
                &path,
                "a route has no connections of its own: all routes to an upstream share them",
                "set `bulkhead.max_connections` at the upstream",
            );
        }
    }
}

/// Gives each route without a name its own: the upstream's, then `upstream.2`, `upstream.3` …
pub(in crate::config) fn name_routes(root: &mut Fields) {
    root.visit_routes(|routes| {
        let mut nameless: HashMap<Arc<str>, usize> = HashMap::new();
        for route in routes.iter_mut().filter_map(Setting::block_mut) {
            let Some(upstream) = route.text("upstream").cloned() else {
                continue;
            };
            if !route.lacks("name") {
                continue;
            }
            let position = nameless.entry(Arc::clone(&upstream)).or_insert(0);
            *position += 1;
            let name = if *position == 1 {
                upstream
            } else {
                format!("{upstream}.{position}").into()
            };
            route.0.insert(
                0,
                (
                    "name",
                    Setting {
                        value: Value::Text(name),
                        origin: Origin::Default,
                    },
                ),
            );
        }
    });
}

/// Makes every listener; `None` when one of them is broken.
pub(super) fn all(
    root: &Fields,
    upstreams: &Upstreams,
    context: &mut Context<'_>,
) -> Option<Vec<Listener>> {
    let entries = root.map("listeners")?;
    if entries.is_empty() {
        let message = "there is no listener: nothing could come in";
        context
            .report
            .add(root.place("listeners"), "listeners", message);
    }
    refuse_shared_addresses(root, entries, context);
    let mut complete = true;
    let mut listeners = Vec::new();
    for (name, setting) in entries {
        match setting
            .block()
            .and_then(|fields| compile(name, fields, upstreams, context))
        {
            Some(listener) => listeners.push(listener),
            None => complete = false,
        }
    }
    complete.then_some(listeners)
}

/// A socket that is to be bound.
struct Socket {
    /// Whose it is.
    owner: String,
    /// The setting that says where.
    path: String,
    at: SocketAddress,
    place: Option<Place>,
}

impl Socket {
    fn of(owner: String, path: String, fields: &Fields, key: &str) -> Option<Self> {
        Some(Self {
            owner,
            path,
            at: text::listen_address(fields.text(key)?).ok()?,
            place: fields.place(key).cloned(),
        })
    }
}

/// Two sockets cannot be bound to one address.
fn refuse_shared_addresses(
    root: &Fields,
    entries: &[(Arc<str>, Setting)],
    context: &mut Context<'_>,
) {
    let ours = [
        ("the admin interface", "address"),
        ("admin.metrics_address", "metrics_address"),
    ];
    let ours = ours.into_iter().filter_map(|(owner, key)| {
        Socket::of(
            owner.into(),
            format!("admin.{key}"),
            root.block("admin")?,
            key,
        )
    });
    let listeners = entries.iter().filter_map(|(name, setting)| {
        let path = format!("listeners.{name}.address");
        let owner = format!("the listener `{name}`");
        Socket::of(owner, path, setting.block()?, "address")
    });
    let mut bound: Vec<Socket> = Vec::new();
    for socket in ours.chain(listeners) {
        if let Some(other) = bound.iter().find(|other| clash(&other.at, &socket.at)) {
            let written = other
                .place
                .as_ref()
                .map(|place| format!(", set at {place}"))
                .unwrap_or_default();
            let message = format!(
                "{} is taken: {} listens on {}{written}",
                socket.at, other.owner, other.at
            );
            context
                .report
                .add(socket.place.as_ref(), &socket.path, message);
        }
        bound.push(socket);
    }
}

/// Whether one socket keeps the other from being bound; the system chooses for port 0.
fn clash(a: &SocketAddress, b: &SocketAddress) -> bool {
    let (Some(a), Some(b)) = (a.ip(), b.ip()) else {
        return a == b;
    };
    let covers = a.ip() == b.ip()
        || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && covers
}

fn compile(
    name: &Arc<str>,
    fields: &Fields,
    upstreams: &Upstreams,
    context: &mut Context<'_>,
) -> Option<Listener> {
    let path = format!("listeners.{name}");
    let routes = routes(fields.list("routes")?, &path, upstreams, context);
    let (timeouts, limits) = (fields.block("timeouts")?, fields.block("limits")?);
    let original_dst = fields.bool("original_dst")?;
    let unmatched = match fields.word("unmatched")? {
        "pass" => Unmatched::Pass,
        _ => Unmatched::Refuse,
    };
    if unmatched == Unmatched::Pass && !original_dst {
        context.report.add_with_help(
            fields.place("unmatched"),
            &format!("{path}.unmatched"),
            "only a redirected connection has a destination of its own that it could pass to",
            "add `original_dst: true` if iptables redirects connections to this listener",
        );
    }
    Some(Listener {
        name: Arc::clone(name),
        address: text::listen_address(fields.text("address")?).ok()?,
        role: match fields.word("role")? {
            "inbound" => Role::Inbound,
            _ => Role::Outbound,
        },
        protocol: protocol(fields)?,
        tls: tls(fields)?,
        original_dst,
        unmatched,
        max_connections: limits.or_none("connections", Fields::integer)?,
        max_streams: limits.integer("streams")?,
        header_timeout: timeouts.duration("header")?,
        idle_timeout: timeouts.duration("idle")?,
        header_size: limits.integer("header_size")?,
        max_headers: limits.integer("headers")?,
        body_size: limits.or_none("body_size", Fields::integer)?,
        routes: routes?,
    })
}

/// How the two ends speak; listeners and upstreams say it alike.
pub(super) fn protocol(fields: &Fields) -> Option<Protocol> {
    Some(match fields.word("protocol")? {
        "http1" => Protocol::Http1,
        "http2" => Protocol::Http2,
        _ => Protocol::Auto,
    })
}

fn tls(fields: &Fields) -> Option<Option<Arc<ListenerTls>>> {
    if fields.lacks("tls") {
        return Some(None);
    }
    let tls = fields.block("tls")?;
    let file = |key| Some(policies::beside_config(tls.text(key)?, tls.get(key)?));
    Some(Some(Arc::new(ListenerTls {
        cert: file("cert")?,
        key: file("key")?,
        client_ca: file("client_ca"),
    })))
}

fn routes(
    items: &[Setting],
    path: &str,
    upstreams: &Upstreams,
    context: &mut Context<'_>,
) -> Option<Vec<Route>> {
    let mut names: HashMap<Arc<str>, Option<Place>> = HashMap::new();
    let mut routes = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}.routes[{index}]");
        let Some(fields) = item.block() else { continue };
        if let Some(name) = fields.text("name")
            && let Some(first) = names.insert(
                Arc::clone(name),
                fields.place("name").or(item.place()).cloned(),
            )
        {
            let at = first
                .map(|first| format!(" at {first}"))
                .unwrap_or_default();
            let message = format!(
                "the route name `{name}` is already used{at}; names label metrics, so that each needs its own"
            );
            context.report.add(
                fields.place("name").or(item.place()),
                &format!("{path}.name"),
                message,
            );
        }
        routes.extend(route(fields, &path, upstreams, context));
    }
    (routes.len() == items.len()).then_some(routes)
}

fn route(
    fields: &Fields,
    path: &str,
    upstreams: &Upstreams,
    context: &mut Context<'_>,
) -> Option<Route> {
    let upstream = fields.text("upstream").and_then(|name| {
        let known = upstreams.by_name.get(name);
        if known.is_none() {
            unknown_upstream(name, fields, path, upstreams, context);
        }
        known.cloned().flatten()
    });
    let matcher = matcher(fields.block("match")?, &format!("{path}.match"), context);
    let rewrite = rewrite(fields, path, context);
    let policies = policies::compile(fields, path, context);
    let rate_limit = fields.get("rate_limit")?;
    // A block that the route writes keeps the route's place, whatever it inherits inside.
    let own_rate_limit =
        rate_limit.block().is_some() && matches!(rate_limit.origin, Origin::Written(_));
    Some(Route {
        name: fields.text("name")?.clone(),
        matcher: matcher?,
        upstream: upstream?,
        rewrite: rewrite?,
        own_rate_limit,
        policies: policies?,
    })
}

fn unknown_upstream(
    name: &str,
    fields: &Fields,
    path: &str,
    upstreams: &Upstreams,
    context: &mut Context<'_>,
) {
    let mut names: Vec<&str> = upstreams.by_name.keys().map(|name| &**name).collect();
    names.sort_unstable();
    let message = format!("there is no upstream `{name}`");
    let help = match suggest::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "add it under `upstreams`".to_owned(),
        None => format!("the upstreams are: {}", names.join(", ")),
    };
    context.report.add_with_help(
        fields.place("upstream"),
        &format!("{path}.upstream"),
        message,
        help,
    );
}

fn matcher(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<Match> {
    let given: Vec<&str> = ["path", "path_prefix", "path_regex"]
        .into_iter()
        .filter(|key| !fields.lacks(key))
        .collect();
    if let [_, second, ..] = given.as_slice() {
        let message = format!(
            "{} are given: a route matches one of them",
            suggest::one_of(&given).replace(" or ", " and ")
        );
        context.report.add(fields.place(second), path, message);
        return None;
    }
    let methods = policies::texts(fields.list("methods")?)?;
    Some(Match {
        host: match fields.get("host") {
            Some(_) => Some(text::host_pattern(fields.text("host")?).ok()?),
            None => None,
        },
        path: match given.first() {
            None => PathPattern::Any,
            Some(&"path") => PathPattern::Exact(fields.text("path")?.clone()),
            Some(&"path_prefix") => PathPattern::Prefix(without_slash(fields.text("path_prefix")?)),
            Some(_) => PathPattern::Regex(text::whole(fields.text("path_regex")?).ok()?),
        },
        methods,
        headers: values(fields, "headers", path, context)?
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase().into(), value))
            .collect(),
        query: values(fields, "query", path, context)?,
    })
}

/// A prefix as whole segments are compared: no slash at its end, unless it is the root.
fn without_slash(prefix: &Arc<str>) -> Arc<str> {
    match prefix.trim_end_matches('/') {
        "" => "/".into(),
        trimmed => trimmed.into(),
    }
}

fn values(
    fields: &Fields,
    key: &str,
    path: &str,
    context: &mut Context<'_>,
) -> Option<Vec<(Arc<str>, ValuePattern)>> {
    let one = |(name, setting): &(Arc<str>, Setting)| {
        let pattern = match (&setting.value, setting.block()) {
            (Value::Text(text), _) => Some(ValuePattern::Exact(Arc::clone(text))),
            (_, Some(block)) => pattern(block, setting, &format!("{path}.{key}.{name}"), context),
            (_, None) => None,
        };
        Some((Arc::clone(name), pattern?))
    };
    fields.map(key)?.iter().map(one).collect()
}

fn pattern(
    block: &Fields,
    setting: &Setting,
    path: &str,
    context: &mut Context<'_>,
) -> Option<ValuePattern> {
    match (block.get("present"), block.get("regex")) {
        (Some(_), None) if block.bool("present")? => Some(ValuePattern::Present),
        (None, Some(_)) => Some(ValuePattern::Regex(text::whole(block.text("regex")?).ok()?)),
        (Some(_), _) | (None, None) => {
            context.report.add(
                setting.place(),
                path,
                "write a value, or { present: true }, or { regex: … }",
            );
            None
        }
    }
}

fn rewrite(route: &Fields, path: &str, context: &mut Context<'_>) -> Option<Rewrite> {
    let fields = route.block("rewrite")?;
    if let Some(setting) = fields.get("path_prefix")
        && fields.text("path_prefix").is_some()
        && route.block("match")?.lacks("path_prefix")
    {
        let message =
            "`rewrite.path_prefix` takes the place of `match.path_prefix`, which is not given";
        let help = "add `match: { path_prefix: / }` to put it in front of every path";
        context.report.add_with_help(
            setting.place(),
            &format!("{path}.rewrite.path_prefix"),
            message,
            help,
        );
    }
    Some(Rewrite {
        path_prefix: fields.text("path_prefix").map(without_slash),
        host: fields.text("host").cloned(),
    })
}
