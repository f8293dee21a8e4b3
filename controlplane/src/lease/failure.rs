//! Failures of requests for a lock, with explanations.

use std::{fmt, time::Duration};

use super::record::Malformed;
use crate::watch::chain;

/// A request for a lock that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LockFailure {
    pub(super) reason: LockFailureReason,
    /// The verb of RBAC rules.
    verb: &'static str,
    /// Resource, namespace and name.
    place: String,
    text: String,
    /// Whether the answer's status is 400 to 499.
    refused: bool,
}

/// The kinds of failure; each is a value of the metric's label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockFailureReason {
    /// 409: the lock has changed since it was read.
    Conflict,
    /// 403: a role lacks a verb.
    Forbidden,
    /// 401: the credentials are not accepted.
    Unauthorized,
    /// Another answer of the API server.
    Server,
    /// The API server was not reached, or the connection ended.
    Transport,
    /// No answer in time.
    Timeout,
    /// The answer or the record cannot be parsed.
    Malformed,
}

impl LockFailure {
    pub(super) fn of(verb: &'static str, place: String, error: &kube::Error) -> Self {
        let reason = match error {
            kube::Error::Api(status) => match status.code {
                401 => LockFailureReason::Unauthorized,
                403 => LockFailureReason::Forbidden,
                409 => LockFailureReason::Conflict,
                _ => LockFailureReason::Server,
            },
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => LockFailureReason::Malformed,
            kube::Error::Auth(_) => LockFailureReason::Unauthorized,
            _ => LockFailureReason::Transport,
        };
        let text = match error {
            kube::Error::Api(status) => status.message.clone(),
            other => chain(other),
        };
        let refused = matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code));
        Self { reason, verb, place, text, refused }
    }

    pub(super) fn no_answer(verb: &'static str, place: String, within: Duration) -> Self {
        Self {
            reason: LockFailureReason::Timeout,
            verb,
            place,
            text: format!("no answer within {within:?}"),
            refused: false,
        }
    }

    pub(super) fn malformed(verb: &'static str, place: String, malformed: &Malformed) -> Self {
        Self { reason: LockFailureReason::Malformed, verb, place, text: malformed.to_string(), refused: false }
    }

    /// Whether a write that failed in this way certainly did not happen, because the API server gives this answer before it writes.
    pub(super) fn nothing_happened(&self) -> bool {
        self.refused
    }

    /// Marks that another object was written before this failure.
    pub(super) fn after_another_write(self) -> Self {
        Self { refused: false, ..self }
    }

    pub(super) fn verb(&self) -> &'static str {
        self.verb
    }
}

impl fmt::Display for LockFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, verb, place, text, refused: _ } = self;
        match reason {
            LockFailureReason::Forbidden => write!(
                f,
                "RBAC: the verb \"{verb}\" on {place} is missing: bind the service account to a Role in its namespace with \
                 the verbs get, create, update ({text})"
            ),
            LockFailureReason::Unauthorized => {
                write!(f, "the API server does not accept the credentials for {verb} {place}: {text}")
            }
            LockFailureReason::Malformed => {
                write!(f, "cannot {verb} {place}: {text}; repair the lock, or delete it if no candidate leads")
            }
            _ => write!(f, "cannot {verb} {place}: {text}"),
        }
    }
}

impl LockFailureReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::Server => "server",
            Self::Transport => "transport",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
        }
    }
}
