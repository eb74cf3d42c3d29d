//! Reloads over real files, with a stand-in for the parser: a file's text is the admin port and, after
//! a blank, anything else. `!` is a mistake.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;

use super::*;
use crate::config::{Effective, Origin, Problem};
use crate::plan::{AccessLog, ErrorFormat, Errors, Keep, Runtime};

const BOUND: Duration = Duration::from_secs(20);

fn plan(port: u16) -> Plan {
    Plan {
        service: "orders".into(),
        admin: std::net::SocketAddr::from(([127, 0, 0, 1], port)).into(),
        metrics: None,
        runtime: Runtime {
            workers: NonZeroUsize::MIN,
            drain: Duration::ZERO,
            max_connections: 1,
            dns_servers: Vec::new(),
            kubernetes: Default::default(),
        },
        errors: Errors {
            format: ErrorFormat::Contract,
            documentation_url: None,
        },
        access_log: AccessLog {
            destination: None,
            keep: Keep::All,
        },
        tracing: None,
        explain: None,
        listeners: vec![],
        upstreams: vec![],
    }
}

fn load(file: &Path) -> Result<Loaded, Problems> {
    let problem = |message: &str| {
        Problems(vec![Problem {
            place: None,
            path: "file".into(),
            message: message.into(),
            help: None,
            source_line: None,
        }])
    };
    let text = fs::read_to_string(file).map_err(|error| problem(&error.to_string()))?;
    let (port, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let port = port.parse().map_err(|_| problem("no port"))?;
    let mut effective = Effective::default();
    effective.insert("rest", rest, Origin::Default);
    Ok(Loaded {
        plan: plan(port),
        effective,
        warnings: vec![],
        sources: vec![file.to_path_buf()],
        hash: text
            .bytes()
            .fold(7, |hash, byte| hash * 31 + u64::from(byte)),
        certificates: crate::tls::Material::default(),
    })
}

struct Running {
    file: PathBuf,
    _folder: tempfile::TempDir,
    orders: mpsc::Sender<ReloadOrder>,
    last: Last,
    telemetry: Arc<Telemetry>,
    loads: Arc<Mutex<usize>>,
}

/// What happens to the file while it is read, once: the text that is read, and the text that is there
/// when the reading has ended.
type Meanwhile = Arc<Mutex<Option<(&'static str, &'static str)>>>;

fn start(apply: Box<Apply>) -> Running {
    start_with(apply, Meanwhile::default())
}

fn start_with(apply: Box<Apply>, meanwhile: Meanwhile) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mamparo.yaml");
    fs::write(&file, "1 a").unwrap();
    let (orders, taken) = mpsc::channel(256);
    let (last, telemetry) = (Last::default(), Arc::<Telemetry>::default());
    let loads = Arc::new(Mutex::new(0));
    let (read, counted) = (file.clone(), Arc::clone(&loads));
    let steps = Steps {
        load: Arc::new(move || {
            *counted.lock() += 1;
            let Some((then, afterwards)) = meanwhile.lock().take() else {
                return load(&read);
            };
            fs::write(&read, then).unwrap();
            let loaded = load(&read);
            fs::write(&read, afterwards).unwrap();
            loaded
        }),
        renew: Box::new(|_| {}),
        apply,
    };
    let reloader = Reloader::new(
        vec![file.clone()],
        steps,
        load(&file).unwrap(),
        Arc::clone(&last),
        Arc::clone(&telemetry),
    );
    tokio::spawn(reloader.run(taken));
    Running {
        file,
        _folder: folder,
        orders,
        last,
        telemetry,
        loads,
    }
}

impl Running {
    async fn order(&self) -> LastReload {
        let (order, result) = oneshot::channel();
        self.orders.send(order).await.unwrap();
        result.await.unwrap()
    }

