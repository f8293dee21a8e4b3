//! Child processes that end with the test, however the test ends.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::packages;

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);

/// A running child with its output in a file. Dropping it kills it and waits for it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// One request to the thread that spawns.
struct Job {
    command: Command,
    reply: mpsc::SyncSender<io::Result<Child>>,
}

/// The thread that spawns every child. The parent-death signal is tied to the *thread* that spawned, so this one
/// lives exactly as long as the process, whichever test asked.
static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (sender, jobs) = mpsc::channel::<Job>();
    let run = move || {
        for mut job in jobs {
            // A requester that has gone away drops the reply: the child is then killed by the parent-death signal.
            let _ = job.reply.send(job.command.spawn());
        }
    };
    thread::Builder::new().name("testkit-spawner".into()).spawn(run).expect("the system has room for one thread");
    sender
});

impl Process {
    /// Starts `program`, appending its output to `log`. The kernel kills it when this process ends (`setpriv`, of
    /// util-linux, asks it to: doing so here would take `unsafe`).
    ///
    /// # Errors
    /// A text that says what to install or what failed.
    pub fn spawn(program: &Path, args: &[String], log: &Path) -> Result<Self, String> {
        let mut command = Command::new(packages::program("setpriv")?);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
        Self::spawn_command(command, log)
    }

    /// Starts a command that arranges for its own end (see [`Process::spawn`]).
    ///
    /// # Errors
    /// A text that says what failed.
    pub fn spawn_command(mut command: Command, log: &Path) -> Result<Self, String> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = output.map_err(|e| format!("cannot open {}: {e}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let what = format!("{:?}", command.get_program());
        let (reply, answer) = mpsc::sync_channel(1);
        SPAWNER.send(Job { command, reply }).expect("the spawner lives as long as the process");
        let child = answer.recv().expect("the spawner answers every job");
        Ok(Self { child: child.map_err(|e| format!("cannot run {what}: {e}"))?, log: log.to_owned() })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be waited for")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // A child that has just ended cannot take it, and need not.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits until it has ended, at most this long.
    pub async fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.ended() {
                None if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                ended => return ended,
            }
        }
    }

    /// The end of its output.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a file.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
