//! What `mamparo check` says of configurations that are wrong. Each file of `tests/bad-configs` is one
//! kind of mistake; the snapshots are what an operator reads. To accept a changed wording, run with
//! `INSTA_UPDATE=always` and read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn check(paths: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mamparo"));
    command
        .arg("check")
        .args(paths)
        .env_clear()
        // Where a build that measures its coverage writes what it has measured.
        .envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)))
        .env("HOSTNAME", "host");
    command.output().unwrap()
}

fn told(output: &Output) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn bad_configs() -> Vec<PathBuf> {
    let folder = std::fs::read_dir("tests/bad-configs").unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Rules 2, 48 and 95, faults 66 and 67: each mistake is refused with its place and a way out.
#[test]
fn fault_067_each_mistake_is_told_with_its_place() {
    let files = bad_configs();
    assert!(files.len() >= 45, "{}", files.len());
    for file in files {
        let output = check(&[&file]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{}: {told}", file.display());
        assert!(
            told.ends_with(" problem.\n") || told.ends_with(" problems.\n"),
            "{told}"
        );
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, told);
        });
    }
}

/// A mistake that is made on purpose by a file too large to keep.
fn refused(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("huge.yaml");
    std::fs::write(&file, text).unwrap();
    let output = check(&[&file]);
    let told = told(&output).replace(folder.path().to_str().unwrap(), "");
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.len() < 20_000, "{} bytes", told.len());
    told
}

#[test]
fn fault_066_what_is_huge_is_refused_and_not_dwelt_on() {
    let brackets = refused(&"[".repeat(100_000));
    assert!(
        brackets.contains("more than 32 blocks and lists inside each other"),
        "{brackets}"
    );
    let braces = refused(&"{a: ".repeat(100_000));
    assert!(
        braces.contains("more than 32 blocks and lists inside each other"),
        "{braces}"
    );
    let lines: String = (0..2_000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert!(refused(&lines).contains("more than 32 blocks and lists inside each other"));
    let large = refused(&"# 10 MiB of comment\n".repeat(10 << 20 >> 4));
    assert!(
        large.contains("/huge.yaml: it is larger than 4MiB"),
        "{large}"
    );
    let many = refused(&format!("service: [{}]", "1,".repeat(300_000)));
    assert!(
        many.contains("more than 200000 values in one file"),
        "{many}"
    );
    let unknown: String = (0..5_000)
        .map(|number| format!("key{number}: 1\n"))
        .collect();
    assert!(refused(&unknown).contains("more are not shown; put these right first"));
    let long = refused(&format!(
        "service: {}\nruntime: 5 # {}",
        "a".repeat(1_000_000),
        "b".repeat(1_000_000)
    ));
    assert!(
        long.contains("expected a block of keys, found `5`"),
        "{long}"
    );
}

#[test]
fn fault_066_an_alias_bomb_does_not_go_off() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, inner) in ["b", "c", "d", "e", "f", "g", "h", "i"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        let aliases = vec![format!("*{inner}"); 9].join(", ");
        bomb.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    let told = refused(&bomb);
    assert!(told.contains("aliases make this file too large"), "{told}");
    let wide = format!(
        "a: &a [{}]\nb: [{}]\n",
        "1, ".repeat(1_000),
        "*a, ".repeat(900)
    );
    assert!(refused(&wide).contains("aliases make this file too large"));
    let flat = format!("a: &a 1\nb: [{}]\n", "*a, ".repeat(1_500));
    assert!(refused(&flat).contains("aliases make this file too large"));
}

#[test]
fn fault_066_folders_and_files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::create_dir(at("links")).unwrap();
    std::os::unix::fs::symlink("nowhere.yaml", at("links/broken.yaml")).unwrap();
    std::fs::write(at("mamparo.yaml"), "service: a\n").unwrap();
    let told = |path: PathBuf| {
        let output = check(&[&path]);
        assert_eq!(output.status.code(), Some(2));
        told(&output).replace(folder.path().to_str().unwrap(), "")
    };
    assert_eq!(
        told(at("empty")),
        "the folder /empty holds no *.yaml or *.yml file\n\n1 problem.\n"
    );
    assert_eq!(
        told(at("links")),
        "cannot read /links/broken.yaml: it is a link to a file that does not exist\n\n1 problem.\n"
    );
    assert_eq!(
        told(at("mamparo.yml")),
        "cannot read /mamparo.yml: it does not exist\n   = help: did you mean `/mamparo.yaml`?\n\n1 problem.\n"
    );
}

#[test]
fn the_same_name_in_two_files_shows_both_places() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "a.yaml",
        "service: orders\nruntime: { drain: 5s }\nupstreams:\n  payments: { endpoints: [127.0.0.1:9001] }\n",
    );
    write(
        "b.yml",
        "service: orders\nruntime: { drain: 6s }\nlisteners:\n  outbound: { address: 127.0.0.1:0, upstream: payments }\n",
    );
    write(
        "c.yaml",
        "upstreams:\n  payments: { endpoints: [127.0.0.1:9002] }\n  orders: { endpoints: [127.0.0.1:9003] }\n",
    );
    write(".hidden.yaml", "this is not read");
    write("notes.txt", "nor is this");
    let output = check(&[folder.path()]);
    assert_eq!(output.status.code(), Some(2));
    let told = told(&output).replace(folder.path().to_str().unwrap(), "");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("two-files", told);
    });
}
