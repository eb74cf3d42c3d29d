//! Where the API of a Kubernetes cluster is, and which zone of it we are in.

use std::path::PathBuf;
use std::sync::Arc;

/// What is known of the cluster beside what a pod is told by its surroundings. The default is a pod's:
/// everything comes from its service account and its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// Where the API is; `None`: where the environment of a pod says.
    pub api: Option<Api>,
    /// What is shown to the API, read anew for each request; `None`: in a pod, the token of its service
    /// account; with an `api` of its own, nothing.
    pub token_file: Option<PathBuf>,
    /// Who signs the certificate of the API, PEM; `None`: in a pod, the file of its service account; with
    /// an `api` of its own, whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Our own zone, whose endpoints are preferred; `None`: all are alike.
    pub zone: Option<Arc<str>>,
}

/// The address of an API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Api {
    /// Whether it is spoken to under TLS.
    pub tls: bool,
    /// A name or an address; one of IPv6 without its brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// What stands before `/apis`, without a slash at its end; mostly nothing.
    pub path: Arc<str>,
}

impl std::fmt::Display for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let (host, port, path) = (&self.host, self.port, &self.path);
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{path}")
        } else {
            write!(f, "{scheme}://{host}:{port}{path}")
        }
    }
}
