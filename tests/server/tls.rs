//! What differs under TLS, in memory: what is written may wait in the encryption rather than in the pipe.

use std::sync::Arc;
use std::time::Duration;

use mamparo::server::tls::serve;
use mamparo::tls::Vault;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fake::{about, door, get, settings};

/// What a listener shows, and a client that trusts it.
fn both_sides() -> (Arc<mamparo::tls::Server>, TlsConnector) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    std::fs::write(folder.path().join("tls.crt"), pair.cert.pem()).unwrap();
    let key = pair.signing_key.serialize_pem();
    std::fs::write(folder.path().join("tls.key"), key).unwrap();
    let yaml = format!(
        "listeners: {{ in: {{ address: '127.0.0.1:0', upstream: u, protocol: http1, \
         tls: {{ cert: {at}/tls.crt, key: {at}/tls.key }} }} }}\n\
         upstreams: {{ u: {{ endpoints: [127.0.0.1:1] }} }}\n"
    );
    let loaded = mamparo::config::parse("a.yaml", &yaml, &|_| None).unwrap();
    let vault = Vault::default();
    vault.install(&loaded.certificates);
    let server = vault.server(&loaded.plan.listeners[0]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pair.cert)).unwrap();
    let provider = Arc::clone(server.config().crypto_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, TlsConnector::from(Arc::new(client)))
}

async fn connect(connector: &TlsConnector, io: DuplexStream) -> TlsStream<DuplexStream> {
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, io).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn fault_040_a_short_answer_that_nobody_takes_ends_the_connection_after_idle() {
    let (server, connector) = both_sides();
    let door = door(settings());
    // The answer is larger than the pipe, and smaller than what waits to be sent at most.
    let (io, theirs) = tokio::io::duplex(1024);
    let served = tokio::spawn({
        let door = Arc::clone(&door);
        async move { serve(theirs, &server, &door, None, 0).await }
    });
    let mut client = connect(&connector, io).await;
    let path = format!("/{}", "a".repeat(8000));
    let began = mamparo::clock::now();
    client.write_all(get(&path).as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    let patience = Duration::from_secs(600);
    tokio::time::timeout(patience, served)
        .await
        .unwrap()
        .unwrap();
    about(mamparo::clock::now() - began, Duration::from_secs(60));
    assert_eq!(door.handler().seen.lock().len(), 1);
}
