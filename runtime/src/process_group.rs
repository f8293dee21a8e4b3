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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Stdio;

    use rustix::process::kill_process;
    use testkit::eventually;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A shell that has started a program in the background, and that program.
    async fn shell_with_child(then: &str) -> (ProcessGroup, Pid) {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("sleep 1000 >/dev/null & echo $!; exec >/dev/null; {then}")]);
        let mut group = ProcessGroup::start(command.stdout(Stdio::piped())).expect("every system has `sh`");
        let mut stdout = group.take_stdout().expect("a pipe can be watched").expect("it is piped");
        let mut text = String::new();
        stdout.read_to_string(&mut text).await.expect("it can be read");
        let child = text.trim().parse().ok().and_then(Pid::from_raw).expect("the number of a process");
        (group, child)
    }

    fn runs(process: Pid) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn killing_one_ends_all_of_it_and_a_status_is_that_of_the_leader() {
        let (mut group, child) = shell_with_child("wait").await;
        assert!(runs(child));
        group.kill().await;
        eventually!("the end of the child", runs(child), |runs| !runs);
        let (mut group, child) = shell_with_child("exit 7").await;
        assert_eq!(group.ended().await.expect("it can be waited for").code(), Some(7));
        drop(group);
        eventually!("the end of what is left", runs(child), |runs| !runs);
    }

    #[tokio::test]
    async fn what_is_left_alone_goes_on() {
        let (mut group, child) = shell_with_child("exit 0").await;
        assert!(group.ended().await.expect("it can be waited for").success());
        group.leave();
        drop(group);
        assert!(runs(child));
        kill_process(child, Signal::KILL).expect("it is there");
    }
}
