//! Reading PEM files. What is wrong with one is a sentence that names it.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enums are those of rustls and the standard library, and grow"
)]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::facts;

/// The largest file that is read; bundles of every authority of the world are a tenth of it.
const MAX_BYTES: u64 = 4 << 20;

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// The setting in the `tls` block: `cert`, `key`, `ca` or `client_ca`.
    pub setting: &'static str,
    /// Which file.
    pub file: PathBuf,
    /// A sentence that names it.
    pub message: String,
    /// What to do about it.
    pub help: Option<&'static str>,
}

/// One file of a `tls` block.
pub(super) struct PemFile<'a> {
    setting: &'static str,
    path: &'a Path,
    bytes: Vec<u8>,
}

impl<'a> PemFile<'a> {
    pub(super) fn read(setting: &'static str, path: &'a Path) -> Result<Self, FileProblem> {
        let bytes = Vec::new();
        let mut file = Self {
            setting,
            path,
            bytes,
        };
        match read(path) {
            Ok(bytes) => file.bytes = bytes,
            Err(why) => return Err(file.problem(&format!("cannot be read: {why}"), None)),
        }
        Ok(file)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The setting and the path.
    pub(super) fn named(&self) -> (&'static str, &Path) {
        (self.setting, self.path)
    }

    /// Its certificates, at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
        let mut certificates = Vec::new();
        for one in CertificateDer::pem_slice_iter(&self.bytes) {
            let one = one.map_err(|error| self.malformed("certificate", &error))?;
            if facts::parse(&one).is_none() {
                let count = certificates.len() + 1;
                return Err(self.problem(&format!("certificate {count} in it is malformed"), None));
            }
            certificates.push(one);
        }
        if !certificates.is_empty() {
            return Ok(certificates);
        }
        if self.is_empty() {
            return Err(self.problem("is empty", None));
        }
        let help = if self.bytes.first() == Some(&0x30) {
            "it looks like DER; make PEM of it: openssl x509 -inform der -in FILE -out FILE.pem"
        } else {
            "a certificate in PEM begins with -----BEGIN CERTIFICATE-----"
        };
        Err(self.problem("holds no certificate", Some(help)))
    }

    /// Its private key.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, FileProblem> {
        match PrivateKeyDer::from_pem_slice(&self.bytes) {
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) if self.is_empty() => Err(self.problem("is empty", None)),
            Err(pem::Error::NoItemsFound) => Err(self.no_key()),
            Err(error) => Err(self.malformed("key", &error)),
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }

    fn no_key(&self) -> FileProblem {
        let encrypted = contains(&self.bytes, b"BEGIN ENCRYPTED PRIVATE KEY")
            || contains(&self.bytes, b"Proc-Type: 4,ENCRYPTED");
        let (what, help) = if encrypted {
            (
                "holds a key that is encrypted with a passphrase",
                "decrypt it: openssl pkey -in FILE -out FILE.plain; and guard it by its permissions",
            )
        } else if self.bytes.first() == Some(&0x30) {
            (
                "holds no private key in PEM",
                "it looks like DER; make PEM of it: openssl pkey -inform der -in FILE -out FILE.pem",
            )
        } else {
            (
                "holds no private key",
                "a key in PEM begins with -----BEGIN PRIVATE KEY-----, or RSA or EC PRIVATE KEY",
            )
        };
        self.problem(what, Some(help))
    }

    fn malformed(&self, what: &str, error: &pem::Error) -> FileProblem {
        let cut =
            format!("ends in the midst of a {what}: it was cut off, or is still being written");
        let sentence = match error {
            pem::Error::MissingSectionEnd { .. } => cut,
            pem::Error::Base64Decode(_) => format!("holds a {what} that is no valid base64"),
            other => format!("is no valid PEM: {other}"),
        };
        self.problem(&sentence, None)
    }

    /// A problem of this file; `what` follows its name.
    pub(super) fn problem(&self, what: &str, help: Option<&'static str>) -> FileProblem {
        FileProblem {
            setting: self.setting,
            file: self.path.to_owned(),
            message: format!("{} {what}", self.path.display()),
            help,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bounded = || -> io::Result<Vec<u8>> {
        // A pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other("it is larger than 4 MiB"));
        }
        Ok(bytes)
    };
    bounded().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.symlink_metadata().is_ok() => {
            "it is a link to a file that does not exist".to_owned()
        }
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "we may not read it; the permissions of the file and its folders decide".to_owned()
        }
        _ => error.to_string(),
    })
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
