//! A tunnel: what a request becomes when its protocol was switched. Bytes go both ways as they come; the
//! request's seat, connection and report are held to the end. There is no retry any more, and in the
//! place of the request's time the idle timeout (rules 33, 57, 89).

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::response;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::message;
use super::told::Told;
use crate::clock;
use crate::live::line::Line;
use crate::live::relay::{Broken, Relay};
use crate::live::seats::Seat;
use crate::policy::outcome::Reason;
use crate::telemetry::report::{Outcome, Report};

/// An answer that opens a tunnel, and the line to its endpoint.
pub(super) struct Opened {
    pub(super) head: response::Parts,
    pub(super) line: Line,
    /// How long no byte may move.
    pub(super) idle: Option<Duration>,
}

/// A tunnel whose client's end is still to come: the server has it when the answer's head is written.
#[derive(Debug)]
pub struct Tunnel {
    line: Line,
    told: Told,
    seat: Option<Seat>,
    idle: Option<Duration>,
}

/// The way of a tunnel to the server, in an answer's extensions.
#[derive(Debug, Clone)]
pub struct Handover(Arc<Mutex<Option<Box<Tunnel>>>>);

/// How the client's connection is to be closed after a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// As it is.
    Clean,
    /// So that the client sees a break.
    Break,
}

/// What a tunnel ended in.
pub(super) enum End {
    /// Both ends have ended.
    Closed,
    Broken(Broken),
    /// Nothing moved for that long.
    Idle(Duration),
    /// The drain's time was over.
    Cut,
}

impl Tunnel {
    pub(super) fn new(
        line: Line,
        told: Told,
        seat: Option<Seat>,
        idle: Option<Duration>,
    ) -> Box<Self> {
        Box::new(Self {
            line,
            told,
            seat,
            idle,
        })
    }

    /// Carries bytes between the client, which has sent `early` already, and the endpoint until both
    /// have ended, one has broken, nothing moves for too long, or `cut` is ready.
    pub async fn run<IO>(
        self: Box<Self>,
        client: &mut IO,
        early: &[u8],
        cut: impl Future<Output = ()>,
    ) -> Close
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            line,
            mut told,
            seat,
            idle,
        } = *self;
        let mut running = Running {
            relay: Relay::new(client, early, line),
            whole: false,
        };
        let end = carry(&mut running.relay, idle, cut).await;
        let (up, down) = running.relay.bytes();
        let close = match &end {
            End::Closed | End::Idle(_) => Close::Clean,
            End::Broken(_) | End::Cut => Close::Break,
        };
        running.whole = close == Close::Clean;
        // The slot and the seat are free before the report says so.
        drop((running, seat));
        let report = told.report();
        report.received += up;
        report.sent += down;
        tell(&end, report);
        told.complete(clock::now());
        close
    }
}

/// Breaks the endpoint's connection off unless all has come, also where the client's connection ends with
/// its streams where they stand.
struct Running<N> {
    relay: Relay<N>,
    whole: bool,
}

impl<N> Drop for Running<N> {
    fn drop(&mut self) {
        if !self.whole {
            self.relay.break_off();
        }
    }
}

impl Handover {
    pub(super) fn new(tunnel: Box<Tunnel>) -> Self {
        Self(Arc::new(Mutex::new(Some(tunnel))))
    }

    /// The tunnel; once.
    pub fn take(&self) -> Option<Box<Tunnel>> {
        self.0.lock().take()
    }
}

/// Carries bytes until one of these ends it.
pub(super) async fn carry<N>(
    relay: &mut Relay<N>,
    idle: Option<Duration>,
    cut: impl Future<Output = ()>,
) -> End
where
    N: AsyncRead + AsyncWrite + Unpin,
{
    let mut cut = pin!(cut);
    let mut moved = clock::now();
    let mut timer = pin!(idle.map(|idle| tokio::time::sleep_until((moved + idle).into())));
    poll_fn(|cx| {
        let ended = relay.poll(cx);
        if relay.take_moved() {
            moved = clock::now();
        }
        if let Poll::Ready(ended) = ended {
            return Poll::Ready(match ended {
                Ok(()) => End::Closed,
                Err(broken) => End::Broken(broken),
            });
        }
        if cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Cut);
        }
        if let (Some(idle), Some(mut timer)) = (idle, timer.as_mut().as_pin_mut()) {
            while timer.as_mut().poll(cx).is_ready() {
                let until = moved + idle;
                if until <= clock::now() {
                    return Poll::Ready(End::Idle(idle));
                }
                timer.as_mut().reset(until.into());
            }
        }
        Poll::Pending
    })
    .await
}

/// What a tunnel's end means. An idle one that is closed is no failure of anybody.
fn tell(end: &End, report: &mut Report) {
    let mut broke = |reason, detail: &dyn Display| {
        report.broken = true;
        report.reason = Some(reason);
        report.detail = Some(detail.to_string().into());
    };
    match end {
        End::Closed => {}
        End::Broken(Broken::Near(error)) => {
            broke(Reason::ClientGone, &error);
            report.outcome = Outcome::ClientGone;
        }
        End::Broken(Broken::Far(error)) => broke(Reason::Reset, &error),
        End::Idle(idle) => {
            let sentence = format!("no byte in the tunnel for {idle:?} (idle timeout)");
            report.detail = Some(sentence.into());
        }
        End::Cut => broke(Reason::Draining, &message::cut()),
    }
}
