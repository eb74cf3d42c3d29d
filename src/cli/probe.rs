//! `mamparo probe`: whether a process that runs is ready, alive or healthy, as an exit code. For containers
//! and scripts that have neither a shell nor curl.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::ask::{AdminArgs, Reply, ask};
use super::duration;
use super::print;
use crate::clock;
use crate::telemetry::foreign::shown;

/// What `mamparo probe` takes.
#[derive(Debug, Clone, Args)]
pub struct Probe {
    #[command(flatten)]
    pub(super) admin: AdminArgs,
    /// Ask whether it lives, ready or not
    #[arg(long, conflicts_with = "deep")]
    pub live: bool,
    /// Ask also whether what its service cannot do without can be reached: the upstreams that are
    /// `critical`
    #[arg(long)]
    pub deep: bool,
    /// How long it may take to answer
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::some)]
    pub timeout: Duration,
    /// Ask again until the answer is yes, for so long at most
    #[arg(long, value_name = "DURATION", value_parser = duration::any)]
    pub wait: Option<Duration>,
}

/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Prints one line; 0 where all is well, 1 where it is not, with the reason.
pub fn run(probe: &Probe) -> ExitCode {
    let path = match (probe.live, probe.deep) {
        (true, _) => "/livez",
        (false, true) => "/healthz",
        (false, false) => "/readyz",
    };
    let began = clock::now();
    let told = loop {
        let told = ask(&probe.admin.admin, "GET", path, None, probe.timeout)
            .map_err(|error| error.to_string())
            .and_then(|reply| judge(path, &reply));
        let elapsed = clock::now().saturating_duration_since(began);
        if told.is_ok() || probe.wait.is_none_or(|wait| elapsed >= wait) {
            break told;
        }
        std::thread::sleep(PAUSE);
    };
    match told {
        Ok(line) => print(&format!("{line}\n")),
        Err(line) => {
            eprintln!("mamparo: {line}");
            ExitCode::FAILURE
        }
    }
}

/// The one line of an answer, as good news or as bad.
fn judge(path: &str, reply: &Reply) -> Result<String, String> {
    let said = sentence(&reply.body);
    match reply.status {
        200 => Ok(said),
        503 => Err(said),
        status => Err(format!(
            "GET {path} was answered with {status}, which is not what mamparo's admin interface says: {said}"
        )),
    }
}

/// A probe's answer is a line of text, or, of the deep one, a list of what is unavailable.
fn sentence(body: &str) -> String {
    let first = || shown(body.lines().next().unwrap_or_default(), 200);
    let Ok(Value::Object(health)) = serde_json::from_str(body) else {
        return first();
    };
    let unavailable = health.get("unavailable").and_then(Value::as_array);
    let reasons: Vec<String> = unavailable
        .into_iter()
        .flatten()
        .filter_map(|one| {
            let (upstream, reason) = (one.get("upstream")?, one.get("reason")?);
            Some(format!("{}: {}", upstream.as_str()?, reason.as_str()?))
        })
        .collect();
    match (
        reasons.is_empty(),
        health.get("status").and_then(Value::as_str),
    ) {
        (false, _) => format!("unavailable: {}", reasons.join("; ")),
        (true, Some(status)) => status.to_owned(),
        (true, None) => first(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        let body = body.to_owned();
        Reply { status, body }
    }

    #[test]
    fn an_answer_becomes_one_line_and_good_or_bad_news() {
        let ok = |line: &str| Ok(line.to_owned());
        let bad = |line: &str| Err(line.to_owned());
        for (status, body, judged) in [
            (200, "ready\n", ok("ready")),
            (
                503,
                "draining: new work should go elsewhere\n",
                bad("draining: new work should go elsewhere"),
            ),
            (200, r#"{"status":"ok","unavailable":[]}"#, ok("ok")),
            (
                503,
                r#"{"status":"unavailable","unavailable":[
                    {"upstream":"payments","reason":"every breaker is open"},
                    {"upstream":"stock","reason":"no endpoint"}]}"#,
                bad("unavailable: payments: every breaker is open; stock: no endpoint"),
            ),
        ] {
            assert_eq!(judge("/readyz", &reply(status, body)), judged, "{body}");
        }
        let stranger = judge("/readyz", &reply(404, &"x".repeat(5000))).unwrap_err();
        assert!(
            stranger.contains("404") && stranger.len() < 400,
            "{stranger}"
        );
    }
}
