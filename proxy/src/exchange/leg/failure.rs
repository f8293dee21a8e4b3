//! The failure of one attempt of a leg.

use std::{borrow::Cow, io};

use runtime::tls;

use super::wire;
use crate::{
    grpc::Code,
    multiplex::LinkEnd,
    outcome::{LegError, Outcome},
    proxy_error::ProxyError,
};

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    pub(super) error: LegError,
    /// Whether the endpoint has certainly not processed the request.
    pub(super) is_unprocessed: bool,
    /// Its gRPC status; by default that of the outcome.
    pub(super) code: Option<Code>,
}

impl Failure {
    #[cold]
    pub(super) fn new(outcome: Outcome, kind: ProxyError, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, error: LegError::new(kind, detail), is_unprocessed: false, code: None }
    }

    #[cold]
    pub(super) fn connect(error: &io::Error) -> Self {
        // The connection was established, but HTTP/2 on it failed.
        if let Some(end) = error.get_ref().and_then(|inner| inner.downcast_ref::<LinkEnd>()) {
            return Self { is_unprocessed: true, ..wire::failure_of_connection(end) };
        }
        Self { outcome: Outcome::Connect, error: LegError::connect(error), is_unprocessed: true, code: None }
    }

    #[cold]
    pub(super) fn protocol(detail: String) -> Self {
        Self::new(Outcome::Protocol, ProxyError::HttpProtocolError, detail)
    }

    #[cold]
    pub(super) fn io(error: &io::Error, doing: &str) -> Self {
        if let Some(why) = tls::explain(error, tls::Side::Endpoint) {
            return Self::new(Outcome::Reset, ProxyError::TlsAlertReceived, why);
        }
        Self::new(Outcome::Reset, ProxyError::ConnectionTerminated, format!("{doing}: {error}"))
    }
}
