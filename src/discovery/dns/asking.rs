//! Asks servers for names. The library carries questions and answers, by UDP and where needed by TCP; which
//! names are asked for, and what their answers mean together, is decided here. Nothing is remembered: how
//! long an answer holds is for others to mind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::paths::Paths;
use super::answer::{Answer, Missing, Part, Silent, Stands, Together, together};
use super::holding;
use super::names::{self, Service};
use crate::live::upstream::Found;
use crate::plan::Address;

/// How long one asking may take in all.
const ASK_WITHIN: Duration = Duration::from_secs(6);
/// How long one server may take at most, where the system does not say less.
const SERVER_WITHIN: Duration = Duration::from_secs(2);
/// How long what the system's file of hosts says is taken to hold.
const HOSTS_HOLD: Duration = Duration::from_secs(5);
/// The system's file of hosts.
const HOSTS: &str = "/etc/hosts";
/// Targets of one record that are asked for at a time.
const AT_A_TIME: usize = 32;
/// Targets of one record that are asked for at most: one more than are held, so that it is told where there
/// are too many.
const TARGETS: usize = holding::MOST + 1;
/// Addresses of one record that are looked at, at most.
const FOUND: usize = 8 * holding::MOST;
/// Names that are asked for at a time, so that thousands of them take neither every descriptor of the
/// process nor the server's breath.
const NAMES_AT_A_TIME: usize = 64;

/// Asks the same servers each time.
pub(super) struct Asker {
    resolver: Result<TokioResolver, String>,
    search: Vec<String>,
    ndots: usize,
    turns: Semaphore,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker")
            .field("search", &self.search)
            .field("ndots", &self.ndots)
            .finish_non_exhaustive()
    }
}

