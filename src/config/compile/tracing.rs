//! The export of spans.

use std::sync::Arc;

use super::super::setting::Fields;
use super::super::text;
use super::{Context, policies};
use crate::plan::Tracing;
use crate::plan::tracing::{Secret, Shares};

/// Headers that say what a batch is, beside those that no configuration sets.
const OUR_HEADERS: [&str; 3] = ["content-type", "content-encoding", "host"];

/// Where spans go; `Some(None)`: nowhere.
pub(super) fn compile(root: &Fields, context: &mut Context<'_>) -> Option<Option<Arc<Tracing>>> {
    if root.lacks("tracing") {
        return Some(None);
    }
    let fields = root.block("tracing")?;
    let headers = headers(fields, context);
    let keep = fields.block("keep")?;
    Some(Some(Arc::new(Tracing {
        collector: text::collector(fields.text("otlp")?).ok()?,
        headers: headers?,
        timeout: fields.duration("timeout")?,
        keep: Shares {
            failed: keep.real("failed")?,
            slower_than: keep.or_none("slower_than", Fields::duration)?,
            rest: keep.real("rest")?,
        },
    })))
}

fn headers(fields: &Fields, context: &mut Context<'_>) -> Option<Vec<(Arc<str>, Secret)>> {
    let headers = policies::headers(fields, "tracing", context)?;
    for (name, setting) in fields.map("headers")? {
        if OUR_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            let path = format!("tracing.headers.{name}");
            let message = format!("mamparo sets `{name}` itself, from the batch and the address");
            let report = &mut context.report;
            report.add_with_help(setting.place(), &path, message, "remove it");
        }
    }
    let secret = |(name, value)| (name, Secret(value));
    Some(headers.into_iter().map(secret).collect())
}
