//! Texts with rules of their own: addresses, names, hosts, paths, header names, conditions.

mod address;
mod collector;
mod kubernetes;

use std::net::IpAddr;
use std::sync::Arc;

use regex::Regex;

use super::kind::{Complaint, Text};
use super::suggest;
use crate::plan::HostPattern;
use crate::policy::condition::BadWord;
use crate::policy::grpc::{Code, CodeSet};
use crate::policy::outcome::StatusSet;
use crate::policy::{fallback, retry};

/// Bytes of a compiled expression; one that needs more is refused rather than run.
const REGEX_BYTES: usize = 1 << 20;

/// Anything, even nothing.
pub(super) static ANY: Text = Text {
    what: "a text",
    pattern: "",
    check: |_| Ok(()),
};
/// One line that is not empty.
pub(super) static ONE_LINE: Text = Text {
    what: "a text on one line",
    pattern: "^.+$",
    check: one_line,
};
/// A name of a listener, upstream or route.
pub(super) static NAME: Text = Text {
    what: "a name of letters, digits, `_`, `-` and `.`",
    pattern: "^[A-Za-z0-9_.-]{1,64}$",
    check: name,
};
/// Where a listener or the admin interface listens.
pub(super) static LISTEN_ADDRESS: Text = Text {
    what: "an address such as `127.0.0.1:8080` or `unix:/run/orders.sock`",
    pattern: "^(.+:[0-9]+|unix:/.+)$",
    check: |text| listen_address(text).map(drop),
};
/// Where an upstream is reached.
pub(super) static ENDPOINT: Text = Text {
    what: "an address such as `127.0.0.1:9001`, `payments:9001` or `unix:/run/payments.sock`",
    pattern: "^.+$",
    check: |text| endpoint(text).map(drop),
};
/// The name of an SRV record.
pub(super) static SRV: Text = Text {
    what: "the name of an SRV record such as `_http._tcp.payments.example.com`",
    pattern: "^[^:/]+$",
    check: |text| srv(text).map(drop),
};
/// A server that is asked for names.
pub(super) static DNS_SERVER: Text = Text {
    what: "the address of a DNS server such as `10.0.0.2` or `127.0.0.1:5353`",
    pattern: "^[0-9a-fA-F:.\\[\\]]+$",
    check: |text| dns_server(text).map(drop),
};
/// A link.
pub(super) static URL: Text = Text {
    what: "a link such as `https://docs.example.com/`",
    pattern: "^https?://.+$",
    check: url,
};
/// Where spans go.
pub(super) static COLLECTOR: Text = Text {
    what: "a collector such as `http://127.0.0.1:4318`",
    pattern: "^https?://.+$",
    check: |text| collector(text).map(drop),
};
/// A file to write to.
pub(super) static FILE: Text = Text {
    what: "a file such as `./access.log`",
    pattern: "/",
    check: file,
};
/// A pattern of hosts.
pub(super) static HOST_PATTERN: Text = Text {
    what: "a host such as `payments.internal` or `*.internal`",
    pattern: "^(\\*\\.)?[^*:/]+$",
    check: |text| host_pattern(text).map(drop),
};
/// A value of the `host` header.
pub(super) static HOST_VALUE: Text = Text {
    what: "a host such as `payments.prod`",
    pattern: "^[^/]+$",
    check: host_value,
};
/// A path of a URL.
pub(super) static PATH: Text = Text {
    what: "a path such as `/v1/charges`",
    pattern: "^/",
    check: path,
};
/// A regular expression.
pub(super) static REGEX: Text = Text {
    what: "a regular expression",
    pattern: "",
    check: |text| whole(text).map(drop),
};
/// A method.
pub(super) static METHOD: Text = Text {
    what: "a method such as `GET`",
    pattern: "^[A-Z][A-Z0-9_-]*$",
    check: method,
};
/// The name of a header.
pub(super) static HEADER_NAME: Text = Text {
    what: "the name of a header",
    pattern: "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
    check: header_name,
};
/// The name of a query parameter.
pub(super) static PARAMETER: Text = Text {
    what: "the name of a parameter",
    pattern: "^.+$",
    check: one_line,
};
/// The value of a header or parameter.
pub(super) static VALUE: Text = Text {
    what: "a value on one line",
    pattern: "",
    check: value,
};
/// A status, or a hundred of them.
pub(super) static STATUS: Text = Text {
    what: "a status such as `200` or `2xx`",
    pattern: "^[1-5]([0-9]{2}|xx)$",
    check: |text| statuses(text).map(drop),
};
/// What a breaker can be told to ignore: a status, a hundred of them, or a code of gRPC.
pub(super) static IGNORABLE: Text = Text {
    what: "a status such as `503` or `5xx`, or a gRPC code such as `unknown`",
    pattern: "^([1-5]([0-9]{2}|xx)|[a-z_]+)$",
    check: |text| ignorable(text).map(drop),
};
/// A condition of `retry.on`.
pub(super) static RETRY_CONDITION: Text = Text {
    what: "a reason or a status",
    pattern: "^[a-z0-9_]+$",
    check: retry_condition,
};
/// A condition of `fallback.on`.
pub(super) static FALLBACK_CONDITION: Text = Text {
    what: "a reason or a status",
    pattern: "^[a-z0-9_]+$",
    check: fallback_condition,
};

