//! The words of `retry.on` and `fallback.on`, and what they stand for.

use super::grpc::{Code, CodeSet};
use super::outcome::Reason;

/// Words that stand for several reasons.
const TIMEOUT: [Reason; 3] = [
    Reason::TryTimeout,
    Reason::RequestTimeout,
    Reason::ConnectTimeout,
];
const CONNECT_FAILURE: [Reason; 2] = [Reason::ConnectFailure, Reason::TlsFailure];

/// Why a word cannot stand in `on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadWord {
    /// There is no such word.
    Unknown,
    /// There is, but it would do nothing or harm; the sentence says why.
    Refused(&'static str),
}

/// What one word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// One or more reasons, as bits `reason as u8`.
    Reasons(u32),
    /// Every status from 500 to 599.
    ServerErrors,
    /// This status, 200 to 599.
    Status(u16),
    /// A gRPC call that ended with this.
    Grpc(Code),
    /// An answer with a `retry-after`.
    RetryAfter,
    /// Whatever can fail.
    Any,
}

/// Reads a word; `None` if there is none such. Which words may stand where is for the policies.
pub(super) fn read(word: &str) -> Option<Word> {
    Some(match word {
        "timeout" => Word::Reasons(bits(&TIMEOUT)),
        "connect_failure" => Word::Reasons(bits(&CONNECT_FAILURE)),
        "5xx" => Word::ServerErrors,
        "retry_after" => Word::RetryAfter,
        "any" => Word::Any,
        _ => match (Reason::from_name(word), Code::from_name(word)) {
            (Some(reason), _) => Word::Reasons(bit(reason)),
            (None, Some(code)) => Word::Grpc(code),
            (None, None) => Word::Status(status(word)?),
        },
    })
}

/// The codes that stand for a status of 5xx.
pub fn server_errors() -> CodeSet {
    let mut codes = CodeSet::EMPTY;
    let errors = Code::ALL
        .into_iter()
        .filter(|code| code.http_status() >= 500);
    errors.for_each(|code| codes.insert(code));
    codes
}

/// The bit of a reason.
pub(super) const fn bit(reason: Reason) -> u32 {
    1 << reason as u32
}

/// The bits of several reasons.
pub(super) fn bits(reasons: &[Reason]) -> u32 {
    reasons.iter().fold(0, |bits, reason| bits | bit(*reason))
}

/// A status of an answer that ends a request: three digits, from 200 on.
fn status(word: &str) -> Option<u16> {
    let digits = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    let status = word.parse().ok().filter(|_| digits)?;
    (200..600).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_reason_a_group_or_a_status() {
        for (word, meaning) in [
            ("reset", Some(Word::Reasons(bit(Reason::Reset)))),
            ("timeout", Some(Word::Reasons(bits(&TIMEOUT)))),
            (
                "connect_failure",
                Some(Word::Reasons(bits(&CONNECT_FAILURE))),
            ),
            ("tls_failure", Some(Word::Reasons(bit(Reason::TlsFailure)))),
            ("5xx", Some(Word::ServerErrors)),
            ("any", Some(Word::Any)),
            ("retry_after", Some(Word::RetryAfter)),
            ("200", Some(Word::Status(200))),
            ("599", Some(Word::Status(599))),
            ("100", None),
            ("600", None),
            ("+50", None),
            ("0503", None),
            ("unavailable", Some(Word::Grpc(Code::Unavailable))),
            // Of both names, the one that is ours; the policies know of the other.
            ("internal", Some(Word::Reasons(bit(Reason::Internal)))),
            ("UNAVAILABLE", None),
            ("4xx", None),
            ("Reset", None),
            ("", None),
        ] {
            assert_eq!(read(word), meaning, "{word}");
        }
    }

    #[test]
    fn every_reason_has_a_bit_of_its_own() {
        assert_eq!(bits(&Reason::ALL).count_ones() as usize, Reason::ALL.len());
    }
}
