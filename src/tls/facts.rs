//! What a certificate says of itself, as far as it is shown to people: from when and until when it is
//! valid, who has issued it, and whether its key is too weak.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// A certificate that expires within this time is told of.
pub(super) const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// From when and until when something is valid, in seconds of Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl Validity {
    /// How long it is valid after `now`; zero where it has expired.
    pub fn left(&self, now: SystemTime) -> Duration {
        let left = self.not_after.saturating_sub(unix(now));
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    }

    /// The last moment, as a time; the year 1970 for a certificate from before it.
    pub fn end(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(self.not_after).unwrap_or(0))
    }

    /// Of a file with several certificates: until the first of them expires. Those that have expired
    /// already count only where there is no other, since a bundle may keep old ones.
    pub(super) fn of_all(certificates: &[CertificateDer<'_>], now: SystemTime) -> Option<Self> {
        let all: Vec<Self> = certificates
            .iter()
            .filter_map(|der| Some(Self::of(&parse(der)?)))
            .collect();
        let living = all.iter().filter(|one| one.not_after >= unix(now));
        living
            .min_by_key(|one| one.not_after)
            .or_else(|| all.iter().max_by_key(|one| one.not_after))
            .copied()
    }

    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        }
    }
}

/// Seconds since 1970.
pub(super) fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der)
        .ok()
        .map(|(_, parsed)| parsed)
}

/// The shortest RSA key that TLS is spoken with, in bits.
const LEAST_RSA: usize = 2048;

/// What is wrong with a certificate's key where it is too weak, such as `an RSA key of 1024 bits, …`.
pub(super) fn weak_key(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = parse(certificate)?;
    let Ok(PublicKey::RSA(key)) = parsed.public_key().parsed() else {
        return None;
    };
    let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
    let first = key.modulus.get(zeros)?;
    let bits = (key.modulus.len() - zeros) * 8 - first.leading_zeros() as usize;
    (bits < LEAST_RSA).then(|| {
        format!("an RSA key of {bits} bits, which is too weak; it takes {LEAST_RSA} at least")
    })
}

/// The day of a second of Unix time, in UTC, such as `2026-11-01`.
pub(super) fn date(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).map_or_else(
        |_far_off| "a date beyond all calendars".to_owned(),
        |stamp| stamp.strftime("%Y-%m-%d").to_string(),
    )
}
