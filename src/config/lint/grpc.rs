//! Lints about routes that gRPC calls take: what would never come to act on one.

use super::{Found, Subject};
use crate::plan::{Fallback, Policies, Protocol, ValuePattern};
use crate::policy::condition::server_errors;
use crate::policy::grpc::Code;

pub(super) fn lints(subject: &Subject<'_>) -> Vec<Found> {
    let mut found: Vec<Found> = retry_without_post(subject.policies).into_iter().collect();
    if is_for_calls(subject) {
        found.extend(plain_fallbacks(&subject.policies.fallback));
        found.extend(over_http1(subject));
    }
    found
}

/// Whether calls take the route: it matches on their content type, or a policy names their codes.
fn is_for_calls(subject: &Subject<'_>) -> bool {
    const KIND: &str = "application/grpc";
    let matched = subject.matcher.is_some_and(|matcher| {
        let kinds = matcher.headers.iter();
        let mut kinds = kinds.filter(|(name, _)| **name == *"content-type");
        kinds.any(|(_, value)| match value {
            ValuePattern::Exact(value) => value.starts_with(KIND),
            ValuePattern::Regex(regex) => regex.as_str().contains(KIND),
            ValuePattern::Present => false,
        })
    });
    let policies = subject.policies;
    let retried = policies.retry.as_deref();
    let broken = policies.circuit_breaker.as_deref();
    matched
        || retried.is_some_and(|retry| !retry.on.codes.is_empty())
        || broken.is_some_and(|breaker| !breaker.ignore_codes.is_empty())
        || policies.fallback.iter().any(names_codes)
}

/// Whether a fallback names codes. `any` names none, though it holds for some, and `internal` is a
/// reason of ours as well.
fn names_codes(fallback: &Fallback) -> bool {
    let codes = fallback.on.codes;
    codes != server_errors() && codes.iter().any(|code| code != Code::Internal)
}

/// Without TLS nobody agrees on a version: `auto` is HTTP/1.1 then, which hardly any server of gRPC
/// speaks.
fn over_http1(subject: &Subject<'_>) -> Option<Found> {
    let upstream = subject.upstream;
    let plain = upstream.endpoints.iter().any(|endpoint| !endpoint.tls);
    let over = match upstream.protocol {
        Protocol::Http1 => true,
        Protocol::Auto => plain,
        Protocol::Http2 => false,
    };
    over.then(|| Found {
        id: "grpc-over-http1",
        setting: String::new(),
        message: format!(
            "gRPC calls go to upstream `{}` over HTTP/1.1, which gRPC servers do not speak",
            upstream.name
        ),
        help: "set `protocol: http2` for the upstream",
    })
}

/// Rule 73. Where one answers calls the others may be for the rest, unless they name codes.
fn plain_fallbacks(fallbacks: &[Fallback]) -> Vec<Found> {
    let is_plain = |one: &Fallback| one.respond.grpc_status.is_none();
    let all_plain = fallbacks.iter().all(is_plain);
    let wrong = fallbacks.iter().enumerate();
    let wrong = wrong.filter(|(_, one)| is_plain(one) && (all_plain || names_codes(one)));
    wrong
        .map(|(index, _)| Found {
            id: "fallback-not-for-grpc",
            setting: format!("fallback[{index}].respond"),
            message: "gRPC calls take this route, and it never answers one: their clients read no plain answer".into(),
            help: "set `grpc_status`, such as `ok` with a message as the body, or `unavailable`",
        })
        .collect()
}

fn retry_without_post(policies: &Policies) -> Option<Found> {
    let retry = policies.retry.as_deref()?;
    if retry.on.codes.is_empty() || retry.methods.allow("POST", false) {
        return None;
    }
    let names: Vec<_> = retry.on.codes.iter().map(|code| code.name()).collect();
    Some(Found {
        id: "grpc-never-retried",
        setting: "retry.methods".into(),
        message: format!(
            "`on` lists {}, but a gRPC call is a POST, which these methods do not have tried again once it was sent",
            names.join(", ")
        ),
        help: "use `methods: all` for upstreams whose calls may be made twice",
    })
}
