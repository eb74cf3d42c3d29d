//! Our answers to calls of gRPC, whose clients read no body of HTTP: how the call ended stands in the
//! head, and nothing follows (rule 73). A fallback may bring a message.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};

use super::{Failure, REQUEST_ID, Voice, take_headers, tell_of_fallback};
use crate::plan::Respond;
use crate::policy::grpc::Code;
use crate::policy::outcome::Reason;
use crate::proxy::grpc::{self, Call};

impl Voice {
    /// The answer to a call that failed.
    pub(in crate::proxy) fn refuse_call(
        &self,
        call: &Call,
        failure: &Failure,
        request_id: &HeaderValue,
    ) -> Response<Bytes> {
        let mut answer = Response::new(Bytes::new());
        let headers = answer.headers_mut();
        headers.reserve(10);
        let code = Code::of_reason(failure.reason);
        call.end(headers, code, failure.message.as_bytes());
        headers.insert(REQUEST_ID, request_id.clone());
        self.explain(headers, failure);
        answer
    }

    /// A fallback's answer to a call, which ends with `code`: with OK its body is the message, else the
    /// words. `reason` is the failure that it stands in for, where that was one of ours.
    pub(in crate::proxy) fn respond_to_call(
        &self,
        call: &Call,
        fallback: &Respond,
        code: Code,
        reason: Option<Reason>,
        request_id: &HeaderValue,
    ) -> (Response<Bytes>, Option<HeaderMap>) {
        let mut answer = Response::new(Bytes::new());
        let headers = answer.headers_mut();
        take_headers(headers, fallback);
        call.begin(headers);
        tell_of_fallback(headers, reason, request_id);
        if code != Code::Ok {
            call.end(headers, code, &fallback.body);
            return (answer, None);
        }
        *answer.body_mut() = grpc::framed(&fallback.body);
        let mut trailers = HeaderMap::new();
        grpc::end(&mut trailers, code, b"");
        (answer, Some(trailers))
    }
}
