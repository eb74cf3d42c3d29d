//! Files and folders.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

const LISTENER: &str = "listeners:\n  in: { address: '127.0.0.1:0', upstream: a }\n";
const UPSTREAM: &str = "upstreams:\n  a: { endpoints: [a:1] }\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    folder
}

fn load_one(path: &Path) -> Result<Loaded, Problems> {
    load(&[path.to_owned()], &none)
}

fn told(path: &Path) -> String {
    load_one(path).unwrap_err().to_string()
}

#[test]
fn the_files_of_a_folder_are_one_configuration() {
    let folder = folder(&[
        ("b.yml", LISTENER),
        ("a.yaml", UPSTREAM),
        (".c.yaml", "x: ["),
        ("d.txt", "x"),
        ("e.yaml/f.yaml", "x"),
    ]);
    let loaded = load_one(folder.path()).unwrap();
    let names: Vec<_> = loaded
        .sources
        .iter()
        .filter_map(|file| file.file_name()?.to_str())
        .collect();
    assert_eq!(names, ["a.yaml", "b.yml"]);
    let place = loaded.effective.place_of("upstreams.a.retry").unwrap();
    assert_eq!(
        (place.file.as_ref(), place.line),
        (folder.path().join("a.yaml").to_str().unwrap(), 2)
    );
}

#[test]
fn several_paths_are_one_configuration() {
    let folder = folder(&[("one/a.yaml", UPSTREAM), ("b", LISTENER)]);
    let paths = [folder.path().join("one"), folder.path().join("b")];
    assert_eq!(load(&paths, &none).unwrap().sources.len(), 2);
    let twice = load(&[paths[1].clone(), paths[1].clone()], &none)
        .unwrap_err()
        .to_string();
    assert!(twice.contains("is the same file as"), "{twice}");
    assert!(load(&[], &none).is_err());
}

#[test]
fn rule_83_a_config_map_is_read_through_its_links() {
    let folder = folder(&[("..2026/a.yaml", UPSTREAM), ("..2026/b.yaml", LISTENER)]);
    symlink("..2026", folder.path().join("..data")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    assert_eq!(load_one(folder.path()).unwrap().sources.len(), 2);
}

#[test]
fn a_body_is_read_beside_the_configuration_and_counts_for_the_hash() {
    let upstream = "upstreams:\n  a: { endpoints: [a:1], fallback: [{ on: [any], respond: { body_file: body.json } }] }\n";
    let folder = folder(&[
        ("a.yaml", upstream),
        ("b.yaml", LISTENER),
        ("body.json", "[]"),
    ]);
    let loaded = load_one(folder.path()).unwrap();
    assert_eq!(
        &*loaded.plan.upstreams[0].policies.fallback[0].respond.body,
        b"[]"
    );
    assert_eq!(&*route(&loaded, 0).policies.fallback[0].respond.body, b"[]");
    assert_eq!(
        loaded.sources.last().unwrap(),
        &folder.path().join("body.json")
    );
    assert_eq!(loaded.sources.len(), 3);
    fs::write(folder.path().join("body.json"), "{}").unwrap();
    assert_ne!(load_one(folder.path()).unwrap().hash, loaded.hash);
    fs::write(folder.path().join("body.json"), "x".repeat((1 << 20) + 1)).unwrap();
    assert!(told(folder.path()).contains("it is larger than 1MiB"));
    fs::remove_file(folder.path().join("body.json")).unwrap();
    assert!(told(folder.path()).contains("body.json: it does not exist"));
}

#[test]
fn fault_066_what_cannot_be_read_is_said() {
    let folder = folder(&[("good.yaml", LISTENER), ("deep/x", "")]);
    assert!(told(&folder.path().join("goood.yaml")).contains("did you mean"));
    assert!(told(&folder.path().join("good.yaml/x")).contains("Not a directory"));
    assert!(told(&folder.path().join("deep")).contains("holds no *.yaml or *.yml file"));
    symlink("nowhere", folder.path().join("broken.yaml")).unwrap();
    assert!(told(folder.path()).contains("a link to a file that does not exist"));
    let denied = source::reason(&std::io::ErrorKind::PermissionDenied.into(), false);
    assert!(denied.contains("we may not read it"));
}

#[test]
fn fault_066_a_byte_order_mark_and_crlf_change_nothing() {
    let folder = folder(&[(
        "a.yaml",
        &format!("\u{feff}{UPSTREAM}{LISTENER}").replace('\n', "\r\n"),
    )]);
    let loaded = load_one(folder.path()).unwrap();
    assert_eq!(
        loaded
            .effective
            .place_of("upstreams.a")
            .map(|place| (place.line, place.column)),
        Some((2, 3))
    );
    let memory = parse("memory", "\u{feff}service: 1\r\n", &none).unwrap_err();
    assert_eq!(memory.0[0].path, "listeners", "{memory}");
}

#[test]
fn files_that_are_as_they_were_are_not_made_into_a_configuration_again() {
    let fallback = "{ endpoints: [a:1], fallback: [{ on: any, respond: { body_file: body } }] }";
    let upstream = format!("upstreams:\n  a: {fallback}\n");
    let folder = folder(&[("a.yaml", LISTENER), ("b.yaml", &upstream), ("body", "one")]);
    let paths = [folder.path().to_owned()];
    let loaded = load(&paths, &none).unwrap();
    let again = || load_after(&loaded, &paths, &none).unwrap();
    let is_the_same =
        |again: &Loaded| Arc::ptr_eq(&again.plan.upstreams[0], &loaded.plan.upstreams[0]);
    assert!(is_the_same(&again()));
    let body = folder.path().join("body");
    for (file, text) in [
        (&body, "two"),
        (&folder.path().join("c.yaml"), "service: x\n"),
    ] {
        fs::write(file, text).unwrap();
        assert!(!is_the_same(&again()), "{}", file.display());
        assert_ne!(again().hash, loaded.hash);
    }
    fs::remove_file(folder.path().join("c.yaml")).unwrap();
    fs::write(&body, "one").unwrap();
    assert!(is_the_same(&again()));
    fs::remove_file(&body).unwrap();
    assert!(load_after(&loaded, &paths, &none).is_err());
}
