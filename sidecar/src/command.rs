//! Commands that users attach to events: started without a shell, in a process group of their own, which is killed as a whole.

use std::{
    fmt,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use runtime::{
    boot_time::{BootTime, sleep_until},
    process_group::ProcessGroup,
};
use rustix::process::Signal;

/// The longest time before the deadline at which a process group that ignores SIGTERM is killed.
const KILL_BEFORE_DEADLINE: Duration = Duration::from_millis(500);

/// A program and its arguments, which are passed on literally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(Vec<String>);

/// Why a text is not a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommand {
    /// It is empty.
    #[error("is empty: name a program")]
    Empty,
    /// A quote is not closed.
    #[error("{0:?} has a quote that does not end")]
    Quote(String),
}

/// A running command. Dropping it kills its whole process group.
#[derive(Debug)]
pub struct Running(ProcessGroup);

// === impl CommandLine ===

impl CommandLine {
    /// A program and its arguments, one by one.
    ///
    /// # Errors
    /// [`InvalidCommand::Empty`] without a program.
    pub fn new(words: Vec<String>) -> Result<Self, InvalidCommand> {
        if words.first().is_none_or(String::is_empty) { Err(InvalidCommand::Empty) } else { Ok(Self(words)) }
    }

    /// A text, split at spaces that are not quoted, as a shell does; nothing else of it is interpreted.
    ///
    /// # Errors
    /// [`InvalidCommand`] if the text is empty, or a quote in it is not closed.
    pub fn parse(text: &str) -> Result<Self, InvalidCommand> {
        let words = shlex::split(text).ok_or_else(|| InvalidCommand::Quote(text.to_owned()))?;
        Self::new(words)
    }

    /// Starts it, with these variables besides the process's own environment.
    ///
    /// # Errors
    /// The program does not exist or cannot be started; the error names it.
    pub fn start(&self, variables: &[(&str, &str)]) -> std::io::Result<Running> {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]).envs(variables.iter().copied()).stdin(Stdio::null());
        let started = ProcessGroup::start(&mut command);
        started
            .map(Running)
            .map_err(|error| std::io::Error::new(error.kind(), format!("cannot start {}: {error}", self.0[0])))
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A word with a NUL cannot be quoted, nor passed to a program.
        f.write_str(&shlex::try_join(self.0.iter().map(String::as_str)).unwrap_or_default())
    }
}

// === impl Running ===

impl Running {
    /// Waits until it has ended by itself. Safe to cancel.
    ///
    /// # Errors
    /// The system cannot say how it ended.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.0.ended().await
    }

    /// Waits until it has ended by itself, and kills its process group at `deadline`. Returns its status, if it ended by itself.
    pub async fn end_by(mut self, deadline: BootTime) -> Option<ExitStatus> {
        tokio::select! {
            status = self.0.ended() => status.ok(),
            () = sleep_until(deadline) => {
                self.0.kill().await;
                None
            }
        }
    }

    /// Sends SIGTERM to its process group, and kills what is left of it shortly before `deadline`, or when it has ended.
    pub async fn stop_by(mut self, deadline: BootTime) {
        self.0.signal(Signal::TERM);
        tokio::select! {
            _ = self.0.ended() => {}
            () = sleep_until(deadline - KILL_BEFORE_DEADLINE) => self.0.kill().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::eventually;

    use super::*;

    #[test]
    fn a_text_is_split_as_a_shell_splits_it_and_nothing_in_it_is_interpreted() {
        let parsed = CommandLine::parse("sh -c 'echo $HOME; rm x' \"a b\" > y").expect("a command");
        assert_eq!(parsed.0, ["sh", "-c", "echo $HOME; rm x", "a b", ">", "y"]);
        assert_eq!(CommandLine::parse(&parsed.to_string()), Ok(parsed), "it is shown as it can be written");
        assert_eq!(CommandLine::parse("  "), Err(InvalidCommand::Empty));
        assert_eq!(CommandLine::new(vec![String::new()]), Err(InvalidCommand::Empty));
        assert!(matches!(CommandLine::parse("a 'b"), Err(InvalidCommand::Quote(_))));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error =
            CommandLine::parse("/nowhere/program x").expect("a command").start(&[]).expect_err("it is not there");
        assert!(error.to_string().contains("/nowhere/program"), "{error}");
    }

    #[tokio::test]
    async fn variables_arrive_and_an_end_in_time_is_its_own() {
        let command = CommandLine::parse("sh -c 'exit $CODE'").expect("a command");
        let running = command.start(&[("CODE", "7")]).expect("there is a shell");
        let status = running.end_by(BootTime::now() + Duration::from_secs(60)).await.expect("in time");
        assert_eq!(status.code(), Some(7));
    }

    #[tokio::test]
    async fn dropping_one_ends_what_it_has_started() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let text = format!("sh -c 'sleep 1000 & echo $! > {}; wait'", file.path().display());
        let running = CommandLine::parse(&text).expect("a command").start(&[]).expect("there is a shell");
        let read = || std::fs::read_to_string(file.path()).unwrap_or_default();
        let child = eventually!("the child's number", read(), |text| text.ends_with('\n'));
        drop(running);
        let stat = format!("/proc/{}/stat", child.trim());
        let gone = || !std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        eventually!("the child to be gone", gone(), |gone| *gone);
    }
}
