//! What a peer does wrong, and which error that is (RFC 9113 section 5.4).

use crate::Reason;

/// The peer broke the protocol in a way that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({reason})")]
pub struct ConnectionError {
    /// The error code.
    pub reason: Reason,
    /// What was wrong.
    pub what: &'static str,
}

/// The peer broke the protocol in a way that ends one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({reason})")]
pub struct StreamError {
    /// The error code.
    pub reason: Reason,
    /// What was wrong.
    pub what: &'static str,
}

impl ConnectionError {
    pub(crate) const fn new(reason: Reason, what: &'static str) -> Self {
        Self { reason, what }
    }

    pub(crate) const fn protocol(what: &'static str) -> Self {
        Self::new(Reason::PROTOCOL_ERROR, what)
    }

    pub(crate) const fn size(what: &'static str) -> Self {
        Self::new(Reason::FRAME_SIZE_ERROR, what)
    }
}

impl StreamError {
    pub(crate) const fn new(reason: Reason, what: &'static str) -> Self {
        Self { reason, what }
    }

    pub(crate) const fn malformed(what: &'static str) -> Self {
        Self::new(Reason::PROTOCOL_ERROR, what)
    }
}
