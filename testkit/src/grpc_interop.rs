//! The server and the client of gRPC's own interoperability tests: independent peers that make calls of every kind.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

use tempfile::{NamedTempFile, TempDir};

use crate::{eventually, eventually::scaled, go::GoBuild, process::Process};

/// Time limit of a case: the longest makes a hundred calls, or makes calls for ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The text that the server logs before its address.
const LISTENS: &str = "interop server listening on ";

/// The service config with which the client records load reports.
const LOAD_REPORTS: &str = r#"{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}"#;

/// A server of the interoperability tests. Dropping it ends it.
#[derive(Debug)]
pub struct GrpcServer {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

/// Files of a certificate and its key.
#[derive(Clone, Copy, Debug)]
pub struct ServerFiles<'a> {
    /// The certificate.
    pub cert: &'a Path,
    /// Its key.
    pub key: &'a Path,
}

/// The server certificates that a TLS client accepts.
#[derive(Clone, Copy, Debug)]
pub struct Trusted<'a> {
    /// The file with the certificate of the authority.
    pub ca: &'a Path,
    /// The name that the server's certificate must have.
    pub name: &'a str,
}

impl GrpcServer {
    /// Starts one on a free port, by TLS where it is given a certificate.
    ///
    /// # Panics
    /// If the server cannot be built, or does not come up.
    pub async fn start(tls: Option<ServerFiles<'_>>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut command = program("server").await;
        command.arg("--port=0");
        if let Some(ServerFiles { cert, key }) = tls {
            let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
            command.args(["--use_tls".to_owned(), file("tls_cert_file", cert), file("tls_key_file", key)]);
        }
        let process = Process::spawn_command(command, &folder.path().join("log")).unwrap_or_else(|e| panic!("{e}"));
        let port = eventually!("the port of a gRPC server", port(&process.tail(40)), Option::is_some);
        let address = (Ipv4Addr::LOCALHOST, port.expect("the wait above ends with a port")).into();
        Self { process, address, _folder: folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the gRPC server at {}:\n{}", self.address, self.process.tail(40));
        }
    }
}

/// The port that the server's log names.
fn port(log: &str) -> Option<u16> {
    let line = log.lines().find_map(|line| line.split_once(LISTENS))?.1;
    line.rsplit_once(':')?.1.trim().parse().ok()
}

/// Runs a case of the client against the server that listens there.
///
/// # Errors
/// The client's output, if it found a fault.
///
/// # Panics
/// Where it cannot be built, or does not end.
pub async fn run_case(case: &str, server: SocketAddr, tls: Option<Trusted<'_>>) -> Result<(), String> {
    let log = NamedTempFile::new().expect("a temporary file can be made");
    let mut command = program("client").await;
    let (host, port) = (server.ip(), server.port());
    command.args([format!("--server_host={host}"), format!("--server_port={port}"), format!("--test_case={case}")]);
    if let Some(Trusted { ca, name }) = tls {
        command.args(["--use_tls", "--use_test_ca", &format!("--server_host_override={name}")]);
        command.arg(format!("--ca_file={}", ca.display()));
    }
    // For cases with many calls: the time limit of each call in milliseconds, and of all calls in seconds.
    let (each, all) = (scaled(Duration::from_secs(10)).as_millis(), scaled(PATIENCE).as_secs());
    command.arg(format!("--soak_per_iteration_max_acceptable_latency_ms={each}"));
    command.arg(format!("--soak_overall_timeout_seconds={all}"));
    if case.starts_with("orca") {
        // The balancer that records the load which servers report.
        command.arg(format!("--service_config_json={LOAD_REPORTS}"));
    }
    let mut process = Process::spawn_command(command, log.path()).unwrap_or_else(|e| panic!("{e}"));
    match process.wait(scaled(PATIENCE)).await {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{case} ended with {status}:\n{}", process.tail(40))),
        None => panic!("{case} has not ended after {:?}:\n{}", scaled(PATIENCE), process.tail(40)),
    }
}

/// One of the two programs, with logging on.
async fn program(name: &str) -> Command {
    let built = tokio::task::spawn_blocking(build).await;
    let directory = built.expect("building does not panic").unwrap_or_else(|e| panic!("{e}"));
    let mut command = Command::new(directory.join(name));
    command.env("GRPC_GO_LOG_SEVERITY_LEVEL", "info").env_remove("GRPC_GO_LOG_VERBOSITY_LEVEL");
    // The environment may route loopback through a proxy.
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    command
}

/// The directory with its programs, `server` and `client`, which are built if need be.
///
/// # Errors
/// Why they cannot be built, and what to do about it.
pub fn build() -> Result<PathBuf, String> {
    // A failure is kept, so that not every test tries again.
    static BUILT: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let build = GoBuild {
            name: "grpc-interop",
            folder: concat!(env!("CARGO_MANIFEST_DIR"), "/grpc_interop"),
            module_file: "go.mod",
            sources: &[],
            packages: &["google.golang.org/grpc/interop/server", "google.golang.org/grpc/interop/client"],
            renamed: &[],
            linked: String::new(),
            what: "the server and the client of gRPC's interoperability tests once (about 2 minutes on 2 cores)",
            instead: "",
        };
        build.directory()
    });
    BUILT.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_client_and_its_server_understand_each_other() {
        let server = GrpcServer::start(None).await;
        for case in ["empty_unary", "server_streaming", "ping_pong"] {
            run_case(case, server.address(), None).await.unwrap_or_else(|e| panic!("{e}"));
        }
        run_case("no_such_case", server.address(), None).await.expect_err("a fault is told");
    }
}
