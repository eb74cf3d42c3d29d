//! Manifests of tests/inject, and what comes of them. To accept a changed result, run with
//! `INSTA_UPDATE=always` and read the difference.

use std::path::PathBuf;

use clap::Parser;

use super::*;
use crate::cli::{Arguments, Command};

fn inject(mode: Mode) -> Inject {
    Inject {
        filename: Vec::new(),
        image: "registry.example.com/mamparo:1.2".to_owned(),
        config_map: "orders-mamparo".to_owned(),
        mode,
    }
}

fn manifests() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/inject");
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    files.sort();
    assert!(files.len() >= 3);
    files
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn told(mode: Mode, text: &str) -> String {
    match inject(mode).put_into("a.yaml", text) {
        Ok(injected) => injected.text,
        Err(problem) => panic!("{problem}"),
    }
}

fn refused(mode: Mode, text: &str) -> String {
    let refused = inject(mode).put_into("a.yaml", text).unwrap_err();
    refused.to_string()
}

/// A Deployment with a pod that is written like this, in YAML's braces.
fn flow(pod: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: a}}, spec: {{template: {pod}}}}}\n"
    )
}

#[test]
fn manifests_get_the_sidecar_and_keep_the_rest() {
    for (name, text) in manifests() {
        let injected = inject(Mode::Native).put_into(&name, &text);
        let Injected { text, notes } = injected.unwrap_or_else(|problem| panic!("{problem}"));
        let all = format!("{}\n---\n{text}", notes.join("\n"));
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            snapshot_path => "../../../tests/inject/snapshots",
        }, {
            insta::assert_snapshot!(name, all);
        });
        // Once more changes nothing.
        let again = inject(Mode::Native).put_into("again", &text).unwrap();
        assert_eq!(again.text, text);
    }
}

#[test]
fn a_plain_container_comes_first_and_outlives_the_application() {
    let (_, text) = manifests().remove(0);
    let injected = inject(Mode::Plain).put_into("deployment.yaml", &text);
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
        snapshot_path => "../../../tests/inject/snapshots",
    }, {
        insta::assert_snapshot!("plain", injected.unwrap().text);
    });
}

#[test]
fn only_lines_are_added() {
    for (name, text) in manifests()
        .into_iter()
        .filter(|(name, _)| name == "deployment.yaml")
    {
        for mode in [Mode::Native, Mode::Plain] {
            let changed = told(mode, &text);
            let mut lines = changed.lines();
            let kept = text.lines().all(|line| lines.any(|other| other == line));
            assert!(kept, "{name}: {changed}");
        }
    }
}

#[test]
fn windows_lines_stay_so_and_a_missing_last_one_is_ended() {
    let (_, text) = manifests().remove(0);
    let windows = text.replace('\n', "\r\n");
    let changed = told(Mode::Native, &windows);
    assert_eq!(changed, told(Mode::Native, &text).replace('\n', "\r\n"));
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec:\n  containers: [{name: b, image: b}]\n  volumes:";
    let changed = told(Mode::Plain, text);
    let last = "  volumes:\n    - name: mamparo\n      configMap:\n        name: orders-mamparo\n";
    assert!(changed.ends_with(last), "{changed}");
}

#[test]
fn a_key_with_nothing_but_a_comment_gets_its_list() {
    let pod = |volumes: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  volumes:{volumes}\n  containers:\n  - name: a\n"
        )
    };
    let list = "\n  - name: mamparo\n    configMap:\n      name: orders-mamparo\n";
    for (volumes, wanted) in [
        ("", format!("volumes:{list}")),
        (" # none", format!("volumes: # none{list}")),
        (" []", format!("volumes:{list}")),
        (
            " null  # none",
            format!("volumes:{}  # none\n", list.trim_end()),
        ),
    ] {
        for mode in [Mode::Native, Mode::Plain] {
            let changed = told(mode, &pod(volumes));
            assert!(changed.contains(&wanted), "{volumes}: {changed}");
        }
    }
}

#[test]
fn a_pod_in_braces_stays_in_braces() {
    for pod in [
        "{spec: {containers: [{name: a, image: b}]}}",
        "{metadata: {}, spec: {containers: [{name: a, image: b},], volumes: []}}",
        "{metadata: {annotations: {a: b}}, spec: {initContainers: [{name: i, image: b}], containers: [{name: a, image: b}]}}",
        "{metadata: {annotations: null}, spec: {containers: [{name: a, image: b}], initContainers: [], volumes: ~}}",
    ] {
        for mode in [Mode::Native, Mode::Plain] {
            let changed = told(mode, &flow(pod));
            assert_eq!(changed.lines().count(), 1, "{changed}");
            for part in [
                "\"prometheus.io/port\":\"9902\"",
                "\"configMap\":",
                "\"runAsUser\":65532",
            ] {
                assert!(changed.contains(part), "{pod}: {changed}");
            }
        }
    }
}

#[test]
fn the_two_modes_differ_in_their_life_alone() {
    let container = |mode| sidecar::container(&inject(mode)).0;
    let (native, plain) = (container(Mode::Native), container(Mode::Plain));
    let native: Vec<&str> = native
        .lines()
        .filter(|line| *line != "restartPolicy: Always")
        .collect();
    let (plain, lifecycle) = plain.split_once("lifecycle:\n").unwrap();
    assert_eq!(native, plain.lines().collect::<Vec<_>>());
    assert!(lifecycle.starts_with("  postStart:\n    exec:\n      command:\n        - mamparo\n        - probe\n        - --admin\n        - 127.0.0.1:9902\n        - --wait\n        - 60s\n"), "{lifecycle}");
    assert!(
        lifecycle.ends_with("  preStop:\n    sleep:\n      seconds: 20\n"),
        "{lifecycle}"
    );
    assert!(
        native.contains(&"image: registry.example.com/mamparo:1.2"),
        "{native:?}"
    );
}

