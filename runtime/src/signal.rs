//! Signals as a stream of requests: drain, exit at once, reload. No other signal that people send ends the process.

use std::io;
use std::time::Duration;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// A second signal within this time is taken for the first one: timeout(1) sends SIGTERM to the process and to its group, and so may a
/// shell.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

/// What a signal asks the process to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The first SIGTERM, SIGINT or SIGQUIT: finish what is under way, then exit with 0.
    Drain,
    /// Another of them, 100 ms after the first or later: exit now.
    Exit,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals that the process handles. From the moment this exists they no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user_defined: [Signal; 2],
    file_size: Signal,
    /// Whether the limit of a file's size was logged. Only once, because the log may be that file.
    file_size_told: bool,
    /// When the first signal to end came.
    draining: Option<Instant>,
}

/// A signal that has come.
enum Received {
    /// One that ends the process.
    End(&'static str),
    Hangup,
    /// One without a meaning here.
    Ignored(&'static str),
    /// A write was refused, because the file would be larger than `RLIMIT_FSIZE`.
    FileSize,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The system refuses a handler.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user_defined: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            // With a handler the write fails with an error, which is handled like a full disk.
            file_size: signal(SignalKind::from_raw(Number::XFSZ.as_raw()))?,
            file_size_told: false,
            draining: None,
        })
    }

    /// Waits for the next signal. Safe to cancel: none is lost, though several of one kind that arrive while nobody waits are one.
    pub async fn next(&mut self) -> Request {
        loop {
            let (name, request) = match self.receive().await {
                Received::End(name) => match self.draining {
                    None => (name, Request::Drain),
                    Some(first) if first.elapsed() < DUPLICATE_WINDOW => {
                        tracing::info!(
                            signal = name,
                            "signal received within 100 ms of the first, and treated as the same"
                        );
                        continue;
                    }
                    Some(_) => (name, Request::Exit),
                },
                Received::Hangup => ("SIGHUP", Request::Reload),
                Received::Ignored(name) => {
                    tracing::warn!(
                        signal = name,
                        "signal ignored: logs are written to standard output and standard error; SIGHUP reloads, SIGTERM ends"
                    );
                    continue;
                }
                Received::FileSize => {
                    if !std::mem::replace(&mut self.file_size_told, true) {
                        tracing::warn!(
                            signal = "SIGXFSZ",
                            "a file cannot become larger than the limit of this process (ulimit -f)"
                        );
                    }
                    continue;
                }
            };
            if request == Request::Drain {
                self.draining = Some(Instant::now());
            }
            tracing::info!(signal = name, ?request, "signal received");
            return request;
        }
    }

    async fn receive(&mut self) -> Received {
        let [first, second] = &mut self.user_defined;
        tokio::select! {
            biased;
            Some(()) = self.terminate.recv() => Received::End("SIGTERM"),
            Some(()) = self.interrupt.recv() => Received::End("SIGINT"),
            Some(()) = self.quit.recv() => Received::End("SIGQUIT"),
            Some(()) = self.hangup.recv() => Received::Hangup,
            Some(()) = first.recv() => Received::Ignored("SIGUSR1"),
            Some(()) = second.recv() => Received::Ignored("SIGUSR2"),
            Some(()) = self.file_size.recv() => Received::FileSize,
        }
    }
}