pub(super) use address::{Scheme, dns_server, endpoint, listen_address, srv};
pub(super) use collector::collector;
pub(super) use kubernetes::{KUBERNETES_API, KUBERNETES_NAME, KUBERNETES_PORT, api};

type Checked = Result<(), Complaint>;

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(Complaint::new(message()))
    }
}

fn one_line(text: &str) -> Checked {
    ensure(
        !text.trim().is_empty() && !text.chars().any(char::is_control),
        || "expected a text on one line".to_owned(),
    )
}

fn name(text: &str) -> Checked {
    let valid = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    ensure(valid, || {
        format!("`{text}` is no name: 1 to 64 letters, digits, `_`, `-` and `.`")
    })
}

fn url(text: &str) -> Checked {
    let valid = (text.starts_with("https://") || text.starts_with("http://"))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    ensure(valid, || {
        format!("`{text}` is no link: it begins with `https://` or `http://` and has no blanks")
    })
}

fn file(text: &str) -> Checked {
    if text.contains('/') {
        return Ok(());
    }
    match suggest::nearest(text, ["stdout", "stderr", "off"]) {
        Some(word) => Err(Complaint::meant(
            format!(
                "`{text}` is neither `stdout`, `stderr`, `off` nor a file with a slash in its path"
            ),
            word,
        )),
        None => Err(Complaint::meant(
            format!("`{text}` could be a mistyped word; a file has a slash in its path"),
            &format!("./{text}"),
        )),
    }
}

fn path(text: &str) -> Checked {
    if !text.starts_with('/') {
        return Err(Complaint::meant(
            format!("the path `{text}` does not begin with `/`"),
            &format!("/{text}"),
        ));
    }
    ensure(
        !text.contains(['?', '#']) && text.bytes().all(|byte| byte.is_ascii_graphic()),
        || format!("`{text}` is no path: no query, no blanks, other characters percent-encoded"),
    )
}

/// Whether HTTP calls it a token.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn method(text: &str) -> Checked {
    if !is_token(text) {
        return Err(Complaint::new(format!("`{text}` is no HTTP method")));
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Complaint::meant(
            format!("`{text}`: HTTP methods are written in capitals"),
            &text.to_ascii_uppercase(),
        ));
    }
    Ok(())
}

fn header_name(text: &str) -> Checked {
    ensure(is_token(text) && text.len() <= 256, || {
        format!("`{text}` is no name of a header")
    })
}

fn value(text: &str) -> Checked {
    ensure(!text.chars().any(|c| c.is_control() && c != '\t'), || {
        "a value has one line and no control characters".to_owned()
    })
}

fn host_value(text: &str) -> Checked {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    ensure(!text.is_empty() && text.bytes().all(allowed), || {
        format!("`{text}` is no host")
    })
}

/// Reads a pattern of hosts.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, Complaint> {
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && !host.contains(':')
    {
        return Err(Complaint::meant(
            format!("`{text}`: a host is matched without its port"),
            host,
        ));
    }
    let lower = text.to_ascii_lowercase();
    let suffix = lower
        .strip_prefix('*')
        .filter(|suffix| suffix.starts_with('.'));
    let bare = suffix.map_or(lower.as_str(), |suffix| suffix.trim_start_matches('.'));
    let is_ip = || {
        let inside = bare.trim_start_matches('[').trim_end_matches(']');
        suffix.is_none() && inside.parse::<IpAddr>().is_ok()
    };
    if !address::is_host(bare) && !is_ip() {
        return Err(Complaint::new(format!(
            "`{text}` is no host: write `payments.internal`, or `*.internal` for all below it"
        )));
    }
    Ok(match suffix {
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(lower.into()),
    })
}

