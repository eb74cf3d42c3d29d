//! What a client would rather read, by its `accept` header.

use http::HeaderValue;

/// Whether the client names `application/problem+json`, and likes it no less than `application/json`.
pub(super) fn prefers_problem(accept: &HeaderValue) -> bool {
    prefers(accept, "application/problem+json", "application/json")
}

/// Whether the client names the one type, and likes it no less than the other. A range such as `*/*`
/// names nothing; a weight of 0 refuses.
pub fn prefers(accept: &HeaderValue, one: &str, other: &str) -> bool {
    let (mut likes, mut likes_other) = (0, 0);
    let Ok(accept) = accept.to_str() else {
        return false;
    };
    for range in split(accept, ',') {
        let mut parts = split(range, ';');
        let kind = parts.next().unwrap_or("").trim();
        let best = if kind.eq_ignore_ascii_case(one) {
            &mut likes
        } else if kind.eq_ignore_ascii_case(other) {
            &mut likes_other
        } else {
            continue;
        };
        // A weight that is none makes the whole range worthless, so that nobody guesses it.
        *best = weight(parts).unwrap_or(0).max(*best);
    }
    likes > 0 && likes >= likes_other
}

/// The weight among a range's parameters in thousandths; `None` where it is malformed.
fn weight<'a>(parameters: impl Iterator<Item = &'a str>) -> Option<u16> {
    for parameter in parameters {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("q") {
            return thousandths(value.trim());
        }
    }
    Some(1000)
}

/// `0` to `1` with at most three decimals.
fn thousandths(value: &str) -> Option<u16> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let decimals = format!("{decimals:0<3}").parse::<u16>().ok()?;
    match (whole, decimals) {
        ("0", decimals) => Some(decimals),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// The parts between separators that stand outside of quoted strings.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let is_escaped = std::mem::take(&mut escaped);
        match character {
            '\\' if quoted && !is_escaped => escaped = true,
            '"' if !is_escaped => quoted = !quoted,
            _ => return character == separator && !quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_is_preferred_where_it_is_named_and_liked_no_less() {
        for (accept, expected) in [
            ("application/problem+json", true),
            ("APPLICATION/Problem+JSON", true),
            ("application/json, application/problem+json", true),
            ("application/json;q=0.9, application/problem+json", true),
            (
                "application/json;q=0.5,application/problem+json; q=0.500",
                true,
            ),
            ("text/html, application/problem+json;q=0.1, */*", true),
            ("application/problem+json;x=\"a,;q=0\";q=1.0", true),
            ("application/json, application/problem+json;q=0.9", false),
            ("application/problem+json;q=0", false),
            ("application/problem+json;q=0.000", false),
            ("application/problem+json;q=2", false),
            ("application/problem+json;q=0.0001", false),
            ("application/problem+json;q=", false),
            ("text/plain;x=\",application/problem+json\"", false),
            ("application/problem+jsonp", false),
            ("*/*", false),
            ("application/*", false),
            ("", false),
            ("ä", false),
        ] {
            let value = HeaderValue::from_bytes(accept.as_bytes()).unwrap();
            assert_eq!(prefers_problem(&value), expected, "{accept}");
        }
    }
}