#[test]
fn what_would_end_does_not_get_a_container_that_does_not() {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec:\n  template:\n    spec:\n      restartPolicy: Never\n      containers: [{name: a, image: b}]\n";
    let told = refused(Mode::Plain, job);
    assert!(
        told.starts_with("a.yaml:6:5: this Job would never end"),
        "{told}"
    );
    assert!(told.contains("--mode native"), "{told}");
}

#[test]
fn what_cannot_be_changed_is_told_with_its_place() {
    let deployment = |rest: &str| {
        format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n{rest}")
    };
    for (text, place) in [
        (
            deployment("  replicas: 2\n"),
            "a.yaml:5:3: this Deployment makes no pod",
        ),
        (
            deployment("  template:\n    spec:\n      containers: []\n"),
            "a.yaml:7:19: this Deployment makes no pod",
        ),
        (
            deployment(
                "  template: &t\n    spec: {containers: [{name: a}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: *t\n",
            ),
            "a.yaml:",
        ),
        (
            deployment(
                "  x: &x {volumes: []}\n  template:\n    spec:\n      <<: *x\n      containers: [{name: a}]\n",
            ),
            "a.yaml:8:7: a merge key",
        ),
        (
            deployment("  x: &x {containers: [{name: a}]}\n  template:\n    spec: *x\n"),
            "a.yaml:7:11: the `spec` of this Deployment is an alias",
        ),
        (
            deployment("  template:\n    spec:\n      containers:\n      -  - name: a\n"),
            "a.yaml:8:10: this is no container",
        ),
        ("a: [\n".to_owned(), "a.yaml:"),
        ("a: {{ .Values.a }}\nb: [\n".to_owned(), "a.yaml:"),
    ] {
        let told = refused(Mode::Native, &text);
        assert!(told.starts_with(place), "{text}\n{told}");
    }
    assert!(refused(Mode::Native, "a: {{ .Values.a }}\nb: [\n").contains("helm template"));
}

#[test]
fn a_change_that_would_spoil_something_is_found() {
    let read = |text: &str| document::read("a", text).unwrap().remove(0);
    let before = read("a: 1\nspec: {containers: [{name: a}]}\n");
    for (after, kept) in [
        ("a: 1\nspec: {containers: [{name: a}]}\n", true),
        (
            "a: 1\nspec: {volumes: [], containers: [{name: a}, {name: mamparo}]}\n",
            true,
        ),
        ("a: '1'\nspec: {containers: [{name: a}]}\n", false),
        ("a: 1\nspec: {containers: [{name: b}]}\n", false),
        ("a: 1\nspec: {containers: [{name: a}, {name: b}]}\n", false),
        ("a: 1\nspec: {containers: [{name: mamparo}]}\n", false),
        ("a: 1\nb: 2\nspec: {containers: [{name: a}]}\n", false),
        ("spec: {containers: [{name: a}]}\n", false),
    ] {
        assert_eq!(is_kept(&before, &read(after)), kept, "{after}");
    }
}

#[test]
fn notes_say_what_was_done() {
    let text = flow(
        "{metadata: {annotations: {prometheus.io/scrape: \"true\"}}, spec: {hostNetwork: true, terminationGracePeriodSeconds: 30, containers: [{name: a, image: b}]}}",
    );
    let notes = inject(Mode::Plain).put_into("a.yaml", &text).unwrap().notes;
    assert_eq!(notes[0], "deployment/a injected");
    assert!(
        notes[1].contains("terminationGracePeriodSeconds is 30; 60 leaves time"),
        "{notes:?}"
    );
    assert!(
        notes[2].contains("prometheus.io/scrape 'true' stays"),
        "{notes:?}"
    );
    assert!(notes[3].contains("network of its node"), "{notes:?}");
    let service = "{apiVersion: v1, kind: Service, metadata: {name: a}}";
    let injected = inject(Mode::Native).put_into("a.yaml", service).unwrap();
    assert_eq!(
        (injected.text.as_str(), injected.notes),
        (service, vec!["service/a left as it is".to_owned()])
    );
}

#[test]
fn several_files_become_one_of_several_documents() {
    let mut whole = String::new();
    for text in ["a: 1", "b: 1\n", "---\nc: 1\n"] {
        separate(&mut whole, text);
        whole.push_str(text);
    }
    assert_eq!(whole, "a: 1\n---\nb: 1\n---\nc: 1\n");
}

#[test]
fn the_command_line_is_kubectls() {
    let arguments = [
        "mamparo", "inject", "-f", "a.yaml", "-f", "-", "--mode", "plain",
    ];
    let Command::Inject(inject) = Arguments::parse_from(arguments).command else {
        panic!("another command");
    };
    assert_eq!(
        inject.filename,
        [PathBuf::from("a.yaml"), PathBuf::from("-")]
    );
    assert_eq!(
        (inject.mode, inject.config_map.as_str()),
        (Mode::Plain, "mamparo")
    );
    assert!(Arguments::try_parse_from(["mamparo", "inject"]).is_err());
}
