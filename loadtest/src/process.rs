//! Child processes of the harness: they get commands on standard input, answer line by line, and end with their handle.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::{Serialize, de::DeserializeOwned};

use crate::cores;

/// The time limit for a child to end after its standard input.
const GRACE_PERIOD: Duration = Duration::from_secs(8);

/// A child process that is this program again, with a hidden command.
#[derive(Debug)]
pub(crate) struct Helper {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Helper {
    /// Starts it on these cores.
    pub(crate) fn start(arguments: &[String], on: &[usize]) -> anyhow::Result<Self> {
        let name = arguments.first().cloned().unwrap_or_default();
        let mut command = Command::new(std::env::current_exe().context("cannot find this program again")?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = cores::on(on, || command.spawn())?.with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the output of a child is piped")?;
        let (sender, lines) = sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name, child, stdin, lines })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a command.
    pub(crate) fn tell(&mut self, what: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(what)?;
        line.push('\n');
        let stdin = self.stdin.as_mut().context("the input of a child is piped")?;
        stdin.write_all(line.as_bytes()).with_context(|| format!("{} is gone", self.name))
    }

    /// The next line of its output.
    ///
    /// # Errors
    /// There was no output in this time, or the child has ended.
    pub(crate) fn line(&self, patience: Duration) -> anyhow::Result<String> {
        self.lines.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow::anyhow!("{} has said nothing for {patience:?}", self.name),
            RecvTimeoutError::Disconnected => anyhow::anyhow!("{} has ended", self.name),
        })
    }

    /// The next line of its output, as a value.
    pub(crate) fn hear<T: DeserializeOwned>(&self, patience: Duration) -> anyhow::Result<T> {
        let line = self.line(patience)?;
        serde_json::from_str(&line).with_context(|| format!("{} says {line:?}", self.name))
    }

    /// The output that was not read yet.
    pub(crate) fn unasked(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It ends when its standard input ends.
        self.stdin = None;
        let until = std::time::Instant::now() + GRACE_PERIOD;
        while std::time::Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process of another program, kept by a helper.
#[derive(Debug)]
pub(crate) struct Kept {
    keeper: Helper,
    /// Its process id.
    pub(crate) pid: u32,
    /// When it was started, by the clock that all processes share.
    pub(crate) began: Duration,
}

impl Kept {
    /// Starts `command` on these cores; its output goes to `log`, or its standard output to a file of its own.
    pub(crate) fn start(command: &[String], log: &Path, output: Option<&Path>, on: &[usize]) -> anyhow::Result<Self> {
        let mut arguments = vec!["keep".to_owned(), "--log".into(), log.display().to_string()];
        if let Some(output) = output {
            arguments.extend(["--output".to_owned(), output.display().to_string()]);
        }
        arguments.push("--".into());
        arguments.extend_from_slice(command);
        let keeper = Helper::start(&arguments, on)?;
        let line = keeper.line(Duration::from_secs(10))?;
        let started = line.strip_prefix("pid ").and_then(|rest| {
            let (pid, nanoseconds) = rest.split_once(" at ")?;
            Some((pid.parse().ok()?, Duration::from_nanos(nanoseconds.parse().ok()?)))
        });
        match started {
            Some((pid, began)) => Ok(Self { keeper, pid, began }),
            None => bail!("{} did not start: {line}", command.first().map_or("", String::as_str)),
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<String> {
        self.keeper.unasked()
    }
}
