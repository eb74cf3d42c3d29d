//! `mamparo inject`: puts the sidecar into the manifests of workloads, for clusters that do not inject it
//! themselves. Only lines are added: comments, order and style of what was written stay.

mod document;
mod edit;
mod sidecar;
#[cfg(test)]
mod tests;
mod workload;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{BAD_CONFIG, print};
use crate::config::Problem;
use document::{Content, Node};
use edit::{Edits, Fragment, NoPlace};
use workload::{Pod, Refused};

/// The largest manifest that is read.
const MAX_BYTES: u64 = 64 << 20;

/// What `mamparo inject` takes.
#[derive(Debug, Clone, Args)]
pub struct Inject {
    /// A manifest, or - for the standard input; may be given again
    #[arg(short, long, value_name = "FILE", required = true)]
    pub filename: Vec<PathBuf>,
    /// The sidecar's image
    #[arg(long, value_name = "IMAGE", default_value = concat!("mamparo:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// The ConfigMap with its configuration, in the namespace of the workload
    #[arg(long, value_name = "NAME", default_value = "mamparo")]
    pub config_map: String,
    /// How it runs in the pod
    #[arg(long, value_enum, default_value_t = Mode::Native)]
    pub mode: Mode,
}

/// How a sidecar runs in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// From Kubernetes 1.29 on: it starts before the application and ends after it, and Jobs end.
    Native,
    /// A container beside the application, started before it and ended some time after it. Needs 1.30 for
    /// its `preStop: sleep`.
    Plain,
}

/// A manifest with the sidecar in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Injected {
    /// The manifest.
    pub text: String,
    /// What was done with each object, and what an operator should know; a line each.
    pub notes: Vec<String>,
}

/// Prints the manifests. 0, or 2 where one of them cannot be read or changed; then nothing is printed.
pub fn run(inject: &Inject) -> ExitCode {
    let mut whole = String::new();
    let mut notes = Vec::new();
    for path in &inject.filename {
        let done = read(path).and_then(|(file, text)| {
            let done = inject.put_into(&file, &text);
            done.map_err(|problem| problem.to_string())
        });
        match done {
            Ok(injected) => {
                separate(&mut whole, &injected.text);
                whole.push_str(&injected.text);
                notes.extend(injected.notes);
            }
            Err(problem) => {
                eprintln!("{problem}");
                return ExitCode::from(BAD_CONFIG);
            }
        }
    }
    for note in notes {
        eprintln!("{note}");
    }
    print(&whole)
}

