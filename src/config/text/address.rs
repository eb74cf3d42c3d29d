//! Addresses: where something listens, and where an upstream is reached.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::super::kind::Complaint;
use super::Checked;
use crate::plan::address::UNIX_SCHEME;
use crate::plan::{Address, SocketAddress};

/// Reads the address of a listener.
pub(in crate::config) fn listen_address(text: &str) -> Result<SocketAddress, Complaint> {
    if let Ok(address) = text.parse() {
        return Ok(SocketAddress::Ip(address));
    }
    if let Some(path) = text.strip_prefix(UNIX_SCHEME) {
        return socket_path(path).map(SocketAddress::Unix);
    }
    refuse_scheme(text)?;
    let message = format!("`{text}` is no address to listen on: it needs an IP address and a port");
    if let Some(port) = text
        .strip_prefix(':')
        .or(Some(text))
        .filter(|port| port.parse::<u16>().is_ok())
    {
        let help = format!(
            "write `127.0.0.1:{port}` for this host (or pod) only, `0.0.0.0:{port}` for every network"
        );
        return Err(Complaint {
            message,
            help: Some(help),
        });
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return Err(Complaint::meant(message, &format!("127.0.0.1:{port}")));
    }
    if let Some(port) = text
        .strip_prefix("*:")
        .filter(|port| port.parse::<u16>().is_ok())
    {
        return Err(Complaint::meant(message, &format!("0.0.0.0:{port}")));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    {
        return Err(Complaint::new(format!(
            "`{text}`: `{port}` is no port from 0 to 65535"
        )));
    }
    match text.parse::<IpAddr>() {
        Ok(ip) => Err(Complaint::meant(
            message,
            &SocketAddr::new(ip, 8080).to_string(),
        )),
        Err(_) => Err(Complaint::new(message)),
    }
}

/// Bytes of the path of a socket; the system takes no longer one.
const SOCKET_PATH_BYTES: usize = 107;

/// Reads what follows `unix:`.
fn socket_path(path: &str) -> Result<Arc<Path>, Complaint> {
    let whole = format!("{UNIX_SCHEME}{path}");
    // `unix:///run/a.sock` is how a URL says it.
    if let Some(rest) = path.strip_prefix("//") {
        let meant = format!("{UNIX_SCHEME}/{}", rest.trim_start_matches('/'));
        return Err(Complaint::meant(
            format!("`{whole}`: a socket's path follows `unix:` with one slash"),
            &meant,
        ));
    }
    if path.starts_with('@') {
        return Err(Complaint::new(format!(
            "`{whole}`: a socket has a path in the file system; names without one are not there"
        )));
    }
    if !path.starts_with('/') {
        return Err(Complaint::new(format!(
            "`{whole}`: the path of a socket is absolute, such as `unix:/run/orders.sock`"
        )));
    }
    if path.ends_with('/') || path.chars().any(char::is_control) {
        return Err(Complaint::new(format!("`{whole}` is no path of a socket")));
    }
    if path.len() > SOCKET_PATH_BYTES {
        return Err(Complaint::new(format!(
            "`{whole}`: the path of a socket has at most {SOCKET_PATH_BYTES} bytes, this one has {}",
            path.len()
        )));
    }
    Ok(Path::new(path).into())
}

/// What is written elsewhere, and not there yet here.
fn refuse_scheme(text: &str) -> Checked {
    let refused = |message: &str| Err(Complaint::new(message));
    match text.split_once(':') {
        Some(("kubernetes" | "k8s", service)) => Err(Complaint::meant(
            format!("`{text}`: a service of Kubernetes is written as a block"),
            &as_service(service),
        )),
        Some(("srv", name)) => Err(Complaint::meant(
            format!("`{text}`: an SRV record is written as a block"),
            &format!("{{ srv: {} }}", name.trim_matches(['/', ' '])),
        )),
        Some((scheme, rest)) if rest.starts_with("//") && !matches!(scheme, "http" | "https") => {
            refused(
                "an endpoint is `host:port`, `http://host:port` or `https://host:port`; other schemes are not there",
            )
        }
        _ if text.starts_with('/') => Err(Complaint::meant(
            format!("`{text}` is no address: before the path of a socket stands `{UNIX_SCHEME}`"),
            &format!("{UNIX_SCHEME}{text}"),
        )),
        _ => Ok(()),
    }
}

/// How a service is written: `shop/payments:http` is how we name it.
fn as_service(text: &str) -> String {
    let text = text.trim_matches(['/', ' ']);
    let (place, port) = text.split_once(':').unwrap_or((text, ""));
    let (namespace, service) = place.split_once('/').unwrap_or(("", place));
    let mut block = format!("{{ kubernetes: {{ service: {service}");
    for (key, value) in [("namespace", namespace), ("port", port)] {
        if !value.is_empty() {
            block.push_str(&format!(", {key}: {value}"));
        }
    }
    block + " } }"
}

/// How an endpoint's address begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Scheme {
    /// Without one; the upstream says.
    None,
    /// `http://`
    Http,
    /// `https://`
    Https,
}