impl Asker {
    /// Asks these servers; none: those of the system. In which domains names are looked for, is always as
    /// the system says.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        let (system, options) = read_system_conf().unwrap_or_else(|error| {
            tracing::debug!("/etc/resolv.conf says nothing: {error}");
            // What the C library does then.
            let here = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            let system = ResolverConfig::from_parts(None, Vec::new(), vec![here]);
            (system, ResolverOpts::default())
        });
        let search = system.search().iter().map(Name::to_ascii).collect();
        let ndots = options.ndots;
        let named: Vec<NameServerConfig> = servers.iter().map(name_server).collect();
        let servers = if named.is_empty() {
            system.name_servers().to_vec()
        } else {
            named
        };
        Self {
            resolver: resolver(servers, options),
            search,
            ndots,
            turns: Semaphore::new(NAMES_AT_A_TIME),
        }
    }

    /// What the source stands for now.
    pub(super) async fn ask(self: Arc<Self>, source: &Address) -> Answer {
        // It is never closed.
        let _turn = self.turns.acquire().await;
        let asking = async {
            match source {
                Address::Name { host, port } => self.name(host, *port).await,
                Address::Srv { name } => Arc::clone(&self).service(name).await,
                Address::Ip(_) | Address::Unix(_) | Address::Kubernetes { .. } => {
                    Err(Missing::failed("it is no name".to_owned()))
                }
            }
        };
        let late = || Missing::failed(format!("no answer within {ASK_WITHIN:?}"));
        let asked = tokio::time::timeout(ASK_WITHIN, asking).await;
        match asked.unwrap_or_else(|_| Err(late())) {
            Ok(answer) => answer,
            Err(missing) => missing.into(),
        }
    }

    async fn name(&self, host: &str, port: u16) -> Result<Answer, Missing> {
        let (all, name, doubt) = self.host(host).await?;
        let addresses = all.addresses.into_iter();
        let at = |ip| (SocketAddr::new(ip, port).into(), Arc::clone(&name));
        Ok(Answer::Found(Stands {
            found: addresses.map(at).collect(),
            ttl: held_in_doubt(all.ttl, doubt.as_deref()),
            silent: vec![(Arc::clone(&name), all.silent)],
            unasked: 0,
            name,
            doubt,
        }))
    }

    /// The addresses of a host, the name that has them, and what there is to doubt about that: as the file
    /// of hosts says, else as a server does, for the first of the names that are meant by it that has any.
    /// One that cannot be found out does not end the search, as it does not in the C library.
    async fn host(&self, host: &str) -> Result<(Together, Arc<str>, Option<String>), Missing> {
        let file = std::fs::read_to_string(HOSTS).unwrap_or_default();
        let mut addresses = names::in_hosts(&file, host);
        if addresses.is_empty() {
            addresses.extend(names::of_this_machine(host).into_iter().flatten());
        }
        if !addresses.is_empty() {
            let all = Together {
                addresses,
                ttl: HOSTS_HOLD,
                silent: Silent::Nowhere,
            };
            return Ok((all, host.into(), None));
        }
        let mut missing = None;
        for name in names::candidates(host, &self.search, self.ndots) {
            match self.addresses(&name).await {
                Ok(mut all) => {
                    leave_out_unreachable(&mut all.addresses);
                    return Ok((all, name.into(), missing.and_then(Missing::doubt)));
                }
                Err(other) => missing = Some(Missing::weightier(missing, other)),
            }
        }
        Err(missing.unwrap_or_else(|| Missing::failed("it is no name".to_owned())))
    }

    /// The addresses of a complete name.
    async fn addresses(&self, name: &str) -> Result<Together, Missing> {
        let (v4, v6) = tokio::join!(
            self.records(name, RecordType::A),
            self.records(name, RecordType::AAAA)
        );
        let addresses = |part: Part<Lookup>| part.map(|lookup| addresses_in(lookup.answers()));
        together(addresses(v4), addresses(v6))
    }

    /// The targets of the first of the names that are meant by this one that is a record.
    async fn service(self: Arc<Self>, record: &str) -> Result<Answer, Missing> {
        let mut missing = None;
        for name in names::candidates(record, &self.search, self.ndots) {
            match self.records(&name, RecordType::SRV).await.found() {
                Ok((lookup, ttl)) => {
                    let doubt = missing.and_then(Missing::doubt);
                    return self.targets(&name, &lookup, ttl, doubt).await;
                }
                Err(other) => missing = Some(Missing::weightier(missing, other)),
            }
        }
        Err(missing.unwrap_or_else(|| Missing::failed("it is no name".to_owned())))
    }

    /// The addresses of those targets that count: of the lowest priority that has any. Each target is asked
    /// for: addresses that come along with a record need not be all, and hold for times of their own.
    async fn targets(
        self: Arc<Self>,
        record: &str,
        lookup: &Lookup,
        mut ttl: Duration,
        doubt: Option<String>,
    ) -> Result<Answer, Missing> {
        let mut known = BTreeMap::<String, Vec<IpAddr>>::new();
        let mut left = TARGETS;
        let groups = names::by_priority(services_in(lookup.answers()));
        let mut missing = None;
        // Also where the next priority stands in for one that could not be found out.
        let mut silent = Vec::<(Arc<str>, Silent)>::new();
        let mut unasked = 0;
        for group in groups {
            let hosts = group.iter().map(|(one, _)| &one.host);
            let unknown: BTreeSet<&String> =
                hosts.filter(|host| !known.contains_key(*host)).collect();
            let mut unknown = unknown.into_iter();
            let asked: BTreeSet<String> = unknown.by_ref().take(left).cloned().collect();
            left -= asked.len();
            for host in unknown {
                unasked += 1;
                silent.push((host.as_str().into(), Silent::Everywhere));
            }
            for (host, asked) in Arc::clone(&self).hosts(asked).await {
                match asked {
                    Ok((all, ..)) => {
                        ttl = ttl.min(all.ttl);
                        silent.push((host.as_str().into(), all.silent));
                        known.insert(host, all.addresses);
                    }
                    Err(other) => {
                        if other.is_failure() {
                            silent.push((host.into(), Silent::Everywhere));
                        }
                        missing = Some(Missing::weightier(missing, other));
                    }
                }
            }
            let found: Vec<(Found, Arc<str>)> = group
                .iter()
                .flat_map(|(one, weight)| {
                    let certified = names::to_be_certified(&one.host, record);
                    at(one, *weight, certified, known.get(&one.host))
                })
                .take(FOUND)
                .collect();
            if !found.is_empty() {
                return Ok(Answer::Found(Stands {
                    name: record.into(),
                    found,
                    ttl: held_in_doubt(ttl, doubt.as_deref()),
                    silent,
                    unasked,
                    doubt,
                }));
            }
        }
        Err(missing.unwrap_or_else(|| {
            Missing::nothing(
                "the record says that there is no such service".to_owned(),
                None,
            )
        }))
    }

    /// The addresses of each of these hosts.
    async fn hosts(
        self: Arc<Self>,
        hosts: BTreeSet<String>,
    ) -> Vec<(
        String,
        Result<(Together, Arc<str>, Option<String>), Missing>,
    )> {
        let mut all = Vec::with_capacity(hosts.len());
        let mut asking = JoinSet::new();
        for host in hosts {
            let asker = Arc::clone(&self);
            asking.spawn(async move {
                let asked = asker.host(&host).await;
                (host, asked)
            });
            if asking.len() == AT_A_TIME {
                all.extend(asking.join_next().await.and_then(Result::ok));
            }
        }
        while let Some(asked) = asking.join_next().await {
            all.extend(asked.ok());
        }
        all
    }

    /// The records of one type of a complete name, and how long they hold.
    async fn records(&self, name: &str, what: RecordType) -> Part<Lookup> {
        let resolver = match &self.resolver {
            Ok(resolver) => resolver,
            Err(problem) => return Part::Failed(problem.clone()),
        };
        // As it is: names of containers may have underscores, which names of hosts on the internet have not.
        let question = match Name::from_ascii(name) {
            Ok(question) => question,
            Err(error) => return Part::Failed(format!("{name} is no name: {error}")),
        };
        match resolver.lookup(question, what).await {
            Ok(lookup) => {
                let ttls = lookup.answers().iter().map(|record| record.ttl);
                let ttl = Duration::from_secs(ttls.min().unwrap_or(0).into());
                Part::Found(lookup, ttl)
            }
            Err(error) => part_of(&error, name, what),
        }
    }
}

