//! Finding and reading the files of a configuration.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::Report;
use super::suggest;

/// The largest file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// Where a configuration is looked for when none is named and none is at hand.
const DEFAULT_FOLDER: &str = "/etc/mamparo";

/// Where a configuration is looked for when none is named.
pub fn default_paths() -> Vec<PathBuf> {
    let here = PathBuf::from("mamparo.yaml");
    if here.exists() {
        vec![here]
    } else {
        vec![PathBuf::from(DEFAULT_FOLDER)]
    }
}

/// A file of the configuration.
#[derive(Debug)]
pub(super) struct Source {
    /// The name that its places carry.
    pub(super) name: Arc<str>,
    /// Its text, without a byte order mark.
    pub(super) text: String,
}

/// Every file that was read, and a hash over what they hold.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// In the order of reading.
    pub(super) files: Vec<PathBuf>,
    hasher: DefaultHasher,
}

impl Contents {
    /// Takes in a file's content.
    pub(super) fn add(&mut self, file: Option<PathBuf>, bytes: &[u8]) {
        self.files.extend(file);
        self.hasher.write_usize(bytes.len());
        self.hasher.write(bytes);
    }

    /// The hash over all that was taken in.
    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

/// Reads the files that the paths name; what cannot be read is reported.
pub(super) fn read(paths: &[PathBuf], contents: &mut Contents, report: &mut Report) -> Vec<Source> {
    let mut files: Vec<(PathBuf, PathBuf)> = Vec::new();
    for path in paths {
        for file in expand(path, report) {
            // The real path tells whether a file is reached twice, say by a link; one that has none fails below.
            let real = file.canonicalize().unwrap_or_else(|_| file.clone());
            match files.iter().find(|(_, other)| *other == real) {
                Some((first, _)) => report.add(
                    None,
                    "",
                    format!(
                        "{} is the same file as {}; it was given twice",
                        file.display(),
                        first.display()
                    ),
                ),
                None => files.push((file, real)),
            }
        }
    }
    files
        .into_iter()
        .filter_map(|(file, _)| read_one(file, contents, report))
        .collect()
}

/// The files that a path stands for.
fn expand(path: &Path, report: &mut Report) -> Vec<PathBuf> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return vec![path.to_owned()],
        Err(error) => {
            cannot_read(path, &error, report);
            return Vec::new();
        }
    }
    let entries = fs::read_dir(path).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut files = match entries {
        Ok(entries) => entries,
        Err(error) => {
            cannot_read(path, &error, report);
            return Vec::new();
        }
    };
    files.retain(|file| is_yaml(file) && !file.is_dir());
    files.sort();
    if files.is_empty() {
        report.add(
            None,
            "",
            format!(
                "the folder {} holds no *.yaml or *.yml file",
                path.display()
            ),
        );
    }
    files
}

/// Whether a file in a folder belongs to the configuration.
fn is_yaml(file: &Path) -> bool {
    let hidden = file
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden
        && file
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn read_one(file: PathBuf, contents: &mut Contents, report: &mut Report) -> Option<Source> {
    let bytes = match read_bounded(&file, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => {
            cannot_read(&file, &error, report);
            return None;
        }
    };
    contents.add(Some(file.clone()), &bytes);
    let name: Arc<str> = file.display().to_string().into();
    match decode(bytes) {
        Ok(text) => Some(Source { name, text }),
        Err(message) => {
            report.add(None, "", format!("{name}: {message}"));
            None
        }
    }
}

/// Reads a file of a bounded size.
pub(super) fn read_bounded(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!(
            "it is larger than {}",
            super::units::write_size(limit)
        )));
    }
    Ok(bytes)
}

/// The text of a file's bytes. The error is a sentence.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("this is UTF-16; a configuration is UTF-8".to_owned());
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        format!("this is not UTF-8: line {line} holds other bytes")
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    if let Some(at) = text.find('\0') {
        let line = 1 + text.get(..at).unwrap_or_default().matches('\n').count();
        return Err(format!("this is not text: line {line} holds a zero byte"));
    }
    Ok(text)
}

/// Reports a file that cannot be read, with what it may be called instead.
fn cannot_read(path: &Path, error: &io::Error, report: &mut Report) {
    let broken = path
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_symlink())
        && !path.exists();
    let why = reason(error, broken);
    let message = format!("cannot read {}: {why}", path.display());
    if path == Path::new(DEFAULT_FOLDER) {
        let help = "there is no ./mamparo.yaml either; name a file or a folder";
        return report.add_with_help(None, "", message, help);
    }
    match neighbour(path) {
        Some(neighbour) if error.kind() == io::ErrorKind::NotFound && !broken => {
            report.add_with_help(
                None,
                "",
                message,
                format!("did you mean `{}`?", neighbour.display()),
            );
        }
        _ => report.add(None, "", message),
    }
}

/// Why a file cannot be read, in an operator's words.
pub(super) fn reason(error: &io::Error, broken_link: bool) -> String {
    if broken_link {
        "it is a link to a file that does not exist".to_owned()
    } else if error.kind() == io::ErrorKind::NotFound {
        "it does not exist".to_owned()
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "we may not read it; the permissions of the file and its folders decide".to_owned()
    } else {
        error.to_string()
    }
}

/// The file beside a missing one whose name is nearest.
fn neighbour(path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?.to_str()?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let names: Vec<String> = fs::read_dir(folder)
        .ok()?
        .take(1_000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    suggest::nearest(wanted, names.iter().map(String::as_str)).map(|name| path.with_file_name(name))
}
