//! Steps 7 and 8: who answers a request, and with what head.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Response, StatusCode, Version};

use super::answer::Failure;
use super::body::{AnswerBody, WholeCall};
use super::handle::{Asked, Exchange, Failed};
use super::headers;
use super::site::RouteSite;
use super::tries::{Answer, Ended, take_head};
use crate::clock;
use crate::plan;
use crate::policy::grpc::Code;
use crate::policy::outcome::{Ending, Reason};
use crate::telemetry::report::{FallbackKind, FellBack, Outcome};

impl Exchange<'_> {
    /// Steps 7 and 8: who answers.
    pub(super) fn finish(
        mut self,
        ended: Result<Ended, Failed>,
        asked: &Asked,
    ) -> Response<AnswerBody> {
        let report = self.told.report();
        if let Err(failed) = &ended {
            report.reason = Some(failed.reason);
            report.detail = Some(failed.message.as_str().into());
        }
        // 7: a fallback sees every way to fail, ours and the upstream's; the failure is noted already.
        let (ending, answer) = match &ended {
            Ok(ended) => (ended.ending, ended.answer.ending().unwrap_or(ended.ending)),
            Err(failed) => (Ending::Failed(failed.reason), Ending::Failed(failed.reason)),
        };
        let route = self.route.map(Arc::as_ref);
        let gone = matches!(&ended, Err(failed) if failed.reason == Reason::ClientGone);
        let opened = matches!(&ended, Ok(ended) if ended.answer.opens_tunnel());
        let fallback = route.filter(|_| !gone && !opened).and_then(|route| {
            let fallbacks = &route.plan.policies.fallback;
            // A client of gRPC reads nothing else, and nobody else reads gRPC.
            let is_call = self.call.is_some();
            let fits = |one: &plan::Fallback| one.respond.grpc_status.is_some() == is_call;
            let mut numbered = (1..).zip(&**fallbacks).filter(|(_, one)| fits(one));
            numbered.find(|(_, one)| one.on.holds(ending) || one.on.holds(answer))
        });
        if let Some((number, fallback)) = fallback {
            let because = match fallback.on.holds(ending) {
                true => ending,
                false => answer,
            };
            self.told.report().fell_back = Some(FellBack { number, because });
            return self.fall_back(&fallback.respond, asked);
        }
        // 8: the upstream's answer, the last real one, or ours.
        match ended {
            Ok(ended) => self.pass_on(ended, answer),
            Err(failed) => self.refuse(failed, route, asked),
        }
    }

    fn fall_back(mut self, respond: &plan::Respond, asked: &Asked) -> Response<AnswerBody> {
        let report = self.told.report();
        report.outcome = Outcome::Fallback;
        report.fallback = Some(FallbackKind::Respond);
        let attempts = report.tries.len();
        let voice = &self.site.voice;
        let (reason, id) = (report.reason, &report.request_id);
        let (mut answer, trailers) = match (&self.call, respond.grpc_status) {
            (Some(call), Some(code)) => {
                report.grpc_status = Some(code);
                voice.respond_to_call(call, respond, code, reason, id)
            }
            (None, _) | (_, None) => (voice.respond(respond, reason, id, asked.head_only), None),
        };
        headers::tell_attempts(answer.headers_mut(), attempts);
        self.hand_over(answer, trailers)
    }

    fn refuse(
        mut self,
        failed: Failed,
        route: Option<&RouteSite>,
        asked: &Asked,
    ) -> Response<AnswerBody> {
        let now = clock::now();
        let elapsed = now.saturating_duration_since(self.started);
        self.told.report().outcome = if failed.reason == Reason::ClientGone {
            Outcome::ClientGone
        } else if self.told.has_tried() {
            Outcome::Failed
        } else {
            Outcome::Refused
        };
        // The client's own fault in the midst of a try is a refusal still, but a try was made.
        self.told.tell_of_try(now);
        let report = self.told.report();
        let failure = Failure {
            reason: failed.reason,
            status: failed.status,
            message: failed.message,
            retry_after: failed.retry_after,
            attempts: report.tries.len(),
            elapsed,
            upstream: route.map(|route| Arc::clone(route.upstream.name())),
            route: route.map(|route| Arc::clone(&route.plan.name)),
        };
        let reason = failed.reason;
        let voice = &self.site.voice;
        let mut answer = match &self.call {
            Some(call) => {
                report.grpc_status = Some(Code::of_reason(reason));
                voice.refuse_call(call, &failure, &report.request_id)
            }
            None => voice.answer(
                &failure,
                asked.accept.as_ref(),
                report.trace.trace_id,
                &report.request_id,
                asked.head_only,
            ),
        };
        // Where a request could be read in two ways, so could the bytes behind it.
        if matches!(reason, Reason::BadRequest | Reason::HeaderTooLarge) {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        self.hand_over(answer, None)
    }

    /// An answer of our own: nothing of the upstream is needed any more.
    fn hand_over(
        mut self,
        answer: Response<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Response<AnswerBody> {
        let report = self.told.report();
        report.status = answer.status().as_u16();
        report.head_at = Some(clock::now().saturating_duration_since(report.started));
        let told = self.told;
        answer.map(|bytes| match trailers {
            None => AnswerBody::bytes(bytes, told, None),
            trailers => {
                let messages = bytes;
                AnswerBody::call(WholeCall { messages, trailers }, told, None)
            }
        })
    }

    fn pass_on(mut self, mut ended: Ended, ending: Ending) -> Response<AnswerBody> {
        let report = self.told.report();
        if let Ending::Grpc { code, .. } = ending {
            report.grpc_status = Some(code);
        }
        report.outcome = if report.tries.is_empty() {
            Outcome::Refused
        } else {
            Outcome::Upstream
        };
        report.status = ended.answer.status();
        report.head_at = Some(match (&ended.answer, report.tries.last()) {
            // It was there as the last try ended, and nothing has been waited for since.
            (Answer::Stream(_), Some(last)) => last.started + last.took,
            _ => clock::now().saturating_duration_since(report.started),
        });
        let mut head = take_head(ended.answer.head());
        let version = head.version;
        // Ours, not the upstream's: an answer of an HTTP/1.0 server would have no chunks either.
        head.version = Version::HTTP_11;
        let switched = match head.status {
            StatusCode::SWITCHING_PROTOCOLS => head.headers.get(UPGRADE).cloned(),
            _ => None,
        };
        let via = self.listener.map(|listener| listener.via.entry(version));
        headers::back(
            &mut head.headers,
            via,
            &report.request_id,
            report.tries.len(),
        );
        if let Some(protocol) = switched {
            headers::ask_for(&mut head.headers, &protocol);
        }
        ended.answer.into_response(head, self.told, self.seat)
    }
}
