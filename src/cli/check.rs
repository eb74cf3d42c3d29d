//! `mamparo check`: reads, validates and lints without starting.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::config::lint::{Lint, lint};
use crate::config::{self, Loaded, Place, Problem, Problems};

/// What `check` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Files and folders; without any, what `run` would read.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Warnings fail the check, too.
    #[arg(long)]
    strict: bool,
    /// How the result is told.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How the result is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

/// Exits with 0 when all is fine, 1 for warnings under `--strict`, 2 for errors.
pub fn run(arguments: &Arguments) -> ExitCode {
    let paths = if arguments.paths.is_empty() {
        config::default_paths()
    } else {
        arguments.paths.clone()
    };
    let result = config::load(&paths, &|name| std::env::var(name).ok());
    let (text, code) = tell(&result, arguments.strict, arguments.format);
    let printed = super::print(&text);
    if printed == ExitCode::SUCCESS {
        ExitCode::from(code)
    } else {
        printed
    }
}

/// What is printed, and the exit code.
fn tell(result: &Result<Loaded, Problems>, strict: bool, format: Format) -> (String, u8) {
    let warnings = result.as_ref().map(warnings).unwrap_or_default();
    let code = match result {
        Err(_) => super::BAD_CONFIG,
        Ok(_) if strict && !warnings.is_empty() => 1,
        Ok(_) => 0,
    };
    let text = match format {
        Format::Text => in_words(result, &warnings),
        Format::Json => in_json(result, &warnings),
    };
    (text, code)
}

/// Everything that is odd, with the lint's id where it is one.
fn warnings(loaded: &Loaded) -> Vec<(Option<&'static str>, Problem)> {
    let odd = loaded.warnings.iter().map(|problem| {
        let source_line = problem.place.as_ref().and_then(line);
        (
            None,
            Problem {
                source_line,
                ..problem.clone()
            },
        )
    });
    let lints = lint(loaded)
        .into_iter()
        .map(|lint| (Some(lint.id), as_problem(lint)));
    odd.chain(lints).collect()
}

fn as_problem(lint: Lint) -> Problem {
    let source_line = lint.place.as_ref().and_then(line);
    Problem {
        place: lint.place,
        path: lint.path,
        message: lint.message,
        help: lint.help,
        source_line,
    }
}

/// The line of a place, read anew: a configuration that is right has not kept its text.
fn line(place: &Place) -> Option<String> {
    let text = std::fs::read_to_string(&*place.file).ok()?;
    text.lines()
        .nth(place.line.checked_sub(1)?)
        .map(str::to_owned)
}

fn in_words(result: &Result<Loaded, Problems>, warnings: &[(Option<&str>, Problem)]) -> String {
    let loaded = match result {
        Ok(loaded) => loaded,
        Err(problems) => return format!("{problems}\n"),
    };
    let mut text = String::new();
    for (id, problem) in warnings {
        let mut problem = problem.clone();
        let id = id.map(|id| format!(" [{id}]")).unwrap_or_default();
        problem.message = format!("warning: {}{id}", problem.message);
        text.push_str(&format!("{problem}\n\n"));
    }
    let routes = loaded
        .plan
        .listeners
        .iter()
        .map(|listener| listener.routes.len())
        .sum();
    let (listeners, upstreams) = (loaded.plan.listeners.len(), loaded.plan.upstreams.len());
    let parts = [
        count(listeners, "listener"),
        count(routes, "route"),
        count(upstreams, "upstream"),
    ]
    .join(", ");
    match warnings.len() {
        0 => text + &format!("The configuration is fine: {parts}.\n"),
        number => {
            text + &format!(
                "The configuration can run: {parts}; {}.\n",
                count(number, "warning")
            )
        }
    }
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 {
        format!("1 {thing}")
    } else {
        format!("{number} {thing}s")
    }
}

fn in_json(result: &Result<Loaded, Problems>, warnings: &[(Option<&str>, Problem)]) -> String {
    let problems = result
        .as_ref()
        .err()
        .map(|problems| problems.0.as_slice())
        .unwrap_or_default();
    let problems: Vec<Value> = problems
        .iter()
        .map(|problem| as_json(None, problem))
        .collect();
    let warnings: Vec<Value> = warnings
        .iter()
        .map(|(id, problem)| as_json(*id, problem))
        .collect();
    format!(
        "{:#}\n",
        json!({ "ok": problems.is_empty(), "problems": problems, "warnings": warnings })
    )
}

fn as_json(id: Option<&str>, problem: &Problem) -> Value {
    let place = problem.place.as_ref();
    let mut value = json!({
        "file": place.map(|place| place.file.to_string()),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "path": problem.path,
        "message": problem.message,
        "help": problem.help,
    });
    if let (Some(id), Value::Object(value)) = (id, &mut value) {
        value.insert("id".to_owned(), json!(id));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(retry: &str) -> Result<Loaded, Problems> {
        let text = format!(
            "listeners: {{ in: {{ address: '127.0.0.1:0', upstream: a }} }}\n\
             upstreams: {{ a: {{ endpoints: [127.0.0.1:1], timeouts: {{}}, retry: {retry} }} }}\n"
        );
        config::parse("memory.yaml", &text, &|_| None)
    }

    #[test]
    fn what_is_fine_ends_with_0() {
        let (text, code) = tell(&loaded("{}"), true, Format::Text);
        assert_eq!(
            (text.as_str(), code),
            (
                "The configuration is fine: 1 listener, 1 route, 1 upstream.\n",
                0
            )
        );
        let (json, code) = tell(&loaded("{}"), true, Format::Json);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (json, code),
            (json!({ "ok": true, "problems": [], "warnings": [] }), 0)
        );
    }

    #[test]
    fn warnings_fail_only_a_strict_check() {
        let odd = loaded("{ budget: off }");
        let (text, code) = tell(&odd, false, Format::Text);
        assert_eq!(code, 0);
        assert!(
            text.contains("warning: ") && text.contains("1 warning."),
            "{text}"
        );
        let (json, code) = tell(&odd, true, Format::Json);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((code, &json["ok"]), (1, &json!(true)));
        assert!(json["warnings"][0]["id"].is_string(), "{json}");
    }

    #[test]
    fn what_is_wrong_ends_with_2() {
        let (text, code) = tell(&loaded("{ max_attempts: 0 }"), false, Format::Text);
        assert_eq!(code, 2);
        assert!(text.starts_with("memory.yaml:2:"), "{text}");
        let (json, code) = tell(&loaded("{ max_attempts: 0 }"), false, Format::Json);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((code, &json["problems"][0]["line"]), (2, &json!(2)));
    }
}
