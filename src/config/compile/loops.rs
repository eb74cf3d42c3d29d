//! A listener whose requests come back to it: allowed, since a name may be meant for another host, but a
//! way to bring everything down.

use super::super::origin::Effective;
use super::super::problem::Problem;
use crate::plan::{Address, Listener, Plan, SocketAddress, Upstream};

/// Every endpoint that is the address of a listener with a route to it.
pub(in crate::config) fn loops(plan: &Plan, effective: &Effective) -> Vec<Problem> {
    let mut problems = Vec::new();
    for upstream in &plan.upstreams {
        for (index, endpoint) in upstream.endpoints.iter().enumerate() {
            let leads_here = |listener: &&Listener| {
                is_at(&listener.address, &endpoint.address) && has_route(listener, upstream)
            };
            if let Some(listener) = plan.listeners.iter().find(leads_here) {
                let path = format!("upstreams.{}.endpoints[{index}]", upstream.name);
                problems.push(Problem {
                    place: effective.place_of(&path).cloned(),
                    message: format!(
                        "the endpoint {} is the listener `{}`, which sends requests to it: they would go round in circles",
                        endpoint.address, listener.name
                    ),
                    path,
                    help: Some("an endpoint is where the service itself listens".to_owned()),
                    source_line: None,
                });
            }
        }
    }
    problems
}

fn is_at(listener: &SocketAddress, endpoint: &Address) -> bool {
    let listener = match listener {
        SocketAddress::Ip(listener) => listener,
        SocketAddress::Unix(path) => {
            return matches!(endpoint, Address::Unix(other) if other == path);
        }
    };
    listener.port() != 0
        && match endpoint {
            Address::Ip(address) => {
                let here = listener.ip().is_unspecified() && address.ip().is_loopback();
                address.port() == listener.port() && (address.ip() == listener.ip() || here)
            }
            Address::Name { host, port } => {
                let here = listener.ip().is_unspecified() || listener.ip().is_loopback();
                *port == listener.port() && &**host == "localhost" && here
            }
            // Where they lead is only known while it runs, and is looked at then.
            Address::Srv { .. } | Address::Kubernetes { .. } | Address::Unix(_) => false,
        }
}

fn has_route(listener: &Listener, upstream: &Upstream) -> bool {
    listener
        .routes
        .iter()
        .any(|route| route.upstream.name == upstream.name)
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn warnings(listener: &str, endpoint: &str) -> Vec<String> {
        let text = format!(
            "listeners: {{ in: {{ address: '{listener}', upstream: a }} }}\n\
             upstreams: {{ a: {{ endpoints: [b:1, '{endpoint}'] }} }}\n"
        );
        let loaded = parse("test.yaml", &text, &|_| None).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_listener_that_sends_to_itself_is_told() {
        for (listener, endpoint) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("127.0.0.1:8080", "localhost:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "localhost:8080"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ] {
            let told = warnings(listener, endpoint);
            assert_eq!(told.len(), 1, "{listener} {endpoint}");
            assert!(
                told[0].starts_with("test.yaml:2:19: upstreams.a.endpoints[1]: the endpoint"),
                "{told:?}"
            );
        }
    }

    #[test]
    fn others_are_not() {
        for (listener, endpoint) in [
            ("127.0.0.1:8080", "127.0.0.1:8081"),
            ("127.0.0.1:8080", "127.0.0.2:8080"),
            ("0.0.0.0:8080", "10.0.0.1:8080"),
            ("127.0.0.1:0", "127.0.0.1:8080"),
            ("127.0.0.1:8080", "payments:8080"),
            ("unix:/run/a.sock", "unix:/run/b.sock"),
            ("127.0.0.1:8080", "unix:/run/a.sock"),
        ] {
            assert_eq!(
                warnings(listener, endpoint),
                [""; 0],
                "{listener} {endpoint}"
            );
        }
    }
}
