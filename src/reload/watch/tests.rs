//! The watch over real folders. Waits are bounds, not measures: a change that is not seen fails after
//! the bound, one that must not be seen is waited for a short while.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const BOUND: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(600);
/// So long that only the watch itself can have seen a change within the bound.
const NEVER: Duration = Duration::from_secs(3600);

fn folder_with(content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mamparo.yaml");
    fs::write(&file, content).unwrap();
    (folder, file)
}

async fn is_seen(watch: &mut Watch) -> bool {
    tokio::time::timeout(BOUND, watch.changed()).await.is_ok()
}

async fn is_quiet(watch: &mut Watch) -> bool {
    tokio::time::timeout(SHORT, watch.changed()).await.is_err()
}

async fn watch(paths: &[&Path], sources: &[&Path]) -> Watch {
    let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
    let sources: Vec<PathBuf> = owned(sources);
    let mut watch = Watch::with_poll(owned(paths), &sources, NEVER);
    assert!(is_seen(&mut watch).await, "the first answer comes at once");
    watch
}

#[tokio::test]
async fn rule_83_an_editors_rename_is_seen_each_time() {
    let (folder, file) = folder_with("a");
    let mut watch = watch(&[&file], &[&file]).await;
    for content in ["b", "c", "d"] {
        let new = folder.path().join(".mamparo.yaml.swp");
        fs::write(&new, content).unwrap();
        fs::rename(&new, &file).unwrap();
        assert!(is_seen(&mut watch).await, "{content}");
    }
}

#[tokio::test]
async fn rule_83_truncating_and_writing_in_place_is_seen() {
    let (_folder, file) = folder_with("a: 1");
    let mut watch = watch(&[&file], &[&file]).await;
    fs::write(&file, "a: 2").unwrap();
    assert!(is_seen(&mut watch).await);
}

#[tokio::test]
async fn rule_83_the_symlink_swap_of_a_config_map_is_seen_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let version = |number: u32| {
        let real = root.join(format!("..2026_{number}"));
        fs::create_dir(&real).unwrap();
        fs::write(real.join("mamparo.yaml"), format!("v: {number}")).unwrap();
        real
    };
    symlink(version(0).file_name().unwrap(), root.join("..data")).unwrap();
    let file = root.join("mamparo.yaml");
    symlink("..data/mamparo.yaml", &file).unwrap();
    for named in [file.as_path(), root] {
        let mut watch = watch(&[named], &[&file]).await;
        let from = if named == root { 10 } else { 1 };
        for number in from..from + 3 {
            let real = version(number);
            symlink(real.file_name().unwrap(), root.join("..data_tmp")).unwrap();
            fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
            assert!(is_seen(&mut watch).await, "{named:?} {number}");
        }
    }
}

#[tokio::test]
async fn fault_068_deletion_and_return_are_seen() {
    let (_folder, file) = folder_with("a");
    let mut watch = watch(&[&file], &[&file]).await;
    fs::remove_file(&file).unwrap();
    assert!(is_seen(&mut watch).await);
    fs::write(&file, "a").unwrap();
    assert!(is_seen(&mut watch).await);
}

#[tokio::test]
async fn a_file_added_to_a_named_folder_is_seen() {
    let (folder, file) = folder_with("a");
    let mut watch = watch(&[folder.path()], &[&file]).await;
    fs::write(folder.path().join("more.yml"), "b").unwrap();
    assert!(is_seen(&mut watch).await);
    fs::write(folder.path().join("notes.txt"), "b").unwrap();
    assert!(is_quiet(&mut watch).await);
}

#[tokio::test]
async fn a_body_file_elsewhere_is_watched_once_it_is_followed() {
    let (_folder, file) = folder_with("a");
    let elsewhere = tempfile::tempdir().unwrap();
    let body = elsewhere.path().join("sorry.json");
    fs::write(&body, "{}").unwrap();
    let mut watch = watch(&[&file], &[&file]).await;
    fs::write(&body, "[]").unwrap();
    assert!(is_quiet(&mut watch).await);
    watch.follow(&[file.clone(), body.clone()]);
    watch.take_for_seen().await;
    fs::write(&body, "[1]").unwrap();
    assert!(is_seen(&mut watch).await);
}

#[tokio::test]
async fn what_leaves_the_content_as_it_was_is_no_change() {
    let (folder, file) = folder_with("a");
    let mut watch = watch(&[&file], &[&file]).await;
    fs::write(&file, "b").unwrap();
    fs::write(&file, "a").unwrap();
    fs::write(folder.path().join("access.log"), "line").unwrap();
    let same = folder.path().join("new");
    fs::write(&same, "a").unwrap();
    fs::rename(&same, &file).unwrap();
    assert!(is_quiet(&mut watch).await);
}

#[tokio::test]
async fn fault_068_a_hundred_changes_at_once_are_few() {
    let (_folder, file) = folder_with("0");
    let mut watch = watch(&[&file], &[&file]).await;
    for number in 1..=100 {
        fs::write(&file, number.to_string()).unwrap();
    }
    assert!(is_seen(&mut watch).await);
    assert!(is_quiet(&mut watch).await, "all were seen as one");
}

#[tokio::test]
async fn a_folder_that_was_replaced_is_watched_again() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("etc");
    let file = folder.join("mamparo.yaml");
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "a").unwrap();
    let mut watch = watch(&[&file], &[&file]).await;
    watch.poll = Duration::from_millis(50);
    fs::rename(&folder, outer.path().join("old")).unwrap();
    assert!(is_seen(&mut watch).await, "gone");
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "b").unwrap();
    assert!(is_seen(&mut watch).await, "back");
    watch.poll = NEVER;
    fs::write(&file, "c").unwrap();
    assert!(is_seen(&mut watch).await, "heard, not polled");
}

#[tokio::test]
async fn without_a_watch_the_poll_finds_the_change() {
    let (_folder, file) = folder_with("a");
    let mut watch = watch(&[&file], &[&file]).await;
    watch.watcher = None;
    watch.poll = Duration::from_millis(20);
    fs::write(&file, "b").unwrap();
    assert!(is_seen(&mut watch).await);
}

#[test]
fn writing_to_other_files_and_reading_ours_wakes_nobody() {
    use notify::event::{DataChange, RenameMode};
    let names = BTreeSet::from([OsString::from("sorry.json")]);
    let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
    let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    for (kind, path, wanted) in [
        (data, "/etc/access.log", false),
        (written, "/etc/access.log", false),
        (opened, "/etc/mamparo.yaml", false),
        (data, "/etc/mamparo.yaml", true),
        (data, "/elsewhere/sorry.json", true),
        (renamed, "/etc/..data", true),
    ] {
        let event = notify::Event::new(kind).add_path(path.into());
        assert_eq!(concerns(&event, &names), wanted, "{kind:?} {path}");
    }
}

#[tokio::test]
async fn a_pipe_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.yaml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    assert!(content(&pipe).is_err());
}
