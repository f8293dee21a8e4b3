//! How a remote cluster is reached, as it is written.

use std::path::PathBuf;

use controlplane::client::remote::{self, Secret, Trust, Url};
use runtime::config::Section;
use serde::Serialize;

use crate::settings::mirror as settings;

/// How a remote cluster is reached. Nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RemoteAccess {
    /// As a kubeconfig says.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// One of its contexts; none: the current one.
        context: Option<String>,
    },
    /// At this address.
    Server {
        /// The API server's URL.
        url: Url,
        /// How its certificate is verified.
        trust: Trust,
        /// Where the token is.
        token: Token,
    },
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Token {
    /// Nowhere: requests are anonymous.
    None,
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// Reads it. As in the tool that this replaces, a kubeconfig takes precedence over a URL, and a file with the token over
/// a variable.
pub(super) fn read(section: &Section<'_>) -> Option<RemoteAccess> {
    let kubeconfig = settings::TARGET_KUBE_CONFIG.read(section);
    let context = settings::TARGET_CONTEXT.read(section);
    let url = settings::REMOTE_API_URL.read(section);
    let ca_url = settings::REMOTE_CA_URL.read(section);
    let vouched_by = settings::REMOTE_CA_URL_TRUST.read(section);
    let ca_file = settings::REMOTE_CA_FILE.read(section);
    let token_file = settings::REMOTE_SA_TOKEN_PATH.read(section);
    let token_variable = settings::REMOTE_TOKEN_ENV.read(section);
    if let Some(path) = kubeconfig {
        return Some(RemoteAccess::Kubeconfig { path, context });
    }
    if vouched_by.is_some() && !settings::REMOTE_CA_URL.is_given(section) {
        let message = "is about ca_url, which is not there; for the API server itself use ca_file";
        settings::REMOTE_CA_URL_TRUST.problem(section, message);
    }
    let trust = match (ca_url, ca_file) {
        (Some(_), Some(_)) => {
            settings::REMOTE_CA_FILE.problem(section, "there is a ca_url as well: leave one of them out");
            return None;
        }
        (Some(url), None) => Trust::Url { url, vouched_by },
        (None, Some(file)) => Trust::File(file),
        (None, None) => Trust::System,
    };
    let token = match (token_file, token_variable) {
        (Some(file), _) => Token::File(file),
        (None, Some(variable)) => Token::Variable(variable),
        (None, None) => Token::None,
    };
    if !settings::TARGET_KUBE_CONFIG.is_given(section) && !settings::REMOTE_API_URL.is_given(section) {
        let message = "is missing: name a kubeconfig of the remote cluster, or its url";
        settings::TARGET_KUBE_CONFIG.problem(section, message);
    }
    Some(RemoteAccess::Server { url: url?, trust, token })
}

// === impl RemoteAccess ===

impl RemoteAccess {
    /// The access with the token that its variable holds.
    ///
    /// # Errors
    /// The environment variable that should have the token has none.
    pub(crate) fn resolve(&self) -> anyhow::Result<remote::Access> {
        Ok(match self.clone() {
            Self::Kubeconfig { path, context } => remote::Access::Kubeconfig { path, context },
            Self::Server { url, trust, token } => {
                let token = match token {
                    Token::None => remote::Token::None,
                    Token::File(path) => remote::Token::File(path),
                    Token::Variable(name) => {
                        let token = std::env::var(&name).unwrap_or_default();
                        anyhow::ensure!(
                            !token.trim().is_empty(),
                            "${name} should have the token for {url}, and is empty"
                        );
                        remote::Token::Given(Secret::new(&token))
                    }
                };
                remote::Access::Server { url, trust, token }
            }
        })
    }
}
