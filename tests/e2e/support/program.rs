//! The real program, as an operator runs it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::client::Client;
use super::wait::until;

/// The program that was built with the tests.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mamparo");

/// A running process. Dropped, it is killed.
pub(crate) struct Program {
    child: Child,
    stderr: Arc<Mutex<String>>,
    folder: TempDir,
}

impl Program {
    /// Runs `mamparo run` on a configuration, which must set `admin.address` to port 0, and waits
    /// until it listens.
    #[track_caller]
    pub(crate) fn run(yaml: &str) -> Self {
        Self::run_with(yaml, &[], |_| {})
    }

    /// The same with further arguments and a changed command.
    #[track_caller]
    pub(crate) fn run_with(
        yaml: &str,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mamparo.yaml");
        std::fs::write(&path, yaml).unwrap();
        let mut command = Command::new(PROGRAM);
        command
            .arg("run")
            .arg("--config")
            .arg(&path)
            .args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let from = child.stderr.take().unwrap();
        let to = Arc::clone(&stderr);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut text = to.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        let program = Self {
            child,
            stderr,
            folder,
        };
        until(|| program.find_address("admin listening"));
        program
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file that it was started with.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("mamparo.yaml")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Where the admin interface listens.
    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        until(|| self.find_address("admin listening"))
            .unwrap_or_else(|| panic!("no admin interface: {}", self.stderr()))
    }

    /// The address of a listener, as the status page tells it.
    #[track_caller]
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        let status = Client::connect(self.admin())
            .get_from_admin("/api/v1/status")
            .json();
        let listeners = status["listeners"].as_array().unwrap();
        let found = listeners.iter().find(|one| one["name"] == name);
        let address = found.and_then(|one| one["address"].as_str());
        address.expect("the listener is there").parse().unwrap()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(id)
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until(|| self.child.try_wait().unwrap()).expect("the process ends")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The address in the line of the log with those words.
    fn find_address(&self, words: &str) -> Option<SocketAddr> {
        let text = self.stderr();
        let line = text.lines().find(|line| line.contains(words))?;
        let at = line.split("address").nth(1)?;
        let at = at.trim_start_matches(|c: char| !c.is_ascii_digit() && c != '[');
        let end = at.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
        at[..end.unwrap_or(at.len())].parse().ok()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end and gives what it wrote.
pub(crate) fn output(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}