/// Reads the address of an endpoint.
pub(in crate::config) fn endpoint(text: &str) -> Result<(Address, Scheme), Complaint> {
    if let Some(path) = text.strip_prefix(UNIX_SCHEME) {
        return Ok((Address::Unix(socket_path(path)?), Scheme::None));
    }
    refuse_scheme(text)?;
    let (scheme, rest, default_port) = match text.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest, Some(80)),
        Some(("https", rest)) => (Scheme::Https, rest, Some(443)),
        _ => (Scheme::None, text, None),
    };
    let authority = match scheme {
        Scheme::None => rest,
        Scheme::Http | Scheme::Https => rest.strip_suffix('/').unwrap_or(rest),
    };
    authority_of(text, authority, default_port).map(|address| (address, scheme))
}

fn authority_of(
    text: &str,
    authority: &str,
    default_port: Option<u16>,
) -> Result<Address, Complaint> {
    if authority.contains(['/', '?', '#']) {
        return Err(Complaint::new(format!(
            "`{text}`: an endpoint has no path; a route's `rewrite.path_prefix` puts one in front"
        )));
    }
    if authority.contains('@') {
        return Err(Complaint::new("an endpoint has no user name or password"));
    }
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(Complaint::new(format!(
                "`{text}`: an endpoint's port is from 1 to 65535"
            )))
        } else {
            Ok(Address::Ip(address))
        };
    }
    let ip = authority
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .ok();
    let (host, port) = match (authority.rsplit_once(':'), default_port) {
        (_, Some(port)) if ip.is_some() || !authority.contains(':') => (authority, port),
        (Some((host, port)), _) if ip.is_none() => match port.parse::<u16>() {
            Ok(port) if port > 0 => (host, port),
            _ => {
                return Err(Complaint::new(format!(
                    "`{text}`: `{port}` is no port from 1 to 65535"
                )));
            }
        },
        _ => {
            let meant = match ip {
                Some(ip) => SocketAddr::new(ip, 80).to_string(),
                None if authority.parse::<u16>().is_ok() => format!("127.0.0.1:{authority}"),
                None => format!("{authority}:80"),
            };
            return Err(Complaint::meant(format!("`{text}` has no port"), &meant));
        }
    };
    if let Some(ip) = ip {
        return Ok(Address::Ip(SocketAddr::new(ip, port)));
    }
    if !is_host(host) {
        return Err(Complaint::new(format!(
            "`{text}`: `{host}` is no name of a host"
        )));
    }
    Ok(Address::Name {
        host: host.to_ascii_lowercase().into(),
        port,
    })
}

/// Reads the name of an SRV record.
pub(in crate::config) fn srv(text: &str) -> Result<Address, Complaint> {
    if let Some((name, port)) = text.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && is_host(name)
    {
        return Err(Complaint::meant(
            format!("`{text}`: an SRV record says the ports itself"),
            name,
        ));
    }
    if !is_host(text) {
        return Err(Complaint::new(format!(
            "`{text}` is no name of an SRV record, such as `_http._tcp.payments.example.com`"
        )));
    }
    Ok(Address::Srv {
        name: text.to_ascii_lowercase().into(),
    })
}

/// Reads the address of a server that is asked for names.
pub(in crate::config) fn dns_server(text: &str) -> Result<SocketAddr, Complaint> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, 53));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        Ok(_) | Err(_) => Err(Complaint::new(format!(
            "`{text}` is no address of a DNS server: an IP address, and a port where it is not 53"
        ))),
    }
}

/// Whether it can be a name in the DNS, or of a container.
pub(super) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
    };
    let all_digits = host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    host.len() <= 253 && !all_digits && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}
