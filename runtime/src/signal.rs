//! Signals as a stream of what they ask for: drain, exit at once, reload.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks the process to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The first SIGTERM or SIGINT: finish what is under way, then exit with 0.
    Drain,
    /// Another SIGTERM or SIGINT after the first: exit now.
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
    draining: bool,
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
            draining: false,
        })
    }

    /// Waits for the next signal. Safe to cancel: none is lost, though several of one kind that arrive while nobody waits are one.
    pub async fn next(&mut self) -> Request {
        let name = tokio::select! {
            biased;
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            Some(()) = self.hangup.recv() => "SIGHUP",
        };
        let request = match name {
            "SIGHUP" => Request::Reload,
            _ if self.draining => Request::Exit,
            _ => Request::Drain,
        };
        self.draining |= request == Request::Drain;
        tracing::info!(signal = name, ?request, "signal received");
        request
    }
}
