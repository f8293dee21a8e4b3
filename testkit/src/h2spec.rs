//! h2spec: an independent suite of 145 checks of how a server treats valid and invalid frames.

use std::{net::SocketAddr, path::PathBuf, sync::LazyLock, time::Duration};

use tempfile::NamedTempFile;

use crate::{eventually::scaled, go::GoBuild, process::Process};

/// Time limit of all checks: each one that fails waits for a time-out of seconds.
const PATIENCE: Duration = Duration::from_secs(240);

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its last line: how many checks there were, and how many of them passed.
    pub summary: String,
    /// Everything it wrote.
    pub output: String,
}

/// The transport below HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Clear text: HTTP/2 by prior knowledge.
    Clear,
    /// TLS, with `h2` by ALPN. The server's certificate is not verified.
    Tls,
}

/// Runs every check against the server that listens there, with requests for `/`.
///
/// # Panics
/// Where it cannot be built or started, or does not end.
pub async fn run(server: SocketAddr, transport: Transport) -> Outcome {
    let built = tokio::task::spawn_blocking(build).await;
    let program = built.expect("building does not panic").unwrap_or_else(|e| panic!("{e}"));
    let log = NamedTempFile::new().expect("a temporary file can be made");
    // The time-out of a check in seconds: the default of 2 is too short on a busy machine.
    let patience = scaled(Duration::from_secs(5)).as_secs().max(5);
    let (host, port) = (server.ip(), server.port());
    let mut args = vec![format!("--host={host}"), format!("--port={port}"), format!("--timeout={patience}")];
    if transport == Transport::Tls {
        args.extend(["--tls", "--insecure"].map(String::from));
    }
    let mut process = Process::spawn(&program, &args, log.path()).unwrap_or_else(|e| panic!("{e}"));
    let ended = process.wait(scaled(PATIENCE)).await;
    let output = std::fs::read_to_string(log.path()).expect("its output can be read");
    assert!(ended.is_some(), "h2spec has not ended after {:?}:\n{output}", scaled(PATIENCE));
    let summary = output.lines().rev().find(|line| line.contains(" passed, ")).unwrap_or_default().trim().to_owned();
    Outcome { summary, output }
}

/// Its program, built if need be.
///
/// # Errors
/// Why it cannot be built, and what to do about it.
pub fn build() -> Result<PathBuf, String> {
    // A failure is kept, so that not every test tries again.
    static BUILT: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let build = GoBuild {
            name: "h2spec",
            folder: concat!(env!("CARGO_MANIFEST_DIR"), "/h2spec"),
            module_file: "go.mod",
            sources: &[],
            packages: &["github.com/summerwind/h2spec/cmd/h2spec"],
            renamed: &[],
            linked: String::new(),
            what: "h2spec once (about a minute on 2 cores)",
            instead: "",
        };
        build.directory().map(|directory| directory.join("h2spec"))
    });
    BUILT.clone()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn it_has_145_checks() {
        let program = build().unwrap_or_else(|e| panic!("{e}"));
        let listed = Command::new(program).arg("--dryrun").output().expect("it can be run");
        let listed = String::from_utf8(listed.stdout).expect("it writes text");
        let is_check = |line: &&str| line.trim_start().split_once(": ").is_some_and(|(n, _)| n.parse::<u8>().is_ok());
        assert_eq!(listed.lines().filter(is_check).count(), 145, "{listed}");
    }
}
