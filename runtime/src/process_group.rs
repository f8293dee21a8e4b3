//! Programs that users name, such as hooks and credential plugins: each runs in a process group of its own, which is killed as a whole.
//!
//! Not by tokio's `process`: with that feature the workers look for children that have ended whenever they go to sleep, and so in
//! the course of every request. Here a thread waits for each child.

use std::io::{Error, Result};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdout, Command, ExitStatus};
use std::thread;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// A running program and what it has started. Dropping this kills the whole group.
#[derive(Debug)]
pub struct ProcessGroup {
    stdout: Option<ChildStdout>,
    /// How the leader has ended, from the thread that waits for it.
    ended: oneshot::Receiver<Result<ExitStatus>>,
    /// None once nothing of it is to be killed: its id may be reused.
    id: Option<Pid>,
}

// === impl ProcessGroup ===

impl ProcessGroup {
    /// Starts the program as the leader of a new group.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.process_group(0).spawn()?;
        let (tell, ended) = oneshot::channel();
        // The id of the group is that of its first process.
        let started = Self { stdout: child.stdout.take(), ended, id: Pid::from_raw(child.id().cast_signed()) };
        // If there can be no thread, dropping `started` kills it.
        thread::Builder::new().name("wait-for-child".to_owned()).spawn(move || drop(tell.send(child.wait())))?;
        Ok(started)
    }

    /// What it writes to its standard output, if that is piped and was not taken before.
    ///
    /// # Errors
    /// The pipe cannot be watched.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn take_stdout(&mut self) -> Result<Option<pipe::Receiver>> {
        self.stdout.take().map(|stdout| pipe::Receiver::from_owned_fd(stdout.into())).transpose()
    }

    /// Waits until its leader has ended by itself. Safe to cancel; returns the status once.
    ///
    /// # Errors
    /// The system cannot say how it ended.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        // The thread always sends before it ends.
        (&mut self.ended).await.unwrap_or_else(|gone| Err(Error::other(gone)))
    }

    /// Kills the group, and waits until its leader has ended.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.leave();
        let _ = self.ended().await;
    }

    /// Signals the group, which may have ended already.
    pub fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            let _ = kill_process_group(id, signal);
        }
    }

    /// Leaves alone from now on whatever of the group is still running.
    pub fn leave(&mut self) {
        self.id = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
