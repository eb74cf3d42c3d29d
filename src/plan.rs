//! What a configuration means: complete, valid by construction, and free of strings that still need
//! reading. [`crate::config`] makes a [`Plan`], [`crate::live`] runs it. Nothing here is checked again.

pub mod address;
pub mod cluster;
#[cfg(test)]
pub(crate) mod samples;
pub mod secret;
pub mod timeline;
pub mod tracing;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

pub use address::SocketAddress;
pub use tracing::Tracing;

use crate::policy::grpc::Code;
use crate::policy::{balance, breaker, bulkhead, fallback, health, rate_limit, retry, timeout};

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The service we stand beside.
    pub service: Arc<str>,
    /// Where the admin interface listens.
    pub admin: SocketAddress,
    /// Where metrics and probes are served once more, and nothing else; `None`: only by the admin interface.
    pub metrics: Option<SocketAddress>,
    /// What concerns the process.
    pub runtime: Runtime,
    /// How our own answers look.
    pub errors: Errors,
    /// Where a line for each request goes.
    pub access_log: AccessLog,
    /// Where spans go; `None`: nowhere. Trace context is passed on in any case.
    pub tracing: Option<Arc<Tracing>>,
    /// Which requests are kept with all that happened to them; `None`: none.
    pub explain: Option<Explain>,
    /// Where requests come in; at least one, by name.
    pub listeners: Vec<Listener>,
    /// Where requests go, by name.
    pub upstreams: Vec<Arc<Upstream>>,
}

/// What concerns the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Worker threads; already resolved from `auto`.
    pub workers: NonZeroUsize,
    /// How long requests in flight have after SIGTERM.
    pub drain: Duration,
    /// Connections from clients, whole process.
    pub max_connections: usize,
    /// The servers that are asked for names; empty: those of the system.
    pub dns_servers: Vec<SocketAddr>,
    /// The cluster whose services are endpoints.
    pub kubernetes: cluster::Cluster,
}

/// How our own answers look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    /// The body's form where the client does not ask for one.
    pub format: ErrorFormat,
    /// A link for each error; `{error_code}` is replaced.
    pub documentation_url: Option<Arc<str>>,
}

/// The form of an error body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    /// Our JSON contract.
    Contract,
    /// RFC 9457, `application/problem+json`.
    Problem,
}

/// Where a line for each request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// `None`: nowhere.
    pub destination: Option<LogDestination>,
    /// Which requests are written.
    pub keep: Keep,
}

/// Where access lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogDestination {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// Which requests an access line is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Every one.
    All,
    /// Those that failed, were retried, or were answered by a fallback.
    Failures,
}

/// Which requests are kept with all that happened to them: those that failed, were retried, were slow or
/// were answered by a fallback, and those whose client asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explain {
    /// How many; the newest ones. At least 1.
    pub keep: usize,
    /// A request is slow where the head of its answer takes this long or longer.
    pub slower_than: Duration,
}

impl Default for Explain {
    fn default() -> Self {
        Self {
            keep: 256,
            slower_than: Duration::from_secs(1),
        }
    }
}

/// How the two ends of a connection speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// Clients: whichever they begin with, or agree on by ALPN. Endpoints: HTTP/1.1, or what ALPN says.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; over plaintext with prior knowledge.
    Http2,
}

/// What becomes of a redirected connection or request that no route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmatched {
    /// It goes to where it was going, untouched.
    Pass,
    /// It is refused with `no_route`.
    #[default]
    Refuse,
}

/// The files that a listener shows and asks for under TLS. They are watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenerTls {
    /// The certificate with its chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who signs the clients' certificates, PEM; `None`: clients need none.
    pub client_ca: Option<PathBuf>,
}

/// How endpoints are spoken to under TLS. The files are watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct UpstreamTls {
    /// Who signs the endpoints' certificates, PEM; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, PEM, where endpoints ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the endpoint's certificate must have, and that is asked for; `None`: the
    /// endpoint's own name or address.
    pub server_name: Option<Arc<str>>,
}

