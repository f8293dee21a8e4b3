//! A real CoreDNS, and queries to it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::LazyLock,
    time::{Duration, Instant},
};

use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tempfile::TempDir;
use testkit::{eventually::scaled, go::GoBuild, process::Process};
use tokio::{
    net::{TcpSocket, UdpSocket},
    time::timeout,
};

/// Time limit of a start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time limit of an answer, after which the query is sent again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval between two readiness checks.
const POLL: Duration = Duration::from_millis(50);

/// The largest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// A running CoreDNS. Dropping it ends it, and prints its log if the test has failed.
#[derive(Debug)]
pub struct CoreDns {
    process: Process,
    address: SocketAddr,
    _reservation: TcpSocket,
    _directory: TempDir,
}

/// An answer of CoreDNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// The code as RFC 1035 calls it, `NoError` for success.
    pub code: String,
    /// Its answers, each as `name type value`, with final dots; sorted.
    pub answers: Vec<String>,
    /// Its additional records, in the same form.
    pub additional: Vec<String>,
}

impl CoreDns {
    /// The executable, built first where that has not been done yet. Call it outside of a network namespace, in which it
    /// cannot be built.
    ///
    /// # Errors
    /// A text that says what is missing and how to get it.
    pub fn executable() -> Result<PathBuf, String> {
        // A failure is kept, so that not every test tries again.
        static BUILT: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
            let build = GoBuild {
                name: "coredns",
                folder: concat!(env!("CARGO_MANIFEST_DIR"), "/coredns"),
                module_file: "go.mod",
                sources: &["main.go"],
                packages: &["."],
                renamed: &[],
                linked: String::new(),
                what: "CoreDNS once (1 to 2 minutes on 2 cores)",
                instead: "",
            };
            build.directory().map(|directory| directory.join("coredns"))
        });
        BUILT.clone()
    }

    /// Starts one with the server blocks of a Corefile of the kubeconfig's cluster, and returns when it answers. The blocks
    /// are rewritten to listen on a free port of loopback instead of port 53, and to use the kubeconfig.
    ///
    /// # Panics
    /// Where it cannot be built, or does not take the Corefile, with its log.
    pub async fn start(blocks: &str, kubeconfig: &Path) -> Self {
        let located = tokio::task::spawn_blocking(Self::executable).await;
        let program = located.expect("building does not panic").unwrap_or_else(|e| panic!("{e}"));
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let reservation = TcpSocket::new_v4().expect("there are sockets");
        // It sets the same, so that it may listen beside this one.
        reservation.set_reuseport(true).expect("a socket can be shared");
        reservation.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port of 127.0.0.1 is free");
        let address = reservation.local_addr().expect("a bound socket has an address");
        let corefile = directory.path().join("Corefile");
        fs::write(&corefile, here(blocks, address.port(), kubeconfig)).expect("a temporary file can be written");
        let args = [format!("-conf={}", corefile.display())];
        let process = Process::spawn(&program, &args, &directory.path().join("log"));
        let process = process.unwrap_or_else(|e| panic!("{e}"));
        let mut this = Self { process, address, _reservation: reservation, _directory: directory };
        this.await_ready().await;
        this
    }

    /// Sends a query, and returns the answer.
    ///
    /// # Panics
    /// Where there is no answer in time, or the question is none.
    pub async fn ask(&self, name: &str, kind: &str) -> DnsAnswer {
        let deadline = Instant::now() + scaled(PATIENCE);
        while Instant::now() < deadline {
            if let Some(answer) = self.try_ask(name, kind).await {
                return answer;
            }
        }
        panic!("CoreDNS does not answer:\n{}", self.process.tail(40))
    }

    async fn try_ask(&self, name: &str, kind: &str) -> Option<DnsAnswer> {
        let kind: RecordType = kind.parse().expect("a type of records");
        let name = Name::from_ascii(name).expect("a domain name");
        let mut question = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
        question.add_query(Query::query(name, kind));
        question.metadata.recursion_desired = true;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port of 127.0.0.1 is free");
        socket.connect(self.address).await.expect("loopback is there");
        socket.send(&question.to_vec().expect("a question can be written")).await.ok()?;
        let mut buffer = [0; MAX_ANSWER_BYTES];
        let length = timeout(ANSWER_TIMEOUT, socket.recv(&mut buffer)).await.ok()?.ok()?;
        let answer = Message::from_vec(&buffer[..length]).expect("an answer can be read");
        assert_eq!(answer.metadata.id, question.metadata.id, "the socket is ours alone");
        Some(DnsAnswer {
            code: format!("{:?}", answer.metadata.response_code),
            answers: lines(&answer.answers),
            additional: lines(&answer.additionals),
        })
    }

    async fn await_ready(&mut self) {
        let deadline = Instant::now() + scaled(PATIENCE);
        loop {
            let ended = self.process.ended();
            assert!(ended.is_none(), "CoreDNS ended ({ended:?}):\n{}", self.process.tail(40));
            assert!(Instant::now() < deadline, "CoreDNS is not ready:\n{}", self.process.tail(40));
            // The plugin for Kubernetes answers for the cluster's own zone once it has listed everything.
            let answer = self.try_ask("dns-version.cluster.local.", "TXT").await;
            if answer.is_some_and(|answer| answer.code != format!("{:?}", ResponseCode::ServFail)) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for CoreDns {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- CoreDNS\n{}", self.process.tail(40));
        }
    }
}

/// The same blocks for a process that is no pod, on a port of its own.
fn here(blocks: &str, port: u16, kubeconfig: &Path) -> String {
    let mut here = String::new();
    for line in blocks.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some(zone) = line.strip_suffix(":53 {") {
            here.push_str(&format!("{zone}:{port} {{\n    bind 127.0.0.1\n"));
        } else if line.trim_start().starts_with("kubernetes ") {
            here.push_str(&format!("{line} {{\n{indent}    kubeconfig {}\n{indent}}}\n", kubeconfig.display()));
        } else {
            here.push_str(line);
            here.push('\n');
        }
    }
    // It answers for the cluster's own zone as well, as every CoreDNS in a cluster does.
    let own = format!("    kubernetes cluster.local {{\n        kubeconfig {}\n    }}\n", kubeconfig.display());
    here.push_str(&format!("cluster.local:{port} {{\n    bind 127.0.0.1\n{own}}}\n"));
    here
}

fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| match &record.data {
        RData::OPT(_) => None,
        data => Some(format!("{} {} {data}", record.name, record.record_type())),
    };
    let mut lines: Vec<String> = records.iter().filter_map(line).collect();
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn it_has_the_plugins_that_names_of_mirrors_need() {
        let executable = CoreDns::executable().unwrap_or_else(|e| panic!("{e}"));
        let output = Command::new(executable).arg("-plugins").output().expect("it can be run");
        let plugins = String::from_utf8(output.stdout).expect("names are text");
        for plugin in ["kubernetes", "rewrite", "cache", "loadbalance"] {
            assert!(plugins.lines().any(|line| line.trim() == plugin), "{plugin}: {plugins}");
        }
    }
}
