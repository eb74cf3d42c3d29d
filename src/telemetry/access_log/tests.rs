//! The log against real files and pipes: what is kept, rotated, lost and counted.

use std::fs;
use std::io::{Read, pipe};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::*;
use crate::plan::{Keep, LogDestination};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report::{Outcome, samples};

fn report(outcome: Outcome, status: u16) -> Report {
    let listener = Metrics::default().listener(&samples::name("in"));
    samples::report(listener, None, outcome, status)
}

fn log(path: &Path, keep: Keep) -> (AccessLog, Arc<Counter>) {
    let dropped = Arc::new(Counter::default());
    let destination = Some(LogDestination::File(path.to_owned()));
    let settings = plan::AccessLog { destination, keep };
    let log = AccessLog::start(&settings, dropped.clone())
        .unwrap()
        .unwrap();
    (log, dropped)
}

fn write(log: &AccessLog, count: usize) {
    let report = report(Outcome::Upstream, 200);
    (0..count).for_each(|_| log.write(&report, report.started));
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits for what the writer's thread does; fails after ten seconds.
fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not happen");
}

#[test]
fn every_line_of_every_thread_is_written_by_the_time_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, dropped) = log(&path, Keep::All);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| write(&log, 100));
        }
    });
    log.close();
    assert_eq!(lines(&path).len(), 2000);
    assert_eq!(dropped.get(), 0);
    write(&log, 3);
    assert_eq!(dropped.get(), 3, "what comes too late is counted");
}

#[test]
fn a_line_is_written_without_another_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, _) = log(&path, Keep::All);
    for count in 1..4 {
        write(&log, 1);
        eventually("the line", || lines(&path).len() == count);
        thread::sleep(2 * GATHER);
    }
}

#[test]
fn only_failures_are_kept_where_only_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, _) = log(&path, Keep::Failures);
    let mut retried = report(Outcome::Upstream, 200);
    let answered = crate::policy::outcome::Ending::Answered(200);
    let attempt = samples::attempt(Duration::ZERO, answered);
    retried.tries.extend([attempt.clone(), attempt]);
    let mut broken = report(Outcome::Upstream, 200);
    broken.broken = true;
    let kept = [
        report(Outcome::Fallback, 200),
        report(Outcome::Refused, 404),
        report(Outcome::Failed, 502),
        report(Outcome::ClientGone, 499),
        report(Outcome::Upstream, 500),
        retried,
        broken,
    ];
    let passed = [
        report(Outcome::Upstream, 200),
        report(Outcome::Upstream, 404),
    ];
    for report in kept.iter().chain(&passed) {
        log.write(report, report.started);
    }
    log.close();
    let statuses: Vec<_> = lines(&path)
        .into_iter()
        .map(|line| line["status"].clone())
        .collect();
    assert_eq!(statuses, [200, 404, 502, 499, 500, 200, 200]);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let moved = folder.path().join("access.log.1");
    let (log, dropped) = log(&path, Keep::All);
    write(&log, 2);
    eventually("the first lines", || lines(&path).len() == 2);
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    write(&log, 3);
    log.close();
    assert_eq!(lines(&moved).len(), 2);
    assert_eq!(lines(&path).len(), 3);
    assert_eq!(dropped.get(), 0);
}

#[test]
fn a_file_that_was_moved_away_is_found_out_without_being_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut destination = Destination::open(&LogDestination::File(path.clone())).unwrap();
    let start = clock::now();
    destination.write(b"1\n", start).unwrap();
    fs::rename(&path, folder.path().join("moved")).unwrap();
    destination
        .write(b"2\n", start + Duration::from_millis(10))
        .unwrap();
    assert!(!path.exists(), "it does not look at every line");
    fs::write(&path, "").unwrap();
    destination
        .write(b"3\n", start + Duration::from_secs(1))
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
}

#[test]
fn fault_071_a_full_disk_drops_lines_and_counts_them() {
    let (log, dropped) = log(Path::new("/dev/full"), Keep::All);
    write(&log, 50);
    log.close();
    assert_eq!(dropped.get(), 50);
}