/// A manifest's name and text.
fn read(path: &Path) -> Result<(String, String), String> {
    let mut bytes = Vec::new();
    let (name, done) = if path == Path::new("-") {
        let done = std::io::stdin()
            .lock()
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes);
        ("standard input".to_owned(), done)
    } else {
        let file = std::fs::File::open(path);
        let done = file.and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        (path.display().to_string(), done)
    };
    done.map_err(|error| format!("cannot read {name}: {error}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("cannot read {name}: it is larger than 64 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{name}: this is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
    Ok((name, text))
}

/// Ends a manifest so that the next one can follow.
fn separate(whole: &mut String, next: &str) {
    if whole.is_empty() {
        return;
    }
    if !whole.ends_with('\n') {
        whole.push('\n');
    }
    if !next.starts_with("---") {
        whole.push_str("---\n");
    }
}

impl Inject {
    /// Puts the sidecar into every workload of a manifest that has none.
    ///
    /// # Errors
    /// What cannot be read or changed, with its place.
    pub fn put_into(&self, file: &str, text: &str) -> Result<Injected, Box<Problem>> {
        let documents = document::read(file, text)?;
        let problem = |refused: Refused| {
            document::problem(file, text, refused.at, refused.message, refused.help)
        };
        let mut edits = Edits::of(text);
        let mut notes = Vec::new();
        for document in &documents {
            for object in workload::objects(document).map_err(problem)? {
                let told = object.told();
                let Some(pod) = &object.pod else {
                    notes.push(format!("{told} left as it is"));
                    continue;
                };
                if let Some(why) = why_not(pod) {
                    notes.push(format!("{told} left as it is: {why}"));
                    continue;
                }
                self.refuse_ends(object.kind, pod).map_err(problem)?;
                let no_place = |no_place: NoPlace| problem(Refused::from(no_place));
                self.change(pod, &mut edits).map_err(no_place)?;
                notes.push(format!("{told} injected"));
                let warnings = self.warnings(pod).into_iter();
                notes.extend(warnings.map(|warning| format!("{told}: {warning}")));
            }
        }
        let changed = edits.finish();
        check(file, text, &documents, &changed)?;
        Ok(Injected {
            text: changed,
            notes,
        })
    }

    /// Makes the changes for one pod.
    fn change(&self, pod: &Pod<'_>, edits: &mut Edits<'_>) -> Result<(), NoPlace> {
        let (spec, containers) = (&pod.spec.value, pod.containers);
        // A new list is written as that of the containers is.
        let dash = match &containers.value.content {
            Content::List { flow: false, .. } => containers
                .value
                .column
                .saturating_sub(containers.key.column),
            Content::List { .. }
            | Content::Map { .. }
            | Content::Scalar { .. }
            | Content::Alias => 2,
        };
        if let Some(annotations) = self.annotations(pod) {
            match pod.holder.entry("metadata") {
                Some(metadata) if !metadata.value.entries().is_empty() => {
                    let map = &metadata.value;
                    if let Some(before) = map.entries().first() {
                        edits.add_entries(map, "annotations", before, &annotations)?;
                    }
                }
                Some(_) | None => {
                    let nested = annotations.below("annotations");
                    edits.add_entries(pod.holder, "metadata", pod.spec, &nested)?;
                }
            }
        }
        if self.mode == Mode::Plain && spec.get(GRACE).is_none() {
            let seconds = sidecar::PLAIN_GRACE;
            let (lines, json) = (
                format!("{GRACE}: {seconds}"),
                format!("\"{GRACE}\": {seconds}"),
            );
            edits.add_before(spec, containers, &lines, &json)?;
        }
        if !has_ours(spec, "volumes") {
            edits.add_first(spec, "volumes", containers, dash, &sidecar::volume(self))?;
        }
        let list = match self.mode {
            Mode::Native => "initContainers",
            // The first one: containers are started one after another.
            Mode::Plain => "containers",
        };
        edits.add_first(spec, list, containers, dash, &sidecar::container(self))
    }

    /// The annotations that the pod needs and does not have.
    fn annotations(&self, pod: &Pod<'_>) -> Option<Fragment> {
        let mut lines = String::new();
        if annotation(pod, sidecar::SCRAPE).is_none() {
            lines.push_str(&sidecar::scraped());
        }
        let application = pod.containers.value.items().first();
        if self.mode == Mode::Plain
            && annotation(pod, sidecar::DEFAULT_CONTAINER).is_none()
            && let Some(name) = application.and_then(|first| first.get("name")?.text())
        {
            lines.push_str(&sidecar::default_container(name));
        }
        (!lines.is_empty()).then_some(Fragment(lines))
    }

    /// A pod that is to end never would, with a plain container beside its work.
    fn refuse_ends(&self, kind: &str, pod: &Pod<'_>) -> Result<(), Refused> {
        let policy = pod.spec.value.get("restartPolicy").and_then(Node::text);
        if self.mode == Mode::Native || matches!(policy, None | Some("Always")) {
            return Ok(());
        }
        Err(Refused::at(
            &pod.spec.key,
            format!("this {kind} would never end: a plain container goes on when the work is done"),
            "use `--mode native`, which ends with the work (Kubernetes 1.29)",
        ))
    }

    /// What stands in the way of what the sidecar is for.
    fn warnings(&self, pod: &Pod<'_>) -> Vec<String> {
        let spec = &pod.spec.value;
        let mut warnings = Vec::new();
        let grace = spec.get(GRACE).and_then(Node::text);
        let grace = grace.and_then(|seconds| seconds.parse::<u32>().ok());
        if let Some(seconds) = grace.filter(|seconds| *seconds < sidecar::PLAIN_GRACE)
            && self.mode == Mode::Plain
        {
            warnings.push(format!(
                "{GRACE} is {seconds}; {} leaves time for the sidecar's preStop and drain",
                sidecar::PLAIN_GRACE
            ));
        }
        if let Some(own) = annotation(pod, sidecar::SCRAPE) {
            warnings.push(format!(
                "its own {} '{own}' stays; the sidecar's metrics are at port 9902, /metrics",
                sidecar::SCRAPE
            ));
        }
        if spec.get("hostNetwork").and_then(Node::text) == Some("true") {
            warnings.push(
                "it shares the network of its node: only one pod of a node can have the sidecar's ports"
                    .to_owned(),
            );
        }
        warnings
    }
}

const GRACE: &str = "terminationGracePeriodSeconds";

/// Every key that may be added to a map.
const ADDED: [&str; 9] = [
    "metadata",
    "annotations",
    sidecar::SCRAPE,
    sidecar::DEFAULT_CONTAINER,
    "prometheus.io/port",
    "prometheus.io/path",
    GRACE,
    "volumes",
    "initContainers",
];

impl From<NoPlace> for Refused {
    fn from(no_place: NoPlace) -> Self {
        Self {
            at: no_place.at,
            message: "nothing can be added here without writing this anew".to_owned(),
            help: Some("write it as a block, one key on each line"),
        }
    }
}

/// Why a pod is not changed.
fn why_not(pod: &Pod<'_>) -> Option<&'static str> {
    let spec = &pod.spec.value;
    if has_ours(spec, "containers") || has_ours(spec, "initContainers") {
        return Some("it has the sidecar");
    }
    let metadata = pod.holder.get("metadata");
    let says_no = |kind| {
        let value = metadata.and_then(|metadata| metadata.get(kind)?.get("mamparo.io/inject"));
        value.and_then(Node::text) == Some("false")
    };
    (says_no("labels") || says_no("annotations")).then_some("mamparo.io/inject is \"false\"")
}

/// Whether a list of the pod has an item of our name.
fn has_ours(spec: &Node, key: &str) -> bool {
    let items = spec.get(key).map(Node::items).unwrap_or_default();
    items.iter().any(is_ours)
}

fn is_ours(item: &Node) -> bool {
    item.get("name").and_then(Node::text) == Some(sidecar::NAME)
}

/// An annotation of the pod.
fn annotation<'d>(pod: &Pod<'d>, key: &str) -> Option<&'d str> {
    let annotations = pod.holder.get("metadata")?.get("annotations")?;
    annotations.get(key)?.text()
}

