//! What a listener shows and asks for, ready for handshakes.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};

use super::facts::Validity;
use super::pem::{FileProblem, PemFile};
use super::{alpn, provider, ticketer, vault};
use crate::clock;
use crate::plan::{ListenerTls, Protocol};

/// A listener's side of handshakes. It never changes: files that have changed make another one.
pub struct Server {
    config: Arc<ServerConfig>,
    /// The content of `client_ca`: sessions are resumed only as long as it stays.
    clients: Option<Vec<u8>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("asks_for_certificate", &self.clients.is_some())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// The settings of a handshake.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Reads the files.
    pub(super) fn make(
        files: &ListenerTls,
        protocol: Protocol,
        notes: &mut vault::Notes,
    ) -> Result<Self, FileProblem> {
        let (key, shown) = vault::identity(&files.cert, &files.key, notes)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| shown.problem(&format!("cannot be used: {error}"), None))?;
        let (builder, clients) = match &files.client_ca {
            None => (builder.with_no_client_auth(), None),
            Some(path) => {
                let file = PemFile::read("client_ca", path)?;
                notes.hash(file.bytes());
                let roots = roots(&file, notes)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(provider()),
                )
                .build()
                .map_err(|error| file.problem(&format!("cannot be used: {error}"), None))?;
                let clients = Some(file.bytes().to_vec());
                (builder.with_client_cert_verifier(verifier), clients)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = alpn(protocol, super::SERVES_HTTP2);
        config.ticketer =
            ticketer().map_err(|error| shown.problem(&format!("cannot be used: {error}"), None))?;
        Ok(Self {
            config: Arc::new(config),
            clients,
        })
    }

    /// Takes over the sessions of the one before, so that its clients need no whole handshake: unless
    /// other clients are trusted now, since a resumed session asks for no certificate (fault 62).
    pub(super) fn follow(self: &Arc<Self>, before: &Self) -> Arc<Self> {
        if self.clients != before.clients {
            return Arc::clone(self);
        }
        let mut config = (*self.config).clone();
        config.ticketer = Arc::clone(&before.config.ticketer);
        config.session_storage = Arc::clone(&before.config.session_storage);
        Arc::new(Self {
            config: Arc::new(config),
            clients: self.clients.clone(),
        })
    }
}

/// The authorities in a file.
pub(super) fn roots(
    file: &PemFile<'_>,
    notes: &mut vault::Notes,
) -> Result<RootCertStore, FileProblem> {
    let certificates = file.certificates()?;
    notes.validity(file, Validity::of_all(&certificates, clock::date()));
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            let sentence = format!(
                "holds no authority as its certificate {}: {error}",
                index + 1
            );
            file.problem(&sentence, None)
        })?;
    }
    Ok(roots)
}
