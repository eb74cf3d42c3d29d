//! How long a try may take: to its connection, and from there to the head of its answer. While a
//! request's body is still on its way it matters who is waited for. A client that uploads slowly is no
//! failure of the upstream, and a try has not begun to be late before its request is sent (rule 1).

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use super::client::Client;
use super::tries::Passage;
use crate::clock;
use crate::live::interim;
use crate::live::request_body::{RequestBody, Upload};
use crate::policy::outcome::Reason;

/// How long an upstream is waited for to say `100 Continue`, as clients wait (RFC 9110, section
/// 10.1.1).
const GO_ON_WITHIN: Duration = Duration::from_secs(1);

/// A time limit and what it means when it is over.
#[derive(Debug, Clone, Copy)]
struct Limit {
    until: Instant,
    over: Over,
}

/// What it means that a time is over.
#[derive(Debug, Clone, Copy)]
enum Over {
    /// The try ends.
    Late(Late),
    /// Nothing yet: the client is waited for, not the upstream.
    LookAgain,
    /// The upstream has not said that it wants the body, and gets it.
    SendBody,
}

/// Why a try was not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Its connection was not made within `connect`.
    Connect,
    /// No head of an answer came within `try`.
    Try,
    /// The request's time is over.
    Request {
        /// The client's part of the request was what was missing.
        waits_for_client: bool,
    },
    /// The upstream took no byte of the request's body for as long as `idle`.
    UpstreamTakesNothing,
    /// The client sent no byte of the request's body for as long as `idle`.
    ClientSendsNothing,
}

impl Late {
    /// What the try has failed with.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Connect => Reason::ConnectTimeout,
            Self::Try | Self::UpstreamTakesNothing => Reason::TryTimeout,
            Self::Request { .. } => Reason::RequestTimeout,
            Self::ClientSendsNothing => Reason::ClientGone,
        }
    }
}

impl Passage<'_> {
    /// How the request's body stands; `None`: it has none.
    pub(super) fn upload(&self) -> Option<Upload> {
        self.body.as_ref().map(RequestBody::upload)
    }

    /// Waits for a connection for as long as that may take.
    pub(super) async fn to_connect<F: Future>(&self, connecting: F) -> Result<F::Output, Late> {
        let timeout = self.route.plan.policies.timeouts.connect;
        let timeout = timeout.map(|timeout| Limit::new(clock::now() + timeout, Late::Connect));
        let Some(limit) = sooner(timeout, self.deadline_limit()) else {
            return Ok(connecting.await);
        };
        let connected = tokio::time::timeout_at(limit.until.into(), connecting).await;
        connected.map_err(|_| match limit.over {
            Over::Late(late) => late,
            Over::LookAgain | Over::SendBody => Late::Connect,
        })
    }

    /// Waits for the head of an answer to a request whose sending began at `began`, for as long as that
    /// may take. `sending` is lent: handed over it would lie in this future twice.
    pub(super) async fn to_answer<F: Future>(
        &self,
        mut sending: Pin<&mut F>,
        client: &Client,
        began: Instant,
    ) -> Result<F::Output, Late> {
        loop {
            let Some(limit) = self.answer_limit(began) else {
                return Ok(sending.await);
            };
            let answered = client.timer.limit(sending.as_mut(), limit.until);
            if let Ok(answered) = answered.await {
                return Ok(answered);
            }
            // The body may have moved on meanwhile, and the limit with it.
            let limit = self.answer_limit(began);
            match limit.filter(|limit| limit.until <= clock::now()) {
                Some(Limit {
                    over: Over::Late(late),
                    ..
                }) => return Err(late),
                Some(Limit {
                    over: Over::SendBody,
                    ..
                }) => self.send_body_unasked(client),
                Some(_) | None => {}
            }
        }
    }

    /// How long the upstream may take to ask for the body. Half of a short time is left for the rest.
    fn go_on_within(&self, began: Instant) -> Duration {
        let half = self.deadline.map(|deadline| deadline.left(began) / 2);
        half.map_or(GO_ON_WITHIN, |half| half.min(GO_ON_WITHIN))
    }

    /// An upstream may well not know of `expect`: a client must not wait for it for ever.
    fn send_body_unasked(&self, client: &Client) {
        if self.body.as_ref().is_some_and(RequestBody::let_go) {
            client.interim().pass(interim::Head::go_on());
        }
    }

    fn deadline_limit(&self) -> Option<Limit> {
        let deadline = self.deadline?;
        let waits_for_client = self
            .upload()
            .is_some_and(|upload| upload.waits_for_client());
        Some(Limit::new(deadline.at, Late::Request { waits_for_client }))
    }

    /// The next limit of a try whose request began to be sent at `began`.
    fn answer_limit(&self, began: Instant) -> Option<Limit> {
        let timeouts = &self.route.plan.policies.timeouts;
        let deadline = self.deadline_limit();
        let upload = self.upload();
        let since = upload.map_or(began, |upload| upload.moved.max(began));
        let late = |late| move |wait| Limit::new(since + wait, late);
        let limit = match upload {
            Some(upload) if upload.held => Some(Limit {
                until: began + self.go_on_within(began),
                over: Over::SendBody,
            }),
            Some(upload) if upload.waits_for_client() => {
                let again = timeouts.per_try.map(|wait| Limit {
                    until: clock::now() + wait,
                    over: Over::LookAgain,
                });
                sooner(again, timeouts.idle.map(late(Late::ClientSendsNothing)))
            }
            Some(upload) if !upload.complete => sooner(
                timeouts.per_try.map(late(Late::Try)),
                timeouts.idle.map(late(Late::UpstreamTakesNothing)),
            ),
            Some(_) | None => timeouts.per_try.map(late(Late::Try)),
        };
        sooner(limit, deadline)
    }
}

impl Limit {
    fn new(until: Instant, late: Late) -> Self {
        let over = Over::Late(late);
        Self { until, over }
    }
}

fn sooner(a: Option<Limit>, b: Option<Limit>) -> Option<Limit> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.until <= b.until { a } else { b }),
        (one, other) => one.or(other),
    }
}
