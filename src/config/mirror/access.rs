//! Reads the access to a remote cluster.

use controlplane::client::remote::{Access, Token, Trust};
use runtime::config::Section;

use crate::settings::mirror as settings;

/// Reads it. As in the tool that this replaces, a kubeconfig takes precedence over a URL, and a file with the token over
/// a variable.
pub(super) fn read(section: &Section<'_>) -> Option<Access> {
    let kubeconfig = settings::TARGET_KUBE_CONFIG.read(section);
    let context = settings::TARGET_CONTEXT.read(section);
    let url = settings::REMOTE_API_URL.read(section);
    let ca_url = settings::REMOTE_CA_URL.read(section);
    let vouched_by = settings::REMOTE_CA_URL_TRUST.read(section);
    let ca_file = settings::REMOTE_CA_FILE.read(section);
    let token_file = settings::REMOTE_SA_TOKEN_PATH.read(section);
    let token_variable = settings::REMOTE_TOKEN_ENV.read(section);
    if let Some(path) = kubeconfig {
        return Some(Access::Kubeconfig { path, context });
    }
    if vouched_by.is_some() && !settings::REMOTE_CA_URL.is_given(section) {
        let message = "belongs to ca_url, which is missing; for the API server itself use ca_file";
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
    Some(Access::Server { url: url?, trust, token })
}
