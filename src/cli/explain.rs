//! `mamparo explain`: what would happen to a request, and why, or what did happen to one. The former asks
//! the matcher that traffic goes through, and shows the route, every effective setting with its origin, and
//! the worst-case timeline; the latter asks a process that runs.

mod drawing;
mod past;
mod settings;

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::ask::AdminArgs;
use super::{BAD_CONFIG, print};
use crate::app;
use crate::config::{self, Loaded};
use crate::live::router::{self, Wanted};
use crate::plan::timeline;
use crate::plan::{Listener, Route, Upstream};

/// The two questions that it answers, so that the arguments of one are not given with the other.
const USAGE: &str = "\
mamparo explain [--config PATH]... [-H 'NAME: VALUE']... [--listener NAME] METHOD URL
       mamparo explain --id ID [--admin ADDRESS]
       mamparo explain --recent [--admin ADDRESS]";

/// What belongs to a request that might come.
const FUTURE: [&str; 5] = ["config", "headers", "listener", "method", "url"];

/// What `mamparo explain` is asked.
#[derive(Debug, Clone, clap::Args)]
#[command(override_usage = USAGE)]
pub struct Explain {
    /// Tell what became of the request with this id, or with this trace id: its x-request-id, which is in
    /// the access log and in every answer
    #[arg(long, value_name = "ID", conflicts_with_all = FUTURE, conflicts_with = "recent")]
    pub id: Option<String>,
    /// List the requests that a process can tell of: those that failed, were retried, were slow, were
    /// answered by a fallback, or asked for it with x-mamparo-explain: 1
    #[arg(long, conflicts_with_all = FUTURE)]
    pub recent: bool,
    #[command(flatten)]
    pub(super) process: AdminArgs,
    /// A file or folder of YAML; may be given again [default: ./mamparo.yaml, then /etc/mamparo/]
    // One value each time: the method and the URL follow.
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,
    /// A header of the request, such as -H 'x-tenant: acme'
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Only this listener [default: each]
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// The method, such as GET
    #[arg(required_unless_present_any = ["id", "recent"])]
    pub method: Option<String>,
    /// The URL or the path, such as `/v1/charges?preview=1`
    #[arg(required_unless_present_any = ["id", "recent"])]
    pub url: Option<String>,
}

