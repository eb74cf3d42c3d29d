//! What the API says instead of doing what it was asked, as a sentence that says what to change.

use std::time::Duration;

use super::access::Access;
use crate::telemetry::foreign;

/// Bytes of the API's own words that are repeated.
const REPEATED: usize = 300;

/// Why a list or a watch came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// A sentence without a full stop.
    pub(super) text: String,
    /// What was seen last is too old to go on from: list again.
    pub(super) expired: bool,
    /// When the API wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self {
            text,
            expired: false,
            retry_after: None,
        }
    }
}

/// What was asked for, by the verb that a role has to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    List,
    Watch,
}

impl Verb {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

/// What a status other than 200 means; `said` is the message in its body.
pub(super) fn refusal(
    status: u16,
    said: Option<&str>,
    verb: Verb,
    namespace: &str,
    access: &Access,
) -> Problem {
    let (api, verb) = (&access.api, verb.name());
    let text = match status {
        401 => match &access.token_file {
            Some(file) => format!("{api} does not accept the token {} (401)", file.display()),
            None => format!("{api} asks for a token (401); set runtime.kubernetes.token_file"),
        },
        403 => format!(
            "{api} forbids to {verb} EndpointSlices in the namespace `{namespace}` (403): a Role there \
             has to allow {{ apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: \
             [list, watch] }}, and a RoleBinding has to give it to this pod's service account"
        ),
        404 => format!(
            "{api} knows no EndpointSlices of discovery.k8s.io/v1 (404): is it the API of Kubernetes, 1.21 \
             or later?"
        ),
        410 => format!("{api} no longer has what was seen last (410)"),
        429 => format!("{api} is asked too often (429)"),
        status => format!("{api} answers {status} to {verb} EndpointSlices"),
    };
    let said = said.map(str::trim).filter(|said| !said.is_empty());
    Problem {
        text: match said {
            Some(said) => format!("{text}; it says: {}", shortened(said)),
            None => text,
        },
        expired: status == 410,
        retry_after: None,
    }
}

/// One line, of which the begin is enough.
pub(super) fn shortened(said: &str) -> String {
    foreign::shown(said, REPEATED)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::live::wire::Dialer;
    use crate::plan::cluster::Cluster;

    fn told(status: u16, said: Option<&str>, verb: Verb) -> Problem {
        let environment =
            |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.0.0.1".to_owned());
        let access = Access::of(
            &Cluster::default(),
            Path::new("/sa"),
            &environment,
            Dialer::System,
        );
        refusal(status, said, verb, "shop", &access.unwrap())
    }

    #[test]
    fn each_refusal_says_what_to_change() {
        for (status, part) in [
            (401, "does not accept the token /sa/token"),
            (
                403,
                "forbids to watch EndpointSlices in the namespace `shop`",
            ),
            (
                403,
                "apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]",
            ),
            (404, "1.21 or later"),
            (410, "no longer has"),
            (429, "too often"),
            (500, "https://10.0.0.1:443 answers 500 to watch"),
        ] {
            let problem = told(status, None, Verb::Watch);
            assert!(problem.text.contains(part), "{}", problem.text);
            assert_eq!(problem.expired, status == 410);
        }
    }

    #[test]
    fn the_words_of_the_api_are_repeated_on_one_line_and_in_bounds() {
        let problem = told(500, Some(" a\nb "), Verb::List);
        assert!(problem.text.ends_with("; it says: a b"), "{}", problem.text);
        let long = told(500, Some(&"é".repeat(1_000)), Verb::List).text;
        assert!(long.ends_with("é…") && long.chars().count() < 400);
    }
}
