//! Which failures a fallback stands in for.

use super::condition::{self, BadWord, Word};
use super::grpc::{Code, CodeSet};
use super::outcome::{Ending, Reason, StatusSet};

/// The failures that a fallback stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Bit `reason as u8` for each of our reasons.
    pub reasons: u32,
    /// Statuses of the upstream's answers.
    pub statuses: StatusSet,
    /// What gRPC calls ended with.
    pub codes: CodeSet,
}

/// What may stand in `on`, besides a status from 200 to 599. `internal` is both a reason of ours and
/// the code of gRPC.
pub const WORDS: [&str; 38] = [
    "any",
    "5xx",
    "timeout",
    "no_route",
    "bad_request",
    "header_too_large",
    "body_too_large",
    "header_timeout",
    "rate_limited",
    "too_many_in_flight",
    "queue_timeout",
    "too_many_connections",
    "breaker_open",
    "no_endpoint",
    "draining",
    "connect_failure",
    "connect_timeout",
    "tls_failure",
    "reset",
    "protocol_error",
    "try_timeout",
    "request_timeout",
    "internal",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

impl Conditions {
    /// Every reason and every 5xx, or the code of gRPC that stands for one. (Nobody is left to answer when the client is gone.)
    pub fn any() -> Self {
        let mut statuses = StatusSet::EMPTY;
        statuses.insert_range(500, 599);
        Self {
            reasons: condition::bits(&Reason::ALL),
            statuses,
            codes: condition::server_errors(),
        }
    }

    /// Adds what a word of the configuration stands for.
    ///
    /// # Errors
    /// The word is unknown, or nothing could be answered then.
    pub fn add(&mut self, word: &str) -> Result<(), BadWord> {
        match condition::read(word).ok_or(BadWord::Unknown)? {
            Word::Reasons(bits) if bits == condition::bit(Reason::ClientGone) => {
                return Err(BadWord::Refused(
                    "when the client is gone, nobody is left to answer",
                ));
            }
            Word::Reasons(bits) => {
                self.reasons |= bits;
                if word == Code::Internal.name() {
                    self.codes.insert(Code::Internal);
                }
            }
            Word::Grpc(Code::Ok) => {
                return Err(BadWord::Refused("a call that went well needs no fallback"));
            }
            Word::Grpc(code) => self.codes.insert(code),
            Word::ServerErrors => self.statuses.insert_range(500, 599),
            Word::Status(status) => self.statuses.insert(status),
            Word::Any => {
                let Self {
                    reasons,
                    statuses,
                    codes,
                } = Self::any();
                self.reasons |= reasons;
                self.codes = self.codes.union(codes);
                statuses
                    .iter()
                    .for_each(|status| self.insert_status(status));
            }
            Word::RetryAfter => return Err(BadWord::Unknown),
        }
        Ok(())
    }

    /// Adds a reason, and no other.
    pub fn insert_reason(&mut self, reason: Reason) {
        self.reasons |= condition::bit(reason);
    }

    /// Adds a status of the upstream's answers.
    pub fn insert_status(&mut self, status: u16) {
        self.statuses.insert(status);
    }

    /// Whether the fallback answers in place of this ending, ours or the upstream's (rule 74).
    pub fn holds(&self, ending: Ending) -> bool {
        match ending {
            Ending::Answered(status) => self.statuses.contains(status),
            // Either will do (rule 14).
            Ending::Grpc { status, code } => {
                self.statuses.contains(status) || self.codes.contains(code)
            }
            Ending::Failed(Reason::ClientGone) => false,
            Ending::Failed(reason) => self.reasons & condition::bit(reason) != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(words: &[&str]) -> Conditions {
        let mut conditions = Conditions::default();
        for word in words {
            conditions.add(word).unwrap();
        }
        conditions
    }

    #[test]
    fn rule_74_any_holds_for_every_failure_of_ours_and_of_the_upstream() {
        for conditions in [Conditions::any(), on(&["any"])] {
            for reason in Reason::ALL {
                let answerable = reason != Reason::ClientGone;
                assert_eq!(conditions.holds(Ending::Failed(reason)), answerable);
            }
            for status in 100..600 {
                let fails = status >= 500;
                assert_eq!(conditions.holds(Ending::Answered(status)), fails);
            }
        }
    }

    #[test]
    fn rule_14_a_grpc_answer_is_stood_in_for_by_its_code_or_by_its_status() {
        let ended = |status, code| Ending::Grpc { status, code };
        for code in Code::ALL {
            let fails = code.http_status() >= 500;
            assert_eq!(Conditions::any().holds(ended(200, code)), fails, "{code:?}");
            assert_eq!(on(&["any"]).holds(ended(200, code)), fails, "{code:?}");
            let unavailable = code == Code::Unavailable;
            assert_eq!(
                on(&["404", "unavailable"]).holds(ended(200, code)),
                unavailable
            );
        }
        assert!(on(&["404", "unavailable"]).holds(ended(404, Code::Unimplemented)));
        assert!(on(&["404", "unavailable"]).holds(ended(503, Code::Unavailable)));
        // A code is not the status that stands for it, and not our reason.
        assert!(!on(&["5xx"]).holds(ended(200, Code::Unavailable)));
        assert!(!on(&["unavailable"]).holds(Ending::Answered(503)));
        assert!(!on(&["unavailable"]).holds(Ending::Failed(Reason::BreakerOpen)));
        // But this word is the name of both.
        assert!(on(&["internal"]).holds(ended(200, Code::Internal)));
        assert!(on(&["internal"]).holds(Ending::Failed(Reason::Internal)));
        let refusal = Conditions::default().add("ok");
        assert!(matches!(refusal, Err(BadWord::Refused(_))));
    }

    #[test]
    fn rule_14_every_word_of_a_list_counts() {
        let conditions = on(&["breaker_open", "timeout", "connect_failure", "404", "5xx"]);
        for reason in Reason::ALL {
            let listed = [
                Reason::BreakerOpen,
                Reason::TryTimeout,
                Reason::RequestTimeout,
                Reason::ConnectTimeout,
                Reason::ConnectFailure,
                Reason::TlsFailure,
            ]
            .contains(&reason);
            assert_eq!(
                conditions.holds(Ending::Failed(reason)),
                listed,
                "{reason:?}"
            );
        }
        for (status, listed) in [
            (200, false),
            (404, true),
            (429, false),
            (500, true),
            (501, true),
            (599, true),
        ] {
            assert_eq!(
                conditions.holds(Ending::Answered(status)),
                listed,
                "{status}"
            );
        }
    }

    #[test]
    fn a_status_of_the_upstream_is_not_our_reason_of_the_same_status() {
        let ours = on(&["breaker_open"]);
        assert!(!ours.holds(Ending::Answered(503)));
        let theirs = on(&["503"]);
        assert!(!theirs.holds(Ending::Failed(Reason::BreakerOpen)));
    }

    #[test]
    fn the_words_are_the_reasons_the_groups_and_no_others() {
        for word in WORDS {
            assert_eq!(Conditions::default().add(word), Ok(()), "{word}");
        }
        for reason in Reason::ALL {
            let answerable = reason != Reason::ClientGone;
            assert_eq!(WORDS.contains(&reason.name()), answerable);
        }
        for name in Code::NAMES {
            assert_eq!(WORDS.contains(&name), name != "ok", "{name}");
        }
        let refusal = Conditions::default().add("client_gone");
        assert!(matches!(refusal, Err(BadWord::Refused(_))));
        for word in ["retry_after", "4xx", "", "42", "breaker"] {
            assert_eq!(Conditions::default().add(word), Err(BadWord::Unknown));
        }
    }

    #[test]
    fn one_thing_can_be_added_without_its_group() {
        let mut conditions = Conditions::default();
        conditions.insert_reason(Reason::ConnectFailure);
        conditions.insert_reason(Reason::ClientGone);
        conditions.insert_status(418);
        assert!(conditions.holds(Ending::Failed(Reason::ConnectFailure)));
        assert!(!conditions.holds(Ending::Failed(Reason::TlsFailure)));
        assert!(!conditions.holds(Ending::Failed(Reason::ClientGone)));
        assert!(conditions.holds(Ending::Answered(418)));
    }
}
