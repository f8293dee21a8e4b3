//! Runs the credential plugin of a kubeconfig (`exec`), with a time limit and log messages.

use std::{
    convert::Infallible,
    fmt, io,
    process::{Command, Stdio},
    time::Duration,
};

use hyper::header::HeaderValue;
use jiff::Timestamp;
use kube::config::{Cluster, ExecConfig, ExecInteractiveMode};
use runtime::process_group::ProcessGroup;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, time::timeout};
use tracing::{info, warn};

use super::read::{Identity, Unsendable, bearer};

/// The time limit of a plugin, which may log in somewhere, but without user input.
pub(super) const PLUGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// The time after which the log says that the plugin is still running.
const SLOW_WARNING_DELAY: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The environment variable with the request for the plugin.
const INFO_VARIABLE: &str = "KUBERNETES_EXEC_INFO";

/// The program, its arguments and its environment.
#[derive(Clone, PartialEq)]
pub(super) struct Plugin {
    command: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// The `ExecCredential` for the plugin.
    info: Value,
    /// The hint on how to install it (`installHint`).
    hint: Option<String>,
}

/// The credentials that a plugin returns.
pub(super) struct Credential {
    /// The field `Authorization`.
    pub(super) authorization: Option<HeaderValue>,
    pub(super) identity: Option<Identity>,
    /// When they expire.
    pub(super) until: Option<Timestamp>,
}