/// A request to be explained.
#[derive(Debug, Clone)]
pub struct Question {
    method: String,
    host: Option<String>,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

/// Prints the explanation; 2 where the configuration or the request is not right, 1 where a running process
/// cannot tell.
pub fn run(arguments: &Explain) -> ExitCode {
    let (method, url) = match (&arguments.method, &arguments.url) {
        (Some(method), Some(url)) => (method, url),
        (_, _) => return past::run(&arguments.process.admin, arguments.id.as_deref()),
    };
    let paths = if arguments.config.is_empty() {
        config::default_paths()
    } else {
        arguments.config.clone()
    };
    let answer = config::load(&paths, &app::environment)
        .map_err(|problems| problems.to_string())
        .and_then(|loaded| {
            let question = Question::new(method, url, &arguments.headers)?;
            explain(&loaded, &question, arguments.listener.as_deref())
        });
    match answer {
        Ok(text) => print(&text),
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

impl Question {
    /// Reads a request as it is written on the command line. A `host` header takes the place of the URL's.
    ///
    /// # Errors
    /// A sentence that says what cannot be read.
    pub fn new(method: &str, url: &str, headers: &[String]) -> Result<Self, String> {
        if http::Method::from_bytes(method.as_bytes()).is_err() {
            return Err(format!(
                "`{method}` is no method; write it first, such as GET"
            ));
        }
        let uri: Uri = url.parse().map_err(|error| {
            format!("`{url}` is no URL and no path that begins with a slash: {error}")
        })?;
        if uri.path().is_empty() || uri.scheme().is_none() && uri.authority().is_some() {
            return Err(format!(
                "`{url}` has no scheme: write http://{url}, or a path that begins with a slash"
            ));
        }
        let mut map = HeaderMap::new();
        for line in headers {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("`{line}` is no header: write it as 'name: value'"))?;
            let name = HeaderName::from_bytes(name.trim().as_bytes());
            let value = HeaderValue::from_str(value.trim());
            match (name, value) {
                (Ok(name), Ok(value)) => map.append(name, value),
                (Err(_), _) => return Err(format!("`{line}` has no valid header name")),
                (_, Err(_)) => return Err(format!("`{line}` has no valid header value")),
            };
        }
        let named = map
            .get(http::header::HOST)
            .and_then(|value| value.to_str().ok());
        let in_url = uri.authority().map(|authority| {
            let text = authority.as_str();
            text.rsplit_once('@').map_or(text, |(_, host)| host)
        });
        let host = named.or(in_url).map(str::to_owned);
        // A client sends it as a header too, which a route may ask for.
        if let Some(value) = host
            .as_deref()
            .and_then(|host| HeaderValue::from_str(host).ok())
        {
            map.insert(http::header::HOST, value);
        }
        Ok(Self {
            method: method.to_owned(),
            host,
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            headers: map,
        })
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            host: self.host.as_deref(),
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }

    fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("none");
        write!(f, "{} {}, host {host}", self.method, self.path_and_query())
    }
}

/// What would happen to a request at each listener, or at the one that is named; ends with a line end.
///
/// # Errors
/// There is no listener of that name.
pub fn explain(loaded: &Loaded, question: &Question, only: Option<&str>) -> Result<String, String> {
    let listeners = &loaded.plan.listeners;
    let chosen: Vec<&Listener> = listeners
        .iter()
        .filter(|listener| only.is_none_or(|name| *listener.name == *name))
        .collect();
    if let Some(name) = only.filter(|_| chosen.is_empty()) {
        let known: Vec<&str> = listeners.iter().map(|listener| &*listener.name).collect();
        return Err(format!(
            "there is no listener `{name}`; there is {}",
            known.join(", ")
        ));
    }
    let mut text = format!("{question}\n");
    for listener in chosen {
        at_listener(&mut text, loaded, listener, question);
    }
    Ok(text)
}

fn at_listener(text: &mut String, loaded: &Loaded, listener: &Listener, question: &Question) {
    let wanted = question.wanted();
    let found = router::find(&listener.routes, &wanted);
    line(text, format_args!(""));
    let (name, address, role) = (&listener.name, &listener.address, listener.role.name());
    line(text, format_args!("listener {name} ({address}, {role})"));
    let width = listener
        .routes
        .iter()
        .map(|route| route.name.len())
        .max()
        .unwrap_or(0);
    for (index, route) in listener.routes.iter().enumerate() {
        let told = match router::why_not(&route.matcher, &wanted) {
            _ if found.is_some_and(|found| index > found) => {
                "not asked, since an earlier one matches".to_owned()
            }
            None => "matches".to_owned(),
            Some(mismatch) => format!("no: {mismatch}"),
        };
        line(
            text,
            format_args!("  routes[{index}] {:width$}  {told}", route.name),
        );
    }
    match found.and_then(|index| Some((index, listener.routes.get(index)?))) {
        None => line(
            text,
            format_args!(
                "  No route matches: the answer is 404 no_route, and nothing is sent to any upstream."
            ),
        ),
        Some((index, route)) => {
            on_route(text, route, question);
            settings::write(text, &loaded.effective, listener, index, route);
            let keyed = question.headers.contains_key("idempotency-key");
            let retry = route.policies.retry.as_deref();
            let repeatable = retry.is_none_or(|retry| retry.methods.allow(&question.method, keyed));
            let timeline = timeline::worst(&route.policies, repeatable);
            drawing::write(text, &timeline);
        }
    }
}

fn on_route(text: &mut String, route: &Route, question: &Question) {
    let upstream = &route.upstream;
    line(
        text,
        format_args!("  upstream {}: {}", upstream.name, endpoints(upstream)),
    );
    let path = router::rewritten_path(route, &question.path_and_query());
    let path = path.unwrap_or_else(|| question.path_and_query());
    let host = match (&route.rewrite.host, &question.host) {
        (Some(host), _) => host,
        (None, Some(host)) => host.as_str(),
        (None, None) => "none",
    };
    line(
        text,
        format_args!("  sent as {} {path}, host {host}", question.method),
    );
    if let Some(retry) = route.policies.retry.as_deref() {
        let keyed = question.headers.contains_key("idempotency-key");
        if !retry.methods.allow(&question.method, keyed) {
            line(
                text,
                format_args!(
                    "  {} is tried again only where nothing of it was sent: `retry.methods` does not allow more{}",
                    question.method,
                    if keyed {
                        ""
                    } else {
                        ", and it has no idempotency-key"
                    }
                ),
            );
        }
    }
}

fn endpoints(upstream: &Upstream) -> String {
    let told = upstream
        .endpoints
        .iter()
        .map(|endpoint| match endpoint.weight {
            1 => endpoint.address.to_string(),
            weight => format!("{} (weight {weight})", endpoint.address),
        });
    told.collect::<Vec<_>>().join(", ")
}

/// Writing to a `String` does not fail.
fn line(text: &mut String, line: fmt::Arguments<'_>) {
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests;
