//! What a leg produced, and what went wrong with it.

use crate::proxy_error::ProxyError;

use std::{borrow::Cow, io};

use runtime::tls::ConnectError;
use serde::Serialize;

/// What a leg produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A response whose status is a success.
    Ok,
    /// A response that is no success, with a status below 500.
    ClientError,
    /// A response that is no success, with a status of 500 or more.
    ServerError,
    /// No connection came about.
    Connect,
    /// The connection ended before the response was complete.
    Reset,
    /// Time ran out.
    Timeout,
    /// The endpoint did not speak HTTP/1.1.
    Protocol,
    /// Too slow in taking the request while others could do without it.
    Lagged,
    /// Not tried: the endpoint is not ready, or has too much in flight.
    Rejected,
    /// Given up because of the client.
    Cancelled,
    /// It did not begin, because an endpoint of an earlier wave was not ok.
    Skipped,
    /// Missed, or not sent because its endpoint is owed earlier ones; it is sent again.
    Deferred,
}

/// Why a leg failed without an answer of its endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct LegError {
    /// The error type of RFC 9209 section 2.3.
    pub kind: ProxyError,
    /// What happened, for people.
    pub detail: Cow<'static, str>,
}

/// How a leg ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegResult {
    /// What it produced.
    pub outcome: Outcome,
    /// The status of the response, where there was one.
    pub status: Option<u16>,
    /// Why there was none, or why it does not count.
    pub error: Option<LegError>,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::ClientError,
        Self::ServerError,
        Self::Connect,
        Self::Reset,
        Self::Timeout,
        Self::Protocol,
        Self::Lagged,
        Self::Rejected,
        Self::Cancelled,
        Self::Skipped,
        Self::Deferred,
    ];

    /// Its name in logs, metrics and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Lagged => "lagged",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Deferred => "deferred",
        }
    }

    /// The outcome of a complete response.
    #[must_use]
    pub fn of_status(status: u16, success: bool) -> Self {
        match status {
            _ if success => Self::Ok,
            500.. => Self::ServerError,
            _ => Self::ClientError,
        }
    }

    /// The status of the answer made up for a leg that ended like this without one of its endpoint.
    #[must_use]
    pub fn made_up_status(self, on_timeout: u16) -> u16 {
        match self {
            Self::Timeout => on_timeout,
            Self::Rejected | Self::Cancelled | Self::Skipped | Self::Deferred => 503,
            _ => 502,
        }
    }
}

impl LegError {
    /// An error with an RFC 9209 type and a text for people.
    #[cold]
    pub fn new(kind: ProxyError, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// What kept a connection from coming about.
    #[must_use]
    pub fn connect(error: &io::Error) -> Self {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<ConnectError>()) {
            let kind = match error {
                ConnectError::TimedOut => ProxyError::ConnectionTimeout,
                ConnectError::Closed => ProxyError::ConnectionTerminated,
                ConnectError::Certificate(_) => ProxyError::TlsCertificateError,
                ConnectError::Alert(_) => ProxyError::TlsAlertReceived,
                ConnectError::Refused(_) => ProxyError::TlsProtocolError,
            };
            return Self::new(kind, format!("cannot connect: {error}"));
        }
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => ProxyError::ConnectionRefused,
            io::ErrorKind::TimedOut => ProxyError::ConnectionTimeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ProxyError::DestinationIpUnroutable,
            _ if is_descriptors(error) => ProxyError::ProxyInternalError,
            _ => ProxyError::DestinationUnavailable,
        };
        if is_descriptors(error) {
            return Self::new(kind, "the proxy has run out of file descriptors: raise its limit (ulimit -n)");
        }
        Self::new(kind, format!("cannot connect: {error}"))
    }
}

/// Whether the process (EMFILE) or the system (ENFILE) is out of file descriptors.
fn is_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }
}
