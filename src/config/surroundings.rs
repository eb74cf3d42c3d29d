//! What a pod's surroundings say of it, for settings that are not written: its namespace and its zone.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use super::environment::Environment;
use super::origin::Origin;
use super::setting::{Fields, Setting, Value};

/// The environment variable that overrides `runtime.kubernetes.zone`.
pub const ZONE: &str = "MAMPARO_ZONE";

/// Where a pod finds the namespace of its service account, which is its own.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Puts the zone of the environment in the place of the written one, and our namespace where an
/// endpoint's service has none.
pub(super) fn settle_kubernetes(root: &mut Fields, environment: &Environment<'_>) {
    if let Some(zone) = environment(ZONE).map(|zone| zone.trim().to_owned())
        && !zone.is_empty()
        && !zone.contains(char::is_control)
    {
        settle_zone(root, &zone);
    }
    let own = LazyLock::new(|| own_namespace(Path::new(NAMESPACE_FILE)));
    let upstreams = root.get_mut("upstreams").map(|setting| &mut setting.value);
    let Some(Value::Map(upstreams)) = upstreams else {
        return;
    };
    for fields in upstreams.iter_mut().filter_map(|(_, one)| one.block_mut()) {
        let endpoints = fields.get_mut("endpoints").map(|one| &mut one.value);
        let Some(Value::List(endpoints)) = endpoints else {
            continue;
        };
        // Lists are shared; one that names no service stays so.
        let names_some = |one: &Setting| one.block().is_some_and(|one| !one.lacks("kubernetes"));
        if !endpoints.iter().any(names_some) {
            continue;
        }
        for endpoint in Arc::make_mut(endpoints).iter_mut() {
            let service = endpoint
                .block_mut()
                .and_then(|one| one.get_mut("kubernetes"));
            if let Some(service) = service.and_then(Setting::block_mut) {
                service.get_or_insert("namespace", || Value::Text(Arc::clone(&own)));
            }
        }
    }
}

fn settle_zone(root: &mut Fields, zone: &str) {
    let setting = Setting {
        value: Value::Text(zone.into()),
        origin: Origin::Environment {
            name: ZONE.into(),
            place: None,
        },
    };
    let block = || Value::Block(Arc::default());
    let runtime = root.get_or_insert("runtime", block).block_mut();
    let kubernetes =
        runtime.and_then(|runtime| runtime.get_or_insert("kubernetes", block).block_mut());
    if let Some(kubernetes) = kubernetes {
        kubernetes.remove("zone");
        kubernetes.0.push(("zone", setting));
    }
}

/// Our namespace; outside of a cluster, the one that everything is in where nobody says another.
fn own_namespace(file: &Path) -> Arc<str> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    match text.trim() {
        "" => "default".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::plan::Address;

    const YAML: &str = "\
listeners: { out: { address: '127.0.0.1:0', upstream: a } }
runtime: { kubernetes: { api: 'http://127.0.0.1:8001', zone: x } }
upstreams:
  a:
    endpoints:
      - kubernetes: { service: payments }
      - { kubernetes: { service: orders, namespace: shop, port: 8080 }, weight: 2 }
";

    #[test]
    fn a_service_is_in_our_namespace_unless_it_is_written() {
        let loaded = parse("a.yaml", YAML, &|_| None).unwrap();
        let endpoints = &loaded.plan.upstreams[0].endpoints;
        let shown: Vec<String> = endpoints
            .iter()
            .map(|one| one.address.to_string())
            .collect();
        assert_eq!(
            shown,
            ["kubernetes:default/payments", "kubernetes:shop/orders:8080"]
        );
        assert_eq!(endpoints[1].weight, 2);
        let path = "upstreams.a.endpoints[0].kubernetes.namespace";
        assert_eq!(loaded.effective.get(path).unwrap().origin, Origin::Auto);
        assert!(
            matches!(&endpoints[0].address, Address::Kubernetes { port, .. } if port.is_empty())
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("namespace");
        std::fs::write(&file, "shop\n").unwrap();
        assert_eq!(&*own_namespace(&file), "shop");
        assert_eq!(&*own_namespace(&folder.path().join("none")), "default");
    }

    #[test]
    fn the_environment_has_the_last_word_on_the_zone() {
        let zone = |text: &str, variable: Option<&str>| {
            let environment = |name: &str| {
                (name == ZONE)
                    .then(|| variable.map(str::to_owned))
                    .flatten()
            };
            let loaded = parse("a.yaml", text, &environment).unwrap();
            loaded.plan.runtime.kubernetes.zone
        };
        assert_eq!(zone(YAML, None).as_deref(), Some("x"));
        assert_eq!(zone(YAML, Some("y")).as_deref(), Some("y"));
        // As the downward API has it where a node has no zone.
        assert_eq!(zone(YAML, Some("")).as_deref(), Some("x"));
        let without: String = YAML
            .lines()
            .filter(|line| !line.starts_with("runtime"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(zone(&without, Some(" z\n")).as_deref(), Some("z"));
        assert_eq!(zone(&without, None), None);
    }

    #[test]
    fn a_token_is_not_sent_to_others_in_plaintext() {
        let text = |api: &str| {
            YAML.replace("zone: x", "token_file: /token")
                .replace("http://127.0.0.1:8001", api)
        };
        assert!(parse("a.yaml", &text("http://127.0.0.1:8001"), &|_| None).is_ok());
        assert!(parse("a.yaml", &text("https://10.0.0.1"), &|_| None).is_ok());
        let refused = parse("a.yaml", &text("http://10.0.0.1"), &|_| None).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("token would be sent in plaintext"),
            "{refused}"
        );
    }
}
