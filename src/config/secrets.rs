//! What of a configuration may be shown: every output of settings goes through here.

use std::borrow::Cow;

use crate::plan::secret::{HIDDEN, is_secret};

/// Headers whose values are secrets, whatever their names: a collector's are for its keys.
const SECRET_HEADERS: &str = "tracing.headers.";

/// The value as it may be shown. Hidden are values whose key promises a secret (`authorization`,
/// `x-api-key` …), the headers for a collector, fallback bodies that have such a key in them, and what
/// stands before the `@` of a URL.
pub fn shown<'a>(path: &str, value: &'a str) -> Cow<'a, str> {
    if path.starts_with(SECRET_HEADERS) {
        return HIDDEN.into();
    }
    // A header may be asked for by expression: then the key is one further up.
    let mut keys = path.rsplit('.');
    let last = keys.next().unwrap_or_default();
    let key = match last {
        "regex" => keys.next().unwrap_or_default(),
        key => key,
    };
    if is_secret(key) && last != "present" || last == "body" && has_secret_key(value) {
        return HIDDEN.into();
    }
    without_userinfo(value)
}

/// Whether a line of a file, with the setting at `path` in it, may hold a value that [`shown`] hides.
pub fn has_secret(path: &str, line: &str) -> bool {
    let is_header = format!("{path}.").starts_with(SECRET_HEADERS);
    let has_headers = path.starts_with("tracing") && line.contains("headers");
    is_header || has_headers || has_secret_key(line) || without_userinfo(line) != line
}

/// Whether a text has a secret's name in quotes before a colon, as JSON has, or before a `=`.
fn has_secret_key(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut rest = text;
    while let Some(end) = rest.find([':', '=']) {
        let before = rest[..end]
            .trim_end_matches(|c: char| c.is_whitespace() || c == '"' || c == '\\' || c == '\'');
        let start = before.rfind(|c| !word(c)).map_or(0, |last| last + 1);
        // `rfind` gives the beginning of a character that may be longer than a byte.
        let name = before.get(start..).unwrap_or(before);
        if is_secret(name) {
            return true;
        }
        rest = &rest[end + 1..];
    }
    false
}

/// `https://user:password@host` loses what stands before the `@`, wherever it is in the text.
fn without_userinfo(value: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = value;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        let end = after
            .find(|c: char| "/?#,\"' ]}".contains(c))
            .unwrap_or(after.len());
        let user = after[..end].rfind('@').unwrap_or(0);
        shown.push_str(before);
        if user > 0 {
            shown.push_str(HIDDEN);
        }
        rest = &after[user..];
    }
    if shown.is_empty() {
        return Cow::Borrowed(value);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_carry_credentials_are_hidden() {
        for path in [
            "listeners.in.routes[0].match.headers.authorization",
            "listeners.in.routes[0].match.headers.authorization.regex",
            "upstreams.a.fallback[0].respond.headers.set-cookie",
            "listeners.in.routes[0].match.query.api_key",
            "tracing.headers.x-tenant",
        ] {
            assert_eq!(shown(path, "Bearer abc"), HIDDEN, "{path}");
        }
        assert_eq!(
            shown(
                "listeners.in.routes[0].match.headers.cookie.present",
                "true"
            ),
            "true"
        );
    }

    #[test]
    fn a_name_that_only_sounds_secret_hides_nothing_below_it() {
        assert_eq!(
            shown("upstreams.token-service.retry.max_attempts", "3"),
            "3"
        );
        assert_eq!(
            shown("upstreams.secrets.endpoints", "[127.0.0.1:1]"),
            "[127.0.0.1:1]"
        );
    }

    #[test]
    fn a_body_with_a_secret_key_is_hidden() {
        let path = "upstreams.a.fallback[0].respond.body";
        for body in [
            r#"{"access_token": "abc"}"#,
            r#""{\"user\": 1, \"password\" : \"x\"}""#,
            "a=1&client_secret=abc",
            "é: 1, api-key: 2",
        ] {
            assert_eq!(shown(path, body), HIDDEN, "{body}");
        }
        for body in [r#"{"items": []}"#, "the token is not here", "a: é=1", ""] {
            assert_eq!(shown(path, body), body);
        }
    }

    #[test]
    fn a_line_with_a_secret_is_known() {
        for (path, line) in [
            ("tracing.headers.x-tenant", "    x-tenant: abc"),
            (
                "tracing.otlp",
                "tracing: { otlp: a, headers: { x-tenant: abc } }",
            ),
            (
                "upstreams.a.tls",
                "headers: { \"authorization\": Bearer abc }",
            ),
            ("upstreams.a.endpoints[0]", "  - https://user:pw@host"),
        ] {
            assert!(has_secret(path, line), "{line}");
        }
        for (path, line) in [
            (
                "listeners.in.tls.key",
                "    tls: { cert: tls.crt, key: tls.key }",
            ),
            ("tracing.otlp", "  otlp: http://127.0.0.1:4318"),
            ("upstreams.a.retry.on", "    retry: { on: [5xx] }"),
        ] {
            assert!(!has_secret(path, line), "{line}");
        }
    }

    #[test]
    fn urls_lose_their_userinfo() {
        for (value, expected) in [
            ("https://user:pw@host/x", "https://(hidden)@host/x"),
            (
                "[http://a, http://u@b:1]",
                "[http://a, http://(hidden)@b:1]",
            ),
            ("http://host/a@b", "http://host/a@b"),
            ("http://a@b@c", "http://(hidden)@c"),
            ("127.0.0.1:9001", "127.0.0.1:9001"),
            ("http://", "http://"),
        ] {
            assert_eq!(shown("upstreams.a.endpoints", value), expected);
        }
    }
}
