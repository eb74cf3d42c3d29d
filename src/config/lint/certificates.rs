//! Lints about files of certificates.

use super::super::{Loaded, certificate_path};
use super::Lint;
use crate::tls::Expiring;

/// A day.
const DAY: u64 = 24 * 60 * 60;

/// Certificates that have expired, or will within 14 days.
pub(super) fn lints(loaded: &Loaded) -> Vec<Lint> {
    let expiring = loaded.certificates.expiring();
    expiring.map(|one| lint(loaded, &one)).collect()
}

fn lint(loaded: &Loaded, one: &Expiring) -> Lint {
    let (file, date) = (one.file.display(), &one.date);
    let path = certificate_path(&one.user, one.setting);
    let message = match one.left.as_secs() / DAY {
        0 if one.left.is_zero() => format!("the certificate in {file} expired on {date}"),
        0 => format!("the certificate in {file} expires on {date}, within a day"),
        1 => format!("the certificate in {file} expires on {date}, in 1 day < 14 days"),
        days => format!("the certificate in {file} expires on {date}, in {days} days < 14 days"),
    };
    Lint {
        id: "certificate-expires-soon",
        place: loaded.effective.place_of(&path).cloned(),
        path,
        message,
        help: Some(
            "renew it and put the new one in the place of the file: it is taken without a restart"
                .to_owned(),
        ),
    }
}
