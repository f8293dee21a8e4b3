//! Child processes that end with the test, however the test ends.

mod group;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

pub use group::{Group, Mark};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

/// Interval between two checks whether a child has ended.
const POLL: Duration = Duration::from_millis(20);

/// A running child with its output in a file. When it is dropped, when the child ends by itself, and when this process ends, the
/// child and all processes that it has started are killed: the workers of a server do not end with a master that was killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// As long as the child has not been waited for: its number is its own until then.
    group: Option<Group>,
    log: PathBuf,
}

impl Process {
    /// Starts `program`, appending its output to `log`.
    ///
    /// # Errors
    /// A text that says what failed.
    pub fn spawn(program: &Path, args: &[String], log: &Path) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(args);
        Self::spawn_command(command, log)
    }

    /// Starts a command, appending its output to `log`.
    ///
    /// # Errors
    /// A text that says what failed.
    pub fn spawn_command(mut command: Command, log: &Path) -> Result<Self, String> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = output.map_err(|e| format!("cannot open {}: {e}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let mark = Mark::on(&mut command);
        let child = command.spawn().map_err(|e| format!("cannot run {:?}: {e}", command.get_program()))?;
        let group = Some(Group::led_by(child.id(), mark));
        Ok(Self { child, group, log: log.to_owned() })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.group.is_some() {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(Pid::from_child(&self.child)), look).expect("a child of ours can be looked at")?;
            // Before the child is reaped: until then the kernel does not give the number of its group to another one.
            self.group = None;
        }
        self.child.try_wait().expect("a child of ours can be waited for")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the child alone.
    pub fn signal(&self, signal: Signal) {
        if self.group.is_some() {
            // It fails only if the child has just ended.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Sends a signal to the child and the processes that it has started in its group.
    pub fn signal_all(&self, signal: Signal) {
        if self.group.is_some() {
            // A group that has just ended cannot take it, and need not.
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
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
        self.group = None;
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

#[cfg(test)]
mod tests;
