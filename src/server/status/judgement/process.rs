//! What concerns the whole process: whether it takes work, its configuration, its certificates.

use super::{Judgement, Word};
use crate::server::status::words::plural;
use crate::server::status::{Certificate, LastReload, ReloadResult, Status};

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Days before its end from which a certificate is told of, as `mamparo check` does.
const SOON: i64 = 14;

const PROCESS: &str = "the process";
const CONFIGURATION: &str = "the configuration";
const CERTIFICATE: &str = "a certificate";
/// What the verdict calls things.
pub(super) const SUBJECTS: [&str; 3] = [PROCESS, CONFIGURATION, CERTIFICATE];

/// What the verdict calls it.
pub(super) const fn subject(word: Word) -> &'static str {
    match word {
        Word::ConfigRefused => CONFIGURATION,
        Word::CertificateExpired | Word::CertificateUnused | Word::CertificateExpires => {
            CERTIFICATE
        }
        Word::Draining
        | Word::Starting
        | Word::NoEndpoint
        | Word::Down
        | Word::HalfOpen
        | Word::Failing
        | Word::Degraded
        | Word::BulkheadFull
        | Word::RetryBudgetEmpty
        | Word::BulkheadNearlyFull
        | Word::Recovered
        | Word::Forced
        | Word::Unresolved
        | Word::Ok => PROCESS,
    }
}

/// All that is wrong with it, the worst first.
pub(super) fn notices(status: &Status) -> Vec<Judgement> {
    let mut all = Vec::new();
    if status.process.draining {
        let draining = Judgement::of(Word::Draining, "Draining: new work should go elsewhere");
        all.push(draining.next("What is in flight is answered first."));
    } else if !status.process.ready {
        let starting = "Starting: not every listener is bound yet";
        all.push(Judgement::of(Word::Starting, starting));
    }
    all.extend(status.last_reload.as_ref().and_then(refused));
    for certificate in &status.certificates {
        all.extend(expiring(certificate, &status.at));
    }
    let mut users = Vec::new();
    for certificate in &status.certificates {
        let user = user(certificate);
        if let Some(problem) = &certificate.problem
            && !users.contains(&user)
        {
            let what = format!("The newer certificates of {user} are not in use");
            let unused = Judgement::of(Word::CertificateUnused, what);
            all.push(unused.why(problem).next("Those from before still are."));
            users.push(user);
        }
    }
    all.sort_by_key(|one| one.rank);
    all
}

fn refused(last: &LastReload) -> Option<Judgement> {
    if last.result != ReloadResult::Refused {
        return None;
    }
    let count = plural(last.problems.len() as u64, "problem", "problems");
    let what = format!("The last configuration was refused: {count}");
    // The first line has the place and the sentence; the file's own lines stand below it.
    let first = last
        .problems
        .first()
        .and_then(|problem| problem.lines().next());
    let judgement = Judgement::of(Word::ConfigRefused, what)
        .why(first.unwrap_or_default())
        .next(format!("Generation {} still runs.", last.generation));
    Some(judgement.since(Some(last.at.clone())))
}

fn expiring(certificate: &Certificate, at: &str) -> Option<Judgement> {
    let seconds = |stamp: &str| Some(stamp.parse::<jiff::Timestamp>().ok()?.as_second());
    let days = (seconds(&certificate.expires_at)? - seconds(at)?).div_euclid(DAY_SECONDS);
    let (word, when) = match days {
        SOON.. => return None,
        ..0 => (Word::CertificateExpired, "has expired".to_owned()),
        0 => (Word::CertificateExpires, "expires within a day".to_owned()),
        _ => {
            let days = plural(days.unsigned_abs(), "day", "days");
            (Word::CertificateExpires, format!("expires in {days}"))
        }
    };
    let what = format!("A certificate of {} {when}", user(certificate));
    let judgement = Judgement::of(word, what).why(&certificate.file);
    Some(judgement.next("Put a new one into its place: files are watched."))
}

fn user(certificate: &Certificate) -> String {
    match (&certificate.listener, &certificate.upstream) {
        (Some(listener), _) => format!("listener {listener}"),
        (None, Some(upstream)) => format!("upstream {upstream}"),
        (None, None) => "nobody".to_owned(),
    }
}
