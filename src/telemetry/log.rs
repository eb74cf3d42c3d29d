//! The log of the control plane: starts, reloads, breakers, refusals; never requests, which have the
//! access log. It goes to the standard error: readable lines on a terminal, JSON lines otherwise. Its
//! level can be changed while the process runs.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::events::stamp;

/// The level where nothing else is said.
pub const DEFAULT_LEVEL: &str = "info";

/// The levels, for messages.
const LEVELS: &str = "off, error, warn, info or debug";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people at a terminal.
    Readable,
    /// One JSON object a line, for collectors.
    Json,
}

impl Form {
    /// Readable where the standard error is a terminal.
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Readable
        } else {
            Self::Json
        }
    }
}

/// Changes the level of the running process.
#[derive(Debug, Clone)]
pub struct LogLevel {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogLevel {
    /// Sets the level: a word such as `debug`, or directives such as `info,mamparo::reload=debug`.
    /// Answers what holds now, or why this cannot.
    pub fn set(&self, level: &str) -> Result<String, String> {
        let filter = filter(level)?;
        let shown = filter.to_string();
        self.filter
            .reload(filter)
            .map_err(|error| format!("the log level cannot be changed: {error}"))?;
        // Not `level`: that is the line's own.
        tracing::warn!(to = shown, "log level set");
        Ok(shown)
    }
}

/// Tells the date.
pub type Date = fn() -> SystemTime;

/// Sets up the log of this process, once.
///
/// # Errors
/// The level is none, or this process has a log already.
pub fn start(level: &str, form: Form, date: Date) -> Result<LogLevel, String> {
    let (subscriber, handle) = subscriber(level, form, date, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_already_set| "this process has a log already".to_owned())?;
    Ok(handle)
}

fn subscriber<W>(
    level: &str,
    form: Form,
    date: Date,
    to: W,
) -> Result<(impl Subscriber + Send + Sync + use<W>, LogLevel), String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let lines = match form {
        Form::Readable => tracing_subscriber::fmt::layer()
            .compact()
            .with_target(false)
            .with_timer(Stamps(date))
            .with_writer(to)
            .boxed(),
        Form::Json => tracing_subscriber::fmt::layer()
            .event_format(JsonLines(date))
            .with_writer(to)
            .boxed(),
    };
    let subscriber = Registry::default().with(filter).with(lines);
    Ok((subscriber, LogLevel { filter: handle }))
}

/// The library takes any unknown word for the name of a module; a misspelt level must not silence us.
fn filter(level: &str) -> Result<EnvFilter, String> {
    filter_down_to(level, STATIC_MAX_LEVEL)
}

/// `finest`: the level below which this build has none.
fn filter_down_to(level: &str, finest: LevelFilter) -> Result<EnvFilter, String> {
    let no_level = |word: &str| format!("'{word}' is no log level; levels are {LEVELS}");
    for directive in level.split(',') {
        let word = directive
            .rsplit_once('=')
            .map_or(directive, |(_target, word)| word)
            .trim();
        let level = word
            .parse::<LevelFilter>()
            .ok()
            .filter(|_| !word.is_empty() && !word.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| no_level(word))?;
        // Compiled out for its cost, it would be silence that looks like peace.
        if level > finest {
            return Err(format!(
                "'{word}' is not in this build; levels are {LEVELS}"
            ));
        }
    }
    EnvFilter::try_new(level).map_err(|error| format!("'{level}' is no log level: {error}"))
}

struct Stamps(Date);

impl FormatTime for Stamps {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&stamp((self.0)()))
    }
}

struct JsonLines(Date);

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields(Map::new());
        let level = event.metadata().level().as_str().to_lowercase();
        fields.put("timestamp", stamp((self.0)()));
        fields.put("level", level);
        fields.put("target", event.metadata().target());
        event.record(&mut fields);
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

/// An event's fields as JSON.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing into a string cannot fail; what a value refuses to show stays empty.
        let _ = write!(text, "{value:?}");
        self.put(field.name(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }
}

/// A line to the standard error from before the log is set up, or from after it has failed. A closed
/// standard error must not end the process (fault 71).
pub fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    fn logged(level: &str, form: Form, act: impl FnOnce(&LogLevel)) -> String {
        let memory = Memory::default();
        let to = memory.clone();
        let (subscriber, handle) =
            subscriber(level, form, || SystemTime::UNIX_EPOCH, move || to.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || act(&handle));
        memory.text()
    }

    #[test]
    fn a_json_line_has_time_level_message_and_fields() {
        let text = logged("info", Form::Json, |_| {
            tracing::info!(upstream = "a\"b", failures = 5_u64, "breaker \n opened");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "info");
        assert_eq!(line["message"], "breaker \n opened");
        assert_eq!(line["upstream"], "a\"b");
        assert_eq!(line["failures"], 5);
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_value_keeps_its_kind() {
        let text = logged("info", Form::Json, |_| {
            let address = ([127, 0, 0, 1], 9001);
            let address = std::net::SocketAddr::from(address);
            tracing::info!(open = true, left = -3_i64, share = 0.5, %address, list = ?["a"], "seen");
        });
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["open"], true);
        assert_eq!(line["left"], -3);
        assert_eq!(line["share"], 0.5);
        assert_eq!(line["address"], "127.0.0.1:9001");
        assert_eq!(line["list"], "[\"a\"]");
    }

    #[test]
    fn a_readable_line_says_the_same() {
        let text = logged("info", Form::Readable, |_| {
            tracing::warn!(upstream = "payments", "breaker opened");
        });
        assert!(text.contains("WARN"), "{text}");
        assert!(text.contains("breaker opened"), "{text}");
        assert!(text.contains("payments"), "{text}");
    }

    #[test]
    fn the_level_changes_while_the_process_runs() {
        let text = logged("error", Form::Json, |level| {
            tracing::info!("hidden");
            level.set("debug").unwrap();
            tracing::debug!("shown");
            level.set("off").unwrap();
            tracing::error!("hidden");
        });
        assert!(!text.contains("hidden"), "{text}");
        assert!(text.contains("shown"), "{text}");
        let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (line["level"].as_str(), line["to"].as_str()),
            (Some("warn"), Some("debug"))
        );
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_and_changes_nothing() {
        let text = logged("info", Form::Json, |level| {
            for wrong in [
                "loud",
                "",
                "debgu",
                "7",
                "info,loud",
                "mamparo=loud",
                "a=b=c",
            ] {
                let why = level.set(wrong).unwrap_err();
                assert!(why.contains("is no log level"), "{wrong}: {why}");
            }
            tracing::info!("still here");
            for right in ["DEBUG", "warn", "info,mamparo::reload=debug"] {
                level.set(right).unwrap();
            }
        });
        assert!(text.contains("still here"), "{text}");
    }

    #[test]
    fn a_level_that_is_compiled_out_is_refused() {
        for finer in ["trace", "info,h2=trace"] {
            let why = filter_down_to(finer, LevelFilter::DEBUG).unwrap_err();
            assert!(why.contains("'trace' is not in this build"), "{why}");
            assert!(why.contains("off, error, warn, info or debug"), "{why}");
            filter_down_to(finer, LevelFilter::TRACE).unwrap();
        }
        filter_down_to("debug", LevelFilter::DEBUG).unwrap();
    }
}
