//! How an upstream's endpoints are spoken to under TLS, ready for handshakes.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::pem::{FileProblem, PemFile};
use super::server::roots;
use super::verify::Verifier;
use super::{alpn, provider, vault};
use crate::plan::{self, Address, Protocol, UpstreamTls};

/// An upstream's side of handshakes. It never changes: files that have changed make another one.
pub struct Client {
    config: Arc<ClientConfig>,
    has_identity: bool,
    name: Option<ServerName<'static>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("has_identity", &self.has_identity)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// The settings of a handshake.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Whether it has a certificate to show.
    pub fn has_identity(&self) -> bool {
        self.has_identity
    }

    /// The name that an endpoint's certificate must have: the configured one, else the endpoint's own
    /// name or address (rule 69).
    pub fn name_of(&self, endpoint: &Address) -> Option<ServerName<'static>> {
        if let Some(name) = &self.name {
            return Some(name.clone());
        }
        match endpoint {
            Address::Ip(address) => Some(ServerName::IpAddress(address.ip().into())),
            Address::Name { host, .. } => ServerName::try_from(host.to_string()).ok(),
            // Each target has a name of its own, which comes with it; this is for none that has.
            Address::Srv { name } => ServerName::try_from(plan::domain_of(name).to_owned()).ok(),
            Address::Kubernetes {
                namespace, service, ..
            } => ServerName::try_from(format!("{service}.{namespace}.svc")).ok(),
            // It has no name but that of this machine.
            Address::Unix(_) => ServerName::try_from("localhost").ok(),
        }
    }

    /// For a peer that is no upstream: whom the system trusts is trusted, and HTTP/1.1 is spoken.
    ///
    /// # Errors
    /// The system's authorities cannot be used.
    pub fn of_the_system() -> Result<Self, FileProblem> {
        Self::for_authority(None)
    }

    /// For a server that is no endpoint: it has to be signed by an authority of this file, or without one
    /// by somebody whom the system trusts. Shows no certificate, and speaks HTTP/1.1.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn for_authority(ca: Option<&Path>) -> Result<Self, FileProblem> {
        let files = UpstreamTls {
            ca: ca.map(Path::to_owned),
            ..UpstreamTls::default()
        };
        Self::make(&files, Protocol::Http1, &mut vault::Notes::default())
    }

    /// Reads the files.
    pub(super) fn make(
        files: &UpstreamTls,
        protocol: Protocol,
        notes: &mut vault::Notes,
    ) -> Result<Self, FileProblem> {
        let (roots, pinned, authorities) = match &files.ca {
            None => (system(), Vec::new(), "the system's authorities".to_owned()),
            Some(path) => {
                let file = PemFile::read("ca", path)?;
                notes.hash(file.bytes());
                let roots = Arc::new(roots(&file, notes)?);
                (roots, file.certificates()?, path.display().to_string())
            }
        };
        let failed = |error: &dyn std::fmt::Display| FileProblem {
            setting: "ca",
            file: files.ca.clone().unwrap_or_default(),
            message: format!("{authorities} cannot be used: {error}"),
            help: None,
        };
        let rules = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider()))
            .build()
            .map_err(|error| failed(&error))?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?;
        let verifier = Verifier {
            rules,
            pinned,
            authorities,
        };
        // The judgement is rustls's own, see there.
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (key, _) = vault::identity(cert, key, notes)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = alpn(protocol, super::SPEAKS_HTTP2);
        let name = files.server_name.as_deref();
        Ok(Self {
            config: Arc::new(config),
            has_identity: files.identity.is_some(),
            name: name.and_then(|name| ServerName::try_from(name.to_owned()).ok()),
        })
    }
}

/// Whom the system trusts, read once; where it says nothing, whom Mozilla trusts.
fn system() -> Arc<RootCertStore> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Bundles keep certificates that nobody can parse; the others count.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    });
    Arc::clone(roots)
}
