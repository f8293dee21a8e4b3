//! Independent HTTP clients, each run to its end: curl and h2load.

use std::{process::Command, time::Duration};

use tempfile::NamedTempFile;

use crate::{eventually::scaled, packages, process::Process};

/// Time limit of one run.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs curl with these arguments, without its configuration and its progress, and returns what it wrote.
///
/// # Panics
/// Where it is not installed, fails or does not end, with what it said.
pub async fn curl<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> String {
    let own = ["--disable", "--silent", "--show-error", "--noproxy", "*"].map(String::from);
    run("curl", own.into_iter().chain(arguments.into_iter().map(|argument| argument.as_ref().to_owned()))).await
}

/// Runs h2load with these arguments, and returns what it wrote.
///
/// # Panics
/// Where it is not installed, fails or does not end, with what it said.
pub async fn h2load<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> String {
    run("h2load", arguments.into_iter().map(|argument| argument.as_ref().to_owned())).await
}

async fn run(name: &str, arguments: impl Iterator<Item = String>) -> String {
    let program = packages::program(name).unwrap_or_else(|e| panic!("{e}"));
    let log = NamedTempFile::new().expect("a temporary file can be made");
    let mut command = Command::new(program);
    command.args(arguments);
    let shown = format!("{command:?}");
    let mut process = Process::spawn_command(command, log.path()).unwrap_or_else(|e| panic!("{e}"));
    let ended = process.wait(scaled(PATIENCE)).await;
    let written = std::fs::read(log.path()).expect("its output can be read");
    let output = String::from_utf8_lossy(&written).into_owned();
    match ended {
        Some(status) if status.success() => output,
        Some(status) => panic!("{shown} ended with {status}:\n{output}"),
        None => panic!("{shown} has not ended after {:?}:\n{output}", scaled(PATIENCE)),
    }
}
