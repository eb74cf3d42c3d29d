//! How the endpoints of an upstream are checked.

use std::sync::Arc;

use super::super::setting::Fields;
use super::super::text;
use super::{Context, policies};
use crate::plan::{Address, Endpoint};
use crate::policy::health::{Kind, Question, Settings};
use crate::policy::outcome::StatusSet;

/// Makes the check of an upstream with these endpoints; `Some(None)`: it is off.
pub(super) fn compile(
    upstream: &Fields,
    endpoints: Option<&[Endpoint]>,
    path: &str,
    context: &mut Context<'_>,
) -> Option<Option<Arc<Settings>>> {
    policies::switched(upstream, "health_check", |fields| {
        let path = format!("{path}.health_check");
        check(fields, endpoints, &path, context)
    })
}

fn check(
    fields: &Fields,
    endpoints: Option<&[Endpoint]>,
    path: &str,
    context: &mut Context<'_>,
) -> Option<Arc<Settings>> {
    let (interval, timeout) = (fields.duration("interval")?, fields.duration("timeout")?);
    if timeout > interval {
        let (longest, every) = (fields.get("timeout")?, fields.get("interval")?);
        let message = format!(
            "a check would last longer than until the next: timeout is {}, interval is {}",
            longest.value, every.value
        );
        let place = longest.place().or(every.place());
        context
            .report
            .add(place, &format!("{path}.timeout"), message);
    }
    let port: Option<u16> = fields.or_none("port", Fields::integer)?;
    let is_a_file = |endpoint: &Endpoint| matches!(endpoint.address, Address::Unix(_));
    if port.is_some() && endpoints.is_some_and(|all| all.iter().any(is_a_file)) {
        context.report.add_with_help(
            fields.place("port"),
            &format!("{path}.port"),
            "a socket in the file system has no other port",
            "leave `port` out, or give the endpoints addresses on the network",
        );
    }
    Some(Arc::new(Settings {
        question: Question {
            kind: kind(fields)?,
            port,
            host: fields.text("host").cloned(),
        },
        interval,
        timeout,
        healthy_after: fields.integer("healthy_after")?,
        unhealthy_after: fields.integer("unhealthy_after")?,
    }))
}

fn kind(fields: &Fields) -> Option<Kind> {
    let mut expect = StatusSet::EMPTY;
    for word in policies::texts(fields.list("expect")?)? {
        text::statuses(&word)
            .ok()?
            .iter()
            .for_each(|status| expect.insert(status));
    }
    Some(match fields.word("kind")? {
        "grpc" => Kind::Grpc {
            service: fields.text("service").cloned().unwrap_or_default(),
        },
        "tcp" => Kind::Tcp,
        _ => Kind::Http {
            path: Arc::clone(fields.text("path")?),
            expect,
        },
    })
}
