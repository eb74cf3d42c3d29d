//! Services of Kubernetes, and where its API is.

use super::super::kind::{Complaint, Text};
use super::Checked;
use super::address::{Scheme, endpoint};
use crate::plan::Address;
use crate::plan::cluster::Api;

/// The name of a service or a namespace.
pub(in crate::config) static KUBERNETES_NAME: Text = Text {
    what: "a name in Kubernetes such as `payments`",
    pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    check: name,
};
/// A port of a service.
pub(in crate::config) static KUBERNETES_PORT: Text = Text {
    what: "the name or the number of a port, such as `http` or `8080`",
    pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    check: port,
};
/// Where an API is.
pub(in crate::config) static KUBERNETES_API: Text = Text {
    what: "where an API is, such as `https://10.0.0.1:6443`",
    pattern: "^https?://[^/?#]+(/[^?#]*)?$",
    check: |text| api(text).map(drop),
};

/// Whether Kubernetes would take it as a label of DNS.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn name(text: &str) -> Checked {
    if is_label(text) {
        return Ok(());
    }
    let message =
        format!("`{text}` is no name in Kubernetes: at most 63 lower-case letters, digits and `-`");
    match text.split_once('.') {
        Some((service, rest)) if is_label(service) => {
            let namespace = rest.split('.').next().unwrap_or_default();
            Err(Complaint::meant(
                message,
                &format!("service: {service}, namespace: {namespace}"),
            ))
        }
        _ => Err(Complaint::new(message)),
    }
}

fn port(text: &str) -> Checked {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let in_range = || text.parse::<u16>().is_ok_and(|number| number > 0);
    match (is_label(text), is_number) {
        (true, false) => Ok(()),
        (true, true) if in_range() => Ok(()),
        (_, true) if !text.is_empty() => Err(Complaint::new(format!(
            "`{text}` is no port: a number from 1 to 65535, or a name such as `http`"
        ))),
        _ => Err(Complaint::new(format!(
            "`{text}` is no port of a service: a name such as `http` has at most 63 lower-case letters, digits and `-`"
        ))),
    }
}

/// Reads where an API is.
pub(in crate::config) fn api(text: &str) -> Result<Api, Complaint> {
    let no_api = |why: &str| {
        Complaint::new(format!(
            "`{text}` is no place of an API{why}, such as `https://10.0.0.1:6443` or `http://127.0.0.1:8001`"
        ))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(no_api(": it begins with `https://` or `http://`"));
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    if !path.bytes().all(is_plain) {
        return Err(no_api(": it has a path at most"));
    }
    let (address, scheme) = endpoint(&format!("{scheme}://{authority}"))?;
    let (host, port) = match (address, scheme) {
        (_, Scheme::None) | (Address::Unix(_), _) => {
            return Err(no_api(": it begins with `https://` or `http://`"));
        }
        (Address::Ip(address), _) => (address.ip().to_string().into(), address.port()),
        (Address::Name { host, port }, _) => (host, port),
        (Address::Srv { .. } | Address::Kubernetes { .. }, _) => return Err(no_api("")),
    };
    Ok(Api {
        tls: scheme == Scheme::Https,
        host,
        port,
        path: path.trim_end_matches('/').into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ports_are_those_of_kubernetes() {
        for good in ["payments", "a", "0", "pay-2", &"a".repeat(63)] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "Payments",
            "-a",
            "a-",
            "a_b",
            "a b",
            "é",
            &"a".repeat(64),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
        let dotted = name("payments.shop.svc").unwrap_err();
        assert_eq!(
            dotted.help.unwrap(),
            "did you mean `service: payments, namespace: shop`?"
        );
        for good in ["http", "80", "65535", "grpc-web", "8080tcp"] {
            assert_eq!(port(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "0",
            "65536",
            "99999999999999999999",
            "HTTP",
            "http_2",
            "-1",
        ] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_api_is_read() {
        for (text, shown, tls) in [
            ("https://10.0.0.1:6443", "https://10.0.0.1:6443", true),
            (
                "https://api.example.com/",
                "https://api.example.com:443",
                true,
            ),
            ("http://127.0.0.1:8001", "http://127.0.0.1:8001", false),
            ("https://[fd00::1]:6443", "https://[fd00::1]:6443", true),
            (
                "https://rancher.example.com/k8s/clusters/c-1/",
                "https://rancher.example.com:443/k8s/clusters/c-1",
                true,
            ),
        ] {
            let api = api(text).unwrap();
            assert_eq!((api.to_string().as_str(), api.tls), (shown, tls));
        }
        for bad in [
            "10.0.0.1:6443",
            "ftp://a",
            "https://",
            "https://a:0",
            "https://u@a",
            "https://a/?b",
            "unix:/a",
            "https://a/b c",
        ] {
            assert!(api(bad).is_err(), "{bad}");
        }
    }
}
