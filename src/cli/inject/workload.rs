//! Which documents make pods, and where in them the pod is.

use super::document::{Content, Entry, Node};

/// Lists of objects inside each other; `kubectl get -o yaml` makes one.
const MAX_LISTS: usize = 4;

/// An object of a manifest.
#[derive(Debug)]
pub(super) struct Object<'d> {
    /// Such as `Deployment`.
    pub(super) kind: &'d str,
    /// Such as `orders`; empty where it has none.
    pub(super) name: &'d str,
    /// The pod that it makes.
    pub(super) pod: Option<Pod<'d>>,
}

impl Object<'_> {
    /// As kubectl says it: `deployment/orders`.
    pub(super) fn told(&self) -> String {
        format!("{}/{}", self.kind.to_ascii_lowercase(), self.name)
    }
}

/// A pod or a template of one.
#[derive(Debug)]
pub(super) struct Pod<'d> {
    /// What holds its `metadata` and `spec`.
    pub(super) holder: &'d Node,
    pub(super) spec: &'d Entry,
    pub(super) containers: &'d Entry,
}

/// Why an object cannot be taken.
#[derive(Debug)]
pub(super) struct Refused {
    /// The line, from 1, and the column, from 0.
    pub(super) at: (usize, usize),
    pub(super) message: String,
    pub(super) help: Option<&'static str>,
}

impl Refused {
    pub(super) fn at(node: &Node, message: impl Into<String>, help: &'static str) -> Self {
        Self {
            at: (node.line, node.column),
            message: message.into(),
            help: Some(help),
        }
    }
}

/// The keys that lead to what holds the pod's `metadata` and `spec`; `None`: it makes none that we know.
fn path(api_version: &str, kind: &str) -> Option<&'static [&'static str]> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("", "Pod") => Some(&[]),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", "Job") => {
            Some(&["spec", "template"])
        }
        ("batch", "CronJob") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// Every object of a document.
pub(super) fn objects(document: &Node) -> Result<Vec<Object<'_>>, Refused> {
    let mut objects = Vec::new();
    collect(document, MAX_LISTS, &mut objects)?;
    Ok(objects)
}

fn collect<'d>(node: &'d Node, lists: usize, objects: &mut Vec<Object<'d>>) -> Result<(), Refused> {
    let word = |key| node.get(key).and_then(Node::text).unwrap_or_default();
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    if kind.ends_with("List")
        && lists > 0
        && let Some(items) = node.get("items")
    {
        let mut items = items.items().iter();
        return items.try_for_each(|item| collect(item, lists - 1, objects));
    }
    if kind.is_empty() {
        return Ok(());
    }
    let name = node
        .get("metadata")
        .and_then(|metadata| metadata.get("name"));
    let name = name.and_then(Node::text).unwrap_or_default();
    let pod = match path(api_version, kind) {
        Some(path) => Some(pod(node, path, kind)?),
        None => None,
    };
    objects.push(Object { kind, name, pod });
    Ok(())
}

fn pod<'d>(object: &'d Node, path: &[&str], kind: &str) -> Result<Pod<'d>, Refused> {
    let mut holder = object;
    for key in path {
        holder = &step(holder, key, kind)?.value;
    }
    let spec = step(holder, "spec", kind)?;
    let containers = step(&spec.value, "containers", kind)?;
    if containers.value.items().is_empty() {
        return Err(missing(&containers.value, "containers", kind));
    }
    let is_container = |item: &&Node| matches!(item.content, Content::Map { .. } | Content::Alias);
    if let Some(other) = containers
        .value
        .items()
        .iter()
        .find(|item| !is_container(item))
    {
        return Err(Refused::at(
            other,
            format!("this is no container of a {kind}: it has no keys"),
            "each item is `- name: …`, with its other keys below",
        ));
    }
    for map in [holder, &spec.value] {
        refuse_merging(map)?;
    }
    Ok(Pod {
        holder,
        spec,
        containers,
    })
}

fn step<'d>(map: &'d Node, key: &str, kind: &str) -> Result<&'d Entry, Refused> {
    let Some(entry) = map.entry(key) else {
        return Err(missing(map, key, kind));
    };
    if matches!(entry.value.content, Content::Alias) {
        return Err(Refused::at(
            &entry.value,
            format!(
                "the `{key}` of this {kind} is an alias: what is added here would be added elsewhere"
            ),
            "write it out",
        ));
    }
    Ok(entry)
}

fn missing(at: &Node, key: &str, kind: &str) -> Refused {
    Refused::at(
        at,
        format!("this {kind} makes no pod: there is nothing in `{key}` here"),
        "a manifest for `kubectl apply` is needed, not a patch or a part of one",
    )
}

/// A list that is added would take the place of one that is merged in.
fn refuse_merging(map: &Node) -> Result<(), Refused> {
    match map.entry("<<") {
        Some(entry) => Err(Refused::at(
            &entry.key,
            "a merge key hides what is in the pod already",
            "write it out",
        )),
        None => Ok(()),
    }
}
