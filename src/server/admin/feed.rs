//! `GET /api/v1/stream`: the status as server-sent events, once a second and at once when something
//! happens. What is sent is made once and shared by all streams, and not at all while nobody listens.
//!
//! | event | when | data |
//! | --- | --- | --- |
//! | `status` | at first, every second, and within 200 ms of an event | the status, without `history` |
//! | `history` | at first, and with each new point | `history` of the status |
//! | `note` | at once | one event of the status |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};

use super::answer;
use super::stream::Stream;
use super::{Control, Status};
use crate::clock;

/// Where the stream is.
pub(super) const PATH: &str = "/api/v1/stream";
/// Its content type.
pub(super) const CONTENT_TYPE: &str = "text/event-stream";
/// Streams at a time.
pub(super) const MAX_STREAMS: usize = 16;
/// How often the status is sent.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// What happens within this time of an event is told together with it.
const TOGETHER: Duration = Duration::from_millis(50);
/// Time between two readings at least, however much happens.
const APART: Duration = Duration::from_millis(150);
/// How long nothing may be sent before a sign of life is.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a reader may take nothing; then it is cut.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What waits for a reader that is slow: so many parts, shared with the other streams. More are left out.
const WAITING: usize = 4;

/// What a connection and its stream share.
#[derive(Debug, Default)]
pub(super) struct Wire {
    streaming: AtomicBool,
    cut: Notify,
}

impl Wire {
    /// Whether a stream runs on this connection.
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Relaxed)
    }

    pub(super) fn set_streaming(&self, streaming: bool) {
        self.streaming.store(streaming, Relaxed);
    }

    /// Until the stream's reader has taken nothing for too long.
    pub(super) async fn is_cut(&self) {
        self.cut.notified().await;
    }
}

/// One stream as the feed sees it.
struct Reader {
    parts: mpsc::Sender<Bytes>,
    wire: Arc<Wire>,
    /// Since when it takes nothing.
    full_since: Option<Instant>,
}

/// What is sent, and to whom.
pub(super) struct Feed {
    control: Arc<Control>,
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Default)]
struct State {
    readers: Vec<Reader>,
    /// The newest reading, for a stream that begins; `None` while nobody listens.
    latest: Option<Latest>,
}

/// A reading as it was sent.
#[derive(Clone)]
struct Latest {
    status: Bytes,
    history: Bytes,
    /// The newest point of the history in it.
    until: Option<String>,
    /// The newest event in it.
    number: u64,
}

/// A body of the admin interface: a whole one, or a stream.
pub(super) type Content = Either<Full<Bytes>, Stream>;

impl Feed {
    pub(super) fn new(control: Arc<Control>) -> Arc<Self> {
        Arc::new(Self {
            control,
            state: Mutex::default(),
            wanted: Notify::new(),
        })
    }

    /// What everything else is answered with.
    pub(super) const fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Begins a stream on that connection, or says that there are too many.
    pub(super) fn open(&self, wire: &Arc<Wire>) -> Response<Content> {
        let mut state = self.state.lock();
        state.readers.retain(|reader| !reader.parts.is_closed());
        if state.readers.len() >= MAX_STREAMS {
            drop(state);
            return too_many().map(Full::new).map(Either::Left);
        }
        let (parts, received) = mpsc::channel(WAITING);
        // There is room: it is new. A page that loses its stream asks again after a second.
        let _ = parts.try_send(Bytes::from_static(b"retry: 1000\n\n"));
        if let Some(latest) = &state.latest {
            let _ = parts.try_send(latest.status.clone());
            let _ = parts.try_send(latest.history.clone());
        }
        state.readers.push(Reader {
            parts,
            wire: Arc::clone(wire),
            full_since: None,
        });
        drop(state);
        self.wanted.notify_one();
        wire.set_streaming(true);
        let stream = Stream::new(received, Arc::clone(wire));
        let mut answer = answer::typed(StatusCode::OK, CONTENT_TYPE, Bytes::new());
        answer.headers_mut().insert(
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        );
        answer.map(|_none| Either::Right(stream))
    }

