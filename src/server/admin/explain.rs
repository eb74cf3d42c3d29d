//! What became of a request, as JSON or, for a terminal, as text.

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::answer::{self, Answer};
use crate::telemetry::explain::{Line, Recorder, Story, list_text, story_text};
use crate::telemetry::foreign::shown;

/// Whether the client would rather read text: `text/plain` comes before JSON in its `accept`.
pub(super) fn wants_text(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let types = accept.unwrap_or_default().split(',');
    let mut types = types.map(|one| one.split(';').next().unwrap_or_default().trim());
    let first = types.find(|one| matches!(*one, "text/plain" | "application/json"));
    first == Some("text/plain")
}

/// The requests that are kept, or the one with that id.
pub(super) fn answer(recorder: &Recorder, id: Option<&str>, as_text: bool) -> Answer {
    if !recorder.is_on() {
        return refused(
            "nothing is kept of requests: the configuration says explain: off",
            as_text,
        );
    }
    let Some(id) = id else {
        let lines: Vec<Line> = recorder.recent().iter().map(Line::of).collect();
        return match as_text {
            true => answer::text(StatusCode::OK, list_text(&lines)),
            false => answer::json(StatusCode::OK, &json!({ "requests": lines })),
        };
    };
    match recorder.find(id).as_ref().map(Story::of) {
        Some(story) if as_text => answer::text(StatusCode::OK, story_text(&story)),
        Some(story) => answer::json(StatusCode::OK, &story),
        None => {
            let message = format!(
                "no request with the id '{}' is kept: only the last {} that failed, were retried, slow, \
                 answered by a fallback, or asked for it with x-mamparo-explain: 1 are",
                shown(id, 200),
                recorder.capacity()
            );
            refused(&message, as_text)
        }
    }
}

fn refused(message: &str, as_text: bool) -> Answer {
    match as_text {
        true => answer::text(StatusCode::NOT_FOUND, format!("{message}\n")),
        false => answer::refusal(StatusCode::NOT_FOUND, message, &[]),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn text_is_for_those_who_would_rather_have_it() {
        for (accept, expected) in [
            ("text/plain", true),
            ("text/plain; charset=utf-8, */*", true),
            ("application/json, text/plain", false),
            ("text/html, */*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_text(&headers), expected, "{accept}");
        }
        assert!(!wants_text(&HeaderMap::new()));
    }
}
