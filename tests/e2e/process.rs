//! The binary under test as a child process: its output, its addresses, its signals, and its guaranteed end.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{
    eventually::within,
    process::{Group, Mark},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

/// A running binary. Dropping it kills it; if the test is failing, its output is shown.
pub(crate) struct Fanfare {
    child: Child,
    /// Ends it with this test process, even if that is killed.
    group: Option<Group>,
    /// Everything it has written so far.
    pub(crate) stderr: Output,
    pub(crate) stdout: Output,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// The text of a stream so far.
pub(crate) struct Output(watch::Receiver<String>);

/// A finished run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The prefix of a listener's log line, up to the `s` of https or the colon.
const LISTENING: &str = "listening on http";

/// The binary under test: the one of this build, or the one that `FANFARE_PROGRAM` names, for measurements of a release.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("FANFARE_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_fanfare").into(), PathBuf::from)
}

/// The address in the rest of a URL.
fn address(rest: &str) -> Option<SocketAddr> {
    rest.split_once("://")?.1.parse().ok()
}

// === impl Fanfare ===

impl Fanfare {
    /// Starts it.
    pub(crate) fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(program());
        command.args(arguments).env_remove("KUBECONFIG").env_remove("HOME").env_remove("NO_COLOR");
        Self::spawn(command)
    }

    /// Starts a command that executes the binary in the end.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mark = Mark::on(command.as_std_mut());
        let mut child = command.spawn().expect("the binary can be started");
        let group = Group::led_by(child.id().expect("it has just been started"), mark);
        let stdout = Output::read(child.stdout.take().expect("it is piped"));
        let stderr = Output::read(child.stderr.take().expect("it is piped"));
        Self { child, group: Some(group), stderr, stdout, addresses: Vec::new(), admin: None }
    }

    /// Starts it and waits until it listens: first the listeners in order, last the admin API.
    pub(crate) async fn serve<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let mut this = Self::start(arguments);
        this.wait_listening().await;
        this
    }

    /// `fanfare broadcast` on free ports of loopback with these endpoints, and more flags.
    pub(crate) async fn broadcast(endpoints: &[SocketAddr], flags: &[&str]) -> Self {
        let endpoints = endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut arguments = vec!["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "2"];
        arguments.extend(["--endpoints", &endpoints]);
        arguments.extend(flags);
        Self::serve(arguments).await
    }

    pub(crate) async fn wait_listening(&mut self) {
        let log = self.stderr.wait("the admin API to listen", |log| log.contains("for the admin API")).await;
        for line in log.lines() {
            let Some((_, rest)) = line.split_once(LISTENING) else { continue };
            let (url, purpose) = rest.split_once(' ').expect("the purpose follows the address");
            let address = address(url).expect("it is an address");
            match purpose.starts_with("to broadcast") {
                true => self.addresses.push(address),
                false => self.admin = Some(address),
            }
        }
    }

    /// Waits until it listens for this purpose (`for elect`), and returns the address.
    pub(crate) async fn listening(&self, purpose: &str) -> SocketAddr {
        let line =
            |log: &str| log.lines().find(|line| line.contains(LISTENING) && line.contains(purpose)).map(String::from);
        let log = self.stderr.wait("it to listen", |log| line(log).is_some()).await;
        let line = line(&log).expect("the wait above ensures it");
        let (_, rest) = line.split_once(LISTENING).expect("it was looked for");
        rest.split(' ').next().and_then(address).expect("an address")
    }

    /// The address of the first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The addresses of all listeners.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the admin API.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.expect("it has an admin API")
    }

    /// Waits until it is ready.
    pub(crate) async fn wait_ready(&self) {
        let admin = self.admin();
        testkit::eventually!("readiness", testkit::client::get(admin, "/-/ready").await.text(), |text| text == "OK");
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it is still running")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it is still running");
        let id = Pid::from_raw(i32::try_from(id).expect("a process id fits")).expect("a process id is not 0");
        kill_process(id, signal).expect("a child can be signalled");
    }

    /// Waits until it has ended.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let status = within("the process to end", self.child.wait()).await.expect("a child can be waited for");
        self.group = None;
        status
    }

    /// Waits until it has ended and all of its output is read.
    pub(crate) async fn finish(mut self) -> Finished {
        let code = self.exit().await.code();
        let (stdout, stderr) = (self.stdout.end().await, self.stderr.end().await);
        Finished { code, stdout, stderr }
    }
}

impl Drop for Fanfare {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- stdout of fanfare\n{}--- stderr of fanfare\n{}---",
                *self.stdout.0.borrow(),
                *self.stderr.0.borrow()
            );
        }
    }
}

// === impl Output ===

impl Output {
    fn read(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(String::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|text| {
                    text.push_str(&line);
                    text.push('\n');
                });
            }
        });
        Self(receiver)
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until the whole text satisfies the condition, and returns it.
    pub(crate) async fn wait(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let mut receiver = self.0.clone();
        let text = within(what, receiver.wait_for(|text| holds(text))).await.map(|text| text.clone());
        text.unwrap_or_else(|_| panic!("it ended before {what}; it wrote:\n{}", self.text()))
    }

    /// Waits until there is no more to come.
    async fn end(&self) -> String {
        let mut receiver = self.0.clone();
        within("the end of its output", async { while receiver.changed().await.is_ok() {} }).await;
        self.text()
    }
}

/// Runs the binary until it ends.
pub(crate) async fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Finished {
    Fanfare::start(arguments).finish().await
}

/// Runs what a command says to its end, with this on standard input.
pub(crate) async fn finish_with_input(mut command: Command, input: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("the program can be started");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).await.expect("it reads its input");
    drop(stdin);
    let output = within("the process to end", child.wait_with_output()).await.expect("a child can be waited for");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
