//! The handshake with an endpoint.

use std::io;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsConnector, TlsStream};

use super::explain::{Side, explain};
use super::read_ahead::ReadAhead;
use super::{Protocol, Stream, Target, Turns};

/// An endpoint after its handshake.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: Stream,
    /// The negotiated protocol.
    pub protocol: Protocol,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint has not done its part in time.
    #[error("the endpoint has not finished the TLS handshake in time")]
    TimedOut,
    /// The endpoint has gone.
    #[error("the endpoint has closed the connection during the TLS handshake")]
    Closed,
    /// The certificate of the endpoint is not good; the text says why.
    #[error("{0}")]
    Certificate(String),
    /// The endpoint has ended the handshake with an alert.
    #[error("{0}")]
    Alert(String),
    /// The handshake has failed; the text says why.
    #[error("{0}")]
    Refused(String),
}

impl ConnectError {
    /// The word of RFC 9209 (`Proxy-Status`) for it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TimedOut => "connection_timeout",
            Self::Closed => "connection_terminated",
            Self::Certificate(_) => "tls_certificate_error",
            Self::Alert(_) => "tls_alert_received",
            Self::Refused(_) => "tls_protocol_error",
        }
    }

    fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match explain(error, Side::Endpoint) {
            Some(text) => match inner {
                Some(rustls::Error::InvalidCertificate(_)) => Self::Certificate(text),
                Some(rustls::Error::AlertReceived(_)) => Self::Alert(text),
                _ => Self::Refused(text),
            },
            None if matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe) => {
                Self::Closed
            }
            None => Self::Refused(format!("the TLS handshake has failed: {error}")),
        }
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::TimedOut => io::ErrorKind::TimedOut,
            ConnectError::Closed => io::ErrorKind::ConnectionReset,
            ConnectError::Certificate(_) | ConnectError::Alert(_) | ConnectError::Refused(_) => {
                io::ErrorKind::InvalidData
            }
        };
        Self::new(kind, error)
    }
}

/// Does the handshake with an endpoint. One that knows no ALPN speaks HTTP/1.1; where only HTTP/2 is offered that is a failure.
///
/// # Errors
/// The endpoint is not in time, or the handshake fails.
pub async fn connect(
    stream: TcpStream,
    target: &Target,
    turns: &Turns,
    deadline: Instant,
) -> Result<Connected, ConnectError> {
    let connector = TlsConnector::from(target.config());
    let handshake = turns.take(connector.connect(target.name().clone(), ReadAhead::new(stream)));
    let stream = timeout_at(deadline, handshake).await.map_err(|_| ConnectError::TimedOut)?;
    let stream = stream.map_err(|error| ConnectError::of(&error))?;
    let protocol = Protocol::agreed(stream.get_ref().1.alpn_protocol());
    if !target.protocols().is_empty() && !target.protocols().contains(&protocol) {
        let text = format!("the endpoint does not agree to speak {} (ALPN)", target.protocols()[0].alpn());
        return Err(ConnectError::Refused(text));
    }
    Ok(Connected { stream: Stream::Tls(Box::new(TlsStream::Client(stream))), protocol })
}
