//! A broadcaster written with pingora, from `rivals/pingora`: it waits for all endpoints, as Fanfare does.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{ACCESS_LOG, AccessLog, Plan};
use crate::{machine, protocols::Http};

/// The folder of its workspace.
fn folder() -> PathBuf {
    machine::workspace().join("loadtest/rivals/pingora")
}

/// Builds it, in a target folder of its own. Returns the path of the program.
pub(super) fn build() -> Result<PathBuf, String> {
    eprintln!("building the broadcaster on pingora (release)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = machine::target().join("loadtest/pingora");
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--target-dir"]).arg(&target).current_dir(folder());
    match command.status() {
        Ok(status) if status.success() => Ok(target.join("release/rival-pingora")),
        Ok(status) => Err(format!("cargo build --release in loadtest/rivals/pingora: {status}")),
        Err(error) => Err(format!("cargo cannot be started: {error}")),
    }
}

/// The version of pingora that is locked.
pub(super) fn version() -> Option<String> {
    let lock = std::fs::read_to_string(folder().join("Cargo.lock")).ok()?;
    let (_, package) = lock.split_once("name = \"pingora-core\"\nversion = \"")?;
    package.split('"').next().map(str::to_owned)
}

pub(super) fn command(program: &Path, plan: &Plan<'_>, port: u16) -> Vec<String> {
    let mut command = vec![program.display().to_string(), "--listen".to_owned(), format!("127.0.0.1:{port}")];
    let endpoints = plan.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    command.extend(["--endpoints".to_owned(), endpoints, "--threads".to_owned(), plan.threads.to_string()]);
    let log = plan.work.join(ACCESS_LOG).display().to_string();
    match plan.log {
        AccessLog::Off => {}
        AccessLog::Text => command.extend(["--access-log-text".to_owned(), log]),
        AccessLog::Json => command.extend(["--access-log-json".to_owned(), log]),
    }
    if plan.protocols.client == Http::Two {
        command.push("--http2-clients".to_owned());
    }
    if plan.protocols.endpoint == Http::Two {
        command.push("--http2-endpoints".to_owned());
    }
    command
}
