//! Files of certificates: what is kept when they change, and what is told.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;
use crate::clock;
use crate::plan::{self, ListenerTls, Plan, Protocol, UpstreamTls};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn put_pair(&self) -> CertifiedKey<KeyPair> {
        let pair = generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        self.put("tls.crt", &pair.cert.pem());
        self.put("tls.key", &pair.signing_key.serialize_pem());
        pair
    }

    fn tls(&self, client_ca: bool) -> ListenerTls {
        ListenerTls {
            cert: self.path("tls.crt"),
            key: self.path("tls.key"),
            client_ca: client_ca.then(|| self.path("ca.crt")),
        }
    }
}

/// A plan with a listener for each of these.
fn plan(listeners: &[ListenerTls]) -> Plan {
    let text = "listeners: { in: { address: '127.0.0.1:0', upstream: u } }\n\
                upstreams: { u: { endpoints: [127.0.0.1:1] } }\n";
    let mut plan = crate::config::parse("a.yaml", text, &|_| None)
        .unwrap()
        .plan;
    let like = plan.listeners.remove(0);
    plan.listeners = listeners
        .iter()
        .enumerate()
        .map(|(index, tls)| plan::Listener {
            name: format!("in{index}").into(),
            tls: Some(Arc::new(tls.clone())),
            ..like.clone()
        })
        .collect();
    plan
}

#[test]
fn fault_063_what_cannot_be_read_leaves_what_was_there_and_is_told_once() {
    let folder = Folder::new();
    folder.put_pair();
    let plan = plan(&[folder.tls(false), folder.tls(false)]);
    let vault = Vault::default();
    assert_eq!(vault.install(&read(&plan)), []);
    assert_eq!(vault.install(&read(&plan)), [], "nothing has changed");
    let first = vault.server(&plan.listeners[0]).unwrap();
    let key = std::fs::read_to_string(folder.path("tls.key")).unwrap();
    folder.put("tls.key", &KeyPair::generate().unwrap().serialize_pem());
    let material = read(&plan);
    assert!(vault.missing(&material).is_empty());
    let told = vault.install(&material);
    assert!(
        matches!(&told[..], [Changed::Kept(user, problem)]
        if user.to_string() == "listener 'in0'" && problem.setting == "key"),
        "{told:?}"
    );
    assert_eq!(vault.install(&read(&plan)), [], "told already");
    let same = vault.server(&plan.listeners[1]).unwrap();
    assert!(Arc::ptr_eq(&first, &same), "one for both, and the old one");
    folder.put("tls.key", &key);
    assert!(matches!(
        vault.install(&read(&plan))[..],
        [Changed::Recovered(_)]
    ));
    folder.put_pair();
    assert!(matches!(
        vault.install(&read(&plan))[..],
        [Changed::Swapped(_)]
    ));
    let other = vault.server(&plan.listeners[0]).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
}

#[test]
fn what_was_never_read_is_missing_and_what_is_not_used_is_forgotten() {
    let folder = Folder::new();
    let (vault, one) = (Vault::default(), plan(&[folder.tls(false)]));
    let material = read(&one);
    assert_eq!(vault.missing(&material).len(), 1);
    assert_eq!(vault.install(&material), []);
    assert!(vault.server(&one.listeners[0]).is_none());
    folder.put_pair();
    vault.install(&read(&one));
    assert!(vault.server(&one.listeners[0]).is_some());
    vault.retain(&read(&plan(&[])));
    assert!(vault.server(&one.listeners[0]).is_none());
}

#[test]
fn fault_062_sessions_are_resumed_as_long_as_the_same_clients_are_trusted() {
    let folder = Folder::new();
    folder.put("ca.crt", &folder.put_pair().cert.pem());
    let plan = plan(&[folder.tls(true)]);
    let vault = Vault::default();
    let sessions = |vault: &Vault| {
        let server = vault.server(&plan.listeners[0]).unwrap();
        Arc::clone(&server.config().ticketer)
    };
    vault.install(&read(&plan));
    let first = sessions(&vault);
    folder.put_pair();
    vault.install(&read(&plan));
    let second = sessions(&vault);
    assert!(
        Arc::ptr_eq(&first, &second),
        "only the certificate has changed"
    );
    folder.put("ca.crt", &folder.put_pair().cert.pem());
    vault.install(&read(&plan));
    assert!(!Arc::ptr_eq(&second, &sessions(&vault)));
}

