//! The policies of an upstream or a route.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::keys::POLICIES;
use super::super::setting::{Fields, Setting, Value};
use super::super::source;
use super::super::text;
use super::Context;
use crate::plan::{Fallback, Policies, Respond};
use crate::policy::grpc::{Code, CodeSet};
use crate::policy::outcome::StatusSet;
use crate::policy::{backoff, breaker, budget, bulkhead, fallback, rate_limit, retry, timeout};

/// The largest body of a fallback; it is kept in memory.
pub(in crate::config) const MAX_BODY: u64 = 1 << 20;

/// Headers of an answer that follow from its body or its connection.
const OUR_HEADERS: [&str; 7] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Policies by the addresses of the blocks that they were made of: most routes inherit theirs whole, and
/// share what was made of them.
pub(in crate::config) type Made = HashMap<Vec<usize>, Policies>;

/// Makes the policies that stand in a block.
pub(super) fn compile(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<Policies> {
    let blocks: Option<Vec<usize>> = POLICIES
        .iter()
        .map(|key| address(fields.get(key.name)?))
        .collect();
    if let Some(made) = blocks.as_ref().and_then(|blocks| context.made.get(blocks)) {
        return Some(made.clone());
    }
    let policies = compile_each(fields, path, context)?;
    if let Some(blocks) = blocks {
        context.made.insert(blocks, policies.clone());
    }
    Some(policies)
}

/// Where a policy's settings are, for as long as the configuration is; 0: it is off.
fn address(policy: &Setting) -> Option<usize> {
    match &policy.value {
        Value::Block(fields) => Some(Arc::as_ptr(fields).addr()),
        Value::List(items) => Some(Arc::as_ptr(items).addr()),
        Value::Word("off") => Some(0),
        Value::Broken
        | Value::Word(_)
        | Value::Duration(_)
        | Value::Size(_)
        | Value::Share(_)
        | Value::Count(_)
        | Value::Number(_)
        | Value::Bool(_)
        | Value::Text(_)
        | Value::Map(_) => None,
    }
}

fn compile_each(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<Policies> {
    let timeouts = switched(fields, "timeouts", timeouts);
    let retry = switched(fields, "retry", |block| {
        retry(block, &format!("{path}.retry"), context)
    });
    let breaker = switched(fields, "circuit_breaker", |block| {
        breaker(block, &format!("{path}.circuit_breaker"), context)
    });
    let bulkhead = switched(fields, "bulkhead", bulkhead);
    let rate_limit = switched(fields, "rate_limit", rate_limit);
    let fallback = fallbacks(fields, path, context);
    Some(Policies {
        timeouts: timeouts?.unwrap_or_default(),
        retry: retry?.map(Arc::new),
        circuit_breaker: breaker?.map(Arc::new),
        bulkhead: bulkhead?,
        rate_limit: rate_limit?,
        fallback: fallback?.into(),
    })
}

/// A policy that may be off: `Some(None)`.
pub(super) fn switched<T>(
    fields: &Fields,
    key: &str,
    read: impl FnOnce(&Fields) -> Option<T>,
) -> Option<Option<T>> {
    match fields.block(key) {
        Some(block) => read(block).map(Some),
        None => (fields.word(key) == Some("off")).then_some(None),
    }
}

fn timeouts(fields: &Fields) -> Option<timeout::Settings> {
    Some(timeout::Settings {
        connect: fields.or_none("connect", Fields::duration)?,
        request: fields.or_none("request", Fields::duration)?,
        per_try: fields.or_none("try", Fields::duration)?,
        idle: fields.or_none("idle", Fields::duration)?,
    })
}

fn retry(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<retry::Settings> {
    let backoff = backoff(
        fields.block("backoff")?,
        &format!("{path}.backoff"),
        context,
    );
    let by_class = by_class(fields.block("by_class")?, path, context);
    let budget = switched(fields, "budget", |block| {
        Some(budget::Settings {
            ratio: block.real("ratio")?,
            min_per_second: block.real("min_per_second")?,
            window: block.duration("window")?,
        })
    });
    let mut on = retry::Conditions::default();
    for word in texts(fields.list("on")?)? {
        on.add(&word).ok()?;
    }
    Some(retry::Settings {
        max_attempts: fields.integer("max_attempts")?,
        on,
        methods: methods(fields)?,
        backoff: backoff?,
        budget: budget?,
        respect_retry_after: fields.bool("respect_retry_after")?,
        max_retry_after: fields.duration("max_retry_after")?,
        max_body: fields.integer("max_body")?,
        by_class: by_class?,
    })
}

/// The texts of a list; `None` when one of them is broken.
pub(super) fn texts(items: &[Setting]) -> Option<Vec<Arc<str>>> {
    let text = |item: &Setting| {
        if let Value::Text(text) = &item.value {
            Some(Arc::clone(text))
        } else {
            None
        }
    };
    items.iter().map(text).collect()
}

fn methods(fields: &Fields) -> Option<retry::Methods> {
    if let Some(list) = fields.list("methods") {
        let list = texts(list)?
            .iter()
            .map(|method| Box::from(&**method))
            .collect();
        return Some(retry::Methods::List(list));
    }
    Some(match fields.word("methods")? {
        "all" => retry::Methods::All,
        _ => retry::Methods::Idempotent,
    })
}

fn backoff(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<backoff::Settings> {
    let (base, max) = (fields.duration("base")?, fields.duration("max")?);
    if base > max {
        let (base, max) = (fields.get("base")?, fields.get("max")?);
        let message = format!(
            "the first wait is longer than the longest: base is {}, max is {}",
            base.value, max.value
        );
        context.report.add(
            base.place().or(max.place()),
            &format!("{path}.base"),
            message,
        );
    }
    let kind = match fields.word("kind")? {
        "linear" => backoff::Kind::Linear,
        "fixed" => backoff::Kind::Fixed,
        _ => backoff::Kind::Exponential,
    };
    let jitter = match fields.word("jitter")? {
        "equal" => backoff::Jitter::Equal,
        "none" => backoff::Jitter::None,
        _ => backoff::Jitter::Full,
    };
    Some(backoff::Settings {
        kind,
        base,
        max,
        jitter,
    })
}

fn by_class(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<retry::ByClass> {
    let mut rule = |class: &str| match fields.get(class) {
        None => Some(None),
        Some(setting) => {
            let rule = setting.block()?;
            let path = format!("{path}.by_class.{class}.backoff");
            Some(Some(retry::ClassRule {
                max_attempts: rule.integer("max_attempts")?,
                backoff: backoff(rule.block("backoff")?, &path, context)?,
            }))
        }
    };
    let rules = [
        rule("transient"),
        rule("timeout"),
        rule("rate_limited"),
        rule("unavailable"),
    ];
    let [transient, timeout, rate_limited, unavailable] = rules;
    Some(retry::ByClass {
        transient: transient?,
        timeout: timeout?,
        rate_limited: rate_limited?,
        unavailable: unavailable?,
    })
}

fn breaker(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<breaker::Settings> {
    let slow_rate = fields.or_none("slow_rate", Fields::real)?;
    let slow_call = fields.or_none("slow_call", Fields::duration)?;
    for (set, missing, key, other) in [
        (
            slow_rate.is_some(),
            slow_call.is_none(),
            "slow_rate",
            "slow_call",
        ),
        (
            slow_call.is_some(),
            slow_rate.is_none(),
            "slow_call",
            "slow_rate",
        ),
    ] {
        if set && missing {
            let message = format!("`{key}` does nothing without `{other}`: set both, or neither");
            context
                .report
                .add(fields.place(key), &format!("{path}.{key}"), message);
        }
    }
    let (open_for, max_open_for) = (
        fields.duration("open_for")?,
        fields.duration("max_open_for")?,
    );
    if open_for > max_open_for {
        let (first, longest) = (fields.get("open_for")?, fields.get("max_open_for")?);
        let message = format!(
            "open_for is {}, which is above max_open_for, {}",
            first.value, longest.value
        );
        context.report.add(
            first.place().or(longest.place()),
            &format!("{path}.open_for"),
            message,
        );
    }
    let (ignore, ignore_codes) = ignored(fields)?;
    Some(breaker::Settings {
        consecutive_failures: fields.or_none("consecutive_failures", Fields::integer)?,
        failure_rate: fields.or_none("failure_rate", Fields::real)?,
        slow_rate,
        slow_call,
        peer_deviation: fields.or_none("peer_deviation", Fields::real)?,
        window: fields.duration("window")?,
        min_requests: fields.integer("min_requests")?,
        open_for,
        max_open_for,
        probes: fields.integer("probes")?,
        ramp: fields.duration("ramp")?,
        max_open: fields.real("max_open")?,
        when_all_open: match fields.word("when_all_open")? {
            "send_anyway" => breaker::WhenAllOpen::SendAnyway,
            _ => breaker::WhenAllOpen::Refuse,
        },
        ignore,
        ignore_codes,
    })
}

fn ignored(fields: &Fields) -> Option<(StatusSet, CodeSet)> {
    let (mut statuses, mut codes) = (StatusSet::EMPTY, CodeSet::EMPTY);
    for word in texts(fields.list("ignore")?)? {
        let (some, few) = text::ignorable(&word).ok()?;
        some.iter().for_each(|status| statuses.insert(status));
        codes = codes.union(few);
    }
    Some((statuses, codes))
}

fn bulkhead(fields: &Fields) -> Option<bulkhead::Settings> {
    Some(bulkhead::Settings {
        max_in_flight: fields.or_none("max_in_flight", Fields::integer)?,
        max_queue: fields.integer("max_queue")?,
        queue_timeout: fields.duration("queue_timeout")?,
    })
}

fn rate_limit(fields: &Fields) -> Option<rate_limit::Settings> {
    Some(rate_limit::Settings {
        per_second: fields.real("per_second")?,
        burst: fields.real("burst")?,
    })
}

fn fallbacks(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<Vec<Fallback>> {
    if fields.word("fallback") == Some("off") {
        return Some(Vec::new());
    }
    let items = fields.list("fallback")?.iter().enumerate();
    let all: Vec<_> = items
        .map(|(index, item)| {
            compile_fallback(item.block()?, &format!("{path}.fallback[{index}]"), context)
        })
        .collect();
    all.into_iter().collect()
}

fn compile_fallback(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<Fallback> {
    let respond = respond(
        fields.block("respond")?,
        &format!("{path}.respond"),
        context,
    );
    Some(Fallback {
        on: fallback_on(fields)?,
        respond: respond?,
    })
}

fn fallback_on(fields: &Fields) -> Option<fallback::Conditions> {
    // The only word that may stand alone.
    if fields.word("on") == Some("any") {
        return Some(fallback::Conditions::any());
    }
    let mut on = fallback::Conditions::default();
    for word in texts(fields.list("on")?)? {
        on.add(&word).ok()?;
    }
    Some(on)
}

fn respond(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<Respond> {
    let headers = headers(fields, path, context);
    let body = body(fields, path, context);
    let grpc_status = fields
        .get("grpc_status")
        .and_then(|_| fields.word("grpc_status"));
    Some(Respond {
        grpc_status: grpc_status.and_then(Code::from_name),
        status: fields.integer("status")?,
        headers: headers?,
        body: body?,
    })
}

pub(super) fn headers(
    fields: &Fields,
    path: &str,
    context: &mut Context<'_>,
) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let mut headers: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for (name, setting) in fields.map("headers")? {
        let Value::Text(value) = &setting.value else {
            return None;
        };
        let lower = name.to_ascii_lowercase();
        let path = format!("{path}.headers.{name}");
        if OUR_HEADERS.contains(&lower.as_str()) {
            let message =
                format!("mamparo sets `{lower}` itself, from the body and the connection");
            context
                .report
                .add_with_help(setting.place(), &path, message, "remove it");
        } else if headers.iter().any(|(other, _)| **other == lower) {
            context.report.add(
                setting.place(),
                &path,
                format!("the header `{lower}` is already set; case makes no difference"),
            );
        }
        headers.push((lower.into(), Arc::clone(value)));
    }
    Some(headers)
}

fn body(fields: &Fields, path: &str, context: &mut Context<'_>) -> Option<Arc<[u8]>> {
    let Some(setting) = fields.get("body_file") else {
        return match fields.get("body") {
            None => Some(Arc::from([])),
            Some(_) => fields.text("body").map(|body| Arc::from(body.as_bytes())),
        };
    };
    let path = format!("{path}.body_file");
    if !fields.lacks("body") {
        context.report.add(
            setting.place(),
            &path,
            "both `body` and `body_file` are given: an answer has one body",
        );
        return None;
    }
    let file = beside_config(fields.text("body_file")?, setting);
    // Upstreams and routes inherit it; one reading, and one part of the hash, is enough.
    match source::read_bounded(&file, MAX_BODY) {
        Ok(bytes) => {
            if !context.contents.files.contains(&file) {
                context.contents.add(Some(file), &bytes);
            }
            Some(bytes.into())
        }
        Err(error) => {
            context.report.add(
                setting.place(),
                &path,
                format!(
                    "cannot read {}: {}",
                    file.display(),
                    source::reason(&error, false)
                ),
            );
            None
        }
    }
}

/// A file that is named in the configuration, seen from the configuration's folder.
pub(super) fn beside_config(file: &str, setting: &Setting) -> PathBuf {
    let folder = setting
        .place()
        .and_then(|place| Path::new(&*place.file).parent());
    folder.map_or_else(|| PathBuf::from(file), |folder| folder.join(file))
}
