//! Where a socket is: an IP address with a port, or a path in the file system.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// What stands before the path of a socket in the file system.
pub const UNIX_SCHEME: &str = "unix:";

/// Where a socket is bound, or connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SocketAddress {
    /// On the network.
    Ip(SocketAddr),
    /// In the file system of this machine.
    Unix(Arc<Path>),
}

impl SocketAddress {
    /// The address on the network, where it is there.
    pub const fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX_SCHEME}{}", path.display()),
        }
    }
}
