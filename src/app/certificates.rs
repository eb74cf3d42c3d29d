//! The files of certificates while the process runs: what was read anew is put to use without touching
//! a connection, what cannot be used is told of and leaves things as they were (fault 63).

use std::sync::Arc;

use super::Shared;
use crate::clock;
use crate::config::{self, Loaded};
use crate::server::status;
use crate::telemetry::events::{Kind, stamp};
use crate::telemetry::readings::CertificateReading;
use crate::tls::{self, Changed, User};

impl Shared {
    /// What keeps a configuration from running: files that cannot be used, and nothing was read of them
    /// before.
    pub(super) fn missing_certificates(&self, next: &Loaded) -> Vec<String> {
        let missing = self.proxy.vault().missing(&next.certificates);
        let problems = missing.into_iter().map(|(user, problem)| {
            config::certificate_problem(&next.effective, user, problem).to_string()
        });
        problems.collect()
    }

    /// Puts to use what was read: new connections of both sides go by it, those that are open go on.
    pub(super) fn renew_certificates(&self, read: &Loaded) {
        let vault = self.proxy.vault();
        let changes = vault.install(&read.certificates);
        for change in &changes {
            self.tell_of_certificates(change, read);
        }
        if changes
            .iter()
            .any(|change| matches!(change, Changed::Swapped(_)))
        {
            let site = self.proxy.site();
            self.doors.renew(&site.snapshot.plan, vault);
            site.snapshot
                .upstreams()
                .for_each(|upstream| upstream.renew());
        }
    }

    fn tell_of_certificates(&self, change: &Changed, read: &Loaded) {
        let text = match change {
            Changed::Swapped(user) => {
                let text = format!("{user}: other certificates are in use now");
                tracing::info!("{text}");
                warn_of_expiry(read, Some(user));
                text
            }
            Changed::Recovered(user) => {
                let text =
                    format!("{user}: the files of its certificates hold again what is in use");
                tracing::info!("{text}");
                text
            }
            Changed::Kept(user, problem) => {
                let problem = config::certificate_problem(&read.effective, user, problem);
                let text = format!(
                    "{user}: its certificates were not swapped, the old ones stay in use: {}",
                    problem.message
                );
                match &problem.place {
                    Some(place) => tracing::error!("{place}: {}: {text}", problem.path),
                    None => tracing::error!("{}: {text}", problem.path),
                }
                text
            }
        };
        let events = self.proxy.telemetry.events();
        events.note(clock::date(), Kind::Certificates, text);
    }

    /// Every file in use, for the status.
    pub(super) fn certificates(&self) -> Vec<status::Certificate> {
        let mut all = Vec::new();
        for (user, slot) in tls::users(&self.proxy.site().snapshot.plan) {
            let (files, problem) = self.proxy.vault().state(&slot);
            let (listener, upstream) = names(&user);
            all.extend(
                files
                    .into_iter()
                    .map(|(_, file, validity)| status::Certificate {
                        listener: listener.map(|name| name.to_string()),
                        upstream: upstream.map(|name| name.to_string()),
                        file: file.display().to_string(),
                        expires_at: stamp(validity.end()),
                        problem: problem.clone(),
                    }),
            );
        }
        all
    }

    /// Every file in use, for a scrape.
    pub(super) fn certificate_readings(&self) -> Vec<CertificateReading> {
        let mut all: Vec<CertificateReading> = Vec::new();
        for (user, slot) in tls::users(&self.proxy.site().snapshot.plan) {
            let (listener, upstream) = names(&user);
            let (listener, upstream): (Arc<str>, Arc<str>) = (
                listener.cloned().unwrap_or_default(),
                upstream.cloned().unwrap_or_default(),
            );
            for (_, file, validity) in self.proxy.vault().state(&slot).0 {
                let file = file.display().to_string();
                let expires = validity.not_after;
                let same = |one: &&mut CertificateReading| {
                    one.file == file && one.listener == listener && one.upstream == upstream
                };
                // One file may hold the certificate and the authorities.
                if let Some(known) = all.iter_mut().find(same) {
                    known.expires = known.expires.min(expires);
                    continue;
                }
                all.push(CertificateReading {
                    listener: Arc::clone(&listener),
                    upstream: Arc::clone(&upstream),
                    file,
                    expires,
                });
            }
        }
        all
    }
}

/// Says which certificates have expired, or will soon: of one user, or of all.
pub(super) fn warn_of_expiry(read: &Loaded, of: Option<&User>) {
    for one in read.certificates.expiring() {
        if of.is_none_or(|user| *user == one.user) {
            let verb = if one.left.is_zero() {
                "expired"
            } else {
                "expires"
            };
            let (user, file, date) = (&one.user, one.file.display(), &one.date);
            tracing::warn!("{user}: the certificate in {file} {verb} on {date}");
        }
    }
}

const fn names(user: &User) -> (Option<&Arc<str>>, Option<&Arc<str>>) {
    match user {
        User::Listener(name) => (Some(name), None),
        User::Upstream(name) => (None, Some(name)),
    }
}