/// One place where requests come in.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// The address to bind.
    pub address: SocketAddress,
    /// Whom it serves.
    pub role: Role,
    /// How its clients speak.
    pub protocol: Protocol,
    /// What it shows and asks for under TLS; `None`: plaintext.
    pub tls: Option<Arc<ListenerTls>>,
    /// Its connections were redirected to it: the system knows where they were going.
    pub original_dst: bool,
    /// What becomes of what no route matches; only with `original_dst` may it pass.
    pub unmatched: Unmatched,
    /// Its open connections; `None`: only the process's limit.
    pub max_connections: Option<usize>,
    /// Requests at a time on one connection of HTTP/2.
    pub max_streams: u32,
    /// How long a client may take over a request's head.
    pub header_timeout: Duration,
    /// How long a client's connection may lie idle between requests.
    pub idle_timeout: Duration,
    /// Bytes of a request's head.
    pub header_size: usize,
    /// Lines of a request's head.
    pub max_headers: usize,
    /// Bytes of a request's body; `None`: no limit.
    pub body_size: Option<u64>,
    /// First match wins; at least one.
    pub routes: Vec<Route>,
}

/// Whom a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Our service calls others through it; its control headers are trusted.
    Outbound,
    /// Others call our service through it; control headers are stripped; drained first.
    Inbound,
}

impl Role {
    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// Which requests go where, and under which policies.
#[derive(Debug, Clone)]
pub struct Route {
    /// The label in metrics and logs.
    pub name: Arc<str>,
    /// What a request must have; all that are given must hold.
    pub matcher: Match,
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// What is changed on the way.
    pub rewrite: Rewrite,
    /// The upstream's policies with what the route sets again.
    pub policies: Policies,
    /// Whether the route's `rate_limit` is its own (then it has a bucket of its own) or inherited.
    pub own_rate_limit: bool,
}

/// What a request must have. The default matches everything.
#[derive(Debug, Clone, Default)]
pub struct Match {
    /// The host, without its port.
    pub host: Option<HostPattern>,
    /// The path, without the query.
    pub path: PathPattern,
    /// The methods; empty: any.
    pub methods: Vec<Arc<str>>,
    /// Headers by lower-case name.
    pub headers: Vec<(Arc<str>, ValuePattern)>,
    /// Query parameters by name.
    pub query: Vec<(Arc<str>, ValuePattern)>,
}

/// A host, lower-case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// This host.
    Exact(Arc<str>),
    /// Any host that ends so; with the leading dot: `*.internal` is `.internal`.
    Suffix(Arc<str>),
}

/// A path.
#[derive(Debug, Clone, Default)]
pub enum PathPattern {
    /// Every path.
    #[default]
    Any,
    /// This path.
    Exact(Arc<str>),
    /// This path and what lies below it, by whole segments; no slash at its end unless it is `/`.
    Prefix(Arc<str>),
    /// What the expression finds; anchored at both ends.
    Regex(Regex),
}

/// A header's or parameter's value.
#[derive(Debug, Clone)]
pub enum ValuePattern {
    /// This value.
    Exact(Arc<str>),
    /// Any value, even an empty one.
    Present,
    /// What the expression matches whole.
    Regex(Regex),
}

/// What is changed on the way to the upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Takes the place of the matched `path_prefix`.
    pub path_prefix: Option<Arc<str>>,
    /// Takes the place of the `host` header.
    pub host: Option<Arc<str>>,
}

/// The policies of a route, complete. A block that is absent is off.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// How long things may take.
    pub timeouts: timeout::Settings,
    /// Whether a failed try is made again.
    pub retry: Option<Arc<retry::Settings>>,
    /// When an endpoint is left alone.
    pub circuit_breaker: Option<Arc<breaker::Settings>>,
    /// How many requests may be under way.
    pub bulkhead: Option<bulkhead::Settings>,
    /// How many requests may come in a time.
    pub rate_limit: Option<rate_limit::Settings>,
    /// What answers in place of a failure, in order.
    pub fallback: Arc<[Fallback]>,
}

/// One fallback: when, and what it answers.
#[derive(Debug, Clone)]
pub struct Fallback {
    /// The failures that it stands in for.
    pub on: fallback::Conditions,
    /// What it answers.
    pub respond: Respond,
}

/// An answer that is written in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// What a gRPC call ends with. `Some`: it answers calls, and no other requests; `None`: the other
    /// way round.
    pub grpc_status: Option<Code>,
    /// The status, 200 to 599; of a call it is always 200.
    pub status: u16,
    /// Headers by valid lower-case name.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// The body; already read, where it is a file.
    pub body: Arc<[u8]>,
}

