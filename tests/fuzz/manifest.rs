//! What somebody may feed to `mamparo inject`: it is changed without a panic and only once, or refused with a
//! place that is in the file.

use mamparo::cli::inject::{Inject, Mode};

use super::chance;
use super::text;

#[rustfmt::skip]
const PIECES: &[&[u8]] = &[
    b"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\nspec:\n  template:\n    metadata:\n      labels: {a: b}\n    spec:\n      containers:\n        - name: a\n          image: b\n",
    b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: b}\n",
    b"{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {template: {spec: {containers: [{name: a}]}}}}\n",
    b"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: a\n  spec:\n    containers:\n    - name: a\n",
    b"      initContainers:\n        - name: i\n", b"      initContainers:\n      - name: i\n", b"      initContainers: []\n",
    b"      initContainers: [{name: i}]\n", b"      volumes:\n        - name: v\n", b"      volumes: []\n", b"      volumes: # c\n", b"      volumes:\n",
    b"      volumes: {}\n", b"      volumes: text\n", b"      volumes: |\n        text\n", b"      # a comment\n", b"      terminationGracePeriodSeconds: 5\n",
    b"      annotations:\n        a: b\n", b"      annotations: {}\n", b"      annotations: {a: b}\n", b"    metadata: {}\n", b"    metadata:\n",
    b"      hostNetwork: true\n", b"      restartPolicy: Never\n", b"        prometheus.io/scrape: \"true\"\n", b"  initContainers:\n  - name: i\n",
    b"  volumes:\n  - name: v\n", b"  # c\n", b"        - name: mamparo\n", b"kind: ", b"spec:\n", b"  spec:\n", b"    spec:\n", b"  template:\n",
    b"      containers:\n", b"        - name: c\n", b"        - &a\n          name: c\n", b"        -\n          name: c\n", b"          args: [\"a\", 'b']\n",
    b"          args:\n            - |\n              one\n\n              # two\n", b"          command: >-\n            a\n            b\n",
    b"---\n", b"...\n", b"%YAML 1.2\n", b"&a ", b"*a", b"<<: *a\n", b"!!map ", b"!x ", b"? ", b"- ", b": ", b", ", b"{", b"}", b"[", b"]",
    b"'", b"\"", b"|\n", b">+\n", b"#", b" # c", b"\n", b"\n\n", b"  ", b"    ", b"\t", b"\r\n", b"\r", b"\0", b"\xc3\xa9", b"\xef\xbb\xbf",
    b"\xe2\x80\xa8", b"null", b"~", b"name: a\n", b"{{ .Values.a }}",
];

/// What an input stands for: one of the whole manifests, in which a line is followed by what chance has made.
/// Only so do many of them make a pod.
fn manifest(input: &[u8]) -> String {
    let [which, line, rest @ ..] = input else {
        return String::new();
    };
    let whole = String::from_utf8_lossy(PIECES[usize::from(*which) % 4]).into_owned();
    let chance = text::spell(rest, PIECES);
    let chance = String::from_utf8_lossy(&chance);
    let ends: Vec<usize> = whole.match_indices('\n').map(|(end, _)| end + 1).collect();
    let (before, after) = whole.split_at(ends[usize::from(*line) % ends.len()]);
    format!("{before}{chance}{after}")
}

#[test]
fn fuzz_manifests() {
    let target = |input: &[u8]| {
        let text = manifest(input);
        for mode in [Mode::Native, Mode::Plain] {
            let inject = Inject {
                filename: Vec::new(),
                image: "mamparo:1".to_owned(),
                config_map: "mamparo".to_owned(),
                mode,
            };
            match inject.put_into("fuzz.yaml", &text) {
                Ok(injected) => {
                    let again = inject.put_into("fuzz.yaml", &injected.text);
                    let again = again.unwrap_or_else(|problem| panic!("{problem}\n{text}"));
                    assert_eq!(again.text, injected.text, "{text}");
                    let grown = injected
                        .notes
                        .iter()
                        .any(|note| note.ends_with(" injected"));
                    assert_eq!(injected.text != text, grown, "{text}: {:?}", injected.notes);
                }
                Err(problem) => {
                    // The last resort, which nothing that is YAML should need.
                    let spoilt = problem.message.contains("cannot be added to safely");
                    assert!(!spoilt, "{text:?}");
                    let place = problem.place.as_ref();
                    let place = place.unwrap_or_else(|| panic!("no place: {problem}"));
                    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
                    assert!((1..=lines).contains(&place.line), "{problem}\n{text:?}");
                }
            }
        }
    };
    chance::fixed(2_000, 8, target);
    bolero::check!()
        .with_iterations(chance::iterations())
        .for_each(target);
}