fn part_of<T>(error: &NetError, name: &str, what: RecordType) -> Part<T> {
    if let NetError::Dns(DnsError::NoRecordsFound(none)) = error {
        return Part::Nothing {
            no_such_name: error.is_nx_domain(),
            ttl: none
                .negative_ttl
                .map(|seconds| Duration::from_secs(seconds.into())),
        };
    }
    Part::Failed(format!("{error} ({what} of {name})"))
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

fn resolver(servers: Vec<NameServerConfig>, system: ResolverOpts) -> Result<TokioResolver, String> {
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    let options = builder.options_mut();
    *options = system;
    options.timeout = options.timeout.min(SERVER_WITHIN);
    // Both are done here.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder
        .build()
        .map_err(|error| format!("names cannot be asked for: {error}"))
}

fn addresses_in(records: &[Record]) -> Vec<IpAddr> {
    let addresses = records.iter().filter_map(|record| record.data.ip_addr());
    addresses.collect()
}

fn services_in(records: &[Record]) -> Vec<Service> {
    let services = records.iter().filter_map(|record| {
        let RData::SRV(one) = &record.data else {
            return None;
        };
        Some(Service {
            priority: one.priority,
            weight: one.weight,
            port: one.port,
            host: one.target.to_ascii().to_ascii_lowercase(),
        })
    });
    services.collect()
}

fn at<'a>(
    service: &Service,
    weight: u32,
    certified: Option<&str>,
    addresses: Option<&'a Vec<IpAddr>>,
) -> impl Iterator<Item = (Found, Arc<str>)> + use<'a> {
    let certified: Option<Arc<str>> = certified.map(Into::into);
    let (target, port): (Arc<str>, _) = (service.host.as_str().into(), service.port);
    addresses.into_iter().flatten().map(move |ip| {
        let found = Found {
            address: SocketAddr::new(*ip, port),
            weight,
            host: certified.clone(),
        };
        (found, Arc::clone(&target))
    })
}

/// What there is a doubt about is asked for again soon.
fn held_in_doubt(ttl: Duration, doubt: Option<&str>) -> Duration {
    match doubt {
        None => ttl,
        Some(_) => ttl.min(holding::LONGEST_WAIT),
    }
}

/// Names mostly have addresses of both versions; where the system knows no way to those of version 6, they
/// would be endpoints that only fail.
fn leave_out_unreachable(addresses: &mut Vec<IpAddr>) {
    if addresses.iter().any(IpAddr::is_ipv4) {
        let paths = Paths::default();
        addresses.retain(|one| one.is_ipv4() || paths.lead_to(*one));
    }
}

#[cfg(test)]
mod tests;
