//! Where access lines go. A file is opened again when it was moved away, as log rotation does, and
//! after an error.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::plan::LogDestination;

/// How often a file is looked for under its name, and how soon it is tried again after an error.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How often a destination that takes nothing now is tried again before that is an error, and the time
/// in between. Only a standard output that its other users set to non-blocking does that.
const PATIENCE: (u32, Duration) = (200, Duration::from_millis(5));

/// An open destination.
#[derive(Debug)]
pub(super) struct Destination {
    /// `None`: after an error, until it could be opened again.
    file: Option<File>,
    /// A file's path; `None` for a standard stream, which cannot be opened again.
    path: Option<PathBuf>,
    checked_at: Option<Instant>,
    /// Whether the last write ended within a line.
    torn: bool,
}

/// A write that ended early.
#[derive(Debug)]
pub(super) struct Broken {
    /// Why.
    pub(super) error: io::Error,
    /// Lines that were not written whole.
    pub(super) lost: u64,
}

impl Destination {
    /// Opens a destination. The error names the file.
    pub(super) fn open(destination: &LogDestination) -> io::Result<Self> {
        match destination {
            LogDestination::Stdout => Self::stream(io::stdout()),
            LogDestination::Stderr => Self::stream(io::stderr()),
            LogDestination::File(path) => Ok(Self {
                file: Some(append(path)?),
                path: Some(path.clone()),
                checked_at: None,
                torn: false,
            }),
        }
    }

    /// An open stream. It is written to without the buffer of the standard library, which would keep
    /// what could not be written and tear lines when it is tried again.
    pub(super) fn stream(stream: impl AsFd) -> io::Result<Self> {
        Ok(Self {
            file: Some(File::from(stream.as_fd().try_clone_to_owned()?)),
            path: None,
            checked_at: None,
            torn: false,
        })
    }

    /// Has a file opened anew before the next line.
    pub(super) fn reopen(&mut self) {
        if self.path.is_some() {
            (self.file, self.checked_at) = (None, None);
        }
    }

    /// Behaves as if the last write had ended within a line.
    #[cfg(test)]
    pub(super) fn tear(&mut self) {
        self.torn = true;
    }

    /// Writes lines, each with its end.
    pub(super) fn write(&mut self, lines: &[u8], now: Instant) -> Result<(), Broken> {
        let fail = |error, unwritten: &[u8]| Broken {
            error,
            lost: count_lines(unwritten),
        };
        self.check(now).map_err(|error| fail(error, lines))?;
        let Some(file) = &mut self.file else {
            return Err(fail(ErrorKind::NotConnected.into(), lines));
        };
        let start = if self.torn { b"\n".as_slice() } else { b"" };
        let result = write_all(file, start).and_then(|()| {
            self.torn = false;
            write_all(file, lines)
        });
        let Err((error, unwritten)) = result else {
            return Ok(());
        };
        let unwritten = if self.torn { lines.len() } else { unwritten };
        let written = lines.len() - unwritten;
        self.torn |= written > 0 && lines[written - 1] != b'\n';
        let error = fail(error, &lines[written..]);
        if self.path.is_some() {
            self.file = None;
            self.checked_at = Some(now);
        }
        Err(error)
    }

    /// Opens the file again where it is closed or no longer the one of its name.
    fn check(&mut self, now: Instant) -> io::Result<()> {
        let is_due = |at: Instant| now.saturating_duration_since(at) >= CHECK_EVERY;
        let Some(path) = self
            .path
            .as_deref()
            .filter(|_| self.checked_at.is_none_or(is_due))
        else {
            return Ok(());
        };
        self.checked_at = Some(now);
        let is_open = self.file.as_ref().is_some_and(|file| is_same(file, path));
        if !is_open {
            // A line that was torn by an error stays torn in the old file or in this one; starting a
            // new line is right in both cases, and a blank line does no harm.
            self.file = Some(append(path)?);
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).mode(0o640).open(path);
    opened.map_err(|error| {
        let text = format!("cannot open the access log {}: {error}", path.display());
        io::Error::new(error.kind(), text)
    })
}

fn is_same(file: &File, path: &Path) -> bool {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let there = std::fs::metadata(path).map(identity);
    matches!((file.metadata().map(identity), there), (Ok(open), Ok(there)) if open == there)
}

/// Writes everything, else says how many bytes are left.
fn write_all(file: &mut File, mut bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let mut patience = PATIENCE.0;
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err((ErrorKind::WriteZero.into(), bytes.len())),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock && patience > 0 => {
                patience -= 1;
                std::thread::sleep(PATIENCE.1);
            }
            Err(error) => return Err((error, bytes.len())),
        }
    }
    Ok(())
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}
