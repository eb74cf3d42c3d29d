//! Whether an endpoint's certificate is to be trusted: as rustls judges it, with two differences. What
//! is refused is said with the names in the certificate, and a certificate that is itself in the `ca`
//! file is trusted, although it is no authority's: that is what `openssl req -x509` makes.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enums are those of rustls and the standard library, and grow"
)]

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use x509_parser::x509::X509Version;

use super::facts::{Validity, parse, weak_key};

/// Why a certificate is not trusted; what follows "the certificate of … ".
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Untrusted(pub(super) String);

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) rules: Arc<WebPkiServerVerifier>,
    /// The certificates of the `ca` file; none where the system's authorities are trusted.
    pub(super) pinned: Vec<CertificateDer<'static>>,
    /// Who is trusted, for sentences.
    pub(super) authorities: String,
}

impl Verifier {
    /// A certificate that is trusted as such must still be of this time and have the name.
    fn verify_pinned(
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = parse(certificate).ok_or(CertificateError::BadEncoding)?;
        let validity = Validity::of(&parsed);
        let at = |unix: i64| {
            let since = std::time::Duration::from_secs(u64::try_from(unix).unwrap_or(0));
            UnixTime::since_unix_epoch(since)
        };
        let (not_before, not_after) = (at(validity.not_before), at(validity.not_after));
        if now < not_before {
            return Err(CertificateError::NotValidYetContext {
                time: now,
                not_before,
            }
            .into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext {
                time: now,
                not_after,
            }
            .into());
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
    }

    /// The error with what the certificate says of itself; `None`: that explains nothing.
    fn untrusted(
        &self,
        error: &CertificateError,
        certificate: &CertificateDer<'_>,
    ) -> Option<Error> {
        let parsed = parse(certificate)?;
        let (subject, issuer) = (parsed.subject(), parsed.issuer());
        let authorities = &self.authorities;
        let sentence = if parsed.version() != X509Version::V3 {
            "is of an old version of X.509, which has no names (subjectAltName)".to_owned()
        } else if subject == issuer {
            format!("is self-signed ({subject}) and is not in {authorities}")
        } else if *error == CertificateError::UnknownIssuer {
            format!("was issued by '{issuer}', who is not trusted by {authorities}")
        } else {
            return None;
        };
        let why = OtherError(Arc::new(Untrusted(sentence)));
        Some(Error::InvalidCertificate(CertificateError::Other(why)))
    }
}

/// Says so where a signature could not be verified since the key is too weak.
fn badly_signed(error: Error, certificate: &CertificateDer<'_>) -> Error {
    let Some(weak) = weak_key(certificate) else {
        return error;
    };
    let why = OtherError(Arc::new(Untrusted(format!("has {weak}"))));
    Error::InvalidCertificate(CertificateError::Other(why))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            Self::verify_pinned(end_entity, server_name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        let rules = &self.rules;
        rules
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| match error {
                // The second: what only the library beneath knows, such as an authority's certificate,
                // which a self-signed one mostly is, in a server's place.
                Error::InvalidCertificate(
                    ref why @ (CertificateError::UnknownIssuer | CertificateError::Other(_)),
                ) => self.untrusted(why, end_entity).unwrap_or(error),
                error => error,
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules
            .verify_tls12_signature(message, certificate, signature)
            .map_err(|error| badly_signed(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules
            .verify_tls13_signature(message, certificate, signature)
            .map_err(|error| badly_signed(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.supported_verify_schemes()
    }
}
