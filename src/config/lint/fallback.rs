//! Lints about what fallbacks answer.

use super::Found;
use crate::plan::{Fallback, Respond};

pub(super) fn lints(fallbacks: &[Fallback]) -> Vec<Found> {
    let mut found = Vec::new();
    for (index, fallback) in fallbacks.iter().enumerate() {
        let at = format!("fallback[{index}].respond");
        found.extend(no_body_allowed(&at, &fallback.respond));
        found.extend(no_json(&at, &fallback.respond));
    }
    found
}

/// Rule 72.
fn is_without_body(status: u16) -> bool {
    matches!(status, 204 | 304)
}

fn no_body_allowed(at: &str, respond: &Respond) -> Option<Found> {
    if !is_without_body(respond.status) || respond.body.is_empty() {
        return None;
    }
    Some(Found {
        id: "fallback-body-not-allowed",
        setting: format!("{at}.body"),
        message: format!(
            "an answer {} has no body: these {} bytes are never sent",
            respond.status,
            respond.body.len()
        ),
        help: "remove the body, or answer 200",
    })
}

fn no_json(at: &str, respond: &Respond) -> Option<Found> {
    let content_type = respond
        .headers
        .iter()
        .find(|(name, _)| **name == *"content-type");
    let (_, content_type) = content_type?;
    if !is_json(content_type) || is_without_body(respond.status) {
        return None;
    }
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(&respond.body).err()?;
    Some(Found {
        id: "fallback-body-not-json",
        setting: format!("{at}.body"),
        message: format!("the content type is {content_type}, but the body is no JSON: {error}"),
        help: "correct the body, or the content type",
    })
}

/// `application/json` and everything that ends in `+json`, parameters aside.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    media_type == "application/json" || media_type == "text/json" || media_type.ends_with("+json")
}
