//! Everything that the demo runs: the services, the proxy in front of them, and the clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::DemoError;
use super::load::{Group, Load, Tally};
use super::narrator::Clients;
use super::story::Act;
use super::summary::{self, Line};
use super::upstream::{Mode, Server};
use crate::app::{self, Options, Running};
use crate::config;
use crate::server::status::{Status, Totals};

/// The configuration; the addresses are filled in.
const CONFIG: &str = include_str!("demo.yaml");
/// How long the last requests may take to be counted.
const SETTLE: Duration = Duration::from_secs(2);

const CATALOG: Group = Group {
    path: "/catalog",
    clients: 4,
    pause: Duration::from_millis(100),
};
const STOCK: Group = Group {
    path: "/stock",
    clients: 2,
    pause: Duration::from_millis(200),
};
const CROWD: Group = Group {
    path: "/stock",
    clients: 24,
    pause: Duration::from_millis(100),
};
const RECOMMENDATIONS: Group = Group {
    path: "/recommendations",
    clients: 2,
    pause: Duration::from_millis(150),
};

/// The services.
struct Servers {
    catalog: [Server; 3],
    stock: Server,
    recommendations: Server,
}

/// What the clients of each upstream have seen.
#[derive(Default)]
struct Tallies {
    catalog: Arc<Tally>,
    stock: Arc<Tally>,
    recommendations: Arc<Tally>,
}

/// Everything that runs.
pub(super) struct Stage {
    servers: Servers,
    running: Running,
    proxy: SocketAddr,
    admin: SocketAddr,
    yaml: String,
    tallies: Tallies,
    /// Those that always ask.
    steady: Vec<Load>,
    crowd: Option<Load>,
}

impl Servers {
    fn start() -> io::Result<Self> {
        let ms = Duration::from_millis;
        let catalog = || Server::start("catalog", ms(5), 100);
        Ok(Self {
            catalog: [catalog()?, catalog()?, catalog()?],
            stock: Server::start("stock", ms(60), 4)?,
            recommendations: Server::start("recommendations", ms(10), 100)?,
        })
    }

    fn yaml(&self) -> String {
        let catalog = self.catalog.each_ref().map(|one| quoted(one.address()));
        CONFIG
            .replace("{catalog}", &catalog.join(", "))
            .replace("{stock}", &quoted(self.stock.address()))
            .replace("{recommendations}", &quoted(self.recommendations.address()))
    }
}

fn quoted(address: SocketAddr) -> String {
    format!("\"{address}\"")
}

impl Stage {
    /// Starts everything; the clients wait.
    pub(super) fn build() -> Result<Self, DemoError> {
        let servers = Servers::start()?;
        let yaml = servers.yaml();
        let loaded = config::parse("demo.yaml", &yaml, &|_| None).map_err(DemoError::Config)?;
        let running = app::start(loaded, Options::default())?;
        let proxy = running
            .listener_address("outbound")
            .ok_or_else(|| io::Error::other("the listener is missing"))?;
        let admin = running
            .admin_address()
            .ok_or_else(|| io::Error::other("the admin interface is missing"))?;
        let tallies = Tallies::default();
        let steady = vec![
            Load::new(proxy, &CATALOG, &tallies.catalog),
            Load::new(proxy, &STOCK, &tallies.stock),
            Load::new(proxy, &RECOMMENDATIONS, &tallies.recommendations),
        ];
        let crowd = Some(Load::new(proxy, &CROWD, &tallies.stock));
        Ok(Self {
            servers,
            running,
            proxy,
            admin,
            yaml,
            tallies,
            steady,
            crowd,
        })
    }

    /// What there is, where to look, and what to try.
    pub(super) fn introduction(&self) -> String {
        let (proxy, admin) = (self.proxy, self.admin);
        let endpoint = self.servers.catalog[0].address();
        let config: String = self
            .yaml
            .lines()
            .map(|line| format!("  {line}\n"))
            .collect();
        format!(
            "mamparo demo: five small servers, the proxy in front of them, and clients, all in this process.

It runs this configuration:

{config}
Look   http://{admin}/                  what is broken, since when, why
       http://{admin}/metrics           for Prometheus
       mamparo top --admin {admin}      the same page in a terminal
Try    curl -i http://{proxy}/catalog
       curl -i http://{proxy}/recommendations
       mamparo explain --recent --admin {admin}
       curl -s http://{admin}/api/v1/status
       curl -d '{{\"force\":\"open\"}}' http://{admin}/api/v1/upstreams/catalog/endpoints/{endpoint}/breaker
"
        )
    }

    pub(super) fn status(&self) -> Status {
        self.running.status()
    }

    pub(super) fn clients(&self) -> Clients {
        Clients {
            catalog: self.tallies.catalog.read(),
            stock: self.tallies.stock.read(),
            recommendations: self.tallies.recommendations.read(),
        }
    }

    /// Makes happen what the scene says.
    pub(super) fn act(&self, act: Act) {
        let flaky = &self.servers.catalog[1];
        let crowd = |on| self.crowd.iter().for_each(|crowd| crowd.switch(on));
        match act {
            Act::Calm => self.steady.iter().for_each(|load| load.switch(true)),
            Act::Flaky => flaky.behave(Mode::Failing(0.2)),
            Act::Kill => flaky.behave(Mode::Dead),
            Act::Revive => flaky.behave(Mode::Healthy),
            Act::Crowd => crowd(true),
            Act::CrowdLeaves => crowd(false),
            Act::Hang => self.servers.recommendations.behave(Mode::Hanging),
            Act::Recover => self.servers.recommendations.behave(Mode::Healthy),
        }
    }

    /// Ends the clients, each after the request that it has begun.
    pub(super) async fn close_the_doors(&mut self) {
        let loads = std::mem::take(&mut self.steady);
        for load in loads.into_iter().chain(self.crowd.take()) {
            load.stop().await;
        }
    }

    /// What both sides have counted, when the last request has been.
    pub(super) async fn reckoning(&self) -> [Line; 3] {
        let settled = async {
            while !summary::is_settled(&self.lines()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // What is still missing then shows in the table.
        let _ = tokio::time::timeout(SETTLE, settled).await;
        self.lines()
    }

    fn lines(&self) -> [Line; 3] {
        let status = self.running.status();
        let clients = self.clients();
        let catalog = self.servers.catalog.iter().map(Server::received).sum();
        [
            ("catalog", clients.catalog, catalog),
            ("stock", clients.stock, self.servers.stock.received()),
            (
                "recommendations",
                clients.recommendations,
                self.servers.recommendations.received(),
            ),
        ]
        .map(|(name, seen, received)| Line {
            upstream: name,
            seen,
            counted: counted(&status, name),
            received,
        })
    }

    /// Ends the proxy.
    pub(super) async fn end(self) {
        let Self { running, .. } = self;
        // It waits for its threads; the services have to go on until they have ended.
        let _ = tokio::task::spawn_blocking(move || running.shutdown()).await;
    }
}

fn counted(status: &Status, name: &str) -> Totals {
    status
        .upstreams
        .iter()
        .find(|upstream| upstream.name == name)
        .map(|upstream| upstream.totals)
        .unwrap_or_default()
}
