//! "did you mean …?": the known word that is nearest to an unknown one.

/// What other programs call our keys. The right side is only suggested where it is known.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("attempts", &["max_attempts"]),
    ("backends", &["upstreams", "endpoints"]),
    ("bind", &["address"]),
    ("bulkheads", &["bulkhead"]),
    ("clusters", &["upstreams"]),
    ("conditions", &["on"]),
    ("connecttimeout", &["connect"]),
    ("concurrency", &["workers", "max_in_flight"]),
    ("hosts", &["endpoints"]),
    ("idletimeout", &["idle", "idle_timeout"]),
    ("lb", &["balance"]),
    ("lbpolicy", &["balance"]),
    ("listen", &["address"]),
    ("loadbalancing", &["balance"]),
    ("maxconcurrent", &["max_in_flight"]),
    ("maxconcurrentcalls", &["max_in_flight"]),
    ("maxconcurrency", &["max_in_flight"]),
    ("maxpendingrequests", &["max_queue"]),
    ("maxretries", &["max_attempts"]),
    ("method", &["methods"]),
    ("numretries", &["max_attempts"]),
    ("path", &["path_prefix"]),
    ("pertrytimeout", &["try"]),
    ("port", &["address"]),
    ("prefix", &["path_prefix", "base"]),
    ("regex", &["path_regex"]),
    ("requesttimeout", &["request"]),
    ("requestspersecond", &["per_second"]),
    ("retries", &["retry"]),
    ("retryon", &["on"]),
    ("rps", &["per_second"]),
    ("servers", &["endpoints"]),
    ("services", &["upstreams"]),
    ("shutdowntimeout", &["drain"]),
    ("targets", &["endpoints"]),
    ("threads", &["workers"]),
    ("timeout", &["timeouts", "request"]),
    ("url", &["address", "endpoints"]),
    ("weight", &["weight"]),
];

/// The candidate that was probably meant; `None` when nothing is near.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let plain = fold(word);
    if plain.is_empty() || word.len() > 100 {
        return None;
    }
    if let Some(same) = candidates
        .clone()
        .into_iter()
        .find(|candidate| fold(candidate) == plain)
    {
        return Some(same);
    }
    let synonyms = ELSEWHERE
        .iter()
        .find(|(elsewhere, _)| *elsewhere == plain)
        .map(|(_, ours)| *ours);
    for ours in synonyms.unwrap_or_default() {
        if let Some(known) = candidates
            .clone()
            .into_iter()
            .find(|candidate| candidate == ours)
        {
            return Some(known);
        }
    }
    let near = candidates
        .clone()
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&plain, &fold(candidate)),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= allowed(plain.len().max(candidate.len())))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    let shortened = |candidate: &&str| {
        let candidate = fold(candidate);
        plain.len().min(candidate.len()) >= 3
            && (candidate.starts_with(&plain) || plain.starts_with(&candidate))
    };
    near.or_else(|| candidates.into_iter().find(shortened))
}

/// Typing errors that a word of this length may hold and still be itself.
fn allowed(length: usize) -> usize {
    match length {
        0..=2 => 0,
        3..=5 => 1,
        6..=9 => 2,
        _ => 3,
    }
}

/// `maxAttempts`, `max-attempts` and `MAX_ATTEMPTS` are one word.
fn fold(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// The words as a sentence lists them: `a`, `b` or `c`.
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = [
        "max_attempts",
        "on",
        "methods",
        "backoff",
        "timeouts",
        "request",
    ];

    #[test]
    fn near_words_are_found() {
        for (word, meant) in [
            ("max_attemps", Some("max_attempts")),
            ("maxAttempts", Some("max_attempts")),
            ("Max-Attempts", Some("max_attempts")),
            ("num_retries", Some("max_attempts")),
            ("timeout", Some("timeouts")),
            ("retry_on", Some("on")),
            ("bakcoff", Some("backoff")),
            ("backoff_policy", Some("backoff")),
            ("zebra", None),
            ("", None),
            ("__", None),
        ] {
            assert_eq!(nearest(word, KEYS), meant, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1_000), KEYS), None);
    }

    #[test]
    fn a_list_reads_as_a_sentence() {
        assert_eq!(one_of(&["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!((one_of(&["a"]), one_of(&[])), ("`a`".into(), String::new()));
    }
}
