//! Handshakes with endpoints.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::Wire;
use crate::plan::{Address, SocketAddress};
use crate::tls::{self, Client};

/// How one endpoint is spoken to under TLS.
#[derive(Debug, Clone)]
pub struct Secured {
    /// `None`: nothing was read for it, so that no connection comes about.
    client: Option<Arc<Client>>,
    /// The name that its certificate must have; `None`: it can have none.
    name: Option<ServerName<'static>>,
}

/// No handshake came about; the sentence says why. It is inside the [`io::Error`] of a connection that
/// could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{sentence}")]
pub struct TlsFailure {
    sentence: String,
    /// The endpoint speaks none of the protocols that were offered to it.
    pub is_no_protocol: bool,
}

impl TlsFailure {
    /// The sentence, where an error is of a handshake.
    pub fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    pub(super) fn error(sentence: String) -> io::Error {
        io::Error::other(Self {
            sentence,
            is_no_protocol: false,
        })
    }
}

/// They are equal where connections made under the one may serve the requests of the other (rule 69).
impl PartialEq for Secured {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.client, &other.client) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && self.name == other.name
    }
}

impl Secured {
    /// How the configured endpoint is spoken to.
    pub fn new(client: Option<Arc<Client>>, endpoint: &Address) -> Self {
        let name = client.as_ref().and_then(|client| client.name_of(endpoint));
        Self { client, name }
    }

    /// The name of a host that its certificate must have; `None`: it goes by an address.
    pub fn host(&self) -> Option<&str> {
        if let ServerName::DnsName(name) = self.name.as_ref()? {
            Some(name.as_ref())
        } else {
            None
        }
    }

    /// Whether we have a certificate to show.
    pub fn has_identity(&self) -> bool {
        self.client.as_ref().is_some_and(|one| one.has_identity())
    }

    /// Shakes hands with the endpoint at that address; `alone`: whatever the configuration, HTTP/2 is
    /// not what it is for.
    pub(super) async fn shake_hands(
        &self,
        stream: Wire,
        address: &SocketAddress,
        alone: bool,
    ) -> io::Result<TlsStream<Wire>> {
        let Some(client) = &self.client else {
            let sentence = format!("nothing was read for TLS with {address}");
            return Err(TlsFailure::error(sentence));
        };
        let Some(name) = &self.name else {
            let sentence = format!(
                "the name of {address} is none that a certificate can have; set tls.server_name"
            );
            return Err(TlsFailure::error(sentence));
        };
        let connector = TlsConnector::from(Arc::clone(client.config()));
        let shaken = if alone {
            let connector = connector.with_alpn(vec![tls::HTTP1.to_vec()]);
            connector.connect(name.clone(), stream).await
        } else {
            connector.connect(name.clone(), stream).await
        };
        let stream = shaken.map_err(|error| {
            let address = address.to_string();
            io::Error::other(TlsFailure {
                sentence: tls::failure_with(&error, &address, client.has_identity()),
                is_no_protocol: tls::is_no_protocol(&error),
            })
        })?;
        // An endpoint may ignore what was offered; one that was offered only HTTP/2 must take it.
        let offered = &client.config().alpn_protocols;
        let only_http2 = !alone && matches!(&offered[..], [only] if only == tls::H2);
        if only_http2 && !is_http2(&stream) {
            let sentence =
                format!("{address} does not agree to HTTP/2 (ALPN), which `protocol` asks for");
            return Err(TlsFailure::error(sentence));
        }
        Ok(stream)
    }
}

/// Whether both ends have agreed on HTTP/2.
pub(super) fn is_http2(stream: &TlsStream<Wire>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(tls::H2)
}
