//! Leader elections across implementations: candidates that run client-go, and the audit of ours.

mod audit;
mod leader_fault;
mod poll;
mod records;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

pub use audit::{Audit, History, Process as AuditedProcess};
pub use leader_fault::{LeaderFault, Turn, turns};
pub use poll::{Answer, Answers, Poller};
pub use records::{Record, Records, Version};
use rustix::process::Signal;
use serde::Deserialize;
use tempfile::NamedTempFile;
use testkit::{
    go::GoBuild,
    process::{Process, tail},
};

/// A version of client-go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientGo {
    /// 0.35, which supports the lock type `leases` only.
    V0_35,
    /// 0.23, the last that supports `configmaps` and `endpoints`.
    V0_23,
}

/// The configuration of a candidate.
#[derive(Clone, Copy, Debug)]
pub struct Election<'a> {
    /// The lock's type, as client-go names it.
    pub lock_type: &'a str,
    /// The lock's namespace.
    pub namespace: &'a str,
    /// The lock's name.
    pub name: &'a str,
    /// The lease's duration, in whole seconds. The renew deadline is a third of it, the retry period a sixth.
    pub ttl: Duration,
}

/// A running candidate. Dropping it kills it.
#[derive(Debug)]
pub struct Candidate {
    process: Process,
    log: NamedTempFile,
}

/// A callback that it has reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub what: What,
    /// When, as the time since the machine started (suspends included).
    pub at: Duration,
}

/// What happened to a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It takes part now.
    Candidate,
    /// It leads.
    Started,
    /// It does not lead any more, or never has.
    Stopped,
    /// It has seen this leader, perhaps itself.
    Leader(String),
}

/// A line that it writes.
#[derive(Deserialize)]
struct LogLine {
    event: String,
    #[serde(default)]
    leader: String,
    /// Nanoseconds.
    at: u64,
}

impl ClientGo {
    /// The executable, built first where that has not been done yet.
    ///
    /// # Errors
    /// A text that says what is missing and how to get it.
    pub fn executable(self) -> Result<PathBuf, String> {
        // A failure is kept, so that not every test tries again.
        static TODAY: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| build("client-go", "go.mod").directory());
        static LEGACY: LazyLock<Result<PathBuf, String>> =
            LazyLock::new(|| build("client-go-legacy", "legacy.mod").directory());
        let directory = match self {
            Self::V0_35 => TODAY.clone(),
            Self::V0_23 => LEGACY.clone(),
        };
        Ok(directory?.join("interop"))
    }
}

fn build(name: &'static str, module_file: &'static str) -> GoBuild {
    GoBuild {
        name,
        folder: concat!(env!("CARGO_MANIFEST_DIR"), "/interop"),
        module_file,
        sources: &["main.go"],
        packages: &["."],
        renamed: &[],
        linked: String::new(),
        what: "a candidate on client-go once (about a minute on 2 cores)",
        instead: "",
    }
}

impl Candidate {
    /// Starts one.
    ///
    /// # Panics
    /// Where it cannot be built or started.
    pub async fn start(of: ClientGo, kubeconfig: &Path, id: &str, election: &Election<'_>) -> Self {
        let located = tokio::task::spawn_blocking(move || of.executable()).await;
        let program = located.expect("building does not panic").unwrap_or_else(|e| panic!("{e}"));
        let log = NamedTempFile::new().expect("a temporary file can be made");
        let args = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--id={id}"),
            format!("--lock-type={}", election.lock_type),
            format!("--namespace={}", election.namespace),
            format!("--name={}", election.name),
            format!("--ttl={}s", election.ttl.as_secs()),
        ];
        let process = Process::spawn(&program, &args, log.path()).unwrap_or_else(|e| panic!("{e}"));
        Self { process, log }
    }

    /// Every callback so far.
    ///
    /// # Panics
    /// Where it has written something else that looks like one.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let output = fs::read_to_string(self.log.path()).expect("its output can be read");
        // Log lines are in between, and the last line may be incomplete.
        let lines = output.split_inclusive('\n').filter(|line| line.starts_with('{') && line.ends_with('\n'));
        lines.map(|line| serde_json::from_str::<LogLine>(line).expect("it writes JSON").into()).collect()
    }

    /// Sends a signal: `TERM` lets it release the lock.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it has ended, at most this long. Returns whether it has.
    pub async fn wait(&mut self, patience: Duration) -> bool {
        self.process.wait(patience).await.is_some()
    }

    /// The end of its output.
    #[must_use]
    pub fn log(&self) -> String {
        tail(self.log.path(), 40)
    }
}

impl From<LogLine> for Event {
    fn from(line: LogLine) -> Self {
        let what = match &*line.event {
            "candidate" => What::Candidate,
            "started" => What::Started,
            "stopped" => What::Stopped,
            "leader" => What::Leader(line.leader),
            other => panic!("a candidate reports `{other}`"),
        };
        Self { what, at: Duration::from_nanos(line.at) }
    }
}

#[cfg(test)]
mod tests;
