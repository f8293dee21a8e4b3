//! Sockets from systemd (`LISTEN_FDS`), and notifications to it (`NOTIFY_SOCKET`). Without systemd nothing happens.

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
    /// A socket has the wrong kind.
    #[error("the socket {name:?} that was passed (LISTEN_FDS) cannot be used: {why}; it must be a ListenStream of TCP")]
    Unusable {
        /// Its name, or its number if it has none.
        name: String,
        /// The error of the system.
        why: io::Error,
    },
    /// Sockets with unknown names.
    #[error("the passed socket {names} is not used: FileDescriptorName must be one of {known}")]
    Unknown {
        /// Their names.
        names: String,
        /// The known names.
        known: String,
    },
}

// === impl PassedSockets ===

impl PassedSockets {
    /// Takes the sockets that were passed to this process. Call it once, before there are threads: the variables are removed from the environment.
    ///
    /// # Errors
    /// A passed descriptor is not a listening TCP socket.
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

    /// Checks that no socket is unused, because its clients would wait forever. `known` are the names in use.
    ///
    /// # Errors
    /// The unused sockets.
    pub fn check_none_left(&self, known: &[String]) -> Result<(), PassedError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        Err(PassedError::Unknown { names: names.join(", "), known: known.join(", ") })
    }
}

/// Reports that the process is ready.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports that the process is draining.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// While it is polled, reports that the process is alive, at the interval of the unit (`WatchdogSec`), and its readiness.
pub async fn watch(readiness: Readiness) {
    let mut microseconds = 0;
    let watched = sd_notify::watchdog_enabled(false, &mut microseconds);
    // Twice as often as required, so that a late notification is harmless.
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

/// Without systemd there is no notification.
fn tell(state: &[NotifyState<'_>]) {
    if state.is_empty() || env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "systemd (NOTIFY_SOCKET) cannot be notified");
    }
}
