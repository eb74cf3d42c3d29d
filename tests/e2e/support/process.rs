//! The proxy in this process with its configuration in a file, for reloads.

use std::time::{Duration, Instant};

use mamparo::app::{self, Options, Running};
use mamparo::config;
use mamparo::server::status::{LastReload, ReloadResult};

use super::client::Client;
use super::proxy::complete;
use super::tls::Files;

/// A configuration's file, and what runs with it.
pub(crate) struct Process {
    files: Files,
    pub(crate) running: Running,
}

impl Process {
    #[track_caller]
    pub(crate) fn start(yaml: &str) -> Self {
        let files = Files::new();
        let file = files.put("mamparo.yaml", &complete(yaml, &files.path("access.log")));
        let loaded = config::load(std::slice::from_ref(&file), &|_| None).unwrap();
        let options = Options {
            paths: vec![file],
            ..Options::default()
        };
        let running = app::start(loaded, options).unwrap();
        Self { files, running }
    }

    /// Writes the file, and waits until it has been read.
    #[track_caller]
    pub(crate) fn reload(&self, yaml: &str) -> LastReload {
        let log = self.files.path("access.log");
        self.files.put("mamparo.yaml", &complete(yaml, &log));
        // The file is watched, too: who came first does not matter.
        let _ = self.running.reload();
        let last = self.running.status().last_reload.unwrap();
        assert_ne!(last.result, ReloadResult::Refused, "{:?}", last.problems);
        last
    }

    /// The same for a process that may end meanwhile.
    pub(crate) fn reload_unless_ended(&self, yaml: &str) {
        let log = self.files.path("access.log");
        self.files.put("mamparo.yaml", &complete(yaml, &log));
        let _ = self.running.reload();
    }

    /// The same as [`Self::reload`]; `meanwhile` is called again and again for as long as that takes. Gives how long.
    #[track_caller]
    pub(crate) fn reload_meanwhile(&self, yaml: &str, mut meanwhile: impl FnMut()) -> Duration {
        let began = Instant::now();
        std::thread::scope(|scope| {
            let reload = scope.spawn(|| self.reload(yaml));
            while !reload.is_finished() {
                meanwhile();
            }
            reload.join().unwrap();
        });
        began.elapsed()
    }

    /// The status of an answer of the listener `outbound`.
    #[track_caller]
    pub(crate) fn get(&self) -> u16 {
        let listener = self.running.listener_address("outbound").unwrap();
        Client::connect(listener).get("/").status
    }
}
