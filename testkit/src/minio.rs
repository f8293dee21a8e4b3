//! A real MinIO, as an independent S3 store.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{client, eventually::scaled, go::GoBuild, process::Process};

/// Time limit of a start.
const PATIENCE: Duration = Duration::from_secs(120);

/// Interval between two checks whether it is ready.
const POLL: Duration = Duration::from_millis(50);

/// Number of ports to try: another process may take a port between its choice and its use.
const TRIES: usize = 5;

/// A running MinIO. Dropping it ends it, and prints its log if the test has failed.
#[derive(Debug)]
pub struct Minio {
    process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

/// The MinIO that the tests of one process share, each in a bucket of its own. It ends with the process.
///
/// # Panics
/// Where it cannot be started.
pub async fn shared() -> &'static Minio {
    static MINIO: OnceCell<Minio> = OnceCell::const_new();
    MINIO.get_or_init(Minio::start).await
}

impl Minio {
    /// The access key and the secret key of its administrator.
    pub const KEYS: (&'static str, &'static str) = ("administrator", "secret-of-a-test-store");

    /// Starts one with an empty directory, and returns when it is ready.
    ///
    /// # Panics
    /// Where it cannot be built or does not get ready, with its log.
    pub async fn start() -> Self {
        let built = tokio::task::spawn_blocking(build).await;
        let program = built.expect("building does not panic").unwrap_or_else(|e| panic!("{e}"));
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        for _try in 0..TRIES {
            if let Some((process, address)) = try_start(&program, &directory).await {
                return Self { process, address, _directory: directory };
            }
        }
        panic!("MinIO found no free port {TRIES} times in a row");
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes it hang: connections stay open and nothing answers. Undone by [`Minio::resume`].
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- minio\n{}", self.process.tail(40));
        }
    }
}

/// Its program, built if need be. Call it outside of a network namespace, in which it cannot be built.
///
/// # Errors
/// Why it cannot be built, and what to do about it.
pub fn build() -> Result<PathBuf, String> {
    // A failure is kept, so that not every test tries again.
    static BUILT: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let build = GoBuild {
            name: "minio",
            folder: concat!(env!("CARGO_MANIFEST_DIR"), "/minio"),
            module_file: "go.mod",
            sources: &[],
            packages: &["github.com/minio/minio"],
            renamed: &[],
            linked: String::new(),
            what: "MinIO once (1 to 3 minutes on 2 cores)",
            instead: "",
        };
        build.directory().map(|directory| directory.join("minio"))
    });
    BUILT.clone()
}

/// Starts it on a port that is free at this moment; `None` if another process takes that port first.
async fn try_start(program: &Path, directory: &TempDir) -> Option<(Process, SocketAddr)> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = free.expect("a port of 127.0.0.1 is free");
    let args =
        ["server", "--quiet", "--anonymous", "--address", &address.to_string(), "--console-address", "127.0.0.1:0"];
    let mut args: Vec<String> = args.map(String::from).into();
    args.push(directory.path().join("data").display().to_string());
    let log = directory.path().join("log");
    let (access, secret) = Minio::KEYS;
    // Switches off telemetry and update checks: a test must not use the network.
    let environment = [
        ("MINIO_ROOT_USER", access),
        ("MINIO_ROOT_PASSWORD", secret),
        ("MINIO_BROWSER", "off"),
        ("MINIO_UPDATE", "off"),
        ("MINIO_CALLHOME_ENABLE", "off"),
        ("HOME", directory.path().to_str().expect("a temporary path is UTF-8")),
    ];
    let mut command = Command::new(program);
    command.args(args).envs(environment);
    let mut process = Process::spawn_command(command, &log).unwrap_or_else(|e| panic!("{e}"));
    let deadline = Instant::now() + scaled(PATIENCE);
    loop {
        if let Some(status) = process.ended() {
            let log = process.tail(40);
            assert!(log.contains("in use"), "MinIO ended ({status}):\n{log}");
            return None;
        }
        assert!(Instant::now() < deadline, "MinIO is not ready after {PATIENCE:?}:\n{}", process.tail(40));
        // `/minio/health/ready` succeeds too early: requests for objects still get 503 until their rights are loaded.
        if tokio::net::TcpStream::connect(address).await.is_ok()
            && client::get(address, "/bucket/key").await.status == 403
        {
            return Some((process, address));
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_and_refuses_anonymous_requests() {
        let minio = shared().await;
        let answer = client::get(minio.address(), "/bucket/key").await;
        assert_eq!(answer.status, 403, "{answer}");
    }
}