#[test]
fn fault_071_a_closed_pipe_drops_lines_and_counts_them() {
    let (reader, writer) = pipe().unwrap();
    let dropped = Arc::new(Counter::default());
    let destination = Destination::stream(&writer).unwrap();
    let log = AccessLog::spawn(Keep::All, destination, dropped.clone()).unwrap();
    drop((reader, writer));
    write(&log, 50);
    log.close();
    assert_eq!(dropped.get(), 50);
}

#[test]
fn fault_071_a_reader_that_does_not_read_stops_nobody() {
    let (mut reader, writer) = pipe().unwrap();
    let dropped = Arc::new(Counter::default());
    let destination = Destination::stream(&writer).unwrap();
    drop(writer);
    let log = AccessLog::spawn(Keep::All, destination, dropped.clone()).unwrap();
    // More than the pipe and this thread's two buffers can hold.
    let count = 4 * BUFFER_SIZE / 200;
    write(&log, count);
    assert!(dropped.get() > 0);
    log.stop();
    let mut text = String::new();
    reader.read_to_string(&mut text).ok();
    drop(log);
    eventually("the rest", || {
        text.lines().count() as u64 + dropped.get() == count as u64
    });
}

#[test]
fn fault_071_a_destination_that_takes_nothing_does_not_hold_up_the_end() {
    let (reader, writer) = pipe().unwrap();
    let dropped = Arc::new(Counter::default());
    let destination = Destination::stream(&writer).unwrap();
    let log = AccessLog::spawn(Keep::All, destination, dropped).unwrap();
    write(&log, BUFFER_SIZE / 400);
    let start = clock::now();
    log.close();
    let took = start.elapsed();
    assert!(took >= LAST_WRITE, "it waits for a slow one: {took:?}");
    // The writer's thread ends as soon as nobody can read any more.
    drop(reader);
    eventually("the end", || *log.shared.closed.lock());
}

#[test]
fn a_stream_that_its_others_made_non_blocking_loses_nothing() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let mut destination = Destination::stream(&writer).unwrap();
    drop(writer);
    // More than the socket takes at once.
    let lines = "0123456789abcde\n".repeat(200_000);
    let read = thread::spawn(move || {
        // The writer finds the socket full before anything is read.
        thread::sleep(Duration::from_millis(100));
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    destination.write(lines.as_bytes(), clock::now()).unwrap();
    drop(destination);
    assert!(read.join().unwrap().unwrap() == lines);
}

#[test]
fn fault_071_a_stream_that_stays_full_is_given_up() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let mut destination = Destination::stream(&writer).unwrap();
    drop(writer);
    let lines = "0123456789abcde\n".repeat(200_000);
    let broken = destination.write(lines.as_bytes(), clock::now());
    let broken = broken.unwrap_err();
    assert_eq!(broken.error.kind(), io::ErrorKind::WouldBlock);
    drop(destination);
    let mut written = String::new();
    reader.read_to_string(&mut written).unwrap();
    let whole = written.matches('\n').count() as u64;
    assert_eq!(whole + broken.lost, 200_000, "each is written or counted");
}

#[test]
fn fault_071_after_an_error_a_file_is_tried_again_once_a_second() {
    let full = LogDestination::File(Path::new("/dev/full").to_owned());
    let mut destination = Destination::open(&full).unwrap();
    let start = clock::now();
    let mut fails_with = |after| {
        let broken = destination.write(b"{}\n{}\n", start + Duration::from_millis(after));
        let broken = broken.unwrap_err();
        assert_eq!(broken.lost, 2);
        broken.error.kind()
    };
    assert_eq!(fails_with(0), io::ErrorKind::StorageFull);
    assert_eq!(fails_with(999), io::ErrorKind::NotConnected);
    assert_eq!(fails_with(1000), io::ErrorKind::StorageFull);
}

#[test]
fn a_line_that_was_torn_by_an_error_does_not_spoil_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut destination = Destination::open(&LogDestination::File(path.clone())).unwrap();
    let start = clock::now();
    destination.write(b"{}\n", start).unwrap();
    destination.tear();
    destination.write(b"{}\n", start).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n\n{}\n");
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let path = Path::new("/nowhere/access.log").to_owned();
    let error = Destination::open(&LogDestination::File(path)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot open the access log /nowhere/access.log: "),
        "{text}"
    );
}