/// Reads the result: whatever was there must be there still, and nothing new but what is ours. A way to
/// write YAML that this program does not know is told, and never spoils a manifest.
fn check(file: &str, text: &str, before: &[Node], changed: &str) -> Result<(), Box<Problem>> {
    let after = document::read(file, changed);
    let same = after.is_ok_and(|after| {
        let mut pairs = before.iter().zip(&after);
        before.len() == after.len()
            && pairs.all(|(before, after)| is_kept(before, after))
            && after.iter().all(is_done)
    });
    if same {
        return Ok(());
    }
    Err(document::problem(
        file,
        text,
        (1, 0),
        "this manifest is written in a way that lines cannot be added to safely; nothing was changed",
        Some("`kubectl apply --dry-run=client -o yaml -f FILE` writes it in the usual way"),
    ))
}

/// Whether nothing is left to do in a document.
fn is_done(document: &Node) -> bool {
    workload::objects(document).is_ok_and(|objects| {
        let mut pods = objects.iter().filter_map(|object| object.pod.as_ref());
        pods.all(|pod| why_not(pod).is_some())
    })
}

/// Whether everything of one value is in the other one, too, and what is added is ours.
fn is_kept(before: &Node, after: &Node) -> bool {
    if before.is_empty() {
        return true;
    }
    match (&before.content, &after.content) {
        (
            Content::Scalar { text, plain },
            Content::Scalar {
                text: now,
                plain: so,
            },
        ) => text == now && plain == so,
        (Content::Alias, Content::Alias) => true,
        (Content::Map { entries, .. }, Content::Map { entries: now, .. }) => {
            let mut left = entries.iter().peekable();
            let known = now.iter().all(|entry| {
                let kept = left.next_if(|had| {
                    is_kept(&had.key, &entry.key) && is_kept(&had.value, &entry.value)
                });
                kept.is_some() || entry.key.text().is_some_and(|key| ADDED.contains(&key))
            });
            known && left.peek().is_none()
        }
        (Content::List { items, .. }, Content::List { items: now, .. }) => {
            let theirs = now.iter().filter(|item| !is_ours(item)).collect::<Vec<_>>();
            let had = items
                .iter()
                .filter(|item| !is_ours(item))
                .collect::<Vec<_>>();
            had.len() == theirs.len()
                && had
                    .iter()
                    .zip(theirs)
                    .all(|(before, after)| is_kept(before, after))
        }
        (
            Content::Scalar { .. } | Content::Alias | Content::Map { .. } | Content::List { .. },
            _,
        ) => false,
    }
}
