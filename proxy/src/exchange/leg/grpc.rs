//! Legs of gRPC requests, which count by the gRPC status at the end of the response.

use tokio::time::Instant;

use super::{Code, CodeSet, Failure, Leg, Terms};
use crate::{
    grpc,
    outcome::{LegError, LegResult, Outcome},
    proxy_error::ProxyError,
};

impl Leg {
    /// Reads the gRPC status in the head of its response, if it is a trailers-only response.
    pub(in crate::exchange) fn read_head_code(&mut self) -> Option<Code> {
        let code = self.response()?.fields.all("grpc-status").next().and_then(grpc::status);
        self.code = code;
        code
    }

    /// The status, once it is known.
    pub(crate) fn code(&self) -> Option<Code> {
        self.code
    }

    /// Whether the first message of its answer is held.
    pub(in crate::exchange) fn has_grpc_message(&self) -> bool {
        grpc::has_message(self.held.iter().map(|piece| &piece[..]))
    }

    /// Whether its endpoint has sent a message.
    pub(in crate::exchange) fn has_answered(&self) -> bool {
        self.received > 0 || self.complete
    }

    /// Ends a leg whose request does not end. A complete answer decides the outcome.
    pub(in crate::exchange) fn end_unfinished(&mut self, terms: &Terms, now: Instant) {
        if self.complete
            && self.has_response
            && let Some(success) = terms.grpc
        {
            let result = self.grpc_result(self.response.status, success);
            return self.end_complete(result, terms, now);
        }
        let Failure { outcome, error, .. } = self.is_two_way();
        self.end_with(outcome, error, now);
    }

    /// Takes a failure that its trailers have reported.
    pub(in crate::exchange) fn take_late_failure(&mut self) -> bool {
        std::mem::take(&mut self.late_failure)
    }

    /// The result of a complete response.
    pub(super) fn grpc_result(&mut self, status: u16, success: CodeSet) -> LegResult {
        let said = grpc::status_in(&self.trailers).or(self.code);
        let is_refusal = status != 200;
        let contradicts = is_refusal && said == Some(grpc::OK);
        let code = said.filter(|_| !contradicts).unwrap_or_else(|| grpc::of_http(status));
        self.code = Some(code);
        let outcome = grpc::outcome(code, if is_refusal { CodeSet::none() } else { success });
        if self.success && outcome != Outcome::Ok {
            (self.success, self.late_failure) = (false, true);
        }
        // Passed on, it would look like a success to the caller.
        let error = contradicts.then(|| {
            let detail = format!("the endpoint answered {status} in HTTP and 0, which is ok, in gRPC");
            LegError::new(ProxyError::HttpProtocolError, detail)
        });
        LegResult { outcome, status: Some(status), error }
    }

    /// The failure of an answer above the hold limit.
    pub(super) fn too_long(&mut self) -> Failure {
        self.code = Some(grpc::RESOURCE_EXHAUSTED);
        let detail = format!("the answer is longer than {}, the limit here", runtime::size::ByteSize(self.hold as u64));
        Failure::new(Outcome::ServerError, ProxyError::HttpResponseBodySize, detail)
    }

    /// The failure of a bidirectional call to several endpoints: the client waits for messages before it continues, but there is no
    /// common answer yet.
    fn is_two_way(&mut self) -> Failure {
        self.code = Some(grpc::UNIMPLEMENTED);
        let detail = "the endpoint has answered, and the request does not end before its caller has the answer: a call in which \
                      each side waits for the other needs a route with require: any";
        Failure::new(Outcome::ClientError, ProxyError::HttpRequestError, detail)
    }
}
