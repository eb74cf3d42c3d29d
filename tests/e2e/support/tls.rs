//! Certificates made for a test, a client that speaks TLS, and a server that does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

use super::wait::PATIENCE;
use super::{Answer, Far};

/// A certificate with its key, PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names and addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_between(names, 2000, 2100)
    }

    /// The same, from the 1st of January of a year to that of another.
    pub(crate) fn issue_between(&self, names: &[&str], from: i32, to: i32) -> Pair {
        let (params, key) = wanted(names, from, to);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            cert: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap())
            .unwrap();
        roots
    }
}

/// A certificate that nobody has signed.
pub(crate) fn self_signed(names: &[&str]) -> Pair {
    let (params, key) = wanted(names, 2000, 2100);
    Pair {
        cert: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn wanted(names: &[&str], from: i32, to: i32) -> (CertificateParams, KeyPair) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    (params, KeyPair::generate().unwrap())
}

/// A folder with files.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file in the place of another at once.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let (path, fresh) = (self.path(name), self.path("fresh"));
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, &path).unwrap();
        path
    }

    /// Both files of a pair; `tls.crt` and `tls.key` for `tls`.
    pub(crate) fn put_pair(&self, name: &str, pair: &Pair) {
        self.put(&format!("{name}.key"), &pair.key);
        self.put(&format!("{name}.crt"), &pair.cert);
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs::default_provider;
    #[cfg(not(feature = "aws-lc-rs"))]
    use rustls::crypto::ring::default_provider;
    Arc::new(default_provider())
}

/// What a client trusts, shows and offers.
pub(crate) struct Setup(pub(crate) ClientConfig);

impl Setup {
    pub(crate) fn trusting(authority: &Authority) -> Self {
        Self::of(authority, rustls::ALL_VERSIONS, None)
    }

    pub(crate) fn only(authority: &Authority, version: &'static SupportedProtocolVersion) -> Self {
        Self::of(authority, &[version], None)
    }

    pub(crate) fn showing(authority: &Authority, pair: &Pair) -> Self {
        Self::of(authority, rustls::ALL_VERSIONS, Some(pair))
    }

    fn of(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        pair: Option<&Pair>,
    ) -> Self {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(authority.roots());
        Self(match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(chain(pair), key(pair))
                .unwrap(),
        })
    }

    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.0.alpn_protocols = protocols
            .iter()
            .map(|one| one.as_bytes().to_vec())
            .collect();
        self
    }

    /// Asks once, over a connection of its own.
    pub(crate) fn get(&self, to: SocketAddr, target: &str) -> io::Result<Answer> {
        self.connect(to)?.get(target)
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TlsClient> {
        self.connect_as(to, "localhost")
    }

    /// Makes a whole handshake.
    pub(crate) fn connect_as(&self, to: SocketAddr, name: &str) -> io::Result<TlsClient> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(self.0.clone()), name).unwrap();
        let socket = TcpStream::connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsClient(BufReader::new(stream)))
    }
}

fn chain(pair: &Pair) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()]
}

fn key(pair: &Pair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap()
}

/// A client's connection.
pub(crate) struct TlsClient(pub(crate) BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl TlsClient {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())?;
        self.0.get_mut().flush()
    }

    pub(crate) fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.send(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n"))?;
        Answer::read(&mut self.0, "GET")
    }

    pub(crate) fn session(&mut self) -> &mut ClientConnection {
        &mut self.0.get_mut().conn
    }

    /// What comes until the end; an error where the end is none in order.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).map(|_| bytes)
    }
}

/// An endpoint under TLS whose connections are taken by the test itself.
pub(crate) struct TlsFar {
    far: Far,
    config: Arc<ServerConfig>,
}

/// A connection of it.
pub(crate) struct TlsSocket(BufReader<StreamOwned<ServerConnection, TcpStream>>);

impl TlsFar {
    /// It offers these protocols by ALPN.
    pub(crate) fn offering(pair: &Pair, protocols: &[&str]) -> Self {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = builder.with_no_client_auth();
        let mut config = config.with_single_cert(chain(pair), key(pair)).unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|one| one.as_bytes().to_vec())
            .collect();
        let (far, config) = (Far::new(), Arc::new(config));
        Self { far, config }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.far.address()
    }

    pub(crate) fn accept(&self) -> TlsSocket {
        let (socket, _) = self.far.listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let session = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        TlsSocket(BufReader::new(StreamOwned::new(session, socket)))
    }
}

impl TlsSocket {
    /// A head up to the empty line.
    #[track_caller]
    pub(crate) fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.0.read_line(&mut head).unwrap();
            assert!(read > 0, "an end within a head: {head:?}");
        }
        head
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
        self.0.get_mut().flush().unwrap();
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: impl AsRef<[u8]>) {
        let mut found = vec![0; wanted.as_ref().len()];
        self.0.read_exact(&mut found).unwrap();
        assert!(found == wanted.as_ref(), "{} bytes differ", found.len());
    }

    /// The other end says that it has no more to say.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap(), 0);
    }

    /// Says so to the other end, and closes.
    pub(crate) fn end(mut self) {
        let stream = self.0.get_mut();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    }

    /// Makes the handshake, which else comes with the first bytes.
    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        let stream = self.0.get_mut();
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(())
    }

    /// What both ends have agreed on.
    pub(crate) fn agreed(&self) -> Option<&[u8]> {
        self.0.get_ref().conn.alpn_protocol()
    }
}

/// A server under TLS that answers each request with 200 and `ok`.
pub(crate) struct TlsUpstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl TlsUpstream {
    pub(crate) fn start(pair: &Pair) -> Self {
        Self::with(pair, None)
    }

    /// One that requires its clients to show a certificate of that authority.
    pub(crate) fn requiring(pair: &Pair, authority: &Authority) -> Self {
        Self::with(pair, Some(authority))
    }

    fn with(pair: &Pair, authority: Option<&Authority>) -> Self {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(authority.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let config = Arc::new(builder.with_single_cert(chain(pair), key(pair)).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, SeqCst);
                let config = Arc::clone(&config);
                std::thread::spawn(move || serve(config, socket));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

fn serve(config: Arc<ServerConfig>, socket: TcpStream) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(session, socket));
    while let Some(head) = super::Head::read(&mut stream)? {
        let mut body = vec![0; head.length().unwrap_or(0)];
        stream.read_exact(&mut body)?;
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.get_mut().write_all(answer.as_bytes())?;
    }
    Ok(())
}