/// One service that requests go to.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its key in the configuration; its memory is kept by it over reloads.
    pub name: Arc<str>,
    /// Where it can be reached; may be empty only while names do not resolve.
    pub endpoints: Vec<Endpoint>,
    /// How its endpoints are spoken to.
    pub protocol: Protocol,
    /// How its endpoints are spoken to under TLS, where that is not the default. Whether one is, says
    /// [`Endpoint::tls`].
    pub tls: Option<Arc<UpstreamTls>>,
    /// Whether the deep health check depends on it.
    pub critical: bool,
    /// How an endpoint is chosen.
    pub balance: balance::Settings,
    /// How idle connections are kept.
    pub pool: Pool,
    /// Open connections, whole process; `None`: no limit. From its `bulkhead` block.
    pub max_connections: Option<usize>,
    /// How its endpoints are checked; `None`: they are not.
    pub health_check: Option<Arc<health::Settings>>,
    /// The upstream's own policies, before any route's.
    pub policies: Policies,
}

impl Upstream {
    /// The sources among its endpoints, each once: what they stand for has to be found out.
    pub fn sources(&self) -> Vec<Address> {
        let mut sources: Vec<Address> = Vec::new();
        for endpoint in &self.endpoints {
            if endpoint.address.is_source() && !sources.contains(&endpoint.address) {
                sources.push(endpoint.address.clone());
            }
        }
        sources
    }
}

/// One place where an upstream can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address or name.
    pub address: Address,
    /// Whether it is spoken to under TLS.
    pub tls: bool,
    /// Its share of the traffic, relative to the others'; at least 1.
    pub weight: u32,
}

/// An endpoint's address, or a source of them: what a source says is found off the path of requests, again
/// and again, and each address that it says is an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Known.
    Ip(SocketAddr),
    /// Every address of a host.
    Name {
        /// The host's name.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// Every target of an SRV record, which says the ports, too.
    Srv {
        /// The record's name.
        name: Arc<str>,
    },
    /// Every endpoint of a service of Kubernetes.
    Kubernetes {
        /// Where the service is.
        namespace: Arc<str>,
        /// The service's name.
        service: Arc<str>,
        /// The name of its port, or the number at the pods; empty: the only one.
        port: Arc<str>,
    },
    /// A socket in the file system.
    Unix(Arc<Path>),
}

impl Address {
    /// Whether it has to be found out, again and again, what it stands for.
    pub const fn is_source(&self) -> bool {
        match self {
            Self::Ip(_) | Self::Unix(_) => false,
            Self::Name { .. } | Self::Srv { .. } | Self::Kubernetes { .. } => true,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Srv { name } => write!(f, "srv {name}"),
            Self::Kubernetes {
                namespace,
                service,
                port,
            } if port.is_empty() => write!(f, "kubernetes:{namespace}/{service}"),
            Self::Kubernetes {
                namespace,
                service,
                port,
            } => write!(f, "kubernetes:{namespace}/{service}:{port}"),
            Self::Unix(path) => write!(f, "{}{}", address::UNIX_SCHEME, path.display()),
        }
    }
}

/// The domain that an SRV record is of: `_http._tcp.payments.test` says where that of `payments.test`
/// is.
pub fn domain_of(record: &str) -> &str {
    let mut labels = record.splitn(3, '.');
    match (labels.next(), labels.next(), labels.next()) {
        (Some(service), Some(protocol), Some(domain))
            if service.starts_with('_') && protocol.starts_with('_') =>
        {
            domain
        }
        _ => record,
    }
}

/// How idle connections to an upstream are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// How long a connection may lie idle.
    pub idle_timeout: Duration,
    /// Idle connections, whole process.
    pub max_idle: usize,
    /// Requests after which a connection is closed; `None`: no limit.
    pub max_requests_per_connection: Option<u64>,
    /// Age at which a connection takes no more requests, less up to a tenth by chance, so that those
    /// that were opened together do not end together; `None`: no limit.
    pub max_connection_age: Option<Duration>,
    /// How long nothing may come over an HTTP/2 connection before it is asked whether it lives; `None`:
    /// it is never asked.
    pub ping_interval: Option<Duration>,
}
