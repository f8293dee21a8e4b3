//! Failures of lists and watches, by kind, with explanations.

use std::{error::Error, time::Duration};

use kube::core::Status;

use super::{Scope, WatchKey};

/// A list or a watch that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The kind of failure.
    pub reason: Reason,
    /// The verb of RBAC rules: `list` or `watch`.
    verb: &'static str,
    /// The error message.
    text: String,
}

/// The kinds of failure; each is a value of the metric's label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 403: a role lacks a verb.
    Forbidden,
    /// 401: the credentials are not accepted.
    Unauthorized,
    /// 410, and other answers that require a new list: the version is too old, or too new after etcd was restored.
    Gone,
    /// Another answer of the API server.
    Server,
    /// The API server was not reached, or the connection ended.
    Transport,
    /// No answer in time.
    Timeout,
    /// The answer cannot be parsed.
    Decode,
}

impl Failure {
    /// Classifies an error of kube.
    pub(crate) fn of(verb: &'static str, error: &kube::Error) -> Self {
        let reason = match error {
            kube::Error::Api(status) => match status.code {
                401 => Reason::Unauthorized,
                403 => Reason::Forbidden,
                // 400: the version is malformed. Too large: the server has not reached it.
                400 | 410 => Reason::Gone,
                _ if has_cause(status, "ResourceVersionTooLarge") => Reason::Gone,
                _ => Reason::Server,
            },
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Reason::Decode,
            kube::Error::Auth(_) => Reason::Unauthorized,
            _ => Reason::Transport,
        };
        let text = match error {
            kube::Error::Api(status) => status.message.clone(),
            other => chain(other),
        };
        Self { reason, verb, text }
    }

    pub(crate) fn no_answer(verb: &'static str, within: Duration) -> Self {
        Self { reason: Reason::Timeout, verb, text: format!("no answer within {within:?}") }
    }

    pub(super) fn silent() -> Self {
        let text = "the API server did not end the watch when it should have: the connection is dead";
        Self { reason: Reason::Timeout, verb: "watch", text: text.into() }
    }

    pub(super) fn no_version() -> Self {
        Self { reason: Reason::Decode, verb: "list", text: "the list has no metadata.resourceVersion".into() }
    }

    /// The message for operators: what failed, where, and for a missing right how to grant it.
    pub(super) fn explain(&self, key: &WatchKey) -> String {
        let Self { reason, verb, text } = self;
        match reason {
            Reason::Forbidden => {
                let grant = match key.scope() {
                    Scope::All => "a ClusterRole".to_owned(),
                    Scope::Namespace(namespace) => format!("a Role in namespace {namespace}"),
                };
                format!(
                    "RBAC: the verb \"{verb}\" on {} is missing in {}: bind the service account to {grant} with the verbs \
                     list, watch ({text})",
                    key.resource(),
                    key.place(),
                )
            }
            Reason::Unauthorized => format!("the API server does not accept the credentials for {verb} {key}: {text}"),
            _ => format!("cannot {verb} {key}: {text}"),
        }
    }
}

/// Whether the API server names this cause, which has no status code of its own.
fn has_cause(status: &Status, reason: &str) -> bool {
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| cause.reason == reason))
}

impl Reason {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::Gone => "gone",
            Self::Server => "server",
            Self::Transport => "transport",
            Self::Timeout => "timeout",
            Self::Decode => "decode",
        }
    }
}

/// An error with its causes: the outermost of a connection error rarely says anything.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    // Bounded, because a cause may be its own cause.
    for _ in 0..8 {
        let Some(inner) = cause else { break };
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
