//! What is different about a leg of gRPC: it counts by its status, which comes last.

use tokio::time::Instant;

use super::{Code, CodeSet, Failure, Leg, Terms};
use crate::{
    grpc,
    outcome::{LegError, LegResult, Outcome},
    proxy_error::ProxyError,
};

impl Leg {
    /// Reads the status that the head of its response says, where it does: there is no message then.
    pub(in crate::exchange) fn read_head_code(&mut self) -> Option<Code> {
        self.code = self.response.as_ref()?.fields.all("grpc-status").next().and_then(grpc::status);
        self.code
    }

    /// The status, once it is known.
    pub(crate) fn code(&self) -> Option<Code> {
        self.code
    }

    /// Whether the first message of its answer is held.
    pub(in crate::exchange) fn has_grpc_message(&self) -> bool {
        grpc::has_message(self.held.iter().map(|piece| &piece[..]))
    }

    /// Whether its endpoint has said something.
    pub(in crate::exchange) fn has_answered(&self) -> bool {
        self.received > 0 || self.complete
    }

    /// Its request does not end. Where the answer is whole, that tells what became of the call.
    pub(in crate::exchange) fn end_unfinished(&mut self, terms: &Terms, now: Instant) {
        if self.complete
            && let (Some(success), Some(response)) = (terms.grpc, &self.response)
        {
            let result = self.grpc_result(response.status, success);
            return self.end_complete(result, terms, now);
        }
        let Failure { outcome, error, .. } = self.is_two_way();
        self.end_with(outcome, error, now);
    }

    /// Whether it has turned out to have failed since this was asked last.
    pub(in crate::exchange) fn take_late_failure(&mut self) -> bool {
        std::mem::take(&mut self.late_failure)
    }

    /// The response is complete: what it amounts to.
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
        // Passed on, it would tell a caller that all is well.
        let error = contradicts.then(|| {
            let detail = format!("the endpoint answered {status} in HTTP and 0, which is ok, in gRPC");
            LegError::new(ProxyError::HttpProtocolError, detail)
        });
        LegResult { outcome, status: Some(status), error }
    }

    /// Its answer is longer than what is held of one.
    pub(super) fn too_long(&mut self) -> Failure {
        self.code = Some(grpc::RESOURCE_EXHAUSTED);
        let detail = format!("the answer is longer than {}, the limit here", runtime::size::ByteSize(self.hold as u64));
        Failure::new(Outcome::ServerError, ProxyError::HttpResponseBodySize, detail)
    }

    /// Its endpoint answers while the request goes on, which goes on only after the answer: of several there is no one answer yet.
    fn is_two_way(&mut self) -> Failure {
        self.code = Some(grpc::UNIMPLEMENTED);
        let detail = "the endpoint has answered, and the request does not end before its caller has the answer: a call in which \
                      each side waits for the other needs a route with require: any";
        Failure::new(Outcome::ClientError, ProxyError::HttpRequestError, detail)
    }
}