    /// Waits until the files alone have led to a result like this.
    async fn until(&self, what: impl Fn(&LastReload) -> bool) -> LastReload {
        let found = async {
            loop {
                let last = self.last.lock().clone();
                if let Some(last) = last.filter(&what) {
                    return last;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, found).await.unwrap()
    }
}

/// The files are read again soon, and not only when the poll comes round.
async fn soon(running: &Running, what: impl Fn(&LastReload) -> bool) {
    let found = tokio::time::timeout(watch::POLL / 2, running.until(what)).await;
    assert!(found.is_ok(), "{:?}", running.last.lock());
}

#[tokio::test]
async fn fault_068_a_file_that_was_read_while_it_was_written_is_read_again() {
    let meanwhile = Meanwhile::default();
    let running = start_with(accepting(), Arc::clone(&meanwhile));
    *meanwhile.lock() = Some(("", "1 a"));
    assert_eq!(running.order().await.result, ReloadResult::Refused);
    soon(&running, |last| last.result == ReloadResult::Unchanged).await;
}

#[tokio::test]
async fn fault_068_what_was_changed_while_it_was_read_can_be_taken_back() {
    let meanwhile = Meanwhile::default();
    let running = start_with(accepting(), Arc::clone(&meanwhile));
    *meanwhile.lock() = Some(("1 b", "1 b"));
    assert_eq!(running.order().await.generation, 2);
    fs::write(&running.file, "1 a").unwrap();
    soon(&running, |last| last.generation == 3).await;
}

fn accepting() -> Box<Apply> {
    Box::new(|_wanted| Ok(Vec::new()))
}

#[tokio::test]
async fn a_changed_file_becomes_the_next_generation_and_says_what_changed() {
    let running = start(accepting());
    fs::write(&running.file, "1 b").unwrap();
    let last = running
        .until(|last| last.result == ReloadResult::Applied)
        .await;
    assert_eq!(last.generation, 2);
    assert_eq!(last.changes, ["rest: a -> b"]);
    assert_eq!(running.telemetry.metrics().reloads_applied.get(), 1);
    let events = running.telemetry.events().recent();
    assert!(events[0].text.contains("generation 2"), "{events:?}");
}

#[tokio::test]
async fn rule_83_a_half_written_file_is_refused_and_the_old_one_stays() {
    let running = start(accepting());
    fs::write(&running.file, "!").unwrap();
    let last = running
        .until(|last| last.result == ReloadResult::Refused)
        .await;
    assert_eq!((last.generation, last.problems.len()), (1, 1));
    assert_eq!(last.problems[0], "file: no port");
    assert!(!last_succeeded(&running.last));
    fs::write(&running.file, "1 b").unwrap();
    let last = running
        .until(|last| last.result == ReloadResult::Applied)
        .await;
    assert_eq!(last.generation, 2);
    assert!(last_succeeded(&running.last));
    assert_eq!(running.telemetry.metrics().reloads_refused.get(), 1);
}

#[tokio::test]
async fn fault_068_a_deleted_file_keeps_the_old_one_running_and_its_return_clears_the_alarm() {
    let running = start(accepting());
    fs::remove_file(&running.file).unwrap();
    running
        .until(|last| last.result == ReloadResult::Refused)
        .await;
    fs::write(&running.file, "1 a").unwrap();
    let last = running
        .until(|last| last.result == ReloadResult::Unchanged)
        .await;
    assert_eq!(last.generation, 1);
    assert!(last_succeeded(&running.last));
}

#[tokio::test]
async fn what_cannot_change_while_running_is_refused_with_both_values() {
    let running = start(accepting());
    fs::write(&running.file, "2 b").unwrap();
    let last = running.order().await;
    assert_eq!(last.result, ReloadResult::Refused);
    assert!(
        last.problems[0].starts_with("admin.address: cannot change"),
        "{last:?}"
    );
    assert!(last.problems[0].contains("127.0.0.1:1 now, 127.0.0.1:2 in the file"));
    let mut wanted = plan(1);
    wanted.runtime.workers = NonZeroUsize::new(3).unwrap();
    let problems = fixed_at_start(&plan(1), &wanted);
    assert!(problems[0].contains("1 now, 3 in the file"), "{problems:?}");
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused() {
    let running = start(Box::new(|_| Err(vec!["address in use".into()])));
    fs::write(&running.file, "1 b").unwrap();
    let last = running.order().await;
    assert_eq!(last.problems, ["address in use"]);
    assert_eq!(last.generation, 1);
}

#[tokio::test]
async fn an_order_without_a_change_is_answered_and_counted_nowhere() {
    let running = start(accepting());
    let last = running.order().await;
    assert_eq!(last.result, ReloadResult::Unchanged);
    assert_eq!(running.telemetry.metrics().reloads_applied.get(), 0);
    assert_eq!(running.telemetry.metrics().reloads_refused.get(), 0);
}

#[tokio::test]
async fn the_first_look_at_unchanged_files_says_nothing() {
    let running = start(accepting());
    let looked = async {
        while *running.loads.lock() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, looked).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(running.last.lock().is_none());
    assert!(running.telemetry.events().recent().is_empty());
}

#[tokio::test]
async fn fault_068_a_hundred_orders_at_once_are_all_answered_by_few_readings() {
    let running = start(accepting());
    let mut results = Vec::new();
    for _ in 0..100 {
        let (order, result) = oneshot::channel();
        running.orders.try_send(order).unwrap();
        results.push(result);
    }
    for result in results {
        assert_eq!(result.await.unwrap().result, ReloadResult::Unchanged);
    }
    let loads = *running.loads.lock();
    assert!(loads <= 5, "{loads}");
}

#[test]
fn a_long_diff_is_cut_and_says_so() {
    let changes = shortened((0..MAX_CHANGES + 3).map(|n| n.to_string()).collect());
    assert_eq!(changes.len(), MAX_CHANGES + 1);
    assert_eq!(changes[MAX_CHANGES], "and 3 more");
}