#[test]
fn the_files_are_named_whether_they_can_be_read_or_not() {
    let folder = Folder::new();
    let files = read(&plan(&[folder.tls(true)])).files();
    let names = ["ca.crt", "tls.crt", "tls.key"].map(|name| folder.path(name));
    assert_eq!(files, names);
}

fn certificate(from: i32, to: i32) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let pem = params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .pem();
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn a_bundle_is_valid_until_its_first_living_certificate_expires() {
    let now = clock::date();
    let until = |certificates: &[CertificateDer<'_>]| {
        let validity = Validity::of_all(certificates, now).unwrap();
        facts::date(validity.not_after)
    };
    let (dead, older, near, far) = (
        certificate(1999, 2000),
        certificate(1998, 1999),
        certificate(2000, 2090),
        certificate(2000, 2095),
    );
    assert_eq!(until(&[far.clone(), dead.clone(), near]), "2090-01-01");
    assert_eq!(until(&[older.clone(), dead.clone()]), "2000-01-01");
    assert_eq!(until(&[dead, far]), "2095-01-01");
    assert!(Validity::of_all(&[older], now).unwrap().left(now).is_zero());
    assert!(Validity::of_all(&[], now).is_none());
}

#[test]
fn fault_063_what_is_wrong_with_a_file_is_a_sentence() {
    let folder = Folder::new();
    let pair = folder.put_pair();
    let (cert, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let problem = |cert: &str, key: &str| {
        folder.put("tls.crt", cert);
        folder.put("tls.key", key);
        let material = read(&plan(&[folder.tls(false)]));
        let (_, problem) = material.problems().next().expect("a problem");
        (
            problem.setting,
            problem.message.clone(),
            problem.help.unwrap_or_default(),
        )
    };
    for (cert, key, setting, words) in [
        ("", &*key, "cert", "is empty"),
        (" \r\n", &*key, "cert", "is empty"),
        (
            &cert[..cert.len() / 2],
            &key,
            "cert",
            "in the midst of a certificate",
        ),
        ("\u{30}\u{0}", &key, "cert", "DER"),
        (&cert.replacen("MII", "AAA", 1), &key, "cert", "malformed"),
        (&cert, &cert, "key", "holds no private key"),
        (&cert, &key[..key.len() / 2], "key", "in the midst of a key"),
        (
            &cert,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "key",
            "passphrase",
        ),
    ] {
        let (at, message, help) = problem(cert, key);
        assert_eq!(at, setting, "{message}");
        let text = format!("{message} {help}");
        assert!(text.contains(words), "{text} lacks {words}");
        assert!(!message.contains("PRIVATE KEY"), "no word of the content");
    }
    std::fs::remove_file(folder.path("tls.key")).unwrap();
    let missing = read(&plan(&[folder.tls(false)]));
    let (_, problem) = missing.problems().next().unwrap();
    assert!(
        problem
            .message
            .ends_with("tls.key cannot be read: it does not exist")
    );
    std::fs::create_dir(folder.path("tls.key")).unwrap();
    let folder = read(&plan(&[folder.tls(false)]));
    let (_, problem) = folder.problems().next().unwrap();
    assert!(
        problem.message.contains("it is no file"),
        "{}",
        problem.message
    );
}

#[test]
fn an_upstream_without_a_ca_trusts_someone() {
    let slot = Slot::Client(UpstreamTls::default(), Protocol::Auto);
    let mut plan = plan(&[]);
    let mut upstream = (*plan.upstreams[0]).clone();
    upstream.endpoints[0].tls = true;
    assert_eq!(Slot::of_upstream(&upstream), Some(slot));
    plan.upstreams = vec![Arc::new(upstream)];
    let vault = Vault::default();
    vault.install(&read(&plan));
    let client = vault.client(&plan.upstreams[0]).unwrap();
    assert!(!client.has_identity());
    let name_of = |endpoint| client.name_of(&endpoint).unwrap().to_str().into_owned();
    let name = plan::Address::Name {
        host: "payments.internal".into(),
        port: 443,
    };
    assert_eq!(name_of(name), "payments.internal");
    for (record, domain) in [
        ("_https._tcp.payments.internal", "payments.internal"),
        ("payments.service.consul", "payments.service.consul"),
    ] {
        let record = plan::Address::Srv {
            name: record.into(),
        };
        assert_eq!(name_of(record), domain);
    }
    let service = plan::Address::Kubernetes {
        namespace: "shop".into(),
        service: "payments".into(),
        port: "https".into(),
    };
    assert_eq!(name_of(service), "payments.shop.svc");
}
