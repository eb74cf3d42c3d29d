//! `tls`, of listeners and of upstreams: two proxies, one of which calls the other.

use crate::support::{Authority, Proxy, Upstream};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("listener.tls", listener),
    ("listener_tls.cert", listener),
    ("listener_tls.key", listener),
    ("listener_tls.client_ca", client_ca),
    ("upstream.tls", ca),
    ("upstream_tls.ca", ca),
    ("upstream_tls.cert", client_ca),
    ("upstream_tls.key", client_ca),
    ("upstream_tls.server_name", server_name),
];

/// A proxy whose clients come under TLS.
fn server(tls: &str, upstream: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "listeners: {{ outbound: {{ address: \"127.0.0.1:0\", upstream: u, tls: {{ {tls} }} }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n",
        upstream.address()
    ))
}

/// A proxy that calls that one under TLS.
fn client(tls: &str, server: &Proxy) -> Proxy {
    let address = server.listener("outbound");
    Proxy::to(&[address], &format!("tls: {{ {tls} }}"))
}

#[test]
fn listener() {
    let (authority, upstream) = (Authority::new(), Upstream::always(200));
    let server = server(&authority.sign("127.0.0.1").yaml(), &upstream);
    let mut plain = server.client();
    plain.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(plain.answer().status, 400, "it is no handshake");
    assert_eq!(upstream.count(), 0);
    let ca = authority.certificate();
    let client = client(&format!("ca: {}", ca.display()), &server);
    for _ in 0..2 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(upstream.count(), 2);
}

/// Fault 61: a certificate that nobody here trusts.
#[test]
fn ca() {
    let (authority, other, upstream) = (Authority::new(), Authority::new(), Upstream::always(200));
    let server = server(&authority.sign("127.0.0.1").yaml(), &upstream);
    for (ca, status) in [(authority.certificate(), 200), (other.certificate(), 502)] {
        let client = client(&format!("ca: {}", ca.display()), &server);
        let answer = client.get("/");
        assert_eq!(answer.status, status);
        let reason = (status == 502).then_some("tls_failure");
        assert_eq!(answer.reason().as_deref(), reason);
    }
    // Whom the system trusts has not signed it.
    let answer = client("", &server).get("/");
    assert_eq!(answer.reason().as_deref(), Some("tls_failure"));
}

/// Fault 62: clients without a certificate, and with one that somebody else signed.
#[test]
fn client_ca() {
    let (authority, other, upstream) = (Authority::new(), Authority::new(), Upstream::always(200));
    let ca = format!("ca: {}", authority.certificate().display());
    let own = authority.sign("127.0.0.1").yaml();
    let server = server(&format!("{own}, client_{ca}"), &upstream);
    let (ours, theirs) = (authority.sign("orders"), other.sign("orders"));
    for (identity, status) in [(None, 502), (Some(theirs), 502), (Some(ours), 200)] {
        let identity = identity.map(|identity| format!(", {}", identity.yaml()));
        let client = client(&(ca.clone() + &identity.unwrap_or_default()), &server);
        assert_eq!(client.get("/").status, status);
    }
    assert_eq!(upstream.count(), 1);
}

/// Fault 61: a certificate for another name.
#[test]
fn server_name() {
    let (authority, upstream) = (Authority::new(), Upstream::always(200));
    let server = server(&authority.sign("payments.internal").yaml(), &upstream);
    let ca = format!("ca: {}", authority.certificate().display());
    for (name, status) in [
        ("", 502),
        (", server_name: orders.internal", 502),
        (", server_name: payments.internal", 200),
    ] {
        let answer = client(&format!("{ca}{name}"), &server).get("/");
        assert_eq!(answer.status, status, "{name}");
    }
}