    /// Makes and sends for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>) {
        let mut changes = self.control.telemetry.events().changes();
        loop {
            self.wanted.notified().await;
            while self.is_wanted() {
                changes.mark_unchanged();
                let began = clock::now();
                self.send_reading().await;
                pause(&mut changes, began).await;
            }
        }
    }

    /// Whether anybody listens. If not, nothing is kept for them.
    fn is_wanted(&self) -> bool {
        let mut state = self.state.lock();
        state.readers.retain(|reader| !reader.parts.is_closed());
        if state.readers.is_empty() {
            state.latest = None;
        }
        !state.readers.is_empty()
    }

    /// Reads the state on a thread of its own, since it takes a while where there are a thousand
    /// upstreams, and sends it.
    async fn send_reading(&self) {
        let before = self.state.lock().latest.clone();
        let control = Arc::clone(&self.control);
        let mut reading =
            tokio::task::spawn_blocking(move || Reading::of((control.status)(), before));
        loop {
            tokio::select! {
                read = &mut reading => {
                    match read {
                        Ok(Some(reading)) => self.send(reading),
                        Ok(None) => tracing::warn!("the status could not be written for the stream"),
                        Err(error) => tracing::warn!(%error, "the status could not be read for the stream"),
                    }
                    return;
                }
                () = tokio::time::sleep(SILENCE) => {
                    self.state.lock().send(&Bytes::from_static(b": still reading\n\n"), None);
                }
            }
        }
    }

    fn send(&self, reading: Reading) {
        let mut state = self.state.lock();
        let first = state.latest.is_none();
        let latest = reading.latest;
        let (status, history) = (latest.status.clone(), latest.history.clone());
        state.latest = Some(latest);
        if first {
            state.send(&status, Some(&history));
        } else {
            state.send(&reading.news, None);
        }
    }
}

impl State {
    /// Sends to all; who has taken nothing for too long is cut.
    fn send(&mut self, part: &Bytes, more: Option<&Bytes>) {
        let now = clock::now();
        self.readers.retain_mut(|reader| {
            let sent = reader.parts.try_send(part.clone());
            let sent =
                sent.and_then(|()| more.map_or(Ok(()), |more| reader.parts.try_send(more.clone())));
            match sent {
                Ok(()) => {
                    reader.full_since = None;
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    let since = *reader.full_since.get_or_insert(now);
                    let late = now.saturating_duration_since(since) >= PATIENCE;
                    if late {
                        tracing::debug!(
                            "a reader of the stream took nothing for {PATIENCE:?} and is cut"
                        );
                        reader.wire.cut.notify_one();
                    }
                    !late
                }
            }
        });
    }
}

/// What one reading of the state has to say.
struct Reading {
    latest: Latest,
    /// What who has had the reading before needs: the status, and what is new beside it.
    news: Bytes,
}

impl Reading {
    /// `None`: it cannot be written.
    fn of(mut status: Status, before: Option<Latest>) -> Option<Self> {
        let history = status.history.take().unwrap_or_default();
        let number = status.events.last().map_or(0, |event| event.number);
        let mut news = event("status", None, &status)?;
        let status_event = Bytes::from(news.clone());
        let seen = before.as_ref().map_or(number, |before| before.number);
        for note in status.events.iter().filter(|note| note.number > seen) {
            news.extend(event("note", Some(note.number), note)?);
        }
        let known = before.filter(|before| before.until == history.until);
        let history_event = match known {
            Some(known) => known.history,
            None => {
                let made = event("history", None, &history)?;
                news.extend_from_slice(&made);
                Bytes::from(made)
            }
        };
        Some(Self {
            latest: Latest {
                status: status_event,
                history: history_event,
                until: history.until,
                number,
            },
            news: Bytes::from(news),
        })
    }
}

/// One event as it is sent. JSON in one line needs no more than one `data`.
fn event(name: &str, id: Option<u64>, data: &impl Serialize) -> Option<Vec<u8>> {
    let mut text = format!("event: {name}\n").into_bytes();
    if let Some(id) = id {
        text.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    text.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut text, data).ok()?;
    text.extend_from_slice(b"\n\n");
    Some(text)
}

/// Until the next reading is due: a second after the last, or sooner if something has happened.
async fn pause(changes: &mut watch::Receiver<u64>, began: Instant) {
    let until = |at: Instant| tokio::time::sleep_until(at.into());
    tokio::select! {
        () = until(began + EVERY) => {}
        Ok(()) = changes.changed() => until((clock::now() + TOGETHER).max(began + APART)).await,
    }
}

fn too_many() -> answer::Answer {
    answer::refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        format!(
            "{MAX_STREAMS} streams are open, which is as many as there may be; close one of those pages, \
             or ask /api/v1/status instead"
        ),
        &[],
    )
}

#[cfg(test)]
mod tests;
