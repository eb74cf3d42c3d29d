//! Why a handshake failed, in words that say what to change.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enums are those of rustls and the standard library, and grow"
)]

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::facts::date;

/// Why a client's handshake failed: the labels of `mamparo_tls_handshake_failures_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was not done within the listener's header timeout.
    Timeout,
    /// The client left in the midst of it.
    ClientGone,
    /// What came is no TLS.
    NotTls,
    /// A certificate is required, and the client showed none.
    NoCertificate,
    /// The client's certificate is not accepted.
    BadCertificate,
    /// The client does not accept our certificate, or broke off with another alert.
    ClientRefused,
    /// No protocol in common by ALPN.
    Alpn,
    /// No version or cipher in common.
    Incompatible,
    /// The client does not keep to the protocol.
    Protocol,
}

impl Why {
    /// Every one, in the order of the declaration.
    pub const ALL: [Self; 9] = [
        Self::Timeout,
        Self::ClientGone,
        Self::NotTls,
        Self::NoCertificate,
        Self::BadCertificate,
        Self::ClientRefused,
        Self::Alpn,
        Self::Incompatible,
        Self::Protocol,
    ];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::ClientGone => "client_gone",
            Self::NotTls => "not_tls",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::ClientRefused => "client_refused",
            Self::Alpn => "alpn",
            Self::Incompatible => "incompatible",
            Self::Protocol => "protocol",
        }
    }
}

/// Why a client's handshake failed, and the sentence for the log.
pub fn whose_fault(error: &io::Error) -> (Why, String) {
    let Some(error) = cause(error) else {
        return (
            Why::ClientGone,
            format!("the client left in the midst of the handshake ({error})"),
        );
    };
    match error {
        Error::NoCertificatesPresented => (
            Why::NoCertificate,
            "the client showed no certificate, and client_ca requires one".to_owned(),
        ),
        Error::InvalidCertificate(why) => (
            Why::BadCertificate,
            format!("the client's certificate {}", certificate(why)),
        ),
        Error::NoApplicationProtocol => (
            Why::Alpn,
            "the client offers no protocol that this listener speaks (ALPN)".to_owned(),
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            (Why::NotTls, "what the client sent is no TLS".to_owned())
        }
        Error::PeerIncompatible(why) => (Why::Incompatible, incompatible(why, "the client")),
        Error::AlertReceived(alert) => (
            Why::ClientRefused,
            match alert {
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::UnsupportedCertificate => {
                    format!(
                        "the client does not accept our certificate ({})",
                        words(*alert)
                    )
                }
                other => format!("the client broke off: {}", words(*other)),
            },
        ),
        other => (
            Why::Protocol,
            format!("the client does not keep to the protocol: {other}"),
        ),
    }
}

/// Why no handshake with an endpoint came about. `endpoint` is its address; `has_identity` whether we
/// have a certificate to show.
pub fn failure_with(error: &io::Error, endpoint: &str, has_identity: bool) -> String {
    let Some(error) = cause(error) else {
        return if error.kind() == io::ErrorKind::UnexpectedEof {
            format!("{endpoint} closed the connection in the midst of the TLS handshake")
        } else {
            format!("the connection to {endpoint} broke in the midst of the TLS handshake: {error}")
        };
    };
    match error {
        Error::InvalidCertificate(why) => {
            format!("the certificate of {endpoint} {}", certificate(why))
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{endpoint} does not speak TLS on this port; is it plain http://?")
        }
        Error::AlertReceived(alert) => alerted(*alert, endpoint, has_identity),
        Error::PeerIncompatible(why) => incompatible(why, endpoint),
        Error::NoApplicationProtocol => no_protocol(endpoint),
        Error::NoCertificatesPresented => format!("{endpoint} showed no certificate"),
        other => format!("the TLS handshake with {endpoint} failed: {other}"),
    }
}

/// Whether an endpoint refused the handshake since it speaks none of the protocols that were offered.
pub fn is_no_protocol(error: &io::Error) -> bool {
    let alert = AlertDescription::NoApplicationProtocol;
    matches!(cause(error), Some(Error::AlertReceived(found)) if *found == alert)
}

/// An endpoint's refusal of a handshake that comes after it: under TLS 1.3 an endpoint judges our
/// certificate when the handshake is over for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(AlertDescription);

impl Refusal {
    /// Why no handshake came about; see [`failure_with`].
    pub fn sentence(self, endpoint: &str, has_identity: bool) -> String {
        alerted(self.0, endpoint, has_identity)
    }
}

