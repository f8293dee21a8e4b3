//! A proxy in a process of its own, which is this test binary again, so that memory, descriptors and standard output belong to the
//! proxy alone.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proxy::Server;
use proxy::bench::setup;
use proxy::config::{AccessLog, Config, UpstreamProtocol};
use snapshot::{Change, Cluster, ClusterName, Endpoint};
use testkit::eventually::within;
use tokio::sync::mpsc;

use crate::fixture::{CLUSTER, NEVER, ROUTE, route};

/// The variable with the endpoints, whose presence makes this process the child.
const ENDPOINTS: &str = "PROXY_TEST_ENDPOINTS";

/// The variable with the policy.
const REQUIRE: &str = "PROXY_TEST_REQUIRE";

/// The variable with the protocol of endpoints.
const PROTOCOL: &str = "PROXY_TEST_PROTOCOL";

/// The variable with the number of threads.
const THREADS: &str = "PROXY_TEST_THREADS";

/// The time-out of heads in the child.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);

/// The child's output in front of its address.
const READY: &str = "proxy listens on ";

/// The child, ended with the test.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    output: mpsc::Receiver<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts it, with so many descriptors at most where that is given.
    pub(crate) async fn start(endpoints: &[SocketAddr], require: &str, descriptors: Option<usize>) -> Self {
        Self::speaking("auto", endpoints, require, descriptors).await
    }

    /// The same, with endpoints that speak HTTP/2.
    pub(crate) async fn over_h2(endpoints: &[SocketAddr], require: &str) -> Self {
        Self::speaking("h2", endpoints, require, None).await
    }

    async fn speaking(protocol: &str, endpoints: &[SocketAddr], require: &str, descriptors: Option<usize>) -> Self {
        let list = endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let this = std::env::current_exe().expect("the path of this test");
        // One thread where descriptors are few: with several, the last might find none left to start with.
        let threads = if descriptors.is_some() { "1" } else { "2" };
        let limit = descriptors.map_or(String::new(), |n| format!("ulimit -n {n} && "));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limit}exec \"$0\" \"$@\"")]).arg(this);
        command.args(["--exact", "process::the_proxy_in_a_process_of_its_own", "--nocapture"]);
        command
            .env(ENDPOINTS, list)
            .env(REQUIRE, require)
            .env(PROTOCOL, protocol)
            .env(THREADS, threads)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("this test can be started once more");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        // More lines than any test reads; beyond that the pipe fills up.
        let (sender, output) = mpsc::channel(1000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        let mut process = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)), output };
        let line = process.line_with(READY).await;
        let address = line.split_once(READY).and_then(|(_, address)| address.parse().ok());
        process.address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        process
    }

    /// The next line of its output that holds the text.
    pub(crate) async fn line_with(&mut self, text: &str) -> String {
        let found = async {
            loop {
                match self.output.recv().await {
                    Some(line) if line.contains(text) => return line,
                    Some(_) => {}
                    None => panic!("the process ended without a line with {text:?}"),
                }
            }
        };
        within(&format!("a line with {text:?}"), found).await
    }

    /// Lets it drain and end, and returns what it has still written.
    pub(crate) async fn finish(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let rest = async {
            let mut lines = Vec::new();
            while let Some(line) = self.output.recv().await {
                lines.push(line);
            }
            lines
        };
        within("the process to end", rest).await
    }

    /// Its peak resident size, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.size("VmHWM:")
    }

    /// Its resident size now, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.size("VmRSS:")
    }

    fn size(&self, which: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("a size that the system knows");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    /// The processor time it has used, in ticks of a hundredth of a second.
    pub(crate) fn processor_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // Behind the name, which may hold anything: user and system time are the 12th and 13th field (proc(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let tick = |n: usize| fields[n].parse::<u64>().expect("a number");
        tick(11) + tick(12)
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
            .expect("what the system knows of the child")
    }
}

/// The child: runs a proxy until its parent is gone. In the parent's own run there is nothing to run.
#[test]
fn the_proxy_in_a_process_of_its_own() {
    let Ok(list) = std::env::var(ENDPOINTS) else { return };
    let endpoints = list.split(',').map(|text| Endpoint::ready(text.parse().expect("an address"))).collect();
    let mut only = route(ROUTE, CLUSTER);
    only.policy.timeouts.total = NEVER;
    only.policy.protocol = match std::env::var(PROTOCOL).as_deref() {
        Ok("h2") => UpstreamProtocol::H2,
        _ => UpstreamProtocol::Auto,
    };
    only.policy.require = std::env::var(REQUIRE).expect("a requirement").parse().expect("a requirement");
    let mut config = Config { access_log: AccessLog::Json, ..setup::config(vec![only]) };
    config.listeners[0].timeouts.head = HEAD_TIMEOUT;
    config.threads = std::env::var(THREADS).expect("a number").parse().expect("a number");
    let (publisher, reader) = snapshot::channel();
    let name = ClusterName::new(CLUSTER).expect("a cluster name");
    publisher.apply([Change::Set(Cluster::new(name, endpoints).into())]);
    let server = Server::bind(config, reader).expect("a free port");
    println!("{READY}{}", server.addresses()[0]);
    let running = server.start();
    // The pipe ends with the parent, or when that asks for the end.
    let mut nothing = String::new();
    let _ = std::io::stdin().read_line(&mut nothing);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(running.drain(Duration::ZERO, NEVER));
}
