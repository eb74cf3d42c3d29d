//! The statuses of gRPC: what they are called, what stands for them where an answer carries none, and
//! what they say in the words that HTTP's policies use.

use super::outcome::Reason;

/// How a gRPC call ended. The list is gRPC's own, and closed (`doc/statuscodes.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// It went well.
    Ok,
    /// Given up, mostly by the caller.
    Cancelled,
    /// Nobody knows; also where an answer carries no status.
    Unknown,
    /// The request is wrong, whatever the state of the service.
    InvalidArgument,
    /// Too late.
    DeadlineExceeded,
    /// There is no such thing.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// Not for this caller.
    PermissionDenied,
    /// A quota, or room, is used up.
    ResourceExhausted,
    /// Not in this state of the service.
    FailedPrecondition,
    /// In conflict with another call.
    Aborted,
    /// Past the end.
    OutOfRange,
    /// There is no such method.
    Unimplemented,
    /// Something is broken.
    Internal,
    /// Not now.
    Unavailable,
    /// Lost for good.
    DataLoss,
    /// Who is calling?
    Unauthenticated,
}

impl Code {
    /// Every code, by its number: `ALL[c as usize] == c`.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The words for configuration and logs, in the order of [`Self::ALL`].
    pub const NAMES: [&'static str; 17] = {
        let mut names = [""; 17];
        let mut index = 0;
        while index < names.len() {
            names[index] = Self::ALL[index].name();
            index += 1;
        }
        names
    };

    /// The word for configuration and logs.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status that says the same (`google/rpc/code.proto`). By it a call is sorted where HTTP
    /// and gRPC share a policy: breakers, error classes, the `code` of metrics.
    pub const fn http_status(self) -> u16 {
        self.row().1
    }

    /// The code of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// What a `grpc-status` says. One that is no number, or that nobody has defined, is `UNKNOWN`.
    pub fn of_status(value: &[u8]) -> Self {
        let number = std::str::from_utf8(value).ok();
        let number = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.and_then(|number| number.parse::<usize>().ok());
        let code = number.and_then(|number| Self::ALL.get(number));
        code.copied().unwrap_or(Self::Unknown)
    }

    /// What a client makes of an answer that carries no `grpc-status`
    /// (`doc/http-grpc-status-mapping.md`).
    pub const fn of_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// What a client makes of a stream that was reset, by the error code of HTTP/2
    /// (`doc/PROTOCOL-HTTP2.md`, "Errors").
    pub const fn of_reset(error_code: u32) -> Self {
        match error_code {
            // NO_ERROR to SETTINGS_TIMEOUT, FRAME_SIZE_ERROR, COMPRESSION_ERROR, CONNECT_ERROR.
            0x0..=0x4 | 0x6 | 0x9 | 0xa => Self::Internal,
            // REFUSED_STREAM.
            0x7 => Self::Unavailable,
            // CANCEL.
            0x8 => Self::Cancelled,
            // ENHANCE_YOUR_CALM.
            0xb => Self::ResourceExhausted,
            // INADEQUATE_SECURITY.
            0xc => Self::PermissionDenied,
            _ => Self::Unknown,
        }
    }

    /// What we answer a call with that failed for this reason. Where a client may well come again it is
    /// `UNAVAILABLE`, which clients retry; `RESOURCE_EXHAUSTED` speaks of the caller's own quota, and
    /// `DEADLINE_EXCEEDED` of a call that may have been made (`doc/statuscodes.md`).
    pub const fn of_reason(reason: Reason) -> Self {
        match reason {
            // As gRPC servers answer for methods that they do not know, and as 404 is read.
            Reason::NoRoute => Self::Unimplemented,
            // As 400 is read. `INVALID_ARGUMENT` is for services alone.
            Reason::BadRequest | Reason::ProtocolError | Reason::Internal => Self::Internal,
            Reason::HeaderTooLarge | Reason::BodyTooLarge | Reason::RateLimited => {
                Self::ResourceExhausted
            }
            Reason::TooManyInFlight
            | Reason::QueueTimeout
            | Reason::TooManyConnections
            | Reason::BreakerOpen
            | Reason::NoEndpoint
            | Reason::Draining
            | Reason::ConnectFailure
            // Nothing was sent: this is no call that may have been made.
            | Reason::ConnectTimeout
            | Reason::TlsFailure
            | Reason::Reset => Self::Unavailable,
            Reason::HeaderTimeout | Reason::TryTimeout | Reason::RequestTimeout => {
                Self::DeadlineExceeded
            }
            Reason::ClientGone => Self::Cancelled,
        }
    }