/// The refusal behind an error of an exchange, where it is one.
pub fn refusal_of(error: &(dyn std::error::Error + 'static)) -> Option<Refusal> {
    let mut error = Some(error);
    while let Some(one) = error {
        let inner = one.downcast_ref::<io::Error>().and_then(cause);
        if let Some(Error::AlertReceived(alert)) = inner.or_else(|| one.downcast_ref()) {
            let of_handshake = matches!(
                alert,
                AlertDescription::CertificateRequired
                    | AlertDescription::BadCertificate
                    | AlertDescription::UnsupportedCertificate
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA
                    | AlertDescription::AccessDenied
                    | AlertDescription::HandshakeFailure
                    | AlertDescription::DecryptError
            );
            return of_handshake.then_some(Refusal(*alert));
        }
        error = one.source();
    }
    None
}

/// The error of the handshake behind one of the transport.
fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What is wrong with a certificate; follows "the certificate of … ".
fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("expired on {}", day(not_after.as_secs()))
        }
        CertificateError::Expired => "has expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "is not valid before {}; is the clock right?",
            day(not_before.as_secs())
        ),
        CertificateError::NotValidYet => "is not valid yet; is the clock right?".to_owned(),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let expected = expected.to_str();
            if names.is_empty() {
                format!("is not for '{expected}': it has no names (a common name does not count)")
            } else {
                format!("is not for '{expected}' but for {}", names.join(", "))
            }
        }
        CertificateError::NotValidForName => "is for another name".to_owned(),
        CertificateError::UnknownIssuer => "was issued by nobody who is trusted".to_owned(),
        CertificateError::BadSignature => {
            "has a signature that is wrong, or a key that is too weak".to_owned()
        }
        CertificateError::Revoked => "is revoked".to_owned(),
        CertificateError::BadEncoding => "is malformed".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not meant for this side of a connection (extended key usage)".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed in a way that is too weak or not supported".to_owned()
        }
        CertificateError::Other(why) => match why.0.downcast_ref::<super::verify::Untrusted>() {
            Some(why) => why.to_string(),
            None => format!("is not acceptable: {}", why.0),
        },
        other => format!("is not acceptable: {other:?}"),
    }
}

/// A name as people write it: the library says `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn alerted(alert: AlertDescription, endpoint: &str, has_identity: bool) -> String {
    let words = words(alert);
    match alert {
        AlertDescription::CertificateRequired => format!(
            "{endpoint} requires a certificate of ours; set tls.cert and tls.key of the upstream"
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
            if has_identity =>
        {
            format!("{endpoint} does not accept our certificate ({words})")
        }
        AlertDescription::HandshakeFailure | AlertDescription::BadCertificate if !has_identity => {
            format!(
                "{endpoint} refused the handshake ({words}); it may require a certificate of ours \
                 (tls.cert and tls.key of the upstream)"
            )
        }
        AlertDescription::NoApplicationProtocol => no_protocol(endpoint),
        AlertDescription::UnrecognisedName => {
            format!("{endpoint} does not know the name that was asked for; set tls.server_name")
        }
        AlertDescription::ProtocolVersion => {
            format!("{endpoint} speaks neither TLS 1.2 nor TLS 1.3")
        }
        _ => format!("{endpoint} refused the handshake: {words}"),
    }
}

fn no_protocol(endpoint: &str) -> String {
    format!("{endpoint} speaks none of the protocols that the upstream's `protocol` allows (ALPN)")
}

fn incompatible(error: &PeerIncompatible, who: &str) -> String {
    match error {
        PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon => {
            format!("{who} has no cipher in common with us")
        }
        PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic => {
            format!("{who} speaks neither TLS 1.2 nor TLS 1.3")
        }
        other => format!("{who} and we have no way in common: {other:?}"),
    }
}

/// An alert as words: `unknown ca`.
fn words(alert: AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut words = String::with_capacity(name.len() + 4);
    let mut lower = false;
    for character in name.chars() {
        if character.is_uppercase() && lower {
            words.push(' ');
        }
        lower = character.is_lowercase();
        words.extend(character.to_lowercase());
    }
    words
}

fn day(seconds: u64) -> String {
    date(i64::try_from(seconds).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_and_names_are_words() {
        assert_eq!(words(AlertDescription::UnknownCA), "unknown ca");
        assert_eq!(
            words(AlertDescription::CertificateRequired),
            "certificate required"
        );
        assert_eq!(bare("DnsName(\"a.example\")"), "a.example");
        assert_eq!(bare("IpAddress(10.0.0.1)"), "10.0.0.1");
        assert_eq!(bare("plain"), "plain");
    }
}
