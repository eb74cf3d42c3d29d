//! `mamparo dev`: good policies in front of one service under development, without a file.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use crate::app;
use crate::config;
use crate::telemetry::log;

/// What `mamparo dev` takes.
#[derive(Debug, Clone, Args)]
pub struct Dev {
    /// The service under development, such as http://127.0.0.1:3000
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Where to take requests for it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// Print the configuration that this stands for, and end
    #[arg(long)]
    pub print_config: bool,
    /// What the log tells: off, error, warn, info, debug, or directives by module
    #[arg(long, env = "MAMPARO_LOG", value_name = "LEVEL", default_value = log::DEFAULT_LEVEL)]
    pub log: String,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let wanted = "write it as an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
    text.parse().map_err(|_| wanted.to_owned())
}

/// Runs until it is told to end; exit codes as for `run`.
pub fn run(dev: &Dev) -> ExitCode {
    let yaml = dev.yaml();
    let load = || config::parse("mamparo dev", &yaml, &app::environment);
    if !dev.print_config {
        return super::run::serve(&dev.log, vec![], load);
    }
    match load() {
        Ok(_) => super::print(&yaml),
        Err(problems) => {
            log::line(&problems.to_string());
            ExitCode::from(super::BAD_CONFIG)
        }
    }
}

impl Dev {
    /// The configuration that the command stands for, as YAML.
    ///
    /// A service under development is restarted often: its breaker closes soon after, and a connection
    /// that it has dropped costs one more try instead of an error.
    pub fn yaml(&self) -> String {
        let to = quoted(&self.to);
        let listen = quoted(&self.listen.to_string());
        format!(
            r#"# What `mamparo dev` stands for. Save it as mamparo.yaml, and go on with `mamparo run`.
service: dev

listeners:
  dev:
    address: {listen}
    role: inbound
    upstream: service

upstreams:
  service:
    endpoints: [{to}]
    timeouts:
      connect: 1s
      request: 15s
    retry:                      # GET, PUT, DELETE … and whatever has an idempotency-key
      max_attempts: 3
      backoff: {{ base: 50ms, max: 1s }}
    circuit_breaker:            # short: a restarted service is found again within seconds
      consecutive_failures: 5
      open_for: 1s
      max_open_for: 5s
    bulkhead:
      max_in_flight: 100
      max_queue: 100
      queue_timeout: 1s
"#
        )
    }
}

/// Any text as one YAML value: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lint::lint;

    fn dev(to: &str) -> Dev {
        Dev {
            to: to.into(),
            listen: ([127, 0, 0, 1], 8080).into(),
            print_config: false,
            log: String::new(),
        }
    }

    #[test]
    fn the_configuration_is_right_and_has_every_policy() {
        let yaml = dev("http://127.0.0.1:3000").yaml();
        let loaded = match config::parse("dev", &yaml, &|_| None) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}"),
        };
        let upstream = &loaded.plan.upstreams[0];
        assert_eq!(upstream.endpoints[0].address.to_string(), "127.0.0.1:3000");
        assert!(upstream.policies.retry.is_some());
        assert!(upstream.policies.circuit_breaker.is_some());
        assert!(upstream.policies.bulkhead.is_some());
        assert_eq!(lint(&loaded), []);
    }

    #[test]
    fn what_the_user_typed_stays_one_value() {
        let yaml = dev("http://a\"]\nx: y").yaml();
        assert!(config::parse("dev", &yaml, &|_| None).is_err());
        assert!(
            yaml.contains(r#"endpoints: ["http://a\"]\nx: y"]"#),
            "{yaml}"
        );
        assert!(yaml.contains(r#"address: "127.0.0.1:8080""#), "{yaml}");
    }
}