/// Compiles an expression that must match the whole of a text.
pub(super) fn whole(text: &str) -> Result<Regex, Complaint> {
    // Compiled by itself first: the brackets around it would make `a)(b` valid, and shift what the error shows.
    let build = |text: &str| {
        regex::RegexBuilder::new(text)
            .size_limit(REGEX_BYTES)
            .build()
    };
    build(text)
        .and_then(|_| build(&format!("^(?:{text})$")))
        .map_err(|error| {
            let told = error.to_string();
            let reason = told
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            Complaint::new(format!("`{text}` is no regular expression: {reason}"))
        })
}

/// Reads `503` or `5xx`.
pub(super) fn statuses(text: &str) -> Result<StatusSet, Complaint> {
    let mut set = StatusSet::EMPTY;
    let hundred = text
        .strip_suffix("xx")
        .and_then(|digit| digit.parse::<u16>().ok());
    match (hundred, text.parse::<u16>()) {
        (Some(digit @ 1..=5), _) => set.insert_range(digit * 100, digit * 100 + 99),
        (None, Ok(status @ 100..=599)) if text.len() == 3 => set.insert(status),
        _ => {
            return Err(Complaint::new(format!(
                "`{text}` is no status: 100 to 599, or `1xx` to `5xx`"
            )));
        }
    }
    Ok(set)
}

/// Reads a code of gRPC, or `503` or `5xx`.
pub(super) fn ignorable(text: &str) -> Result<(StatusSet, CodeSet), Complaint> {
    let mut codes = CodeSet::EMPTY;
    if let Some(code) = Code::from_name(text) {
        codes.insert(code);
        return Ok((StatusSet::EMPTY, codes));
    }
    match statuses(text) {
        Ok(statuses) => Ok((statuses, codes)),
        Err(complaint) if text.starts_with(|first: char| first.is_ascii_digit()) => Err(complaint),
        Err(_) => {
            let message = format!("`{text}` is neither a status nor a gRPC code");
            Err(match suggest::nearest(text, Code::NAMES) {
                Some(word) => Complaint::meant(message, word),
                None => Complaint {
                    message,
                    help: Some(
                        "100 to 599, `1xx` to `5xx`, or a name such as `unavailable`".into(),
                    ),
                },
            })
        }
    }
}

fn retry_condition(text: &str) -> Checked {
    let known = retry::Conditions::default().add(text);
    condition(text, known, &retry::WORDS)
}

fn fallback_condition(text: &str) -> Checked {
    let known = fallback::Conditions::default().add(text);
    condition(text, known, &fallback::WORDS)
}

/// Puts the policy's refusal of a condition in words.
fn condition(text: &str, known: Result<(), BadWord>, words: &[&str]) -> Checked {
    match known {
        Ok(()) => Ok(()),
        Err(BadWord::Refused(why)) => Err(Complaint::new(format!(
            "`{text}` cannot be a condition: {why}"
        ))),
        Err(BadWord::Unknown) => Err(unknown_condition(text, words)),
    }
}

fn unknown_condition(text: &str, words: &[&str]) -> Complaint {
    let folded = text
        .trim_start_matches("grpc-")
        .to_ascii_lowercase()
        .replace('-', "_");
    let message = format!("`{text}` is no condition: a reason, a status, `5xx` or a gRPC code");
    // As other proxies, or gRPC's own documentation, write it.
    if let Some(code) = Code::from_name(&folded) {
        return Complaint::meant(message, code.name());
    }
    match suggest::nearest(text, words.iter().copied()) {
        Some(word) => Complaint::meant(message, word),
        None => Complaint {
            message,
            help: Some(format!(
                "one of {}, or a status such as 503",
                suggest::one_of(words)
            )),
        },
    }
}

/// Keeps a text that many share.
pub(super) fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}

#[cfg(test)]
mod tests;
