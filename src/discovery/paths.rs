//! Which way the system would send to an address: asked by connecting a socket for datagrams, which sends
//! nothing.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Asks the system.
#[derive(Debug, Default)]
pub(super) struct Paths {
    v4: OnceCell<Option<UdpSocket>>,
    v6: OnceCell<Option<UdpSocket>>,
}

/// Where a way leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The address is one of this machine's.
    Here,
    /// To another machine.
    Elsewhere,
    /// There is none.
    None,
}

impl Paths {
    /// Whether the system knows any way to the address.
    pub(super) fn lead_to(&self, address: IpAddr) -> bool {
        self.way(address) != Way::None
    }

    /// Whether connections to the address would come in at one of the listeners.
    pub(super) fn lead_back(&self, listeners: &[SocketAddr], address: SocketAddr) -> bool {
        listeners.iter().any(|listener| {
            listener.port() == address.port()
                && (listener.ip() == address.ip()
                    || takes_all(listener.ip(), address.ip())
                        && (address.ip().is_loopback() || self.way(address.ip()) == Way::Here))
        })
    }

    fn way(&self, address: IpAddr) -> Way {
        let (socket, any): (_, IpAddr) = match address {
            IpAddr::V4(_) => (&self.v4, Ipv4Addr::UNSPECIFIED.into()),
            IpAddr::V6(_) => (&self.v6, Ipv6Addr::UNSPECIFIED.into()),
        };
        let socket = socket.get_or_init(|| UdpSocket::bind((any, 0)).ok());
        let connected = socket.as_ref().and_then(|socket| {
            // The port does not matter, but it cannot be 0.
            socket.connect((address, 9)).ok()?;
            socket.local_addr().ok()
        });
        match connected {
            Some(own) if own.ip() == address => Way::Here,
            Some(_) => Way::Elsewhere,
            None => Way::None,
        }
    }
}

/// Whether a listener on every address takes connections to this one.
fn takes_all(listener: IpAddr, address: IpAddr) -> bool {
    match listener {
        IpAddr::V4(listener) => listener.is_unspecified() && address.is_ipv4(),
        // Those of version 4 come in there, too.
        IpAddr::V6(listener) => listener.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_060_an_address_that_is_a_listener_leads_back() {
        let paths = Paths::default();
        for (listener, address, back) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "127.0.0.2:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "127.0.0.2:80", true),
            ("[::]:80", "192.0.2.1:80", false),
            ("0.0.0.0:80", "192.0.2.1:80", false),
        ] {
            let listeners = [listener.parse().unwrap()];
            let address = address.parse().unwrap();
            let leads = paths.lead_back(&listeners, address);
            assert_eq!(leads, back, "{listener} {address}");
        }
    }

    #[test]
    fn there_is_a_way_to_this_machine() {
        assert!(Paths::default().lead_to(Ipv4Addr::LOCALHOST.into()));
    }
}
