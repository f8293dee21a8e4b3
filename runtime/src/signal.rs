//! Signals as a stream of requests: drain, exit at once, reload.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// A second signal within this time is taken for the first one: timeout(1) sends SIGTERM to the process and to its group, and so may a
/// shell.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

/// What a signal asks the process to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The first SIGTERM or SIGINT: finish what is under way, then exit with 0.
    Drain,
    /// Another SIGTERM or SIGINT, 100 ms after the first or later: exit now.
    Exit,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The process's SIGTERM, SIGINT and SIGHUP. From the moment it exists they no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// When the first SIGTERM or SIGINT came.
    draining: Option<Instant>,
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
            hangup: signal(SignalKind::hangup())?,
            draining: None,
        })
    }

    /// Waits for the next signal. Safe to cancel: none is lost, though several of one kind that arrive while nobody waits are one.
    pub async fn next(&mut self) -> Request {
        loop {
            let name = tokio::select! {
                biased;
                Some(()) = self.terminate.recv() => "SIGTERM",
                Some(()) = self.interrupt.recv() => "SIGINT",
                Some(()) = self.hangup.recv() => "SIGHUP",
            };
            let request = match (name, self.draining) {
                ("SIGHUP", _) => Request::Reload,
                (_, None) => Request::Drain,
                (_, Some(first)) if first.elapsed() < DUPLICATE_WINDOW => {
                    tracing::info!(
                        signal = name,
                        "signal received within 100 ms of the first, and treated as the same"
                    );
                    continue;
                }
                (_, Some(_)) => Request::Exit,
            };
            if request == Request::Drain {
                self.draining = Some(Instant::now());
            }
            tracing::info!(signal = name, ?request, "signal received");
            return request;
        }
    }
}