/// Why a plugin returned no credentials. Neither its arguments nor its output are shown, because they may contain secrets.
#[derive(Debug, thiserror::Error)]
#[error("the credential plugin {command} {why}")]
pub struct PluginError {
    command: String,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("cannot be started: {0}{hint}", hint = .1.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Start(io::Error, Option<String>),
    #[error("did not end within {PLUGIN_TIMEOUT:?} and was killed")]
    Slow,
    #[error("ended with {0}; what it wrote to stderr says why")]
    Failed(std::process::ExitStatus),
    #[error("cannot be waited for: {0}")]
    Lost(io::Error),
    #[error("wrote no ExecCredential to stdout{0}")]
    Unreadable(String),
    #[error("gives neither a token nor a certificate with its key")]
    Nothing,
    #[error("gives a token that cannot be sent: {0}")]
    Token(Unsendable),
    #[error("gives the expirationTimestamp {0:?}, which is not a time")]
    Expiry(String),
}

#[derive(Deserialize)]
struct ExecCredential {
    kind: Option<String>,
    status: Option<ExecCredentialStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredentialStatus {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Plugin {
    /// Reads the plugin of a kubeconfig's user. The `authority` is the cluster's certificate authority (PEM), in base64.
    ///
    /// # Errors
    /// A text that names the missing or invalid field.
    pub(super) fn new(exec: &ExecConfig, cluster: &Cluster, authority: Option<String>) -> Result<Self, String> {
        let command = exec.command.clone().filter(|command| !command.is_empty());
        let command = command.ok_or("exec: command is missing")?;
        if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
            return Err(format!(
                "exec: {command} needs user input (interactiveMode: Always), which a server process cannot give"
            ));
        }
        let version = exec.api_version.clone().unwrap_or_else(|| "client.authentication.k8s.io/v1".to_owned());
        let mut spec = json!({ "interactive": false });
        if exec.provide_cluster_info {
            spec["cluster"] = json!({
                "server": cluster.server,
                "tls-server-name": cluster.tls_server_name,
                "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
                "certificate-authority-data": authority,
                "proxy-url": cluster.proxy_url,
                "config": cluster.extensions.iter().flatten()
                    .find(|extension| extension.name == "client.authentication.k8s.io/exec")
                    .map(|extension| &extension.extension),
            });
        }
        let info = json!({ "apiVersion": version, "kind": "ExecCredential", "spec": spec });
        let variable = |pair: &std::collections::HashMap<String, String>| {
            Some((pair.get("name").cloned()?, pair.get("value").cloned().unwrap_or_default()))
        };
        let environment: Vec<_> = exec.env.iter().flatten().filter_map(variable).collect();
        let texts = exec.args.iter().flatten().chain(environment.iter().flat_map(|(name, value)| [name, value]));
        if texts.chain([&command]).any(|text| text.contains('\0'))
            || environment.iter().any(|(name, _)| name.is_empty() || name.contains('='))
        {
            return Err(
                "exec: its command, args or env have a NUL character, or a variable has an empty name or one with ="
                    .to_owned(),
            );
        }
        let hint = exec.install_hint.as_deref().map(|hint| hint.split_whitespace().collect::<Vec<_>>().join(" "));
        Ok(Self { command, arguments: exec.args.clone().unwrap_or_default(), environment, info, hint })
    }

    /// Runs it. Dropping the future kills the program.
    pub(super) async fn ask(&self) -> Result<Credential, PluginError> {
        let failed = |why| PluginError { command: self.command.clone(), why };
        info!(plugin = self.command, "asking the credential plugin, for at most {PLUGIN_TIMEOUT:?}");
        let mut program = self.start().map_err(|error| failed(Why::Start(error, self.hint.clone())))?;
        let telling = async {
            tokio::time::sleep(SLOW_WARNING_DELAY).await;
            warn!(
                plugin = self.command,
                "still waiting for the credential plugin; requests to the API server wait for it"
            );
            std::future::pending::<Infallible>().await
        };
        let output = tokio::select! {
            output = timeout(PLUGIN_TIMEOUT, output(&mut program)) => output.map_err(|_elapsed| failed(Why::Slow))?,
            never = telling => match never {},
        };
        read(&output.map_err(failed)?).map_err(failed)
    }

    fn start(&self) -> io::Result<ProcessGroup> {
        let mut command = Command::new(&self.command);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(INFO_VARIABLE, self.info.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        ProcessGroup::start(&mut command)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("command", &self.command).finish_non_exhaustive()
    }
}

/// What it has written when it has ended well.
async fn output(program: &mut ProcessGroup) -> Result<Vec<u8>, Why> {
    let mut output = Vec::new();
    if let Some(stdout) = program.take_stdout().map_err(Why::Lost)? {
        stdout.take(MAX_BYTES).read_to_end(&mut output).await.map_err(Why::Lost)?;
    }
    let status = program.ended().await.map_err(Why::Lost)?;
    // Processes that it left behind on purpose stay.
    program.leave();
    if status.success() { Ok(output) } else { Err(Why::Failed(status)) }
}

/// JSON or YAML, because other clients accept both.
fn read(output: &[u8]) -> Result<Credential, Why> {
    let text = std::str::from_utf8(output).map_err(|_| Why::Unreadable(", but bytes that are not UTF-8".to_owned()))?;
    let answer = runtime::config::parse(text).map_err(|problem| {
        // Only the place is reported, because the message may show secrets.
        let place = if problem.path.is_empty() { String::new() } else { format!(" ({})", problem.path) };
        Why::Unreadable(place)
    })?;
    let answer: ExecCredential = serde_yaml::from_value(answer).map_err(|_shown| Why::Unreadable(String::new()))?;
    if answer.kind.is_some_and(|kind| kind != "ExecCredential") {
        return Err(Why::Unreadable(String::new()));
    }
    let status = answer.status.ok_or_else(|| Why::Unreadable(", but one without a status".to_owned()))?;
    let until = status.expiration_timestamp.filter(|until| !until.is_empty());
    let until = until.map(|until| until.parse().map_err(|_| Why::Expiry(until))).transpose()?;
    let token = status.token.filter(|token| !token.trim().is_empty());
    let authorization = token.map(|token| bearer(&token)).transpose().map_err(Why::Token)?;
    let identity = match (status.client_certificate_data, status.client_key_data) {
        (Some(certificate), Some(key)) => {
            Some(Identity { certificate: certificate.into_bytes(), key: key.into_bytes() })
        }
        (None, None) if authorization.is_some() => None,
        _ => return Err(Why::Nothing),
    };
    Ok(Credential { authorization, identity, until })
}
