//! Notices that the files of a configuration may have changed.
//!
//! Folders are watched, not files: a ConfigMap is swapped by renaming a symbolic link in its folder, and
//! editors rename a new file over the old one; a watch on the file itself is dead after that. A poll
//! stands behind the watch, for file systems that tell nothing. What counts in the end is the content:
//! a change that leaves every byte as it was is none (rule 83).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How long the files must have been left alone before they are read.
pub const QUIET: Duration = Duration::from_millis(100);
/// How long changes that never end can hold the reading up.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often the content is compared although nothing was heard.
pub const POLL: Duration = Duration::from_secs(10);

/// Watches the files of a configuration.
pub struct Watch {
    /// What the user named: files and folders.
    paths: Vec<PathBuf>,
    /// The files that were read, those that others refer to included.
    sources: BTreeSet<PathBuf>,
    /// The names that a changed content is looked for under; shared with the watcher's thread.
    names: Arc<Mutex<BTreeSet<OsString>>>,
    heard: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    seen: Option<u64>,
    /// Whether each poll is an answer, although the content is the same.
    look_again: bool,
    poll: Duration,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("paths", &self.paths)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches what the user named and the files that were read for it. The first answer comes at once.
    /// Where the system gives no watch, the poll alone has to do; that is said once.
    pub fn new(paths: Vec<PathBuf>, sources: &[PathBuf]) -> Self {
        Self::with_poll(paths, sources, POLL)
    }

    fn with_poll(paths: Vec<PathBuf>, sources: &[PathBuf], poll: Duration) -> Self {
        let heard = Arc::new(Notify::new());
        let names = Arc::default();
        let mut watch = Self {
            paths,
            sources: BTreeSet::new(),
            watcher: watcher(Arc::clone(&heard), Arc::clone(&names)),
            names,
            heard,
            seen: None,
            look_again: false,
            poll,
        };
        watch.follow(sources);
        // The files were read before they were watched; what changed in between must not be missed.
        watch.heard.notify_one();
        watch
    }

    /// The files that were read last. Those of before stay watched as long as a reading fails, so that
    /// it is this list that says what is left.
    pub fn follow(&mut self, sources: &[PathBuf]) {
        self.sources = sources.iter().cloned().collect();
        let every = self.paths.iter().chain(&self.sources);
        *self.names.lock() = every
            .filter_map(|path| path.file_name().map(OsString::from))
            .collect();
        self.watch_folders();
    }

    /// Waits until the content may have changed and has been left alone for a while; answers only when
    /// it differs from what was there at the last answer. A change during which the future is dropped
    /// is found by the poll.
    pub async fn changed(&mut self) {
        loop {
            // What is not heard is found by the poll.
            let heard = tokio::time::timeout(self.poll, self.heard.notified()).await;
            if heard.is_ok() {
                self.quiet().await;
            }
            // A folder that was replaced is a new one, of which the watch knows nothing.
            self.watch_folders();
            if self.differs().await || self.look_again {
                return;
            }
        }
    }

    /// Whether each poll and each event shall be an answer even where nothing has changed: a configuration
    /// that was refused may depend on what is not watched, such as a file that is not there yet or a taken
    /// port; and it may have been read in the midst of a writing that has left the content as it was.
    pub fn look_again(&mut self, again: bool) {
        self.look_again = again;
    }

    /// Takes the content that is there now for known; for whoever is about to read it on another
    /// occasion. (Not for whoever has read it: what changed in between would be missed.)
    pub async fn take_for_seen(&mut self) {
        self.differs().await;
    }

    /// For whoever has read the files since: where they have changed meanwhile, nobody knows what was
    /// read, and the next answer comes soon.
    pub async fn doubt_what_has_changed(&mut self) {
        if self.differs().await {
            self.seen = None;
            self.heard.notify_one();
        }
    }

    /// Waits for the end of a series of changes, but not for ever.
    async fn quiet(&self) {
        let rest = async {
            while tokio::time::timeout(QUIET, self.heard.notified())
                .await
                .is_ok()
            {}
        };
        let _ = tokio::time::timeout(PATIENCE, rest).await;
    }

    async fn differs(&mut self) -> bool {
        let (paths, sources) = (self.paths.clone(), self.sources.clone());
        // Files may be on a slow disk; probes and scrapes must not wait for it.
        let read = tokio::task::spawn_blocking(move || fingerprint(&paths, &sources)).await;
        let Ok(now) = read else { return false };
        self.seen.replace(now) != Some(now)
    }

    fn watch_folders(&mut self) {
        let folders = folders(&self.paths, &self.sources);
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in folders {
            // A folder that is missing now is looked for again at the next poll.
            if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
                tracing::debug!(folder = %folder.display(), %error, "cannot watch a folder; it is polled");
            }
        }
    }
}

fn watcher(
    heard: Arc<Notify>,
    names: Arc<Mutex<BTreeSet<OsString>>>,
) -> Option<RecommendedWatcher> {
    let result = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error is a reason to look, too: events may have been lost.
        if event.map_or(true, |event| concerns(&event, &names.lock())) {
            heard.notify_one();
        }
    });
    match result {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "the system watches no files for us; changes are found every 10 s");
            None
        }
    }
}

/// Whether an event may change what a configuration says. Reading is no change: our own would wake us
/// again. Nor is writing to another file, such as an access log in the same folder.
fn concerns(event: &notify::Event, names: &BTreeSet<OsString>) -> bool {
    let content_only = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Data(_)) => true,
        EventKind::Access(_) => return false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => false,
    };
    let named =
        |path: &PathBuf| is_yaml(path) || path.file_name().is_some_and(|name| names.contains(name));
    !content_only || event.paths.iter().any(named)
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// The folders in which a change can matter: of each file as it is named, and of the file that it stands
/// for where that is a symbolic link.
fn folders(paths: &[PathBuf], sources: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in paths.iter().chain(sources) {
        if path.is_dir() {
            folders.insert(path.clone());
        }
        folders.insert(folder_of(path));
        if let Ok(real) = path.canonicalize() {
            folders.insert(folder_of(&real));
        }
    }
    folders
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// A hash over every file's name and content. Files that cannot be read count as such.
fn fingerprint(paths: &[PathBuf], sources: &BTreeSet<PathBuf>) -> u64 {
    let mut files = sources.clone();
    for path in paths {
        match std::fs::read_dir(path) {
            Ok(entries) => files.extend(
                entries
                    .flatten()
                    .map(|entry| entry.path())
                    .filter(|path| is_yaml(path)),
            ),
            Err(_no_folder) => {
                files.insert(path.clone());
            }
        }
    }
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        content(&file).hash(&mut hasher);
    }
    hasher.finish()
}

/// What a file holds. Only real files are read: a pipe would wait for its writer.
fn content(file: &Path) -> Result<Vec<u8>, std::io::ErrorKind> {
    let kind = std::fs::metadata(file).map_err(|error| error.kind())?;
    if !kind.is_file() {
        return Err(std::io::ErrorKind::InvalidInput);
    }
    std::fs::read(file).map_err(|error| error.kind())
}

#[cfg(test)]
mod tests;