    const fn row(self) -> (&'static str, u16) {
        match self {
            Self::Ok => ("ok", 200),
            Self::Cancelled => ("cancelled", 499),
            Self::Unknown => ("unknown", 500),
            Self::InvalidArgument => ("invalid_argument", 400),
            Self::DeadlineExceeded => ("deadline_exceeded", 504),
            Self::NotFound => ("not_found", 404),
            Self::AlreadyExists => ("already_exists", 409),
            Self::PermissionDenied => ("permission_denied", 403),
            Self::ResourceExhausted => ("resource_exhausted", 429),
            Self::FailedPrecondition => ("failed_precondition", 400),
            Self::Aborted => ("aborted", 409),
            Self::OutOfRange => ("out_of_range", 400),
            Self::Unimplemented => ("unimplemented", 501),
            Self::Internal => ("internal", 500),
            Self::Unavailable => ("unavailable", 503),
            Self::DataLoss => ("data_loss", 500),
            Self::Unauthenticated => ("unauthenticated", 401),
        }
    }
}

/// A set of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CodeSet(u32);

impl CodeSet {
    /// The set without members.
    pub const EMPTY: Self = Self(0);

    /// Adds a code.
    pub const fn insert(&mut self, code: Code) {
        self.0 |= 1 << code as u32;
    }

    /// Whether the code is a member.
    pub const fn contains(self, code: Code) -> bool {
        self.0 & 1 << code as u32 != 0
    }

    /// Whether there is no member.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members, by their numbers.
    pub fn iter(self) -> impl Iterator<Item = Code> {
        Code::ALL
            .into_iter()
            .filter(move |code| self.contains(*code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_at_its_number_and_is_found_by_its_name() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(Code::from_name(code.name()), Some(code));
            assert_eq!(Code::NAMES[number], code.name());
            assert_eq!(Code::of_status(number.to_string().as_bytes()), code);
        }
        assert_eq!(Code::ALL[14], Code::Unavailable);
        assert_eq!(Code::from_name("UNAVAILABLE"), None);
    }

    #[test]
    fn a_status_that_says_nothing_is_unknown() {
        for value in [
            &b""[..],
            b"17",
            b"-1",
            b"+0",
            b" 0",
            b"ok",
            b"\xff",
            b"99999999999999999999",
        ] {
            assert_eq!(Code::of_status(value), Code::Unknown, "{value:?}");
        }
        assert_eq!(Code::of_status(b"00"), Code::Ok);
    }

    #[test]
    fn rule_13_what_carries_no_status_is_read_as_clients_read_it() {
        use Code::*;
        for (status, code) in [
            (200, Unknown),
            (400, Internal),
            (401, Unauthenticated),
            (403, PermissionDenied),
            (404, Unimplemented),
            (413, Unknown),
            (429, Unavailable),
            (500, Unknown),
            (502, Unavailable),
            (503, Unavailable),
            (504, Unavailable),
        ] {
            assert_eq!(Code::of_http(status), code, "{status}");
        }
        let of_reset = |codes: &[u32]| {
            codes
                .iter()
                .map(|one| Code::of_reset(*one))
                .collect::<Vec<_>>()
        };
        assert_eq!(of_reset(&[0, 1, 2, 3, 4, 6, 9, 10]), [Internal; 8]);
        assert_eq!(
            of_reset(&[7, 8, 11, 12]),
            [Unavailable, Cancelled, ResourceExhausted, PermissionDenied]
        );
        assert_eq!(of_reset(&[5, 13, 14, u32::MAX]), [Unknown; 4]);
    }

    #[test]
    fn rule_73_what_may_be_sent_again_is_unavailable_and_what_may_have_been_done_is_not() {
        for reason in Reason::ALL {
            let code = Code::of_reason(reason);
            assert_ne!(code, Code::Ok);
            // Of our 503 and 502 nothing was done, or it is the connection that broke.
            let again = matches!(reason.status(), 502 | 503) && reason != Reason::ProtocolError;
            let again = again || reason == Reason::ConnectTimeout;
            assert_eq!(code == Code::Unavailable, again, "{}", reason.name());
        }
        assert_eq!(
            Code::of_reason(Reason::RateLimited),
            Code::ResourceExhausted
        );
        assert_eq!(
            Code::of_reason(Reason::RequestTimeout),
            Code::DeadlineExceeded
        );
        assert_eq!(Code::of_reason(Reason::NoRoute), Code::Unimplemented);
    }

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let mut set = CodeSet::EMPTY;
        assert!(set.is_empty());
        set.insert(Code::Unauthenticated);
        set.insert(Code::Ok);
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [Code::Ok, Code::Unauthenticated]
        );
        let mut other = CodeSet::EMPTY;
        other.insert(Code::Aborted);
        assert!(!set.contains(Code::Aborted) && set.union(other).contains(Code::Aborted));
    }
}
