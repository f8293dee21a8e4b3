//! Sockets that systemd passes (`LISTEN_FDS`), and what it is told over its socket (`NOTIFY_SOCKET`). Without systemd nothing happens.

use std::{env, io, net::TcpListener, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::readiness::Readiness;

/// Listening sockets that were passed, each by the name that its unit gives it (`FileDescriptorName`).
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<(String, TcpListener)>);

/// Why passed sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// One of them is not what it must be.
    #[error("the socket {name:?} that was passed (LISTEN_FDS) cannot be used: {why}; it must be a ListenStream of TCP")]
    Unusable {
        /// Its name, or its number where it has none.
        name: String,
        /// What the system says.
        why: io::Error,
    },
    /// Nothing here listens for what they are called.
    #[error("nobody takes the passed socket {names}: FileDescriptorName must be one of {known}")]
    Unknown {
        /// What they are called.
        names: String,
        /// What they may be called.
        known: String,
    },
}

// === impl PassedSockets ===

impl PassedSockets {
    /// Takes what was passed to this process. Call it once, before there are threads: the variables are removed from the environment.
    ///
    /// # Errors
    /// Something was passed that is no listening socket of TCP.
    pub fn take_all() -> Result<Self, PassedError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.get(index).filter(|name| !name.is_empty());
            let name = name.map_or_else(|| index.to_string(), ToString::to_string);
            let taken = passed.take_tcp_listener(index).and_then(|socket| {
                let socket = socket.ok_or_else(|| io::Error::other("it was taken already"))?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            match taken {
                Ok(socket) => sockets.push((name, socket)),
                Err(why) => return Err(PassedError::Unusable { name, why }),
            }
        }
        Ok(Self(sockets))
    }

    /// The first one with this name.
    pub fn take(&mut self, name: &str) -> Option<TcpListener> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(at).1)
    }

    /// Makes sure that none is left: clients would wait at it for ever. `known` are the names that are taken.
    ///
    /// # Errors
    /// Some are left: which ones.
    pub fn check_none_left(&self, known: &[String]) -> Result<(), PassedError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        Err(PassedError::Unknown { names: names.join(", "), known: known.join(", ") })
    }
}

/// Says that the process listens and works.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the process ends, once it has finished what is under way.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says for as long as it is polled that the process is alive, as often as the unit wants it (`WatchdogSec`), and what readiness says.
pub async fn watch(readiness: Readiness) {
    let mut microseconds = 0;
    let watched = sd_notify::watchdog_enabled(false, &mut microseconds);
    // Twice as often as it must be: one that comes late does no harm.
    let pause = if watched { Duration::from_micros(microseconds / 2) } else { Duration::from_secs(3600) };
    let mut told = None;
    loop {
        let changed = readiness.changed();
        let status = readiness.check().err().map_or_else(|| "ready".to_owned(), |why| why.replace('\n', "; "));
        let mut state = Vec::new();
        if watched {
            state.push(NotifyState::Watchdog);
        }
        if told.as_ref() != Some(&status) {
            state.push(NotifyState::Status(&status));
        }
        tell(&state);
        told = Some(status);
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whoever does not run under systemd has nobody to tell.
fn tell(state: &[NotifyState<'_>]) {
    if state.is_empty() || env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "systemd (NOTIFY_SOCKET) cannot be told how the process is");
    }
}
