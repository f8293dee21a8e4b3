//! How connections and streams end before their time.

use std::{io, sync::Arc};

use h2client::{ConnectionError, OpenError, Reason, StreamError};

use crate::http2::{guard::Abuse, translate::NotInHttp2};

/// Why a connection to an endpoint has ended.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LinkEnd {
    /// By the endpoint.
    #[error("the endpoint closed the connection")]
    Closed,
    /// By the endpoint, with GOAWAY.
    #[error("the endpoint closed the connection with GOAWAY ({0})")]
    Left(Reason),
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
    /// The endpoint broke the protocol.
    #[error("the endpoint violated HTTP/2: {0}")]
    Protocol(#[from] ConnectionError),
    /// The endpoint sent frames that cost much and do nothing.
    #[error("the endpoint abused HTTP/2: {0}")]
    Abuse(#[from] Abuse),
}

/// Why a stream has ended without a response, or in the middle of it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StreamFault {
    /// The endpoint has reset it.
    #[error("the endpoint reset the stream with {0}")]
    Reset(Reason),
    /// The endpoint broke the protocol.
    #[error("the endpoint violated HTTP/2: {0}")]
    Malformed(#[from] StreamError),
    /// The endpoint closes the connection, and has not begun with it.
    #[error("the endpoint closes the connection ({0}) and has not processed the request")]
    Refused(Reason),
    /// Its connection has ended.
    #[error("{end}")]
    Connection {
        /// Why.
        end: LinkEnd,
        /// Whether the head of the request had not left yet.
        is_unsent: bool,
    },
    /// It was not begun.
    #[error("{0}")]
    NotOpened(#[from] OpenError),
    /// The request has no form in HTTP/2.
    #[error(transparent)]
    NotInHttp2(#[from] NotInHttp2),
}

// === impl LinkEnd ===

impl LinkEnd {
    /// Whether the endpoint broke the protocol.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(self, Self::Protocol(_) | Self::Abuse(_))
    }
}

// === impl StreamFault ===

impl StreamFault {
    /// Whether the endpoint has certainly not processed the request (RFC 9113 section 8.7).
    pub(crate) fn is_unprocessed(&self) -> bool {
        match self {
            Self::Reset(reason) => *reason == Reason::REFUSED_STREAM,
            Self::Refused(_) | Self::NotOpened(_) => true,
            Self::Connection { is_unsent, .. } => *is_unsent,
            Self::Malformed(_) | Self::NotInHttp2(_) => false,
        }
    }
}
