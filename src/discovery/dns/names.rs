//! What there is to know about names without asking for them: which names are meant by one, what the
//! system's file of hosts says, and which of a record's targets count.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::plan::domain_of;

/// The longest name there can be, with its dot.
const LONGEST: usize = 254;

/// The names that are asked for one after the other in the place of this one, each complete and with its
/// dot: as it is where it has `ndots` dots, and in each of the domains; as it is only, where it ends with
/// a dot. A domain that makes it longer than names can be is left out.
pub(super) fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let complete = |domain: &str| match domain.trim_end_matches('.') {
        "" => format!("{name}."),
        domain => format!("{name}.{domain}."),
    };
    let as_it_is = complete("");
    let mut all: Vec<String> = search.iter().map(|domain| complete(domain)).collect();
    all.retain(|one| one.len() <= LONGEST);
    if name.matches('.').count() >= ndots {
        all.insert(0, as_it_is);
    } else {
        all.push(as_it_is);
    }
    let mut once: Vec<String> = Vec::new();
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

/// The addresses of a host in the system's file of hosts.
pub(super) fn in_hosts(file: &str, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    let mut found = Vec::new();
    for line in file.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else {
            continue;
        };
        let mut names = words.map(|name| name.trim_end_matches('.'));
        if names.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// The addresses of names that no server is to be asked for: this machine (RFC 6761).
pub(super) fn of_this_machine(host: &str) -> Option<[IpAddr; 2]> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let here = host == "localhost" || host.ends_with(".localhost");
    here.then(|| [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

/// A record that says where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// Those with the lowest are used.
    pub(super) priority: u16,
    /// Its share among those of the same priority; 0: hardly any.
    pub(super) weight: u16,
    /// The port.
    pub(super) port: u16,
    /// The host, complete and with its dot.
    pub(super) host: String,
}

/// The records by their priority, the lowest first, each with a weight above 0. What says that there is no
/// such service (RFC 2782: the target is `.`) or has no port is none.
pub(super) fn by_priority(mut services: Vec<Service>) -> Vec<Vec<(Service, u32)>> {
    services.retain(|one| one.host != "." && one.port != 0);
    services.sort_by_key(|one| one.priority);
    let groups = services.chunk_by(|one, other| one.priority == other.priority);
    groups.map(weighed).collect()
}

/// The name of a record's target that its certificate must have; `None`: that of the record's domain. Who
/// can forge answers could else name a host of their own, and have a certificate for it.
pub(super) fn to_be_certified<'a>(target: &'a str, record: &str) -> Option<&'a str> {
    let target = target.trim_end_matches('.');
    let domain = domain_of(record).trim_end_matches('.');
    let rest = target.strip_suffix(domain)?;
    (rest.is_empty() || rest.ends_with('.')).then_some(target)
}

/// Weights as small as they go, so that a source that counts in hundreds has the same share beside others
/// as one that counts in ones.
fn weighed(group: &[Service]) -> Vec<(Service, u32)> {
    let weight = |one: &Service| u32::from(one.weight.max(1));
    let common = group.iter().map(weight).fold(0, greatest_common_divisor);
    let weighed = group.iter();
    weighed
        .map(|one| (one.clone(), weight(one) / common.max(1)))
        .collect()
}

fn greatest_common_divisor(mut one: u32, mut other: u32) -> u32 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_where_the_system_would() {
        let search: Vec<String> = ["shop.svc.cluster.local", "svc.cluster.local."]
            .map(str::to_owned)
            .into();
        for (name, ndots, expected) in [
            (
                "pay",
                1,
                "pay.shop.svc.cluster.local. pay.svc.cluster.local. pay.",
            ),
            (
                "pay.test",
                1,
                "pay.test. pay.test.shop.svc.cluster.local. pay.test.svc.cluster.local.",
            ),
            (
                "pay.test",
                5,
                "pay.test.shop.svc.cluster.local. pay.test.svc.cluster.local. pay.test.",
            ),
            ("pay.test.", 5, "pay.test."),
        ] {
            let found = candidates(name, &search, ndots).join(" ");
            assert_eq!(found, expected, "{name} {ndots}");
        }
        assert_eq!(candidates("pay", &[".".to_owned()], 1), ["pay."]);
        let long = format!("{0}.{0}.{0}.{0}", "a".repeat(60));
        assert_eq!(candidates(&long, &search, 5), [format!("{long}.")]);
    }

    #[test]
    fn the_file_of_hosts_is_read_as_the_system_reads_it() {
        let file = "\
            # 10.0.0.9 pay\n127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n\
            10.0.0.1 a Pay # pay\n10.0.0.2 pay.test. pay\nnonsense pay\n10.0.0.1 pay\n";
        let of = |host: &str| {
            let found = in_hosts(file, host);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of("PAY"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(of("pay."), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(of("pay.test"), ["10.0.0.2"]);
        assert_eq!(of("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(of("other"), [""; 0]);
        assert!(of_this_machine("A.Localhost.").is_some());
        assert!(of_this_machine("notlocalhost").is_none());
    }

    #[test]
    fn only_a_target_within_the_records_domain_has_a_certificate_of_its_own() {
        for (target, record, expected) in [
            ("a.pay.test.", "_https._tcp.pay.test.", Some("a.pay.test")),
            ("pay.test.", "_https._tcp.pay.test.", Some("pay.test")),
            ("apay.test.", "_https._tcp.pay.test.", None),
            ("a.test.", "_https._tcp.pay.test.", None),
            ("a.node.consul.", "pay.service.consul.", None),
        ] {
            assert_eq!(to_be_certified(target, record), expected, "{target}");
        }
    }

    #[test]
    fn the_lowest_priority_comes_first_and_weights_are_shares() {
        let service = |priority, weight, port, host: &str| Service {
            priority,
            weight,
            port,
            host: host.into(),
        };
        let groups = by_priority(vec![
            service(20, 0, 80, "backup."),
            service(10, 100, 80, "a."),
            service(10, 50, 81, "b."),
            service(10, 5, 80, "."),
            service(10, 5, 0, "c."),
        ]);
        let shown: Vec<Vec<String>> = groups
            .iter()
            .map(|group| {
                let shown = group.iter();
                shown
                    .map(|(one, weight)| format!("{}{} {weight}", one.host, one.port))
                    .collect()
            })
            .collect();
        assert_eq!(shown, [vec!["a.80 2", "b.81 1"], vec!["backup.80 1"]]);
        let groups = by_priority(vec![service(1, 0, 80, "a."), service(1, 30, 80, "b.")]);
        let weights: Vec<u32> = groups[0].iter().map(|(_, weight)| *weight).collect();
        assert_eq!(weights, [1, 30]);
    }
}
